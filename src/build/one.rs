//! One overlay: is it there, is it current, whose turn is it, and then through the phases.

use std::time::{Duration, Instant};

use super::error::BuildError;
use super::job::{self, Job};
use super::plan::{self, Item, ReadyDep, Recipe};
use super::request::{Done, Outcome, Request};
use super::{origin, publish, stage, work};
use crate::config::Config;
use crate::model::event::{Event, Listener};
use crate::model::meta::Why;
use crate::model::name::Name;
use crate::store::claim::{self, Claim, Tried};
use crate::store::layers::{self, Layers};
use crate::store::overlays::{self, Overlay};
use crate::store::sweep;
use crate::store::usage::{self, Usage};
use crate::sys::{clock, host, signal};

/// Builds one item unless it is current; `answers` is given when a build was expected.
pub fn build(
    item: &Item,
    recipe: Recipe,
    answers: Option<Vec<String>>,
    request: &Request,
    config: &Config,
    layers: &Layers,
    listener: &dyn Listener,
) -> Result<Done, BuildError> {
    let began = Instant::now();
    let name = &item.name;
    let existing = plan::existing(name, item.target, request, layers)?;
    let before = existing.as_ref().and_then(|overlay| stamp(&overlay.path));
    let finish = |outcome: Outcome, reason: Option<String>, path: &std::path::Path| Done {
        name: name.clone(),
        outcome,
        reason,
        path: path.to_owned(),
        digest: None,
        bytes: None,
        seconds: began.elapsed().as_secs_f64(),
        log: None,
    };
    if request.dry_run && item.deps.iter().any(|dep| !matches!(overlays::find(layers, &dep.name), Ok(Some(_)))) {
        // What it needs is not there yet, so neither is it current.
        let home = plan::home(request, layers, existing.as_ref())?;
        let why = if existing.is_none() { Why::Missing } else { Why::DependenciesChanged };
        return Ok(finish(Outcome::WouldBuild, Some(why.to_string()), &plan::target_in(&home, name)));
    }
    let deps = plan::ready_deps(item, layers)?;
    let wanted = plan::inputs(&recipe, &deps);
    let difference = plan::why(existing.as_ref(), &wanted)?;
    let forced = request.update && item.target;
    let why = match (&existing, difference) {
        (Some(existing), None) if !forced => {
            publish::heal_sidecar(&existing.path)?;
            return Ok(finish(Outcome::UpToDate, None, &existing.path));
        }
        (Some(existing), Some(why)) if !forced && why != Why::Damaged => {
            return Ok(finish(Outcome::Stale, Some(why.to_string()), &existing.path));
        }
        (_, why) => why.unwrap_or(Why::Forced),
    };
    let home = plan::home(request, layers, existing.as_ref())?;
    let target = plan::target_in(&home, name);
    if request.dry_run {
        return Ok(finish(Outcome::WouldBuild, Some(why.to_string()), &target));
    }
    for warning in &recipe.warnings {
        listener.hear(&Event::Warning { name: None, text: warning.clone() });
    }
    if let Some(existing) = &existing {
        probe(existing, request, listener)?;
    }
    sweep::images(&layers::images(&home), config.lease());
    let claim = claim_target(name, &target, request, config, listener)?;
    // Somebody may have published since we looked, whether or not we had to wait for him.
    if let Some(now) = plan::existing(name, item.target, request, layers)?
        && stamp(&now.path) != before
        && plan::why(Some(&now), &wanted)?.is_none()
    {
        return Ok(finish(Outcome::AlreadyBuilt, None, &now.path));
    }
    let job = make_job(item, recipe, deps, answers, target, request, config, listener)?;
    let kept = work::kept(config, &job.token);
    let result = stage::stage(job, claim).and_then(|staged| staged.fill()?.pack()?.check()?.publish(&why));
    if request.keep_failed && result.is_err() && kept.is_dir() {
        let text = format!("the working directory is kept: {}", kept.display());
        listener.hear(&Event::Warning { name: Some(name.clone()), text });
    }
    result
}

/// What tells one published image from the next.
fn stamp(target: &std::path::Path) -> Option<(u64, i64, i64)> {
    use std::os::unix::fs::MetadataExt;
    crate::sys::fs::metadata(target).ok().map(|meta| (meta.ino(), meta.mtime(), meta.ctime_nsec()))
}

#[allow(clippy::too_many_arguments)]
fn make_job<'a>(
    item: &Item,
    recipe: Recipe,
    deps: Vec<ReadyDep>,
    answers: Option<Vec<String>>,
    target: std::path::PathBuf,
    request: &'a Request,
    config: &'a Config,
    listener: &'a dyn Listener,
) -> Result<Job<'a>, BuildError> {
    let inputs = plan::inputs(&recipe, &deps);
    let limit = request.timeout.or(recipe.spec.timeout.as_ref().map(|at| at.value)).or(config.timeout());
    Ok(Job {
        key: plan::key(&item.name, &inputs),
        inputs,
        origin: origin::of(&recipe.found.place),
        dep_env: job::dep_env(&deps)?,
        phases: Job::phases_of(&recipe),
        name: item.name.clone(),
        recipe,
        deps,
        target,
        answers: answers.unwrap_or_default(),
        request,
        config,
        listener,
        // Waiting for others does not count against the time limit.
        began: Instant::now(),
        limit,
        token: host::token(),
    })
}

/// Refuses to replace an overlay that a running `exec` uses (rows C26, C51), or waits with `--when-free`.
fn probe(existing: &Overlay, request: &Request, listener: &dyn Listener) -> Result<(), BuildError> {
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
        if !request.when_free {
            return Err(BuildError::Busy {
                text: format!("cannot update {}: it is in use by {who}", existing.name),
                hint: format!("wait for it with: ovl build --update --when-free {}", existing.name),
            });
        }
        if !told {
            listener.hear(&Event::Waiting { name: existing.name.clone(), reason: who });
            told = true;
        }
        pause(&existing.name, Duration::from_millis(250))?;
    }
}

/// Claims the target, waiting for whoever has it.
fn claim_target(
    name: &Name,
    target: &std::path::Path,
    request: &Request,
    config: &Config,
    listener: &dyn Listener,
) -> Result<Claim, BuildError> {
    let mut told = String::new();
    loop {
        let owner = match claim::acquire(target, config.lease())? {
            Tried::Got(claim) => return Ok(claim),
            Tried::Busy(owner) => owner,
        };
        if request.no_wait {
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
        loop {
            pause(name, wait)?;
            if claim::holder(target, clock::system(), config.lease())?.is_none_or(|now| now.token != owner.token) {
                break;
            }
            wait = (wait * 3 / 2).min(Duration::from_secs(2));
        }
    }
}

fn pause(name: &Name, time: Duration) -> Result<(), BuildError> {
    std::thread::sleep(time);
    match signal::interrupted() {
        Some(_) => Err(BuildError::Interrupted { name: name.clone() }),
        None => Ok(()),
    }
}
