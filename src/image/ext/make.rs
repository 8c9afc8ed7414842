//! How ext3 images are ordered from mke2fs: for staging a build, and for working in.

use std::path::Path;

use crate::model::cmd::Cmd;

/// What ext3 has that Apptainer takes, and nothing else, whatever the machine's mke2fs.conf adds.
const FEATURES: &str = "none,has_journal,ext_attr,resize_inode,dir_index,filetype,sparse_super,large_file";

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

/// What an image is for: how many files it has room for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Profile {
    /// Many small files, as conda environments have: a file for every 4 KiB.
    Small,
    /// A file for every 16 KiB.
    Default,
    /// Few large files: a file for every 1 MiB.
    Large,
}

impl Profile {
    /// Bytes for each inode.
    fn ratio(self) -> u32 {
        match self {
            Profile::Small => 4096,
            Profile::Default => 16384,
            Profile::Large => 1 << 20,
        }
    }
}

/// Arguments of mke2fs for an image to work in, in a file of its final size; what is in `seed` is copied into it.
pub fn image(profile: Profile, seed: Option<&Path>, (uid, gid): (u32, u32), path: &Path) -> Vec<std::ffi::OsString> {
    let mut args: Vec<std::ffi::OsString> =
        ["-q", "-F", "-t", "ext3", "-O", FEATURES, "-b", "4096", "-I", "256", "-m", "0", "-i"].map(Into::into).into();
    args.push(profile.ratio().to_string().into());
    args.push("-E".into());
    args.push(format!("lazy_itable_init=1,lazy_journal_init=1,nodiscard,root_owner={uid}:{gid}").into());
    if let Some(seed) = seed {
        args.extend(["-d".into(), seed.into()]);
    }
    args.push(path.into());
    args
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

    #[test]
    fn an_image_to_work_in_has_exactly_these_features() {
        let args = image(Profile::Small, Some(Path::new("/s")), (0, 0), Path::new("/x.img"));
        let text: Vec<&str> = args.iter().filter_map(|arg| arg.to_str()).collect();
        assert_eq!(
            text.join(" "),
            "-q -F -t ext3 -O none,has_journal,ext_attr,resize_inode,dir_index,filetype,sparse_super,large_file -b 4096 \
             -I 256 -m 0 -i 4096 -E lazy_itable_init=1,lazy_journal_init=1,nodiscard,root_owner=0:0 -d /s /x.img"
        );
    }
}
