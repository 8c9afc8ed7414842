//! Lists: one wish per line, or one address per line after `@EXPLICIT`.

use rattler_conda_types::package::CondaArchiveIdentifier;
use url::Url;

use super::{Archive, Content, EXPLICIT, Environment, check_wish, is_secret, platform_of};
use crate::model::loc::Loc;
use crate::recipe::finding::{Finding, Rule};
use crate::recipe::spec::At;

/// The lines that say something, with their places; ` #` begins a comment where `comments` are.
fn lines<'a>(file: &'a str, text: &'a str, comments: bool) -> impl Iterator<Item = (Loc, &'a str)> {
    text.lines().enumerate().filter_map(move |(number, line)| {
        let said = match line.find(" #").or(line.find("\t#")) {
            Some(at) if comments => &line[..at],
            _ => line,
        };
        let words = said.trim();
        if words.is_empty() || words.starts_with('#') {
            return None;
        }
        let indent = line.chars().take_while(|c| c.is_whitespace()).count();
        Some((Loc::new(file, number + 1, indent + 1), words))
    })
}

/// A list of wishes.
pub fn wishes(file: &str, text: &str, findings: &mut Vec<Finding>) -> Environment {
    let mut wishes = Vec::new();
    let mut pip = Vec::new();
    for (loc, line) in lines(file, text, true) {
        // What `conda list --export` writes of packages that pip has installed.
        if let Some((name, version)) = line.strip_suffix("=pypi_0").and_then(|rest| rest.split_once('=')) {
            pip.push(At { loc, value: format!("{name}=={version}") });
        } else if check_wish(&loc, line, findings) {
            wishes.push(At { loc, value: line.to_owned() });
        }
    }
    let platform = platform_of(file, text, findings);
    Environment { platform, pip, ..Environment::empty(Content::Wishes(wishes)) }
}

/// An explicit list.
pub fn explicit(file: &str, text: &str, findings: &mut Vec<Finding>) -> Environment {
    let mut archives = Vec::new();
    for (loc, line) in lines(file, text, false).filter(|(_, line)| *line != EXPLICIT) {
        match archive(line) {
            Ok(value) if is_secret(&value.url) => {
                let message = "a password in the address of a package";
                findings.push(
                    Finding::new(Rule::SecretDefault, &loc, message).hint("leave it out, and put it into ~/.netrc"),
                );
            }
            Ok(value) => archives.push(At { loc, value }),
            Err((offset, message)) => {
                let loc = Loc { col: loc.col + line[..offset].chars().count(), ..loc };
                let hint = "after @EXPLICIT every line is an address, as in \
                            https://HOST/CHANNEL/linux-64/zlib-1.3-h1_0.conda#sha256:…";
                findings.push(Finding::new(Rule::BadPackage, &loc, message).hint(hint));
            }
        }
    }
    let platform = platform_of(file, text, findings);
    Environment { platform, ..Environment::empty(Content::Explicit(archives)) }
}

/// One address; an error tells at which byte of the line.
fn archive(line: &str) -> Result<Archive, (usize, String)> {
    let (address, digest) = match line.split_once('#') {
        Some((address, digest)) => (address, Some(digest)),
        None => (line, None),
    };
    let url = Url::parse(address)
        .ok()
        .filter(|url| matches!(url.scheme(), "https" | "http" | "file"))
        .ok_or_else(|| (0, format!("'{address}' is no address of a package")))?;
    if CondaArchiveIdentifier::try_from_url(&url).is_none() {
        let message = format!("'{address}' does not end in NAME-VERSION-BUILD.conda or .tar.bz2");
        return Err((0, message));
    }
    let mut archive = Archive { url, sha256: None, md5: None };
    if let Some(digest) = digest {
        let hex = digest.strip_prefix("sha256:").unwrap_or(digest).to_ascii_lowercase();
        match hex.len() {
            _ if !hex.bytes().all(|b| b.is_ascii_hexdigit()) => return Err(bad_digest(address, digest)),
            64 => archive.sha256 = Some(hex),
            32 if !digest.starts_with("sha256:") => archive.md5 = Some(hex),
            _ => return Err(bad_digest(address, digest)),
        }
    }
    Ok(archive)
}

fn bad_digest(address: &str, digest: &str) -> (usize, String) {
    (address.len() + 1, format!("'{digest}' is no digest: sha256: and 64 digits, or the 32 of an MD5"))
}
