//! One file of credentials: podman's `auth.json` and docker's `config.json` have the same form, `.dockercfg` only the
//! inner part of it. What ovl does not know in one stays in it.

use std::path::Path;

use base64::Engine;
use base64::engine::general_purpose::{STANDARD, STANDARD_NO_PAD};
use serde_json::{Map, Value, json};

use super::super::{RegistryError, Result};
use super::{Credentials, Secret};
use crate::sys::fs;

/// Largest file.
const LONGEST: usize = 4 << 20;
/// Under what docker's own registry is found, besides its name.
const DOCKER: [&str; 4] = ["docker.io", "index.docker.io", "registry-1.docker.io", "registry.hub.docker.com"];

/// The content of a file.
#[derive(Default)]
pub struct File(Map<String, Value>);

fn bad(path: &Path, why: &str) -> RegistryError {
    RegistryError::Credentials { what: path.display().to_string(), why: why.to_owned() }
}

/// Whether two hosts are the same registry.
fn same(registry: &str, host: &str) -> bool {
    registry == host || DOCKER.contains(&registry) && DOCKER.contains(&host)
}

/// A key of a file without scheme and the remains of old addresses.
fn key(text: &str) -> String {
    let (old, rest) = match text.strip_prefix("https://").or_else(|| text.strip_prefix("http://")) {
        Some(rest) => (true, rest),
        None => (false, text),
    };
    let rest = rest.trim_end_matches('/');
    // An address means its host, whatever version of the interface it names.
    let rest = if old { rest.split('/').next().unwrap_or_default() } else { rest };
    let (host, path) = rest.split_once('/').map_or((rest, ""), |(host, path)| (host, path));
    let host = host.to_ascii_lowercase();
    if path.is_empty() { host } else { format!("{host}/{path}") }
}

impl File {
    /// Reads one; None when it is not there or empty.
    ///
    /// # Errors
    /// When it cannot be read or is no JSON. Nothing of it is in the message.
    pub fn read(path: &Path) -> Result<Option<File>> {
        let bytes = match fs::read_start(path, LONGEST) {
            Ok(bytes) => bytes,
            // Directories of other users' sessions may not be looked into, and then hold nothing for this one.
            Err(error)
                if error.is_not_found()
                    || error.is_denied() && path.parent().is_some_and(|dir| fs::may_look_into(dir).is_err()) =>
            {
                return Ok(None);
            }
            Err(error) => return Err(error.into()),
        };
        if bytes.iter().all(u8::is_ascii_whitespace) {
            return Ok(None);
        }
        let value: Value = serde_json::from_slice(&bytes).map_err(|_| bad(path, "it is no JSON"))?;
        let Value::Object(map) = value else { return Err(bad(path, "it is no JSON object")) };
        if path.file_name().is_some_and(|name| name == ".dockercfg") {
            return Ok(Some(File(Map::from_iter([("auths".to_owned(), Value::Object(map))]))));
        }
        Ok(Some(File(map)))
    }

    fn auths(&self) -> impl Iterator<Item = (&String, &Value)> {
        self.0.get("auths").and_then(Value::as_object).into_iter().flatten()
    }

    /// The helper named for this registry.
    pub fn helper_for(&self, registry: &str) -> Option<&str> {
        let helpers = self.0.get("credHelpers")?.as_object()?;
        let found = helpers.iter().find(|(host, _)| same(registry, &key(host)));
        found.and_then(|(_, name)| name.as_str()).filter(|name| !name.is_empty())
    }

    /// The helper for everything.
    pub fn store(&self) -> Option<&str> {
        self.0.get("credsStore")?.as_str().filter(|name| !name.is_empty())
    }

    /// The credentials for a repository under the longest key that fits.
    pub fn find(&self, registry: &str, repository: &str, path: &Path) -> Result<Option<Credentials>> {
        let mut best: Option<(usize, &Value)> = None;
        for (text, value) in self.auths() {
            let key = key(text);
            let (host, prefix) = key.split_once('/').unwrap_or((&key, ""));
            let below = |prefix: &str| {
                repository.strip_prefix(prefix).is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
            };
            let fits = same(registry, host) && (prefix.is_empty() || below(prefix));
            if fits && best.is_none_or(|(length, _)| prefix.len() > length) {
                best = Some((prefix.len(), value));
            }
        }
        best.map_or(Ok(None), |(_, value)| entry(value).map_err(|why| bad(path, why)))
    }

    /// Sets a registry's credentials.
    pub fn put(&mut self, registry: &str, user: &str, password: &Secret) {
        let auth = STANDARD.encode(format!("{user}:{}", password.reveal()));
        let auths = self.0.entry("auths").or_insert_with(|| json!({}));
        if !auths.is_object() {
            *auths = json!({});
        }
        if let Some(auths) = auths.as_object_mut() {
            // The same registry under another spelling would be found as well.
            auths.retain(|text, _| text == registry || !same(registry, &key(text)));
            auths.insert(registry.to_owned(), json!({ "auth": auth }));
        }
    }

    /// Removes a registry's credentials; whether there were any.
    pub fn remove(&mut self, registry: &str) -> bool {
        let Some(auths) = self.0.get_mut("auths").and_then(Value::as_object_mut) else { return false };
        let before = auths.len();
        auths.retain(|text, _| !same(registry, &key(text)));
        auths.len() != before
    }

    /// Writes it, readable for its owner alone.
    pub fn write(&self, path: &Path) -> Result<()> {
        // What is linked stays linked: some keep these files elsewhere.
        let real = fs::canonicalize(path).unwrap_or_else(|_| path.to_owned());
        if let Some(dir) = real.parent()
            && fs::metadata_if_exists(dir)?.is_none()
        {
            fs::create_dirs(dir)?;
            fs::set_mode(dir, 0o700)?;
        }
        let inner = match real.file_name().is_some_and(|name| name == ".dockercfg") {
            true => self.0.get("auths").and_then(Value::as_object).unwrap_or(&self.0),
            false => &self.0,
        };
        let mut text = serde_json::to_vec_pretty(inner).unwrap_or_default();
        text.push(b'\n');
        Ok(fs::write_atomic(&real, &text, 0o600)?)
    }
}

/// One entry: None when it is empty, as it is where a helper has the rest.
fn entry(value: &Value) -> Result<Option<Credentials>, &'static str> {
    if !value.is_object() {
        return Err("an entry is no object");
    }
    let text = |key: &str| value[key].as_str().filter(|text| !text.is_empty());
    if let Some(token) = text("registrytoken") {
        return Ok(Some(Credentials::Bearer(Secret::new(token))));
    }
    if let Some(token) = text("identitytoken") {
        return Ok(Some(Credentials::Identity(Secret::new(token))));
    }
    let (user, password) = match text("auth") {
        Some(auth) => {
            let auth = auth.trim_end_matches('=');
            let bytes = STANDARD_NO_PAD.decode(auth).map_err(|_| "an entry's \"auth\" is no base64")?;
            let text = String::from_utf8(bytes).map_err(|_| "an entry's \"auth\" is no text")?;
            let (user, password) = text.split_once(':').ok_or("an entry's \"auth\" has no colon in it")?;
            (user.to_owned(), password.trim_end_matches('\0').to_owned())
        }
        None => match (text("username"), text("password")) {
            (Some(user), Some(password)) => (user.to_owned(), password.to_owned()),
            _ => return Ok(None),
        },
    };
    // How docker writes down that the password is a token for tokens.
    if user == "<token>" || user == "00000000-0000-0000-0000-000000000000" && password.len() > 256 {
        return Ok(Some(Credentials::Identity(Secret::new(password))));
    }
    Ok(Some(Credentials::User { user, password: Secret::new(password) }))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(text: &str) -> File {
        File(serde_json::from_str(text).unwrap())
    }

    #[test]
    fn dockers_registry_has_several_names() {
        let file = of(r#"{"auths":{"https://index.docker.io/v1/":{"username":"u","password":"p"}}}"#);
        assert!(file.find("docker.io", "library/x", Path::new("f")).unwrap().is_some());
        assert!(file.find("example.org", "library/x", Path::new("f")).unwrap().is_none());
        let file = of(r#"{"credHelpers":{"https://index.docker.io/v1/":"x","h.org:5000":"y"},"credsStore":""}"#);
        assert_eq!(file.helper_for("docker.io"), Some("x"));
        assert_eq!(file.helper_for("h.org:5000"), Some("y"));
        assert_eq!(file.helper_for("h.org"), None);
        assert_eq!(file.store(), None);
    }

    #[test]
    fn tokens_are_told_from_passwords() {
        for (text, expected) in [
            (r#"{"identitytoken":"t","auth":"YTpi"}"#, "Identity"),
            (r#"{"registrytoken":"t"}"#, "Bearer"),
            (r#"{"username":"<token>","password":"t"}"#, "Identity"),
            (r#"{"auth":"YTpi"}"#, "User"),
            (r#"{"auth":"YTpiOmM="}"#, "User"),
        ] {
            let found = entry(&serde_json::from_str(text).unwrap()).unwrap().unwrap();
            assert!(format!("{found:?}").starts_with(expected), "{text}");
        }
        assert_eq!(entry(&json!({})), Ok(None));
    }
}
