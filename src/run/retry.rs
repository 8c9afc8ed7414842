//! Trying again what did not come to be, with the frozen recipe; a step that was killed for memory or time is offered
//! more of it.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use super::dir::{Dir, RunError};
use super::journal::{Entry, Journal};
use super::status::{self, Class, State, Status};
use super::survey::Survey;
use super::view::Seen;
use crate::build::{Stamp, Step};
use crate::model::name::Name;
use crate::model::resources::{Figure, JobId, Limit, Mem, Resources, Source};
use crate::model::units::{show_size, show_time};
use crate::plan::{Place, Ticket, descendants};
use crate::sys::fs::PathError;
use crate::sys::host;

/// Steps to be tried again.
#[derive(Debug, Default)]
pub struct Again {
    /// The steps and their new attempts.
    pub chosen: BTreeMap<usize, u32>,
    /// What they get more of than before, as sentences.
    pub more: Vec<String>,
    /// Jobs of other steps that are not over.
    pub alive: BTreeMap<usize, JobId>,
}

/// Chooses what to try again: the bad ones among `asked` (all of the run's when empty), what they need that is bad too,
/// and what was skipped because of them.
pub fn choose(dir: &Dir, survey: &Survey, asked: &[Name]) -> Again {
    let plan = &dir.head.plan.steps;
    let after: Vec<&[usize]> = plan.iter().map(|step| step.after.as_slice()).collect();
    let mut chosen: BTreeSet<usize> = BTreeSet::new();
    for step in plan.iter().filter(|step| asked.is_empty() || asked.contains(&step.name)) {
        if !survey.steps[step.index].state.is_bad() {
            continue;
        }
        let mut open = vec![step.index];
        while let Some(index) = open.pop() {
            if survey.steps[index].state.is_bad() && chosen.insert(index) {
                open.extend(plan[index].after.iter().copied());
            }
        }
        let below = descendants(&after, step.index).into_iter();
        chosen.extend(below.filter(|&below| survey.steps[below].state == Seen::Skipped));
    }
    // A skipped step whose other parents stay bad would only be skipped again.
    loop {
        let hopeless: Vec<usize> = chosen
            .iter()
            .copied()
            .filter(|&step| {
                plan[step].after.iter().any(|parent| survey.steps[*parent].state.is_bad() && !chosen.contains(parent))
            })
            .collect();
        if hopeless.is_empty() {
            break;
        }
        chosen.retain(|step| !hopeless.contains(step));
    }
    let alive = survey.steps.iter().filter(|step| !step.state.is_final() && !chosen.contains(&step.index));
    Again {
        alive: alive.filter_map(|step| Some((step.index, step.job.clone()?))).collect(),
        chosen: chosen.into_iter().map(|step| (step, survey.steps[step].attempt + 1)).collect(),
        more: Vec::new(),
    }
}

/// Works out what each chosen step asks for this time: what the flags say, else more of what it lacked (unless `same`).
pub fn resources(
    dir: &Dir,
    survey: &Survey,
    again: &mut Again,
    flags: &Resources,
    same: bool,
) -> BTreeMap<usize, Resources> {
    let mut all = BTreeMap::new();
    for &step in again.chosen.keys() {
        let planned = &dir.head.plan.steps[step];
        let mut wanted = flags.clone().or(planned.resources.clone());
        let class = survey.steps[step].class;
        if class == Some(Class::Memory) && !same && flags.mem.is_none() {
            let had = had_mem(survey, step).or_else(|| planned.resources.mem_bytes());
            if let Some(had) = had {
                let source = Source::Auto(format!("twice what it was killed at ({})", show_size(had)));
                wanted.mem = Some(Figure::new(Mem::Total(had.saturating_mul(2)), source));
                again.more.push(format!(
                    "{} gets {} of memory: it was killed with {}",
                    planned.name,
                    show_size(had.saturating_mul(2)),
                    show_size(had)
                ));
            }
        }
        if class == Some(Class::Time)
            && !same
            && flags.time.is_none()
            && let Some(had) = planned.resources.time_limit()
        {
            let twice = Duration::from_secs(had.as_secs().saturating_mul(2));
            let source = Source::Auto(format!("twice what it ran out of ({})", show_time(had)));
            wanted.time = Some(Figure::new(Limit::Time(twice), source));
            again.more.push(format!(
                "{} gets {} of time: {} were not enough",
                planned.name,
                show_time(twice),
                show_time(had)
            ));
        }
        all.insert(step, wanted);
    }
    all
}

fn had_mem(survey: &Survey, step: usize) -> Option<u64> {
    survey.steps[step].status.as_ref().and_then(|status| status.cost.mem)
}

/// Writes the new attempts down: plan, steps, statuses, journal. `joined` are the steps that others build now. Returns all steps of the run, thawed.
pub fn prepare(
    dir: &mut Dir,
    again: &Again,
    wanted: BTreeMap<usize, Resources>,
    joined: &BTreeMap<usize, (Ticket, String)>,
) -> Result<Vec<Step>, RunError> {
    let mut steps = Vec::new();
    for index in 0..dir.head.plan.steps.len() {
        let mut step = dir.read_step(index)?;
        if let (Some(resources), Some(&attempt)) = (wanted.get(&index), again.chosen.get(&index)) {
            step.plan.resources = resources.clone();
            dir.head.plan.steps[index].resources = resources.clone();
            // A job that had been joined and came to nothing is now ours to repeat; what somebody else has begun
            // meanwhile is joined.
            let other = joined.get(&index).filter(|(ticket, _)| ticket.run != dir.path());
            match (&step.plan.place, dir.head.scheduler, other) {
                (Place::Queue(_) | Place::Join(_), _, Some((ticket, _))) => {
                    step.plan.place = Place::Join(ticket.clone())
                }
                (Place::Join(_), Some(scheduler), None) => step.plan.place = Place::Queue(scheduler),
                _ => {}
            }
            dir.head.plan.steps[index].place = step.plan.place.clone();
            step.seen = Stamp::of(&step.plan.target);
            dir.write_step(&step)?;
            status::write(dir.path(), index, &Status::new(State::Planned, attempt))?;
        }
        steps.push(step);
    }
    dir.write_head()?;
    let journal = Journal::open(dir.path())?;
    let (steps_again, attempts) = again.chosen.iter().map(|(step, attempt)| (*step, *attempt)).unzip();
    let entry = Entry::Retried { steps: steps_again, attempts, by: host::user() };
    journal.write(entry).map_err(PathError::new("write the journal in", dir.path()))?;
    Ok(steps)
}
