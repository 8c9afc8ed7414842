//! What ovl does inside of jobs and in the background: it is started there by its own job scripts.

use std::path::Path;

use super::failure::{Failure, Outcome, code};
use super::runs::outcome;
use crate::build::BuildError;
use crate::model::event::Event;
use crate::plan::Place;
use crate::run::inside::{self, Ended};
use crate::run::survey;
use crate::run::view::Seen;
use crate::run::{Dir, Drive, Local};
use crate::sys::signal;
use crate::ui::Ui;

/// Builds one step; the exit code is 0 only if its overlay is there, so that a scheduler starts nothing after a failure.
pub fn step(dir: &Path, attempt: u32) -> Outcome {
    signal::catch_interrupts();
    let ui = Ui::new("never", 0);
    let listener = ui.listener("plain");
    match inside::run(dir, attempt, &*listener)? {
        Ended::Done => Ok(0),
        Ended::Skipped(why) => Err(Failure::new(code::BUILD, format!("skipped: {why}"))),
        Ended::Superseded(why) => Err(Failure::new(code::BUILD, format!("nothing to do: {why}"))),
        Ended::Failed(error) => {
            let mut failure = Failure::from(error);
            // 99 and the like mean "requeue" to some sites; ovl's own codes are small and fixed.
            failure.code = failure.code.max(1);
            Err(failure)
        }
    }
}

/// Waits for what other runs build for this step.
pub fn await_others(dir: &Path) -> Outcome {
    let odd = || Failure::usage(format!("{} is no step's directory", dir.display()));
    let (run, index) = inside::locate(dir).ok_or_else(odd)?;
    let run = Dir::open(run)?;
    let config = run.config()?;
    let ui = Ui::new("never", 0);
    let listener = ui.listener("plain");
    let joined = |step: &usize| matches!(run.head.plan.steps.get(*step).map(|step| &step.place), Some(Place::Join(_)));
    inside::parents_among(&run, index, &joined, &config, &*listener)
        .map_err(|why| Failure::new(code::BUILD, format!("skipped: {why}")))?;
    Ok(0)
}

/// Carries a run out in the background.
pub fn drive(path: &Path, fail_fast: bool) -> Outcome {
    signal::catch_interrupts();
    let ui = Ui::new("never", 0);
    let dir = Dir::open(path)?;
    let config = dir.config()?;
    let listener = ui.listener("plain");
    let local = Local::of(&config);
    let steps = (0..dir.head.plan.steps.len()).map(|step| dir.read_step(step)).collect::<Result<Vec<_>, _>>()?;
    listener.hear(&Event::Plan { total: steps.len() });
    let queue = survey::queue_of(&dir, &config);
    let drive = Drive {
        dir: &dir,
        chosen: steps.iter().map(|step| (step.plan.index, 1)).collect(),
        alive: Default::default(),
        weights: local.weigh(&dir.head.plan),
        budget: local.budget(),
        steps,
        queue: queue.as_ref(),
        config: &config,
        listener: &*listener,
        fail_fast,
    };
    let report = drive.run(&dir.lock()?)?;
    let failed = report.failed.into_iter().next();
    if let Some(error) = report.refused {
        return Err(error.into());
    }
    match failed {
        Some((_, BuildError::Interrupted { .. })) => Ok(outcome::code_of(None, Seen::Cancelled)),
        Some((_, error)) => Err(error.into()),
        None => Ok(0),
    }
}
