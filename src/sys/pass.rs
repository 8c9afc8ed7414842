//! Between processes: message sockets that carry descriptors, memory files, and the usage marker on an image.

#![allow(unsafe_code, clippy::disallowed_methods)]

use std::fs::File;
use std::io::{self, IoSlice, IoSliceMut, Write};
use std::os::fd::{AsRawFd, FromRawFd, IntoRawFd, OwnedFd, RawFd};
use std::os::unix::fs::FileExt;

use nix::fcntl::{FcntlArg, FdFlag, fcntl};
use nix::libc;
use nix::sys::memfd::{MFdFlags, memfd_create};
use nix::sys::socket::{
    AddressFamily, ControlMessage, ControlMessageOwned, MsgFlags, SockFlag, SockType, recvmsg, sendmsg, socketpair,
};

/// Longest message in bytes that travels as it is; a longer one travels in a memory file.
const LONGEST: usize = 32 << 10;
/// Stands for a message in a memory file, the last of the descriptors that come with it. No other message begins so.
const IN_FILE: &[u8] = b"\0in a file";
/// Longest message at all: nobody who is not broken has that much to say.
const MOST: u64 = 64 << 20;
/// Most descriptors with one message.
pub const MOST_FILES: usize = 2;

/// Two connected sockets that keep message boundaries; both close on exec.
pub fn pair() -> io::Result<(OwnedFd, OwnedFd)> {
    Ok(socketpair(AddressFamily::Unix, SockType::SeqPacket, None, SockFlag::SOCK_CLOEXEC)?)
}

/// Sends one message, with descriptors (at most [`MOST_FILES`]). A peer that is gone is an error, never a signal.
pub fn send(socket: &OwnedFd, message: &[u8], files: &[&File]) -> io::Result<()> {
    if message.len() > LONGEST {
        let file = memory_file(message)?;
        return send_short(socket, IN_FILE, &[files, &[&file]].concat());
    }
    send_short(socket, message, files)
}

fn send_short(socket: &OwnedFd, message: &[u8], files: &[&File]) -> io::Result<()> {
    let data = [IoSlice::new(message)];
    let fds: Vec<RawFd> = files.iter().map(|file| file.as_raw_fd()).collect();
    let rights = [ControlMessage::ScmRights(&fds)];
    let control: &[ControlMessage] = if fds.is_empty() { &[] } else { &rights };
    loop {
        match sendmsg::<()>(socket.as_raw_fd(), &data, control, MsgFlags::MSG_NOSIGNAL, None) {
            Err(nix::errno::Errno::EINTR) => {}
            result => return result.map(|_| ()).map_err(io::Error::from),
        }
    }
}

/// Receives one message and the descriptors that came with it; an empty message means that the peer is gone.
pub fn receive(socket: &OwnedFd) -> io::Result<(Vec<u8>, Vec<File>)> {
    let (message, mut files) = receive_short(socket)?;
    if message != IN_FILE {
        return Ok((message, files));
    }
    let file = files.pop().ok_or_else(|| io::Error::other("a message without its file"))?;
    let length = file.metadata()?.len();
    if length > MOST {
        return Err(io::Error::other(format!("a message of {length} bytes")));
    }
    let mut message = vec![0; length as usize];
    file.read_exact_at(&mut message, 0)?;
    Ok((message, files))
}

fn receive_short(socket: &OwnedFd) -> io::Result<(Vec<u8>, Vec<File>)> {
    let mut buffer = vec![0; LONGEST];
    let mut control = nix::cmsg_space!([RawFd; MOST_FILES + 1]);
    let (length, files) = loop {
        let mut data = [IoSliceMut::new(&mut buffer)];
        match recvmsg::<()>(socket.as_raw_fd(), &mut data, Some(&mut control), MsgFlags::MSG_CMSG_CLOEXEC) {
            Err(nix::errno::Errno::EINTR) => {}
            Err(errno) => return Err(errno.into()),
            Ok(message) if message.flags.contains(MsgFlags::MSG_TRUNC) => {
                return Err(io::Error::other("a message was cut short"));
            }
            Ok(message) => {
                let mut files = Vec::new();
                for part in message.cmsgs()? {
                    if let ControlMessageOwned::ScmRights(fds) = part {
                        for fd in fds {
                            // SAFETY: the kernel has just made this descriptor for us; nobody else owns it.
                            files.push(unsafe { File::from_raw_fd(fd) });
                        }
                    }
                }
                break (message.bytes, files);
            }
        }
    };
    buffer.truncate(length);
    Ok((buffer, files))
}

/// Says that nothing more will be sent; the peer hears it as an end, and may go on to speak.
pub fn end(socket: &OwnedFd) -> io::Result<()> {
    Ok(nix::sys::socket::shutdown(socket.as_raw_fd(), nix::sys::socket::Shutdown::Write)?)
}

/// Marks an image as in use for as long as the file, or a copy of it in another process, is open: an open file
/// description read lock over all of it. File systems without locks are left unmarked.
pub fn mark_used(file: &File) {
    // SAFETY: flock is plain data for which all zeroes is a valid value.
    let mut lock: libc::flock = unsafe { std::mem::zeroed() };
    lock.l_type = libc::F_RDLCK as libc::c_short;
    lock.l_whence = libc::SEEK_SET as libc::c_short;
    let _ = fcntl(file, FcntlArg::F_OFD_SETLK(&lock));
}

/// Leaves a file open for good, also in the program that this process becomes.
pub fn leave_open(file: File) -> io::Result<()> {
    fcntl(&file, FcntlArg::F_SETFD(FdFlag::empty()))?;
    let _ = file.into_raw_fd();
    Ok(())
}

/// A file in memory that holds `bytes`; closes on exec.
pub fn memory_file(bytes: &[u8]) -> io::Result<File> {
    let mut file = File::from(memfd_create(c"ovl", MFdFlags::MFD_CLOEXEC)?);
    file.write_all(bytes)?;
    Ok(file)
}

/// Takes over descriptor `number`, which whoever started this process left open for it; closes on exec from now on.
pub fn inherited(number: RawFd) -> io::Result<File> {
    if number < 3 {
        return Err(io::Error::from_raw_os_error(libc::EBADF));
    }
    // SAFETY: F_GETFD only asks whether the number is an open descriptor.
    if unsafe { libc::fcntl(number, libc::F_GETFD) } < 0 {
        return Err(io::Error::last_os_error());
    }
    // SAFETY: it is open, and by the contract of this call nobody else in this process owns it.
    let file = unsafe { File::from_raw_fd(number) };
    fcntl(&file, FcntlArg::F_SETFD(FdFlag::FD_CLOEXEC))?;
    Ok(file)
}

#[cfg(test)]
mod tests {
    use std::io::{Read, Seek};

    use super::*;

    #[test]
    fn a_message_carries_a_file() {
        let (here, there) = pair().unwrap();
        let mut file = memory_file(b"content").unwrap();
        file.rewind().unwrap();
        send(&here, b"look", &[&file]).unwrap();
        send(&here, b"again", &[]).unwrap();
        let long: Vec<u8> = (0..300_000u32).map(|number| number as u8).collect();
        send(&here, &long, &[&file]).unwrap();
        drop(here);
        let (message, mut passed) = receive(&there).unwrap();
        let mut text = String::new();
        passed.remove(0).read_to_string(&mut text).unwrap();
        assert_eq!((message.as_slice(), text.as_str()), (&b"look"[..], "content"));
        let (message, passed) = receive(&there).unwrap();
        assert!(message == b"again" && passed.is_empty());
        let (message, passed) = receive(&there).unwrap();
        assert!(message == long && passed.len() == 1, "{} bytes, {passed:?}", message.len());
        assert!(receive(&there).unwrap().0.is_empty(), "a peer that is gone says nothing");
    }

    #[test]
    fn a_peer_that_is_gone_is_an_error() {
        let (here, there) = pair().unwrap();
        drop(there);
        assert!(send(&here, b"hello?", &[]).is_err());
    }

    #[test]
    fn standard_streams_and_closed_numbers_are_not_inherited() {
        assert!(inherited(1).is_err());
        assert!(inherited(9_999).is_err());
    }
}
