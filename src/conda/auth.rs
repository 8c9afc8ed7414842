//! Credentials for channels, from where other tools keep them: rattler's file, then netrc. Never on a command line,
//! never in an address.

use std::path::PathBuf;
use std::sync::Arc;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use rattler_networking::authentication_storage::StorageBackend;
use rattler_networking::authentication_storage::backends::file::FileStorage;
use rattler_networking::authentication_storage::backends::memory::MemoryStorage;
use rattler_networking::{Authentication, AuthenticationMiddleware, AuthenticationStorage, LazyClient};
use reqwest_middleware::ClientBuilder;
use url::Url;

use super::error::CondaError;
use crate::net::{self, Access};
use crate::sys::env;

/// The client for channels: the common one, with credentials.
pub fn client() -> Result<LazyClient, CondaError> {
    let client = ClientBuilder::new(crate::net::http()?.clone());
    Ok(client.with(AuthenticationMiddleware::from_auth_storage(storage()?)).build().into())
}

/// `$RATTLER_AUTH_FILE`, else `~/.rattler/credentials.json`; then `$NETRC`, else `~/.netrc`.
fn storage() -> Result<AuthenticationStorage, CondaError> {
    let mut storage = AuthenticationStorage::empty();
    let home = |below: &str| env::var_os("HOME").map(|home| PathBuf::from(home).join(below));
    let own = env::var_os("RATTLER_AUTH_FILE").map(PathBuf::from).or_else(|| home(".rattler/credentials.json"));
    if let Some(path) = own {
        let file = FileStorage::from_path(path.clone()).map_err(|error| CondaError::Setting {
            what: format!("{}: the file of credentials cannot be read: {error}", path.display()),
            hint: "mend or remove it".into(),
        })?;
        storage.add_backend(Arc::new(file));
    }
    let memory = MemoryStorage::with_name("netrc");
    for (host, username, password) in netrc_entries(&net::netrc().unwrap_or_default()) {
        // It only fails when another thread has panicked meanwhile.
        let _ = memory.store(&host, &Authentication::BasicHTTP { username, password });
    }
    storage.add_backend(Arc::new(memory));
    Ok(storage)
}

/// What the server of a channel is shown when it is asked for archives: the same as for its lists.
pub(super) struct Credentials(AuthenticationStorage);

impl Credentials {
    /// From the same places as [`client`]'s.
    pub fn new() -> Result<Credentials, CondaError> {
        storage().map(Credentials)
    }

    /// For an archive of a channel. A list of packages may lead elsewhere: what is meant for its channel's host is shown to
    /// no other, and in no other way.
    pub fn of(&self, archive: &Url, channel: Option<&str>) -> Access {
        let channel = channel.and_then(|channel| Url::parse(channel).ok());
        if channel.is_some_and(|channel| channel.origin() != archive.origin()) {
            return Access::Anonymous;
        }
        match self.0.get_by_url(archive.clone()) {
            Ok((_, Some(Authentication::BearerToken(token) | Authentication::OAuth { access_token: token, .. }))) => {
                Access::Header(format!("Bearer {token}"))
            }
            Ok((_, Some(Authentication::BasicHTTP { username, password }))) => {
                Access::Header(format!("Basic {}", STANDARD.encode(format!("{username}:{password}"))))
            }
            Ok((_, Some(Authentication::CondaToken(token)))) => Access::Token(token),
            _ => Access::Anonymous,
        }
    }
}

/// Hosts with user and password (ftp(1), "THE .netrc FILE"); a `default` and macros are passed over.
fn netrc_entries(text: &str) -> Vec<(String, String, String)> {
    let mut entries = Vec::new();
    let mut open: Option<(String, String, String)> = None;
    let mut lines = text.lines();
    while let Some(line) = lines.next() {
        let mut words = line.split_whitespace();
        while let Some(word) = words.next() {
            match word {
                "machine" | "default" => {
                    entries.extend(open.take());
                    let host = if word == "machine" { words.next() } else { None };
                    open = host.map(|host| (host.to_owned(), String::new(), String::new()));
                }
                "login" | "password" | "account" => {
                    let value = words.next().unwrap_or_default().to_owned();
                    match (&mut open, word) {
                        (Some((_, login, _)), "login") => *login = value,
                        (Some((_, _, password)), "password") => *password = value,
                        _ => {}
                    }
                }
                "macdef" => {
                    // A macro ends at an empty line.
                    lines.by_ref().find(|line| line.trim().is_empty());
                    break;
                }
                comment if comment.starts_with('#') => break,
                _ => {}
            }
        }
    }
    entries.extend(open);
    entries.retain(|(_, _, password)| !password.is_empty());
    entries
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn netrc_is_read_as_others_read_it() {
        let text = "# mine\nmachine a.example login me password geheim\nmacdef init\n machine x login y password z\n\n\
                    machine b.example\n  login you\n  account none\n  password p#1\ndefault login d password d\nmachine c";
        let all = netrc_entries(text);
        let of = |host: &str, login: &str, password: &str| (host.to_owned(), login.to_owned(), password.to_owned());
        assert_eq!(all, [of("a.example", "me", "geheim"), of("b.example", "you", "p#1")]);
    }
}
