//! Running other programs: argv only, no shell, output captured or streamed line by line, with a time limit,
//! the whole process group ended when the limit or an interrupt comes.

#![allow(clippy::disallowed_methods, unsafe_code)]

use std::ffi::OsStr;
use std::io::{self, BufRead, BufReader, Read, Write};
use std::os::unix::process::{CommandExt, ExitStatusExt};
use std::path::PathBuf;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::{Arc, Mutex, mpsc};
use std::time::{Duration, Instant};

use nix::libc;

use super::signal;
use crate::model::cmd::Cmd;

/// How a program ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Ended {
    /// It returned this code.
    Code(i32),
    /// This signal ended it.
    Signal(i32),
    /// Its time limit came first.
    TimedOut,
    /// The user interrupted ovl with this signal first.
    Interrupted(i32),
}

impl Ended {
    /// Whether it returned 0.
    pub fn ok(self) -> bool {
        self == Ended::Code(0)
    }

    fn from_status(status: ExitStatus) -> Ended {
        match (status.code(), status.signal()) {
            (Some(code), _) => Ended::Code(code),
            (None, signal) => Ended::Signal(signal.unwrap_or(0)),
        }
    }
}

impl std::fmt::Display for Ended {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Ended::Code(code) => write!(f, "exit code {code}"),
            Ended::Signal(signal) => match nix::sys::signal::Signal::try_from(*signal) {
                Ok(name) => write!(f, "killed by {}", name.as_str()),
                Err(_) => write!(f, "killed by signal {signal}"),
            },
            Ended::TimedOut => f.write_str("time limit reached"),
            Ended::Interrupted(_) => f.write_str("interrupted"),
        }
    }
}

/// What a captured program left behind.
#[derive(Debug)]
pub struct Output {
    /// How it ended.
    pub ended: Ended,
    /// Its standard output.
    pub stdout: Vec<u8>,
    /// Its standard error.
    pub stderr: Vec<u8>,
}

/// The path of a program found on PATH.
pub fn find(program: &str) -> Option<PathBuf> {
    // Administrators' tools (mke2fs) are often not on a user's PATH.
    which::which(program).ok().or_else(|| which::which_in(program, Some("/usr/local/sbin:/usr/sbin:/sbin"), "/").ok())
}

fn command(cmd: &Cmd) -> Command {
    let mut command = Command::new(&cmd.program);
    if cmd.bare {
        command.env_clear();
    }
    command.args(&cmd.args).envs(&cmd.env);
    if let Some(dir) = &cmd.cwd {
        command.current_dir(dir);
    }
    command
}

/// A command for [`stream`].
pub fn prepared(cmd: &Cmd) -> Command {
    command(cmd)
}

/// Runs to the end and captures both outputs; `limit` bounds the time.
pub fn capture(cmd: &Cmd, limit: Duration) -> io::Result<Output> {
    let (mut child, stdout, stderr) = start_captured(cmd)?;
    let ended = wait(&mut child, Some(limit))?;
    Ok(Output { ended, stdout: stdout.finish(), stderr: stderr.finish() })
}

/// Starts a command that is fed and whose outputs are collected.
fn start_captured(cmd: &Cmd) -> io::Result<(Child, Drain, Drain)> {
    let mut command = command(cmd);
    command.stdin(if cmd.stdin.is_some() { Stdio::piped() } else { Stdio::null() });
    command.stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = spawn_grouped(&mut command)?;
    feed(&mut child, cmd.stdin.clone());
    let (stdout, stderr) = (Drain::new(child.stdout.take()), Drain::new(child.stderr.take()));
    Ok((child, stdout, stderr))
}

/// As [`capture`], but an interrupt of the user does not end it: for commands that must be heard out, such as those of
/// a scheduler that has perhaps done already what it was asked.
pub fn capture_steadily(cmd: &Cmd, limit: Duration) -> io::Result<Output> {
    let (mut child, stdout, stderr) = start_captured(cmd)?;
    let started = Instant::now();
    // A program is about to end when it has closed its output: so there is little to poll for.
    let _ = stdout.ended.recv_timeout(limit);
    let ended = loop {
        if let Some(status) = child.try_wait()? {
            break Ended::from_status(status);
        }
        if started.elapsed() >= limit {
            end_group(&mut child);
            child.wait()?;
            break Ended::TimedOut;
        }
        std::thread::sleep(Duration::from_micros(300));
    };
    Ok(Output { ended, stdout: stdout.finish(), stderr: stderr.finish() })
}

/// Runs `command` with both outputs merged into one stream, each line (without its end) given to `line` as it comes.
/// `stdin` is what it reads. Ends its whole process group at `limit`, when the user interrupts, or when `stop` says so.
pub fn stream(
    command: &mut Command,
    stdin: Vec<u8>,
    limit: Option<Duration>,
    stop: &dyn Fn() -> bool,
    line: &mut dyn FnMut(&[u8]),
) -> io::Result<Ended> {
    let (reader, writer) = io::pipe()?;
    command.stdin(Stdio::piped()).stdout(writer.try_clone()?).stderr(writer);
    let mut child = spawn_grouped(command)?;
    // The command value keeps the pipe's writing ends open; without this the reader never sees the end.
    command.stdout(Stdio::null()).stderr(Stdio::null());
    feed(&mut child, Some(stdin));
    let (sender, lines) = mpsc::sync_channel::<Vec<u8>>(256);
    std::thread::spawn(move || {
        let mut reader = BufReader::new(reader);
        while let Ok(Some(text)) = next_line(&mut reader) {
            if sender.send(text).is_err() {
                break;
            }
        }
    });
    let started = Instant::now();
    let mut ended = None;
    loop {
        match lines.recv_timeout(Duration::from_millis(50)) {
            Ok(text) => line(&text),
            Err(mpsc::RecvTimeoutError::Timeout) => {}
            Err(mpsc::RecvTimeoutError::Disconnected) => break,
        }
        if ended.is_none() {
            ended = over(started, limit).or_else(|| stop().then_some(Ended::Interrupted(libc::SIGTERM)));
            if ended.is_some() {
                end_group(&mut child);
            }
        }
    }
    let status = wait(&mut child, None)?;
    Ok(ended.unwrap_or(status))
}

/// Longest line that is kept whole; a longer one comes in pieces, so that memory is bounded whatever a script prints.
const LONGEST_LINE: u64 = 64 << 10;

fn next_line(reader: &mut impl BufRead) -> io::Result<Option<Vec<u8>>> {
    let mut line = Vec::new();
    if reader.take(LONGEST_LINE).read_until(b'\n', &mut line)? == 0 {
        return Ok(None);
    }
    if line.last() == Some(&b'\n') {
        line.pop();
    }
    Ok(Some(line))
}

fn over(started: Instant, limit: Option<Duration>) -> Option<Ended> {
    if let Some(signal) = signal::interrupted() {
        return Some(Ended::Interrupted(signal));
    }
    limit.filter(|limit| started.elapsed() >= *limit).map(|_| Ended::TimedOut)
}

fn wait(child: &mut Child, limit: Option<Duration>) -> io::Result<Ended> {
    let started = Instant::now();
    let mut pause = Duration::from_micros(200);
    loop {
        if let Some(status) = child.try_wait()? {
            return Ok(Ended::from_status(status));
        }
        if let Some(why) = over(started, limit) {
            end_group(child);
            child.wait()?;
            return Ok(why);
        }
        std::thread::sleep(pause);
        pause = (pause * 2).min(Duration::from_millis(20));
    }
}

/// A new process group, so that all of it can be ended, and the child dies with this process.
fn spawn_grouped(command: &mut Command) -> io::Result<Child> {
    command.process_group(0);
    die_with_parent(command);
    command.spawn()
}

/// Starts a command that outlives this process and its terminal, with its output in a file; returns its process id.
pub fn detach(cmd: &Cmd, log: &std::path::Path) -> io::Result<u32> {
    let mut command = command(cmd);
    let log = std::fs::OpenOptions::new().create(true).append(true).open(log)?;
    command.stdin(Stdio::null()).stdout(log.try_clone()?).stderr(log);
    // SAFETY: setsid is async-signal-safe.
    unsafe {
        command.pre_exec(|| {
            nix::unistd::setsid()?;
            Ok(())
        })
    };
    Ok(command.spawn()?.id())
}

/// Replaces this process by a program, looked up in PATH. Returns only what kept it from that.
pub fn become_command(cmd: &Cmd) -> io::Error {
    command(cmd).exec()
}

/// Runs a program to its end with this process' terminal and input; what it prints goes to standard error.
pub fn run_aside(cmd: &Cmd) -> io::Result<Ended> {
    let mut command = command(cmd);
    let stderr = std::os::fd::AsFd::as_fd(&io::stderr()).try_clone_to_owned()?;
    command.stdout(stderr);
    command.status().map(Ended::from_status)
}

/// A program in the background with its output in files.
#[derive(Debug)]
pub struct Background {
    child: Child,
}

impl Background {
    /// Starts it in a process group of its own; it dies with this process. A file is made anew, or with `true`
    /// appended to; without `errors` everything goes to `output`.
    pub fn start(
        cmd: &Cmd,
        output: (&std::path::Path, bool),
        errors: Option<(&std::path::Path, bool)>,
    ) -> io::Result<Background> {
        let mut command = command(cmd);
        let open = |(path, append): (&std::path::Path, bool)| {
            if !append {
                std::fs::File::create(path)?;
            }
            // Also then each writes at the end: others may have been started on the same file.
            std::fs::OpenOptions::new().create(true).append(true).open(path)
        };
        let output = open(output)?;
        let errors = match errors {
            Some(errors) => open(errors)?,
            None => output.try_clone()?,
        };
        command.stdin(Stdio::null()).stdout(output).stderr(errors);
        Ok(Background { child: spawn_grouped(&mut command)? })
    }

    /// How it ended, once it has.
    pub fn ended(&mut self) -> io::Result<Option<Ended>> {
        Ok(self.child.try_wait()?.map(Ended::from_status))
    }

    /// Ends it with all that it has started.
    pub fn end(mut self) {
        end_group(&mut self.child);
        let _ = self.child.wait();
    }
}

/// Asks the kernel to kill the child when the thread that started it ends.
pub fn die_with_parent(command: &mut Command) {
    let parent = std::process::id();
    // SAFETY: prctl, getppid and _exit are async-signal-safe.
    unsafe {
        command.pre_exec(move || {
            if libc::prctl(libc::PR_SET_PDEATHSIG, libc::SIGKILL) != 0 {
                return Err(io::Error::last_os_error());
            }
            // The parent may have died before the line above.
            if libc::getppid() as u32 != parent {
                libc::_exit(1);
            }
            Ok(())
        });
    }
}

/// Starts a file system server that may mount in the user namespace of this process though it is not root there:
/// it gets CAP_SYS_ADMIN as an ambient capability (capabilities(7)), and dies with this process.
pub fn spawn_mounter(program: &std::path::Path, args: &[&OsStr]) -> io::Result<Child> {
    let mut command = Command::new(program);
    command.args(args).stdin(Stdio::null()).stdout(Stdio::null());
    die_with_parent(&mut command);
    // SAFETY: the calls made between fork and exec are async-signal-safe system calls.
    unsafe { command.pre_exec(super::userns::keep_mounting) };
    command.spawn()
}

/// How a child ended, for [`super::fork::end_like`].
pub fn ended_of(status: ExitStatus) -> super::fork::Ended {
    match (status.code(), status.signal()) {
        (Some(code), _) => super::fork::Ended::Code(code),
        (None, signal) => super::fork::Ended::Signal(signal.unwrap_or(libc::SIGKILL)),
    }
}

fn end_group(child: &mut Child) {
    let Ok(pid) = i32::try_from(child.id()) else { return };
    let group = nix::unistd::Pid::from_raw(pid);
    let _ = nix::sys::signal::killpg(group, nix::sys::signal::Signal::SIGTERM);
    for _ in 0..40 {
        if matches!(child.try_wait(), Ok(Some(_)) | Err(_)) {
            break;
        }
        std::thread::sleep(Duration::from_millis(25));
    }
    let _ = nix::sys::signal::killpg(group, nix::sys::signal::Signal::SIGKILL);
    let _ = child.kill();
}

fn feed(child: &mut Child, bytes: Option<Vec<u8>>) {
    if let (Some(mut pipe), Some(bytes)) = (child.stdin.take(), bytes) {
        // A program need not read what it is given: a closed pipe is fine.
        std::thread::spawn(move || drop(pipe.write_all(&bytes)));
    }
}

/// Collects what comes out of a pipe.
struct Drain {
    bytes: Arc<Mutex<Vec<u8>>>,
    ended: mpsc::Receiver<()>,
}

impl Drain {
    fn new(pipe: Option<impl Read + Send + 'static>) -> Drain {
        let bytes = Arc::new(Mutex::new(Vec::new()));
        let (sender, ended) = mpsc::channel();
        let into = bytes.clone();
        std::thread::spawn(move || {
            let Some(mut pipe) = pipe else { return };
            let mut buffer = [0; 8192];
            while let Ok(got @ 1..) = pipe.read(&mut buffer) {
                let Ok(mut bytes) = into.lock() else { break };
                bytes.extend_from_slice(&buffer[..got]);
            }
            drop(sender);
        });
        Drain { bytes, ended }
    }

    /// What has come. A grandchild that keeps the pipe open is not waited for: the program itself has ended.
    fn finish(self) -> Vec<u8> {
        let _ = self.ended.recv_timeout(Duration::from_millis(500));
        self.bytes.lock().map(|mut bytes| std::mem::take(&mut *bytes)).unwrap_or_default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sh(script: &str) -> Command {
        let mut command = Command::new("sh");
        command.args(["-c", script]);
        command
    }

    #[test]
    fn lines_come_as_they_are_and_stdin_is_fed() {
        let mut lines = Vec::new();
        let ended = stream(
            &mut sh("read a; echo got $a; echo err >&2; exit 3"),
            b"x\n".to_vec(),
            None,
            &|| false,
            &mut |line| {
                lines.push(String::from_utf8_lossy(line).into_owned());
            },
        );
        assert_eq!(ended.unwrap(), Ended::Code(3));
        assert_eq!(lines, ["got x", "err"]);
    }

    #[test]
    fn a_line_without_end_comes_in_pieces() {
        let mut pieces = Vec::new();
        let ended =
            stream(&mut sh("head -c 200000 /dev/zero; echo; echo x"), Vec::new(), None, &|| false, &mut |line| {
                pieces.push(line.len())
            });
        assert!(ended.unwrap().ok());
        assert_eq!(pieces, [65536, 65536, 65536, 3392, 1]);
    }

    #[test]
    fn a_grandchild_that_holds_the_pipe_is_not_waited_for() {
        let started = Instant::now();
        let output =
            capture(&Cmd::new("sh").args(["-c", "setsid sleep 20 & echo x"]), Duration::from_secs(10)).unwrap();
        assert_eq!((output.ended, &output.stdout[..]), (Ended::Code(0), &b"x\n"[..]));
        assert!(started.elapsed() < Duration::from_secs(5));
    }

    #[test]
    fn a_time_limit_ends_the_whole_group() {
        let started = Instant::now();
        let limit = Some(Duration::from_millis(200));
        let ended = stream(&mut sh("sleep 77.125 & sleep 77.125"), Vec::new(), limit, &|| false, &mut |_| {}).unwrap();
        assert_eq!(ended, Ended::TimedOut);
        assert!(started.elapsed() < Duration::from_secs(10));
    }

    #[test]
    fn capture_tells_both_streams_and_the_signal() {
        let output = capture(&Cmd::new("sh").args(["-c", "echo a; echo b >&2; kill -9 $$"]), Duration::from_secs(5));
        let output = output.unwrap();
        assert_eq!(
            (output.ended, &output.stdout[..], &output.stderr[..]),
            (Ended::Signal(9), &b"a\n"[..], &b"b\n"[..])
        );
    }
}
