//! How an overlay is kept in a registry: a manifest of ovl's artifact type, the metadata with the build key as its
//! configuration, the image as its layer, and the variables of an edited sidecar as a second one.

use std::collections::BTreeMap;

use super::manifest::{Descriptor, Manifest, kind};
use super::platform::Platform;
use super::reference::Digest;
use crate::model::meta::Meta;

/// The artifact type of overlays.
pub const TYPE: &str = "application/vnd.ovl.overlay.v1";
/// The metadata (`meta.json` as it is in the image), with the platform beside it.
pub const CONFIG: &str = "application/vnd.ovl.overlay.config.v1+json";
/// The image.
pub const SQUASHFS: &str = "application/vnd.ovl.overlay.v1.squashfs";
/// A sidecar that somebody has edited.
pub const ENV: &str = "application/vnd.ovl.overlay.v1.env";
/// What others call a SIF file.
pub const SIF: &str = "application/vnd.sylabs.sif.layer.v1.sif";
/// Longest sidecar.
pub const LONGEST_ENV: u64 = 1 << 20;
/// Longest metadata.
pub const LONGEST_CONFIG: u64 = 4 << 20;

/// Notes of the OCI image specification ("annotations").
pub mod note {
    /// A file's name, or what people call it.
    pub const TITLE: &str = "org.opencontainers.image.title";
    /// When it was built.
    pub const CREATED: &str = "org.opencontainers.image.created";
    /// The version of the software.
    pub const VERSION: &str = "org.opencontainers.image.version";
    /// SPDX expression.
    pub const LICENSES: &str = "org.opencontainers.image.licenses";
    /// What it is.
    pub const DESCRIPTION: &str = "org.opencontainers.image.description";
    /// Where to find out more.
    pub const URL: &str = "org.opencontainers.image.url";
    /// The commit of the recipe.
    pub const REVISION: &str = "org.opencontainers.image.revision";
}

/// The configuration blob: the metadata, or an empty object for an image that carries none.
pub fn config(meta: Option<&Meta>) -> Vec<u8> {
    meta.map_or_else(|| b"{}".to_vec(), |meta| serde_json::to_vec(meta).unwrap_or_default())
}

/// The metadata in a configuration blob.
pub fn meta_of(config: &[u8]) -> Option<Meta> {
    serde_json::from_slice(config).ok()
}

/// The platform that an overlay was built for.
pub fn platform(meta: Option<&Meta>) -> Platform {
    meta.and_then(|meta| meta.platform.parse().ok()).unwrap_or_else(Platform::here)
}

/// What an overlay's metadata says in the words of annotations.
pub fn notes(meta: Option<&Meta>, given: &BTreeMap<String, String>) -> BTreeMap<String, String> {
    let mut notes = BTreeMap::new();
    if let Some(meta) = meta {
        let mut add = |key: &str, value: Option<&str>| {
            if let Some(value) = value.filter(|value| !value.is_empty()) {
                notes.insert(key.to_owned(), value.to_owned());
            }
        };
        add(note::TITLE, Some(&meta.release_name));
        add(note::CREATED, Some(&meta.build_date));
        add(note::VERSION, Some(&meta.version));
        add(note::DESCRIPTION, meta.whatis.as_deref());
        add(note::URL, meta.url.as_deref());
        add(note::REVISION, meta.git_commit.as_deref());
        let label = |words: &[&str]| {
            meta.labels
                .iter()
                .find(|(key, _)| words.contains(&key.to_ascii_lowercase().as_str()))
                .map(|(_, v)| v.as_str())
        };
        add(note::LICENSES, label(&[note::LICENSES, "license", "licenses", "licence", "spdx"]));
        let own = meta.labels.iter().filter(|(key, _)| key.starts_with("org.opencontainers."));
        own.for_each(|(key, value)| drop(notes.insert(key.clone(), value.clone())));
    }
    notes.extend(given.clone());
    notes
}

/// The manifest of an overlay.
pub fn manifest(
    config: &[u8],
    layer: Descriptor,
    env: Option<Descriptor>,
    annotations: BTreeMap<String, String>,
) -> Manifest {
    Manifest {
        schema_version: 2,
        media_type: kind::MANIFEST.into(),
        artifact_type: Some(TYPE.into()),
        config: Descriptor::new(CONFIG, Digest::of(config), config.len() as u64),
        layers: std::iter::once(layer).chain(env).collect(),
        annotations,
    }
}
