//! Publishing: a new file beside the target, flushed, renamed over, the directory flushed. Nobody ever sees half an
//! overlay, running readers keep the old inode, and the replaced one is kept for `ovl rollback`.

use std::fs::File;
use std::path::{Path, PathBuf};

use super::layers::{make_shared, shared_mode};
use crate::model::env::{self, EnvVar};
use crate::sys::fs::{self, PathError, Result};
use crate::sys::host;
use crate::sys::lock::{self, Kind, Taken};

/// What the names of images have in them that come from elsewhere and may come in several goes.
pub const PULL: &str = ".pull.";

/// A new image that is not public yet; dropping it removes it, unless a later process is to go on with it.
#[derive(Debug)]
pub struct NewImage {
    target: PathBuf,
    path: PathBuf,
    file: File,
    published: bool,
    kept: bool,
}

impl NewImage {
    /// Starts one for `target` under a name nobody else makes, in the same directory.
    pub fn create(target: &Path) -> Result<NewImage> {
        let path = fs::sibling(target, &format!(".new.{}", host::token()));
        let file = fs::create_new(&path, 0o666)?;
        Ok(NewImage { target: target.to_owned(), path, file, published: false, kept: false })
    }

    /// Goes on with one that was left for `target` under this mark (the digest of what it is to become), or starts it.
    /// It stays when it is dropped, until [`NewImage::forget`]; those of other marks are removed.
    pub fn resume(target: &Path, mark: &str) -> Result<NewImage> {
        let path = fs::sibling(target, &format!("{PULL}{mark}"));
        let dir = target.parent().unwrap_or(Path::new("/"));
        let front = fs::sibling(target, PULL).file_name().unwrap_or_default().to_string_lossy().into_owned();
        for name in fs::list_if_exists(dir)?.iter().filter_map(|name| name.to_str()) {
            if name.starts_with(&front) && path.file_name().is_none_or(|own| own != name) {
                fs::remove_file(&dir.join(name))?;
            }
        }
        let file = match fs::create_new(&path, 0o666) {
            Err(error) if error.source.kind() == std::io::ErrorKind::AlreadyExists => fs::open_rw(&path)?,
            made => made?,
        };
        // Whoever has the claim is alone with it; the lock is for those who do not know about claims.
        if lock::try_lock(&file, Kind::Write).map_err(PathError::new("lock", &path))? == Taken::Busy {
            return NewImage::create(target);
        }
        Ok(NewImage { target: target.to_owned(), path, file, published: false, kept: true })
    }

    /// Nobody is to go on with it: it goes when it is dropped.
    pub fn forget(&mut self) {
        self.kept = false;
    }

    /// Where it lies until it is published.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// The open file.
    pub fn file(&self) -> &File {
        &self.file
    }

    /// Flushes it to disk; what is verified afterwards is what was written.
    pub fn flush(&self) -> Result<()> {
        self.file.sync_all().map_err(PathError::new("flush", &self.path))
    }

    /// Makes it the overlay at its target, with `sidecar` as its `.env` file. Returns the path and what went wrong that
    /// does not matter to the overlay itself.
    pub fn publish(mut self, sidecar: &str, keep_previous: bool) -> Result<(PathBuf, Vec<String>)> {
        use std::os::unix::fs::MetadataExt;
        let mut warnings = Vec::new();
        let dir = self.target.parent().unwrap_or(Path::new("/")).to_owned();
        let mode = fs::metadata(&self.path)?.mode() & 0o777;
        fs::set_mode(&self.path, shared_mode(&dir, mode))?;
        if keep_previous && fs::metadata_if_exists(&self.target)?.is_some() {
            // Some file systems have no hard links; that is no reason to throw a finished build away.
            if let Err(error) = keep(&self.target) {
                warnings.push(format!("the replaced overlay is not kept: {error}"));
            }
        }
        // Gone before the image it belongs to is: a kill in between leaves none, never a wrong one.
        fs::remove_file(&sidecar_of(&self.target))?;
        fs::rename(&self.path, &self.target)?;
        self.published = true;
        if let Err(error) = write_sidecar(&self.target, sidecar) {
            warnings.push(format!("{error}; the variables inside the overlay are used"));
        }
        fs::sync_dir(&dir)?;
        Ok((self.target.clone(), warnings))
    }
}

impl NewImage {
    /// Makes it the file at its target and nothing else: no sidecar, nothing kept. Without `replace` a file that is
    /// there already, or appears meanwhile, is an error and stays.
    pub fn place(mut self, replace: bool) -> Result<()> {
        let taken = || PathError::new("write", &self.target)(std::io::ErrorKind::AlreadyExists.into());
        if !replace {
            match fs::hard_link(&self.path, &self.target) {
                // Dropping this value removes the first name.
                Ok(()) => return fs::sync_dir(self.target.parent().unwrap_or(Path::new("/"))),
                Err(error) if error.source.kind() == std::io::ErrorKind::AlreadyExists => return Err(taken()),
                // Some file systems have no hard links; there a look has to do.
                Err(_) if fs::symlink_metadata(&self.target).is_ok() => return Err(taken()),
                Err(_) => {}
            }
        }
        fs::rename(&self.path, &self.target)?;
        self.published = true;
        fs::sync_dir(self.target.parent().unwrap_or(Path::new("/")))
    }
}

impl Drop for NewImage {
    fn drop(&mut self) {
        if !self.published && !self.kept {
            let _ = fs::remove_file(&self.path);
        }
    }
}

/// The `.env` file of a published image: its key says to which build it belongs.
pub fn sidecar_text(key: &str, digest: &str, vars: &[EnvVar]) -> String {
    let head = [
        "variables of the overlay beside this file; edit them, and they shadow those inside it".to_owned(),
        format!("key: {key}"),
        format!("digest: {digest}"),
    ];
    env::write_sidecar(&head, vars)
}

/// The `.env` file beside an overlay.
pub fn sidecar_of(target: &Path) -> PathBuf {
    let mut name = target.as_os_str().to_owned();
    name.push(".env");
    name.into()
}

/// Writes the `.env` file beside an overlay, whole or not at all.
pub fn write_sidecar(target: &Path, text: &str) -> Result<()> {
    let dir = target.parent().unwrap_or(Path::new("/"));
    let path = sidecar_of(target);
    fs::write_atomic(&path, text.as_bytes(), 0o644)?;
    match shared_mode(dir, 0o644) {
        0o644 => Ok(()),
        mode => fs::set_mode(&path, mode),
    }
}

/// Where the replaced overlay is kept.
pub fn previous_of(target: &Path) -> PathBuf {
    let dir = target.parent().unwrap_or(Path::new("/")).join(".previous");
    dir.join(target.file_name().unwrap_or_default())
}

/// Gives the current overlay a second name under `.previous`, replacing what was kept before.
fn keep(target: &Path) -> Result<()> {
    let previous = previous_of(target);
    if let Some(dir) = previous.parent() {
        make_shared(dir)?;
    }
    for (from, to) in [(target.to_owned(), previous.clone()), (sidecar_of(target), sidecar_of(&previous))] {
        let temp = fs::sibling(&to, &format!(".new.{}", host::token()));
        match fs::hard_link(&from, &temp) {
            Ok(()) => fs::rename(&temp, &to)?,
            Err(error) if error.is_not_found() => fs::remove_file(&to)?,
            Err(error) => return Err(error),
        }
    }
    Ok(())
}

/// Exchanges the overlay with the kept one, so that a second rollback undoes the first. False: nothing is kept.
pub fn rollback(target: &Path) -> Result<bool> {
    let previous = previous_of(target);
    if fs::metadata_if_exists(&previous)?.is_none() {
        return Ok(false);
    }
    for (current, kept) in [(target.to_owned(), previous.clone()), (sidecar_of(target), sidecar_of(&previous))] {
        let temp = fs::sibling(&kept, &format!(".new.{}", host::token()));
        let had = match fs::hard_link(&current, &temp) {
            Ok(()) => true,
            Err(error) if error.is_not_found() => false,
            Err(error) => return Err(error),
        };
        match fs::rename(&kept, &current) {
            Err(error) if error.is_not_found() => fs::remove_file(&current)?,
            other => other?,
        }
        if had {
            fs::rename(&temp, &kept)?;
        }
    }
    fs::sync_dir(target.parent().unwrap_or(Path::new("/")))?;
    Ok(true)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Write;

    fn publish(target: &Path, content: &str) {
        let image = NewImage::create(target).unwrap();
        image.file().write_all(content.as_bytes()).unwrap();
        image.flush().unwrap();
        image.publish(&format!("V={content}\n"), true).unwrap();
    }

    fn seen(target: &Path) -> (String, String) {
        let text = |path: &Path| String::from_utf8(fs::read(path).unwrap()).unwrap();
        (text(target), text(&sidecar_of(target)))
    }

    #[test]
    fn replaced_kept_and_rolled_back() {
        let dir = std::env::temp_dir().join(format!("ovl-publish-{}", host::token()));
        fs::create_dirs(&dir).unwrap();
        let target = dir.join("a--1.sqf");
        publish(&target, "one");
        assert!(!rollback(&target).unwrap());
        let reader = fs::open(&target).unwrap();
        publish(&target, "two");
        assert_eq!(std::io::read_to_string(&reader).unwrap(), "one", "a running reader keeps the old inode");
        assert_eq!(seen(&target), ("two".into(), "V=two\n".into()));
        assert!(rollback(&target).unwrap());
        assert_eq!(seen(&target), ("one".into(), "V=one\n".into()));
        assert!(rollback(&target).unwrap());
        assert_eq!(seen(&target), ("two".into(), "V=two\n".into()));
        drop(NewImage::create(&target).unwrap());
        assert_eq!(fs::list(&dir).unwrap(), [".previous", "a--1.sqf", "a--1.sqf.env"]);
        fs::remove_tree(&dir).unwrap();
    }

    #[test]
    fn a_plain_file_is_placed_and_never_replaced_unasked() {
        let dir = std::env::temp_dir().join(format!("ovl-place-{}", host::token()));
        fs::create_dirs(&dir).unwrap();
        let target = dir.join("x.sqf");
        let place = |text: &str, replace| {
            let image = NewImage::create(&target).unwrap();
            image.file().write_all(text.as_bytes()).unwrap();
            image.place(replace)
        };
        place("one", false).unwrap();
        assert!(place("two", false).unwrap_err().to_string().contains("x.sqf: "));
        assert_eq!(fs::read(&target).unwrap(), b"one");
        place("three", true).unwrap();
        assert_eq!(fs::read(&target).unwrap(), b"three");
        assert_eq!(fs::list(&dir).unwrap(), ["x.sqf"]);
        fs::remove_tree(&dir).unwrap();
    }

    #[test]
    fn a_group_directory_makes_group_writable_files_and_directories() {
        use std::os::unix::fs::MetadataExt;
        let layer = std::env::temp_dir().join(format!("ovl-shared-{}", host::token()));
        fs::create_dirs(&layer).unwrap();
        fs::set_mode(&layer, 0o2770).unwrap();
        let dir = layer.join("deep/images");
        make_shared(&dir).unwrap();
        let target = dir.join("a--1.sqf");
        publish(&target, "x");
        publish(&target, "y");
        for path in [target.clone(), sidecar_of(&target)] {
            assert_eq!(fs::metadata(&path).unwrap().mode() & 0o060, 0o060, "{}", path.display());
        }
        for path in [layer.join("deep"), dir.clone(), dir.join(".previous")] {
            assert_eq!(fs::metadata(&path).unwrap().mode() & 0o2070, 0o2070, "{}", path.display());
        }
        fs::remove_tree(&layer).unwrap();
    }
}
