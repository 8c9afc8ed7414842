//! `ovl logs`: the log of a build, also while it grows.

use std::path::{Path, PathBuf};
use std::time::Duration;

use super::find;
use crate::cli::Context;
use crate::cli::args::Logs;
use crate::cli::failure::{Failure, Outcome, code};
use crate::model::name::Name;
use crate::run::Dir;
use crate::run::status;
use crate::run::survey;
use crate::sys::{fs, signal};

/// Runs the command.
pub fn run(args: &Logs, context: &Context) -> Outcome {
    let name: Name = args.name.parse()?;
    let meant = find::of_name(&name, args.run.as_deref(), context)?;
    let step = meant.steps.first().copied().unwrap_or(0);
    let find = || if args.job { job_output(&meant.dir, step) } else { build_log(&meant.dir, step) };
    let mut path = find();
    let mut pause = Duration::from_millis(300);
    while path.is_none() && args.follow && !is_over(&meant.dir, step, context)? {
        // Its file is looked at; the scheduler is asked less and less.
        std::thread::sleep(pause);
        pause = (pause * 3 / 2).min(Duration::from_secs(15));
        if signal::interrupted().is_some() {
            return Ok(code::INTERRUPTED);
        }
        path = find();
    }
    let Some(path) = path else {
        return Err(Failure::new(code::ERROR, format!("{name} has no log yet in run {}", meant.dir.id()))
            .hint(format!("find out why with: ovl explain {name}")));
    };
    if args.path {
        context.ui.out(&path.display().to_string());
        return Ok(0);
    }
    show(&path, args, context, &mut || is_over(&meant.dir, step, context))
}

/// The log of the newest attempt, as its status tells.
fn build_log(dir: &Dir, step: usize) -> Option<PathBuf> {
    status::read(dir.path(), step)?.log
}

fn job_output(dir: &Dir, step: usize) -> Option<PathBuf> {
    let stem = dir.head.plan.steps.get(step)?.name.file_stem();
    let logs = dir.config().ok()?.logs_dir().join("jobs");
    newest(&logs, &format!("{stem}-{}-{step}.", dir.id()), ".out")
}

fn newest(dir: &Path, start: &str, end: &str) -> Option<PathBuf> {
    use std::os::unix::fs::MetadataExt;
    let files = fs::list_if_exists(dir).ok()?;
    let ours = files.into_iter().filter_map(|file| file.into_string().ok());
    let ours = ours.filter(|file| file.starts_with(start) && file.ends_with(end));
    let with_time = ours.filter_map(|file| {
        let path = dir.join(file);
        let time = fs::metadata(&path).ok()?.mtime();
        Some((time, path))
    });
    with_time.max().map(|(_, path)| path)
}

fn is_over(dir: &Dir, step: usize, context: &Context) -> Result<bool, Failure> {
    match status::read(dir.path(), step) {
        Some(status) if status.state == status::State::Running => Ok(status.is_orphaned()),
        Some(status) if status.state.is_final() => Ok(true),
        _ => {
            let survey = survey::survey(dir, &context.config)?;
            Ok(survey.steps.get(step).is_none_or(|one| one.state.is_final()))
        }
    }
}

fn show(path: &Path, args: &Logs, context: &Context, over: &mut dyn FnMut() -> Result<bool, Failure>) -> Outcome {
    let bytes = fs::read(path)?;
    let mut shown = bytes.len() as u64;
    let start = args.lines.map_or(0, |lines| start_of_last(&bytes, lines));
    context.ui.out_bytes(bytes.get(start..).unwrap_or_default());
    if !args.follow {
        return Ok(0);
    }
    loop {
        let last = over()?;
        let more = fs::read_from(path, shown)?;
        shown += more.len() as u64;
        context.ui.out_bytes(&more);
        if last || signal::interrupted().is_some() {
            return Ok(0);
        }
        std::thread::sleep(Duration::from_millis(250));
    }
}

/// Where the last `lines` lines begin.
fn start_of_last(bytes: &[u8], lines: usize) -> usize {
    let body = bytes.strip_suffix(b"\n").unwrap_or(bytes);
    if lines == 0 {
        return bytes.len();
    }
    let ends = body.iter().enumerate().rev().filter(|(_, byte)| **byte == b'\n');
    ends.map(|(at, _)| at + 1).nth(lines - 1).unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::start_of_last;

    #[test]
    fn the_last_lines() {
        for (text, lines, rest) in
            [("a\nb\nc\n", 2, "b\nc\n"), ("a\nb\nc", 1, "c"), ("a\n", 5, "a\n"), ("", 3, ""), ("a\nb\n", 0, "")]
        {
            assert_eq!(&text[start_of_last(text.as_bytes(), lines)..], rest);
        }
    }
}
