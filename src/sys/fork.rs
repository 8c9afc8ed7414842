//! Processes made by hand: forking, a detached server, becoming another program, waiting, signals.

#![allow(unsafe_code, clippy::disallowed_methods)]

use std::ffi::CString;
use std::fs::{self, File};
use std::io;
use std::os::fd::{AsFd, AsRawFd, OwnedFd, RawFd};
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::Command;

use nix::errno::Errno;
use nix::libc;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::signal::{SigHandler, SigSet, SigmaskHow, Signal, kill, raise, signal, sigprocmask};
use nix::sys::signalfd::{SfdFlags, SignalFd};
use nix::sys::wait::{WaitPidFlag, WaitStatus, waitpid};
use nix::unistd::ForkResult;
pub use nix::unistd::Pid;

/// Which side of a fork this is.
#[derive(Debug)]
pub enum Side {
    /// The new process.
    Child,
    /// The one that forked, with the child's number.
    Parent(Pid),
}

/// How a process ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Ended {
    /// With this code.
    Code(i32),
    /// By this signal.
    Signal(i32),
}

/// Forks this process, which must have one thread only.
pub fn fork() -> io::Result<Side> {
    // SAFETY: callers have a single thread (`userns::threads`), so no lock can be held by a thread that is not copied.
    match unsafe { nix::unistd::fork() }? {
        ForkResult::Child => Ok(Side::Child),
        ForkResult::Parent { child } => Ok(Side::Parent(child)),
    }
}

/// Runs `work` in a process that belongs to nobody: not a child of the caller, no terminal, no standard streams, no
/// signal but SIGKILL, no open files but those of `keep`, working directory `/`. It ends when `work` returns.
pub fn detached(keep: Vec<OwnedFd>, work: impl FnOnce(Vec<OwnedFd>)) -> io::Result<()> {
    match fork()? {
        Side::Parent(child) => {
            drop(keep);
            wait(child).map(|_| ())
        }
        Side::Child => {
            let _ = nix::unistd::setsid();
            if !matches!(fork(), Ok(Side::Child)) {
                end_now(0);
            }
            // Schedulers signal every process of a job; the command may need its files until it has ended.
            let _ = sigprocmask(SigmaskHow::SIG_SETMASK, Some(&SigSet::all()), None);
            let _ = nix::unistd::chdir("/");
            if let Ok(null) = fs::OpenOptions::new().read(true).write(true).open("/dev/null") {
                let _ = nix::unistd::dup2_stdin(&null);
                let _ = nix::unistd::dup2_stdout(&null);
                let _ = nix::unistd::dup2_stderr(&null);
            }
            close_all_but(&keep);
            work(keep);
            end_now(0)
        }
    }
}

/// Closes every descriptor from 3 on but these; for a process that will use none of its owned files any more.
fn close_all_but(keep: &[OwnedFd]) {
    let mut kept: Vec<u32> = keep.iter().map(|fd| fd.as_raw_fd().unsigned_abs()).filter(|&fd| fd > 2).collect();
    kept.sort_unstable();
    let close_range = |first: u32, last: u32| {
        // SAFETY: closing descriptors touches no memory; in this process nothing else will use them.
        first > last || unsafe { libc::syscall(libc::SYS_close_range, first, last, 0) } == 0
    };
    let mut first = 3;
    let closed = kept.iter().all(|&fd| {
        let done = close_range(first, fd - 1);
        first = fd + 1;
        done
    });
    if closed && close_range(first, u32::MAX) {
        return;
    }
    // Before Linux 5.9.
    let Ok(entries) = fs::read_dir("/proc/self/fd") else { return };
    let open: Vec<u32> =
        entries.flatten().filter_map(|entry| entry.file_name().to_str()?.parse().ok()).filter(|&fd| fd > 2).collect();
    for fd in open.into_iter().filter(|fd| !kept.contains(fd)) {
        // SAFETY: as above; the listing's own descriptor is closed already, which close reports and we ignore.
        unsafe { libc::close(fd as RawFd) };
    }
}

/// Ends this process at once, without running anything registered for its end.
pub fn end_now(code: i32) -> ! {
    // SAFETY: _exit never returns and touches no memory of ours.
    unsafe { libc::_exit(code) }
}

/// Ends this process the way another one ended, so that whoever waits for it sees the same.
pub fn end_like(ended: Ended) -> ! {
    match ended {
        Ended::Code(code) => end_now(code),
        Ended::Signal(number) => {
            // The other process has dumped core already if it was to.
            let _ = nix::sys::resource::setrlimit(nix::sys::resource::Resource::RLIMIT_CORE, 0, 0);
            if let Ok(signal_) = Signal::try_from(number) {
                // SAFETY: the default action is no handler, so nothing can run at a bad moment.
                let _ = unsafe { signal(signal_, SigHandler::SigDfl) };
                let mut mask = SigSet::empty();
                mask.add(signal_);
                let _ = raise(signal_);
                let _ = sigprocmask(SigmaskHow::SIG_UNBLOCK, Some(&mask), None);
            }
            end_now(128 + number)
        }
    }
}

/// Waits for one child.
pub fn wait(child: Pid) -> io::Result<Ended> {
    loop {
        match waitpid(child, None) {
            Ok(WaitStatus::Exited(_, code)) => return Ok(Ended::Code(code)),
            Ok(WaitStatus::Signaled(_, signal, _)) => return Ok(Ended::Signal(signal as i32)),
            Ok(_) | Err(Errno::EINTR) => {}
            Err(errno) => return Err(errno.into()),
        }
    }
}

/// Waits for one child, and collects all others that end meanwhile.
pub fn wait_among_others(main: Pid) -> io::Result<Ended> {
    loop {
        match waitpid(None, None) {
            Ok(WaitStatus::Exited(pid, code)) if pid == main => return Ok(Ended::Code(code)),
            Ok(WaitStatus::Signaled(pid, signal, _)) if pid == main => return Ok(Ended::Signal(signal as i32)),
            Ok(_) | Err(Errno::EINTR) => {}
            Err(errno) => return Err(errno.into()),
        }
    }
}

/// Collects all children that have ended; tells when `main` is among them or nobody is left.
pub fn reap(main: Pid) -> Option<Ended> {
    loop {
        match waitpid(None, Some(WaitPidFlag::WNOHANG)) {
            Ok(WaitStatus::Exited(pid, code)) if pid == main => return Some(Ended::Code(code)),
            Ok(WaitStatus::Signaled(pid, signal, _)) if pid == main => return Some(Ended::Signal(signal as i32)),
            Ok(WaitStatus::StillAlive) => return None,
            Err(Errno::EINTR) | Ok(_) => {}
            // Nobody is left, and its end was not seen.
            Err(_) => return Some(Ended::Code(1)),
        }
    }
}

/// The signals an intermediate process passes on, blocked and made readable.
pub struct Signals {
    fd: SignalFd,
    before: SigSet,
}

/// Signals that are passed on.
const PASSED: [Signal; 6] =
    [Signal::SIGTERM, Signal::SIGINT, Signal::SIGHUP, Signal::SIGQUIT, Signal::SIGUSR1, Signal::SIGUSR2];

impl Signals {
    /// Blocks them.
    pub fn catch() -> io::Result<Signals> {
        let mut set: SigSet = PASSED.into_iter().collect();
        set.add(Signal::SIGCHLD);
        let mut before = SigSet::empty();
        sigprocmask(SigmaskHow::SIG_BLOCK, Some(&set), Some(&mut before))?;
        Ok(Signals { fd: SignalFd::with_flags(&set, SfdFlags::SFD_CLOEXEC | SfdFlags::SFD_NONBLOCK)?, before })
    }

    /// Puts the mask back to what it was, for a child that becomes another program.
    pub fn release(&self) {
        let _ = sigprocmask(SigmaskHow::SIG_SETMASK, Some(&self.before), None);
    }

    /// Waits until a signal arrives or `other` has something to say (or its peer is gone: then true), and passes
    /// signals that a process sent on to `to`. What the terminal sends reaches the whole group by itself.
    pub fn pass_on(&self, to: Pid, other: Option<&OwnedFd>) -> io::Result<bool> {
        let mut fds = vec![PollFd::new(self.fd.as_fd(), PollFlags::POLLIN)];
        fds.extend(other.map(|fd| PollFd::new(fd.as_fd(), PollFlags::POLLIN)));
        match poll(&mut fds, PollTimeout::NONE) {
            Ok(_) | Err(Errno::EINTR) => {}
            Err(errno) => return Err(errno.into()),
        }
        let spoke = fds.get(1).and_then(PollFd::any).unwrap_or(false);
        while let Ok(Some(info)) = self.fd.read_signal() {
            if info.ssi_code <= 0
                && let Ok(signal) = Signal::try_from(info.ssi_signo.cast_signed())
                && signal != Signal::SIGCHLD
            {
                let _ = kill(to, signal);
            }
        }
        Ok(spoke)
    }
}

/// Asks the kernel to kill this process when the thread that started it ends. Whether that had happened before is
/// for the caller to find out.
pub fn die_with_parent() -> io::Result<()> {
    Ok(nix::sys::prctl::set_pdeathsig(Signal::SIGKILL)?)
}

/// The number of this process's parent; 0 when it lies outside of this PID namespace.
pub fn parent() -> u32 {
    nix::unistd::getppid().as_raw().unsigned_abs()
}

/// Whether the peer of a socket is gone.
pub fn hung_up(socket: &OwnedFd) -> bool {
    let mut fds = [PollFd::new(socket.as_fd(), PollFlags::POLLIN)];
    let found = poll(&mut fds, PollTimeout::ZERO);
    matches!(found, Ok(count) if count > 0)
        && fds[0].revents().is_some_and(|events| events.contains(PollFlags::POLLHUP))
}

/// Replaces this process by a program; returns only when that failed. SIGPIPE, which Rust programs ignore, gets its
/// default action back.
pub fn become_program(path: &Path, argv: &[CString], env: &[CString]) -> io::Error {
    // SAFETY: the default action is no handler, so nothing can run at a bad moment.
    let _ = unsafe { signal(Signal::SIGPIPE, SigHandler::SigDfl) };
    match nix::unistd::execve(&c_path(path), argv, env) {
        Err(errno) => errno.into(),
        Ok(never) => match never {},
    }
}

fn c_path(path: &Path) -> CString {
    use std::os::unix::ffi::OsStrExt;
    CString::new(path.as_os_str().as_bytes()).unwrap_or_default()
}

/// A command that starts with `file` open under the file's own descriptor number, and that is killed when the thread
/// that spawns it ends.
pub fn command_with(program: &Path, file: File) -> Command {
    let mut command = Command::new(program);
    let prepare = move || {
        // SAFETY: fcntl and prctl are async-signal-safe and touch no memory; the closure owns the file.
        let failed = unsafe {
            libc::fcntl(file.as_raw_fd(), libc::F_SETFD, 0) < 0
                || libc::prctl(libc::PR_SET_PDEATHSIG, libc::SIGKILL, 0, 0, 0) < 0
        };
        if failed { Err(io::Error::last_os_error()) } else { Ok(()) }
    };
    // SAFETY: between fork and exec only the two async-signal-safe calls above are made.
    unsafe { command.pre_exec(prepare) };
    command
}
