//! What an image with a system in it says about itself (`/.singularity.d`): its labels, help and scripts.

use std::collections::BTreeMap;
use std::path::Path;

use super::overlays::{self, OverlayError};
use crate::image::kind::{self, Kind};
use crate::image::sif::Sif;
use crate::image::squashfs::read::{Caches, DATA_CACHE, Image, InodeKind};
use crate::sys::fs;

/// Where the runscript is.
pub const RUNSCRIPT: &str = "/.singularity.d/runscript";

/// What such an image says.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct System {
    /// Its labels.
    pub labels: BTreeMap<String, String>,
    /// Whether it can be run.
    pub runscript: bool,
    /// Whether it has a test.
    pub test: bool,
    /// What it says to who asks for help.
    pub help: Option<String>,
}

/// Opens an overlay, another SquashFS image, or the system in a SIF file.
///
/// # Errors
/// When it is none of them, or damaged.
pub fn open(path: &Path) -> Result<Image, OverlayError> {
    let bad = |source| OverlayError::Image { path: path.to_owned(), source };
    if kind::of(&fs::open(path)?).map_err(bad)? != Kind::Sif {
        return overlays::open(path);
    }
    let sif = Sif::open(fs::open(path)?).map_err(bad)?;
    sif.primary().and_then(|object| sif.squashfs(object, Caches::new(DATA_CACHE))).map_err(bad)
}

/// What it says; None: there is no such system in it.
///
/// # Errors
/// When the image is damaged.
pub fn of(path: &Path, image: &Image) -> Result<Option<System>, OverlayError> {
    let bad = |source| OverlayError::Image { path: path.to_owned(), source };
    let has = |file: &str| -> Result<bool, OverlayError> {
        let found = image.find(format!("/.singularity.d/{file}").as_bytes()).map_err(bad)?;
        Ok(found.is_some_and(|inode| inode.kind == InodeKind::File))
    };
    if image.find(b"/.singularity.d").map_err(bad)?.is_none() {
        return Ok(None);
    }
    let read = |file: &str| -> Result<Option<String>, OverlayError> {
        if !has(file)? {
            return Ok(None);
        }
        let bytes = overlays::read_file(image, &format!("/.singularity.d/{file}")).map_err(bad)?;
        Ok(bytes.map(|bytes| String::from_utf8_lossy(&bytes).into_owned()))
    };
    let labels = read("labels.json")?.and_then(|text| serde_json::from_str(&text).ok()).unwrap_or_default();
    Ok(Some(System { labels, runscript: has("runscript")?, test: has("test")?, help: read("runscript.help")? }))
}
