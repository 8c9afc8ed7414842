//! Tasks on this machine: a pool of threads carries out what [`Ready`] lets start. Nothing is printed here.

use std::any::Any;
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, channel};
use std::time::Duration;

use rayon::ThreadPoolBuilder;

use super::ready::{Ready, State};

/// How often `stop` is asked while tasks run.
const GLANCE: Duration = Duration::from_millis(100);

/// What came of a task.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Outcome<T, E> {
    /// It ended well.
    Done(T),
    /// It ended badly.
    Failed(E),
    /// It was not started, because something it needs failed.
    Skipped {
        /// The number of the task that failed.
        cause: usize,
    },
    /// It was not started, because all was stopped before.
    NotStarted,
}

/// Carries out all tasks, and returns what came of each, in their order.
///
/// A failure skips what needs the failed task; with `fail_fast` nothing new starts after it. Once `stop` says yes
/// (it is asked several times a second) nothing new starts either; what runs is waited for. `skipped` hears of each
/// skipped task and the failed one at once, on the calling thread. A panic in a task is a defect, not a failed build:
/// what runs is waited for, then the panic goes on in the calling thread.
///
/// Every started task has a thread of its own, so that it may block. One that uses rayon itself should do so in a
/// pool of its own: in this one it might take up another task while it waits. Where the system grants no threads,
/// tasks run one after another in this one.
pub fn run<T: Send, E: Send>(
    ready: Ready,
    fail_fast: bool,
    stop: &(dyn Fn() -> bool + Sync),
    task: &(dyn Fn(usize) -> Result<T, E> + Sync),
    skipped: &mut dyn FnMut(usize, usize),
) -> Vec<Outcome<T, E>> {
    let (tell, told) = channel();
    let attempt = |number: usize, tell: &Sender<News<T, E>>| {
        let result = catch_unwind(AssertUnwindSafe(|| task(number)));
        // The receiver outlives all tasks.
        let _ = tell.send((number, result));
    };
    let threads = ready.at_once().min(ready.len()).max(1);
    let pool = ThreadPoolBuilder::new()
        .num_threads(threads)
        .thread_name(|number| format!("task-{number}"))
        .stack_size(8 << 20)
        .build();
    let lead = Lead { ready, fail_fast, stop, skipped };
    match pool {
        Ok(pool) => pool.in_place_scope(|scope| {
            lead.run(&told, &mut |number| {
                let tell = tell.clone();
                scope.spawn(move |_| attempt(number, &tell));
            })
        }),
        Err(_) => lead.run(&told, &mut |number| attempt(number, &tell)),
    }
}

/// The number of a task that is over, and what came of it; the outer error is a panic.
type News<T, E> = (usize, Result<Result<T, E>, Box<dyn Any + Send>>);

/// What the calling thread does: start what may start, take the news, note them.
struct Lead<'a> {
    ready: Ready,
    fail_fast: bool,
    stop: &'a (dyn Fn() -> bool + Sync),
    skipped: &'a mut dyn FnMut(usize, usize),
}

impl Lead<'_> {
    fn run<T, E>(mut self, told: &Receiver<News<T, E>>, start: &mut dyn FnMut(usize)) -> Vec<Outcome<T, E>> {
        let mut results: Vec<Option<Result<T, E>>> = (0..self.ready.len()).map(|_| None).collect();
        let mut panic: Option<Box<dyn Any + Send>> = None;
        loop {
            // Asked before each start: what was asked for while the last one started counts.
            while !self.is_stopped()
                && let Some(number) = self.ready.start_next()
            {
                start(number);
            }
            if self.ready.is_over() {
                break;
            }
            let (number, result) = match told.recv_timeout(GLANCE) {
                Ok(news) => news,
                Err(RecvTimeoutError::Timeout) => continue,
                Err(RecvTimeoutError::Disconnected) => break,
            };
            let well = matches!(result, Ok(Ok(_)));
            if result.is_err() || !well && self.fail_fast {
                self.ready.stop();
            }
            for descendant in self.ready.done(number, well) {
                (self.skipped)(descendant, number);
            }
            match result {
                Ok(result) => results[number] = Some(result),
                Err(payload) => panic = panic.or(Some(payload)),
            }
        }
        if let Some(payload) = panic {
            resume_unwind(payload);
        }
        let outcome = |(number, result): (usize, Option<Result<T, E>>)| match (result, self.ready.state(number)) {
            (Some(Ok(value)), _) => Outcome::Done(value),
            (Some(Err(error)), _) => Outcome::Failed(error),
            (None, Some(State::Skipped(cause))) => Outcome::Skipped { cause },
            (None, _) => Outcome::NotStarted,
        };
        results.into_iter().enumerate().map(outcome).collect()
    }

    fn is_stopped(&mut self) -> bool {
        if (self.stop)() {
            self.ready.stop();
        }
        self.ready.is_stopped()
    }
}

#[cfg(test)]
mod tests;
