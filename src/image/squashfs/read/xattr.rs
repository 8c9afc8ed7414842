//! Extended attributes: a table of lists, whose values may be stored in another list.

use super::Image;
use super::inode::Inode;
use super::table::ENTRY;
use crate::image::bytes::{le16, le32, le64};
use crate::image::error::{ImageError, Result};
use crate::image::squashfs::format::{XATTR_OOL, XATTR_PREFIXES};

/// The kernel's bounds: one value, all names of an inode (XATTR_SIZE_MAX, XATTR_LIST_MAX).
const LONGEST_VALUE: u32 = 65_536;
const LONGEST_NAMES: usize = 65_536;
/// What one inode's values may add up to here; no file system stores as much.
const MOST_BYTES: usize = 16 << 20;

impl Image {
    /// The extended attributes of an inode as (full name, value), in the order in which they are stored. Ones with a
    /// prefix unknown here are left out.
    ///
    /// # Errors
    /// [`ImageError::Corrupt`] when the table or a list is damaged or larger than any kernel allows.
    pub fn xattrs(&self, inode: &Inode) -> Result<Vec<(Vec<u8>, Vec<u8>)>> {
        let Some(number) = inode.xattr else { return Ok(Vec::new()) };
        let place = self.superblock.xattr_table.ok_or_else(|| ImageError::corrupt("xattrs without a table of them"))?;
        let (lists, count) = self.xattr_head(place)?;
        let raw: [u8; ENTRY] =
            self.tables.xattrs.entry(self, place + ENTRY as u64, count, u64::from(number), "xattr")?;
        let (at, count) = (le64(&raw, 0)?, le32(&raw, 8)?);
        let mut cursor = self.xattr_cursor(lists, at, place)?;
        let (mut found, mut names, mut bytes) = (Vec::new(), 0, 0);
        for _ in 0..count {
            let head: [u8; 4] = cursor.array()?;
            let (kind, length) = (le16(&head, 0)?, le16(&head, 2)?);
            let suffix = cursor.bytes(usize::from(length))?;
            let value_length = u32::from_le_bytes(cursor.array()?);
            let value = if kind & XATTR_OOL != 0 {
                let there = u64::from_le_bytes(cursor.array()?);
                let mut cursor = self.xattr_cursor(lists, there, place)?;
                let length = u32::from_le_bytes(cursor.array()?);
                cursor.bytes(bounded(length)?)?
            } else {
                cursor.bytes(bounded(value_length)?)?
            };
            names += suffix.len() + 6;
            bytes += value.len();
            if names > LONGEST_NAMES || bytes > MOST_BYTES {
                return Err(ImageError::corrupt(format!("inode {} has too many xattrs", inode.number)));
            }
            if let Some(prefix) = XATTR_PREFIXES.get(usize::from(kind & !XATTR_OOL)) {
                found.push(([prefix, suffix.as_slice()].concat(), value));
            }
        }
        Ok(found)
    }

    /// Where the lists begin and how many inodes' sets there are.
    pub(super) fn xattr_head(&self, place: u64) -> Result<(u64, u64)> {
        if let Some(head) = self.tables.xattr_head.get() {
            return Ok(*head);
        }
        let mut raw = [0; ENTRY];
        self.region.read_exact(place, &mut raw, "the xattr table")?;
        let head = (le64(&raw, 0)?, u64::from(le32(&raw, 8)?));
        if head.0 > place {
            return Err(ImageError::corrupt(format!("the xattr table at {place} has its lists at {}", head.0)));
        }
        Ok(*self.tables.xattr_head.get_or_init(|| head))
    }

    fn xattr_cursor(&self, lists: u64, at: u64, end: u64) -> Result<super::meta::Cursor<'_>> {
        let block = lists
            .checked_add(at >> 16)
            .filter(|block| *block < end)
            .ok_or_else(|| ImageError::corrupt(format!("an xattr list at {at:#x}, outside of the table")))?;
        Ok(self.cursor(block, (at & 0xffff) as usize, end))
    }
}

fn bounded(length: u32) -> Result<usize> {
    if length > LONGEST_VALUE {
        return Err(ImageError::corrupt(format!("an xattr value of {length} bytes")));
    }
    Ok(length as usize)
}
