//! Inodes as bytes: the basic form where it suffices, else the extended one.
//! Format: `squashfs_*_inode` and `squashfs_l*_inode` of the kernel's fs/squashfs/squashfs_fs.h.

use super::super::super::error::{ImageError, Result};
use super::super::format::{NONE32, inode};

/// What every inode begins with.
#[derive(Debug, Clone, Copy)]
pub(super) struct Common {
    pub mode: u16,
    pub uid: u16,
    pub gid: u16,
    pub mtime: u32,
    pub number: u32,
    /// Number of the xattr set, or [`NONE32`].
    pub xattr: u32,
    pub links: u32,
}

/// What an inode is of.
#[derive(Debug)]
pub(super) enum Body<'a> {
    File {
        size: u64,
        start: u64,
        /// Bytes that holes save.
        sparse: u64,
        fragment: Option<(u32, u32)>,
        blocks: &'a [u32],
    },
    Symlink(&'a [u8]),
    /// Basic type and device number.
    Device(u16, u32),
    /// Basic type of a fifo or socket.
    Ipc(u16),
    Dir {
        /// The listing's place in the directory table, and its length in bytes.
        block: u32,
        offset: u16,
        length: u32,
        parent: u32,
        index: &'a [Index],
    },
}

/// A directory's index: a header of its listing from which a lookup may start.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Index {
    /// Where in the listing the header lies.
    pub at: u32,
    /// Start of the metadata block with the header, from the directory table's begin.
    pub block: u32,
    /// First name after the header.
    pub name: Vec<u8>,
}

/// The device number as the kernel's `new_encode_dev` has it.
pub(super) fn device(major: u32, minor: u32) -> Result<u32> {
    if major >= 1 << 12 || minor >= 1 << 20 {
        return Err(ImageError::Unsupported(format!("device number {major}:{minor} is too large for SquashFS")));
    }
    Ok((minor & 0xff) | (major << 8) | ((minor & !0xff) << 12))
}

struct Bytes<'a>(&'a mut Vec<u8>);

impl Bytes<'_> {
    fn u16(&mut self, value: u16) -> &mut Self {
        self.0.extend_from_slice(&value.to_le_bytes());
        self
    }
    fn u32(&mut self, value: u32) -> &mut Self {
        self.0.extend_from_slice(&value.to_le_bytes());
        self
    }
    fn u64(&mut self, value: u64) -> &mut Self {
        self.0.extend_from_slice(&value.to_le_bytes());
        self
    }
}

/// Replaces `out` by the inode's bytes and returns its basic type, which directory entries carry.
pub(super) fn encode(common: &Common, body: &Body, out: &mut Vec<u8>) -> u16 {
    out.clear();
    let attributed = common.xattr != NONE32;
    let (basic, extended) = match body {
        Body::File { size, start, sparse, .. } => {
            let large = *size > u64::from(u32::MAX) || *start > u64::from(u32::MAX);
            (inode::FILE, attributed || large || *sparse > 0 || common.links > 1)
        }
        Body::Symlink(_) => (inode::SYMLINK, attributed),
        Body::Device(kind, _) | Body::Ipc(kind) => (*kind, attributed),
        // The basic form counts the listing, and 3 for "." and "..", in 16 bits.
        Body::Dir { length, index, .. } => {
            (inode::DIR, attributed || !index.is_empty() || *length > u32::from(u16::MAX) - 3)
        }
    };
    let mut w = Bytes(out);
    w.u16(if extended { basic + inode::EXTENDED } else { basic }).u16(common.mode).u16(common.uid).u16(common.gid);
    w.u32(common.mtime).u32(common.number);
    match body {
        Body::File { size, start, sparse, fragment, blocks } => {
            let (fragment, offset) = fragment.unwrap_or((NONE32, 0));
            if extended {
                w.u64(*start).u64(*size).u64(*sparse).u32(common.links).u32(fragment).u32(offset).u32(common.xattr);
            } else {
                w.u32(*start as u32).u32(fragment).u32(offset).u32(*size as u32);
            }
            blocks.iter().for_each(|size| w.0.extend_from_slice(&size.to_le_bytes()));
        }
        Body::Symlink(target) => {
            w.u32(common.links).u32(target.len() as u32);
            w.0.extend_from_slice(target);
        }
        Body::Device(_, number) => {
            w.u32(common.links).u32(*number);
        }
        Body::Ipc(_) => {
            w.u32(common.links);
        }
        Body::Dir { block, offset, length, parent, index } => {
            let length = length.saturating_add(3);
            if extended {
                w.u32(common.links).u32(length).u32(*block).u32(*parent).u16(index.len() as u16).u16(*offset);
                w.u32(common.xattr);
                for entry in index.iter() {
                    w.u32(entry.at).u32(entry.block).u32((entry.name.len() as u32).saturating_sub(1));
                    w.0.extend_from_slice(&entry.name);
                }
            } else {
                w.u32(*block).u32(common.links).u16(length as u16).u16(*offset).u32(*parent);
            }
        }
    }
    if extended && matches!(body, Body::Symlink(_) | Body::Device(..) | Body::Ipc(_)) {
        w.u32(common.xattr);
    }
    basic
}

#[cfg(test)]
mod tests {
    use super::*;

    const COMMON: Common = Common { mode: 0o644, uid: 0, gid: 0, mtime: 5, number: 9, xattr: NONE32, links: 1 };

    fn file(common: Common, size: u64, start: u64, sparse: u64) -> (usize, u8) {
        let mut out = Vec::new();
        let body = Body::File { size, start, sparse, fragment: None, blocks: &[1, 2] };
        assert_eq!(encode(&common, &body, &mut out), inode::FILE);
        (out.len(), out[0])
    }

    #[test]
    fn files_are_extended_only_when_they_must_be() {
        assert_eq!(file(COMMON, 9000, 96, 0), (32 + 8, 2));
        assert_eq!(file(COMMON, 1 << 32, 96, 0), (56 + 8, 9));
        assert_eq!(file(COMMON, 9000, 1 << 32, 0), (56 + 8, 9));
        assert_eq!(file(COMMON, 9000, 96, 4096), (56 + 8, 9));
        assert_eq!(file(Common { links: 2, ..COMMON }, 9000, 96, 0), (56 + 8, 9));
        assert_eq!(file(Common { xattr: 0, ..COMMON }, 9000, 96, 0), (56 + 8, 9));
    }

    #[test]
    fn long_listings_need_the_extended_form() {
        let kind = |length| {
            let mut out = Vec::new();
            encode(&COMMON, &Body::Dir { block: 0, offset: 0, length, parent: 1, index: &[] }, &mut out);
            (out[0], out.len())
        };
        assert_eq!(kind(0), (1, 32));
        assert_eq!(kind(65532), (1, 32));
        assert_eq!(kind(65533), (8, 40));
    }

    #[test]
    fn devices_are_encoded_as_the_kernel_does() {
        assert_eq!(device(8, 1).unwrap(), 0x801);
        assert_eq!(device(259, 0x12345).unwrap(), 0x1231_0345);
        assert!(device(4096, 0).is_err());
        assert!(device(0, 1 << 20).is_err());
    }
}
