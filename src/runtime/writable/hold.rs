//! Holding an image: an open-file-description lock over all of it, as Apptainer takes it, whichever of the two comes
//! first. Three answers: held, busy, or a file system that has no locks.

use std::fs::File;
use std::path::Path;
use std::time::{Duration, Instant};

use crate::runtime::error::{Result, RuntimeError};
use crate::sys::fs::{self, PathError};
use crate::sys::lock::{self, Kind, Taken};

/// Who has just finished with an image lets go of it within this time.
const GRACE: Duration = Duration::from_millis(400);

/// An image that is held as long as this file (or a copy of it, in whichever process) is open.
#[derive(Debug)]
pub struct Hold {
    /// The file.
    pub file: File,
    /// False: its file system has no locks, and nobody can tell who else uses it.
    pub locked: bool,
}

/// Opens an image (for writing, with a write lock) and holds it.
///
/// # Errors
/// [`RuntimeError::Busy`], naming the holders that can be seen from here.
pub fn hold(path: &Path, kind: Kind) -> Result<Hold> {
    let file = match kind {
        Kind::Read => fs::open(path)?,
        Kind::Write => fs::open_rw(path)?,
    };
    let locked = lock(path, &file, kind)?;
    Ok(Hold { file, locked })
}

/// Holds an open file. False: there are no locks.
pub fn lock(path: &Path, file: &File, kind: Kind) -> Result<bool> {
    part(path, file, kind, 0, 0)
}

/// Holds `length` bytes from `start` on (0: to the end) of an open file. False: there are no locks.
pub fn part(path: &Path, file: &File, kind: Kind, start: u64, length: u64) -> Result<bool> {
    let began = Instant::now();
    loop {
        match lock::try_lock_part(file, kind, start, length).map_err(PathError::new("lock", path))? {
            Taken::Held => return Ok(true),
            Taken::Unsupported => return Ok(false),
            Taken::Busy if began.elapsed() < GRACE => std::thread::sleep(Duration::from_millis(20)),
            Taken::Busy => return Err(busy(path, kind)),
        }
    }
}

/// What is said of an image that nobody can tell the users of.
pub fn unlocked(path: &Path) -> String {
    format!("{} is on a file system without locks: nobody can tell who else uses it", path.display())
}

/// Why an image that looks unclean is left alone where there are no locks: one that is mounted on another node looks the
/// same, and repairing that would destroy it.
pub fn unsure(path: &Path) -> RuntimeError {
    let shown = path.display();
    RuntimeError::Busy {
        what: format!("{shown} was not closed cleanly or is being written to; its file system has no locks to tell by"),
        hint: format!("when nobody uses it anywhere, repair it with: ovl overlay check {shown}"),
    }
}

fn busy(path: &Path, kind: Kind) -> RuntimeError {
    let what = match kind {
        Kind::Read => "somebody is writing to it",
        Kind::Write => "it is in use",
    };
    let holders = lock::holders(path);
    let (who, hint) = if holders.is_empty() {
        (String::new(), "by a process that cannot be seen from here: another user's, or one on another node")
    } else {
        (
            format!(": {}", holders.join(", ")),
            "wait until it has ended; two commands may read an image at the same time, but not write to it",
        )
    };
    RuntimeError::Busy { what: format!("image {} is busy, {what}{who}", path.display()), hint: hint.into() }
}
