//! Container images: fetched into the cache layer by layer, and there as an OCI layout that `image::source::oci` opens.

use std::path::PathBuf;

use serde_json::Value;

use super::cache::Cache;
use super::client::Client;
use super::manifest::{self, Descriptor, Document, Fetched, Manifest};
use super::platform::Platform;
use super::reference::{Digest, Reference};
use super::{Options, RegistryError, Result};
use crate::net::Watch;

/// Indexes within indexes.
const DEPTH: u32 = 4;
/// Longest configuration.
const CONFIG: u64 = 4 << 20;

/// An image in the cache; all of it was verified by its digests.
#[derive(Debug, Clone)]
pub struct PulledImage {
    /// The reference with the digest of its manifest: the same image for ever.
    pub pinned: Reference,
    /// A directory that is an OCI layout with this image and no other.
    pub layout: PathBuf,
    /// The manifest.
    pub manifest: PathBuf,
    /// The configuration (Env, Entrypoint, …: OCI image specification, "image configuration").
    pub config: PathBuf,
    /// The layers, lowest first, compressed as they came.
    pub layers: Vec<PathBuf>,
    /// Bytes of all layers.
    pub size: u64,
}

/// Fetches an image: what is in the cache is not transferred again, and an interrupted transfer goes on. From an index
/// the manifest for `platform` is taken. Offline the cache has to have all of it.
///
/// # Errors
/// When it is not there, not for the platform, no container image, or not what its digests say.
pub fn fetch(reference: &Reference, platform: &Platform, options: &Options, watch: &dyn Watch) -> Result<PulledImage> {
    let cache = Cache::new(&options.cache);
    let client = if options.offline { None } else { Some(Client::new(&reference.registry, options)?) };
    let resolved = match &client {
        Some(client) => resolve(client, reference, platform, watch)?,
        None => recall(&cache, reference, platform)?,
    };
    keep(&cache, client.as_ref(), reference, platform, &resolved, watch)
}

/// Gets all of a resolved image into the cache.
///
/// # Errors
/// As for [`fetch`].
pub(super) fn keep(
    cache: &Cache,
    client: Option<&Client>,
    reference: &Reference,
    platform: &Platform,
    resolved: &Resolved,
    watch: &dyn Watch,
) -> Result<PulledImage> {
    let Resolved { manifest, fetched, .. } = resolved;
    if !manifest.is_image() {
        return Err(RegistryError::Unfit {
            what: reference.to_string(),
            why: format!("it is no container image, but '{}'", manifest.what().escape_debug()),
            hint: String::new(),
        });
    }
    let repository = &reference.repository;
    let total = manifest.layers.iter().map(|layer| layer.size).sum::<u64>().saturating_add(manifest.config.size);
    if manifest.config.size > CONFIG {
        return Err(RegistryError::odd(reference, format!("its configuration has {} bytes", manifest.config.size)));
    }
    let mut done = 0u64;
    let mut get = |blob: &Descriptor| {
        let path = cache.fetch(client, repository, blob, &Share { watch, before: done, total });
        done = done.saturating_add(blob.size);
        path
    };
    let config = get(&manifest.config)?;
    let layers = manifest.layers.iter().map(get).collect::<Result<Vec<_>>>()?;
    let manifest = cache.put(&fetched.digest, &fetched.bytes)?;
    let layout = cache.layout(fetched)?;
    cache.remember(reference, platform, &fetched.digest);
    Ok(PulledImage { pinned: reference.pinned(&fetched.digest), layout, manifest, config, layers, size: total })
}

/// What a reference led to.
#[derive(Debug, Clone)]
pub(super) struct Resolved {
    /// The manifest as it came.
    pub fetched: Fetched,
    /// What it says.
    pub manifest: Manifest,
    /// The index it was found in.
    pub index: Option<Fetched>,
}

/// Follows a reference, through indexes, to the manifest for a platform.
pub(super) fn resolve(
    client: &Client,
    reference: &Reference,
    platform: &Platform,
    watch: &dyn Watch,
) -> Result<Resolved> {
    let mut fetched = client.manifest(reference, watch)?;
    let mut index = None;
    for _ in 0..=DEPTH {
        let next = match &fetched.document {
            Document::Manifest(manifest) => {
                let manifest = (**manifest).clone();
                return Ok(Resolved { fetched, manifest, index });
            }
            Document::Index(found) => choose(reference, &found.manifests, platform)?,
        };
        let inner = client.manifest(&reference.pinned(&next.digest), watch)?;
        if inner.bytes.len() as u64 != next.size {
            return Err(RegistryError::odd(reference, "its index says another size than its manifest has"));
        }
        index.get_or_insert(std::mem::replace(&mut fetched, inner));
    }
    Err(RegistryError::odd(reference, format!("more than {DEPTH} indexes within indexes")))
}

/// The entry of an index for a platform.
fn choose<'a>(reference: &Reference, entries: &'a [Descriptor], platform: &Platform) -> Result<&'a Descriptor> {
    let fits = |entry: &&Descriptor| entry.platform.as_ref().is_some_and(|own| own.fits(platform));
    if let Some(found) = entries.iter().find(fits) {
        return Ok(found);
    }
    // Some tools write no platform when there is only one.
    if let [only] = entries
        && only.platform.is_none()
    {
        return Ok(only);
    }
    let mut there: Vec<String> =
        entries.iter().filter_map(|entry| Some(entry.platform.as_ref()?.to_string())).collect();
    there.sort();
    there.dedup();
    there.retain(|text| !text.starts_with("unknown/"));
    let there = if there.is_empty() { "nothing with a platform".into() } else { there.join(", ") };
    Err(RegistryError::Unfit {
        what: reference.to_string(),
        why: format!("it is not there for {platform}, only: {there}"),
        hint: "take another one's with --platform OS/ARCH, if that is of use".into(),
    })
}

/// What the cache has of a reference.
fn recall(cache: &Cache, reference: &Reference, platform: &Platform) -> Result<Resolved> {
    let offline = || RegistryError::Offline { what: reference.to_string() };
    let digest = cache.recall(reference, platform).or_else(|| reference.digest.clone()).ok_or_else(offline)?;
    let most = usize::try_from(manifest::LONGEST).unwrap_or(usize::MAX);
    let bytes = cache.small(&digest, most).ok_or_else(offline)?;
    let (document, media_type) = manifest::read(reference, "", &bytes)?;
    match &document {
        Document::Manifest(manifest) => {
            let manifest = (**manifest).clone();
            Ok(Resolved { fetched: Fetched { bytes, media_type, digest, document }, manifest, index: None })
        }
        Document::Index(_) => Err(offline()),
    }
}

/// The platform that a configuration of an image is for.
pub(super) fn platform_of(config: &[u8]) -> Option<Platform> {
    let value: Value = serde_json::from_slice(config).ok()?;
    let text = |key: &str| value[key].as_str().filter(|text| !text.is_empty()).map(str::to_owned);
    Some(Platform { os: text("os")?, architecture: text("architecture")?, variant: text("variant") })
}

/// The digest of what a reference means now, whatever that is.
///
/// # Errors
/// When the registry does not tell.
pub fn digest(reference: &Reference, options: &Options, watch: &dyn Watch) -> Result<Option<Digest>> {
    Client::new(&reference.registry, options)?.digest_of(reference, watch)
}

/// Tells the progress of a part as that of the whole.
pub(super) struct Share<'a> {
    /// Who hears of the whole.
    pub watch: &'a dyn Watch,
    /// What was done before this part.
    pub before: u64,
    /// The whole.
    pub total: u64,
}

impl Watch for Share<'_> {
    fn progress(&self, done: u64, _: Option<u64>) {
        self.watch.progress(self.before.saturating_add(done), Some(self.total));
    }

    fn cancelled(&self) -> bool {
        self.watch.cancelled()
    }
}
