//! Making an image: beside its name, whole, and only then under it.

use std::ffi::{OsStr, OsString};
use std::path::{Path, PathBuf};

use super::{Hold, Tell, failed, hold, missing, own};
use crate::image::ext::make::{self, Profile};
use crate::model::units::show_size;
use crate::runtime::error::{Report, Result, RuntimeError};
use crate::runtime::native::refused;
use crate::sys::fork::{self, Side};
use crate::sys::fs::{self, PathError};
use crate::sys::userns::{self, Refusal};
use crate::sys::{host, lend, lock, mount, pass, process};

/// An image to be made.
#[derive(Debug, Clone)]
pub struct Order {
    /// Its file.
    pub path: PathBuf,
    /// Bytes.
    pub size: u64,
    /// What it is for.
    pub profile: Profile,
    /// Give the file its room on disk at once.
    pub full: bool,
    /// For commands that see themselves as root.
    pub fakeroot: bool,
    /// A directory that is copied into it.
    pub from: Option<PathBuf>,
    /// Replace what has its name.
    pub force: bool,
}

/// A file that is not what it is to become yet.
struct Unfinished(PathBuf);

impl Drop for Unfinished {
    fn drop(&mut self) {
        let _ = fs::remove_file(&self.0);
    }
}

/// Makes it.
///
/// # Errors
/// When there is something of its name already (unless forced, and nobody uses it), or no room.
pub fn create(order: &Order, tell: Tell) -> Result<()> {
    let program = process::find("mke2fs").ok_or_else(|| missing("mke2fs"))?;
    // What is to be replaced must not be in use, until it is replaced.
    let _replaced = match fs::metadata_if_exists(&order.path)? {
        Some(_) if !order.force => return Err(exists(&order.path)),
        Some(_) => Some(hold(&order.path, lock::Kind::Write)?),
        None => None,
    };
    let temp = Unfinished(fs::sibling(&order.path, &format!(".new.{}", host::token())));
    let file = fs::create_new(&temp.0, 0o666)?;
    if order.full {
        tell(&format!("taking {} on disk", show_size(order.size)));
        fs::allocate(&file, order.size).map_err(PathError::new("take room for", &order.path))?;
    }
    file.set_len(order.size).map_err(PathError::new("set the size of", &order.path))?;
    let held = Hold { file, locked: true };
    let owner = if order.fakeroot { (0, 0) } else { host::ids() };
    let make = |seed: Option<&Path>| {
        let args = make::image(order.profile, seed, owner, &lend::path_of(&held.file));
        let args: Vec<&OsStr> = args.iter().map(OsString::as_os_str).collect();
        match lend::run(&program, &args, Some(&held.file)) {
            Ok((Some(0), _)) => Ok(()),
            Ok((_, said)) => Err(failed("mke2fs", &order.path, &String::from_utf8_lossy(&said))),
            Err(error) => Err(RuntimeError::from(Refusal::new("run mke2fs")(error))),
        }
    };
    match &order.from {
        None => {
            make(None)?;
            own::make_tops(&order.path, &held, owner)?;
        }
        Some(dir) => {
            tell(&format!("copying {} into {}", dir.display(), order.path.display()));
            with_seed(dir, &|seed| make(Some(seed)))?;
            own::chown(&order.path, &held, own::Whole::Everything, owner, false)?;
        }
    }
    held.file.sync_all().map_err(PathError::new("flush", &order.path))?;
    publish(&temp.0, order)
}

fn exists(path: &Path) -> RuntimeError {
    RuntimeError::Impossible(format!("{} exists; --force replaces it", path.display()))
}

/// Gives the finished image its name, without ever replacing what was not to be.
fn publish(temp: &Path, order: &Order) -> Result<()> {
    if order.force {
        fs::rename(temp, &order.path)?;
    } else if let Err(error) = fs::hard_link(temp, &order.path) {
        if fs::metadata_if_exists(&order.path)?.is_some() {
            return Err(exists(&order.path));
        }
        // Some file systems have no second names.
        if error.source.kind() == std::io::ErrorKind::NotFound {
            return Err(error.into());
        }
        fs::rename(temp, &order.path)?;
    }
    Ok(fs::sync_dir(order.path.parent().unwrap_or(Path::new("/")))?)
}

/// Does something in a process that sees `dir` as the upper directory of a seed; nothing has to be copied for that.
fn with_seed(dir: &Path, work: &dyn Fn(&Path) -> Result<()>) -> Result<()> {
    let (here, there) = pass::pair().map_err(Refusal::new("make a pair of sockets"))?;
    match fork::fork().map_err(Refusal::new("start a process"))? {
        Side::Child => {
            let done = seed(dir).and_then(|seed| work(&seed)).map_err(|error| error.report());
            let _ = pass::send(&there, &serde_json::to_vec(&done).unwrap_or_default(), &[]);
            fork::end_now(0)
        }
        Side::Parent(child) => {
            drop(there);
            let said = pass::receive(&here).map_err(Refusal::new("hear from a process"))?.0;
            let _ = fork::wait(child);
            match serde_json::from_slice::<Result<(), Report>>(&said) {
                Ok(Ok(())) => Ok(()),
                Ok(Err(report)) => Err(RuntimeError::Reported(report)),
                Err(_) => Err(RuntimeError::Impossible("the process that filled the image was killed".into())),
            }
        }
    }
}

/// Puts the seed together, in namespaces of this process's own.
fn seed(dir: &Path) -> Result<PathBuf> {
    fork::die_with_parent().map_err(Refusal::new("tie a process to its caller"))?;
    userns::enter(userns::Kinds::default()).map_err(refused)?;
    mount::only_receive()?;
    let (source, proc) = (mount::place(dir)?, mount::place(Path::new("/proc"))?);
    let stage = Path::new("/tmp");
    mount::tmpfs(stage, 0o755)?;
    for name in ["upper", "work"] {
        fs::create_dirs(&stage.join(name))?;
    }
    mount::bind_place(&source, &stage.join("upper"), &proc)?;
    Ok(stage.to_owned())
}
