//! Finding who builds a target already: its claim names a job, and one query for each scheduler tells which are alive.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::time::Duration;

use super::dir;
use super::queue::Queue;
use crate::build::Step;
use crate::config::Config;
use crate::model::resources::{JobId, Scheduler};
use crate::plan::place::Wish;
use crate::plan::{Place, Plan, Ticket};
use crate::sched::JobState;
use crate::store::claim::{self, Owner};
use crate::sys::fs::{self, PathError};
use crate::sys::{clock, host};

/// How old the claim of somebody else's job must be before its absence from the queue means that it is gone: sites may
/// hide other users' jobs.
const HIDDEN: Duration = Duration::from_secs(7 * 86_400);

/// Fills in which steps of a plan somebody's job builds already, for the scheduler at hand.
pub fn find(plan: &Plan, wishes: &mut [Wish], at_hand: Option<Scheduler>, config: &Config) -> Result<(), PathError> {
    for (index, joined) in among(plan, at_hand, config)? {
        if let Some(wish) = wishes.get_mut(index) {
            wish.joined = Some(joined);
        }
    }
    Ok(())
}

/// The steps of a plan that somebody's job builds, and whose. Queued claims whose job is over or gone are removed,
/// whatever their scheduler; while that cannot be asked, every claim counts.
pub fn among(
    plan: &Plan,
    at_hand: Option<Scheduler>,
    config: &Config,
) -> Result<BTreeMap<usize, (Ticket, String)>, PathError> {
    let targets: Vec<&Path> = plan.steps.iter().map(|step| step.target.as_path()).collect();
    let mut joined = judge(&targets, config)?;
    joined.retain(|_, (ticket, _)| at_hand == Some(ticket.scheduler));
    Ok(joined.into_iter().map(|(index, (ticket, who))| (plan.steps[index].index, (ticket, who))).collect())
}

/// Removes the claim of a queued step on this target if its job is over or gone. What cannot be found out is tried again
/// by whoever waits.
pub fn look_again(target: &Path, config: &Config) {
    let _ = judge(&[target], config);
}

/// Which of the targets somebody's job builds, by their place in the list; removes the queued claims of jobs that are
/// over or gone.
fn judge(targets: &[&Path], config: &Config) -> Result<BTreeMap<usize, (Ticket, String)>, PathError> {
    let mut held: BTreeMap<Scheduler, Vec<(usize, Ticket, Owner)>> = BTreeMap::new();
    let mut stale = BTreeSet::new();
    for (index, target) in targets.iter().enumerate() {
        let holder = claim::holder(target, clock::system(), config.lease())?;
        // The process that had it may be gone with its node, and its job wait to begin again.
        let lost = if holder.is_none() { claim::read(&claim::path_for(target))? } else { None };
        stale.extend(lost.is_some().then_some(index));
        let Some(owner) = holder.or(lost.filter(|owner| !owner.is_queued())) else { continue };
        if let Some(ticket) = owner.ticket.clone().filter(|ticket| ticket.job.is_plain()) {
            held.entry(ticket.scheduler).or_default().push((index, ticket, owner));
        }
    }
    let mut joined = BTreeMap::new();
    for (scheduler, claims) in held {
        let queue = Queue::new(scheduler, config);
        if !queue.is_there() {
            continue;
        }
        let ids: Vec<JobId> = claims.iter().map(|(_, ticket, _)| ticket.job.clone()).collect();
        let views = queue.look(&ids);
        for (index, ticket, owner) in claims {
            let target = targets[index];
            let view = views.jobs.get(&ticket.job);
            let over = view.is_some_and(|view| matches!(view.state, JobState::Ended(_)));
            let gone = match view {
                Some(view) if stale.contains(&index) => !matches!(view.state, JobState::Pending | JobState::Held),
                None if stale.contains(&index) => true,
                Some(_) => over,
                None => views.trouble.is_none() && (owner.user == host::user() || is_old(target)),
            };
            if gone && (owner.is_queued() || over) {
                claim::release(target, config.lease(), &ticket)?;
            } else if !gone {
                joined.insert(index, (ticket, owner.to_string()));
            }
        }
    }
    Ok(joined)
}

/// Steps whose joined job builds another recipe than this one, as sentences: mended since, or another layer's.
pub fn differing(steps: &[Step]) -> Vec<String> {
    let other = |ticket: &Ticket| -> Option<Step> {
        serde_json::from_slice(&fs::read(&ticket.step_dir().join(dir::STEP)).ok()?).ok()
    };
    let told = |step: &Step| {
        let Place::Join(ticket) = &step.plan.place else { return None };
        let differs = other(ticket)?.recipe.digest != step.recipe.digest;
        differs.then(|| {
            format!(
                "{}: job {} builds it from another version of the recipe; build it again afterwards",
                step.name(),
                ticket.job
            )
        })
    };
    steps.iter().filter_map(told).collect()
}

fn is_old(target: &Path) -> bool {
    let claim = fs::metadata_if_exists(&claim::path_for(target)).ok().flatten();
    let written = claim.and_then(|meta| meta.modified().ok());
    written.and_then(|written| clock::system().duration_since(written).ok()).is_some_and(|age| age > HIDDEN)
}
