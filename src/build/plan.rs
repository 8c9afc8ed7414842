//! What is to be built and why: the layers asked through the graph, each node compared with what is there.

use std::cell::{OnceCell, RefCell};
use std::collections::{HashMap, HashSet};
use std::path::PathBuf;

use rayon::prelude::*;

use super::error::BuildError;
use super::fallback::Fallback;
use super::request::Request;
use super::starts;
use crate::conda::Locked;
use crate::config::LayerDir;
use crate::graph::{self, Ask, Dep, GraphError, World};
use crate::model::meta::{Channels, Dependency, Inputs, Why};
use crate::model::name::Name;
use crate::model::need::Need;
use crate::recipe::{self, Spec};
use crate::store::index::Index;
use crate::store::layers::{self, Layers};
use crate::store::overlays::{self, Overlay, OverlayError};
use crate::store::recipes::{self, Found};
use crate::sys::{digest, fs};

/// A recipe, read and understood.
#[derive(Debug, Clone)]
pub struct Recipe {
    /// Its name in messages.
    pub label: String,
    /// Where it was found.
    pub found: Found,
    /// Its bytes.
    pub bytes: Vec<u8>,
    /// What it says.
    pub spec: Spec,
    /// Warnings about it.
    pub warnings: Vec<String>,
}

/// One overlay to look at, dependencies before dependents.
#[derive(Debug, Clone)]
pub struct Item {
    /// The overlay.
    pub name: Name,
    /// Its dependencies.
    pub deps: Vec<Dep>,
    /// Its recipe; None for a dependency that is installed and not asked for.
    pub recipe: Option<Recipe>,
    /// Whether the user asked for it.
    pub target: bool,
}

/// Reads a recipe and refuses what cannot be built, with all findings.
pub fn load(found: Found, given: &recipe::Arguments) -> Result<Recipe, BuildError> {
    let label = found.label();
    let mut bytes = found.read()?;
    let (mut spec, findings) = recipe::parse_with(&label, &bytes, given)
        .ready()
        .map_err(|findings| BuildError::Recipe { label: label.clone(), findings })?;
    if let [(loc, header), ..] = spec.unsupported() {
        return Err(BuildError::Unfit {
            what: format!("{loc}: #{header}: is understood, but this version of ovl cannot carry it out"),
            hint: "building without it would not be the build that the recipe describes; remove the line or use another version".into(),
        });
    }
    // Hints are for `ovl check`.
    let worth = findings.iter().filter(|finding| finding.rule.severity() != recipe::Severity::Hint);
    let mut warnings: Vec<String> = worth.map(ToString::to_string).collect();
    if let Some(definition) = spec.definition() {
        // What is frozen, compared and kept is the definition with its arguments.
        bytes = definition.text.clone().into_bytes();
        let unused = given.keys().filter(|name| !definition.used.contains(*name));
        warnings.extend(unused.map(|name| format!("{label}: it has no argument {name}")));
        let needs = starts::overlays(definition, found.place.dir().as_deref());
        spec.builddeps.extend(needs);
    }
    Ok(Recipe { label, found, bytes, spec, warnings })
}

/// The recipe of an overlay: the file given directly, else the first layer's.
pub fn recipe_for(name: &Name, request: &Request, layers: &Layers) -> Result<Option<Recipe>, BuildError> {
    let found = match &request.given {
        Some(place) if request.targets.contains(name) => Some(Found { name: name.clone(), place: place.clone() }),
        _ if request.channels.contains_key(name) => None,
        _ => recipes::find(layers, name)?,
    };
    found.map(|found| load(found, &request.arguments)).transpose()
}

struct Disk<'a> {
    request: &'a Request,
    layers: &'a Layers,
    targets: HashSet<&'a Name>,
    /// What is installed, as it was when first asked for.
    index: OnceCell<Index>,
    /// What was read, and what asking for it comes to.
    recipes: RefCell<HashMap<Name, Result<Option<Recipe>, BuildError>>>,
    fallback: &'a Fallback<'a>,
}

fn asks_of(recipe: &Recipe) -> Vec<Ask> {
    let ask =
        |build_only| move |at: &recipe::spec::At<Need>| Ask { need: at.value.clone(), loc: at.loc.clone(), build_only };
    let mut asks: Vec<Ask> = recipe.spec.builddeps.iter().map(ask(true)).collect();
    asks.extend(recipe.spec.deps.iter().map(ask(false)));
    asks
}

impl Disk<'_> {
    fn index(&self) -> Result<&Index, BuildError> {
        if let Some(index) = self.index.get() {
            return Ok(index);
        }
        let made = Index::new(self.layers)?;
        Ok(self.index.get_or_init(|| made))
    }

    /// Reads what will most likely be asked for, many recipes at a time; file servers answer slowly, but many at once.
    /// What turns out not to be needed (another version does) does no harm, whatever is wrong with it.
    fn read_ahead(&self, deep: bool) -> Result<(), BuildError> {
        let mut seen: HashSet<Name> = self.request.targets.iter().cloned().collect();
        let mut wave = self.request.targets.clone();
        while !wave.is_empty() {
            let (request, layers) = (self.request, self.layers);
            let read: Vec<_> = wave.par_iter().map(|name| recipe_for(name, request, layers)).collect();
            let mut next = Vec::new();
            for recipe in read.iter().filter(|_| deep).flatten().flatten() {
                for need in recipe.spec.builddeps.iter().chain(&recipe.spec.deps).map(|at| &at.value) {
                    if !seen.contains(&need.name) && self.installed(need)?.is_none() {
                        seen.insert(need.name.clone());
                        next.push(need.name.clone());
                    }
                }
            }
            self.recipes.borrow_mut().extend(wave.into_iter().zip(read));
            wave = next;
        }
        Ok(())
    }
}

impl World for Disk<'_> {
    type Error = BuildError;

    fn installed(&self, need: &Need) -> Result<Option<Name>, BuildError> {
        if self.targets.contains(&need.name) {
            return Ok(None);
        }
        Ok(self.index()?.satisfying(need)?.map(|overlay| overlay.name.clone()))
    }

    fn asks(&self, name: &Name) -> Result<Option<Vec<Ask>>, BuildError> {
        let mut recipes = self.recipes.borrow_mut();
        if !recipes.contains_key(name) {
            recipes.insert(name.clone(), recipe_for(name, self.request, self.layers));
        }
        if let Some(Ok(None)) = recipes.get(name) {
            recipes.insert(name.clone(), self.fallback.recipe(name));
        }
        match recipes.get(name) {
            Some(Ok(Some(recipe))) => Ok(Some(asks_of(recipe))),
            // An error ends the walk, so nobody asks again.
            Some(Err(_)) => recipes.remove(name).unwrap_or(Ok(None)).map(|_| None),
            _ => Ok(None),
        }
    }
}

/// Resolves the request to items in building order.
pub fn resolve(request: &Request, layers: &Layers, fallback: &Fallback) -> Result<Vec<Item>, BuildError> {
    let targets = request.targets.iter().collect();
    let disk = Disk { request, layers, targets, index: OnceCell::new(), recipes: RefCell::default(), fallback };
    disk.read_ahead(!request.no_deps)?;
    let nodes =
        graph::order(&request.targets, &disk, !request.no_deps).map_err(|error| told(error, layers, fallback))?;
    let Disk { recipes, targets, .. } = disk;
    let mut recipes = recipes.into_inner();
    let recipe = |node: &graph::Node, recipes: &mut HashMap<Name, _>| match node.settled {
        true => None,
        false => recipes.remove(&node.name).and_then(Result::ok).flatten(),
    };
    Ok(nodes
        .into_iter()
        .map(|node| Item {
            target: targets.contains(&node.name),
            recipe: recipe(&node, &mut recipes),
            name: node.name,
            deps: node.deps,
        })
        .collect())
}

fn told(error: GraphError<BuildError>, layers: &Layers, fallback: &Fallback) -> BuildError {
    match error {
        GraphError::World(error) => error,
        GraphError::Unknown { name, loc: None } => {
            let mut near = near(&name, layers);
            near.extend(fallback.near());
            BuildError::NoRecipe { name, near, conda: fallback.trouble() }
        }
        other => match fallback.trouble() {
            Some(trouble) => BuildError::Graph(format!("{other} ({trouble})")),
            None => BuildError::Graph(other.to_string()),
        },
    }
}

/// Names of recipes that look like what was asked for.
fn near(name: &Name, layers: &Layers) -> Vec<String> {
    let known = recipes::all(layers).0;
    let mut scored: Vec<(usize, String)> = known
        .iter()
        .map(|found| {
            let other = found.name.to_string();
            let same_stem = if found.name.stem() == name.stem() { 0 } else { 100 };
            (same_stem + strsim::damerau_levenshtein(&name.to_string(), &other), other)
        })
        .filter(|(score, _)| *score < 100 || *score - 100 <= 2 + name.to_string().len() / 4)
        .collect();
    scored.sort();
    scored.dedup();
    scored.into_iter().take(3).map(|(_, name)| name).collect()
}

/// An installed dependency, ready to be mounted.
#[derive(Debug, Clone)]
pub struct ReadyDep {
    /// Its file.
    pub overlay: Overlay,
    /// `sha256:` of it.
    pub digest: String,
    /// Only while building.
    pub build_only: bool,
}

/// Finds the images of an item's dependencies; all of them must be there by now.
pub fn ready_deps(item: &Item, layers: &Layers) -> Result<Vec<ReadyDep>, BuildError> {
    let mut ready = Vec::new();
    for dep in &item.deps {
        let overlay = overlays::find(layers, &dep.name)?
            .ok_or_else(|| BuildError::Graph(format!("{}: its dependency {} is not there", item.name, dep.name)))?;
        let digest = overlays::digest_of(&overlay.path)?;
        ready.push(ReadyDep { overlay, digest, build_only: dep.build_only });
    }
    Ok(ready)
}

/// What would decide whether the overlay is up to date; `recipe` is the digest of the recipe's bytes.
pub fn inputs(recipe: &str, deps: &[ReadyDep], conda: Option<&Channels>) -> Inputs {
    let dependency = |dep: &ReadyDep| Dependency {
        name: dep.overlay.name.clone(),
        digest: dep.digest.clone(),
        build_only: dep.build_only,
    };
    Inputs { recipe: recipe.to_owned(), dependencies: deps.iter().map(dependency).collect(), conda: conda.cloned() }
}

/// The key of inputs: `sha256:` over their canonical JSON, and of a conda environment over its packages: the channels are
/// not what they were a month ago.
pub fn key(name: &Name, inputs: &Inputs, locked: Option<&Locked>) -> String {
    let text = match locked {
        Some(locked) => serde_json::to_string(&(1, name, inputs, locked.to_explicit())).unwrap_or_default(),
        None => serde_json::to_string(&(1, name, inputs)).unwrap_or_default(),
    };
    digest::of(text.as_bytes())
}

/// Why the overlay has to be built: None when what is there is what would be built.
pub fn why(existing: Option<&Overlay>, wanted: &Inputs) -> Result<Option<Why>, BuildError> {
    let Some(existing) = existing else { return Ok(Some(Why::Missing)) };
    let meta = match overlays::open(&existing.path) {
        Ok(image) => overlays::read_meta(&image),
        Err(OverlayError::Image { source, .. }) => Err(source),
        Err(error) => return Err(error.into()),
    };
    Ok(match meta {
        Err(_) => Some(Why::Damaged),
        Ok(None) => Some(Why::NoMetadata),
        Ok(Some(meta)) => meta.inputs.differs_from(wanted),
    })
}

/// Whether a readable image is there: a file that is none does not count as installed.
pub fn is_there(existing: Option<&Overlay>) -> Result<bool, BuildError> {
    match existing.map(|overlay| overlays::open(&overlay.path)) {
        None | Some(Err(OverlayError::Image { .. })) => Ok(false),
        Some(Ok(_)) => Ok(true),
        Some(Err(error)) => Err(error.into()),
    }
}

/// What is there already: the file asked for, or in the layer asked for, if one was asked for a target, else in the first that has it.
pub fn existing(name: &Name, target: bool, request: &Request, layers: &Layers) -> Result<Option<Overlay>, BuildError> {
    match (&request.layer, &request.out) {
        (_, Some(out)) if target => {
            let there = fs::metadata_if_exists(out)?.is_some();
            Ok(there.then(|| Overlay { name: name.clone(), path: out.clone(), layer: "file" }))
        }
        (Some(asked), _) if target => Ok(overlays::find(&layers.only(asked)?, name)?),
        _ => Ok(overlays::find(layers, name)?),
    }
}

/// Where a new image goes: the layer asked for, else the one it is in already if that can be written, else the first
/// writable one.
pub fn home(request: &Request, layers: &Layers, existing: Option<&Overlay>) -> Result<LayerDir, BuildError> {
    if request.layer.is_none()
        && let Some(existing) = existing
    {
        let own =
            layers.dirs().iter().find(|dir| !dir.read_only && existing.path.parent() == Some(&layers::images(dir)));
        if let Some(dir) = own.filter(|dir| fs::is_writable_dir(&layers::images(dir))) {
            return Ok(dir.clone());
        }
    }
    Ok(layers.writable(request.layer.as_deref())?)
}

/// The file a build of this name would publish in a layer.
pub fn target_in(layer: &LayerDir, name: &Name) -> PathBuf {
    overlays::file_in(&layers::images(layer), name)
}
