//! The private working directory of one build on scratch; that of a failed one can be kept.

use std::cell::Cell;
use std::path::{Path, PathBuf};
use std::time::Duration;

use crate::config::Config;
use crate::recipe::spec::Kind;
use crate::store::layers;
use crate::sys::fs::{self, PathError};
use crate::sys::workdir::WorkDir;
use crate::sys::{env, host};

/// A working directory.
#[derive(Debug)]
pub struct Work {
    dir: WorkDir,
    /// Where it goes when the build fails, if it is to be kept (`--keep-failed`).
    keep: Option<PathBuf>,
    finished: Cell<bool>,
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

/// Where a build's own files gather: for reference data on the file system that the overlay will be on, because it is
/// large, and its few files lose little there (row C05); for others on scratch.
pub fn place(config: &Config, kind: Kind, target: &Path) -> Result<PathBuf, PathError> {
    if kind == Kind::App {
        return Ok(scratch(config));
    }
    if let Some(named) = config.data_scratch() {
        return Ok(named);
    }
    let dir = target.parent().unwrap_or(Path::new("/"));
    let images = dir.file_name().is_some_and(|name| name == "images");
    let work = dir.parent().filter(|_| images).unwrap_or(dir).join("work");
    layers::make_shared(&work)?;
    Ok(work)
}

/// Where the working directory of a failed build is kept.
pub fn kept(scratch: &Path, token: &str) -> PathBuf {
    scratch.join(format!("ovl-kept-{}-{token}", host::ids().0))
}

impl Work {
    /// Makes one, after clearing what dead builds of this user left on this scratch.
    pub fn create(scratch: &Path, token: &str, lease: Duration, keep: Option<PathBuf>) -> Result<Work, PathError> {
        Ok(Work { dir: WorkDir::create_as(scratch, token, lease)?, keep, finished: Cell::new(false) })
    }

    /// The build has succeeded: nothing is to be kept.
    pub fn finish(&self) {
        self.finished.set(true);
    }

    /// The directory.
    pub fn path(&self) -> &Path {
        self.dir.path()
    }

    /// A new directory in it.
    pub fn make(&self, name: &str) -> Result<PathBuf, PathError> {
        self.dir.make(name)
    }
}

impl Drop for Work {
    fn drop(&mut self) {
        if let Some(kept) = self.keep.as_ref().filter(|_| !self.finished.get()) {
            // What is not there under its name any more is not removed.
            let _ = fs::rename(self.dir.path(), kept);
        }
    }
}
