//! What came of a run, for people, for programs and as an exit code.

use std::path::PathBuf;

use serde::Serialize;

use crate::build::Done;
use crate::cli::Context;
use crate::cli::failure::{Failure, Outcome, code};
use crate::cli::hints;
use crate::model::event::Phase;
use crate::model::meta::Why;
use crate::model::name::Name;
use crate::model::resources::JobId;
use crate::plan::{Place, Plan, Planned, Settled};
use crate::run::status::{self, Class, State};
use crate::run::submit::SubmitError;
use crate::run::view::{Seen, Shown};
use crate::run::{Dir, Report, cancel, follow};
use crate::sys::signal;

/// One overlay of a request.
#[derive(Debug, Clone, Default, Serialize)]
pub struct Row {
    /// Which.
    pub name: String,
    /// built, up_to_date, already_built, stale, failed, skipped, stopped, submitted or joined.
    pub outcome: String,
    /// Why it was built, is stale, failed, …
    pub reason: Option<String>,
    /// The image.
    pub path: PathBuf,
    /// `sha256:` of a newly built image.
    pub digest: Option<String>,
    /// Bytes of a newly built image.
    pub bytes: Option<u64>,
    /// Seconds it took.
    pub seconds: f64,
    /// The log.
    pub log: Option<PathBuf>,
    /// The job that builds it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub job: Option<JobId>,
    /// The run that it belongs to.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub run: Option<String>,
    #[serde(skip)]
    index: usize,
}

/// Everything that is to be told at the end.
#[derive(Debug, Default)]
pub struct Told {
    /// The names asked for, and their files.
    pub targets: Vec<(Name, PathBuf)>,
    /// What came of each overlay.
    rows: Vec<Row>,
    failures: Vec<Failure>,
    refused: Option<SubmitError>,
    stopped: bool,
    run: Option<Dir>,
}

/// What the user wants of the end.
#[derive(Debug, Clone, Copy, Default)]
pub struct Wishes {
    /// As JSON.
    pub json: bool,
    /// Follow submitted jobs to their end.
    pub wait: bool,
    /// An interrupt cancels them.
    pub cancel_jobs: bool,
}

impl Told {
    /// Nothing yet, of these targets.
    pub fn new(targets: Vec<(Name, PathBuf)>) -> Told {
        Told { targets, ..Told::default() }
    }

    /// Takes what a run came to.
    pub fn take(&mut self, report: Report, run: &Dir) {
        let path = |name: &Name| {
            let step = run.head.plan.steps.iter().find(|step| step.name == *name);
            step.map(|step| (step.index, step.target.clone())).unwrap_or_default()
        };
        let row = |name: &Name, outcome: &str, reason: Option<String>, job: Option<JobId>| {
            let (index, path) = path(name);
            let (outcome, run) = (outcome.to_owned(), Some(run.id().to_owned()));
            Row { name: name.to_string(), outcome, reason, path, job, run, index, ..Row::default() }
        };
        for done in &report.done {
            self.rows.push(Row { index: path(&done.name).0, ..of_done(done, run) });
        }
        for (name, error) in report.failed {
            self.rows.push(row(&name, "failed", Some(error.to_string()), None));
            self.failures.push(error.into());
        }
        for (name, needs) in report.skipped {
            self.rows.push(row(&name, "skipped", Some(format!("it needs {needs}, which failed")), None));
        }
        for name in report.stopped {
            self.rows.push(row(&name, "stopped", None, None));
            self.stopped = true;
        }
        for (name, job) in report.submitted {
            self.rows.push(row(&name, "submitted", None, Some(job)));
        }
        for (name, job) in report.joined {
            self.rows.push(row(&name, "joined", None, Some(job)));
        }
        if report.refused.is_some() {
            let told: Vec<usize> = self.rows.iter().map(|row| row.index).collect();
            for step in run.head.plan.steps.iter().filter(|step| !told.contains(&step.index)) {
                let Some(status) = status::read(run.path(), step.index) else { continue };
                let outcome = if status.state == State::Failed { "failed" } else { "stopped" };
                self.rows.push(Row { index: step.index, ..row(&step.name, outcome, Some(status.text), None) });
            }
        }
        self.rows.sort_by_key(|row| row.index);
        self.refused = report.refused;
        self.run = Some(run.clone());
    }

    /// Takes a target that needed nothing, as it is now.
    pub fn settled(&mut self, settled: &Settled, stale: Option<Why>) {
        let outcome = if stale.is_some() { "stale" } else { "up to date" };
        let reason = stale.map(|why| why.to_string());
        let (name, path) = (settled.name.to_string(), settled.path.clone());
        let row = Row { name, outcome: outcome.into(), reason, path, ..Row::default() };
        let at = self.rows.iter().position(|row| row.run.is_some()).unwrap_or(self.rows.len());
        self.rows.insert(at, row);
    }

    /// What came of an overlay.
    pub fn row(&self, name: &Name) -> Option<&Row> {
        let name = name.to_string();
        self.rows.iter().find(|row| row.name == name)
    }
}

fn of_done(done: &Done, run: &Dir) -> Row {
    Row {
        name: done.name.to_string(),
        outcome: done.outcome.to_string(),
        reason: done.reason.clone(),
        path: done.path.clone(),
        digest: done.digest.clone(),
        bytes: done.bytes,
        seconds: done.seconds,
        log: done.log.clone(),
        job: None,
        run: Some(run.id().to_owned()),
        index: 0,
    }
}

/// Tells everything, and gives the exit code.
pub fn finish(mut told: Told, wishes: &Wishes, context: &Context) -> Outcome {
    let open = told.rows.iter().any(|row| row.job.is_some());
    let mut interrupted = signal::interrupted().is_some();
    if let (true, Some(run), false) = (open, told.run.clone(), interrupted) {
        announce(&told, &run, wishes, context);
        if wishes.wait {
            follow_up(&mut told, &run, context)?;
            interrupted = signal::interrupted().is_some();
        }
    }
    if interrupted && let Some(run) = &told.run {
        on_interrupt(&told, run, wishes, context)?;
    }
    if let Some(run) = &told.run {
        let waits = told.rows.iter().any(|row| matches!(row.outcome.as_str(), "submitted" | "joined"));
        let said = |step: &Planned| status::read(run.path(), step.index).is_some_and(|said| said.state.is_final());
        run.mark_over(!waits && run.head.plan.steps.iter().all(said));
    }
    print(&told, wishes, context);
    let mut failures = std::mem::take(&mut told.failures);
    failures.extend(told.refused.take().map(Failure::from));
    if interrupted && failures.is_empty() {
        return Err(Failure::new(code::INTERRUPTED, "interrupted"));
    }
    if told.stopped && failures.is_empty() {
        return Err(Failure::new(code::INTERRUPTED, "some of it was cancelled before its turn came"));
    }
    if failures.is_empty() {
        let waits = told.rows.iter().any(|row| matches!(row.outcome.as_str(), "submitted" | "joined"));
        return Ok(if waits { code::SUBMITTED } else { 0 });
    }
    let first = failures.remove(0);
    // The first decides the exit code and is told last, where eyes are.
    failures.iter().for_each(|failure| context.ui.error(&failure.message, &failure.hints));
    Err(first)
}

fn announce(told: &Told, run: &Dir, wishes: &Wishes, context: &Context) {
    let jobs = told.rows.iter().filter(|row| row.job.is_some()).count();
    let noun = if jobs == 1 { "job" } else { "jobs" };
    context.ui.say(&format!("run {}: {jobs} {noun}", run.id()));
    for row in told.rows.iter().filter(|row| row.job.is_some()) {
        let job = row.job.as_ref().map(JobId::to_string).unwrap_or_default();
        context.ui.say(&format!("  {}: {} as job {job}", row.name, row.outcome));
    }
    if !wishes.wait {
        context
            .ui
            .hint(&format!("see how they are with: ovl status {0}    wait for them with: ovl wait {0}", run.id()));
    }
}

/// Waits for the jobs; their rows say what became of them.
fn follow_up(told: &mut Told, run: &Dir, context: &Context) -> Result<(), Failure> {
    let ui = context.ui;
    let survey = follow::follow(run, &context.config, &mut |one, _| {
        if run.head.plan.steps.get(one.index).is_some_and(|step| step.place != Place::Here) {
            ui.say(&line(one));
        }
    })?;
    for one in survey.steps.iter().filter(|one| one.state.is_final()) {
        let name = one.name.to_string();
        let Some(row) = told.rows.iter_mut().find(|row| row.name == name && row.job.is_some()) else { continue };
        let (row_new, failure) = of_shown(one, run);
        *row = Row { index: row.index, job: row.job.take(), ..row_new };
        told.failures.extend(failure);
    }
    Ok(())
}

/// One step as a line of progress.
pub fn line(one: &Shown) -> String {
    let text = if one.text.is_empty() { String::new() } else { format!(": {}", one.text) };
    format!("{}: {}{text}", one.name, one.state.word())
}

/// What became of a step that is over: its row, and its failure when it is one of its own.
pub fn of_shown(one: &Shown, run: &Dir) -> (Row, Option<Failure>) {
    let target = run.head.plan.steps.get(one.index).map(|step| step.target.clone()).unwrap_or_default();
    let result = one.status.as_ref().and_then(|status| status.result.as_ref());
    let base = match (one.state, result) {
        (Seen::Done, Some(done)) => return (Row { job: one.job.clone(), ..of_done(done, run) }, None),
        _ => Row {
            name: one.name.to_string(),
            outcome: if one.state == Seen::Done { "built".into() } else { one.state.word().into() },
            reason: Some(one.text.clone()).filter(|text| !text.is_empty()),
            path: target,
            log: one.status.as_ref().and_then(|status| status.log.clone()),
            job: one.job.clone(),
            run: Some(run.id().to_owned()),
            seconds: one.status.as_ref().map_or(0.0, |status| status.cost.seconds),
            ..Row::default()
        },
    };
    let failure = match one.state {
        Seen::Failed | Seen::Lost | Seen::Cancelled => Some(failure_of(one, run)),
        _ => None,
    };
    (base, failure)
}

fn failure_of(one: &Shown, run: &Dir) -> Failure {
    let about = format!("{}: ", one.name);
    let text = if one.text.starts_with(&about) { one.text.clone() } else { format!("{about}{}", one.text) };
    let tail = one.status.as_ref().map(|status| status.tail.clone()).unwrap_or_default();
    let mut failure = Failure::with_tail(code_of(one.class, one.state), &text, &tail);
    if let (Some(phase), false) = (one.status.as_ref().and_then(|status| status.phase.clone()), tail.is_empty()) {
        failure.hints = hints::of_output(&tail, Phase::named(&phase));
    }
    if let Some(log) = one.status.as_ref().and_then(|status| status.log.as_ref()) {
        failure = failure.hint(format!("the whole log is in {}", log.display()));
    }
    let more = match one.class {
        Some(Class::Memory) => " with more memory",
        Some(Class::Time) => " with more time",
        _ => "",
    };
    failure.hint(format!(
        "find out more with: ovl explain {}    try again{more} with: ovl retry {}",
        one.name,
        run.id()
    ))
}

/// The exit code for a step that is over.
pub fn code_of(class: Option<Class>, state: Seen) -> u8 {
    match (state, class) {
        (Seen::Done, _) => 0,
        (Seen::Cancelled, Some(Class::Unfit)) => code::UNFIT,
        (Seen::Cancelled, _) => code::INTERRUPTED,
        (_, Some(Class::Gate)) => code::GATE,
        (_, Some(Class::Usage)) => code::USAGE,
        (_, Some(Class::Busy)) => code::BUSY,
        (_, Some(Class::Unfit)) => code::UNFIT,
        (_, Some(Class::Time)) => code::TIMEOUT,
        (_, Some(Class::Internal | Class::Lost)) => code::ERROR,
        _ => code::BUILD,
    }
}

fn on_interrupt(told: &Told, run: &Dir, wishes: &Wishes, context: &Context) -> Result<(), Failure> {
    let jobs: Vec<usize> = told.rows.iter().filter(|row| row.outcome == "submitted").map(|row| row.index).collect();
    if jobs.is_empty() {
        return Ok(());
    }
    if wishes.cancel_jobs {
        let report = cancel::cancel(run, &jobs, &context.config, false)?;
        report.troubles.iter().for_each(|trouble| context.ui.warn(trouble));
        context.ui.say(&format!("cancelled {} of its jobs", report.jobs.len()));
    } else {
        let noun = if jobs.len() == 1 { "job goes" } else { "jobs go" };
        context.ui.say(&format!("{} {noun} on", jobs.len()));
        context.ui.hint(&format!("cancel them with: ovl cancel {0}    wait for them with: ovl wait {0}", run.id()));
    }
    Ok(())
}

fn print(told: &Told, wishes: &Wishes, context: &Context) {
    let ui = context.ui;
    if wishes.json {
        let rows: Vec<Row> =
            told.rows.iter().map(|row| Row { outcome: row.outcome.replace(' ', "_"), ..row.clone() }).collect();
        ui.out(&serde_json::to_string_pretty(&rows).unwrap_or_default());
        return;
    }
    for row in &told.rows {
        let asked = told.targets.iter().any(|(name, _)| name.to_string() == row.name);
        match (row.outcome.as_str(), &row.job) {
            ("submitted" | "joined", Some(job)) => ui.out(&job.to_string()),
            ("stale", _) if asked => {
                ui.hint(&format!("rebuild it with: ovl build --update {}", row.name));
                ui.out(&row.path.display().to_string());
            }
            ("built" | "up to date" | "already built", _) if asked => ui.out(&row.path.display().to_string()),
            _ => {}
        }
    }
}

/// A plan for programs.
pub fn plan_json(plan: &Plan, packages: serde_json::Value) -> String {
    #[derive(Serialize)]
    struct Json<'a> {
        #[serde(flatten)]
        plan: &'a Plan,
        critical_path: Vec<String>,
        critical_seconds: u64,
        packages: serde_json::Value,
    }
    let (path, critical_seconds) = plan.critical_path();
    let critical_path =
        path.iter().filter_map(|&step| plan.steps.get(step)).map(|step| step.name.to_string()).collect();
    serde_json::to_string_pretty(&Json { plan, critical_path, critical_seconds, packages }).unwrap_or_default()
}

impl From<SubmitError> for Failure {
    fn from(error: SubmitError) -> Failure {
        let text = error.to_string();
        match error {
            SubmitError::Refused { script, .. } => Failure::new(code::UNFIT, text)
                .hint("ask for less, or for another partition: --cpus, --mem, --time, --partition, --account")
                .hint(format!("the job script is {}", script.display())),
            SubmitError::Uncertain { job_name, .. } => {
                Failure::new(code::UNFIT, text).hint(format!("look for a job named {job_name} before you try again"))
            }
            SubmitError::Interrupted => Failure::new(code::INTERRUPTED, text),
            SubmitError::Away { .. } => Failure::new(code::UNFIT, text)
                .hint("nothing was submitted; try again later, or build everything here with --no-submit")
                .hint(
                    "where there are several schedulers, choose one with OVL_SCHED_KIND or sched.kind in config.yaml",
                ),
            SubmitError::Claimed { .. } => Failure::new(code::BUSY, text).hint("try again: it will be joined"),
            SubmitError::Fetch(error) => (*error).into(),
            SubmitError::Run(error) => error.into(),
        }
    }
}
