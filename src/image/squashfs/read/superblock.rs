//! The superblock: 96 bytes that say where everything is, checked before anything else is believed.

use crate::image::bytes::{le16, le32, le64};
use crate::image::error::{ImageError, Result};
use crate::image::squashfs::codec::Codec;
use crate::image::squashfs::format::{BLOCK_RANGE, MAGIC, NONE64, SUPERBLOCK};

/// The superblock's fields. Positions are bytes from the image's start; `None` where a table is absent.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Superblock {
    /// How many inodes there are.
    pub inodes: u32,
    /// When the image was made, seconds since 1970.
    pub mkfs_time: u32,
    /// Bytes of a full data block: a power of two.
    pub block_size: u32,
    /// Entries of the fragment table.
    pub fragments: u32,
    /// The compressor's number as stored; `codec` is what it means.
    pub compression: u16,
    /// How blocks are compressed.
    pub codec: Codec,
    /// See [`format::flag`](crate::image::squashfs::format::flag).
    pub flags: u16,
    /// Entries of the id table.
    pub ids: u16,
    /// Where the root directory's inode is.
    pub root: u64,
    /// Bytes of the whole image, without padding.
    pub bytes_used: u64,
    /// The table of user and group ids.
    pub id_table: u64,
    /// The xattr table.
    pub xattr_table: Option<u64>,
    /// The inode table.
    pub inode_table: u64,
    /// The directory table.
    pub directory_table: u64,
    /// The fragment table.
    pub fragment_table: Option<u64>,
    /// The export (inode number to position) table.
    pub export_table: Option<u64>,
}

impl Superblock {
    /// Reads and checks it. `available` is how many bytes the image can have at most.
    ///
    /// # Errors
    /// [`ImageError::Corrupt`] when this is no SquashFS or contradicts itself, [`ImageError::Unsupported`] for an
    /// older format or a compressor that is not known here.
    pub fn parse(bytes: &[u8; SUPERBLOCK], available: u64) -> Result<Superblock> {
        let magic = le32(bytes, 0)?;
        if magic.swap_bytes() == MAGIC {
            return Err(ImageError::Unsupported(
                "a big-endian squashfs of an old version, which ovl does not read".into(),
            ));
        }
        if magic != MAGIC {
            return Err(ImageError::corrupt("no squashfs here (its magic number is missing)"));
        }
        let (major, minor) = (le16(bytes, 28)?, le16(bytes, 30)?);
        if (major, minor) != (4, 0) {
            return Err(ImageError::Unsupported(format!("squashfs version {major}.{minor}; ovl reads 4.0")));
        }
        let optional = |at| le64(bytes, at).map(|place| (place != NONE64).then_some(place));
        let block = Superblock {
            inodes: le32(bytes, 4)?,
            mkfs_time: le32(bytes, 8)?,
            block_size: le32(bytes, 12)?,
            fragments: le32(bytes, 16)?,
            compression: le16(bytes, 20)?,
            codec: Codec::from_id(le16(bytes, 20)?)?,
            flags: le16(bytes, 24)?,
            ids: le16(bytes, 26)?,
            root: le64(bytes, 32)?,
            bytes_used: le64(bytes, 40)?,
            id_table: le64(bytes, 48)?,
            xattr_table: optional(56)?,
            inode_table: le64(bytes, 64)?,
            directory_table: le64(bytes, 72)?,
            fragment_table: optional(80)?,
            export_table: optional(88)?,
        };
        block.check(le16(bytes, 22)?, available)?;
        Ok(block)
    }

    fn check(&self, block_log: u16, available: u64) -> Result<()> {
        let fail = |text: String| Err(ImageError::corrupt(format!("superblock: {text}")));
        if !BLOCK_RANGE.contains(&self.block_size)
            || !self.block_size.is_power_of_two()
            || self.block_size.trailing_zeros() != u32::from(block_log)
        {
            return fail(format!("block size {} with logarithm {block_log}", self.block_size));
        }
        if self.bytes_used > available {
            return fail(format!(
                "the image has {} bytes, but only {available} are there (cut short?)",
                self.bytes_used
            ));
        }
        if self.ids == 0 || self.inodes == 0 {
            return fail(format!("{} inodes with {} owners", self.inodes, self.ids));
        }
        if self.inode_table < SUPERBLOCK as u64 || self.inode_table >= self.directory_table {
            return fail(format!("inode table at {}, directory table at {}", self.inode_table, self.directory_table));
        }
        let tables = [
            ("directory", Some(self.directory_table)),
            ("fragment", self.fragment_table),
            ("export", self.export_table),
            ("id", Some(self.id_table)),
            ("xattr", self.xattr_table),
        ];
        for (name, place) in tables {
            if place.is_some_and(|place| place < self.directory_table || place > self.bytes_used) {
                return fail(format!("{name} table at {place:?} in an image of {} bytes", self.bytes_used));
            }
        }
        if self.fragments > 0 && self.fragment_table.is_none() {
            return fail(format!("{} fragments without a table of them", self.fragments));
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sample() -> [u8; SUPERBLOCK] {
        let mut bytes = [0; SUPERBLOCK];
        let mut put = |at: usize, value: &[u8]| bytes[at..at + value.len()].copy_from_slice(value);
        put(0, b"hsqs");
        put(4, &1u32.to_le_bytes());
        put(12, &131_072u32.to_le_bytes());
        put(20, &6u16.to_le_bytes());
        put(22, &17u16.to_le_bytes());
        put(26, &1u16.to_le_bytes());
        put(28, &4u16.to_le_bytes());
        put(40, &1000u64.to_le_bytes());
        put(48, &900u64.to_le_bytes());
        put(56, &[0xff; 8]);
        put(64, &100u64.to_le_bytes());
        put(72, &200u64.to_le_bytes());
        put(80, &[0xff; 16]);
        bytes
    }

    #[test]
    fn a_plain_one_is_read() {
        let block = Superblock::parse(&sample(), 4096).unwrap();
        assert_eq!((block.block_size, block.codec, block.bytes_used), (131_072, Codec::Zstd, 1000));
        assert_eq!((block.xattr_table, block.fragment_table, block.export_table), (None, None, None));
    }

    #[test]
    fn contradictions_are_refused() {
        for (at, value) in [(0, 0x73), (12, 1), (14, 3), (20, 9), (20, 2), (22, 16), (28, 3), (42, 1), (49, 9), (65, 9)]
        {
            let mut bytes = sample();
            bytes[at] = value;
            assert!(Superblock::parse(&bytes, 4096).is_err(), "byte {at} = {value}");
        }
        assert!(Superblock::parse(&sample(), 999).is_err(), "cut short");
    }
}
