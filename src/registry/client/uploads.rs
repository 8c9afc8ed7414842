//! Putting blobs into a registry: not when they are there, mounted from another repository when they are in one, else sent
//! as a stream from disk. An interrupted upload goes on where the registry says it stopped, or from the beginning where it has given it up.

use std::fs::File;
use std::os::unix::fs::FileExt;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

use futures_core::Stream;
use reqwest::header::{AUTHORIZATION, CONTENT_LENGTH, CONTENT_RANGE, CONTENT_TYPE, RANGE};
use reqwest::{Body, Method, Response};
use url::Url;

use super::super::reference::Digest;
use super::super::{RegistryError, Result};
use super::{Ask, Client, LONGEST_PAUSE, PAUSE, Scope, answer, is_passing, net, tries_allowed, waited};
use crate::net::{NetError, Trouble, Watch};

/// Bytes read from disk at once.
const PIECE: usize = 256 << 10;
/// How long an upload may stand still.
const SILENCE: Duration = Duration::from_secs(120);

/// What is to be put.
pub enum Content<'a> {
    /// Bytes in memory.
    Bytes(&'a [u8]),
    /// A file.
    File(&'a Arc<File>),
}

/// How a blob came to be in a repository.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Put {
    /// It was there.
    There,
    /// It was in another repository of the registry.
    Mounted,
    /// It was sent.
    Sent,
}

/// A part of a file as a body; tells how much of it was taken.
struct Part {
    file: Arc<File>,
    at: u64,
    end: u64,
    told: Arc<AtomicU64>,
}

impl Stream for Part {
    type Item = std::io::Result<Vec<u8>>;

    fn poll_next(mut self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        let left = usize::try_from(self.end - self.at).unwrap_or(usize::MAX);
        if left == 0 {
            return Poll::Ready(None);
        }
        let mut piece = vec![0; left.min(PIECE)];
        Poll::Ready(Some(self.file.read_exact_at(&mut piece, self.at).map(|()| {
            self.at += piece.len() as u64;
            self.told.store(self.at, Ordering::Relaxed);
            piece
        })))
    }
}

/// An upload that goes on.
struct Upload {
    /// Where the registry wants the next part.
    url: Url,
    /// Bytes it has.
    at: u64,
}

impl Client {
    /// Puts a blob of `size` bytes into a repository; `from` names another repository of this registry that may have it.
    ///
    /// # Errors
    /// When the registry does not take it.
    pub fn put_blob(
        &self,
        repository: &str,
        digest: &Digest,
        size: u64,
        content: &Content,
        from: Option<&str>,
        watch: &dyn Watch,
    ) -> Result<Put> {
        if self.has_blob(repository, digest, watch)? {
            watch.progress(size, Some(size));
            return Ok(Put::There);
        }
        let mut scope = Scope::push(repository);
        if let Some(from) = from.filter(|from| *from != repository) {
            let wide = scope.clone().and_pull(from);
            match self.begin(repository, Some((from, digest)), &wide, watch) {
                Ok(None) => return Ok(Put::Mounted),
                // It began an upload instead, and may go on with it.
                Ok(Some(upload)) => {
                    scope = wide;
                    self.send(upload, digest, size, content, &scope, watch)?;
                    return Ok(Put::Sent);
                }
                // A right to mount is not needed for sending.
                Err(RegistryError::Unauthorized { .. } | RegistryError::Forbidden { .. }) => {}
                Err(error) => return Err(error),
            }
        }
        let upload = self.begin(repository, None, &scope, watch)?;
        let upload = upload.ok_or_else(|| RegistryError::odd(&self.registry, "it has what it was not given"))?;
        self.send(upload, digest, size, content, &scope, watch)?;
        Ok(Put::Sent)
    }

    /// Mounts a blob of another repository; false when the registry would rather have it sent.
    ///
    /// # Errors
    /// When the registry refuses.
    pub fn mount(&self, repository: &str, from: &str, digest: &Digest, watch: &dyn Watch) -> Result<bool> {
        let scope = Scope::push(repository).and_pull(from);
        Ok(self.has_blob(repository, digest, watch)?
            || self.begin(repository, Some((from, digest)), &scope, watch)?.is_none())
    }

    /// Begins an upload; None when mounting made it needless.
    fn begin(
        &self,
        repository: &str,
        mount: Option<(&str, &Digest)>,
        scope: &Scope,
        watch: &dyn Watch,
    ) -> Result<Option<Upload>> {
        let mut url = self.url(&format!("{repository}/blobs/uploads/"))?;
        if let Some((from, digest)) = mount {
            url.query_pairs_mut().append_pair("mount", digest.as_str()).append_pair("from", from);
        }
        let what = format!("take a blob for {repository}");
        let ask = Ask::new(Method::POST, url.clone(), scope, what).header("content-length", "0");
        waited(watch, async {
            let response = self.call(&ask).await?;
            match response.status().as_u16() {
                201 if mount.is_some() => Ok(None),
                202 => Ok(Some(Upload { url: self.location(&url, &response)?, at: 0 })),
                _ => Err(answer(&self.registry, response, &ask.what).await),
            }
        })
    }

    fn send(
        &self,
        mut upload: Upload,
        digest: &Digest,
        size: u64,
        content: &Content,
        scope: &Scope,
        watch: &dyn Watch,
    ) -> Result<()> {
        let (mut pause, mut tries, mut furthest) = (PAUSE, 0, 0);
        while upload.at < size {
            tries += 1;
            let sent = self.patch(&mut upload, size, content, scope, watch);
            let error = match sent {
                Ok(()) if upload.at > furthest => {
                    (furthest, pause, tries) = (upload.at, PAUSE, 0);
                    continue;
                }
                Ok(()) => {
                    RegistryError::odd(&self.registry, "it takes parts of a blob, and has no more of it than before")
                }
                Err(error @ (RegistryError::Interrupted | RegistryError::Downgrade { .. })) => return Err(error),
                Err(error) => error,
            };
            // What it has of the part that broke off only the registry knows; a refusal may come as a cut as well.
            let asked = waited(watch, async {
                tokio::time::sleep(pause).await;
                self.status(&mut upload, size, scope).await
            });
            match asked {
                Ok(()) if upload.at > furthest => (furthest, pause, tries) = (upload.at, PAUSE, 0),
                Ok(()) if tries < tries_allowed() && may_go_on(&error) => pause = (pause * 2).min(LONGEST_PAUSE),
                Err(error @ RegistryError::Interrupted) => return Err(error),
                Err(again) if tries < tries_allowed() && again.is_passing() => pause = (pause * 2).min(LONGEST_PAUSE),
                // Some registries give an upload up that broke off in the middle of a part (distribution 2.8 does): then it is
                // begun anew.
                Err(_) if tries < tries_allowed() && may_go_on(&error) => {
                    let begun = self.begin(scope.repository(), None, scope, watch)?;
                    upload = begun.ok_or_else(|| RegistryError::odd(&self.registry, "it has what it was not given"))?;
                    pause = (pause * 2).min(LONGEST_PAUSE);
                }
                _ => return Err(error),
            }
        }
        match self.finish(&upload, digest, scope, watch) {
            // An answer that was lost, and asked for again, finds no upload any more.
            Err(error) if !matches!(error, RegistryError::Interrupted) => {
                let repository = scope.repository().to_owned();
                if self.has_blob(&repository, digest, watch).unwrap_or(false) { Ok(()) } else { Err(error) }
            }
            result => result,
        }
    }

    /// Sends all that is missing.
    fn patch(&self, upload: &mut Upload, size: u64, content: &Content, scope: &Scope, watch: &dyn Watch) -> Result<()> {
        let at = upload.at;
        let told = Arc::new(AtomicU64::new(at));
        let body = match content {
            Content::Bytes(bytes) => {
                let start = usize::try_from(at).unwrap_or(usize::MAX);
                Body::from(bytes.get(start..).unwrap_or_default().to_vec())
            }
            Content::File(file) => {
                Body::wrap_stream(Part { file: Arc::clone(file), at, end: size, told: Arc::clone(&told) })
            }
        };
        let url = upload.url.clone();
        let mut request = self.slow.patch(url.clone()).body(body);
        request = request.header(CONTENT_TYPE, "application/octet-stream").header(CONTENT_LENGTH, size - at);
        // The whole in one part is how docker does it, and what every registry knows.
        if at > 0 {
            request = request.header(CONTENT_RANGE, format!("{at}-{}", size.saturating_sub(1)));
        }
        if let Some((header, _)) = self.known(scope).filter(|_| self.is_own(&url)) {
            request = request.header(AUTHORIZATION, header);
        }
        let response = waited(watch, async {
            let stuck = async {
                let (mut last, mut since) = (at, Instant::now());
                loop {
                    tokio::time::sleep(Duration::from_millis(100)).await;
                    let now = told.load(Ordering::Relaxed);
                    if now != last {
                        (last, since) = (now, Instant::now());
                        watch.progress(now, Some(size));
                    } else if since.elapsed() > SILENCE {
                        return;
                    }
                }
            };
            let response = tokio::select! {
                response = request.send() => response.map_err(|error| net(&url, error))?,
                () = stuck => return Err(NetError::new(url.as_str(), Trouble::Slow).into()),
            };
            match response.status().as_u16() {
                201 | 202 | 204 => Ok(response),
                // Who else takes parts for the registry is not told who asks.
                401 if !self.is_own(&url) => Err(self.unauthorized(scope)),
                401 => {
                    // A token does not live as long as a long upload may take.
                    self.authenticate(&response, scope).await?;
                    Err(self.unauthorized(scope))
                }
                _ => Err(answer(&self.registry, response, "take a part of a blob").await),
            }
        })?;
        upload.url = self.location(&url, &response).unwrap_or(url);
        // Of a part that it took it has a byte at least, so that `0-0` is one byte here.
        upload.at = reached(&response).map(|at| at.max(1)).filter(|at| *at <= size).unwrap_or(size);
        watch.progress(upload.at, Some(size));
        Ok(())
    }

    /// Asks how much of an upload is there.
    async fn status(&self, upload: &mut Upload, size: u64, scope: &Scope) -> Result<()> {
        let ask = Ask::new(Method::GET, upload.url.clone(), scope, "say how much of an upload it has");
        let response = self.call(&ask).await?;
        match response.status().as_u16() {
            200..=204 => {
                upload.url = self.location(&ask.url, &response).unwrap_or(ask.url);
                upload.at = reached(&response).unwrap_or(0).min(size);
                Ok(())
            }
            _ => Err(answer(&self.registry, response, &ask.what).await),
        }
    }

    /// Says what it was.
    fn finish(&self, upload: &Upload, digest: &Digest, scope: &Scope, watch: &dyn Watch) -> Result<()> {
        let mut url = upload.url.clone();
        url.query_pairs_mut().append_pair("digest", digest.as_str());
        let ask = Ask::new(Method::PUT, url, scope, format!("take blob {digest}")).header("content-length", "0");
        waited(watch, async {
            let response = self.call(&ask).await?;
            match response.status().as_u16() {
                201 | 204 => Ok(()),
                _ => Err(answer(&self.registry, response, &ask.what).await),
            }
        })
    }
}

/// Bytes that a registry says it has: `Range: 0-N`, both ends counted; `0-0` is nothing at all with some, and taken for
/// that.
fn reached(response: &Response) -> Option<u64> {
    let text = response.headers().get(RANGE)?.to_str().ok()?;
    let end: u64 = text.trim_start_matches("bytes=").split_once('-')?.1.trim().parse().ok()?;
    if end == 0 { Some(0) } else { end.checked_add(1) }
}

/// Whether the registry may want the rest although it did not take it just now.
fn may_go_on(error: &RegistryError) -> bool {
    match error {
        RegistryError::Answer { status, .. } => is_passing(*status) || *status == 416,
        RegistryError::Unauthorized { .. } | RegistryError::Odd { .. } => true,
        other => other.is_passing(),
    }
}
