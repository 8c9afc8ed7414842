//! One layer of a merged tree, whatever it is made of.

use std::ops::Range;

use crate::image::error::Result;

/// Something with files in it. Inodes are named by numbers below 2^52 that never change.
pub trait Layer: Send + Sync {
    /// The top directory.
    fn root(&self) -> u64;
    /// Facts of an inode.
    fn attr(&self, inode: u64) -> Result<Attr>;
    /// A number for programs that tell files apart by it: below or equal to the number of inodes that
    /// [`Layer::size`] says, and the same for all names of a file.
    fn number(&self, inode: u64) -> Result<u64> {
        Ok(inode)
    }
    /// Finds a name in a directory.
    fn lookup(&self, dir: u64, name: &[u8]) -> Result<Option<Found>>;
    /// All names of a directory, in any order.
    fn list(&self, dir: u64) -> Result<Vec<(Vec<u8>, Found)>>;
    /// Where a symbolic link points.
    fn readlink(&self, link: u64) -> Result<Vec<u8>>;
    /// Fills `buf` from `offset` on; fewer bytes only at the end of the file.
    fn read(&self, file: u64, offset: u64, buf: &mut [u8]) -> Result<usize>;
    /// The bytes of a file that come out of the layer together with the one at `offset`; None when each can be had by
    /// itself.
    fn together(&self, file: u64, offset: u64) -> Result<Option<Range<u64>>> {
        let _ = (file, offset);
        Ok(None)
    }
    /// The inode that is likely to be read after this one.
    fn following(&self, inode: u64) -> Result<Option<(u64, Attr)>> {
        let _ = inode;
        Ok(None)
    }
    /// Extended attributes as (full name, value).
    fn xattrs(&self, inode: u64) -> Result<Vec<(Vec<u8>, Vec<u8>)>>;
    /// Whether there can be extended attributes at all.
    fn has_xattrs(&self) -> bool;
    /// Bytes and inodes, for `df`.
    fn size(&self) -> (u64, u64);
}

/// A name's inode.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Found {
    /// Its number.
    pub inode: u64,
    /// Its kind as the type bits of `st_mode`: `S_IFDIR` and so on.
    pub kind: u32,
}

/// Facts of an inode.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Attr {
    /// Kind and permissions as in `st_mode`.
    pub mode: u32,
    /// Bytes.
    pub size: u64,
    /// Last change, seconds since 1970.
    pub mtime: i64,
    /// Names.
    pub nlink: u32,
    /// The device of a device node as the kernel encodes it in 32 bits.
    pub rdev: u32,
}

/// Type bits of `st_mode`.
pub const KIND: u32 = 0o170_000;
/// A directory.
pub const DIR: u32 = 0o040_000;
/// A regular file.
pub const FILE: u32 = 0o100_000;
/// A symbolic link.
pub const SYMLINK: u32 = 0o120_000;
/// A character device.
pub const CHARDEV: u32 = 0o020_000;
