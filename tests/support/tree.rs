//! A snapshot of a tree as sorted lines, one per entry, so that two trees can be compared and a difference read.

use std::ffi::{CString, OsString};
use std::fs::{self, File};
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::os::unix::fs::{FileExt, FileTypeExt, MetadataExt};
use std::path::Path;

use nix::libc;

/// Files longer than this are compared in samples.
const WHOLE: u64 = 64 << 20;
const SAMPLE: u64 = 256 << 10;

/// What of an entry a line shows besides path, kind, mode, size, time, link count and content.
#[derive(Debug, Clone, Copy)]
pub struct Look {
    /// Owner and group.
    pub owners: bool,
    /// Extended attributes that SquashFS keeps.
    pub xattrs: bool,
}

/// Everything below `root`, and `root` itself as `.`; names are escaped.
pub fn snapshot(root: &Path, look: Look) -> Vec<String> {
    let mut lines = Vec::new();
    walk(root, ".", look, &mut lines);
    lines.sort();
    lines
}

fn walk(path: &Path, shown: &str, look: Look, lines: &mut Vec<String>) {
    lines.push(line(path, shown, look));
    if !fs::symlink_metadata(path).unwrap().is_dir() {
        return;
    }
    for entry in fs::read_dir(path).unwrap() {
        let name = entry.unwrap().file_name();
        walk(&path.join(&name), &format!("{shown}/{}", name.as_bytes().escape_ascii()), look, lines);
    }
}

fn line(path: &Path, shown: &str, look: Look) -> String {
    let meta = fs::symlink_metadata(path).unwrap();
    let kind = meta.file_type();
    let mut line = format!("{shown} {:o} mtime={}", meta.mode() & 0o7777, meta.mtime());
    if look.owners {
        line += &format!(" owner={}:{}", meta.uid(), meta.gid());
    }
    if !kind.is_dir() {
        line += &format!(" links={}", meta.nlink());
    }
    line += &if kind.is_dir() {
        " dir".to_owned()
    } else if kind.is_file() {
        format!(" file size={} content={:016x}", meta.size(), content(path, meta.size()))
    } else if kind.is_symlink() {
        format!(" link to={}", fs::read_link(path).unwrap().as_os_str().as_bytes().escape_ascii())
    } else if kind.is_char_device() || kind.is_block_device() {
        let kind = if kind.is_char_device() { "char" } else { "block" };
        format!(" {kind} {}:{}", libc::major(meta.rdev()), libc::minor(meta.rdev()))
    } else {
        format!(" {}", if kind.is_fifo() { "fifo" } else { "socket" })
    };
    if look.xattrs {
        for (name, value) in xattrs(path) {
            line += &format!(" {}={}:{:016x}", name.escape_ascii(), value.len(), mix(0, &value));
        }
    }
    line
}

/// A hash for telling contents apart, not for security.
fn mix(mut hash: u64, bytes: &[u8]) -> u64 {
    for chunk in bytes.chunks(8) {
        let mut word = [0; 8];
        word[..chunk.len()].copy_from_slice(chunk);
        hash = (hash ^ u64::from_le_bytes(word)).wrapping_mul(0x9e37_79b9_7f4a_7c15).rotate_left(29);
    }
    hash ^ bytes.len() as u64
}

fn content(path: &Path, size: u64) -> u64 {
    if size <= WHOLE {
        return mix(1, &fs::read(path).unwrap());
    }
    let file = File::open(path).unwrap();
    let mut buffer = vec![0; SAMPLE as usize];
    let (mut hash, mut at) = (2, 0);
    while at < size {
        // The last sample ends where the file does.
        let from = at.min(size - SAMPLE);
        file.read_exact_at(&mut buffer, from).unwrap();
        hash = mix(hash, &buffer);
        at = if at == size - SAMPLE { size } else { (at + (512 << 20)).min(size - SAMPLE) };
    }
    hash
}

fn c(bytes: &[u8]) -> CString {
    CString::new(bytes).unwrap()
}

/// The `user.`, `trusted.` and `security.` attributes of the entry itself, sorted.
#[allow(unsafe_code)]
pub fn xattrs(path: &Path) -> Vec<(Vec<u8>, Vec<u8>)> {
    let path = c(path.as_os_str().as_bytes());
    let mut buffer = vec![0u8; 1 << 17];
    // SAFETY: the path ends in NUL and the buffer is valid for the length given with it.
    let length = unsafe { libc::llistxattr(path.as_ptr(), buffer.as_mut_ptr().cast(), buffer.len()) };
    let names = buffer[..usize::try_from(length).unwrap_or(0)].to_vec();
    let mut found = Vec::new();
    for name in names.split(|byte| *byte == 0) {
        if [&b"user."[..], b"trusted.", b"security."].iter().any(|prefix| name.starts_with(prefix)) {
            let c_name = c(name);
            // SAFETY: as above, and the name ends in NUL.
            let length =
                unsafe { libc::lgetxattr(path.as_ptr(), c_name.as_ptr(), buffer.as_mut_ptr().cast(), buffer.len()) };
            // What cannot be read shows as such, and is a difference.
            let value = usize::try_from(length).map_or(b"unreadable".to_vec(), |length| buffer[..length].to_vec());
            found.push((name.to_vec(), value));
        }
    }
    found.sort();
    found
}

/// Sets an attribute of the entry itself; says whether the file system and the user's rights allowed it.
#[allow(unsafe_code)]
pub fn set_xattr(path: &Path, name: &str, value: &[u8]) -> bool {
    let (path, name) = (c(path.as_os_str().as_bytes()), c(name.as_bytes()));
    // SAFETY: path and name end in NUL and the value is valid for the length given with it.
    unsafe { libc::lsetxattr(path.as_ptr(), name.as_ptr(), value.as_ptr().cast(), value.len(), 0) == 0 }
}

/// A name of any bytes.
pub fn os(bytes: &[u8]) -> OsString {
    OsString::from_vec(bytes.to_vec())
}

/// Fails with the lines that only one side has (the first twenty).
pub fn assert_same(expected: &[String], got: &[String], what: &str) {
    let only = |these: &[String], those: &[String], mark: &str| -> Vec<String> {
        let those: std::collections::BTreeSet<_> = those.iter().collect();
        let lines = these.iter().filter(|line| !those.contains(line));
        lines.map(|line| format!("{mark} {}", line.chars().take(400).collect::<String>())).take(10).collect()
    };
    let mut different = only(expected, got, "-");
    different.extend(only(got, expected, "+"));
    assert!(different.is_empty() && expected.len() == got.len(), "{what}:\n{}", different.join("\n"));
}
