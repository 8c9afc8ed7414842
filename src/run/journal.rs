//! What was asked of the scheduler, line by line, as it was asked: written before and after every submission, so that a
//! killed `ovl` leaves nothing unknown. Submitting and retrying hold the run's lock; a cancel is one line, whole at once.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::Write;
use std::path::Path;
use std::sync::Mutex;

use serde::{Deserialize, Serialize};

use crate::model::resources::JobId;
use crate::sys::clock;
use crate::sys::fs::{self, PathError};

/// One line.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", tag = "what")]
pub enum Entry {
    /// About to be submitted under this unique name.
    Submitting {
        /// The step.
        step: usize,
        /// Which attempt.
        attempt: u32,
        /// The job's name.
        name: String,
    },
    /// The scheduler has it.
    Submitted {
        /// The step.
        step: usize,
        /// Which attempt.
        attempt: u32,
        /// The job.
        job: JobId,
    },
    /// The scheduler refused it, or it was withdrawn before it could run.
    Withdrawn {
        /// The step.
        step: usize,
        /// Which attempt.
        attempt: u32,
        /// Why.
        text: String,
    },
    /// Held jobs are about to be released: from here on jobs may start.
    Releasing,
    /// They were released.
    Released,
    /// Steps were cancelled.
    Cancelled {
        /// Which.
        steps: Vec<usize>,
        /// By whom.
        by: String,
    },
    /// Steps are to be tried again.
    Retried {
        /// Which.
        steps: Vec<usize>,
        /// The new attempt of each.
        attempts: Vec<u32>,
        /// By whom.
        by: String,
    },
}

#[derive(Serialize, Deserialize)]
struct Line {
    at: i64,
    #[serde(flatten)]
    entry: Entry,
}

/// An open journal.
#[derive(Debug)]
pub struct Journal(Mutex<File>);

/// The file in a run's directory.
pub const FILE: &str = "journal.jsonl";

impl Journal {
    /// Opens the journal of a run for writing.
    pub fn open(run: &Path) -> Result<Journal, PathError> {
        Ok(Journal(Mutex::new(fs::append(&run.join(FILE))?)))
    }

    /// Writes a line.
    pub fn write(&self, entry: Entry) -> std::io::Result<()> {
        let mut line = serde_json::to_vec(&Line { at: clock::now(), entry })?;
        line.push(b'\n');
        let mut file = self.0.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        file.write_all(&line)
    }

    /// Waits until everything is on disk.
    pub fn flush(&self) -> std::io::Result<()> {
        self.0.lock().unwrap_or_else(std::sync::PoisonError::into_inner).sync_all()
    }
}

/// What is known of a step's newest job.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Known {
    /// Attempts so far.
    pub attempt: u32,
    /// The unique name of the newest job.
    pub name: String,
    /// Its id; None while nobody knows whether there is one.
    pub job: Option<JobId>,
    /// Everything was in, and the release of the roots was asked for.
    pub releasing: bool,
    /// They were released.
    pub released: bool,
    /// It was refused or withdrawn, and why.
    pub withdrawn: Option<String>,
    /// It was cancelled, and by whom.
    pub cancelled: Option<String>,
    /// When it was submitted.
    pub at: i64,
}

/// Reads a journal; a torn last line (a kill while writing) is passed over.
pub fn read(run: &Path) -> Result<BTreeMap<usize, Known>, PathError> {
    let bytes = fs::read_if_exists(&run.join(FILE))?.unwrap_or_default();
    Ok(fold(&String::from_utf8_lossy(&bytes)))
}

fn fold(text: &str) -> BTreeMap<usize, Known> {
    let mut known: BTreeMap<usize, Known> = BTreeMap::new();
    for Line { at, entry } in text.lines().filter_map(|line| serde_json::from_str::<Line>(line).ok()) {
        match entry {
            Entry::Submitting { step, attempt, name } => {
                let cancelled = known.get(&step).filter(|one| one.attempt >= attempt || one.attempt == 0);
                let cancelled = cancelled.and_then(|one| one.cancelled.clone());
                known.insert(step, Known { attempt, name, at, cancelled, ..Known::default() });
            }
            // It ends up in a command line.
            Entry::Submitted { job, .. } if !job.is_plain() => {}
            Entry::Submitted { step, attempt, job } => {
                let one = known.entry(step).or_default();
                if one.attempt > attempt {
                    continue;
                }
                (one.attempt, one.job, one.at) = (attempt, Some(job), at);
            }
            Entry::Withdrawn { step, attempt, text } => {
                let one = known.entry(step).or_default();
                if one.attempt > attempt {
                    continue;
                }
                (one.attempt, one.withdrawn) = (attempt, Some(text));
            }
            Entry::Cancelled { steps, by } => {
                for step in steps {
                    known.entry(step).or_default().cancelled = Some(by.clone());
                }
            }
            // Nothing of the attempt before counts any more.
            Entry::Retried { steps, attempts, .. } => {
                for (step, attempt) in steps.into_iter().zip(attempts) {
                    known.insert(step, Known { attempt, at, ..Known::default() });
                }
            }
            Entry::Releasing => {
                known.values_mut().filter(|one| one.job.is_some()).for_each(|one| one.releasing = true);
            }
            Entry::Released => {
                known.values_mut().filter(|one| one.job.is_some()).for_each(|one| one.released = true);
            }
        }
    }
    known
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_torn_journal_tells_what_is_whole() {
        let text = concat!(
            r#"{"at":1,"what":"submitting","step":0,"attempt":1,"name":"n0"}"#,
            "\n",
            r#"{"at":2,"what":"submitted","step":0,"attempt":1,"job":"17"}"#,
            "\n",
            r#"{"at":3,"what":"submitting","step":1,"attempt":1,"name":"n1"}"#,
            "\n",
            r#"{"at":4,"what":"submit"#
        );
        let known = fold(text);
        assert_eq!((known[&0].job.clone(), known[&0].released), (Some(JobId("17".into())), false));
        assert_eq!((known[&1].job.clone(), known[&1].name.as_str()), (None, "n1"));
    }

    #[test]
    fn what_was_released_may_start_and_what_came_later_may_not() {
        let entries = [
            Entry::Submitted { step: 0, attempt: 1, job: JobId("1".into()) },
            Entry::Released,
            Entry::Submitted { step: 1, attempt: 1, job: JobId("2".into()) },
        ];
        let text: String = entries.map(|entry| serde_json::to_string(&Line { at: 5, entry }).unwrap() + "\n").concat();
        let known = fold(&text);
        assert_eq!((known[&0].released, known[&1].released), (true, false));
    }

    #[test]
    fn another_attempt_forgets_the_end_of_the_last() {
        let entries = [
            Entry::Submitted { step: 2, attempt: 1, job: JobId("1".into()) },
            Entry::Cancelled { steps: vec![2], by: "ada".into() },
            Entry::Retried { steps: vec![2], attempts: vec![2], by: "ada".into() },
            Entry::Submitting { step: 2, attempt: 2, name: "b".into() },
            // What is said late of the attempt before.
            Entry::Withdrawn { step: 2, attempt: 1, text: "gone".into() },
        ];
        let line = |entry| serde_json::to_string(&Line { at: 5, entry }).unwrap() + "\n";
        let text: String = entries.into_iter().map(line).collect();
        assert_eq!(fold(&text)[&2], Known { attempt: 2, name: "b".into(), at: 5, ..Known::default() });
    }
}
