//! Inodes of an ext image: facts, and the 60 bytes that lead to their content.

use super::ExtImage;
use crate::image::bytes::{array, le16, le32};
use crate::image::error::{ImageError, Result};
use crate::image::source::{Kind, Meta};

/// Flags of an inode that matter for reading.
const ENCRYPTED: u32 = 0x800;
const EXTENTS: u32 = 0x80000;
const INLINE: u32 = 0x1000_0000;
/// First word of a body with xattrs, and of an xattr block.
pub(super) const XATTR_MAGIC: u32 = 0xea02_0000;
/// The root directory's number.
pub(super) const ROOT: u32 = 2;

/// An inode, as far as it is needed to read what it stands for.
#[derive(Debug, Clone)]
pub struct ExtInode {
    /// Its number.
    pub number: u32,
    /// Kind and permission bits, as `st_mode`.
    pub mode: u16,
    /// Owner.
    pub uid: u32,
    /// Group.
    pub gid: u32,
    /// Last change, seconds since 1970.
    pub mtime: i64,
    /// How many names it has.
    pub links: u16,
    /// Bytes of its content.
    pub size: u64,
    flags: u32,
    /// Block pointers, an extent tree's root, a short link's target, a device number or inline content.
    pub(super) block: [u8; 60],
    /// The block with more xattrs; 0: none.
    pub(super) xattr_block: u64,
    /// The xattrs within the inode, without their magic number; empty: none.
    pub(super) xattr_body: Box<[u8]>,
}

impl ExtInode {
    /// Whether the content is found through an extent tree (else through block pointers).
    pub(super) fn has_extents(&self) -> bool {
        self.flags & EXTENTS != 0
    }

    /// Whether the content is in the inode itself.
    pub(super) fn is_inline(&self) -> bool {
        self.flags & INLINE != 0
    }

    pub(super) fn is_dir(&self) -> bool {
        self.mode & 0o170_000 == 0o040_000
    }

    pub(super) fn is_file(&self) -> bool {
        self.mode & 0o170_000 == 0o100_000
    }

    /// Facts in the words of all sources.
    pub(super) fn meta(&self) -> Meta {
        Meta {
            mode: self.mode & 0o7777,
            uid: self.uid,
            gid: self.gid,
            mtime: self.mtime,
            size: if self.is_file() { self.size } else { 0 },
            links: u32::from(self.links),
            inode: (0, u64::from(self.number)),
        }
    }

    fn device(&self) -> Result<(u32, u32)> {
        // The old encoding has eight bits for each; where it is empty the new one follows.
        Ok(match (le32(&self.block, 0)?, le32(&self.block, 4)?) {
            (0, new) => ((new >> 8) & 0xfff, (new & 0xff) | ((new >> 12) & 0xfff00)),
            (old, _) => ((old >> 8) & 0xff, old & 0xff),
        })
    }
}

impl ExtImage {
    /// Inode `number`.
    ///
    /// # Errors
    /// When there is no such inode, it is not in use, or it is encrypted.
    pub fn inode(&self, number: u32) -> Result<ExtInode> {
        let superblock = &self.superblock;
        if number == 0 || number > superblock.inodes {
            return Err(ImageError::corrupt(format!("inode {number} of {}", superblock.inodes)));
        }
        let (group, index) = ((number - 1) / superblock.inodes_per_group, (number - 1) % superblock.inodes_per_group);
        let (block, place) = superblock.descriptor(group);
        let descriptors = self.meta_block(block)?;
        let low = u64::from(le32(&descriptors, place + 8)?);
        let high = if superblock.descriptor_size >= 64 { u64::from(le32(&descriptors, place + 0x28)?) } else { 0 };
        let at = u64::from(index) * u64::from(superblock.inode_size);
        let size = u64::from(superblock.block_size);
        let table = self.meta_block((low | high << 32).saturating_add(at / size))?;
        let place = (at % size) as usize;
        let raw = table.get(place..place + usize::from(superblock.inode_size)).unwrap_or_default();
        parse(number, raw)
    }

    /// The device of a device node as the kernel encodes it in 32 bits; 0 for everything else.
    ///
    /// # Errors
    /// When the inode is damaged.
    pub fn device(&self, inode: &ExtInode) -> Result<u32> {
        if !matches!(inode.mode & 0o170_000, 0o020_000 | 0o060_000) {
            return Ok(0);
        }
        let (major, minor) = inode.device()?;
        Ok((minor & 0xff) | (major << 8) | ((minor & !0xff) << 12))
    }

    /// Bytes and inodes that it has room for.
    pub fn size(&self) -> (u64, u64) {
        let superblock = &self.superblock;
        (superblock.blocks.saturating_mul(u64::from(superblock.block_size)), u64::from(superblock.inodes))
    }

    /// What an inode stands for, in the words of all sources.
    pub(super) fn kind(&self, inode: &ExtInode) -> Result<Kind> {
        Ok(match inode.mode & 0o170_000 {
            0o040_000 => Kind::Dir,
            0o100_000 => Kind::File,
            0o120_000 => Kind::Symlink(self.target(inode)?),
            0o020_000 => inode.device().map(|(major, minor)| Kind::CharDev(major, minor))?,
            0o060_000 => inode.device().map(|(major, minor)| Kind::BlockDev(major, minor))?,
            0o010_000 => Kind::Fifo,
            0o140_000 => Kind::Socket,
            other => return Err(ImageError::corrupt(format!("inode {} of kind {other:o}", inode.number))),
        })
    }

    /// Where a symbolic link points.
    ///
    /// # Errors
    /// When the inode is no sound symbolic link.
    pub fn target(&self, inode: &ExtInode) -> Result<Vec<u8>> {
        let length = inode.size as usize;
        if inode.size == 0 || inode.size > 4095 {
            return Err(ImageError::corrupt(format!("symbolic link {} of {} bytes", inode.number, inode.size)));
        }
        let mut target = vec![0; length];
        match inode.block.get(..length) {
            // Targets that fit where the block pointers would be are stored there.
            Some(short) if length < 60 && !inode.has_extents() => target.copy_from_slice(short),
            _ => self.read(inode, 0, &mut target)?,
        }
        if target.contains(&0) {
            return Err(ImageError::corrupt(format!("symbolic link {} with a NUL in it", inode.number)));
        }
        Ok(target)
    }
}

fn parse(number: u32, raw: &[u8]) -> Result<ExtInode> {
    let flags = le32(raw, 0x20)?;
    if flags & ENCRYPTED != 0 {
        return Err(ImageError::Unsupported(format!("inode {number} of the ext image is encrypted")));
    }
    let (mode, links) = (le16(raw, 0)?, le16(raw, 0x1a)?);
    let kind = mode & 0o170_000;
    let high_size = if matches!(kind, 0o100_000 | 0o040_000) { u64::from(le32(raw, 0x6c)?) } else { 0 };
    let size = u64::from(le32(raw, 4)?) | high_size << 32;
    if links == 0 || size > i64::MAX as u64 {
        return Err(ImageError::corrupt(format!("inode {number} has {links} names and {size} bytes")));
    }
    let extra = if raw.len() > 128 { usize::from(le16(raw, 0x80)?) } else { 0 };
    // Seconds are signed 32 bits; two more bits count how often they went round.
    let seconds = i64::from(le32(raw, 0x10)? as i32);
    let epoch = if extra >= 12 { i64::from(le32(raw, 0x88)? & 3) } else { 0 };
    let body = raw.get(128 + extra..).filter(|_| extra > 0).unwrap_or_default();
    let has_xattrs = body.len() > 4 && le32(body, 0)? == XATTR_MAGIC;
    Ok(ExtInode {
        number,
        mode,
        uid: u32::from(le16(raw, 2)?) | u32::from(le16(raw, 0x78)?) << 16,
        gid: u32::from(le16(raw, 0x18)?) | u32::from(le16(raw, 0x7a)?) << 16,
        mtime: seconds + (epoch << 32),
        links,
        size,
        flags,
        block: array(raw, 0x28)?,
        xattr_block: u64::from(le32(raw, 0x68)?) | u64::from(le16(raw, 0x76)?) << 32,
        xattr_body: if has_xattrs { body.get(4..).unwrap_or_default().into() } else { Box::default() },
    })
}
