//! Phase 2: fetch() and install() run in the sandbox, each line into the log; an empty result is a failure.

use std::ffi::OsString;
use std::time::Duration;

use super::error::BuildError;
use super::job::Job;
use super::log::Log;
use super::needs;
use super::sandbox::Sandbox;
use super::stage::Staged;
use super::tree::Tree;
use crate::exec::Network;
use crate::model::event::{Event, Phase};
use crate::runtime;
use crate::sys::fs::PathError;
use crate::sys::process::{self, Ended};

/// A build whose tree has its files.
pub struct Filled<'a>(pub(super) Staged<'a>);

impl<'a> Staged<'a> {
    /// Runs the recipe.
    pub fn fill(mut self) -> Result<Filled<'a>, BuildError> {
        match self.run_phases() {
            Ok(()) => Ok(Filled(self)),
            Err(error) => {
                self.log.note(&format!("failed: {error}"));
                Err(error)
            }
        }
    }

    fn run_phases(&mut self) -> Result<(), BuildError> {
        needs::check(self)?;
        if self.job.spec.functions.fetch {
            self.job.enter(Phase::Fetch, "network: host")?;
            let mut sandbox = self.sandbox();
            sandbox.network = Network::Host;
            sandbox.sources = Some((self.sources.clone(), true));
            self.script(Phase::Fetch, &sandbox, false)?;
        }
        let network = self.job.network();
        let shown = if network == Network::Host { "network: host" } else { "" };
        self.job.enter(Phase::Install, shown)?;
        let mut sandbox = self.sandbox();
        sandbox.network = network;
        sandbox.sources = Some((self.sources.clone(), false));
        sandbox.target = Some(self.tree.bind(&self.job));
        self.script(Phase::Install, &sandbox, true)
    }

    /// Runs one phase of the driver; `writes` says that it needs the tree.
    fn script(&mut self, phase: Phase, sandbox: &Sandbox, writes: bool) -> Result<(), BuildError> {
        self.log.new_phase(phase.as_str());
        let script =
            Script { argv: Staged::driver(phase.as_str()), tree: writes.then_some(&self.tree), limit: self.job.left() };
        let ended = run(&self.job, &mut self.log, sandbox, script, &mut |_| {})?;
        if let Some(error) = self.job.ended(ended, phase) {
            return Err(error);
        }
        if ended.ok() {
            return Ok(());
        }
        Err(BuildError::Script {
            name: self.job.name.clone(),
            phase,
            ended,
            tail: self.log.tail(),
            log: self.log.path().to_owned(),
        })
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
    let invocation = sandbox.invocation(script.argv);
    let mounted = script.tree.and_then(|tree| Some((tree.image.as_deref()?, tree.top.as_path())));
    let mut sandboxed = runtime::command_for(&invocation, mounted)?;
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
