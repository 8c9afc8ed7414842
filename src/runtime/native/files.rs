//! How the merged tree of all images gets into the new root: as a FUSE file system or, where that is impossible,
//! unpacked to scratch and bound.

use std::ffi::OsString;
use std::fs::File;
use std::path::{Path, PathBuf};

use super::server::{Server, Word};
use super::{trouble, unpacked};
use crate::model::units::show_size;
use crate::runtime::error::{Result, RuntimeError};
use crate::sys::mount::{self, What};
use crate::sys::userns::Refusal;
use crate::sys::watch;

/// Told, in the process that will be or start the command, what takes long and why.
pub type Tell<'a> = &'a dyn Fn(&str);

/// Mounts the tree at a path.
pub type MountAt<'a> = &'a dyn Fn(&Path) -> Result<()>;

/// Places of the host, opened while it is in sight.
pub struct Host {
    /// Its root.
    pub root: File,
    /// Its process table.
    pub proc: File,
}

/// The merged tree.
pub struct Files<'a> {
    server: Server,
    /// The FUSE device, or why there is none.
    device: Result<File>,
    unpacked: bool,
    tell: Tell<'a>,
}

impl<'a> Files<'a> {
    /// From a server that is opening the images; the caller has entered its user namespace. With `unpack` they are
    /// unpacked also where they could be served.
    pub fn new(server: Server, unpack: bool, tell: Tell<'a>) -> Files<'a> {
        let asked = || RuntimeError::Impossible("as asked".into());
        let device = if unpack { Err(asked()) } else { Server::device() };
        Files { server, device, unpacked: false, tell }
    }

    /// Tells the user something before the command starts.
    pub fn tell(&self, text: &str) {
        (self.tell)(text);
    }

    /// The server.
    pub fn into_server(self) -> Server {
        self.server
    }

    /// Waits until all images are open; the names in the top directory of the merged tree.
    pub fn names(&self) -> Result<Vec<(OsString, What)>> {
        self.server.ready()
    }

    /// Mounts the tree, read-only, where `place` wants it; `place` is given a name that nothing else has, too.
    /// Changes the working directory.
    pub fn mount<T>(&mut self, host: &Host, place: impl Fn(&str, MountAt) -> Result<T>) -> Result<T> {
        let why = match std::mem::replace(&mut self.device, Err(RuntimeError::Impossible("mounted already".into()))) {
            Ok(device) => match place(".ovl-layers", &|at| mount::fuse(&device, at).map_err(trouble::fuse)) {
                Ok(placed) => return self.server.serve(device).map(|()| placed),
                Err(error) => error,
            },
            Err(error) => error,
        };
        let dir = self.unpack(&why)?;
        self.unpacked = true;
        let name = format!(".{}", dir.file_name().unwrap_or_default().to_string_lossy());
        let source = dir.join(unpacked::TOP);
        let source = source.strip_prefix("/").unwrap_or(&source);
        place(&name, &|at| {
            mount::go(&host.root)?;
            mount::bind(source, at)?;
            Ok(mount::read_only_trees(&[at.to_owned()], &host.proc)?)
        })
    }

    /// Has the server unpack the tree; says where.
    fn unpack(&self, why: &RuntimeError) -> Result<PathBuf> {
        self.server.ask_to_unpack()?;
        let mut dir = PathBuf::new();
        loop {
            match self.server.hear()? {
                Word::Unpacking(bytes, path) => {
                    let size = show_size(bytes);
                    (self.tell)(&format!("{why}: unpacking {size} to {} for this command", path.display()));
                    dir = path;
                }
                Word::Unpacked => return Ok(dir),
                Word::Failed(report) => {
                    let hints: Vec<&str> = report.hint.as_deref().into_iter().chain(why.hint()).collect();
                    return Err(RuntimeError::Missing {
                        what: format!("{why}, and the overlays cannot be unpacked instead: {}", report.text),
                        hint: hints.join("; or "),
                    });
                }
                Word::Ready(_) => {}
            }
        }
    }

    /// Whether the tree was unpacked: then [`Files::guard`] is needed.
    pub fn is_unpacked(&self) -> bool {
        self.unpacked
    }

    /// Has what was unpacked removed when the memory mounted at `memory` is mounted nowhere any more.
    pub fn guard(&self, memory: &Path) -> Result<()> {
        // Where the user has no watches left the server looks for itself from time to time.
        let watch = watch::watch(memory).ok();
        Ok(self.server.give_watch(watch.as_ref()).map_err(Refusal::new("say when the command will have ended"))?)
    }
}
