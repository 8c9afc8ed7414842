//! What registries keep besides blobs: manifests and indexes, read strictly and written by the specification (OCI image
//! specification 1.1, "image manifest" and "image index"; docker's schema 2 says the same in other words).

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::platform::Platform;
use super::reference::Digest;
use super::{RegistryError, Result};

/// Media types.
pub mod kind {
    /// A manifest.
    pub const MANIFEST: &str = "application/vnd.oci.image.manifest.v1+json";
    /// An index.
    pub const INDEX: &str = "application/vnd.oci.image.index.v1+json";
    /// Docker's manifest.
    pub const DOCKER: &str = "application/vnd.docker.distribution.manifest.v2+json";
    /// Docker's index.
    pub const DOCKER_LIST: &str = "application/vnd.docker.distribution.manifest.list.v2+json";
    /// A container image's configuration.
    pub const CONFIG: &str = "application/vnd.oci.image.config.v1+json";
    /// Docker's.
    pub const DOCKER_CONFIG: &str = "application/vnd.docker.container.image.v1+json";
    /// All that are asked for.
    pub const ALL: [&str; 4] = [MANIFEST, INDEX, DOCKER, DOCKER_LIST];
}

/// Longest manifest or index that is read, as registries have it.
pub const LONGEST: u64 = 4 << 20;
/// Most layers of an image; the overlay file systems behind them take fewer.
const MOST_LAYERS: usize = 1024;
/// Most entries of an index.
const MOST_MANIFESTS: usize = 4096;

/// A pointer to a blob or a manifest.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Descriptor {
    /// What it is.
    #[serde(default)]
    pub media_type: String,
    /// Its digest.
    pub digest: Digest,
    /// Bytes.
    pub size: u64,
    /// Of what kind, when it is an artifact.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub artifact_type: Option<String>,
    /// For which platform.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub platform: Option<Platform>,
    /// Notes.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub annotations: BTreeMap<String, String>,
    /// What others have written there, kept as it is.
    #[serde(flatten)]
    pub rest: BTreeMap<String, serde_json::Value>,
}

impl Descriptor {
    /// Of a blob.
    pub fn new(media_type: &str, digest: Digest, size: u64) -> Descriptor {
        Descriptor {
            media_type: media_type.to_owned(),
            digest,
            size,
            artifact_type: None,
            platform: None,
            annotations: BTreeMap::new(),
            rest: BTreeMap::new(),
        }
    }

    /// With a note.
    #[must_use]
    pub fn noted(mut self, key: &str, value: impl Into<String>) -> Descriptor {
        self.annotations.insert(key.to_owned(), value.into());
        self
    }
}

/// One image or artifact.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Manifest {
    /// 2.
    pub schema_version: u32,
    /// What this is.
    #[serde(default)]
    pub media_type: String,
    /// Of what kind, when it is an artifact.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub artifact_type: Option<String>,
    /// The configuration.
    pub config: Descriptor,
    /// The content, lowest layer first.
    pub layers: Vec<Descriptor>,
    /// Notes.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub annotations: BTreeMap<String, String>,
}

impl Manifest {
    /// What kind of thing it is: its artifact type, else its configuration's type.
    pub fn what(&self) -> &str {
        self.artifact_type.as_deref().unwrap_or(&self.config.media_type)
    }

    /// Whether it is a container image.
    pub fn is_image(&self) -> bool {
        matches!(self.config.media_type.as_str(), kind::CONFIG | kind::DOCKER_CONFIG) && self.artifact_type.is_none()
    }
}

/// Several of them, for different platforms.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Index {
    /// 2.
    pub schema_version: u32,
    /// What this is.
    #[serde(default)]
    pub media_type: String,
    /// Of what kind, when it is an artifact.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub artifact_type: Option<String>,
    /// The entries.
    pub manifests: Vec<Descriptor>,
    /// Notes.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub annotations: BTreeMap<String, String>,
}

/// Either.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Document {
    /// One thing.
    Manifest(Box<Manifest>),
    /// Several.
    Index(Box<Index>),
}

/// A manifest or index as a registry gave it.
#[derive(Debug, Clone)]
pub struct Fetched {
    /// Its bytes; their digest is `digest`.
    pub bytes: Vec<u8>,
    /// What the registry calls it.
    pub media_type: String,
    /// The digest.
    pub digest: Digest,
    /// What it says.
    pub document: Document,
}

/// Reads a manifest or an index; `said` is the type that the registry gives it.
///
/// # Errors
/// When it is neither, or of unreasonable size.
pub fn read(what: &dyn std::fmt::Display, said: &str, bytes: &[u8]) -> Result<(Document, String)> {
    let odd = |why: String| RegistryError::odd(what, why);
    let value: serde_json::Value =
        serde_json::from_slice(bytes).map_err(|error| odd(format!("its manifest is no JSON: {error}")))?;
    let own = value["mediaType"].as_str().unwrap_or_default().to_owned();
    let said = said.split(';').next().unwrap_or_default().trim();
    // What is inside counts: the registry's word is only about it.
    let media_type = if own.is_empty() { said.to_owned() } else { own };
    if value["schemaVersion"].as_u64() == Some(1) {
        return Err(RegistryError::Unfit {
            what: what.to_string(),
            why: "its manifest is of docker's schema 1, which is years out of use".into(),
            hint: "push it anew with a tool of these days".into(),
        });
    }
    let (layers, manifests) = (value["layers"].is_array(), value["manifests"].is_array());
    // Who can be read as both says one thing to one reader and something else to another.
    if layers && manifests {
        return Err(odd("it is a manifest and an index at once".into()));
    }
    let is_index = matches!(media_type.as_str(), kind::INDEX | kind::DOCKER_LIST);
    let is_manifest = matches!(media_type.as_str(), kind::MANIFEST | kind::DOCKER);
    if is_index && layers || is_manifest && manifests {
        return Err(odd(format!("it says that it is {media_type}, and is not")));
    }
    let document = if manifests {
        let index: Index = serde_json::from_value(value).map_err(|error| odd(format!("its index: {error}")))?;
        if index.manifests.len() > MOST_MANIFESTS {
            return Err(odd(format!("its index has {} entries", index.manifests.len())));
        }
        Document::Index(Box::new(index))
    } else if layers {
        let manifest: Manifest =
            serde_json::from_value(value).map_err(|error| odd(format!("its manifest: {error}")))?;
        if manifest.layers.len() > MOST_LAYERS {
            return Err(odd(format!("it has {} layers", manifest.layers.len())));
        }
        let sizes = manifest.layers.iter().map(|layer| layer.size);
        if sizes.chain([manifest.config.size]).try_fold(0u64, u64::checked_add).is_none_or(|sum| sum > i64::MAX as u64)
        {
            return Err(odd("its sizes make no sense".into()));
        }
        Document::Manifest(Box::new(manifest))
    } else {
        return Err(odd(format!("it is neither a manifest nor an index, but '{}'", media_type.escape_debug())));
    };
    let media_type = match (&document, media_type.is_empty()) {
        (_, false) => media_type,
        (Document::Index(_), true) => kind::INDEX.into(),
        (Document::Manifest(_), true) => kind::MANIFEST.into(),
    };
    Ok((document, media_type))
}

#[cfg(test)]
mod tests {
    use super::*;

    const SUM: &str = "sha256:e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855";

    fn blob(size: &str) -> String {
        format!(r#"{{"mediaType":"x","digest":"{SUM}","size":{size}}}"#)
    }

    #[test]
    fn what_makes_no_sense_is_refused() {
        let fine = format!(r#"{{"schemaVersion":2,"config":{0},"layers":[{0}]}}"#, blob("5"));
        let (_, media_type) = read(&"x", "", fine.as_bytes()).unwrap();
        assert_eq!(media_type, kind::MANIFEST);
        let many = vec![blob("1"); 2000].join(",");
        for text in [
            "".to_owned(),
            "[]".into(),
            "{}".into(),
            r#"{"schemaVersion":1,"fsLayers":[]}"#.into(),
            format!(r#"{{"schemaVersion":2,"config":{0},"layers":[],"manifests":[]}}"#, blob("5")),
            format!(r#"{{"schemaVersion":2,"mediaType":"{1}","config":{0},"layers":[]}}"#, blob("5"), kind::INDEX),
            format!(r#"{{"schemaVersion":2,"mediaType":"{}","manifests":[]}}"#, kind::MANIFEST),
            format!(r#"{{"schemaVersion":2,"config":{},"layers":[]}}"#, blob("-5")),
            format!(r#"{{"schemaVersion":2,"config":{},"layers":[]}}"#, blob("1e300")),
            format!(r#"{{"schemaVersion":2,"config":{0},"layers":[{0},{0}]}}"#, blob("18446744073709551615")),
            format!(r#"{{"schemaVersion":2,"config":{0},"layers":[{many}]}}"#, blob("1")),
            format!(r#"{{"schemaVersion":2,"config":{},"layers":[]}}"#, blob("5").replace("sha256:e3", "sha256:../")),
            format!(r#"{{"schemaVersion":2,"config":{},"layers":[]}}"#, blob("5").replace("sha256:e3", "md5:e3")),
            format!(r#"{{"schemaVersion":2,"config":{0},"layers":{{"0":{0}}}}}"#, blob("5")),
        ] {
            assert!(read(&"x", "", text.as_bytes()).is_err(), "{text:.200}");
        }
    }

    #[test]
    fn what_others_wrote_into_an_index_is_kept() {
        let text = format!(r#"{{"schemaVersion":2,"manifests":[{{"digest":"{SUM}","size":1,"urls":["a"]}}]}}"#);
        let (Document::Index(index), _) = read(&"x", kind::INDEX, text.as_bytes()).unwrap() else { panic!() };
        assert!(serde_json::to_string(&index).unwrap().contains(r#""urls":["a"]"#));
    }
}
