//! The lookup tables at the image's end (fragments, export, ids, xattrs: metadata blocks and an index of where each
//! starts), the superblock and the compressor's options.

use std::collections::HashMap;

use super::super::super::error::{ImageError, Result};
use super::super::codec::{Codec, Compression};
use super::super::format::{MAGIC, META_RAW, NONE64, flag};
use super::meta::MetaWriter;

/// Bytes under construction whose first byte lies at a known place of the image.
pub(super) struct Tail {
    start: u64,
    /// What has been laid down.
    pub bytes: Vec<u8>,
}

impl Tail {
    /// Begins at this place of the image.
    pub fn new(start: u64) -> Tail {
        Tail { start, bytes: Vec::new() }
    }

    /// The place of the next byte.
    pub fn position(&self) -> u64 {
        self.start + self.bytes.len() as u64
    }

    /// Appends, and says where.
    pub fn put(&mut self, bytes: &[u8]) -> u64 {
        let at = self.position();
        self.bytes.extend_from_slice(bytes);
        at
    }

    /// A finished stream followed by `header` and the places of its blocks; returns the place of the header, or of
    /// the index when there is no header. Readers find a table by its index.
    pub fn table(&mut self, (stream, starts): (Vec<u8>, Vec<u64>), header: impl FnOnce(u64) -> Vec<u8>) -> u64 {
        let at = self.put(&stream);
        let index = self.put(&header(at));
        for start in starts {
            self.put(&(at + start).to_le_bytes());
        }
        index
    }
}

/// Owners and groups, numbered in the order in which they were first seen.
#[derive(Default)]
pub(super) struct Ids {
    numbers: HashMap<u32, u16>,
    list: Vec<u32>,
}

impl Ids {
    /// The number of an id.
    ///
    /// # Errors
    /// When there are more than the format can count.
    pub fn number(&mut self, id: u32) -> Result<u16> {
        if let Some(number) = self.numbers.get(&id) {
            return Ok(*number);
        }
        // The superblock counts them in 16 bits.
        let number = u16::try_from(self.list.len())
            .ok()
            .filter(|number| *number < u16::MAX)
            .ok_or_else(|| ImageError::Unsupported("more than 65535 different owners and groups".into()))?;
        self.numbers.insert(id, number);
        self.list.push(id);
        Ok(number)
    }

    /// All ids by number.
    pub fn list(&self) -> &[u32] {
        &self.list
    }
}

/// The options block after the superblock, with its header; empty where readers need none.
pub(super) fn compressor_options(compression: Compression) -> Vec<u8> {
    let words: Vec<u32> = match compression.codec {
        // Always there: the (only) stream version, and whether lz4hc was used.
        Codec::Lz4 => vec![1, u32::from(compression.level >= 3)],
        // Only tells people the level; 15 is what its absence means.
        Codec::Zstd if compression.level != 15 => vec![compression.level],
        // gzip: window and strategy are the defaults, and readers refuse levels above 9, which libdeflate has.
        // xz: the dictionary is one block, which is what its absence means.
        Codec::Zstd | Codec::Gzip | Codec::Xz => return Vec::new(),
    };
    let mut bytes = (META_RAW | (words.len() * 4) as u16).to_le_bytes().to_vec();
    words.iter().for_each(|word| bytes.extend_from_slice(&word.to_le_bytes()));
    bytes
}

/// What the superblock says.
pub(super) struct Superblock {
    pub inodes: u32,
    pub time: u32,
    pub block_size: u32,
    pub fragments: u32,
    pub compression: Compression,
    pub options: bool,
    pub ids: u16,
    pub root: u64,
    pub bytes_used: u64,
    pub id_table: u64,
    pub xattr_table: u64,
    pub inode_table: u64,
    pub directory_table: u64,
    pub fragment_table: u64,
    pub export_table: u64,
}

impl Superblock {
    /// Its 96 bytes.
    pub fn bytes(&self) -> Vec<u8> {
        let mut flags = flag::EXPORTABLE;
        flags |= if self.options { flag::COMPRESSOR_OPTIONS } else { 0 };
        flags |= if self.xattr_table == NONE64 { flag::NO_XATTRS } else { 0 };
        let mut bytes = Vec::with_capacity(96);
        for word in [MAGIC, self.inodes, self.time, self.block_size, self.fragments] {
            bytes.extend_from_slice(&word.to_le_bytes());
        }
        let log = self.block_size.trailing_zeros() as u16;
        for half in [self.compression.codec.id(), log, flags, self.ids, 4, 0] {
            bytes.extend_from_slice(&half.to_le_bytes());
        }
        for long in [
            self.root,
            self.bytes_used,
            self.id_table,
            self.xattr_table,
            self.inode_table,
            self.directory_table,
            self.fragment_table,
            self.export_table,
        ] {
            bytes.extend_from_slice(&long.to_le_bytes());
        }
        bytes
    }
}

/// A table of fixed-size records, as a stream.
pub(super) fn records<const N: usize>(
    mut writer: MetaWriter,
    records: impl Iterator<Item = [u8; N]>,
) -> Result<(Vec<u8>, Vec<u64>)> {
    for record in records {
        writer.push(&record)?;
    }
    writer.finish()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_are_numbered_once_and_not_past_the_end() {
        let mut ids = Ids::default();
        assert_eq!((ids.number(1000), ids.number(0), ids.number(1000)).0.ok(), Some(0));
        assert_eq!(ids.list(), [1000, 0]);
        for id in 2000..2000 + 65533 {
            ids.number(id).unwrap();
        }
        assert_eq!(ids.list().len(), 65535);
        assert!(ids.number(1).is_err());
        assert!(ids.number(0).is_ok());
    }

    #[test]
    fn lz4_always_carries_its_options() {
        let options = |codec, level| compressor_options(Compression { codec, level });
        assert_eq!(options(Codec::Lz4, 1), [8, 0x80, 1, 0, 0, 0, 0, 0, 0, 0]);
        assert_eq!(options(Codec::Lz4, 9), [8, 0x80, 1, 0, 0, 0, 1, 0, 0, 0]);
        assert_eq!(options(Codec::Zstd, 3), [4, 0x80, 3, 0, 0, 0]);
        assert!(options(Codec::Zstd, 15).is_empty());
        assert!(options(Codec::Gzip, 12).is_empty());
    }

    #[test]
    fn an_index_follows_its_blocks() {
        let mut tail = Tail::new(1000);
        tail.put(b"xy");
        let index = tail.table((b"abcdef".to_vec(), vec![0, 4]), |at| at.to_le_bytes().to_vec());
        assert_eq!(index, 1008);
        let expected = [&b"xyabcdef"[..], &1002u64.to_le_bytes(), &1002u64.to_le_bytes(), &1006u64.to_le_bytes()];
        assert_eq!(tail.bytes, expected.concat());
    }
}
