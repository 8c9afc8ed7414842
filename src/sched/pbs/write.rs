//! Job scripts for qsub: one chunk, live output, bash whatever the login shell is.

use crate::model::resources::{Extra, Limit, Mem, Resources, Scheduler, Source};
use crate::sched::amount::{clock, mb};
use crate::sched::script::{body, left_out, output_word, own_extras};
use crate::sched::words::directive_word;
use crate::sched::{Job, Written};

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
    for words in [&["-j", "oe"], &["-o", "/dev/null"], &["-S", "/bin/bash"], &["-W", "umask=022"], &["-r", "y"]] {
        line(words);
    }
    let asked = &job.resources;
    let extras = own_extras(asked, Scheduler::Pbs, &mut notes);
    line(&["-l", &chunk(asked, &extras, &mut notes)]);
    let mut place = Vec::new();
    if asked.exclusive.as_ref().is_some_and(|exclusive| exclusive.value) {
        place.push("excl");
    }
    place.extend(extras.iter().filter_map(|extra| listed(extra, "place=")));
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
    let redirect = output_word(job, "PBS_JOBID");
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

fn chunk(asked: &Resources, extras: &[&Extra], notes: &mut Vec<String>) -> String {
    let cpus = asked.cpus.as_ref().map_or(1, |cpus| cpus.value);
    let mut chunk = format!("select=1:ncpus={cpus}");
    match asked.mem.as_ref().map(|mem| mem.value) {
        Some(Mem::Node) => {
            notes.extend(asked.mem.as_ref().map(|it| left_out("all memory of a node", it, Scheduler::Pbs)))
        }
        Some(_) => chunk.push_str(&format!(":mem={}mb", mb(asked.mem_bytes().unwrap_or(0)))),
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
