//! Extended attributes of an ext image: in the inode's body and in a block of their own.

use super::ExtImage;
use super::inode::{ExtInode, XATTR_MAGIC};
use crate::image::bytes::{array, le16, le32};
use crate::image::error::{ImageError, Result};

/// Bytes of an entry before its name, and of the header of an xattr block.
const ENTRY: usize = 16;
const HEADER: usize = 32;
/// The prefix number of `system.`, which inline content hides under with the name `data`.
const SYSTEM: u8 = 7;

impl ExtImage {
    /// Extended attributes as (full name, value), sorted; `user.`, `trusted.` and `security.` ones only.
    ///
    /// # Errors
    /// [`ImageError::Corrupt`] when they are damaged.
    pub fn xattrs(&self, inode: &ExtInode) -> Result<Vec<(Vec<u8>, Vec<u8>)>> {
        let mut found = Vec::new();
        let mut take = |prefix: u8, name: &[u8], value: &[u8]| {
            let prefix: &[u8] = match prefix {
                1 => b"user.",
                4 => b"trusted.",
                6 => b"security.",
                _ => return,
            };
            found.push(([prefix, name].concat(), value.to_vec()));
        };
        each(inode, &inode.xattr_body, 0, &mut take)?;
        if inode.xattr_block != 0 {
            let block = self.meta_block(inode.xattr_block)?;
            if le32(&block, 0)? != XATTR_MAGIC {
                return Err(wrong(inode));
            }
            each(inode, &block, HEADER, &mut take)?;
        }
        found.sort();
        Ok(found)
    }

    /// What inline content did not fit into the block pointers' place.
    pub(super) fn inline_rest(&self, inode: &ExtInode) -> Result<Vec<u8>> {
        let mut rest = Vec::new();
        each(inode, &inode.xattr_body, 0, &mut |prefix, name, value| {
            if prefix == SYSTEM && name == b"data" {
                rest = value.to_vec();
            }
        })?;
        Ok(rest)
    }
}

/// What is done with an xattr: its prefix number, the rest of its name, its value.
type Take<'a> = dyn FnMut(u8, &[u8], &[u8]) + 'a;

/// Hands on every entry from `at` on; values are counted from the slice's start.
fn each(inode: &ExtInode, bytes: &[u8], mut at: usize, take: &mut Take<'_>) -> Result<()> {
    // Four zero bytes, or the end of the room, end the list.
    while at + ENTRY <= bytes.len() && le32(bytes, at)? != 0 {
        let [length, prefix] = array(bytes, at)?;
        let (place, elsewhere, size) = (le16(bytes, at + 2)?, le32(bytes, at + 4)?, le32(bytes, at + 8)?);
        if elsewhere != 0 {
            return Err(ImageError::Unsupported("the ext image keeps xattrs in inodes (ea_inode)".into()));
        }
        let name = bytes.get(at + ENTRY..at + ENTRY + usize::from(length)).ok_or_else(|| wrong(inode))?;
        let place = usize::from(place);
        let value = bytes.get(place..place.saturating_add(size as usize)).ok_or_else(|| wrong(inode))?;
        take(prefix, name, value);
        at += (ENTRY + usize::from(length)).next_multiple_of(4);
    }
    Ok(())
}

fn wrong(inode: &ExtInode) -> ImageError {
    ImageError::corrupt(format!("xattrs of inode {}", inode.number))
}
