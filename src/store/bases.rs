//! Systems to run overlays on: the host itself, overlays that hold a system, and image files that were fetched as such,
//! which lie in a layer's `bases/`.

use std::path::{Path, PathBuf};

use super::layers::{self, Layers};
use super::overlays;
use crate::config::LayerDir;
use crate::image::kind::{self, Kind};
use crate::image::sif::Sif;
use crate::image::squashfs::read::{Caches, DATA_CACHE};
use crate::image::{ImageError, squashfs};
use crate::model::meta;
use crate::model::name::Name;
use crate::sys::fs::{self, PathError};

/// Endings of image files, the one looked for first at the front.
pub const ENDINGS: [&str; 2] = ["sif", "sqf"];

/// A system.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BaseImage {
    /// What it is called.
    pub name: Name,
    /// Its file.
    pub path: PathBuf,
    /// "overlay", "sif" or "sqf".
    pub kind: &'static str,
    /// The kind of its layer.
    pub layer: &'static str,
    /// Bytes.
    pub bytes: u64,
}

/// Where a layer's image files of systems are.
pub fn place(layer: &LayerDir) -> PathBuf {
    layer.path.join("bases")
}

/// The file for a system of this name in a layer.
pub fn file_in(layer: &LayerDir, name: &Name, ending: &str) -> PathBuf {
    place(layer).join(format!("{}.{ending}", name.file_stem()))
}

/// The image file of this name, of the first layer that has one.
pub fn find_file(layers: &Layers, name: &Name) -> Result<Option<PathBuf>, PathError> {
    for layer in layers.dirs() {
        for ending in ENDINGS {
            let path = file_in(layer, name, ending);
            if fs::metadata_if_exists(&path)?.is_some_and(|meta| meta.is_file()) {
                return Ok(Some(path));
            }
        }
    }
    Ok(None)
}

/// The system of this name: an image file, or an overlay with a system in it.
pub fn find(layers: &Layers, name: &Name) -> Result<Option<PathBuf>, PathError> {
    if let Some(path) = find_file(layers, name)? {
        return Ok(Some(path));
    }
    let found = overlays::find(layers, name)?;
    Ok(found.filter(|overlay| is_system(&overlay.path)).map(|overlay| overlay.path))
}

/// Whether an overlay says that a system is in it.
fn is_system(path: &Path) -> bool {
    let Ok(image) = overlays::open(path) else { return false };
    overlays::read_meta(&image).is_ok_and(|meta| meta.is_some_and(|meta| meta.kind == meta::SYSTEM))
}

/// All systems, by name; of two with the same name the one that counts. What cannot be read is left out.
pub fn all(layers: &Layers) -> Result<Vec<BaseImage>, PathError> {
    let mut all: Vec<BaseImage> = Vec::new();
    let mut add = |base: BaseImage| {
        if !all.iter().any(|other| other.name == base.name) {
            all.push(base);
        }
    };
    for layer in layers.dirs() {
        let dir = place(layer);
        let files = fs::list_if_exists(&dir)?;
        for kind in ENDINGS {
            for file in &files {
                let stem = file.to_str().and_then(|file| file.strip_suffix(kind)?.strip_suffix('.'));
                let Some(name) = stem.and_then(Name::from_file_stem) else { continue };
                let path = dir.join(file);
                if let Some(meta) = fs::metadata_if_exists(&path)?.filter(|meta| meta.is_file()) {
                    add(BaseImage { name, path, kind, layer: layer.kind, bytes: meta.len() });
                }
            }
        }
    }
    for overlay in overlays::all(layers)? {
        if is_system(&overlay.path) {
            let bytes = fs::metadata(&overlay.path)?.len();
            add(BaseImage { name: overlay.name, path: overlay.path, kind: "overlay", layer: overlay.layer, bytes });
        }
    }
    all.sort_by(|a, b| a.name.cmp(&b.name));
    Ok(all)
}

/// The ending for an image with a system in it; it is opened, so that what cannot be used is not kept.
///
/// # Errors
/// When it is neither SIF nor SquashFS, or damaged.
pub fn ending_of(path: &Path) -> Result<&'static str, ImageError> {
    let opened = || fs::open(path).map_err(|error| ImageError::Unsupported(error.to_string()));
    match kind::of(&opened()?)? {
        Kind::Sif => {
            let sif = Sif::open(opened()?)?;
            let object = sif.primary()?;
            sif.squashfs(object, Caches::new(DATA_CACHE))?;
            Ok("sif")
        }
        Kind::Squashfs => {
            squashfs::read::Image::open(opened()?, 0)?;
            Ok("sqf")
        }
        _ => Err(ImageError::Unsupported("it is neither a SIF nor a SquashFS image".into())),
    }
}

/// Makes the directory for image files of a layer.
pub fn prepare(layer: &LayerDir) -> Result<PathBuf, PathError> {
    let dir = place(layer);
    layers::make_shared(&dir)?;
    Ok(dir)
}
