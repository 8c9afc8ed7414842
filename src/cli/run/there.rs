//! As a job: frozen, written in the scheduler's words, judged, submitted. The id alone goes to standard output.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use serde_json::json;

use super::{Planned, after, is_alone, work};
use crate::cli::failure::{Failure, Outcome, code};
use crate::model::batch::After;
use crate::model::cmd::Cmd;
use crate::model::resources::{Extra, Figure, JobId, Resources, Scheduler, Source};
use crate::run::queue::Queue;
use crate::sched::htcondor::{self, DagNode, Submit};
use crate::sched::pattern::{self, Piece};
use crate::sched::{Batch, Job, Unanswered, Written, limits};
use crate::sys::{env, fs, host, signal};

/// A job that could be submitted.
pub struct Ready {
    /// Its job script's file.
    pub script: PathBuf,
    /// What is in it, and what could not be said.
    pub written: Written,
    /// The command that submits it.
    pub submit: Cmd,
    /// Where its output goes, a pattern.
    pub output: PathBuf,
    /// Where errors go, if elsewhere.
    pub error: Option<PathBuf>,
    /// Its name.
    pub name: String,
    /// What it asks for, with what the site says.
    resources: Resources,
    /// A DAG to be written beside it: HTCondor's only way of waiting.
    dag: Option<(PathBuf, String)>,
}

/// Writes the job in its scheduler's words, for a directory that need not be there yet.
pub fn ready(planned: &Planned, dir: &Path, queue: &Queue, after: &[After]) -> Result<Ready, Failure> {
    let waits = queue.scheduler() == Scheduler::HtCondor && !after.is_empty();
    let job = job(planned, dir, queue, waits)?;
    let written = queue.dialect.write(&job);
    let script = dir.join("job.sh");
    let (submit, dag) = if waits {
        let path = dir.join(format!("{}.dag", queue.dialect.job_name(&format!("ovl-{}", planned.request.id))));
        let node = DagNode {
            name: "S0000".into(),
            submit: Submit::File("job.sh".into()),
            parents: Vec::new(),
            pre: Some(Cmd::new("./await.sh")),
        };
        let text = htcondor::dag(&[node]).map_err(|why| Failure::new(code::ERROR, why))?;
        (queue.dialect.submit(&path, &text, &[], false), Some((path, text)))
    } else {
        (queue.dialect.submit_after(&script, &written.text, after), None)
    };
    let error = job.batch.and_then(|batch| batch.error);
    Ok(Ready { script, written, submit, output: job.output, error, name: job.name, resources: job.resources, dag })
}

fn job(planned: &Planned, dir: &Path, queue: &Queue, dag: bool) -> Result<Job, Failure> {
    let request = &planned.request;
    let config = &planned.context.config;
    let name = planned.asks.name.as_ref().map_or(planned.file.as_str(), |name| name.value.as_str());
    let name = queue.dialect.job_name(name);
    let array = planned.array.is_some() || planned.asks.array.is_some();
    let within = |text: &str, ending| work::in_directory(&request.cwd, text, &name, array, ending);
    let output = match &planned.asks.output {
        Some(output) => within(&output.value, "out"),
        None => {
            let marks = if array { "%A_%a" } else { "%j" };
            let dir = config.logs_dir().join("run");
            PathBuf::from(pattern::escape(&dir.to_string_lossy())).join(format!("{name}-{marks}.out"))
        }
    };
    let error = planned.asks.error.as_ref().map(|error| within(&error.value, "err"));
    let program =
        env::current_exe().map_err(|error| Failure::new(code::ERROR, format!("ovl cannot name itself: {error}")))?;
    let words = |path: &Path| path.to_string_lossy().into_owned();
    let shown =
        if request.origin == Path::new("-") { "a script from standard input".into() } else { words(&request.origin) };
    Ok(Job {
        name,
        resources: with_site(planned, queue.scheduler()),
        output,
        cwd: request.cwd.clone(),
        argv: vec![words(&program), "internal".into(), "task".into(), words(dir)],
        env: job_env(),
        comments: vec![format!("Runs {shown} for {} as it was when it was submitted.", host::user())],
        batch: Some(Batch {
            shape: request.shape,
            array: planned.array,
            error,
            umask: host::umask(),
            dag,
            own_array: planned.asks.array.is_some(),
            own_chunks: planned.asks.nodes.as_ref().is_some_and(
                |nodes| matches!(&nodes.source, Source::Directive { text, .. } if text.starts_with("-l") && text.contains("select=")),
            ),
        }),
    })
}

/// Schedulers start jobs with anything from no environment at all to all of the submitter's. Nothing else is written
/// down: what the user gives with `--env` is in a file that only he can read.
fn job_env() -> BTreeMap<String, String> {
    ["PATH", "HOME", "USER", "LANG"].iter().filter_map(|name| Some(((*name).to_owned(), env::var(name)?))).collect()
}

/// What the site says where nobody else does.
fn with_site(planned: &Planned, scheduler: Scheduler) -> Resources {
    let config = &planned.context.config;
    let mut resources = planned.resources.clone();
    let site = |value: Option<String>, key: &str| value.map(|value| Figure::new(value, Source::Config(key.to_owned())));
    resources.partition = resources.partition.or(site(config.partition(), "sched.partition"));
    resources.account = resources.account.or(site(config.account(), "sched.account"));
    resources.qos = resources.qos.or(site(config.qos(), "sched.qos"));
    for word in config.sched_args() {
        resources.extra.push(Extra::given(scheduler, "sched.args", word));
    }
    resources
}

/// Submits the job.
pub fn submit(planned: &Planned) -> Outcome {
    let ui = planned.context.ui;
    let Some(queue) = &planned.queue else { return Err(Failure::new(code::ERROR, "there is no scheduler")) };
    let after = after::open(planned.args, queue, planned.context)?;
    signal::catch_interrupts();
    work::sweep(planned.context);
    let (dir, request) = work::freeze(planned)?;
    // A refusal leaves the directory: its job script is what it is about.
    let ready = prepare(planned, &dir, queue, &after)?;
    if signal::interrupted().is_some() {
        let _ = fs::remove_tree(&dir);
        return Err(Failure::new(code::INTERRUPTED, "interrupted: nothing was submitted"));
    }
    let job = taken(&ready, queue)?;
    let id = work::shown_id(&job);
    let fill = |path: &Path| filled(path, id, &ready.name, planned);
    let (output, error) = (fill(&ready.output), ready.error.as_deref().map(fill));
    if planned.args.json {
        let value = json!({
            "job": id, "scheduler": queue.scheduler().word(), "name": ready.name, "output": output, "error": error,
            "array": planned.array.map(|array| array.count), "nodes": request.shape.nodes, "tasks": request.shape.tasks,
            "directory": dir, "script": request.origin, "command": ready.submit.words(),
        });
        ui.out(&serde_json::to_string_pretty(&value).unwrap_or_default());
    } else {
        ui.out(id);
    }
    let tasks = planned.array.map(|array| format!(", an array of {}", array.count)).unwrap_or_default();
    ui.say(&format!("job {id} of {}: {}{tasks} ({})", queue.scheduler(), ready.name, planned.because));
    ui.say(&format!("its output goes to {output}"));
    if let Some(error) = &error {
        ui.say(&format!("its errors go to {error}"));
    }
    if !is_alone(&request.shape) {
        let how = match request.launcher.as_str() {
            "auto" => "started by the launcher that its nodes have".to_owned(),
            "none" => "which the script starts itself".to_owned(),
            words => format!("started by {words}"),
        };
        ui.say(&format!("{} tasks, {how}", request.shape.tasks));
    }
    if signal::interrupted().is_some() {
        let cancel: Vec<String> =
            queue.dialect.cancel(std::slice::from_ref(&job)).iter().map(ToString::to_string).collect();
        return Err(Failure::new(code::INTERRUPTED, format!("interrupted, but job {id} was submitted"))
            .hint(format!("cancel it with: {}", cancel.join("; "))));
    }
    Ok(0)
}

/// Writes the files, and asks whether such a job could ever run.
fn prepare(planned: &Planned, dir: &Path, queue: &Queue, after: &[After]) -> Result<Ready, Failure> {
    let ready = ready(planned, dir, queue, after)?;
    ready.written.notes.iter().for_each(|note| planned.context.ui.warn(note));
    fs::write_quick(&ready.script, ready.written.text.as_bytes(), 0o600)?;
    if let Some((path, text)) = &ready.dag {
        fs::write_quick(path, text.as_bytes(), 0o600)?;
        after::write(dir, after)?;
        let program = env::current_exe().unwrap_or_else(|_| "ovl".into());
        let words = [program.as_os_str(), "internal".as_ref(), "await-jobs".as_ref(), dir.as_os_str()];
        let line: Vec<String> = words.into_iter().map(crate::model::cmd::quote).collect();
        fs::write_quick(&dir.join("await.sh"), format!("#!/bin/bash\nexec {}\n", line.join(" ")).as_bytes(), 0o700)?;
    }
    // A missing directory costs the output, with Slurm even the job.
    for path in [Some(&ready.output), ready.error.as_ref()].into_iter().flatten() {
        make_parent(path)?;
    }
    let refused = |text: String| {
        Failure::new(code::UNFIT, format!("{} refuses the job: {text}", queue.scheduler()))
            .hint("ask for less, or for another partition: -c, -m, -t, -n, --partition, --account")
            .hint(format!("the job script is {}", ready.script.display()))
    };
    let allowed = queue.dialect.limits().map(|cmd| queue.dialect.allowed(&queue.ask(&cmd)));
    if let Some(Err(text)) = allowed.map(|allowed| limits::fits(&ready.resources, &allowed)) {
        return Err(refused(format!("it could never run: {text}")));
    }
    if let Some(cmd) = queue.dialect.test(&ready.script)
        && let Err(Unanswered::Refused(text)) = queue.dialect.tested(&queue.ask(&cmd))
    {
        return Err(refused(text));
    }
    Ok(ready)
}

/// Makes the directory of a pattern, unless something is filled in in its name.
fn make_parent(path: &Path) -> Result<(), Failure> {
    let Some(parent) = path.parent() else { return Ok(()) };
    let pieces = pattern::parse(&parent.to_string_lossy());
    match pieces.as_slice() {
        [Piece::Text(text)] => Ok(fs::create_dirs(Path::new(text))?),
        _ => Ok(()),
    }
}

/// Submits, and says what came of it.
fn taken(ready: &Ready, queue: &Queue) -> Result<JobId, Failure> {
    let scheduler = queue.scheduler();
    match queue.dialect.job_id(&queue.ask(&ready.submit)) {
        Ok(job) => Ok(job),
        Err(Unanswered::Refused(text)) => {
            Err(Failure::new(code::UNFIT, format!("{scheduler} refuses the job: {text}"))
                .hint(format!("the job script is {}", ready.script.display())))
        }
        Err(Unanswered::Away(text)) => Err(Failure::new(code::UNFIT, format!("{scheduler} cannot be reached: {text}"))
            .hint("nothing was submitted; try again later, or run it here with --no-submit")),
        Err(Unanswered::Uncertain(text) | Unanswered::Odd(text)) => {
            let text = format!("{scheduler} did not say whether it took the job: {text}");
            let find = queue.dialect.find(&ready.name);
            let failure = Failure::new(code::UNFIT, text);
            // Names of users' jobs are not unique: whether one of these is it, only he can tell.
            match queue.dialect.found(&queue.ask(&find)) {
                Ok(jobs) if jobs.is_empty() => {
                    Err(failure.hint("it has no job of this name now; look again before you try again"))
                }
                Ok(jobs) => {
                    let ids: Vec<&str> = jobs.iter().map(work::shown_id).collect();
                    Err(failure
                        .hint(format!("jobs of this name: {}; look at them before you try again", ids.join(", "))))
                }
                Err(_) => Err(failure.hint(format!("look for it before you try again: {find}"))),
            }
        }
    }
}

/// Where output goes, for people.
pub fn filled(path: &Path, id: &str, name: &str, planned: &Planned) -> String {
    let digits = id.split(['.', '[']).next().unwrap_or(id);
    let index = match planned.array {
        Some(array) => Some(format!("{{1..{}}}", array.count)),
        None => planned.asks.array.as_ref().map(|_| "*".to_owned()),
    };
    pattern::fill(&pattern::parse(&path.to_string_lossy()), &|piece| match piece {
        Piece::Job => Some(match (&index, planned.request.scheduler) {
            (None, _) => digits.to_owned(),
            // Every task is a job with a number of its own.
            (Some(_), Some(Scheduler::Slurm)) => "*".to_owned(),
            (Some(index), Some(Scheduler::Pbs)) => format!("{digits}[{index}]"),
            (Some(index), _) => format!("{digits}_{index}"),
        }),
        Piece::Array => Some(digits.to_owned()),
        Piece::Index => index.clone(),
        Piece::Name => Some(name.to_owned()),
        Piece::User => Some(host::user()),
        _ => None,
    })
}
