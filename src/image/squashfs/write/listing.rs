//! Directory listings: runs of up to 256 entries behind a header, cut where the inodes' metadata block changes or a
//! number no longer fits, and the index that lets a lookup start in the middle.
//! Format: `squashfs_dir_header`, `squashfs_dir_entry` and `squashfs_dir_index` of the kernel's squashfs_fs.h.

use super::super::super::error::{ImageError, Result};
use super::super::format::METADATA;
use super::inode::Index;
use super::meta::{MetaWriter, block_start};

/// An entry of a directory.
pub(super) struct Listed {
    pub name: Vec<u8>,
    /// Basic inode type.
    pub kind: u16,
    pub number: u32,
    /// Where the inode lies in the inode table.
    pub inode: u64,
}

/// A listing that has been written: its place, length and index.
pub(super) struct Place {
    pub block: u32,
    pub offset: u16,
    pub length: u32,
    pub index: Vec<Index>,
}

/// How many entries from the front share a header.
fn run(entries: &[Listed]) -> usize {
    let Some(first) = entries.first() else { return 0 };
    let mut bytes = 0;
    let fits = |entry: &&Listed| {
        let delta = i64::from(entry.number) - i64::from(first.number);
        let near = i16::try_from(delta).is_ok() && entry.inode >> 16 == first.inode >> 16;
        // A run longer than a metadata block could not be skipped by the index.
        bytes += 8 + entry.name.len();
        near && bytes <= METADATA
    };
    entries.iter().take(256).take_while(fits).count().max(1)
}

/// Writes the sorted entries of one directory.
pub(super) fn write(entries: &[Listed], table: &mut MetaWriter, scratch: &mut Vec<u8>) -> Result<Place> {
    let (block, offset) = table.position();
    let mut place = Place { block: block_start(block, "directory")?, offset, length: 0, index: Vec::new() };
    let too_long = || ImageError::Unsupported("a directory's listing outgrows 4 GiB".into());
    let mut last_block = block;
    let mut rest = entries;
    while let Some(first) = rest.first() {
        let (now, later) = rest.split_at(run(rest));
        let (here, _) = table.position();
        if here != last_block && place.index.len() < usize::from(u16::MAX) {
            let block = block_start(here, "directory")?;
            place.index.push(Index { at: place.length, block, name: first.name.clone() });
            last_block = here;
        }
        scratch.clear();
        scratch.extend_from_slice(&(now.len() as u32 - 1).to_le_bytes());
        scratch.extend_from_slice(&block_start(first.inode >> 16, "inode")?.to_le_bytes());
        scratch.extend_from_slice(&first.number.to_le_bytes());
        for entry in now {
            let delta = entry.number.wrapping_sub(first.number) as u16;
            for half in [entry.inode as u16, delta, entry.kind, (entry.name.len() as u16).wrapping_sub(1)] {
                scratch.extend_from_slice(&half.to_le_bytes());
            }
            scratch.extend_from_slice(&entry.name);
        }
        let length = u32::try_from(scratch.len()).map_err(|_| too_long())?;
        // Leaves room for the 3 that inodes add.
        place.length = place.length.checked_add(length).filter(|all| *all < u32::MAX - 3).ok_or_else(too_long)?;
        table.push(scratch)?;
        rest = later;
    }
    Ok(place)
}

#[cfg(test)]
mod tests {
    use super::super::super::codec::Compression;
    use super::*;

    fn listed(index: u32, number: u32, inode: u64) -> Listed {
        Listed { name: format!("n{index:05}").into_bytes(), kind: 2, number, inode }
    }

    #[test]
    fn headers_are_cut_where_the_format_demands() {
        let many: Vec<_> = (0..300).map(|index| listed(index, index, 0)).collect();
        assert_eq!(run(&many), 256);
        let far: Vec<_> = [10, 32777, 32778].iter().map(|number| listed(*number, *number, 0)).collect();
        assert_eq!(run(&far), 2);
        let back: Vec<_> = [40000, 7232, 7231].iter().map(|number| listed(*number, *number, 0)).collect();
        assert_eq!(run(&back), 2);
        let blocks = [listed(0, 1, 5), listed(1, 2, 6), listed(2, 3, 1 << 16)];
        assert_eq!(run(&blocks), 2);
        let long: Vec<_> = (0..100).map(|_| Listed { name: vec![b'x'; 255], kind: 2, number: 1, inode: 0 }).collect();
        assert_eq!(run(&long), METADATA / 263);
    }

    #[test]
    fn an_index_entry_for_every_further_block() {
        let mut table = MetaWriter::new(Compression::default(), 131072);
        table.push(&[0; 100]).unwrap();
        let entries: Vec<_> = (0..5000).map(|index| listed(index, index, 0)).collect();
        let place = write(&entries, &mut table, &mut Vec::new()).unwrap();
        assert_eq!((place.block, place.offset), (0, 100));
        assert_eq!(place.length, 5000 * 14 + 5000u32.div_ceil(256) * 12);
        assert_eq!(place.index.len(), (100 + place.length as usize) / METADATA);
        assert!(place.index.iter().all(|entry| entry.at % (256 * 14 + 12) == 0));
        let empty = write(&[], &mut table, &mut Vec::new()).unwrap();
        assert_eq!((empty.length, empty.index.len()), (0, 0));
    }
}
