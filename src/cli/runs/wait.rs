//! `ovl wait`: follow a run to its end, and end as it did.

use super::{find, outcome};
use crate::cli::Context;
use crate::cli::args::Wait;
use crate::cli::failure::{Failure, Outcome, code};
use crate::run::Dir;
use crate::run::follow;
use crate::sys::signal;

/// Runs the command.
pub fn run(args: &Wait, context: &Context) -> Outcome {
    let dir = match &args.what {
        Some(what) => find::meant(what, context)?.dir,
        None => find::newest(context)?,
    };
    of_run(&dir, args.json, context)
}

/// Waits for a run.
pub fn of_run(dir: &Dir, json: bool, context: &Context) -> Outcome {
    let ui = context.ui;
    let survey = follow::follow(dir, &context.config, &mut |one, _| ui.say(&outcome::line(one)))?;
    let over = survey.steps.iter().all(|step| step.state.is_final());
    dir.mark_over(over && survey.trouble.is_none());
    if signal::interrupted().is_some() && !over {
        return Err(Failure::new(code::INTERRUPTED, "interrupted; the run goes on")
            .hint(format!("wait again with: ovl wait {0}    stop it with: ovl cancel {0}", dir.id())));
    }
    let (mut rows, mut failures) = (Vec::new(), Vec::new());
    for one in &survey.steps {
        let (row, failure) = outcome::of_shown(one, dir);
        rows.push(row);
        failures.extend(failure);
    }
    if json {
        ui.out(&serde_json::to_string_pretty(&rows).unwrap_or_default());
    } else {
        let asked = |row: &&outcome::Row| dir.head.targets.iter().any(|(name, _)| name.to_string() == row.name);
        let good = |row: &&outcome::Row| matches!(row.outcome.as_str(), "built" | "up to date" | "already built");
        rows.iter().filter(asked).filter(good).for_each(|row| ui.out(&row.path.display().to_string()));
    }
    if failures.is_empty() {
        return Ok(0);
    }
    // What was cancelled is no reason where something failed.
    failures.sort_by_key(|failure| failure.code == code::INTERRUPTED);
    let first = failures.remove(0);
    failures.iter().for_each(|failure| ui.error(&failure.message, &failure.hints));
    Err(first)
}
