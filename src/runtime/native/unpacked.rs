//! The server's life where FUSE is impossible: it writes the merged tree to scratch, waits until the command's mount
//! namespace has ended, however that ended, and removes what it has written.

use std::os::fd::OwnedFd;
use std::sync::Arc;
use std::time::Duration;

use super::server::{Word, let_in};
use super::skipped;
use crate::exec::{Base, Invocation};
use crate::model::units::show_size;
use crate::runtime::error::{Result, RuntimeError};
use crate::runtime::tree::Tree;
use crate::runtime::unpack::Plan;
use crate::sys::meet::Door;
use crate::sys::workdir::{self, WorkDir};
use crate::sys::{fork, fs, pass, watch};

/// The directory with the tree, in the working directory.
pub const TOP: &str = "root";
const THREADS: usize = 4;
/// Directories whose owners cannot be looked for are left alone for so long: as builds do.
const LEASE: Duration = Duration::from_secs(120);

/// Unpacks for whoever is at the other end of the socket.
pub fn serve(socket: &Arc<OwnedFd>, door: Option<Door>, tree: &Tree, invocation: &Invocation) {
    let work = match unpack(socket, tree, invocation) {
        Ok(work) => work,
        Err(error) => {
            let _ = Word::Failed(error.report()).send(socket);
            return;
        }
    };
    if Word::Unpacked.send(socket).is_err() {
        return;
    }
    // Closed once the root is put together, or with a caller that has ended before.
    let watched = pass::receive(socket).ok().and_then(|(_, files)| files.into_iter().next());
    let_in(socket, door);
    let _ = watch::hang_up(socket);
    if let Some(watched) = watched {
        let _ = watch::unmounted(&watched);
    }
    // Without a watch (users may only have so many) this is how the end is found; with one it finds namespaces made
    // inside the command's that have kept the files but not what is watched.
    let mut pause = Duration::from_millis(50);
    while workdir::is_mounted(work.path()) {
        std::thread::sleep(pause);
        pause = (pause * 2).min(Duration::from_secs(2));
    }
}

/// The directory goes when the value does.
fn unpack(socket: &OwnedFd, tree: &Tree, invocation: &Invocation) -> Result<WorkDir> {
    let skip: Vec<&str> = match &invocation.base {
        Base::Dir(path) => skipped(path, invocation.isolation.processes),
        Base::Image(_) => Vec::new(),
    };
    let skip: Vec<&str> = skip.iter().map(|place| place.trim_start_matches('/')).collect();
    let plan = Plan::new(tree, &skip)?;
    let scratch = fs::canonicalize(&invocation.scratch)?;
    let lacking = |what: String| RuntimeError::Missing {
        what: format!("{} {what}", scratch.display()),
        hint: "name another node-local directory: OVL_DIRS_SCRATCH=DIR or dirs.scratch in config.yaml".into(),
    };
    if fs::is_noexec(&scratch) {
        return Err(lacking("is mounted without permission to run programs (noexec)".into()));
    }
    // Sweeps first: that may make room.
    let work = WorkDir::create(&scratch, LEASE)?;
    let free = fs::free_bytes(&scratch)?;
    if free < plan.bytes {
        let (need, free) = (show_size(plan.bytes), show_size(free));
        return Err(lacking(format!("has {free} free, and the overlays need {need} unpacked")));
    }
    if let Ok((free, total)) = fs::inodes(&scratch)
        && total > 0
        && free < plan.inodes()
    {
        return Err(lacking(format!("has {free} inodes free, and the overlays need {}", plan.inodes())));
    }
    Word::Unpacking(plan.bytes, work.path().to_owned()).send(socket)?;
    plan.write(tree, &work.make(TOP)?, THREADS, &|| !fork::hung_up(socket))?;
    Ok(work)
}
