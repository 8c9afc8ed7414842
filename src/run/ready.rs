//! What may start next: a state machine over tasks that need each other, with a budget. It starts nothing itself.
//!
//! A task waits for its dependencies, is ready, runs, and is done or failed; a failure skips all that needs it and
//! nothing else. Of the ready ones the lowest number that fits goes first. One that does not fit may be passed over
//! once; from then on its place is kept: only what fits beside it starts, so it waits for no one that came later.

use std::collections::BTreeSet;

/// What a task takes from the budget while it runs.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Weight {
    /// Thousandths of a CPU.
    pub cpu: u64,
    /// Memory in bytes.
    pub mem: u64,
}

impl Weight {
    fn plus(self, other: Weight) -> Weight {
        Weight { cpu: self.cpu.saturating_add(other.cpu), mem: self.mem.saturating_add(other.mem) }
    }

    fn minus(self, other: Weight) -> Weight {
        Weight { cpu: self.cpu.saturating_sub(other.cpu), mem: self.mem.saturating_sub(other.mem) }
    }
}

/// What may be taken at a time. A task that asks for more than all of it runs alone.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Budget {
    /// Tasks at once; 0 counts as 1.
    pub tasks: usize,
    /// CPU and memory for all of them.
    pub weight: Weight,
}

impl Budget {
    fn holds(&self, tasks: usize, weight: Weight) -> bool {
        tasks <= self.tasks.max(1) && weight.cpu <= self.weight.cpu && weight.mem <= self.weight.mem
    }
}

/// One task.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Task {
    /// Numbers of the tasks that must be done before.
    pub deps: Vec<usize>,
    /// What it takes.
    pub weight: Weight,
}

/// Where a task is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum State {
    /// That many of its dependencies are not done.
    Waiting(usize),
    /// It may start when there is room.
    Ready,
    /// Started, not over.
    Running,
    /// Over, well.
    Done,
    /// Over, badly.
    Failed,
    /// It never starts, because the task of this number failed.
    Skipped(usize),
}

/// How many tasks are where.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Counts {
    /// Waiting or ready.
    pub queued: usize,
    /// Started, not over.
    pub running: usize,
    /// Over, well.
    pub done: usize,
    /// Over, badly.
    pub failed: usize,
    /// Never to be started.
    pub skipped: usize,
}

/// Tasks that cannot be put into an order.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Unordered {
    /// A dependency that does not exist.
    #[error("task {task} needs task {dep}, which does not exist")]
    Unknown {
        /// Whose dependency.
        task: usize,
        /// The number that is none.
        dep: usize,
    },
    /// Tasks that wait for each other.
    #[error("task {0} waits for itself, through its dependencies")]
    Cycle(usize),
}

/// The machine.
#[derive(Debug, Clone)]
pub struct Ready {
    budget: Budget,
    weights: Vec<Weight>,
    /// Who waits for each task, ascending.
    dependents: Vec<Vec<usize>>,
    states: Vec<State>,
    /// Tasks in state Ready.
    ready: BTreeSet<usize>,
    counts: Counts,
    used: Weight,
    kept: Option<Kept>,
    stopped: bool,
}

/// A place that is kept for a task that has been passed over.
#[derive(Debug, Clone)]
struct Kept {
    task: usize,
    /// Running tasks that started after it was passed over, and what they take: they have to fit beside it.
    later: BTreeSet<usize>,
    weight: Weight,
}

impl Ready {
    /// Takes the tasks; they are numbered as they stand.
    pub fn new(tasks: &[Task], budget: Budget) -> Result<Ready, Unordered> {
        let mut dependents = vec![Vec::new(); tasks.len()];
        let mut states = Vec::with_capacity(tasks.len());
        for (number, task) in tasks.iter().enumerate() {
            let deps: BTreeSet<usize> = task.deps.iter().copied().collect();
            for &dep in &deps {
                let list: &mut Vec<usize> = dependents.get_mut(dep).ok_or(Unordered::Unknown { task: number, dep })?;
                list.push(number);
            }
            states.push(State::Waiting(deps.len()));
        }
        let mut made = Ready {
            budget,
            weights: tasks.iter().map(|task| task.weight).collect(),
            dependents,
            counts: Counts { queued: states.len(), ..Counts::default() },
            states,
            ready: BTreeSet::new(),
            used: Weight::default(),
            kept: None,
            stopped: false,
        };
        made.refuse_cycles()?;
        for number in 0..tasks.len() {
            if made.states[number] == State::Waiting(0) {
                made.set(number, State::Ready);
            }
        }
        Ok(made)
    }

    fn refuse_cycles(&self) -> Result<(), Unordered> {
        let mut left: Vec<usize> =
            self.states.iter().map(|state| if let State::Waiting(count) = state { *count } else { 0 }).collect();
        let mut open: Vec<usize> = (0..left.len()).filter(|&number| left[number] == 0).collect();
        while let Some(number) = open.pop() {
            for &next in &self.dependents[number] {
                left[next] -= 1;
                if left[next] == 0 {
                    open.push(next);
                }
            }
        }
        match left.iter().position(|&count| count > 0) {
            Some(number) => Err(Unordered::Cycle(number)),
            None => Ok(()),
        }
    }

    /// How many tasks there are.
    pub fn len(&self) -> usize {
        self.states.len()
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.states.is_empty()
    }

    /// How many may run at once, whatever they take.
    pub fn at_once(&self) -> usize {
        self.budget.tasks.max(1)
    }

    /// Where a task is; None for a number that is none.
    pub fn state(&self, number: usize) -> Option<State> {
        self.states.get(number).copied()
    }

    /// How many tasks are where.
    pub fn counts(&self) -> Counts {
        self.counts
    }

    /// Whether nothing runs and nothing will.
    pub fn is_over(&self) -> bool {
        self.counts.running == 0 && (self.stopped || self.counts.queued == 0)
    }

    /// Whether [`Ready::stop`] was called.
    pub fn is_stopped(&self) -> bool {
        self.stopped
    }

    /// From now on nothing starts; what waits or is ready stays so.
    pub fn stop(&mut self) {
        self.stopped = true;
    }

    /// Starts a task, if one may start now: it is running when this returns.
    pub fn start_next(&mut self) -> Option<usize> {
        if self.stopped {
            return None;
        }
        let number = self.ready.iter().copied().find(|&number| self.may_start(number))?;
        let passed_over = self.ready.first().copied().filter(|&first| first < number);
        self.set(number, State::Running);
        if self.kept.is_none()
            && let Some(task) = passed_over
        {
            self.kept = Some(Kept { task, later: BTreeSet::new(), weight: Weight::default() });
        }
        Some(number)
    }

    fn may_start(&self, number: usize) -> bool {
        if self.counts.running == 0 {
            // Whoever has a place kept for it has waited for this moment.
            return self.kept.as_ref().is_none_or(|kept| kept.task == number);
        }
        let weight = self.weights[number];
        if !self.budget.holds(self.counts.running + 1, self.used.plus(weight)) {
            return false;
        }
        match &self.kept {
            Some(kept) if kept.task != number => {
                let beside = kept.weight.plus(weight).plus(self.weights[kept.task]);
                self.budget.holds(kept.later.len() + 2, beside)
            }
            _ => true,
        }
    }

    /// Notes that a running task is over. Returns those that are skipped because of it, ascending. Anything but a
    /// running task is left as it is.
    pub fn done(&mut self, number: usize, well: bool) -> Vec<usize> {
        if self.state(number) != Some(State::Running) {
            return Vec::new();
        }
        self.set(number, if well { State::Done } else { State::Failed });
        if well {
            for at in 0..self.dependents[number].len() {
                let next = self.dependents[number][at];
                match self.states[next] {
                    State::Waiting(0 | 1) => self.set(next, State::Ready),
                    State::Waiting(count) => self.set(next, State::Waiting(count - 1)),
                    _ => {}
                }
            }
            return Vec::new();
        }
        let mut skipped = BTreeSet::new();
        let mut open = vec![number];
        while let Some(from) = open.pop() {
            for at in 0..self.dependents[from].len() {
                let next = self.dependents[from][at];
                if matches!(self.states[next], State::Waiting(_)) {
                    self.set(next, State::Skipped(number));
                    skipped.insert(next);
                    open.push(next);
                }
            }
        }
        skipped.into_iter().collect()
    }

    /// The one place where a state changes, and with it all that is counted.
    fn set(&mut self, number: usize, to: State) {
        let from = std::mem::replace(&mut self.states[number], to);
        *self.count(from) -= 1;
        *self.count(to) += 1;
        match from {
            State::Ready => {
                self.ready.remove(&number);
            }
            State::Running => {
                self.used = self.used.minus(self.weights[number]);
                if let Some(kept) = &mut self.kept
                    && kept.later.remove(&number)
                {
                    kept.weight = kept.weight.minus(self.weights[number]);
                }
            }
            _ => {}
        }
        match to {
            State::Ready => {
                self.ready.insert(number);
            }
            State::Running => {
                self.used = self.used.plus(self.weights[number]);
                match &mut self.kept {
                    Some(kept) if kept.task == number => self.kept = None,
                    Some(kept) => {
                        kept.later.insert(number);
                        kept.weight = kept.weight.plus(self.weights[number]);
                    }
                    None => {}
                }
            }
            _ => {}
        }
    }

    fn count(&mut self, state: State) -> &mut usize {
        match state {
            State::Waiting(_) | State::Ready => &mut self.counts.queued,
            State::Running => &mut self.counts.running,
            State::Done => &mut self.counts.done,
            State::Failed => &mut self.counts.failed,
            State::Skipped(_) => &mut self.counts.skipped,
        }
    }
}

#[cfg(test)]
pub(in crate::run) mod tests;
