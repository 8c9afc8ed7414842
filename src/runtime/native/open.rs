//! Opening what an invocation names: every image becomes a layer, marked as used; what will be mounted in the merged tree
//! gets its mount points from one more layer below all others.

use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::HOST_PLACES;
use crate::exec::{Base, Invocation, Mount};
use crate::image::ImageError;
use crate::image::squashfs::read::{Caches, DATA_CACHE, Image};
use crate::runtime::error::{Result, RuntimeError};
use crate::runtime::tree::layer::Layer;
use crate::runtime::tree::memory::Memory;
use crate::runtime::tree::{ImageLayer, ROOT, Tree};
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
    let opened: Vec<Result<ImageLayer>> = std::thread::scope(|scope| {
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
    let mut layers: Vec<Box<dyn Layer>> = Vec::with_capacity(opened.len() + 1);
    for layer in opened {
        layers.push(Box::new(layer?));
    }
    let failed = |source: ImageError| RuntimeError::Image { path: paths[0].clone(), source };
    let tree = Tree::new(layers).map_err(failed)?;
    let Some(points) = mount_points(invocation, &tree).map_err(failed)? else { return Ok(tree) };
    let mut layers = tree.into_layers();
    layers.insert(0, Box::new(points));
    Tree::new(layers).map_err(failed)
}

fn one(path: &Path, caches: &Arc<Caches>) -> Result<ImageLayer> {
    let file = fs::open(path)?;
    pass::mark_used(&file);
    let image = Image::open_sharing(file, 0, caches.clone());
    image.map(ImageLayer).map_err(|source| RuntimeError::Image { path: path.to_owned(), source })
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
