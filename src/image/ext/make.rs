//! How an empty ext3 image to stage a build in is ordered from mke2fs.

use std::path::Path;

use crate::model::cmd::Cmd;

/// mke2fs for a new sparse image at `path`: `mib` MiB, room for `inodes` files, the root owned by `uid` and `gid`.
/// Tables and journal are left to be filled lazily, which makes a 20 GiB image in milliseconds; nothing is reserved
/// for root. ext3 because that is what Apptainer mounts writable.
pub fn staging_image(path: &Path, mib: u64, inodes: u64, uid: u32, gid: u32) -> Cmd {
    Cmd::new("mke2fs")
        .args(["-q", "-F", "-t", "ext3", "-m", "0", "-N"])
        .arg(inodes.to_string())
        .arg("-E")
        .arg(format!("lazy_itable_init=1,lazy_journal_init=1,nodiscard,root_owner={uid}:{gid}"))
        .arg(path)
        .arg(format!("{mib}M"))
}

/// Bytes of the journal, bitmaps and tables of a small image.
const OVERHEAD: u64 = 24 << 20;
/// Bytes an inode takes in its table.
const INODE: u64 = 256;

/// MiB that an ext3 image needs for `bytes` of content (in whole blocks) and so many inodes, with a tenth to spare.
pub fn room_for(bytes: u64, inodes: u64) -> u64 {
    let tables = inodes.saturating_mul(INODE).saturating_mul(5) / 4;
    let needed = bytes.saturating_add(tables).saturating_add(OVERHEAD);
    (needed.saturating_add(needed / 10) >> 20).saturating_add(1)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_command_for_a_staging_image() {
        assert_eq!(
            staging_image(Path::new("/scratch/my stage.img"), 20480, 200_000, 1000, 100).to_string(),
            "mke2fs -q -F -t ext3 -m 0 -N 200000 -E \
             lazy_itable_init=1,lazy_journal_init=1,nodiscard,root_owner=1000:100 '/scratch/my stage.img' 20480M"
        );
    }
}
