//! The command line as clap sees it. What was typed only; what it means is decided in the commands.

use std::ffi::OsString;
use std::path::PathBuf;

use clap::{Args, Parser, Subcommand, ValueEnum, ValueHint};

/// Builds software into single-file overlays and runs it, without root.
#[derive(Debug, Parser)]
#[command(name = "ovl", version, max_term_width = 100, disable_help_subcommand = true, arg_required_else_help = true)]
#[command(
    after_help = "Exit codes: 0 done, 1 runtime error, 2 a build failed, 4 usage, recipe or configuration error, 5 a check failed, 6 busy or locked, 7 environment unfit, 124 time limit, 130 interrupted; exec ends as its command ended."
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
    Build(Build),
    /// Run a command with overlays
    Exec(Exec),
    /// Run a command with overlays, in short: ovl e A B -- CMD
    E(Short),
    /// List installed overlays
    #[command(visible_alias = "ls")]
    List(List),
    /// Show what an overlay is and where it comes from
    Info(Info),
    /// List recipes that can be built
    Avail(Avail),
    /// Remove overlays
    #[command(visible_alias = "remove")]
    Rm(Rm),
    /// Bring the replaced version of an overlay back
    Rollback(Rollback),
    /// Check recipes and report everything that is wrong with them
    #[command(visible_alias = "lint")]
    Check(Check),
    /// Print the recipe that made an overlay
    Export(Export),
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

/// `ovl build`
#[derive(Debug, Args)]
pub struct Build {
    /// Overlays, as in samtools/1.22 (also samtools=1.22, samtools@1.22)
    #[arg(required = true, value_name = "NAME")]
    pub names: Vec<String>,
    /// Build the only NAME from this recipe
    #[arg(short, long, value_name = "FILE", value_hint = ValueHint::FilePath)]
    pub file: Option<PathBuf>,
    /// Rebuild what is there already
    #[arg(short, long)]
    pub update: bool,
    /// With --update: wait until nobody uses the overlay
    #[arg(long, requires = "update")]
    pub when_free: bool,
    /// Do not wait for somebody else who builds the same overlay
    #[arg(long)]
    pub no_wait: bool,
    /// Do not build missing dependencies
    #[arg(long)]
    pub no_deps: bool,
    /// Say what would be built and why, do nothing
    #[arg(short = 'n', long)]
    pub dry_run: bool,
    /// Layer to write to: user, group, site or a path
    #[arg(long, value_name = "LAYER")]
    pub layer: Option<String>,
    /// Answer a recipe's question: TEXT for the next one, or N=TEXT for the Nth (repeatable)
    #[arg(long, value_name = "[N=]TEXT")]
    pub answer: Vec<String>,
    /// File with one answer per line
    #[arg(long, value_name = "FILE", value_hint = ValueHint::FilePath)]
    pub answers_file: Option<PathBuf>,
    /// Longest time for one build, as in 30m
    #[arg(long, value_name = "TIME")]
    pub timeout: Option<String>,
    /// Network that install() sees
    #[arg(long, value_name = "NET")]
    pub network: Option<NetworkArg>,
    /// Where files gather while building: auto, dir or ext3
    #[arg(long, value_name = "STAGE")]
    pub stage: Option<String>,
    /// Node-local directory to build in
    #[arg(long, value_name = "DIR", value_hint = ValueHint::DirPath)]
    pub scratch: Option<PathBuf>,
    /// Compressor and level: zstd:3, lz4, gzip:9, xz
    #[arg(long, value_name = "COMP")]
    pub comp: Option<String>,
    /// SquashFS block size, 4k to 1M
    #[arg(long, value_name = "SIZE")]
    pub block_size: Option<String>,
    /// Keep the owners of files instead of making everything root's
    #[arg(long)]
    pub keep_owners: bool,
    /// Keep the working directory of a failed build
    #[arg(long)]
    pub keep_failed: bool,
    /// Threads for packing
    #[arg(short, long, value_name = "N")]
    pub jobs: Option<u32>,
    /// How progress is told: auto, bars, plain, json, none
    #[arg(long, value_name = "HOW")]
    pub progress: Option<String>,
    /// Print the results as JSON
    #[arg(long)]
    pub json: bool,
}

/// Networks.
#[derive(Debug, Clone, Copy, ValueEnum)]
pub enum NetworkArg {
    /// Loopback only
    None,
    /// The host's
    Host,
}

/// What both forms of exec take.
#[derive(Debug, Clone, Args)]
pub struct Surroundings {
    /// What lies under the overlays: a directory or an image with a system in it (default: this host)
    #[arg(long, value_name = "DIR|IMAGE", value_hint = ValueHint::AnyPath)]
    pub base: Option<PathBuf>,
    /// Show a host path inside, as SRC, SRC:DEST or SRC:DEST:ro (repeatable)
    #[arg(short = 'B', long, value_name = "SPEC")]
    pub bind: Vec<String>,
    /// Set a variable inside (repeatable)
    #[arg(long, value_name = "NAME=VALUE")]
    pub env: Vec<String>,
    /// Start from an empty environment
    #[arg(long)]
    pub cleanenv: bool,
    /// Working directory inside
    #[arg(long, value_name = "DIR")]
    pub pwd: Option<PathBuf>,
    /// Network of the command
    #[arg(long, value_name = "NET")]
    pub network: Option<NetworkArg>,
    /// What runs the command: auto, native or apptainer (auto: native, where it cannot work apptainer or singularity)
    #[arg(long, value_name = "RUNTIME", value_parser = ["auto", "native", "apptainer"])]
    pub runtime: Option<String>,
    /// Leave out the overlays that the given ones depend on
    #[arg(long)]
    pub no_deps: bool,
}

/// `ovl exec`
#[derive(Debug, Args)]
pub struct Exec {
    /// An overlay by name or file; later ones win (repeatable)
    #[arg(short, long, value_name = "OVERLAY")]
    pub overlay: Vec<String>,
    /// What else the command sees.
    #[command(flatten)]
    pub with: Surroundings,
    /// The command; bash when there is none
    #[arg(trailing_var_arg = true, value_name = "CMD", value_hint = ValueHint::CommandWithArguments)]
    pub command: Vec<OsString>,
}

/// `ovl e`
#[derive(Debug, Args)]
pub struct Short {
    /// What else the command sees.
    #[command(flatten)]
    pub with: Surroundings,
    /// Overlays by name or file; later ones win
    #[arg(value_name = "OVERLAY")]
    pub overlay: Vec<String>,
    /// The command; bash when there is none
    #[arg(last = true, value_name = "CMD", value_hint = ValueHint::CommandWithArguments)]
    pub command: Vec<OsString>,
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
    /// Print as JSON
    #[arg(long)]
    pub json: bool,
}

/// `ovl rm`
#[derive(Debug, Args)]
pub struct Rm {
    /// Overlays to remove
    #[arg(required = true, value_name = "NAME")]
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
    pub name: String,
    /// Say what would be done, do nothing
    #[arg(short = 'n', long)]
    pub dry_run: bool,
}

/// `ovl check`
#[derive(Debug, Args)]
pub struct Check {
    /// Recipe files, directories of recipes, or names
    #[arg(required = true, value_name = "RECIPE", value_hint = ValueHint::AnyPath)]
    pub recipes: Vec<String>,
    /// Print the findings as JSON
    #[arg(long)]
    pub json: bool,
}

/// `ovl export`
#[derive(Debug, Args)]
pub struct Export {
    /// An overlay by name or file
    pub overlay: String,
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
    /// Write the manual pages into a directory
    Man {
        /// The directory
        dir: PathBuf,
    },
}
