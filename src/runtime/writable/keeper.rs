//! The keeper: a process that belongs to nobody, holds the image locked, and has it mounted in namespaces of its own. The
//! command comes in, takes copies of the mounts with it into a namespace of its own, and the keeper lets go of its own.
//! So the servers end when the kernel has unmounted the last copy, with whichever process that was; then everything is in
//! the image. Should the keeper be killed, its servers and with them all files die.

use std::ffi::{OsStr, OsString};
use std::fs::File;
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use serde::{Deserialize, Serialize};

use super::hold::Hold;
use super::tools;
use crate::runtime::error::{Report, Result, RuntimeError};
use crate::runtime::native::refused;
use crate::sys::lend::{self, Mounter};
use crate::sys::loopdev::{self, Loop};
use crate::sys::mount::{self, What};
use crate::sys::userns::{self, Refusal};
use crate::sys::{fork, fs, host, pass, watch};

/// How long mounting may take: a large image on a slow file server is read in parts.
const PATIENCE: Duration = Duration::from_secs(120);
/// Where the keeper mounts things: the first of these that takes a mount.
const STAGES: [&str; 5] = ["/tmp", "/var/tmp", "/run", "/mnt", "/var"];

/// Directories on the stage: the image, the merged tree, parts of the base, and all united.
pub const IMAGE: &str = "image";
/// The merged tree of the other images.
pub const TREE: &str = "tree";
/// Directories of the base that are to be united with the image's.
pub const BASE: &str = "base";
/// Everything united.
pub const UNION: &str = "union";

/// What a keeper says.
#[derive(Debug, Serialize, Deserialize)]
pub enum Word {
    /// The image is mounted on this stage; the names in its upper directory.
    Ready(PathBuf, Vec<(OsString, What)>),
    /// The directories are united.
    United,
    /// Everything is in the image.
    Closed,
    /// Something failed; the image is closed next.
    Failed(Report),
    /// Closing failed: the image is not clean.
    Unclean(Report),
}

/// What a keeper is asked.
#[derive(Debug, Serialize, Deserialize)]
pub enum Ask {
    /// To unite the image with these directories of the stage, highest first.
    Unite(Vec<String>),
    /// To let go.
    Leave,
}

impl Word {
    fn send(&self, socket: &OwnedFd, files: &[&File]) -> Result<()> {
        let message = serde_json::to_vec(self).map_err(Refusal::new("write a message down"))?;
        Ok(pass::send(socket, &message, files).map_err(Refusal::new("speak to the command's process"))?)
    }
}

/// Who makes a file system of the image.
#[derive(Debug)]
pub enum Way {
    /// fuse2fs, found here.
    Served(PathBuf),
    /// The kernel, from this block device.
    Kernel(Loop),
}

impl Way {
    /// The kernel for root, where it has loop devices, else fuse2fs.
    pub fn find(hold: &Hold) -> Result<Way> {
        let map = fs::read(Path::new("/proc/self/uid_map")).unwrap_or_default();
        let is_root = host::ids().0 == 0 && lend::words(&map) == "0 0 4294967295";
        match is_root.then(|| loopdev::attach(&hold.file)) {
            Some(Ok(device)) => Ok(Way::Kernel(device)),
            _ => Ok(Way::Served(tools::find(tools::FUSE2FS)?)),
        }
    }
}

/// Starts the keeper of a held image. `seen` are the ids by which the user is seen in its namespace.
pub fn start(hold: Hold, seen: (u32, u32), way: Way) -> Result<OwnedFd> {
    let (here, there) = pass::pair().map_err(Refusal::new("make a pair of sockets"))?;
    let mut keep = vec![there, hold.file.into()];
    let (program, device) = match way {
        Way::Served(program) => (program, None),
        Way::Kernel(Loop { path, device }) => {
            keep.push(device.into());
            (PathBuf::new(), Some(path))
        }
    };
    let life = move |kept: Vec<OwnedFd>| {
        let mut kept = kept.into_iter();
        if let (Some(socket), Some(image)) = (kept.next(), kept.next()) {
            let image = File::from(image);
            let word = life_of(&socket, &image, seen, &program, device.zip(kept.next()));
            // With this its lock: who hears the word may use it at once.
            drop(image);
            let _ = word.send(&socket, &[]);
        }
    };
    fork::detached(keep, life).map_err(Refusal::new("start the image's keeper"))?;
    Ok(here)
}

/// The keeper's life. Whatever fails, a server that has the image is never left to be killed with this process: the image
/// is unmounted first.
fn life_of(
    socket: &OwnedFd,
    image: &File,
    seen: (u32, u32),
    program: &Path,
    device: Option<(PathBuf, OwnedFd)>,
) -> Word {
    let mut served = None;
    let done = prepare(seen, device.is_some()).and_then(|stage| {
        let served = served.insert(Served { servers: Vec::new(), stage: stage.to_owned(), device: None });
        serve(served, socket, image, program, device)
    });
    if let Err(error) = done {
        let _ = Word::Failed(error.report()).send(socket, &[]);
    }
    match served.map_or(Ok(()), Served::end) {
        Ok(()) => Word::Closed,
        Err(error) => Word::Unclean(error.report()),
    }
}

/// Enters namespaces; the stage.
fn prepare(seen: (u32, u32), by_kernel: bool) -> Result<&'static Path> {
    if by_kernel {
        userns::own_mounts()?;
    } else {
        userns::enter_as(userns::Kinds::default(), seen).map_err(refused)?;
    }
    mount::only_receive()?;
    let stage = stage()?;
    for dir in [IMAGE, TREE, BASE, UNION] {
        fs::create_dirs(&stage.join(dir))?;
    }
    Ok(stage)
}

fn serve(
    served: &mut Served,
    socket: &OwnedFd,
    image: &File,
    program: &Path,
    device: Option<(PathBuf, OwnedFd)>,
) -> Result<()> {
    let stage = served.stage.clone();
    let at = stage.join(IMAGE);
    match device {
        Some((path, open)) => {
            mount::ext3(&path, &at)?;
            drop(open);
            let watch = watch::watch(&at).map_err(Refusal::new("watch the image"))?;
            served.device = Some((path, watch));
        }
        None => {
            // Its name shows in lists of mounts.
            let source = stage.join(format!("ovl-{}", host::token()));
            fs::symlink(&lend::path_of(image), &source)?;
            let args: [&OsStr; 5] = [source.as_os_str(), at.as_os_str(), "-f".as_ref(), "-o".as_ref(), "rw".as_ref()];
            served.servers.push(mounted(program, &args, &at, image)?);
        }
    }
    let upper = at.join("upper");
    let names = mount::entries(&upper)?;
    let (user, mounts) = (fs::open(Path::new("/proc/self/ns/user"))?, fs::open(Path::new("/proc/self/ns/mnt"))?);
    let spaces: &[&File] = if served.device.is_some() { &[&mounts] } else { &[&user, &mounts] };
    Word::Ready(stage.clone(), names).send(socket, spaces)?;
    drop((user, mounts));
    while let Ok((message, _)) = pass::receive(socket) {
        match serde_json::from_slice(&message) {
            Ok(Ask::Unite(lower)) => {
                // The kernel does not look behind what is mounted in a directory, as parts of the base are.
                if served.device.is_some() && lower == [TREE] {
                    let (tree, union) = (stage.join(TREE), stage.join(UNION));
                    mount::overlay_writable(&[&tree], &upper, &at.join("work"), &union)?;
                } else {
                    served.servers.insert(0, unite(&stage, &lower, image)?);
                }
                Word::United.send(socket, &[])?;
            }
            // An empty message: all who could ask are gone.
            Ok(Ask::Leave) | Err(_) => break,
        }
    }
    Ok(())
}

/// Memory to mount things on.
fn stage() -> Result<&'static Path> {
    let mut refused = None;
    for stage in STAGES.map(Path::new).into_iter().filter(|stage| stage.is_dir()) {
        match mount::tmpfs(stage, 0o700) {
            Ok(()) => return Ok(stage),
            Err(error) => refused = refused.or(Some(error)),
        }
    }
    match refused {
        Some(error) => Err(error.into()),
        None => Err(RuntimeError::Impossible(format!("none of {} is a directory", STAGES.join(", ")))),
    }
}

/// Starts a server and waits until it has mounted.
fn mounted(program: &Path, args: &[&OsStr], at: &Path, image: &File) -> Result<Mounter> {
    let name = program.file_name().unwrap_or_default().display();
    let mut server = Mounter::start(program, args, image).map_err(Refusal::new(format!("start {name}")))?;
    let began = Instant::now();
    while !mount::is_fuse(at) {
        if !matches!(server.ended(), Ok(None)) {
            return Err(RuntimeError::Impossible(format!("{name} could not mount the image: {}", server.said())));
        }
        if began.elapsed() > PATIENCE {
            // Nothing has been written through it.
            server.kill();
            let _ = mount::detach(at);
            return Err(RuntimeError::Impossible(format!("{name} did not mount the image in time")));
        }
        std::thread::sleep(Duration::from_millis(1));
    }
    Ok(server)
}

/// Unites directories of the stage below the image's upper directory.
fn unite(stage: &Path, lower: &[String], image: &File) -> Result<Mounter> {
    let program = tools::find(tools::OVERLAY)?;
    let path = |name: &str| stage.join(name).display().to_string();
    let lower: Vec<String> = lower.iter().map(|name| path(name)).collect();
    let ids = host::ids();
    // What others own is to look like the user's: it could not be copied up otherwise.
    let options = format!(
        "lowerdir={},upperdir={},workdir={},squash_to_uid={},squash_to_gid={}",
        lower.join(":"),
        path("image/upper"),
        path("image/work"),
        ids.0,
        ids.1
    );
    let at = stage.join(UNION);
    mounted(&program, &["-f".as_ref(), "-o".as_ref(), options.as_ref(), at.as_os_str()], &at, image)
}

/// The servers, uppermost first, and what the kernel has mounted.
struct Served {
    servers: Vec<Mounter>,
    stage: PathBuf,
    /// The block device, and a watch on what is mounted of it.
    device: Option<(PathBuf, File)>,
}

impl Served {
    /// Lets go of the keeper's own mounts and waits until nobody has any.
    fn end(mut self) -> Result<()> {
        // What is mounted of the base stays: a server looks behind it, and it holds nothing of the image.
        for name in [UNION, TREE] {
            let _ = mount::detach(&self.stage.join(name));
        }
        let detached = mount::detach(&self.stage.join(IMAGE));
        // It may never have been mounted.
        if !self.servers.is_empty() || self.device.is_some() {
            detached?;
        }
        for server in &mut self.servers {
            if !server.wait().map_err(Refusal::new("wait for a file server"))? {
                return Err(RuntimeError::Impossible(format!("a file server failed: {}", server.said())));
            }
        }
        if let Some((path, watch)) = self.device {
            watch::unmounted(&watch).map_err(Refusal::new("wait until the image is unmounted"))?;
            // Told when the unmounting begins; the device goes when it is over.
            while loopdev::is_attached(&path) {
                std::thread::sleep(Duration::from_millis(2));
            }
        }
        Ok(())
    }
}
