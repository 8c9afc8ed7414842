//! The native engine for definition files: this program starts itself again as `ovl internal cook FD PARENT`, enters
//! namespaces in which it is root (`sys::subids` says of which ids), makes each stage's tree there and packs the last one
//! into one image. Nothing of the trees is left afterwards. Rules and layout are those of Apptainer, so that it runs
//! such an image, too.

mod apps;
pub mod apptainer;
mod cook;
mod enclosed;
mod files;
mod glob;
mod layout;
mod metadata;
mod oci;
mod root;
mod scripts;
mod sources;
#[cfg(test)]
mod tests;

use std::fs::File;
use std::io::Read;
use std::os::fd::AsRawFd;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::process::Command;

use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

pub use enclosed::enclosed_main;

use crate::image::ImageError;
use crate::sys::fork::{self, Ended, Side};
use crate::sys::fs::{PathError, is_full};
use crate::sys::tolerate::Tolerate;
use crate::sys::userns::{self, Refusal};
use crate::sys::{host, mount, pass};

/// Everything the engine needs to know; it looks nothing up.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Order {
    /// The definition's name in messages.
    pub label: String,
    /// Its text, arguments filled in.
    pub text: String,
    /// Where relative paths of `From:` and `%files` begin.
    pub dir: PathBuf,
    /// For each stage whose files come from a file or directory: where that is.
    pub from: Vec<Option<PathBuf>>,
    /// A private directory on scratch: trees are made in it.
    pub work: PathBuf,
    /// `/tmp` of scripts inside.
    pub tmp: PathBuf,
    /// Where the image is written; not there yet.
    pub image: PathBuf,
    /// Seconds since 1970 for what is new in the image.
    pub epoch: i64,
    /// Owners are kept; else everything is root's.
    pub keep_owners: bool,
    /// Whether scripts see the host's network.
    pub network: bool,
    /// Threads that read and write.
    pub threads: usize,
}

/// Why there is no image.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, thiserror::Error)]
#[error("{what}")]
pub struct Trouble {
    /// What went wrong.
    pub what: String,
    /// What would help; may be empty.
    pub hint: String,
    /// The section whose script failed, and how it ended: its code, or 128 and the signal.
    pub script: Option<(String, i32)>,
    /// A file system or a quota is full.
    #[serde(default)]
    pub full: bool,
}

pub(crate) type Result<T> = std::result::Result<T, Trouble>;

impl Trouble {
    /// A trouble without a hint.
    pub fn new(what: impl Into<String>) -> Trouble {
        Trouble { what: what.into(), hint: String::new(), script: None, full: false }
    }

    /// Of an image that is read or written.
    fn image(what: &str, error: &ImageError) -> Trouble {
        let full = matches!(error, ImageError::Io { source, .. } if is_full(source));
        Trouble { full, ..Trouble::new(format!("{what}: {error}")) }
    }

    /// Adds what would help.
    #[must_use]
    pub fn hint(mut self, hint: impl Into<String>) -> Trouble {
        self.hint = hint.into();
        self
    }
}

impl From<PathError> for Trouble {
    fn from(error: PathError) -> Trouble {
        Trouble { full: error.is_full(), ..Trouble::new(error.to_string()) }
    }
}

impl From<Refusal> for Trouble {
    fn from(error: Refusal) -> Trouble {
        Trouble::new(error.to_string())
    }
}

/// A command that carries an order out in a process of its own, and is killed with the thread that spawns it.
pub struct Cooking {
    /// The command; what it prints is the log.
    pub command: Command,
    /// Holds the order at first, and the trouble there was.
    file: File,
}

impl Cooking {
    /// The command for an order.
    ///
    /// # Errors
    /// When the order cannot be written down.
    pub fn new(order: &Order) -> Result<Cooking> {
        let (mut command, file) = again("cook", order)?;
        command.arg(std::process::id().to_string());
        Ok(Cooking { command, file })
    }

    /// After the command has ended: what was wrong.
    pub fn trouble(&self) -> Option<Trouble> {
        let mut bytes = vec![0; usize::try_from(self.file.metadata().ok()?.len()).ok()?];
        self.file.read_exact_at(&mut bytes, 0).ok()?;
        serde_json::from_slice(bytes.strip_prefix(TROUBLE)?).ok()
    }
}

/// What a report begins with; no JSON does.
const TROUBLE: &[u8] = b"!";

/// This program again, as `ovl internal WORD FD`, where FD holds a value.
fn again<T: Serialize>(word: &str, value: &T) -> Result<(Command, File)> {
    use std::io::Seek;
    let failed = || Refusal::new("write down what is to be done");
    let json = serde_json::to_vec(value).map_err(|error| Trouble::new(error.to_string()))?;
    let mut file = pass::memory_file(&json).map_err(failed())?;
    file.rewind().map_err(failed())?;
    let copy = file.try_clone().map_err(failed())?;
    let number = file.as_raw_fd().to_string();
    // Not its path: the file may have been replaced by a newer one meanwhile.
    let mut command = fork::command_with(Path::new("/proc/self/exe"), file);
    command.args(["internal", word, &number]);
    Ok((command, copy))
}

/// The value behind a descriptor, and the file it came in.
fn read<T: DeserializeOwned>(fd: i32) -> Result<(T, File)> {
    let mut json = Vec::new();
    let file = pass::inherited(fd)
        .and_then(|mut file| file.read_to_end(&mut json).map(|_| file))
        .map_err(Refusal::new(format!("read descriptor {fd}")))?;
    let value = serde_json::from_slice(&json).map_err(|error| Trouble::new(format!("descriptor {fd}: {error}")))?;
    Ok((value, file))
}

/// `ovl internal cook FD PARENT`: never returns. `tell` prints a line into the log.
pub fn cook_main(fd: i32, parent: u32, tell: &dyn Fn(&str)) -> u8 {
    if fork::parent() != parent {
        return 1;
    }
    let (order, file) = match read::<Order>(fd) {
        Ok(read) => read,
        Err(trouble) => {
            tell(&trouble.what);
            return 1;
        }
    };
    let code = in_namespaces(&order, &file, parent, tell).unwrap_or_else(|trouble| report(&file, &trouble));
    u8::try_from(code).unwrap_or(1)
}

fn report(file: &File, trouble: &Trouble) -> i32 {
    let mut bytes = TROUBLE.to_vec();
    bytes.extend(serde_json::to_vec(trouble).unwrap_or_default());
    let _ = file.set_len(0).and_then(|()| file.write_all_at(&bytes, 0));
    1
}

/// Enters the namespaces; a first process in them does the work and takes everything with it when it ends.
fn in_namespaces(order: &Order, file: &File, parent: u32, tell: &dyn Fn(&str)) -> Result<i32> {
    let many = enter(userns::Kinds { processes: true, network: !order.network })?;
    // Entering has undone it.
    fork::die_with_parent().map_err(Refusal::new("tie the build to its caller"))?;
    // It may have ended while nothing tied this to it.
    if fork::parent() != parent {
        return Ok(1);
    }
    match fork::fork().map_err(Refusal::new("start a process in a new process table"))? {
        Side::Parent(first) => match fork::wait(first) {
            Ok(Ended::Code(code)) => Ok(code),
            Ok(ended) => fork::end_like(ended),
            Err(error) => Err(Refusal::new("wait for the engine")(error).into()),
        },
        Side::Child => {
            let done = fork::die_with_parent()
                .map_err(|error| Refusal::new("tie the build to its caller")(error).into())
                .and_then(|()| mount::only_receive().map_err(Trouble::from))
                .and_then(|()| userns::keep_to_oneself().map_err(Trouble::from))
                .and_then(|()| {
                    host::set_umask("022");
                    let tolerate = if many { Tolerate::Devices } else { Tolerate::Owners };
                    cook::cook(order, tolerate, tell)
                });
            fork::end_now(done.map_or_else(|trouble| report(file, &trouble), |()| 0))
        }
    }
}

fn enter(kinds: userns::Kinds) -> Result<bool> {
    userns::enter_as_root(kinds).map_err(|refusal| {
        let hint = "definition files need user namespaces here, or Apptainer with its own helpers; \
                    'ovl doctor' says what this machine has";
        Trouble::from(refusal).hint(hint)
    })
}
