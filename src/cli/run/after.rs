//! Jobs that a script's job waits for: judged before it is submitted, and waited for where the scheduler cannot.

use std::path::Path;
use std::time::Duration;

use super::work;
use crate::cli::Context;
use crate::cli::args::Run;
use crate::cli::failure::{Failure, Outcome, code};
use crate::model::batch::{After, When};
use crate::model::resources::{JobId, Scheduler};
use crate::run::queue::Queue;
use crate::script::request::Request;
use crate::script::waiting::{self, Verdict};
use crate::sys::{fs, signal};

/// The file with the conditions of a job whose scheduler knows none.
const FILE: &str = "after.json";

/// The conditions that are still open; those that hold are left out, those that never will are an error.
pub fn open(args: &Run, queue: &Queue, context: &Context) -> Result<Vec<After>, Failure> {
    let mut all: Vec<After> = Vec::new();
    for (when, ids) in [(When::Ok, &args.afterok), (When::NotOk, &args.afternotok), (When::Any, &args.afterany)] {
        // `35:37` is how sbatch and qsub write a list.
        let lists = matches!(queue.scheduler(), Scheduler::Slurm | Scheduler::Pbs);
        for text in ids.iter().flat_map(|text| text.split(move |c| lists && c == ':')) {
            let job = waiting::id(text.trim(), queue.scheduler())
                .map_err(|why| Failure::usage(format!("--{}: {why}", when.word())))?;
            let one = After { when, job };
            if !all.contains(&one) {
                all.push(one);
            }
        }
    }
    if all.is_empty() {
        return Ok(all);
    }
    let ids: Vec<JobId> = all.iter().map(|one| one.job.clone()).collect();
    let views = queue.look(&ids);
    if let Some(trouble) = views.trouble {
        return Err(Failure::new(
            code::UNFIT,
            format!("{} cannot be asked about those jobs: {trouble}", queue.scheduler()),
        ));
    }
    let mut open = Vec::new();
    for one in all {
        let (flag, shown) = (one.when.word(), work::shown_id(&one.job).to_owned());
        match waiting::judge(&one, &views.jobs) {
            Verdict::Wait(job) => open.push(After { when: one.when, job }),
            Verdict::Met => context.ui.say(&format!("--{flag} {shown}: it is so already")),
            Verdict::Never(why) => {
                return Err(Failure::new(code::USAGE, format!("--{flag} {shown}: the job could never start: {why}")));
            }
            Verdict::Unknown if one.when == When::Any => {
                context.ui.warn(&format!(
                    "--{flag} {shown}: {} does not know this job (any more); it is taken as over",
                    queue.scheduler()
                ));
            }
            Verdict::Unknown => {
                let text = format!(
                    "--{flag} {shown}: {} does not know this job (any more), so nobody knows how it ended",
                    queue.scheduler()
                );
                return Err(Failure::new(code::USAGE, text).hint("leave it out if it ended as you need it"));
            }
        }
    }
    // That a job is over follows from the others, and PBS is not to be told of a job twice.
    let others: Vec<JobId> = open.iter().filter(|one| one.when != When::Any).map(|one| one.job.clone()).collect();
    open.retain(|one| one.when != When::Any || !others.contains(&one.job));
    Ok(open)
}

/// Writes the conditions down for [`wait`].
pub fn write(dir: &Path, after: &[After]) -> Result<(), Failure> {
    let list: Vec<(&str, &str)> = after.iter().map(|one| (one.when.word(), one.job.0.as_str())).collect();
    let bytes = serde_json::to_vec(&list).unwrap_or_default();
    Ok(fs::write_quick(&dir.join(FILE), &bytes, 0o600)?)
}

/// Waits until all conditions hold; fails as soon as one never will.
pub fn wait(request: &Request, dir: &Path, context: &Context) -> Outcome {
    let odd = || Failure::new(code::ERROR, format!("{}: not understood", dir.join(FILE).display()));
    let list: Vec<(String, String)> = serde_json::from_slice(&fs::read(&dir.join(FILE))?).map_err(|_| odd())?;
    let mut open = Vec::new();
    for (word, job) in list {
        let when = [When::Ok, When::NotOk, When::Any].into_iter().find(|when| when.word() == word).ok_or_else(odd)?;
        open.push(After { when, job: JobId(job) });
    }
    let queue = Queue::new(request.scheduler.ok_or_else(odd)?, &context.config);
    let mut pause = Duration::from_millis(500);
    let mut unknown = 0;
    while !open.is_empty() {
        if signal::interrupted().is_some() {
            return Err(Failure::new(code::INTERRUPTED, "interrupted"));
        }
        let ids: Vec<JobId> = open.iter().map(|one| one.job.clone()).collect();
        let views = queue.look(&ids);
        if views.trouble.is_none() {
            let mut left = Vec::new();
            for one in open {
                match waiting::judge(&one, &views.jobs) {
                    Verdict::Met => {}
                    Verdict::Never(why) => return Err(Failure::new(code::BUILD, why)),
                    Verdict::Wait(_) => left.push(one),
                    // A job on its way from the queue to the history is nowhere for a moment.
                    Verdict::Unknown if unknown > 20 && one.when == When::Any => {}
                    Verdict::Unknown if unknown > 20 => {
                        return Err(Failure::new(code::BUILD, format!("job {} is not known any more", one.job)));
                    }
                    Verdict::Unknown => {
                        unknown += 1;
                        left.push(one);
                    }
                }
            }
            open = left;
        }
        if !open.is_empty() {
            std::thread::sleep(pause);
            pause = (pause * 3 / 2).min(Duration::from_secs(15));
        }
    }
    Ok(0)
}
