//! How a step is, from three witnesses: what it wrote itself, what was asked of the scheduler, and what the scheduler
//! says now. Its own word counts first; the scheduler's view is evidence for what never wrote one. Pure.

use serde::Serialize;

use super::journal::Known;
use super::status::{Class, State, Status};
use crate::model::name::Name;
use crate::model::resources::JobId;
use crate::plan::{Place, Planned};
use crate::sched::{End, JobState, JobView};

/// Where a step is, all things considered.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Seen {
    /// It has not begun, and somebody will see to it.
    Planned,
    /// Its job waits, or is held.
    Waiting,
    /// It is being built.
    Running,
    /// Its overlay is there.
    Done,
    /// It failed.
    Failed,
    /// Something it needs did not come to be.
    Skipped,
    /// Somebody cancelled it.
    Cancelled,
    /// Its process or job is gone without a word.
    Lost,
    /// The scheduler cannot be asked, or says something unknown; nothing is concluded from that.
    Unknown,
}

impl Seen {
    /// Whether nothing more will happen by itself.
    pub fn is_final(self) -> bool {
        matches!(self, Seen::Done | Seen::Failed | Seen::Skipped | Seen::Cancelled | Seen::Lost)
    }

    /// Whether what needs it can never be built.
    pub fn is_bad(self) -> bool {
        self.is_final() && self != Seen::Done
    }

    /// The word in lists and JSON.
    pub fn word(self) -> &'static str {
        match self {
            Seen::Planned => "planned",
            Seen::Waiting => "waiting",
            Seen::Running => "running",
            Seen::Done => "done",
            Seen::Failed => "failed",
            Seen::Skipped => "skipped",
            Seen::Cancelled => "cancelled",
            Seen::Lost => "lost",
            Seen::Unknown => "unknown",
        }
    }
}

/// A step with everything known of it.
#[derive(Debug, Clone, Serialize)]
pub struct Shown {
    /// Its number in the run.
    pub index: usize,
    /// The overlay.
    pub name: Name,
    /// Where it is.
    pub state: Seen,
    /// Why, or what it waits for: a sentence without its name; may be empty.
    pub text: String,
    /// The kind of failure.
    pub class: Option<Class>,
    /// Its newest job.
    pub job: Option<JobId>,
    /// Its newest attempt.
    pub attempt: u32,
    /// What it wrote itself.
    #[serde(skip)]
    pub status: Option<Status>,
    /// What the scheduler says.
    pub view: Option<JobView>,
}

/// What there is to judge a step by.
#[derive(Debug, Default)]
pub struct Witness<'a> {
    /// Its own word.
    pub status: Option<&'a Status>,
    /// What was asked of the scheduler.
    pub known: Option<&'a Known>,
    /// What the scheduler says of its job.
    pub view: Option<&'a JobView>,
    /// Why the scheduler could not be asked.
    pub trouble: Option<&'a str>,
    /// Whether an ovl is at work on this run.
    pub driven: bool,
    /// Whether the step's own process can be seen to be gone.
    pub orphaned: bool,
}

type Verdict = (Seen, String, Option<Class>);

/// Judges one step without regard to those before it.
pub fn judge(step: &Planned, witness: &Witness) -> Shown {
    let (state, text, class) = match &step.place {
        Place::Here => here(witness),
        Place::Queue(_) => queued(witness),
        Place::Join(ticket) => joined(witness, &ticket.job),
    };
    let job = match &step.place {
        Place::Join(ticket) => Some(ticket.job.clone()),
        _ => witness.known.and_then(|known| known.job.clone()),
    };
    let attempt = witness.known.map_or(1, |known| known.attempt.max(1));
    let attempt = attempt.max(witness.status.map_or(1, |status| status.attempt));
    Shown {
        index: step.index,
        name: step.name.clone(),
        state,
        text,
        class,
        job,
        attempt,
        status: witness.status.cloned(),
        view: witness.view.cloned(),
    }
}

/// What a final word of its own says.
fn own_word(status: &Status, view: Option<&JobView>) -> Option<Verdict> {
    let state = match status.state {
        State::Done => Seen::Done,
        State::Failed => Seen::Failed,
        State::Skipped => Seen::Skipped,
        State::Cancelled => Seen::Cancelled,
        _ => return None,
    };
    // A script that dies of SIGKILL cannot know why; the scheduler may.
    let class = match view.map(|view| &view.state) {
        Some(JobState::Ended(End::OutOfMemory)) if state == Seen::Failed => Some(Class::Memory),
        _ => status.class,
    };
    Some((state, status.text.clone(), class))
}

fn here(witness: &Witness) -> Verdict {
    let Some(status) = witness.status else {
        return match witness.known.and_then(|known| known.cancelled.as_ref()) {
            Some(by) => (Seen::Cancelled, format!("cancelled by {by}"), None),
            None if witness.driven => (Seen::Planned, String::new(), None),
            None => (Seen::Lost, "its run ended before its turn came".into(), Some(Class::Lost)),
        };
    };
    if let Some(verdict) = own_word(status, None) {
        return verdict;
    }
    match status.state {
        State::Interrupted => (Seen::Cancelled, "interrupted".into(), None),
        State::Planned if witness.driven => (Seen::Planned, String::new(), None),
        // Who builds here keeps the run's driver file alive.
        State::Running if witness.driven && !witness.orphaned => (Seen::Running, phase(status), None),
        _ => (Seen::Lost, "its process is gone without a word".into(), Some(Class::Lost)),
    }
}

fn phase(status: &Status) -> String {
    status.phase.clone().unwrap_or_default()
}

fn joined(witness: &Witness, job: &JobId) -> Verdict {
    if let Some(verdict) = witness.status.and_then(|status| own_word(status, witness.view)) {
        return verdict;
    }
    match (witness.view, witness.trouble) {
        (Some(view), _) => by_view(witness, view, job),
        (None, Some(trouble)) => (Seen::Unknown, format!("the scheduler cannot be asked: {trouble}"), None),
        (None, None) => (Seen::Waiting, "built by somebody else".into(), None),
    }
}

fn queued(witness: &Witness) -> Verdict {
    let attempt = witness.known.map_or(0, |known| known.attempt);
    let status = witness.status.filter(|status| status.attempt >= attempt);
    if let Some(verdict) = status.and_then(|status| own_word(status, witness.view)) {
        return verdict;
    }
    let asked = |known: &&Known| !known.name.is_empty() || known.job.is_some() || known.cancelled.is_some();
    let Some(known) = witness.known.filter(asked) else {
        return if witness.driven {
            (Seen::Planned, "not submitted yet".into(), None)
        } else {
            (Seen::Lost, "its run ended before it was submitted".into(), Some(Class::Lost))
        };
    };
    if let Some(by) = &known.cancelled {
        // Until the scheduler has done what it was asked.
        return match (witness.view.map(|view| &view.state), &known.job) {
            (Some(JobState::Running), Some(job)) => {
                (Seen::Running, format!("cancelled by {by}, but job {job} still runs"), None)
            }
            _ => (Seen::Cancelled, format!("cancelled by {by}"), None),
        };
    }
    if let Some(why) = &known.withdrawn {
        return (Seen::Failed, format!("not queued: {why}"), Some(Class::Unfit));
    }
    let Some(job) = &known.job else {
        let text = format!("being submitted as job {}", known.name);
        return if witness.driven {
            (Seen::Planned, text, None)
        } else {
            (Seen::Lost, "its submission was cut short".into(), Some(Class::Lost))
        };
    };
    // A held root that nobody will release any more.
    let held = witness.view.is_some_and(|view| view.state == JobState::Held);
    if !known.released && !witness.driven && status.is_none() && (held || !known.releasing) {
        return (Seen::Lost, format!("its submission as job {job} was cut short"), Some(Class::Lost));
    }
    match (witness.view, witness.trouble) {
        (Some(view), _) => by_view(witness, view, job),
        (None, Some(trouble)) => match status.map(|status| status.state) {
            Some(State::Running) => {
                (Seen::Running, format!("last heard of; the scheduler cannot be asked: {trouble}"), None)
            }
            _ => (Seen::Unknown, format!("the scheduler cannot be asked: {trouble}"), None),
        },
        (None, None) => {
            let text = format!("job {job} is no longer known to the scheduler, and never said how it ended");
            (Seen::Lost, text, Some(Class::Lost))
        }
    }
}

/// Reasons of pending jobs that do not pass by waiting: what they ask for is more than there is (Slurm, OpenPBS).
const NEVER: [&str; 3] = ["PartitionTimeLimit", "BadConstraints", "Can Never Run"];
/// Reasons of pending jobs whose parents are gone (Slurm, LSF).
const ORPHANED: [&str; 2] = ["DependencyNeverSatisfied", "Dependency condition invalid or never satisfied"];

fn by_view(witness: &Witness, view: &JobView, job: &JobId) -> Verdict {
    let reason = view.reason.as_deref().filter(|reason| !reason.is_empty() && *reason != "None");
    let because = |text: String| match reason {
        Some(reason) => format!("{text}: {reason}"),
        None => text,
    };
    match &view.state {
        JobState::Held => (Seen::Waiting, because(format!("job {job} is held")), None),
        JobState::Pending if reason.is_some_and(|reason| ORPHANED.iter().any(|word| reason.contains(word))) => {
            (Seen::Skipped, because(format!("job {job} can never start")), None)
        }
        JobState::Pending if reason.is_some_and(|reason| NEVER.iter().any(|word| reason.contains(word))) => {
            (Seen::Failed, because(format!("job {job} can never start")), Some(Class::Unfit))
        }
        JobState::Pending => (Seen::Waiting, because(format!("job {job} is waiting")), None),
        JobState::Running => {
            let text = witness.status.map(phase).unwrap_or_default();
            (Seen::Running, if text.is_empty() { format!("job {job}") } else { text }, None)
        }
        JobState::Other(word) => (Seen::Unknown, format!("job {job} is in state {word}"), None),
        JobState::Ended(end) => ended(end, job, reason),
    }
}

fn ended(end: &End, job: &JobId, reason: Option<&str>) -> Verdict {
    let told = |text: String| match reason {
        Some(reason) => format!("{text} ({reason})"),
        None => text,
    };
    match end {
        End::Done => (Seen::Lost, told(format!("job {job} ended without a word of the step")), Some(Class::Lost)),
        End::Failed { code, signal } => {
            let how = match (code, signal) {
                (_, Some(signal)) if *signal != 0 => format!("by signal {signal}"),
                (Some(code), _) => format!("with exit code {code}"),
                _ => "badly".into(),
            };
            let text = format!("job {job} ended {how} before the step could say why");
            (Seen::Failed, told(text), Some(Class::Internal))
        }
        End::Cancelled => (Seen::Cancelled, told(format!("job {job} was cancelled")), None),
        End::TimedOut => (Seen::Failed, format!("job {job} was ended by its time limit"), Some(Class::Time)),
        End::OutOfMemory => (Seen::Failed, format!("job {job} was killed for its memory"), Some(Class::Memory)),
        End::NodeLost => (Seen::Lost, told(format!("job {job} was lost with its node")), Some(Class::Lost)),
        End::NeverRan => (Seen::Skipped, format!("job {job} was removed before it ran: what it needs failed"), None),
        End::NotStarted(why) => (Seen::Failed, format!("job {job} could not be started: {why}"), Some(Class::Unfit)),
    }
}

/// A bad end marks everything after it: nothing is said to wait for what can never come.
pub fn spread(steps: &[Planned], shown: &mut [Shown]) {
    for index in 0..shown.len() {
        let Some(step) = steps.get(index) else { continue };
        let bad = step.after.iter().filter_map(|&parent| shown.get(parent)).find(|parent| parent.state.is_bad());
        let bad = bad.map(|parent| (parent.name.clone(), parent.state));
        let one = &mut shown[index];
        let Some((name, word)) = bad else {
            if one.view.as_ref().is_some_and(|view| view.state == JobState::Ended(End::NeverRan))
                && one.state == Seen::Skipped
                && one.status.as_ref().is_none_or(|status| status.attempt < one.attempt)
            {
                // OpenPBS tells no difference between a job that somebody deleted and one that it has dropped itself.
                let job = one.job.as_ref().map(JobId::to_string).unwrap_or_default();
                (one.state, one.class) = (Seen::Lost, Some(Class::Lost));
                one.text = format!("job {job} was removed before it ran, though all that it needs is in order");
            }
            continue;
        };
        if !one.state.is_final() && one.state != Seen::Running
            || matches!(one.state, Seen::Lost | Seen::Skipped) && one.status.is_none()
        {
            one.state = Seen::Skipped;
            one.class = None;
            one.text = match word {
                Seen::Skipped => format!("it needs {name}, which was skipped"),
                Seen::Cancelled => format!("it needs {name}, which was cancelled"),
                Seen::Lost => format!("it needs {name}, which was lost"),
                _ => format!("it needs {name}, which failed"),
            };
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::resources::Scheduler;
    use crate::sched::Used;

    fn step(index: usize, after: &[usize]) -> Planned {
        Planned {
            index,
            name: format!("s{index}/1").parse().unwrap(),
            target: "/t".into(),
            why: crate::model::meta::Why::Missing,
            place: Place::Queue(Scheduler::Slurm),
            because: String::new(),
            resources: Default::default(),
            after: after.to_vec(),
        }
    }

    fn view(state: JobState) -> JobView {
        JobView { state, word: String::new(), reason: None, node: None, used: Used::default() }
    }

    fn known() -> Known {
        Known { attempt: 1, job: Some(JobId("7".into())), released: true, ..Known::default() }
    }

    fn verdict(status: Option<State>, state: Option<JobState>, trouble: Option<&str>) -> Seen {
        let (status, view, known) = (status.map(|state| Status::new(state, 1)), state.map(view), known());
        let witness = Witness {
            status: status.as_ref(),
            known: Some(&known),
            view: view.as_ref(),
            trouble,
            ..Witness::default()
        };
        judge(&step(0, &[]), &witness).state
    }

    #[test]
    fn its_own_word_counts_before_the_schedulers() {
        let ended = |end| Some(JobState::Ended(end));
        assert_eq!(verdict(Some(State::Done), ended(End::Failed { code: Some(1), signal: None }), None), Seen::Done);
        assert_eq!(verdict(Some(State::Failed), ended(End::Done), None), Seen::Failed);
        assert_eq!(verdict(Some(State::Done), None, Some("down")), Seen::Done);
        // What never wrote one.
        assert_eq!(verdict(None, ended(End::Done), None), Seen::Lost);
        assert_eq!(verdict(Some(State::Running), ended(End::TimedOut), None), Seen::Failed);
        assert_eq!(verdict(Some(State::Interrupted), ended(End::Cancelled), None), Seen::Cancelled);
        assert_eq!(verdict(Some(State::Interrupted), Some(JobState::Pending), None), Seen::Waiting);
        assert_eq!(verdict(Some(State::Running), ended(End::NodeLost), None), Seen::Lost);
        assert_eq!(verdict(None, ended(End::NeverRan), None), Seen::Skipped);
    }

    #[test]
    fn a_scheduler_that_cannot_be_asked_proves_nothing() {
        assert_eq!(verdict(None, None, Some("connection refused")), Seen::Unknown);
        assert_eq!(verdict(Some(State::Running), None, Some("connection refused")), Seen::Running);
        assert_eq!(verdict(None, Some(JobState::Other("SIGNALING".into())), None), Seen::Unknown);
        assert_eq!(verdict(None, None, None), Seen::Lost);
        assert_eq!(verdict(Some(State::Running), None, None), Seen::Lost);
    }

    #[test]
    fn what_can_never_start_does_not_wait_for_ever() {
        let said = |reason: &str| {
            let known = known();
            let view = JobView { reason: Some(reason.into()), ..view(JobState::Pending) };
            judge(&step(0, &[]), &Witness { known: Some(&known), view: Some(&view), ..Witness::default() }).state
        };
        assert_eq!(said("Priority"), Seen::Waiting);
        assert_eq!(said("PartitionTimeLimit"), Seen::Failed);
        assert_eq!(said("Can Never Run: Insufficient amount of resource: ncpus"), Seen::Failed);
        assert_eq!(said("DependencyNeverSatisfied"), Seen::Skipped);
    }

    #[test]
    fn a_submission_that_was_cut_short_does_not_wait_for_ever() {
        let known = Known { released: false, ..known() };
        let view = view(JobState::Held);
        let mut witness = Witness { known: Some(&known), view: Some(&view), driven: true, ..Witness::default() };
        assert_eq!(judge(&step(0, &[]), &witness).state, Seen::Waiting);
        witness.driven = false;
        assert_eq!(judge(&step(0, &[]), &witness).state, Seen::Lost);
    }

    #[test]
    fn an_old_attempt_says_nothing_of_a_new_one() {
        let (status, known) = (Status::new(State::Failed, 1), Known { attempt: 2, ..known() });
        let view = view(JobState::Pending);
        let witness = Witness { status: Some(&status), known: Some(&known), view: Some(&view), ..Witness::default() };
        assert_eq!(judge(&step(0, &[]), &witness).state, Seen::Waiting);
    }

    #[test]
    fn a_bad_end_marks_every_descendant() {
        let steps = [step(0, &[]), step(1, &[0]), step(2, &[1]), step(3, &[])];
        let mut shown: Vec<Shown> = steps.iter().map(|step| judge(step, &Witness::default())).collect();
        let states = [Seen::Failed, Seen::Waiting, Seen::Unknown, Seen::Waiting];
        shown.iter_mut().zip(states).for_each(|(one, state)| one.state = state);
        spread(&steps, &mut shown);
        assert_eq!(
            shown.iter().map(|one| one.state).collect::<Vec<_>>(),
            [Seen::Failed, Seen::Skipped, Seen::Skipped, Seen::Waiting]
        );
        assert_eq!(shown[2].text, "it needs s1/1, which was skipped");
    }

    #[test]
    fn a_job_that_was_removed_while_all_it_needs_is_there_is_lost() {
        let steps = [step(0, &[]), step(1, &[0])];
        let (known, view) = (known(), view(JobState::Ended(End::NeverRan)));
        let witness = Witness { known: Some(&known), view: Some(&view), ..Witness::default() };
        let mut shown: Vec<Shown> = steps.iter().map(|step| judge(step, &witness)).collect();
        spread(&steps, &mut shown);
        assert_eq!(shown.iter().map(|one| one.state).collect::<Vec<_>>(), [Seen::Lost, Seen::Skipped]);
        assert_eq!(shown[1].text, "it needs s0/1, which was lost");
    }

    #[test]
    fn a_local_step_whose_process_is_gone_is_lost() {
        let mut local = step(0, &[]);
        local.place = Place::Here;
        let status = Status::new(State::Running, 1);
        let mut witness = Witness { status: Some(&status), driven: true, ..Witness::default() };
        assert_eq!(judge(&local, &witness).state, Seen::Running);
        witness.orphaned = true;
        assert_eq!(judge(&local, &witness).state, Seen::Lost);
        assert_eq!(judge(&local, &Witness { driven: true, ..Witness::default() }).state, Seen::Planned);
        assert_eq!(judge(&local, &Witness::default()).state, Seen::Lost);
    }
}
