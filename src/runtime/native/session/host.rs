//! The server's side of a session: visitors get the namespaces of whoever is inside. It holds none of them itself, or
//! they, and with them the files, would never end.

use std::fs::File;
use std::os::fd::OwnedFd;
use std::path::Path;

use super::{ENTER, STANDS};
use crate::sys::meet::{self, Door};
use crate::sys::{fs, pass, userns};

/// Lets visitors in until nobody is inside any more. `socket` leads to the founder.
pub fn host(socket: &OwnedFd, door: &Door) {
    match pass::receive(socket) {
        Ok((word, _)) if word == STANDS => {}
        // The founder has failed: whoever waits at the door is told by its closing.
        _ => return,
    }
    let Some(mut members) = meet::maker(socket).ok().and_then(Members::new) else { return };
    while let Ok((visitor, pid)) = door.next() {
        let Some((user, mounts)) = members.namespaces() else { return };
        if pass::send(&visitor, ENTER, &[&user, &mounts]).is_ok() {
            members.add(pid);
        }
    }
}

/// Processes that have come in, and how to tell whether they still are.
struct Members {
    pids: Vec<u32>,
    /// The user namespace of the session. Held open its number is nobody else's (those of namespaces that have ended
    /// are given out again), and it keeps no mount alive.
    user: File,
}

fn namespace(pid: u32, kind: &str) -> Option<File> {
    fs::open(&Path::new("/proc").join(pid.to_string()).join("ns").join(kind)).ok()
}

impl Members {
    fn new(founder: u32) -> Option<Members> {
        Some(Members { pids: vec![founder], user: namespace(founder, "user")? })
    }

    fn add(&mut self, pid: u32) {
        if !self.pids.contains(&pid) {
            self.pids.push(pid);
        }
    }

    /// The user and the mount namespace, from anybody inside.
    fn namespaces(&mut self) -> Option<(File, File)> {
        let mounts = self.mounts()?;
        Some((self.user.try_clone().ok()?, mounts))
    }

    fn mounts(&mut self) -> Option<File> {
        while let Some(&pid) = self.pids.last() {
            if let Some(found) = self.of(pid) {
                return Some(found);
            }
            self.pids.pop();
        }
        // Those who came in have ended; what they have started may go on.
        let everybody = fs::list(Path::new("/proc")).unwrap_or_default();
        let pids = everybody.iter().filter_map(|name| name.to_str()?.parse::<u32>().ok());
        for pid in pids {
            if let Some(found) = self.of(pid) {
                self.pids.push(pid);
                return Some(found);
            }
        }
        None
    }

    /// The mount namespace of a process, if it is the session's: one that belongs to the session's user namespace. The
    /// process number may mean another process by now.
    fn of(&self, pid: u32) -> Option<File> {
        let mounts = namespace(pid, "mnt")?;
        userns::is_owner(&self.user, &mounts).then_some(mounts)
    }
}
