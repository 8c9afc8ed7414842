//! `ovl base` as it is typed.

use clap::{Args, Subcommand};

/// `ovl base`
#[derive(Debug, Args)]
pub struct Base {
    /// What to do.
    #[command(subcommand)]
    pub action: BaseAction,
}

/// What `ovl base` can do.
#[derive(Debug, Subcommand)]
pub enum BaseAction {
    /// List systems that overlays can be run on
    #[command(visible_alias = "ls")]
    List {
        /// Print as JSON
        #[arg(long)]
        json: bool,
    },
    /// Run overlays on this from now on: sets exec.base in your configuration
    Use {
        /// The name of a system, an image file, a directory, or / for the host itself
        base: String,
    },
    /// Make sure that a system is there: fetched as base.prebuilt says, else built from its definition
    Ensure {
        /// The system, as in debian12/base; unless given, the one that exec.base names
        name: Option<String>,
        /// Fetch nothing
        #[arg(long)]
        offline: bool,
        /// Layer to put it into: user, group, site or a path
        #[arg(long, value_name = "LAYER")]
        layer: Option<String>,
    },
    /// Fetch or build a system anew, unless it is in use
    Update {
        /// The system; unless given, the one that exec.base names
        name: Option<String>,
        /// Layer to put it into: user, group, site or a path
        #[arg(long, value_name = "LAYER")]
        layer: Option<String>,
    },
}
