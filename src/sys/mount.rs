//! Mounting: binds, memory, FUSE, overlays, read-only trees and changing the root, each as one call.

#![allow(unsafe_code, clippy::disallowed_methods)]

use std::ffi::{CString, OsStr, OsString};
use std::fs::{self, File, OpenOptions};
use std::io;
use std::os::fd::{AsFd, AsRawFd};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use nix::libc;
use nix::mount::{MntFlags, MsFlags, mount, umount2};
use serde::{Deserialize, Serialize};

use super::userns::Refusal;

/// Result of a mount operation.
pub type Result<T, E = Refusal> = std::result::Result<T, E>;

const NONE: Option<&Path> = None;

/// Whether a FUSE file system is mounted at this very path (or the path lies in one).
pub fn is_fuse(path: &Path) -> bool {
    nix::sys::statfs::statfs(path).is_ok_and(|stat| stat.filesystem_type() == nix::sys::statfs::FUSE_SUPER_MAGIC)
}

/// Unmounts a file system; its server writes what is left before it ends.
pub fn unmount(target: &Path) -> Result<()> {
    nix::mount::umount(target).map_err(Refusal::new(format!("unmount {}", target.display())))
}

/// A place in the file system that can be bound later, whatever hides it by then.
pub fn place(path: &Path) -> Result<File> {
    OpenOptions::new()
        .read(true)
        .custom_flags(libc::O_PATH)
        .open(path)
        .map_err(Refusal::new(format!("open {}", path.display())))
}

/// Makes a place the working directory.
pub fn go(place: &impl AsFd) -> Result<()> {
    nix::unistd::fchdir(place).map_err(Refusal::new("change the directory"))
}

/// Makes a path the working directory.
pub fn go_to(path: &Path) -> Result<()> {
    nix::unistd::chdir(path).map_err(Refusal::new(format!("change the directory to {}", path.display())))
}

/// What lies at a place.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum What {
    /// A directory.
    Dir,
    /// A symbolic link.
    Link,
    /// Anything that can be bound over a file.
    File,
}

/// The names in a directory with what they are, in any order; nothing is touched that could mount or hang.
pub fn entries(dir: &Path) -> Result<Vec<(OsString, What)>> {
    let failed = || Refusal::new(format!("list {}", dir.display()));
    let mut found = Vec::new();
    for entry in fs::read_dir(dir).map_err(failed())? {
        let entry = entry.map_err(failed())?;
        let what = match entry.file_type() {
            Ok(kind) if kind.is_dir() => What::Dir,
            Ok(kind) if kind.is_symlink() => What::Link,
            _ => What::File,
        };
        found.push((entry.file_name(), what));
    }
    Ok(found)
}

/// Makes a symbolic link at `path` that reads like the one at `from`.
pub fn copy_link(from: &Path, path: &Path) -> Result<()> {
    fs::read_link(from)
        .and_then(|target| std::os::unix::fs::symlink(target, path))
        .map_err(Refusal::new(format!("make the symbolic link {}", path.display())))
}

/// Cuts the propagation of mounts from here to the host, keeps the other direction (automounters need it).
pub fn only_receive() -> Result<()> {
    mount(NONE, "/", NONE, MsFlags::MS_REC | MsFlags::MS_SLAVE, NONE)
        .map_err(Refusal::new("stop the propagation of mounts"))
}

/// Shows `source` and everything mounted below it at `target`.
pub fn bind(source: &Path, target: &Path) -> Result<()> {
    mount(Some(source), target, NONE, MsFlags::MS_BIND | MsFlags::MS_REC, NONE).map_err(Refusal::new(format!(
        "bind {} to {}",
        source.display(),
        target.display()
    )))
}

/// Shows an opened [`place`] at `target`; `proc` is a place too, that of a `/proc`.
pub fn bind_place(source: &File, target: &Path, proc: &File) -> Result<()> {
    go(proc)?;
    bind(Path::new(&format!("self/fd/{}", source.as_raw_fd())), target)
}

/// Mounts an empty memory-backed directory.
pub fn tmpfs(target: &Path, mode: u32) -> Result<()> {
    let data = format!("mode={:o}", mode & 0o7777);
    mount(Some("tmpfs"), target, Some("tmpfs"), MsFlags::MS_NOSUID | MsFlags::MS_NODEV, Some(data.as_str()))
        .map_err(Refusal::new(format!("mount memory at {}", target.display())))
}

/// Mounts the FUSE file system whose requests are read from `device`, read-only.
pub fn fuse(device: &File, target: &Path) -> Result<()> {
    let (uid, gid) = super::host::ids();
    // rootmode 40755: with 40000 an overlayfs on top answers EACCES.
    let data = format!(
        "fd={},rootmode=40755,user_id={uid},group_id={gid},default_permissions,allow_other",
        device.as_raw_fd()
    );
    let flags = MsFlags::MS_NOSUID | MsFlags::MS_NODEV | MsFlags::MS_RDONLY;
    mount(Some("ovl"), target, Some("fuse.ovl"), flags, Some(data.as_str()))
        .map_err(Refusal::new("mount FUSE in a user namespace"))
}

/// Mounts the process table of the caller's PID namespace.
pub fn proc(target: &Path) -> Result<()> {
    let flags = MsFlags::MS_NOSUID | MsFlags::MS_NODEV | MsFlags::MS_NOEXEC;
    mount(Some("proc"), target, Some("proc"), flags, NONE)
        .map_err(Refusal::new(format!("mount a process table at {}", target.display())))
}

/// Mounts the ext3 file system of a block device, for writing.
pub fn ext3(device: &Path, target: &Path) -> Result<()> {
    mount(Some(device), target, Some("ext3"), MsFlags::MS_NOSUID | MsFlags::MS_NODEV, NONE)
        .map_err(Refusal::new(format!("mount an ext3 image at {}", target.display())))
}

/// Unites directories read-only through the kernel's overlayfs; the first one wins.
pub fn overlay(lower: &[&Path], target: &Path) -> Result<()> {
    let mut data = b"userxattr,lowerdir=".to_vec();
    listed(lower, &mut data);
    unite(&data, MsFlags::MS_RDONLY, target)
}

/// Unites directories below a writable one; `work` is an empty directory beside that. For root.
pub fn overlay_writable(lower: &[&Path], upper: &Path, work: &Path, target: &Path) -> Result<()> {
    let mut data = b"lowerdir=".to_vec();
    listed(lower, &mut data);
    for (option, path) in [(&b",upperdir="[..], upper), (b",workdir=", work)] {
        data.extend(option);
        listed(&[path], &mut data);
    }
    unite(&data, MsFlags::empty(), target)
}

/// Paths as overlayfs wants them listed.
fn listed(paths: &[&Path], data: &mut Vec<u8>) {
    for (index, path) in paths.iter().enumerate() {
        if index > 0 {
            data.push(b':');
        }
        for &byte in path.as_os_str().as_bytes() {
            if matches!(byte, b':' | b',' | b'\\') {
                data.push(b'\\');
            }
            data.push(byte);
        }
    }
}

fn unite(data: &[u8], flags: MsFlags, target: &Path) -> Result<()> {
    let flags = flags | MsFlags::MS_NOSUID | MsFlags::MS_NODEV;
    mount(Some("ovl"), target, Some("overlay"), flags, Some(OsStr::from_bytes(data)))
        .map_err(Refusal::new(format!("unite directories at {} through overlayfs", target.display())))
}

/// Detaches what is mounted at `target`.
pub fn detach(target: &Path) -> Result<()> {
    umount2(target, MntFlags::MNT_DETACH).map_err(Refusal::new(format!("detach {}", target.display())))
}

/// Makes the mount at `new_root` the root of this process. The old root stays mounted (hidden, on top of the new
/// one) until [`leave_old_root`]; places opened in it stay usable. Answers whether there is an old root to leave.
pub fn enter_root(new_root: &Path) -> Result<bool> {
    go_to(new_root)?;
    match nix::unistd::pivot_root(".", ".") {
        Ok(()) => Ok(true),
        // The root of a diskless node may be the initial RAM file system, which cannot be pivoted away.
        Err(nix::errno::Errno::EINVAL) => {
            mount(Some("."), "/", NONE, MsFlags::MS_MOVE, NONE).map_err(Refusal::new("move the new root"))?;
            nix::unistd::chroot(".").map_err(Refusal::new("change the root"))?;
            Ok(false)
        }
        Err(errno) => Err(Refusal::new("change the root")(errno)),
    }
}

/// Unmounts the old root, given as a [`place`] opened before [`enter_root`], and goes to `/`.
pub fn leave_old_root(old: &File) -> Result<()> {
    go(old)?;
    umount2(".", MntFlags::MNT_DETACH).map_err(Refusal::new("leave the old root"))?;
    go_to(Path::new("/"))
}

/// Moves the mount that is the working directory below the root, where it hides nothing and nothing is seen of it. The
/// working directory stays. Where the kernel refuses (the root is the initial RAM file system), it stays where it is.
pub fn slip_under_root() -> Result<()> {
    let (root, here) = (place(Path::new("/"))?, place(Path::new("."))?);
    match nix::unistd::pivot_root(".", ".") {
        Ok(()) => {}
        Err(nix::errno::Errno::EINVAL) => return Ok(()),
        Err(errno) => return Err(Refusal::new("move a mount below the root")(errno)),
    }
    // The old root lies on top now, and is the root again.
    go(&root)?;
    nix::unistd::chroot(".").map_err(Refusal::new("go back to the root"))?;
    go(&here)
}

/// Makes one mount read-only or writable again.
pub fn set_read_only(target: &Path, read_only: bool) -> Result<()> {
    let mut flags = MsFlags::MS_REMOUNT | MsFlags::MS_BIND | MsFlags::MS_NOSUID | MsFlags::MS_NODEV;
    flags.set(MsFlags::MS_RDONLY, read_only);
    mount(NONE, target, NONE, flags, NONE).map_err(Refusal::new(format!("remount {}", target.display())))
}

/// Makes the mounts at the targets, and all mounts below them, read-only. `proc` is the [`place`] of a `/proc`.
pub fn read_only_trees(targets: &[PathBuf], proc: &File) -> Result<()> {
    for target in targets {
        match read_only_tree(target) {
            Ok(()) => {}
            Err(error) if matches!(error.raw_os_error(), Some(libc::ENOSYS | libc::EPERM)) => {
                return read_only_one_by_one(targets, proc);
            }
            Err(error) => return Err(Refusal::new(format!("make {} read-only", target.display()))(error)),
        }
    }
    Ok(())
}

/// mount_setattr(2), Linux 5.12: the whole tree in one call, all or nothing.
pub fn read_only_tree(target: &Path) -> io::Result<()> {
    #[repr(C)]
    struct Attr {
        set: u64,
        clear: u64,
        propagation: u64,
        userns_fd: u64,
    }
    const RDONLY: u64 = 1;
    let attr = Attr { set: RDONLY, clear: 0, propagation: 0, userns_fd: 0 };
    let path = CString::new(target.as_os_str().as_bytes())?;
    // SAFETY: the path is NUL-terminated, the structure is mount_attr of its first version (32 bytes), and both live
    // until the call returns; the kernel writes to neither.
    let result = unsafe {
        libc::syscall(
            libc::SYS_mount_setattr,
            libc::AT_FDCWD,
            path.as_ptr(),
            libc::AT_RECURSIVE,
            &raw const attr,
            size_of::<Attr>(),
        )
    };
    if result < 0 { Err(io::Error::last_os_error()) } else { Ok(()) }
}

/// For kernels before 5.12: every mount by itself, keeping the flags that the user namespace has locked.
fn read_only_one_by_one(targets: &[PathBuf], proc: &File) -> Result<()> {
    go(proc)?;
    let text = fs::read("self/mountinfo").map_err(Refusal::new("read the list of mounts"))?;
    let targets: Vec<PathBuf> =
        targets.iter().map(|target| fs::canonicalize(target).unwrap_or_else(|_| target.clone())).collect();
    for (path, flags) in visible(&parse_mountinfo(&text)) {
        if !targets.iter().any(|target| path.starts_with(target)) {
            continue;
        }
        mount(NONE, path, NONE, flags | MsFlags::MS_REMOUNT | MsFlags::MS_BIND | MsFlags::MS_RDONLY, NONE)
            .map_err(Refusal::new(format!("make {} read-only", path.display())))?;
    }
    Ok(())
}

/// One line of /proc/self/mountinfo (proc_pid_mountinfo(5)).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MountLine {
    /// Its number.
    pub id: u32,
    /// The number of the mount it is mounted on.
    pub parent: u32,
    /// Where.
    pub path: PathBuf,
    /// Those of its flags that a remount must repeat.
    pub flags: MsFlags,
}

/// Reads the lines of a mountinfo file; lines that make no sense are left out.
pub fn parse_mountinfo(text: &[u8]) -> Vec<MountLine> {
    let mut lines = Vec::new();
    for line in text.split(|&byte| byte == b'\n') {
        let mut fields = line.split(|&byte| byte == b' ');
        let mut number = || std::str::from_utf8(fields.next()?).ok()?.parse::<u32>().ok();
        let (Some(id), Some(parent)) = (number(), number()) else { continue };
        let (Some(path), Some(options)) = (fields.nth(2), fields.next()) else { continue };
        let mut flags = MsFlags::empty();
        for option in options.split(|&byte| byte == b',') {
            flags |= match option {
                b"ro" => MsFlags::MS_RDONLY,
                b"nosuid" => MsFlags::MS_NOSUID,
                b"nodev" => MsFlags::MS_NODEV,
                b"noexec" => MsFlags::MS_NOEXEC,
                b"noatime" => MsFlags::MS_NOATIME,
                b"nodiratime" => MsFlags::MS_NODIRATIME,
                b"relatime" => MsFlags::MS_RELATIME,
                _ => MsFlags::empty(),
            };
        }
        lines.push(MountLine { id, parent, path: unescape(path), flags });
    }
    lines
}

/// Blanks, tabs, newlines and backslashes are written as three octal digits.
fn unescape(text: &[u8]) -> PathBuf {
    let mut out = Vec::with_capacity(text.len());
    let mut rest = text;
    while let Some((&first, after)) = rest.split_first() {
        if first == b'\\'
            && let Some(code) = after.get(..3).and_then(|code| std::str::from_utf8(code).ok())
            && let Ok(byte) = u8::from_str_radix(code, 8)
        {
            out.push(byte);
            rest = &after[3..];
        } else {
            out.push(first);
            rest = after;
        }
    }
    PathBuf::from(OsStr::from_bytes(&out))
}

/// The mounts that belong to the present root: not those of an old root that still lies on top of it.
fn visible(lines: &[MountLine]) -> Vec<(&Path, MsFlags)> {
    let root = Path::new("/");
    let mut old: Vec<u32> = lines
        .iter()
        .filter(|line| line.path == root && lines.iter().any(|below| below.id == line.parent && below.path == root))
        .map(|line| line.id)
        .collect();
    // Children may stand before their parents: repeat until nothing is added.
    loop {
        let more: Vec<u32> = lines
            .iter()
            .filter(|line| old.contains(&line.parent) && !old.contains(&line.id))
            .map(|line| line.id)
            .collect();
        if more.is_empty() {
            break;
        }
        old.extend(more);
    }
    lines.iter().filter(|line| !old.contains(&line.id)).map(|line| (line.path.as_path(), line.flags)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    const TEXT: &[u8] = b"40 39 0:30 / / rw,nosuid - tmpfs tmpfs rw\n\
        41 40 254:0 / / rw,relatime shared:1 - ext4 /dev/vda rw\n\
        42 41 0:21 / /proc rw,nosuid,nodev,noexec,relatime - proc proc rw\n\
        43 40 254:0 /usr /usr ro,noatime master:3 - ext4 /dev/vda rw\n\
        44 43 0:5 / /usr/a\\040b rw - tmpfs x rw\nrubbish\n\n";

    #[test]
    fn mountinfo_lines_are_read() {
        let lines = parse_mountinfo(TEXT);
        assert_eq!(lines.len(), 5);
        assert_eq!(lines[3].flags, MsFlags::MS_RDONLY | MsFlags::MS_NOATIME);
        assert_eq!(lines[4].path, Path::new("/usr/a b"));
        assert_eq!((lines[4].id, lines[4].parent), (44, 43));
    }

    #[test]
    fn mounts_of_the_old_root_are_not_touched() {
        let lines = parse_mountinfo(TEXT);
        let paths: Vec<&Path> = visible(&lines).into_iter().map(|(path, _)| path).collect();
        assert_eq!(paths, ["/", "/usr", "/usr/a b"].map(Path::new));
    }

    #[test]
    fn odd_escapes_are_left_alone() {
        assert_eq!(unescape(br"/a\04"), Path::new(r"/a\04"));
        assert_eq!(unescape(br"/a\999\134"), Path::new(r"/a\999\"));
    }
}
