//! The listing of a directory of recipes, `metadata/build-scripts.json.gz`: a gzip-compressed JSON object of names to
//! `{"path": …, "whatis": …, "sha256": …}` with paths below `build-scripts/`. It is the format that CondaTainer's
//! script sources publish; `sha256` is ours and optional, and what else stands there is passed over.

use std::collections::BTreeMap;
use std::io::Read;

use serde::Deserialize;

use super::{RemoteError, is_name_like};
use crate::model::name;
use crate::sys::digest;

/// Where it is below the remote's address.
pub const PLACE: &str = "metadata/build-scripts.json.gz";
/// Largest listing, compressed, in bytes.
pub const LARGEST: u64 = 16 << 20;
/// Largest listing, unpacked, in bytes.
const UNPACKED: u64 = 256 << 20;
/// More recipes are a mistake.
const MOST: usize = 20_000;

#[derive(Debug, Deserialize)]
struct Line {
    path: String,
    #[serde(default)]
    whatis: Option<String>,
    #[serde(default)]
    sha256: Option<String>,
}

/// A recipe as it is listed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Listed {
    /// Below `build-scripts/`.
    pub path: String,
    /// What it is.
    pub whatis: Option<String>,
    /// Its digest in lower case hexadecimal, where the listing has one.
    pub sha256: Option<String>,
}

/// Reads a listing. A file that makes several names (a template) is in it several times, and comes out once.
pub fn read(url: &str, packed: &[u8]) -> Result<Vec<Listed>, RemoteError> {
    let odd = |why: String| RemoteError::Odd { url: url.to_owned(), why };
    let mut text = Vec::new();
    let mut unpacked = flate2::read::MultiGzDecoder::new(packed).take(UNPACKED);
    unpacked.read_to_end(&mut text).map_err(|error| odd(format!("{PLACE} is not compressed with gzip: {error}")))?;
    if text.len() as u64 >= UNPACKED {
        return Err(odd(format!("{PLACE} is far too large")));
    }
    let lines: BTreeMap<String, Line> =
        serde_json::from_slice(&text).map_err(|error| odd(format!("{PLACE} is no listing of recipes: {error}")))?;
    let mut found: BTreeMap<String, Listed> = BTreeMap::new();
    for (key, line) in lines {
        if !is_path(&line.path) {
            return Err(odd(format!("{PLACE} names a file that no recipe can be: '{}'", line.path)));
        }
        let sha256 = match line.sha256.map(|sum| sum.trim_start_matches("sha256:").to_ascii_lowercase()) {
            Some(sum) if !digest::is_hex(&sum) => return Err(odd(format!("{PLACE}: {key} has no sha256: '{sum}'"))),
            sum => sum,
        };
        // The entry of the file itself tells most about it; those of the names it makes are filled in.
        let is_own = line.path == key || line.path.strip_prefix(key.as_str()).is_some_and(|rest| rest.starts_with('.'));
        let listed = Listed { path: line.path.clone(), whatis: line.whatis, sha256 };
        match found.get_mut(&line.path) {
            None => drop(found.insert(line.path, listed)),
            Some(before) if is_own => *before = Listed { sha256: listed.sha256.or(before.sha256.take()), ..listed },
            Some(before) => before.sha256 = before.sha256.take().or(listed.sha256),
        }
        if found.len() > MOST {
            return Err(odd(format!("more than {MOST} recipes are listed")));
        }
    }
    Ok(found.into_values().collect())
}

/// Whether a path can be that of a recipe: parts of names below one another, and nothing else.
pub fn is_path(path: &str) -> bool {
    is_name_like(path) && path.split('/').all(|part| !part.starts_with('.') && name::check_part(part).is_ok())
}

/// An address below a remote's.
pub fn address(url: &str, below: &str) -> String {
    format!("{}/{below}", url.trim_end_matches('/'))
}

#[cfg(test)]
mod tests {
    use std::io::Write;

    use super::*;

    fn listing(text: &str) -> Result<Vec<Listed>, RemoteError> {
        let mut packer = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
        packer.write_all(text.as_bytes()).unwrap();
        read("https://host/x", &packer.finish().unwrap())
    }

    #[test]
    fn templates_come_once_and_what_is_unknown_is_passed_over() {
        let listed = listing(
            r#"{"grch38/gtf":{"path":"grch38/gtf","is_template":true,"pl":{"v":["1","2"]},"whatis":"all of {v}"},
                "grch38/gtf-1":{"path":"grch38/gtf","pl":{"v":["1"]},"whatis":"all of 1"},
                "ubuntu24/igv":{"path":"ubuntu24/igv.def","is_container":true,"deps":[]}}"#,
        )
        .unwrap();
        let shown: Vec<_> = listed.iter().map(|one| (one.path.as_str(), one.whatis.as_deref())).collect();
        assert_eq!(shown, [("grch38/gtf", Some("all of {v}")), ("ubuntu24/igv.def", None)]);
    }

    #[test]
    fn hostile_listings_are_refused() {
        for text in [
            "[]",
            "{\"a\":1}",
            r#"{"a":{"path":"../../etc/passwd"}}"#,
            r#"{"a":{"path":"/etc/passwd"}}"#,
            r#"{"a":{"path":"a/../b"}}"#,
            r#"{"a":{"path":""}}"#,
            r#"{"a":{"path":".git/hooks/x"}}"#,
            r#"{"a":{"path":"a/b/c/d/e/f/g"}}"#,
            r#"{"a":{"path":"a\u0000b"}}"#,
            r#"{"a":{"path":"a","sha256":"xyz"}}"#,
        ] {
            assert!(listing(text).is_err(), "{text}");
        }
        assert!(read("u", b"not gzip").is_err());
        assert!(listing("{}").unwrap().is_empty());
    }
}
