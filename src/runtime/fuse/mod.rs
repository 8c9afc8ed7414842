//! A read-only FUSE server: requests are read from the device, answered from a [`Tree`](super::tree::Tree), written
//! back. More threads join when reading is slow; all end when the file system is unmounted.

mod abi;
mod ahead;
mod answer;
#[cfg(test)]
mod hostile;
mod streams;

use std::fs::File;
use std::io::{ErrorKind, Read, Write};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;

use abi::{Reply, Request};
pub use answer::Answers;
use answer::Verdict;

/// Room for one request; the kernel wants 8 KiB at least when nothing is written.
const REQUEST: usize = 16 << 10;
const EIO: i32 = 5;

/// Room for one thread's calls.
const STACK: usize = 512 << 10;

/// Serves until the file system is unmounted, with at most `most_threads` threads, and one that looks ahead.
pub fn serve(device: &File, answers: &Answers, most_threads: usize) {
    let crew = Crew { device, answers, idle: AtomicUsize::new(0), total: AtomicUsize::new(1), most: most_threads };
    thread::scope(|scope| {
        crew.work(scope);
        answers.ahead.close();
    });
}

struct Crew<'a> {
    device: &'a File,
    answers: &'a Answers,
    /// Threads waiting for a request.
    idle: AtomicUsize,
    total: AtomicUsize,
    most: usize,
}

impl Crew<'_> {
    fn work<'scope>(&'scope self, scope: &'scope thread::Scope<'scope, '_>) {
        let mut buffer = vec![0; REQUEST];
        let mut reply = Reply::default();
        loop {
            self.idle.fetch_add(1, Ordering::Relaxed);
            let got = (&mut &*self.device).read(&mut buffer);
            self.idle.fetch_sub(1, Ordering::Relaxed);
            let length = match got {
                Ok(length) => length,
                // ENOENT: the request was interrupted before it was read.
                Err(error) if matches!(error.kind(), ErrorKind::NotFound | ErrorKind::Interrupted) => continue,
                Err(error) if error.kind() == ErrorKind::WouldBlock => continue,
                // ENODEV: unmounted. Anything else cannot be helped either.
                Err(_) => return,
            };
            let Some(request) = buffer.get(..length).and_then(Request::parse) else { return };
            if Answers::is_slow(&request) {
                self.call_help(scope);
            }
            reply.start();
            // No image can make the reader panic; should one do so nevertheless, one file is lost, not all.
            let answer = catch_unwind(AssertUnwindSafe(|| self.answers.answer(&request, &mut reply)));
            match answer.unwrap_or(Verdict::Send(EIO)) {
                // ENOENT: whoever asked is gone. ENODEV shows itself at the next read.
                Verdict::Send(error) => {
                    let _ = (&mut &*self.device).write(reply.finish(request.unique, error));
                    if error == 0 && self.answers.afterwards(&request) {
                        self.look_ahead(scope);
                    }
                }
                Verdict::Silent => {}
                Verdict::End => return,
            }
        }
    }

    /// Starts the thread that prepares what will be asked for; where that is impossible, nobody does.
    fn look_ahead<'scope>(&'scope self, scope: &'scope thread::Scope<'scope, '_>) {
        let answers = self.answers;
        let started = thread::Builder::new().stack_size(STACK).spawn_scoped(scope, || answers.look_ahead());
        if started.is_err() {
            answers.ahead.close();
        }
    }

    /// Starts another thread when nobody is waiting for requests.
    fn call_help<'scope>(&'scope self, scope: &'scope thread::Scope<'scope, '_>) {
        if self.idle.load(Ordering::Relaxed) > 0 || self.total.load(Ordering::Relaxed) >= self.most {
            return;
        }
        self.total.fetch_add(1, Ordering::Relaxed);
        let started = thread::Builder::new().stack_size(STACK).spawn_scoped(scope, move || self.work(scope));
        if started.is_err() {
            self.total.fetch_sub(1, Ordering::Relaxed);
        }
    }
}
