//! `ovl history`: runs and how they went, from their files alone.

use std::collections::BTreeMap;

use serde::Serialize;

use super::find;
use crate::cli::Context;
use crate::cli::args::History;
use crate::cli::failure::Outcome;
use crate::model::name::Name;
use crate::model::units::{show_size, show_time};
use crate::plan::Place;
use crate::run::Dir;
use crate::run::status::{self, State};
use crate::sys::clock;
use crate::ui::table;

#[derive(Debug, Serialize)]
struct Row {
    run: String,
    began: String,
    user: String,
    name: Name,
    state: &'static str,
    place: String,
    attempt: u32,
    seconds: f64,
    bytes: Option<u64>,
    peak: Option<u64>,
    text: String,
}

/// Runs the command.
pub fn run(args: &History, context: &Context) -> Outcome {
    let wanted: Option<Name> = args.name.as_deref().map(str::parse).transpose()?;
    let mut rows: Vec<Row> = Vec::new();
    let mut runs = 0;
    for dir in find::all(context)? {
        let steps: Vec<Row> =
            of_run(&dir).into_iter().filter(|row| wanted.as_ref().is_none_or(|name| row.name == *name)).collect();
        if steps.is_empty() {
            continue;
        }
        rows.extend(steps);
        runs += 1;
        if runs >= args.limit {
            break;
        }
    }
    if args.json {
        context.ui.out(&serde_json::to_string_pretty(&rows).unwrap_or_default());
    } else if wanted.is_some() {
        table::columns(&rows.iter().map(line).collect::<Vec<_>>()).iter().for_each(|line| context.ui.out(line));
    } else {
        table::columns(&by_run(&rows)).iter().for_each(|line| context.ui.out(line));
    }
    Ok(0)
}

fn of_run(dir: &Dir) -> Vec<Row> {
    let row = |step: &crate::plan::Planned| {
        let status = match &step.place {
            Place::Join(ticket) => status::read(&ticket.run, ticket.step),
            _ => status::read(dir.path(), step.index),
        };
        let state = status.as_ref().map_or(State::Planned, |status| status.state);
        let result = status.as_ref().and_then(|status| status.result.as_ref());
        Row {
            run: dir.id().to_owned(),
            began: clock::rfc3339(status.as_ref().map_or(dir.head.began, |status| status.began)),
            user: dir.head.user.clone(),
            name: step.name.clone(),
            state: state.word(),
            place: crate::plan::show::place(&step.place),
            attempt: status.as_ref().map_or(1, |status| status.attempt),
            seconds: status.as_ref().map_or(0.0, |status| status.cost.seconds),
            bytes: result.and_then(|done| done.bytes),
            peak: status.as_ref().and_then(|status| status.cost.peak),
            text: status.map(|status| status.text).unwrap_or_default(),
        }
    };
    dir.head.plan.steps.iter().map(row).collect()
}

fn line(row: &Row) -> Vec<String> {
    vec![
        row.began.clone(),
        row.run.clone(),
        row.state.into(),
        show_time(std::time::Duration::from_secs_f64(row.seconds.clamp(0.0, 1e9))),
        row.bytes.map(show_size).unwrap_or_default(),
        row.place.clone(),
        row.text.lines().next().unwrap_or("").to_owned(),
    ]
}

fn by_run(rows: &[Row]) -> Vec<Vec<String>> {
    let mut lines = Vec::new();
    let mut at = 0;
    while let Some(first) = rows.get(at) {
        let run: Vec<&Row> = rows[at..].iter().take_while(|row| row.run == first.run).collect();
        at += run.len();
        let mut counts: BTreeMap<&str, usize> = BTreeMap::new();
        run.iter().for_each(|row| *counts.entry(row.state).or_default() += 1);
        let counts: Vec<String> = counts.iter().map(|(state, count)| format!("{count} {state}")).collect();
        let seconds: f64 = run.iter().map(|row| row.seconds).sum();
        let last = run.last().map(|row| row.name.to_string()).unwrap_or_default();
        let names = if run.len() == 1 { last } else { format!("{last} and {} more", run.len() - 1) };
        let time = show_time(std::time::Duration::from_secs_f64(seconds.clamp(0.0, 1e9)));
        lines.push(vec![first.run.clone(), first.user.clone(), names, counts.join(", "), time]);
    }
    lines
}
