//! Arguments of `ovl env`.

use std::path::PathBuf;

use clap::{Args, Subcommand, ValueEnum, ValueHint};

use super::CondaFlags;
use crate::cli::complete;

/// `ovl env`
#[derive(Debug, Args)]
pub struct Env {
    /// What to do.
    #[command(subcommand)]
    pub action: EnvAction,
}

/// What `ovl env` can do.
#[derive(Debug, Subcommand)]
pub enum EnvAction {
    /// Install packages; without any, bring about what was asked for so far
    Install(ChangeArgs),
    /// Remove packages, and what only they needed
    Remove(ChangeArgs),
    /// Bring packages up to date; without any, all of them
    Update(ChangeArgs),
    /// List what is installed
    List {
        /// The image (default: env-USER.img or env.img, as for ovl e)
        #[arg(short = 'w', long = "writable", value_name = "IMAGE", value_hint = ValueHint::FilePath)]
        image: Option<PathBuf>,
        /// An overlay by name or file instead
        #[arg(short, long, value_name = "OVERLAY", conflicts_with = "image", add = complete::overlay())]
        overlay: Option<String>,
        /// Print as JSON
        #[arg(long)]
        json: bool,
    },
    /// Print what is installed, for making the same elsewhere
    Export {
        /// The image (default: env-USER.img or env.img, as for ovl e)
        #[arg(short = 'w', long = "writable", value_name = "IMAGE", value_hint = ValueHint::FilePath)]
        image: Option<PathBuf>,
        /// In which form
        #[arg(long, value_enum, value_name = "FORM", default_value_t)]
        form: FormArg,
    },
}

/// Forms of an environment as text.
#[derive(Debug, Clone, Copy, Default, ValueEnum)]
pub enum FormArg {
    /// An environment.yml with version and build of every package
    #[default]
    Yaml,
    /// Addresses with digests
    Explicit,
    /// A lock file, as pixi and rattler write it
    Lock,
}

/// A change.
#[derive(Debug, Args)]
pub struct ChangeArgs {
    /// Packages, as in numpy, numpy>=1.26 or bioconda::samtools=1.22
    #[arg(value_name = "PACKAGE")]
    pub packages: Vec<String>,
    /// The image (default: env-USER.img or env.img, as for ovl e)
    #[arg(short = 'w', long = "writable", value_name = "IMAGE", value_hint = ValueHint::FilePath)]
    pub image: Option<PathBuf>,
    /// Do not ask
    #[arg(short, long)]
    pub yes: bool,
    /// Say what would be done, do nothing
    #[arg(short = 'n', long)]
    pub dry_run: bool,
    /// Print what changes as JSON
    #[arg(long)]
    pub json: bool,
    /// Where packages come from.
    #[command(flatten)]
    pub conda: CondaFlags,
}
