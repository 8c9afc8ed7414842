//! What is installed, listed once: each layer's directory of images is read one time, and what is not in it is answered
//! without asking the file server again. A moment's picture; whoever builds looks again.

use std::collections::HashMap;

use super::layers::{self, Layers};
use super::overlays::{self, ENDING, Overlay};
use crate::config::LayerDir;
use crate::model::name::Name;
use crate::model::need::Need;
use crate::model::version::Version;
use crate::sys::fs::{self, PathError};

/// The picture.
#[derive(Debug, Clone, Default)]
pub struct Index {
    /// By what stands before the version, in the order of the layers.
    stems: HashMap<String, Vec<Overlay>>,
}

impl Index {
    /// Lists all layers; one without a directory of images holds nothing.
    pub fn new(layers: &Layers) -> Result<Index, PathError> {
        Index::of(layers.dirs())
    }

    fn of(dirs: &[LayerDir]) -> Result<Index, PathError> {
        let mut index = Index::default();
        for dir in dirs {
            let images = layers::images(dir);
            for file in fs::list_if_exists(&images)? {
                let stem = file.to_str().and_then(|file| file.strip_suffix(ENDING)?.strip_suffix('.'));
                if let Some(name) = stem.and_then(Name::from_file_stem) {
                    let path = overlays::file_in(&images, &name);
                    index.stems.entry(name.stem()).or_default().push(Overlay { name, path, layer: dir.kind });
                }
            }
        }
        Ok(index)
    }

    fn versions(&self, name: &Name) -> &[Overlay] {
        self.stems.get(&name.stem()).map_or(&[], Vec::as_slice)
    }

    /// The overlay of exactly this name, from the first layer that has it.
    pub fn find(&self, name: &Name) -> Result<Option<&Overlay>, PathError> {
        first_there(self.versions(name).iter().filter(|overlay| overlay.name == *name))
    }

    /// The newest overlay that satisfies a need; of the same version, the first layer's.
    pub fn satisfying(&self, need: &Need) -> Result<Option<&Overlay>, PathError> {
        if need.min.is_none() {
            return self.find(&need.name);
        }
        let mut fitting: Vec<&Overlay> =
            self.versions(&need.name).iter().filter(|overlay| need.satisfied_by(&overlay.name)).collect();
        // Stable: equal versions stay in the order of the layers.
        fitting.sort_by_cached_key(|overlay| std::cmp::Reverse(Version::new(overlay.name.version())));
        first_there(fitting.into_iter())
    }
}

/// A listed name may be a link that leads nowhere, which is not there.
fn first_there<'a>(overlays: impl Iterator<Item = &'a Overlay>) -> Result<Option<&'a Overlay>, PathError> {
    for overlay in overlays {
        if fs::metadata_if_exists(&overlay.path)?.is_some() {
            return Ok(Some(overlay));
        }
    }
    Ok(None)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_newest_that_will_do_and_the_first_layer_that_has_it() {
        let dir = std::env::temp_dir().join(format!("ovl-index-{}", crate::sys::host::token()));
        let layer = |kind| LayerDir { kind, path: dir.join(kind), read_only: false };
        let put = |kind, files: &[&str]| {
            let images = layers::images(&layer(kind));
            fs::create_dirs(&images).unwrap();
            files.iter().for_each(|file| drop(fs::create_new(&images.join(file), 0o644).unwrap()));
            images
        };
        let user = put("user", &["a--1.9.sqf", "a--1.10.sqf", "a-b--1.sqf", ".a--1.11.sqf", "a--1.12.env", "odd.sqf"]);
        put("site", &["a--1.10.sqf", "a--2.sqf", "d--x--1.sqf"]);
        fs::symlink(&user.join("nowhere"), &user.join("a--1.11.sqf")).unwrap();
        let index = Index::of(&[layer("user"), layer("gone"), layer("site")]).unwrap();
        let found = |need: &str| {
            let found = index.satisfying(&need.parse().unwrap()).unwrap();
            found.map(|overlay| format!("{} {}", overlay.layer, overlay.name))
        };
        assert_eq!(found("a/1.10").unwrap(), "user a/1.10");
        assert_eq!(found("a/1.12>=1").unwrap(), "user a/1.10", "1.11 leads nowhere, 1.12 is no image");
        assert_eq!(found("a/3>=1").unwrap(), "site a/2");
        assert_eq!(found("a/1.11"), None);
        assert_eq!(found("a/9>=5"), None);
        assert_eq!(found("d/x/1").unwrap(), "site d/x/1");
        assert_eq!(index.find(&"a-b/1".parse().unwrap()).unwrap().unwrap().path, user.join("a-b--1.sqf"));
        fs::remove_tree(&dir).unwrap();
    }
}
