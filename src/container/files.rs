//! `%files`: from the host (links are followed, as `cp -L` does) and from earlier stages (links stay links, but the ones
//! that are named are followed inside of their stage).

use std::ffi::OsStr;
use std::path::{Path, PathBuf};

use super::enclosed::Enclosed;
use super::root::Root;
use super::{Result, Trouble, glob};
use crate::recipe::def::Transfer;
use crate::sys::fork::Ended;
use crate::sys::tolerate::Tolerate;
use crate::sys::{env, fs, process};

/// Copies from the host; relative paths begin in `dir`.
pub fn from_host(transfer: &Transfer, dir: &Path, root: &Root, tolerate: Tolerate) -> Result<()> {
    for source in glob::expand(dir, &transfer.source, &|path, _| Some(path.to_owned())) {
        let Some(meta) = fs::metadata_if_exists(&source)? else {
            return Err(missing(transfer, &format!("{} is not there", source.display())));
        };
        // A relative source keeps its relative path.
        let same = Path::new("/").join(source.strip_prefix(dir).unwrap_or(&source));
        let mut target = place(transfer, &same, root)?;
        let content = transfer.source.ends_with("/.");
        if is_dir(&target)
            && !content
            && let Some(name) = source.file_name()
        {
            target = below(&target, name, meta.is_dir(), root)?;
        }
        copy(transfer, "-fLrT", &source, &target, tolerate)?;
    }
    Ok(())
}

/// Copies from another stage.
pub fn from_stage(transfer: &Transfer, stage: &Root, root: &Root, tolerate: Tolerate) -> Result<()> {
    let in_stage = |path: &Path, follow| if follow { stage.find(path) } else { stage.find_link(path) }.ok();
    for inside in glob::expand(Path::new("/"), &transfer.source, &in_stage) {
        let source = stage.find(&inside)?;
        let Ok(meta) = fs::symlink_metadata(&source) else {
            return Err(missing(transfer, &format!("{} is not in that stage", transfer.source)));
        };
        let mut target = place(transfer, &inside, root)?;
        if is_dir(&target)
            && !transfer.target.is_empty()
            && let Some(name) = inside.file_name()
        {
            target = below(&target, name, meta.is_dir(), root)?;
        }
        copy(transfer, "-aT", &source, &target, tolerate)?;
    }
    Ok(())
}

fn is_dir(path: &Path) -> bool {
    fs::symlink_metadata(path).is_ok_and(|meta| meta.is_dir())
}

/// The place of a name in a directory of the tree: what is there may be a link, which leads nowhere but into the tree. A
/// file takes the place of a link.
fn below(dir: &Path, name: &OsStr, into: bool, root: &Root) -> Result<PathBuf> {
    let inside = Path::new("/").join(dir.strip_prefix(&root.0).unwrap_or(dir)).join(name);
    if into { root.find(inside) } else { root.find_link(inside) }
}

fn missing(transfer: &Transfer, what: &str) -> Trouble {
    let at = if transfer.line > 0 { format!("line {}: ", transfer.line) } else { String::new() };
    Trouble::new(format!("{at}%files: {what}")).hint("relative paths begin where the definition file is")
}

/// Where a transfer goes on the host; the directory above is made. A slash at the end means a directory.
fn place(transfer: &Transfer, same: &Path, root: &Root) -> Result<PathBuf> {
    let target = if transfer.target.is_empty() { same.to_owned() } else { PathBuf::from(&transfer.target) };
    let full = root.find(&target)?;
    if transfer.target.ends_with('/') {
        fs::create_dirs(&full)?;
    } else if let Some(above) = full.parent() {
        fs::create_dirs(above)?;
    }
    Ok(full)
}

/// `to` is the exact place: with links on the way resolved in the tree, as cp would follow them on the host.
fn copy(transfer: &Transfer, flags: &str, from: &Path, to: &Path, tolerate: Tolerate) -> Result<()> {
    let cp = process::find("cp").ok_or_else(|| Trouble::new("there is no cp on this machine"))?;
    let text = |path: &Path| {
        path.to_str().map(str::to_owned).ok_or_else(|| Trouble::new(format!("{} is not UTF-8", path.display())))
    };
    let mut argv = vec![text(&cp)?];
    argv.extend([flags, "--remove-destination", "--"].map(str::to_owned));
    argv.extend([text(from)?, text(to)?]);
    let env = env::var("PATH").map(|path| ("PATH".to_owned(), path)).into_iter().collect();
    let run = Enclosed { root: None, binds: Vec::new(), tolerate: Some(tolerate), argv, env, cwd: "/".into() };
    match run.run()? {
        Ended::Code(0) => Ok(()),
        _ => Err(missing(transfer, &format!("cannot copy {} to {}", transfer.source, transfer.target))),
    }
}
