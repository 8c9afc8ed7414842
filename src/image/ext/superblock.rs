//! The superblock of an ext2/3/4 image and where its group descriptors lie.
//! Format: the kernel's Documentation/filesystems/ext4.

use crate::image::bytes::{le16, le32};
use crate::image::error::{ImageError, Result};

/// Where the superblock begins, and its size.
pub(super) const PLACE: u64 = 1024;
pub(super) const SIZE: usize = 1024;

const MAGIC: u16 = 0xef53;
/// Feature bits that change how things are read, with the names e2fsprogs gives them.
const INCOMPAT: [(u32, &str, bool); 17] = [
    (0x1, "compression", false),
    (0x2, "filetype", true),
    (0x8, "journal_dev", false),
    (0x10, "meta_bg", true),
    (0x40, "extent", true),
    (0x80, "64bit", true),
    (0x100, "mmp", true),
    (0x200, "flex_bg", true),
    (0x400, "ea_inode", false),
    (0x1000, "dirdata", false),
    (0x2000, "metadata_csum_seed", true),
    (0x4000, "large_dir", true),
    (0x8000, "inline_data", true),
    (0x10000, "encrypt", false),
    (0x20000, "casefold", true),
    // Never assigned; listed so that a bit flip there has a name.
    (0x20, "0x20", false),
    (0x800, "0x800", false),
];
const RECOVER: u32 = 0x4;
const META_BG: u32 = 0x10;
const BITS64: u32 = 0x80;
const SPARSE_SUPER: u32 = 0x1;
const SPARSE_SUPER2: u32 = 0x200;

/// What is needed of the superblock.
#[derive(Debug, Clone)]
pub(super) struct Superblock {
    pub inodes: u32,
    pub blocks: u64,
    pub block_size: u32,
    pub inode_size: u16,
    pub inodes_per_group: u32,
    pub descriptor_size: u16,
    first_data_block: u32,
    blocks_per_group: u32,
    first_meta_bg: Option<u32>,
    sparse_super: bool,
    backup_groups: Option<[u32; 2]>,
}

impl Superblock {
    /// `shared`: somebody else reads the image through a server that marks it as mounted meanwhile (fuse2fs from 1.47.1 on
    /// does), which says nothing about how it was left before.
    pub fn parse(raw: &[u8; SIZE], shared: bool) -> Result<Superblock> {
        if le16(raw, 0x38)? != MAGIC {
            return Err(ImageError::corrupt("no ext2/3/4 file system here (its magic number is missing)"));
        }
        let (compat, incompat, ro_compat) = (le32(raw, 0x5c)?, le32(raw, 0x60)?, le32(raw, 0x64)?);
        let dynamic = le32(raw, 0x4c)? >= 1;
        let (compat, incompat, ro_compat) = if dynamic { (compat, incompat, ro_compat) } else { (0, 0, 0) };
        refuse_unknown(incompat)?;
        // State bit 1: unmounted cleanly; bit 2: errors were seen.
        let state = le16(raw, 0x3a)?;
        if incompat & RECOVER != 0 || state & 2 != 0 || (state & 1 == 0 && !shared) {
            return Err(ImageError::Unsupported(
                "the ext image is being written to, or was not unmounted cleanly; once nobody uses it, mend it with: \
                 ovl overlay check IMAGE"
                    .into(),
            ));
        }
        let wide = incompat & BITS64 != 0;
        let log = le32(raw, 0x18)?;
        let fail = |text: String| Err(ImageError::corrupt(format!("ext superblock: {text}")));
        if log > 6 {
            return fail(format!("block size 2^{}", u64::from(log) + 10));
        }
        let high = if wide { u64::from(le32(raw, 0x150)?) } else { 0 };
        let made = Superblock {
            inodes: le32(raw, 0)?,
            blocks: u64::from(le32(raw, 4)?) | high << 32,
            block_size: 1024 << log,
            inode_size: if dynamic { le16(raw, 0x58)? } else { 128 },
            inodes_per_group: le32(raw, 0x28)?,
            descriptor_size: if wide { le16(raw, 0xfe)? } else { 32 },
            first_data_block: le32(raw, 0x14)?,
            blocks_per_group: le32(raw, 0x20)?,
            first_meta_bg: if incompat & META_BG != 0 { Some(le32(raw, 0x104)?) } else { None },
            sparse_super: ro_compat & SPARSE_SUPER != 0,
            backup_groups: if compat & SPARSE_SUPER2 != 0 {
                Some([le32(raw, 0x24c)?, le32(raw, 0x250)?])
            } else {
                None
            },
        };
        if made.inode_size < 128
            || !made.inode_size.is_power_of_two()
            || u32::from(made.inode_size) > made.block_size
            || made.inodes_per_group == 0
            || made.blocks_per_group == 0
        {
            return fail(format!(
                "{} bytes an inode, {} inodes and {} blocks a group",
                made.inode_size, made.inodes_per_group, made.blocks_per_group
            ));
        }
        if made.descriptor_size < 32 || !made.descriptor_size.is_power_of_two() || made.descriptor_size > 1024 {
            return fail(format!("group descriptors of {} bytes", made.descriptor_size));
        }
        if made.first_data_block > 1 || made.blocks <= u64::from(made.first_data_block) || made.blocks >> 48 != 0 {
            return fail(format!("{} blocks from {}", made.blocks, made.first_data_block));
        }
        Ok(made)
    }

    /// The block with a group's descriptor, and the descriptor's place in it.
    pub fn descriptor(&self, group: u32) -> (u64, usize) {
        let per_block = self.block_size / u32::from(self.descriptor_size);
        let (number, place) = (group / per_block, (group % per_block) as usize * usize::from(self.descriptor_size));
        let first = u64::from(self.first_data_block);
        let block = match self.first_meta_bg {
            Some(from) if number >= from => {
                // The block lies in the first of the groups it describes, behind the superblock's copy if there is one.
                let home = u64::from(number) * u64::from(per_block);
                let mut block = first + home * u64::from(self.blocks_per_group);
                if self.has_superblock(home) {
                    block += 1;
                }
                if self.block_size == 1024 && number == 0 && first == 0 {
                    block += 1;
                }
                block
            }
            _ => first + 1 + u64::from(number),
        };
        (block, place)
    }

    fn has_superblock(&self, group: u64) -> bool {
        if group == 0 {
            return true;
        }
        if let Some(backups) = self.backup_groups {
            return backups.iter().any(|backup| u64::from(*backup) == group);
        }
        let power_of = |base: u64| {
            let mut power = base;
            while power < group {
                power *= base;
            }
            power == group
        };
        !self.sparse_super || group == 1 || power_of(3) || power_of(5) || power_of(7)
    }
}

fn refuse_unknown(incompat: u32) -> Result<()> {
    let mut unknown: Vec<String> = Vec::new();
    let mut rest = incompat & !RECOVER;
    for (bit, name, read) in INCOMPAT {
        if rest & bit != 0 && !read {
            unknown.push(name.into());
        }
        rest &= !bit;
    }
    if rest != 0 {
        unknown.push(format!("{rest:#x}"));
    }
    if unknown.is_empty() {
        return Ok(());
    }
    Err(ImageError::Unsupported(format!("the ext image uses features ovl does not read: {}", unknown.join(", "))))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn features_that_are_not_read_are_refused_by_name() {
        assert!(refuse_unknown(0x2 | 0x40 | 0x80 | 0x200).is_ok());
        let said = refuse_unknown(0x10000 | 0x400 | 0x4000_0000).unwrap_err().to_string();
        assert!(said.ends_with("ea_inode, encrypt, 0x40000000"), "{said}");
    }
}
