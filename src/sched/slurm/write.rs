//! Job scripts for sbatch: one long option per line.

use std::fmt::Display;

use crate::model::resources::{Limit, Mem, Resources, Scheduler};
use crate::sched::amount::{clock, mb};
use crate::sched::script::{body, left_out, own_extras, path};
use crate::sched::words::directive_word;
use crate::sched::{Job, Written};

/// Writes the script.
pub fn write(job: &Job) -> Written {
    let mut notes = Vec::new();
    let mut lines = Lines { text: String::from("#!/bin/bash\n") };
    for (flag, value) in [
        ("--job-name", job.name.clone()),
        ("--output", output(job)),
        ("--open-mode", "append".to_owned()),
        ("--chdir", path(&job.cwd)),
        // All of an environment that was cleaned before; NONE and lists run the user's login shell on the node.
        ("--export", "ALL".to_owned()),
    ] {
        if !lines.set(flag, &value) {
            notes.push(format!("{flag} holds characters that cannot stand in a job script and is left out"));
        }
    }
    lines.plain("--requeue");
    lines.plain("--nodes=1");
    lines.plain("--ntasks=1");
    resources(&job.resources, &mut lines, &mut notes);
    let text = lines.text + &body(job, None, &mut notes);
    Written { text, notes }
}

struct Lines {
    text: String,
}

impl Lines {
    fn plain(&mut self, words: impl Display) {
        self.text.push_str(&format!("#SBATCH {words}\n"));
    }

    fn set(&mut self, flag: &str, value: &str) -> bool {
        let word = directive_word(value, true);
        if let Some(word) = &word {
            self.plain(format!("{flag}={word}"));
        }
        word.is_some()
    }
}

/// `%` is doubled so that nothing but the job id is replaced in the path. A backslash would switch replacing off.
fn output(job: &Job) -> String {
    path(&job.output).split("%j").map(|piece| piece.replace('%', "%%")).collect::<Vec<_>>().join("%j")
}

fn resources(asked: &Resources, lines: &mut Lines, notes: &mut Vec<String>) {
    if let Some(cpus) = &asked.cpus {
        lines.plain(format!("--cpus-per-task={}", cpus.value));
    }
    match asked.mem.as_ref().map(|mem| mem.value) {
        Some(Mem::Total(bytes)) => lines.plain(format!("--mem={}M", mb(bytes))),
        Some(Mem::PerCpu(bytes)) => lines.plain(format!("--mem-per-cpu={}M", mb(bytes))),
        Some(Mem::Node) => lines.plain("--mem=0"),
        None => {}
    }
    match asked.time.as_ref().map(|time| time.value) {
        Some(Limit::Time(time)) => lines.plain(format!("--time={}", clock(time))),
        Some(Limit::Unlimited) => lines.plain("--time=UNLIMITED"),
        None => {}
    }
    let mut extras = own_extras(asked, Scheduler::Slurm, notes);
    if let Some(gpus) = &asked.gpus {
        let count = gpus.value.count;
        // Not --gpus: older selection plugins know only --gres. A second --gres would replace the first.
        let mut gres = match &gpus.value.kind {
            Some(kind) => format!("gpu:{kind}:{count}"),
            None => format!("gpu:{count}"),
        };
        extras.retain(|extra| match extra.words.as_slice() {
            [word] if !word.contains("gpu") => {
                let other = word.strip_prefix("--gres=");
                gres.extend(other.map(|other| format!(",{other}")));
                other.is_none()
            }
            _ => true,
        });
        if !lines.set("--gres", &gres) {
            notes.push(left_out("the kind of GPU", gpus, Scheduler::Slurm));
        }
    }
    if let Some(scratch) = &asked.scratch {
        lines.plain(format!("--tmp={}M", mb(scratch.value)));
    }
    for (flag, what, figure) in [
        ("--partition", "the partition", &asked.partition),
        ("--account", "the account", &asked.account),
        ("--qos", "the quality of service", &asked.qos),
        ("--reservation", "the reservation", &asked.reservation),
    ] {
        if let Some(figure) = figure
            && !lines.set(flag, &figure.value)
        {
            notes.push(left_out(what, figure, Scheduler::Slurm));
        }
    }
    if asked.exclusive.as_ref().is_some_and(|exclusive| exclusive.value) {
        lines.plain("--exclusive");
    }
    // Last, so that they win.
    for extra in extras {
        match extra.words.iter().map(|word| directive_word(word, true)).collect::<Option<Vec<_>>>() {
            Some(words) if !words.is_empty() => lines.plain(words.join(" ")),
            _ => notes.push(format!("a flag with control characters is left out ({})", extra.at)),
        }
    }
}
