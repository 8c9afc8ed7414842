//! Directories: listings as stored, and lookups that jump close to the name where a directory has an index.

use super::inode::{Body, Inode, InodeKind};
use super::meta::Cursor;
use super::{Image, InodeRef};
use crate::image::bytes::{le16, le32};
use crate::image::error::{ImageError, Result};
use crate::image::squashfs::format::METADATA;

/// Longest name (SQUASHFS_NAME_LEN); Linux itself stops at 255.
const LONGEST_NAME: usize = 256;
/// Entries one header can speak for (SQUASHFS_DIR_COUNT).
const HEADER_ENTRIES: u32 = 256;
/// A listing's size counts `.` and `..` as three bytes that are not there.
const DOTS: u64 = 3;
/// Unsorted listings come from ancient mksquashfs only; larger ones are damage.
const MOST_UNSORTED: usize = 1 << 20;

/// One name in a directory.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DirEntry {
    /// The name: never empty, `.` or `..`, and without `/` and NUL.
    pub name: Vec<u8>,
    /// Where its inode is.
    pub at: InodeRef,
    /// What it is, as far as the listing tells; [`Image::inode`] has the last word.
    pub kind: InodeKind,
}

/// Walks a listing entry by entry.
struct Listing<'a> {
    cursor: Cursor<'a>,
    /// Bytes left.
    left: u64,
    /// Entries left under the current header, and its inode block.
    run: u32,
    block: u32,
    name: [u8; LONGEST_NAME],
}

/// An entry whose name is still in the listing's buffer.
struct Found {
    length: usize,
    at: InodeRef,
    kind: u16,
}

impl Listing<'_> {
    fn take(&mut self, bytes: u64) -> Result<()> {
        self.left = self
            .left
            .checked_sub(bytes)
            .ok_or_else(|| ImageError::corrupt("a directory's listing ends within an entry"))?;
        Ok(())
    }

    fn next(&mut self) -> Result<Option<Found>> {
        if self.run == 0 {
            if self.left == 0 {
                return Ok(None);
            }
            self.take(12)?;
            let head: [u8; 12] = self.cursor.array()?;
            let count = le32(&head, 0)?;
            if count >= HEADER_ENTRIES {
                return Err(ImageError::corrupt(format!("a directory header with {count} entries and one more")));
            }
            (self.run, self.block) = (count + 1, le32(&head, 4)?);
        }
        self.run -= 1;
        self.take(8)?;
        let head: [u8; 8] = self.cursor.array()?;
        let length = usize::from(le16(&head, 6)?) + 1;
        self.take(length as u64)?;
        let Some(name) = self.name.get_mut(..length) else {
            return Err(ImageError::corrupt(format!("a name of {length} bytes")));
        };
        self.cursor.read(name)?;
        if name.contains(&b'/') || name.contains(&0) || matches!(&name[..], b"." | b"..") {
            return Err(ImageError::corrupt(format!("the name '{}' in a directory", name.escape_ascii())));
        }
        let at = u64::from(self.block) << 16 | u64::from(le16(&head, 0)?);
        Ok(Some(Found { length, at, kind: le16(&head, 4)? }))
    }

    fn name(&self, found: &Found) -> &[u8] {
        self.name.get(..found.length).unwrap_or_default()
    }

    fn entry(&self, found: &Found) -> Result<DirEntry> {
        Ok(DirEntry { name: self.name(found).to_vec(), at: found.at, kind: InodeKind::from_basic(found.kind)? })
    }
}

impl Image {
    fn listing(&self, block: u32, offset: usize, left: u64) -> Listing<'_> {
        let start = self.superblock.directory_table.saturating_add(u64::from(block));
        let cursor = self.cursor(start, offset, self.directory_end);
        Listing { cursor, left, run: 0, block: 0, name: [0; LONGEST_NAME] }
    }

    /// All entries of a directory, sorted by their names' bytes (which is how they are stored).
    ///
    /// # Errors
    /// [`ImageError::Corrupt`] when the listing is damaged, has a name twice, or `dir` is no directory.
    pub fn list(&self, dir: &Inode) -> Result<Vec<DirEntry>> {
        let Body::Dir { block, offset, .. } = dir.body else { return Err(no_directory(dir)) };
        let mut entries: Vec<DirEntry> = Vec::new();
        let mut sorted = true;
        if dir.size > DOTS {
            let mut listing = self.listing(block, usize::from(offset), dir.size - DOTS);
            while let Some(found) = listing.next()? {
                sorted &= entries.last().is_none_or(|last| last.name.as_slice() < listing.name(&found));
                if !sorted && entries.len() > MOST_UNSORTED {
                    return Err(ImageError::corrupt(format!("directory {} is not sorted", dir.number)));
                }
                entries.push(listing.entry(&found)?);
            }
        }
        if !sorted {
            entries.sort_unstable_by(|one, other| one.name.cmp(&other.name));
            if let Some(twice) = entries.windows(2).find(|pair| pair[0].name == pair[1].name) {
                let name = twice[0].name.escape_ascii();
                return Err(ImageError::corrupt(format!("directory {} holds '{name}' twice", dir.number)));
            }
        }
        Ok(entries)
    }

    /// One name in a directory; None when it is not there.
    ///
    /// # Errors
    /// As [`Image::list`].
    pub fn lookup(&self, dir: &Inode, name: &[u8]) -> Result<Option<DirEntry>> {
        let Body::Dir { mut block, offset, index, index_at, .. } = dir.body else { return Err(no_directory(dir)) };
        if name.is_empty() || name.len() > LONGEST_NAME || dir.size <= DOTS {
            return Ok(None);
        }
        let (mut offset, mut left) = (usize::from(offset), dir.size - DOTS);
        if index > 0 {
            let mut cursor = self.cursor(index_at.0, index_at.1, self.superblock.directory_table);
            let mut first = [0; LONGEST_NAME];
            let mut jump = None;
            for _ in 0..index {
                let head: [u8; 12] = cursor.array()?;
                let length = (le32(&head, 8)? as usize).saturating_add(1);
                let Some(first) = first.get_mut(..length) else {
                    return Err(ImageError::corrupt(format!("a name of {length} bytes in a directory index")));
                };
                cursor.read(first)?;
                if &first[..] > name {
                    break;
                }
                jump = Some((le32(&head, 0)?, le32(&head, 4)?));
            }
            if let Some((skipped, there)) = jump {
                left = left
                    .checked_sub(u64::from(skipped))
                    .ok_or_else(|| ImageError::corrupt(format!("the index of directory {} lies", dir.number)))?;
                offset = (offset + skipped as usize) % METADATA;
                block = there;
            }
        }
        let mut listing = self.listing(block, offset, left);
        while let Some(found) = listing.next()? {
            let here = listing.name(&found);
            if here == name {
                return listing.entry(&found).map(Some);
            }
            // As the kernel does it: names with a greater first byte end the search.
            if here.first() > name.first() {
                break;
            }
        }
        Ok(None)
    }

    /// Follows a path from the root; `.` and empty parts are passed over, `..` and symbolic links are not followed.
    ///
    /// # Errors
    /// As [`Image::list`]; a part that is missing or no directory gives None.
    pub fn find(&self, path: &[u8]) -> Result<Option<Inode>> {
        let mut here = self.inode(self.root())?;
        for part in path.split(|byte| *byte == b'/').filter(|part| !matches!(*part, b"" | b".")) {
            if here.kind != InodeKind::Dir {
                return Ok(None);
            }
            match self.lookup(&here, part)? {
                Some(entry) => here = self.inode(entry.at)?,
                None => return Ok(None),
            }
        }
        Ok(Some(here))
    }
}

fn no_directory(inode: &Inode) -> ImageError {
    ImageError::corrupt(format!("inode {} is no directory", inode.number))
}
