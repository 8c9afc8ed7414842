//! `ovl status`: how builds are, from their files and one query to the scheduler.

use serde::Serialize;

use super::find;
use crate::cli::Context;
use crate::cli::args::Status;
use crate::cli::failure::{Failure, Outcome};
use crate::model::units::show_time;
use crate::run::Dir;
use crate::run::follow;
use crate::run::survey::{self, Survey};
use crate::run::view::{Seen, Shown};
use crate::sys::{clock, signal, term};
use crate::ui::{Style, table};

/// Runs the command.
pub fn run(args: &Status, context: &Context) -> Outcome {
    let mut pause = std::time::Duration::from_secs(2);
    let mut before = String::new();
    loop {
        let (dirs, steps) = wanted(args, context)?;
        let surveys = survey::survey_all(&dirs, &context.config)?;
        for (dir, survey) in dirs.iter().zip(&surveys) {
            let cancelled = follow::tidy(dir, &context.config, survey);
            if !cancelled.is_empty() {
                let jobs: Vec<String> = cancelled.iter().map(ToString::to_string).collect();
                context.ui.say(&format!("cancelled jobs that could never start: {}", jobs.join(", ")));
            }
            dir.mark_over(
                !survey.driven && survey.trouble.is_none() && survey.steps.iter().all(|step| step.state.is_final()),
            );
        }
        let all: Vec<(&Dir, &Survey)> = dirs.iter().zip(&surveys).collect();
        let text = if args.json { json(&all, &steps) } else { shown(&all, &steps, context.ui.style()) };
        let changed = text != before;
        if args.watch && term::stdout_is_terminal() {
            context.ui.out_bytes(format!("\x1b[H\x1b[2J{text}").as_bytes());
        } else if changed {
            context.ui.out_bytes(text.as_bytes());
        }
        let over = surveys.iter().all(|survey| survey.steps.iter().all(|step| step.state.is_final()));
        if !args.watch || over || signal::interrupted().is_some() {
            return Ok(0);
        }
        before = text;
        pause = if changed {
            std::time::Duration::from_secs(2)
        } else {
            (pause * 3 / 2).min(std::time::Duration::from_secs(15))
        };
        std::thread::sleep(pause);
    }
}

/// Runs and, for each, the steps to show (all when empty).
fn wanted(args: &Status, context: &Context) -> Result<(Vec<Dir>, Vec<Vec<usize>>), Failure> {
    if args.what.is_empty() {
        let mut dirs = if args.all { find::all(context)?.collect() } else { find::open(context)? };
        if dirs.is_empty() && !args.all {
            dirs = find::newest(context).ok().into_iter().collect();
        }
        if dirs.is_empty() {
            context.ui.say("nothing was built yet");
        }
        dirs.reverse();
        let steps = vec![Vec::new(); dirs.len()];
        return Ok((dirs, steps));
    }
    let (mut dirs, mut steps): (Vec<Dir>, Vec<Vec<usize>>) = (Vec::new(), Vec::new());
    for what in &args.what {
        let meant = find::meant(what, context)?;
        match dirs.iter().position(|dir| dir.path() == meant.dir.path()) {
            Some(at) if steps[at].is_empty() || meant.steps.is_empty() => steps[at].clear(),
            Some(at) => steps[at].extend(meant.steps),
            None => {
                dirs.push(meant.dir);
                steps.push(meant.steps);
            }
        }
    }
    Ok((dirs, steps))
}

fn shown(all: &[(&Dir, &Survey)], steps: &[Vec<usize>], style: Style) -> String {
    let mut out = String::new();
    for ((dir, survey), only) in all.iter().zip(steps) {
        let head = &dir.head;
        let driven = if survey.driven { ", ovl is at work on it" } else { "" };
        out.push_str(&format!(
            "run {} by {} on {}, {}{driven}\n",
            dir.id(),
            head.user,
            head.host,
            clock::rfc3339(head.began)
        ));
        let rows: Vec<Vec<String>> =
            survey.steps.iter().filter(|one| only.is_empty() || only.contains(&one.index)).map(row).collect();
        for line in table::columns(&rows) {
            out.push_str(&format!("  {}\n", painted(&line, style)));
        }
        if let Some(trouble) = &survey.trouble {
            out.push_str(&format!("  the scheduler cannot be asked: {trouble}\n"));
        }
        let bad = survey.steps.iter().filter(|one| matches!(one.state, Seen::Failed | Seen::Lost | Seen::Cancelled));
        if let Some(one) = bad.take(1).next() {
            out.push_str(&format!("  why: ovl explain {}    again: ovl retry {}\n", one.name, dir.id()));
        }
    }
    out
}

fn row(one: &Shown) -> Vec<String> {
    let job = one.job.as_ref().map(|job| format!("job {job}")).unwrap_or_default();
    let time = match (&one.status, one.state) {
        (Some(status), Seen::Running | Seen::Done | Seen::Failed) => show_time(status.elapsed()),
        _ => String::new(),
    };
    let text = one.text.lines().next().unwrap_or("").to_owned();
    vec![one.name.to_string(), one.state.word().into(), job, time, text]
}

fn painted(line: &str, style: Style) -> String {
    let paint = |word: &str, painted: String| line.replacen(&format!("  {word}"), &format!("  {painted}"), 1);
    for word in ["failed", "lost", "cancelled", "skipped"] {
        if line.contains(&format!("  {word}")) {
            return paint(word, style.red(word));
        }
    }
    if line.contains("  done") { paint("done", style.green("done")) } else { line.to_owned() }
}

fn json(all: &[(&Dir, &Survey)], steps: &[Vec<usize>]) -> String {
    #[derive(Serialize)]
    struct Run<'a> {
        run: &'a str,
        user: &'a str,
        host: &'a str,
        began: String,
        path: &'a std::path::Path,
        driven: bool,
        trouble: &'a Option<String>,
        steps: Vec<Step<'a>>,
    }
    #[derive(Serialize)]
    struct Step<'a> {
        #[serde(flatten)]
        shown: &'a Shown,
        status: Option<&'a crate::run::status::Status>,
    }
    let runs = all.iter().zip(steps).map(|((dir, survey), only)| Run {
        run: dir.id(),
        user: &dir.head.user,
        host: &dir.head.host,
        began: clock::rfc3339(dir.head.began),
        path: dir.path(),
        driven: survey.driven,
        trouble: &survey.trouble,
        steps: survey
            .steps
            .iter()
            .filter(|one| only.is_empty() || only.contains(&one.index))
            .map(|shown| Step { shown, status: shown.status.as_ref() })
            .collect(),
    });
    serde_json::to_string_pretty(&runs.collect::<Vec<_>>()).unwrap_or_default() + "\n"
}
