//! References to what registries hold: `host[:port]/repository[:tag][@sha256:…]`, with or without `oras://`, `oci://` or
//! `docker://`. Grammar: OCI distribution specification 1.1, "Pulling manifests"; docker's short forms as containers do.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use crate::model::name::Name;

/// Longest repository name, so that host and name fit into the 255 bytes that registries allow.
const LONGEST: usize = 255;
/// Longest tag.
const LONGEST_TAG: usize = 128;
/// The host that short forms of `docker://` mean.
const DOCKER: &str = "docker.io";

/// A text that is no reference, or no digest.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("'{text}' is not a reference: {why}")]
pub struct BadReference {
    /// What was given, without anything before an `@` that may be a password.
    pub text: String,
    /// What is wrong with it.
    pub why: String,
}

fn bad(text: &str, why: impl Into<String>) -> BadReference {
    BadReference { text: discreet(text).escape_debug().take(300).collect(), why: why.into() }
}

/// A reference or a host for messages: without what stands before an `@`, which may be a password, unless the `@` is that
/// of a digest.
pub fn discreet(text: &str) -> String {
    let (front, digest) = match text.rsplit_once('@') {
        Some((front, digest)) if digest.starts_with("sha") && !digest.contains(['/', '.']) => (front, Some(digest)),
        _ => (text, None),
    };
    let mut shown = match front.rsplit_once('@') {
        Some((before, after)) => {
            let scheme = before.split_once("://").map(|(scheme, _)| scheme);
            let scheme = scheme.filter(|scheme| scheme.bytes().all(|byte| byte.is_ascii_alphanumeric()));
            format!("{}…@{after}", scheme.map(|scheme| format!("{scheme}://")).unwrap_or_default())
        }
        None => front.to_owned(),
    };
    shown.extend(digest.map(|digest| format!("@{digest}")));
    shown
}

/// A SHA-256 digest, `sha256:` and 64 small hexadecimal digits, nothing else: it becomes a part of paths and URLs.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Digest(String);

impl Digest {
    /// The 64 digits.
    pub fn hex(&self) -> &str {
        self.0.get(7..).unwrap_or_default()
    }

    /// With `sha256:`.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// Of bytes.
    pub fn of(bytes: &[u8]) -> Digest {
        Digest(crate::sys::digest::of(bytes))
    }

    /// The first digits, for people.
    pub fn short(&self) -> &str {
        self.hex().get(..12).unwrap_or_default()
    }
}

impl FromStr for Digest {
    type Err = BadReference;

    fn from_str(text: &str) -> Result<Digest, BadReference> {
        let hex = text.strip_prefix("sha256:").filter(|hex| hex.len() == 64);
        match hex.filter(|hex| hex.bytes().all(|byte| byte.is_ascii_digit() || (b'a'..=b'f').contains(&byte))) {
            Some(_) => Ok(Digest(text.to_owned())),
            None => Err(bad(text, "a digest is 'sha256:' with 64 hexadecimal digits")),
        }
    }
}

impl TryFrom<String> for Digest {
    type Error = BadReference;

    fn try_from(text: String) -> Result<Digest, BadReference> {
        text.parse()
    }
}

impl From<Digest> for String {
    fn from(digest: Digest) -> String {
        digest.0
    }
}

impl fmt::Display for Digest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// Something in a registry.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Reference {
    /// `host` or `host:port`.
    pub registry: String,
    /// The repository, as in `group/samtools`.
    pub repository: String,
    /// The tag, if one is named.
    pub tag: Option<String>,
    /// The digest, if one is named; it counts more than the tag.
    pub digest: Option<Digest>,
}

impl Reference {
    /// Reads a reference; one without a host lies below `default` (`host/namespace`), where there is one.
    ///
    /// # Errors
    /// When it is none, or has no host and there is no default.
    pub fn parse(text: &str, default: Option<&str>) -> Result<Reference, BadReference> {
        let (scheme, rest) = match text.split_once("://") {
            Some((scheme @ ("oras" | "oci" | "docker"), rest)) => (scheme, rest),
            Some((scheme, _)) => {
                let shown = discreet(scheme);
                return Err(bad(text, format!("'{}://' is not known here", shown.escape_debug())));
            }
            None => ("", text),
        };
        let (rest, digest) = split_digest(text, rest)?;
        let has_host = rest.split_once('/').is_some_and(|(first, _)| is_host_like(first));
        let full = match (has_host, scheme, default) {
            (true, ..) => rest.to_owned(),
            (false, "docker", _) if rest.contains('/') => format!("{DOCKER}/{rest}"),
            (false, "docker", _) => format!("{DOCKER}/library/{rest}"),
            (false, "", Some(default)) => format!("{}/{rest}", default.trim_end_matches('/')),
            _ => return Err(bad(text, "it names no registry, as in registry.example.org/group/name:tag")),
        };
        let (registry, path) = full.split_once('/').ok_or_else(|| bad(text, "it names no repository"))?;
        let registry = check_host(registry).map_err(|why| bad(text, why))?;
        let (repository, tag) = match path.rsplit_once(':') {
            Some((repository, tag)) => (repository, Some(tag.to_owned())),
            None => (path, None),
        };
        let mut repository = repository.to_owned();
        if registry == DOCKER && !repository.contains('/') {
            repository = format!("library/{repository}");
        }
        check_repository(&repository).map_err(|why| bad(text, why))?;
        if let Some(tag) = &tag {
            check_tag(tag).map_err(|why| bad(text, why))?;
        }
        Ok(Reference { registry, repository, tag, digest })
    }

    /// Where an overlay of this name goes below `base` (`host[/namespace]`): the version is the tag.
    ///
    /// # Errors
    /// When `base` is not the beginning of a reference.
    pub fn for_name(base: &str, name: &Name) -> Result<Reference, BadReference> {
        let base = base.strip_prefix("oras://").or_else(|| base.strip_prefix("oci://")).unwrap_or(base);
        let stem = name.stem().split('/').map(component).collect::<Vec<_>>().join("/");
        let host = base.split('/').next().unwrap_or_default();
        check_host(host).map_err(|why| bad(base, why))?;
        let mut reference = Reference::parse(&format!("oci://{}/{stem}", base.trim_end_matches('/')), None)?;
        if reference.tag.is_some() || reference.digest.is_some() {
            return Err(bad(base, "a registry to put overlays into has no tag"));
        }
        reference.tag = Some(tag_of(name.version()));
        Ok(reference)
    }

    /// Whether it looks like where an overlay of this name would be: its last parts are the name's, and so is its tag, if
    /// it has one that means a version.
    pub fn reads_like(&self, name: &Name) -> bool {
        let Ok(own) = Reference::for_name(&self.registry, name) else { return false };
        let tag = self.tag.as_deref().filter(|tag| *tag != "latest");
        let below = self.repository.strip_suffix(own.repository.as_str());
        below.is_some_and(|front| front.is_empty() || front.ends_with('/')) && tag.is_none_or(|tag| tag == own.tag())
    }

    /// The same repository with another tag.
    #[must_use]
    pub fn with_tag(&self, tag: &str) -> Reference {
        Reference { tag: Some(tag.to_owned()), digest: None, ..self.clone() }
    }

    /// The same content by its digest, for ever.
    #[must_use]
    pub fn pinned(&self, digest: &Digest) -> Reference {
        Reference { digest: Some(digest.clone()), ..self.clone() }
    }

    /// The tag, or `latest`.
    pub fn tag(&self) -> &str {
        self.tag.as_deref().unwrap_or("latest")
    }

    /// What is asked for at `/manifests/`.
    pub fn wanted(&self) -> &str {
        self.digest.as_ref().map_or_else(|| self.tag(), Digest::as_str)
    }
}

/// As it can be typed again.
impl fmt::Display for Reference {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.registry, self.repository)?;
        if let Some(tag) = &self.tag {
            write!(f, ":{tag}")?;
        }
        match &self.digest {
            Some(digest) => write!(f, "@{digest}"),
            None => Ok(()),
        }
    }
}

/// Whether a text is a reference with a scheme, so surely no name and no file.
pub fn has_scheme(text: &str) -> bool {
    ["oras://", "oci://", "docker://"].iter().any(|scheme| text.starts_with(scheme))
}

fn split_digest<'a>(text: &str, rest: &'a str) -> Result<(&'a str, Option<Digest>), BadReference> {
    match rest.split_once('@') {
        None => Ok((rest, None)),
        Some((front, digest)) if digest.starts_with("sha") && !digest.contains('@') => {
            let parsed = digest.parse().map_err(|error: BadReference| bad(text, error.why))?;
            Ok((front, Some(parsed)))
        }
        Some(_) => Err(bad(text, "an @ comes before a digest; log in with ovl login instead of naming users here")),
    }
}

fn is_host_like(part: &str) -> bool {
    part == "localhost" || part.contains(['.', ':', '['])
}

/// A host name, IPv4 or bracketed IPv6 address with an optional port, in small letters.
pub fn check_host(text: &str) -> Result<String, String> {
    let odd = || format!("'{}' is not a host with an optional port", discreet(text).escape_debug());
    let (host, port) = match text.strip_prefix('[') {
        Some(v6) => {
            let (address, after) = v6.split_once(']').ok_or_else(odd)?;
            address.parse::<std::net::Ipv6Addr>().map_err(|_| odd())?;
            (
                format!("[{address}]"),
                if after.is_empty() { None } else { Some(after.strip_prefix(':').ok_or_else(odd)?) },
            )
        }
        None => match text.split_once(':') {
            Some((host, port)) => (host.to_owned(), Some(port)),
            None => (text.to_owned(), None),
        },
    };
    let label = |label: &str| {
        !label.is_empty()
            && !label.starts_with('-')
            && !label.ends_with('-')
            && label.bytes().all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_'))
    };
    if host.len() > 253 || !host.starts_with('[') && !host.split('.').all(label) {
        return Err(odd());
    }
    if port.is_some_and(|port| port.starts_with('+') || port.parse::<u16>().map_or(true, |port| port == 0)) {
        return Err(odd());
    }
    Ok(text.to_ascii_lowercase())
}

/// Components of small letters and digits, between them `.`, `_`, `__` or dashes.
fn check_repository(text: &str) -> Result<(), String> {
    if text.len() > LONGEST {
        return Err(format!("its repository is longer than {LONGEST} bytes"));
    }
    let separator = |run: &str| matches!(run, "." | "_" | "__") || !run.is_empty() && run.bytes().all(|b| b == b'-');
    for part in text.split('/') {
        let is_word = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit();
        let ends = part.bytes().next().is_some_and(is_word) && part.bytes().next_back().is_some_and(is_word);
        let runs = part.split(|c: char| c.is_ascii_lowercase() || c.is_ascii_digit());
        if !ends || !runs.filter(|run| !run.is_empty()).all(separator) {
            return Err(format!("'{}' cannot be part of a repository", part.escape_debug()));
        }
    }
    Ok(())
}

fn check_tag(tag: &str) -> Result<(), String> {
    let word = |c: char| c.is_ascii_alphanumeric() || c == '_';
    let fine =
        tag.len() <= LONGEST_TAG && tag.starts_with(word) && tag.chars().all(|c| word(c) || matches!(c, '.' | '-'));
    if fine { Ok(()) } else { Err(format!("'{}' is not a tag", tag.escape_debug())) }
}

/// A part of an overlay's name as a component of a repository.
fn component(part: &str) -> String {
    let mut out = String::new();
    for c in part.replace('+', "plus").chars().map(|c| c.to_ascii_lowercase()) {
        // A separator only between words, and only one.
        match c {
            'a'..='z' | '0'..='9' => out.push(c),
            _ if out.is_empty() || out.ends_with(['.', '_', '-']) => {}
            '.' | '_' => out.push(c),
            _ => out.push('-'),
        }
    }
    let text = out.trim_end_matches(['.', '_', '-']);
    if text.is_empty() { "x".into() } else { text.to_owned() }
}

/// A version as a tag; `+` cannot be in one, and becomes `_`, as with others who face this.
pub fn tag_of(version: &str) -> String {
    let text: String =
        version.chars().map(|c| if c.is_ascii_alphanumeric() || "._-".contains(c) { c } else { '_' }).collect();
    let text: String = text.chars().take(LONGEST_TAG).collect();
    if text.starts_with(['.', '-']) || text.is_empty() {
        format!("_{text}").chars().take(LONGEST_TAG).collect()
    } else {
        text
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const SUM: &str = "sha256:e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855";

    #[test]
    fn references_and_short_forms() {
        let full = format!("oras://localhost:5000/a/b-c.d__e:v1.2@{SUM}");
        for (text, shown) in [
            ("docker://alpine", "docker.io/library/alpine".to_owned()),
            ("docker://group/image:1", "docker.io/group/image:1".into()),
            ("docker://docker.io/alpine:3", "docker.io/library/alpine:3".into()),
            ("docker://Registry.Example.org/x", "registry.example.org/x".into()),
            ("127.0.0.1:5000/x:1", "127.0.0.1:5000/x:1".into()),
            ("oci://[::1]:5000/x", "[::1]:5000/x".into()),
            (&full, format!("localhost:5000/a/b-c.d__e:v1.2@{SUM}")),
        ] {
            assert_eq!(Reference::parse(text, None).unwrap().to_string(), shown, "{text}");
        }
        let below = Reference::parse("x/y:2", Some("host.org/group/")).unwrap();
        assert_eq!(below.to_string(), "host.org/group/x/y:2");
        assert_eq!(below.with_tag("3").to_string(), "host.org/group/x/y:3");
        let pinned = Reference::parse(&full, None).unwrap();
        assert_eq!((pinned.wanted(), pinned.tag()), (SUM, "v1.2"));
    }

    #[test]
    fn what_could_lead_elsewhere_is_refused() {
        let long = format!("h.org/{}", "a".repeat(300));
        for text in [
            "",
            "alpine",
            "a/b",
            "oras://a/b",
            "http://h.org/x",
            "h.org/",
            "h.org/../x",
            "h.org/a//b",
            "h.org/A",
            "h.org/a:",
            "h.org/a:-x",
            "h.org/a:b/c",
            "h.org:0/a",
            "h.org:70000/a",
            "h.org:+1/a",
            "h_.-.org/a",
            "h.org/a@sha256:abc",
            "h.org/a@sha256:../../../../../../../../../../../../../../../../../../../../../x",
            "h.org/a@sha512:00",
            "h.org/a b",
            "h.org/a\n",
            "h.org/a?x=1",
            "h.org/a%2f",
            "[::g]:1/a",
            &long,
        ] {
            assert!(Reference::parse(text, None).is_err(), "{text:?}");
        }
    }

    #[test]
    fn a_password_in_a_reference_is_not_repeated() {
        for text in ["oras://user:hunter2@h.org/x", "user:hunter2@h.org/x"] {
            let error = Reference::parse(text, None).unwrap_err().to_string();
            assert!(!error.contains("hunter2") && error.contains("h.org/x"), "{error}");
        }
    }

    #[test]
    fn names_become_repositories_and_tags() {
        for (name, expected) in [
            ("samtools/1.22", "h.org/g/samtools:1.22"),
            ("R/4.3.1+x", "h.org/g/r:4.3.1_x"),
            ("grch38/gtf-gencode/47", "h.org/g/grch38/gtf-gencode:47"),
            ("c++/1", "h.org/g/cplusplus:1"),
            ("a_-b/1", "h.org/g/a_b:1"),
            ("_a_/_1", "h.org/g/a:_1"),
        ] {
            assert_eq!(Reference::for_name("h.org/g", &name.parse().unwrap()).unwrap().to_string(), expected);
        }
        for base in ["", "h.org:0/x", "user@h.org", "h.org/x:1"] {
            assert!(Reference::for_name(base, &"a/1".parse().unwrap()).is_err(), "{base}");
        }
    }

    #[test]
    fn what_is_named_otherwise_does_not_read_like_a_name() {
        let name: Name = "openmpi/4.1".parse().unwrap();
        for (text, like) in [
            ("h.org/openmpi:4.1", true),
            ("h.org/lab/openmpi", true),
            ("h.org/openmpi:latest", true),
            ("h.org/openmpi:5", false),
            ("h.org/myopenmpi:4.1", false),
            ("h.org/someone/tool:1", false),
        ] {
            assert_eq!(Reference::parse(text, None).unwrap().reads_like(&name), like, "{text}");
        }
    }

    #[test]
    fn passwords_are_not_shown() {
        let name: Name = "a/1".parse().unwrap();
        for text in [
            "me:TOKEN@h.org",
            "me:TOK/TOKEN@h.org",
            "me:TOKEN@sha.org/x",
            "me:x@TOKEN@h.org/x",
            "TOKEN@h.org/x:1@sha256:1",
        ] {
            for full in [text.to_owned(), format!("https://{text}"), format!("oras://{text}")] {
                let errors = [
                    Reference::parse(&full, None).unwrap_err().to_string(),
                    Reference::parse("x:1", Some(&full)).unwrap_err().to_string(),
                    Reference::for_name(&full, &name).unwrap_err().to_string(),
                    check_host(&full).unwrap_err(),
                ];
                assert!(errors.iter().all(|error| !error.contains("TOKEN")), "{full}: {errors:#?}");
            }
        }
        assert_eq!(discreet("h.org/x:1@sha256:1"), "h.org/x:1@sha256:1");
    }

    proptest! {
        #[test]
        fn whatever_is_read_is_read_again(text in "[a-zA-Z0-9._:/@\\-\\[\\]]{0,60}") {
            if let Ok(reference) = Reference::parse(&text, None) {
                let again = Reference::parse(&reference.to_string(), None).unwrap();
                prop_assert_eq!(again, reference);
            }
        }

        #[test]
        fn every_name_has_a_place(stem in "[a-zA-Z0-9_+][a-zA-Z0-9._+\\-]{0,20}[a-z0-9]", version in "[a-zA-Z0-9_+][a-zA-Z0-9._+\\-]{0,20}") {
            if let Ok(name) = format!("{stem}/{version}").parse::<Name>() {
                let reference = Reference::for_name("h.org", &name).unwrap();
                prop_assert_eq!(Reference::parse(&reference.to_string(), None).unwrap(), reference);
            }
        }
    }
}
