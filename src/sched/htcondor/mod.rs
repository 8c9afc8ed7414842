//! HTCondor, through DAGMan: chains are one DAG; each build is a node with a submit description of its own.

mod dag;
mod talk;
mod write;

use std::collections::BTreeMap;
use std::path::Path;

pub use dag::{DagNode, Submit, dag};

use super::{Chaining, Dialect, Env, FlagError, Granted, Job, JobView, Reply, Unanswered, Written, names};
use crate::model::batch::{self, After, Asks};
use crate::model::cmd::Cmd;
use crate::model::resources::{JobId, Resources, Scheduler};
use crate::recipe::scan::Directive;

/// HTCondor.
pub struct HtCondor;

impl Dialect for HtCondor {
    fn scheduler(&self) -> Scheduler {
        Scheduler::HtCondor
    }

    /// Recipes have no directives of HTCondor.
    fn read(&self, _directives: &[Directive]) -> Result<Resources, FlagError> {
        Ok(Resources::default())
    }

    fn read_script(&self, _directives: &[Directive]) -> Result<(Resources, Asks), FlagError> {
        Ok(Default::default())
    }

    fn write(&self, job: &Job) -> Written {
        write::write(job)
    }

    fn chaining(&self) -> Chaining {
        Chaining::Dag
    }

    fn submit(&self, script: &Path, _text: &str, _after: &[JobId], held: bool) -> Cmd {
        talk::submit(script, held)
    }

    /// Only without conditions: a job that waits is a DAG of its own.
    fn submit_after(&self, script: &Path, _text: &str, _after: &[After]) -> Cmd {
        Cmd::new("condor_submit").arg(script)
    }

    fn job_id(&self, reply: &Reply) -> Result<JobId, Unanswered> {
        talk::job_id(reply)
    }

    fn status(&self, ids: &[JobId], _user: &str) -> Cmd {
        talk::status(ids)
    }

    fn states(&self, reply: &Reply) -> Result<BTreeMap<JobId, JobView>, Unanswered> {
        talk::states(reply, false)
    }

    fn past(&self, ids: &[JobId]) -> Option<Cmd> {
        Some(talk::past(ids))
    }

    fn past_states(&self, reply: &Reply) -> Result<BTreeMap<JobId, JobView>, Unanswered> {
        talk::states(reply, true)
    }

    fn find(&self, name: &str) -> Cmd {
        talk::find(name)
    }

    fn found(&self, reply: &Reply) -> Result<Vec<JobId>, Unanswered> {
        talk::found(reply)
    }

    fn release(&self, ids: &[JobId]) -> Vec<Cmd> {
        talk::release(ids)
    }

    fn cancel(&self, ids: &[JobId]) -> Vec<Cmd> {
        talk::cancel(ids)
    }

    fn settled(&self, reply: &Reply) -> Result<(), Unanswered> {
        talk::settled(reply)
    }

    /// The submit description passes the id as `OVL_JOB`.
    fn inside(&self, env: &Env) -> Option<JobId> {
        let condor = env.contains_key("_CONDOR_JOB_AD") || env.get("BATCH_SYSTEM").is_some_and(|it| it == "HTCondor");
        let id = env.get("OVL_JOB").filter(|id| condor && id.contains(':'));
        id.cloned().map(JobId)
    }

    /// Memory is told nowhere in the environment.
    fn granted(&self, env: &Env) -> Granted {
        let cpus = env.get("OMP_NUM_THREADS").and_then(|text| text.trim().parse().ok()).filter(|cpus: &u32| *cpus > 0);
        Granted { cpus, mem: None }
    }

    /// The submit description passes it.
    fn index(&self, env: &Env) -> Option<u32> {
        env.get("OVL_ARRAY_INDEX")?.trim().parse().ok()
    }

    /// All tasks lie on one machine, whose slot tells its figures in a file.
    fn granted_tasks(&self, env: &Env, cpus: u32, read: &dyn Fn(&str) -> Option<String>) -> batch::Granted {
        let ad = env.get("_CONDOR_MACHINE_AD").and_then(|path| read(path)).unwrap_or_default();
        let figure = |name: &str| {
            let values = ad.lines().filter_map(|line| line.split_once('='));
            let mut own = values.filter(|(key, _)| key.trim().eq_ignore_ascii_case(name));
            own.next().and_then(|(_, value)| value.trim().parse::<u64>().ok()).filter(|value| *value > 0)
        };
        let slots = figure("Cpus").and_then(|cpus| u32::try_from(cpus).ok()).or(self.granted(env).cpus);
        let tasks = slots.map(|slots| (slots / cpus.max(1)).max(1));
        batch::Granted {
            nodes: Some(1),
            tasks,
            per_node: tasks,
            cpus: slots.map(|slots| cpus.clamp(1, slots)),
            mem: figure("Memory").and_then(|mb| mb.checked_mul(1 << 20)),
        }
    }

    fn poisons(&self, variable: &str) -> bool {
        variable.starts_with("_CONDOR_") || variable == "BATCH_SYSTEM"
    }

    /// DAGMan submits a node only when it may run.
    fn answers_for(&self, id: &JobId) -> Option<JobId> {
        let (dag, node) = id.0.split_once(':')?;
        (!node.is_empty()).then(|| JobId(format!("{dag}:")))
    }

    /// DAG nodes take no dots.
    fn job_name(&self, text: &str) -> String {
        names::plain(text).replace('.', "_")
    }

    fn programs(&self) -> &'static [&'static str] {
        &["condor_submit_dag", "condor_q", "condor_history", "condor_rm"]
    }
}

#[cfg(test)]
mod tests;
