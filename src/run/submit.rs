//! Submitting a chain: probed first, claimed, journalled, roots held until everything is in; a failure takes back what
//! this run has submitted.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use super::dir::{Dir, RunError};
use super::journal::{Entry, Journal};
use super::queue::Queue;
use super::script;
use crate::build::BuildError;
use crate::config::Config;
use crate::model::name::Name;
use crate::model::resources::JobId;
use crate::plan::{Place, Ticket};
use crate::sched::{Chaining, Unanswered};
use crate::store::claim::{self, Owner, Reserved};
use crate::sys::fs::{self, PathError};
use crate::sys::signal;

/// A chain that was not submitted; nothing of it is left in the queue unless it says so.
#[derive(Debug, thiserror::Error)]
pub enum SubmitError {
    /// The scheduler refused.
    #[error("{name}: {scheduler} refuses the job: {text}")]
    Refused {
        /// Which step.
        step: usize,
        /// Its overlay.
        name: Name,
        /// Who.
        scheduler: String,
        /// Its words.
        text: String,
        /// The job script.
        script: std::path::PathBuf,
    },
    /// Nobody knows whether there is a job.
    #[error("{name}: {scheduler} did not say whether it took the job: {text}")]
    Uncertain {
        /// Which step.
        name: Name,
        /// Who.
        scheduler: String,
        /// What was heard.
        text: String,
        /// The name to look for.
        job_name: String,
    },
    /// Somebody claimed a target since the plan was made.
    #[error("{name} is being built by {owner} since a moment ago")]
    Claimed {
        /// Which step.
        name: Name,
        /// By whom.
        owner: Box<Owner>,
    },
    /// Ctrl-C; what had been submitted was taken back.
    #[error("interrupted: nothing was submitted")]
    Interrupted,
    /// The scheduler cannot be reached.
    #[error("{scheduler} cannot be reached: {text}")]
    Away {
        /// Who.
        scheduler: String,
        /// What was heard.
        text: String,
    },
    /// What a step would have to fetch where there may be no network.
    #[error(transparent)]
    Fetch(Box<BuildError>),
    /// A file of the run.
    #[error(transparent)]
    Run(#[from] RunError),
}

impl From<PathError> for SubmitError {
    fn from(error: PathError) -> SubmitError {
        SubmitError::Run(error.into())
    }
}

/// What submitting needs.
pub struct Submitter<'a> {
    /// The run.
    pub dir: &'a Dir,
    /// The scheduler.
    pub queue: &'a Queue,
    /// The configuration.
    pub config: &'a Config,
    /// The run's journal.
    pub journal: &'a Journal,
    /// Jobs of earlier steps that are not over: parents that must be waited for.
    pub alive: &'a BTreeMap<usize, JobId>,
    /// The attempt of each step.
    pub attempts: &'a BTreeMap<usize, u32>,
}

impl Submitter<'_> {
    fn attempt(&self, step: usize) -> u32 {
        self.attempts.get(&step).copied().unwrap_or(1)
    }

    fn name(&self, step: usize) -> Name {
        self.dir.head.plan.steps[step].name.clone()
    }

    /// Submits these steps (parents before children, prepared before) and returns their jobs. Whatever goes wrong after
    /// the first job has been taken: all are taken back.
    pub fn submit(&self, steps: &[usize]) -> Result<BTreeMap<usize, JobId>, SubmitError> {
        let claims = self.claim(steps)?;
        let beat = claim::beat(claims.iter().map(|(_, claim)| claim), self.config.lease());
        let jobs: Mutex<BTreeMap<usize, JobId>> = Mutex::default();
        let result = match self.queue.dialect.chaining() {
            Chaining::Ids => self.chain(steps, &jobs),
            Chaining::Dag => self.dag(steps, &jobs),
        };
        let jobs = jobs.into_inner().unwrap_or_else(std::sync::PoisonError::into_inner);
        let result = result.and_then(|()| self.hand_over(claims, &jobs)).and_then(|()| self.release(steps, &jobs));
        drop(beat);
        match result {
            Ok(()) => Ok(jobs),
            Err(error) => {
                self.take_back(steps, &jobs, &error.to_string());
                Err(error)
            }
        }
    }

    fn hand_over(&self, claims: Vec<(usize, Reserved)>, jobs: &BTreeMap<usize, JobId>) -> Result<(), SubmitError> {
        for (step, claim) in claims {
            let Some(job) = jobs.get(&step) else { continue };
            if let Some(owner) = claim.hand_over(job)? {
                return Err(SubmitError::Claimed { name: self.name(step), owner: Box::new(owner) });
            }
        }
        Ok(())
    }

    pub(super) fn away(&self, text: String) -> SubmitError {
        SubmitError::Away { scheduler: self.queue.scheduler().to_string(), text }
    }

    pub(super) fn refused(&self, step: usize, text: String) -> SubmitError {
        let scheduler = self.queue.scheduler().to_string();
        SubmitError::Refused { step, name: self.name(step), scheduler, text, script: self.dir.script(step) }
    }

    /// Claims every target before anything is submitted, so that two runs cannot queue the same build. What a process
    /// builds right now is not claimed: the job will wait for it, and then find it built.
    fn claim(&self, steps: &[usize]) -> Result<Vec<(usize, Reserved)>, SubmitError> {
        let mut claims: Vec<(usize, Reserved)> = Vec::new();
        for &step in steps {
            let ticket = self.ticket(step);
            let target = &self.dir.head.plan.steps[step].target;
            let error = match claim::reserve(target, self.config.lease(), &ticket) {
                Ok(Ok(claim)) => {
                    claims.push((step, claim));
                    continue;
                }
                Ok(Err(owner)) if owner.ticket.is_none() => continue,
                Ok(Err(owner)) => SubmitError::Claimed { name: self.name(step), owner: Box::new(owner) },
                Err(error) => error.into(),
            };
            return Err(error);
        }
        Ok(claims)
    }

    fn ticket(&self, step: usize) -> Ticket {
        self.dir.ticket(step, self.attempt(step), JobId(String::new()))
    }

    /// Job by job, several at a time: a job is submitted as soon as those it waits for have ids.
    fn chain(&self, steps: &[usize], jobs: &Mutex<BTreeMap<usize, JobId>>) -> Result<(), SubmitError> {
        let failed: Mutex<Option<SubmitError>> = Mutex::default();
        let stop = AtomicBool::new(false);
        for level in levels(self.dir, steps) {
            let next = AtomicUsize::new(0);
            std::thread::scope(|scope| {
                for _ in 0..self.config.submitters().min(level.len()) {
                    scope.spawn(|| {
                        while let Some(&step) = level.get(next.fetch_add(1, Ordering::SeqCst))
                            && !stop.load(Ordering::SeqCst)
                        {
                            let after = self.parents(step, &locked(jobs));
                            if let Err(error) = self.one(step, &after, jobs) {
                                stop.store(true, Ordering::SeqCst);
                                locked(&failed).get_or_insert(error);
                            }
                        }
                    });
                }
            });
            if stop.load(Ordering::SeqCst) {
                break;
            }
        }
        match failed.into_inner().unwrap_or_default() {
            None => Ok(()),
            Some(error) => Err(error),
        }
    }

    /// The jobs a step waits for: of this submission, of earlier ones, and joined ones. Each once (OpenPBS holds a job
    /// for ever that names one twice).
    fn parents(&self, step: usize, jobs: &BTreeMap<usize, JobId>) -> Vec<JobId> {
        let mut after: Vec<JobId> = Vec::new();
        for parent in &self.dir.head.plan.steps[step].after {
            let joined = match &self.dir.head.plan.steps[*parent].place {
                Place::Join(ticket) => self.alive.get(parent).map(|_| ticket.job.clone()),
                _ => None,
            };
            let job = jobs.get(parent).cloned().or(joined).or_else(|| self.alive.get(parent).cloned());
            after.extend(job.filter(|job| !job.0.is_empty() && !after.contains(job)));
        }
        after
    }

    fn one(&self, step: usize, after: &[JobId], jobs: &Mutex<BTreeMap<usize, JobId>>) -> Result<(), SubmitError> {
        if signal::interrupted().is_some() {
            return Err(SubmitError::Interrupted);
        }
        let path = self.dir.script(step);
        let text = String::from_utf8_lossy(&fs::read(&path)?).into_owned();
        let job_name = self.job_name(step);
        let attempt = self.attempt(step);
        self.note(Entry::Submitting { step, attempt, name: job_name.clone() })?;
        let held = after.is_empty();
        let cmd = self.queue.dialect.submit(&path, &text, after, held);
        let job = self.taken(step, &job_name, self.queue.dialect.job_id(&self.queue.ask(&cmd)))?;
        // First where it will be taken back from, should the journal be full.
        locked(jobs).insert(step, job.clone());
        self.note(Entry::Submitted { step, attempt, job })?;
        Ok(())
    }

    /// The job, by the scheduler's own answer or, where there was none, by its name.
    fn taken(&self, step: usize, name: &str, answer: Result<JobId, Unanswered>) -> Result<JobId, SubmitError> {
        match answer {
            Ok(job) => Ok(job),
            Err(Unanswered::Refused(text)) => {
                self.note(Entry::Withdrawn { step, attempt: self.attempt(step), text: text.clone() })?;
                Err(self.refused(step, text))
            }
            Err(Unanswered::Away(text)) => {
                self.note(Entry::Withdrawn { step, attempt: self.attempt(step), text: text.clone() })?;
                Err(self.away(text))
            }
            Err(Unanswered::Uncertain(text) | Unanswered::Odd(text)) => self.search(step, name, &text),
        }
    }

    /// Nobody knows whether the scheduler took it: it is looked up by its unique name before anything else is done. It
    /// may take the job after its command has given up: that it is not there is believed only after the last look.
    fn search(&self, step: usize, job_name: &str, text: &str) -> Result<JobId, SubmitError> {
        let mut absent = false;
        for pause in [1, 3, 9] {
            std::thread::sleep(std::time::Duration::from_secs(pause));
            let found = self.queue.dialect.found(&self.queue.ask(&self.queue.dialect.find(job_name)));
            if let Ok([job, ..]) = found.as_deref() {
                return Ok(job.clone());
            }
            absent = found.is_ok();
        }
        if absent {
            let text = format!("{text}; it has no such job");
            self.note(Entry::Withdrawn { step, attempt: self.attempt(step), text: text.clone() })?;
            return Err(self.refused(step, text));
        }
        let scheduler = self.queue.scheduler().to_string();
        let (name, text) = (self.name(step), text.to_owned());
        Err(SubmitError::Uncertain { name, scheduler, text, job_name: job_name.to_owned() })
    }

    /// The whole chain as one DAG.
    fn dag(&self, steps: &[usize], jobs: &Mutex<BTreeMap<usize, JobId>>) -> Result<(), SubmitError> {
        let Some(&first) = steps.first() else { return Ok(()) };
        if signal::interrupted().is_some() {
            return Err(SubmitError::Interrupted);
        }
        let path = script::dag(self, steps)?;
        let text = String::from_utf8_lossy(&fs::read(&path)?).into_owned();
        let stem = path.file_stem().map(|stem| stem.to_string_lossy().into_owned()).unwrap_or_default();
        // All of them are found by the name of the DAG.
        for &step in steps {
            self.note(Entry::Submitting { step, attempt: self.attempt(step), name: stem.clone() })?;
        }
        let cmd = self.queue.dialect.submit(&path, &text, &[], true);
        let dag = self.taken(first, &stem, self.queue.dialect.job_id(&self.queue.ask(&cmd)));
        if let Err(SubmitError::Refused { .. } | SubmitError::Away { .. }) = &dag {
            for &step in steps {
                let text = "its DAG was not taken".to_owned();
                self.note(Entry::Withdrawn { step, attempt: self.attempt(step), text })?;
            }
        }
        let dag = dag?;
        let cluster = dag.0.split(':').next().unwrap_or_default();
        let id = |step: usize| JobId(format!("{cluster}:{}", script::node(step)));
        *locked(jobs) = steps.iter().map(|&step| (step, id(step))).collect();
        for &step in steps {
            self.note(Entry::Submitted { step, attempt: self.attempt(step), job: id(step) })?;
        }
        Ok(())
    }

    /// Everything is in and written down: the roots may start.
    fn release(&self, steps: &[usize], jobs: &BTreeMap<usize, JobId>) -> Result<(), SubmitError> {
        let Some(&first) = steps.first() else { return Ok(()) };
        self.journal.flush().map_err(PathError::new("flush", self.dir.path()))?;
        let roots: Vec<JobId> = match self.queue.dialect.chaining() {
            Chaining::Dag => {
                jobs.values().take(1).map(|job| JobId(format!("{}:", job.0.split(':').next().unwrap_or("")))).collect()
            }
            Chaining::Ids => {
                let held = |step: &&usize| self.parents(**step, jobs).is_empty();
                steps.iter().filter(held).filter_map(|step| jobs.get(step).cloned()).collect()
            }
        };
        if signal::interrupted().is_some() {
            return Err(SubmitError::Interrupted);
        }
        self.note(Entry::Releasing)?;
        let Err(error) = self.queue.each(&self.queue.dialect.release(&roots)) else {
            return Ok(self.note(Entry::Released)?);
        };
        // A second word: controllers restart.
        std::thread::sleep(std::time::Duration::from_secs(3));
        if self.queue.each(&self.queue.dialect.release(&roots)).is_ok() {
            return Ok(self.note(Entry::Released)?);
        }
        Err(self.refused(first, format!("the jobs could not be released: {error}")))
    }

    /// Cancels what this call has submitted, and gives its claims up.
    fn take_back(&self, steps: &[usize], jobs: &BTreeMap<usize, JobId>, text: &str) {
        let ids: Vec<JobId> = jobs.values().cloned().collect();
        if self.queue.cancel_all_but(&[], &ids).is_ok() {
            for &step in jobs.keys() {
                let attempt = self.attempt(step);
                let _ = self.note(Entry::Withdrawn { step, attempt, text: format!("taken back: {text}") });
            }
        }
        for &step in steps {
            let _ = claim::release(&self.dir.head.plan.steps[step].target, self.config.lease(), &self.ticket(step));
        }
    }

    /// The unique name of a step's job: by it an uncertain submission is found again.
    pub fn job_name(&self, step: usize) -> String {
        let attempt = self.attempt(step);
        let text = format!("ovl-{}-{step}.{attempt}-{}", self.dir.id(), self.name(step).file_stem());
        self.queue.dialect.job_name(&text)
    }

    fn note(&self, entry: Entry) -> Result<(), PathError> {
        self.journal.write(entry).map_err(PathError::new("write the journal in", self.dir.path()))
    }

    /// The program that jobs run.
    pub fn program(&self) -> &Path {
        &self.dir.head.program
    }
}

fn locked<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
}

/// Steps in groups, each of which needs only groups before it.
fn levels(dir: &Dir, steps: &[usize]) -> Vec<Vec<usize>> {
    let mut level_of: BTreeMap<usize, usize> = BTreeMap::new();
    let mut levels: Vec<Vec<usize>> = Vec::new();
    for &step in steps {
        let above = dir.head.plan.steps[step].after.iter().filter_map(|parent| level_of.get(parent)).max();
        let level = above.map_or(0, |level| level + 1);
        level_of.insert(step, level);
        if levels.len() <= level {
            levels.resize(level + 1, Vec::new());
        }
        levels[level].push(step);
    }
    levels
}
