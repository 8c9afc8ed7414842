//! What was pulled, by its digest: `blobs/sha256/…` in the cache, whole or not at all, and beside it what is still on its
//! way. `images/` has an OCI layout for each container image, made of links to blobs, and what tags meant last.

use std::path::PathBuf;

use serde_json::json;

use super::client::{Client, Partial};
use super::manifest::{Descriptor, Fetched, kind};
use super::platform::Platform;
use super::reference::{Digest, Reference};
use super::{RegistryError, Result};
use crate::net::Watch;
use crate::sys::digest;
use crate::sys::fs::{self, PathError};
use crate::sys::host;
use crate::sys::lock::{self, Kind, Taken};

/// The part of the cache that registries have.
#[derive(Debug, Clone)]
pub struct Cache {
    dir: PathBuf,
}

impl Cache {
    /// Below a directory, which is made when something is put there.
    pub fn new(dir: impl Into<PathBuf>) -> Cache {
        Cache { dir: dir.into() }
    }

    /// Where a blob is, or would be.
    pub fn path(&self, digest: &Digest) -> PathBuf {
        self.dir.join("blobs/sha256").join(digest.hex())
    }

    /// Whether a blob of this size is there; nobody has looked into it.
    pub fn has(&self, blob: &Descriptor) -> bool {
        fs::metadata(&self.path(&blob.digest)).is_ok_and(|meta| meta.is_file() && meta.len() == blob.size)
    }

    /// Puts bytes there that are what the digest says.
    ///
    /// # Errors
    /// When the file system refuses.
    pub fn put(&self, digest: &Digest, bytes: &[u8]) -> Result<PathBuf> {
        debug_assert_eq!(&Digest::of(bytes), digest);
        let path = self.path(digest);
        if fs::metadata_if_exists(&path)?.is_none_or(|meta| meta.len() != bytes.len() as u64) {
            fs::create_dirs(&self.dir.join("blobs/sha256"))?;
            fs::write_atomic(&path, bytes, 0o666)?;
        }
        Ok(path)
    }

    /// A small blob that is there, verified; None when it is not, or damaged.
    pub fn small(&self, digest: &Digest, most: usize) -> Option<Vec<u8>> {
        let bytes = fs::read_start(&self.path(digest), most).ok()?;
        (Digest::of(&bytes) == *digest).then_some(bytes)
    }

    /// Gets a blob there, from where an earlier transfer stopped. What is there already is verified, not believed.
    /// Without a client only what is there counts.
    ///
    /// # Errors
    /// When it does not come, is not what its digest says, or cannot be written.
    pub fn fetch(
        &self,
        client: Option<&Client>,
        repository: &str,
        blob: &Descriptor,
        watch: &dyn Watch,
    ) -> Result<PathBuf> {
        let path = self.path(&blob.digest);
        if self.has(blob) {
            let file = fs::open(&path)?;
            if digest::of_file(&file).map_err(PathError::new("read", &path))? == blob.digest.as_str() {
                watch.progress(blob.size, Some(blob.size));
                return Ok(path);
            }
            fs::remove_file(&path)?;
        }
        let Some(client) = client else {
            return Err(RegistryError::Offline { what: format!("blob {} of {repository}", blob.digest) });
        };
        let dir = self.dir.join("blobs/sha256");
        fs::create_dirs(&dir)?;
        let (part, file) = self.part(&blob.digest)?;
        // Kept for the next time, unless nobody will find it again.
        let passing = Passing(part.clone(), part != self.part_path(&blob.digest));
        let free = fs::free_bytes(&dir).unwrap_or(u64::MAX);
        let missing = blob.size.saturating_sub(file.metadata().map_or(0, |meta| meta.len()));
        if missing > free {
            return Err(RegistryError::Unfit {
                what: format!("blob {} of {repository}", blob.digest),
                why: format!("{missing} bytes of it are to come, and {} has room for {free}", dir.display()),
                hint: "free space there, or choose another place with OVL_DIRS_CACHE".into(),
            });
        }
        let kept = file.try_clone().map_err(PathError::new("open", &part))?;
        let mut partial = Partial::resume(part.clone(), file, blob.size, watch)?;
        client.blob(repository, blob, &mut partial, watch)?;
        kept.sync_all().map_err(PathError::new("flush", &part))?;
        fs::rename(&part, &path)?;
        drop(passing);
        Ok(path)
    }

    fn part_path(&self, digest: &Digest) -> PathBuf {
        self.dir.join("blobs/sha256").join(format!(".{}.part", digest.hex()))
    }

    /// The file that a blob is read into: the one that is left from before, if nobody else is at it.
    fn part(&self, digest: &Digest) -> Result<(PathBuf, std::fs::File)> {
        let path = self.part_path(digest);
        let opened = match fs::create_new(&path, 0o666) {
            Err(error) if error.source.kind() == std::io::ErrorKind::AlreadyExists => fs::open_rw(&path),
            other => other,
        };
        if let Ok(file) = opened
            && lock::try_lock(&file, Kind::Write).map_err(PathError::new("lock", &path))? == Taken::Held
            // Whoever had it may have finished and renamed it meanwhile.
            && fs::metadata(&path).is_ok_and(|now| file.metadata().is_ok_and(|own| same(&now, &own)))
        {
            return Ok((path, file));
        }
        let path = self.dir.join("blobs/sha256").join(format!(".{}.{}.part", digest.hex(), host::token()));
        let file = fs::create_new(&path, 0o666)?;
        Ok((path, file))
    }

    /// Makes the OCI layout of an image whose blobs are there; its directory can be read by anything that reads those.
    ///
    /// # Errors
    /// When the file system refuses.
    pub fn layout(&self, manifest: &Fetched) -> Result<PathBuf> {
        let dir = self.dir.join("images").join(manifest.digest.hex());
        fs::create_dirs(&dir)?;
        let blobs = dir.join("blobs");
        if fs::symlink_metadata(&blobs).is_err()
            && let Err(error) = fs::symlink(std::path::Path::new("../../blobs"), &blobs)
            && error.source.kind() != std::io::ErrorKind::AlreadyExists
        {
            return Err(error.into());
        }
        let media_type = if manifest.media_type.is_empty() { kind::MANIFEST } else { &manifest.media_type };
        let entry = json!({ "mediaType": media_type, "digest": manifest.digest, "size": manifest.bytes.len() });
        let index = json!({ "schemaVersion": 2, "mediaType": kind::INDEX, "manifests": [entry] });
        fs::write_quick(&dir.join("index.json"), index.to_string().as_bytes(), 0o666)?;
        fs::write_quick(&dir.join("oci-layout"), br#"{"imageLayoutVersion":"1.0.0"}"#, 0o666)?;
        Ok(dir)
    }

    fn note(&self, reference: &Reference, platform: &Platform) -> PathBuf {
        let id = digest::of(format!("{reference} {platform}").as_bytes());
        self.dir.join("images/tags").join(id.trim_start_matches("sha256:"))
    }

    /// Remembers what a reference led to, for when there is no network.
    pub fn remember(&self, reference: &Reference, platform: &Platform, digest: &Digest) {
        let path = self.note(reference, platform);
        // Without it only the next offline use is worse off.
        let made = path.parent().is_some_and(|dir| fs::create_dirs(dir).is_ok());
        if made {
            let _ = fs::write_quick(&path, format!("{digest} {reference}\n").as_bytes(), 0o666);
        }
    }

    /// What a reference led to the last time.
    pub fn recall(&self, reference: &Reference, platform: &Platform) -> Option<Digest> {
        let text = fs::read_start(&self.note(reference, platform), 4096).ok()?;
        String::from_utf8(text).ok()?.split_whitespace().next()?.parse().ok()
    }
}

/// Removed when it is dropped, if nobody could go on with it.
struct Passing(PathBuf, bool);

impl Drop for Passing {
    fn drop(&mut self) {
        if self.1 {
            let _ = fs::remove_file(&self.0);
        }
    }
}

fn same(a: &std::fs::Metadata, b: &std::fs::Metadata) -> bool {
    use std::os::unix::fs::MetadataExt;
    (a.dev(), a.ino()) == (b.dev(), b.ino())
}
