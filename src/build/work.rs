//! The private working directory of one build on scratch: 0700, unique, with its owner written in it, removed when
//! dropped; what killed builds left is removed by the next build of the same user on the same host.

use std::cell::Cell;
use std::path::{Path, PathBuf};
use std::sync::mpsc;
use std::time::Duration;

use crate::config::Config;
use crate::store::claim::{self, Owner};
use crate::sys::fs::{self, PathError};
use crate::sys::workdir::{OWNER, prefix, sweep};
use crate::sys::{env, host};

/// A working directory.
#[derive(Debug)]
pub struct Work {
    dir: PathBuf,
    /// Where it goes when the build fails, if it is to be kept (`--keep-failed`).
    keep: Option<PathBuf>,
    finished: Cell<bool>,
    // Its closing ends the heartbeat.
    _beat: mpsc::Sender<()>,
}

/// Where builds work: the configuration's scratch, else the job's own, else $TMPDIR, else /tmp. The first that can be
/// written to; a scratch that was named is never passed over.
pub fn scratch(config: &Config) -> PathBuf {
    if let Some(named) = config.scratch() {
        return named;
    }
    let candidates = [env::var_os("SLURM_TMPDIR"), env::var_os("TMPDIR")];
    let mut usable = candidates.into_iter().flatten().map(PathBuf::from).filter(|dir| dir.is_absolute());
    usable.find(|dir| fs::is_writable_dir(dir)).unwrap_or_else(|| PathBuf::from("/tmp"))
}

/// Where the working directory of a failed build is kept.
pub fn kept(config: &Config, token: &str) -> PathBuf {
    scratch(config).join(format!("ovl-kept-{}-{token}", host::ids().0))
}

impl Work {
    /// Makes one, after clearing what dead builds of this user left on this scratch.
    pub fn create(scratch: &Path, token: &str, lease: Duration, keep: Option<PathBuf>) -> Result<Work, PathError> {
        sweep(scratch, lease);
        let dir = scratch.join(format!("{}{token}", prefix()));
        fs::create_private_dir(&dir)?;
        let owner = Owner::me();
        let file = dir.join(OWNER);
        // Heartbeat: scratch may be shared, and builds of other hosts sweep it too.
        let beat = claim::heartbeat(file.clone(), owner.token.clone(), lease);
        let work = Work { dir, keep, finished: Cell::new(false), _beat: beat };
        fs::write_atomic(&file, &serde_json::to_vec(&owner).unwrap_or_default(), 0o600)?;
        Ok(work)
    }

    /// The build has succeeded: nothing is to be kept.
    pub fn finish(&self) {
        self.finished.set(true);
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

impl Drop for Work {
    fn drop(&mut self) {
        match &self.keep {
            Some(kept) if !self.finished.get() => drop(fs::rename(&self.dir, kept)),
            _ => drop(fs::remove_tree(&self.dir)),
        }
    }
}
