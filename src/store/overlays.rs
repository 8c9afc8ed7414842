//! Overlays on disk: found in all layers, and what each says about itself. Installed means: a valid superblock;
//! what has metadata of ovl's is understood fully, what others made is used as it is.

use std::path::{Path, PathBuf};

use super::layers::{self, Layers};
use super::publish;
use crate::exec::environ::LayerEnv;
use crate::image::ImageError;
use crate::image::kind;
use crate::image::sif::Sif;
use crate::image::squashfs::read::{Caches, DATA_CACHE, Image, InodeKind as Kind};
use crate::model::env::{self, EnvVar};
use crate::model::meta::{self, Meta};
use crate::model::name::Name;
use crate::model::version::Version;
use crate::sys::digest;
use crate::sys::fs::{self, PathError};

/// Ending of overlay files.
pub const ENDING: &str = "sqf";

/// An overlay file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Overlay {
    /// Its name, from the file name.
    pub name: Name,
    /// The file.
    pub path: PathBuf,
    /// The kind of layer it lies in.
    pub layer: &'static str,
}

/// An overlay that cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum OverlayError {
    /// The file system refused.
    #[error(transparent)]
    Io(#[from] PathError),
    /// It is no readable image.
    #[error("{}: {source}", path.display())]
    Image {
        /// The file.
        path: PathBuf,
        /// What is wrong.
        source: ImageError,
    },
}

/// Where `name`'s file lies in a directory of overlays.
pub fn file_in(images: &Path, name: &Name) -> PathBuf {
    images.join(format!("{}.{ENDING}", name.file_stem()))
}

/// The overlay of exactly this name, from the first layer that has it.
pub fn find(layers: &Layers, name: &Name) -> Result<Option<Overlay>, PathError> {
    for dir in layers.dirs() {
        let path = file_in(&layers::images(dir), name);
        if fs::metadata_if_exists(&path)?.is_some() {
            return Ok(Some(Overlay { name: name.clone(), path, layer: dir.kind }));
        }
    }
    Ok(None)
}

/// Every overlay of every layer, sorted by name and version; one that an earlier layer hides comes right after it.
pub fn all(layers: &Layers) -> Result<Vec<Overlay>, PathError> {
    let mut found = Vec::new();
    for dir in layers.dirs() {
        let images = layers::images(dir);
        for file in fs::list_if_exists(&images)? {
            let stem = file.to_str().and_then(|file| file.strip_suffix(&format!(".{ENDING}")));
            if let Some(name) = stem.filter(|stem| !stem.starts_with('.')).and_then(Name::from_file_stem) {
                found.push(Overlay { name, path: images.join(&file), layer: dir.kind });
            }
        }
    }
    // Stable: equal names stay in the order of the layers.
    found.sort_by_cached_key(|overlay| (overlay.name.stem(), Version::new(overlay.name.version())));
    Ok(found)
}

/// Opens an overlay's image; of a SIF file the primary partition.
pub fn open(path: &Path) -> Result<Image, OverlayError> {
    let file = fs::open(path)?;
    let image = match kind::of(&file) {
        Ok(kind::Kind::Sif) => Sif::open(file).and_then(|sif| sif.squashfs(sif.primary()?, Caches::new(DATA_CACHE))),
        Ok(_) => Image::open(file, 0),
        Err(error) => Err(error),
    };
    image.map_err(|source| OverlayError::Image { path: path.to_owned(), source })
}

/// What an overlay says about itself.
#[derive(Debug, Clone, Default)]
pub struct Facts {
    /// Metadata of ovl's, if it carries any.
    pub meta: Option<Meta>,
    /// Roots below /cnt that it brings, as in `/cnt/samtools/1.22`.
    pub roots: Vec<Root>,
    /// Complaints about its sidecar.
    pub warnings: Vec<String>,
    /// The sidecar says that it belongs to another build; it is passed over.
    pub foreign_sidecar: bool,
    /// The digest that the sidecar records, when it belongs to this very image.
    pub digest: Option<String>,
    /// Variables that count: the sidecar's where it has any say, else the embedded ones.
    pub env: Vec<EnvVar>,
}

/// One root below /cnt.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Root {
    /// Inside, as in `/cnt/samtools/1.22`.
    pub path: String,
    /// Program directories in it.
    pub programs: Vec<String>,
}

impl Facts {
    /// What it contributes to the environment.
    pub fn layer_env(&self) -> Vec<LayerEnv> {
        let mut layers: Vec<LayerEnv> = self
            .roots
            .iter()
            .map(|root| LayerEnv { root: root.path.clone(), programs: root.programs.clone(), vars: Vec::new() })
            .collect();
        match layers.last_mut() {
            Some(last) => last.vars.clone_from(&self.env),
            None => layers.push(LayerEnv { root: String::new(), programs: Vec::new(), vars: self.env.clone() }),
        }
        layers
    }
}

/// Reads what the overlay at `path` says about itself, `.env` sidecar included (it shadows the embedded variables).
pub fn facts(path: &Path, image: &Image) -> Result<Facts, OverlayError> {
    let bad = |source| OverlayError::Image { path: path.to_owned(), source };
    let mut facts = Facts { meta: read_meta(image).map_err(bad)?, ..Facts::default() };
    facts.roots = match &facts.meta {
        Some(meta) => vec![Root { programs: programs(image, &meta.name.root()).map_err(bad)?, path: meta.name.root() }],
        None => foreign_roots(image).map_err(bad)?,
    };
    if let Some(meta) = &facts.meta {
        facts.env.clone_from(&meta.env);
    }
    let sidecar = publish::sidecar_of(path);
    let Some(bytes) = fs::read_if_exists(&sidecar)? else { return Ok(facts) };
    let text = String::from_utf8_lossy(&bytes);
    let stamp = |word: &str| text.lines().find_map(|line| line.strip_prefix(&format!("# {word}: ")).map(str::to_owned));
    let key = stamp("key");
    match (&facts.meta, key) {
        // Written by ovl for another build of this overlay (a kill between two renames, a copied file): not its own.
        (Some(meta), Some(key)) if key != meta.key => {
            facts.foreign_sidecar = true;
            let sidecar = sidecar.display();
            facts
                .warnings
                .push(format!("{sidecar} belongs to another build; the variables inside the overlay are used"));
        }
        _ => {
            let (vars, odd) = env::read_sidecar(&text);
            facts.warnings.extend(odd.into_iter().map(|odd| format!("{}: {odd}", sidecar.display())));
            facts.env = vars;
            facts.digest = stamp("digest");
        }
    }
    Ok(facts)
}

/// `sha256:` of an overlay's file: the recorded one, else computed.
pub fn digest_of(path: &Path) -> Result<String, OverlayError> {
    let image = open(path)?;
    match facts(path, &image)?.digest {
        Some(digest) => Ok(digest),
        None => Ok(digest::of_file(&fs::open(path)?).map_err(PathError::new("read", path))?),
    }
}

/// The metadata embedded in an image, if it carries any that this ovl reads.
pub fn read_meta(image: &Image) -> Result<Option<Meta>, ImageError> {
    let at = |root: &str| read_file(image, &format!("{root}/{}/{}", meta::DIR, meta::META));
    let dirs = cnt_dirs(image)?;
    for (_, root) in &dirs {
        if let Some(bytes) = at(root)? {
            return Ok(serde_json::from_slice(&bytes).ok());
        }
    }
    // A name of four parts: its directories lead to one another and to nothing else.
    for (_, path) in dirs.iter().filter(|(depth, _)| *depth == 3) {
        let Some(inode) = image.find(path.as_bytes())? else { continue };
        if let [only] = image.list(&inode)?.as_slice()
            && let Ok(name) = std::str::from_utf8(&only.name)
            && let Some(bytes) = at(&format!("{path}/{name}"))?
        {
            return Ok(serde_json::from_slice(&bytes).ok());
        }
    }
    Ok(None)
}

/// The recipe embedded in an image.
pub fn read_recipe(image: &Image, meta: &Meta) -> Result<Option<Vec<u8>>, ImageError> {
    read_file(image, &format!("{}/{}/{}", meta.name.root(), meta::DIR, meta::RECIPE))
}

/// The whole content of a regular file in an image; None when there is none. Refuses what cannot be text of ovl's.
pub fn read_file(image: &Image, path: &str) -> Result<Option<Vec<u8>>, ImageError> {
    let Some(inode) = image.find(path.as_bytes())? else { return Ok(None) };
    if inode.kind != Kind::File {
        return Ok(None);
    }
    let size = usize::try_from(inode.size).ok().filter(|size| *size <= 16 << 20);
    let size = size.ok_or_else(|| ImageError::corrupt(format!("{path} has {} bytes", inode.size)))?;
    let mut bytes = vec![0; size];
    let got = image.read(&inode, 0, &mut bytes)?;
    bytes.truncate(got);
    Ok(Some(bytes))
}

/// Directories two and three levels below /cnt, as (depth, path).
fn cnt_dirs(image: &Image) -> Result<Vec<(usize, String)>, ImageError> {
    let mut found = Vec::new();
    let mut open = vec![(0, "/cnt".to_owned())];
    while let Some((depth, path)) = open.pop() {
        let Some(inode) = image.find(path.as_bytes())? else { continue };
        if inode.kind != Kind::Dir {
            continue;
        }
        if depth >= 2 {
            found.push((depth, path.clone()));
        }
        // An image that brings thousands of directories here is a system, not a module: look no further.
        if depth < 3 && found.len() < 64 {
            for entry in image.list(&inode)? {
                if let Ok(name) = String::from_utf8(entry.name) {
                    open.push((depth + 1, format!("{path}/{name}")));
                }
            }
        }
    }
    found.sort();
    Ok(found)
}

/// Roots of an overlay that others made: directories two levels below /cnt.
fn foreign_roots(image: &Image) -> Result<Vec<Root>, ImageError> {
    let mut roots = Vec::new();
    for (depth, path) in cnt_dirs(image)? {
        let programs = programs(image, &path)?;
        if depth == 2 || !programs.is_empty() && depth == 3 {
            let name = path.rsplit('/').next().unwrap_or("");
            if !matches!(name, "bin" | "sbin" | meta::DIR) {
                roots.push(Root { path, programs });
            }
        }
    }
    // A directory that only leads to a deeper module is none itself.
    let deeper: Vec<String> = roots.iter().map(|root| root.path.clone()).collect();
    roots.retain(|root| {
        let below = format!("{}/", root.path);
        !root.programs.is_empty() || !deeper.iter().any(|path| path.starts_with(&below))
    });
    Ok(roots)
}

fn programs(image: &Image, root: &str) -> Result<Vec<String>, ImageError> {
    let mut found = Vec::new();
    for dir in ["bin", "sbin"] {
        if image.find(format!("{root}/{dir}").as_bytes())?.is_some_and(|inode| inode.kind == Kind::Dir) {
            found.push(dir.to_owned());
        }
    }
    Ok(found)
}
