//! Slurm. Its directives are read by sbatch(1); its answers as recorded on 22.05.

mod granted;
mod options;
mod read;
mod talk;
mod write;

use std::collections::BTreeMap;
use std::path::Path;

use super::amount::MIB;
use super::limits::Allowed;
use super::{Chaining, Dialect, Env, FlagError, Granted, Job, JobView, Reply, Unanswered, Written, names};
use crate::model::batch::{self, After, Asks};
use crate::model::cmd::Cmd;
use crate::model::resources::{JobId, Resources, Scheduler};
use crate::recipe::scan::Directive;

/// Slurm.
pub struct Slurm;

impl Dialect for Slurm {
    fn scheduler(&self) -> Scheduler {
        Scheduler::Slurm
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

    fn test(&self, script: &Path) -> Option<Cmd> {
        Some(Cmd::new("sbatch").arg("--test-only").arg(script))
    }

    fn tested(&self, reply: &Reply) -> Result<(), Unanswered> {
        talk::tested(reply)
    }

    fn limits(&self) -> Option<Cmd> {
        Some(Cmd::new("sinfo").args(["-h", "-o", "%P|%l|%c|%m"]))
    }

    fn allowed(&self, reply: &Reply) -> Vec<Allowed> {
        talk::allowed(reply)
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

    fn past_states(&self, reply: &Reply) -> Result<BTreeMap<JobId, JobView>, Unanswered> {
        talk::past_states(reply)
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

    fn inside(&self, env: &Env) -> Option<JobId> {
        env.get("SLURM_JOB_ID").or_else(|| env.get("SLURM_JOBID")).filter(|id| !id.is_empty()).cloned().map(JobId)
    }

    fn granted(&self, env: &Env) -> Granted {
        let number = |name: &str| env.get(name).and_then(|text| text.trim().parse::<u64>().ok());
        // SLURM_CPUS_ON_NODE may be more than was asked for, where whole cores are given: all of it is the job's.
        let cpus = number("SLURM_CPUS_ON_NODE")
            .or_else(|| number("SLURM_CPUS_PER_TASK"))
            .or_else(|| env.get("SLURM_JOB_CPUS_PER_NODE")?.split(['(', ',']).next()?.parse().ok())
            .and_then(|cpus| u32::try_from(cpus).ok())
            .filter(|cpus| *cpus > 0);
        let mem = match (number("SLURM_MEM_PER_NODE"), number("SLURM_MEM_PER_CPU")) {
            // 0 stands for all the node has.
            (Some(0), _) => None,
            (Some(mb), _) => mb.checked_mul(MIB),
            (None, Some(mb)) => mb.checked_mul(MIB).and_then(|bytes| bytes.checked_mul(cpus?.into())),
            (None, None) => None,
        };
        Granted { cpus, mem: mem.filter(|mem| *mem > 0) }
    }

    fn index(&self, env: &Env) -> Option<u32> {
        env.get("SLURM_ARRAY_TASK_ID")?.trim().parse().ok()
    }

    fn granted_tasks(&self, env: &Env, _cpus: u32, _read: &dyn Fn(&str) -> Option<String>) -> batch::Granted {
        granted::tasks(env)
    }

    fn poisons(&self, variable: &str) -> bool {
        let families =
            ["SLURM_", "SLURMD_", "SBATCH_", "SQUEUE_", "SALLOC_", "SRUN_", "SACCT_", "SCANCEL_", "SCONTROL_"];
        variable != "SLURM_CONF" && families.iter().any(|family| variable.starts_with(family))
    }

    fn job_name(&self, text: &str) -> String {
        names::plain(text)
    }

    fn programs(&self) -> &'static [&'static str] {
        &["sbatch", "squeue", "scancel", "scontrol"]
    }
}

#[cfg(test)]
mod tests;
