//! Arguments of `ovl exec` and `ovl e`.

use std::ffi::OsString;
use std::path::PathBuf;

use clap::{Args, ValueEnum, ValueHint};

use crate::cli::complete;

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
    /// What runs the command (auto: native, where it cannot work apptainer or singularity)
    #[arg(long, value_name = "RUNTIME", value_parser = ["auto", "native", "apptainer", "singularity"])]
    pub runtime: Option<String>,
    /// Bring NVIDIA's driver in, also where no processor was found
    #[arg(long)]
    pub nv: bool,
    /// Bring what AMD's driver needs in, also where no processor was found
    #[arg(long, conflicts_with = "nv")]
    pub rocm: bool,
    /// No drivers of graphics processors, also where there are some
    #[arg(long, conflicts_with_all = ["nv", "rocm"])]
    pub no_gpu: bool,
    /// Copy the overlays to node-local scratch for as long as anything uses them, also where they could be served
    #[arg(long)]
    pub unpack: bool,
    /// The command sees itself as root; outside it stays you
    #[arg(long)]
    pub fakeroot: bool,
    /// A flag for apptainer or singularity as it is, its value behind = (repeatable)
    #[arg(long, value_name = "FLAG", allow_hyphen_values = true, visible_alias = "singularity-arg")]
    pub apptainer_arg: Vec<OsString>,
    /// Leave out the overlays that the given ones depend on
    #[arg(long)]
    pub no_deps: bool,
}

/// `ovl exec`
#[derive(Debug, Args)]
pub struct Exec {
    /// An overlay by name or file; later ones win (repeatable)
    #[arg(short, long, value_name = "OVERLAY", add = complete::overlay())]
    pub overlay: Vec<String>,
    /// An ext3 image that takes what the command writes
    #[arg(short, long, value_name = "IMAGE", value_hint = ValueHint::FilePath)]
    pub writable: Option<PathBuf>,
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
    /// Write to the image among the overlays, else to env-USER.img or env.img, here, in overlay/ or in src/overlay/
    #[arg(short, long)]
    pub writable: bool,
    /// Leave env-USER.img and env.img alone
    #[arg(long)]
    pub no_autoload: bool,
    /// What else the command sees.
    #[command(flatten)]
    pub with: Surroundings,
    /// Overlays by name or file; later ones win
    #[arg(value_name = "OVERLAY", add = complete::overlay())]
    pub overlay: Vec<String>,
    /// The command; bash when there is none
    #[arg(last = true, value_name = "CMD", value_hint = ValueHint::CommandWithArguments)]
    pub command: Vec<OsString>,
}
