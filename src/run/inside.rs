//! A queued step in its job: looks whether what it needs has really come to be, builds, and leaves its word.
//!
//! No scheduler's word is trusted alone: Slurm takes a dependency on a job it has forgotten for fulfilled, volclava may
//! start a child early. So the parents' own words are read here, before anything is built.

use std::path::Path;
use std::time::{Duration, Instant};

use super::dir::{Dir, RunError};
use super::journal;
use super::queue::{self, Queue};
use super::record;
use super::status::{self, State, Status};
use crate::build::BuildError;
use crate::model::event::{Event, Listener};
use crate::model::resources::JobId;
use crate::plan::{Place, Ticket, descendants};
use crate::sched::{self, JobState};
use crate::store::{claim, overlays};
use crate::sys::{clock, signal};

/// How a step in a job ended; its exit code is not 0 unless the overlay is there.
#[derive(Debug)]
pub enum Ended {
    /// The overlay is there.
    Done,
    /// It failed.
    Failed(BuildError),
    /// What it needs is not there.
    Skipped(String),
    /// Another attempt or somebody's `cancel` has made this one pointless.
    Superseded(String),
}

/// Where a step of a run is, from its directory.
pub fn locate(step_dir: &Path) -> Option<(&Path, usize)> {
    let index = step_dir.file_name()?.to_str()?.parse().ok()?;
    Some((step_dir.parent()?.parent()?, index))
}

/// Runs the step in this directory.
pub fn run(step_dir: &Path, attempt: u32, listener: &dyn Listener) -> Result<Ended, RunError> {
    let odd = |why: &str| RunError::Odd { path: step_dir.to_owned(), why: why.to_owned() };
    let (run, index) = locate(step_dir).ok_or_else(|| odd("it is no step's directory"))?;
    let dir = Dir::open(run)?;
    let config = dir.config()?;
    let mut step = dir.read_step(index)?;
    let inside = queue::inside();
    let job = inside.as_ref().map(|(_, job)| job.clone());
    if let Some(why) = superseded(&dir, index, attempt)? {
        return Ok(Ended::Superseded(why));
    }
    // A requeued job whose step is finished has nothing to do, and must not fail its children.
    if status::read(dir.path(), index).is_some_and(|said| said.attempt == attempt && said.state == State::Done) {
        return Ok(Ended::Done);
    }
    let mut status = Status { job: job.clone(), ..Status::new(State::Running, attempt) };
    status.phase = Some("waiting for what it needs".into());
    let _ = status::write(dir.path(), index, &status);
    if let Err(why) = parents(&dir, index, &config, listener) {
        if signal::interrupted().is_some() {
            status.state = State::Interrupted;
            status.at = clock::now();
            status::write(dir.path(), index, &status)?;
            return Ok(Ended::Failed(BuildError::Interrupted { name: step.name().clone() }));
        }
        (status.state, status.text, status.at) = (State::Skipped, why.clone(), clock::now());
        status::write(dir.path(), index, &status)?;
        if is_newest(&dir, index, attempt) {
            give_up(&dir, index, &config);
        }
        return Ok(Ended::Skipped(why));
    }
    if let Some((scheduler, _)) = &inside {
        let granted = sched::dialect(*scheduler).granted(&queue::own_env());
        step.ncpus = granted.cpus.or(step.plan.resources.cpus.as_ref().map(|figure| figure.value));
        step.mem = granted.mem;
    }
    step.ticket = Some(dir.ticket(index, attempt, job.clone().unwrap_or(JobId(String::new()))));
    match record::build(dir.path(), &step, attempt, job, &config, listener) {
        Ok(_) => {
            dir.forget_answers(index);
            Ok(Ended::Done)
        }
        Err(error) => {
            // An interrupted one may be requeued: its children may still come to be.
            if !matches!(error, BuildError::Interrupted { .. }) && is_newest(&dir, index, attempt) {
                give_up(&dir, index, &config);
            }
            Ok(Ended::Failed(error))
        }
    }
}

fn superseded(dir: &Dir, index: usize, attempt: u32) -> Result<Option<String>, RunError> {
    if let Some(known) = journal::read(dir.path())?.get(&index) {
        if known.attempt > attempt {
            return Ok(Some(format!("attempt {} has taken its place", known.attempt)));
        }
        if let Some(by) = &known.cancelled {
            return Ok(Some(format!("cancelled by {by}")));
        }
    }
    let over = status::read(dir.path(), index).filter(|status| status.attempt >= attempt && status.state.is_final());
    Ok(over.filter(|status| status.state != State::Done).map(|status| format!("it is {} already", status.state.word())))
}

/// Whether no later attempt has taken this one's place: what needs the step is the later one's business then.
fn is_newest(dir: &Dir, index: usize, attempt: u32) -> bool {
    journal::read(dir.path()).unwrap_or_default().get(&index).is_none_or(|known| known.attempt <= attempt)
}

/// Marks everything below a failed step, and takes jobs out of the queue that would wait for ever.
fn give_up(dir: &Dir, index: usize, config: &crate::config::Config) {
    let steps = &dir.head.plan.steps;
    let after: Vec<&[usize]> = steps.iter().map(|step| step.after.as_slice()).collect();
    let known = journal::read(dir.path()).unwrap_or_default();
    let mut stuck = Vec::new();
    for below in descendants(&after, index) {
        let attempt = known.get(&below).map_or(1, |known| known.attempt);
        let settled = status::read(dir.path(), below)
            .is_some_and(|status| status.attempt >= attempt && status.state != State::Planned);
        if settled {
            continue;
        }
        let because = format!("it needs {}, which failed", steps[index].name);
        let _ = status::write(dir.path(), below, &Status::ended(State::Skipped, attempt, because));
        let ticket = dir.ticket(below, attempt, JobId(String::new()));
        let _ = claim::release(&steps[below].target, config.lease(), &ticket);
        stuck.extend(known.get(&below).and_then(|known| known.job.clone()));
    }
    // Where the scheduler would leave them pending for ever. It may not be reachable from a node: then whoever looks at
    // the run next does it.
    if let Some(scheduler) = dir.head.scheduler
        && sched::dialect(scheduler).leaves_children()
    {
        let _ = Queue::new(scheduler, config).cancel(&stuck);
    }
}

/// How long to wait for a parent of which nothing is heard.
const PATIENCE: Duration = Duration::from_secs(3600);
/// How long a published file may take to be seen on another node.
const VISIBLE: Duration = Duration::from_secs(60);

/// Waits until everything the step needs is there; the sentence when it never will be.
pub fn parents(dir: &Dir, index: usize, config: &crate::config::Config, listener: &dyn Listener) -> Result<(), String> {
    parents_among(dir, index, &|_| true, config, listener)
}

/// [`parents`], but only those that `which` chooses.
pub fn parents_among(
    dir: &Dir,
    index: usize,
    which: &dyn Fn(&usize) -> bool,
    config: &crate::config::Config,
    listener: &dyn Listener,
) -> Result<(), String> {
    let steps = &dir.head.plan.steps;
    let Some(step) = steps.get(index) else { return Err("the run has no such step".into()) };
    for &parent in step.after.iter().filter(|parent| which(parent)) {
        wait_for(dir, &step.name, parent, config, listener)?;
    }
    Ok(())
}

enum Word {
    There,
    Bad(String),
    NotYet(Option<JobId>),
}

fn word(dir: &Dir, parent: usize) -> Word {
    let planned = &dir.head.plan.steps[parent];
    let (status, job) = match &planned.place {
        Place::Join(ticket) => (read_ticket(ticket), Some(ticket.job.clone())),
        _ => {
            let known = journal::read(dir.path()).unwrap_or_default();
            let newest = known.get(&parent).cloned().unwrap_or_default();
            (status::read(dir.path(), parent).filter(|status| status.attempt >= newest.attempt), newest.job)
        }
    };
    let name = &planned.name;
    match status.map(|status| status.state) {
        Some(State::Done) => Word::There,
        Some(State::Failed) => Word::Bad(format!("it needs {name}, which failed")),
        Some(State::Skipped) => Word::Bad(format!("it needs {name}, which was skipped")),
        Some(State::Cancelled) => Word::Bad(format!("it needs {name}, which was cancelled")),
        // Another user's words may be closed to us; then the claim and the overlay tell.
        None if matches!(planned.place, Place::Join(_)) && !is_claimed(&planned.target) => {
            if is_published(&planned.target) && dir.read_step(parent).is_ok_and(|step| step.is_replaced()) {
                Word::There
            } else {
                Word::Bad(format!("it needs {name}, and the job that was to build it has given it up"))
            }
        }
        _ => Word::NotYet(job),
    }
}

fn read_ticket(ticket: &Ticket) -> Option<Status> {
    let bytes = crate::sys::fs::read(&ticket.status_file()).ok()?;
    serde_json::from_slice(&bytes).ok()
}

fn is_claimed(target: &Path) -> bool {
    crate::sys::fs::metadata_if_exists(&claim::path_for(target)).ok().flatten().is_some()
}

fn is_published(target: &Path) -> bool {
    overlays::open(target).is_ok_and(|image| matches!(overlays::read_meta(&image), Ok(Some(_))))
}

fn wait_for(
    dir: &Dir,
    name: &crate::model::name::Name,
    parent: usize,
    config: &crate::config::Config,
    listener: &dyn Listener,
) -> Result<(), String> {
    let planned = &dir.head.plan.steps[parent];
    let mut pause = Duration::from_millis(100);
    let mut told = false;
    let mut gone_since: Option<Instant> = None;
    let mut done_since: Option<Instant> = None;
    let mut heard = (Instant::now(), None);
    loop {
        match word(dir, parent) {
            Word::There if is_published(&planned.target) => return Ok(()),
            Word::There if done_since.get_or_insert_with(Instant::now).elapsed() > VISIBLE => {
                return Err(format!(
                    "it needs {}, which is done, but its overlay {} is not there",
                    planned.name,
                    planned.target.display()
                ));
            }
            Word::Bad(why) => return Err(why),
            Word::There => {}
            Word::NotYet(job) => {
                if !told {
                    let reason = format!("{}, which it needs and which is not there yet", planned.name);
                    listener.hear(&Event::Waiting { name: name.clone(), reason });
                    told = true;
                }
                if is_gone(dir, job.as_ref(), config) {
                    let since = gone_since.get_or_insert_with(Instant::now);
                    if since.elapsed() > VISIBLE {
                        return Err(format!("it needs {}, whose job is over and which never said how", planned.name));
                    }
                } else {
                    gone_since = None;
                }
                let last = status::read(dir.path(), parent).map(|status| (status.attempt, status.at, status.phase));
                if last != heard.1 || super::survey::is_driven(dir) {
                    heard = (Instant::now(), last);
                }
                if heard.0.elapsed() > PATIENCE && gone_since.is_some() {
                    return Err(format!("it needs {}, of which nothing was heard for an hour", planned.name));
                }
            }
        }
        std::thread::sleep(pause);
        if signal::interrupted().is_some() {
            return Err("interrupted".into());
        }
        pause = (pause * 2).min(Duration::from_secs(10));
    }
}

/// Whether the scheduler, if it can be reached from here, says that a job is over.
fn is_gone(dir: &Dir, job: Option<&JobId>, config: &crate::config::Config) -> bool {
    let (Some(job), Some(scheduler)) = (job, dir.head.scheduler) else { return false };
    let views = Queue::new(scheduler, config).look(std::slice::from_ref(job));
    match views.jobs.get(job) {
        Some(view) => matches!(view.state, JobState::Ended(_)),
        None => views.trouble.is_none(),
    }
}
