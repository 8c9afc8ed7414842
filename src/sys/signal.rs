//! Ctrl-C and its relatives: the first one asks the running work to stop and clean up, a second one ends at once.

#![allow(unsafe_code)]

use std::sync::atomic::{AtomicI32, AtomicI64, Ordering};

use nix::libc;
use nix::sys::signal::{SaFlags, SigAction, SigHandler, SigSet, Signal, sigaction};

static CAUGHT: AtomicI32 = AtomicI32::new(0);
static WHEN: AtomicI64 = AtomicI64::new(0);

extern "C" fn note(signal: libc::c_int) {
    let mut time = libc::timespec { tv_sec: 0, tv_nsec: 0 };
    // SAFETY: clock_gettime is async-signal-safe, and `time` lives until it returns.
    unsafe { libc::clock_gettime(libc::CLOCK_MONOTONIC, &raw mut time) };
    if CAUGHT.compare_exchange(0, signal, Ordering::SeqCst, Ordering::SeqCst).is_ok() {
        WHEN.store(time.tv_sec, Ordering::SeqCst);
    } else if signal == libc::SIGINT && time.tv_sec - WHEN.load(Ordering::SeqCst) >= 1 {
        // Ctrl-C once more: the user does not want to wait for the cleaning. Other pairs (a terminal that closes, a
        // scheduler that sends two signals) are one wish.
        // SAFETY: _exit is async-signal-safe.
        unsafe { libc::_exit(130) };
    }
}

/// From now on SIGINT, SIGTERM and SIGHUP are noted instead of ending the process. One that whoever started the
/// process has had ignored (nohup does) stays so.
pub fn catch_interrupts() {
    let action = SigAction::new(SigHandler::Handler(note), SaFlags::empty(), SigSet::empty());
    for signal in [Signal::SIGINT, Signal::SIGTERM, Signal::SIGHUP] {
        // SAFETY: the handler only makes async-signal-safe calls and touches atomics.
        let before = unsafe { sigaction(signal, &action) };
        if let Ok(before) = before
            && matches!(before.handler(), SigHandler::SigIgn)
        {
            // SAFETY: puts back what was there.
            let _ = unsafe { sigaction(signal, &before) };
        }
    }
}

/// The interrupting signal that has come, if any.
pub fn interrupted() -> Option<i32> {
    match CAUGHT.load(Ordering::SeqCst) {
        0 => None,
        signal => Some(signal),
    }
}

/// Writing to a closed pipe ends the process quietly, as users of `| head` expect (Rust starts with it ignored).
pub fn die_on_closed_pipe() {
    let action = SigAction::new(SigHandler::SigDfl, SaFlags::empty(), SigSet::empty());
    // SAFETY: restores the default disposition; no handler runs.
    let _ = unsafe { sigaction(Signal::SIGPIPE, &action) };
}

/// The ends of children are told again: whoever started this process may have had SIGCHLD ignored (some services do,
/// and it is inherited), and then nobody could be waited for.
pub fn hear_of_children() {
    let action = SigAction::new(SigHandler::SigDfl, SaFlags::empty(), SigSet::empty());
    // SAFETY: restores the default disposition; no handler runs.
    let _ = unsafe { sigaction(Signal::SIGCHLD, &action) };
}
