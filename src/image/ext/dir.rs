//! Directories of an ext image, read block by block. Hash trees keep their inner nodes in what looks like unused
//! entries, and checksums do likewise, so a plain walk finds every name.

use std::collections::HashSet;

use super::ExtImage;
use super::inode::ExtInode;
use crate::image::bytes::{array, le16, le32};
use crate::image::error::{ImageError, Result};

/// A larger directory than this is damage: it would hold many millions of names.
const LARGEST: u64 = 1 << 30;

impl ExtImage {
    /// Names and inode numbers in a directory, sorted by the names' bytes, without `.` and `..`.
    ///
    /// # Errors
    /// [`ImageError::Corrupt`] when `dir` is no directory, holds a name twice, or is damaged.
    pub fn names(&self, dir: &ExtInode) -> Result<Vec<(Vec<u8>, u32)>> {
        if !dir.is_dir() {
            return Err(ImageError::corrupt(format!("inode {} is no directory", dir.number)));
        }
        let mut names = Vec::new();
        if dir.is_inline() {
            // Four bytes for the parent, then entries; what does not fit goes on in an xattr.
            self.entries(dir, dir.block.get(4..).unwrap_or_default(), &mut names)?;
            self.entries(dir, &self.inline_rest(dir)?, &mut names)?;
        } else {
            let size = u64::from(self.superblock.block_size);
            if dir.size > LARGEST.min(self.region.length()) {
                return Err(ImageError::corrupt(format!("directory {} of {} bytes", dir.number, dir.size)));
            }
            let mut block = vec![0; size as usize];
            let (mut number, count) = (0, dir.size.div_ceil(size));
            // One block in several places would make a small image's directory as large as its size field says.
            let mut seen = HashSet::new();
            while number < count {
                let span = self.span(dir, number)?;
                let run = span.blocks.min(count - number);
                for step in 0..run {
                    let Some(place) = span.place else { break };
                    if !seen.insert(place + step) {
                        return Err(ImageError::corrupt(format!("directory {} has a block twice", dir.number)));
                    }
                    self.read_blocks(place + step, 0, &mut block, "a directory")?;
                    self.entries(dir, &block, &mut names)?;
                }
                number += run;
            }
        }
        names.sort_unstable();
        if let Some((twice, _)) = names.iter().zip(names.iter().skip(1)).find(|(one, other)| one.0 == other.0) {
            let name = twice.0.escape_ascii();
            return Err(ImageError::corrupt(format!("directory {} holds '{name}' twice", dir.number)));
        }
        Ok(names)
    }

    /// Adds the entries of one block.
    fn entries(&self, dir: &ExtInode, mut block: &[u8], names: &mut Vec<(Vec<u8>, u32)>) -> Result<()> {
        let wrong = || ImageError::corrupt(format!("directory {} has a broken entry", dir.number));
        while block.len() >= 8 {
            let [name_length, _] = array(block, 6)?;
            let (number, length) = (le32(block, 0)?, entry_length(le16(block, 4)?, self.superblock.block_size));
            if length < 8 || length % 4 != 0 || length > block.len() {
                return Err(wrong());
            }
            let (entry, rest) = block.split_at(length);
            block = rest;
            let name = entry.get(8..8 + usize::from(name_length)).ok_or_else(wrong);
            if number == 0 {
                continue;
            }
            match name? {
                b"." | b".." => {}
                name if name.is_empty() || name.contains(&b'/') || name.contains(&0) => return Err(wrong()),
                name => names.push((name.to_vec(), number)),
            }
        }
        Ok(())
    }

    /// One name in a directory.
    pub(super) fn lookup(&self, dir: &ExtInode, name: &[u8]) -> Result<Option<ExtInode>> {
        match self.names(dir)?.into_iter().find(|(found, _)| found == name) {
            Some((_, number)) => self.inode(number).map(Some),
            None => Ok(None),
        }
    }
}

/// An entry's length: 64 KiB do not fit in 16 bits, so large blocks encode it.
fn entry_length(raw: u16, block_size: u32) -> usize {
    if block_size < 65536 {
        return usize::from(raw);
    }
    match raw {
        0 | u16::MAX => block_size as usize,
        _ => usize::from(raw & !3) | usize::from(raw & 3) << 16,
    }
}
