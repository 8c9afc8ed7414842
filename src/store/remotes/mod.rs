//! Recipe remotes: other people's recipes, pinned. A layer's `remotes/NAME.json` says where a remote is and which bytes
//! each of its recipes had when it was added or updated; the bytes are in the cache and beside it, and are fetched again,
//! and compared, when they are not. Without an `ovl recipes update` nothing of a remote ever changes.

mod fetch;
mod git;
mod layer;
mod listing;

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use serde::{Deserialize, Serialize};

use super::layers;
use super::recipes::{self, RecipeError};
use crate::config::LayerDir;
use crate::model::name;
use crate::net::{self, Download, NetError, Sum, Unwatched};
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
    /// Where its bytes are kept for this user.
    pub cached: PathBuf,
    /// Where they are kept for all users of the layer.
    pub kept: PathBuf,
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

/// Whether an address says more about its user than may be written down: any user of a web server (tokens are given as
/// users), and a password elsewhere; `git@host` of ssh is nobody's secret.
pub fn has_secret(url: &str) -> bool {
    let Some((scheme, rest)) = url.split_once("://") else { return false };
    match scheme.trim_start_matches("git+") {
        "file" => false,
        "http" | "https" => match url::Url::parse(url.trim_start_matches("git+")) {
            Ok(parsed) => !parsed.username().is_empty() || parsed.password().is_some(),
            Err(_) => rest.contains('@'),
        },
        _ => rest.split('/').next().and_then(|host| host.rsplit_once('@')).is_some_and(|(user, _)| user.contains(':')),
    }
}

/// Where a layer's remotes are written down.
fn place(layer: &LayerDir) -> PathBuf {
    layer.path.join("remotes")
}

/// Where the bytes of a remote's recipes are kept for this user. Two layers may call two remotes the same.
fn cache_of(cache: &Path, remote: &str, url: &str) -> PathBuf {
    let id: String = digest::of(url.as_bytes()).chars().skip("sha256:".len()).take(16).collect();
    cache.join("recipes").join(format!("{remote}-{id}"))
}

/// Where they are kept for all users of the layer, who may not reach the remote.
fn kept_of(layer: &LayerDir, remote: &str) -> PathBuf {
    place(layer).join(format!("{remote}.d"))
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

/// Writes a remote down in a layer, with the bytes that are in the cache; then what no recipe is called by any more is
/// removed from both, not before.
pub fn save(remote: &Remote, layer: &LayerDir, cache: &Path) -> Result<(), RemoteError> {
    let dir = place(layer);
    layers::make_shared(&dir)?;
    let (cache, kept) = (cache_of(cache, &remote.name, &remote.url), kept_of(layer, &remote.name));
    layers::make_shared(&kept)?;
    for entry in &remote.recipes {
        let bytes = fs::read(&cache.join(&entry.sha256))?;
        let path = kept.join(&entry.sha256);
        if fs::read_if_exists(&path).ok().flatten().as_ref() != Some(&bytes) {
            fs::write_quick(&path, &bytes, layers::shared_mode(&kept, 0o644))?;
        }
    }
    let mut text = serde_json::to_vec_pretty(remote).unwrap_or_default();
    text.push(b'\n');
    fs::write_atomic(&dir.join(format!("{}.json", remote.name)), &text, layers::shared_mode(&dir, 0o644))?;
    sweep(&cache, &remote.recipes);
    sweep(&kept, &remote.recipes);
    Ok(())
}

/// Removes what no recipe is called by any more; what cannot be removed does no harm.
fn sweep(dir: &Path, recipes: &[Entry]) {
    let called: BTreeSet<&str> = recipes.iter().map(|entry| entry.sha256.as_str()).collect();
    for name in fs::list_if_exists(dir).unwrap_or_default() {
        let Some(text) = name.to_str().filter(|text| digest::is_hex(text)) else { continue };
        if !called.contains(text) {
            let _ = fs::remove_file(&dir.join(text));
        }
    }
}

/// Forgets a remote, and what is kept of it.
pub fn forget(remote: &Remote, layer: &LayerDir, cache: &Path) -> Result<(), RemoteError> {
    check_name(&remote.name)?;
    fs::remove_file(&place(layer).join(format!("{}.json", remote.name)))?;
    fs::remove_tree(&kept_of(layer, &remote.name))?;
    Ok(fs::remove_tree(&cache_of(cache, &remote.name, &remote.url))?)
}

/// The recipes of a remote, ready to be read.
pub fn pinned(remote: &Remote, layer: &LayerDir, cache: &Path, offline: bool) -> Vec<Arc<Pinned>> {
    let (dir, kept) = (cache_of(cache, &remote.name, &remote.url), kept_of(layer, &remote.name));
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
            kept: kept.join(&entry.sha256),
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

    /// Its bytes: from the cache or the layer, or fetched again; never others than those that were pinned.
    pub fn read(&self) -> Result<Vec<u8>, RecipeError> {
        let mut damaged = None;
        for path in [&self.cached, &self.kept] {
            let Ok(Some(bytes)) = fs::read_if_exists(path) else { continue };
            match self.check(&bytes, &path.display().to_string()) {
                Ok(()) => return Ok(bytes),
                // A power cut does that as well: only what comes afresh can be told from it.
                Err(error) => damaged = Some(error),
            }
        }
        let told = |error: RemoteError| RecipeError::Remote(Box::new(error));
        let address = net::redacted(&self.url);
        if self.offline {
            if let Some(error) = damaged {
                return Err(error);
            }
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
    let most = Some(recipes::LARGEST);
    net::download(&Download { sum, most, ..Download::new(url, to) }, &Unwatched).map(|_| ())
}
