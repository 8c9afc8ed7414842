//! What every image has beside its system: directories and links that runtimes expect, and `/.singularity.d`.

use super::root::Root;
use super::{Result, scripts};
use crate::sys::fs;

const DIRS: [&str; 10] = [
    ".singularity.d/libs",
    ".singularity.d/actions",
    ".singularity.d/env",
    "dev",
    "proc",
    "root",
    "var/tmp",
    "tmp",
    "sys",
    "home",
];

const LINKS: [(&str, &str); 6] = [
    (".singularity.d/runscript", "singularity"),
    (".singularity.d/actions/run", ".run"),
    (".singularity.d/actions/exec", ".exec"),
    (".singularity.d/actions/test", ".test"),
    (".singularity.d/actions/shell", ".shell"),
    (".singularity.d/env/90-environment.sh", "environment"),
];

/// Adds all of it. `over` says that files which are there already are replaced; an image that is built on keeps its own.
pub fn add(root: &Root, over: bool) -> Result<()> {
    for dir in DIRS.iter().chain(&["etc"]) {
        if fs::symlink_metadata(&root.find_link(dir)?).is_err() {
            root.dir(dir)?;
        }
    }
    for (target, path) in LINKS {
        root.link(target, path)?;
    }
    for (path, text, mode) in scripts::files() {
        if over || !root.has(path)? {
            root.write(path, &text, mode)?;
        }
    }
    Ok(())
}
