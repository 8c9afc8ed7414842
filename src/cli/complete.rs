//! What the shell's completion offers for names: the script of `ovl completion` asks the program itself, which looks at
//! what is installed, what can be built and which runs there are.

use std::ffi::OsStr;

use clap::CommandFactory;
use clap_complete::engine::{ArgValueCompleter, CompletionCandidate, PathCompleter, ValueCompleter};
use clap_complete::env::{CompleteEnv, Shells};

use super::args::Cli;
use crate::config::Config;
use crate::run::dir;
use crate::store::layers::Layers;
use crate::store::{overlays, recipes};

/// The variable by which a script asks.
const VARIABLE: &str = "OVL_COMPLETE";

/// Answers a completion script and ends, if one asks; else does nothing.
pub fn answer() {
    CompleteEnv::with_factory(Cli::command).var(VARIABLE).complete();
}

/// The script for a shell.
pub fn script(shell: &str) -> std::io::Result<Vec<u8>> {
    let mut script = Vec::new();
    match Shells::builtins().completer(shell) {
        Some(shell) => shell.write_registration(VARIABLE, "ovl", "ovl", "ovl", &mut script)?,
        None => return Err(std::io::Error::other(format!("no completion for {shell}"))),
    }
    Ok(script)
}

/// Installed overlays, or files.
pub fn overlay() -> ArgValueCompleter {
    ArgValueCompleter::new(|current: &OsStr| {
        let path = current.to_str().is_some_and(|text| text.starts_with(['/', '.', '~']));
        if path { PathCompleter::file().complete(current) } else { offer(current, installed()) }
    })
}

/// Installed overlays.
pub fn installed_name() -> ArgValueCompleter {
    ArgValueCompleter::new(|current: &OsStr| offer(current, installed()))
}

/// What can be built.
pub fn recipe() -> ArgValueCompleter {
    ArgValueCompleter::new(|current: &OsStr| offer(current, buildable()))
}

/// Recipes by name or file.
pub fn recipe_or_file() -> ArgValueCompleter {
    ArgValueCompleter::new(|current: &OsStr| {
        let mut all = offer(current, buildable());
        all.extend(PathCompleter::any().complete(current));
        all
    })
}

/// Runs, and overlays that they build.
pub fn run() -> ArgValueCompleter {
    ArgValueCompleter::new(|current: &OsStr| {
        let mut all = runs();
        all.extend(built());
        offer(current, all)
    })
}

/// Runs by id.
pub fn run_id() -> ArgValueCompleter {
    ArgValueCompleter::new(|current: &OsStr| offer(current, runs()))
}

/// Overlays that runs build.
pub fn run_name() -> ArgValueCompleter {
    ArgValueCompleter::new(|current: &OsStr| offer(current, built()))
}

/// Runs whose overlays are offered; more are not looked at while somebody waits for a key.
const LATEST: usize = 20;

fn offer(current: &OsStr, mut words: Vec<String>) -> Vec<CompletionCandidate> {
    let begun = current.to_string_lossy();
    words.retain(|word| word.starts_with(&*begun));
    words.dedup();
    words.into_iter().map(CompletionCandidate::new).collect()
}

/// Nothing is said about a configuration that cannot be read: the command itself will.
fn layers() -> Option<(Config, Layers)> {
    let config = Config::load(&[]).ok()?;
    let layers = Layers::new(&config);
    Some((config, layers))
}

fn installed() -> Vec<String> {
    let found = layers().and_then(|(_, layers)| overlays::all(&layers).ok()).unwrap_or_default();
    found.into_iter().map(|overlay| overlay.name.to_string()).collect()
}

fn buildable() -> Vec<String> {
    let found = layers().map(|(_, layers)| recipes::all(&layers).0).unwrap_or_default();
    found.into_iter().map(|recipe| recipe.name.to_string()).collect()
}

fn runs() -> Vec<String> {
    let ids = layers().and_then(|(config, _)| dir::ids(&config).ok()).unwrap_or_default();
    ids.into_iter().rev().collect()
}

fn built() -> Vec<String> {
    let Some((config, _)) = layers() else { return Vec::new() };
    let place = dir::runs(&config);
    let latest = runs().into_iter().take(LATEST).filter_map(|id| dir::Dir::open(&place.join(id)).ok());
    let mut names: Vec<String> =
        latest.flat_map(|dir| dir.head.plan.steps.into_iter().map(|step| step.name.to_string())).collect();
    names.sort();
    names
}
