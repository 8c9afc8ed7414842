//! Streams of metadata blocks: up to 8 KiB each, compressed where that helps, behind a 16-bit length.
//! Format: the kernel's Documentation/filesystems/squashfs.rst, "Filesystem Design".

use super::super::super::error::{ImageError, Result};
use super::super::codec::{Compression, Compressor};
use super::super::format::{META_RAW, METADATA};

/// One stream: what is pushed is cut into blocks; a position is (block's start in the stream, offset within it).
pub(super) struct MetaWriter {
    compressor: Compressor,
    window: usize,
    pending: Vec<u8>,
    scratch: Vec<u8>,
    done: Vec<u8>,
    starts: Vec<u64>,
}

impl MetaWriter {
    /// An empty stream; `window` is the image's block size.
    pub fn new(compression: Compression, window: usize) -> MetaWriter {
        MetaWriter {
            compressor: Compressor::new(compression),
            window,
            pending: Vec::with_capacity(METADATA * 2),
            scratch: vec![0; METADATA - 1],
            done: Vec::new(),
            starts: Vec::new(),
        }
    }

    /// Where the next byte goes.
    pub fn position(&self) -> (u64, u16) {
        // `pending` is always shorter than a block here.
        (self.done.len() as u64, self.pending.len() as u16)
    }

    /// The same as one number: block start in the upper 48 bits, offset in the lower 16.
    pub fn reference(&self) -> u64 {
        let (block, offset) = self.position();
        (block << 16) | u64::from(offset)
    }

    /// Appends bytes; they may span blocks.
    pub fn push(&mut self, mut bytes: &[u8]) -> Result<()> {
        while self.pending.len() + bytes.len() >= METADATA {
            let (now, later) = bytes.split_at(METADATA - self.pending.len());
            self.pending.extend_from_slice(now);
            bytes = later;
            self.flush()?;
        }
        self.pending.extend_from_slice(bytes);
        Ok(())
    }

    fn flush(&mut self) -> Result<()> {
        if self.pending.is_empty() {
            return Ok(());
        }
        self.starts.push(self.done.len() as u64);
        let room = &mut self.scratch[..self.pending.len() - 1];
        let (header, body) = match self.compressor.compress_into(&self.pending, room, self.window)? {
            Some(length) => (length as u16, &self.scratch[..length]),
            None => (self.pending.len() as u16 | META_RAW, &self.pending[..]),
        };
        self.done.extend_from_slice(&header.to_le_bytes());
        self.done.extend_from_slice(body);
        self.pending.clear();
        Ok(())
    }

    /// All blocks, and where each starts within them.
    pub fn finish(mut self) -> Result<(Vec<u8>, Vec<u64>)> {
        self.flush()?;
        Ok((self.done, self.starts))
    }
}

/// `value` as the 32-bit block start the format has room for.
pub(super) fn block_start(value: u64, table: &str) -> Result<u32> {
    u32::try_from(value)
        .map_err(|_| ImageError::Unsupported(format!("the {table} table outgrows the 4 GiB that SquashFS can address")))
}

#[cfg(test)]
mod tests {
    use super::super::super::codec::{Codec, Decompressor};
    use super::*;

    fn read_back(codec: Codec, stream: &[u8]) -> Vec<u8> {
        let (mut at, mut bytes) = (0, Vec::new());
        let mut decompressor = Decompressor::new(codec);
        while at < stream.len() {
            let header = u16::from_le_bytes([stream[at], stream[at + 1]]);
            let length = usize::from(header & !META_RAW);
            let body = &stream[at + 2..at + 2 + length];
            if header & META_RAW == 0 {
                let mut block = vec![0; METADATA];
                let got = decompressor.decompress(body, &mut block).unwrap();
                bytes.extend_from_slice(&block[..got]);
            } else {
                bytes.extend_from_slice(body);
            }
            at += 2 + length;
        }
        bytes
    }

    #[test]
    fn blocks_come_back_and_positions_point_at_them() {
        for codec in [Codec::Gzip, Codec::Xz, Codec::Lz4, Codec::Zstd] {
            let compression = Compression { codec, level: codec.levels().1 };
            let mut writer = MetaWriter::new(compression, 131072);
            let mut noise = 1u32;
            let mut all = Vec::new();
            for index in 0..30_000u32 {
                noise = noise.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
                let word = if index < 8192 { noise } else { index / 100 };
                writer.push(&word.to_le_bytes()).unwrap();
                all.extend_from_slice(&word.to_le_bytes());
                assert_eq!(usize::from(writer.position().1), all.len() % METADATA);
            }
            let (stream, starts) = writer.finish().unwrap();
            assert_eq!(starts.len(), all.len().div_ceil(METADATA));
            assert!(stream.len() < all.len());
            assert_eq!(read_back(codec, &stream), all);
        }
    }
}
