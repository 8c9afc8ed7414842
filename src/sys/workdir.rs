//! Private working directories on scratch: 0700, unique, with their owner written in them, removed when dropped. What
//! killed processes left is removed by the next ovl of the same user on the same host that looks for it.

use std::fs::File;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::mpsc;
use std::time::{Duration, SystemTime};

use super::erase;
use super::fs::{self, PathError};
use super::host;
use super::lock::{self, Taken};
use super::owner::{self, Owner};

/// A working directory.
#[derive(Debug)]
pub struct WorkDir {
    dir: PathBuf,
    // Locked for as long as the owner lives: evidence where process numbers mean nothing (other PID namespaces).
    _owner: File,
    // Its closing ends the heartbeat, which tells other hosts that share the scratch.
    _beat: mpsc::Sender<()>,
}

/// The owner file in a working directory.
pub const OWNER: &str = "owner.json";

/// How the names of the user's working directories begin.
pub fn prefix() -> String {
    format!("ovl-{}-", host::ids().0)
}

impl WorkDir {
    /// Makes one in `scratch`, after clearing what dead owners left there; `lease` is how old their traces have to be
    /// where nothing else tells.
    pub fn create(scratch: &Path, lease: Duration) -> Result<WorkDir, PathError> {
        WorkDir::create_as(scratch, &host::token(), lease)
    }

    /// [`WorkDir::create`] with a token that is known elsewhere, too.
    pub fn create_as(scratch: &Path, token: &str, lease: Duration) -> Result<WorkDir, PathError> {
        sweep(scratch, lease);
        let dir = scratch.join(format!("{}{token}", prefix()));
        fs::create_private_dir(&dir)?;
        let path = dir.join(OWNER);
        let owner = Owner::me();
        let text = serde_json::to_vec(&owner).unwrap_or_default();
        let made = fs::write_atomic(&path, &text, 0o600).and_then(|()| fs::open(&path));
        match made {
            Ok(file) => {
                let _ = lock::try_flock(&file);
                Ok(WorkDir { dir, _owner: file, _beat: owner::heartbeat(path, owner.token, lease) })
            }
            Err(error) => {
                let _ = fs::remove_tree(&dir);
                Err(error)
            }
        }
    }

    /// The directory.
    pub fn path(&self) -> &Path {
        &self.dir
    }

    /// A new directory in it.
    pub fn make(&self, name: &str) -> Result<PathBuf, PathError> {
        let path = self.dir.join(name);
        fs::create_dirs(&path)?;
        Ok(path)
    }
}

impl Drop for WorkDir {
    fn drop(&mut self) {
        erase::tree(&self.dir);
    }
}

/// Removes working directories of this user whose owners are gone and that no process has mounted. What cannot be
/// judged or removed stays: it is no reason not to work.
pub fn sweep(scratch: &Path, lease: Duration) {
    let now = fs::server_now(scratch);
    for name in fs::list_if_exists(scratch).unwrap_or_default() {
        let dir = scratch.join(&name);
        if name.to_str().is_some_and(|name| name.starts_with(&prefix()))
            && is_left(&dir, now, lease).unwrap_or(false)
            && !is_locked(&dir.join(OWNER))
            && !is_mounted(&dir)
        {
            erase::tree(&dir);
        }
    }
}

fn is_left(dir: &Path, now: SystemTime, lease: Duration) -> Result<bool, PathError> {
    let meta = fs::symlink_metadata(dir)?;
    // In a directory that all may write to, anybody can make a name that looks like ours.
    if !meta.is_dir() || meta.uid() != host::ids().0 {
        return Ok(false);
    }
    let file = dir.join(OWNER);
    match owner::read(&file)? {
        Some(owner) => owner::is_stale(&owner, &file, now, lease),
        // Killed before it wrote its owner; a living one does that within moments.
        None => Ok(meta.modified().is_ok_and(|made| now.duration_since(made).is_ok_and(|age| age > lease))),
    }
}

fn is_locked(path: &Path) -> bool {
    fs::open(path).is_ok_and(|file| lock::try_flock(&file).is_ok_and(|taken| taken == Taken::Busy))
}

/// Whether anything in a working directory is mounted in the mount namespace of any process that may be looked into
/// (all of the user's own). Its name is unique, so it is enough to find it in a list of mounts.
pub fn is_mounted(dir: &Path) -> bool {
    let Some(name) = dir.file_name() else { return false };
    let mut seen = Vec::new();
    for pid in fs::list(Path::new("/proc")).unwrap_or_default() {
        if !pid.as_bytes().iter().all(u8::is_ascii_digit) {
            continue;
        }
        let process = Path::new("/proc").join(&pid);
        let Ok(space) = fs::read_link(&process.join("ns/mnt")) else { continue };
        if seen.contains(&space) {
            continue;
        }
        // A process that ends while its list is read says nothing about others.
        let Ok(text) = fs::read(&process.join("mountinfo")) else { continue };
        if text.windows(name.len()).any(|part| part == name.as_bytes()) {
            return true;
        }
        if !text.is_empty() {
            seen.push(space);
        }
    }
    false
}

#[cfg(test)]
mod tests {
    use super::*;

    const LEASE: Duration = Duration::from_secs(60);

    #[test]
    fn the_living_stay_and_the_dead_go() {
        let scratch = std::env::temp_dir().join(format!("ovl-workdir-{}", host::token()));
        fs::create_dirs(&scratch).unwrap();
        let alive = WorkDir::create(&scratch, LEASE).unwrap();
        let forge = |change: &dyn Fn(&mut Owner)| {
            let dir = scratch.join(format!("{}{}", prefix(), host::token()));
            fs::create_private_dir(&dir).unwrap();
            let mut owner = Owner::me();
            change(&mut owner);
            fs::write_atomic(&dir.join(OWNER), &serde_json::to_vec(&owner).unwrap(), 0o600).unwrap();
            dir
        };
        let ended = forge(&|owner| owner.pid = 4_000_000);
        // On another boot or host the lease has to run out first.
        let rebooted = forge(&|owner| owner.boot = "another".into());
        let elsewhere = forge(&|owner| owner.host = "elsewhere".into());
        let locked = forge(&|owner| owner.pid = 4_000_000);
        let lock = fs::open(&locked.join(OWNER)).unwrap();
        lock::try_flock(&lock).unwrap();
        let newborn = scratch.join(format!("{}x", prefix()));
        fs::create_private_dir(&newborn).unwrap();
        let foreign = scratch.join("ovl-1-other");
        fs::create_private_dir(&foreign).unwrap();
        sweep(&scratch, LEASE);
        for (dir, stays) in [
            (alive.path(), true),
            (&ended, false),
            (&rebooted, true),
            (&elsewhere, true),
            (&locked, true),
            (&newborn, true),
            (&foreign, true),
        ] {
            assert_eq!(dir.exists(), stays, "{}", dir.display());
        }
        let path = alive.path().to_owned();
        drop(alive);
        assert!(!path.exists());
        fs::remove_tree(&scratch).unwrap();
    }

    #[test]
    fn what_is_not_mounted_is_found_to_be_so() {
        assert!(!is_mounted(Path::new("/tmp/ovl-0-surely-nowhere")));
        assert!(is_mounted(Path::new("/proc")), "something called proc is mounted");
    }
}
