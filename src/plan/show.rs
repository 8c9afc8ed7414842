//! A plan in words, and as a graph for dot(1).

use std::fmt::Write;

use super::{Place, Plan, Planned};
use crate::model::resources::{Figure, Limit, Mem, Resources};
use crate::model::units::{show_size, show_time};

/// The plan for people: per step where, why, what it asks for and who said so, what it waits for.
pub fn text(plan: &Plan) -> String {
    let mut out = String::new();
    for settled in &plan.settled {
        let state = match &settled.stale {
            None => "up to date".to_owned(),
            Some(why) => format!("stale: {why} (--update rebuilds it)"),
        };
        let _ = writeln!(out, "{}  {state}  {}", settled.name, settled.path.display());
    }
    for step in &plan.steps {
        let _ = writeln!(out, "would build {} → {} ({})", step.name, step.target.display(), step.why);
        let _ = writeln!(out, "    where      {}: {}", place(&step.place), step.because);
        for (number, line) in figures(&step.resources).into_iter().enumerate() {
            let _ = writeln!(out, "    {}{line}", if number == 0 { "asks for   " } else { "           " });
        }
        if !step.after.is_empty() {
            let _ = writeln!(out, "    after      {}", names(plan, &step.after));
        }
    }
    let (path, seconds) = plan.critical_path();
    if path.len() > 1 {
        let time = show_time(std::time::Duration::from_secs(seconds));
        let limit = if seconds > 0 { format!(" (time limits together {time})") } else { String::new() };
        let _ = writeln!(out, "critical path: {}{limit}", path_names(plan, &path));
    }
    for note in &plan.notes {
        let _ = writeln!(out, "note: {note}");
    }
    out
}

fn names(plan: &Plan, steps: &[usize]) -> String {
    let all = steps.iter().filter_map(|&step| plan.steps.get(step)).map(|step| step.name.to_string());
    all.collect::<Vec<_>>().join(", ")
}

fn path_names(plan: &Plan, steps: &[usize]) -> String {
    names(plan, steps).replace(", ", " → ")
}

/// A place in words.
pub fn place(place: &Place) -> String {
    match place {
        Place::Here => "here".into(),
        Place::Queue(scheduler) => format!("{scheduler} job"),
        Place::Join(ticket) => format!("joined {} job {}", ticket.scheduler, ticket.job),
    }
}

/// Every figure with its source, a line each.
pub fn figures(resources: &Resources) -> Vec<String> {
    let mut lines = Vec::new();
    let mut say = |what: &str, value: Option<(String, String)>| {
        if let Some((value, source)) = value {
            lines.push(format!("{what} {value}  ({source})"));
        }
    };
    say("cpus", told(&resources.cpus, u32::to_string));
    say("memory", told(&resources.mem, |mem| self::mem(*mem)));
    say("time", told(&resources.time, |time| limit(*time)));
    let gpus = |gpus: &crate::model::resources::Gpus| match &gpus.kind {
        Some(kind) => format!("{} × {kind}", gpus.count),
        None => gpus.count.to_string(),
    };
    say("gpus", told(&resources.gpus, gpus));
    say("scratch", told(&resources.scratch, |bytes| show_size(*bytes)));
    say("partition", told(&resources.partition, String::clone));
    say("account", told(&resources.account, String::clone));
    say("qos", told(&resources.qos, String::clone));
    say("reservation", told(&resources.reservation, String::clone));
    say("exclusive", told(&resources.exclusive, bool::to_string));
    for extra in &resources.extra {
        lines.push(format!("{} {}  ({})", extra.scheduler, extra.words.join(" "), extra.at));
    }
    lines
}

/// Memory for people.
pub fn mem(mem: Mem) -> String {
    match mem {
        Mem::Total(bytes) => show_size(bytes),
        Mem::PerCpu(bytes) => format!("{} per CPU", show_size(bytes)),
        Mem::Node => "all of the node's".into(),
    }
}

/// A time limit for people.
pub fn limit(limit: Limit) -> String {
    match limit {
        Limit::Time(time) => show_time(time),
        Limit::Unlimited => "unlimited".into(),
    }
}

fn told<T>(figure: &Option<Figure<T>>, show: impl Fn(&T) -> String) -> Option<(String, String)> {
    figure.as_ref().map(|figure| (show(&figure.value), figure.source.to_string()))
}

/// The plan as a graph in the language of dot(1); queued steps are boxes, local ones ellipses.
pub fn dot(plan: &Plan) -> String {
    let mut out = String::from("digraph ovl {\n  rankdir=LR;\n");
    for step in &plan.steps {
        let shape = if step.place == Place::Here { "ellipse" } else { "box" };
        let label = format!("{}\n{}", step.name, place(&step.place));
        let _ = writeln!(out, "  s{} [label={}, shape={shape}];", step.index, quoted(&label));
    }
    for step in &plan.steps {
        step.after.iter().for_each(|parent| {
            let _ = writeln!(out, "  s{parent} -> s{};", step.index);
        });
    }
    out.push_str("}\n");
    out
}

fn quoted(text: &str) -> String {
    format!("\"{}\"", text.replace('\\', "\\\\").replace('"', "\\\"").replace('\n', "\\n"))
}

/// One line about a step, for lists: place and the main figures.
pub fn brief(step: &Planned) -> String {
    let mut parts = vec![place(&step.place)];
    parts.extend(step.resources.cpus.as_ref().map(|cpus| format!("{} CPUs", cpus.value)));
    parts.extend(step.resources.mem.as_ref().map(|figure| mem(figure.value)));
    parts.extend(step.resources.time.as_ref().map(|figure| limit(figure.value)));
    parts.join(", ")
}

#[cfg(test)]
mod tests {
    use super::super::tests::step;
    use super::*;
    use crate::model::resources::{Scheduler, Source};

    #[test]
    fn a_plan_reads_well() {
        let mut steps = vec![step(0, 0, &[]), step(1, 90, &[0])];
        steps[0].because = "its recipe has no directives".into();
        steps[1].place = Place::Queue(Scheduler::Slurm);
        steps[1].because = "its recipe has directives (r:2:1)".into();
        let source = Source::Directive { at: "r:3:9".into(), text: "--mem-per-cpu=2G".into() };
        steps[1].resources.mem = Some(Figure::new(Mem::PerCpu(2 << 30), source));
        let plan = Plan { steps, ..Plan::default() };
        assert_eq!(
            text(&plan),
            "would build s0/1 → /layer/images/s0--1.sqf (not built yet)\n\
             \x20   where      here: its recipe has no directives\n\
             would build s1/1 → /layer/images/s1--1.sqf (not built yet)\n\
             \x20   where      Slurm job: its recipe has directives (r:2:1)\n\
             \x20   asks for   memory 2.0 GiB per CPU  (r:3:9 --mem-per-cpu=2G)\n\
             \x20              time 1h30m  (t)\n\
             \x20   after      s0/1\n\
             critical path: s0/1 → s1/1 (time limits together 1h30m)\n"
        );
        assert_eq!(
            dot(&plan),
            "digraph ovl {\n  rankdir=LR;\n  s0 [label=\"s0/1\\nhere\", shape=ellipse];\n  \
             s1 [label=\"s1/1\\nSlurm job\", shape=box];\n  s0 -> s1;\n}\n"
        );
    }
}
