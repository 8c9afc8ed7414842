//! Following a run to its end: files are looked at often, the scheduler seldom; whoever follows also tidies up what can
//! never come to be.

use std::time::{Duration, Instant};

use super::dir::{self, Dir, Lock, RunError};
use super::journal::{self, Entry, Journal, Known};
use super::status::{self, State, Status};
use super::survey::{self, Survey};
use super::view::{Seen, Shown};
use crate::config::Config;
use crate::model::resources::JobId;
use crate::plan::Place;
use crate::sched::JobState;
use crate::store::claim;
use crate::sys::{clock, host, signal};

/// Looks at a run until all of it is over, or the user interrupts. `told` hears every change, and everything once.
pub fn follow(dir: &Dir, config: &Config, told: &mut dyn FnMut(&Shown, &Survey)) -> Result<Survey, RunError> {
    let mut before: Vec<(Seen, String)> = Vec::new();
    let mut pause = Duration::from_millis(500);
    loop {
        let began = Instant::now();
        let survey = survey::survey(dir, config)?;
        let now: Vec<(Seen, String)> = survey.steps.iter().map(|step| (step.state, step.text.clone())).collect();
        let mut changed = false;
        for (step, state) in survey.steps.iter().zip(&now) {
            if before.get(step.index) != Some(state) {
                changed = true;
                told(step, &survey);
            }
        }
        before = now;
        tidy(dir, config, &survey);
        if survey.steps.iter().all(|step| step.state.is_final()) || signal::interrupted().is_some() {
            return Ok(survey);
        }
        // A query costs the controller about as much as it takes: it gets fifty times that to rest, and more while
        // nothing changes. Many followers spread by chance.
        let rest = began.elapsed() * 50;
        pause = if changed { Duration::from_millis(500) } else { (pause * 3 / 2).min(Duration::from_secs(15)) };
        let open: Vec<usize> =
            survey.steps.iter().filter(|step| !step.state.is_final()).map(|step| step.index).collect();
        rest_for(pause.max(rest).mul_f64(1.0 + f64::from(host::chance(256)) / 1024.0), dir, &open);
    }
}

/// Sleeps, but not longer than until a step has something to say.
fn rest_for(time: Duration, dir: &Dir, open: &[usize]) {
    let began = Instant::now();
    let states = || -> Vec<Option<(State, i64)>> {
        let read = |&step: &usize| status::read(dir.path(), step).map(|status| (status.state, status.began));
        open.iter().map(read).collect()
    };
    // Looking at a thousand files has its price too, and more so the longer nothing happens.
    let mut glance = Duration::from_millis(200 + 2 * open.len() as u64);
    let before = states();
    while began.elapsed() < time && signal::interrupted().is_none() {
        let until = Instant::now() + glance.min(time.saturating_sub(began.elapsed()));
        while Instant::now() < until && signal::interrupted().is_none() {
            std::thread::sleep(Duration::from_millis(100).min(until.saturating_duration_since(Instant::now())));
        }
        if states() != before {
            return;
        }
        glance = glance * 3 / 2;
    }
}

/// What the scheduler says of a step that never said how it ended is written down: it will forget.
fn write_down(dir: &Dir, one: &Shown) {
    let unsaid = |status: &Status| status.attempt < one.attempt || !status.state.is_final();
    if !one.status.as_ref().is_none_or(unsaid) {
        return;
    }
    let state = match one.state {
        Seen::Skipped => State::Skipped,
        Seen::Failed => State::Failed,
        Seen::Cancelled => State::Cancelled,
        _ => return,
    };
    let known = one.status.clone().filter(|status| status.attempt == one.attempt);
    let mut status = known.unwrap_or_else(|| Status::new(state, one.attempt));
    (status.state, status.text, status.class) = (state, one.text.clone(), one.class);
    let used = one.view.as_ref().map(|view| view.used.clone()).unwrap_or_default();
    status.cost.peak = status.cost.peak.or(used.mem);
    let _ = status::write(dir.path(), one.index, &status);
}

/// How long a scheduler may take to show a job whose submission was cut short.
const LATE: i64 = 300;

/// Jobs of a step whose submission was cut short between the asking and the writing down of the answer. That there is
/// none is believed only after a while, and only of a scheduler that answers.
fn unheard_of(dir: &Dir, one: &Shown, known: Option<&Known>, config: &Config) -> Vec<JobId> {
    let cut = |known: &&Known| !known.name.is_empty() && known.job.is_none() && known.withdrawn.is_none();
    let (Some(known), Some(queue)) = (known.filter(cut), survey::queue_of(dir, config)) else { return Vec::new() };
    let Ok(found) = queue.dialect.found(&queue.ask(&queue.dialect.find(&known.name))) else { return Vec::new() };
    if found.is_empty()
        && clock::now() - known.at > LATE
        && let Ok(journal) = Journal::open(dir.path())
    {
        let text = "its submission was cut short, and there is no such job".to_owned();
        let _ = journal.write(Entry::Withdrawn { step: one.index, attempt: one.attempt, text });
    }
    found
}

/// Tidies up after runs of this user whose ovl was killed while it submitted: held jobs would wait for ever.
pub fn tidy_cut_short(config: &Config) {
    for id in dir::ids(config).unwrap_or_default() {
        let Ok(Some(run)) = Dir::open_unless_over(&dir::runs(config).join(id)) else { continue };
        if !run.is_mine() {
            continue;
        }
        let known = journal::read(run.path()).unwrap_or_default();
        let open = |one: &Known| !one.released && one.withdrawn.is_none() && one.cancelled.is_none();
        let cut = known.values().any(|one| !one.name.is_empty() && open(one));
        if cut
            && !survey::is_driven(&run)
            && let Ok(survey) = survey::survey(&run, config)
        {
            tidy(&run, config, &survey);
        }
    }
}

/// Takes jobs out of the queue that could never run, gives up their claims, and writes down what is so. Returns the
/// jobs that were cancelled. Does nothing to other people's runs, nor while somebody is at work on this one.
pub fn tidy(dir: &Dir, config: &Config, survey: &Survey) -> Vec<JobId> {
    let bad = |one: &Shown| one.state.is_bad() && is_queued(dir, one) && !is_settled(dir, one);
    if survey.driven || !dir.is_mine() || !survey.steps.iter().any(bad) {
        return Vec::new();
    }
    let Ok(lock) = dir.lock() else { return Vec::new() };
    // What was seen may have changed before the lock was ours.
    match survey::survey(dir, config) {
        Ok(survey) if !survey.driven => tidy_locked(dir, config, &survey, &lock),
        _ => Vec::new(),
    }
}

fn is_queued(dir: &Dir, one: &Shown) -> bool {
    dir.head.plan.steps.get(one.index).is_some_and(|step| matches!(step.place, Place::Queue(_)))
}

/// Whether nothing is left to do for a step that came to nothing.
fn is_settled(dir: &Dir, one: &Shown) -> bool {
    let said = one.status.as_ref().is_some_and(|status| status.attempt >= one.attempt && status.state.is_final());
    let waits = one.view.as_ref().is_some_and(|view| matches!(view.state, JobState::Pending | JobState::Held));
    let claimed = dir.head.plan.steps.get(one.index).is_some_and(|step| claim::is_queued(&step.target));
    said && !waits && !claimed
}

/// [`tidy`] for who has the run's lock.
pub fn tidy_locked(dir: &Dir, config: &Config, survey: &Survey, _lock: &Lock) -> Vec<JobId> {
    let known = journal::read(dir.path()).unwrap_or_default();
    let mut stuck = Vec::new();
    for one in survey.steps.iter().filter(|one| one.state.is_bad()) {
        let Some(step) = dir.head.plan.steps.get(one.index).filter(|_| is_queued(dir, one)) else { continue };
        let waits = one.view.as_ref().is_some_and(|view| matches!(view.state, JobState::Pending | JobState::Held));
        stuck.extend(one.job.clone().filter(|_| waits));
        if one.job.is_none() && one.state == Seen::Lost {
            stuck.extend(unheard_of(dir, one, known.get(&one.index), config));
        }
        // The claim of a job that is over is free, also when its process was killed on another host.
        let over = one.view.as_ref().is_some_and(|view| matches!(view.state, JobState::Ended(_)));
        let job = one.job.clone().filter(|_| over).unwrap_or(JobId(String::new()));
        let _ = claim::release(&step.target, config.lease(), &dir.ticket(one.index, one.attempt, job));
        write_down(dir, one);
    }
    let kept = survey.steps.iter().filter(|one| !one.state.is_final());
    let kept: Vec<JobId> = kept.filter_map(|one| one.job.clone()).collect();
    if !stuck.is_empty()
        && let Some(queue) = survey::queue_of(dir, config)
        && queue.cancel_all_but(&kept, &stuck).is_ok()
        && let Ok(journal) = Journal::open(dir.path())
    {
        let gone = |one: &&Shown| one.job.as_ref().is_some_and(|job| stuck.contains(job)) || one.job.is_none();
        for one in survey.steps.iter().filter(|one| one.state.is_bad()).filter(gone) {
            let text = one.text.clone();
            let _ = journal.write(Entry::Withdrawn { step: one.index, attempt: one.attempt, text });
        }
    }
    stuck
}
