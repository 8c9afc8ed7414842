//! Arguments of `ovl wrap`, `ovl module` and `ovl shell-init`.

use std::path::PathBuf;

use clap::{Args, ValueEnum, ValueHint};

use crate::cli::complete;

/// `ovl wrap`
#[derive(Debug, Args)]
pub struct Wrap {
    /// An overlay by name or file
    #[arg(value_name = "NAME", add = complete::overlay())]
    pub overlay: String,
    /// Where to put the wrappers (default: wrap.dir)
    #[arg(short, long, value_name = "DIR", value_hint = ValueHint::DirPath)]
    pub dir: Option<PathBuf>,
    /// Only these programs (repeatable, or with commas)
    #[arg(long, value_name = "PROG", value_delimiter = ',', conflicts_with = "remove")]
    pub only: Vec<String>,
    /// Replace files that are no wrappers, too
    #[arg(long, conflicts_with = "remove")]
    pub force: bool,
    /// Remove the overlay's wrappers instead; a name without version means those of all versions
    #[arg(long)]
    pub remove: bool,
    /// Say what would be done, do nothing
    #[arg(short = 'n', long)]
    pub dry_run: bool,
}

/// `ovl module`
#[derive(Debug, Args)]
pub struct Module {
    /// Overlays by name
    #[arg(required = true, value_name = "NAME", add = complete::installed_name())]
    pub names: Vec<String>,
    /// Write NAME/VERSION.lua or NAME/VERSION here, with directories of wrappers beside them (default: print it)
    #[arg(short, long, value_name = "DIR", value_hint = ValueHint::DirPath)]
    pub dir: Option<PathBuf>,
    /// For Lmod (lua) or Environment Modules (tcl)
    #[arg(long, value_name = "FORMAT", default_value = "lua")]
    pub format: FormatArg,
    /// Put the wrappers into NAME/VERSION below this directory
    #[arg(long, value_name = "DIR", requires = "dir", value_hint = ValueHint::DirPath)]
    pub bin_dir: Option<PathBuf>,
    /// Leave the overlays that the given ones depend on out
    #[arg(long)]
    pub no_deps: bool,
    /// Replace files that are not ours, too
    #[arg(long)]
    pub force: bool,
    /// Say what would be done, do nothing
    #[arg(short = 'n', long, requires = "dir")]
    pub dry_run: bool,
}

/// Formats of modulefiles.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum FormatArg {
    /// Lmod
    Lua,
    /// Environment Modules
    Tcl,
}

/// `ovl shell-init`
#[derive(Debug, Args)]
pub struct ShellInit {
    /// The shell
    pub shell: ShellArg,
}

/// Shells that can be set up.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum ShellArg {
    /// bash
    Bash,
    /// zsh
    Zsh,
    /// fish
    Fish,
}
