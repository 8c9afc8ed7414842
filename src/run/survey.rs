//! A look at a run from outside: every step's file, the journal, and one query to the scheduler for all its jobs.

use std::collections::BTreeMap;
use std::time::Duration;

use super::dir::{Dir, RunError};
use super::evidence;
use super::journal::{self, Known};
use super::queue::{Queue, Views};
use super::status::{self, Status};
use super::view::{Seen, Shown, Witness, judge, spread};
use crate::config::Config;
use crate::model::resources::{JobId, Scheduler};
use crate::plan::{Place, STATUS};
use crate::sched::{self, End, JobState};
use crate::sys::fs;
use crate::sys::owner;

/// A run as it is now.
#[derive(Debug)]
pub struct Survey {
    /// Every step.
    pub steps: Vec<Shown>,
    /// Why the scheduler could not be asked.
    pub trouble: Option<String>,
    /// Whether an ovl is at work on it.
    pub driven: bool,
}

/// What is read from the run's files, before the scheduler is asked.
pub struct Files {
    statuses: Vec<Option<Status>>,
    known: BTreeMap<usize, Known>,
    driven: bool,
}

/// Whether an ovl is at work on a run.
pub fn is_driven(dir: &Dir) -> bool {
    let path = dir.driver();
    match owner::read(&path) {
        Ok(Some(who)) => !owner::is_stale(&who, &path, fs::server_now(dir.path()), std::time::Duration::from_secs(120))
            .unwrap_or(false),
        _ => false,
    }
}

impl Files {
    /// Reads them.
    pub fn read(dir: &Dir) -> Result<Files, RunError> {
        let own = |step: &crate::plan::Planned| match &step.place {
            Place::Join(ticket) => {
                let bytes = fs::read(&ticket.step_dir().join(STATUS)).ok();
                bytes.and_then(|bytes| serde_json::from_slice(&bytes).ok())
            }
            _ => status::read(dir.path(), step.index),
        };
        Ok(Files {
            statuses: dir.head.plan.steps.iter().map(own).collect(),
            known: journal::read(dir.path())?,
            driven: is_driven(dir),
        })
    }

    /// The jobs that only the scheduler can tell about: those of steps whose files do not say how they ended.
    pub fn open_jobs(&self, dir: &Dir) -> Vec<JobId> {
        let mut jobs = Vec::new();
        for (index, step) in dir.head.plan.steps.iter().enumerate() {
            let known = self.known.get(&index);
            let attempt = known.map_or(0, |known| known.attempt);
            let over = self.statuses.get(index).and_then(Option::as_ref).is_some_and(|status| {
                let told = !may_know_more(dir, status);
                status.attempt >= attempt && status.state.is_final() && told
            });
            let job = match &step.place {
                Place::Here => None,
                Place::Join(ticket) => Some(ticket.job.clone()),
                Place::Queue(_) => known.filter(|known| known.withdrawn.is_none()).and_then(|known| known.job.clone()),
            };
            jobs.extend(job.filter(|job| !over && !job.0.is_empty()));
        }
        jobs
    }

    /// Judges every step.
    pub fn judge(&self, dir: &Dir, views: &Views) -> Survey {
        let steps = &dir.head.plan.steps;
        let mut shown: Vec<Shown> = steps
            .iter()
            .map(|step| {
                let status = self.statuses.get(step.index).and_then(Option::as_ref);
                let known = self.known.get(&step.index);
                let job = match &step.place {
                    Place::Join(ticket) => Some(&ticket.job),
                    _ => known.and_then(|known| known.job.as_ref()),
                };
                let witness = Witness {
                    status,
                    known,
                    view: job.and_then(|job| views.jobs.get(job)),
                    trouble: views.trouble.as_deref(),
                    driven: self.driven,
                    orphaned: status.is_some_and(Status::is_orphaned),
                };
                judge(step, &witness)
            })
            .collect();
        shown.iter_mut().for_each(|one| evidence::look(dir, one));
        joined_without_a_word(dir, &mut shown);
        late_words(dir, &mut shown);
        spread(steps, &mut shown);
        Survey { steps: shown, trouble: views.trouble.clone(), driven: self.driven }
    }
}

/// Whether the scheduler may know more of a step that is over than its own last word.
fn may_know_more(dir: &Dir, status: &Status) -> bool {
    match status.state {
        // A death by SIGKILL: for its memory, perhaps.
        status::State::Failed if status.class == Some(status::Class::Build) => {
            ["SIGKILL", "exit code 137"].iter().any(|word| status.text.contains(word))
        }
        // Whoever marked it may not have reached the scheduler, to take its job out of the queue.
        status::State::Skipped if status.job.is_none() && !dir.is_over() => {
            dir.head.scheduler.is_some_and(|scheduler| sched::dialect(scheduler).leaves_children())
        }
        _ => false,
    }
}

/// How long the last word of a job that ended well may take to be seen on another host.
const VISIBLE: Duration = Duration::from_secs(60);

/// A job that ended well has written its word; on a shared file system that may not be here yet. Only when it stays away
/// is the step lost, and all that needs it given up.
fn late_words(dir: &Dir, shown: &mut [Shown]) {
    for one in shown.iter_mut().filter(|one| one.state == Seen::Lost) {
        if !one.view.as_ref().is_some_and(|view| view.state == JobState::Ended(End::Done)) {
            continue;
        }
        let marker = dir.step_dir(one.index).join("silent");
        let since = fs::metadata_if_exists(&marker).ok().flatten().and_then(|meta| meta.modified().ok());
        if since.is_none() && dir.is_mine() {
            let _ = fs::write_quick(&marker, b"", 0o644);
        }
        let age = since.and_then(|since| fs::server_now(dir.path()).duration_since(since).ok()).unwrap_or_default();
        if age < VISIBLE {
            one.state = Seen::Unknown;
            one.text = format!("{}; it may be on its way", one.text);
        }
    }
}

/// Another user's status file may be closed to us: then the overlay itself tells.
fn joined_without_a_word(dir: &Dir, shown: &mut [Shown]) {
    for (step, one) in dir.head.plan.steps.iter().zip(shown) {
        if matches!(step.place, Place::Join(_))
            && one.state != Seen::Done
            && one.status.as_ref().is_none_or(|status| !status.state.is_final())
        {
            let claimed = fs::metadata_if_exists(&crate::store::claim::path_for(&step.target)).ok().flatten().is_some();
            let there = dir.read_step(step.index).is_ok_and(|step| step.is_replaced());
            if there && !claimed {
                (one.state, one.text) = (Seen::Done, String::new());
            } else if !claimed && !one.state.is_final() && one.view.is_none() {
                (one.state, one.text) = (Seen::Lost, "the job that was to build it gave it up".into());
            }
        }
    }
}

/// Looks at a run.
pub fn survey(dir: &Dir, config: &Config) -> Result<Survey, RunError> {
    Ok(survey_all(std::slice::from_ref(dir), config)?.pop().unwrap_or_else(|| Survey {
        steps: Vec::new(),
        trouble: None,
        driven: false,
    }))
}

/// Looks at runs: one query for each scheduler that has jobs of theirs, whatever the number of runs and jobs.
pub fn survey_all(dirs: &[Dir], config: &Config) -> Result<Vec<Survey>, RunError> {
    let mut open: BTreeMap<Scheduler, Vec<JobId>> = BTreeMap::new();
    for dir in dirs {
        let jobs = Files::read(dir)?.open_jobs(dir);
        if let (Some(scheduler), false) = (dir.head.scheduler, jobs.is_empty()) {
            open.entry(scheduler).or_default().extend(jobs);
        }
    }
    let mut views: BTreeMap<Scheduler, Views> = BTreeMap::new();
    for (scheduler, jobs) in &mut open {
        jobs.sort_unstable();
        jobs.dedup();
        views.insert(*scheduler, look(*scheduler, jobs, config));
    }
    let none = Views::default();
    let judge = |dir: &Dir| -> Result<Survey, RunError> {
        // A step may have ended between the reading of its file and the query: its own word counts, so it is read
        // again.
        Ok(Files::read(dir)?.judge(dir, dir.head.scheduler.and_then(|one| views.get(&one)).unwrap_or(&none)))
    };
    let mut surveys: Vec<Survey> = dirs.iter().map(judge).collect::<Result<_, _>>()?;
    let silent = |survey: &Survey| survey.steps.iter().any(|step| step.state == Seen::Lost && step.job.is_some());
    if surveys.iter().any(silent) {
        // On a shared file system a last word can be late.
        std::thread::sleep(std::time::Duration::from_millis(300));
        surveys = dirs.iter().map(judge).collect::<Result<_, _>>()?;
    }
    Ok(surveys)
}

fn look(scheduler: Scheduler, jobs: &[JobId], config: &Config) -> Views {
    let queue = Queue::new(scheduler, config);
    if queue.is_there() {
        return queue.look(jobs);
    }
    let trouble = format!("the commands of {scheduler} are not on PATH here");
    Views { trouble: Some(trouble), ..Views::default() }
}

/// The scheduler that a run's jobs went to, as it is reached from here.
pub fn queue_of(dir: &Dir, config: &Config) -> Option<Queue> {
    Some(Queue::new(dir.head.scheduler?, config)).filter(Queue::is_there)
}
