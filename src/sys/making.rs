//! Making files through open directories: nothing that is made follows a symbolic link or replaces what it was not told
//! to, whoever else writes there meanwhile. The counterpart of `dirfd`, which reads.

#![allow(unsafe_code)]

use std::ffi::CString;
use std::fs::File;
use std::io;
use std::os::fd::{AsRawFd, OwnedFd};

use nix::fcntl::{AtFlags, OFlag, openat};
use nix::libc;
use nix::sys::stat::{Mode, SFlag, UtimensatFlags, fchmod, futimens, mkdirat, mknodat, utimensat};
use nix::sys::time::TimeSpec;
use nix::unistd::{Gid, LinkatFlags, Uid, UnlinkatFlags, fchown, fchownat, linkat, symlinkat, unlinkat};

/// Makes a directory (0700) in a directory.
pub fn dir(at: &OwnedFd, name: &[u8]) -> io::Result<()> {
    Ok(mkdirat(at, name, Mode::S_IRWXU)?)
}

/// Makes a file (0600) that was not there.
pub fn file(at: &OwnedFd, name: &[u8]) -> io::Result<File> {
    let flags = OFlag::O_RDWR | OFlag::O_CREAT | OFlag::O_EXCL | OFlag::O_NOFOLLOW | OFlag::O_CLOEXEC;
    Ok(openat(at, name, flags, Mode::S_IRUSR | Mode::S_IWUSR)?.into())
}

/// Makes a symbolic link.
pub fn symlink(at: &OwnedFd, name: &[u8], target: &[u8]) -> io::Result<()> {
    Ok(symlinkat(target, at, name)?)
}

/// Gives a file a second name; a symbolic link gets one itself.
pub fn link(from: (&OwnedFd, &[u8]), to: (&OwnedFd, &[u8])) -> io::Result<()> {
    Ok(linkat(from.0, from.1, to.0, to.1, LinkatFlags::empty())?)
}

/// What [`node`] makes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Node {
    /// A character device: major, minor.
    Char(u32, u32),
    /// A block device: major, minor.
    Block(u32, u32),
    /// A named pipe.
    Fifo,
    /// A socket that nobody listens at.
    Socket,
}

/// Makes something that is no file. Devices are root's to make, but for the character device 0:0 (Linux 5.8).
pub fn node(at: &OwnedFd, name: &[u8], node: Node) -> io::Result<()> {
    let (kind, device) = match node {
        Node::Char(major, minor) => (SFlag::S_IFCHR, libc::makedev(major, minor)),
        Node::Block(major, minor) => (SFlag::S_IFBLK, libc::makedev(major, minor)),
        Node::Fifo => (SFlag::S_IFIFO, 0),
        Node::Socket => (SFlag::S_IFSOCK, 0),
    };
    Ok(mknodat(at, name, kind, Mode::S_IRUSR | Mode::S_IWUSR, device)?)
}

/// Removes what is no directory; a missing one is fine.
pub fn remove(at: &OwnedFd, name: &[u8]) -> io::Result<()> {
    match unlinkat(at, name, UnlinkatFlags::NoRemoveDir) {
        Ok(()) | Err(nix::errno::Errno::ENOENT) => Ok(()),
        Err(errno) => Err(errno.into()),
    }
}

/// Owner, permissions and time of an open file or directory, in the order in which they do not undo each other.
pub fn finish(fd: &impl std::os::fd::AsFd, owner: Option<(u32, u32)>, mode: u32, mtime: i64) -> io::Result<()> {
    if let Some((uid, gid)) = owner {
        fchown(fd, Some(Uid::from_raw(uid)), Some(Gid::from_raw(gid)))?;
    }
    fchmod(fd, Mode::from_bits_truncate(mode & 0o7777))?;
    let time = TimeSpec::new(mtime, 0);
    Ok(futimens(fd, &time, &time)?)
}

/// The same of an entry that is not opened (a link, a device); the permissions of links mean nothing.
pub fn finish_at(
    at: &OwnedFd,
    name: &[u8],
    owner: Option<(u32, u32)>,
    mode: Option<u32>,
    mtime: i64,
) -> io::Result<()> {
    if let Some((uid, gid)) = owner {
        fchownat(at, name, Some(Uid::from_raw(uid)), Some(Gid::from_raw(gid)), AtFlags::AT_SYMLINK_NOFOLLOW)?;
    }
    if let Some(mode) = mode {
        // It was made here a moment ago and is no link; a flag that says so is not known to older kernels.
        let mode = Mode::from_bits_truncate(mode & 0o7777);
        nix::sys::stat::fchmodat(at, name, mode, nix::sys::stat::FchmodatFlags::FollowSymlink)?;
    }
    let time = TimeSpec::new(mtime, 0);
    Ok(utimensat(at, name, &time, &time, UtimensatFlags::NoFollowSymlink)?)
}

/// Sets an extended attribute of an open file or directory.
pub fn set_xattr(fd: &impl AsRawFd, name: &[u8], value: &[u8]) -> io::Result<()> {
    let name = CString::new(name)?;
    // SAFETY: the name ends in NUL, the value is valid for the length given with it.
    let result = unsafe { libc::fsetxattr(fd.as_raw_fd(), name.as_ptr(), value.as_ptr().cast(), value.len(), 0) };
    if result < 0 { Err(io::Error::last_os_error()) } else { Ok(()) }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::MetadataExt;

    use super::*;
    use crate::sys::{dirfd, fs, host};

    #[test]
    fn nothing_is_followed_or_replaced() {
        let top = std::env::temp_dir().join(format!("ovl-making-{}", host::token()));
        fs::create_dirs(&top.join("outside")).unwrap();
        fs::symlink(std::path::Path::new("outside"), &top.join("link")).unwrap();
        let at = dirfd::open_root(&top).unwrap();
        assert!(file(&at, b"link").is_err() && dir(&at, b"link").is_err() && dirfd::open_dir(&at, b"link").is_err());
        let made = file(&at, b"new").unwrap();
        finish(&made, None, 0o4711, 7).unwrap();
        assert!(file(&at, b"new").is_err());
        link((&at, b"new"), (&at, b"second")).unwrap();
        symlink(&at, b"dangling", b"nowhere").unwrap();
        finish_at(&at, b"dangling", None, None, 9).unwrap();
        node(&at, b"pipe", Node::Fifo).unwrap();
        remove(&at, b"second").unwrap();
        remove(&at, b"second").unwrap();
        assert!(remove(&at, b"outside").is_err());
        let meta = fs::symlink_metadata(&top.join("new")).unwrap();
        assert_eq!((meta.mode() & 0o7777, meta.mtime(), meta.nlink()), (0o4711, 7, 1));
        assert_eq!(fs::symlink_metadata(&top.join("dangling")).unwrap().mtime(), 9);
        assert_eq!(fs::list(&top).unwrap(), ["dangling", "link", "new", "outside", "pipe"]);
        fs::remove_tree(&top).unwrap();
    }
}
