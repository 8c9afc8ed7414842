//! File locks: open-file-description (OFD) byte-range locks over whole images, as Apptainer takes them on ext3, probed
//! with three answers (docs/running.md, "Locks"); flock(2) only to tell whether a file system has it.

use std::fs::File;
use std::io;
use std::os::fd::AsFd;
use std::path::Path;

use fs2::{FileExt, TryLockError};
use nix::errno::Errno;
use nix::fcntl::{FcntlArg, fcntl};
use nix::libc;

use super::fs::{self, PathError};

/// Whether somebody uses a file. Three answers: a file system without locks is neither "free" nor "in use".
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Use {
    /// Nobody holds a lock on any part of it.
    Free,
    /// Somebody reads it.
    Readers,
    /// Somebody writes it.
    Writer,
    /// This file system does not tell (ENOLCK, ENOSYS, EOPNOTSUPP).
    Unknown,
}

/// What kind of lock to take.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// Compatible with other readers.
    Read,
    /// Compatible with nobody.
    Write,
}

/// The outcome of trying to lock.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Taken {
    /// The lock is held as long as the descriptor (or an inherited copy) is open.
    Held,
    /// Somebody else holds a conflicting one.
    Busy,
    /// This file system has no locks.
    Unsupported,
}

fn whole_file(kind: i32) -> libc::flock {
    range(kind, 0, 0)
}

/// `length` bytes from `start` on; 0: to the end of the file, wherever that is.
fn range(kind: i32, start: i64, length: i64) -> libc::flock {
    libc::flock {
        l_type: kind as libc::c_short,
        l_whence: libc::SEEK_SET as libc::c_short,
        l_start: start,
        l_len: length,
        l_pid: 0,
    }
}

fn has_no_locks(errno: Errno) -> bool {
    matches!(errno, Errno::ENOLCK | Errno::ENOSYS | Errno::EOPNOTSUPP | Errno::EINVAL)
}

/// Whether anybody holds an OFD or POSIX lock on any byte of the file; takes none itself.
pub fn probe(path: &Path) -> Result<Use, PathError> {
    probe_file(&fs::open(path)?).map_err(PathError::new("probe the lock of", path))
}

/// [`probe`] on an open file.
pub fn probe_file(file: &File) -> io::Result<Use> {
    let mut lock = whole_file(libc::F_WRLCK);
    match fcntl(file.as_fd(), FcntlArg::F_OFD_GETLK(&mut lock)) {
        Ok(_) => Ok(match i32::from(lock.l_type) {
            libc::F_UNLCK => Use::Free,
            libc::F_RDLCK => Use::Readers,
            _ => Use::Writer,
        }),
        Err(errno) if has_no_locks(errno) => Ok(Use::Unknown),
        Err(errno) => Err(errno.into()),
    }
}

/// Tries to take an OFD lock on the whole file, without waiting. A write lock needs a file open for writing.
pub fn try_lock(file: &File, kind: Kind) -> io::Result<Taken> {
    try_lock_part(file, kind, 0, 0)
}

/// [`try_lock`] on `length` bytes from `start` on, as Apptainer locks partitions of a SIF file.
pub fn try_lock_part(file: &File, kind: Kind, start: u64, length: u64) -> io::Result<Taken> {
    let number = |value: u64| i64::try_from(value).map_err(io::Error::other);
    let kind = match kind {
        Kind::Read => libc::F_RDLCK,
        Kind::Write => libc::F_WRLCK,
    };
    let lock = range(kind, number(start)?, number(length)?);
    match fcntl(file.as_fd(), FcntlArg::F_OFD_SETLK(&lock)) {
        Ok(_) => Ok(Taken::Held),
        Err(Errno::EAGAIN | Errno::EACCES) => Ok(Taken::Busy),
        Err(errno) if has_no_locks(errno) => Ok(Taken::Unsupported),
        Err(errno) => Err(errno.into()),
    }
}

/// Tries flock(2) on an open file, without waiting.
pub fn try_flock(file: &File) -> io::Result<Taken> {
    match FileExt::try_lock(file) {
        Ok(()) => Ok(Taken::Held),
        Err(TryLockError::WouldBlock) => Ok(Taken::Busy),
        Err(TryLockError::Error(error)) => match error.raw_os_error().map(Errno::from_raw) {
            Some(errno) if has_no_locks(errno) => Ok(Taken::Unsupported),
            _ => Err(error),
        },
    }
}

/// Processes of this node that have the file open, as `pid (command)`; only those the caller may look into.
pub fn holders(path: &Path) -> Vec<String> {
    use std::os::unix::fs::MetadataExt;
    let Ok(wanted) = fs::metadata(path) else { return Vec::new() };
    let mut found = Vec::new();
    for pid in fs::list(Path::new("/proc")).unwrap_or_default() {
        let Some(pid) = pid.to_str().and_then(|pid| pid.parse::<u32>().ok()) else { continue };
        let fds = Path::new("/proc").join(pid.to_string()).join("fd");
        let opens = fs::list(&fds).unwrap_or_default().iter().any(|fd| {
            fs::metadata(&fds.join(fd)).is_ok_and(|meta| (meta.dev(), meta.ino()) == (wanted.dev(), wanted.ino()))
        });
        if opens && pid != std::process::id() {
            let comm = fs::read(&Path::new("/proc").join(pid.to_string()).join("comm")).unwrap_or_default();
            found.push(format!("{pid} ({})", String::from_utf8_lossy(&comm).trim()));
        }
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    fn scratch(name: &str) -> std::path::PathBuf {
        let path = std::env::temp_dir().join(format!("ovl-lock-{name}-{}", super::super::host::token()));
        fs::write_atomic(&path, b"x", 0o644).unwrap();
        path
    }

    #[test]
    fn a_probe_sees_readers_and_writers_on_any_byte() {
        let path = scratch("probe");
        assert_eq!(probe(&path).unwrap(), Use::Free);
        let reader = fs::open(&path).unwrap();
        assert_eq!(try_lock(&reader, Kind::Read).unwrap(), Taken::Held);
        assert_eq!(probe(&path).unwrap(), Use::Readers);
        drop(reader);

        // A lock on a range far behind byte 0, as Apptainer holds on a partition inside a SIF.
        let writer = fs::open_rw(&path).unwrap();
        let mut range = whole_file(libc::F_WRLCK);
        (range.l_start, range.l_len) = (1 << 20, 4096);
        fcntl(writer.as_fd(), FcntlArg::F_OFD_SETLK(&range)).unwrap();
        assert_eq!(probe(&path).unwrap(), Use::Writer);
        assert_eq!(try_lock(&fs::open(&path).unwrap(), Kind::Read).unwrap(), Taken::Busy);
        drop(writer);
        assert_eq!(probe(&path).unwrap(), Use::Free);
        fs::remove_file(&path).unwrap();
    }

    #[test]
    fn flock_does_not_show_in_a_probe() {
        let path = scratch("flock");
        let file = fs::open_rw(&path).unwrap();
        assert_eq!(try_flock(&file).unwrap(), Taken::Held);
        assert_eq!(try_flock(&fs::open_rw(&path).unwrap()).unwrap(), Taken::Busy);
        assert_eq!(probe(&path).unwrap(), Use::Free);
        fs::remove_file(&path).unwrap();
    }
}
