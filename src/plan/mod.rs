//! The plan: what is to be built, where and why, as a value that can be shown, written down and carried out. Pure.

pub mod place;
pub mod show;
mod weigh;

use std::path::PathBuf;

use serde::{Deserialize, Serialize};

use crate::model::meta::Why;
use crate::model::name::Name;
use crate::model::resources::{JobId, Resources, Scheduler};

pub use place::{Policy, Site};
pub use weigh::{Weighed, weigh};

/// Where a step is built.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Place {
    /// By this process.
    Here,
    /// By a job.
    Queue(Scheduler),
    /// By somebody's job that is queued or running already: it is waited for, not repeated.
    Join(Ticket),
}

/// A queued step of some run: who is to build an overlay, though no process does yet.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Ticket {
    /// The scheduler that has the job.
    pub scheduler: Scheduler,
    /// The job; empty while it is being submitted.
    pub job: JobId,
    /// The run's directory.
    pub run: PathBuf,
    /// Its step there.
    pub step: usize,
    /// Which attempt at it.
    #[serde(default)]
    pub attempt: u32,
}

impl Ticket {
    /// The directory of the step.
    pub fn step_dir(&self) -> PathBuf {
        step_dir(&self.run, self.step)
    }

    /// Where the step tells how it is.
    pub fn status_file(&self) -> PathBuf {
        self.step_dir().join(STATUS)
    }

    /// Whether both stand for the same step.
    pub fn same_step(&self, other: &Ticket) -> bool {
        self.run == other.run && self.step == other.step
    }
}

/// The file in a step's directory that tells how it is.
pub const STATUS: &str = "status.json";

/// The directory of a step of a run.
pub fn step_dir(run: &std::path::Path, step: usize) -> PathBuf {
    run.join("steps").join(format!("{step:04}"))
}

/// One thing to build.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Planned {
    /// Its number in the plan, from 0.
    pub index: usize,
    /// The overlay.
    pub name: Name,
    /// The file that will be published.
    pub target: PathBuf,
    /// Why it is built at all.
    pub why: Why,
    /// Where.
    pub place: Place,
    /// Why there.
    pub because: String,
    /// What it asks for; each figure says where it comes from.
    pub resources: Resources,
    /// Steps of this plan that come before it.
    pub after: Vec<usize>,
}

/// A target that needs no step.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Settled {
    /// The overlay.
    pub name: Name,
    /// Its file.
    pub path: PathBuf,
    /// Why it is not current, for one that `--update` would rebuild.
    pub stale: Option<Why>,
}

/// Everything a request comes to.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Plan {
    /// What is there already.
    pub settled: Vec<Settled>,
    /// What is to be built, dependencies first.
    pub steps: Vec<Planned>,
    /// What could not be translated for the scheduler, and other things worth knowing.
    pub notes: Vec<String>,
}

impl Plan {
    /// The longest way through the plan by time limits: steps in order, and the seconds they may take together. Steps
    /// without a limit count nothing; of equal ways the first.
    pub fn critical_path(&self) -> (Vec<usize>, u64) {
        let mut best: Vec<(u64, Option<usize>)> = Vec::with_capacity(self.steps.len());
        for step in &self.steps {
            let own = step.resources.time_limit().map_or(0, |time| time.as_secs());
            let mut before = (0, None);
            for &parent in &step.after {
                let way = best.get(parent).map_or(0, |known: &(u64, Option<usize>)| known.0);
                if before.1.is_none() || way > before.0 {
                    before = (way, Some(parent));
                }
            }
            best.push((before.0.saturating_add(own), before.1));
        }
        let mut last = None;
        for (index, (way, _)) in best.iter().enumerate() {
            if last.is_none_or(|(_, longest)| *way > longest) {
                last = Some((index, *way));
            }
        }
        let Some((end, total)) = last else { return (Vec::new(), 0) };
        let mut path = vec![end];
        while let Some(before) = path.last().and_then(|&step| best.get(step)).and_then(|(_, before)| *before) {
            path.push(before);
        }
        path.reverse();
        (path, total)
    }

    /// Every step that comes after `step`, directly or not, in order.
    pub fn descendants(&self, step: usize) -> Vec<usize> {
        descendants(&self.steps.iter().map(|step| step.after.as_slice()).collect::<Vec<_>>(), step)
    }
}

/// Every step that comes after `step`, directly or not; `after` lists each step's parents, parents before children.
pub fn descendants(after: &[&[usize]], step: usize) -> Vec<usize> {
    let mut below = vec![false; after.len()];
    let mut found = Vec::new();
    for (index, parents) in after.iter().enumerate() {
        if parents.iter().any(|&parent| parent == step || below.get(parent).copied().unwrap_or(false)) {
            if let Some(mark) = below.get_mut(index) {
                *mark = true;
            }
            found.push(index);
        }
    }
    found
}

#[cfg(test)]
pub(crate) mod tests {
    use std::time::Duration;

    use super::*;
    use crate::model::resources::{Figure, Limit, Source};

    pub(crate) fn step(index: usize, minutes: u64, after: &[usize]) -> Planned {
        let time = Figure::new(Limit::Time(Duration::from_secs(60 * minutes)), Source::Config("t".into()));
        Planned {
            index,
            name: format!("s{index}/1").parse().unwrap(),
            target: format!("/layer/images/s{index}--1.sqf").into(),
            why: Why::Missing,
            place: Place::Here,
            because: String::new(),
            resources: Resources { time: (minutes > 0).then_some(time), ..Resources::default() },
            after: after.to_vec(),
        }
    }

    #[test]
    fn the_critical_path_is_the_longest_by_time() {
        let steps = vec![step(0, 10, &[]), step(1, 50, &[0]), step(2, 5, &[0]), step(3, 1, &[1, 2]), step(4, 30, &[])];
        let plan = Plan { steps, ..Plan::default() };
        assert_eq!(plan.critical_path(), (vec![0, 1, 3], 61 * 60));
        assert_eq!(Plan::default().critical_path(), (vec![], 0));
        assert_eq!(plan.descendants(0), [1, 2, 3]);
        assert_eq!(plan.descendants(4), [0usize; 0]);
    }
}
