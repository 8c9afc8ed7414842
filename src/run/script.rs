//! Job scripts: small, readable, kept beside the step they start.

use std::collections::BTreeMap;
use std::path::PathBuf;

use super::dir::RunError;
use super::submit::{SubmitError, Submitter};
use crate::model::cmd::{self, Cmd};
use crate::model::resources::{Extra, Resources, Scheduler};
use crate::plan::Place;
use crate::sched::htcondor::{self, DagNode, Submit};
use crate::sched::{self, Job};
use crate::sys::{env, fs, host};

/// Writes the job script of a step; returns what could not be said in the scheduler's words.
pub fn write(submitter: &Submitter, step: usize) -> Result<Vec<String>, SubmitError> {
    let job = job(submitter, step)?;
    let written = submitter.queue.dialect.write(&job);
    fs::write_quick(&submitter.dir.script(step), written.text.as_bytes(), 0o644)?;
    Ok(written.notes)
}

fn job(submitter: &Submitter, step: usize) -> Result<Job, SubmitError> {
    let dir = submitter.dir;
    let plan = &dir.head.plan.steps[step];
    let attempt = submitter.attempts.get(&step).copied().unwrap_or(1);
    // Slurm runs a job whose output directory is missing nowhere, and tells nobody.
    let logs = submitter.config.logs_dir().join("jobs");
    fs::create_dirs(&logs)?;
    let output = logs.join(format!("{}-{}-{step}.{attempt}-%j.out", plan.name.file_stem(), dir.id()));
    let words = |text: &PathBuf| text.to_string_lossy().into_owned();
    let id = dir.id();
    Ok(Job {
        name: submitter.job_name(step),
        resources: with_site_args(plan.resources.clone(), submitter),
        output,
        cwd: dir.path().to_owned(),
        argv: vec![
            submitter.program().to_string_lossy().into_owned(),
            "internal".into(),
            "step".into(),
            words(&dir.step_dir(step)),
            "--attempt".into(),
            attempt.to_string(),
        ],
        env: job_env(),
        comments: vec![
            format!("Builds {} for {} (run {id}, step {step}, attempt {attempt}).", plan.name, dir.head.user),
            format!("See how it is with: ovl status {id}    its log: ovl logs {}", plan.name),
        ],
        batch: None,
    })
}

/// Schedulers start jobs with anything from no environment at all (HTCondor) to all of the submitter's.
fn job_env() -> BTreeMap<String, String> {
    let mut vars = BTreeMap::new();
    for name in ["PATH", "HOME", "USER", "LANG"] {
        if let Some(value) = env::var(name) {
            vars.insert(name.to_owned(), value);
        }
    }
    vars.entry("HOME".into())
        .or_insert_with(|| host::home_dir().map_or_else(|| "/".into(), |home| home.to_string_lossy().into_owned()));
    vars
}

/// Adds the flags that the site or the command line gives for every job.
fn with_site_args(mut resources: Resources, submitter: &Submitter) -> Resources {
    let scheduler = submitter.queue.scheduler();
    for word in submitter.config.sched_args() {
        resources.extra.push(Extra::given(scheduler, "sched.args", word));
    }
    resources
}

/// What makes two jobs the same kind of request.
pub fn kind(resources: &Resources) -> String {
    let figures = crate::plan::show::figures(resources);
    // Without the sources: two recipes may say the same thing.
    figures.iter().map(|line| line.split("  (").next().unwrap_or(line)).collect::<Vec<_>>().join("\n")
}

/// The name of a step's node in a DAG.
pub fn node(step: usize) -> String {
    format!("S{step:04}")
}

/// Writes the DAG of these steps.
pub fn dag(submitter: &Submitter, steps: &[usize]) -> Result<PathBuf, SubmitError> {
    let dir = submitter.dir;
    let mut nodes = Vec::new();
    for &step in steps {
        let plan = &dir.head.plan.steps[step];
        let inside = |parent: &&usize| steps.contains(parent);
        let parents = plan.after.iter().filter(inside).map(|&parent| node(parent)).collect();
        // A DAG cannot wait for another one's jobs; the step does so itself, before it takes a node.
        let joins = plan.after.iter().any(|&parent| matches!(dir.head.plan.steps[parent].place, Place::Join(_)));
        let pre = if joins { Some(Cmd::new(wait(submitter, step)?)) } else { None };
        let script = dir.script(step);
        let script = script.strip_prefix(dir.path()).unwrap_or(&script).to_owned();
        nodes.push(DagNode { name: node(step), submit: Submit::File(script), parents, pre });
    }
    let attempt = steps.iter().filter_map(|step| submitter.attempts.get(step)).max().copied().unwrap_or(1);
    let path = dir.path().join(format!("ovl-{}-{}-{attempt}.dag", dir.id(), steps.first().copied().unwrap_or(0)));
    let text = htcondor::dag(&nodes).map_err(|why| RunError::Odd { path: path.clone(), why })?;
    fs::write_quick(&path, text.as_bytes(), 0o644)?;
    Ok(path)
}

/// Writes the script that waits for what other runs build for a step. DAG files take no blanks and no quotes, so they
/// name everything from their own directory, where DAGMan runs.
fn wait(submitter: &Submitter, step: usize) -> Result<PathBuf, SubmitError> {
    let own = submitter.dir.step_dir(step);
    let path = own.join("await.sh");
    let argv = [submitter.program().as_os_str(), "internal".as_ref(), "await".as_ref(), own.as_os_str()];
    let words: Vec<String> = argv.into_iter().map(cmd::quote).collect();
    fs::write_quick(&path, format!("#!/bin/bash\nexec {}\n", words.join(" ")).as_bytes(), 0o755)?;
    Ok(path.strip_prefix(submitter.dir.path()).unwrap_or(&path).to_owned())
}

/// Whether this scheduler takes a chain at once only.
pub fn at_once(scheduler: Scheduler) -> bool {
    sched::dialect(scheduler).chaining() == sched::Chaining::Dag
}
