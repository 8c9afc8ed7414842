//! How a step is, by its own word: one small file per step, written whole by whoever builds it.

use std::path::{Path, PathBuf};
use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::build::{BuildError, Done};
use crate::model::event::Phase;
use crate::model::resources::JobId;
use crate::plan::{STATUS, step_dir};
use crate::sys::fs::{self, PathError};
use crate::sys::{clock, host};

/// Where a step is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum State {
    /// It waits for its turn; written when it is planned again.
    Planned,
    /// It is being built.
    Running,
    /// Its process was told to end: by its user, its scheduler or the machine. The last word is the scheduler's.
    Interrupted,
    /// Its overlay is there.
    Done,
    /// It failed.
    Failed,
    /// Something it needs failed.
    Skipped,
    /// Somebody cancelled it.
    Cancelled,
}

impl State {
    /// Whether nothing more will happen by itself.
    pub fn is_final(self) -> bool {
        matches!(self, State::Done | State::Failed | State::Skipped | State::Cancelled)
    }

    /// The word in lists and JSON.
    pub fn word(self) -> &'static str {
        match self {
            State::Planned => "planned",
            State::Running => "running",
            State::Interrupted => "interrupted",
            State::Done => "done",
            State::Failed => "failed",
            State::Skipped => "skipped",
            State::Cancelled => "cancelled",
        }
    }
}

/// Kinds of failure; the command line gives each its exit code.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Class {
    /// The recipe's script, or what it left.
    Build,
    /// A check, a test, `#VERIFY`, `#NEEDS`.
    Gate,
    /// The recipe itself, a question without an answer.
    Usage,
    /// Somebody else has it.
    Busy,
    /// The machine or its configuration.
    Unfit,
    /// The time limit.
    Time,
    /// Memory.
    Memory,
    /// The job or its node went away.
    Lost,
    /// Anything else.
    Internal,
}

/// What a build used, and what it had.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Cost {
    /// Highest memory of the whole build, in bytes.
    pub peak: Option<u64>,
    /// Memory it was given, in bytes.
    pub mem: Option<u64>,
    /// CPUs it was given.
    pub cpus: Option<u32>,
    /// Seconds it took.
    pub seconds: f64,
}

/// The file.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Status {
    /// Where the step is.
    pub state: State,
    /// Which attempt this is, from 1.
    pub attempt: u32,
    /// The job it runs in.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub job: Option<JobId>,
    /// Where it runs or ran.
    pub host: String,
    /// Its process there.
    pub pid: u32,
    /// That process' start time in ticks since boot.
    pub start: u64,
    /// When the attempt began, seconds since 1970.
    pub began: i64,
    /// When this was written.
    pub at: i64,
    /// The phase it is in or failed in.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub phase: Option<String>,
    /// Why it failed, was skipped or cancelled, as a sentence.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub text: String,
    /// The kind of failure.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub class: Option<Class>,
    /// The last lines of a failing script.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub tail: Vec<String>,
    /// Its log.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub log: Option<PathBuf>,
    /// What came of it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub result: Option<Done>,
    /// What it cost.
    #[serde(default)]
    pub cost: Cost,
}

impl Status {
    /// A new status by this process.
    pub fn new(state: State, attempt: u32) -> Status {
        let (pid, now) = (std::process::id(), clock::now());
        Status {
            state,
            attempt,
            job: None,
            host: host::hostname(),
            pid,
            start: host::start_time(pid).unwrap_or(0),
            began: now,
            at: now,
            phase: None,
            text: String::new(),
            class: None,
            tail: Vec::new(),
            log: None,
            result: None,
            cost: Cost::default(),
        }
    }

    /// The status of a step that is over without having run.
    pub fn ended(state: State, attempt: u32, text: impl Into<String>) -> Status {
        Status { text: text.into(), ..Status::new(state, attempt) }
    }

    /// Takes what an error says.
    pub fn fail(&mut self, error: &BuildError) {
        self.state = if matches!(error, BuildError::Interrupted { .. }) { State::Interrupted } else { State::Failed };
        self.text = error.to_string();
        let (class, phase) = class(error);
        self.class = Some(class);
        self.phase = phase.map(|phase| phase.as_str().to_owned()).or_else(|| self.phase.take());
        if let BuildError::Script { tail, log, .. } | BuildError::Check { tail, log, .. } = error {
            self.tail.clone_from(tail);
            self.log = Some(log.clone());
        }
    }

    /// Takes a result.
    pub fn succeed(&mut self, done: &Done) {
        self.state = State::Done;
        self.log = done.log.clone().or_else(|| self.log.take());
        self.result = Some(done.clone());
    }

    /// Whether the process that wrote it can be seen from here and is gone.
    pub fn is_orphaned(&self) -> bool {
        self.state == State::Running
            && self.job.is_none()
            && self.host == host::hostname()
            && host::start_time(self.pid) != Some(self.start)
    }

    /// How long the attempt took, or has taken.
    pub fn elapsed(&self) -> Duration {
        let until = if self.state == State::Running { clock::now() } else { self.at };
        Duration::from_secs(u64::try_from(until.saturating_sub(self.began)).unwrap_or(0))
    }
}

fn class(error: &BuildError) -> (Class, Option<Phase>) {
    match error {
        BuildError::Script { phase, .. } => (Class::Build, Some(*phase)),
        BuildError::TimedOut { phase, .. } => (Class::Time, Some(*phase)),
        BuildError::Check { .. } => (Class::Gate, Some(Phase::Check)),
        BuildError::Empty { .. } | BuildError::Full { .. } => (Class::Build, None),
        BuildError::Unfulfilled { .. } => (Class::Gate, None),
        BuildError::Recipe { .. }
        | BuildError::Directive(_)
        | BuildError::Graph(_)
        | BuildError::NoRecipe { .. }
        | BuildError::Unanswered { .. } => (Class::Usage, None),
        BuildError::Busy { .. } => (Class::Busy, None),
        BuildError::Unfit { .. } => (Class::Unfit, None),
        _ => (Class::Internal, None),
    }
}

/// Reads a step's status; None when there is none yet or it cannot be understood.
pub fn read(run: &Path, step: usize) -> Option<Status> {
    let bytes = fs::read_if_exists(&step_dir(run, step).join(STATUS)).ok().flatten()?;
    serde_json::from_slice(&bytes).ok()
}

/// Writes a step's status, unless a newer attempt has written one, or this one its last word.
pub fn write(run: &Path, step: usize, status: &Status) -> Result<(), PathError> {
    // A job that lives on though it was given up must not speak for the attempt that has taken its place.
    // Within one attempt a last word stands, unless the overlay came to be after all.
    let stands = |said: Status| {
        said.attempt > status.attempt
            || said.attempt == status.attempt && said.state.is_final() && status.state != State::Done
    };
    if read(run, step).is_some_and(stands) {
        return Ok(());
    }
    let bytes = serde_json::to_vec_pretty(status).unwrap_or_default();
    let path = step_dir(run, step).join(STATUS);
    // Only the end of a step is worth waiting for the disk.
    if status.state.is_final() { fs::write_atomic(&path, &bytes, 0o644) } else { fs::write_quick(&path, &bytes, 0o644) }
}
