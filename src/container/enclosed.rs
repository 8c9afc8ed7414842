//! A program with another root: `ovl internal enclosed FD` in a mount namespace of its own, where the caller is root
//! already. Without a root it sees the host as the caller does.

use std::convert::Infallible;
use std::ffi::CString;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use super::{Result, Trouble, again, read};
use crate::sys::fork::{self, Ended, Side};
use crate::sys::tolerate::{Tolerate, tolerate};
use crate::sys::userns::{self, Refusal};
use crate::sys::{fs, mount};

/// What to run, and where.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Enclosed {
    /// The root; None: the host's.
    pub root: Option<PathBuf>,
    /// Host paths seen inside. Directories are made where they are missing, files are left out then.
    pub binds: Vec<(PathBuf, PathBuf)>,
    /// What seems to succeed.
    pub tolerate: Option<Tolerate>,
    /// Program and arguments; the program is a path inside.
    pub argv: Vec<String>,
    /// The whole environment.
    pub env: Vec<(String, String)>,
    /// Working directory inside.
    pub cwd: PathBuf,
}

impl Enclosed {
    /// Runs it to its end; its output is the caller's.
    ///
    /// # Errors
    /// When it could not be started at all. A program that cannot be found inside ends with 127.
    pub fn run(&self) -> Result<Ended> {
        let (mut command, _file) = again("enclosed", self)?;
        command.stdin(std::process::Stdio::null());
        let status = command.status().map_err(Refusal::new("start a script"))?;
        Ok(crate::sys::process::ended_of(status))
    }
}

/// `ovl internal enclosed FD`: returns only the reason why the program could not be started.
pub fn enclosed_main(fd: i32) -> Trouble {
    match read::<Enclosed>(fd).and_then(|(enclosed, _)| start(&enclosed)) {
        Err(trouble) => trouble,
        Ok(never) => match never {},
    }
}

fn start(enclosed: &Enclosed) -> Result<Infallible> {
    userns::own_mounts()?;
    mount::only_receive()?;
    if let Some(root) = &enclosed.root {
        alone()?;
        furnish(root, &enclosed.binds)?;
        // This one stays the first process; whatever the script has left running ends with it.
        if let Side::Parent(script) = fork::fork().map_err(Refusal::new("start a script"))? {
            end_as(fork::wait_among_others(script));
        }
        userns::never_look_into_others()?;
    }
    if let Some(what) = enclosed.tolerate {
        tolerate(what)?;
    }
    mount::go_to(&enclosed.cwd)?;
    let text = |text: &str| CString::new(text).map_err(|_| Trouble::new("a NUL byte in a script's environment"));
    let argv = enclosed.argv.iter().map(|arg| text(arg)).collect::<Result<Vec<_>>>()?;
    let env = enclosed.env.iter().map(|(name, value)| text(&format!("{name}={value}"))).collect::<Result<Vec<_>>>()?;
    let program = enclosed.argv.first().map(String::as_str).unwrap_or_default();
    let error = fork::become_program(Path::new(program), &argv, &env);
    Err(Trouble::new(format!("cannot run {program} inside: {error}")))
}

/// Goes on as the first process of a process table of its own, so that no process of the host's root is in sight; nobody
/// looks into this one, whose program is the host's.
fn alone() -> Result<()> {
    userns::keep_to_oneself()?;
    userns::own_processes()?;
    if let Side::Parent(first) = fork::fork().map_err(Refusal::new("start a process in a new process table"))? {
        end_as(fork::wait(first));
    }
    Ok(fork::die_with_parent().map_err(Refusal::new("tie a script to the build"))?)
}

/// Ends this process with the code of another, 128 and its number for a signal.
fn end_as(ended: std::io::Result<Ended>) -> ! {
    match ended {
        Ok(Ended::Code(code)) => fork::end_now(code),
        Ok(Ended::Signal(number)) => fork::end_now(128 + number),
        Err(_) => fork::end_now(1),
    }
}

/// Makes a directory the root, with the process table, devices and what else is bound. Sources are opened before, targets
/// are looked up after: a link in the tree cannot lead to the host.
fn furnish(root: &Path, binds: &[(PathBuf, PathBuf)]) -> Result<()> {
    let host = mount::place(Path::new("/"))?;
    let proc = mount::place(Path::new("/proc"))?;
    let mut sources = Vec::new();
    let system = ["/sys", "/dev"].map(|path| (PathBuf::from(path), PathBuf::from(path)));
    for (source, target) in system.iter().chain(binds) {
        if let Some(meta) = fs::metadata_if_exists(source)? {
            sources.push((mount::place(source)?, meta.is_dir(), target));
        }
    }
    mount::bind(root, root)?;
    let pivoted = mount::enter_root(root)?;
    fs::create_dirs(Path::new("/proc"))?;
    if mount::proc(Path::new("/proc")).is_err() {
        // The kernel wants to see the host's whole one for that.
        mount::bind_place(&proc, Path::new("/proc"), &proc)?;
    }
    for (source, is_dir, target) in sources {
        if is_dir {
            fs::create_dirs(target)?;
        } else if fs::metadata_if_exists(target)?.is_none_or(|meta| !meta.is_file()) {
            continue;
        }
        mount::bind_place(&source, target, &proc)?;
    }
    if pivoted {
        mount::leave_old_root(&host)?;
    }
    Ok(())
}
