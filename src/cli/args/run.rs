//! `ovl run` as it is typed, and the options that `#OVL:` and `#CNT:` lines of scripts take.

use std::ffi::OsString;
use std::path::PathBuf;

use clap::{Args, Parser, ValueHint};

use super::{Asked, Surroundings};
use crate::cli::complete;

/// Overlays and what else the script sees: on the command line, and in `#OVL:` and `#CNT:` lines.
#[derive(Debug, Clone, Args)]
pub struct Options {
    /// An overlay by name or file; later ones win (repeatable)
    #[arg(short, long, value_name = "OVERLAY", add = complete::overlay())]
    pub overlay: Vec<String>,
    /// What else the script sees.
    #[command(flatten)]
    pub with: Surroundings,
}

/// [`Options`] alone, as words without a program before them; later ones win.
#[derive(Debug, Parser)]
#[command(name = "options", no_binary_name = true, args_override_self = true, disable_help_flag = true)]
pub struct OptionWords {
    /// The options.
    #[command(flatten)]
    pub options: Options,
}

/// `ovl run`
#[derive(Debug, Args)]
pub struct Run {
    /// The overlays of the script.
    #[command(flatten)]
    pub options: Options,
    /// Build overlays that are missing, and wait for them
    #[arg(short, long)]
    pub auto_install: bool,
    /// Take the script's `module load` lines as overlays too; they are read, not run
    #[arg(long)]
    pub module: bool,
    /// Print what would be done: the job script and the command that submits it
    #[arg(long)]
    pub dry_run: bool,
    /// Print what was submitted as JSON
    #[arg(long)]
    pub json: bool,
    /// Submit a script with directives; an error where there is no scheduler
    #[arg(long, help_heading = "Cluster")]
    pub submit: bool,
    /// Run it here
    #[arg(long, help_heading = "Cluster", conflicts_with_all = ["submit", "always_submit"])]
    pub no_submit: bool,
    /// Submit it also when it has no directives
    #[arg(long, help_heading = "Cluster", conflicts_with = "submit")]
    pub always_submit: bool,
    /// A job array: one task for each line of FILE, which holds its further arguments, quoted as for a shell
    #[arg(long, value_name = "FILE", help_heading = "Cluster", value_hint = ValueHint::FilePath)]
    pub array: Option<PathBuf>,
    /// Tasks of the array that run at once
    #[arg(long, value_name = "N", help_heading = "Cluster", requires = "array", value_parser = clap::value_parser!(u32).range(1..))]
    pub array_limit: Option<u32>,
    /// Start when these jobs have succeeded (repeatable)
    #[arg(long, value_name = "ID,…", value_delimiter = ',', help_heading = "Cluster")]
    pub afterok: Vec<String>,
    /// Start when these jobs have failed (repeatable)
    #[arg(long, value_name = "ID,…", value_delimiter = ',', help_heading = "Cluster")]
    pub afternotok: Vec<String>,
    /// Start when these jobs are over (repeatable)
    #[arg(long, value_name = "ID,…", value_delimiter = ',', help_heading = "Cluster")]
    pub afterany: Vec<String>,
    /// Name of the job (default: the script's)
    #[arg(long, value_name = "NAME", help_heading = "Cluster")]
    pub name: Option<String>,
    /// Where output goes: %j is the job, %A the array, %a the task, %x the name, %u the user
    #[arg(long, value_name = "PATTERN", help_heading = "Cluster", value_hint = ValueHint::FilePath)]
    pub output: Option<String>,
    /// Where errors go (default: where output goes)
    #[arg(long, value_name = "PATTERN", help_heading = "Cluster", value_hint = ValueHint::FilePath)]
    pub error: Option<String>,
    /// CPUs of each task
    #[arg(short, long, value_name = "N", help_heading = "Cluster")]
    pub cpus: Option<u32>,
    /// Memory on each node, as in 8G
    #[arg(short, long, value_name = "SIZE", help_heading = "Cluster")]
    pub mem: Option<String>,
    /// Time limit, as in 2h or 1-12:00:00
    #[arg(short, long, value_name = "TIME", help_heading = "Cluster")]
    pub time: Option<String>,
    /// GPUs on each node, as in 1 or a100:2
    #[arg(short, long, value_name = "[KIND:]N", help_heading = "Cluster")]
    pub gpus: Option<String>,
    /// Nodes
    #[arg(short = 'N', long, value_name = "N", help_heading = "Cluster", value_parser = clap::value_parser!(u32).range(1..))]
    pub nodes: Option<u32>,
    /// Tasks (MPI ranks) on all nodes together
    #[arg(short = 'n', long, value_name = "N", help_heading = "Cluster", value_parser = clap::value_parser!(u32).range(1..))]
    pub ntasks: Option<u32>,
    /// What starts several tasks: auto, none, or a program with its arguments
    #[arg(long, value_name = "COMMAND", help_heading = "Cluster")]
    pub launcher: Option<String>,
    /// Partition or queue
    #[arg(short, long, visible_alias = "queue", value_name = "NAME", help_heading = "Cluster")]
    pub partition: Option<String>,
    /// Account or project
    #[arg(long, value_name = "NAME", help_heading = "Cluster")]
    pub account: Option<String>,
    /// Quality of service
    #[arg(long, value_name = "NAME", help_heading = "Cluster")]
    pub qos: Option<String>,
    /// A further flag for sbatch (repeatable)
    #[arg(long, value_name = "FLAG", allow_hyphen_values = true, help_heading = "Cluster")]
    pub sbatch_arg: Vec<String>,
    /// A further flag for qsub (repeatable)
    #[arg(long, value_name = "FLAG", allow_hyphen_values = true, help_heading = "Cluster")]
    pub qsub_arg: Vec<String>,
    /// A further flag for bsub (repeatable)
    #[arg(long, value_name = "FLAG", allow_hyphen_values = true, help_heading = "Cluster")]
    pub bsub_arg: Vec<String>,
    /// A further line for HTCondor's submit description (repeatable)
    #[arg(long, value_name = "LINE", allow_hyphen_values = true, help_heading = "Cluster")]
    pub condor_arg: Vec<String>,
    /// The script; - for standard input
    #[arg(value_name = "SCRIPT", value_hint = ValueHint::FilePath)]
    pub script: PathBuf,
    /// Its arguments
    #[arg(trailing_var_arg = true, allow_hyphen_values = true, value_name = "ARGS", value_hint = ValueHint::AnyPath)]
    pub args: Vec<OsString>,
}

impl Run {
    /// What is asked for, as builds have it.
    pub fn asked(&self) -> Asked {
        Asked {
            cpus: self.cpus,
            mem: self.mem.clone(),
            time: self.time.clone(),
            gpus: self.gpus.clone(),
            partition: self.partition.clone(),
            account: self.account.clone(),
            qos: self.qos.clone(),
            sbatch_arg: self.sbatch_arg.clone(),
            qsub_arg: self.qsub_arg.clone(),
            bsub_arg: self.bsub_arg.clone(),
            condor_arg: self.condor_arg.clone(),
        }
    }
}
