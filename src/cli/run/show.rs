//! What `--dry-run` prints: the job script and the command that submits it, or the command that would be run here.

use serde_json::json;

use super::{Planned, after, there, work};
use crate::cli::failure::{Failure, Outcome};
use crate::model::cmd::{Cmd, quote};
use crate::run::queue;

/// Prints it; nothing is written, and nothing submitted.
pub fn dry(planned: &Planned) -> Outcome {
    match &planned.queue {
        Some(_) => job(planned),
        None => here(planned),
    }
}

fn job(planned: &Planned) -> Outcome {
    let ui = planned.context.ui;
    let Some(queue) = &planned.queue else { return Ok(0) };
    let after = after::open(planned.args, queue, planned.context)?;
    let ready = there::ready(planned, &work::dir(planned), queue, &after)?;
    ready.written.notes.iter().for_each(|note| ui.warn(note));
    let line = command_line(&ready.submit, &ready.script);
    if planned.args.json {
        let value = json!({
            "place": queue.scheduler().word(), "because": planned.because, "name": ready.name, "job_script": ready.written.text,
            "command": ready.submit.words(), "output": ready.output, "error": ready.error, "array": planned.array.map(|array| array.count),
            "nodes": planned.request.shape.nodes, "tasks": planned.request.shape.tasks, "exec": planned.request.exec,
        });
        ui.out(&serde_json::to_string_pretty(&value).unwrap_or_default());
    } else {
        ui.out_bytes(ready.written.text.as_bytes());
        ui.out(&format!("\n# submitted with:\n{line}"));
    }
    ui.say(&format!("a job of {}: {}", queue.scheduler(), planned.because));
    Ok(0)
}

/// The command as a line to paste; bsub reads the script from standard input.
fn command_line(cmd: &Cmd, script: &std::path::Path) -> String {
    let vars: String =
        cmd.env.iter().map(|(name, value)| format!("{}={} ", name.to_string_lossy(), quote(value))).collect();
    let stdin = if cmd.stdin.is_some() { format!(" < {}", quote(script.as_os_str())) } else { String::new() };
    format!("{vars}{cmd}{stdin}")
}

fn here(planned: &Planned) -> Outcome {
    let request = &planned.request;
    let context = planned.context;
    let inside = queue::inside().map(|(scheduler, _)| scheduler);
    let granted = super::task::granted(request, &queue::own_env(), inside, context);
    let tasks = granted.tasks.unwrap_or(1);
    let alone = super::is_alone(&request.shape) || work::is_rank(&queue::own_env());
    let launcher = if alone { None } else { super::task::launcher(request, tasks, inside)? };
    let count = planned.array.map_or(1, |array| array.count);
    let mut lines = Vec::new();
    for index in 1..=count {
        let index = planned.array.map(|_| index);
        let mut cmd = Cmd::new("ovl").arg("exec");
        for (name, value) in granted.variables() {
            cmd = cmd.arg(format!("--env={name}={value}"));
        }
        cmd = cmd.args(&request.exec).arg("--");
        cmd = cmd.args(request.command(index).map_err(|error| Failure::usage(error.to_string()))?);
        if let Some(launcher) = &launcher {
            let each = std::iter::once(cmd.program).chain(cmd.args).collect();
            let mut argv = launcher.argv(tasks, granted.cpus, each).into_iter();
            cmd = Cmd::new(argv.next().unwrap_or_default()).args(argv);
        }
        lines.push(cmd);
    }
    if planned.args.json {
        let commands: Vec<Vec<String>> = lines
            .iter()
            .map(|cmd| {
                std::iter::once(&cmd.program).chain(&cmd.args).map(|word| word.to_string_lossy().into_owned()).collect()
            })
            .collect();
        let value = json!({
            "place": "here", "because": planned.because, "commands": commands, "tasks": request.shape.tasks, "exec": request.exec,
        });
        context.ui.out(&serde_json::to_string_pretty(&value).unwrap_or_default());
    } else {
        lines.iter().for_each(|line| context.ui.out(&line.to_string()));
    }
    context.ui.say(&format!("here: {}", planned.because));
    Ok(0)
}
