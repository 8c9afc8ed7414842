//! Lookup tables (owners, fragments, export): entries in metadata blocks that a list of positions leads to.

use std::sync::OnceLock;

use super::Image;
use crate::image::bytes::{le32, le64};
use crate::image::error::{ImageError, Result};
use crate::image::squashfs::format::METADATA;

/// Bytes of a fragment table entry, and of an xattr id table entry.
pub(super) const ENTRY: usize = 16;

/// Where a table's metadata blocks begin, read when first needed.
#[derive(Default)]
pub(super) struct Index(OnceLock<Vec<u64>>);

impl Index {
    /// `count` entries of `size` bytes, whose list of blocks lies at `place`.
    fn blocks(&self, image: &Image, place: u64, count: u64, size: usize, what: &str) -> Result<&[u64]> {
        if let Some(blocks) = self.0.get() {
            return Ok(blocks);
        }
        let blocks = count.saturating_mul(size as u64).div_ceil(METADATA as u64);
        let bytes = blocks.saturating_mul(8);
        // Nothing is set aside for a list that does not fit into the image.
        if place.checked_add(bytes).is_none_or(|end| end > image.region.length()) {
            return Err(ImageError::corrupt(format!("the {what} table at {place} cannot have {count} entries")));
        }
        let mut raw = vec![0; bytes as usize];
        image.region.read_exact(place, &mut raw, what)?;
        let blocks = raw.chunks_exact(8).map(|piece| le64(piece, 0)).collect::<Result<Vec<u64>>>()?;
        if let Some(block) = blocks.iter().find(|block| **block >= place) {
            return Err(ImageError::corrupt(format!("the {what} table at {place} has a block at {block}")));
        }
        Ok(self.0.get_or_init(|| blocks))
    }

    /// Entry `number` of the table.
    pub fn entry<const N: usize>(
        &self,
        image: &Image,
        place: u64,
        count: u64,
        number: u64,
        what: &str,
    ) -> Result<[u8; N]> {
        let missing = || ImageError::corrupt(format!("{what} {number} of {count}"));
        if number >= count {
            return Err(missing());
        }
        let blocks = self.blocks(image, place, count, N, what)?;
        let per_block = (METADATA / N) as u64;
        let block = *blocks.get((number / per_block) as usize).ok_or_else(missing)?;
        image.cursor(block, (number % per_block) as usize * N, place).array()
    }
}

/// The tables of an image that are read when first needed.
#[derive(Default)]
pub(super) struct Tables {
    ids: OnceLock<Vec<u32>>,
    id_blocks: Index,
    pub fragments: Index,
    pub xattrs: Index,
    pub xattr_head: OnceLock<(u64, u64)>,
    pub export: Index,
}

/// Where a fragment block is and how long it is stored (with the flag for "not compressed").
pub(super) struct Fragment {
    pub start: u64,
    pub size: u32,
}

impl Image {
    /// A user or group id by its place in the id table.
    pub(super) fn id(&self, number: u16) -> Result<u32> {
        let ids = match self.tables.ids.get() {
            Some(ids) => ids,
            None => {
                // At most 65,535 of four bytes, nearly always a handful.
                let mut ids = Vec::new();
                for place in 0..u64::from(self.superblock.ids) {
                    let raw: [u8; 4] = self.tables.id_blocks.entry(
                        self,
                        self.superblock.id_table,
                        u64::from(self.superblock.ids),
                        place,
                        "owner",
                    )?;
                    ids.push(u32::from_le_bytes(raw));
                }
                self.tables.ids.get_or_init(|| ids)
            }
        };
        ids.get(usize::from(number))
            .copied()
            .ok_or_else(|| ImageError::corrupt(format!("owner {number} of {}", ids.len())))
    }

    /// A fragment block by its place in the fragment table.
    pub(super) fn fragment(&self, number: u32) -> Result<Fragment> {
        let place = self.superblock.fragment_table.ok_or_else(|| ImageError::corrupt("a fragment without a table"))?;
        let count = u64::from(self.superblock.fragments);
        let raw: [u8; ENTRY] = self.tables.fragments.entry(self, place, count, u64::from(number), "fragment")?;
        Ok(Fragment { start: le64(&raw, 0)?, size: le32(&raw, 8)? })
    }

    /// Where the inode with this number is, by the export table; None when the image has none.
    pub(super) fn exported(&self, number: u32) -> Result<Option<u64>> {
        let Some(place) = self.superblock.export_table else { return Ok(None) };
        let index = u64::from(number).checked_sub(1).ok_or_else(|| ImageError::corrupt("inode number 0"))?;
        let count = u64::from(self.superblock.inodes);
        let raw: [u8; 8] = self.tables.export.entry(self, place, count, index, "export")?;
        Ok(Some(u64::from_le_bytes(raw)))
    }
}
