//! What the superblock of an ext image says about it: room, features, whether it was closed cleanly, and whether
//! Apptainer would take it. Format: the kernel's Documentation/filesystems/ext4.

use std::fs::File;
use std::os::unix::fs::FileExt;

use super::superblock::{PLACE, SIZE};
use crate::image::bytes::{array, le16, le32};
use crate::image::error::{ImageError, Result};

const MAGIC: u16 = 0xef53;
const HAS_JOURNAL: u32 = 0x4;
const NEEDS_RECOVERY: u32 = 0x4;
const EXTENTS: u32 = 0x40;
/// What Apptainer 1.4 takes for ext3 (its pkg/image/ext3.go): a journal, and no other features than these.
const TAKEN_INCOMPAT: u32 = 0x2 | 0x4 | 0x10;
const TAKEN_RO: u32 = 0x1 | 0x2 | 0x4;

const COMPAT: [(u32, &str); 8] = [
    (0x1, "dir_prealloc"),
    (0x4, "has_journal"),
    (0x8, "ext_attr"),
    (0x10, "resize_inode"),
    (0x20, "dir_index"),
    (0x200, "sparse_super2"),
    (0x400, "fast_commit"),
    (0x1000, "orphan_file"),
];
const INCOMPAT: [(u32, &str); 14] = [
    (0x2, "filetype"),
    (0x4, "needs_recovery"),
    (0x8, "journal_dev"),
    (0x10, "meta_bg"),
    (0x40, "extent"),
    (0x80, "64bit"),
    (0x100, "mmp"),
    (0x200, "flex_bg"),
    (0x400, "ea_inode"),
    (0x2000, "metadata_csum_seed"),
    (0x4000, "large_dir"),
    (0x8000, "inline_data"),
    (0x10000, "encrypt"),
    (0x20000, "casefold"),
];
const RO: [(u32, &str); 12] = [
    (0x1, "sparse_super"),
    (0x2, "large_file"),
    (0x4, "btree_dir"),
    (0x8, "huge_file"),
    (0x10, "uninit_bg"),
    (0x20, "dir_nlink"),
    (0x40, "extra_isize"),
    (0x100, "quota"),
    (0x200, "bigalloc"),
    (0x400, "metadata_csum"),
    (0x2000, "project"),
    (0x8000, "verity"),
];

/// What a superblock says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Facts {
    /// Bytes of a block.
    pub block_size: u64,
    /// Blocks, and how many of them are free.
    pub blocks: (u64, u64),
    /// Inodes, and how many of them are free.
    pub inodes: (u64, u64),
    /// Its unique number.
    pub uuid: [u8; 16],
    state: u16,
    compat: u32,
    incompat: u32,
    ro_compat: u32,
}

impl Facts {
    /// Reads them from an open image.
    ///
    /// # Errors
    /// [`ImageError::Corrupt`] when there is no ext file system.
    pub fn read(file: &File) -> Result<Facts> {
        let mut raw = [0; SIZE];
        file.read_exact_at(&mut raw, PLACE).map_err(ImageError::io("read", "the superblock"))?;
        Facts::parse(&raw)
    }

    fn parse(raw: &[u8]) -> Result<Facts> {
        if le16(raw, 0x38)? != MAGIC {
            return Err(ImageError::corrupt("no ext2/3/4 file system here (its magic number is missing)"));
        }
        let log = le32(raw, 0x18)?;
        if log > 6 {
            return Err(ImageError::corrupt(format!("ext superblock: block size 2^{}", u64::from(log) + 10)));
        }
        let incompat = le32(raw, 0x60)?;
        let high = |at| if incompat & 0x80 != 0 { le32(raw, at).map(u64::from) } else { Ok(0) };
        Ok(Facts {
            block_size: 1024 << log,
            blocks: (u64::from(le32(raw, 4)?) | high(0x150)? << 32, u64::from(le32(raw, 0xc)?) | high(0x158)? << 32),
            inodes: (u64::from(le32(raw, 0)?), u64::from(le32(raw, 0x10)?)),
            uuid: array(raw, 0x68)?,
            state: le16(raw, 0x3a)?,
            compat: le32(raw, 0x5c)?,
            incompat,
            ro_compat: le32(raw, 0x64)?,
        })
    }

    /// Whether it was unmounted cleanly and no errors were seen.
    pub fn is_clean(&self) -> bool {
        self.incompat & NEEDS_RECOVERY == 0 && self.state & 3 == 1
    }

    /// Bytes in all.
    pub fn size(&self) -> u64 {
        self.blocks.0.saturating_mul(self.block_size)
    }

    /// Bytes that are free.
    pub fn free(&self) -> u64 {
        self.blocks.1.saturating_mul(self.block_size)
    }

    /// `ext2`, `ext3` or `ext4`, as blkid(8) tells them apart.
    pub fn kind(&self) -> &'static str {
        if self.incompat & EXTENTS != 0 || self.incompat & !0x16 != 0 || self.ro_compat & !0x7 != 0 {
            "ext4"
        } else if self.compat & HAS_JOURNAL != 0 {
            "ext3"
        } else {
            "ext2"
        }
    }

    /// The names of its features, as e2fsprogs has them.
    pub fn features(&self) -> Vec<String> {
        let mut names = Vec::new();
        for (mut bits, known) in [(self.compat, &COMPAT[..]), (self.incompat, &INCOMPAT), (self.ro_compat, &RO)] {
            for (bit, name) in known {
                if bits & bit != 0 {
                    names.push((*name).to_owned());
                }
                bits &= !bit;
            }
            if bits != 0 {
                names.push(format!("{bits:#x}"));
            }
        }
        names
    }

    /// Why Apptainer would not take it for an overlay: what it lacks or has too much; None: it would.
    pub fn obstacle(&self) -> Option<String> {
        let kept = |bits: u32, taken: u32| bits & !taken;
        let foreign = Facts {
            compat: 0,
            incompat: kept(self.incompat, TAKEN_INCOMPAT),
            ro_compat: kept(self.ro_compat, TAKEN_RO),
            ..self.clone()
        };
        match foreign.features().as_slice() {
            [] if self.compat & HAS_JOURNAL == 0 => Some("it has no journal".into()),
            [] => None,
            names => Some(format!("it is {} with {}", self.kind(), names.join(", "))),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(compat: u32, incompat: u32, ro_compat: u32) -> Facts {
        let mut raw = vec![0; SIZE];
        raw[0x38..0x3a].copy_from_slice(&MAGIC.to_le_bytes());
        raw[0x3a] = 1;
        for (at, value) in [(4, 100), (0xc, 40), (0x18, 2), (0x5c, compat), (0x60, incompat), (0x64, ro_compat)] {
            raw[at..at + 4].copy_from_slice(&u32::to_le_bytes(value));
        }
        Facts::parse(&raw).unwrap()
    }

    #[test]
    fn what_apptainer_takes() {
        let good = of(0x3c, 0x2, 0x3);
        assert_eq!((good.obstacle(), good.kind(), good.is_clean()), (None, "ext3", true));
        assert_eq!((good.size(), good.free()), (409_600, 163_840));
        assert!(!of(0x4, 0x6, 0).is_clean());
        assert_eq!(of(0x38, 0x2, 0x3).obstacle().unwrap(), "it has no journal");
        let four = of(0x3c, 0x2c2, 0x46b);
        assert_eq!(four.kind(), "ext4");
        assert_eq!(
            four.obstacle().unwrap(),
            "it is ext4 with extent, 64bit, flex_bg, huge_file, dir_nlink, extra_isize, metadata_csum"
        );
        assert!(Facts::parse(&[0; 1024]).is_err());
        assert!(Facts::parse(&[0; 9]).is_err());
    }
}
