//! A remote as a layer of recipes: looked at after all layers of this machine and before what is inside the binary.

use std::path::Path;
use std::sync::{Arc, OnceLock};

use rayon::prelude::*;

use super::{Pinned, Remote, of_layer, pinned};
use crate::config::LayerDir;
use crate::recipe::form;
use crate::store::recipes::Place;
use crate::store::templates::{self, TemplateFile};

/// A remote's recipes.
#[derive(Debug)]
pub struct RemoteLayer {
    /// What users call it.
    pub name: String,
    /// What cannot be read of it, for people; then there are no recipes.
    pub complaint: Option<String>,
    recipes: Vec<Arc<Pinned>>,
    templates: OnceLock<Vec<TemplateFile>>,
}

/// The remotes that layers name.
pub fn of_layers(dirs: &[LayerDir], cache: &Path, offline: bool) -> Vec<RemoteLayer> {
    let mut all: Vec<RemoteLayer> = Vec::new();
    for dir in dirs {
        let mut complaints = Vec::new();
        let remotes = of_layer(dir, &mut |text| complaints.push(text));
        let new = |remote: &Remote| !all.iter().any(|other| other.name == remote.name);
        let found: Vec<RemoteLayer> =
            remotes.iter().filter(|remote| new(remote)).map(|remote| of(remote, dir, cache, offline)).collect();
        all.extend(found);
        let broken = |text| RemoteLayer {
            name: String::new(),
            complaint: Some(text),
            recipes: Vec::new(),
            templates: OnceLock::new(),
        };
        all.extend(complaints.into_iter().map(broken));
    }
    all
}

fn of(remote: &Remote, layer: &LayerDir, cache: &Path, offline: bool) -> RemoteLayer {
    RemoteLayer {
        name: remote.name.clone(),
        complaint: None,
        recipes: pinned(remote, layer, cache, offline),
        templates: OnceLock::new(),
    }
}

impl RemoteLayer {
    /// Its recipes with their paths below `build-scripts/` without endings; templates are among them.
    pub fn recipes(&self) -> impl Iterator<Item = (&str, &Arc<Pinned>)> {
        self.recipes.iter().map(|pinned| (form::without_ending(&pinned.path), pinned))
    }

    /// The recipe of exactly this path.
    pub fn find(&self, id: &str) -> Option<&Arc<Pinned>> {
        self.recipes().find(|(known, _)| *known == id).map(|(_, pinned)| pinned)
    }

    /// Its templates. What cannot be read is none: whoever builds from it is told.
    pub fn templates(&self) -> &[TemplateFile] {
        self.templates.get_or_init(|| {
            let template = |pinned: &Arc<Pinned>| {
                let bytes = pinned.read().ok()?;
                templates::of(&pinned.path, &bytes, Place::Remote(pinned.clone()))
            };
            self.recipes.par_iter().filter(|pinned| pinned.template).filter_map(template).collect()
        })
    }
}
