//! Builds the root a command sees, inside its own mount namespace. Sources are opened before anything is hidden; then
//! the new root is entered, so that targets are looked up in it as the command will; then base, images and mounts are
//! put in place in that order; last the old root goes.

use std::ffi::OsString;
use std::fs::File;
use std::path::{Path, PathBuf};

use super::files::{Files, Host, Tell};
use super::points::Points;
use super::server::Server;
use super::{HOST_PLACES, HOSTS_OWN, is_host, skipped, trouble};
use crate::exec::{Base, Invocation, Mount};
use crate::runtime::error::{Result, RuntimeError};
use crate::runtime::writable::Place;
use crate::sys::mount::{self, What};
use crate::sys::{fs, userns::Refusal};

/// Where the new root is put together before it is entered: the first of these that takes a mount.
const STAGES: [&str; 5] = ["/tmp", "/var/tmp", "/run", "/mnt", "/var"];

/// For each mount of an invocation that binds something: the source, opened while it is in sight, and whether it is a
/// directory.
type Sources = Vec<Option<(File, bool)>>;

fn open_sources(invocation: &Invocation) -> Result<Sources> {
    let mut sources = Vec::with_capacity(invocation.mounts.len());
    for mount in &invocation.mounts {
        sources.push(match mount {
            Mount::Bind { source, .. } => {
                let place = mount::place(source)?;
                let meta = place.metadata().map_err(Refusal::new(format!("look at {}", source.display())))?;
                Some((place, meta.is_dir()))
            }
            Mount::Tmpfs { .. } => None,
        });
    }
    Ok(sources)
}

/// Builds the root and enters it and the working directory. Gives the server back.
pub fn build(
    invocation: &Invocation,
    server: Option<Server>,
    place: Option<Place>,
    tell: Tell,
) -> Result<Option<Server>> {
    mount::only_receive()?;
    let image = place.map(Place::open).transpose()?;
    let sources = open_sources(invocation)?;
    let host = Host { root: mount::place(Path::new("/"))?, proc: mount::place(Path::new("/proc"))? };
    let isolation = invocation.isolation;
    let mut files = server.map(|server| Files::new(server, invocation.unpack, tell));
    let mut points = Points::default();
    let mut bound = Vec::new();
    let pivoted;
    match &invocation.base {
        Base::Dir(path) => {
            let path = fs::canonicalize(path)?;
            let base = mount::place(&path)?;
            let spread = points.to_spread(&path, invocation)?;
            let stage = stage(&|stage| Ok(mount::tmpfs(stage, 0o755)?))?;
            pivoted = mount::enter_root(stage)?;
            points.own(Path::new("/"))?;
            let skip = skipped(&path, isolation.processes);
            let base = Dir { place: base, tolerant: is_host(&path), skip, spread };
            // Images first: where they share a name with the base, both are united.
            let taken = match (&image, &mut files) {
                (Some(image), _) => image.show()?,
                (None, Some(files)) => add_tree(&base, files, &host, &mut bound)?,
                (None, None) => Vec::new(),
            };
            base.fill(Path::new("/"), &taken, &mut bound)?;
            if !is_host(&path) {
                add_host_places(&host, isolation.processes, &mut bound)?;
            }
            if isolation.processes {
                fs::create_dirs(Path::new("/proc"))?;
            }
        }
        Base::Image(_) if image.is_some() => {
            let stage = stage(&|stage| image.as_ref().map_or(Ok(()), |image| image.mount(stage)))?;
            pivoted = mount::enter_root(stage)?;
            add_host_places(&host, isolation.processes, &mut bound)?;
        }
        Base::Image(path) => {
            let Some(files) = &mut files else {
                return Err(RuntimeError::Impossible(format!("nobody serves the image {}", path.display())));
            };
            files.names()?;
            let stage = files.mount(&host, |_, mount_at| stage(mount_at))?;
            pivoted = mount::enter_root(stage)?;
            if files.is_unpacked() {
                // Memory that nobody sees: the host's directory is bound over it.
                mount::tmpfs(Path::new("/tmp"), 0o700)?;
                files.guard(Path::new("/tmp"))?;
            }
            add_host_places(&host, isolation.processes, &mut bound)?;
        }
    }
    if isolation.read_only {
        mount::read_only_trees(&bound, &host.proc)?;
    }
    if isolation.processes {
        process_table(&host)?;
    }
    let sealed = furnish(invocation, &sources, &host, &mut points)?;
    for target in sealed {
        mount::set_read_only(&target, true)?;
    }
    if matches!(invocation.base, Base::Dir(_)) {
        mount::set_read_only(Path::new("/"), true)?;
    }
    if pivoted {
        mount::leave_old_root(&host.root)?;
    }
    super::program::enter_directory(&invocation.cwd)?;
    Ok(files.map(Files::into_server))
}

/// Mounts a new root at a stage; says where.
fn stage(mount_at: &dyn Fn(&Path) -> Result<()>) -> Result<&'static Path> {
    let mut refused = None;
    for stage in STAGES.map(Path::new) {
        if !stage.is_dir() {
            continue;
        }
        match mount_at(stage) {
            Ok(()) => return Ok(stage),
            Err(error) => refused = refused.or(Some(error)),
        }
    }
    Err(refused.unwrap_or_else(|| RuntimeError::Impossible(format!("none of {} is a directory", STAGES.join(", ")))))
}

/// The process table of the new PID namespace; where the kernel refuses (it does when the host's is partly hidden),
/// the host's.
fn process_table(host: &Host) -> Result<()> {
    let target = Path::new("/proc");
    if mount::proc(target).is_err() {
        mount::go(&host.root)?;
        mount::bind(Path::new("proc"), target)?;
    }
    Ok(())
}

/// What every system needs of the host; the process table apart when it will be a new one.
fn add_host_places(host: &Host, own_processes: bool, bound: &mut Vec<PathBuf>) -> Result<()> {
    for place in HOST_PLACES {
        let target = PathBuf::from(place);
        if own_processes && place == "/proc" {
            continue;
        }
        if !target.is_dir() {
            fs::create_dirs(&target)?;
        }
        mount::go(&host.root)?;
        mount::bind(Path::new(place.trim_start_matches('/')), &target)?;
        bound.push(target);
    }
    Ok(())
}

/// A base directory.
struct Dir {
    place: File,
    /// The host's own root: what cannot be bound (a dead network mount, say) is left empty.
    tolerant: bool,
    /// Paths that are not taken from it.
    skip: Vec<&'static str>,
    /// Directories of which the entries are bound one by one, because a mount point has to be made in them.
    spread: Vec<PathBuf>,
}

impl Dir {
    /// Binds the entries of a directory of the base (`/`: all of it), but not those of `taken` names.
    fn fill(&self, dir: &Path, taken: &[OsString], bound: &mut Vec<PathBuf>) -> Result<()> {
        let from = |path: &Path| Path::new(".").join(path.strip_prefix("/").unwrap_or(path));
        mount::go(&self.place)?;
        for (name, what) in mount::entries(&from(dir))? {
            let target = dir.join(&name);
            if taken.contains(&name) || self.skip.iter().any(|skip| target == Path::new(skip)) {
                continue;
            }
            if what == What::Dir && self.spread.contains(&target) {
                fs::create_dirs(&target)?;
                self.fill(&target, &[], bound)?;
                continue;
            }
            match show(&from(&target), &target, what) {
                Ok(()) if what != What::Link => bound.push(target),
                Ok(()) => {}
                Err(_) if self.tolerant => {}
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }
}

/// Shows a directory, file or link somewhere else on memory.
fn show(source: &Path, target: &Path, what: What) -> Result<()> {
    match what {
        What::Link => return Ok(mount::copy_link(source, target)?),
        What::Dir => fs::create_dirs(target)?,
        What::File => drop(fs::append(target)?),
    }
    Ok(mount::bind(source, target)?)
}

/// Adds what the images hold to a root made of a directory. Gives the names that need nothing of the base any more.
fn add_tree(base: &Dir, files: &mut Files, host: &Host, bound: &mut Vec<PathBuf>) -> Result<Vec<OsString>> {
    let names = files.names()?;
    let tree = &files.mount(host, |name, mount_at| {
        let tree = Path::new("/").join(name);
        fs::create_dirs(&tree)?;
        match mount_at(&tree) {
            Ok(()) => Ok(tree),
            // Another way may be tried, and the root is not to show this one.
            Err(error) => fs::remove_tree(&tree).map_err(RuntimeError::from).and(Err(error)),
        }
    })?;
    if files.is_unpacked() {
        // The root itself is memory of the command's own.
        files.guard(Path::new("/"))?;
    }
    mount::go(&base.place)?;
    let in_base = mount::entries(Path::new("."))?;
    let mut taken = Vec::new();
    for (name, what) in names {
        let target = Path::new("/").join(&name);
        let from = tree.join(&name);
        // Over the host, what programs write to stays the host's.
        let hosts = base.tolerant && HOSTS_OWN.iter().any(|own| name == *own);
        if hosts || base.skip.iter().any(|skip| target == Path::new(skip)) {
            continue;
        }
        let lower = in_base.iter().find(|(other, _)| *other == name).map(|(_, what)| *what);
        // A link of the host's such as /bin or /lib64: without it nothing of the host's could be run.
        if base.tolerant && what == What::Dir && lower == Some(What::Link) {
            let name = name.display();
            files.tell(&format!(
                "/{name} of the overlays is not seen: on this host it is a link; ovl exec --base has it"
            ));
            continue;
        }
        if what == What::Dir && lower == Some(What::Dir) {
            fs::create_dirs(&target)?;
            mount::overlay(&[&from, &Path::new(".").join(&name)], &target)
                .map_err(|error| trouble::overlay(error, &target))?;
            bound.push(target);
        } else {
            show(&from, &target, what)?;
        }
        taken.push(name);
    }
    mount::detach(tree)?;
    fs::remove_tree(tree)?;
    Ok(taken)
}

/// Walks the mounts of the invocation. Gives those on memory that are to be read-only in the end.
fn furnish(invocation: &Invocation, sources: &Sources, host: &Host, points: &mut Points) -> Result<Vec<PathBuf>> {
    let mut sealed = Vec::new();
    for (mount, source) in invocation.mounts.iter().zip(sources) {
        match (mount, source) {
            (Mount::Tmpfs { target, mode, writable }, _) => {
                points.make(target, true)?;
                mount::tmpfs(target, *mode)?;
                points.own(target)?;
                if !writable {
                    sealed.push(target.clone());
                }
            }
            (Mount::Bind { target, writable, .. }, Some((place, is_dir))) => {
                points.make(target, *is_dir)?;
                mount::bind_place(place, target, &host.proc)?;
                if !writable {
                    mount::read_only_trees(std::slice::from_ref(target), &host.proc)?;
                }
            }
            (Mount::Bind { .. }, None) => {}
        }
    }
    Ok(sealed)
}
