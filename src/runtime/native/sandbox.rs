//! Running an invocation from a process with many threads (a build): this program starts itself again as
//! `ovl internal sandbox FD PARENT` (or, with an ext3 image to be mounted meanwhile, `ovl internal stage FD PARENT
//! IMAGE DIRECTORY`, see `staging`) and reads the invocation from descriptor FD.

use std::fs::File;
use std::io::Read;
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::process::Command;

use super::exec;
use super::files::Tell;
use crate::exec::Invocation;
use crate::runtime::error::{Result, RuntimeError};
use crate::sys::userns::Refusal;
use crate::sys::{fork, pass};

/// A command that carries an invocation out in a process of its own.
pub struct Sandboxed {
    /// The command; streams and more are the caller's to set.
    pub command: Command,
    /// Holds the invocation at first, and a report when it could not be carried out.
    file: File,
}

impl Sandboxed {
    /// After the command has ended: why it never began, if so. Its exit code alone cannot tell that from the
    /// command's own.
    pub fn trouble(&self) -> Option<RuntimeError> {
        let mut bytes = vec![0; usize::try_from(self.file.metadata().ok()?.len()).ok()?];
        self.file.read_exact_at(&mut bytes, 0).ok()?;
        let report = bytes.strip_prefix(TROUBLE)?;
        serde_json::from_slice(report).ok().map(RuntimeError::Reported)
    }
}

/// What a report begins with; no JSON does.
const TROUBLE: &[u8] = b"!";

/// Leaves a report for whoever holds the other copy of the invocation's file.
pub(in crate::runtime) fn report(file: &File, error: &RuntimeError) {
    let mut bytes = TROUBLE.to_vec();
    bytes.extend(serde_json::to_vec(&error.report()).unwrap_or_default());
    let _ = file.set_len(0).and_then(|()| file.write_all_at(&bytes, 0));
}

/// A command that carries out the invocation and is killed with the thread that spawns it (that thread must
/// outlive it). Its exit code is the command's; streams and more are the caller's to set. With `image`, that ext3
/// image is mounted writable at that directory for the invocation's binds to use.
pub fn command_for(invocation: &Invocation, image: Option<(&Path, &Path)>) -> Result<Sandboxed> {
    use std::io::Seek;
    use std::os::fd::AsRawFd;

    let json = serde_json::to_vec(invocation)
        .map_err(|error| RuntimeError::Impossible(format!("the invocation cannot be written down: {error}")))?;
    let mut file = pass::memory_file(&json).map_err(Refusal::new("write the invocation down"))?;
    file.rewind().map_err(Refusal::new("write the invocation down"))?;
    // Not its path: the file may have been replaced by a newer one while this process runs.
    let program = Path::new("/proc/self/exe");
    let number = file.as_raw_fd().to_string();
    let copy = file.try_clone().map_err(Refusal::new("write the invocation down"))?;
    let mut command = fork::command_with(program, file);
    let parent = std::process::id().to_string();
    match image {
        None => command.args(["internal", "sandbox", &number, &parent]),
        Some((image, at)) => command.args(["internal", "stage", &number, &parent]).arg(image).arg(at),
    };
    Ok(Sandboxed { command, file: copy })
}

/// `ovl internal sandbox FD PARENT`: returns only the reason why the command could not be started. `tell` as for
/// [`exec`].
pub fn sandbox_main(fd: i32, parent: u32, tell: Tell) -> RuntimeError {
    // The parent may have died before the kernel was asked to kill this process with it.
    if fork::parent() != parent {
        return RuntimeError::Impossible("whoever asked for this command is gone".into());
    }
    let (invocation, file) = match read(fd) {
        Ok(read) => read,
        Err(error) => return error,
    };
    match exec(&invocation, tell) {
        Err(error) => {
            report(&file, &error);
            error
        }
        Ok(never) => match never {},
    }
}

/// The invocation, and the file it came in.
pub(in crate::runtime) fn read(fd: i32) -> Result<(Invocation, File)> {
    let mut json = Vec::new();
    let file = pass::inherited(fd)
        .and_then(|mut file| file.read_to_end(&mut json).map(|_| file))
        .map_err(Refusal::new(format!("read the invocation from descriptor {fd}")))?;
    let invocation = serde_json::from_slice(&json)
        .map_err(|error| RuntimeError::Impossible(format!("descriptor {fd} holds no invocation: {error}")))?;
    Ok((invocation, file))
}
