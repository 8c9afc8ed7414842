//! Opening what an invocation names: every image becomes a layer, marked as used; what will be mounted in the merged tree
//! gets its mount points from one more layer below all others.

use std::ffi::OsString;
use std::fs::File;
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::HOST_PLACES;
use crate::exec::{Base, Invocation, Mount};
use crate::image::ImageError;
use crate::image::kind::{self, Kind};
use crate::image::sif::{FileSystem, Sif};
use crate::image::squashfs::read::{Caches, DATA_CACHE, Image};
use crate::runtime::error::{Result, RuntimeError};
use crate::runtime::tree::layer::Layer;
use crate::runtime::tree::memory::Memory;
use crate::runtime::tree::{ImageLayer, ROOT, Tree};
use crate::runtime::writable;
use crate::sys::{fs, pass};

/// Images are opened by several threads from this many on: on network file systems each costs a round trip or two.
const MANY: usize = 16;

/// Opens every image, marks it as used and merges all; under a base image also the mount points it lacks.
pub fn all(invocation: &Invocation) -> Result<Tree> {
    let mut paths: Vec<&PathBuf> = Vec::with_capacity(invocation.layers.len() + 1);
    if let Base::Image(path) = &invocation.base {
        paths.push(path);
    }
    paths.extend(&invocation.layers);
    let caches = Caches::new(DATA_CACHE);
    let crew = if paths.len() < MANY { 1 } else { 8 };
    let size = paths.len().div_ceil(crew).max(1);
    let (first, others) = paths.split_at(size.min(paths.len()));
    let open = &|group: &[&PathBuf]| group.iter().map(|path| one(path, &caches)).collect::<Vec<_>>();
    let opened: Vec<Result<Layers>> = std::thread::scope(|scope| {
        let handles: Vec<_> = others.chunks(size).map(|group| scope.spawn(move || open(group))).collect();
        let mut opened = open(first);
        for handle in handles {
            opened.extend(handle.join().unwrap_or_default());
        }
        opened
    });
    if opened.len() != paths.len() {
        return Err(RuntimeError::Impossible("not all images could be opened".into()));
    }
    let mut layers: Layers = Vec::with_capacity(opened.len() + 1);
    for image in opened {
        layers.extend(image?);
    }
    let failed = |source: ImageError| RuntimeError::Image { path: paths[0].clone(), source };
    let tree = Tree::new(layers).map_err(failed)?;
    let Some(points) = mount_points(invocation, &tree).map_err(failed)? else { return Ok(tree) };
    let mut layers = tree.into_layers();
    layers.insert(0, Box::new(points));
    Tree::new(layers).map_err(failed)
}

/// A file of an overlay that nobody can see.
pub struct Hidden {
    /// Where it is.
    pub path: PathBuf,
    /// The overlay whose file it is.
    pub of: PathBuf,
    /// The later overlay that has something else there.
    pub by: PathBuf,
}

/// What these overlays, lowest first, hide of each other, whatever lies below them: at most `most`, and how many there
/// are in all.
pub fn hidden(paths: &[PathBuf], most: usize) -> Result<(Vec<Hidden>, u64)> {
    let caches = Caches::new(DATA_CACHE);
    let mut layers = Layers::new();
    let mut of: Vec<&PathBuf> = Vec::new();
    for path in paths {
        layers.extend(one(path, &caches)?);
        of.resize(layers.len(), path);
    }
    let (Some(first), true) = (paths.first(), layers.len() > 1) else { return Ok((Vec::new(), 0)) };
    let failed = |source: ImageError| RuntimeError::Image { path: first.clone(), source };
    let found = Tree::new(layers).and_then(|tree| tree.clashes(most)).map_err(failed)?;
    let owner = |layer: u16| of.get(usize::from(layer)).map(|path| path.to_path_buf()).unwrap_or_default();
    let hidden = found.first.into_iter().map(|clash| Hidden {
        path: PathBuf::from(OsString::from_vec(clash.path)),
        of: owner(clash.hidden),
        by: owner(clash.seen),
    });
    Ok((hidden.collect(), found.total))
}

/// What an image comes to, lowest first; more than one only of a SIF file.
type Layers = Vec<Box<dyn Layer>>;

fn one(path: &Path, caches: &Arc<Caches>) -> Result<Layers> {
    let failed = |source| RuntimeError::Image { path: path.to_owned(), source };
    let file = fs::open(path)?;
    let kind = kind::of(&file).map_err(failed)?;
    if kind == Kind::Ext {
        return Ok(vec![Box::new(writable::read_only(path, file)?)]);
    }
    pass::mark_used(&file);
    if kind == Kind::Sif {
        return partitions(path, file, caches);
    }
    let image = Image::open_sharing(file, 0, caches.clone());
    Ok(vec![Box::new(ImageLayer(image.map_err(failed)?))])
}

/// The system of a SIF file and the overlays that belong to it.
fn partitions(path: &Path, file: File, caches: &Arc<Caches>) -> Result<Layers> {
    let failed = |source| RuntimeError::Image { path: path.to_owned(), source };
    let sif = Sif::open(file).map_err(failed)?;
    sif.check_arch().map_err(failed)?;
    let primary = sif.primary().map_err(failed)?;
    let mut layers: Layers = Vec::new();
    for object in std::iter::once(primary).chain(sif.overlays().map_err(failed)?) {
        match object.partition().map(|partition| partition.fs) {
            Some(FileSystem::Ext3) => layers.push(Box::new(writable::partition(path, &sif, object)?)),
            _ => layers.push(Box::new(ImageLayer(sif.squashfs(object, caches.clone()).map_err(failed)?))),
        }
    }
    Ok(layers)
}

/// Directories and empty files for everything that will be mounted in the merged tree; where the images have them,
/// theirs win. None: nothing will be.
fn mount_points(invocation: &Invocation, tree: &Tree) -> Result<Option<Memory>, ImageError> {
    let mut points = Memory::default();
    let mut any = false;
    let whole = matches!(invocation.base, Base::Image(_));
    if whole {
        for place in HOST_PLACES {
            points.dir(&tree.resolve(place.as_bytes())?);
            any = true;
        }
    }
    let top = tree.list(ROOT)?;
    for mount in &invocation.mounts {
        let (Mount::Tmpfs { target, .. } | Mount::Bind { target, .. }) = mount;
        // Over a directory as base, only what the images bring at the top comes from the tree.
        let first = target.components().nth(1).map(|part| part.as_os_str().as_bytes());
        if !whole && !top.iter().any(|entry| Some(entry.name.as_slice()) == first) {
            continue;
        }
        let place = tree.resolve(target.as_os_str().as_bytes())?;
        let file = match mount {
            Mount::Bind { source, .. } => fs::metadata(source).is_ok_and(|meta| !meta.is_dir()),
            Mount::Tmpfs { .. } => false,
        };
        any = true;
        if file {
            points.file(&place, b"");
        } else {
            points.dir(&place);
        }
    }
    Ok(any.then_some(points))
}
