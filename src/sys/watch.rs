//! Noticing from outside that a mount namespace has ended: a memory-backed file system that is mounted nowhere else is
//! unmounted with the last namespace that has it, and the kernel tells whoever watches a directory of it.

#![allow(unsafe_code)]

use std::ffi::CString;
use std::fs::File;
use std::io::{self, Read};
use std::os::fd::{AsFd, AsRawFd, FromRawFd};
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

use nix::errno::Errno;
use nix::libc;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};

/// A watch on the directory at `path`; it does not keep the file system mounted. To be passed to [`unmounted`],
/// in whichever process. Fails with EMFILE when the user has too many (fs.inotify.max_user_instances).
pub fn watch(path: &Path) -> io::Result<File> {
    let path = CString::new(path.as_os_str().as_bytes())?;
    // SAFETY: takes flags only.
    let number = unsafe { libc::inotify_init1(libc::IN_CLOEXEC) };
    if number < 0 {
        return Err(io::Error::last_os_error());
    }
    // SAFETY: the kernel has just made this descriptor for us; nobody else owns it.
    let file = unsafe { File::from_raw_fd(number) };
    // Some event has to be asked for; the end of the file system is told in any case (inotify(7), IN_UNMOUNT).
    // SAFETY: the path ends in NUL and lives until the call returns; the descriptor is open.
    if unsafe { libc::inotify_add_watch(file.as_raw_fd(), path.as_ptr(), libc::IN_DELETE_SELF) } < 0 {
        return Err(io::Error::last_os_error());
    }
    Ok(file)
}

/// Waits until what is watched is no longer mounted anywhere.
pub fn unmounted(mut watch: &File) -> io::Result<()> {
    let mut buffer = [0; 4096];
    loop {
        match watch.read(&mut buffer) {
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
            // Whatever the event: this watch has no other than those of its end.
            Ok(_) => return Ok(()),
        }
    }
}

/// Waits until the peer of a socket is gone.
pub fn hang_up(socket: &impl AsFd) -> io::Result<()> {
    loop {
        let mut fds = [PollFd::new(socket.as_fd(), PollFlags::empty())];
        match poll(&mut fds, PollTimeout::NONE) {
            Ok(_) => return Ok(()),
            Err(Errno::EINTR) => {}
            Err(errno) => return Err(errno.into()),
        }
    }
}
