//! Adding and updating a remote: what it has now is listed, fetched, compared with what was pinned, and pinned.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};

use super::listing::{self, Listed};
use super::{Entry, Kind, Remote, RemoteError, bring, cache_of, check_name, git, now};
use crate::net;
use crate::recipe;
use crate::store::{recipes, templates};
use crate::sys::{digest, fs};

/// Recipes that are fetched at the same time.
const AT_ONCE: usize = 8;

/// What an update changed, by paths.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Changes {
    /// Recipes that were not there before.
    pub new: Vec<String>,
    /// Recipes with other bytes than before.
    pub changed: Vec<String>,
    /// Recipes that are no more.
    pub gone: Vec<String>,
}

/// Fetches all of a remote, so that it works without a network from then on. `before` is what is known of it. Nothing is
/// written but the cache, and nothing removed from it.
pub fn fetch(
    name: &str,
    url: &str,
    pin: Option<&str>,
    before: Option<&Remote>,
    cache: &Path,
) -> Result<(Remote, Changes), RemoteError> {
    check_name(name)?;
    let address = git::address(url);
    let dir = cache_of(cache, name, address.as_deref().unwrap_or(url));
    fs::create_dirs(&dir)?;
    let known: BTreeMap<&str, &Entry> =
        before.into_iter().flat_map(|remote| &remote.recipes).map(|entry| (entry.path.as_str(), entry)).collect();
    let (kind, revision, recipes) = match &address {
        Some(address) => {
            let (commit, recipes) = of_git(address, pin, &dir)?;
            (Kind::Git, commit, recipes)
        }
        None => {
            let (digest, recipes) = of_directory(name, url, pin, &known, &dir)?;
            (Kind::Directory, digest, recipes)
        }
    };
    let mut changes = Changes::default();
    for entry in &recipes {
        match known.get(entry.path.as_str()) {
            None => changes.new.push(entry.path.clone()),
            Some(before) if before.sha256 != entry.sha256 => changes.changed.push(entry.path.clone()),
            Some(_) => {}
        }
    }
    let is_left = |path: &str| recipes.binary_search_by(|entry| entry.path.as_str().cmp(path)).is_ok();
    changes.gone = known.keys().filter(|path| !is_left(path)).map(|path| (*path).to_owned()).collect();
    let remote = Remote {
        format: 1,
        name: name.to_owned(),
        url: address.unwrap_or_else(|| url.to_owned()),
        kind,
        pin: pin.map(str::to_owned),
        revision,
        updated: now(),
        recipes,
    };
    Ok((remote, changes))
}

fn of_git(url: &str, pin: Option<&str>, dir: &Path) -> Result<(String, Vec<Entry>), RemoteError> {
    let (commit, time) = git::fetch(dir, url, pin)?;
    let blobs = git::list(dir, url, &commit)?;
    if blobs.is_empty() {
        let why = format!("there are no recipes in build-scripts/ of {commit}");
        return Err(RemoteError::Odd { url: net::redacted(url), why });
    }
    let contents = git::contents(dir, url, &blobs)?;
    let mut recipes = Vec::new();
    for (blob, bytes) in blobs.into_iter().zip(contents) {
        recipes.push(keep(blob.path, &bytes, time, None, dir)?);
    }
    recipes.sort_by(|a, b| a.path.cmp(&b.path));
    Ok((commit, recipes))
}

fn of_directory(
    name: &str,
    url: &str,
    pin: Option<&str>,
    known: &BTreeMap<&str, &Entry>,
    dir: &Path,
) -> Result<(String, Vec<Entry>), RemoteError> {
    let packed = net::bytes(&listing::address(url, listing::PLACE), listing::LARGEST)?;
    let found = digest::of(&packed);
    if let Some(wanted) = pin.filter(|wanted| *wanted != found) {
        let (path, strip) = (listing::PLACE.to_owned(), |text: &str| text.trim_start_matches("sha256:").to_owned());
        return Err(RemoteError::Tampered {
            remote: name.to_owned(),
            path,
            found: strip(&found),
            wanted: strip(wanted),
        });
    }
    let listed = listing::read(&net::redacted(url), &packed)?;
    let next = AtomicUsize::new(0);
    let done: Mutex<Vec<Result<Entry, RemoteError>>> = Mutex::default();
    std::thread::scope(|scope| {
        for _ in 0..AT_ONCE.min(listed.len()) {
            scope.spawn(|| {
                while let Some(one) = listed.get(next.fetch_add(1, Ordering::Relaxed)) {
                    let entry = of_listed(name, url, one, known.get(one.path.as_str()).copied(), dir);
                    let failed = entry.is_err();
                    if let Ok(mut done) = done.lock() {
                        done.push(entry);
                    }
                    if failed {
                        // One that is missing makes the whole listing unfit: the others need not be tried.
                        next.store(listed.len(), Ordering::Relaxed);
                    }
                }
            });
        }
    });
    let mut recipes = done.into_inner().unwrap_or_default().into_iter().collect::<Result<Vec<_>, _>>()?;
    recipes.sort_by(|a, b| a.path.cmp(&b.path));
    Ok((found, recipes))
}

fn of_listed(name: &str, url: &str, one: &Listed, before: Option<&Entry>, dir: &Path) -> Result<Entry, RemoteError> {
    let address = listing::address(url, &format!("build-scripts/{}", one.path));
    let bytes = match &one.sha256 {
        Some(sum) => {
            let path = dir.join(sum);
            let is_there =
                fs::read_if_exists(&path)?.is_some_and(|bytes| digest::of(&bytes) == format!("sha256:{sum}"));
            if !is_there {
                bring(&address, &path, sum).map_err(|error| refused(name, one, error))?;
            }
            fs::read(&path)?
        }
        None => net::bytes(&address, recipes::LARGEST)?,
    };
    let since =
        before.filter(|before| digest::of(&bytes).ends_with(&before.sha256)).map_or_else(now, |before| before.since);
    keep(one.path.clone(), &bytes, since, one.whatis.clone(), dir)
}

fn refused(name: &str, one: &Listed, error: net::NetError) -> RemoteError {
    match error.trouble {
        net::Trouble::Digest { wanted, found } => RemoteError::Tampered {
            remote: name.to_owned(),
            path: one.path.clone(),
            found: found.trim_start_matches("sha256:").to_owned(),
            wanted: wanted.trim_start_matches("sha256:").to_owned(),
        },
        _ => error.into(),
    }
}

/// Keeps a recipe's bytes in the cache, and pins them.
fn keep(path: String, bytes: &[u8], since: i64, whatis: Option<String>, dir: &Path) -> Result<Entry, RemoteError> {
    let sha256 = digest::of(bytes).trim_start_matches("sha256:").to_owned();
    let file = dir.join(&sha256);
    if fs::read_if_exists(&file)?.as_deref() != Some(bytes) {
        fs::write_quick(&file, bytes, 0o644)?;
    }
    let said = || recipe::parse(&path, bytes).spec.and_then(|spec| spec.whatis).map(|at| at.value);
    let template = templates::is_meant(bytes);
    Ok(Entry { whatis: whatis.or_else(said), path, sha256, since, template })
}
