//! Schedulers as text: each dialect reads directives, writes job scripts, and knows the commands and replies of its
//! scheduler. Nothing here runs anything; `run` does. What each scheduler gets wrong is told in `docs/schedulers.md`.

pub mod amount;
mod gather;
pub mod htcondor;
pub mod limits;
pub mod lsf;
mod names;
pub mod pattern;
pub mod pbs;
mod reply;
mod script;
pub mod slurm;
mod words;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::model::batch::{self, After, Array, Asks, Shape};
use crate::model::cmd::Cmd;
use crate::model::loc::Loc;
use crate::model::resources::{JobId, Resources, Scheduler};
use crate::recipe::scan::{Directive, Marker};

/// A directive that cannot be carried out (rows C46, C47): the build is refused, naming line and directive.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{loc}: {why}")]
pub struct FlagError {
    /// Where.
    pub loc: Loc,
    /// What is wrong, naming the flag as written.
    pub why: String,
    /// What to write instead.
    pub hint: Option<String>,
}

/// What a command printed.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Reply {
    /// Its exit code; None when a signal or ovl's own time limit ended it.
    pub code: Option<i32>,
    /// Standard output, invalid UTF-8 replaced.
    pub stdout: String,
    /// Standard error.
    pub stderr: String,
}

/// Why a reply is no answer.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Unanswered {
    /// The scheduler said no, and nothing was done; its words.
    #[error("{0}")]
    Refused(String),
    /// It cannot be reached; nothing was asked of it.
    #[error("{0}")]
    Away(String),
    /// It gave up waiting: for a submission this means that nobody knows whether there is a job.
    #[error("{0}")]
    Uncertain(String),
    /// Not understood: what was read.
    #[error("not understood: {0}")]
    Odd(String),
}

/// How a job ended, as the scheduler tells it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum End {
    /// Exit code 0.
    Done,
    /// Another exit code, or a signal.
    Failed {
        /// Exit code.
        code: Option<i32>,
        /// Signal.
        signal: Option<i32>,
    },
    /// Somebody cancelled it.
    Cancelled,
    /// Its time was over.
    TimedOut,
    /// It used more memory than it had asked for.
    OutOfMemory,
    /// Its node went away, or it was preempted and not requeued.
    NodeLost,
    /// It was removed without having run: what it depended on failed or was not known.
    NeverRan,
    /// It could not be started; the scheduler's reason (a missing output directory, …).
    NotStarted(String),
}

/// Where a job is.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum JobState {
    /// Held: by its user until released, or by an administrator or an error (see the reason).
    Held,
    /// Waiting.
    Pending,
    /// Running, starting, ending or suspended: it has a node.
    Running,
    /// Over.
    Ended(End),
    /// A state this version does not know; it is waited for, never taken for failure.
    Other(String),
}

/// What a job used, as far as the scheduler tells.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Used {
    /// Highest resident memory, in bytes.
    pub mem: Option<u64>,
    /// Wall time.
    pub time: Option<Duration>,
}

/// A job as the scheduler shows it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct JobView {
    /// Where it is.
    pub state: JobState,
    /// The scheduler's own word for the state.
    pub word: String,
    /// Why it waits or ended so, in the scheduler's words ("Resources", "Can Never Run: …").
    pub reason: Option<String>,
    /// Nodes it runs or ran on.
    pub node: Option<String>,
    /// What it used.
    pub used: Used,
}

/// One job to be written.
#[derive(Debug, Clone)]
pub struct Job {
    /// Its unique name, made by [`Dialect::job_name`].
    pub name: String,
    /// What it asks for.
    pub resources: Resources,
    /// Its output file; the directory exists. `%j` stands for the job id and is put into the scheduler's own words.
    pub output: PathBuf,
    /// Where it runs; on the shared file system.
    pub cwd: PathBuf,
    /// What it runs: absolute program path and arguments.
    pub argv: Vec<String>,
    /// Variables it needs, plain names and values.
    pub env: BTreeMap<String, String>,
    /// Comment lines below the directives, for people: what this is and how to look at it.
    pub comments: Vec<String>,
    /// What a user's script is beside that; None: a build.
    pub batch: Option<Batch>,
}

/// What makes a job one of a user's script. `output` of its [`Job`] is then a whole [`pattern`].
#[derive(Debug, Clone)]
pub struct Batch {
    /// Its tasks and nodes.
    pub shape: Shape,
    /// Its array.
    pub array: Option<Array>,
    /// Where standard error goes, a [`pattern`]; None: where output goes.
    pub error: Option<PathBuf>,
    /// The umask of whoever submits it, in octal digits.
    pub umask: Option<String>,
    /// HTCondor: it is the only node of a DAG, whose id is the job's.
    pub dag: bool,
    /// Directives make it an array, in their scheduler's own words.
    pub own_array: bool,
    /// PBS: the nodes are chunks of a `select`, which lie wherever `place` says.
    pub own_chunks: bool,
}

impl Batch {
    /// Whether this script is the job of several tasks of an array.
    pub fn is_array(&self) -> bool {
        self.array.is_some() || self.own_array
    }

    /// Whether several tasks write to a file of this pattern: then none of them may truncate it.
    pub fn share(&self, file: &Path) -> bool {
        self.is_array() && !pattern::tells_tasks(&file.to_string_lossy())
    }
}

/// A job script, and what of its resources could not be said in this dialect (each with its place).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Written {
    /// The script (for HTCondor: the submit description of a node).
    pub text: String,
    /// What was left out, as sentences with their places.
    pub notes: Vec<String>,
}

/// What the scheduler really granted, from the job's environment.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Granted {
    /// CPUs on this node.
    pub cpus: Option<u32>,
    /// Memory on this node, in bytes.
    pub mem: Option<u64>,
}

/// How a scheduler takes a chain.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Chaining {
    /// Job by job: each names the ids it waits for; roots are held until all are in.
    Ids,
    /// One file with all jobs and their order (DAGMan).
    Dag,
}

/// The environment of a process, as far as it is UTF-8.
pub type Env = BTreeMap<String, String>;

/// One scheduler's language.
pub trait Dialect: Sync {
    /// Which one.
    fn scheduler(&self) -> Scheduler;

    /// Understands the directives of a recipe, in order; later ones win. Several tasks, nodes or array jobs are refused
    /// with the reason: a build is one process tree on one node. Output, error, name, mail and working directory flags
    /// are ovl's own business and are passed over. Unknown flags become [`crate::model::resources::Extra`]; ones that
    /// cannot be split into flag and value, or whose value makes no sense, are errors.
    fn read(&self, directives: &[Directive]) -> Result<Resources, FlagError>;

    /// As [`Dialect::read`], for a user's script: tasks, nodes, names, outputs and arrays are understood, and whatever has
    /// no place in the model is kept for its own scheduler. Only what makes no sense in a job is refused.
    fn read_script(&self, directives: &[Directive]) -> Result<(Resources, Asks), FlagError>;

    /// Writes a job script.
    fn write(&self, job: &Job) -> Written;

    /// How chains are given.
    fn chaining(&self) -> Chaining;

    /// Submits a script, after these jobs have succeeded, held if asked. `text` is what the script holds: LSF reads it
    /// from its standard input. For DAGMan `script` is the DAG file; its stem becomes the name to [`Dialect::find`] it by.
    fn submit(&self, script: &Path, text: &str, after: &[JobId], held: bool) -> Cmd;

    /// Submits a user's script, which waits for others.
    fn submit_after(&self, script: &Path, text: &str, after: &[After]) -> Cmd;

    /// The id in the reply to [`Dialect::submit`].
    fn job_id(&self, reply: &Reply) -> Result<JobId, Unanswered>;

    /// Asks whether a script could ever run, without submitting it; None: this scheduler cannot be asked.
    fn test(&self, _script: &Path) -> Option<Cmd> {
        None
    }

    /// The answer to [`Dialect::test`]: `Refused` with the scheduler's words when it never could.
    fn tested(&self, _reply: &Reply) -> Result<(), Unanswered> {
        Ok(())
    }

    /// Asks what partitions allow; None: requests that never fit are refused at submission by this scheduler.
    fn limits(&self) -> Option<Cmd> {
        None
    }

    /// The partitions in the reply to [`Dialect::limits`]; empty when it is no answer.
    fn allowed(&self, _reply: &Reply) -> Vec<limits::Allowed> {
        Vec::new()
    }

    /// One query for all of these jobs (never one per job). `user` is who asks.
    fn status(&self, ids: &[JobId], user: &str) -> Cmd;

    /// The jobs in the reply to [`Dialect::status`]; those it does not know are absent.
    fn states(&self, reply: &Reply) -> Result<BTreeMap<JobId, JobView>, Unanswered>;

    /// A query about finished jobs that `status` has forgotten; None: there is no such record here.
    fn past(&self, ids: &[JobId]) -> Option<Cmd>;

    /// The jobs in the reply to [`Dialect::past`], which most write as they do that to [`Dialect::status`].
    fn past_states(&self, reply: &Reply) -> Result<BTreeMap<JobId, JobView>, Unanswered> {
        self.states(reply)
    }

    /// Looks for a job by its unique name, after an uncertain submission.
    fn find(&self, name: &str) -> Cmd;

    /// Ids in the reply to [`Dialect::find`].
    fn found(&self, reply: &Reply) -> Result<Vec<JobId>, Unanswered>;

    /// Releases held jobs; several commands where one cannot take many.
    fn release(&self, ids: &[JobId]) -> Vec<Cmd>;

    /// Cancels jobs; several commands where one cannot take many (PBS: one id per qdel).
    fn cancel(&self, ids: &[JobId]) -> Vec<Cmd>;

    /// Whether a reply to a release or cancel command means that it is done (a job that is gone is done).
    fn settled(&self, reply: &Reply) -> Result<(), Unanswered>;

    /// The job this process runs in, from its environment.
    fn inside(&self, env: &Env) -> Option<JobId>;

    /// What that job was granted.
    fn granted(&self, env: &Env) -> Granted;

    /// The number of this task in its array, from 1.
    fn index(&self, env: &Env) -> Option<u32>;

    /// What a job of several tasks was granted. `cpus` is what each task asked for; `read` gives the text of a file that
    /// the environment names.
    fn granted_tasks(&self, env: &Env, cpus: u32, read: &dyn Fn(&str) -> Option<String>) -> batch::Granted;

    /// Whether a variable must not reach the scheduler's commands (`SLURM_*`, `SBATCH_*`, … of an outer job).
    fn poisons(&self, variable: &str) -> bool;

    /// Whether jobs that depend on a failed one stay in the queue for ever unless somebody cancels them.
    fn leaves_children(&self) -> bool {
        false
    }

    /// The job that answers for one which is not shown: a DAG for those of its nodes that it has not submitted yet.
    fn answers_for(&self, _id: &JobId) -> Option<JobId> {
        None
    }

    /// A job name this scheduler takes, from free text (at most 60 characters, its own alphabet).
    fn job_name(&self, text: &str) -> String;

    /// The commands that must be on PATH.
    fn programs(&self) -> &'static [&'static str];
}

/// The dialect of a scheduler.
pub fn dialect(scheduler: Scheduler) -> &'static dyn Dialect {
    match scheduler {
        Scheduler::Slurm => &slurm::Slurm,
        Scheduler::Pbs => &pbs::Pbs,
        Scheduler::Lsf => &lsf::Lsf,
        Scheduler::HtCondor => &htcondor::HtCondor,
    }
}

/// The dialect of a directive.
pub fn of_marker(marker: Marker) -> &'static dyn Dialect {
    dialect(match marker {
        Marker::Sbatch => Scheduler::Slurm,
        Marker::Pbs => Scheduler::Pbs,
        Marker::Bsub => Scheduler::Lsf,
    })
}

/// What the directives of a recipe ask for. Where there are those of several schedulers, the ones for the scheduler at
/// hand count, else those of the first.
pub fn read(directives: &[Directive], at_hand: Option<Scheduler>) -> Result<Resources, FlagError> {
    match that_count(directives, at_hand) {
        Some((dialect, those)) => dialect.read(&those),
        None => Ok(Resources::default()),
    }
}

/// The same for a user's script.
pub fn read_script(directives: &[Directive], at_hand: Option<Scheduler>) -> Result<(Resources, Asks), FlagError> {
    match that_count(directives, at_hand) {
        Some((dialect, those)) => dialect.read_script(&those),
        None => Ok(Default::default()),
    }
}

/// Whose words those are that count.
pub fn speaks(directives: &[Directive], at_hand: Option<Scheduler>) -> Option<Scheduler> {
    that_count(directives, at_hand).map(|(dialect, _)| dialect.scheduler())
}

fn that_count(directives: &[Directive], at_hand: Option<Scheduler>) -> Option<(&'static dyn Dialect, Vec<Directive>)> {
    let first = directives.first()?;
    let own = directives.iter().find(|one| Some(of_marker(one.marker).scheduler()) == at_hand);
    let marker = own.map_or(first.marker, |one| one.marker);
    Some((of_marker(marker), directives.iter().filter(|one| one.marker == marker).cloned().collect()))
}

#[cfg(test)]
mod script_tests;
#[cfg(test)]
mod tests;
