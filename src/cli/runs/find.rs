//! Which run or step is meant: a run by the beginning of its id, an overlay by its name in the newest run that has it.

use crate::cli::Context;
use crate::cli::failure::{Failure, code};
use crate::model::name::Name;
use crate::plan::Place;
use crate::run::dir::{self, Dir, RunError};

/// A run, and the steps of it that are meant; all of them when none is named.
pub struct Meant {
    /// The run.
    pub dir: Dir,
    /// Steps; empty: all.
    pub steps: Vec<usize>,
}

/// All runs that can be read, newest first, each read when its turn comes; what cannot be read is told.
pub fn all(context: &Context) -> Result<impl Iterator<Item = Dir>, Failure> {
    let runs = dir::runs(&context.config);
    let ids = dir::ids(&context.config)?;
    Ok(ids.into_iter().rev().filter_map(move |id| match Dir::open(&runs.join(&id)) {
        Ok(dir) => Some(dir),
        // Removed meanwhile, or begun and not written yet.
        Err(RunError::Io(error)) if error.is_not_found() => None,
        Err(error) => {
            context.ui.warn(&error.to_string());
            None
        }
    }))
}

/// Runs that are not over.
pub fn open(context: &Context) -> Result<Vec<Dir>, Failure> {
    let runs = dir::runs(&context.config);
    let mut found = Vec::new();
    for id in dir::ids(&context.config)?.into_iter().rev() {
        if let Ok(dir) = Dir::open_unless_over(&runs.join(&id))
            && let Some(dir) = dir
        {
            found.push(dir);
        }
    }
    Ok(found)
}

/// The newest run.
pub fn newest(context: &Context) -> Result<Dir, Failure> {
    let runs = dir::runs(&context.config);
    let newest = dir::ids(&context.config)?.into_iter().rev().find_map(|id| Dir::open(&runs.join(id)).ok());
    newest.ok_or_else(|| none(context))
}

fn none(context: &Context) -> Failure {
    Failure::new(code::USAGE, format!("there are no runs in {}", dir::runs(&context.config).display()))
        .hint("runs of other people or places are found with OVL_DIRS_STATE=DIR")
}

/// What a word means.
pub fn meant(what: &str, context: &Context) -> Result<Meant, Failure> {
    // Ids begin with a date; overlays have a slash (or = or @) in their names.
    if let (false, Ok(name)) = (looks_like_id(what), what.parse::<Name>()) {
        return of_name(&name, None, context);
    }
    Ok(Meant { dir: Dir::find(&context.config, what)?, steps: Vec::new() })
}

fn looks_like_id(what: &str) -> bool {
    what.len() >= 2 && what.starts_with("20") && !what.contains('/')
}

/// An overlay in the newest run that has it, or in a certain one.
pub fn of_name(name: &Name, run: Option<&str>, context: &Context) -> Result<Meant, Failure> {
    let one = run.map(|id| Dir::find(&context.config, id)).transpose()?;
    let others = if one.is_none() { Some(all(context)?) } else { None };
    let mut joined = None;
    for dir in one.into_iter().chain(others.into_iter().flatten()) {
        let steps: Vec<usize> =
            dir.head.plan.steps.iter().filter(|step| step.name == *name).map(|step| step.index).collect();
        // A run that only waits for another one's job has neither its log nor its job.
        let own = |step: &usize| !matches!(dir.head.plan.steps[*step].place, Place::Join(_));
        if steps.iter().any(own) {
            return Ok(Meant { dir, steps });
        }
        if !steps.is_empty() && joined.is_none() {
            joined = Some(Meant { dir, steps });
        }
    }
    if let Some(meant) = joined {
        return Ok(meant);
    }
    let place = run.map_or_else(|| dir::runs(&context.config).display().to_string(), |run| format!("run {run}"));
    Err(Failure::new(code::USAGE, format!("no record of a build of {name} in {place}")).hint(format!(
        "see what a build of it would do with: ovl build --dry-run {name}    list what was built with: ovl history"
    )))
}
