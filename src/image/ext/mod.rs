//! ext2/3/4 images read by pread, without mounting: a [`Source`](super::source::Source) like any other.
//! `superblock` → `inode` → `map` (a file's blocks), `dir`, `xattr`; `source` is what packers see, `make` is how an
//! empty image is ordered from mke2fs.

mod dir;
mod facts;
mod inode;
pub mod make;
mod map;
mod source;
mod superblock;
mod xattr;

use std::fs::File;
use std::ops::Range;
use std::sync::Arc;

pub use facts::Facts;
pub use inode::ExtInode;
pub use source::ExtSource;

use super::bytes::Region;
use super::cache::{Cache, image_number};
use super::error::{ImageError, Result};

/// Tables (inodes, pointers, extents) that are kept, in bytes.
const CACHE: usize = 16 << 20;
/// A stretch of data is looked for over at most this many runs at a time.
const RUNS: usize = 4096;

/// An open image, usable from any number of threads at once.
pub struct ExtImage {
    region: Region,
    superblock: superblock::Superblock,
    blocks: Cache<Arc<Vec<u8>>>,
    number: u32,
}

impl ExtImage {
    /// Opens the image that begins at byte `offset` of `file`. Only the superblock is read.
    ///
    /// # Errors
    /// When there is no such image, it uses features that are not read here (they are named), or it was not unmounted
    /// cleanly (the message says how to mend that).
    pub fn open(file: impl Into<Arc<File>>, offset: u64) -> Result<ExtImage> {
        ExtImage::in_region(Region::new(file.into(), offset)?, false)
    }

    /// [`ExtImage::open`] for an image that ends after `length` bytes at the latest: a partition.
    pub fn open_within(file: impl Into<Arc<File>>, offset: u64, length: u64) -> Result<ExtImage> {
        ExtImage::in_region(Region::within(file.into(), offset, length)?, false)
    }

    /// As [`ExtImage::open`], but an image that only looks as if it were mounted is taken for what it is: others read it
    /// at this moment, and nobody writes to it.
    pub fn open_shared(file: impl Into<Arc<File>>, offset: u64) -> Result<ExtImage> {
        ExtImage::in_region(Region::new(file.into(), offset)?, true)
    }

    fn in_region(region: Region, shared: bool) -> Result<ExtImage> {
        let mut raw = [0; superblock::SIZE];
        if region.read_some(superblock::PLACE, &mut raw, "the superblock")? < raw.len() {
            return Err(ImageError::corrupt("too short for an ext2/3/4 file system"));
        }
        let superblock = superblock::Superblock::parse(&raw, shared)?;
        Ok(ExtImage { region, superblock, blocks: Cache::new(CACHE, 16), number: image_number() })
    }

    /// A block of some table, kept for the next one who asks.
    fn meta_block(&self, block: u64) -> Result<Arc<Vec<u8>>> {
        self.blocks.get((self.number, block), || {
            let mut bytes = vec![0; self.superblock.block_size as usize];
            self.read_blocks(block, 0, &mut bytes, "a table")?;
            let weight = bytes.len();
            Ok((Arc::new(bytes), weight))
        })
    }

    /// Fills `buf` from byte `within` of the image's block `block` on.
    fn read_blocks(&self, block: u64, within: u64, buf: &mut [u8], what: &str) -> Result<()> {
        if block == 0 || block >= self.superblock.blocks {
            return Err(ImageError::corrupt(format!("{what} at block {block} of {}", self.superblock.blocks)));
        }
        // No overflow: there are fewer than 2^48 blocks of at most 2^16 bytes.
        self.region.read_exact(block * u64::from(self.superblock.block_size) + within, buf, what)
    }

    /// Fills `buf` with the content of a file (or a long symbolic link) from `offset` on.
    ///
    /// # Errors
    /// When that lies beyond the end or the image is damaged.
    pub fn read(&self, inode: &ExtInode, offset: u64, buf: &mut [u8]) -> Result<()> {
        if offset.checked_add(buf.len() as u64).is_none_or(|end| end > inode.size) {
            return Err(ImageError::corrupt(format!("inode {} ends before the bytes asked for", inode.number)));
        }
        if inode.is_inline() {
            let content = [inode.block.as_slice(), &self.inline_rest(inode)?].concat();
            for (place, byte) in (offset..).zip(buf) {
                *byte = usize::try_from(place).ok().and_then(|place| content.get(place)).copied().unwrap_or(0);
            }
            return Ok(());
        }
        let size = u64::from(self.superblock.block_size);
        let mut done = 0;
        while let Some(rest) = buf.get_mut(done..).filter(|rest| !rest.is_empty()) {
            let position = offset + done as u64;
            let within = position % size;
            let span = self.span(inode, position / size)?;
            let length = (span.blocks.saturating_mul(size) - within).min(rest.len() as u64) as usize;
            let (piece, _) = rest.split_at_mut(length);
            match span.place {
                Some(place) => self.read_blocks(place, within, piece, "file content")?,
                None => piece.fill(0),
            }
            done += length;
        }
        Ok(())
    }

    /// The first range at or after `offset` with data; unwritten extents count as holes. None: only holes follow.
    ///
    /// # Errors
    /// When the image is damaged.
    pub fn next_data(&self, inode: &ExtInode, offset: u64) -> Result<Option<Range<u64>>> {
        if inode.is_inline() {
            return Ok((offset < inode.size).then_some(offset..inode.size));
        }
        let size = u64::from(self.superblock.block_size);
        let (mut at, mut begin, mut runs) = (offset, None, 0);
        while at < inode.size && runs < RUNS {
            let span = self.span(inode, at / size)?;
            match (span.place, begin) {
                (Some(_), None) => begin = Some(at),
                (None, Some(begin)) => return Ok(Some(begin..at)),
                _ => {}
            }
            runs += usize::from(begin.is_some());
            at = (at / size).saturating_add(span.blocks).saturating_mul(size);
        }
        Ok(begin.map(|begin| begin..at.min(inode.size)))
    }
}

impl std::fmt::Debug for ExtImage {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("ExtImage").field("superblock", &self.superblock).finish_non_exhaustive()
    }
}
