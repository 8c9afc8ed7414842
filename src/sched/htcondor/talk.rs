//! What is asked of HTCondor, and its answers, as recorded on 23.9. Ids are `<cluster of the DAG>:<node>`; the DAG itself
//! is `<cluster>:`.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::time::Duration;

use serde_json::Value;

use super::dag::is_plain;
use crate::model::cmd::Cmd;
use crate::model::resources::JobId;
use crate::sched::reply::{odd, order, says, submission, words};
use crate::sched::{End, JobState, JobView, Reply, Unanswered, Used};

/// Phrases after which a submission may have happened all the same.
const LOST: &[&str] = &["timed out", "failed to commit", "communication error", "connection reset"];

/// Phrases of a schedd that cannot be reached just now.
const AWAY: &[&str] = &[
    "can't find address",
    "failed to connect",
    "failed to fetch ads",
    "timed out",
    "communication error",
    "connection refused",
    "connection reset",
];

/// The attributes that are read.
const ATTRIBUTES: &str = "ClusterId,ProcId,JobStatus,LastJobStatus,JobUniverse,DAGManJobId,DAGNodeName,DAG_Status,HoldReason,\
HoldReasonCode,LastHoldReason,LastHoldReasonCode,RemoveReason,ExitCode,ExitBySignal,ExitSignal,RemoteHost,LastRemoteHost,\
ResidentSetSize,RemoteWallClockTime,LastRejMatchReason";

/// `condor_submit_dag` in the DAG's directory; the batch name is what it is found by.
pub fn submit(dag: &Path, held: bool) -> Cmd {
    let mut cmd = Cmd::new("condor_submit_dag");
    if let Some(stem) = dag.file_stem() {
        cmd = cmd.arg("-batch-name").arg(stem);
    }
    if held {
        cmd = cmd.args(["-append", "hold = true"]);
    }
    cmd.cwd = dag.parent().filter(|dir| !dir.as_os_str().is_empty()).map(Path::to_path_buf);
    match (dag.file_name(), &cmd.cwd) {
        (Some(name), Some(_)) => cmd.arg(name),
        _ => cmd.arg(dag),
    }
}

/// `1 job(s) submitted to cluster 47.`
pub fn job_id(reply: &Reply) -> Result<JobId, Unanswered> {
    let cluster = reply.stdout.lines().find_map(|line| {
        let (_, rest) = line.split_once("submitted to cluster ")?;
        let id = rest.trim_end().trim_end_matches('.');
        (!id.is_empty() && id.bytes().all(|b| b.is_ascii_digit())).then_some(id)
    });
    match (reply.code, cluster) {
        (Some(0), Some(cluster)) => Ok(JobId(format!("{cluster}:"))),
        (Some(_), _) if says(reply, &["can't find address"]) => Err(Unanswered::Away(words(reply))),
        _ => Err(submission(reply, LOST)),
    }
}

fn cluster(id: &JobId) -> Option<u64> {
    id.0.split(':').next()?.parse().ok()
}

fn node(id: &JobId) -> Option<&str> {
    id.0.split_once(':').map(|(_, node)| node).filter(|node| is_plain(node))
}

/// All jobs of the DAGs of these ids.
fn of_dags(ids: &[JobId]) -> String {
    let clusters: BTreeSet<u64> = ids.iter().filter_map(cluster).collect();
    let terms: Vec<String> = clusters.iter().map(|id| format!("ClusterId == {id} || DAGManJobId == {id}")).collect();
    if terms.is_empty() { "false".to_owned() } else { terms.join(" || ") }
}

/// One condor_q.
pub fn status(ids: &[JobId]) -> Cmd {
    Cmd::new("condor_q").args(["-allusers", "-json", "-attributes", ATTRIBUTES, "-constraint"]).arg(of_dags(ids))
}

/// One condor_history.
pub fn past(ids: &[JobId]) -> Cmd {
    Cmd::new("condor_history").args(["-json", "-attributes", ATTRIBUTES, "-constraint"]).arg(of_dags(ids))
}

/// Reads [`status`] or [`past`] (`over`). No jobs are no text at all, or an empty list.
pub fn states(reply: &Reply, over: bool) -> Result<BTreeMap<JobId, JobView>, Unanswered> {
    if reply.code != Some(0) {
        return Err(order(reply, AWAY));
    }
    let mut jobs: BTreeMap<JobId, (u64, JobView)> = BTreeMap::new();
    for ad in ads(&reply.stdout)? {
        let own = number(&ad, "ClusterId").and_then(|id| u64::try_from(id).ok()).ok_or_else(|| odd(&ad.to_string()))?;
        let id = match (number(&ad, "DAGManJobId"), text(&ad, "DAGNodeName")) {
            (Some(dag), Some(node)) => JobId(format!("{dag}:{node}")),
            _ => JobId(format!("{own}:")),
        };
        let new = view(&ad, over);
        match jobs.get(&id) {
            // An array: one cluster, several processes. The least finished one counts, then the worst.
            Some((known, old)) if *known == own && weight(old) >= weight(&new) => {}
            // A node that was tried again has several jobs; the last one counts.
            Some((known, _)) if *known > own => {}
            _ => {
                jobs.insert(id, (own, new));
            }
        }
    }
    Ok(jobs.into_iter().map(|(id, (_, view))| (id, view)).collect())
}

fn weight(view: &JobView) -> u8 {
    match view.state {
        JobState::Ended(End::Done) => 0,
        JobState::Ended(_) => 1,
        _ => 2,
    }
}

fn ads(text: &str) -> Result<Vec<Value>, Unanswered> {
    if text.trim().is_empty() {
        return Ok(Vec::new());
    }
    serde_json::from_str::<Vec<Value>>(text.trim()).map_err(|_| odd(text))
}

fn number(ad: &Value, key: &str) -> Option<i64> {
    let value = ad.get(key)?;
    value.as_i64().or_else(|| Some(value.as_f64().filter(|number| number.abs() < 1e15)? as i64))
}

fn text(ad: &Value, key: &str) -> Option<String> {
    ad.get(key)?.as_str().filter(|text| !text.is_empty()).map(str::to_owned)
}

fn view(ad: &Value, over: bool) -> JobView {
    let status = number(ad, "JobStatus");
    let hold = || text(ad, "HoldReason").or_else(|| text(ad, "LastHoldReason"));
    let (state, word, reason) = match status {
        // "no match found": also while all machines that fit are busy.
        Some(1) => (JobState::Pending, "Idle", text(ad, "LastRejMatchReason").map(|why| why.trim().to_owned())),
        Some(2) => (JobState::Running, "Running", None),
        Some(6) => (JobState::Running, "Transferring", None),
        Some(7) => (JobState::Running, "Suspended", None),
        Some(5) => (JobState::Held, "Held", text(ad, "HoldReason")),
        // In the queue it is still ending.
        Some(3) if !over => (JobState::Running, "Removed", text(ad, "RemoveReason")),
        Some(3) => (JobState::Ended(removed(ad, hold())), "Removed", text(ad, "RemoveReason")),
        Some(4) => (JobState::Ended(completed(ad)), "Completed", None),
        other => {
            let word = other.map_or("none".to_owned(), |code| code.to_string());
            (JobState::Other(format!("JobStatus {word}")), "Unknown", None)
        }
    };
    let host = text(ad, "RemoteHost").or_else(|| text(ad, "LastRemoteHost"));
    let kib = number(ad, "ResidentSetSize").and_then(|kib| u64::try_from(kib).ok()).filter(|kib| *kib > 0);
    let wall = number(ad, "RemoteWallClockTime").and_then(|wall| u64::try_from(wall).ok()).filter(|wall| *wall > 0);
    JobView {
        state,
        word: word.to_owned(),
        reason,
        node: host.map(|host| host.rsplit('@').next().unwrap_or(&host).to_owned()),
        used: Used { mem: kib.and_then(|kib| kib.checked_mul(1024)), time: wall.map(Duration::from_secs) },
    }
}

/// Why a job was removed: by a person, or by its own limit, or because it had been held by an error.
fn removed(ad: &Value, hold: Option<String>) -> End {
    let itself = text(ad, "RemoveReason").is_some_and(|reason| reason.contains("PeriodicRemove"));
    if !itself {
        return End::Cancelled;
    }
    if number(ad, "LastJobStatus") == Some(5) {
        let code = number(ad, "HoldReasonCode").or_else(|| number(ad, "LastHoldReasonCode"));
        // 34: over the memory asked for.
        return if code == Some(34) { End::OutOfMemory } else { End::NotStarted(hold.unwrap_or_default()) };
    }
    End::TimedOut
}

fn completed(ad: &Value) -> End {
    let small = |key: &str| number(ad, key).and_then(|number| i32::try_from(number).ok());
    // With a final node DAGMan ends with 0 although a node has failed: its own status counts.
    match small("DAG_Status") {
        Some(4) => return End::Cancelled,
        Some(status) if status != 0 => return End::Failed { code: small("ExitCode").or(Some(status)), signal: None },
        _ => {}
    }
    if ad.get("ExitBySignal").and_then(Value::as_bool) == Some(true) {
        return End::Failed { code: None, signal: small("ExitSignal") };
    }
    match small("ExitCode") {
        Some(0) => End::Done,
        code => End::Failed { code, signal: None },
    }
}

/// Looks for a DAG by its batch name.
pub fn find(name: &str) -> Cmd {
    let name: String = name.chars().filter(|c| is_plain(&c.to_string()) || *c == '.').collect();
    Cmd::new("condor_q")
        .args(["-json", "-attributes", "ClusterId,ProcId,JobStatus", "-constraint"])
        .arg(format!("JobUniverse == 7 && JobBatchName == \"{name}\""))
}

/// Reads [`find`].
pub fn found(reply: &Reply) -> Result<Vec<JobId>, Unanswered> {
    if reply.code != Some(0) {
        return Err(order(reply, AWAY));
    }
    let id = |ad: &Value| number(ad, "ClusterId").map(|id| JobId(format!("{id}:"))).ok_or_else(|| odd(&ad.to_string()));
    ads(&reply.stdout)?.iter().map(id).collect()
}

/// Whole DAGs by their clusters, nodes by one constraint for each DAG. A node that is not submitted yet cannot be removed.
pub fn cancel(ids: &[JobId]) -> Vec<Cmd> {
    let dags: BTreeSet<u64> = ids.iter().filter(|id| node(id).is_none()).filter_map(cluster).collect();
    let mut nodes: BTreeMap<u64, BTreeSet<&str>> = BTreeMap::new();
    for id in ids {
        if let (Some(cluster), Some(node)) = (cluster(id), node(id))
            && !dags.contains(&cluster)
        {
            nodes.entry(cluster).or_default().insert(node);
        }
    }
    let mut cmds = Vec::new();
    if !dags.is_empty() {
        cmds.push(Cmd::new("condor_rm").args(dags.iter().map(u64::to_string)));
    }
    for (cluster, nodes) in nodes {
        let names: Vec<String> = nodes.iter().map(|node| format!("DAGNodeName == \"{node}\"")).collect();
        let constraint = format!("DAGManJobId == {cluster} && ({})", names.join(" || "));
        cmds.push(Cmd::new("condor_rm").arg("-constraint").arg(constraint));
    }
    cmds
}

/// DAGs that were submitted held.
pub fn release(ids: &[JobId]) -> Vec<Cmd> {
    let dags: BTreeSet<u64> = ids.iter().filter_map(cluster).collect();
    if dags.is_empty() {
        return Vec::new();
    }
    vec![Cmd::new("condor_release").args(dags.iter().map(u64::to_string))]
}

/// A job that is gone is settled.
pub fn settled(reply: &Reply) -> Result<(), Unanswered> {
    match reply.code {
        Some(0) => Ok(()),
        Some(_)
            if says(
                reply,
                &["couldn't find/remove all jobs", "couldn't find/release all jobs", "no jobs in the queue"],
            ) =>
        {
            Ok(())
        }
        _ => Err(order(reply, AWAY)),
    }
}
