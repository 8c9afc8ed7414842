//! Reading a tree through open directories: no path is ever looked up twice and no symbolic link is followed, so
//! a tree that others change meanwhile cannot lead elsewhere. Names are bytes, errors are plain and named by callers.

#![allow(unsafe_code)]

use std::ffi::CString;
use std::fs::File;
use std::io;
use std::ops::Range;
use std::os::fd::{AsRawFd, OwnedFd};
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::path::Path;

use nix::errno::Errno;
use nix::fcntl::{AtFlags, OFlag, open, openat, readlinkat};
use nix::libc;
use nix::sys::stat::{FileStat, Mode, fstat, fstatat};
use nix::unistd::{Whence, lseek};

const DIRECTORY: OFlag = OFlag::O_RDONLY.union(OFlag::O_DIRECTORY).union(OFlag::O_CLOEXEC);

/// Opens a directory by its path; the path itself may be a symbolic link.
pub fn open_root(path: &Path) -> io::Result<OwnedFd> {
    Ok(open(path, DIRECTORY, Mode::empty())?)
}

/// Opens a directory in a directory.
pub fn open_dir(dir: &OwnedFd, name: &[u8]) -> io::Result<OwnedFd> {
    Ok(openat(dir, name, DIRECTORY | OFlag::O_NOFOLLOW, Mode::empty())?)
}

/// Opens a regular file in a directory for reading; never blocks, whatever has taken its place.
pub fn open_file(dir: &OwnedFd, name: &[u8]) -> io::Result<File> {
    let flags = OFlag::O_RDONLY | OFlag::O_NOFOLLOW | OFlag::O_NONBLOCK | OFlag::O_CLOEXEC | OFlag::O_NOCTTY;
    Ok(openat(dir, name, flags, Mode::empty())?.into())
}

/// The names in a directory, sorted by their bytes, without `.` and `..`.
pub fn names(dir: &OwnedFd) -> io::Result<Vec<Vec<u8>>> {
    // The listing position belongs to the open file, which others share: a fresh one for every listing.
    let mut listing = nix::dir::Dir::from_fd(openat(dir, ".", DIRECTORY, Mode::empty())?)?;
    let mut names = Vec::new();
    for entry in listing.iter() {
        let name = entry?.file_name().to_bytes().to_vec();
        if name != b"." && name != b".." {
            names.push(name);
        }
    }
    names.sort_unstable();
    Ok(names)
}

/// Facts of a directory's entry itself; an empty name means the directory.
pub fn stat(dir: &OwnedFd, name: &[u8]) -> io::Result<FileStat> {
    Ok(if name.is_empty() { fstat(dir)? } else { fstatat(dir, name, AtFlags::AT_SYMLINK_NOFOLLOW)? })
}

/// Facts of an open file.
pub fn stat_file(file: &File) -> io::Result<FileStat> {
    Ok(fstat(file)?)
}

/// Where a symbolic link in a directory points.
pub fn read_link(dir: &OwnedFd, name: &[u8]) -> io::Result<Vec<u8>> {
    Ok(readlinkat(dir, name)?.into_vec())
}

/// The first range of an open file at or after `offset` that may hold data; None when only holes follow up to `end`.
pub fn next_data(file: &File, offset: u64, end: u64) -> io::Result<Option<Range<u64>>> {
    if offset >= end {
        return Ok(None);
    }
    let from = i64::try_from(offset).map_err(|_| Errno::EOVERFLOW)?;
    let start = match lseek(file, from, Whence::SeekData) {
        Ok(start) => start,
        Err(Errno::ENXIO) => return Ok(None),
        // File systems that know no holes: everything is data.
        Err(Errno::EINVAL | Errno::EOPNOTSUPP) => return Ok(Some(offset..end)),
        Err(errno) => return Err(errno.into()),
    };
    let stop = lseek(file, start, Whence::SeekHole).map_or(end, |stop| (stop as u64).min(end));
    let start = start as u64;
    Ok((start < stop).then_some(start..stop))
}

/// Extended attributes (full name, value) of a directory's entry, sorted; an empty name means the directory.
/// Nothing where the file system has none. `wanted` chooses by name before a value is read.
pub fn xattrs(dir: &OwnedFd, name: &[u8], wanted: impl Fn(&[u8]) -> bool) -> io::Result<Vec<(Vec<u8>, Vec<u8>)>> {
    // There is no "at" form of these calls before Linux 6.13; the magic link names the open directory exactly.
    let mut path = format!("/proc/self/fd/{}/", dir.as_raw_fd()).into_bytes();
    path.extend_from_slice(if name.is_empty() { b"." } else { name });
    let path = CString::new(path)?;
    let listed = grown(0, |buffer| {
        // SAFETY: the path ends in NUL and the buffer is valid for the length given with it.
        unsafe { libc::llistxattr(path.as_ptr(), buffer.as_mut_ptr().cast(), buffer.len()) }
    })?;
    let mut found = Vec::new();
    for name in listed.unwrap_or_default().split(|byte| *byte == 0).filter(|name| !name.is_empty() && wanted(name)) {
        let c_name = CString::new(name)?;
        let value = grown(256, |buffer| {
            // SAFETY: path and name end in NUL and the buffer is valid for the length given with it.
            unsafe { libc::lgetxattr(path.as_ptr(), c_name.as_ptr(), buffer.as_mut_ptr().cast(), buffer.len()) }
        })?;
        found.extend(value.map(|value| (name.to_vec(), value)));
    }
    found.sort_unstable();
    Ok(found)
}

/// Calls until the buffer is large enough; None where there is no such thing. An empty buffer asks for the length.
fn grown(first: usize, mut call: impl FnMut(&mut [u8]) -> isize) -> io::Result<Option<Vec<u8>>> {
    let mut buffer = vec![0; first];
    loop {
        match usize::try_from(call(&mut buffer)) {
            Ok(0) => return Ok(Some(Vec::new())),
            Ok(length) if length <= buffer.len() => {
                buffer.truncate(length);
                return Ok(Some(buffer));
            }
            Ok(length) => buffer.resize(length, 0),
            Err(_) => match Errno::last() {
                Errno::ENOTSUP | Errno::ENODATA | Errno::ENOSYS => return Ok(None),
                // Linux allows 64 KiB at most.
                Errno::ERANGE if buffer.len() <= 65536 => buffer.resize((buffer.len() * 4).clamp(4096, 65537), 0),
                errno => return Err(errno.into()),
            },
        }
    }
}

/// Sets an extended attribute of a file or directory, where the file system has such.
pub fn set_xattr(path: &Path, name: &[u8], value: &[u8]) -> io::Result<()> {
    let (path, name) = (CString::new(path.as_os_str().as_bytes())?, CString::new(name)?);
    // SAFETY: path and name end in NUL, the value is valid for the length given with it.
    let result = unsafe { libc::lsetxattr(path.as_ptr(), name.as_ptr(), value.as_ptr().cast(), value.len(), 0) };
    if result < 0 { Err(io::Error::last_os_error()) } else { Ok(()) }
}
