//! Running an invocation with an ext3 image mounted: this process enters a namespace of its own, lets fuse2fs mount the
//! image there, and starts the sandbox below that. fuse2fs stays outside the command's mount namespace (inside, it could
//! not be killed) and dies with this process.

use std::path::Path;
use std::time::{Duration, Instant};

use super::error::{Result, RuntimeError};
use super::native::{command_for, sandbox};
use crate::exec::Invocation;
use crate::sys::fork::{self, Ended};
use crate::sys::userns::{self, Refusal};
use crate::sys::{mount, process};

/// How long mounting and unmounting may take; a large image on a slow file server needs its journal read and written.
const PATIENCE: Duration = Duration::from_secs(120);

/// `ovl internal stage FD PARENT IMAGE DIRECTORY`: ends as the command ended, or returns why it could not be started.
pub fn stage_main(fd: i32, parent: u32, image: &Path, at: &Path) -> RuntimeError {
    if fork::parent() != parent {
        return RuntimeError::Impossible("whoever asked for this command is gone".into());
    }
    let (invocation, file) = match sandbox::read(fd) {
        Ok(read) => read,
        Err(error) => return error,
    };
    match run(&invocation, image, at) {
        Ok(ended) => fork::end_like(ended),
        Err(error) => {
            sandbox::report(&file, &error);
            error
        }
    }
}

fn run(invocation: &Invocation, image: &Path, at: &Path) -> Result<Ended> {
    let program = process::find("fuse2fs").ok_or_else(|| RuntimeError::Missing {
        what: "fuse2fs is not on PATH".into(),
        hint: "ask for fuse2fs (e2fsprogs), or build with --stage dir".into(),
    })?;
    userns::enter(userns::Kinds::default()).map_err(super::native::refused)?;
    let mut server = process::spawn_mounter(
        &program,
        &[image.as_os_str(), at.as_os_str(), "-f".as_ref(), "-o".as_ref(), "rw".as_ref()],
    )
    .map_err(Refusal::new("start fuse2fs"))?;
    let began = Instant::now();
    while !mount::is_fuse(at) {
        if let Some(status) = server.try_wait().map_err(Refusal::new("wait for fuse2fs"))? {
            return Err(RuntimeError::Impossible(format!("fuse2fs could not mount {} ({status})", image.display())));
        }
        if began.elapsed() > PATIENCE {
            return Err(RuntimeError::Impossible(format!("fuse2fs did not mount {} in time", image.display())));
        }
        std::thread::sleep(Duration::from_millis(2));
    }
    let mut sandboxed = command_for(invocation, None)?;
    let status = sandboxed.command.status().map_err(Refusal::new("start the sandbox"))?;
    mount::unmount(at)?;
    // Its end means that everything is in the image.
    let began = Instant::now();
    while server.try_wait().map_err(Refusal::new("wait for fuse2fs"))?.is_none() {
        if began.elapsed() > PATIENCE {
            return Err(RuntimeError::Impossible(format!(
                "fuse2fs did not finish writing {} in time",
                image.display()
            )));
        }
        std::thread::sleep(Duration::from_millis(2));
    }
    match sandboxed.trouble() {
        Some(trouble) => Err(trouble),
        None => Ok(process::ended_of(status)),
    }
}
