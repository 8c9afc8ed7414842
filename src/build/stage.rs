//! Phase 1: the claim, the log and a place to build in: a directory on node-local scratch, or one ext3 image where the
//! only scratch is a network file system. Dropping a later phase drops this one and all it made.

use std::path::{Path, PathBuf};

use super::error::BuildError;
use super::job::Job;
use super::log::Log;
use super::sandbox::{CONTROL, Sandbox};
use super::tree::Tree;
use super::work::{self, Work};
use crate::model::event::{Event, Phase};
use crate::model::meta::SourcePin;
use crate::recipe;
use crate::store::claim::Claim;
use crate::sys::fs;
use crate::sys::process::Ended;

/// A build that has its place.
pub struct Staged<'a> {
    /// The build.
    pub job: Job<'a>,
    /// Its log.
    pub log: Log,
    /// Where its files gather.
    pub tree: Tree,
    /// Driver, helpers and recipe.
    pub control: PathBuf,
    /// Behind `$tmp_dir`.
    pub tmp: PathBuf,
    /// Behind `$src_dir`.
    pub sources: PathBuf,
    /// What was fetched for it: the file, and what it is.
    pub inputs: Vec<(PathBuf, SourcePin)>,
    /// Images of registries that it was made from.
    pub pulled: Vec<SourcePin>,
    // Dropped in this order: the directory goes before the claim, so that nobody begins while it is being removed.
    pub(super) work: Work,
    _claim: Claim,
}

/// Makes the place for a build whose target is claimed.
pub fn stage<'a>(job: Job<'a>, claim: Claim) -> Result<Staged<'a>, BuildError> {
    let scratch = job.scratch.clone();
    job.enter(Phase::Stage, &scratch.display().to_string())?;
    let logs = job.config.logs_dir();
    let job_id = job.step.ticket.as_ref().map(|ticket| ticket.job.0.as_str()).filter(|job| !job.is_empty());
    let mut log = Log::create(&logs, &job.name, job_id).map_err(|error| BuildError::Unfit {
        what: format!("{}: no log can be kept: {error}", job.name),
        hint: format!("logs go to {}; choose another place with dirs.logs or dirs.state", logs.display()),
    })?;
    job.listener.hear(&Event::Logging { name: job.name.clone(), path: log.path().to_owned() });
    log.note(&format!("{} from {} ({})", job.name, job.step.recipe.label, job.inputs.recipe));
    log.note(&format!("key {}, staged in {}, host {}", job.key, scratch.display(), crate::sys::host::hostname()));
    for dep in &job.deps {
        log.note(&format!("with {} {} ({})", dep.overlay.name, dep.digest, dep.overlay.path.display()));
    }
    if !fs::is_writable_dir(&scratch) {
        return Err(BuildError::Unfit {
            what: format!("the scratch directory {} is not there or cannot be written to", scratch.display()),
            hint: "name another with --scratch DIR, OVL_DIRS_SCRATCH or dirs.scratch in config.yaml".into(),
        });
    }
    let keep = job.step.options.keep_failed.then(|| work::kept(&job.scratch, &job.token));
    let work = Work::create(&scratch, &job.token, job.config.lease(), keep)?;
    let control = work.make("control")?;
    for (file, bytes) in [
        ("driver.sh", recipe::DRIVER.as_bytes()),
        ("helpers.sh", recipe::HELPERS.as_bytes()),
        ("recipe", job.step.recipe.text.as_bytes()),
    ] {
        fs::write_atomic(&control.join(file), bytes, 0o644)?;
    }
    let tmp = work.make("tmp")?;
    work.make("tmp/home")?;
    let sources = work.make("src")?;
    let tree = Tree::create(&job, &work, &scratch)?;
    Ok(Staged { job, log, tree, control, tmp, sources, inputs: Vec::new(), pulled: Vec::new(), work, _claim: claim })
}

impl Staged<'_> {
    /// A sandbox for a phase that fills the tree.
    pub fn sandbox(&self) -> Sandbox {
        let sandbox = self.job.sandbox(self.control.clone(), self.tmp.clone(), true);
        Sandbox { inputs: super::sources::shown(&self.inputs), ..sandbox }
    }

    /// The driver's argv for a phase.
    pub fn driver(phase: &str) -> Vec<std::ffi::OsString> {
        let inside = |file: &str| Path::new(CONTROL).join(file).into_os_string();
        vec!["bash".into(), inside("driver.sh"), phase.into(), inside("recipe")]
    }

    /// Whether what ran in a phase ended well; if not, the error with the end of its output.
    pub fn succeeded(&self, ended: Ended, phase: Phase) -> Result<(), BuildError> {
        match self.job.ended(ended, phase) {
            Some(error) => Err(error),
            None if ended.ok() => Ok(()),
            None => Err(BuildError::Script {
                name: self.job.name.clone(),
                phase,
                ended,
                tail: self.log.tail(),
                log: self.log.path().to_owned(),
            }),
        }
    }
}
