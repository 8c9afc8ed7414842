//! `%files`: from the host (links are followed, as `cp -L` does) and from earlier stages (links stay links, but the ones
//! that are named are followed inside of their stage).

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
    let pattern = dir.join(&transfer.source);
    let slash = if transfer.source.ends_with('/') { "/" } else { "" };
    for source in glob::expand(&format!("{}{slash}", pattern.display().to_string().trim_end_matches('/'))) {
        if fs::metadata_if_exists(&source)?.is_none() {
            return Err(missing(transfer, &format!("{} is not there", source.display())));
        }
        // A relative source keeps its relative path.
        let same = Path::new("/").join(source.strip_prefix(dir).unwrap_or(&source));
        let target = place(transfer, &same, root)?;
        copy(transfer, &["-fLr", "--remove-destination"], &source, &target, tolerate)?;
    }
    Ok(())
}

/// Copies from another stage.
pub fn from_stage(transfer: &Transfer, stage: &Root, root: &Root, tolerate: Tolerate) -> Result<()> {
    let pattern = format!("{}/{}", stage.0.display(), transfer.source.trim_start_matches('/'));
    for found in glob::expand(&pattern) {
        let inside = found.strip_prefix(&stage.0).unwrap_or(&found).to_owned();
        let source = stage.find(&inside)?;
        if fs::symlink_metadata(&source).is_err() {
            return Err(missing(transfer, &format!("{} is not in that stage", transfer.source)));
        }
        let mut target = place(transfer, &Path::new("/").join(&inside), root)?;
        if fs::metadata(&target).is_ok_and(|meta| meta.is_dir())
            && !transfer.target.is_empty()
            && let Some(name) = inside.file_name()
        {
            target.push(name);
        }
        let into = fs::metadata(&source).is_ok_and(|meta| meta.is_dir());
        let flags: &[&str] = if into { &["-aT", "--remove-destination"] } else { &["-a", "--remove-destination"] };
        copy(transfer, flags, &source, &target, tolerate)?;
    }
    Ok(())
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

fn copy(transfer: &Transfer, flags: &[&str], from: &Path, to: &Path, tolerate: Tolerate) -> Result<()> {
    let cp = process::find("cp").ok_or_else(|| Trouble::new("there is no cp on this machine"))?;
    let text = |path: &Path| {
        path.to_str().map(str::to_owned).ok_or_else(|| Trouble::new(format!("{} is not UTF-8", path.display())))
    };
    let mut argv = vec![text(&cp)?];
    argv.extend(flags.iter().map(|flag| (*flag).to_owned()));
    argv.extend(["--".to_owned(), text(from)?, text(to)?]);
    let env = env::var("PATH").map(|path| ("PATH".to_owned(), path)).into_iter().collect();
    let run = Enclosed { root: None, binds: Vec::new(), tolerate: Some(tolerate), argv, env, cwd: "/".into() };
    match run.run()? {
        Ended::Code(0) => Ok(()),
        _ => Err(missing(transfer, &format!("cannot copy {} to {}", transfer.source, transfer.target))),
    }
}
