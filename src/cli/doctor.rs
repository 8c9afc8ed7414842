//! `ovl doctor`: what this machine can do, each line with what would help where it cannot.

use std::path::Path;

use serde::Serialize;

use super::Context;
use super::args::Doctor;
use super::failure::{Outcome, code};
use crate::build::work;
use crate::model::units::show_size;
use crate::run::queue::{self, Queue};
use crate::runtime::native::Capabilities;
use crate::runtime::{self, Choice, survey};
use crate::store::layers;
use crate::sys::lock::{self, Kind, Taken};
use crate::sys::{fs, host, process};

/// How a finding is to be taken.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
enum Level {
    Ok,
    Note,
    Bad,
}

/// One line of the report.
#[derive(Debug, Serialize)]
struct Line {
    level: Level,
    what: String,
    text: String,
    hint: Option<String>,
}

/// Runs the command.
pub fn run(args: &Doctor, context: &Context) -> Outcome {
    let mut lines = Vec::new();
    machine(&mut lines);
    runtimes(context, &mut lines);
    scratch(context, &mut lines);
    images(context, &mut lines);
    tools(&mut lines);
    scheduler(context, &mut lines);
    let bad = lines.iter().any(|line| line.level == Level::Bad);
    if args.json {
        context.ui.out(&serde_json::to_string_pretty(&lines).unwrap_or_default());
    } else {
        let style = context.ui.style();
        for line in &lines {
            let mark = match line.level {
                Level::Ok => style.green("ok  "),
                Level::Note => style.yellow("note"),
                Level::Bad => style.red("bad "),
            };
            context.ui.out(&format!("{mark} {:<18} {}", line.what, line.text));
            line.hint
                .iter()
                .for_each(|hint| context.ui.out(&format!("     {:<18} {} {hint}", "", style.cyan("hint:"))));
        }
    }
    Ok(if bad { code::UNFIT } else { 0 })
}

fn push(lines: &mut Vec<Line>, level: Level, what: &str, text: impl Into<String>, hint: Option<&str>) {
    lines.push(Line { level, what: what.into(), text: text.into(), hint: hint.map(str::to_owned) });
}

fn machine(lines: &mut Vec<Line>) {
    let (sysname, release) = host::kernel();
    push(lines, Level::Ok, "kernel", format!("{sysname} {release}, {}", host::platform()), None);
    let cpus = std::thread::available_parallelism().map_or(1, usize::from);
    push(lines, Level::Ok, "processors", format!("{cpus} for this process"), None);
}

fn runtimes(context: &Context, lines: &mut Vec<Line>) {
    let native = runtime::probe();
    let programs = survey::programs();
    let word = context.config.runtime();
    let taken = survey::taken(Choice::of(&word), &native, &programs);
    namespaces(&native, !taken.works, lines);
    for program in &programs {
        let text = format!("{}: {}", program.path.display(), program.version);
        let text = if program.privileged { text } else { format!("{text}; needs user namespaces") };
        match program.lacks.as_slice() {
            [] => push(lines, Level::Ok, program.name, text, None),
            lacks => {
                let hint = format!("overlays need {} beside it, on PATH", lacks.join(" and "));
                push(lines, Level::Note, program.name, text, Some(&hint));
            }
        }
    }
    if programs.is_empty() {
        push(lines, Level::Note, "apptainer", "not found, and no singularity; another runtime", None);
    }
    let level = if taken.works { Level::Ok } else { Level::Bad };
    push(lines, level, "runtime", format!("{word} takes {}", taken.text), taken.hint.as_deref());
    let gpus = runtime::gpu::wanted(&context.config.gpu(), None);
    let names = [("NVIDIA", gpus.nvidia), ("AMD", gpus.rocm)].into_iter().filter(|(_, on)| *on).map(|(name, _)| name);
    let names: Vec<&str> = names.collect();
    let text = match names.as_slice() {
        [] if gpus.off => "left out, as exec.gpu says".to_owned(),
        [] => "none with a driver was found".to_owned(),
        names => format!("drivers of {} are brought in over a base", names.join(" and ")),
    };
    push(lines, Level::Ok, "processors (GPU)", text, None);
}

fn namespaces(native: &Capabilities, alone: bool, lines: &mut Vec<Line>) {
    for finding in &native.findings {
        let level = match (finding.works, finding.needed) {
            (true, _) => Level::Ok,
            (false, true) if alone => Level::Bad,
            (false, _) => Level::Note,
        };
        push(lines, level, &finding.what, finding.text.as_str(), finding.hint.as_deref());
    }
}

fn space(path: &Path) -> String {
    let bytes = fs::free_bytes(path).map_or_else(|error| error.to_string(), |free| format!("{} free", show_size(free)));
    match fs::inodes(path) {
        Ok((_, 0)) | Err(_) => bytes,
        Ok((free, total)) => format!("{bytes}, {free} of {total} inodes free"),
    }
}

fn scratch(context: &Context, lines: &mut Vec<Line>) {
    let dir = work::scratch(&context.config);
    let kind = fs::network_fs(&dir);
    let text = format!("{}: {}", dir.display(), space(&dir));
    match kind {
        None => push(lines, Level::Ok, "scratch", text, None),
        Some(kind) => push(
            lines,
            Level::Note,
            "scratch",
            format!("{text}; it is on {kind}, so builds gather their files in an ext3 image"),
            Some("name a node-local directory: OVL_DIRS_SCRATCH=/local or dirs.scratch in config.yaml"),
        ),
    }
}

fn images(context: &Context, lines: &mut Vec<Line>) {
    match context.layers.writable(None) {
        Err(error) => push(
            lines,
            Level::Bad,
            "images",
            error.to_string(),
            Some("see where layers come from with: ovl config show"),
        ),
        Ok(dir) => {
            let path = layers::images(&dir);
            push(
                lines,
                Level::Ok,
                "images",
                format!("new overlays go to the {} layer, {}: {}", dir.kind, path.display(), space(&path)),
                None,
            );
            let (level, text) = locks(&path);
            push(lines, level, "locks", text, None);
        }
    }
    for dir in context.layers.dirs().iter().filter(|dir| !dir.path.is_dir()) {
        push(
            lines,
            Level::Note,
            "layer",
            format!("the {} layer {} does not exist", dir.kind, dir.path.display()),
            None,
        );
    }
}

/// Whether two open files of the directory see each other's locks.
fn locks(dir: &Path) -> (Level, String) {
    let path = dir.join(format!(".lock-test.{}.tmp", host::token()));
    let tried = (|| -> std::io::Result<(Taken, lock::Use, Taken)> {
        fs::create_new(&path, 0o600).map_err(|error| error.source)?;
        let (one, two) =
            (fs::open_rw(&path).map_err(|error| error.source)?, fs::open_rw(&path).map_err(|error| error.source)?);
        let taken = lock::try_lock(&one, Kind::Write)?;
        let seen = lock::probe_file(&two)?;
        Ok((taken, seen, lock::try_flock(&two)?))
    })();
    let _ = fs::remove_file(&path);
    match tried {
        Ok((Taken::Held, lock::Use::Writer, flock)) => {
            let flock = if flock == Taken::Unsupported { "; no flock" } else { "" };
            (Level::Ok, format!("byte-range locks work in {}{flock}", dir.display()))
        }
        Ok(_) => (
            Level::Note,
            format!(
                "{} has no file locks: whether an overlay is in use cannot be told there; claims still work",
                dir.display()
            ),
        ),
        Err(error) => (Level::Note, format!("locks in {} cannot be tried: {error}", dir.display())),
    }
}

fn tools(lines: &mut Vec<Line>) {
    let optional: [(&str, &str); 5] = [
        ("bash", "recipes are bash scripts"),
        ("mke2fs", "makes ext3 stages (--stage ext3)"),
        ("fuse2fs", "mounts ext3 stages (--stage ext3)"),
        ("git", "records the commit of a recipe"),
        ("pigz", "unpacks .tar.gz faster"),
    ];
    for (tool, what) in optional {
        match process::find(tool) {
            Some(path) => push(lines, Level::Ok, tool, path.display().to_string(), None),
            None if tool == "bash" => push(lines, Level::Bad, tool, "not found", Some(what)),
            None => push(lines, Level::Note, tool, format!("not found; {what}"), None),
        }
    }
}

fn scheduler(context: &Context, lines: &mut Vec<Line>) {
    let inside =
        queue::inside().map(|(kind, job)| format!("; this process is in {kind} job {job}")).unwrap_or_default();
    let queue = match Queue::at_hand(&context.config) {
        Ok(Some(queue)) => queue,
        Ok(None) => {
            return push(lines, Level::Ok, "scheduler", format!("none: everything is built here{inside}"), None);
        }
        Err(why) => {
            return push(lines, Level::Bad, "scheduler", why, Some("set sched.kind in config.yaml, or OVL_SCHED_KIND"));
        }
    };
    let name = queue.scheduler().to_string();
    match queue.dialect.limits().map(|cmd| queue.dialect.allowed(&queue.ask(&cmd))) {
        Some(partitions) if partitions.is_empty() => {
            push(lines, Level::Note, "scheduler", format!("{name}, which does not answer{inside}"), None);
        }
        Some(partitions) => {
            let names: Vec<String> = partitions.iter().map(|one| one.name.clone()).collect();
            push(lines, Level::Ok, "scheduler", format!("{name}, partitions {}{inside}", names.join(", ")), None);
        }
        None => push(lines, Level::Ok, "scheduler", format!("{name}{inside}"), None),
    }
    let state = context.config.state_dir();
    let there = state.ancestors().find(|dir| dir.is_dir()).unwrap_or(&state);
    let (level, text) = match fs::network_fs(there) {
        Some(kind) => (Level::Ok, format!("{} ({kind})", state.display())),
        None => (Level::Note, format!("{} is not on a network file system that ovl knows", state.display())),
    };
    let hint = (level == Level::Note).then_some("jobs need it: make sure that compute nodes see it, or set dirs.state");
    push(lines, level, "state of runs", text, hint);
}
