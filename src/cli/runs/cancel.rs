//! `ovl cancel`: jobs, what needs them, their claims.

use super::find;
use crate::cli::Context;
use crate::cli::args::Cancel;
use crate::cli::failure::{Failure, Outcome, code};
use crate::run::{Dir, cancel, survey};

/// Characters of the date at the beginning of a run's id: with fewer, a job's number would cancel a run.
const DATE: usize = 8;

/// Runs the command.
pub fn run(args: &Cancel, context: &Context) -> Outcome {
    let mut meant: Vec<(Dir, Vec<usize>)> = Vec::new();
    if args.all {
        let own = |dir: &Dir| dir.is_mine();
        meant.extend(find::open(context)?.into_iter().filter(own).map(|dir| (dir, Vec::new())));
    }
    for what in &args.what {
        if what.len() < DATE && what.bytes().all(|byte| byte.is_ascii_digit()) {
            let text = format!("'{what}' is too short to mean one of your runs, whose ids begin with a date");
            return Err(Failure::usage(text).hint("see them with: ovl status"));
        }
        let one = find::meant(what, context)?;
        meant.push((one.dir, one.steps));
    }
    let mut reports = Vec::new();
    let mut troubles = 0;
    for (dir, steps) in meant {
        if !dir.is_mine() {
            let text = format!("run {} is {}'s; only its owner can cancel it", dir.id(), dir.head.user);
            return Err(Failure::new(code::USAGE, text));
        }
        let steps = if steps.is_empty() { (0..dir.head.plan.steps.len()).collect() } else { steps };
        let report = cancel::cancel(&dir, &steps, &context.config, args.dry_run)?;
        if !args.dry_run {
            let now = survey::survey(&dir, &context.config)?;
            dir.mark_over(!now.driven && now.trouble.is_none() && now.steps.iter().all(|step| step.state.is_final()));
        }
        if !args.json {
            tell(&dir, &report, args.dry_run, context);
        }
        troubles += report.troubles.len();
        reports.push(serde_json::json!({ "run": dir.id(), "cancelled": report }));
    }
    if args.json {
        context.ui.out(&serde_json::to_string_pretty(&reports).unwrap_or_default());
    } else if reports.is_empty() {
        context.ui.say("nothing is being built");
    }
    Ok(if troubles > 0 { code::ERROR } else { 0 })
}

fn tell(dir: &Dir, report: &cancel::Cancelled, dry_run: bool, context: &Context) {
    report.troubles.iter().for_each(|trouble| context.ui.warn(trouble));
    if report.steps.is_empty() {
        context.ui.say(&format!("run {}: there is nothing left to cancel", dir.id()));
        return;
    }
    let verb = if dry_run { "would cancel" } else { "cancelled" };
    for name in &report.steps {
        context.ui.out(&format!("{verb} {name}"));
    }
    if !report.jobs.is_empty() {
        let mut jobs: Vec<String> = report.jobs.iter().take(10).map(ToString::to_string).collect();
        jobs.extend(report.jobs.len().checked_sub(11).map(|more| format!("and {} more", more + 1)));
        context.ui.say(&format!("jobs: {}", jobs.join(", ")));
    }
    if let Some(pid) = report.process {
        context.ui.say(&format!("process {pid} builds here, and {} told", if dry_run { "would be" } else { "was" }));
    }
    if !dry_run {
        context.ui.hint(&format!("take it up again with: ovl retry {}", dir.id()));
    }
}
