//! Out of registries: what a reference leads to is told first (`look`), then overlays are streamed into the directory where
//! they are going to live, and appear there whole or not at all. An interrupted pull goes on where it stopped.

use std::path::{Path, PathBuf};

use super::artifact::{self, note};
use super::cache::Cache;
use super::client::{Client, Partial};
use super::image::{PulledImage, Resolved, keep, platform_of, resolve};
use super::manifest::Descriptor;
use super::platform::Platform;
use super::reference::{Digest, Reference};
use super::{Options, RegistryError, Result};
use crate::image::kind;
use crate::model::meta::Meta;
use crate::model::name::Name;
use crate::net::Watch;
use crate::store::publish::{self, NewImage};
use crate::store::{overlays, sweep};
use crate::sys::fs;

/// What a reference leads to.
pub struct Found {
    /// The reference as it was asked for.
    pub reference: Reference,
    /// The same by its digest.
    pub pinned: Reference,
    /// For which platform it is.
    pub platform: Platform,
    /// What kind of thing it is.
    pub what: What,
    client: Client,
    resolved: Resolved,
}

/// A kind of thing in a registry.
#[derive(Debug, Clone)]
pub enum What {
    /// An overlay.
    Overlay {
        /// What it says about itself; None for an image that ovl did not build.
        meta: Option<Box<Meta>>,
        /// The image.
        layer: Box<Descriptor>,
        /// A sidecar that somebody has edited.
        env: Option<Box<Descriptor>>,
    },
    /// A SIF file.
    Sif(Box<Descriptor>),
    /// A container image.
    Image,
}

/// An overlay that came.
#[derive(Debug, Clone)]
pub struct Pulled {
    /// The file.
    pub path: PathBuf,
    /// `sha256:` of it.
    pub digest: Digest,
    /// Its bytes.
    pub size: u64,
    /// What went wrong that does not matter to the overlay itself.
    pub warnings: Vec<String>,
}

/// Looks at what a reference leads to; only manifests and metadata are transferred.
///
/// # Errors
/// When it is not there, not for the platform, or of no kind that is of use here.
pub fn look(reference: &Reference, platform: &Platform, options: &Options, watch: &dyn Watch) -> Result<Found> {
    let client = Client::new(&reference.registry, options)?;
    let resolved = resolve(&client, reference, platform, watch)?;
    let manifest = &resolved.manifest;
    let config = |most| client.small_blob(&reference.repository, &manifest.config, most, watch);
    let (what, own) = if manifest.is_image() {
        (What::Image, platform_of(&config(artifact::LONGEST_CONFIG)?))
    } else if let Some(layer) = manifest.layers.iter().find(|layer| layer.media_type == artifact::SQUASHFS) {
        let meta = artifact::meta_of(&config(artifact::LONGEST_CONFIG)?).map(Box::new);
        let own = meta.as_ref().and_then(|meta| meta.platform.parse().ok());
        let env = manifest.layers.iter().find(|layer| layer.media_type == artifact::ENV).cloned().map(Box::new);
        (What::Overlay { meta, layer: Box::new(layer.clone()), env }, own)
    } else if let Some(layer) =
        manifest.layers.iter().find(|layer| layer.media_type == artifact::SIF || named(layer, &[".sif"]))
    {
        (What::Sif(Box::new(layer.clone())), None)
    } else if let [layer] = manifest.layers.as_slice()
        && named(layer, &[".sqf", ".sqsh", ".squashfs", ".sqfs"])
    {
        // What another tool has pushed as a file.
        (What::Overlay { meta: None, layer: Box::new(layer.clone()), env: None }, None)
    } else {
        return Err(RegistryError::Unfit {
            what: reference.to_string(),
            why: format!("it is '{}', neither an overlay nor a container image", manifest.what().escape_debug()),
            hint: String::new(),
        });
    };
    if let Some(own) = own.as_ref().filter(|own| !own.fits(platform)) {
        return Err(RegistryError::Unfit {
            what: reference.to_string(),
            why: format!("it is for {own}, not for {platform}"),
            hint: format!("take it nevertheless with --platform {own}, if that is of use"),
        });
    }
    let platform = own.unwrap_or_else(|| platform.clone());
    let pinned = reference.pinned(&resolved.fetched.digest);
    Ok(Found { pinned, platform, what, client, resolved, reference: reference.clone() })
}

fn named(layer: &Descriptor, endings: &[&str]) -> bool {
    let title = layer.annotations.get(note::TITLE).map_or("", String::as_str);
    endings.iter().any(|ending| title.ends_with(ending))
}

impl Found {
    /// The digest that everything of it follows from.
    pub fn digest(&self) -> &Digest {
        &self.resolved.fetched.digest
    }

    /// The digest of the index it was found in.
    pub fn index(&self) -> Option<&Digest> {
        self.resolved.index.as_ref().map(|index| &index.digest)
    }

    /// Bytes of all that would come, as announced.
    pub fn size(&self) -> u64 {
        self.resolved.manifest.layers.iter().fold(0, |sum, layer| sum.saturating_add(layer.size))
    }

    /// The name of the overlay: what it says itself, which `asked` may not contradict; of what says nothing the one asked
    /// for, or else what the reference looks like.
    ///
    /// # Errors
    /// When the two are not the same, or there is none.
    pub fn name(&self, asked: Option<&Name>) -> Result<Name> {
        let own = match &self.what {
            What::Overlay { meta: Some(meta), .. } => Some(&meta.name),
            _ => None,
        };
        match (own, asked) {
            (Some(own), Some(asked)) if own != asked => Err(RegistryError::Unfit {
                what: self.reference.to_string(),
                why: format!("it is {own} and lives in {}, so it cannot be called {asked}", own.root()),
                hint: "leave the name out".into(),
            }),
            (Some(name), _) | (None, Some(name)) => Ok(name.clone()),
            (None, None) => {
                let last = self.reference.repository.rsplit('/').next().unwrap_or_default();
                let guess = self.reference.tag.as_deref().map(|tag| format!("{last}/{tag}"));
                guess.and_then(|text| text.parse().ok()).ok_or_else(|| RegistryError::Unfit {
                    what: self.reference.to_string(),
                    why: "it does not say what it is to be called".into(),
                    hint: "give it a name, as in: ovl pull REF -n samtools/1.22".into(),
                })
            }
        }
    }

    /// Whether the reference reads like this name: then nobody is surprised by what comes.
    pub fn reads_like(&self, name: &Name) -> bool {
        self.reference.reads_like(name)
    }

    /// Streams an overlay to `target` and publishes it. The caller holds the claim.
    ///
    /// # Errors
    /// When it does not come, is not what its digest or its metadata says, or cannot be published. What was transferred
    /// is kept for the next attempt, unless it is wrong.
    pub fn overlay_to(&self, target: &Path, keep_previous: bool, watch: &dyn Watch) -> Result<Pulled> {
        let What::Overlay { meta, layer, env } = &self.what else {
            return Err(RegistryError::odd(&self.reference, "it is no overlay"));
        };
        let repository = &self.reference.repository;
        let env = match env {
            Some(env) => Some(self.client.small_blob(repository, env, artifact::LONGEST_ENV, watch)?),
            None => None,
        };
        let mut image = NewImage::resume(target, layer.digest.short())?;
        let file = image.file().try_clone().map_err(fs::PathError::new("open", image.path()))?;
        room(target, layer, file.metadata().map_or(0, |meta| meta.len()))?;
        let mut partial = Partial::resume(image.path().to_owned(), file, layer.size, watch)?;
        self.client.blob(repository, layer, &mut partial, watch)?;
        image.flush()?;
        // From here on what is there is all that will come: if it is wrong, it is of no use.
        image.forget();
        let opened = overlays::open(image.path()).map_err(|error| match error {
            overlays::OverlayError::Image { source, .. } => RegistryError::image(&self.pinned)(source),
            other => other.into(),
        })?;
        let bad = || RegistryError::image(&self.pinned);
        opened.verify().map_err(bad())?;
        let inside = overlays::read_meta(&opened).map_err(bad())?;
        if inside.as_ref() != meta.as_deref() && meta.is_some() {
            return Err(RegistryError::odd(&self.pinned, "the image in it is not what its metadata says"));
        }
        let none = Vec::new();
        let vars = inside.as_ref().map_or(&none, |meta| &meta.env);
        let key = inside.as_ref().map_or("", |meta| meta.key.as_str());
        let own = publish::sidecar_text(key, layer.digest.as_str(), vars);
        let sidecar = match env {
            Some(text) => String::from_utf8_lossy(&text).into_owned(),
            // An image that says nothing about itself needs no words of ours beside it.
            None if inside.is_none() => format!("# digest: {}\n", layer.digest),
            None => own,
        };
        if watch.cancelled() {
            return Err(RegistryError::Interrupted);
        }
        let (path, warnings) = image.publish(&sidecar, keep_previous)?;
        Ok(Pulled { path, digest: layer.digest.clone(), size: layer.size, warnings })
    }

    /// Gets a container image into the cache.
    ///
    /// # Errors
    /// As for [`super::image::fetch`].
    pub fn image(&self, options: &Options, watch: &dyn Watch) -> Result<PulledImage> {
        let cache = Cache::new(&options.cache);
        keep(&cache, Some(&self.client), &self.reference, &self.platform, &self.resolved, watch)
    }

    /// Gets a file with a system in it, SIF or overlay, into the cache.
    ///
    /// # Errors
    /// When it does not come, or is neither.
    pub fn file(&self, options: &Options, watch: &dyn Watch) -> Result<PathBuf> {
        match &self.what {
            What::Overlay { layer, .. } => {
                Cache::new(&options.cache).fetch(Some(&self.client), &self.reference.repository, layer, watch)
            }
            What::Sif(_) => self.sif(options, watch),
            What::Image => Err(RegistryError::Unfit {
                what: self.reference.to_string(),
                why: "it is a container image, no file with a system in it".into(),
                hint: "make an overlay of it with: ovl pull REF -n NAME".into(),
            }),
        }
    }

    /// Gets a SIF file into the cache.
    ///
    /// # Errors
    /// When it does not come, or is none.
    pub fn sif(&self, options: &Options, watch: &dyn Watch) -> Result<PathBuf> {
        let What::Sif(layer) = &self.what else {
            return Err(RegistryError::odd(&self.reference, "it is no SIF file"));
        };
        let cache = Cache::new(&options.cache);
        let path = cache.fetch(Some(&self.client), &self.reference.repository, layer, watch)?;
        match kind::of(&fs::open(&path)?) {
            Ok(kind::Kind::Sif) => Ok(path),
            Ok(_) => Err(RegistryError::odd(&self.reference, "it says that it is a SIF file, and is none")),
            Err(error) => Err(RegistryError::image(&self.reference)(error)),
        }
    }
}

/// Refuses early what would not fit beside the bytes that are there already.
fn room(target: &Path, layer: &Descriptor, there: u64) -> Result<()> {
    let dir = target.parent().unwrap_or(Path::new("/"));
    let free = fs::free_bytes(dir).unwrap_or(u64::MAX);
    let missing = layer.size.saturating_sub(there);
    if missing <= free {
        return Ok(());
    }
    Err(RegistryError::Unfit {
        what: target.display().to_string(),
        why: format!("{missing} bytes of the overlay are to come, and there is room for {free}"),
        hint: "free space there, or use another layer with --layer".into(),
    })
}

/// Clears what died before, where an overlay is about to be pulled to.
pub fn tidy(target: &Path, lease: std::time::Duration) {
    if let Some(dir) = target.parent() {
        sweep::images(dir, lease);
    }
}
