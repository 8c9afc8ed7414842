//! Inodes: what a file is, who owns it, and where its content begins.

use super::meta::Cursor;
use super::{Image, InodeRef};
use crate::image::bytes::{le16, le32, le64};
use crate::image::error::{ImageError, Result};
use crate::image::squashfs::format::{NONE32, inode};

/// Longest symbolic link target (the kernel's PATH_MAX, without its NUL).
const LONGEST_TARGET: u32 = 4095;

/// What an inode is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum InodeKind {
    /// A directory.
    Dir,
    /// A regular file.
    File,
    /// A symbolic link.
    Symlink,
    /// A block device.
    BlockDev,
    /// A character device.
    CharDev,
    /// A named pipe.
    Fifo,
    /// A socket.
    Socket,
}

impl InodeKind {
    /// From the format's numbers 1 to 7.
    pub(super) fn from_basic(number: u16) -> Result<InodeKind> {
        Ok(match number {
            inode::DIR => InodeKind::Dir,
            inode::FILE => InodeKind::File,
            inode::SYMLINK => InodeKind::Symlink,
            inode::BLKDEV => InodeKind::BlockDev,
            inode::CHRDEV => InodeKind::CharDev,
            inode::FIFO => InodeKind::Fifo,
            inode::SOCKET => InodeKind::Socket,
            other => return Err(ImageError::corrupt(format!("inode kind {other}"))),
        })
    }

    /// The kind bits of `st_mode` (`S_IFDIR` and so on).
    pub fn mode_bits(self) -> u32 {
        match self {
            InodeKind::Dir => 0o040_000,
            InodeKind::File => 0o100_000,
            InodeKind::Symlink => 0o120_000,
            InodeKind::BlockDev => 0o060_000,
            InodeKind::CharDev => 0o020_000,
            InodeKind::Fifo => 0o010_000,
            InodeKind::Socket => 0o140_000,
        }
    }
}

/// An inode.
#[derive(Debug, Clone)]
pub struct Inode {
    /// Where it is.
    pub at: InodeRef,
    /// Its number: 1 and up, unique in the image, the same for all names of a hard-linked file.
    pub number: u32,
    /// What it is.
    pub kind: InodeKind,
    /// Permission bits with setuid, setgid and sticky (0o7777).
    pub mode: u16,
    /// Owner.
    pub uid: u32,
    /// Group.
    pub gid: u32,
    /// Last change, seconds since 1970.
    pub mtime: i64,
    /// How many names it has.
    pub nlink: u32,
    /// Bytes of a file, of a link's target, of a directory's listing.
    pub size: u64,
    /// The device of a device node, as Linux encodes it in 32 bits (see [`Inode::device`]), else 0.
    pub rdev: u32,
    /// Its place in the xattr table.
    pub xattr: Option<u32>,
    pub(super) body: Body,
}

/// Where an inode's content is.
#[derive(Debug, Clone)]
pub(super) enum Body {
    Dir {
        /// Its listing: a metadata block from the directory table's start, and the byte in it.
        block: u32,
        offset: u16,
        /// Entries of the index that follows the inode, and where that is.
        index: u16,
        index_at: (u64, usize),
        parent: u32,
    },
    File {
        /// Where the first data block is.
        start: u64,
        /// Fragment number and the byte in that fragment.
        tail: Option<(u32, u32)>,
        /// Where the list of block sizes is, and how many there are.
        list_at: (u64, usize),
        blocks: u64,
    },
    Symlink {
        at: (u64, usize),
    },
    Other,
}

impl Inode {
    /// Major and minor number of a device node.
    pub fn device(&self) -> (u32, u32) {
        ((self.rdev >> 8) & 0xfff, (self.rdev & 0xff) | ((self.rdev >> 12) & 0xfff00))
    }

    /// `st_mode`: kind and permissions.
    pub fn st_mode(&self) -> u32 {
        self.kind.mode_bits() | u32::from(self.mode)
    }
}

impl Image {
    /// The inode at a place that a directory entry or the superblock named.
    ///
    /// # Errors
    /// [`ImageError::Corrupt`] when there is no inode there.
    pub fn inode(&self, at: InodeRef) -> Result<Inode> {
        self.parse_inode(&mut self.cursor_at(at)?, at)
    }

    /// The number of the inode at a place, without the rest of it.
    ///
    /// # Errors
    /// As [`Image::inode`].
    pub fn inode_number(&self, at: InodeRef) -> Result<u32> {
        let head: [u8; 16] = self.cursor_at(at)?.array()?;
        le32(&head, 12)
    }

    /// A cursor in the inode table.
    pub(super) fn cursor_at(&self, at: InodeRef) -> Result<Cursor<'_>> {
        let (block, offset) = (at >> 16, (at & 0xffff) as usize);
        let table = self.superblock.inode_table;
        if at >> 52 != 0 || block >= self.superblock.directory_table - table {
            return Err(ImageError::corrupt(format!("inode at {at:#x}, outside of the inode table")));
        }
        Ok(self.cursor(table + block, offset, self.superblock.directory_table))
    }

    /// Reads the inode at the cursor and leaves the cursor behind its fixed part.
    pub(super) fn parse_inode(&self, cursor: &mut Cursor<'_>, at: InodeRef) -> Result<Inode> {
        let head: [u8; 16] = cursor.array()?;
        let number = le16(&head, 0)?;
        let extended = number > inode::EXTENDED;
        let kind = InodeKind::from_basic(if extended { number - inode::EXTENDED } else { number })?;
        let mut made = Inode {
            at,
            number: le32(&head, 12)?,
            kind,
            mode: le16(&head, 2)? & 0o7777,
            uid: self.id(le16(&head, 4)?)?,
            gid: self.id(le16(&head, 6)?)?,
            mtime: i64::from(le32(&head, 8)?),
            nlink: 1,
            size: 0,
            rdev: 0,
            xattr: None,
            body: Body::Other,
        };
        match kind {
            InodeKind::Dir => dir_body(&mut made, cursor, extended)?,
            InodeKind::File => self.file_body(&mut made, cursor, extended)?,
            InodeKind::Symlink => {
                let raw: [u8; 8] = cursor.array()?;
                made.nlink = le32(&raw, 0)?;
                let length = le32(&raw, 4)?;
                if length > LONGEST_TARGET {
                    return Err(ImageError::corrupt(format!("symbolic link target of {length} bytes")));
                }
                made.size = u64::from(length);
                made.body = Body::Symlink { at: cursor.position() };
                if extended {
                    cursor.skip(length as usize)?;
                    made.xattr = xattr(u32::from_le_bytes(cursor.array()?));
                }
            }
            InodeKind::BlockDev | InodeKind::CharDev => {
                let raw: [u8; 8] = cursor.array()?;
                (made.nlink, made.rdev) = (le32(&raw, 0)?, le32(&raw, 4)?);
                if extended {
                    made.xattr = xattr(u32::from_le_bytes(cursor.array()?));
                }
            }
            InodeKind::Fifo | InodeKind::Socket => {
                made.nlink = u32::from_le_bytes(cursor.array()?);
                if extended {
                    made.xattr = xattr(u32::from_le_bytes(cursor.array()?));
                }
            }
        }
        Ok(made)
    }

    fn file_body(&self, made: &mut Inode, cursor: &mut Cursor<'_>, extended: bool) -> Result<()> {
        let (start, fragment, offset);
        if extended {
            let raw: [u8; 40] = cursor.array()?;
            (start, made.size, made.nlink) = (le64(&raw, 0)?, le64(&raw, 8)?, le32(&raw, 24)?);
            (fragment, offset, made.xattr) = (le32(&raw, 28)?, le32(&raw, 32)?, xattr(le32(&raw, 36)?));
        } else {
            let raw: [u8; 16] = cursor.array()?;
            (start, fragment) = (u64::from(le32(&raw, 0)?), le32(&raw, 4)?);
            (offset, made.size) = (le32(&raw, 8)?, u64::from(le32(&raw, 12)?));
        }
        // off_t is signed: nothing can be larger.
        if made.size > i64::MAX as u64 {
            return Err(ImageError::corrupt(format!("a file of {} bytes", made.size)));
        }
        let size = u64::from(self.superblock.block_size);
        let tail = (fragment != NONE32).then_some((fragment, offset));
        let blocks = if tail.is_some() { made.size / size } else { made.size.div_ceil(size) };
        made.body = Body::File { start, tail, list_at: cursor.position(), blocks };
        Ok(())
    }

    /// The target of a symbolic link.
    ///
    /// # Errors
    /// [`ImageError::Corrupt`], also when this is no link.
    pub fn readlink(&self, link: &Inode) -> Result<Vec<u8>> {
        let Body::Symlink { at: (block, offset) } = link.body else {
            return Err(ImageError::corrupt(format!("inode {} is no symbolic link", link.number)));
        };
        self.cursor(block, offset, self.superblock.directory_table).bytes(link.size as usize)
    }
}

fn dir_body(made: &mut Inode, cursor: &mut Cursor<'_>, extended: bool) -> Result<()> {
    let (block, offset, parent);
    let mut index = 0;
    if extended {
        let raw: [u8; 24] = cursor.array()?;
        (made.nlink, made.size, block, parent) =
            (le32(&raw, 0)?, u64::from(le32(&raw, 4)?), le32(&raw, 8)?, le32(&raw, 12)?);
        (index, offset, made.xattr) = (le16(&raw, 16)?, le16(&raw, 18)?, xattr(le32(&raw, 20)?));
    } else {
        let raw: [u8; 16] = cursor.array()?;
        (block, made.nlink, made.size) = (le32(&raw, 0)?, le32(&raw, 4)?, u64::from(le16(&raw, 8)?));
        (offset, parent) = (le16(&raw, 10)?, le32(&raw, 12)?);
    }
    made.body = Body::Dir { block, offset, index, index_at: cursor.position(), parent };
    Ok(())
}

fn xattr(number: u32) -> Option<u32> {
    (number != NONE32).then_some(number)
}
