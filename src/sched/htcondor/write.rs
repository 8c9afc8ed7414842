//! Submit descriptions of DAG nodes. Values are quoted for condor_submit, where `$` begins a macro.

use super::dag::is_plain;
use crate::model::batch::mem_per_node;
use crate::model::resources::{Mem, Resources, Scheduler};
use crate::recipe::values::is_variable;
use crate::sched::amount::mb;
use crate::sched::pattern::{self, Piece};
use crate::sched::script::{comment_line, left_out, own_extras, path};
use crate::sched::{Job, Written};

/// Seconds after which a job that HTCondor itself holds (no executable, no output file, too much memory) is removed: a
/// held node would keep its DAG for ever.
const HELD: u32 = 300;

/// Seconds a job has between SIGTERM and SIGKILL.
const VACATE: u32 = 60;

/// Writes the description, `queue` at its end.
pub fn write(job: &Job) -> Written {
    let mut notes = Vec::new();
    let mut text = String::new();
    for comment in job.comments.iter().flat_map(|comment| comment.split(['\n', '\r'])) {
        // A backslash at the end would take the next line in.
        text.push_str(&comment_line(
            comment.trim_end_matches(|c: char| c == '\\' || c.is_whitespace() || c.is_control()),
        ));
    }
    let mut set = |key: &str, value: &str| {
        let fits = !value.chars().any(char::is_control) && !value.ends_with('\\');
        if fits {
            text.push_str(&format!("{key} = {value}\n"));
        }
        fits
    };
    let batch = job.batch.as_ref();
    let (output, error) = match batch {
        None => {
            let output = path(&job.output).split("%j").map(plain).collect::<Vec<_>>().join("$(Cluster)");
            (output.clone(), output)
        }
        Some(batch) => {
            let output = filled(&job.output, job);
            let error = batch.error.as_ref().map_or_else(|| output.clone(), |error| filled(error, job));
            (output, error)
        }
    };
    if let Some(batch) = batch
        && [Some(&job.output), batch.error.as_ref()].into_iter().flatten().any(|file| batch.share(file))
    {
        notes.push(
            "all tasks write to one file, where HTCondor keeps the last one's output; put %a into its name".into(),
        );
    }
    let program = job.argv.first().map(String::as_str).unwrap_or("/bin/false");
    for (key, value) in [
        ("universe", "vanilla".to_owned()),
        ("description", plain(&job.name)),
        ("executable", plain(program)),
        ("transfer_executable", "false".to_owned()),
        ("arguments", arguments(job.argv.get(1..).unwrap_or(&[]))),
        ("environment", environment(job, &mut notes)),
        ("getenv", "false".to_owned()),
        ("initialdir", plain(&path(&job.cwd))),
        ("output", output),
        ("error", error),
        // Steps work on the shared file system; only machines that have it match.
        ("should_transfer_files", "NO".to_owned()),
        ("notification", "never".to_owned()),
        ("job_max_vacate_time", VACATE.to_string()),
        ("periodic_remove", remove(&job.resources)),
    ] {
        if !set(key, &value) {
            notes.push(format!("{key} holds characters that a submit description cannot take and is left out"));
        }
    }
    let tasks = batch.map_or(1, |batch| batch.shape.tasks);
    resources(&job.resources, tasks, &mut set, &mut notes);
    let array = batch.and_then(|batch| batch.array);
    if let Some(limit) = array.and_then(|array| array.limit) {
        set("max_materialize", &limit.to_string());
    }
    if batch.is_some() {
        set("batch_name", &plain(&job.name));
    }
    for extra in own_extras(&job.resources, Scheduler::HtCondor, &mut notes) {
        let line = extra.words.join(" ");
        let key = line.split_once('=').map(|(key, value)| (key.trim(), value.trim()));
        let named = |key: &str| {
            let bare = key.trim_start_matches('+');
            !bare.is_empty() && bare.chars().all(|c| c.is_ascii_alphanumeric() || "_.".contains(c))
        };
        if !key.is_some_and(|(key, value)| named(key) && set(key, value)) {
            notes.push(format!("{line:?} is no line of a submit description and is left out ({})", extra.at));
        }
    }
    match array {
        // Numbered from 1, which $(Process) is not.
        Some(array) => {
            text.push_str(&format!("queue {INDEX} from (\n"));
            (1..=array.count).for_each(|index| text.push_str(&format!("{index}\n")));
            text.push_str(")\n");
        }
        None => text.push_str("queue\n"),
    }
    Written { text, notes }
}

/// The macro with the number of a task.
const INDEX: &str = "ovl_index";

/// A pattern in macros.
fn filled(file: &std::path::Path, job: &Job) -> String {
    let array = job.batch.as_ref().is_some_and(|batch| batch.array.is_some());
    let task = if array { format!("_$({INDEX})") } else { String::new() };
    pattern::fill(&pattern::parse(&path(file)), &|piece| match piece {
        Piece::Text(text) => Some(plain(text)),
        Piece::Job | Piece::Array if job.batch.as_ref().is_some_and(|batch| batch.dag) => {
            Some("$(DAGManJobId)".to_owned() + if piece == &Piece::Job { &task } else { "" })
        }
        Piece::Job => Some(format!("$(Cluster){task}")),
        Piece::Array => Some("$(Cluster)".to_owned()),
        Piece::Index => Some(format!("$({INDEX})")),
        Piece::Name => Some(plain(&job.name)),
        Piece::User => job.env.get("USER").map(|user| plain(user)),
        Piece::Other(_) => None,
    })
}

/// Without macros: `$` stands for itself.
fn plain(text: &str) -> String {
    text.replace('$', "$(DOLLAR)")
}

/// The new syntax: all in double quotes; words with blanks or single quotes in single quotes; quotes doubled.
fn arguments(words: &[String]) -> String {
    let words: Vec<String> = words.iter().map(|word| quoted(word)).collect();
    format!("\"{}\"", words.join(" "))
}

fn quoted(word: &str) -> String {
    let word = plain(&word.replace('"', "\"\""));
    if word.is_empty() || word.contains([' ', '\t', '\'']) { format!("'{}'", word.replace('\'', "''")) } else { word }
}

/// The job's variables, and `OVL_JOB`: HTCondor tells a job its id nowhere.
fn environment(job: &Job, notes: &mut Vec<String>) -> String {
    let mut words = match &job.batch {
        None => vec!["OVL_JOB=$(DAGManJobId):$(JOB)".to_owned()],
        Some(batch) => {
            let index = batch.array.map(|_| format!("OVL_ARRAY_INDEX=$({INDEX})"));
            std::iter::once("OVL_JOB=$(Cluster):".to_owned()).chain(index).collect()
        }
    };
    for (name, value) in &job.env {
        if is_variable(name) && !value.chars().any(char::is_control) {
            words.push(format!("{name}={}", quoted(value)));
        } else {
            notes.push(format!("the variable {name:?} cannot be passed to a job"));
        }
    }
    format!("\"{}\"", words.join(" "))
}

/// The time limit and the end of error holds. `allowed_execute_duration` would never fire without file transfer.
fn remove(asked: &Resources) -> String {
    let held = format!(
        "(JobStatus == 5 && HoldReasonCode =!= 1 && HoldReasonCode =!= 15 && time() - EnteredCurrentStatus > {HELD})"
    );
    match asked.time_limit() {
        Some(time) => {
            let seconds = time.as_secs().max(1);
            format!("(JobStatus == 2 && time() - EnteredCurrentStatus > {seconds}) || {held}")
        }
        None => held,
    }
}

fn resources(asked: &Resources, tasks: u32, set: &mut impl FnMut(&str, &str) -> bool, notes: &mut Vec<String>) {
    const HERE: Scheduler = Scheduler::HtCondor;
    let cpus = asked.cpus.as_ref().map_or(1, |cpus| cpus.value);
    if asked.cpus.is_some() || tasks > 1 {
        set("request_cpus", &cpus.saturating_mul(tasks).to_string());
    }
    match asked.mem.as_ref().map(|mem| mem.value) {
        Some(Mem::Node) => notes.extend(asked.mem.as_ref().map(|it| left_out("all memory of a node", it, HERE))),
        Some(mem) => {
            let bytes = mem_per_node(mem, cpus, tasks).unwrap_or(u64::MAX);
            set("request_memory", &mb(bytes).to_string());
        }
        None => {}
    }
    if let Some(scratch) = &asked.scratch {
        set("request_disk", &scratch.value.div_ceil(1024).max(1).to_string());
    }
    if let Some(gpus) = &asked.gpus {
        set("request_gpus", &gpus.value.count.to_string());
        match &gpus.value.kind {
            Some(kind) if is_plain(kind) => {
                set("require_gpus", &format!("regexp(\"{kind}\", DeviceName, \"i\")"));
            }
            Some(_) => notes.push(left_out("the kind of GPU", gpus, HERE)),
            None => {}
        }
    }
    if let Some(account) = &asked.account
        && !set("accounting_group", &plain(&account.value))
    {
        notes.push(left_out("the account", account, HERE));
    }
    notes.extend(asked.partition.as_ref().map(|it| left_out("the partition", it, HERE)));
    notes.extend(asked.qos.as_ref().map(|it| left_out("the quality of service", it, HERE)));
    notes.extend(asked.reservation.as_ref().map(|it| left_out("the reservation", it, HERE)));
    notes.extend(asked.exclusive.as_ref().filter(|it| it.value).map(|it| left_out("a node of its own", it, HERE)));
}
