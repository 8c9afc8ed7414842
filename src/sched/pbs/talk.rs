//! What is asked of PBS, and its answers, as recorded on OpenPBS 23.06.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use serde_json::Value;

use crate::model::batch::{After, When};
use crate::model::cmd::Cmd;
use crate::model::resources::JobId;
use crate::sched::amount::{elapsed, pbs_mem};
use crate::sched::reply::{odd, order, says, submission, words};
use crate::sched::{End, JobState, JobView, Reply, Unanswered, Used};

/// Phrases after which a submission may have happened all the same.
const LOST: &[&str] = &["failed to recv data", "end of file", "timed out", "broken pipe", "connection reset"];

/// Phrases of a server that cannot be reached just now.
const AWAY: &[&str] = &[
    "connection refused",
    "cannot connect to server",
    "network is unreachable",
    "no route to host",
    "unknown host",
    "end of file",
    "timed out",
    "failed to recv data",
    "connection reset",
    "broken pipe",
    "no permission.",
];

/// `qsub -f`: without it a process stays behind in the background for a minute, with our descriptors.
pub fn submit(script: &Path, after: &[JobId], held: bool) -> Cmd {
    let mut cmd = Cmd::new("qsub").arg("-f");
    if held {
        cmd = cmd.arg("-h");
    }
    if !after.is_empty() {
        // A job named twice would be waited for twice, for ever.
        let after: BTreeSet<&str> = after.iter().map(|id| id.0.as_str()).collect();
        let list: Vec<&str> = after.into_iter().collect();
        cmd = cmd.arg("-W").arg(format!("depend=afterok:{}", list.join(":")));
    }
    cmd.arg(script)
}

/// `qsub` of a user's script. All conditions must hold.
pub fn submit_after(script: &Path, after: &[After]) -> Cmd {
    let mut cmd = Cmd::new("qsub").arg("-f");
    let kinds = [When::Ok, When::NotOk, When::Any];
    let clauses = kinds.into_iter().filter_map(|when| {
        // A job named twice would be waited for twice, for ever.
        let ids: BTreeSet<&str> = after.iter().filter(|one| one.when == when).map(|one| one.job.0.as_str()).collect();
        (!ids.is_empty()).then(|| format!("{}:{}", when.word(), ids.into_iter().collect::<Vec<_>>().join(":")))
    });
    let clauses: Vec<String> = clauses.collect();
    if !clauses.is_empty() {
        cmd = cmd.arg("-W").arg(format!("depend={}", clauses.join(",")));
    }
    cmd.arg(script)
}

/// An id: digits, for an array `[]` or for one of its tasks `[3]` behind them, then perhaps a server.
fn is_job(text: &str) -> bool {
    let number = text.split('.').next().unwrap_or("");
    let (digits, index) = match number.split_once('[') {
        Some((digits, rest)) => (digits, rest.strip_suffix(']')),
        None => (number, Some("")),
    };
    !digits.is_empty()
        && digits.bytes().all(|b| b.is_ascii_digit())
        && index.is_some_and(|index| index.bytes().all(|b| b.is_ascii_digit()))
        && text.chars().all(|c| c.is_ascii_alphanumeric() || ".-_[]".contains(c))
}

/// `123.server` on a line of its own.
pub fn job_id(reply: &Reply) -> Result<JobId, Unanswered> {
    let id = reply.stdout.lines().rev().map(str::trim).find(|line| is_job(line));
    match (reply.code, id) {
        (Some(0), Some(id)) => Ok(JobId(id.to_owned())),
        (Some(_), _) if says(reply, &["cannot connect to server"]) => Err(Unanswered::Away(words(reply))),
        _ => Err(submission(reply, LOST)),
    }
}

/// One query for all: one line for each job, `;` between attributes. Not JSON, which holds only the first of several
/// ids (measured on 23.06), and not `-x`: a server that keeps no history (the default) then tells nothing at all, not
/// even about jobs that run.
pub fn status(ids: &[JobId]) -> Cmd {
    Cmd::new("qstat").args(["-f", "-F", "dsv", "-D", ";"]).args(ids.iter().map(|id| id.0.as_str()))
}

/// The same for finished jobs, where the server keeps any.
pub fn past(ids: &[JobId]) -> Cmd {
    Cmd::new("qstat").args(["-x", "-f", "-F", "dsv", "-D", ";"]).args(ids.iter().map(|id| id.0.as_str()))
}

/// Reads [`status`] and [`past`]; also JSON, of a single job or of all. The exit code counts only when nothing was
/// printed about jobs: one unknown id among many makes it 153, one finished 35.
pub fn states(reply: &Reply) -> Result<BTreeMap<JobId, JobView>, Unanswered> {
    let Some(code) = reply.code else { return Err(order(reply, AWAY)) };
    let complaint = Reply { stdout: String::new(), ..reply.clone() };
    if code != 0 && says(&complaint, AWAY) {
        return Err(order(&complaint, AWAY));
    }
    let fine = code == 0
        || says(&complaint, &["unknown job id", "job has finished", "not configured to maintain job history"]);
    let text = reply.stdout.trim();
    if text.is_empty() {
        return if fine { Ok(BTreeMap::new()) } else { Err(order(&complaint, AWAY)) };
    }
    if !text.starts_with('{') {
        return text.lines().filter(|line| !line.trim().is_empty()).map(line_view).collect();
    }
    let json: Value = serde_json::from_str(text).map_err(|_| odd(text))?;
    let Some(jobs) = json.get("Jobs") else {
        return if fine { Ok(BTreeMap::new()) } else { Err(order(&complaint, AWAY)) };
    };
    let jobs = jobs.as_object().ok_or_else(|| odd(text))?;
    Ok(jobs.iter().map(|(id, job)| (JobId(id.clone()), view(job))).collect())
}

/// `Job Id: 1.vm;name=value;name.part=value;…`; a delimiter inside of a value stands behind a backslash.
fn line_view(line: &str) -> Result<(JobId, JobView), Unanswered> {
    let mut cells = vec![String::new()];
    let mut chars = line.chars();
    while let Some(c) = chars.next() {
        match (c, cells.last_mut()) {
            (';', _) => cells.push(String::new()),
            ('\\', Some(cell)) => cell.extend(chars.next()),
            (c, Some(cell)) => cell.push(c),
            (_, None) => {}
        }
    }
    let mut cells = cells.into_iter();
    let id = cells.next().and_then(|cell| Some(cell.strip_prefix("Job Id: ")?.trim().to_owned()));
    let id = id.filter(|id| is_job(id)).ok_or_else(|| odd(line))?;
    let mut job = serde_json::Map::new();
    for cell in cells {
        let Some((name, value)) = cell.split_once('=') else { continue };
        let value = Value::String(value.to_owned());
        match name.split_once('.') {
            Some((family, name)) => {
                let family = job.entry(family).or_insert_with(|| Value::Object(serde_json::Map::new()));
                if let Some(family) = family.as_object_mut() {
                    family.insert(name.to_owned(), value);
                }
            }
            None => {
                job.entry(name).or_insert(value);
            }
        }
    }
    if !job.contains_key("job_state") {
        return Err(odd(line));
    }
    Ok((JobId(id), view(&Value::Object(job))))
}

fn text<'a>(job: &'a Value, key: &str) -> Option<&'a str> {
    job.get(key)?.as_str().map(str::trim).filter(|text| !text.is_empty())
}

/// A number, as PBS writes it: with or without quotes.
fn number(job: &Value, key: &str) -> Option<i64> {
    let value = job.get(key)?;
    value.as_i64().or_else(|| value.as_str()?.trim().parse().ok())
}

fn view(job: &Value) -> JobView {
    let letter = text(job, "job_state").unwrap_or("").to_owned();
    let started = job.get("stime").is_some() || job.get("exec_host").is_some();
    let state = match letter.as_str() {
        // A hold by the system for what the job depends on is only waiting; one by user or operator is a hold.
        "H" if text(job, "Hold_Types") == Some("s") && job.get("depend").is_some() => JobState::Pending,
        "H" => JobState::Held,
        "Q" | "W" | "T" | "M" => JobState::Pending,
        "R" | "E" | "S" | "U" | "B" => JobState::Running,
        // An array that is over has exit status 0 in any case; whether a task has failed is told by the substate.
        "F" if job.get("array").is_some() && number(job, "substate") == Some(93) => {
            JobState::Ended(End::Failed { code: None, signal: None })
        }
        "F" | "X" | "C" => JobState::Ended(end(number(job, "Exit_status"), started, text(job, "comment"))),
        other => JobState::Other(other.to_owned()),
    };
    let used = job.get("resources_used");
    JobView {
        state,
        word: letter,
        reason: text(job, "comment").map(str::to_owned),
        node: text(job, "exec_host").and_then(|host| host.split(['/', '+']).next()).map(str::to_owned),
        used: Used {
            mem: used.and_then(|used| pbs_mem(text(used, "mem")?).ok()).filter(|mem| *mem > 0),
            time: used.and_then(|used| elapsed(text(used, "walltime")?)),
        },
    }
}

/// The meaning of `Exit_status`: as the shell gave it, 256 and more for a signal to the job's first process, negative
/// numbers for the server's own reasons. None without a start: it never ran.
fn end(status: Option<i64>, started: bool, comment: Option<&str>) -> End {
    match status {
        None if started => End::NodeLost,
        None => End::NeverRan,
        Some(0) => End::Done,
        Some(-29) => End::TimedOut,
        Some(-27) => End::OutOfMemory,
        // Prologue, credentials, directory, output file: it could not be started.
        Some(-1 | -2 | -3 | 254) => End::NotStarted(comment.unwrap_or("it could not be started").to_owned()),
        Some(271) => End::Cancelled,
        Some(status) if status > 256 => End::Failed { code: None, signal: i32::try_from(status - 256).ok() },
        Some(status) => End::Failed { code: i32::try_from(status).ok(), signal: None },
    }
}

/// Looks by name among jobs that are not over; `-x` would find none where no history is kept.
pub fn find(name: &str) -> Cmd {
    Cmd::new("qselect").args(["-N", name])
}

/// Reads [`find`].
pub fn found(reply: &Reply) -> Result<Vec<JobId>, Unanswered> {
    if reply.code != Some(0) {
        return Err(order(reply, AWAY));
    }
    let ids = reply.stdout.lines().map(str::trim).filter(|line| !line.is_empty());
    ids.map(|id| if is_job(id) { Ok(JobId(id.to_owned())) } else { Err(odd(id)) }).collect()
}

/// One id per command: `qdel` of a live and an unknown id in one call can bring the server down.
pub fn each(program: &str, ids: &[JobId]) -> Vec<Cmd> {
    ids.iter().map(|id| Cmd::new(program).arg(id.0.as_str())).collect()
}

/// A job that is over, or unknown, is settled.
pub fn settled(reply: &Reply) -> Result<(), Unanswered> {
    match reply.code {
        Some(0) => Ok(()),
        Some(_) if says(reply, &["unknown job id", "job has finished", "request invalid for state of job"]) => Ok(()),
        _ => Err(order(reply, AWAY)),
    }
}
