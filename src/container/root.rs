//! A tree that will be an image's root. Paths in it are looked up as a process inside would: no symbolic link leads out.

use std::ffi::OsString;
use std::path::{Component, Path, PathBuf};

use super::{Result, Trouble};
use crate::sys::fs;

/// Symbolic links on the way to one place.
const LINKS: usize = 40;

/// The tree's top on the host.
#[derive(Debug, Clone)]
pub struct Root(pub PathBuf);

impl Root {
    /// Where a path of the tree is on the host, links followed inside of the tree. What is missing is as it is written.
    pub fn find(&self, path: impl AsRef<Path>) -> Result<PathBuf> {
        self.walk(path.as_ref(), true)
    }

    /// As [`Root::find`], but a link at the end is the place itself.
    pub fn find_link(&self, path: impl AsRef<Path>) -> Result<PathBuf> {
        self.walk(path.as_ref(), false)
    }

    fn walk(&self, path: &Path, follow_last: bool) -> Result<PathBuf> {
        let parts = |path: &Path| -> Vec<OsString> {
            let part = |part: Component| match part {
                Component::Normal(name) => Some(name.to_owned()),
                Component::ParentDir => Some("..".into()),
                _ => None,
            };
            path.components().rev().filter_map(part).collect()
        };
        let mut left = parts(path);
        let mut at: Vec<OsString> = Vec::new();
        let mut links = 0;
        let full = |at: &[OsString]| at.iter().fold(self.0.clone(), |path, name| path.join(name));
        while let Some(name) = left.pop() {
            if name == ".." {
                at.pop();
                continue;
            }
            at.push(name);
            if left.is_empty() && !follow_last {
                break;
            }
            let here = full(&at);
            if !fs::symlink_metadata(&here).is_ok_and(|meta| meta.is_symlink()) {
                continue;
            }
            links += 1;
            if links > LINKS {
                return Err(Trouble::new(format!("too many symbolic links on the way to {}", path.display())));
            }
            let target = fs::read_link(&here)?;
            at.pop();
            if target.is_absolute() {
                at.clear();
            }
            left.extend(parts(&target));
        }
        Ok(full(&at))
    }

    /// Whether something is at a path; a link that leads nowhere is nothing.
    pub fn has(&self, path: &str) -> Result<bool> {
        Ok(fs::metadata_if_exists(&self.find(path)?)?.is_some())
    }

    /// A directory with those above it; one that is there already is left as it is.
    pub fn dir(&self, path: &str) -> Result<()> {
        Ok(fs::create_dirs(&self.find(path)?)?)
    }

    /// Writes a file; its directory is made.
    pub fn write(&self, path: &str, text: &str, mode: u32) -> Result<()> {
        let full = self.find(path)?;
        if let Some(dir) = full.parent() {
            fs::create_dirs(dir)?;
        }
        fs::write_quick(&full, text.as_bytes(), mode)?;
        Ok(fs::set_mode(&full, mode)?)
    }

    /// The text of a file of reasonable length; None where there is none.
    pub fn read(&self, path: &str) -> Result<Option<String>> {
        const LONGEST: usize = 16 << 20;
        let full = self.find(path)?;
        if !fs::metadata_if_exists(&full)?.is_some_and(|meta| meta.is_file()) {
            return Ok(None);
        }
        Ok(Some(String::from_utf8_lossy(&fs::read_start(&full, LONGEST)?).into_owned()))
    }

    /// A symbolic link; something else at its place stays.
    pub fn link(&self, target: &str, path: &str) -> Result<()> {
        let full = self.find_link(path)?;
        match fs::symlink_metadata(&full) {
            Ok(meta) if !meta.is_symlink() => return Ok(()),
            Ok(_) => fs::remove_file(&full)?,
            Err(_) => {}
        }
        Ok(fs::symlink(Path::new(target), &full)?)
    }
}
