//! Recipe remotes: other people's recipes, pinned. A layer's `remotes/NAME.json` says where a remote is and which bytes
//! each of its recipes had when it was added or updated; the bytes are in the cache, and are fetched again, and compared,
//! when they are not. Without an `ovl recipes update` nothing of a remote ever changes.

mod fetch;
mod git;
mod layer;
mod listing;

use std::path::{Path, PathBuf};
use std::sync::Arc;

use serde::{Deserialize, Serialize};

use super::layers;
use super::recipes::{self, RecipeError};
use crate::config::LayerDir;
use crate::model::name;
use crate::net::{self, Download, NetError, Sum, Trouble, Unwatched};
use crate::sys::fs::{self, PathError};
use crate::sys::{clock, digest};

pub use fetch::{Changes, fetch};
pub use layer::{RemoteLayer, of_layers};

/// What kind of place a remote is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Kind {
    /// A directory behind http, https or file, with `metadata/build-scripts.json.gz` and `build-scripts/` in it.
    Directory,
    /// A git repository with `build-scripts/` in it.
    Git,
}

/// A remote as it is written down.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Remote {
    /// Version of this format.
    pub format: u32,
    /// What users call it.
    pub name: String,
    /// Where it is.
    pub url: String,
    /// What it is.
    pub kind: Kind,
    /// What the user holds it to: a branch, tag or commit, or the digest of the listing.
    pub pin: Option<String>,
    /// The commit, or the digest of the listing, that the recipes are from.
    pub revision: String,
    /// When it was last looked at, seconds since 1970.
    pub updated: i64,
    /// Its recipes, sorted by path.
    pub recipes: Vec<Entry>,
}

/// A recipe of a remote.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Entry {
    /// Below `build-scripts/`.
    pub path: String,
    /// SHA-256 in hexadecimal.
    pub sha256: String,
    /// The time that stands for "when": the commit's, or when these bytes were first seen. Seconds since 1970.
    pub since: i64,
    /// What it is, as the listing says.
    #[serde(default)]
    pub whatis: Option<String>,
    /// Whether it makes many overlays.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub template: bool,
}

/// A recipe of a remote, ready to be read.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Pinned {
    /// The remote.
    pub remote: String,
    /// Its address, for messages and for fetching.
    pub url: String,
    /// Whether that is a git repository.
    pub git: bool,
    /// Commit or digest of the listing.
    pub revision: String,
    /// Below `build-scripts/`.
    pub path: String,
    /// SHA-256 in hexadecimal.
    pub sha256: String,
    /// Its time.
    pub since: i64,
    /// What it is, as the listing says.
    pub whatis: Option<String>,
    /// Whether it makes many overlays.
    pub template: bool,
    /// Where its bytes are kept.
    pub cached: PathBuf,
    /// Nothing may be fetched.
    pub offline: bool,
}

/// What can go wrong with remotes.
#[derive(Debug, thiserror::Error)]
pub enum RemoteError {
    /// The name will not do.
    #[error("'{name}' cannot be a remote's name: {why}")]
    Name {
        /// What was given.
        name: String,
        /// Why not.
        why: &'static str,
    },
    /// There is none of this name.
    #[error("there is no remote '{name}'; known: {known}")]
    Unknown {
        /// What was asked for.
        name: String,
        /// What there is.
        known: String,
    },
    /// There is one already.
    #[error("there is a remote '{name}' already: {url}")]
    Taken {
        /// The name.
        name: String,
        /// Its address.
        url: String,
    },
    /// What is there is no remote, or a broken one.
    #[error("{url}: {why}")]
    Odd {
        /// The address.
        url: String,
        /// What is wrong.
        why: String,
    },
    /// A recipe is not what its digest says.
    #[error("{remote}: {path} is sha256:{found}, but its digest is said to be sha256:{wanted}; refused")]
    Tampered {
        /// The remote.
        remote: String,
        /// The recipe.
        path: String,
        /// What is there.
        found: String,
        /// What should be there.
        wanted: String,
    },
    /// git failed.
    #[error("git: {0}")]
    Git(String),
    /// Nothing may be fetched.
    #[error("{0} cannot be reached: the network is not to be used (--offline)")]
    Offline(String),
    /// The network.
    #[error(transparent)]
    Net(#[from] NetError),
    /// The file system.
    #[error(transparent)]
    Io(#[from] PathError),
}

/// Names of layers and places, which a remote's name would be taken for.
const RESERVED: [&str; 6] = ["user", "group", "site", "extra", "built-in", "file"];

/// Fails for what cannot be the name of a remote.
pub fn check_name(text: &str) -> Result<(), RemoteError> {
    let fine = text.starts_with(|c: char| c.is_ascii_alphanumeric())
        && text.chars().all(|c| c.is_ascii_alphanumeric() || "._-".contains(c));
    let why = match () {
        () if !fine || text.len() > 64 => "letters, digits and . _ - can be in it",
        () if RESERVED.contains(&text) => "layers are called so",
        () => return Ok(()),
    };
    Err(RemoteError::Name { name: text.to_owned(), why })
}

/// Where a layer's remotes are written down.
fn place(layer: &LayerDir) -> PathBuf {
    layer.path.join("remotes")
}

/// Where the bytes of a remote's recipes are kept.
fn cache_of(cache: &Path, remote: &str) -> PathBuf {
    cache.join("recipes").join(remote)
}

/// The remotes of a layer, by name. A broken file is left out, and told by `complain`.
pub fn of_layer(layer: &LayerDir, complain: &mut dyn FnMut(String)) -> Vec<Remote> {
    let dir = place(layer);
    let names = fs::list_if_exists(&dir).unwrap_or_else(|error| {
        complain(error.to_string());
        Vec::new()
    });
    let mut remotes = Vec::new();
    for name in names {
        let Some(stem) = name.to_str().and_then(|name| name.strip_suffix(".json")) else { continue };
        if check_name(stem).is_err() {
            continue;
        }
        let path = dir.join(&name);
        match fs::read(&path).map(|text| serde_json::from_slice::<Remote>(&text)) {
            Ok(Ok(remote)) if remote.name == stem && remote.format == 1 => remotes.push(remote),
            Ok(Ok(_)) => complain(format!("{} is no remote that this ovl can read", path.display())),
            Ok(Err(error)) => complain(format!("{} is no remote: {error}", path.display())),
            Err(error) => complain(error.to_string()),
        }
    }
    remotes
}

/// Writes a remote down in a layer.
pub fn save(remote: &Remote, layer: &LayerDir) -> Result<(), RemoteError> {
    let dir = place(layer);
    layers::make_shared(&dir)?;
    let mut text = serde_json::to_vec_pretty(remote).unwrap_or_default();
    text.push(b'\n');
    Ok(fs::write_atomic(&dir.join(format!("{}.json", remote.name)), &text, layers::shared_mode(&dir, 0o644))?)
}

/// Forgets a remote, and what is kept of it.
pub fn forget(name: &str, layer: &LayerDir, cache: &Path) -> Result<(), RemoteError> {
    check_name(name)?;
    fs::remove_file(&place(layer).join(format!("{name}.json")))?;
    Ok(fs::remove_tree(&cache_of(cache, name))?)
}

/// The recipes of a remote, ready to be read.
pub fn pinned(remote: &Remote, cache: &Path, offline: bool) -> Vec<Arc<Pinned>> {
    let dir = cache_of(cache, &remote.name);
    let sound = |entry: &&Entry| listing::is_path(&entry.path) && digest::is_hex(&entry.sha256);
    let pinned = |entry: &Entry| {
        Arc::new(Pinned {
            remote: remote.name.clone(),
            url: remote.url.clone(),
            git: remote.kind == Kind::Git,
            revision: remote.revision.clone(),
            path: entry.path.clone(),
            sha256: entry.sha256.clone(),
            since: entry.since,
            whatis: entry.whatis.clone(),
            template: entry.template,
            cached: dir.join(&entry.sha256),
            offline,
        })
    };
    remote.recipes.iter().filter(sound).map(pinned).collect()
}

impl Pinned {
    /// Its name in messages.
    pub fn label(&self) -> String {
        format!("{}:{}", self.remote, self.path)
    }

    /// Its bytes: from the cache, or fetched again; never others than those that were pinned.
    pub fn read(&self) -> Result<Vec<u8>, RecipeError> {
        if let Some(bytes) = fs::read_if_exists(&self.cached)? {
            self.check(&bytes, &self.cached.display().to_string())?;
            return Ok(bytes);
        }
        let told = |error: RemoteError| RecipeError::Remote(Box::new(error));
        let address = net::redacted(&self.url);
        if self.offline {
            return Err(told(RemoteError::Offline(format!("{} of {address}", self.label()))));
        }
        let dir = self.cached.parent().unwrap_or(&self.cached);
        fs::create_dirs(dir)?;
        let bytes = if self.git {
            git::recipe(dir, &self.url, &self.revision, &self.path).map_err(told)?
        } else {
            let url = listing::address(&self.url, &format!("build-scripts/{}", self.path));
            net::bytes(&url, recipes::LARGEST).map_err(|error| told(error.into()))?
        };
        self.check(&bytes, &address)?;
        fs::write_quick(&self.cached, &bytes, 0o644)?;
        Ok(bytes)
    }

    fn check(&self, bytes: &[u8], place: &str) -> Result<(), RecipeError> {
        let found = digest::of(bytes).trim_start_matches("sha256:").to_owned();
        if found == self.sha256 {
            return Ok(());
        }
        let remote = format!("{} ({place})", self.remote);
        let (path, wanted) = (self.path.clone(), self.sha256.clone());
        Err(RecipeError::Remote(Box::new(RemoteError::Tampered { remote, path, found, wanted })))
    }
}

/// Now, and at most so many parts: what a listing says may be anything.
fn now() -> i64 {
    clock::now()
}

/// Whether a path has no more parts than a name can have.
fn is_name_like(path: &str) -> bool {
    let parts: Vec<&str> = path.split('/').collect();
    parts.len() <= name::MOST_PARTS
}

/// Fetches into a file whose digest is known.
fn bring(url: &str, to: &Path, sha256: &str) -> Result<(), NetError> {
    let sum = Some(Sum::Sha256(sha256.to_owned()));
    let fetched = net::download(&Download { url, to, sum, size: None }, &Unwatched)?;
    if fetched.bytes > recipes::LARGEST {
        let _ = fs::remove_file(to);
        return Err(NetError::new(url, Trouble::TooLarge(recipes::LARGEST)));
    }
    Ok(())
}
