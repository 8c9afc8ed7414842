//! Starting programs that work on a file this process holds open: they get the descriptor, and with it the lock on the
//! file, under the same number. No threads are made, so that namespaces can be entered afterwards.

#![allow(unsafe_code, clippy::disallowed_methods)]

use std::ffi::OsStr;
use std::fs::File;
use std::io;
use std::os::fd::{AsRawFd, RawFd};
use std::os::unix::fs::FileExt;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use nix::libc;
use nix::sys::signal::{SigSet, SigmaskHow, sigprocmask};

use super::{pass, process, userns};

/// The path by which a program that was lent the file opens it anew.
pub fn path_of(file: &File) -> PathBuf {
    PathBuf::from(format!("/proc/self/fd/{}", file.as_raw_fd()))
}

fn inherit(number: RawFd) -> io::Result<()> {
    // SAFETY: fcntl is async-signal-safe and takes numbers only.
    if unsafe { libc::fcntl(number, libc::F_SETFD, 0) } < 0 { Err(io::Error::last_os_error()) } else { Ok(()) }
}

/// A file system server, and what it says.
#[derive(Debug)]
pub struct Mounter {
    child: Child,
    said: File,
}

impl Mounter {
    /// Starts one that may mount in the user namespace of this process though it is not root there. It dies with this
    /// process and of nothing else: schedulers signal every process of a job, and the command may need its files until
    /// it has ended.
    pub fn start(program: &Path, args: &[&OsStr], file: &File) -> io::Result<Mounter> {
        let said = pass::memory_file(b"")?;
        let mut command = Command::new(program);
        command.args(args).stdin(Stdio::null()).stdout(said.try_clone()?).stderr(said.try_clone()?);
        process::die_with_parent(&mut command);
        let number = file.as_raw_fd();
        let prepare = move || {
            inherit(number)?;
            sigprocmask(SigmaskHow::SIG_SETMASK, Some(&SigSet::all()), None)?;
            userns::keep_mounting()
        };
        // SAFETY: the calls made between fork and exec are async-signal-safe system calls.
        unsafe { command.pre_exec(prepare) };
        Ok(Mounter { child: command.spawn()?, said })
    }

    /// Whether it has ended, and if so whether well.
    pub fn ended(&mut self) -> io::Result<Option<bool>> {
        Ok(self.child.try_wait()?.map(|status| status.success()))
    }

    /// Waits until it has ended; whether well.
    pub fn wait(&mut self) -> io::Result<bool> {
        Ok(self.child.wait()?.success())
    }

    /// Ends it, whatever it is doing.
    pub fn kill(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }

    /// What it has said, in one line.
    pub fn said(&self) -> String {
        words(&content(&self.said))
    }
}

/// Runs a program to its end, lent a file if given; its exit code (none: killed) and everything it said. One that was
/// lent a file may be in the middle of changing it: it outlives this process, and keeps the lock until it is done.
pub fn run(program: &Path, args: &[&OsStr], file: Option<&File>) -> io::Result<(Option<i32>, Vec<u8>)> {
    let said = pass::memory_file(b"")?;
    let mut command = Command::new(program);
    command.args(args).stdin(Stdio::null()).stdout(said.try_clone()?).stderr(said.try_clone()?);
    // What is half done by them is worth less than an interrupt that waits.
    command.env("LC_ALL", "C").process_group(0);
    match file.map(AsRawFd::as_raw_fd) {
        Some(number) => {
            let prepare = move || {
                inherit(number)?;
                // Schedulers signal every process of a job, and terminals that close their session.
                Ok(sigprocmask(SigmaskHow::SIG_SETMASK, Some(&SigSet::all()), None)?)
            };
            // SAFETY: as above.
            unsafe { command.pre_exec(prepare) };
        }
        None => process::die_with_parent(&mut command),
    }
    let status = command.status()?;
    Ok((status.code(), content(&said)))
}

fn content(file: &File) -> Vec<u8> {
    let length = file.metadata().map_or(0, |meta| meta.len()).min(1 << 20);
    let mut bytes = vec![0; usize::try_from(length).unwrap_or(0)];
    if file.read_exact_at(&mut bytes, 0).is_err() {
        bytes.clear();
    }
    bytes
}

/// Bytes as one line of text.
pub fn words(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).split_whitespace().collect::<Vec<_>>().join(" ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_program_reads_the_file_it_was_lent() {
        let file = pass::memory_file(b"content").unwrap();
        let path = path_of(&file);
        let (code, said) = run(Path::new("/bin/cat"), &[path.as_os_str()], Some(&file)).unwrap();
        assert_eq!((code, said.as_slice()), (Some(0), &b"content"[..]));
        let (code, said) =
            run(Path::new("/bin/sh"), &["-c".as_ref(), "echo a; echo b >&2; exit 4".as_ref()], None).unwrap();
        assert_eq!((code, words(&said).as_str()), (Some(4), "a b"));
    }
}
