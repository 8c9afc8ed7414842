//! File content: blocks, tails in fragments, and holes.

use std::sync::Arc;

use super::buffer::Buffer;
use super::inode::{Body, Inode};
use super::{Image, decoder};
use crate::image::bytes::le32;
use crate::image::error::{ImageError, Result};
use crate::image::squashfs::format::DATA_RAW;

/// Block sizes are looked at in runs of this many; a run's positions are kept in a cache.
const RUN: u64 = 2048;
/// Shorter lists are added up each time: cheaper than keeping them.
const SHORT: u64 = 256;

/// The positions of a run of blocks.
pub(super) struct Run {
    /// Size words as stored.
    sizes: Vec<u32>,
    /// Where each block begins, from the run's beginning, and at the end the run's length.
    starts: Vec<u64>,
    /// Where the list of sizes goes on.
    next: (u64, usize),
}

/// A block as stored.
pub(super) struct Block {
    at: u64,
    stored: usize,
    pub raw: bool,
}

impl Image {
    fn run(&self, list_at: (u64, usize), count: u64) -> Result<Arc<Run>> {
        let make = || {
            let mut cursor = self.cursor(list_at.0, list_at.1, self.superblock.directory_table);
            // At most 2048 of four bytes.
            let raw = cursor.bytes(count as usize * 4)?;
            let sizes = raw.chunks_exact(4).map(|piece| le32(piece, 0)).collect::<Result<Vec<u32>>>()?;
            let mut total = 0;
            let mut starts = Vec::with_capacity(sizes.len() + 1);
            for size in &sizes {
                starts.push(total);
                total += u64::from(size & !DATA_RAW);
            }
            starts.push(total);
            let weight = sizes.len() * 12;
            Ok((Arc::new(Run { sizes, starts, next: cursor.position() }), weight))
        };
        if count <= SHORT {
            return make().map(|(run, _)| run);
        }
        // Positions in a metadata block fit in 16 bits.
        self.caches.runs.get((self.number, list_at.0 << 16 | list_at.1 as u64), make)
    }

    /// Block `number` of a file; None for a hole.
    pub(super) fn block(&self, start: u64, list_at: (u64, usize), blocks: u64, number: u64) -> Result<Option<Block>> {
        let wrong = || ImageError::corrupt(format!("block {number} of {blocks} of a file that begins at {start}"));
        let (mut at, mut list, mut first) = (start, list_at, 0);
        // Runs before the wanted one are passed over; each is read once and then found in the cache.
        loop {
            let count = (blocks - first).min(RUN);
            // A lone block near the beginning of a short list needs no more of it.
            let count = if count <= SHORT { count.min(number - first + 1) } else { count };
            let run = self.run(list, count)?;
            if number - first < count {
                let index = (number - first) as usize;
                let (Some(size), Some(offset)) = (run.sizes.get(index), run.starts.get(index)) else {
                    return Err(wrong());
                };
                let stored = size & !DATA_RAW;
                if stored == 0 {
                    return Ok(None);
                }
                if stored > self.superblock.block_size {
                    return Err(wrong());
                }
                let at = at.checked_add(*offset).ok_or_else(wrong)?;
                return Ok(Some(Block { at, stored: stored as usize, raw: size & DATA_RAW != 0 }));
            }
            at = run.starts.last().and_then(|length| at.checked_add(*length)).ok_or_else(wrong)?;
            list = run.next;
            first += count;
        }
    }

    /// Unpacks a stored block into `out` and returns how many bytes it held.
    fn unpack(&self, block: &Block, out: &mut [u8]) -> Result<usize> {
        self.touched.note(&self.region, block.at);
        decoder::with_buffer(block.stored, |stored| {
            self.region.read_exact(block.at, stored, "a data block")?;
            self.decompress(stored, out)
        })
    }

    /// Fills `buf` from byte `offset` of the block on.
    fn copy_block(&self, block: &Block, offset: usize, whole: usize, buf: &mut [u8]) -> Result<()> {
        let short = || ImageError::corrupt(format!("the data block at {} holds less than its file needs", block.at));
        let end = offset.checked_add(buf.len()).ok_or_else(short)?;
        if block.raw {
            // The kernel's page cache has it: no need to keep it twice.
            if end > block.stored {
                return Err(short());
            }
            return self.region.read_exact(block.at + offset as u64, buf, "a data block");
        }
        let key = (self.number, block.at);
        let cached = self.caches.data.peek(key);
        if cached.is_none() && offset == 0 && buf.len() == whole {
            // All of it is wanted here, and whoever reads whole blocks does not come back soon.
            return if self.unpack(block, buf)? == whole { Ok(()) } else { Err(short()) };
        }
        let bytes = match cached {
            Some(bytes) => bytes,
            None => self.caches.data.get(key, || {
                let size = self.superblock.block_size as usize;
                let bytes = Buffer::filled(size, |room| self.unpack(block, room))?;
                let weight = bytes.weight();
                Ok((Arc::new(bytes), weight))
            })?,
        };
        buf.copy_from_slice(bytes.bytes().get(offset..end).ok_or_else(short)?);
        Ok(())
    }

    /// Reads a file's bytes from `offset` on into `buf` and returns how many; fewer than asked only at the end.
    ///
    /// # Errors
    /// [`ImageError::Corrupt`] when the stored bytes do not make up the file, or `file` is none.
    pub fn read(&self, file: &Inode, offset: u64, buf: &mut [u8]) -> Result<usize> {
        let Body::File { start, tail, list_at, blocks } = file.body else {
            return Err(ImageError::corrupt(format!("inode {} is no file", file.number)));
        };
        let size = u64::from(self.superblock.block_size);
        let wanted = file.size.saturating_sub(offset).min(buf.len() as u64) as usize;
        let mut done = 0;
        while let Some(rest) = buf.get_mut(done..wanted).filter(|rest| !rest.is_empty()) {
            let position = offset + done as u64;
            let (number, within) = (position / size, (position % size) as usize);
            let whole = (file.size - number * size).min(size) as usize;
            let length = rest.len().min(whole - within);
            let (piece, _) = rest.split_at_mut(length);
            if number < blocks {
                match self.block(start, list_at, blocks, number)? {
                    Some(block) => self.copy_block(&block, within, whole, piece)?,
                    None => piece.fill(0),
                }
            } else {
                let (fragment, at) = tail.ok_or_else(|| ImageError::corrupt("a file without its tail"))?;
                self.copy_fragment(fragment, (at as usize).saturating_add(within), piece)?;
            }
            done += length;
        }
        Ok(done)
    }

    fn copy_fragment(&self, number: u32, offset: usize, buf: &mut [u8]) -> Result<()> {
        let found = self.fragment(number)?;
        let stored = found.size & !DATA_RAW;
        if stored == 0 || stored > self.superblock.block_size {
            return Err(ImageError::corrupt(format!("fragment {number} of {stored} bytes")));
        }
        let block = Block { at: found.start, stored: stored as usize, raw: found.size & DATA_RAW != 0 };
        // Fragments are shared by many files: always by way of the cache.
        self.copy_block(&block, offset, usize::MAX, buf)
    }

    /// The first range at or after `offset` that is no hole; None when only holes follow. At most one run of blocks is
    /// looked at for its end, so a range may be followed by another one.
    pub fn next_data(&self, file: &Inode, offset: u64) -> Result<Option<std::ops::Range<u64>>> {
        let Body::File { tail, list_at, blocks, .. } = file.body else {
            return Err(ImageError::corrupt(format!("inode {} is no file", file.number)));
        };
        if offset >= file.size {
            return Ok(None);
        }
        let size = u64::from(self.superblock.block_size);
        let (wanted, mut list, mut first) = (offset / size, list_at, 0);
        while first < blocks {
            let count = (blocks - first).min(RUN);
            let run = self.run(list, count)?;
            let from = wanted.saturating_sub(first).min(count) as usize;
            let rest = run.sizes.get(from..).unwrap_or_default();
            if let Some(skip) = rest.iter().position(|size| size & !DATA_RAW != 0) {
                let length = rest.iter().skip(skip).take_while(|size| **size & !DATA_RAW != 0).count();
                let begin = (first + (from + skip) as u64) * size;
                return Ok(Some(begin.max(offset)..(begin + length as u64 * size).min(file.size)));
            }
            list = run.next;
            first += count;
        }
        Ok(tail.map(|_| (blocks * size).max(offset)..file.size))
    }

    /// Bytes that a file's own blocks take in the image, without its tail. Checks that they lie before the tables.
    pub(super) fn stored_bytes(&self, file: &Inode) -> Result<u64> {
        let Body::File { start, tail, list_at, blocks } = file.body else { return Ok(0) };
        let (mut total, mut list, mut first) = (0u64, list_at, 0);
        let wrong = || ImageError::corrupt(format!("the blocks of inode {} lie outside of the data", file.number));
        while first < blocks {
            let count = (blocks - first).min(RUN);
            let run = self.run(list, count)?;
            if run.sizes.iter().any(|size| size & !DATA_RAW > self.superblock.block_size) {
                return Err(wrong());
            }
            total = run.starts.last().and_then(|length| total.checked_add(*length)).ok_or_else(wrong)?;
            list = run.next;
            first += count;
        }
        let end = start.checked_add(total).ok_or_else(wrong)?;
        if total > 0 && end > self.superblock.inode_table {
            return Err(wrong());
        }
        if let Some((fragment, _)) = tail {
            self.fragment(fragment)?;
        }
        Ok(total)
    }
}
