//! Keeps a step's status file up to date while it is built, and passes every event on.

use std::path::Path;
use std::sync::Mutex;
use std::time::{Duration, Instant};

use super::status::{self, Class, Cost, State, Status};
use crate::build::{self, BuildError, Done, Step};
use crate::config::Config;
use crate::model::event::{Event, Listener};
use crate::model::resources::JobId;
use crate::sys::cgroup::Memory;
use crate::sys::process::Ended;
use crate::sys::signal;

/// Builds a step and records how it goes. `listener` hears everything but the end.
pub fn build(
    run: &Path,
    step: &Step,
    attempt: u32,
    job: Option<JobId>,
    config: &Config,
    listener: &dyn Listener,
) -> Result<Done, BuildError> {
    let index = step.plan.index;
    let memory = Memory::watch();
    let began = Instant::now();
    let in_job = job.is_some();
    let status = Status { job, ..Status::new(State::Running, attempt) };
    // A full state directory must not end a build that can go on without it.
    let _ = status::write(run, index, &status);
    let recorder = Recorder { run, index, status: Mutex::new(status), listener };
    let result = match build::build(step, config, &recorder) {
        Err(_) if in_job && is_interrupted_soon() => Err(BuildError::Interrupted { name: step.name().clone() }),
        result => result,
    };
    let mut status = recorder.status.into_inner().unwrap_or_else(std::sync::PoisonError::into_inner);
    status.at = crate::sys::clock::now();
    status.cost = Cost {
        peak: memory.peak(),
        mem: Some(step.memory(config)),
        cpus: Some(step.cpus(config)),
        seconds: began.elapsed().as_secs_f64(),
    };
    match &result {
        Ok(done) => status.succeed(done),
        Err(error) => {
            status.fail(error);
            let killed = matches!(error, BuildError::Script { ended: Ended::Signal(9) | Ended::Code(137), .. });
            if memory.kills() > 0 || killed && memory.is_near_limit() {
                status.class = Some(Class::Memory);
            }
        }
    }
    let written = status::write(run, index, &status);
    if let (Err(error), Ok(_)) = (written, &result) {
        let text = format!("what became of it could not be recorded: {error}");
        listener.hear(&Event::Warning { name: Some(step.name().clone()), text });
    }
    result
}

/// A scheduler ends a job by a signal to all its processes at once: a script may fall of it, or fail because its child
/// did, before this process hears of its own.
fn is_interrupted_soon() -> bool {
    let began = Instant::now();
    while signal::interrupted().is_none() && began.elapsed() < GRACE {
        std::thread::sleep(Duration::from_millis(10));
    }
    signal::interrupted().is_some()
}

/// How long after a failure in a job the signal that caused it may come.
const GRACE: Duration = Duration::from_millis(500);

struct Recorder<'a> {
    run: &'a Path,
    index: usize,
    status: Mutex<Status>,
    listener: &'a dyn Listener,
}

impl Listener for Recorder<'_> {
    fn hear(&self, event: &Event) {
        if let Event::Logging { path, .. } = event {
            self.status.lock().unwrap_or_else(std::sync::PoisonError::into_inner).log = Some(path.clone());
        }
        let phase = match event {
            Event::Progress { current, .. } => Some(current.as_str().to_owned()),
            Event::Waiting { reason, .. } => Some(format!("waiting for {reason}")),
            _ => None,
        };
        if let Some(phase) = phase {
            let mut status = self.status.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
            status.phase = Some(phase);
            status.at = crate::sys::clock::now();
            let _ = status::write(self.run, self.index, &status);
        }
        self.listener.hear(event);
    }
}
