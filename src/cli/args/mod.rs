//! The command line as clap sees it. What was typed only; what it means is decided in the commands.

mod base;
mod build;
mod conda;
mod env;
mod exec;
mod overlay;
mod pack;
mod recipes;
mod registry;
mod run;
mod runs;
mod wrap;

use std::path::PathBuf;

use clap::{Args, Parser, Subcommand, ValueHint};

use super::complete;

/// Builds software into single-file overlays and runs it, without root.
#[derive(Debug, Parser)]
#[command(name = "ovl", version, max_term_width = 100, disable_help_subcommand = true, arg_required_else_help = true)]
#[command(
    after_help = "Exit codes: 0 done, 1 runtime error, 2 a build failed, 3 jobs submitted and not waited for, 4 usage, recipe or configuration error, 5 a check failed, 6 busy or locked, 7 environment unfit, 124 time limit, 130 interrupted; exec ends as its command ended."
)]
pub struct Cli {
    /// What every command takes.
    #[command(flatten)]
    pub common: Common,
    /// The command.
    #[command(subcommand)]
    pub command: Command,
}

/// What every command takes.
#[derive(Debug, Clone, Args)]
pub struct Common {
    /// Tell more; builds show their own output
    #[arg(short, long, global = true, action = clap::ArgAction::Count)]
    pub verbose: u8,
    /// Tell only warnings and errors
    #[arg(short, long, global = true, conflicts_with = "verbose")]
    pub quiet: bool,
    /// Colours
    #[arg(long, global = true, value_name = "WHEN", value_parser = ["auto", "always", "never"])]
    pub color: Option<String>,
}

/// The commands.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Build overlays from recipes
    Build(Box<Build>),
    /// Run a command with overlays
    Exec(Exec),
    /// Run a command with overlays, in short: ovl e A B -- CMD
    E(Short),
    /// Run a script with overlays, here or as a job
    Run(Box<Run>),
    /// Make and look after images to work in
    Overlay(Box<Overlay>),
    /// Conda environments in images that are written to
    Env(Box<Env>),
    /// List installed overlays
    #[command(visible_alias = "ls")]
    List(List),
    /// Show what an overlay is and where it comes from
    Info(Info),
    /// List recipes that can be built
    Avail(Avail),
    /// Search the conda channels for packages
    Search(Search),
    /// Systems to run overlays on
    Base(Base),
    /// Take over recipes from elsewhere, pinned
    Recipes(Recipes),
    /// Remove overlays
    #[command(visible_alias = "remove")]
    Rm(Rm),
    /// Bring the replaced version of an overlay back
    Rollback(Rollback),
    /// Check recipes, and what they depend on
    #[command(visible_alias = "lint")]
    Check(Check),
    /// Print what made an overlay: its recipe, or the packages of a conda environment
    Export(Export),
    /// Show how builds are, here and on the cluster
    Status(Status),
    /// Show the log of a build
    Logs(Logs),
    /// Wait until a run is over, and end as it does
    Wait(Wait),
    /// Say in sentences why a build is as it is
    Explain(Explain),
    /// Cancel builds: their jobs, what needs them, their claims
    Cancel(Cancel),
    /// Try again what did not come to be
    Retry(Retry),
    /// List runs and how they went
    History(History),
    /// Put programs of an overlay on PATH by thin scripts
    Wrap(Wrap),
    /// Make modulefiles for Lmod or Environment Modules
    Module(Module),
    /// Print what a shell's rc file evaluates: wrappers on PATH, completion
    ShellInit(ShellInit),
    /// Freeze a directory, an image, an archive or a container image into a SquashFS image
    Pack(Pack),
    /// Write an image out as a directory, a tar archive or an ext3 image
    Unpack(Unpack),
    /// Put an overlay into a registry
    Push(Push),
    /// Get an overlay or a container image from a registry
    Pull(Pull),
    /// Give what is in a registry further names
    Tag(Tag),
    /// Log in to a registry
    Login(Login),
    /// Forget the credentials for a registry
    Logout(Logout),
    /// Say what a command does, or what an overlay or image says about itself
    Help(Help),
    /// Find out what this machine can do
    Doctor(Doctor),
    /// Show the configuration and where it comes from
    Config(Config),
    /// Print a completion script for a shell
    Completion(Completion),
    /// What ovl starts itself for; not for people
    #[command(hide = true)]
    Internal(Internal),
}

pub use base::{Base, BaseAction};
pub use build::{Asked, Build};
pub use conda::{CondaFlags, Search};
pub use env::{ChangeArgs, Env, EnvAction, FormArg};
pub use exec::{Exec, NetworkArg, Short, Surroundings};
pub use overlay::{Create, Overlay, OverlayAction, ProfileArg};
pub use pack::{Pack, Unpack};
pub use recipes::{Recipes, RecipesAction};
pub use registry::{Login, Logout, Pull, Push, Speaking, Tag};
pub use run::{OptionWords, Options, Run};
pub use runs::{Cancel, Explain, History, Logs, Retry, Status, Wait};
pub use wrap::{FormatArg, Module, ShellArg, ShellInit, Wrap};

/// `ovl help`
#[derive(Debug, Args)]
pub struct Help {
    /// A command, an overlay or an image
    #[arg(value_name = "ABOUT", add = complete::overlay())]
    pub about: Option<String>,
}

/// `ovl list`
#[derive(Debug, Args)]
pub struct List {
    /// Only names with this in them; * and ? are wildcards
    pub pattern: Option<String>,
    /// Also sizes, dates and layers
    #[arg(short, long)]
    pub long: bool,
    /// Print as JSON
    #[arg(long)]
    pub json: bool,
}

/// `ovl info`
#[derive(Debug, Args)]
pub struct Info {
    /// An overlay by name or file
    #[arg(add = complete::overlay())]
    pub overlay: String,
    /// Print as JSON
    #[arg(long)]
    pub json: bool,
}

/// `ovl avail`
#[derive(Debug, Args)]
pub struct Avail {
    /// Only names with this in them; * and ? are wildcards
    pub pattern: Option<String>,
    /// PATTERN is a regular expression
    #[arg(short, long, requires = "pattern")]
    pub regex: bool,
    /// Show what each one is, and search in that too
    #[arg(short, long)]
    pub whatis: bool,
    /// Show every name that a template makes, instead of one line for all
    #[arg(short, long)]
    pub expand: bool,
    /// Print as JSON
    #[arg(long)]
    pub json: bool,
}

/// `ovl rm`
#[derive(Debug, Args)]
pub struct Rm {
    /// Overlays to remove
    #[arg(required = true, value_name = "NAME", add = complete::installed_name())]
    pub names: Vec<String>,
    /// Do not ask
    #[arg(short, long)]
    pub yes: bool,
    /// Say what would be removed, do nothing
    #[arg(short = 'n', long)]
    pub dry_run: bool,
}

/// `ovl rollback`
#[derive(Debug, Args)]
pub struct Rollback {
    /// The overlay
    #[arg(add = complete::installed_name())]
    pub name: String,
    /// Say what would be done, do nothing
    #[arg(short = 'n', long)]
    pub dry_run: bool,
}

/// `ovl check`
#[derive(Debug, Args)]
pub struct Check {
    /// Recipe files, scripts with #DEP: lines, directories of recipes, or names
    #[arg(required = true, value_name = "RECIPE", add = complete::recipe_or_file())]
    pub recipes: Vec<String>,
    /// Build the dependencies that are missing
    #[arg(short, long)]
    pub auto_install: bool,
    /// Print the findings as JSON
    #[arg(long)]
    pub json: bool,
}

/// `ovl export`
#[derive(Debug, Args)]
pub struct Export {
    /// An overlay by name or file
    #[arg(add = complete::overlay())]
    pub overlay: String,
    /// The packages of a conda environment by their addresses, for conda, mamba and `ovl build -f`
    #[arg(long, group = "what")]
    pub explicit: bool,
    /// Its lock file, as pixi and rattler write it
    #[arg(long, group = "what")]
    pub lock: bool,
    /// Its packages as an environment.yml, each with version and build
    #[arg(long, group = "what")]
    pub yaml: bool,
    /// Write to this file instead of standard output
    #[arg(short, long, value_name = "FILE", value_hint = ValueHint::FilePath)]
    pub output: Option<PathBuf>,
}

/// `ovl doctor`
#[derive(Debug, Args)]
pub struct Doctor {
    /// Print as JSON
    #[arg(long)]
    pub json: bool,
}

/// `ovl config`
#[derive(Debug, Args)]
pub struct Config {
    /// What to do.
    #[command(subcommand)]
    pub action: ConfigAction,
}

/// What `ovl config` can do.
#[derive(Debug, Subcommand)]
pub enum ConfigAction {
    /// Every key with its value and where it comes from
    Show {
        /// Print as JSON
        #[arg(long)]
        json: bool,
    },
    /// The value of one key
    Get {
        /// The key, as in build.comp
        key: String,
    },
    /// The files that are read, strongest first
    Path,
    /// Read everything and report what is wrong
    Check,
    /// An example file with every key and its default
    Example,
}

/// `ovl completion`
#[derive(Debug, Args)]
pub struct Completion {
    /// The shell
    pub shell: clap_complete::Shell,
}

/// `ovl internal`
#[derive(Debug, Args)]
pub struct Internal {
    /// What to do.
    #[command(subcommand)]
    pub action: InternalAction,
}

/// What ovl starts itself for.
#[derive(Debug, Subcommand)]
pub enum InternalAction {
    /// Carry an invocation out that descriptor FD holds
    Sandbox {
        /// Descriptor of the invocation
        fd: i32,
        /// Process that asked for it
        parent: u32,
    },
    /// The same with an ext3 image mounted
    Stage {
        /// Descriptor of the invocation
        fd: i32,
        /// Process that asked for it
        parent: u32,
        /// The image
        image: PathBuf,
        /// Where to mount it
        at: PathBuf,
    },
    /// Make the image of a definition file
    Cook {
        /// Descriptor of the order
        fd: i32,
        /// Process that asked for it
        parent: u32,
    },
    /// Run a script of a definition file
    Enclosed {
        /// Descriptor of what to run
        fd: i32,
    },
    /// Remove a directory that belongs to subordinate ids
    Erase {
        /// The directory
        dir: PathBuf,
    },
    /// Change the conda environment of the image that is written to
    ChangeEnv {
        /// What to change
        change: PathBuf,
    },
    /// Build one step of a run, in its job
    Step {
        /// The directory of the step
        dir: PathBuf,
        /// Which attempt
        #[arg(long, default_value_t = 1)]
        attempt: u32,
    },
    /// Carry out a task of a script, in its job
    Task {
        /// The directory of the frozen run
        dir: PathBuf,
        /// One of several tasks that a launcher started; the variables that all of them see
        #[arg(long, value_name = "NAME=VALUE,…")]
        rank: Option<String>,
        /// Which task of the array
        #[arg(long, value_name = "N")]
        index: Option<u32>,
    },
    /// Wait for jobs that a script's job waits for
    AwaitJobs {
        /// The directory of the frozen run
        dir: PathBuf,
    },
    /// Wait for what a step needs of other runs
    Await {
        /// The directory of the step
        dir: PathBuf,
    },
    /// Carry a run out that was planned with --detach
    Drive {
        /// The directory of the run
        dir: PathBuf,
        /// Stop at the first failure
        #[arg(long)]
        fail_fast: bool,
    },
    /// Write the manual pages into a directory
    Man {
        /// The directory
        dir: PathBuf,
    },
}
