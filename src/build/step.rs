//! A frozen step: everything one build needs to know, so that a job on a node resolves nothing again.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use serde::{Deserialize, Serialize};

use super::error::BuildError;
use super::origin::{self, Origin};
use super::plan::{ReadyDep, Recipe};
use super::request::Options;
use crate::conda::{Locked, Wishes};
use crate::config::Config;
use crate::model::meta::Channels;
use crate::model::name::Name;
use crate::plan::{Planned, Ticket};
use crate::recipe;
use crate::store::overlays::{self, Overlay};
use crate::sys::{digest, fs, signal};

/// A word from outside that a build is to end, beside the user's interrupt: somebody has cancelled this step.
#[derive(Debug, Clone, Default)]
pub struct Stop(Arc<AtomicBool>);

impl Stop {
    /// Ends the build soon.
    pub fn set(&self) {
        self.0.store(true, Ordering::SeqCst);
    }

    /// Whether to end: this word was given, or the user has interrupted everything.
    pub fn is_set(&self) -> bool {
        self.0.load(Ordering::SeqCst) || signal::interrupted().is_some()
    }
}

/// It is no part of what a step is.
impl PartialEq for Stop {
    fn eq(&self, _: &Stop) -> bool {
        true
    }
}

impl Eq for Stop {}

/// Asks, while the claim of a queued step is waited for, whether its job is still to come, and removes the claim of one
/// that is not: nobody else would notice a job that its scheduler has lost.
#[derive(Debug, Clone, Copy, Default)]
pub struct LookUp(pub Option<fn(&Path, &Config)>);

/// It is no part of what a step is.
impl PartialEq for LookUp {
    fn eq(&self, _: &LookUp) -> bool {
        true
    }
}

impl Eq for LookUp {}

/// What tells one published image from the next.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Stamp(u64, i64, i64);

impl Stamp {
    /// Of a file; None when it is not there.
    pub fn of(path: &Path) -> Option<Stamp> {
        use std::os::unix::fs::MetadataExt;
        fs::metadata(path).ok().map(|meta| Stamp(meta.ino(), meta.mtime(), meta.ctime_nsec()))
    }
}

/// A recipe as it was when the step was made.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Frozen {
    /// Its name in messages.
    pub label: String,
    /// Its text.
    pub text: String,
    /// `sha256:` of that.
    pub digest: String,
    /// Where it comes from.
    pub origin: Origin,
    /// The packages of a conda environment, solved when the step was made.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub locked: Option<Locked>,
    /// What beside its text decides about those.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub conda: Option<Channels>,
    /// What flags said of conda.
    #[serde(default)]
    pub wishes: Wishes,
    /// The directory it lies in, where it is a file: relative paths in it begin there.
    #[serde(default)]
    pub dir: Option<PathBuf>,
}

/// A dependency by its file, which an earlier step may still have to make.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct StepDep {
    /// The overlay.
    pub name: Name,
    /// Its file.
    pub path: PathBuf,
    /// Only while building.
    pub build_only: bool,
}

/// One build.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Step {
    /// Its place in the plan.
    pub plan: Planned,
    /// Its dependencies, in mounting order.
    pub deps: Vec<StepDep>,
    /// Its recipe.
    pub recipe: Frozen,
    /// The image that stood at the target when the step was made.
    pub seen: Option<Stamp>,
    /// It is built even if nothing has changed.
    pub forced: bool,
    /// How it is built.
    pub options: Options,
    /// Lines for the script's standard input; kept in a file of their own that only the user can read.
    #[serde(skip)]
    pub answers: Vec<String>,
    /// The queued claim that this build may take over.
    #[serde(skip)]
    pub ticket: Option<Ticket>,
    /// Ends it before its time.
    #[serde(skip)]
    pub stop: Stop,
    /// Looks after the claim it waits for.
    #[serde(skip)]
    pub look_up: LookUp,
    /// CPUs it may use; None: the configuration's default.
    #[serde(skip)]
    pub ncpus: Option<u32>,
    /// Memory it may use, in bytes; None: the configuration's default.
    #[serde(skip)]
    pub mem: Option<u64>,
}

impl Frozen {
    /// Freezes a recipe; looks its origin up, which may ask git.
    pub fn new(recipe: &Recipe, locked: Option<Locked>) -> Frozen {
        Frozen {
            label: recipe.label.clone(),
            text: String::from_utf8_lossy(&recipe.bytes).into_owned(),
            digest: digest::of(&recipe.bytes),
            origin: origin::of(&recipe.found.place),
            locked,
            dir: recipe.found.place.dir(),
            conda: None,
            wishes: Wishes::default(),
        }
    }
}

impl Step {
    /// Which overlay.
    pub fn name(&self) -> &Name {
        &self.plan.name
    }

    /// The recipe, understood again; it was fit to be built when it was frozen.
    pub fn spec(&self) -> Result<recipe::Spec, BuildError> {
        let label = self.recipe.label.clone();
        if digest::of(self.recipe.text.as_bytes()) != self.recipe.digest {
            return Err(BuildError::Unfit {
                what: format!("{label}: the frozen recipe is not what was frozen"),
                hint: format!("plan it anew with: ovl build {}", self.name()),
            });
        }
        let parsed = recipe::parse(&label, self.recipe.text.as_bytes()).ready();
        parsed.map(|(spec, _)| spec).map_err(|findings| BuildError::Recipe { label, findings })
    }

    /// The images of its dependencies; all of them must be there by now.
    pub fn ready_deps(&self) -> Result<Vec<ReadyDep>, BuildError> {
        let ready = |dep: &StepDep| {
            if fs::metadata_if_exists(&dep.path)?.is_none() {
                return Err(BuildError::NoParent {
                    name: self.name().clone(),
                    parent: dep.name.clone(),
                    path: dep.path.clone(),
                });
            }
            let digest = overlays::digest_of(&dep.path)?;
            let overlay = Overlay { name: dep.name.clone(), path: dep.path.clone(), layer: "" };
            Ok(ReadyDep { overlay, digest, build_only: dep.build_only })
        };
        self.deps.iter().map(ready).collect()
    }

    /// Whether another image stands at the target than when the step was made.
    pub fn is_replaced(&self) -> bool {
        let now = Stamp::of(&self.plan.target);
        now.is_some() && now != self.seen
    }

    /// CPUs for the build: what it was given, within reason.
    pub fn cpus(&self, config: &Config) -> u32 {
        self.ncpus.unwrap_or_else(|| config.default_cpus()).max(1)
    }

    /// Memory for the build, in bytes.
    pub fn memory(&self, config: &Config) -> u64 {
        self.mem.or_else(|| self.plan.resources.mem_bytes()).unwrap_or_else(|| config.default_mem())
    }
}
