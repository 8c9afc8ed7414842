//! `ovl recipes` as it is typed.

use clap::{Args, Subcommand};

/// `ovl recipes`
#[derive(Debug, Args)]
pub struct Recipes {
    /// What to do.
    #[command(subcommand)]
    pub action: RecipesAction,
}

/// What `ovl recipes` can do.
#[derive(Debug, Subcommand)]
pub enum RecipesAction {
    /// Take over the recipes of a directory behind http(s) or file, or of a git repository
    Add {
        /// What to call it
        name: String,
        /// Its address; git+URL for a git repository whose address does not end in .git
        url: String,
        /// A branch, tag or commit of a git repository; sha256:… of the listing of a directory
        #[arg(long, value_name = "REV")]
        pin: Option<String>,
        /// Layer to write it down in: user, group, site or a path
        #[arg(long, value_name = "LAYER")]
        layer: Option<String>,
    },
    /// List remotes
    #[command(visible_alias = "ls")]
    List {
        /// Print as JSON
        #[arg(long)]
        json: bool,
    },
    /// Take over what remotes have now, and say what that changes
    Update {
        /// Only these
        names: Vec<String>,
        /// A branch, tag or commit, or sha256:… of the listing, from now on; only for one
        #[arg(long, value_name = "REV")]
        pin: Option<String>,
    },
    /// Forget a remote; overlays that were built from it stay
    #[command(visible_alias = "rm")]
    Remove {
        /// Which
        name: String,
    },
}
