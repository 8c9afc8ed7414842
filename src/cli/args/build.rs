//! `ovl build` as it is typed.

use std::path::PathBuf;

use clap::{Args, ValueHint};

use super::{CondaFlags, NetworkArg};
use crate::cli::complete;

/// `ovl build`
#[derive(Debug, Args)]
pub struct Build {
    /// Overlays, as in samtools/1.22 (also samtools=1.22, samtools@1.22), or templates, which ask for their values
    ///
    /// With --name or --prefix: conda packages for that environment, as in samtools=1.22 or bioconda::star>=2.7
    #[arg(required_unless_present_any = ["name", "prefix"], value_name = "NAME", add = complete::recipe())]
    pub names: Vec<String>,
    /// Build the only NAME from this recipe: a build script, a definition file (.def), an environment (.yml), or a list or
    /// lock file of packages (.txt, .lock)
    #[arg(short, long, value_name = "FILE", value_hint = ValueHint::FilePath)]
    pub file: Option<PathBuf>,
    /// Name of an environment that is made of the packages given, or of --file; nvim is short for nvim/env
    #[arg(short, long, value_name = "NAME", conflicts_with = "prefix")]
    pub name: Option<String>,
    /// Publish at this path, which gets the ending .sqf, instead of in a layer
    #[arg(short, long, value_name = "PATH", value_hint = ValueHint::AnyPath, conflicts_with = "layer")]
    pub prefix: Option<PathBuf>,
    /// Where packages come from, and what they are for
    #[command(flatten)]
    pub conda: CondaFlags,
    /// Rebuild what is there already
    #[arg(short, long)]
    pub update: bool,
    /// With --update: wait until nobody uses the overlay
    #[arg(long, requires = "update")]
    pub when_free: bool,
    /// Do not wait for somebody else who builds the same overlay
    #[arg(long)]
    pub no_wait: bool,
    /// Do not look in registries (build.prebuilt) whether somebody has built it already
    #[arg(long)]
    pub no_prebuilt: bool,
    /// Do not build missing dependencies
    #[arg(long)]
    pub no_deps: bool,
    /// Say what would be built and why, do nothing
    #[arg(long)]
    pub dry_run: bool,
    /// Layer to write to: user, group, site or a path
    #[arg(long, value_name = "LAYER")]
    pub layer: Option<String>,
    /// Answer a question of a template or a recipe: TEXT for the next one, or N=TEXT for the Nth (repeatable)
    #[arg(long, value_name = "[N=]TEXT")]
    pub answer: Vec<String>,
    /// File with one answer per line
    #[arg(long, value_name = "FILE", value_hint = ValueHint::FilePath)]
    pub answers_file: Option<PathBuf>,
    /// Value of an argument of a definition file (repeatable)
    #[arg(long, value_name = "NAME=VALUE")]
    pub build_arg: Vec<String>,
    /// File with one NAME=VALUE per line
    #[arg(long, value_name = "FILE", value_hint = ValueHint::FilePath)]
    pub build_arg_file: Option<PathBuf>,
    /// Let definition files of remotes run %pre and %setup on this host, and copy its files
    #[arg(long)]
    pub trust_setup: bool,
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
    /// Builds that run here at once
    #[arg(short, long, value_name = "N")]
    pub jobs: Option<u32>,
    /// Memory that builds here may use together, as in 16G
    #[arg(long, value_name = "SIZE")]
    pub mem_budget: Option<String>,
    /// Start nothing new after the first failure
    #[arg(long)]
    pub fail_fast: bool,
    /// Go on with what does not need a failed build (the default)
    #[arg(long, conflicts_with = "fail_fast")]
    pub keep_going: bool,
    /// Submit recipes with directives, and what needs them; an error where there is no scheduler
    #[arg(long, help_heading = "Cluster")]
    pub submit: bool,
    /// Build everything here
    #[arg(long, help_heading = "Cluster", conflicts_with_all = ["submit", "always_submit"])]
    pub no_submit: bool,
    /// Submit everything
    #[arg(long, help_heading = "Cluster", conflicts_with = "submit")]
    pub always_submit: bool,
    /// After submitting: wait for the jobs, and end as they do
    #[arg(short, long, help_heading = "Cluster")]
    pub wait: bool,
    /// Go on in the background; print the id of the run
    #[arg(long, help_heading = "Cluster", conflicts_with = "wait")]
    pub detach: bool,
    /// When interrupted: cancel the jobs of this run too
    #[arg(long, help_heading = "Cluster")]
    pub cancel_jobs: bool,
    /// Hand directives to their own scheduler as they are, without understanding them
    #[arg(long, help_heading = "Cluster")]
    pub passthrough: bool,
    /// What each build asks for, over its recipe
    #[command(flatten)]
    pub asked: Asked,
    /// How progress is told: auto, bars, plain, json, none
    #[arg(long, value_name = "HOW")]
    pub progress: Option<String>,
    /// Print the results, or with --dry-run the plan, as JSON
    #[arg(long)]
    pub json: bool,
    /// With --dry-run: how the plan is shown
    #[arg(long, value_name = "FORMAT", requires = "dry_run", value_parser = ["text", "json", "dot"])]
    pub format: Option<String>,
}

/// What builds ask for, over their recipes.
#[derive(Debug, Clone, Default, Args)]
#[command(next_help_heading = "Cluster")]
pub struct Asked {
    /// CPUs of each build
    #[arg(long, value_name = "N")]
    pub cpus: Option<u32>,
    /// Memory of each build, as in 8G
    #[arg(long, value_name = "SIZE")]
    pub mem: Option<String>,
    /// Time limit of each job, as in 2h or 1-12:00:00
    #[arg(long, value_name = "TIME")]
    pub time: Option<String>,
    /// GPUs of each build, as in 1 or a100:2
    #[arg(long, value_name = "[KIND:]N")]
    pub gpus: Option<String>,
    /// Partition or queue
    #[arg(long, visible_alias = "queue", value_name = "NAME")]
    pub partition: Option<String>,
    /// Account or project
    #[arg(long, value_name = "NAME")]
    pub account: Option<String>,
    /// Quality of service
    #[arg(long, value_name = "NAME")]
    pub qos: Option<String>,
    /// A further flag for sbatch (repeatable)
    #[arg(long, value_name = "FLAG", allow_hyphen_values = true)]
    pub sbatch_arg: Vec<String>,
    /// A further flag for qsub (repeatable)
    #[arg(long, value_name = "FLAG", allow_hyphen_values = true)]
    pub qsub_arg: Vec<String>,
    /// A further flag for bsub (repeatable)
    #[arg(long, value_name = "FLAG", allow_hyphen_values = true)]
    pub bsub_arg: Vec<String>,
    /// A further line for HTCondor's submit description (repeatable)
    #[arg(long, value_name = "LINE", allow_hyphen_values = true)]
    pub condor_arg: Vec<String>,
}
