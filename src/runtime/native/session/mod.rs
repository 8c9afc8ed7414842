//! Sessions: commands of one user that want the same files at the same places share one root and one server on a node.
//! The first opens a door named by what is wanted (`key`); its server lets later ones in (`host`) for as long as
//! anything runs there. Who cannot get in is none the worse: it builds a root of its own.

mod host;
mod key;

use std::time::{Duration, Instant};

pub use host::host;
pub use key::key;

use crate::runtime::error::Result;
use crate::sys::meet::{self, Door, Visit};
use crate::sys::{pass, userns};

/// What the founder tells its server once its root stands.
pub const STANDS: &[u8] = b"stands";
/// What a visitor is told, together with the namespaces.
const ENTER: &[u8] = b"enter";
/// How long the founder of a session may take: opening fifty images on a busy file server does.
const PATIENCE: Duration = Duration::from_secs(20);

/// How a command comes to its files.
pub enum Entry {
    /// This process is in a session: its root stands.
    Joined,
    /// A root has to be built; others may come in by the door, if there is one.
    Alone(Option<Door>),
}

/// Joins the session of this key, or opens its door.
pub fn enter(key: &str) -> Result<Entry> {
    let name = format!("ovl/{key}");
    let began = Instant::now();
    let mut pause = Duration::from_micros(500);
    while began.elapsed() < PATIENCE {
        match meet::visit(&name) {
            Ok(Visit::Stranger) | Err(_) => break,
            Ok(Visit::Door(socket)) => {
                let left = PATIENCE.saturating_sub(began.elapsed());
                if !meet::wait(&socket, left).unwrap_or(false) {
                    break;
                }
                if let Ok((word, files)) = pass::receive(&socket)
                    && word == ENTER
                    && let [user, mounts] = files.as_slice()
                {
                    match userns::try_join(user, mounts)? {
                        true => return Ok(Entry::Joined),
                        // A container may allow new namespaces and refuse to enter others.
                        false => break,
                    }
                }
                // The session has just ended, or its founder has failed.
            }
            Ok(Visit::Nobody) => match meet::open(&name) {
                Ok(Some(door)) => return Ok(Entry::Alone(Some(door))),
                // Somebody was faster.
                Ok(None) => {}
                Err(_) => break,
            },
        }
        if began.elapsed() > Duration::from_secs(1) && pause >= Duration::from_millis(100) {
            break;
        }
        std::thread::sleep(pause);
        pause = (pause * 2).min(Duration::from_millis(100));
    }
    Ok(Entry::Alone(None))
}
