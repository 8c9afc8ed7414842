//! The command line: one file per command; `failure` maps every error to a message, hints and an exit code.

mod answers;
pub mod args;
mod asked;
mod avail;
mod base;
mod build;
mod check;
mod complete;
mod completion;
mod config;
mod doctor;
mod env;
mod environment;
mod exec;
mod export;
pub mod failure;
mod help;
mod hints;
mod img;
mod info;
mod internal;
mod jobs;
mod list;
mod missing;
mod module;
mod overlay;
mod pack;
mod packages;
mod pattern;
mod recipes;
mod registry;
mod rm;
mod rollback;
mod run;
mod runs;
mod search;
mod shell_init;
mod templates;
mod unpack;
mod wrap;

use std::process::ExitCode;

use clap::Parser;
use clap::error::ErrorKind;

use crate::config::Config;
use crate::store::layers::Layers;
use crate::sys::signal;
use crate::ui::Ui;
use args::{Cli, Command, Common};
use failure::{Failure, Outcome, code};

/// What a command works with.
pub struct Context {
    /// The configuration.
    pub config: Config,
    /// The layers it names.
    pub layers: Layers,
    /// How to speak.
    pub ui: Ui,
}

/// A configuration value given as a flag: key, flag, value.
type Flag = (&'static str, &'static str, String);

impl Context {
    fn new(common: &Common, mut flags: Vec<Flag>) -> Result<Context, Failure> {
        if let Some(color) = &common.color {
            flags.push(("ui.color", "--color", color.clone()));
        }
        let config = Config::load(&flags)?;
        crate::net::be_patient(config.patience());
        let ui = Ui::new(&config.color(), verbosity(common));
        for warning in &config.settings.warnings {
            ui.warn(warning);
        }
        let layers = Layers::new(&config);
        layers.warnings().iter().for_each(|warning| ui.warn(warning));
        Ok(Context { layers, config, ui })
    }
}

fn verbosity(common: &Common) -> i8 {
    if common.quiet { -1 } else { i8::try_from(common.verbose).unwrap_or(i8::MAX) }
}

/// Runs the program.
pub fn main() -> ExitCode {
    signal::hear_of_children();
    complete::answer();
    let cli = match Cli::try_parse() {
        Ok(cli) => cli,
        Err(error) => {
            let _ = error.print();
            let fine = matches!(error.kind(), ErrorKind::DisplayHelp | ErrorKind::DisplayVersion);
            return ExitCode::from(if fine { 0 } else { code::USAGE });
        }
    };
    let ui = Ui::new(cli.common.color.as_deref().unwrap_or("auto"), verbosity(&cli.common));
    match run(cli) {
        Ok(code) => ExitCode::from(code),
        Err(failure) => {
            ui.error(&failure.message, &failure.hints);
            ExitCode::from(failure.code)
        }
    }
}

fn run(cli: Cli) -> Outcome {
    // A reader that has seen enough (`ovl list | head`) ends the program quietly. Builds must not die of it: they
    // have things to clean up.
    let builds = match &cli.command {
        Command::Base(_) | Command::Build(_) | Command::Overlay(_) | Command::Pack(_) | Command::Unpack(_) => true,
        Command::Env(_) | Command::Push(_) | Command::Pull(_) | Command::Tag(_) | Command::Login(_) => true,
        Command::Check(args) => args.auto_install,
        _ => false,
    };
    if builds {
        signal::catch_interrupts();
    } else {
        signal::die_on_closed_pipe();
    }
    let context = |flags| Context::new(&cli.common, flags);
    match cli.command {
        Command::Build(args) => build::run(&args, &context(build::flags(&args))?),
        Command::Exec(args) => exec::run(&args.wanted(), &args.command, &args.with, &context(exec::flags(&args.with))?),
        Command::E(args) => exec::run(&args.wanted(), &args.command, &args.with, &context(exec::flags(&args.with))?),
        Command::Run(args) => run::run(&args, &context(run::flags(&args))?),
        Command::Overlay(args) => overlay::run(&args, &context(overlay::flags(&args))?),
        Command::Env(args) => env::run(&args, &context(env::flags(&args))?),
        Command::List(args) => list::run(&args, &context(Vec::new())?),
        Command::Info(args) => info::run(&args, &context(Vec::new())?),
        Command::Avail(args) => avail::run(&args, &context(Vec::new())?),
        Command::Search(args) => search::run(&args, &context(search::flags(&args.conda))?),
        Command::Base(args) => base::run(&args, &context(Vec::new())?),
        Command::Recipes(args) => recipes::run(&args, &context(Vec::new())?),
        Command::Rm(args) => rm::run(&args, &context(Vec::new())?),
        Command::Rollback(args) => rollback::run(&args, &context(Vec::new())?),
        Command::Check(args) => check::run(&args, &context(Vec::new())?),
        Command::Export(args) => export::run(&args, &context(Vec::new())?),
        Command::Status(args) => runs::status::run(&args, &context(Vec::new())?),
        Command::Logs(args) => runs::logs::run(&args, &context(Vec::new())?),
        Command::Wait(args) => {
            signal::catch_interrupts();
            runs::wait::run(&args, &context(Vec::new())?)
        }
        Command::Explain(args) => runs::explain::run(&args, &context(Vec::new())?),
        Command::Cancel(args) => runs::cancel::run(&args, &context(Vec::new())?),
        Command::Retry(args) => {
            signal::catch_interrupts();
            let progress = args.progress.clone().map(|how| ("ui.progress", "--progress", how));
            runs::retry::run(&args, &context(progress.into_iter().collect())?)
        }
        Command::History(args) => runs::history::run(&args, &context(Vec::new())?),
        Command::Wrap(args) => wrap::run(&args, &context(Vec::new())?),
        Command::Module(args) => module::run(&args, &context(Vec::new())?),
        Command::ShellInit(args) => shell_init::run(&args, &context(Vec::new())?),
        Command::Pack(args) => pack::run(&args, &context(pack::flags(&args)?)?),
        Command::Unpack(args) => unpack::run(&args, &context(unpack::flags(&args))?),
        Command::Push(args) => {
            registry::push::run(&args, &context(registry::flags(&args.speaking, args.registry.as_ref()))?)
        }
        Command::Pull(args) => {
            registry::pull::run(&args, &context(registry::flags(&args.speaking, args.registry.as_ref()))?)
        }
        Command::Tag(args) => {
            registry::tag::run(&args, &context(registry::flags(&args.speaking, args.registry.as_ref()))?)
        }
        Command::Login(args) => registry::login::login(&args, &context(Vec::new())?),
        Command::Logout(args) => registry::login::logout(&args, &context(Vec::new())?),
        Command::Help(args) => help::run(&args, &context(Vec::new())?),
        Command::Doctor(args) => doctor::run(&args, &context(Vec::new())?),
        Command::Config(args) => config::run(&args, &cli.common),
        Command::Completion(args) => completion::run(&args),
        Command::Internal(args) => internal::run(&args),
    }
}
