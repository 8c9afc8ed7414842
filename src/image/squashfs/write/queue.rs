//! The queue between planner, workers and writer: units are worked on by anybody and taken in the planner's order;
//! a byte budget bounds what is under way; the first failure, or the user, stops everybody.

use std::collections::{BTreeMap, VecDeque};
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use super::super::super::error::{ImageError, Result};
use super::Watch;
use super::unit::{Filled, Unit};

/// How long a waiting thread sleeps at most before it asks whether it should stop.
const NAP: Duration = Duration::from_millis(50);

/// The queue.
pub(super) struct Queue<'a, H> {
    state: Mutex<State<H>>,
    changed: Condvar,
    work: Condvar,
    watch: &'a dyn Watch,
    budget: usize,
}

struct State<H> {
    waiting: VecDeque<(u64, Unit<H>)>,
    filled: BTreeMap<u64, Filled<H>>,
    buffers: Vec<Vec<u8>>,
    handed_in: u64,
    taken: u64,
    under_way: usize,
    closed: bool,
    stopped: bool,
    failure: Option<ImageError>,
}

/// A unit to work on, its number, and a used buffer for what comes of it.
pub(super) type Task<H> = (u64, Unit<H>, Vec<u8>);

impl<'a, H> Queue<'a, H> {
    /// An empty queue for this many bytes under way (always at least one unit).
    pub fn new(budget: usize, watch: &'a dyn Watch) -> Queue<'a, H> {
        let state = State {
            waiting: VecDeque::new(),
            filled: BTreeMap::new(),
            buffers: Vec::new(),
            handed_in: 0,
            taken: 0,
            under_way: 0,
            closed: false,
            stopped: false,
            failure: None,
        };
        Queue { state: Mutex::new(state), changed: Condvar::new(), work: Condvar::new(), watch, budget }
    }

    fn lock(&self) -> MutexGuard<'_, State<H>> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// [`ImageError::Interrupted`] once work is to stop.
    pub fn check(&self) -> Result<()> {
        if self.watch.cancelled() {
            self.fail(ImageError::Interrupted);
        }
        if self.lock().stopped { Err(ImageError::Interrupted) } else { Ok(()) }
    }

    /// Stops everybody; the first failure is the one that is reported.
    pub fn fail(&self, error: ImageError) {
        let mut state = self.lock();
        state.stopped = true;
        state.failure.get_or_insert(error);
        drop(state);
        self.changed.notify_all();
        self.work.notify_all();
    }

    /// The first failure, once everybody is done.
    pub fn failure(&self) -> Option<ImageError> {
        self.lock().failure.take()
    }

    /// Waits until `ready` gives something, or work is to stop.
    fn wait<T>(&self, bell: &Condvar, mut ready: impl FnMut(&mut State<H>) -> Option<T>) -> Result<T> {
        let mut state = self.lock();
        loop {
            if state.stopped {
                return Err(ImageError::Interrupted);
            }
            if let Some(found) = ready(&mut state) {
                return Ok(found);
            }
            let (woken, slept) = bell.wait_timeout(state, NAP).unwrap_or_else(PoisonError::into_inner);
            state = woken;
            if slept.timed_out() && self.watch.cancelled() {
                drop(state);
                self.fail(ImageError::Interrupted);
                state = self.lock();
            }
        }
    }

    /// Planner: hands a unit in, as soon as the budget allows.
    pub fn hand_in(&self, unit: Unit<H>) -> Result<()> {
        self.check()?;
        let cost = unit.cost();
        self.wait(&self.changed, |state| {
            (state.under_way == 0 || state.under_way + cost <= self.budget).then_some(())
        })?;
        let mut state = self.lock();
        state.under_way += cost;
        let number = state.handed_in;
        state.handed_in += 1;
        state.waiting.push_back((number, unit));
        drop(state);
        self.work.notify_one();
        Ok(())
    }

    /// Planner: there will be no more.
    pub fn close(&self) {
        self.lock().closed = true;
        self.work.notify_all();
        self.changed.notify_all();
    }

    /// Worker: the next unit with its number and a used buffer; None when there will be no more.
    pub fn next(&self) -> Result<Option<Task<H>>> {
        self.wait(&self.work, |state| match state.waiting.pop_front() {
            Some((number, unit)) => Some(Some((number, unit, state.buffers.pop().unwrap_or_default()))),
            None => state.closed.then_some(None),
        })
    }

    /// Worker: a unit is filled.
    pub fn filled(&self, number: u64, filled: Filled<H>) {
        let mut state = self.lock();
        state.filled.insert(number, filled);
        let wanted = number == state.taken;
        drop(state);
        if wanted {
            self.changed.notify_all();
        }
    }

    /// Writer: the next unit in order; None after the last.
    pub fn take(&self) -> Result<Option<Filled<H>>> {
        self.wait(&self.changed, |state| {
            if let Some(filled) = state.filled.remove(&state.taken) {
                state.taken += 1;
                return Some(Some(filled));
            }
            (state.closed && state.taken == state.handed_in).then_some(None)
        })
    }

    /// Writer: the unit's bytes are written; its buffer may be used again.
    pub fn written(&self, cost: usize, buffer: Vec<u8>) {
        let mut state = self.lock();
        state.under_way -= cost.min(state.under_way);
        if !buffer.is_empty() && state.buffers.len() < 16 {
            state.buffers.push(buffer);
        }
        drop(state);
        self.changed.notify_all();
    }
}

/// Stops everybody when the thread that holds it panics, so that nobody waits for it for ever.
pub(super) struct Guard<'q, 'a, H>(pub &'q Queue<'a, H>);

impl<H> Drop for Guard<'_, '_, H> {
    fn drop(&mut self) {
        if std::thread::panicking() {
            self.0.fail(ImageError::corrupt("a thread of the packer ended unexpectedly"));
        }
    }
}
