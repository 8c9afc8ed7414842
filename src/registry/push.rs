//! Overlays into registries: blobs that are missing are sent, then the manifest appears under its tags. An overlay for
//! another platform under a tag that is taken goes beside the one that is there, into an index.

use std::collections::BTreeMap;
use std::fs::File;
use std::path::Path;
use std::sync::Arc;

use serde::Serialize;

use super::artifact::{self, note};
use super::client::{Client, Content, Put};
use super::image::Share;
use super::manifest::{Descriptor, Document, Fetched, Index, Manifest, kind};
use super::platform::Platform;
use super::reference::{Digest, Reference};
use super::{Options, RegistryError, Result};
use crate::image::kind as image_kind;
use crate::model::meta::Meta;
use crate::net::Watch;
use crate::store::{overlays, publish};
use crate::sys::digest::Running;
use crate::sys::fs::{self, PathError};

/// How often an index is merged when others do so at the same moment.
const MERGES: u32 = 4;

/// What to push.
pub struct Parcel {
    file: Arc<File>,
    title: String,
    meta: Option<Meta>,
    config: Vec<u8>,
    layer: Descriptor,
    env: Option<Vec<u8>>,
}

/// What came of one reference.
#[derive(Debug, Clone, Serialize)]
pub struct Pushed {
    /// The reference as it was asked for.
    #[serde(rename = "ref")]
    pub reference: String,
    /// The same by its digest: this and nothing else for ever.
    pub pinned: String,
    /// Digest of the manifest.
    pub digest: Digest,
    /// Digest of the index that the tag means, when it is one.
    pub index: Option<Digest>,
    /// Digest of the overlay's file.
    pub layer: Digest,
    /// Bytes of the overlay's file.
    pub size: u64,
    /// "sent", "mounted" or "there".
    pub transfer: &'static str,
    /// For which platform.
    pub platform: String,
}

impl Parcel {
    /// Makes a file ready: reads all of it for its digest, and its metadata.
    ///
    /// # Errors
    /// When it is no readable SquashFS image.
    pub fn open(path: &Path, watch: &dyn Watch) -> Result<Parcel> {
        let title = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
        let file = fs::open(path)?;
        let unfit = |why: String| RegistryError::Unfit {
            what: path.display().to_string(),
            why,
            hint: "make a SquashFS image of it with: ovl pack".into(),
        };
        match image_kind::of(&file) {
            Ok(image_kind::Kind::Squashfs) => {}
            Ok(_) => return Err(unfit("it is no SquashFS image, and only those are pushed".into())),
            Err(error) => return Err(unfit(error.to_string())),
        }
        let image = overlays::open(path)?;
        let meta = overlays::read_meta(&image).map_err(RegistryError::image(path.display()))?;
        let env = edited(path, meta.as_ref())?;
        let (digest, size) = sum(&file, path, watch)?;
        let layer = Descriptor::new(artifact::SQUASHFS, digest, size).noted(note::TITLE, title.clone());
        Ok(Parcel { file: Arc::new(file), title, config: artifact::config(meta.as_ref()), meta, layer, env })
    }

    /// What the image says about itself.
    pub fn meta(&self) -> Option<&Meta> {
        self.meta.as_ref()
    }

    /// Digest and size of the file.
    pub fn layer(&self) -> (&Digest, u64) {
        (&self.layer.digest, self.layer.size)
    }

    /// The manifest, with these annotations besides what the metadata says.
    pub fn manifest(&self, given: &BTreeMap<String, String>) -> Manifest {
        let env = self.env.as_ref().map(|text| {
            let title = format!("{}.env", self.title);
            Descriptor::new(artifact::ENV, Digest::of(text), text.len() as u64).noted(note::TITLE, title)
        });
        artifact::manifest(&self.config, self.layer.clone(), env, artifact::notes(self.meta.as_ref(), given))
    }

    /// Pushes to each reference; what one registry has is not sent to it twice.
    ///
    /// # Errors
    /// At the first that fails; what was pushed before stays.
    pub fn push(
        &self,
        references: &[Reference],
        annotations: &BTreeMap<String, String>,
        options: &Options,
        watch: &dyn Watch,
    ) -> Result<Vec<Pushed>> {
        let manifest = self.manifest(annotations);
        let bytes = serde_json::to_vec(&manifest).unwrap_or_default();
        let mut done: Vec<(Reference, Pushed)> = Vec::new();
        let mut clients: BTreeMap<String, Client> = BTreeMap::new();
        for reference in references {
            if reference.digest.is_some() {
                return Err(RegistryError::Unfit {
                    what: reference.to_string(),
                    why: "a digest follows from what is pushed, so none can be asked for".into(),
                    hint: "push to a tag, as in host/name:1.0".into(),
                });
            }
            if !clients.contains_key(&reference.registry) {
                clients.insert(reference.registry.clone(), Client::new(&reference.registry, options)?);
            }
            let Some(client) = clients.get(&reference.registry) else { continue };
            let earlier = done.iter().find(|(other, _)| other.registry == reference.registry);
            let from = earlier.map(|(other, _)| other.repository.as_str());
            let put = self.put_blobs(client, &reference.repository, from, watch)?;
            let platform = artifact::platform(self.meta.as_ref());
            let digest = Digest::of(&bytes);
            let index = put_tagged(client, reference, &bytes, &platform, watch)?;
            let pushed = Pushed {
                reference: reference.to_string(),
                pinned: reference.pinned(&digest).to_string(),
                index,
                layer: self.layer.digest.clone(),
                size: self.layer.size,
                transfer: match put {
                    Put::There => "there",
                    Put::Mounted => "mounted",
                    Put::Sent => "sent",
                },
                platform: platform.to_string(),
                digest,
            };
            done.push((reference.clone(), pushed));
        }
        Ok(done.into_iter().map(|(_, pushed)| pushed).collect())
    }

    /// The image, its metadata and its variables; how the image came to be there.
    fn put_blobs(&self, client: &Client, repository: &str, from: Option<&str>, watch: &dyn Watch) -> Result<Put> {
        let small = |bytes: &[u8]| {
            let silent = Share { watch, before: 0, total: self.layer.size };
            let quiet = Still(&silent);
            client.put_blob(repository, &Digest::of(bytes), bytes.len() as u64, &Content::Bytes(bytes), from, &quiet)
        };
        small(&self.config)?;
        if let Some(env) = &self.env {
            small(env)?;
        }
        let content = Content::File(&self.file);
        client.put_blob(repository, &self.layer.digest, self.layer.size, &content, from, watch)
    }
}

/// Passes on whether to stop, and nothing else.
struct Still<'a>(&'a dyn Watch);

impl Watch for Still<'_> {
    fn progress(&self, _: u64, _: Option<u64>) {}

    fn cancelled(&self) -> bool {
        self.0.cancelled()
    }
}

/// The sidecar when somebody has changed it; ovl's own says nothing that the image does not.
fn edited(path: &Path, meta: Option<&Meta>) -> Result<Option<Vec<u8>>> {
    let sidecar = publish::sidecar_of(path);
    let Some(meta_of_file) = fs::metadata_if_exists(&sidecar)? else { return Ok(None) };
    if meta_of_file.len() > artifact::LONGEST_ENV {
        return Err(RegistryError::odd(sidecar.display(), format!("it has {} bytes", meta_of_file.len())));
    }
    let text = fs::read(&sidecar)?;
    let Some(meta) = meta else { return Ok(Some(text)) };
    let shown = String::from_utf8_lossy(&text);
    let recorded = shown.lines().find_map(|line| line.strip_prefix("# digest: ")).unwrap_or_default();
    // One of another build is passed over, as it is when the overlay is used.
    let own = shown.lines().any(|line| line.strip_prefix("# key: ") == Some(meta.key.as_str()));
    let foreign = !own && shown.lines().any(|line| line.starts_with("# key: "));
    if foreign || shown == publish::sidecar_text(&meta.key, recorded, &meta.env) {
        return Ok(None);
    }
    Ok(Some(text))
}

/// The digest and length of a file.
fn sum(file: &File, path: &Path, watch: &dyn Watch) -> Result<(Digest, u64)> {
    use std::os::unix::fs::FileExt;
    let mut hash = Running::new();
    let mut buffer = vec![0; 1 << 20];
    let mut at = 0;
    loop {
        if watch.cancelled() {
            return Err(RegistryError::Interrupted);
        }
        let got = file.read_at(&mut buffer, at).map_err(PathError::new("read", path))?;
        match buffer.get(..got) {
            Some(piece) if got > 0 => hash.add(piece),
            _ => return Ok((hash.finish().parse()?, at)),
        }
        at += got as u64;
    }
}

/// Puts a manifest at a tag; beside what is there for other platforms. Returns the index' digest when there is one.
fn put_tagged(
    client: &Client,
    reference: &Reference,
    bytes: &[u8],
    platform: &Platform,
    watch: &dyn Watch,
) -> Result<Option<Digest>> {
    let repository = &reference.repository;
    let digest = Digest::of(bytes);
    let own = Descriptor {
        artifact_type: Some(artifact::TYPE.into()),
        platform: Some(platform.clone()),
        ..Descriptor::new(kind::MANIFEST, digest.clone(), bytes.len() as u64)
    };
    for _ in 0..MERGES {
        let there = match client.manifest(reference, watch) {
            Ok(there) => Some(there),
            Err(RegistryError::Missing { .. }) => None,
            // A tag that means something odd is replaced, as it would be by anybody.
            Err(RegistryError::Odd { .. } | RegistryError::Unfit { .. }) => None,
            Err(error) => return Err(error),
        };
        let beside = match there {
            Some(there) => others(client, reference, there, platform, watch)?,
            None => Vec::new(),
        };
        if beside.is_empty() {
            client.put_manifest(repository, Some(reference.tag()), kind::MANIFEST, bytes, watch)?;
            let now = match client.manifest(reference, watch) {
                Err(RegistryError::Missing { .. }) => return Ok(None),
                now => now?,
            };
            if now.digest == digest {
                return Ok(None);
            }
            if holds(&now, &digest) {
                return Ok(Some(now.digest));
            }
            // Somebody has pushed at the same time: for this platform he is the later one, with another both are wanted.
            if others(client, reference, now, platform, watch)?.is_empty() {
                return Ok(None);
            }
            continue;
        }
        client.put_manifest(repository, None, kind::MANIFEST, bytes, watch)?;
        let mut manifests = beside;
        manifests.push(own.clone());
        manifests.sort_by_key(|entry| entry.platform.as_ref().map(ToString::to_string));
        let index = Index {
            schema_version: 2,
            media_type: kind::INDEX.into(),
            artifact_type: Some(artifact::TYPE.into()),
            manifests,
            annotations: BTreeMap::new(),
        };
        let index = serde_json::to_vec(&index).unwrap_or_default();
        let put = client.put_manifest(repository, Some(reference.tag()), kind::INDEX, &index, watch)?;
        // There is no way to say "only if nobody else has": so look, and merge again where somebody has.
        let now = client.manifest(reference, watch)?;
        if now.digest == put || holds(&now, &digest) {
            return Ok(Some(now.digest));
        }
    }
    Err(RegistryError::Busy {
        what: reference.to_string(),
        by: "several at once; the last to push did not see the others".into(),
    })
}

/// Whether an index names a manifest.
fn holds(there: &Fetched, digest: &Digest) -> bool {
    matches!(&there.document, Document::Index(index) if index.manifests.iter().any(|entry| entry.digest == *digest))
}

/// The overlays for other platforms under a tag. What is no overlay of ovl's is replaced.
fn others(
    client: &Client,
    reference: &Reference,
    there: Fetched,
    platform: &Platform,
    watch: &dyn Watch,
) -> Result<Vec<Descriptor>> {
    match there.document {
        Document::Index(index) => {
            let ours = |entry: &Descriptor| entry.artifact_type.as_deref() == Some(artifact::TYPE);
            let other = |entry: &Descriptor| entry.platform.as_ref().is_some_and(|own| own != platform);
            Ok(index.manifests.into_iter().filter(|entry| ours(entry) && other(entry)).collect())
        }
        Document::Manifest(manifest) if manifest.what() == artifact::TYPE => {
            let config = client.small_blob(&reference.repository, &manifest.config, artifact::LONGEST_CONFIG, watch)?;
            let theirs = artifact::platform(artifact::meta_of(&config).as_ref());
            if theirs == *platform {
                return Ok(Vec::new());
            }
            Ok(vec![Descriptor {
                artifact_type: Some(artifact::TYPE.into()),
                platform: Some(theirs),
                ..Descriptor::new(&there.media_type, there.digest, there.bytes.len() as u64)
            }])
        }
        Document::Manifest(_) => Ok(Vec::new()),
    }
}
