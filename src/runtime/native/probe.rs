//! Looks for what the native runtime needs, by trying it in a process of its own.

use std::path::Path;

use serde::{Deserialize, Serialize};

use super::trouble;
use crate::runtime::error::RuntimeError;
use crate::sys::fork::{self, Side};
use crate::sys::userns::{self, Kinds};
use crate::sys::{fs, mount, pass};

/// What works here.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Capabilities {
    /// In the order in which they build on each other.
    pub findings: Vec<Finding>,
}

/// One thing that was tried.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Finding {
    /// What, for example "user namespaces".
    pub what: String,
    /// Whether it works.
    pub works: bool,
    /// Whether images cannot be run without it.
    pub needed: bool,
    /// What was found, as a sentence.
    pub text: String,
    /// What would help.
    pub hint: Option<String>,
}

impl Capabilities {
    /// Whether commands can be run over images.
    pub fn is_usable(&self) -> bool {
        self.findings.iter().all(|finding| finding.works || !finding.needed)
    }

    /// The first thing that is needed and does not work.
    pub fn obstacle(&self) -> Option<&Finding> {
        self.findings.iter().find(|finding| finding.needed && !finding.works)
    }

    fn add(&mut self, what: &str, needed: bool, found: Result<&str, RuntimeError>) -> bool {
        let works = found.is_ok();
        let (text, hint) = match found {
            Ok(text) => (text.to_owned(), None),
            Err(error) => (error.to_string(), error.hint().map(str::to_owned)),
        };
        self.findings.push(Finding { what: what.to_owned(), works, needed, text, hint });
        works
    }
}

/// Tries everything in a child process, which this process must have one thread for.
pub fn probe() -> Capabilities {
    let failed = |why: String| {
        let mut found = Capabilities { findings: Vec::new() };
        found.add("native runtime", true, Err(RuntimeError::Impossible(why)));
        found
    };
    if userns::threads() > 1 {
        return failed("cannot be tried by a process with several threads".into());
    }
    let Ok((here, there)) = pass::pair() else { return failed("cannot make a pair of sockets".into()) };
    match fork::fork() {
        Ok(Side::Child) => {
            drop(here);
            let message = serde_json::to_vec(&try_all()).unwrap_or_default();
            let _ = pass::send(&there, &message, &[]);
            fork::end_now(0)
        }
        Ok(Side::Parent(child)) => {
            drop(there);
            let answer = pass::receive(&here);
            let _ = fork::wait(child);
            let found = answer.ok().and_then(|(message, _)| serde_json::from_slice(&message).ok());
            found.unwrap_or_else(|| failed("the trial process ended early".into()))
        }
        Err(error) => failed(format!("cannot fork: {error}")),
    }
}

fn try_all() -> Capabilities {
    let mut found = Capabilities { findings: Vec::new() };
    let stage = Path::new("/tmp");
    let entered = userns::enter(Kinds::default()).map_err(trouble::namespaces);
    let inside = found.add("user namespaces", true, entered.map(|()| "can be created without privileges"));
    let device = fs::open_rw(Path::new("/dev/fuse")).map_err(trouble::device);
    let opened = found.add("/dev/fuse", false, device.as_ref().map(|_| "can be opened").map_err(unpacked));
    if !inside {
        return found;
    }
    let memory = mount::only_receive().and_then(|()| mount::tmpfs(stage, 0o755));
    if !found.add("mounts", true, memory.map(|()| "work in a user namespace").map_err(RuntimeError::from)) {
        return found;
    }
    if opened && let Ok(device) = device {
        let dir = stage.join("fuse");
        let mounted = fs::create_dirs(&dir)
            .map_err(RuntimeError::from)
            .and_then(|()| mount::fuse(&device, &dir).map_err(trouble::fuse));
        let mounted = mounted.as_ref().map(|()| "can be mounted in a user namespace");
        found.add("FUSE", false, mounted.map_err(unpacked));
    }
    let overlay = try_overlay(stage).map_err(|error| RuntimeError::Missing {
        what: format!("does not work in a user namespace ({error})"),
        hint: "needed only where a base directory and an overlay share a top directory; Linux 5.11 or newer has it"
            .into(),
    });
    found.add("overlayfs", false, overlay.map(|()| "works in a user namespace"));
    let recursive = mount::read_only_tree(stage).map_err(|error| RuntimeError::Missing {
        what: format!("mount_setattr is not there ({error}); read-only trees are made mount by mount"),
        hint: "Linux 5.12 or newer has it".into(),
    });
    found.add("read-only trees", false, recursive.map(|()| "are made in one step"));
    let table = userns::enter(Kinds { processes: true, network: true }).map_err(trouble::namespaces);
    found.add("process and network namespaces", false, table.map(|()| "can be created"));
    found
}

fn try_overlay(stage: &Path) -> Result<(), RuntimeError> {
    let [low, high, both] = ["low", "high", "both"].map(|name| stage.join(name));
    for dir in [&low, &high, &both] {
        fs::create_dirs(dir)?;
    }
    mount::overlay(&[&high, &low], &both)?;
    Ok(mount::detach(&both)?)
}

/// What cannot be mounted is unpacked.
fn unpacked(error: &RuntimeError) -> RuntimeError {
    RuntimeError::Missing {
        what: format!("{error}; images are unpacked to scratch for every command instead"),
        hint: error.hint().unwrap_or("FUSE makes that unnecessary").into(),
    }
}
