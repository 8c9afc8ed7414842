//! Job scripts for qsub: one chunk, live output, bash whatever the login shell is.

use crate::model::batch::{Shape, mem_per_node};
use crate::model::resources::{Extra, Limit, Mem, Resources, Scheduler, Source};
use crate::sched::amount::{clock, mb};
use crate::sched::script::{Own, body, left_out, output_word, own_extras, redirect};
use crate::sched::words::directive_word;
use crate::sched::{Batch, Job, Written};

/// Writes the script. Output goes straight to its file, as PBS would bring it there only after the end, and loses it
/// where it cannot.
pub fn write(job: &Job) -> Written {
    let mut notes = Vec::new();
    let mut text = String::from("#!/bin/bash\n");
    let mut line =
        |words: &[&str]| match words.iter().map(|word| directive_word(word, true)).collect::<Option<Vec<_>>>() {
            Some(words) => {
                text.push_str(&format!("#PBS {}\n", words.join(" ")));
                true
            }
            None => false,
        };
    if !line(&["-N", &job.name]) {
        notes.push("the job's name holds control characters and is left out".to_owned());
    }
    for words in [&["-j", "oe"], &["-o", "/dev/null"], &["-S", "/bin/bash"]] {
        line(words);
    }
    match &job.batch {
        None => {
            line(&["-W", "umask=022"]);
            line(&["-r", "y"]);
        }
        // An array of one is none to PBS.
        Some(Batch { array: Some(array), .. }) if array.count > 1 => {
            let limit = array.limit.map(|limit| format!("%{limit}")).unwrap_or_default();
            line(&["-J", &format!("1-{}{limit}", array.count)]);
        }
        Some(_) => {}
    }
    let asked = &job.resources;
    let extras = own_extras(asked, Scheduler::Pbs, &mut notes);
    let shape = job.batch.as_ref().map(|batch| batch.shape).unwrap_or_default();
    line(&["-l", &select(asked, &shape, &extras, &mut notes)]);
    let arrangement = |text: &&str| matches!(*text, "free" | "pack" | "scatter" | "vscatter");
    let said: Vec<&str> = extras.iter().filter_map(|extra| listed(extra, "place=")).collect();
    // Chunks need not be nodes, where they are PBS' own.
    let nodes = shape.nodes > 1 && job.batch.as_ref().is_some_and(|batch| !batch.own_chunks);
    let mut place: Vec<&str> =
        said.iter().copied().find(arrangement).or(nodes.then_some("scatter")).into_iter().collect();
    if asked.exclusive.as_ref().is_some_and(|exclusive| exclusive.value) {
        place.push("excl");
    }
    place.extend(said.into_iter().filter(|text| !arrangement(text)));
    if !place.is_empty() {
        line(&["-l", &format!("place={}", place.join(":"))]);
    }
    match asked.time.as_ref().map(|time| time.value) {
        Some(Limit::Time(time)) => {
            line(&["-l", &format!("walltime={}", clock(time))]);
        }
        Some(Limit::Unlimited) => {
            notes.extend(asked.time.as_ref().map(|it| left_out("no time limit", it, Scheduler::Pbs)))
        }
        None => {}
    }
    if let Some(queue) = &asked.partition
        && !line(&["-q", &queue.value])
    {
        notes.push(left_out("the queue", queue, Scheduler::Pbs));
    }
    if let Some(account) = &asked.account
        && !line(&[if is_project(&account.source) { "-P" } else { "-A" }, &account.value])
    {
        notes.push(left_out("the account", account, Scheduler::Pbs));
    }
    for extra in &extras {
        if listed(extra, "select=").is_none() && listed(extra, "place=").is_none() {
            let words: Vec<&str> = extra.words.iter().map(String::as_str).collect();
            if words.is_empty() || !line(&words) {
                notes.push(format!("a flag with control characters is left out ({})", extra.at));
            }
        }
    }
    notes.extend(asked.qos.as_ref().map(|it| left_out("the quality of service", it, Scheduler::Pbs)));
    notes.extend(asked.reservation.as_ref().map(|it| left_out("the reservation", it, Scheduler::Pbs)));
    notes.extend(asked.scratch.as_ref().map(|it| left_out("node-local scratch", it, Scheduler::Pbs)));
    let redirect = match &job.batch {
        None => output_word(job, "PBS_JOBID"),
        Some(batch) => redirect(job, batch, &OWN),
    };
    let text = text + &body(job, Some(redirect), &mut notes);
    Written { text, notes }
}

/// Sites charge either accounts (`-A`) or projects (`-P`); a recipe's own flag says which.
fn is_project(source: &Source) -> bool {
    matches!(source, Source::Directive { text, .. } if text.starts_with("-P"))
}

/// What stands behind `name=` in an extra `-l name=…`.
fn listed<'a>(extra: &'a Extra, name: &str) -> Option<&'a str> {
    match extra.words.as_slice() {
        [flag, value] if flag == "-l" => value.strip_prefix(name),
        _ => None,
    }
}

/// How a job script knows itself: `7.server`, in an array `7[3].server`.
const OWN: Own = Own {
    job: "${PBS_JOBID%%.*}",
    task: "${PBS_JOBID%%.*}",
    array: "${PBS_JOBID%%[.[]*}",
    index: "${PBS_ARRAY_INDEX:-${PBS_ARRAYID:-1}}",
};

/// Chunks: one for each node, or one for each task where the tasks may lie anywhere.
fn select(asked: &Resources, shape: &Shape, extras: &[&Extra], notes: &mut Vec<String>) -> String {
    if shape.tasks == 1 {
        return format!("select={}", chunk(asked, 1, 1, 1, extras, notes));
    }
    let kinds = if shape.spread { vec![(shape.tasks, 1)] } else { shape.chunks() };
    // Memory is meant for a node: tasks that lie on one together may use that much together.
    let share = if shape.spread { shape.tasks } else { 1 };
    let mut said = Vec::new();
    let all: Vec<String> =
        kinds.iter().map(|(count, each)| chunk(asked, *count, *each, share, extras, &mut said)).collect();
    said.dedup();
    notes.extend(said);
    format!("select={}", all.join("+"))
}

fn chunk(asked: &Resources, count: u32, tasks: u32, share: u32, extras: &[&Extra], notes: &mut Vec<String>) -> String {
    let each = asked.cpus.as_ref().map_or(1, |cpus| cpus.value);
    let mut chunk = format!("{count}:ncpus={}", each.saturating_mul(tasks));
    if count > 1 || tasks > 1 {
        chunk.push_str(&format!(":mpiprocs={tasks}"));
    }
    match asked.mem.as_ref().map(|mem| mem.value) {
        Some(Mem::Node) => {
            notes.extend(asked.mem.as_ref().map(|it| left_out("all memory of a node", it, Scheduler::Pbs)))
        }
        Some(mem) => {
            let bytes = match mem {
                Mem::Total(bytes) => bytes / u64::from(share.max(1)),
                _ => mem_per_node(mem, each, tasks).unwrap_or(u64::MAX),
            };
            chunk.push_str(&format!(":mem={}mb", mb(bytes)));
        }
        None => {}
    }
    if let Some(gpus) = &asked.gpus {
        chunk.push_str(&format!(":ngpus={}", gpus.value.count));
        match &gpus.value.kind {
            Some(kind) if word(kind) => chunk.push_str(&format!(":gpu_model={kind}")),
            Some(_) => notes.push(left_out("the kind of GPU", gpus, Scheduler::Pbs)),
            None => {}
        }
    }
    for extra in extras {
        match listed(extra, "select=") {
            Some(more) if more.chars().any(char::is_control) => {
                notes.push(format!("a flag with control characters is left out ({})", extra.at));
            }
            Some(more) => chunk.push_str(&format!(":{}", more.strip_prefix("1:").unwrap_or(more))),
            None => {}
        }
    }
    chunk
}

fn word(text: &str) -> bool {
    !text.is_empty() && !text.chars().any(|c| c.is_control() || c.is_whitespace() || ":,+=".contains(c))
}
