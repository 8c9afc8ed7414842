//! What a node's watcher wrote into a job's output about its end, for steps that could not say so themselves: Slurm calls
//! a job that its memory poll has killed `FAILED` with a launch failure.

use super::dir::Dir;
use super::status::Class;
use super::view::{Seen, Shown};
use crate::sys::fs;

/// Bytes at the end of an output that are looked at.
const LAST: u64 = 4096;

/// Says why a step's job failed, where the scheduler does not know and the job's output does.
pub fn look(dir: &Dir, one: &mut Shown) {
    let (Seen::Failed, Some(Class::Internal), Some(job)) = (one.state, one.class, &one.job) else { return };
    let Ok(config) = dir.config() else { return };
    let file = format!("{}-{}-{}.{}-{job}.out", one.name.file_stem(), dir.id(), one.index, one.attempt);
    let path = config.logs_dir().join("jobs").join(file);
    let Ok(meta) = fs::metadata(&path) else { return };
    let bytes = fs::read_from(&path, meta.len().saturating_sub(LAST)).unwrap_or_default();
    let class = told(&String::from_utf8_lossy(&bytes));
    let text = match class {
        Some(Class::Memory) => format!("job {job} was killed for its memory"),
        Some(Class::Time) => format!("job {job} was ended by its time limit"),
        _ => return,
    };
    (one.class, one.text) = (class, text);
}

/// Words as the watchers of Slurm, PBS and LSF write them.
fn told(output: &str) -> Option<Class> {
    let says = |words: &[&str]| output.lines().any(|line| words.iter().any(|word| line.contains(word)));
    let memory =
        ["xceeded job memory limit", "exceeded memory limit", "oom-kill event", "oom_kill event", "job killed: mem"];
    if says(&memory) || says(&["TERM_MEMLIMIT"]) {
        return Some(Class::Memory);
    }
    says(&["DUE TO TIME LIMIT", "job killed: walltime", "TERM_RUNLIMIT"]).then_some(Class::Time)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_of_watchers() {
        for (output, class) in [
            ("slurmstepd-n1: error: Exceeded job memory limit\n", Some(Class::Memory)),
            ("slurmstepd: error: Detected 1 oom-kill event(s) in StepId=5.batch.\n", Some(Class::Memory)),
            (
                "slurmstepd: error: *** JOB 7 ON n1 CANCELLED AT 2026-01-01T00:00:00 DUE TO TIME LIMIT ***\n",
                Some(Class::Time),
            ),
            ("=>> PBS: job killed: walltime 61 exceeded limit 60\n", Some(Class::Time)),
            ("error: something else\n", None),
            ("", None),
        ] {
            assert_eq!(told(output), class, "{output}");
        }
    }
}
