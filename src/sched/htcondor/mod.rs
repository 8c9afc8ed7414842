//! HTCondor, through DAGMan: chains are one DAG; each build is a node with a submit description of its own.

mod dag;
mod talk;
mod write;

use std::collections::BTreeMap;
use std::path::Path;

pub use dag::{DagNode, Submit, dag};

use super::{Chaining, Dialect, Env, FlagError, Granted, Job, JobView, Reply, Unanswered, Written, names};
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

    fn write(&self, job: &Job) -> Written {
        write::write(job)
    }

    fn chaining(&self) -> Chaining {
        Chaining::Dag
    }

    fn submit(&self, script: &Path, _text: &str, _after: &[JobId], held: bool) -> Cmd {
        talk::submit(script, held)
    }

    fn job_id(&self, reply: &Reply) -> Result<JobId, Unanswered> {
        talk::job_id(reply)
    }

    fn test(&self, _script: &Path) -> Option<Cmd> {
        None
    }

    fn tested(&self, _reply: &Reply) -> Result<(), Unanswered> {
        Ok(())
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
