//! Running a command with an image to write to. This process stays: it passes signals on, waits until everything is in
//! the image (a job that ends earlier would have its servers killed), and ends as the command ended.

use std::convert::Infallible;
use std::os::fd::OwnedFd;
use std::path::Path;
use std::time::Duration;

use super::keeper::{self, Word};
use super::{hold, mend, place};
use crate::exec::Invocation;
use crate::runtime::error::{Report, Result, RuntimeError};
use crate::runtime::native::{self, Server};
use crate::sys::fork::{self, Ended, Side, Signals};
use crate::sys::lock::Kind;
use crate::sys::userns::Refusal;
use crate::sys::{meet, pass};

/// A user and a group.
type Ids = (u32, u32);

/// How often it is looked whether anything still runs that the command has started.
const LOOK: Duration = Duration::from_millis(300);

/// Runs the command of an invocation with `image` writable.
///
/// # Errors
/// When it could not be started; this process is where and what it was then.
pub fn exec(invocation: &Invocation, image: &Path, tell: &dyn Fn(&str)) -> Result<Infallible> {
    let held = hold::hold(image, Kind::Write)?;
    if !held.locked {
        tell(&hold::unlocked(image));
    }
    let seen = mend::ready(image, &held, tell)?;
    let way = keeper::Way::find(&held)?;
    let me = native::seen_as(invocation);
    let keeper = keeper::start(held, seen, way)?;
    let (here, there) = pass::pair().map_err(Refusal::new("make a pair of sockets"))?;
    let signals = Signals::catch().map_err(Refusal::new("catch signals"))?;
    match fork::fork().map_err(Refusal::new("start the command's process"))? {
        Side::Child => {
            drop(here);
            signals.release();
            let error = match inside(invocation, &keeper, (seen, me), &there, tell) {
                Err(error) => error,
                Ok(never) => match never {},
            };
            let report = serde_json::to_vec(&error.report()).unwrap_or_default();
            let _ = pass::send(&there, &report, &[]);
            fork::end_now(i32::from(error.exit_code()))
        }
        Side::Parent(child) => {
            drop(there);
            let ended = wait(child, &signals)?;
            let why = pass::receive(&here).ok().and_then(|(text, _)| serde_json::from_slice::<Report>(&text).ok());
            // From here on a signal ends the waiting, not the closing.
            signals.release();
            closed(&keeper, image, why.is_some(), tell);
            match why {
                None => fork::end_like(ended),
                Some(report) => Err(reported(report)),
            }
        }
    }
}

/// Another runtime may have what this one lacks.
fn reported(report: Report) -> RuntimeError {
    match (report.code, &report.hint) {
        (7, Some(hint)) => RuntimeError::Missing { what: report.text, hint: hint.clone() },
        _ => RuntimeError::Reported(report),
    }
}

fn wait(child: fork::Pid, signals: &Signals) -> Result<Ended> {
    loop {
        if let Some(ended) = fork::reap(child) {
            return Ok(ended);
        }
        signals.pass_on(child, None).map_err(Refusal::new("wait for the command"))?;
    }
}

/// Waits until the image is closed, which is when the last process that sees it has ended. `failed`: the command's process
/// has said what went wrong.
fn closed(keeper: &OwnedFd, image: &Path, failed: bool, tell: &dyn Fn(&str)) {
    // The command may have ended before it took anything with it.
    let _ = pass::end(keeper);
    let mut told = false;
    loop {
        if !meet::wait(keeper, LOOK).unwrap_or(true) {
            if !told {
                told = true;
                tell(&format!(
                    "waiting until {} is closed: something that the command has started may still use it",
                    image.display()
                ));
            }
            continue;
        }
        let word = pass::receive(keeper).ok().filter(|(text, _)| !text.is_empty());
        match word.and_then(|(text, _)| serde_json::from_slice(&text).ok()) {
            Some(Word::Closed) => return,
            Some(Word::Unclean(report)) => {
                tell(&format!("{}: {}; it is repaired when it is used next", image.display(), report.text));
                return;
            }
            // Not for the command, which has ended.
            Some(_) => {}
            None if failed => return,
            None => {
                tell(&format!("{}: its keeper was killed; it is repaired when it is used next", image.display()));
                return;
            }
        }
    }
}

/// The command's process.
fn inside(
    invocation: &Invocation,
    keeper: &OwnedFd,
    (seen, me): (Ids, Ids),
    parent: &OwnedFd,
    tell: &dyn Fn(&str),
) -> Result<Infallible> {
    fork::die_with_parent().map_err(Refusal::new("tie the command to its caller"))?;
    if fork::hung_up(parent) {
        fork::end_now(1);
    }
    // In the keeper's namespace files belong to whom the image's belong to.
    let served = Invocation { fakeroot: seen == (0, 0), ..invocation.clone() };
    let server = if native::has_tree(invocation) { Some(Server::start(&served, None)?) } else { None };
    let place = place::join(keeper, invocation, server.as_ref())?;
    drop(server);
    native::enter_and_run(invocation, None, Some(place), me, tell)
}
