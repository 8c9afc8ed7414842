//! Metadata blocks: 8 KiB pieces that inode, directory and other tables are made of, and a cursor over them.

use std::sync::Arc;

use super::Image;
use crate::image::error::{ImageError, Result};
use crate::image::squashfs::format::{META_RAW, METADATA};

/// One metadata block, unpacked.
pub(super) struct MetaBlock {
    pub bytes: Vec<u8>,
    /// Where the next one begins.
    pub next: u64,
}

impl Image {
    /// The metadata block that begins at `at`.
    pub(super) fn meta_block(&self, at: u64) -> Result<Arc<MetaBlock>> {
        self.caches.meta.get((self.number, at), || {
            // One read for header and body: a metadata block is never longer than this.
            let mut raw = [0; METADATA + 2];
            let got = self.region.read_some(at, &mut raw, "metadata")?;
            let (header, body) = raw
                .get(..got)
                .and_then(|raw| raw.split_first_chunk::<2>())
                .ok_or_else(|| ImageError::corrupt(format!("a metadata block at {at} lies beyond the image's end")))?;
            let header = u16::from_le_bytes(*header);
            let length = usize::from(header & !META_RAW);
            let bad = || ImageError::corrupt(format!("metadata block at {at} of {length} bytes"));
            let body = body.get(..length).filter(|body| !body.is_empty()).ok_or_else(bad)?;
            let bytes = if header & META_RAW != 0 {
                body.to_vec()
            } else {
                let mut bytes = vec![0; METADATA];
                let size = self.decompress(body, &mut bytes)?;
                bytes.truncate(size);
                bytes
            };
            if bytes.is_empty() {
                return Err(bad());
            }
            let weight = bytes.capacity();
            Ok((Arc::new(MetaBlock { bytes, next: at + 2 + length as u64 }), weight))
        })
    }

    /// A cursor at byte `offset` of the metadata block that begins at `block`; the table ends before `end`.
    pub(super) fn cursor(&self, block: u64, offset: usize, end: u64) -> Cursor<'_> {
        Cursor { image: self, block, offset, end, current: None }
    }
}

/// Reads on through a chain of metadata blocks.
pub(super) struct Cursor<'a> {
    image: &'a Image,
    block: u64,
    offset: usize,
    end: u64,
    current: Option<Arc<MetaBlock>>,
}

impl Cursor<'_> {
    /// The next bytes of the current block: at least one, at most `most`.
    pub fn chunk(&mut self, most: usize) -> Result<&[u8]> {
        loop {
            if self.current.is_none() {
                if self.block >= self.end {
                    return Err(ImageError::corrupt(format!("a table goes on beyond its end at {}", self.end)));
                }
                self.current = Some(self.image.meta_block(self.block)?);
            }
            let Some(current) = &self.current else { continue };
            if self.offset < current.bytes.len() {
                break;
            }
            // Only right behind the last byte is the next block meant; further out the position is wrong.
            if self.offset > current.bytes.len() {
                return Err(ImageError::corrupt(format!(
                    "position {} in metadata block at {}",
                    self.offset, self.block
                )));
            }
            self.block = current.next;
            self.offset = 0;
            self.current = None;
        }
        let rest = self.current.as_ref().and_then(|current| current.bytes.get(self.offset..)).unwrap_or_default();
        let piece = rest.get(..most).unwrap_or(rest);
        self.offset += piece.len();
        Ok(piece)
    }

    /// Fills `buf`.
    pub fn read(&mut self, mut buf: &mut [u8]) -> Result<()> {
        while !buf.is_empty() {
            let piece = self.chunk(buf.len())?;
            let (now, later) = std::mem::take(&mut buf).split_at_mut(piece.len());
            now.copy_from_slice(piece);
            buf = later;
        }
        Ok(())
    }

    /// The next `N` bytes.
    pub fn array<const N: usize>(&mut self) -> Result<[u8; N]> {
        let mut bytes = [0; N];
        self.read(&mut bytes)?;
        Ok(bytes)
    }

    /// The next `length` bytes; the caller has bounded `length`.
    pub fn bytes(&mut self, length: usize) -> Result<Vec<u8>> {
        let mut bytes = vec![0; length];
        self.read(&mut bytes)?;
        Ok(bytes)
    }

    /// Passes over `length` bytes.
    pub fn skip(&mut self, mut length: usize) -> Result<()> {
        while length > 0 {
            length -= self.chunk(length)?.len();
        }
        Ok(())
    }

    /// Where the next byte is: like [`Cursor::position`], but never behind the last byte of a block. None at the end.
    pub fn settled(&mut self) -> Option<(u64, usize)> {
        if self.current.as_ref().is_some_and(|current| self.offset >= current.bytes.len()) {
            self.block = self.current.take().map_or(self.end, |current| current.next);
            self.offset = 0;
        }
        (self.block < self.end).then_some((self.block, self.offset))
    }

    /// Where it stands: the beginning of the block and the byte in it.
    pub fn position(&self) -> (u64, usize) {
        (self.block, self.offset)
    }
}
