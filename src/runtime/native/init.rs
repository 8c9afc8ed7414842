//! A process table of its own: the caller waits for an init (process 1 inside), the init for the command. When either
//! dies, the kernel ends everything inside.

use std::convert::Infallible;
use std::os::fd::OwnedFd;

use nix::unistd::Pid;
use serde::{Deserialize, Serialize};

use super::files::Tell;
use super::server::Server;
use super::{confine, program, root};
use crate::exec::Invocation;
use crate::runtime::error::{Report, Result, RuntimeError};
use crate::runtime::writable::Place;
use crate::sys::fork::{self, Ended, Side, Signals};
use crate::sys::pass;
use crate::sys::userns::Refusal;

/// What comes from inside.
#[derive(Serialize, Deserialize)]
enum Word {
    /// The command could not be started.
    Failed(Report),
    /// The command ended with this code.
    Code(i32),
    /// The command was ended by this signal.
    Signal(i32),
}

/// Runs the command under an init of its own; the caller has entered the new user namespace.
pub fn run(invocation: &Invocation, server: Option<Server>, place: Option<Place>, say: Tell) -> Result<Infallible> {
    let (here, there) = pass::pair().map_err(Refusal::new("make a pair of sockets"))?;
    let signals = Signals::catch().map_err(Refusal::new("catch signals"))?;
    match fork::fork().map_err(Refusal::new("start a process in a new process table"))? {
        Side::Child => {
            drop(here);
            let ended = inside(invocation, server, place, say, &there, &signals);
            tell(&there, &ended.unwrap_or_else(|error| Word::Failed(error.report())));
            fork::end_now(0)
        }
        Side::Parent(init) => {
            drop((there, server));
            let word = listen(&here, init, &signals);
            let _ = fork::wait(init);
            match word {
                Some(Word::Failed(report)) => {
                    signals.release();
                    Err(RuntimeError::Reported(report))
                }
                Some(Word::Code(code)) => fork::end_like(Ended::Code(code)),
                Some(Word::Signal(number)) => fork::end_like(Ended::Signal(number)),
                // Killed from outside, and all that was inside with it.
                None => fork::end_like(Ended::Signal(9)),
            }
        }
    }
}

/// Waits for a word from inside and passes signals on meanwhile. None when all inside is gone.
fn listen(socket: &OwnedFd, init: Pid, signals: &Signals) -> Option<Word> {
    while !signals.pass_on(init, Some(socket)).ok()? {}
    serde_json::from_slice(&pass::receive(socket).ok()?.0).ok()
}

fn tell(socket: &OwnedFd, word: &Word) {
    if let Ok(message) = serde_json::to_vec(word) {
        let _ = pass::send(socket, &message, &[]);
    }
}

/// Process 1: builds the root, starts the command, collects whatever ends.
fn inside(
    invocation: &Invocation,
    server: Option<Server>,
    place: Option<Place>,
    say: Tell,
    socket: &OwnedFd,
    signals: &Signals,
) -> Result<Word> {
    fork::die_with_parent().map_err(Refusal::new("tie the command to its caller"))?;
    if fork::hung_up(socket) {
        fork::end_now(1);
    }
    drop(root::build(invocation, server, place, say)?);
    confine(invocation)?;
    let main = match fork::fork().map_err(Refusal::new("start the command"))? {
        Side::Child => {
            signals.release();
            let error = match program::run(invocation) {
                Err(error) => error,
                Ok(never) => match never {},
            };
            tell(socket, &Word::Failed(error.report()));
            fork::end_now(i32::from(error.exit_code()));
        }
        Side::Parent(main) => main,
    };
    loop {
        if let Some(ended) = fork::reap(main) {
            return Ok(match ended {
                Ended::Code(code) => Word::Code(code),
                Ended::Signal(number) => Word::Signal(number),
            });
        }
        signals.pass_on(main, None).map_err(Refusal::new("wait for the command"))?;
    }
}
