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
