//! Credentials from `$NETRC` or `~/.netrc`, for servers that ask for a name and a password. The format is that of
//! ftp(1): words, `machine NAME login USER password SECRET`, and `default` for all others.

use std::os::unix::fs::MetadataExt;
use std::path::PathBuf;

use crate::sys::{env, fs, host};

/// Largest file that is read, in bytes.
const LARGEST: usize = 1 << 20;

/// User and password for the host of an address.
pub fn credentials(url: &str) -> Option<(String, String)> {
    let parsed = url::Url::parse(url).ok()?;
    if !parsed.username().is_empty() || !matches!(parsed.scheme(), "http" | "https") {
        return None;
    }
    find(&text()?, parsed.host_str()?)
}

/// The whole file. One that others can read or that is not the user's is passed over.
pub fn text() -> Option<String> {
    let named = env::var_os("NETRC").map(PathBuf::from);
    let path = named.or_else(|| Some(PathBuf::from(env::var_os("HOME")?).join(".netrc")))?;
    let meta = fs::metadata_if_exists(&path).ok().flatten()?;
    if !meta.is_file() || meta.uid() != host::ids().0 || meta.mode() & 0o077 != 0 {
        return None;
    }
    let text = fs::read_start(&path, LARGEST).ok()?;
    Some(String::from_utf8_lossy(&text).into_owned())
}

fn find(text: &str, host: &str) -> Option<(String, String)> {
    let lines = text.lines().map(|line| line.split('#').next().filter(|_| line.starts_with('#')).unwrap_or(line));
    let mut words = lines.flat_map(str::split_whitespace);
    let (mut meant, mut user, mut secret) = (false, None, None);
    loop {
        let word = words.next();
        if let (None | Some("machine" | "default" | "macdef"), true, Some(secret)) = (word, meant, &secret) {
            let secret: &String = secret;
            return Some((user.unwrap_or_default(), secret.clone()));
        }
        match word? {
            "machine" => {
                meant = words.next()?.eq_ignore_ascii_case(host);
                (user, secret) = (None, None);
            }
            "default" => {
                meant = true;
                (user, secret) = (None, None);
            }
            "login" => user = words.next().map(str::to_owned),
            "password" => secret = words.next().map(str::to_owned),
            "account" => drop(words.next()),
            // A macro runs to an empty line, and nothing behind one is for us.
            "macdef" => return None,
            _ => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_entry_for_the_host_counts() {
        let text =
            "machine a login me password one\nmachine b\n  login you\n  password two\ndefault login any password x";
        let is = |host: &str, user: &str, secret: &str| {
            assert_eq!(find(text, host), Some((user.to_owned(), secret.to_owned())), "{host}");
        };
        is("a", "me", "one");
        is("B", "you", "two");
        is("c", "any", "x");
        assert_eq!(find("machine a login me", "a"), None);
        assert_eq!(find("machine", "a"), None);
        assert_eq!(find("", "a"), None);
    }
}
