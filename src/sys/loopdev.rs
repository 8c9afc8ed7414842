//! Loop devices, for root: a file as a block device that goes away with the last mount of it (loop(4)).

#![allow(unsafe_code)]

use std::fs::File;
use std::io;
use std::os::fd::AsRawFd;
use std::path::{Path, PathBuf};

use nix::errno::Errno;
use nix::libc;

use super::fs;

// linux/loop.h
const SET_FD: libc::c_ulong = 0x4c00;
const CLEAR_FD: libc::c_ulong = 0x4c01;
const SET_STATUS: libc::c_ulong = 0x4c04;
const GET_FREE: libc::c_ulong = 0x4c82;
const AUTOCLEAR: u32 = 4;

/// `struct loop_info64`.
#[repr(C)]
struct Info {
    numbers: [u64; 5],
    number: u32,
    encryption: [u32; 2],
    flags: u32,
    names: [u8; 160],
    init: [u64; 2],
}

/// A device whose file is closed when it is neither open nor mounted any more.
#[derive(Debug)]
pub struct Loop {
    /// Its path.
    pub path: PathBuf,
    /// To be kept open until it is mounted, and not longer.
    pub device: File,
}

fn call(file: &File, request: libc::c_ulong, argument: libc::c_ulong) -> io::Result<i32> {
    // SAFETY: these requests take a number, or no argument at all.
    let result = unsafe { libc::ioctl(file.as_raw_fd(), request as _, argument) };
    if result < 0 { Err(io::Error::last_os_error()) } else { Ok(result) }
}

/// Makes an open file a device.
pub fn attach(file: &File) -> io::Result<Loop> {
    let open = |path: &Path| fs::open_rw(path).map_err(|error| error.source);
    let control = open(Path::new("/dev/loop-control"))?;
    // Others look for free ones too.
    for _ in 0..32 {
        let path = PathBuf::from(format!("/dev/loop{}", call(&control, GET_FREE, 0)?));
        let device = open(&path)?;
        match call(&device, SET_FD, file.as_raw_fd() as libc::c_ulong) {
            Err(error) if error.raw_os_error() == Some(Errno::EBUSY as i32) => continue,
            result => result?,
        };
        let info =
            Info { numbers: [0; 5], number: 0, encryption: [0; 2], flags: AUTOCLEAR, names: [0; 160], init: [0; 2] };
        // SAFETY: the structure is loop_info64 and lives until the call returns; the kernel only reads it.
        if unsafe { libc::ioctl(device.as_raw_fd(), SET_STATUS as _, &raw const info) } < 0 {
            let error = io::Error::last_os_error();
            let _ = call(&device, CLEAR_FD, 0);
            return Err(error);
        }
        return Ok(Loop { path, device });
    }
    Err(Errno::EBUSY.into())
}

/// Whether a file is still attached to the device.
pub fn is_attached(path: &Path) -> bool {
    let name = path.file_name().unwrap_or_default();
    Path::new("/sys/block").join(name).join("loop/backing_file").exists()
}
