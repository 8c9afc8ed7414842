//! Files whose names others can tell beforehand, in directories that others may write to: opened only where they are what
//! they seem.

#![allow(clippy::disallowed_methods)]

use std::fs::{File, OpenOptions};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::Path;

use nix::libc::{EISDIR, ELOOP, ENXIO, O_NOFOLLOW, O_NONBLOCK};

use super::fs::{PathError, Result};
use super::host;

/// Opens a file of the user's for reading and writing. None for anything else that has the name: a link, one of several
/// names of a file, somebody else's file, no file at all but a pipe.
pub fn open_rw(path: &Path) -> Result<Option<File>> {
    // Of a pipe nobody is waited for.
    let open = OpenOptions::new().read(true).write(true).custom_flags(O_NOFOLLOW | O_NONBLOCK).open(path);
    let file = match open {
        Err(error) if matches!(error.raw_os_error(), Some(ELOOP | EISDIR | ENXIO)) => return Ok(None),
        other => other.map_err(PathError::new("open for writing", path))?,
    };
    let meta = file.metadata().map_err(PathError::new("examine", path))?;
    let own = meta.is_file() && meta.uid() == host::ids().0 && meta.nlink() <= 1;
    Ok(own.then_some(file))
}
