//! Systems that others have built (`base.prebuilt`): downloaded or pulled, looked at, and put in their place by one
//! rename.

use std::path::{Path, PathBuf};

use url::Url;

use crate::config::{Config, LayerDir};
use crate::model::name::Name;
use crate::net::{self, Download, Fetched, NetError, Sum, Watch};
use crate::registry::{Options, Platform, Reference, RegistryError, is_loopback, pull};
use crate::store::{bases, layers};
use crate::sys::fs::{self, PathError};
use crate::sys::{copy, digest, host};

/// Where a system can be had.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Prebuilt {
    /// What it is called.
    pub name: Name,
    /// http, https, file or oras.
    pub url: String,
    /// SHA-256 in lower case hexadecimal.
    pub sha256: Option<String>,
}

/// A system that could not be had.
#[derive(Debug, thiserror::Error)]
pub enum PrebuiltError {
    /// `base.prebuilt` cannot be understood.
    #[error("base.prebuilt: {0}")]
    List(String),
    /// What came is nothing to run on.
    #[error("{url}: {why}")]
    Odd {
        /// The address.
        url: String,
        /// What is wrong.
        why: String,
    },
    /// The network.
    #[error(transparent)]
    Net(#[from] NetError),
    /// The registry.
    #[error(transparent)]
    Registry(#[from] RegistryError),
    /// The file system.
    #[error(transparent)]
    Io(#[from] PathError),
}

/// Reads the configuration's list: `NAME URL [sha256=…]`, one per item or all in one.
pub fn list(config: &Config) -> Result<Vec<Prebuilt>, PrebuiltError> {
    read(config.prebuilt_bases()).map_err(PrebuiltError::List)
}

fn read(items: &[String]) -> Result<Vec<Prebuilt>, String> {
    let mut all: Vec<Prebuilt> = Vec::new();
    let mut words = items.iter().flat_map(|item| item.split_whitespace()).peekable();
    while let Some(word) = words.next() {
        let name: Name = word.parse().map_err(|bad| format!("{bad}; an item is NAME URL sha256=…"))?;
        let url = words.next().filter(|url| url.contains("://"));
        let url = url.ok_or_else(|| format!("{name} has no address"))?.to_owned();
        let sum = words.next_if(|word| word.starts_with("sha256")).map(|word| word.trim_start_matches("sha256"));
        let sha256 = match sum.map(|sum| sum.trim_start_matches(['=', ':'])) {
            Some(sum) if digest::is_hex(&sum.to_ascii_lowercase()) => Some(sum.to_ascii_lowercase()),
            Some(sum) => return Err(format!("{name}: '{sum}' is no sha256 (64 hexadecimal digits)")),
            None => None,
        };
        all.push(Prebuilt { name, url, sha256 });
    }
    Ok(all)
}

/// Fetches it into a layer; gives its file and digest.
pub fn fetch(
    what: &Prebuilt,
    layer: &LayerDir,
    config: &Config,
    watch: &dyn Watch,
) -> Result<(PathBuf, Fetched), PrebuiltError> {
    let is_near = |url: &Url| url.host_str().is_some_and(is_loopback);
    if what.sha256.is_none() && Url::parse(&what.url).is_ok_and(|url| url.scheme() == "http" && !is_near(&url)) {
        let why = "what comes without encryption needs its digest: add sha256=…, or use https".to_owned();
        return Err(PrebuiltError::Odd { url: net::redacted(&what.url), why });
    }
    let dir = bases::prepare(layer)?;
    let (from, fetched, temporary) = if what.url.starts_with("oras://") {
        let (path, fetched) = from_registry(what, config, watch)?;
        (path, fetched, false)
    } else {
        // Its name is told by what it is, so that a later run goes on with it.
        let id: String = digest::of(what.url.as_bytes()).chars().skip("sha256:".len()).take(16).collect();
        let to = dir.join(format!(".{}.{id}.new", what.name.file_stem()));
        let sum = what.sha256.clone().map(Sum::Sha256);
        if config.offline() && !what.url.starts_with("file:") {
            return Err(NetError::new(&what.url, net::Trouble::Offline).into());
        }
        let fetched = net::download(&Download { sum, ..Download::new(&what.url, &to) }, watch)?;
        (to, fetched, true)
    };
    let ending = match bases::ending_of(&from) {
        Ok(ending) => ending,
        Err(error) => {
            if temporary {
                fs::remove_file(&from)?;
            }
            return Err(PrebuiltError::Odd { url: net::redacted(&what.url), why: error.to_string() });
        }
    };
    let target = bases::file_in(layer, &what.name, ending);
    publish(&from, &target, temporary)?;
    for other in bases::ENDINGS.iter().filter(|other| **other != ending) {
        fs::remove_file(&bases::file_in(layer, &what.name, other))?;
    }
    Ok((target, fetched))
}

/// Gives a file its place; one of a cache gets a second name, or is copied where that cannot be.
fn publish(from: &Path, target: &Path, temporary: bool) -> Result<(), PathError> {
    let dir = target.parent().unwrap_or(Path::new("/"));
    let from = if temporary {
        from.to_owned()
    } else {
        let new = fs::sibling(target, &format!(".{}.new", host::token()));
        copy::file(from, &new)?;
        new
    };
    fs::set_mode(&from, layers::shared_mode(dir, 0o644))?;
    fs::rename(&from, target)?;
    fs::sync_dir(dir)
}

fn from_registry(what: &Prebuilt, config: &Config, watch: &dyn Watch) -> Result<(PathBuf, Fetched), PrebuiltError> {
    let odd = |why: String| PrebuiltError::Odd { url: net::redacted(&what.url), why };
    let reference = Reference::parse(&what.url, None).map_err(|bad| odd(bad.to_string()))?;
    let options = Options::new(config);
    let path = pull::look(&reference, &Platform::here(), &options, watch)?.file(&options, watch)?;
    let file = fs::open(&path)?;
    let found = digest::of_file(&file).map_err(PathError::new("read", &path))?;
    let sha256 = found.trim_start_matches("sha256:").to_owned();
    if let Some(wanted) = what.sha256.as_ref().filter(|wanted| **wanted != sha256) {
        let trouble = net::Trouble::Digest { wanted: format!("sha256:{wanted}"), found };
        return Err(NetError::new(&what.url, trouble).into());
    }
    let bytes = fs::metadata(&path)?.len();
    Ok((path, Fetched { sha256, bytes }))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_list_is_read_in_either_form() {
        let sum = "a".repeat(64);
        let all = read(&[format!("d/base https://h/d.sif sha256={sum}"), "u/base file:///u.sqf".into()]).unwrap();
        let words: Vec<String> =
            format!("d/base https://h/d.sif sha256:{sum} u/base file:///u.sqf").split(' ').map(str::to_owned).collect();
        assert_eq!(read(&words).unwrap(), all);
        assert_eq!((all[0].sha256.as_ref(), all[1].sha256.as_ref()), (Some(&sum), None));
        for odd in ["https://h/x", "d/base", "d/base nowhere", "d/base https://h/x sha256=1"] {
            assert!(read(&[odd.to_owned()]).is_err(), "{odd}");
        }
    }
}
