//! Giving what is in an image to somebody: the user, or root for commands that see themselves as it. debugfs writes the
//! owners into the inodes; nobody has to be root for that.

use std::collections::HashSet;
use std::os::fd::AsRawFd;
use std::path::Path;

use super::{Hold, failed, nobody_elses, run};
use crate::image::ext::{ExtImage, ExtInode};
use crate::runtime::error::{Result, RuntimeError};
use crate::sys::fs::PathError;
use crate::sys::pass;

/// What changes its owner.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Whole {
    /// Everything.
    Everything,
    /// `/upper` and `/work` alone.
    Tops,
}

/// Gives it to `uid` and `gid`; how many files and directories changed their owner. With `dry` nothing is changed.
///
/// # Errors
/// When the image is damaged.
pub fn chown(path: &Path, held: &Hold, whole: Whole, (uid, gid): (u32, u32), dry: bool) -> Result<usize> {
    nobody_elses(path, held)?;
    let broken = |source| RuntimeError::Image { path: path.to_owned(), source };
    let copy = held.file.try_clone().map_err(PathError::new("open", path))?;
    let image = ExtImage::open(copy, 0).map_err(broken)?;
    let root = image.inode(2).map_err(broken)?;
    let is_other = |inode: &ExtInode| (inode.uid, inode.gid) != (uid, gid);
    let mut others = Vec::new();
    if is_other(&root) {
        others.push(root.number);
    }
    let mut waiting = Vec::new();
    for (name, number) in image.names(&root).map_err(broken)? {
        let ours = match whole {
            Whole::Everything => name != b"lost+found",
            Whole::Tops => name == b"upper" || name == b"work",
        };
        if ours {
            waiting.push(number);
        }
    }
    let mut seen = HashSet::new();
    while let Some(number) = waiting.pop() {
        // Hard links, and damage.
        if !seen.insert(number) {
            continue;
        }
        let inode = image.inode(number).map_err(broken)?;
        if is_other(&inode) {
            others.push(number);
        }
        if whole == Whole::Everything && inode.mode & 0o170_000 == 0o040_000 {
            waiting.extend(image.names(&inode).map_err(broken)?.into_iter().map(|(_, number)| number));
        }
    }
    drop(image);
    if dry || others.is_empty() {
        return Ok(others.len());
    }
    set(path, held, &others, (uid, gid))?;
    Ok(others.len())
}

/// Sets the owner of inodes.
fn set(path: &Path, held: &Hold, inodes: &[u32], (uid, gid): (u32, u32)) -> Result<()> {
    let mut lines = String::new();
    for number in inodes {
        lines.push_str(&format!("set_inode_field <{number}> uid {uid}\nset_inode_field <{number}> gid {gid}\n"));
    }
    script(path, held, &lines)
}

/// Makes `/upper` and `/work` and gives them to `uid` and `gid`.
pub fn make_tops(path: &Path, held: &Hold, (uid, gid): (u32, u32)) -> Result<()> {
    let mut lines = String::new();
    for name in ["/upper", "/work"] {
        lines.push_str(&format!("mkdir {name}\nset_inode_field {name} uid {uid}\nset_inode_field {name} gid {gid}\n"));
    }
    script(path, held, &lines)
}

/// Runs lines of debugfs.
fn script(path: &Path, held: &Hold, lines: &str) -> Result<()> {
    let file = pass::memory_file(lines.as_bytes()).map_err(PathError::new("write down the changes to", path))?;
    let name = format!("/proc/{}/fd/{}", std::process::id(), file.as_raw_fd());
    let (code, text) = run("debugfs", &["-w".as_ref(), "-f".as_ref(), name.as_ref()], path, held, &[])?;
    // debugfs has no exit code for what goes wrong in a script; it says so.
    let complaint = text.lines().find(|line| {
        let line = line.trim();
        !line.is_empty() && !line.starts_with("debugfs") && !line.starts_with("Allocated inode:")
    });
    match (code, complaint) {
        (0, None) => held.file.sync_all().map_err(|error| PathError::new("flush", path)(error).into()),
        (_, complaint) => Err(failed("debugfs", path, complaint.unwrap_or(&text))),
    }
}
