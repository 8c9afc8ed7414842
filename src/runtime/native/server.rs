//! The server process: opens the images, marks them used, tells what they hold, and serves them as one FUSE file
//! system until the last process that sees it has ended. It lives outside of the command's namespaces: inside, a
//! killed command could leave it waiting for itself for ever.

use std::ffi::OsString;
use std::fs::File;
use std::os::fd::OwnedFd;
use std::os::unix::ffi::OsStringExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use serde::{Deserialize, Serialize};

use super::{open, session, trouble, unpacked};
use crate::exec::{Base, Invocation};
use crate::runtime::error::{Report, Result, RuntimeError};
use crate::runtime::fuse::{Answers, serve};
use crate::runtime::tree::layer::{DIR, SYMLINK};
use crate::runtime::tree::{ROOT, Tree};
use crate::sys::meet::Door;
use crate::sys::mount::What;
use crate::sys::userns::Refusal;
use crate::sys::{cpus, env, fork, fs, pass};

/// Threads that answer requests: one for each processor, within these.
const THREADS: std::ops::RangeInclusive<usize> = 2..=16;

/// The other end of a server.
pub struct Server {
    socket: OwnedFd,
}

/// What a server says.
#[derive(Serialize, Deserialize)]
pub enum Word {
    /// All images are open; the names in the top directory of the merged tree.
    Ready(Vec<(OsString, What)>),
    /// It has begun to unpack so many bytes to this directory.
    Unpacking(u64, PathBuf),
    /// It has unpacked everything.
    Unpacked,
    /// It cannot serve or unpack.
    Failed(Report),
}

impl Word {
    /// Says it.
    pub fn send(&self, socket: &OwnedFd) -> Result<()> {
        let message = serde_json::to_vec(self).map_err(Refusal::new("write a message down"))?;
        Ok(pass::send(socket, &message, &[]).map_err(Refusal::new("speak to the command's process"))?)
    }
}

impl Server {
    /// Starts it; the images are opened while the caller goes on. Later commands come in by the door.
    pub fn start(invocation: &Invocation, door: Option<Door>) -> Result<Server> {
        let invocation = &absolute(invocation);
        let (here, there) = pass::pair().map_err(Refusal::new("make a pair of sockets"))?;
        let keep = std::iter::once(there).chain(door.map(OwnedFd::from)).collect();
        let life = |kept: Vec<OwnedFd>| {
            let mut kept = kept.into_iter();
            if let Some(socket) = kept.next() {
                run(&Arc::new(socket), kept.next().map(Door::from), invocation);
            }
        };
        fork::detached(keep, life).map_err(Refusal::new("start the file server"))?;
        Ok(Server { socket: here })
    }

    /// Waits until all images are open; the names in the top directory of the merged tree.
    pub fn ready(&self) -> Result<Vec<(OsString, What)>> {
        match self.hear()? {
            Word::Ready(names) => Ok(names),
            Word::Failed(report) => Err(RuntimeError::Reported(report)),
            Word::Unpacking(..) | Word::Unpacked => {
                Err(RuntimeError::Impossible("the file server unpacks what it was not asked for".into()))
            }
        }
    }

    /// Waits for the next word.
    pub fn hear(&self) -> Result<Word> {
        let (message, _) = pass::receive(&self.socket).map_err(Refusal::new("hear from the file server"))?;
        serde_json::from_slice(&message)
            .map_err(|_| RuntimeError::Impossible("the file server ended before it had the files ready".into()))
    }

    /// Asks for the tree on scratch instead of a file system.
    pub fn ask_to_unpack(&self) -> Result<()> {
        Ok(pass::send(&self.socket, b"unpack", &[]).map_err(Refusal::new("ask for the files to be unpacked"))?)
    }

    /// Gives what was unpacked up as soon as the watch says so (None: as soon as nobody has it mounted) and this
    /// value is dropped.
    pub fn give_watch(&self, watch: Option<&File>) -> std::io::Result<()> {
        pass::send(&self.socket, b"watch", watch.as_slice())
    }

    /// Says that the root stands: others may come in.
    pub fn open_door(&self) -> std::io::Result<()> {
        pass::send(&self.socket, session::STANDS, &[])
    }

    /// Opens the device; it belongs to the user namespace in which it was opened.
    pub fn device() -> Result<File> {
        fs::open_rw(Path::new("/dev/fuse")).map_err(trouble::device)
    }

    /// Lets the server answer for what was mounted with the device. It has to be given away before the tree is
    /// touched: should the server die, a copy left here would make the kernel wait for an answer for ever.
    pub fn serve(&self, device: File) -> Result<()> {
        pass::send(&self.socket, b"serve", &[&device])
            .map_err(|error| Refusal::new("hand the file system to its server")(error).into())
    }
}

/// The server works in `/`: paths are made absolute while the caller's working directory is at hand.
fn absolute(invocation: &Invocation) -> Invocation {
    let mut invocation = invocation.clone();
    let here = env::current_dir();
    if let Base::Image(path) = &mut invocation.base {
        *path = here.join(&*path);
    }
    for path in &mut invocation.layers {
        *path = here.join(&*path);
    }
    invocation.scratch = here.join(&invocation.scratch);
    invocation
}

/// The server's life.
fn run(socket: &Arc<OwnedFd>, door: Option<Door>, invocation: &Invocation) {
    cpus::widen();
    let tree = open::all(invocation).and_then(|tree| Ok((top(&tree)?, tree)));
    let (word, tree) = match tree {
        Ok((names, tree)) => (Word::Ready(names), Some(tree)),
        Err(error) => (Word::Failed(error.report()), None),
    };
    let (Ok(()), Some(tree)) = (word.send(socket), tree) else { return };
    match pass::receive(socket) {
        Ok((word, _)) if word == b"unpack" => unpacked::serve(socket, door, &tree, invocation),
        Ok((_, files)) => {
            let Some(device) = files.first() else { return };
            let_in(socket, door);
            let threads = cpus::usable().clamp(*THREADS.start(), *THREADS.end());
            serve(device, &Answers::new(tree, super::seen_as(invocation)), threads);
        }
        Err(_) => {}
    }
}

/// Lets others in as soon as the founder's root stands, on a thread that ends with this process at the latest.
pub fn let_in(socket: &Arc<OwnedFd>, door: Option<Door>) {
    let Some(door) = door else { return };
    let socket = socket.clone();
    // Without the thread there is no door, and nobody needs one.
    let _ = std::thread::Builder::new().stack_size(128 << 10).spawn(move || session::host(&socket, &door));
}

fn top(tree: &Tree) -> Result<Vec<(OsString, What)>> {
    let listing = tree.list(ROOT).map_err(|source| RuntimeError::Image { path: "(all)".into(), source })?;
    let what = |kind| match kind {
        DIR => What::Dir,
        SYMLINK => What::Link,
        _ => What::File,
    };
    let entry = |entry: &crate::runtime::tree::Entry| (OsString::from_vec(entry.name.clone()), what(entry.kind));
    Ok(listing.iter().map(entry).collect())
}
