//! Finding another process of the same user on this node: a socket with an abstract name, which leaves no file behind and
//! goes with the process that listens (unix(7)). Names can be taken by anybody, so both sides look who the other is.

#![allow(unsafe_code)]

use std::io;
use std::os::fd::{AsFd, AsRawFd, FromRawFd, OwnedFd};
use std::time::Duration;

use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::socket::sockopt::PeerCredentials;
use nix::sys::socket::{
    AddressFamily, Backlog, SockFlag, SockType, UnixAddr, accept4, bind, connect, getsockopt, listen, socket,
};

/// Visitors that may wait to be let in.
const QUEUE: i32 = 4096;

/// A name at which this process can be visited.
#[derive(Debug)]
pub struct Door(OwnedFd);

fn seqpacket() -> io::Result<OwnedFd> {
    Ok(socket(AddressFamily::Unix, SockType::SeqPacket, SockFlag::SOCK_CLOEXEC, None)?)
}

/// The process at the other end, when it is the same user's.
fn peer(socket: &OwnedFd) -> io::Result<Option<u32>> {
    let who = getsockopt(socket, PeerCredentials)?;
    Ok((who.uid() == nix::unistd::geteuid().as_raw()).then_some(who.pid().unsigned_abs()))
}

/// Opens a door of this name. None: there is one already.
pub fn open(name: &str) -> io::Result<Option<Door>> {
    let socket = seqpacket()?;
    match bind(socket.as_raw_fd(), &UnixAddr::new_abstract(name.as_bytes())?) {
        Ok(()) => {}
        Err(Errno::EADDRINUSE) => return Ok(None),
        Err(errno) => return Err(errno.into()),
    }
    listen(&socket, Backlog::new(QUEUE).unwrap_or(Backlog::MAXCONN))?;
    Ok(Some(Door(socket)))
}

/// What is found at a name.
#[derive(Debug)]
pub enum Visit {
    /// No door.
    Nobody,
    /// A door of another user's.
    Stranger,
    /// A door of this user's; it may take a while until somebody comes to it.
    Door(OwnedFd),
}

/// Goes to the door of this name.
pub fn visit(name: &str) -> io::Result<Visit> {
    let socket = seqpacket()?;
    match connect(socket.as_raw_fd(), &UnixAddr::new_abstract(name.as_bytes())?) {
        Ok(()) => Ok(if peer(&socket)?.is_some() { Visit::Door(socket) } else { Visit::Stranger }),
        Err(Errno::ECONNREFUSED) => Ok(Visit::Nobody),
        Err(errno) => Err(errno.into()),
    }
}

impl Door {
    /// Lets the next visitor of the same user in; with its process number.
    pub fn next(&self) -> io::Result<(OwnedFd, u32)> {
        loop {
            let number = match accept4(self.0.as_raw_fd(), SockFlag::SOCK_CLOEXEC) {
                Ok(number) => number,
                Err(Errno::EINTR | Errno::ECONNABORTED) => continue,
                Err(errno) => return Err(errno.into()),
            };
            // SAFETY: the kernel has just made this descriptor for us; nobody else owns it.
            let visitor = unsafe { OwnedFd::from_raw_fd(number) };
            if let Ok(Some(pid)) = peer(&visitor) {
                return Ok((visitor, pid));
            }
        }
    }
}

impl From<Door> for OwnedFd {
    fn from(door: Door) -> OwnedFd {
        door.0
    }
}

impl From<OwnedFd> for Door {
    fn from(socket: OwnedFd) -> Door {
        Door(socket)
    }
}

/// The process that made the other end of a pair of sockets.
pub fn maker(socket: &OwnedFd) -> io::Result<u32> {
    Ok(getsockopt(socket, PeerCredentials)?.pid().unsigned_abs())
}

/// Waits until there is something to receive (an end included). False: nothing came in time.
pub fn wait(socket: &impl AsFd, patience: Duration) -> io::Result<bool> {
    let mut fds = [PollFd::new(socket.as_fd(), PollFlags::POLLIN)];
    let timeout = PollTimeout::try_from(patience).unwrap_or(PollTimeout::MAX);
    match poll(&mut fds, timeout) {
        Ok(count) => Ok(count > 0),
        Err(Errno::EINTR) => Ok(false),
        Err(errno) => Err(errno.into()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sys::{host, pass};

    #[test]
    fn a_door_is_found_while_it_is_open_and_leaves_nothing() {
        let name = format!("ovl-test-{}", host::token());
        let socket = || match visit(&name).unwrap() {
            Visit::Door(socket) => Some(socket),
            _ => None,
        };
        assert!(socket().is_none());
        let door = open(&name).unwrap().unwrap();
        assert!(open(&name).unwrap().is_none(), "the name is taken");
        let visitor = socket().unwrap();
        let (guest, pid) = door.next().unwrap();
        assert_eq!(pid, std::process::id());
        assert!(!wait(&visitor, Duration::from_millis(1)).unwrap());
        pass::send(&guest, b"come in", &[]).unwrap();
        assert!(wait(&visitor, Duration::from_secs(5)).unwrap());
        assert_eq!(pass::receive(&visitor).unwrap().0, b"come in");
        let waiting = socket().unwrap();
        drop(door);
        assert!(pass::receive(&waiting).map_or(true, |(word, _)| word.is_empty()), "whoever waited is told");
        assert!(socket().is_none());
        assert!(open(&name).unwrap().is_some());
    }
}
