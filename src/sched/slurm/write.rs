//! Job scripts for sbatch: one long option per line.

use std::fmt::Display;
use std::path::Path;

use crate::model::resources::{Limit, Mem, Resources, Scheduler};
use crate::sched::amount::{clock, mb};
use crate::sched::pattern::{self, Piece};
use crate::sched::script::{body, left_out, own_extras, path};
use crate::sched::words::directive_word;
use crate::sched::{Batch, Job, Written};

/// Writes the script.
pub fn write(job: &Job) -> Written {
    let mut notes = Vec::new();
    let mut lines = Lines { text: String::from("#!/bin/bash\n") };
    let batch = job.batch.as_ref();
    let mut flags = vec![("--job-name", job.name.clone())];
    match batch {
        None => flags.extend([("--output", output(job)), ("--open-mode", "append".to_owned())]),
        Some(batch) => {
            flags.push(("--output", filled(&job.output)));
            flags.extend(batch.error.as_ref().map(|error| ("--error", filled(error))));
            // It is for both files.
            if std::iter::once(&job.output).chain(&batch.error).any(|file| batch.share(file)) {
                flags.push(("--open-mode", "append".to_owned()));
            }
        }
    }
    // All of an environment that was cleaned before; NONE and lists run the user's login shell on the node.
    flags.extend([("--chdir", path(&job.cwd)), ("--export", "ALL".to_owned())]);
    for (flag, value) in flags {
        if !lines.set(flag, &value) {
            notes.push(format!("{flag} holds characters that cannot stand in a job script and is left out"));
        }
    }
    match batch {
        None => ["--requeue", "--nodes=1", "--ntasks=1"].iter().for_each(|flag| lines.plain(flag)),
        Some(batch) => of_script(batch, &mut lines),
    }
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

fn of_script(batch: &Batch, lines: &mut Lines) {
    let shape = &batch.shape;
    if !shape.spread {
        lines.plain(format!("--nodes={}", shape.nodes));
    }
    lines.plain(format!("--ntasks={}", shape.tasks));
    // Slurm would fill one node before the next.
    let even = (shape.nodes > 1 && shape.tasks.is_multiple_of(shape.nodes)).then(|| shape.tasks / shape.nodes);
    if let Some(each) = shape.per_node.or(even) {
        lines.plain(format!("--ntasks-per-node={each}"));
    }
    if let Some(array) = &batch.array {
        let limit = array.limit.map(|limit| format!("%{limit}")).unwrap_or_default();
        lines.plain(format!("--array=1-{}{limit}", array.count));
    }
}

/// A pattern in Slurm's own words, which are those of [`pattern`].
fn filled(file: &Path) -> String {
    let pieces = pattern::parse(&path(file));
    pattern::fill(&pieces, &|piece| match piece {
        Piece::Text(text) => Some(pattern::escape(text)),
        Piece::Job => Some("%j".into()),
        Piece::Array => Some("%A".into()),
        Piece::Index => Some("%a".into()),
        Piece::Name => Some("%x".into()),
        Piece::User => Some("%u".into()),
        Piece::Other(letter) => Some(format!("%{letter}")),
    })
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
