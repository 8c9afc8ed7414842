//! Credentials for channels, from where other tools keep them: rattler's file, then netrc. Never on a command line,
//! never in an address.

use std::path::PathBuf;
use std::sync::Arc;

use rattler_networking::authentication_storage::StorageBackend;
use rattler_networking::authentication_storage::backends::file::FileStorage;
use rattler_networking::authentication_storage::backends::memory::MemoryStorage;
use rattler_networking::{Authentication, AuthenticationMiddleware, AuthenticationStorage, LazyClient};
use reqwest_middleware::ClientBuilder;

use super::error::CondaError;
use crate::sys::{env, fs};

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
    let netrc = env::var_os("NETRC").map(PathBuf::from).or_else(|| home(".netrc"));
    // As curl does: a netrc that cannot be read is none.
    let text = netrc.and_then(|path| fs::read_if_exists(&path).ok().flatten()).unwrap_or_default();
    let memory = MemoryStorage::with_name("netrc");
    for (host, username, password) in netrc_entries(&String::from_utf8_lossy(&text)) {
        // It only fails when another thread has panicked meanwhile.
        let _ = memory.store(&host, &Authentication::BasicHTTP { username, password });
    }
    storage.add_backend(Arc::new(memory));
    Ok(storage)
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
