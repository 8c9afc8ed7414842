//! The commands about runs, as they are typed.

use clap::Args;

use super::build::Asked;
use crate::cli::complete;

/// `ovl status`
#[derive(Debug, Args)]
pub struct Status {
    /// Runs by id, or overlays by name (default: what is not over yet, else the newest run)
    #[arg(value_name = "RUN|NAME", add = complete::run())]
    pub what: Vec<String>,
    /// Show it anew until all is over
    #[arg(short, long)]
    pub watch: bool,
    /// Every run there is a record of
    #[arg(short, long)]
    pub all: bool,
    /// Print as JSON
    #[arg(long)]
    pub json: bool,
}

/// `ovl logs`
#[derive(Debug, Args)]
pub struct Logs {
    /// The overlay
    #[arg(add = complete::run_name())]
    pub name: String,
    /// The run, if not the newest that has it
    #[arg(long, value_name = "RUN", add = complete::run_id())]
    pub run: Option<String>,
    /// Go on as the log grows
    #[arg(short, long)]
    pub follow: bool,
    /// Only the last N lines
    #[arg(short = 'n', long, value_name = "N")]
    pub lines: Option<usize>,
    /// What the job itself printed, not the build's log
    #[arg(long)]
    pub job: bool,
    /// Print the path of the log, not its content
    #[arg(long)]
    pub path: bool,
}

/// `ovl wait`
#[derive(Debug, Args)]
pub struct Wait {
    /// A run by id, or an overlay by name (default: the newest run)
    #[arg(value_name = "RUN|NAME", add = complete::run())]
    pub what: Option<String>,
    /// Print the results as JSON
    #[arg(long)]
    pub json: bool,
}

/// `ovl explain`
#[derive(Debug, Args)]
pub struct Explain {
    /// The overlay
    #[arg(add = complete::run_name())]
    pub name: String,
    /// The run, if not the newest that has it
    #[arg(long, value_name = "RUN", add = complete::run_id())]
    pub run: Option<String>,
    /// Print as JSON
    #[arg(long)]
    pub json: bool,
}

/// `ovl cancel`
#[derive(Debug, Args)]
pub struct Cancel {
    /// Runs by id, or overlays by name
    #[arg(value_name = "RUN|NAME", required_unless_present = "all", add = complete::run())]
    pub what: Vec<String>,
    /// All runs that are not over
    #[arg(long, conflicts_with = "what")]
    pub all: bool,
    /// Say what would be cancelled, do nothing
    #[arg(short = 'n', long)]
    pub dry_run: bool,
    /// Print as JSON
    #[arg(long)]
    pub json: bool,
}

/// `ovl retry`
#[derive(Debug, Args)]
pub struct Retry {
    /// A run by id, or overlays by name (default: the newest run)
    #[arg(value_name = "RUN|NAME", add = complete::run())]
    pub what: Vec<String>,
    /// Everything that failed and what was skipped for it (the default)
    #[arg(long)]
    pub failed: bool,
    /// Ask for the same as before, also where it was not enough
    #[arg(long)]
    pub same: bool,
    /// Wait for the jobs, and end as they do
    #[arg(short, long)]
    pub wait: bool,
    /// Say what would be tried, do nothing
    #[arg(short = 'n', long)]
    pub dry_run: bool,
    /// How progress is told: auto, bars, plain, json, none
    #[arg(long, value_name = "HOW")]
    pub progress: Option<String>,
    /// Print the results as JSON
    #[arg(long)]
    pub json: bool,
    /// What to ask for this time
    #[command(flatten)]
    pub asked: Asked,
}

/// `ovl history`
#[derive(Debug, Args)]
pub struct History {
    /// Only the newest N
    #[arg(long, value_name = "N", default_value_t = 20)]
    pub limit: usize,
    /// Only builds of this overlay
    #[arg(long, value_name = "NAME", add = complete::run_name())]
    pub name: Option<String>,
    /// Print as JSON
    #[arg(long)]
    pub json: bool,
}
