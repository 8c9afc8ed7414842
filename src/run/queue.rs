//! The one place that speaks to a scheduler: it runs the commands of a dialect, in a clean environment and within ovl's
//! own time limit, since a scheduler's clients may wait for ever.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use crate::config::Config;
use crate::model::cmd::Cmd;
use crate::model::resources::{JobId, Scheduler};
use crate::sched::{self, Dialect, End, Env, JobState, JobView, Reply, Unanswered, Used};
use crate::sys::process::{self, Ended};
use crate::sys::{env, host};

/// A scheduler at hand.
pub struct Queue {
    /// Its language.
    pub dialect: &'static dyn Dialect,
    limit: Duration,
    env: BTreeMap<std::ffi::OsString, std::ffi::OsString>,
}

/// What is known of some jobs.
#[derive(Debug, Default)]
pub struct Views {
    /// Jobs that the scheduler knows.
    pub jobs: BTreeMap<JobId, JobView>,
    /// Why it could not be asked; then nothing can be concluded from a job's absence.
    pub trouble: Option<String>,
}

impl Queue {
    /// The scheduler that the configuration names, or the first whose commands are found. `Err` says why a named one
    /// cannot be used.
    pub fn at_hand(config: &Config) -> Result<Option<Queue>, String> {
        let there = |scheduler: &Scheduler| {
            let missing = |program: &&&str| process::find(program).is_none();
            sched::dialect(*scheduler).programs().iter().find(missing).copied()
        };
        let word = config.scheduler();
        match Scheduler::ALL.into_iter().find(|scheduler| scheduler.word() == word) {
            Some(scheduler) => match there(&scheduler) {
                None => Ok(Some(Queue::new(scheduler, config))),
                Some(program) => Err(format!("sched.kind is {word}, but {program} is not on PATH")),
            },
            None if word == "none" => Ok(None),
            None => {
                let found = Scheduler::ALL.into_iter().find(|scheduler| there(scheduler).is_none());
                Ok(found.map(|scheduler| Queue::new(scheduler, config)))
            }
        }
    }

    /// A scheduler, whether or not its commands are there.
    pub fn new(scheduler: Scheduler, config: &Config) -> Queue {
        let dialect = sched::dialect(scheduler);
        let clean = |name: &str| !dialect.poisons(name) && !name.starts_with("OVL_");
        let env = env::all().into_iter().filter(|(name, _)| name.to_str().is_some_and(clean)).collect();
        Queue { dialect, limit: config.sched_timeout(), env }
    }

    /// Whether its commands can be found.
    pub fn is_there(&self) -> bool {
        self.dialect.programs().iter().all(|program| process::find(program).is_some())
    }

    /// Which one.
    pub fn scheduler(&self) -> Scheduler {
        self.dialect.scheduler()
    }

    /// Runs a command of the dialect.
    pub fn ask(&self, cmd: &Cmd) -> Reply {
        let mut cmd = cmd.clone();
        let own = std::mem::take(&mut cmd.env);
        cmd.env = self.env.clone();
        cmd.env.extend(own);
        cmd.bare = true;
        match process::capture_steadily(&cmd, self.limit) {
            Ok(output) => {
                let text = |bytes: Vec<u8>| String::from_utf8_lossy(&bytes).into_owned();
                let mut stderr = text(output.stderr);
                if output.ended == Ended::TimedOut {
                    stderr.push_str(&format!("no answer within {}s", self.limit.as_secs()));
                }
                let code = if let Ended::Code(code) = output.ended { Some(code) } else { None };
                Reply { code, stdout: text(output.stdout), stderr }
            }
            Err(error) => Reply {
                code: Some(127),
                stdout: String::new(),
                stderr: format!("cannot run {}: {error}", cmd.program.to_string_lossy()),
            },
        }
    }

    /// Looks all jobs up with one query, and those it has forgotten with one more where there are records.
    pub fn look(&self, ids: &[JobId]) -> Views {
        let mut views = Views::default();
        if ids.is_empty() {
            return views;
        }
        match self.dialect.states(&self.ask(&self.dialect.status(ids, &host::user()))) {
            Ok(jobs) => views.jobs = jobs,
            Err(error) => views.trouble = Some(error.to_string()),
        }
        let forgotten: Vec<JobId> = ids.iter().filter(|id| !views.jobs.contains_key(id)).cloned().collect();
        if let (None, false, Some(cmd)) = (&views.trouble, forgotten.is_empty(), self.dialect.past(&forgotten)) {
            // Accounting may be off, or late: it can only add.
            if let Ok(jobs) = self.dialect.past_states(&self.ask(&cmd)) {
                views.jobs.extend(jobs);
            }
        }
        for id in forgotten.iter().filter(|_| views.trouble.is_none()) {
            let whole = self.dialect.answers_for(id).and_then(|whole| views.jobs.get(&whole));
            if let (Some(whole), false) = (whole, views.jobs.contains_key(id)) {
                let view = not_yet(whole);
                views.jobs.insert(id.clone(), view);
            }
        }
        views
    }

    /// Runs commands that change jobs (release, cancel); the first refusal is told after all have been run.
    pub fn each(&self, cmds: &[Cmd]) -> Result<(), Unanswered> {
        let mut first = Ok(());
        for cmd in cmds {
            let said = self.dialect.settled(&self.ask(cmd));
            first = first.and(said);
        }
        first
    }

    /// Cancels jobs.
    pub fn cancel(&self, ids: &[JobId]) -> Result<(), Unanswered> {
        if ids.is_empty() { Ok(()) } else { self.each(&self.dialect.cancel(ids)) }
    }

    /// Cancels jobs, of which those not in `kept` are all there are: what answers for only such ones goes as a whole,
    /// with what it has not submitted yet.
    pub fn cancel_all_but(&self, kept: &[JobId], ids: &[JobId]) -> Result<(), Unanswered> {
        let whole = |id: &JobId| self.dialect.answers_for(id);
        let kept: BTreeSet<JobId> = kept.iter().filter_map(whole).collect();
        let wholes: BTreeSet<JobId> = ids.iter().filter_map(whole).filter(|whole| !kept.contains(whole)).collect();
        self.cancel(&wholes.into_iter().chain(ids.iter().cloned()).collect::<Vec<_>>())
    }
}

/// How a job is that the one which answers for it has not submitted yet.
fn not_yet(whole: &JobView) -> JobView {
    let state = match &whole.state {
        JobState::Running => JobState::Pending,
        JobState::Ended(End::Cancelled) => JobState::Ended(End::Cancelled),
        JobState::Ended(_) => JobState::Ended(End::NeverRan),
        other => other.clone(),
    };
    let reason = matches!(state, JobState::Pending).then(|| "not submitted yet".to_owned());
    JobView { state, reason, node: None, used: Used::default(), word: whole.word.clone() }
}

/// The environment of this process, as dialects want it.
pub fn own_env() -> Env {
    let text = |(name, value): (std::ffi::OsString, std::ffi::OsString)| {
        Some((name.into_string().ok()?, value.into_string().ok()?))
    };
    env::all().into_iter().filter_map(text).collect()
}

/// The job this process runs in, of whatever scheduler.
pub fn inside() -> Option<(Scheduler, JobId)> {
    let env = own_env();
    Scheduler::ALL.into_iter().find_map(|kind| sched::dialect(kind).inside(&env).map(|job| (kind, job)))
}
