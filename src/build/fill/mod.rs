//! Phase 2: the recipe is carried out, each form in its own file; what came of it is the material that is packed.

pub(super) mod conda;
pub(super) mod def;
mod shell;

use std::ffi::OsString;
use std::time::Duration;

use super::error::BuildError;
use super::job::Job;
use super::log::Log;
use super::needs;
use super::sandbox::Sandbox;
use super::stage::Staged;
use super::tree::Tree;
use crate::exec::Invocation;
use crate::image::source::AnySource;
use crate::image::source::graft::Extra;
use crate::model::env::EnvVar;
use crate::model::event::{Event, Phase};
use crate::recipe::Content;
use crate::runtime;
use crate::sys::fs::PathError;
use crate::sys::process::{self, Ended};

/// A build whose files are there.
pub struct Filled<'a> {
    pub(super) staged: Staged<'a>,
    pub(super) material: Material,
}

/// What a recipe came to.
pub struct Material {
    /// The files.
    pub files: Files,
    /// Further files below the overlay's own directory: paths relative to `/cnt/NAME/.ovl`.
    pub extras: Vec<Extra>,
    /// Variables that the files themselves want exported; the recipe's own come after them.
    pub env: Vec<EnvVar>,
}

/// Where the files of an overlay are.
pub enum Files {
    /// In the staged tree, below `/cnt/NAME`.
    Tree,
    /// In a source whose root becomes `/cnt/NAME`.
    App(AnySource),
    /// In a source that is a whole system: its root becomes `/`.
    System(AnySource),
}

impl Material {
    /// What a script left in the staged tree.
    pub fn tree() -> Material {
        Material { files: Files::Tree, extras: Vec::new(), env: Vec::new() }
    }
}

impl<'a> Staged<'a> {
    /// Carries the recipe out.
    pub fn fill(mut self) -> Result<Filled<'a>, BuildError> {
        match self.material() {
            Ok(material) => Ok(Filled { staged: self, material }),
            Err(error) => {
                self.log.note(&format!("failed: {error}"));
                Err(error)
            }
        }
    }

    fn material(&mut self) -> Result<Material, BuildError> {
        needs::check(self)?;
        if !self.job.spec.sources.is_empty() {
            self.job.enter(Phase::Fetch, &format!("{} sources", self.job.spec.sources.len()))?;
            self.fetch_sources()?;
        }
        match self.job.spec.content.clone() {
            Content::Shell => shell::fill(self),
            Content::Conda(environment) => conda::fill(self, &environment),
            Content::Def(definition) => def::fill(self, &definition),
        }
    }
}

/// Something to run in a sandbox.
pub struct Script<'a> {
    /// The program and its arguments.
    pub argv: Vec<OsString>,
    /// The tree to be filled, when it needs one that is mounted meanwhile.
    pub tree: Option<&'a Tree>,
    /// How long it may take.
    pub limit: Option<Duration>,
}

/// Runs a script in a sandbox: its output goes into the log, to the listener and to `each`; the answers are its standard
/// input.
pub fn run(
    job: &Job,
    log: &mut Log,
    sandbox: &Sandbox,
    script: Script,
    each: &mut dyn FnMut(&[u8]),
) -> Result<Ended, BuildError> {
    let argv = script.argv.clone();
    invoke(job, log, &sandbox.invocation(argv), script, each)
}

/// [`run`] for an invocation of one's own.
pub fn invoke(
    job: &Job,
    log: &mut Log,
    invocation: &Invocation,
    script: Script,
    each: &mut dyn FnMut(&[u8]),
) -> Result<Ended, BuildError> {
    let mounted = script.tree.and_then(|tree| Some((tree.image.as_deref()?, tree.top.as_path())));
    let mut sandboxed = runtime::command_for(invocation, mounted)?;
    let mut stdin = job.step.answers.join("\n").into_bytes();
    if !stdin.is_empty() {
        stdin.push(b'\n');
    }
    let ended = process::stream(&mut sandboxed.command, stdin, script.limit, &|| job.step.stop.is_set(), &mut |line| {
        each(line);
        let line = log.line(line);
        job.listener.hear(&Event::Output { name: job.name.clone(), line });
    });
    let ended = ended.map_err(PathError::new("run the sandbox for", job.target.clone()))?;
    log.note(&ended.to_string());
    // The sandbox's own troubles are not the script's.
    match sandboxed.trouble() {
        Some(trouble) if !matches!(ended, Ended::Interrupted(_) | Ended::TimedOut) => Err(trouble.into()),
        _ => Ok(ended),
    }
}
