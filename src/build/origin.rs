//! Where a recipe comes from, for provenance: its git commit if it lies in a checkout, and the time that stands for
//! "when" in a build that is to come out the same again.

use std::path::Path;
use std::time::Duration;

use crate::model::cmd::Cmd;
use crate::store::recipes::Place;
use crate::sys::{env, fs, process};

/// Facts of a recipe's origin.
#[derive(Debug, Clone, Default, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct Origin {
    /// Commit of the checkout.
    pub commit: Option<String>,
    /// Branch of the checkout.
    pub branch: Option<String>,
    /// Whether the recipe differs from the commit.
    pub dirty: bool,
    /// Seconds since 1970.
    pub epoch: i64,
}

/// The time of recipes inside the binary: 2026-01-01, so that every build of this version makes the same bits.
const BUILT_IN_EPOCH: i64 = 1_767_225_600;

/// Looks a recipe's origin up. `SOURCE_DATE_EPOCH` wins, then the commit's time, then the file's.
pub fn of(place: &Place) -> Origin {
    let mut origin = match place {
        Place::BuiltIn(_) | Place::Made(..) => Origin { epoch: BUILT_IN_EPOCH, ..Origin::default() },
        Place::File(path, _) => of_file(path),
        Place::Remote(pinned) => {
            Origin { commit: pinned.git.then(|| pinned.revision.clone()), epoch: pinned.since, ..Origin::default() }
        }
    };
    if let Some(epoch) = env::var("SOURCE_DATE_EPOCH").and_then(|text| text.parse().ok()) {
        origin.epoch = epoch;
    }
    origin
}

fn of_file(path: &Path) -> Origin {
    use std::os::unix::fs::MetadataExt;
    let mtime = fs::metadata(path).map_or(BUILT_IN_EPOCH, |meta| meta.mtime());
    let mut origin = Origin { epoch: mtime, ..Origin::default() };
    if !path.ancestors().skip(1).any(|dir| fs::symlink_metadata(&dir.join(".git")).is_ok()) {
        return origin;
    }
    let (Some(git), Some(dir), Some(file)) = (process::find("git"), path.parent(), path.file_name()) else {
        return origin;
    };
    let ask = |args: &[&str], about_file: bool| -> Option<String> {
        let mut cmd = Cmd::new(&git).arg("-C").arg(dir).args(args.iter().copied());
        if about_file {
            cmd = cmd.arg("--").arg(file);
        }
        let output = process::capture(&cmd, Duration::from_secs(5)).ok().filter(|output| output.ended.ok())?;
        Some(String::from_utf8_lossy(&output.stdout).trim().to_owned()).filter(|text| !text.is_empty())
    };
    // A recipe that git has never seen has no commit, wherever it lies.
    let Some(time) = ask(&["log", "-1", "--format=%ct"], true) else { return origin };
    origin.commit = ask(&["rev-parse", "HEAD"], false);
    origin.branch = ask(&["rev-parse", "--abbrev-ref", "HEAD"], false).filter(|branch| branch != "HEAD");
    origin.dirty = ask(&["status", "--porcelain"], true).is_some();
    if let (false, Ok(time)) = (origin.dirty, time.parse()) {
        origin.epoch = time;
    }
    origin
}
