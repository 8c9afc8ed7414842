//! The native runtime: user namespaces, one FUSE server for all images, no root and no setuid helper.
//! `session` joins what stands already; `open` opens the images, `server` serves (or unpacks) them, `root` builds what the command sees, `init` keeps processes apart,
//! `program` becomes the command, `trouble` says what a machine lacks and `probe` looks for it beforehand.

mod files;
mod init;
mod open;
mod points;
mod probe;
mod program;
mod root;
pub(super) mod sandbox;
mod server;
mod session;
mod trouble;
mod unpacked;

use std::convert::Infallible;
use std::path::Path;

use files::Tell;
pub use open::{Hidden, hidden};
pub use probe::{Capabilities, Finding, probe};
pub use sandbox::{command_for, sandbox_main};
pub(super) use server::Server;
use session::Entry;
pub(super) use trouble::{fuse as no_fuse, namespaces as refused};

use super::error::{Result, RuntimeError};
use crate::exec::{Base, Invocation, Network};
use crate::runtime::writable;
use crate::sys::userns::{self, Refusal};
use crate::sys::{fork, host};

/// Carries an invocation out. The calling process, which must have one thread only, **becomes** the command: its
/// signals, job control and exit code are the command's own. With a process table of its own the calling process
/// stays as a parent that passes signals on and ends as the command ended. `tell` is given what the user should know
/// before the command starts: that files have to be unpacked, say.
///
/// # Errors
/// Returns only when the command could not be started; the process may be in another root by then and should
/// say why and end with [`RuntimeError::exit_code`].
pub fn exec(invocation: &Invocation, tell: Tell) -> Result<Infallible> {
    if userns::threads() > 1 {
        return Err(RuntimeError::Impossible("a command can only be started by a process with one thread".into()));
    }
    if changes_nothing(invocation) {
        program::enter_directory(&invocation.cwd)?;
        confine(invocation)?;
        return program::run(invocation);
    }
    if let Some(image) = &invocation.writable {
        return writable::exec(invocation, image, tell);
    }
    let mut server = None;
    if has_tree(invocation) {
        let door = match session::key(invocation).map(|key| session::enter(&key)).transpose()? {
            Some(Entry::Joined) => {
                program::enter_directory(&invocation.cwd)?;
                confine(invocation)?;
                return program::run(invocation);
            }
            Some(Entry::Alone(door)) => door,
            None => None,
        };
        server = Some(Server::start(invocation, door)?);
    }
    enter_and_run(invocation, server, None, seen_as(invocation), tell)
}

/// The second half of [`exec`]: enters namespaces of the command's own, builds its root with what the server or a
/// writable image has for it, and becomes the command. `me` are the ids it sees itself by.
pub(super) fn enter_and_run(
    invocation: &Invocation,
    server: Option<Server>,
    place: Option<writable::Place>,
    me: (u32, u32),
    tell: Tell,
) -> Result<Infallible> {
    let kinds = userns::Kinds {
        processes: invocation.isolation.processes,
        network: invocation.isolation.network == Network::None,
    };
    userns::enter_as(kinds, me).map_err(trouble::namespaces)?;
    if place.is_some() {
        // Whoever waits for the image; entering namespaces has undone it.
        fork::die_with_parent().map_err(Refusal::new("tie the command to its caller"))?;
    }
    if kinds.processes {
        return init::run(invocation, server, place, tell);
    }
    let server = root::build(invocation, server, place, tell)?;
    // Others may come in now; should that fail they do without.
    let _ = server.map(|server| server.open_door());
    confine(invocation)?;
    program::run(invocation)
}

/// Whether the command sees the host as it is.
fn changes_nothing(invocation: &Invocation) -> bool {
    let isolation = invocation.isolation;
    invocation.base == Base::Dir("/".into())
        && invocation.layers.is_empty()
        && invocation.writable.is_none()
        && invocation.mounts.is_empty()
        && !invocation.fakeroot
        && !isolation.read_only
        && !isolation.processes
        && isolation.network == Network::Host
}

/// Whether anything comes out of images.
pub(super) fn has_tree(invocation: &Invocation) -> bool {
    !invocation.layers.is_empty() || matches!(invocation.base, Base::Image(_))
}

/// The ids by which the command sees itself, and files of the images.
pub(super) fn seen_as(invocation: &Invocation) -> (u32, u32) {
    if invocation.fakeroot { (0, 0) } else { host::ids() }
}

/// Gives up everything that building the root needed. A command that is to take itself for root keeps what is root's in
/// its own user namespace: that is no more than the user may do.
fn confine(invocation: &Invocation) -> Result<()> {
    userns::no_new_privileges()?;
    if !invocation.fakeroot {
        userns::drop_capabilities()?;
    }
    Ok(())
}

/// Directories of the host that every root gets, unless it is the host's own.
const HOST_PLACES: [&str; 4] = ["/proc", "/sys", "/dev", "/tmp"];

/// Names at the top that stay the host's, where it is the base, whatever overlays have: what programs write there is not
/// for them, and a system in an overlay has its own.
pub(super) const HOSTS_OWN: [&str; 6] = ["proc", "sys", "dev", "run", "tmp", "home"];

fn is_host(base: &Path) -> bool {
    base == Path::new("/")
}

/// Places that are not taken from a base directory or from images above it.
fn skipped(base: &Path, own_processes: bool) -> Vec<&'static str> {
    match (is_host(base), own_processes) {
        (true, true) => vec!["/proc"],
        (true, false) => vec![],
        (false, _) => HOST_PLACES.to_vec(),
    }
}
