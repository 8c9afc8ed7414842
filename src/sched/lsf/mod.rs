//! IBM Spectrum LSF and its relatives; answers as recorded on volclava 2.2 and documented for LSF 10.1.

mod options;
mod read;
mod require;
mod talk;
mod write;

use std::collections::BTreeMap;
use std::path::Path;

use super::{Chaining, Dialect, Env, FlagError, Granted, Job, JobView, Reply, Unanswered, Written, names};
use crate::model::batch::{self, After, Asks};
use crate::model::cmd::Cmd;
use crate::model::resources::{JobId, Resources, Scheduler};
use crate::recipe::scan::Directive;

/// LSF.
pub struct Lsf;

impl Dialect for Lsf {
    fn scheduler(&self) -> Scheduler {
        Scheduler::Lsf
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

    fn submit(&self, _script: &Path, text: &str, after: &[JobId], held: bool) -> Cmd {
        talk::submit(text, after, held)
    }

    fn submit_after(&self, _script: &Path, text: &str, after: &[After]) -> Cmd {
        talk::submit_after(text, after)
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
        talk::all("bresume", ids)
    }

    fn cancel(&self, ids: &[JobId]) -> Vec<Cmd> {
        talk::all("bkill", ids)
    }

    fn settled(&self, reply: &Reply) -> Result<(), Unanswered> {
        talk::settled(reply)
    }

    fn inside(&self, env: &Env) -> Option<JobId> {
        env.get("LSB_JOBID").filter(|id| !id.is_empty()).cloned().map(JobId)
    }

    /// Memory is told nowhere in the environment.
    fn granted(&self, env: &Env) -> Granted {
        let number = |name: &str| env.get(name)?.trim().parse::<u32>().ok();
        let hosts = || {
            // `host 4 other 2`: jobs here have one host.
            let mut words = env.get("LSB_MCPU_HOSTS")?.split_whitespace().skip(1).step_by(2);
            words.try_fold(0u32, |sum, word| sum.checked_add(word.parse().ok()?))
        };
        let listed = || u32::try_from(env.get("LSB_HOSTS")?.split_whitespace().count()).ok();
        let cpus = number("LSB_DJOB_NUMPROC").or_else(hosts).or_else(listed).filter(|cpus| *cpus > 0);
        Granted { cpus, mem: None }
    }

    fn index(&self, env: &Env) -> Option<u32> {
        // 0 where there is no array.
        env.get("LSB_JOBINDEX")?.trim().parse().ok().filter(|index| *index > 0)
    }

    /// `host 4 other 2`: slots on each host. Memory is told nowhere.
    fn granted_tasks(&self, env: &Env, cpus: u32, _read: &dyn Fn(&str) -> Option<String>) -> batch::Granted {
        let words: Vec<&str> =
            env.get("LSB_MCPU_HOSTS").map(|text| text.split_whitespace().collect()).unwrap_or_default();
        let slots: Option<Vec<u32>> = words.iter().skip(1).step_by(2).map(|word| word.parse().ok()).collect();
        let slots = slots.filter(|slots| !slots.is_empty());
        let total = slots.as_ref().and_then(|all| all.iter().try_fold(0u32, |sum, one| sum.checked_add(*one)));
        let cpus = cpus.max(1);
        let tasks = |slots: u32| (slots / cpus).max(1);
        batch::Granted {
            nodes: slots.as_ref().and_then(|slots| u32::try_from(slots.len()).ok()),
            tasks: total.map(tasks),
            per_node: slots.as_ref().and_then(|slots| slots.iter().max().copied()).map(tasks),
            // Fewer slots than one task wants: what there is.
            cpus: total.map(|total| cpus.min(total.max(1))),
            mem: None,
        }
    }

    fn poisons(&self, variable: &str) -> bool {
        let site = ["LSF_ENVDIR", "LSF_BINDIR", "LSF_LIBDIR", "LSF_SERVERDIR", "LSF_VERSION", "LSF_CONFDIR"];
        let families = ["LSB_", "LSF_", "LS_", "BSUB_", "LSFUSER"];
        families.iter().any(|family| variable.starts_with(family)) && !site.contains(&variable)
    }

    /// They stay pending ("Dependency condition invalid or never satisfied").
    fn leaves_children(&self) -> bool {
        true
    }

    fn job_name(&self, text: &str) -> String {
        names::plain(text)
    }

    fn programs(&self) -> &'static [&'static str] {
        &["bsub", "bjobs", "bkill", "bresume"]
    }
}

#[cfg(test)]
mod tests;
