//! The xattr tables: every different set of attributes is stored once and numbered.
//! Format: `squashfs_xattr_*` of the kernel's squashfs_fs.h and mksquashfs' layout of them.

use std::collections::HashMap;

use sha2::{Digest, Sha256};

use super::super::super::error::{ImageError, Result};
use super::super::codec::Compression;
use super::super::format::{NONE32, NONE64, XATTR_PREFIXES};
use super::meta::MetaWriter;
use super::tables::{Tail, records};

/// Collects sets.
pub(super) struct Xattrs {
    pairs: MetaWriter,
    sets: Vec<(u64, u32, u32)>,
    known: HashMap<[u8; 32], u32>,
    compression: Compression,
    window: usize,
}

impl Xattrs {
    /// No set yet.
    pub fn new(compression: Compression, window: usize) -> Xattrs {
        let pairs = MetaWriter::new(compression, window);
        Xattrs { pairs, sets: Vec::new(), known: HashMap::new(), compression, window }
    }

    /// The number of a set of (full name, value); [`NONE32`] for the empty one.
    ///
    /// # Errors
    /// When a name has no prefix that SquashFS knows, or a name or value is longer than Linux allows.
    pub fn number(&mut self, set: &[(Vec<u8>, Vec<u8>)]) -> Result<u32> {
        if set.is_empty() {
            return Ok(NONE32);
        }
        let mut bytes = Vec::new();
        for (name, value) in set {
            let refused = |why| ImageError::Unsupported(format!("attribute {}: {why}", name.escape_ascii()));
            let (kind, rest) = XATTR_PREFIXES
                .iter()
                .enumerate()
                .find_map(|(kind, prefix)| Some((kind, name.strip_prefix(*prefix)?)))
                .ok_or_else(|| refused("SquashFS keeps only user., trusted. and security. ones"))?;
            if name.len() > 255 || value.len() > 65536 {
                return Err(refused("the name or value is too long"));
            }
            bytes.extend_from_slice(&(kind as u16).to_le_bytes());
            bytes.extend_from_slice(&(rest.len() as u16).to_le_bytes());
            bytes.extend_from_slice(rest);
            bytes.extend_from_slice(&(value.len() as u32).to_le_bytes());
            bytes.extend_from_slice(value);
        }
        let digest: [u8; 32] = Sha256::digest(&bytes).into();
        if let Some(number) = self.known.get(&digest) {
            return Ok(*number);
        }
        let number = u32::try_from(self.sets.len()).ok().filter(|number| *number != NONE32);
        let number = number.ok_or_else(|| ImageError::Unsupported("too many different attributes".into()))?;
        let length = u32::try_from(bytes.len())
            .map_err(|_| ImageError::Unsupported("the attributes of one entry outgrow 4 GiB".into()))?;
        self.sets.push((self.pairs.reference(), set.len() as u32, length));
        self.pairs.push(&bytes)?;
        self.known.insert(digest, number);
        Ok(number)
    }

    /// Lays the tables down; returns their place for the superblock.
    pub fn finish(self, tail: &mut Tail) -> Result<u64> {
        if self.sets.is_empty() {
            return Ok(NONE64);
        }
        let (pairs, _) = self.pairs.finish()?;
        let pairs_at = tail.put(&pairs);
        let count = self.sets.len() as u32;
        let sets = self.sets.into_iter().map(|(place, count, length)| {
            let mut record = [0; 16];
            record[..8].copy_from_slice(&place.to_le_bytes());
            record[8..12].copy_from_slice(&count.to_le_bytes());
            record[12..].copy_from_slice(&length.to_le_bytes());
            record
        });
        let stream = records(MetaWriter::new(self.compression, self.window), sets)?;
        Ok(tail.table(stream, |_| {
            let mut header = pairs_at.to_le_bytes().to_vec();
            header.extend_from_slice(&count.to_le_bytes());
            header.extend_from_slice(&[0; 4]);
            header
        }))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn equal_sets_share_a_number() {
        let mut xattrs = Xattrs::new(Compression::default(), 131072);
        let set = |value: &str| vec![(b"user.a".to_vec(), value.as_bytes().to_vec())];
        assert_eq!(xattrs.number(&[]).unwrap(), NONE32);
        assert_eq!(xattrs.number(&set("1")).unwrap(), 0);
        assert_eq!(xattrs.number(&set("2")).unwrap(), 1);
        assert_eq!(xattrs.number(&set("1")).unwrap(), 0);
        assert!(xattrs.number(&[(b"system.posix_acl_access".to_vec(), Vec::new())]).is_err());
        assert!(xattrs.number(&[(b"user.a".to_vec(), vec![0; 65537])]).is_err());
    }

    #[test]
    fn no_sets_mean_no_table() {
        let mut tail = Tail::new(0);
        assert_eq!(Xattrs::new(Compression::default(), 131072).finish(&mut tail).unwrap(), NONE64);
        assert!(tail.bytes.is_empty());
    }
}
