//! Before an image is mounted for writing: what is it, to whom does it belong, and was it closed cleanly? An image of
//! which a server was killed is repaired first.

use std::path::Path;

use super::hold::{self, Hold};
use super::tools::{self, E2FSCK};
use crate::image::ext::{ExtImage, Facts};
use crate::image::kind::{self, Kind};
use crate::runtime::error::{Result, RuntimeError};
use crate::sys::fork::Signals;
use crate::sys::fs::PathError;
use crate::sys::userns::Refusal;
use crate::sys::{host, lend};

/// Makes sure that a held image can be mounted; the ids by which its owner is to be seen in its namespace.
pub fn ready(path: &Path, hold: &Hold, tell: &dyn Fn(&str)) -> Result<(u32, u32)> {
    let failed = |source| RuntimeError::Image { path: path.to_owned(), source };
    if kind::of(&hold.file).map_err(failed)? != Kind::Ext {
        return Err(RuntimeError::Impossible(format!(
            "{} cannot be written to: it is no ext3 image; make one with: ovl overlay create FILE.img",
            path.display()
        )));
    }
    if !Facts::read(&hold.file).map_err(failed)?.is_clean() {
        if !hold.locked {
            return Err(hold::unsure(path));
        }
        repair(path, hold, tell)?;
    }
    let copy = hold.file.try_clone().map_err(PathError::new("open", path))?;
    let image = ExtImage::open(copy, 0).map_err(failed)?;
    owner(path, &image)
}

/// e2fsck's codes (its manual page): bits of 1 repaired, 2 repaired and reboot, 4 left uncorrected, 8 and more failed.
fn repair(path: &Path, hold: &Hold, tell: &dyn Fn(&str)) -> Result<()> {
    let program = tools::find(E2FSCK)?;
    tell(&format!("{} was not closed cleanly: repairing it", path.display()));
    let image = lend::path_of(&hold.file);
    // An interrupt waits until it is repaired.
    let signals = Signals::catch().map_err(Refusal::new("catch signals"))?;
    let ran = lend::run(&program, &["-p".as_ref(), image.as_os_str()], Some(&hold.file));
    signals.release();
    let (code, said) = ran.map_err(PathError::new("run e2fsck on", path))?;
    match code {
        Some(0..=3) => Ok(()),
        _ => Err(RuntimeError::Impossible(format!(
            "{} is damaged, and repairing it needs decisions ({}); save a copy and run: ovl overlay check --yes {}",
            path.display(),
            lend::words(&said),
            path.display()
        ))),
    }
}

/// Those for whom an image was made own its `/upper` and `/work`: the user, or root where commands see themselves as it.
fn owner(path: &Path, image: &ExtImage) -> Result<(u32, u32)> {
    let failed = |source| RuntimeError::Image { path: path.to_owned(), source };
    let top = image.inode(2).map_err(failed)?;
    let names = image.names(&top).map_err(failed)?;
    let named = |wanted: &[u8]| names.iter().find(|(name, _)| name == wanted).map(|(_, number)| *number);
    let (Some(upper), Some(work)) = (named(b"upper"), named(b"work")) else {
        return Err(RuntimeError::Impossible(format!(
            "{} has no /upper and /work in it, which a writable image needs; make one with: ovl overlay create FILE.img",
            path.display()
        )));
    };
    let (upper, work) = (image.inode(upper).map_err(failed)?, image.inode(work).map_err(failed)?);
    // A symbolic link here would lead out of the image.
    for (name, inode) in [("/upper", &upper), ("/work", &work)] {
        if inode.mode & 0o170_000 != 0o040_000 {
            return Err(RuntimeError::Impossible(format!("{name} in {} is no directory", path.display())));
        }
    }
    let (uid, gid) = host::ids();
    if work.uid != upper.uid && uid != 0 {
        return Err(RuntimeError::Impossible(format!(
            "/upper and /work in {} belong to two users, {} and {}; make them yours with: ovl overlay chown {}",
            path.display(),
            upper.uid,
            work.uid,
            path.display()
        )));
    }
    match upper.uid {
        // Root may write everywhere.
        owner if owner == uid || uid == 0 => Ok((uid, gid)),
        0 => Ok((0, 0)),
        owner => Err(RuntimeError::Impossible(format!(
            "what is in {} belongs to user {owner}, not to you; make it yours with: ovl overlay chown {}",
            path.display(),
            path.display()
        ))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sys::fs;

    #[test]
    fn without_locks_an_image_that_looks_unclean_is_left_alone() {
        let path = std::env::temp_dir().join(format!("ovl-mend-{}", host::token()));
        // The magic number and no other word: not closed cleanly.
        let mut bytes = vec![0; 4096];
        bytes[1024 + 0x38..1024 + 0x3a].copy_from_slice(&[0x53, 0xef]);
        fs::write_atomic(&path, &bytes, 0o600).unwrap();
        let hold = Hold { file: fs::open_rw(&path).unwrap(), locked: false };
        let error = ready(&path, &hold, &|text| panic!("{text}")).unwrap_err();
        assert_eq!(error.exit_code(), 6, "{error}");
        assert!(error.hint().unwrap().contains("when nobody uses it anywhere"), "{error:?}");
        assert_eq!(fs::read(&path).unwrap(), bytes);
        fs::remove_file(&path).unwrap();
    }
}
