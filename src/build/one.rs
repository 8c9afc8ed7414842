//! One overlay: is it there by now, whose turn is it, and then through the phases. The same at home and in a job.

use std::path::Path;
use std::time::{Duration, Instant};

use super::error::BuildError;
use super::job::{self, Job};
use super::plan::{self, ReadyDep};
use super::prebuilt;
use super::request::{Done, Outcome};
use super::stage;
use super::step::{Stamp, Step};
use super::work;
use crate::config::Config;
use crate::model::event::{Event, Listener};
use crate::model::meta::Why;
use crate::model::name::Name;
use crate::store::claim::{self, Claim, Tried};
use crate::store::overlays::Overlay;
use crate::store::sweep;
use crate::store::usage::{self, Usage};
use crate::sys::{clock, host};

/// Builds one step.
pub fn build(step: &Step, config: &Config, listener: &dyn Listener) -> Result<Done, BuildError> {
    let began = Instant::now();
    let name = step.name();
    if step.stop.is_set() {
        return Err(BuildError::Interrupted { name: name.clone() });
    }
    let target = &step.plan.target;
    let spec = step.spec()?;
    let deps = step.ready_deps()?;
    let inputs = plan::inputs(&step.recipe.digest, &deps, step.recipe.conda.as_ref());
    if let Some(existing) = at(step)
        && existing_in_use_matters(step)
    {
        probe(&existing, step, listener)?;
    }
    if let Some(images) = target.parent() {
        sweep::images(images, config.lease());
    }
    let claim = claim_target(name, target, step, config, listener)?;
    // Somebody may have published since the step was made: another run, or an earlier attempt at this very step.
    if let Some(now) = at(step)
        && Stamp::of(&now.path) != step.seen
        && plan::why(Some(&now), &inputs)?.is_none()
    {
        return Ok(Done {
            name: name.clone(),
            outcome: Outcome::AlreadyBuilt,
            reason: None,
            path: now.path,
            digest: None,
            bytes: None,
            seconds: began.elapsed().as_secs_f64(),
            log: None,
        });
    }
    let why = match (&step.plan.why, at(step)) {
        (Why::Forced, Some(now)) => plan::why(Some(&now), &inputs)?.unwrap_or(Why::Forced),
        (why, _) => why.clone(),
    };
    let job = make_job(step, spec, deps, config, listener)?;
    if let Some(done) = prebuilt::take(&job, &why)? {
        return Ok(done);
    }
    let kept = work::kept(&job.scratch, &job.token);
    let result = stage::stage(job, claim).and_then(|staged| staged.fill()?.pack()?.check()?.publish(&why));
    if step.options.keep_failed && result.is_err() && kept.is_dir() {
        let text = format!("the working directory is kept: {}", kept.display());
        listener.hear(&Event::Warning { name: Some(name.clone()), text });
    }
    result
}

/// What stands at the step's target now.
fn at(step: &Step) -> Option<Overlay> {
    let path = &step.plan.target;
    Stamp::of(path).map(|_| Overlay { name: step.name().clone(), path: path.clone(), layer: "" })
}

/// Only what replaces a readable image can disturb its readers.
fn existing_in_use_matters(step: &Step) -> bool {
    !matches!(step.plan.why, Why::Missing)
}

fn make_job<'a>(
    step: &'a Step,
    spec: crate::recipe::Spec,
    deps: Vec<ReadyDep>,
    config: &'a Config,
    listener: &'a dyn Listener,
) -> Result<Job<'a>, BuildError> {
    let inputs = plan::inputs(&step.recipe.digest, &deps, step.recipe.conda.as_ref());
    let limit = step.options.timeout.or(spec.timeout.as_ref().map(|at| at.value)).or(config.timeout());
    let kind = spec.kind(step.name());
    Ok(Job {
        key: plan::key(step.name(), &inputs, step.recipe.locked.as_ref()),
        inputs,
        dep_env: job::dep_env(&deps)?,
        phases: Job::phases_of(&spec),
        name: step.name().clone(),
        spec,
        deps,
        target: step.plan.target.clone(),
        step,
        config,
        listener,
        // Waiting for others does not count against the time limit.
        began: Instant::now(),
        limit,
        token: host::token(),
        scratch: work::place(config, kind, &step.plan.target)?,
    })
}

/// Refuses to replace an overlay that a running `exec` uses (rows C26, C51), or waits with `--when-free`.
fn probe(existing: &Overlay, step: &Step, listener: &dyn Listener) -> Result<(), BuildError> {
    let mut told = false;
    loop {
        let who = match usage::of(&existing.path)? {
            Usage::Free => return Ok(()),
            Usage::Unknown => {
                let dir = existing.path.parent().unwrap_or(&existing.path).display();
                let text = format!("{dir} has no file locks: whether the overlay is in use cannot be told");
                listener.hear(&Event::Warning { name: Some(existing.name.clone()), text });
                return Ok(());
            }
            Usage::By(who) => who,
        };
        if !step.options.when_free {
            return Err(BuildError::Busy {
                text: format!("cannot update {}: it is in use by {who}", existing.name),
                hint: format!("wait for it with: ovl build --update --when-free {}", existing.name),
            });
        }
        if !told {
            listener.hear(&Event::Waiting { name: existing.name.clone(), reason: who });
            told = true;
        }
        pause(step, Duration::from_millis(250))?;
    }
}

/// Claims the target, waiting for whoever has it.
fn claim_target(
    name: &Name,
    target: &Path,
    step: &Step,
    config: &Config,
    listener: &dyn Listener,
) -> Result<Claim, BuildError> {
    let mut told = String::new();
    loop {
        let owner = match claim::acquire(target, config.lease(), step.ticket.as_ref())? {
            Tried::Got(claim) => return Ok(claim),
            Tried::Busy(owner) => owner,
        };
        if step.options.no_wait {
            return Err(BuildError::Busy {
                text: format!("{name} is being built by {owner}"),
                hint: format!("wait for it with: ovl build {name}"),
            });
        }
        let shown = owner.to_string();
        if told != shown {
            listener.hear(&Event::Waiting { name: name.clone(), reason: format!("the build of {shown}") });
            told = shown;
        }
        // Looking on costs a file server little; trying to claim costs it several writes, so only when it may succeed.
        let mut wait = Duration::from_millis(50);
        let mut asked = Instant::now();
        // A scheduler is asked seldom: what its job does shows in the claim itself.
        loop {
            pause(step, wait)?;
            if let Some(look_up) = step.look_up.0.filter(|_| owner.is_queued() && asked.elapsed() > config.lease() / 2)
            {
                look_up(target, config);
                asked = Instant::now();
            }
            if claim::holder(target, clock::system(), config.lease())?.is_none_or(|now| now != owner) {
                break;
            }
            wait = (wait * 3 / 2).min(Duration::from_secs(2));
        }
    }
}

fn pause(step: &Step, time: Duration) -> Result<(), BuildError> {
    std::thread::sleep(time);
    if step.stop.is_set() { Err(BuildError::Interrupted { name: step.name().clone() }) } else { Ok(()) }
}
