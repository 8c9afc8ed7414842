//! What lies close to what is being read: the inode behind an inode, and the part of a file that is unpacked together.

use std::ops::Range;

use super::inode::{Body, Inode};
use super::{Image, InodeRef};
use crate::image::bytes::le32;
use crate::image::error::{ImageError, Result};
use crate::image::squashfs::format::DATA_RAW;

/// Longer block lists are not passed over: what lies behind such a file is not close.
const LONGEST_LIST: u64 = 1 << 16;

impl Image {
    /// The inode stored behind the one at `at`; writers store them in the order of a walk through the tree. None at the
    /// end of the table.
    ///
    /// # Errors
    /// [`ImageError::Corrupt`] when either cannot be read.
    pub fn following(&self, at: InodeRef) -> Result<Option<Inode>> {
        let (table, end) = (self.superblock.inode_table, self.superblock.directory_table);
        let mut cursor = self.cursor_at(at)?;
        let inode = self.parse_inode(&mut cursor, at)?;
        match inode.body {
            Body::File { blocks, .. } if blocks > LONGEST_LIST => return Ok(None),
            Body::File { blocks, .. } => cursor.skip(blocks as usize * 4)?,
            Body::Dir { index, .. } => {
                for _ in 0..index {
                    let head: [u8; 12] = cursor.array()?;
                    cursor.skip((le32(&head, 8)? as usize).saturating_add(1))?;
                }
            }
            // What an extended one has behind its target is passed over already.
            Body::Symlink { at } if at == cursor.position() => cursor.skip(inode.size as usize)?,
            Body::Symlink { .. } | Body::Other => {}
        }
        let Some((block, offset)) = cursor.settled() else { return Ok(None) };
        let at = block.checked_sub(table).filter(|_| block < end).map(|block| block << 16 | offset as u64);
        at.map(|at| self.inode(at)).transpose()
    }

    /// The bytes of a file that are unpacked together with the one at `offset`; None where nothing is to be unpacked.
    ///
    /// # Errors
    /// [`ImageError::Corrupt`] as from reading there, or when `file` is none.
    pub fn unpacked_together(&self, file: &Inode, offset: u64) -> Result<Option<Range<u64>>> {
        let Body::File { start, tail, list_at, blocks } = file.body else {
            return Err(ImageError::corrupt(format!("inode {} is no file", file.number)));
        };
        if offset >= file.size {
            return Ok(None);
        }
        let size = u64::from(self.superblock.block_size);
        let number = offset / size;
        let packed = if number < blocks {
            self.block(start, list_at, blocks, number)?.is_some_and(|block| !block.raw)
        } else {
            match tail {
                Some((fragment, _)) => self.fragment(fragment)?.size & DATA_RAW == 0,
                None => false,
            }
        };
        Ok(packed.then(|| number * size..((number + 1) * size).min(file.size)))
    }
}
