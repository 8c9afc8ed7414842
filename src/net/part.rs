//! The unfinished file of a transfer: it lies beside its goal under a name told by what is wanted, so that a later run
//! goes on with it, and is locked, so that two processes do not write to it at the same time.

use std::fs::File;
use std::os::unix::fs::{FileExt, MetadataExt};
use std::path::{Path, PathBuf};
use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::download::Watch;
use super::error::Trouble;
use crate::sys::fs::{self, PathError};
use crate::sys::lock::{self, Kind, Taken};
use crate::sys::{digest, host, own};

/// What told a server's file from the next version of it, when the part was begun (RFC 9110, 8.8).
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Validator {
    /// The address.
    pub url: String,
    /// A strong entity tag.
    pub etag: Option<String>,
    /// `Last-Modified`, as written.
    pub modified: Option<String>,
    /// Bytes of the whole.
    pub total: Option<u64>,
}

/// An unfinished file, open and ours alone.
#[derive(Debug)]
pub struct Part {
    path: PathBuf,
    file: File,
    /// Bytes that are there.
    pub len: u64,
    hash: digest::Running,
    /// Of what it is a part; nothing for one that cannot be gone on with.
    pub validator: Option<Validator>,
    /// Nobody else will ever look for it: it goes when it is dropped.
    private: bool,
}

impl Part {
    /// Opens or begins one, waiting for another process that has it, and says whether that was so. Where there are no
    /// locks, it is private.
    pub fn open(path: &Path, watch: &dyn Watch) -> Result<(Part, bool), Trouble> {
        let mut told = false;
        loop {
            let file = match open_or_create(path) {
                Ok(Some(file)) => file,
                // Its name can be told beforehand: somebody has laid something else there.
                Ok(None) => return Ok((Part::private(path)?, told)),
                // Somebody else's unfinished file in a shared directory.
                Err(error) if error.is_denied() => return Ok((Part::private(path)?, told)),
                Err(error) => return Err(error.into()),
            };
            match lock::try_lock(&file, Kind::Write) {
                Ok(Taken::Held) => {}
                Ok(Taken::Busy) => {
                    if !told {
                        watch.note("another process is fetching the same; waiting for it");
                        told = true;
                    }
                    if watch.cancelled() {
                        return Err(Trouble::Interrupted);
                    }
                    std::thread::sleep(Duration::from_millis(100));
                    continue;
                }
                Ok(Taken::Unsupported) | Err(_) => return Ok((Part::private(path)?, told)),
            }
            // Whoever had it may have finished: then this is no unfinished file any more.
            let own = file.metadata().map_err(PathError::new("examine", path))?;
            match fs::metadata_if_exists(path)? {
                Some(now) if (now.dev(), now.ino()) == (own.dev(), own.ino()) => {}
                _ => continue,
            }
            let validator = fs::read_if_exists(&beside(path))?.and_then(|text| serde_json::from_slice(&text).ok());
            let hash = digest::Running::new();
            let mut part = Part { path: path.to_owned(), file, len: 0, hash, validator, private: false };
            part.take_up(own.len())?;
            return Ok((part, told));
        }
    }

    fn private(path: &Path) -> Result<Part, Trouble> {
        let path = fs::sibling(path, &format!(".{}", host::token()));
        let file = fs::create_new(&path, 0o600)?;
        Ok(Part { path, file, len: 0, hash: digest::Running::new(), validator: None, private: true })
    }

    /// Hashes what is there.
    fn take_up(&mut self, length: u64) -> Result<(), PathError> {
        let mut buffer = vec![0; 1 << 20];
        while self.len < length {
            let got = self.file.read_at(&mut buffer, self.len).map_err(PathError::new("read", &self.path))?;
            if got == 0 {
                break;
            }
            self.hash.add(&buffer[..got]);
            self.len += got as u64;
        }
        Ok(())
    }

    /// From the beginning; what follows is a part of `validator`'s file.
    pub fn restart(&mut self, validator: Option<Validator>) -> Result<(), PathError> {
        if self.len > 0 {
            self.file.set_len(0).map_err(PathError::new("empty", &self.path))?;
        }
        (self.len, self.hash) = (0, digest::Running::new());
        if self.validator != validator && !self.private {
            match &validator {
                Some(now) => {
                    fs::write_quick(&beside(&self.path), &serde_json::to_vec(now).unwrap_or_default(), 0o600)?;
                }
                None => fs::remove_file(&beside(&self.path))?,
            }
        }
        self.validator = validator;
        Ok(())
    }

    /// Adds bytes.
    pub fn add(&mut self, bytes: &[u8]) -> Result<(), PathError> {
        self.file.write_all_at(bytes, self.len).map_err(PathError::new("write", &self.path))?;
        self.hash.add(bytes);
        self.len += bytes.len() as u64;
        Ok(())
    }

    /// The SHA-256 of what is there, in lower case hexadecimal.
    pub fn sha256(&self) -> String {
        self.hash.clone().finish().trim_start_matches("sha256:").to_owned()
    }

    /// Where it lies.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// It is whole: flushed, with these permission bits, and called `to` from now on, whatever was there before.
    pub fn finish(mut self, to: &Path, mode: u32) -> Result<(), PathError> {
        self.file.sync_all().map_err(PathError::new("flush", &self.path))?;
        fs::set_mode(&self.path, mode)?;
        fs::remove_file(&beside(&self.path))?;
        fs::rename(&self.path, to)?;
        self.private = false;
        Ok(())
    }

    /// It is worth nothing.
    pub fn discard(self) -> Result<(), PathError> {
        fs::remove_file(&beside(&self.path))?;
        fs::remove_file(&self.path)
    }
}

impl Drop for Part {
    fn drop(&mut self) {
        if self.private {
            let _ = fs::remove_file(&self.path);
        } else if self.len == 0 && lock::try_lock(&self.file, Kind::Write).is_ok_and(|taken| taken == Taken::Held) {
            // Nothing to go on with. Whoever waits for the lock sees that the name is gone, and makes a new one. One that
            // was finished has another name by now; its own is not there, or is somebody else's new one.
            let own = self.file.metadata().map(|meta| (meta.dev(), meta.ino()));
            let now = fs::metadata(&self.path).map(|meta| (meta.dev(), meta.ino()));
            if let (Ok(own), Ok(now)) = (own, now)
                && own == now
            {
                let _ = fs::remove_file(&beside(&self.path));
                let _ = fs::remove_file(&self.path);
            }
        }
    }
}

/// Where the validator of a part lies.
fn beside(path: &Path) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(".from");
    name.into()
}

/// None where what has the name is no file of ours.
fn open_or_create(path: &Path) -> Result<Option<File>, PathError> {
    loop {
        match own::open_rw(path) {
            Err(error) if error.is_not_found() => {}
            other => return other,
        }
        match fs::create_new(path, 0o600) {
            Err(error) if error.is_taken() => {}
            other => return other.map(Some),
        }
    }
}
