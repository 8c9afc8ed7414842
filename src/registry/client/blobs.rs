//! Blobs of a registry: looked for, and read into a file, going on where an earlier transfer stopped.

use std::fs::File;
use std::os::unix::fs::FileExt;
use std::path::PathBuf;

use reqwest::Method;
use reqwest::header::CONTENT_RANGE;

use super::super::manifest::Descriptor;
use super::super::reference::Digest;
use super::super::{RegistryError, Result};
use super::{Ask, Client, LONGEST_PAUSE, PAUSE, Scope, answer, limited, net, tries_allowed, waited};
use crate::net::Watch;
use crate::sys::digest::Running;
use crate::sys::fs::PathError;

/// A file that a blob is being read into, with the digest of what is there.
pub struct Partial {
    path: PathBuf,
    file: File,
    at: u64,
    hash: Running,
}

impl Partial {
    /// Goes on with a file; what is in it is read for its digest. `most` is the size that it is to have: a longer file
    /// is begun anew.
    ///
    /// # Errors
    /// When it cannot be read.
    pub fn resume(path: PathBuf, file: File, most: u64, watch: &dyn Watch) -> Result<Partial> {
        let mut partial = Partial { path, file, at: 0, hash: Running::new() };
        let length = partial.file.metadata().map_err(PathError::new("look at", &partial.path))?.len();
        if length > most {
            partial.empty()?;
            return Ok(partial);
        }
        let mut buffer = vec![0; 1 << 20];
        while partial.at < length {
            if watch.cancelled() {
                return Err(RegistryError::Interrupted);
            }
            let got = partial.file.read_at(&mut buffer, partial.at).map_err(PathError::new("read", &partial.path))?;
            let piece = buffer.get(..got).unwrap_or_default();
            if piece.is_empty() {
                break;
            }
            partial.hash.add(piece);
            partial.at += got as u64;
        }
        Ok(partial)
    }

    /// Bytes that are there.
    pub fn length(&self) -> u64 {
        self.at
    }

    fn empty(&mut self) -> Result<()> {
        self.file.set_len(0).map_err(PathError::new("empty", &self.path))?;
        (self.at, self.hash) = (0, Running::new());
        Ok(())
    }

    fn add(&mut self, piece: &[u8]) -> Result<()> {
        self.file.write_all_at(piece, self.at).map_err(PathError::new("write", &self.path))?;
        self.hash.add(piece);
        self.at += piece.len() as u64;
        Ok(())
    }
}

/// What one attempt at a blob came to.
enum Came {
    All,
    Cut(RegistryError),
}

impl Client {
    /// Whether a repository has a blob.
    ///
    /// # Errors
    /// When the registry does not answer sensibly.
    pub fn has_blob(&self, repository: &str, digest: &Digest, watch: &dyn Watch) -> Result<bool> {
        let scope = Scope::push(repository);
        let url = self.url(&format!("{repository}/blobs/{digest}"))?;
        let ask = Ask::new(Method::HEAD, url, &scope, format!("give blob {digest}"));
        waited(watch, async {
            let response = self.call(&ask).await?;
            match response.status().as_u16() {
                200 => Ok(true),
                404 => Ok(false),
                _ => Err(answer(&self.registry, response, &ask.what).await),
            }
        })
    }

    /// A small blob, into memory.
    ///
    /// # Errors
    /// When it is longer than `most`, not there, or not what its digest says.
    pub fn small_blob(&self, repository: &str, blob: &Descriptor, most: u64, watch: &dyn Watch) -> Result<Vec<u8>> {
        let what = format!("blob {} of {}/{repository}", blob.digest, self.registry);
        if blob.size > most {
            return Err(RegistryError::odd(what, format!("it has {} bytes, more than {most}", blob.size)));
        }
        let scope = Scope::pull(repository);
        let url = self.url(&format!("{repository}/blobs/{}", blob.digest))?;
        let ask = Ask::new(Method::GET, url.clone(), &scope, format!("give {what}"));
        waited(watch, async {
            let response = self.call(&ask).await?;
            if response.status().as_u16() != 200 {
                return Err(answer(&self.registry, response, &ask.what).await);
            }
            let bytes = limited(response, most, &url).await?;
            let found = Digest::of(&bytes);
            if found != blob.digest {
                return Err(RegistryError::Digest { what, wanted: blob.digest.clone(), found: found.to_string() });
            }
            Ok(bytes)
        })
    }

    /// Reads a blob into a file, from where the file ends; its digest is computed on the way. A cut transfer goes on as
    /// long as anything comes. Wrong bytes are an error, and the file is empty then.
    ///
    /// # Errors
    /// As told, and when the registry has it not or does not answer.
    pub fn blob(&self, repository: &str, blob: &Descriptor, partial: &mut Partial, watch: &dyn Watch) -> Result<()> {
        let mut resumed = partial.at > 0;
        loop {
            self.fill(repository, blob, partial, watch)?;
            let found = std::mem::take(&mut partial.hash).finish();
            if found == blob.digest.as_str() {
                return Ok(());
            }
            partial.empty()?;
            // What lay there before may have been of a power cut; the registry is blamed for its own bytes only.
            if !std::mem::take(&mut resumed) {
                let what = format!("{}/{repository}", self.registry);
                return Err(RegistryError::Digest { what, wanted: blob.digest.clone(), found });
            }
        }
    }

    fn fill(&self, repository: &str, blob: &Descriptor, partial: &mut Partial, watch: &dyn Watch) -> Result<()> {
        // Who begins anew each time has come nowhere, however much of it is always the same.
        let (mut pause, mut tries, mut furthest) = (PAUSE, 0, partial.at);
        while partial.at < blob.size || tries == 0 && blob.size == 0 {
            tries += 1;
            let error = match waited(watch, self.some(repository, blob, partial, watch))? {
                Came::All => return Ok(()),
                Came::Cut(error) => error,
            };
            if partial.at > furthest {
                (furthest, pause, tries) = (partial.at, PAUSE, 0);
            } else if tries >= tries_allowed() {
                return Err(error);
            }
            waited(watch, async {
                tokio::time::sleep(pause).await;
                Ok(())
            })?;
            pause = (pause * 2).min(LONGEST_PAUSE);
        }
        Ok(())
    }

    /// One request for what is missing.
    async fn some(
        &self,
        repository: &str,
        blob: &Descriptor,
        partial: &mut Partial,
        watch: &dyn Watch,
    ) -> Result<Came> {
        let scope = Scope::pull(repository);
        let url = self.url(&format!("{repository}/blobs/{}", blob.digest))?;
        let what = format!("give blob {} of {}/{repository}", blob.digest, self.registry);
        let mut ask = Ask::new(Method::GET, url.clone(), &scope, what);
        if partial.at > 0 {
            ask = ask.header("range", format!("bytes={}-", partial.at));
        }
        let mut response = self.call(&ask).await?;
        match response.status().as_u16() {
            206 => {
                let range = response.headers().get(CONTENT_RANGE).and_then(|value| value.to_str().ok());
                let start =
                    range.and_then(|range| range.strip_prefix("bytes ")?.split('-').next()?.trim().parse().ok());
                if start != Some(partial.at) {
                    return Err(RegistryError::odd(&ask.what, "it answers with another part than was asked for"));
                }
            }
            // It does not go on where we stopped.
            200 => partial.empty()?,
            416 => {
                partial.empty()?;
                return Ok(Came::Cut(RegistryError::odd(&ask.what, "it has less than was there before")));
            }
            _ => return Err(answer(&self.registry, response, &ask.what).await),
        }
        loop {
            let piece = match response.chunk().await {
                Ok(Some(piece)) => piece,
                Ok(None) if partial.at >= blob.size => return Ok(Came::All),
                Ok(None) => return Ok(Came::Cut(RegistryError::odd(&ask.what, "the answer is too short"))),
                Err(error) => return Ok(Came::Cut(net(&url, error))),
            };
            // Nobody fills a disk here with more than he has announced.
            if partial.at.saturating_add(piece.len() as u64) > blob.size {
                partial.empty()?;
                return Err(RegistryError::odd(
                    &ask.what,
                    format!("it is longer than the {} bytes announced", blob.size),
                ));
            }
            partial.add(&piece)?;
            watch.progress(partial.at, Some(blob.size));
        }
    }
}
