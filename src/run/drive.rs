//! Carrying a run out: what needs nothing that is built here is submitted at once; then the local steps run; what needed
//! those is submitted last. A failure costs its descendants only.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::mpsc;
use std::time::Duration;

use super::dir::{Dir, Lock, RunError};
use super::join;
use super::journal::{self, Journal};
use super::local::{self, Outcome};
use super::queue::Queue;
use super::ready::{Budget, Ready, Task, Weight};
use super::record;
use super::script;
use super::status::{self, Class, State, Status};
use super::submit::{SubmitError, Submitter};
use crate::build::{self, BuildError, Done, LookUp, Step, Stop};
use crate::config::Config;
use crate::model::event::{Event, Listener};
use crate::model::name::Name;
use crate::model::resources::JobId;
use crate::plan::{Place, Plan, Planned, Weighed, descendants, weigh};
use crate::store::claim;
use crate::sys::{cgroup, fs, owner, signal};

/// What carrying out needs.
pub struct Drive<'a> {
    /// The run.
    pub dir: &'a Dir,
    /// Its steps, by number.
    pub steps: Vec<Step>,
    /// The steps to carry out, each with its attempt; the others are over, or somebody else's business.
    pub chosen: BTreeMap<usize, u32>,
    /// Jobs of steps that are not chosen and not over.
    pub alive: BTreeMap<usize, JobId>,
    /// What each weighs here.
    pub weights: Vec<Weighed>,
    /// The local budget.
    pub budget: Budget,
    /// The scheduler, if anything is queued.
    pub queue: Option<&'a Queue>,
    /// The configuration.
    pub config: &'a Config,
    /// Who hears of it.
    pub listener: &'a dyn Listener,
    /// The first failure keeps anything new from starting.
    pub fail_fast: bool,
}

/// How often the journal is looked at for steps that were cancelled.
const GLANCE: Duration = Duration::from_millis(500);

/// This machine's share for builds.
#[derive(Debug, Clone, Copy)]
pub struct Local {
    cpus: u32,
    mem: u64,
    at_once: usize,
}

impl Local {
    /// What the machine has and the configuration allows.
    pub fn of(config: &Config) -> Local {
        let cpus = u32::try_from(std::thread::available_parallelism().map_or(1, usize::from)).unwrap_or(1);
        let mem = config.local_mem().unwrap_or_else(|| cgroup::usable().unwrap_or(4 << 30) / 5 * 4);
        Local { cpus, mem, at_once: config.jobs() }
    }

    /// What each step of a plan takes of it.
    pub fn weigh(&self, plan: &Plan) -> Vec<Weighed> {
        weigh(plan, self.cpus, self.mem, self.at_once)
    }

    /// All of it.
    pub fn budget(&self) -> Budget {
        Budget { tasks: self.at_once, weight: Weight { cpu: u64::from(self.cpus) * 1000, mem: self.mem } }
    }
}

/// What came of a run, as far as this process had to do with it.
#[derive(Debug, Default)]
pub struct Report {
    /// Built, or found built, here.
    pub done: Vec<Done>,
    /// Failed here.
    pub failed: Vec<(Name, BuildError)>,
    /// Not tried, and the name of what they need.
    pub skipped: Vec<(Name, Name)>,
    /// Not started, because all was stopped.
    pub stopped: Vec<Name>,
    /// Jobs submitted by this run, in the order of its steps.
    pub submitted: Vec<(Name, JobId)>,
    /// Jobs of others that are waited for.
    pub joined: Vec<(Name, JobId)>,
    /// Why the queue did not take what it should have.
    pub refused: Option<SubmitError>,
}

impl Drive<'_> {
    /// Carries the run out.
    pub fn run(&self, _lock: &Lock) -> Result<Report, RunError> {
        let me = owner::Owner::me();
        let driver = self.dir.driver();
        self.dir.mark_driven(&me)?;
        let _beat = owner::heartbeat(driver.clone(), me.token.clone(), Duration::from_secs(120));
        let mut report = Report::default();
        for step in self.chosen() {
            if let Place::Join(ticket) = &step.place {
                report.joined.push((step.name.clone(), ticket.job.clone()));
            }
        }
        let (first, second) = self.waves();
        let mut jobs = BTreeMap::new();
        // What can never run is found before anything is built or queued.
        let queued: Vec<usize> = first.iter().chain(&second).copied().collect();
        self.with_queue(&queued, &jobs, &mut report, |submitter, listener| {
            for text in submitter.prepare(&queued)? {
                listener.hear(&Event::Warning { name: None, text });
            }
            // Nodes often have no network: what comes from elsewhere is there before they begin.
            for step in queued.iter().filter_map(|step| self.steps.get(*step)) {
                build::prefetch(step, self.config, listener).map_err(|error| SubmitError::Fetch(Box::new(error)))?;
            }
            Ok(BTreeMap::new())
        })?;
        if report.refused.is_some() {
            self.stop(&self.chosen().map(|step| step.index).collect::<Vec<_>>(), &mut report);
            fs::remove_file(&driver)?;
            return Ok(report);
        }
        jobs.extend(self.with_queue(&first, &jobs, &mut report, |submitter, _| submitter.submit(&first))?);
        if report.refused.is_none() {
            let bad = self.local(&mut report)?;
            let cancelled = self.cancelled();
            let (second, given_up): (Vec<usize>, Vec<usize>) =
                second.into_iter().filter(|step| !bad.contains(step)).partition(|step| !cancelled.contains(step));
            self.stop(&given_up, &mut report);
            let stopped = self.fail_fast && !report.failed.is_empty();
            if signal::interrupted().is_none() && !stopped {
                jobs.extend(self.with_queue(&second, &jobs, &mut report, |submitter, _| submitter.submit(&second))?);
            } else {
                self.stop(&second, &mut report);
            }
        }
        for (step, job) in &jobs {
            report.submitted.push((self.dir.head.plan.steps[*step].name.clone(), job.clone()));
        }
        fs::remove_file(&driver)?;
        Ok(report)
    }

    fn chosen(&self) -> impl Iterator<Item = &Planned> {
        self.dir.head.plan.steps.iter().filter(|step| self.chosen.contains_key(&step.index))
    }

    fn attempt(&self, step: usize) -> u32 {
        self.chosen.get(&step).copied().unwrap_or(1)
    }

    fn planned(&self, step: usize) -> &Planned {
        &self.dir.head.plan.steps[step]
    }

    fn after(&self) -> Vec<&[usize]> {
        self.dir.head.plan.steps.iter().map(|step| step.after.as_slice()).collect()
    }

    /// Queued steps without and with a local step somewhere above them.
    fn waves(&self) -> (Vec<usize>, Vec<usize>) {
        let mut below_here: BTreeSet<usize> = BTreeSet::new();
        let (mut first, mut second) = (Vec::new(), Vec::new());
        let here = |step: &usize| self.planned(*step).place == Place::Here && self.chosen.contains_key(step);
        for step in self.chosen() {
            let local_above = step.after.iter().any(|parent| here(parent) || below_here.contains(parent));
            if local_above {
                below_here.insert(step.index);
            }
            if matches!(step.place, Place::Queue(_)) {
                if local_above { second.push(step.index) } else { first.push(step.index) }
            }
        }
        let whole = self.dir.head.scheduler.is_some_and(script::at_once);
        if whole && !second.is_empty() {
            first.extend(second);
            first.sort_unstable();
            return (Vec::new(), first);
        }
        (first, second)
    }

    /// Does something with the queue for these steps; what the scheduler refuses ends up in the report.
    fn with_queue(
        &self,
        steps: &[usize],
        jobs: &BTreeMap<usize, JobId>,
        report: &mut Report,
        act: impl FnOnce(&Submitter, &dyn Listener) -> Result<BTreeMap<usize, JobId>, SubmitError>,
    ) -> Result<BTreeMap<usize, JobId>, RunError> {
        let (Some(queue), false) = (self.queue, steps.is_empty()) else { return Ok(BTreeMap::new()) };
        let journal = Journal::open(self.dir.path())?;
        // Parents of earlier waves that are over already are no longer waited for; the step itself looks what became
        // of them.
        let over = |step: usize| status::read(self.dir.path(), step).is_some_and(|status| status.state.is_final());
        let mut alive: BTreeMap<usize, JobId> =
            jobs.iter().filter(|(step, _)| !over(**step)).map(|(step, job)| (*step, job.clone())).collect();
        alive.extend(self.alive.iter().map(|(step, job)| (*step, job.clone())));
        for step in &self.dir.head.plan.steps {
            if let Place::Join(ticket) = &step.place
                && is_claimed(&step.target)
                && !status::read(&ticket.run, ticket.step).is_some_and(|status| status.state.is_final())
            {
                alive.insert(step.index, ticket.job.clone());
            }
        }
        let (dir, config, attempts) = (self.dir, self.config, &self.chosen);
        let submitter = Submitter { dir, queue, config, journal: &journal, alive: &alive, attempts };
        match act(&submitter, self.listener) {
            Ok(new) => Ok(new),
            Err(SubmitError::Run(error)) => Err(error),
            Err(error) => {
                self.refused(steps, &error);
                report.refused = Some(error);
                Ok(BTreeMap::new())
            }
        }
    }

    /// The step that was refused has failed; the others of its chain were not queued.
    fn refused(&self, steps: &[usize], error: &SubmitError) {
        let known = journal::read(self.dir.path()).unwrap_or_default();
        // What may still be in the queue has not said its last word: whoever looks next sees to it.
        let open = |step: &&usize| {
            known.get(step).is_some_and(|one| {
                one.attempt == self.attempt(**step) && !one.name.is_empty() && one.withdrawn.is_none()
            })
        };
        for &step in steps.iter().filter(|step| !open(step)) {
            let status = match error {
                SubmitError::Refused { step: own, .. } if *own == step => Status {
                    class: Some(Class::Unfit),
                    ..Status::ended(State::Failed, self.attempt(step), error.to_string())
                },
                SubmitError::Away { .. } => Status {
                    class: Some(Class::Unfit),
                    ..Status::ended(State::Cancelled, self.attempt(step), "not queued: the scheduler cannot be reached")
                },
                _ => Status {
                    class: Some(Class::Unfit),
                    ..Status::ended(State::Cancelled, self.attempt(step), "its chain was not queued")
                },
            };
            let _ = status::write(self.dir.path(), step, &status);
        }
    }

    /// Runs the local steps; returns every step that cannot be built any more.
    fn local(&self, report: &mut Report) -> Result<BTreeSet<usize>, RunError> {
        let here: Vec<usize> = self.chosen().filter(|step| step.place == Place::Here).map(|step| step.index).collect();
        let number: BTreeMap<usize, usize> = here.iter().enumerate().map(|(number, &step)| (step, number)).collect();
        let task = |&step: &usize| {
            let weight =
                self.weights.get(step).map_or(Weight { cpu: 0, mem: 0 }, |w| Weight { cpu: w.cpu, mem: w.mem });
            let deps = self.planned(step).after.iter().filter_map(|parent| number.get(parent).copied());
            Task { deps: deps.collect(), weight }
        };
        let tasks: Vec<Task> = here.iter().map(task).collect();
        let odd =
            |error: super::ready::Unordered| RunError::Odd { path: self.dir.path().into(), why: error.to_string() };
        let ready = Ready::new(&tasks, self.budget).map_err(odd)?;
        // Whoever cancels a step writes it into the journal; nobody else's builds end with it.
        let stops: BTreeMap<usize, Stop> = here.iter().map(|&step| (step, Stop::default())).collect();
        let _watch = self.watch(stops.clone());
        let build = |number: usize| self.build(here[number], stops.get(&here[number]).cloned().unwrap_or_default());
        let mut skip = |number: usize, cause: usize| self.skip(here[number], here[cause], true);
        let stop = || signal::interrupted().is_some();
        let outcomes = local::run(ready, self.fail_fast, &stop, &build, &mut skip);
        let mut bad = BTreeSet::new();
        for (number, outcome) in outcomes.into_iter().enumerate() {
            let step = here[number];
            let name = self.planned(step).name.clone();
            match outcome {
                Outcome::Done(done) => report.done.push(done),
                Outcome::Failed(error) => {
                    for below in descendants(&self.after(), step) {
                        let queued = self.chosen.contains_key(&below) && self.planned(below).place != Place::Here;
                        if bad.insert(below) && queued {
                            self.skip(below, step, false);
                            report.skipped.push((self.planned(below).name.clone(), name.clone()));
                        }
                    }
                    bad.insert(step);
                    report.failed.push((name, error));
                }
                Outcome::Skipped { cause } => {
                    bad.insert(step);
                    report.skipped.push((name, self.planned(here[cause]).name.clone()));
                }
                Outcome::NotStarted => {
                    let mut stopped = vec![step];
                    for below in descendants(&self.after(), step) {
                        let queued = self.chosen.contains_key(&below) && self.planned(below).place != Place::Here;
                        stopped.extend((bad.insert(below) && queued).then_some(below));
                    }
                    bad.insert(step);
                    self.stop(&stopped, report);
                }
            }
        }
        Ok(bad)
    }

    /// Looks into the journal now and then, until the sender is dropped.
    fn watch(&self, stops: BTreeMap<usize, Stop>) -> mpsc::Sender<()> {
        let (sender, receiver) = mpsc::channel::<()>();
        let run = self.dir.path().to_owned();
        std::thread::spawn(move || {
            while receiver.recv_timeout(GLANCE) == Err(mpsc::RecvTimeoutError::Timeout) {
                let known = journal::read(&run).unwrap_or_default();
                let cancelled = known.iter().filter(|(_, one)| one.cancelled.is_some());
                cancelled.filter_map(|(step, _)| stops.get(step)).for_each(Stop::set);
            }
        });
        sender
    }

    fn build(&self, step: usize, stop: Stop) -> Result<Done, BuildError> {
        let look_up = LookUp(Some(join::look_again));
        let mut frozen = Step { stop, look_up, ..self.steps[step].clone() };
        if let Some(weight) = self.weights.get(step) {
            frozen.ncpus = Some(weight.ncpus);
        }
        let began = std::time::Instant::now();
        let result = record::build(self.dir.path(), &frozen, self.attempt(step), None, self.config, self.listener);
        if result.is_ok() {
            self.dir.forget_answers(step);
        }
        self.listener.hear(&match &result {
            Ok(done) => Event::Finished {
                name: done.name.clone(),
                outcome: done.outcome.to_string(),
                detail: done.detail(),
                seconds: done.seconds,
            },
            Err(error) => Event::Failed {
                name: frozen.name().clone(),
                text: error.to_string(),
                seconds: began.elapsed().as_secs_f64(),
            },
        });
        result
    }

    fn skip(&self, step: usize, cause: usize, told: bool) {
        let because = format!("it needs {}, which failed", self.planned(cause).name);
        let _ =
            status::write(self.dir.path(), step, &Status::ended(State::Skipped, self.attempt(step), because.clone()));
        if told || self.planned(step).place != Place::Here {
            self.listener.hear(&Event::Skipped { name: self.planned(step).name.clone(), because });
        }
    }

    /// Steps that somebody has cancelled while others were built.
    fn cancelled(&self) -> BTreeSet<usize> {
        let known = journal::read(self.dir.path()).unwrap_or_default();
        known.into_iter().filter(|(_, one)| one.cancelled.is_some()).map(|(step, _)| step).collect()
    }

    fn stop(&self, steps: &[usize], report: &mut Report) {
        for &step in steps {
            let over = status::read(self.dir.path(), step)
                .is_some_and(|status| status.attempt == self.attempt(step) && status.state.is_final());
            if !over {
                let text = "stopped before its turn came";
                let stopped = Status::ended(State::Cancelled, self.attempt(step), text);
                let _ = status::write(self.dir.path(), step, &stopped);
            }
            report.stopped.push(self.planned(step).name.clone());
        }
    }
}

fn is_claimed(target: &std::path::Path) -> bool {
    fs::metadata_if_exists(&claim::path_for(target)).ok().flatten().is_some()
}
