//! The FUSE device beside its requests: a second descriptor of a mounted one, alone in a descriptor table of its own.
//!
//! Whoever writes into the kernel's cache may wait there for a page that another request holds. Were the request's
//! descriptor kept open by that very thread, a killed server could never be cleaned up: both would wait for ever.

#![allow(unsafe_code, clippy::disallowed_methods)]

use std::fs::{self, File};
use std::io;
use std::os::fd::{AsRawFd, FromRawFd};

use nix::libc;
use nix::sched::{CloneFlags, unshare};

nix::ioctl_read! {
    /// FUSE_DEV_IOC_CLONE of include/uapi/linux/fuse.h; the number given in is the mounted device.
    fuse_dev_clone, 229, 0, u32
}

/// Makes `second`, a freshly opened device of the same user namespace, another door to what is mounted with `device`.
pub fn join_device(device: &File, second: &File) -> io::Result<()> {
    let mut number = device.as_raw_fd().unsigned_abs();
    // SAFETY: both descriptors are open, and the kernel reads one number of 32 bits, which lives until the call returns.
    unsafe { fuse_dev_clone(second.as_raw_fd(), &raw mut number) }?;
    Ok(())
}

/// Gives the calling thread a descriptor table of its own that holds nothing but a copy of `file`, and returns that
/// copy. The thread must neither have nor later get hold of any other descriptor.
pub fn alone_with(file: &File) -> io::Result<File> {
    let number = file.as_raw_fd().unsigned_abs();
    unshare(CloneFlags::CLONE_FILES)?;
    let close_range = |first: u32, last: u32| {
        // SAFETY: closing descriptors touches no memory; they stay open in the table this one was copied from, and
        // this thread uses none of them.
        unsafe { libc::syscall(libc::SYS_close_range, first, last, 0) == 0 }
    };
    let below = number.checked_sub(1).is_none_or(|below| close_range(0, below));
    if !below || !close_range(number.saturating_add(1), u32::MAX) {
        // Before Linux 5.9.
        let entries = fs::read_dir("/proc/thread-self/fd")?.flatten();
        let open: Vec<i32> = entries.filter_map(|entry| entry.file_name().to_str()?.parse().ok()).collect();
        for fd in open.into_iter().filter(|fd| fd.unsigned_abs() != number) {
            // SAFETY: as above; the listing's own descriptor is closed already, which close reports and we ignore.
            unsafe { libc::close(fd) };
        }
    }
    // SAFETY: the number is open in this thread's own table, where nothing else owns it.
    Ok(unsafe { File::from_raw_fd(file.as_raw_fd()) })
}

#[cfg(test)]
mod tests {
    use std::io::{Read, Seek, Write};

    use super::*;

    #[test]
    fn a_thread_of_its_own_holds_one_file_only() {
        let file = nix::sys::memfd::memfd_create("x", nix::sys::memfd::MFdFlags::empty()).unwrap();
        let mut file = File::from(file);
        let (read, write) = nix::unistd::pipe().unwrap();
        let (tell, told) = std::sync::mpsc::channel();
        std::thread::scope(|scope| {
            scope.spawn(|| {
                let mut own = alone_with(&file).unwrap();
                own.write_all(b"own").unwrap();
                tell.send(()).unwrap();
                // The pipe's writing end must not live on here.
                std::thread::sleep(std::time::Duration::from_millis(300));
            });
            told.recv().unwrap();
            drop(write);
            let began = std::time::Instant::now();
            assert_eq!(File::from(read).read(&mut [0; 1]).unwrap(), 0);
            assert!(began.elapsed().as_millis() < 200, "the other thread kept the pipe open");
        });
        let mut text = String::new();
        file.rewind().unwrap();
        file.read_to_string(&mut text).unwrap();
        assert_eq!(text, "own");
    }
}
