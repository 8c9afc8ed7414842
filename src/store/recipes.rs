//! Recipes: found in the layers' `build-scripts/`, lowest of all those that ship inside the binary.

use std::path::{Path, PathBuf};

use include_dir::{Dir, include_dir};

use super::layers::{self, Layers};
use crate::model::name::Name;
use crate::model::version::Version;
use crate::sys::fs::{self, PathError};

static BUILT_IN: Dir = include_dir!("$CARGO_MANIFEST_DIR/scripts");

/// Where a recipe is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Place {
    /// In a file; with the kind of its layer, or "file" for one named directly.
    File(PathBuf, &'static str),
    /// Inside the binary.
    BuiltIn,
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
}

impl Found {
    /// Its name in messages: the path, or `built-in:hello/1.0`.
    pub fn label(&self) -> String {
        match &self.place {
            Place::File(path, _) => path.display().to_string(),
            Place::BuiltIn => format!("built-in:{}", self.name),
        }
    }

    /// The layer it comes from.
    pub fn layer(&self) -> &'static str {
        match &self.place {
            Place::File(_, layer) => layer,
            Place::BuiltIn => "built-in",
        }
    }

    /// Its bytes.
    pub fn read(&self) -> Result<Vec<u8>, RecipeError> {
        match &self.place {
            Place::File(path, _) => read_file(path),
            Place::BuiltIn => Ok(built_in(&self.name).unwrap_or_default().to_vec()),
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

fn built_in(name: &Name) -> Option<&'static [u8]> {
    BUILT_IN.get_file(name.to_string()).map(include_dir::File::contents)
}

/// The recipe of exactly this name, from the first layer that has one.
pub fn find(layers: &Layers, name: &Name) -> Result<Option<Found>, PathError> {
    for dir in layers.dirs() {
        let base = layers::build_scripts(dir);
        for ending in ["", ".sh"] {
            let path = base.join(format!("{name}{ending}"));
            if fs::metadata_if_exists(&path)?.is_some_and(|meta| !meta.is_dir()) {
                return Ok(Some(Found { name: name.clone(), place: Place::File(path, dir.kind) }));
            }
        }
    }
    Ok(built_in(name).map(|_| Found { name: name.clone(), place: Place::BuiltIn }))
}

/// Every recipe of every layer, sorted by name and version; hidden ones come after what hides them.
/// What cannot be looked into (somebody's private directory in a group's layer, a looping link) hides nothing else; it
/// is returned as complaints.
pub fn all(layers: &Layers) -> (Vec<Found>, Vec<PathError>) {
    let mut found = Vec::new();
    let mut odd = Vec::new();
    for dir in layers.dirs() {
        let base = layers::build_scripts(dir);
        walk(&base, &mut Vec::new(), &mut odd, &mut |name, path| {
            found.push(Found { name, place: Place::File(path, dir.kind) });
        });
    }
    let mut open = vec![&BUILT_IN];
    while let Some(dir) = open.pop() {
        open.extend(dir.dirs());
        for file in dir.files() {
            if let Ok(name) = file.path().to_string_lossy().parse() {
                found.push(Found { name, place: Place::BuiltIn });
            }
        }
    }
    found.sort_by_cached_key(|recipe| (recipe.name.stem(), Version::new(recipe.name.version())));
    (found, odd)
}

/// Visits files whose path below `dir` is a name, at most three levels deep.
fn walk(dir: &Path, parts: &mut Vec<String>, odd: &mut Vec<PathError>, visit: &mut dyn FnMut(Name, PathBuf)) {
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
        if meta.is_dir() && parts.len() < 3 {
            walk(&path, parts, odd, visit);
        } else if meta.is_file() {
            let joined = parts.join("/");
            if let Ok(name) = joined.strip_suffix(".sh").unwrap_or(&joined).parse() {
                visit(name, path);
            }
        }
        parts.pop();
    }
}
