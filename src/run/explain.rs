//! A step in sentences: why it is built, where and why there, how it is and why, and what to type next.

use super::dir::Dir;
use super::status::Class;
use super::view::{Seen, Shown};
use crate::model::resources::Scheduler;
use crate::model::units::{show_size, show_time};
use crate::plan::{Place, show};
use crate::sys::clock;

/// The sentences about a step.
pub fn explain(dir: &Dir, one: &Shown) -> Vec<String> {
    let Some(step) = dir.head.plan.steps.get(one.index) else { return Vec::new() };
    let mut said = Vec::new();
    let asked = dir.head.targets.iter().any(|(name, _)| *name == step.name);
    let role = if asked { "was asked for".to_owned() } else { needed_by(dir, one.index) };
    said.push(format!(
        "{} {role} in run {} ({}, {}); it is built because: {}.",
        step.name,
        dir.id(),
        dir.head.user,
        clock::rfc3339(dir.head.began),
        step.why
    ));
    said.push(format!("It is built {}, because: {}.", place(&step.place), step.because));
    let figures = show::figures(&step.resources);
    if !figures.is_empty() && step.place != Place::Here {
        said.push(format!("It asks for {}.", figures.join(", ")));
    }
    said.push(state(dir, one));
    said.extend(cost(one));
    said.extend(next(dir, one));
    said
}

fn needed_by(dir: &Dir, index: usize) -> String {
    let above: Vec<String> = dir
        .head
        .plan
        .steps
        .iter()
        .filter(|step| step.after.contains(&index))
        .map(|step| step.name.to_string())
        .collect();
    format!("is needed by {}", above.join(", "))
}

fn place(place: &Place) -> String {
    match place {
        Place::Here => "on the host where the run was started".into(),
        Place::Queue(scheduler @ (Scheduler::Lsf | Scheduler::HtCondor)) => format!("by an {scheduler} job"),
        Place::Queue(scheduler) => format!("by a {scheduler} job"),
        Place::Join(ticket) => format!("by {} job {} of another run", ticket.scheduler, ticket.job),
    }
}

fn state(dir: &Dir, one: &Shown) -> String {
    let text = if one.text.is_empty() { String::new() } else { format!(": {}", one.text) };
    let job = one.job.as_ref().map(|job| format!(" (job {job}, attempt {})", one.attempt)).unwrap_or_default();
    match one.state {
        Seen::Planned => format!("It has not begun{text}."),
        Seen::Waiting => {
            let parents = unfinished(dir, one);
            let wait =
                if parents.is_empty() { String::new() } else { format!(" It comes after {}.", parents.join(", ")) };
            format!("It waits{text}{job}.{wait}{}", pending_hint(one))
        }
        Seen::Running => format!(
            "It is being built{}{job}.",
            one.status.as_ref().map_or_else(String::new, |status| {
                let phase = status.phase.as_deref().unwrap_or("starting");
                format!(" on {}, in phase {phase}, since {}", status.host, show_time(status.elapsed()))
            })
        ),
        Seen::Done => match one.status.as_ref().and_then(|status| status.result.as_ref()) {
            Some(done) => format!("It was {} in {:.1} s: {}.", done.outcome, done.seconds, done.path.display()),
            None => "It is there.".into(),
        },
        Seen::Failed => format!("It failed{text}{job}."),
        Seen::Skipped => format!("It was skipped{text}."),
        Seen::Cancelled => format!("It was not finished{text}."),
        Seen::Lost => format!("It is lost{text}."),
        Seen::Unknown => format!("How it is cannot be told{text}."),
    }
}

fn unfinished(dir: &Dir, one: &Shown) -> Vec<String> {
    let steps = &dir.head.plan.steps;
    let over = |parent: &&usize| {
        super::status::read(dir.path(), **parent).is_some_and(|status| status.state == super::status::State::Done)
    };
    let parents = steps.get(one.index).into_iter().flat_map(|step| &step.after).filter(|parent| !over(parent));
    parents.filter_map(|&parent| steps.get(parent)).map(|step| step.name.to_string()).collect()
}

/// What the scheduler's reasons mean, where they are more than "be patient".
fn pending_hint(one: &Shown) -> &'static str {
    let reason = one.view.as_ref().and_then(|view| view.reason.as_deref()).unwrap_or("");
    let about: [(&str, &str); 12] = [
        ("DependencyNeverSatisfied", " What it depends on can never succeed any more: cancel it."),
        ("Dependency", " It starts when what it needs is built."),
        ("PartitionTimeLimit", " Its time limit is longer than the partition allows: retry it with a smaller --time."),
        ("BadConstraints", " No node fits its request: retry it with smaller figures or another --partition."),
        ("PartitionConfig", " The partition cannot give what it asks for: retry it with smaller figures."),
        ("PartitionNodeLimit", " The partition cannot give what it asks for: retry it with smaller figures."),
        ("Can Never Run", " The scheduler says that it can never run: retry it with smaller figures."),
        ("JobHeldAdmin", " An administrator has to release it."),
        ("Resources", " It is next as soon as a node is free."),
        ("Priority", " Jobs with a higher priority come first."),
        ("BeginTime", " It was requeued, and starts again after a pause."),
        ("never satisfied", " What it depends on can never succeed any more: cancel it."),
    ];
    about.iter().find(|(word, _)| reason.contains(word)).map_or("", |(_, hint)| hint)
}

fn cost(one: &Shown) -> Option<String> {
    let cost = &one.status.as_ref()?.cost;
    let peak = cost.peak?;
    let had = cost.mem.map(|mem| format!(" of {}", show_size(mem))).unwrap_or_default();
    let time = show_time(std::time::Duration::from_secs_f64(cost.seconds.clamp(0.0, 1e9)));
    Some(format!("It used at most {}{had} of memory, and {time}.", show_size(peak)))
}

fn next(dir: &Dir, one: &Shown) -> Option<String> {
    let id = dir.id();
    match (one.state, one.class) {
        (Seen::Failed, Some(Class::Memory)) => Some(format!("Try it again with more memory: ovl retry {id}")),
        (Seen::Failed, Some(Class::Time)) => Some(format!("Try it again with more time: ovl retry {id}")),
        (Seen::Failed, Some(Class::Build | Class::Gate)) => {
            Some(format!("See its log: ovl logs {}    after mending the recipe: ovl build {}", one.name, one.name))
        }
        (Seen::Failed | Seen::Lost | Seen::Cancelled | Seen::Skipped, _) => {
            Some(format!("Try it again: ovl retry {id}"))
        }
        (Seen::Waiting | Seen::Running, _) => {
            Some(format!("Wait for it: ovl wait {id}    stop it: ovl cancel {}", one.name))
        }
        _ => None,
    }
}
