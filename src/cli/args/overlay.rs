//! Arguments of `ovl overlay`.

use std::path::PathBuf;

use clap::{Args, Subcommand, ValueEnum, ValueHint};

use super::CondaFlags;

/// `ovl overlay`
#[derive(Debug, Args)]
pub struct Overlay {
    /// What to do.
    #[command(subcommand)]
    pub action: OverlayAction,
}

/// What `ovl overlay` can do.
#[derive(Debug, Subcommand)]
pub enum OverlayAction {
    /// Make an ext3 image to work in
    Create(Create),
    /// Make an image larger or smaller
    Resize {
        /// The image
        #[arg(value_name = "FILE", value_hint = ValueHint::FilePath)]
        image: PathBuf,
        /// Its new size, as in 20G; a number alone is MiB
        #[arg(short, long, value_name = "SIZE")]
        size: String,
        /// Check it and say what would be done, change nothing
        #[arg(short = 'n', long)]
        dry_run: bool,
    },
    /// Check an image and repair what needs no decision
    Check {
        /// The image
        #[arg(value_name = "FILE", value_hint = ValueHint::FilePath)]
        image: PathBuf,
        /// Repair everything, by e2fsck's own choice
        #[arg(short, long, conflicts_with = "dry_run")]
        yes: bool,
        /// Look only
        #[arg(short = 'n', long)]
        dry_run: bool,
    },
    /// Give what is in an image to you, or to root
    Chown {
        /// The image
        #[arg(value_name = "FILE", value_hint = ValueHint::FilePath)]
        image: PathBuf,
        /// To root, for commands run with --fakeroot
        #[arg(long)]
        fakeroot: bool,
        /// Its top directories alone, not what is in them
        #[arg(long)]
        top: bool,
        /// Say how much would change, change nothing
        #[arg(short = 'n', long)]
        dry_run: bool,
    },
    /// Show what an image is, how full it is, and who uses it
    Info {
        /// The image
        #[arg(value_name = "FILE", value_hint = ValueHint::FilePath)]
        image: PathBuf,
        /// Print as JSON
        #[arg(long)]
        json: bool,
    },
}

/// What an image is for.
#[derive(Debug, Clone, Copy, Default, ValueEnum)]
pub enum ProfileArg {
    /// Many small files (conda): room for one every 4 KiB
    Small,
    /// Room for a file every 16 KiB
    #[default]
    Default,
    /// Few large files (data): room for one every MiB
    Large,
}

/// `ovl overlay create`
#[derive(Debug, Args)]
pub struct Create {
    /// The image
    #[arg(value_name = "FILE", value_hint = ValueHint::FilePath)]
    pub image: PathBuf,
    /// Its size, as in 20G; a number alone is MiB
    #[arg(short, long, value_name = "SIZE", default_value = "10G")]
    pub size: String,
    /// What it is for
    #[arg(short = 't', long, value_enum, default_value_t)]
    pub profile: ProfileArg,
    /// Take its room on disk now, instead of as it fills
    #[arg(long, alias = "no-sparse")]
    pub full: bool,
    /// For commands that see themselves as root
    #[arg(long)]
    pub fakeroot: bool,
    /// Copy a directory into it: what is in it is seen at /
    #[arg(long, value_name = "DIR", value_hint = ValueHint::DirPath)]
    pub from: Option<PathBuf>,
    /// Replace what has its name
    #[arg(long)]
    pub force: bool,
    /// Say what would be done, do nothing
    #[arg(short = 'n', long)]
    pub dry_run: bool,
    /// Put the conda environment of a file into it: environment.yml, a list, an explicit list or a lock file
    #[arg(short, long, value_name = "FILE", value_hint = ValueHint::FilePath, conflicts_with_all = ["from", "packages"])]
    pub file: Option<PathBuf>,
    /// Conda packages to put into it, as an environment at /ext3/env
    #[arg(last = true, value_name = "PACKAGE", conflicts_with = "from")]
    pub packages: Vec<String>,
    /// Where they come from.
    #[command(flatten)]
    pub conda: CondaFlags,
}
