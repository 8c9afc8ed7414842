//! Job scripts for bsub: only options that IBM's LSF and its relatives read in the same way.

use super::require::{Section, join, sections};
use crate::model::resources::{Limit, Mem, Resources, Scheduler};
use crate::sched::amount::mb;
use crate::sched::script::{body, left_out, output_word, own_extras};
use crate::sched::words::directive_word;
use crate::sched::{Job, Written};

/// Writes the script. Output goes straight to its file, as LSF would bring it there only after the end.
pub fn write(job: &Job) -> Written {
    let mut notes = Vec::new();
    let mut text = String::from("#!/bin/bash\n");
    let asked = &job.resources;
    let mut line =
        |words: &[&str]| match words.iter().map(|word| directive_word(word, false)).collect::<Option<Vec<_>>>() {
            Some(words) => {
                text.push_str(&format!("#BSUB {}\n", words.join(" ")));
                true
            }
            None => false,
        };
    if !line(&["-J", &job.name]) {
        notes.push("the job's name holds control characters and is left out".to_owned());
    }
    line(&["-o", "/dev/null"]);
    line(&["-r"]);
    let extras = own_extras(asked, Scheduler::Lsf, &mut notes);
    line(&["-n", &asked.cpus.as_ref().map_or(1, |cpus| cpus.value).to_string()]);
    let mut requirement = vec![section("span", "hosts=1".to_owned())];
    requirement.extend(rusage(asked, &mut notes));
    let mut gpu = asked.gpus.as_ref().map(|gpus| match &gpus.value.kind {
        Some(kind) => format!("num={}:gmodel={kind}", gpus.value.count),
        None => format!("num={}", gpus.value.count),
    });
    let mut others = Vec::new();
    for extra in &extras {
        match extra.words.as_slice() {
            [flag, value] if flag == "-R" => match sections(value) {
                Some(more) => requirement.extend(more),
                None => notes.push(format!("{} is no resource requirement and is left out ({})", value, extra.at)),
            },
            [flag, value] if flag == "-gpu" => {
                gpu = Some(gpu.map_or_else(|| value.clone(), |gpu| format!("{gpu}:{value}")));
            }
            _ => others.push(*extra),
        }
    }
    if !line(&["-R", &join(&requirement)]) {
        notes.push("the resource requirement holds characters that bsub cannot take and is left out".to_owned());
        line(&["-R", "span[hosts=1]"]);
    }
    match asked.time.as_ref().map(|time| time.value) {
        Some(Limit::Time(time)) => {
            let minutes = time.as_secs().div_ceil(60).max(1);
            line(&["-W", &format!("{}:{:02}", minutes / 60, minutes % 60)]);
        }
        Some(Limit::Unlimited) => {
            notes.extend(asked.time.as_ref().map(|it| left_out("no time limit", it, Scheduler::Lsf)))
        }
        None => {}
    }
    if let (Some(gpus), Some(gpu)) = (&asked.gpus, &gpu)
        && !line(&["-gpu", gpu])
    {
        notes.push(left_out("the GPUs", gpus, Scheduler::Lsf));
    }
    for (flag, what, figure) in [
        ("-q", "the queue", &asked.partition),
        ("-P", "the project", &asked.account),
        ("-U", "the reservation", &asked.reservation),
    ] {
        if let Some(figure) = figure
            && !line(&[flag, &figure.value])
        {
            notes.push(left_out(what, figure, Scheduler::Lsf));
        }
    }
    if asked.exclusive.as_ref().is_some_and(|exclusive| exclusive.value) {
        line(&["-x"]);
    }
    for extra in others {
        let words: Vec<&str> = extra.words.iter().map(String::as_str).collect();
        if words.is_empty() || !line(&words) {
            notes.push(format!("a flag with characters that bsub cannot take is left out ({})", extra.at));
        }
    }
    notes.extend(asked.qos.as_ref().map(|it| left_out("the quality of service", it, Scheduler::Lsf)));
    let text = text + &body(job, Some(output_word(job, "LSB_JOBID")), &mut notes);
    Written { text, notes }
}

fn section(name: &str, inside: String) -> Section {
    Section { name: name.to_owned(), inside }
}

/// Memory and scratch in MB without a unit: older versions and relatives refuse units.
fn rusage(asked: &Resources, notes: &mut Vec<String>) -> Vec<Section> {
    let mut sections = Vec::new();
    match asked.mem.as_ref().map(|mem| mem.value) {
        Some(Mem::Node) => {
            notes.extend(asked.mem.as_ref().map(|it| left_out("all memory of a node", it, Scheduler::Lsf)))
        }
        Some(_) => sections.push(section("rusage", format!("mem={}", mb(asked.mem_bytes().unwrap_or(0))))),
        None => {}
    }
    sections.extend(asked.scratch.as_ref().map(|scratch| section("rusage", format!("tmp={}", mb(scratch.value)))));
    sections
}
