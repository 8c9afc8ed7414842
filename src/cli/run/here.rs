//! On this machine: this process becomes the script, or runs the tasks of an array, each with a log of its own.

use std::path::{Path, PathBuf};
use std::time::Duration;

use super::{Planned, is_alone, task, work};
use crate::cli::failure::{Failure, Outcome, code};
use crate::model::cmd::Cmd;
use crate::model::resources::Figure;
use crate::run::queue;
use crate::sched::pattern::{self, Piece};
use crate::sys::process::{Background, Ended};
use crate::sys::{env, fs, host, signal};

/// Runs it.
pub fn run(planned: Planned) -> Outcome {
    let context = planned.context;
    if planned.request.cwd != env::current_dir() {
        context.ui.warn("the directory that the script's directives name is for its job; it runs in this one");
    }
    if let Some(text) = planned.because.strip_prefix("there is no scheduler here; ") {
        context.ui.say(&format!("there is no scheduler here ({text}): the script runs on this machine"));
    }
    let extras = &planned.resources.extra;
    if !extras.is_empty() {
        let words: Vec<String> =
            extras.iter().map(|extra| format!("{} ({})", extra.words.join(" "), extra.at)).collect();
        context.ui.warn(&format!("said to a scheduler, and without effect here: {}", words.join(", ")));
    }
    if planned.array.is_some() {
        return array(&planned);
    }
    let alone = is_alone(&planned.request.shape) || work::is_rank(&queue::own_env());
    if alone && planned.request.origin != Path::new("-") {
        return task::start(&planned.request, Path::new(""), None, context);
    }
    work::sweep(context);
    let (dir, request) = work::freeze(&planned)?;
    task::start(&request, &dir, None, context)
}

/// A task that runs.
struct Running {
    index: u32,
    process: Background,
}

fn array(planned: &Planned) -> Outcome {
    let ui = planned.context.ui;
    let Some(array) = planned.array else { return Ok(0) };
    work::sweep(planned.context);
    let (dir, _) = work::freeze(planned)?;
    let program =
        env::current_exe().map_err(|error| Failure::new(code::ERROR, format!("cannot start ovl: {error}")))?;
    let limit = usize::try_from(array.limit.unwrap_or(1)).unwrap_or(usize::MAX);
    signal::catch_interrupts();
    let mut running: Vec<Running> = Vec::new();
    let mut failed: Vec<(u32, Ended, PathBuf)> = Vec::new();
    let mut next = 1;
    while next <= array.count || !running.is_empty() {
        if signal::interrupted().is_some() {
            let left = running.len();
            running.into_iter().for_each(|one| one.process.end());
            return Err(Failure::new(
                code::INTERRUPTED,
                format!("interrupted: {left} tasks were ended, {} not started", (array.count + 1).saturating_sub(next)),
            ));
        }
        while next <= array.count && running.len() < limit {
            let (output, error) = logs(planned, next);
            for path in std::iter::once(&output).chain(&error) {
                if let Some(parent) = path.parent() {
                    fs::create_dirs(parent)?;
                }
            }
            let cmd = Cmd::new(&program).args(["internal", "task"]).arg(&dir).arg("--index").arg(next.to_string());
            // The first task begins files that all of them share.
            let shares = |figure: &Option<Figure<String>>| {
                next > 1
                    && figure.as_ref().is_some_and(|figure| {
                        let file = work::in_directory(&env::current_dir(), &figure.value, "", true, "");
                        !pattern::tells_tasks(&file.to_string_lossy())
                    })
            };
            let output_to = (output.as_path(), shares(&planned.asks.output));
            let error_to = error.as_deref().map(|error| (error, shares(&planned.asks.error)));
            let process = Background::start(&cmd, output_to, error_to)
                .map_err(|error| Failure::new(code::ERROR, format!("task {next} cannot be started: {error}")))?;
            ui.say(&format!("task {next} of {}: its output goes to {}", array.count, output.display()));
            running.push(Running { index: next, process });
            next += 1;
        }
        let mut left = Vec::new();
        for mut one in running {
            match one.process.ended() {
                Ok(None) => left.push(one),
                Ok(Some(ended)) if ended.ok() => {}
                Ok(Some(ended)) => failed.push((one.index, ended, logs(planned, one.index).0)),
                Err(error) => return Err(Failure::new(code::ERROR, format!("task {}: {error}", one.index))),
            }
        }
        running = left;
        std::thread::sleep(Duration::from_millis(10));
    }
    let Some((_, first, _)) = failed.first() else { return Ok(0) };
    let code = match first {
        Ended::Code(code) => u8::try_from(*code).unwrap_or(code::ERROR),
        Ended::Signal(signal) => u8::try_from(128 + signal).unwrap_or(code::ERROR),
        _ => code::ERROR,
    };
    let lines: Vec<String> =
        failed.iter().map(|(index, ended, log)| format!("  task {index}: {ended}    {}", log.display())).collect();
    Err(Failure::new(code, format!("{} of {} tasks failed\n{}", failed.len(), array.count, lines.join("\n"))))
}

/// Where a task's output and errors go.
fn logs(planned: &Planned, index: u32) -> (PathBuf, Option<PathBuf>) {
    let name = planned.asks.name.as_ref().map_or(planned.file.as_str(), |name| name.value.as_str()).replace('/', "-");
    let id = &planned.request.id;
    let fill = |path: &Path| {
        PathBuf::from(pattern::fill(&pattern::parse(&path.to_string_lossy()), &|piece| match piece {
            Piece::Job => Some(format!("{id}_{index}")),
            Piece::Array => Some(id.clone()),
            Piece::Index => Some(index.to_string()),
            Piece::Name => Some(name.clone()),
            Piece::User => Some(host::user()),
            _ => None,
        }))
    };
    let output = match &planned.asks.output {
        Some(output) => fill(&work::in_directory(&env::current_dir(), &output.value, &name, true, "out")),
        None => planned.context.config.logs_dir().join("run").join(format!("{name}-{id}_{index}.out")),
    };
    let error = planned.asks.error.as_ref();
    let error = error.map(|error| fill(&work::in_directory(&env::current_dir(), &error.value, &name, true, "err")));
    (output, error)
}
