//! Tells the listener how far transfers and archives are, and whether to stop.

use std::sync::Mutex;
use std::time::{Duration, Instant};

use crate::build::job::Job;
use crate::build::step::Step;
use crate::image::squashfs::write;
use crate::model::event::{Event, Listener};
use crate::net;

/// Progress of a build.
pub struct Told<'a> {
    step: &'a Step,
    listener: &'a dyn Listener,
    until: Option<Instant>,
    last: Mutex<Instant>,
}

impl<'a> Told<'a> {
    /// Tells it to the build's listener.
    pub fn new(job: &'a Job<'a>) -> Told<'a> {
        let until = job.left().and_then(|left| Instant::now().checked_add(left));
        Told { until, ..Told::of(job.step, job.listener) }
    }

    /// Tells it to a listener, for a step that is to be built elsewhere.
    pub fn of(step: &'a Step, listener: &'a dyn Listener) -> Told<'a> {
        Told { step, listener, until: None, last: Mutex::new(Instant::now()) }
    }

    fn tell(&self, done: u64, total: Option<u64>) {
        let Ok(mut last) = self.last.try_lock() else { return };
        if last.elapsed() > Duration::from_millis(200) {
            *last = Instant::now();
            self.listener.hear(&Event::Amount { name: self.step.name().clone(), done, total });
        }
    }

    fn stop(&self) -> bool {
        self.step.stop.is_set() || self.until.is_some_and(|until| Instant::now() >= until)
    }
}

impl net::Watch for Told<'_> {
    fn progress(&self, done: u64, total: Option<u64>) {
        self.tell(done, total);
    }

    fn cancelled(&self) -> bool {
        self.stop()
    }

    fn waits_for(&self, what: &str) {
        self.listener.hear(&Event::Waiting { name: self.step.name().clone(), reason: what.to_owned() });
    }
}

impl write::Watch for Told<'_> {
    fn progress(&self, done: u64, total: Option<u64>) {
        self.tell(done, total);
    }

    fn cancelled(&self) -> bool {
        self.stop()
    }
}
