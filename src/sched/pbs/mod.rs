//! OpenPBS and PBS Professional; answers as recorded on OpenPBS 23.06.

mod read;
mod talk;
mod write;

use std::collections::BTreeMap;
use std::path::Path;

use super::{Chaining, Dialect, Env, FlagError, Granted, Job, JobView, Reply, Unanswered, Written, names};
use crate::model::batch::{self, After, Asks};
use crate::model::cmd::Cmd;
use crate::model::resources::{JobId, Resources, Scheduler};
use crate::recipe::scan::Directive;

/// PBS.
pub struct Pbs;

impl Dialect for Pbs {
    fn scheduler(&self) -> Scheduler {
        Scheduler::Pbs
    }

    fn read(&self, directives: &[Directive]) -> Result<Resources, FlagError> {
        read::read(directives)
    }

    fn read_script(&self, directives: &[Directive]) -> Result<(Resources, Asks), FlagError> {
        read::read_script(directives)
    }

    fn write(&self, job: &Job) -> Written {
        write::write(job)
    }

    fn chaining(&self) -> Chaining {
        Chaining::Ids
    }

    fn submit(&self, script: &Path, _text: &str, after: &[JobId], held: bool) -> Cmd {
        talk::submit(script, after, held)
    }

    fn submit_after(&self, script: &Path, _text: &str, after: &[After]) -> Cmd {
        talk::submit_after(script, after)
    }

    fn job_id(&self, reply: &Reply) -> Result<JobId, Unanswered> {
        talk::job_id(reply)
    }

    fn status(&self, ids: &[JobId], _user: &str) -> Cmd {
        talk::status(ids)
    }

    fn states(&self, reply: &Reply) -> Result<BTreeMap<JobId, JobView>, Unanswered> {
        talk::states(reply)
    }

    fn past(&self, ids: &[JobId]) -> Option<Cmd> {
        Some(talk::past(ids))
    }

    fn find(&self, name: &str) -> Cmd {
        talk::find(name)
    }

    fn found(&self, reply: &Reply) -> Result<Vec<JobId>, Unanswered> {
        talk::found(reply)
    }

    fn release(&self, ids: &[JobId]) -> Vec<Cmd> {
        talk::each("qrls", ids)
    }

    fn cancel(&self, ids: &[JobId]) -> Vec<Cmd> {
        talk::each("qdel", ids)
    }

    fn settled(&self, reply: &Reply) -> Result<(), Unanswered> {
        talk::settled(reply)
    }

    fn inside(&self, env: &Env) -> Option<JobId> {
        env.get("PBS_JOBID").filter(|id| !id.is_empty()).cloned().map(JobId)
    }

    /// Memory is told nowhere in the environment.
    fn granted(&self, env: &Env) -> Granted {
        let number = |name: &str| env.get(name)?.trim().parse::<u32>().ok().filter(|cpus| *cpus > 0);
        Granted { cpus: number("NCPUS").or_else(|| number("PBS_NUM_PPN")), mem: None }
    }

    fn index(&self, env: &Env) -> Option<u32> {
        // The second is Torque's.
        let text = env.get("PBS_ARRAY_INDEX").or_else(|| env.get("PBS_ARRAYID"))?;
        text.trim().parse().ok()
    }

    /// The node file has a line for each task (pbs_resources(7), mpiprocs). Memory is told nowhere.
    fn granted_tasks(&self, env: &Env, cpus: u32, read: &dyn Fn(&str) -> Option<String>) -> batch::Granted {
        let hosts = env.get("PBS_NODEFILE").and_then(|path| read(path));
        let hosts: Vec<&str> =
            hosts.as_deref().unwrap_or("").lines().map(str::trim).filter(|host| !host.is_empty()).collect();
        let mut counts: BTreeMap<&str, u32> = BTreeMap::new();
        for host in &hosts {
            *counts.entry(host).or_default() += 1;
        }
        let number = |number: usize| u32::try_from(number).ok().filter(|number| *number > 0);
        let per_node = counts.values().max().copied();
        // NCPUS is that of a chunk: tasks that may lie anywhere have chunks of their own, also several on a node.
        let cpus = self.granted(env).cpus.map(|own| cpus.clamp(1, own));
        batch::Granted { nodes: number(counts.len()), tasks: number(hosts.len()), per_node, cpus, mem: None }
    }

    fn poisons(&self, variable: &str) -> bool {
        let site = ["PBS_CONF_FILE", "PBS_SERVER", "PBS_EXEC", "PBS_HOME", "PBS_DEFAULT"];
        variable.starts_with("PBS_") && !site.contains(&variable)
    }

    fn job_name(&self, text: &str) -> String {
        names::plain(text)
    }

    fn programs(&self) -> &'static [&'static str] {
        &["qsub", "qstat", "qdel", "qrls", "qselect"]
    }
}

#[cfg(test)]
mod tests;
