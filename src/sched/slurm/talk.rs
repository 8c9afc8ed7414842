//! What is asked of Slurm, and its answers. Nothing here reads `--json`: in 22.05 it ignores filters and hides errors.

use std::collections::BTreeMap;
use std::path::Path;

use crate::model::batch::{After, When};
use crate::model::cmd::Cmd;
use crate::model::resources::{JobId, Limit};
use crate::sched::amount::{elapsed, slurm_time};
use crate::sched::limits::Allowed;
use crate::sched::reply::{odd, order, says, submission, words};
use crate::sched::{End, JobState, JobView, Reply, Unanswered, Used};

/// Phrases after which a submission may have happened all the same.
const LOST: &[&str] = &[
    "timed out",
    "zero bytes were transmitted",
    "unexpected message",
    "connection reset",
    "broken pipe",
    "communication connection failure",
    "resource temporarily unavailable",
];

/// Phrases of a controller or database that cannot be reached just now.
const AWAY: &[&str] = &[
    "timed out",
    "unable to contact slurm controller",
    "zero bytes were transmitted",
    "unexpected message",
    "connection refused",
    "connection reset",
    "slurm_persist_conn",
    "problem talking to the database",
    "problem talking to database",
    "unable to establish configuration source",
    "could not establish a configuration source",
    "slurmdbd",
];

/// Longest list of ids in one argument; the kernel refuses arguments of 128 KiB.
const LONGEST_LIST: usize = 100_000;

/// Columns of squeue and their widths; it cuts values at the width without a word. The free text is last.
const COLUMNS: &[(&str, usize)] =
    &[("JobArrayID", 32), ("State", 24), ("exit_code", 12), ("TimeUsed", 24), ("BatchHost", 80), ("Reason", 200)];

/// `sbatch`; children say that they are to be removed when a parent fails.
pub fn submit(script: &Path, after: &[JobId], held: bool) -> Cmd {
    let mut cmd = Cmd::new("sbatch").arg("--parsable");
    if held {
        cmd = cmd.arg("--hold");
    }
    if !after.is_empty() {
        cmd = cmd.arg(format!("--dependency=afterok:{}", list(after, ":"))).arg("--kill-on-invalid-dep=yes");
    }
    cmd.arg(script)
}

/// `sbatch` of a user's script. All conditions must hold; a job whose conditions never can is removed, as it would wait
/// for ever.
pub fn submit_after(script: &Path, after: &[After]) -> Cmd {
    let mut cmd = Cmd::new("sbatch").arg("--parsable");
    if !after.is_empty() {
        let kinds = [When::Ok, When::NotOk, When::Any];
        let clauses = kinds.into_iter().filter_map(|when| {
            let ids: Vec<JobId> = after.iter().filter(|one| one.when == when).map(|one| one.job.clone()).collect();
            (!ids.is_empty()).then(|| format!("{}:{}", when.word(), list(&ids, ":")))
        });
        let clauses: Vec<String> = clauses.collect();
        cmd = cmd.arg(format!("--dependency={}", clauses.join(","))).arg("--kill-on-invalid-dep=yes");
    }
    cmd.arg(script)
}

fn list(ids: &[JobId], between: &str) -> String {
    let mut ids: Vec<&str> = ids.iter().map(|id| id.0.as_str()).collect();
    let mut seen = std::collections::BTreeSet::new();
    ids.retain(|id| seen.insert(*id));
    ids.join(between)
}

/// `123`, or `123;cluster`; a site's own text may stand around it.
pub fn job_id(reply: &Reply) -> Result<JobId, Unanswered> {
    let id = reply.stdout.lines().rev().find_map(|line| {
        let id = line.trim().split(';').next().unwrap_or("");
        (!id.is_empty() && id.bytes().all(|b| b.is_ascii_digit())).then(|| JobId(id.to_owned()))
    });
    match (reply.code, id) {
        (Some(0), Some(id)) => Ok(id),
        (Some(_), _) if says(reply, &["(connect failure)"]) => Err(Unanswered::Away(words(reply))),
        _ => Err(submission(reply, LOST)),
    }
}

/// `--test-only` answers on standard error, and not about time limits.
pub fn tested(reply: &Reply) -> Result<(), Unanswered> {
    match reply.code {
        Some(0) => Ok(()),
        _ => Err(order(reply, AWAY)),
    }
}

/// One squeue for all ids; without the list where it would be too long for one argument.
pub fn status(ids: &[JobId]) -> Cmd {
    let columns: Vec<String> = COLUMNS.iter().map(|(name, width)| format!("{name}:{width}")).collect();
    let cmd = Cmd::new("squeue").args(["-h", "-t", "all", "-O"]).arg(columns.join(","));
    let ids = list(ids, ",");
    if ids.is_empty() || ids.len() > LONGEST_LIST { cmd } else { cmd.arg("-j").arg(ids) }
}

/// Reads [`status`]. A single unknown id is an error of squeue's; several are silently missing.
pub fn states(reply: &Reply) -> Result<BTreeMap<JobId, JobView>, Unanswered> {
    if reply.code != Some(0) {
        if says(reply, &["invalid job id specified"]) {
            return Ok(BTreeMap::new());
        }
        return Err(order(reply, AWAY));
    }
    let mut jobs = BTreeMap::new();
    for line in reply.stdout.lines().filter(|line| !line.trim().is_empty()) {
        let chars: Vec<char> = line.chars().collect();
        let mut at = 0;
        let mut cells = COLUMNS.iter().map(|(_, width)| {
            let cell: String = chars.iter().skip(at).take(*width).collect();
            at += width;
            cell.trim().to_owned()
        });
        let mut cell = || cells.next().unwrap_or_default();
        let (id, word, raw, time, node, reason) = (cell(), cell(), cell(), cell(), cell(), cell());
        if !id.starts_with(|c: char| c.is_ascii_digit()) || word.is_empty() {
            return Err(odd(line));
        }
        let raw: Option<i32> = raw.parse().ok();
        // A wait status: where there is a signal, the upper byte means nothing (a launch failure reads 4021).
        let exit = raw.map(|raw| if raw & 0x7f == 0 { ((raw >> 8) & 0xff, 0) } else { (0, raw & 0x7f) });
        let state = state(&word, &reason, exit);
        // The time of a job that never started is nonsense.
        let ran = matches!(state, JobState::Running | JobState::Ended(_)) && !known(&node).is_empty();
        let used = Used { mem: None, time: if ran { elapsed(&time) } else { None } };
        let view = JobView { state, word, reason: some(&reason), node: some(&node), used };
        jobs.insert(JobId(id), view);
    }
    Ok(jobs)
}

fn known(text: &str) -> &str {
    match text {
        "None" | "(null)" | "n/a" | "N/A" | "None assigned" | "Unknown" => "",
        known => known,
    }
}

fn some(text: &str) -> Option<String> {
    Some(known(text)).filter(|text| !text.is_empty()).map(str::to_owned)
}

/// A state from Slurm's word, its reason, and exit code and signal.
fn state(word: &str, reason: &str, exit: Option<(i32, i32)>) -> JobState {
    let ended = |end: End| JobState::Ended(end);
    match word.split_whitespace().next().unwrap_or("").trim_end_matches('+') {
        "PENDING" if reason.starts_with("JobHeld") => JobState::Held,
        "PENDING" | "REQUEUED" | "REQUEUE_FED" => JobState::Pending,
        "REQUEUE_HOLD" | "SPECIAL_EXIT" | "RESV_DEL_HOLD" => JobState::Held,
        "RUNNING" | "COMPLETING" | "CONFIGURING" | "SUSPENDED" | "STAGE_OUT" | "SIGNALING" | "STOPPED" | "RESIZING" => {
            JobState::Running
        }
        "COMPLETED" => ended(End::Done),
        "CANCELLED" if reason.starts_with("Dependency") => ended(End::NeverRan),
        "CANCELLED" => ended(End::Cancelled),
        "TIMEOUT" | "DEADLINE" => ended(End::TimedOut),
        "OUT_OF_MEMORY" => ended(End::OutOfMemory),
        "NODE_FAIL" | "PREEMPTED" | "BOOT_FAIL" => ended(End::NodeLost),
        "FAILED" => ended(match exit {
            // The output file or directory could not be opened. The same reason is given for a script killed by a signal.
            Some((0, 53)) => End::NotStarted(known(reason).to_owned()),
            Some((_, 125)) => End::OutOfMemory,
            Some((0, 0)) | None => End::Failed { code: None, signal: None },
            Some((0, signal)) => End::Failed { code: None, signal: Some(signal) },
            Some((code, _)) => End::Failed { code: Some(code), signal: None },
        }),
        _ => JobState::Other(word.to_owned()),
    }
}

/// sacct, with the steps: only they have the memory used.
pub fn past(ids: &[JobId]) -> Cmd {
    Cmd::new("sacct")
        .args(["-n", "-P", "-o", "JobID,State,ExitCode,Elapsed,MaxRSS,NodeList,Reason", "-j"])
        .arg(list(ids, ","))
}

/// Reads [`past`].
pub fn past_states(reply: &Reply) -> Result<BTreeMap<JobId, JobView>, Unanswered> {
    if reply.code != Some(0) {
        return Err(order(reply, AWAY));
    }
    let mut jobs: BTreeMap<JobId, JobView> = BTreeMap::new();
    let mut memory: BTreeMap<String, u64> = BTreeMap::new();
    for line in reply.stdout.lines().filter(|line| !line.trim().is_empty()) {
        let mut cells = line.splitn(7, '|').map(str::trim);
        let (Some(id), Some(word), Some(exit), Some(time), Some(rss), Some(node), Some(reason)) =
            (cells.next(), cells.next(), cells.next(), cells.next(), cells.next(), cells.next(), cells.next())
        else {
            return Err(odd(line));
        };
        let job = id.split('.').next().unwrap_or(id);
        if !job.starts_with(|c: char| c.is_ascii_digit()) || word.is_empty() {
            return Err(odd(line));
        }
        if let Some(rss) = resident(rss) {
            let most = memory.entry(job.to_owned()).or_default();
            *most = rss.max(*most);
        }
        if id != job {
            continue;
        }
        let exit = exit.split_once(':').and_then(|(code, signal)| Some((code.parse().ok()?, signal.parse().ok()?)));
        let used = Used { mem: None, time: some(node).and_then(|_| elapsed(time)) };
        let state = state(word, reason, exit);
        let view = JobView { state, word: word.to_owned(), reason: some(reason), node: some(node), used };
        jobs.insert(JobId(job.to_owned()), view);
    }
    for (id, view) in &mut jobs {
        view.used.mem = memory.get(&id.0).copied();
    }
    Ok(jobs)
}

/// `MaxRSS`: `1234K`, `12.50M`, bytes without a unit; with powers of 1024.
fn resident(text: &str) -> Option<u64> {
    crate::model::units::parse_size(text).ok()
}

/// Looks by name; all users', as the name is unique.
pub fn find(name: &str) -> Cmd {
    Cmd::new("squeue").args(["-h", "-t", "all", "-o", "%i", "-n", name])
}

/// Reads [`find`].
pub fn found(reply: &Reply) -> Result<Vec<JobId>, Unanswered> {
    if reply.code != Some(0) {
        return Err(order(reply, AWAY));
    }
    let ids = reply.stdout.lines().map(str::trim).filter(|line| !line.is_empty());
    ids.map(|id| if id.bytes().all(|b| b.is_ascii_digit()) { Ok(JobId(id.to_owned())) } else { Err(odd(id)) }).collect()
}

/// One call for all, in slices that fit an argument.
pub fn release(ids: &[JobId]) -> Vec<Cmd> {
    ids.chunks(5000).map(|ids| Cmd::new("scontrol").arg("release").arg(list(ids, ","))).collect()
}

/// One call for all; scancel says nothing about unknown ids.
pub fn cancel(ids: &[JobId]) -> Vec<Cmd> {
    ids.chunks(5000).map(|ids| Cmd::new("scancel").args(ids.iter().map(|id| id.0.as_str()))).collect()
}

/// A job that is over, or unknown, is settled.
pub fn settled(reply: &Reply) -> Result<(), Unanswered> {
    let denied = says(reply, &["access/permission denied", "invalid user id"]);
    let gone = says(reply, &["invalid job id specified", "already finished", "already completing or completed"]);
    match order(reply, AWAY) {
        Unanswered::Refused(_) if !denied && (reply.code == Some(0) || gone) => Ok(()),
        no => Err(no),
    }
}

/// Reads `sinfo -h -o "%P|%l|%c|%m"`: a line for each kind of node of a partition, so the largest counts. The default
/// partition has a star behind its name; `4+` means nodes with more.
pub fn allowed(reply: &Reply) -> Vec<Allowed> {
    let mut all: Vec<Allowed> = Vec::new();
    for line in reply.stdout.lines() {
        let mut parts = line.split('|').map(str::trim);
        let (Some(name), Some(time), Some(cpus), Some(mem)) = (parts.next(), parts.next(), parts.next(), parts.next())
        else {
            continue;
        };
        let plain = name.trim_end_matches('*');
        let time = match slurm_time(time) {
            Ok(Limit::Time(time)) => Some(time),
            _ => None,
        };
        let number = |text: &str| text.trim_end_matches('+').parse::<u32>().ok();
        let mem = number(mem).map(|mib| u64::from(mib) << 20);
        let new = Allowed { name: plain.into(), is_default: plain != name, time, cpus: number(cpus), mem };
        match all.iter_mut().find(|one| one.name == plain) {
            None => all.push(new),
            Some(one) => {
                one.cpus = one.cpus.zip(new.cpus).map(|(a, b)| a.max(b));
                one.mem = one.mem.zip(new.mem).map(|(a, b)| a.max(b));
            }
        }
    }
    all
}
