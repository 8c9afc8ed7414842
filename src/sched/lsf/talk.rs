//! What is asked of LSF, and its answers: the forms that IBM's LSF and volclava 2.2 (recorded) share.

use std::collections::{BTreeMap, BTreeSet};

use crate::model::batch::{After, When};
use crate::model::cmd::Cmd;
use crate::model::resources::JobId;
use crate::sched::reply::{odd, order, says, submission, words};
use crate::sched::{End, JobState, JobView, Reply, Unanswered, Used};

/// Phrases after which a submission may have happened all the same.
const LOST: &[&str] =
    &["still trying", "please wait", "timed out", "time out", "failed in an lsf library call: communication"];

/// Phrases of daemons that cannot be reached just now.
const AWAY: &[&str] = &[
    "still trying",
    "please wait",
    "not responding",
    "connection refused",
    "cannot connect to lsf",
    "lsf is down",
    "timed out",
    "communication time out",
];

/// bsub with the script on its standard input: only there everybody reads `#BSUB` lines. It gives up after a few tries
/// instead of never.
pub fn submit(text: &str, after: &[JobId], held: bool) -> Cmd {
    let mut cmd = patient("bsub");
    if held {
        cmd = cmd.arg("-H");
    }
    if !after.is_empty() {
        let after: BTreeSet<&str> = after.iter().map(|id| id.0.as_str()).collect();
        let all: Vec<String> = after.into_iter().map(|id| format!("done({id})")).collect();
        cmd = cmd.arg("-w").arg(all.join(" && "));
    }
    Cmd { stdin: Some(text.as_bytes().to_vec()), ..cmd }
}

/// The same for a user's script. All conditions must hold; LSF itself refuses jobs that it does not know.
pub fn submit_after(text: &str, after: &[After]) -> Cmd {
    let mut cmd = patient("bsub");
    let all: BTreeSet<String> = after
        .iter()
        .map(|one| {
            let word = match one.when {
                When::Ok => "done",
                When::NotOk => "exit",
                When::Any => "ended",
            };
            format!("{word}({})", one.job)
        })
        .collect();
    if !all.is_empty() {
        cmd = cmd.arg("-w").arg(all.into_iter().collect::<Vec<_>>().join(" && "));
    }
    Cmd { stdin: Some(text.as_bytes().to_vec()), ..cmd }
}

fn patient(program: &str) -> Cmd {
    let mut cmd = Cmd::new(program);
    cmd.env.insert("LSB_NTRIES".into(), "2".into());
    cmd
}

/// The number in `Job <123> …`, of an array's task `Job <123[4]> …`.
fn number(line: &str) -> Option<&str> {
    let (id, _) = line.trim_start().strip_prefix("Job <")?.split_once('>')?;
    let digits = |text: &str| !text.is_empty() && text.bytes().all(|b| b.is_ascii_digit());
    let fine = match id.split_once('[') {
        Some((job, index)) => digits(job) && index.strip_suffix(']').is_some_and(digits),
        None => digits(id),
    };
    fine.then_some(id)
}

/// `Job <123> is submitted to …`.
pub fn job_id(reply: &Reply) -> Result<JobId, Unanswered> {
    let id = reply.stdout.lines().find_map(|line| number(line).filter(|_| line.contains("is submitted")));
    match (reply.code, id) {
        (Some(0), Some(id)) => Ok(JobId(id.to_owned())),
        (Some(_), _) if says(reply, LOST) => Err(Unanswered::Uncertain(words(reply))),
        (Some(_), _) if says(reply, &["job not submitted"]) => Err(Unanswered::Refused(words(reply))),
        _ => Err(submission(reply, LOST)),
    }
}

/// Everything about these jobs in one answer, lines unbroken. The short forms know no exit codes on all versions.
pub fn status(ids: &[JobId]) -> Cmd {
    patient("bjobs").args(["-u", "all", "-a", "-UF"]).args(ids.iter().map(|id| id.0.as_str()))
}

/// The same from the event log, for jobs that bjobs has forgotten; `-n 0`: all log files.
pub fn past(ids: &[JobId]) -> Cmd {
    patient("bhist").args(["-n", "0", "-l"]).args(ids.iter().map(|id| id.0.as_str()))
}

/// Reads [`status`] and [`past`]. Unknown ids are told on standard error beside the others; codes differ by version.
pub fn states(reply: &Reply) -> Result<BTreeMap<JobId, JobView>, Unanswered> {
    let mut jobs = BTreeMap::new();
    for block in blocks(&reply.stdout) {
        let id = number(block.first().map_or("", String::as_str)).ok_or_else(|| odd(&reply.stdout))?;
        jobs.insert(JobId(id.to_owned()), view(&block));
    }
    let none = ["is not found", "no matching job found", "no unfinished job found", "no job found"];
    match reply.code {
        Some(_) if !jobs.is_empty() => Ok(jobs),
        Some(_) if says(reply, &none) => Ok(jobs),
        Some(0) if reply.stdout.trim().is_empty() => Ok(jobs),
        Some(0) => Err(odd(&reply.stdout)),
        _ => Err(order(reply, AWAY)),
    }
}

/// The jobs' blocks, each begun by `Job <N>, `; lines broken at 80 columns (deeply indented) are joined.
fn blocks(text: &str) -> Vec<Vec<String>> {
    let mut blocks: Vec<Vec<String>> = Vec::new();
    for line in text.lines() {
        if number(line).is_some() && line.contains("User <") {
            blocks.push(vec![line.to_owned()]);
            continue;
        }
        let Some(block) = blocks.last_mut() else { continue };
        if line.starts_with("               ") && !line.trim().is_empty() {
            if let Some(last) = block.last_mut() {
                last.push(' ');
                last.push_str(line.trim_start());
            }
        } else {
            block.push(line.to_owned());
        }
    }
    blocks
}

/// What stands between `key <` and `>`.
fn angle<'a>(line: &'a str, key: &str) -> Option<&'a str> {
    let (_, rest) = line.split_once(&format!("{key} <"))?;
    rest.split_once('>').map(|(inside, _)| inside).filter(|inside| !inside.is_empty())
}

fn view(block: &[String]) -> JobView {
    let head = block.first().map_or("", String::as_str);
    // The command may hold anything: only what stands before it counts.
    let head = head.split(", Command <").next().unwrap_or(head);
    let rest = || block.iter().skip(1);
    let find = |phrase: &str| rest().find(|line| line.contains(phrase));
    let started = rest()
        .find(|line| line.contains(": Started ") || line.contains(": Dispatched ") || line.contains("[1] started on"));
    let last = rest().rfind(|line| {
        line.contains(": Exited") || line.contains(": Done successfully") || line.contains(": Completed <")
    });
    let word = angle(head, "Status").map(str::to_owned).unwrap_or_else(|| match &last {
        Some(line) if line.contains("Done successfully") || line.contains("Completed <done>") => "DONE".to_owned(),
        Some(_) => "EXIT".to_owned(),
        None if started.is_some() => "RUN".to_owned(),
        None => "PEND".to_owned(),
    });
    let term = rest().find_map(|line| {
        let at = line.find("TERM_")?;
        line.get(at..)?.split([':', '.', ';', ' ']).next()
    });
    let cancelled = find("requested by user or administrator").is_some() || find("terminated by the user").is_some();
    let state = match word.as_str() {
        "PEND" | "WAIT" | "PROV" | "FWD_PEND" => JobState::Pending,
        "PSUSP" => JobState::Held,
        "RUN" | "USUSP" | "SSUSP" => JobState::Running,
        "DONE" => JobState::Ended(End::Done),
        "EXIT" => JobState::Ended(end(last.map_or("", String::as_str), term, started.is_some(), cancelled)),
        other => JobState::Other(other.to_owned()),
    };
    let mut pending = rest().skip_while(|line| !line.contains("PENDING REASONS:")).skip(1);
    let reason = match &state {
        JobState::Pending | JobState::Held => pending.next().map(|line| line.trim().trim_end_matches(';').to_owned()),
        JobState::Ended(End::Done) | JobState::Running => None,
        _ => term.map(str::to_owned).or_else(|| last.map(|line| line.trim().to_owned())),
    };
    let node = started.and_then(|line| {
        let (_, hosts) = line
            .split_once(": Started ")
            .or_else(|| line.split_once(": Dispatched "))
            .or_else(|| line.split_once(" started on "))?;
        angle(&format!("x {}", hosts.get(hosts.find('<')?..)?), "x")
            .map(|host| host.rsplit('*').next().unwrap_or(host).to_owned())
    });
    JobView { state, word, reason, node, used: Used { mem: memory(block), time: None } }
}

/// `MAX MEM: 26 Mbytes;`
fn memory(block: &[String]) -> Option<u64> {
    let rest = block.iter().skip(1).find_map(|line| line.split_once("MAX MEM:"))?.1;
    let mut words = rest.split([' ', ';']).filter(|word| !word.is_empty());
    let (amount, unit) = (words.next()?.parse::<f64>().ok()?, words.next()?);
    let scale = match unit.to_ascii_lowercase().chars().next()? {
        'k' => 1u64 << 10,
        'm' => 1 << 20,
        'g' => 1 << 30,
        't' => 1 << 40,
        _ => return None,
    };
    (amount.is_finite() && (0.0..1e9).contains(&amount)).then_some((amount * scale as f64) as u64)
}

/// The end of a job from its last line and LSF's own reason, where it gives one.
fn end(line: &str, term: Option<&str>, started: bool, cancelled: bool) -> End {
    match term {
        Some("TERM_RUNLIMIT" | "TERM_DEADLINE" | "TERM_WINDOW" | "TERM_CPULIMIT") => return End::TimedOut,
        Some("TERM_MEMLIMIT" | "TERM_SWAP") => return End::OutOfMemory,
        Some("TERM_ORPHAN_SYSTEM" | "TERM_ORPHAN") => return End::NeverRan,
        Some("TERM_PREEMPT" | "TERM_ZOMBIE" | "TERM_RC_RECLAIM") => return End::NodeLost,
        Some("TERM_CWD_NOTEXIST") => return End::NotStarted("TERM_CWD_NOTEXIST".to_owned()),
        Some("TERM_OWNER" | "TERM_FORCE_OWNER" | "TERM_ADMIN" | "TERM_FORCE_ADMIN") => return End::Cancelled,
        _ => {}
    }
    if cancelled || !started {
        return End::Cancelled;
    }
    let after = |phrase: &str| -> Option<i32> {
        let (_, rest) = line.split_once(phrase)?;
        rest.split(|c: char| !c.is_ascii_digit()).find(|part| !part.is_empty())?.parse().ok()
    };
    match (after("exit code "), after("by signal ")) {
        // SIGUSR2, which only the run limit sends.
        (Some(140), _) => End::TimedOut,
        (Some(code), _) => End::Failed { code: Some(code), signal: None },
        (None, signal) => End::Failed { code: None, signal },
    }
}

/// Looks by name, also among finished jobs.
pub fn find(name: &str) -> Cmd {
    patient("bjobs").args(["-u", "all", "-a", "-o", "jobid", "-J", name])
}

/// Reads [`find`]: a header, then an id per line.
pub fn found(reply: &Reply) -> Result<Vec<JobId>, Unanswered> {
    let lines = || reply.stdout.lines().map(str::trim).filter(|line| !line.is_empty() && *line != "JOBID");
    match reply.code {
        Some(0) => lines()
            .map(|id| if id.bytes().all(|b| b.is_ascii_digit()) { Ok(JobId(id.to_owned())) } else { Err(odd(id)) })
            .collect(),
        Some(_) if says(reply, &["is not found", "no unfinished job found", "no job found"]) => Ok(Vec::new()),
        _ => Err(order(reply, AWAY)),
    }
}

/// bresume and bkill take many ids.
pub fn all(program: &str, ids: &[JobId]) -> Vec<Cmd> {
    ids.chunks(1000).map(|ids| patient(program).args(ids.iter().map(|id| id.0.as_str()))).collect()
}

/// Each id has its own sentence; those of jobs that are over, unknown or already going are settled.
pub fn settled(reply: &Reply) -> Result<(), Unanswered> {
    let fine = [
        "is being terminated",
        "is being resumed",
        "no matching job found",
        "already finished",
        "operation is in progress",
        "job has not been suspended",
        "is not found",
    ];
    let lines: Vec<String> = reply.stderr.lines().map(|line| line.to_ascii_lowercase()).collect();
    let all_fine =
        lines.iter().filter(|line| !line.trim().is_empty()).all(|line| fine.iter().any(|word| line.contains(word)));
    match reply.code {
        Some(0) => Ok(()),
        Some(_) if all_fine && !lines.is_empty() => Ok(()),
        _ => Err(order(reply, AWAY)),
    }
}
