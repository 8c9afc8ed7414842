//! Changes an environment where it lies. Records say at every moment what is whole: those of packages that go are renamed
//! first, those of packages that come get their name last, so that whoever comes after a kill knows what to clear away.

use std::collections::BTreeSet;
use std::path::{Component, Path, PathBuf};

use rattler_conda_types::PrefixRecord;
use serde::{Deserialize, Serialize};

use super::installed::{META, NEW, OLD, is_half};
use crate::sys::fs::{self, PathError};
use crate::sys::{copy, erase};

/// What is to be changed. Everything is ready: the files of packages that come are below `tree`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Change {
    /// The files of records that are there now.
    pub expected: Vec<String>,
    /// The files of records of packages that go.
    pub remove: Vec<String>,
    /// Those of packages that come; one may be in both.
    pub add: Vec<String>,
    /// New files, relative to the environment, with their records.
    pub tree: PathBuf,
    /// The new history.
    pub history: String,
}

/// A change that could not be made.
#[derive(Debug, thiserror::Error)]
pub enum ApplyError {
    /// Reading or writing.
    #[error(transparent)]
    Io(#[from] PathError),
    /// Something is not as it has to be.
    #[error("{0}")]
    Odd(String),
}

/// Makes it in the environment at `prefix`.
///
/// # Errors
/// When the environment is another one than was expected (then nothing has been changed), or there is no room.
pub fn apply(prefix: &Path, change: &Change) -> Result<(), ApplyError> {
    fs::create_dirs(&prefix.join(META))?;
    // Links in an image may lead anywhere on this machine.
    if fs::canonicalize(prefix)? != prefix || fs::canonicalize(&prefix.join(META))? != prefix.join(META) {
        return Err(ApplyError::Odd(format!("{} or its {META} is a symbolic link", prefix.display())));
    }
    let meta = prefix.join(META);
    let names = names(&meta)?;
    let live: BTreeSet<&str> = names.iter().filter(|name| name.ends_with(".json")).map(String::as_str).collect();
    if live != change.expected.iter().map(String::as_str).collect() {
        return Err(ApplyError::Odd("somebody else has changed the environment meanwhile; try again".into()));
    }
    for name in change.add.iter().chain(&change.remove) {
        if !name.ends_with(".json") || name.contains('/') {
            return Err(ApplyError::Odd(format!("'{name}' is no record")));
        }
    }
    for name in &change.add {
        let text = fs::read(&change.tree.join(META).join(name))?;
        fs::write_atomic(&meta.join(format!("{name}{NEW}")), &text, 0o644)?;
    }
    for name in &change.remove {
        fs::rename(&meta.join(name), &meta.join(format!("{name}{OLD}")))?;
    }
    fs::write_atomic(&meta.join("history"), change.history.as_bytes(), 0o644)?;
    clear(prefix, &meta)?;
    put(prefix, &change.tree, Path::new(""))?;
    for name in &change.add {
        fs::rename(&meta.join(format!("{name}{NEW}")), &meta.join(name))?;
    }
    for name in self::names(&meta)?.iter().filter(|name| is_half(name)) {
        fs::remove_file(&meta.join(name))?;
    }
    Ok(())
}

fn names(dir: &Path) -> Result<Vec<String>, PathError> {
    Ok(fs::list(dir)?.into_iter().filter_map(|name| name.into_string().ok()).collect())
}

/// The files of a package by its record.
fn files(path: &Path) -> Result<Vec<PathBuf>, ApplyError> {
    let record: PrefixRecord = serde_json::from_slice(&fs::read(path)?)
        .map_err(|error| ApplyError::Odd(format!("{} is no record of a package: {error}", path.display())))?;
    let listed = record.paths_data.paths.into_iter().map(|entry| entry.relative_path);
    Ok(listed.chain(record.files).filter(|path| is_plain(path)).collect())
}

/// Neither absolute nor upwards.
fn is_plain(path: &Path) -> bool {
    path.components().all(|part| matches!(part, Component::Normal(_))) && path.components().next().is_some()
}

/// Removes the files of all packages that are going or coming, but not what one that stays has.
fn clear(prefix: &Path, meta: &Path) -> Result<(), ApplyError> {
    let (mut kept, mut doomed) = (BTreeSet::new(), BTreeSet::new());
    for name in names(meta)? {
        if is_half(&name) {
            // One that cannot be read must not be in the way of whoever repairs this.
            doomed.extend(files(&meta.join(&name)).unwrap_or_default());
        } else if name.ends_with(".json") {
            kept.extend(files(&meta.join(&name))?);
        }
    }
    let mut dirs = BTreeSet::new();
    for path in doomed.difference(&kept) {
        let Some(dir) = below(prefix, path)? else { continue };
        let Some(name) = path.file_name() else { continue };
        let is_dir = |path: &Path| fs::symlink_metadata(path).is_ok_and(|meta| meta.is_dir());
        if is_dir(&dir.join(name)) {
            dirs.insert(path.clone());
        } else {
            fs::remove_file(&dir.join(name))?;
        }
        if path.extension().is_some_and(|ending| ending == "py") {
            let cache = dir.join("__pycache__");
            let stem = format!("{}.", path.file_stem().unwrap_or_default().to_string_lossy());
            if is_dir(&cache) {
                for name in names(&cache)?.iter().filter(|name| name.starts_with(&stem) && name.ends_with(".pyc")) {
                    fs::remove_file(&cache.join(name))?;
                }
                dirs.insert(path.with_file_name("__pycache__"));
            }
        }
        dirs.extend(path.ancestors().skip(1).map(Path::to_owned));
    }
    // The deepest first; what is not empty stays.
    for dir in dirs.iter().rev().filter(|dir| is_plain(dir) && **dir != Path::new(META)) {
        if let Some(parent) = below(prefix, dir)? {
            erase::empty(&parent.join(dir.file_name().unwrap_or_default()));
        }
    }
    Ok(())
}

/// The directory that a path is in; None where there is none, or where links lead out of the environment.
fn below(prefix: &Path, path: &Path) -> Result<Option<PathBuf>, PathError> {
    let dir = prefix.join(path.parent().unwrap_or(Path::new("")));
    match fs::canonicalize(&dir) {
        Ok(real) => Ok(real.starts_with(prefix).then_some(real)),
        Err(error) if error.is_not_found() => Ok(None),
        // A file is where a directory was.
        Err(_) => Ok(None),
    }
}

/// Copies what is in a directory of the tree to its place.
fn put(prefix: &Path, tree: &Path, dir: &Path) -> Result<(), ApplyError> {
    for name in fs::list(&tree.join(dir))? {
        let path = dir.join(&name);
        if path == Path::new(META) {
            continue;
        }
        let (from, to) = (tree.join(&path), prefix.join(&path));
        let what = fs::symlink_metadata(&from)?;
        if what.is_dir() {
            match fs::symlink_metadata(&to) {
                Ok(meta) if meta.is_dir() => {}
                Ok(meta) if meta.is_symlink() && fs::metadata(&to).is_ok_and(|meta| meta.is_dir()) => {}
                Ok(_) => {
                    fs::remove_file(&to)?;
                    fs::create_dirs(&to)?;
                }
                Err(_) => fs::create_dirs(&to)?,
            }
            if !fs::canonicalize(&to)?.starts_with(prefix) {
                return Err(ApplyError::Odd(format!("{} leads out of the environment", to.display())));
            }
            put(prefix, tree, &path)?;
            continue;
        }
        fs::remove_file(&to)?;
        if what.is_symlink() {
            fs::symlink(&fs::read_link(&from)?, &to)?;
        } else {
            copy::file(&from, &to)?;
            // Compiled files are current by the time of what they were compiled from.
            fs::set_mtime(&to, std::os::unix::fs::MetadataExt::mtime(&what))?;
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_that_lead_out_are_none() {
        assert!(is_plain(Path::new("lib/a")));
        for path in ["", "/etc/passwd", "../x", "a/../../b"] {
            assert!(!is_plain(Path::new(path)), "{path}");
        }
    }
}
