//! Manifests, indexes and tags of a registry.

use reqwest::Method;
use reqwest::header::{CONTENT_TYPE, LINK};

use super::super::manifest::{self, Fetched, kind};
use super::super::reference::{Digest, Reference};
use super::super::{RegistryError, Result};
use super::{Ask, Client, Scope, answer, limited, waited};
use crate::net::Watch;

/// Most tags that are listed.
const MOST_TAGS: usize = 100_000;
/// Longest page of tags.
const LONGEST_PAGE: u64 = 8 << 20;

/// Where a registry says which digest it means.
const DIGEST: &str = "docker-content-digest";

impl Client {
    /// The manifest or index that a reference leads to.
    ///
    /// # Errors
    /// When it is not there, too large, of no known kind, or not what its digest says.
    pub fn manifest(&self, reference: &Reference, watch: &dyn Watch) -> Result<Fetched> {
        let path = format!("{}/manifests/{}", reference.repository, reference.wanted());
        let (scope, url) = (Scope::pull(&reference.repository), self.url(&path)?);
        let ask = Ask::new(Method::GET, url.clone(), &scope, format!("give {reference}"));
        let ask = ask.header("accept", kind::ALL.join(", "));
        waited(watch, async {
            let response = self.call(&ask).await?;
            if response.status().as_u16() != 200 {
                return Err(answer(&self.registry, response, &ask.what).await);
            }
            let text = |name: &str| {
                response.headers().get(name).and_then(|value| value.to_str().ok()).unwrap_or_default().to_owned()
            };
            let (said, promised) = (text("content-type"), text(DIGEST));
            let bytes = limited(response, manifest::LONGEST, &url).await?;
            let digest = Digest::of(&bytes);
            let wanted = reference.digest.clone().or_else(|| promised.parse().ok());
            if let Some(wanted) = wanted.filter(|wanted| *wanted != digest) {
                return Err(RegistryError::Digest { what: reference.to_string(), wanted, found: digest.to_string() });
            }
            let (document, media_type) = manifest::read(reference, &said, &bytes)?;
            Ok(Fetched { bytes, media_type, digest, document })
        })
    }

    /// The digest that a tag has now; None when it is not there. Only headers are transferred where the registry tells it
    /// in them.
    ///
    /// # Errors
    /// When the registry does not answer sensibly.
    pub fn digest_of(&self, reference: &Reference, watch: &dyn Watch) -> Result<Option<Digest>> {
        let path = format!("{}/manifests/{}", reference.repository, reference.wanted());
        let scope = Scope::pull(&reference.repository);
        let ask = Ask::new(Method::HEAD, self.url(&path)?, &scope, format!("give {reference}"));
        let ask = ask.header("accept", kind::ALL.join(", "));
        let told = waited(watch, async {
            let response = self.call(&ask).await?;
            match response.status().as_u16() {
                200 => Ok(Some(response.headers().get(DIGEST).and_then(|value| value.to_str().ok()?.parse().ok()))),
                404 => Ok(None),
                _ => Err(answer(&self.registry, response, &ask.what).await),
            }
        })?;
        match told {
            Some(None) => Ok(Some(self.manifest(reference, watch)?.digest)),
            Some(told) => Ok(told),
            None => Ok(None),
        }
    }

    /// Puts a manifest or index at a tag, or at its digest when `tag` is None.
    ///
    /// # Errors
    /// When the registry does not take it.
    pub fn put_manifest(
        &self,
        repository: &str,
        tag: Option<&str>,
        media_type: &str,
        bytes: &[u8],
        watch: &dyn Watch,
    ) -> Result<Digest> {
        let digest = Digest::of(bytes);
        let path = format!("{repository}/manifests/{}", tag.unwrap_or(digest.as_str()));
        let scope = Scope::push(repository);
        let what = format!("take {}/{repository}:{}", self.registry, tag.unwrap_or(digest.as_str()));
        let mut ask = Ask::new(Method::PUT, self.url(&path)?, &scope, what).header("content-type", media_type);
        ask.body = bytes.to_vec();
        debug_assert_eq!(CONTENT_TYPE.as_str(), "content-type");
        waited(watch, async {
            let response = self.call(&ask).await?;
            if !response.status().is_success() {
                return Err(answer(&self.registry, response, &ask.what).await);
            }
            let said = response.headers().get(DIGEST).and_then(|value| value.to_str().ok());
            match said.and_then(|said| said.parse::<Digest>().ok()) {
                Some(other) if other != digest => {
                    Err(RegistryError::Digest { what: ask.what.clone(), wanted: digest, found: other.to_string() })
                }
                _ => Ok(digest),
            }
        })
    }

    /// The tags of a repository, as the registry sorts them; none when there is no such repository.
    ///
    /// # Errors
    /// When the registry does not answer sensibly.
    pub fn tags(&self, repository: &str, watch: &dyn Watch) -> Result<Vec<String>> {
        let scope = Scope::pull(repository);
        let mut next = Some(self.url(&format!("{repository}/tags/list"))?);
        let mut tags: Vec<String> = Vec::new();
        while let Some(url) = next.take() {
            let what = format!("list the tags of {}/{repository}", self.registry);
            let ask = Ask::new(Method::GET, url.clone(), &scope, what);
            let (page, link) = waited(watch, async {
                let response = self.call(&ask).await?;
                match response.status().as_u16() {
                    200 => {}
                    404 => return Ok((Vec::new(), None)),
                    _ => return Err(answer(&self.registry, response, &ask.what).await),
                }
                let link = response.headers().get(LINK).and_then(|value| value.to_str().ok()).and_then(next_of);
                let bytes = limited(response, LONGEST_PAGE, &url).await?;
                let value: serde_json::Value = serde_json::from_slice(&bytes)
                    .map_err(|_| RegistryError::odd(&self.registry, "its list of tags is no JSON"))?;
                let words = value["tags"].as_array().map_or(&[][..], Vec::as_slice);
                Ok((words.iter().filter_map(|tag| tag.as_str().map(str::to_owned)).collect::<Vec<_>>(), link))
            })?;
            let empty = page.is_empty();
            tags.extend(page);
            // Only the registry itself has its next page; one that goes on for ever is left.
            next = link.and_then(|link| url.join(&link).ok()).filter(|url| self.is_own(url) && !empty);
            if tags.len() > MOST_TAGS {
                return Err(RegistryError::odd(&self.registry, format!("it lists more than {MOST_TAGS} tags")));
            }
        }
        Ok(tags)
    }
}

/// The address in a `Link` header that leads to the next page (RFC 8288).
fn next_of(text: &str) -> Option<String> {
    let (address, params) = text.split_once('<')?.1.split_once('>')?;
    let next = params.to_ascii_lowercase().replace(['"', ' '], "");
    next.contains("rel=next").then(|| address.to_owned())
}
