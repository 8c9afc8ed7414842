//! What a job waits for, judged before it is submitted: schedulers take jobs that they have forgotten for fulfilled
//! (Slurm), let the new one vanish (PBS), or let it wait for ever.

use std::collections::BTreeMap;

use crate::model::batch::{After, When};
use crate::model::resources::{JobId, Scheduler};
use crate::sched::{End, JobState, JobView};

/// How it stands with a condition.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Verdict {
    /// It holds already.
    Met,
    /// It never will; why.
    Never(String),
    /// The job is not over; this is its id as the scheduler writes it.
    Wait(JobId),
    /// The scheduler does not know the job (any more).
    Unknown,
}

/// An id as a user may give it: of a job, an array or a task of one.
pub fn id(text: &str, scheduler: Scheduler) -> Result<JobId, String> {
    let fine = |c: char| c.is_ascii_alphanumeric() || "._[]:-".contains(c);
    if !text.starts_with(|c: char| c.is_ascii_digit()) || !text.chars().all(fine) {
        return Err(format!("'{text}' is no job id"));
    }
    Ok(match scheduler {
        // The cluster of a job or a DAG.
        Scheduler::HtCondor => JobId(format!("{}:", text.trim_end_matches(':'))),
        _ => JobId(text.to_owned()),
    })
}

/// Whether `known` is the job `asked`, perhaps with its server's name, or a task of it.
fn is_of(asked: &str, known: &str) -> bool {
    match known.strip_prefix(asked) {
        Some("") => true,
        Some(rest) => rest.starts_with(['.', '_', '[', '+']),
        None => false,
    }
}

/// Whether `known` is a row of Slurm's for tasks that wait together, `14_[3-6,9%2]`, and the task `asked` among them.
/// A long list ends in dots: then it may be.
fn waits_in(asked: &str, known: &str) -> bool {
    let Some((array, index)) = asked.split_once('_') else { return false };
    let Ok(index) = index.parse::<u32>() else { return false };
    let list = known.strip_prefix(array).and_then(|rest| rest.strip_prefix("_[")?.strip_suffix(']'));
    let Some(list) = list.map(|list| list.split('%').next().unwrap_or(list)) else { return false };
    list.split(',').any(|item| {
        let (range, step) = item.split_once(':').unwrap_or((item, "1"));
        let (first, last) = range.split_once('-').unwrap_or((range, range));
        match (first.parse::<u32>(), last.parse::<u32>(), step.parse::<u32>()) {
            (Ok(first), Ok(last), Ok(step)) => {
                (first..=last).contains(&index) && (index - first).checked_rem(step) == Some(0)
            }
            _ => item.contains("..."),
        }
    })
}

/// Whether both are tasks of one array.
fn are_of_one_array(one: &str, other: &str) -> bool {
    let array = |id: &str| id.split_once(['_', '[']).map(|(array, _)| array.to_owned());
    array(one).is_some_and(|one| array(other) == Some(one))
}

/// Judges a condition by what the scheduler says of its jobs.
pub fn judge(after: &After, views: &BTreeMap<JobId, JobView>) -> Verdict {
    let asked = &after.job.0;
    let own: Vec<(&JobId, &JobView)> = views.iter().filter(|(id, _)| is_of(asked, &id.0)).collect();
    if own.is_empty() {
        let waits = views.keys().any(|id| waits_in(asked, &id.0));
        // What is known of its array: the scheduler itself knows best how it stands with this task.
        let of_array = after.when == When::Any && views.keys().any(|id| are_of_one_array(asked, &id.0));
        return if waits || of_array { Verdict::Wait(after.job.clone()) } else { Verdict::Unknown };
    }
    if own.iter().any(|(_, view)| !matches!(view.state, JobState::Ended(_))) {
        // A single job by its full id, an array as it was given.
        let id = match own.as_slice() {
            [(id, _)] if id.0.strip_prefix(asked.as_str()).is_none_or(|rest| rest.starts_with('.')) => (*id).clone(),
            _ => after.job.clone(),
        };
        return Verdict::Wait(id);
    }
    let failed = own.iter().find(|(_, view)| view.state != JobState::Ended(End::Done));
    match (after.when, failed) {
        (When::Any, _) | (When::Ok, None) | (When::NotOk, Some(_)) => Verdict::Met,
        (When::Ok, Some((id, view))) => {
            Verdict::Never(format!("job {} has not succeeded ({})", id.0.trim_end_matches(':'), view.word))
        }
        (When::NotOk, None) => Verdict::Never(format!("job {} has succeeded", asked.trim_end_matches(':'))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sched::Used;

    fn views(all: &[(&str, Option<bool>)]) -> BTreeMap<JobId, JobView> {
        all.iter()
            .map(|(id, good)| {
                let state = match good {
                    None => JobState::Running,
                    Some(true) => JobState::Ended(End::Done),
                    Some(false) => JobState::Ended(End::Failed { code: Some(1), signal: None }),
                };
                let view = JobView { state, word: "WORD".into(), reason: None, node: None, used: Used::default() };
                (JobId((*id).to_owned()), view)
            })
            .collect()
    }

    #[test]
    fn every_case() {
        let known = views(&[
            ("1", Some(true)),
            ("2", Some(false)),
            ("3.server", None),
            ("4_1", Some(true)),
            ("4_2", None),
            ("5_1", Some(true)),
            ("5_2", Some(false)),
            ("12", None),
            ("14_1", Some(true)),
            ("14_[3-6,9,20-30:5%2]", None),
            ("15_[1,3,...]", None),
        ]);
        let told = |when, job: &str| judge(&After { when, job: JobId(job.into()) }, &known);
        let wait = |job: &str| Verdict::Wait(JobId(job.into()));
        assert_eq!(told(When::Ok, "1"), Verdict::Met);
        assert!(matches!(told(When::NotOk, "1"), Verdict::Never(why) if why == "job 1 has succeeded"));
        assert!(matches!(told(When::Ok, "2"), Verdict::Never(why) if why == "job 2 has not succeeded (WORD)"));
        assert_eq!((told(When::NotOk, "2"), told(When::Any, "2")), (Verdict::Met, Verdict::Met));
        assert_eq!(told(When::Ok, "3"), wait("3.server"));
        assert_eq!(told(When::Ok, "4"), wait("4"));
        assert!(matches!(told(When::Ok, "5"), Verdict::Never(why) if why.contains("job 5_2")));
        assert_eq!(told(When::Any, "9"), Verdict::Unknown);
        assert_eq!(told(When::Ok, "12"), wait("12"));
        // Tasks that wait are one row.
        for when in [When::Ok, When::NotOk, When::Any] {
            for task in ["14_3", "14_6", "14_9", "14_25", "15_3", "15_7"] {
                assert_eq!(told(when, task), wait(task), "{task}");
            }
        }
        assert_eq!((told(When::Ok, "14_1"), told(When::Ok, "14")), (Verdict::Met, wait("14")));
        for task in ["14_2", "14_7", "14_26", "14_x"] {
            assert_eq!(told(When::Ok, task), Verdict::Unknown, "{task}");
        }
        // Never taken for over where others of its array are shown.
        assert_eq!(told(When::Any, "14_7"), wait("14_7"));
        assert_eq!(told(When::Any, "1_7"), Verdict::Unknown);
    }

    #[test]
    fn ids_are_ids() {
        for bad in ["", "x", "-1", "1 2", "1\n", "1;2", "1'", "é"] {
            assert!(id(bad, Scheduler::Slurm).is_err(), "{bad:?}");
        }
        assert_eq!(id("3016[].vm", Scheduler::Pbs).unwrap().0, "3016[].vm");
        assert_eq!(id("47", Scheduler::HtCondor).unwrap().0, "47:");
    }
}
