//! From a file's blocks to the image's: block pointers (direct to triple indirect) and extent trees.

use super::ExtImage;
use super::inode::ExtInode;
use crate::image::bytes::{le16, le32};
use crate::image::error::{ImageError, Result};

/// Pointers in the inode itself; after them come one single, one double and one triple indirect.
const DIRECT: u64 = 12;
const EXTENT_MAGIC: u16 = 0xf30a;
/// Deepest extent tree the kernel makes.
const DEEPEST: u16 = 5;
/// Longest extent; longer ones are shorter ones that are not written yet.
const LONGEST: u16 = 32768;

/// A run of a file's blocks: where it begins in the image (None: reads as zeros), and for how many blocks that holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Span {
    pub place: Option<u64>,
    pub blocks: u64,
}

impl ExtImage {
    /// The run that the file's block `logical` begins. Always of at least one block.
    pub(super) fn span(&self, inode: &ExtInode, logical: u64) -> Result<Span> {
        if inode.has_extents() { self.by_extents(inode, logical) } else { self.by_pointers(inode, logical) }
    }

    fn by_pointers(&self, inode: &ExtInode, logical: u64) -> Result<Span> {
        if logical < DIRECT {
            return pointers(&inode.block, logical as usize, DIRECT as usize);
        }
        let per_block = u64::from(self.superblock.block_size / 4);
        let mut rest = logical - DIRECT;
        let mut reach = per_block;
        for level in 0..3 {
            if rest < reach {
                let top = le32(&inode.block, (DIRECT as usize + level) * 4)?;
                return self.indirect(top, rest, reach, per_block);
            }
            rest -= reach;
            reach *= per_block;
        }
        Err(ImageError::corrupt(format!("inode {} goes on beyond what block pointers reach", inode.number)))
    }

    /// Block `rest` of the `reach` blocks that `pointer` leads to.
    fn indirect(&self, mut pointer: u32, mut rest: u64, mut reach: u64, per_block: u64) -> Result<Span> {
        loop {
            if pointer == 0 {
                return Ok(Span { place: None, blocks: reach - rest });
            }
            let table = self.meta_block(u64::from(pointer))?;
            reach /= per_block;
            if reach <= 1 {
                return pointers(&table, rest as usize, per_block as usize);
            }
            pointer = le32(&table, (rest / reach) as usize * 4)?;
            rest %= reach;
        }
    }

    fn by_extents(&self, inode: &ExtInode, logical: u64) -> Result<Span> {
        let wrong = |what: &str| ImageError::corrupt(format!("extent tree of inode {}: {what}", inode.number));
        // Extents speak of 32-bit block numbers.
        let mut until = 1u64 << 32;
        if logical >= until {
            return Err(wrong("the file goes on beyond what extents reach"));
        }
        let mut depth: Option<u16> = None;
        let mut node;
        let mut bytes: &[u8] = &inode.block;
        loop {
            if le16(bytes, 0)? != EXTENT_MAGIC {
                return Err(wrong("a node without its magic number"));
            }
            let (count, own) = (usize::from(le16(bytes, 2)?), le16(bytes, 6)?);
            if own > DEEPEST || depth.is_some_and(|above| above == 0 || own != above - 1) {
                return Err(wrong("its depth is wrong"));
            }
            depth = Some(own);
            // The last entry that begins at or before the wanted block.
            let (mut low, mut high) = (0, count);
            while low < high {
                let middle = (low + high) / 2;
                if u64::from(le32(bytes, 12 + middle * 12)?) <= logical {
                    low = middle + 1;
                } else {
                    high = middle;
                }
            }
            if low < count {
                until = until.min(u64::from(le32(bytes, 12 + low * 12)?));
            }
            let hole = Span { place: None, blocks: until.saturating_sub(logical).max(1) };
            let Some(found) = low.checked_sub(1) else { return Ok(hole) };
            let at = 12 + found * 12;
            if own == 0 {
                let length = le16(bytes, at + 4)?;
                let within = logical - u64::from(le32(bytes, at)?);
                let (length, written) = if length > LONGEST { (length - LONGEST, false) } else { (length, true) };
                let Some(left) = u64::from(length).checked_sub(within).filter(|left| *left > 0) else {
                    return Ok(hole);
                };
                let start = u64::from(le32(bytes, at + 8)?) | u64::from(le16(bytes, at + 6)?) << 32;
                return Ok(Span { place: written.then_some(start + within), blocks: left.min(hole.blocks) });
            }
            let child = u64::from(le32(bytes, at + 4)?) | u64::from(le16(bytes, at + 8)?) << 32;
            node = self.meta_block(child)?;
            bytes = &node;
        }
    }
}

/// The run that pointer `index` of the first `count` in `table` begins.
fn pointers(table: &[u8], index: usize, count: usize) -> Result<Span> {
    let first = le32(table, index * 4)?;
    let mut blocks = 1;
    for next in index + 1..count {
        let expected = if first == 0 { Some(0) } else { first.checked_add(blocks) };
        if Some(le32(table, next * 4)?) != expected {
            break;
        }
        blocks += 1;
    }
    Ok(Span { place: (first != 0).then_some(u64::from(first)), blocks: u64::from(blocks) })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pointers_that_follow_each_other_are_one_run() {
        let table: Vec<u8> = [7u32, 8, 9, 0, 0, 20, u32::MAX, 0].iter().flat_map(|at| at.to_le_bytes()).collect();
        let run = |index| pointers(&table, index, 8).unwrap();
        assert_eq!(run(1), Span { place: Some(8), blocks: 2 });
        assert_eq!(run(3), Span { place: None, blocks: 2 });
        assert_eq!(run(6), Span { place: Some(u64::from(u32::MAX)), blocks: 1 });
        assert!(pointers(&table, 7, 9).is_err());
    }
}
