//! Recipes: found in the layers' `build-scripts/`, lowest of all those that ship inside the binary.

use std::collections::HashSet;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use include_dir::{Dir, include_dir};

use super::layers::{self, Layers};
use super::remotes::{Pinned, RemoteError};
use super::templates;
use crate::model::name::{MOST_PARTS, Name};
use crate::model::version::Version;
use crate::recipe;
use crate::recipe::form::{self, ENDINGS};
use crate::recipe::template::Mismatch;
use crate::sys::env;
use crate::sys::fs::{self, PathError};

static SCRIPTS: Dir = include_dir!("$CARGO_MANIFEST_DIR/scripts");
static DEFS: Dir = include_dir!("$CARGO_MANIFEST_DIR/defs");

/// Where a recipe is.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum Place {
    /// In a file; with the kind of its layer, or "file" for one named directly.
    File(PathBuf, &'static str),
    /// In a remote, as it was pinned.
    Remote(Arc<Pinned>),
    /// Inside the binary, under this path.
    BuiltIn(String),
    /// Nowhere: made from what the user asked for. Its name in messages, whose ending tells its form, and its text.
    Made(String, String),
}

/// A recipe that was found, not yet read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Found {
    /// The overlay it makes.
    pub name: Name,
    /// Where it is.
    pub place: Place,
}

/// Largest recipe that is read, in bytes; more is a mistake.
pub const LARGEST: u64 = 4 << 20;

/// A recipe that cannot be read.
#[derive(Debug, thiserror::Error)]
pub enum RecipeError {
    /// The file system refused.
    #[error(transparent)]
    Io(#[from] PathError),
    /// It is not a file.
    #[error("{}: a recipe is a file, this is {what}", path.display())]
    NotAFile {
        /// The path.
        path: PathBuf,
        /// What it is instead.
        what: &'static str,
    },
    /// It is far too large.
    #[error("{}: {bytes} bytes are no recipe (at most {LARGEST})", path.display())]
    TooLarge {
        /// The path.
        path: PathBuf,
        /// Its size.
        bytes: u64,
    },
    /// The name fits a template, but not one reading of it, or with a value that it does not have.
    #[error(transparent)]
    Mismatch(#[from] Box<Mismatch>),
    /// Two templates of one layer make the same name.
    #[error("{name} fits two templates: {first} and {second}")]
    TwoTemplates {
        /// The name.
        name: Name,
        /// One.
        first: String,
        /// The other.
        second: String,
    },
    /// A recipe of a remote that cannot be had, or is not what it was.
    #[error(transparent)]
    Remote(Box<RemoteError>),
    /// A template is asked for as if it were a recipe.
    #[error("{label} is a template of {pattern}, which {name} does not fill in")]
    Unfilled {
        /// The template.
        label: String,
        /// Its pattern.
        pattern: String,
        /// What was asked for.
        name: Name,
        /// A name that it makes.
        example: String,
    },
}

impl Place {
    /// Its name in messages: the path, or `built-in:hello/1.0`.
    pub fn label(&self) -> String {
        match self {
            Place::File(path, _) => path.display().to_string(),
            Place::Remote(pinned) => pinned.label(),
            Place::BuiltIn(id) => format!("built-in:{id}"),
            Place::Made(label, _) => label.clone(),
        }
    }

    /// The directory it lies in, where relative paths in it begin; only a file has one.
    pub fn dir(&self) -> Option<PathBuf> {
        match self {
            Place::File(path, _) => env::current_dir().join(path).parent().map(Path::to_owned),
            _ => None,
        }
    }

    /// The layer it is in.
    pub fn layer(&self) -> &str {
        match self {
            Place::File(_, layer) => layer,
            Place::Remote(pinned) => &pinned.remote,
            Place::BuiltIn(_) => "built-in",
            Place::Made(..) => "asked for",
        }
    }

    /// The bytes there, as they stand.
    pub(super) fn read(&self) -> Result<Vec<u8>, RecipeError> {
        match self {
            Place::File(path, _) => read_file(path),
            Place::Remote(pinned) => pinned.read(),
            Place::BuiltIn(id) => Ok(built_in(id).unwrap_or_default().to_vec()),
            Place::Made(_, text) => Ok(text.clone().into_bytes()),
        }
    }
}

impl Found {
    /// Its name in messages: the path, or `built-in:hello/1.0`.
    pub fn label(&self) -> String {
        self.place.label()
    }

    /// The layer it comes from.
    pub fn layer(&self) -> &str {
        self.place.layer()
    }

    /// Its bytes; those of a template with the values of the name filled in.
    pub fn read(&self) -> Result<Vec<u8>, RecipeError> {
        let bytes = self.place.read()?;
        if !templates::is_meant(&bytes) {
            return Ok(bytes);
        }
        // A broken one is left as it is: reading it as a recipe tells what is wrong with it.
        let Some(template) = recipe::template_of(&self.label(), &bytes) else { return Ok(bytes) };
        match template.matches(&self.name)? {
            Some(binding) => Ok(template.fill(&bytes, &binding)),
            None => Err(RecipeError::Unfilled {
                label: self.label(),
                name: self.name.clone(),
                example: template.name(&template.sample()).map(|name| name.to_string()).unwrap_or_default(),
                pattern: template.pattern,
            }),
        }
    }
}

/// Reads a recipe file; what is no plain file of sensible size is refused before its bytes are touched.
pub fn read_file(path: &Path) -> Result<Vec<u8>, RecipeError> {
    let meta = fs::metadata(path)?;
    if !meta.is_file() {
        let what = if meta.is_dir() { "a directory" } else { "a device, pipe or socket" };
        return Err(RecipeError::NotAFile { path: path.to_owned(), what });
    }
    if meta.len() > LARGEST {
        return Err(RecipeError::TooLarge { path: path.to_owned(), bytes: meta.len() });
    }
    Ok(fs::read(path)?)
}

fn built_in(id: &str) -> Option<&'static [u8]> {
    SCRIPTS.get_file(id).or_else(|| DEFS.get_file(id)).map(include_dir::File::contents)
}

/// The files inside the binary with their paths.
pub(super) fn built_in_files() -> impl Iterator<Item = (String, &'static [u8])> {
    let mut open = vec![&SCRIPTS, &DEFS];
    let mut files = Vec::new();
    while let Some(dir) = open.pop() {
        open.extend(dir.dirs());
        files.extend(dir.files().map(|file| (file.path().to_string_lossy().into_owned(), file.contents())));
    }
    files.into_iter()
}

/// The recipe of a name, from the first layer that has one of exactly this name or a template that makes it.
///
/// Fails where a template cannot tell which values are meant, or where the only one for the name lacks the value.
pub fn find(layers: &Layers, name: &Name) -> Result<Option<Found>, RecipeError> {
    let mut outside = None;
    for (dir, memo) in layers.with_memos() {
        let base = layers::build_scripts(dir);
        for (ending, _) in ENDINGS {
            let path = base.join(format!("{name}{ending}"));
            if fs::metadata_if_exists(&path)?.is_some_and(|meta| !meta.is_dir()) {
                return Ok(Some(Found { name: name.clone(), place: Place::File(path, dir.kind) }));
            }
        }
        if let Some(found) = templates::find(Some((dir, memo)), name, &mut outside)? {
            return Ok(Some(found));
        }
    }
    for remote in layers.remotes() {
        let exact = remote.find(&name.to_string()).filter(|pinned| !pinned.template);
        if let Some(pinned) = exact {
            return Ok(Some(Found { name: name.clone(), place: Place::Remote(pinned.clone()) }));
        }
        if let Some(found) = templates::find_in(remote.templates(), name, &mut outside)? {
            return Ok(Some(found));
        }
    }
    let mut ids = ENDINGS.iter().map(|(ending, _)| format!("{name}{ending}"));
    if let Some(id) = ids.find(|id| built_in(id).is_some()) {
        return Ok(Some(Found { name: name.clone(), place: Place::BuiltIn(id) }));
    }
    match (templates::find(None, name, &mut outside)?, outside) {
        (Some(found), _) => Ok(Some(found)),
        (None, Some(outside)) => Err(outside.into()),
        (None, None) => Ok(None),
    }
}

/// Every recipe of every layer, without templates, sorted by name and version; hidden ones come after what hides them.
/// What cannot be looked into (somebody's private directory in a group's layer, a looping link) hides nothing else; it
/// is returned as complaints.
pub fn all(layers: &Layers) -> (Vec<Found>, Vec<PathError>) {
    let mut found = Vec::new();
    let mut odd = Vec::new();
    let templates: HashSet<&Place> = templates::all(layers).map(|file| &file.place).collect();
    let mut keep = |id: &str, place: Place| {
        if let (Ok(name), false) = (id.parse(), templates.contains(&place)) {
            found.push(Found { name, place });
        }
    };
    for dir in layers.dirs() {
        let base = layers::build_scripts(dir);
        walk(&base, &mut Vec::new(), &mut odd, &mut |id, path| keep(id, Place::File(path, dir.kind)));
    }
    for remote in layers.remotes() {
        remote.recipes().for_each(|(id, pinned)| keep(id, Place::Remote(pinned.clone())));
    }
    for (id, _) in built_in_files() {
        keep(form::without_ending(&id), Place::BuiltIn(id.clone()));
    }
    found.sort_by_cached_key(|recipe| (recipe.name.stem(), Version::new(recipe.name.version())));
    (found, odd)
}

/// Visits files at most as deep as names are long, each with its path below `dir` without its ending.
pub(super) fn walk(
    dir: &Path,
    parts: &mut Vec<String>,
    odd: &mut Vec<PathError>,
    visit: &mut dyn FnMut(&str, PathBuf),
) {
    let files = fs::list_if_exists(dir).unwrap_or_else(|error| {
        odd.push(error);
        Vec::new()
    });
    for file in files {
        let Some(part) = file.to_str().filter(|part| !part.starts_with('.')) else { continue };
        let path = dir.join(part);
        let meta = match fs::metadata_if_exists(&path) {
            Ok(Some(meta)) => meta,
            Ok(None) => continue,
            Err(error) => {
                odd.push(error);
                continue;
            }
        };
        parts.push(part.to_owned());
        if meta.is_dir() && parts.len() < MOST_PARTS {
            walk(&path, parts, odd, visit);
        } else if meta.is_file() {
            let joined = parts.join("/");
            visit(form::without_ending(&joined), path);
        }
        parts.pop();
    }
}
