//! Cancelling: the journal first, so that a job that starts all the same knows; then jobs, processes, claims.

use std::collections::BTreeSet;
use std::time::{Duration, Instant};

use super::dir::{Dir, RunError};
use super::journal::{Entry, Journal};
use super::status::{self, State, Status};
use super::survey;
use super::view::Seen;
use crate::config::Config;
use crate::model::name::Name;
use crate::model::resources::JobId;
use crate::plan::{Place, descendants};
use crate::store::claim;
use crate::sys::fs::PathError;
use crate::sys::{host, owner};

/// What was cancelled.
#[derive(Debug, Default, serde::Serialize)]
pub struct Cancelled {
    /// Steps that will not come to be, the asked-for ones and what needs them.
    pub steps: Vec<Name>,
    /// Jobs that were cancelled.
    pub jobs: Vec<JobId>,
    /// The process that builds some of these, and has been told.
    pub process: Option<u32>,
    /// What could not be done.
    pub troubles: Vec<String>,
}

/// Cancels steps of a run, and everything that needs them. Done ones stay as they are. With `dry_run` only says what.
pub fn cancel(dir: &Dir, steps: &[usize], config: &Config, dry_run: bool) -> Result<Cancelled, RunError> {
    let survey = survey::survey(dir, config)?;
    let plan = &dir.head.plan.steps;
    let after: Vec<&[usize]> = plan.iter().map(|step| step.after.as_slice()).collect();
    let mut doomed: BTreeSet<usize> = steps.iter().copied().collect();
    for &step in steps {
        doomed.extend(descendants(&after, step));
    }
    // Somebody else's build that was joined is his.
    doomed.retain(|&step| !survey.steps[step].state.is_final() && !matches!(plan[step].place, Place::Join(_)));
    let mut report =
        Cancelled { steps: doomed.iter().map(|&step| plan[step].name.clone()).collect(), ..Default::default() };
    report.jobs = doomed.iter().filter_map(|&step| survey.steps[step].job.clone()).collect();
    let local = doomed.iter().any(|&step| plan[step].place == Place::Here);
    let driver = owner::read(&dir.driver())?.filter(|_| survey.driven);
    report.process = driver.filter(|_| local).map(|driver| driver.pid);
    if dry_run || doomed.is_empty() {
        return Ok(report);
    }
    let journal = Journal::open(dir.path())?;
    let entry = Entry::Cancelled { steps: doomed.iter().copied().collect(), by: host::user() };
    journal.write(entry).map_err(PathError::new("write the journal in", dir.path()))?;
    let mut stubborn = false;
    if !report.jobs.is_empty() {
        match survey::queue_of(dir, config) {
            Some(queue) => {
                let kept = survey.steps.iter().filter(|one| !one.state.is_final() && !doomed.contains(&one.index));
                let kept: Vec<JobId> = kept.filter_map(|one| one.job.clone()).collect();
                if let Err(error) = queue.cancel_all_but(&kept, &report.jobs) {
                    report.troubles.push(format!("not all jobs could be cancelled: {error}"));
                    stubborn = true;
                }
            }
            None => {
                report.troubles.push("the scheduler's commands are not on PATH here: the jobs go on".into());
                stubborn = true;
            }
        }
    }
    settle(dir, &doomed, config);
    for &step in &doomed {
        // What could not be stopped may still come to be; its own word will count.
        if stubborn && survey.steps[step].job.is_some() {
            continue;
        }
        let attempt = survey.steps[step].attempt;
        let over =
            status::read(dir.path(), step).is_some_and(|status| status.attempt >= attempt && status.state.is_final());
        if !over {
            // What it has said so far, its log above all, stays.
            let said = status::read(dir.path(), step).filter(|status| status.attempt == attempt);
            let mut status = said.unwrap_or_else(|| Status::new(State::Cancelled, attempt));
            (status.state, status.text) = (State::Cancelled, format!("cancelled by {}", host::user()));
            let _ = status::write(dir.path(), step, &status);
        }
        let ticket = dir.ticket(step, attempt, JobId(String::new()));
        let _ = claim::release(&plan[step].target, config.lease(), &ticket);
    }
    Ok(report)
}

/// Gives what runs the time to clean up after itself.
fn settle(dir: &Dir, doomed: &BTreeSet<usize>, config: &Config) {
    let began = Instant::now();
    let running = |step: &usize| {
        status::read(dir.path(), *step).is_some_and(|status| status.state == State::Running && !status.is_orphaned())
    };
    while doomed.iter().any(running) && began.elapsed() < Duration::from_secs(30) {
        std::thread::sleep(Duration::from_millis(200));
        let gone = survey::survey(dir, config).is_ok_and(|survey| {
            doomed.iter().all(|&step| {
                survey.steps[step]
                    .view
                    .as_ref()
                    .is_some_and(|view| matches!(view.state, crate::sched::JobState::Ended(_)))
                    || survey.steps[step].state == Seen::Cancelled && survey.steps[step].view.is_none()
            })
        });
        if gone && began.elapsed() > Duration::from_secs(3) {
            break;
        }
        std::thread::sleep(Duration::from_millis(500));
    }
}
