//! `ovl retry`: again what did not come to be, in the same run, with more of what was lacking.

use super::outcome::{Told, Wishes};
use super::{find, outcome};
use crate::cli::Context;
use crate::cli::args::Retry;
use crate::cli::asked;
use crate::cli::failure::{Failure, Outcome, code};
use crate::model::event::Event;
use crate::model::name::Name;
use crate::plan::Place;
use crate::run::queue::Queue;
use crate::run::{Dir, Drive, Local, follow, join, retry, survey};
use crate::sys::owner::Owner;

/// Runs the command.
pub fn run(args: &Retry, context: &Context) -> Outcome {
    let (mut dir, names) = meant(args, context)?;
    if !dir.is_mine() {
        let text = format!("run {} is {}'s; build it yourself with: ovl build", dir.id(), dir.head.user);
        return Err(Failure::new(code::USAGE, text));
    }
    let flags = asked::resources(&args.asked)?;
    let config = dir.config()?;
    // From here on nobody else may change the run; what is seen stays true.
    let lock = if args.dry_run { None } else { Some(dir.lock()?) };
    let survey = survey::survey(&dir, &config)?;
    if survey.driven {
        return Err(Failure::new(code::BUSY, format!("an ovl is at work on run {}", dir.id()))
            .hint(format!("wait for it with: ovl wait {}", dir.id())));
    }
    if let Some(lock) = &lock {
        follow::tidy_locked(&dir, &config, &survey, lock);
    }
    let mut again = retry::choose(&dir, &survey, &names);
    let wanted = retry::resources(&dir, &survey, &mut again, &flags, args.same);
    if again.chosen.is_empty() {
        context.ui.say(&format!("run {}: there is nothing to try again", dir.id()));
        if args.json {
            context.ui.out("[]");
        }
        return Ok(0);
    }
    again.more.iter().for_each(|more| context.ui.say(more));
    let verb = if args.dry_run { "would try" } else { "trying" };
    for &step in again.chosen.keys() {
        context.ui.say(&format!(
            "{verb} {} again ({})",
            dir.head.plan.steps[step].name,
            survey.steps[step].state.word()
        ));
    }
    let Some(lock) = lock else { return Ok(0) };
    let queue = match dir.head.scheduler.filter(|_| needs_queue(&dir, &again)) {
        Some(scheduler) => Some(Queue::new(scheduler, &config))
            .filter(Queue::is_there)
            .ok_or_else(|| Failure::new(code::UNFIT, format!("the commands of {scheduler} are not on PATH here")))
            .map(Some)?,
        None => None,
    };
    let joined = join::among(&dir.head.plan, dir.head.scheduler, &config)?;
    // Whoever looks from now on knows that somebody is at work on it.
    dir.mark_driven(&Owner::me())?;
    let steps = retry::prepare(&mut dir, &again, wanted, &joined)?;
    dir.mark_over(false);
    let budget = Local::of(&config);
    let listener = context.ui.listener(&context.config.progress());
    listener.hear(&Event::Plan { total: again.chosen.len() });
    let drive = Drive {
        dir: &dir,
        weights: budget.weigh(&dir.head.plan),
        budget: budget.budget(),
        steps,
        chosen: again.chosen,
        alive: again.alive,
        queue: queue.as_ref(),
        config: &config,
        listener: &*listener,
        fail_fast: false,
    };
    let report = drive.run(&lock)?;
    drop(listener);
    let mut told = Told::new(dir.head.targets.clone());
    told.take(report, &dir);
    outcome::finish(told, &Wishes { json: args.json, wait: args.wait, cancel_jobs: false }, context)
}

fn needs_queue(dir: &Dir, again: &retry::Again) -> bool {
    again.chosen.keys().any(|&step| dir.head.plan.steps[step].place != Place::Here)
}

fn meant(args: &Retry, context: &Context) -> Result<(Dir, Vec<Name>), Failure> {
    let Some(first) = args.what.first() else { return Ok((find::newest(context)?, Vec::new())) };
    let meant = find::meant(first, context)?;
    let mut names = Vec::new();
    for what in &args.what {
        let one = find::meant(what, context)?;
        if one.dir.path() != meant.dir.path() {
            return Err(Failure::usage(format!("{what} is of another run than {first}; retry one run at a time")));
        }
        names.extend(one.steps.iter().map(|&step| one.dir.head.plan.steps[step].name.clone()));
    }
    Ok((meant.dir, names))
}
