//! Clearing what killed builds left: their unfinished images and claim files, once nobody alive can own them.

use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::time::{Duration, SystemTime};

use super::{claim, publish};
use crate::sys::fs::{self, PathError};
use crate::sys::lock::{self, Kind, Taken};

/// How long what was pulled in part waits for somebody to go on with it.
const PATIENCE: Duration = Duration::from_secs(7 * 24 * 3600);

/// Removes unfinished images (`.X.new.*`), stale claims and their temporary files in a directory of overlays, as far as
/// this user may. What belongs to a live claim, or is younger than the lease and belongs to no claim, stays. Returns
/// what was removed. Never fails: what others left is no reason not to build.
pub fn images(dir: &Path, lease: Duration) -> Vec<String> {
    let now = fs::server_now(dir);
    let mut removed = Vec::new();
    for sub in [dir.to_owned(), dir.join(".previous")] {
        let mut names = fs::list_if_exists(&sub).unwrap_or_default();
        // Images before claims: a dead owner's claim is the evidence that his image is nobody's.
        names.sort_by_key(|name| !name.to_string_lossy().contains(".new."));
        for name in names.iter().filter_map(|name| name.to_str()) {
            if one(&sub, name, now, lease).unwrap_or(false) {
                removed.push(name.to_owned());
            }
        }
    }
    removed
}

/// Removes unfinished images for `target` that no living process has locked, as `ovl pack` locks its own. Where locks
/// may be those of one node only, a recent change is taken for a sign of life too.
pub fn unfinished(target: &Path, lease: Duration) {
    let (Some(dir), Some(file)) = (target.parent(), target.file_name().and_then(|name| name.to_str())) else { return };
    if fs::metadata_if_exists(&claim::path_for(target)).is_ok_and(|claim| claim.is_some()) {
        return;
    }
    let age = if fs::network_fs(dir).is_some() { lease } else { Duration::from_secs(2) };
    let now = fs::server_now(dir);
    for name in fs::list_if_exists(dir).unwrap_or_default() {
        let path = dir.join(&name);
        if name.to_str().is_some_and(|name| name.starts_with(&format!(".{file}.new.")))
            && older_than(&path, now, age).unwrap_or(false)
            && fs::open_rw(&path)
                .is_ok_and(|file| lock::try_lock(&file, Kind::Write).is_ok_and(|got| got == Taken::Held))
        {
            let _ = fs::remove_file(&path);
        }
    }
}

fn one(dir: &Path, name: &str, now: SystemTime, lease: Duration) -> Result<bool, PathError> {
    let Some(hidden) = name.strip_prefix('.') else { return Ok(false) };
    let path = dir.join(name);
    if let Some((target, _)) = hidden.rsplit_once(publish::PULL) {
        let claimed = claim::holder(&dir.join(target), now, lease)?.is_some();
        let old = !claimed && older_than(&path, now, PATIENCE.max(lease))?;
        return if old { fs::remove_file(&path).map(|()| true) } else { Ok(false) };
    }
    let leftover = match hidden.rsplit_once(".new.") {
        // While the target's claim is held by somebody alive, the file is theirs.
        Some((target, _)) => match fs::metadata_if_exists(&claim::path_for(&dir.join(target)))? {
            Some(_) => claim::holder(&dir.join(target), now, lease)?.is_none(),
            None => older_than(&path, now, lease)?,
        },
        None => match hidden.strip_suffix(".claim") {
            // Queued ones are looked after where runs are planned; a look into each run's files would cost too much here.
            Some(target) if claim::is_queued(&dir.join(target)) => false,
            Some(target) => return claim::remove_stale(&dir.join(target), now, lease),
            None => (hidden.contains(".claim.") || hidden.ends_with(".tmp")) && older_than(&path, now, lease)?,
        },
    };
    if leftover {
        fs::remove_file(&path)?;
    }
    Ok(leftover)
}

fn older_than(path: &Path, now: SystemTime, age: Duration) -> Result<bool, PathError> {
    let Some(meta) = fs::metadata_if_exists(path)? else { return Ok(false) };
    // Hard links keep the time of what they are links to; the inode's own change is when the name was made.
    let changed =
        SystemTime::UNIX_EPOCH + Duration::from_secs(u64::try_from(meta.ctime().max(meta.mtime())).unwrap_or(0));
    Ok(now.duration_since(changed).is_ok_and(|past| past > age))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_the_dead_left_goes_and_the_rest_stays() {
        let dir = std::env::temp_dir().join(format!("ovl-sweep-{}", crate::sys::host::token()));
        fs::create_dirs(&dir).unwrap();
        let lease = Duration::from_secs(1);
        for name in ["a--1.sqf", ".b--1.sqf.new.old", ".c--1.sqf.new.claimed", ".d--1.sqf.claim.x.tmp"] {
            fs::write_atomic(&dir.join(name), b"x", 0o644).unwrap();
        }
        let claim = claim::acquire(&dir.join("c--1.sqf"), Duration::from_secs(60), None).unwrap();
        assert!(images(&dir, lease).is_empty(), "younger than the lease");
        std::thread::sleep(Duration::from_millis(2100));
        fs::write_atomic(&dir.join(".a--1.sqf.new.young"), b"x", 0o644).unwrap();
        assert_eq!(images(&dir, lease), [".b--1.sqf.new.old", ".d--1.sqf.claim.x.tmp"]);
        drop(claim);
        assert_eq!(images(&dir, lease), [".c--1.sqf.new.claimed"]);
        assert_eq!(fs::list(&dir).unwrap(), [".a--1.sqf.new.young", "a--1.sqf"]);
        fs::remove_tree(&dir).unwrap();
    }
}
