//! Job scripts for bsub: only options that IBM's LSF and its relatives read in the same way.

use super::require::{Section, join, sections};
use crate::model::batch::mem_per_node;
use crate::model::resources::{Limit, Mem, Resources, Scheduler};
use crate::sched::amount::mb;
use crate::sched::script::{Own, body, left_out, output_word, own_extras, redirect};
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
    let batch = job.batch.as_ref();
    let array = batch.and_then(|batch| batch.array).map_or_else(String::new, |array| {
        let limit = array.limit.map(|limit| format!("%{limit}")).unwrap_or_default();
        format!("[1-{}]{limit}", array.count)
    });
    if !line(&["-J", &format!("{}{array}", job.name)]) {
        notes.push("the job's name holds control characters and is left out".to_owned());
    }
    line(&["-o", "/dev/null"]);
    if batch.is_none() {
        line(&["-r"]);
    }
    let extras = own_extras(asked, Scheduler::Lsf, &mut notes);
    let cpus = asked.cpus.as_ref().map_or(1, |cpus| cpus.value);
    let shape = batch.map(|batch| batch.shape).unwrap_or_default();
    // A slot is a CPU: the relatives of IBM's LSF have no other way of giving a task several.
    line(&["-n", &cpus.saturating_mul(shape.tasks).to_string()]);
    let on_node = cpus.saturating_mul(shape.most_per_node());
    let mut requirement = match (shape.spread && cpus == 1, shape.nodes) {
        (true, _) => Vec::new(),
        (false, 1) => vec![section("span", "hosts=1".to_owned())],
        (false, _) => vec![section("span", format!("ptile={on_node}"))],
    };
    if shape.spread && cpus > 1 {
        notes.push(format!("all {} tasks of {cpus} CPUs go to one host; for several, say how many: -N", shape.tasks));
    }
    requirement.extend(rusage(asked, shape.most_per_node(), &mut notes));
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
    if !requirement.is_empty() && !line(&["-R", &join(&requirement)]) {
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
    let redirect = match batch {
        None => output_word(job, "LSB_JOBID"),
        Some(batch) => redirect(job, batch, &OWN),
    };
    let text = text + &body(job, Some(redirect), &mut notes);
    Written { text, notes }
}

/// How a job script knows itself.
const OWN: Own =
    Own { job: "${LSB_JOBID}", task: "${LSB_JOBID}_${LSB_JOBINDEX}", array: "${LSB_JOBID}", index: "${LSB_JOBINDEX}" };

fn section(name: &str, inside: String) -> Section {
    Section { name: name.to_owned(), inside }
}

/// Memory and scratch in MB without a unit: older versions and relatives refuse units.
fn rusage(asked: &Resources, per_node: u32, notes: &mut Vec<String>) -> Vec<Section> {
    let mut sections = Vec::new();
    match asked.mem.as_ref().map(|mem| mem.value) {
        Some(Mem::Node) => {
            notes.extend(asked.mem.as_ref().map(|it| left_out("all memory of a node", it, Scheduler::Lsf)))
        }
        Some(mem) => {
            let cpus = asked.cpus.as_ref().map_or(1, |cpus| cpus.value);
            let bytes = mem_per_node(mem, cpus, per_node).unwrap_or(u64::MAX);
            sections.push(section("rusage", format!("mem={}", mb(bytes))));
        }
        None => {}
    }
    sections.extend(asked.scratch.as_ref().map(|scratch| section("rusage", format!("tmp={}", mb(scratch.value)))));
    sections
}
