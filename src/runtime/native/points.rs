//! Mount points: they are made in memory only, never in a directory of the host or of the base.

use std::os::unix::fs::MetadataExt;
use std::path::{Component, Path, PathBuf};

use crate::exec::{Invocation, Mount};
use crate::runtime::error::{Result, RuntimeError};
use crate::sys::fs;

/// Most entries of a directory that is bound entry by entry.
const MOST: usize = 2000;

/// Knows which parts of the new root are memory of our own.
#[derive(Debug, Default)]
pub struct Points {
    /// Their device numbers.
    own: Vec<u64>,
}

impl Points {
    /// What is mounted at `path` is ours.
    pub fn own(&mut self, path: &Path) -> Result<()> {
        self.own.push(fs::metadata(path)?.dev());
        Ok(())
    }

    /// Directories of the base in which mount points have to be made: their entries are to be bound one by one.
    /// Sorted, parents before children; the base itself is not among them.
    pub fn to_spread(&self, base: &Path, invocation: &Invocation) -> Result<Vec<PathBuf>> {
        let mut spread = Vec::new();
        let mut earlier: Vec<&Path> = Vec::new();
        for mount in &invocation.mounts {
            let (Mount::Bind { target, .. } | Mount::Tmpfs { target, .. }) = mount;
            let relative = inside(target)?;
            let below_another = earlier.iter().any(|other| target.starts_with(other));
            earlier.push(target);
            if below_another || base.join(relative).symlink_metadata().is_ok() {
                continue;
            }
            let Some(found) = relative.ancestors().skip(1).find(|path| base.join(path).is_dir()) else { continue };
            let real = fs::canonicalize(&base.join(found))?;
            // A link that leads out of the base: making the point will fail and name it.
            let Ok(real) = real.strip_prefix(base) else { continue };
            for path in real.ancestors().filter(|path| !path.as_os_str().is_empty()) {
                let absolute = Path::new("/").join(path);
                if !spread.contains(&absolute) {
                    if fs::list(&base.join(path))?.len() > MOST {
                        return Err(RuntimeError::Impossible(format!(
                            "there is no {} inside and {} is too large a directory to add it",
                            target.display(),
                            absolute.display()
                        )));
                    }
                    spread.push(absolute);
                }
            }
        }
        spread.sort();
        Ok(spread)
    }

    /// Makes sure that there is a directory (or a file) at `target` in the present root.
    pub fn make(&self, target: &Path, is_dir: bool) -> Result<()> {
        inside(target)?;
        if let Some(meta) = fs::metadata_if_exists(target)? {
            if meta.is_dir() == is_dir {
                return Ok(());
            }
            let (have, want) = if is_dir { ("a file", "a directory") } else { ("a directory", "a file") };
            return Err(RuntimeError::Impossible(format!(
                "cannot mount {want} at {}: it is {have} inside",
                target.display()
            )));
        }
        let found = target.ancestors().skip(1).find(|path| path.exists()).unwrap_or(Path::new("/"));
        if !self.own.contains(&fs::metadata(found)?.dev()) {
            return Err(RuntimeError::Impossible(format!(
                "there is no {} inside and it cannot be made in {}, which is not ours",
                target.display(),
                found.display()
            )));
        }
        if is_dir {
            fs::create_dirs(target)?;
        } else {
            fs::create_dirs(target.parent().unwrap_or(Path::new("/")))?;
            fs::append(target)?;
        }
        Ok(())
    }
}

/// The target relative to the root; it must be absolute, below the root and without `..`.
fn inside(target: &Path) -> Result<&Path> {
    match target.strip_prefix("/") {
        Ok(path)
            if !path.as_os_str().is_empty() && path.components().all(|part| matches!(part, Component::Normal(_))) =>
        {
            Ok(path)
        }
        _ => Err(RuntimeError::Impossible(format!("'{}' is no absolute path to mount at", target.display()))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn targets_are_absolute_and_below_the_root() {
        for good in ["/a", "/a/b/", "/a/./b"] {
            assert!(inside(Path::new(good)).is_ok(), "{good}");
        }
        for bad in ["", "/", "a", "/a/../b", "../x"] {
            assert!(inside(Path::new(bad)).is_err(), "{bad}");
        }
    }

    #[test]
    fn nothing_is_made_outside_of_our_own_memory() {
        let error = Points::default().make(Path::new("/no/such/place"), true).unwrap_err();
        assert!(error.to_string().contains("/no/such/place"), "{error}");
        assert!(Points::default().make(Path::new("/proc"), true).is_ok(), "what is there is fine");
        assert!(Points::default().make(Path::new("/proc"), false).is_err(), "unless it is of the other kind");
    }
}
