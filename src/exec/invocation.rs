//! The invocation: everything a runtime needs to know, serialisable so that another process can carry it out.

use std::ffi::OsString;
use std::path::PathBuf;

use serde::{Deserialize, Serialize};

/// A command with the file system it is to see. The default is nothing but the host itself.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Invocation {
    /// What lies under everything.
    pub base: Base,
    /// Images merged into one read-only tree, lowest first: later ones win. SquashFS, ext3 or SIF, told by content.
    pub layers: Vec<PathBuf>,
    /// An ext3 image that lies above everything and takes what is written.
    pub writable: Option<PathBuf>,
    /// Put the merged tree on scratch, also where it could be served.
    pub unpack: bool,
    /// Graphics processors the command is to see.
    pub gpus: Gpus,
    /// The command sees itself as root.
    pub fakeroot: bool,
    /// Flags for Apptainer or Singularity that ovl has no word for, as the user gave them.
    pub flags: Vec<OsString>,
    /// Walked once, in order, after base and layers are in place.
    pub mounts: Vec<Mount>,
    /// What the command shares with the host.
    pub isolation: Isolation,
    /// Node-local directory of the host for what has to be unpacked where FUSE is impossible.
    pub scratch: PathBuf,
    /// Working directory inside.
    pub cwd: PathBuf,
    /// What a base with a system of its own says about the environment counts, and what follows it.
    #[serde(default)]
    pub system: Option<System>,
    /// The command's whole environment.
    pub env: Vec<(OsString, OsString)>,
    /// The program and its arguments; the program is looked up in the environment's PATH inside.
    pub argv: Vec<OsString>,
}

/// How a base's own environment scripts (`/.singularity.d/env`) and what overlays and the user say come together: the
/// scripts come first. Apptainer does so by itself.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct System {
    /// Set after the scripts.
    pub set: Vec<(OsString, OsString)>,
    /// Directories in front of the PATH that the scripts leave, each followed by a colon.
    pub path: OsString,
}

/// The root a command starts from.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Base {
    /// A directory; `/` is the host itself.
    Dir(PathBuf),
    /// An image (SquashFS or SIF) with a system in it.
    Image(PathBuf),
}

impl Default for Base {
    fn default() -> Base {
        Base::Dir("/".into())
    }
}

/// Makes of graphics processors whose devices and driver libraries are wanted.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Gpus {
    /// NVIDIA.
    pub nvidia: bool,
    /// AMD, through ROCm.
    pub rocm: bool,
    /// None, whatever the configuration of Apptainer says.
    pub off: bool,
    /// What NVIDIA's driver consists of, in the form of `nvliblist.conf`; None: where Apptainer has it.
    pub list: Option<PathBuf>,
}

/// One step of furnishing the root.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Mount {
    /// A host path (with what is mounted below it) seen at another place; missing mount points are made.
    Bind {
        /// On the host, absolute.
        source: PathBuf,
        /// Inside, absolute.
        target: PathBuf,
        /// Whether it may be written through.
        writable: bool,
    },
    /// A new, empty, memory-backed directory.
    Tmpfs {
        /// Inside, absolute.
        target: PathBuf,
        /// Permission bits.
        mode: u32,
        /// Whether it stays writable.
        writable: bool,
    },
}

/// What is kept apart from the host.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Isolation {
    /// The base and everything mounted in it is read-only unless a mount says otherwise.
    pub read_only: bool,
    /// A process table and IPC of its own; everything in it ends with the command.
    pub processes: bool,
    /// Which network it sees.
    pub network: Network,
}

/// Networks a command may see.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Network {
    /// Only a loopback interface of its own.
    None,
    /// The host's.
    #[default]
    Host,
}
