//! What goes wrong with transfers, told apart (row P35): each has its own sentence and its own hint.

use super::proxy;
use crate::model::units::show_size;
use crate::sys::fs::PathError;

/// A transfer that failed.
#[derive(Debug, thiserror::Error)]
#[error("{url}: {trouble}")]
pub struct NetError {
    /// What was wanted, without anything secret.
    pub url: String,
    /// What went wrong.
    pub trouble: Trouble,
}

/// What went wrong with a transfer.
#[derive(Debug, thiserror::Error)]
pub enum Trouble {
    /// The name of the host is not known.
    #[error("the host's name cannot be resolved: {0}")]
    Name(String),
    /// Nobody listens, or the way there is barred.
    #[error("no connection: {0}")]
    Connect(String),
    /// The certificate or the encryption.
    #[error("no secure connection: {0}")]
    Tls(String),
    /// The proxy refuses.
    #[error("the proxy refuses: {0}")]
    Proxy(String),
    /// The server answers with an error.
    #[error("the server answers {0}")]
    Status(u16),
    /// The server was silent for too long.
    #[error("the server was silent for too long")]
    Slow,
    /// The transfer broke off.
    #[error("the transfer broke off: {0}")]
    Cut(String),
    /// Other bytes came than were wanted.
    #[error("the digest is {found}, not {wanted}")]
    Digest {
        /// The digest wanted, with its algorithm.
        wanted: String,
        /// That of what came.
        found: String,
    },
    /// It leads from one address to the next without an end.
    #[error("it leads from one address to the next without an end: {0}")]
    Redirects(String),
    /// The place it goes to has too little room.
    #[error("{} has no room for it: {} are missing, {} are free", dir.display(), show_size(*needs), show_size(*free))]
    Room {
        /// The directory.
        dir: std::path::PathBuf,
        /// Bytes that are still to come.
        needs: u64,
        /// Bytes that are free.
        free: u64,
    },
    /// More came than is sensible.
    #[error("more than {0} bytes")]
    TooLarge(u64),
    /// The address is none.
    #[error("this is no address: {0}")]
    Address(String),
    /// It is not in the cache, and the network may not be used.
    #[error("it is not in the cache, and the network is not to be used")]
    Offline,
    /// The user has interrupted.
    #[error("interrupted")]
    Interrupted,
    /// The client itself.
    #[error("{0}")]
    Client(String),
    /// A file that cannot be written or read.
    #[error(transparent)]
    File(#[from] PathError),
}

impl NetError {
    /// An error about an address, which is shown without user names, passwords and queries.
    pub fn new(url: &str, trouble: Trouble) -> NetError {
        NetError { url: redacted(url), trouble }
    }

    /// Tells the client's errors apart.
    pub fn of(url: &str, error: &reqwest::Error) -> NetError {
        let text = chain(error);
        let low = text.to_ascii_lowercase();
        let says = |words: &[&str]| words.iter().any(|word| low.contains(word));
        // What a proxy does not let through looks as if the server were not there.
        let proxied = |text: String, other: fn(String) -> Trouble| match proxy::of(url) {
            Some(proxy) => Trouble::Proxy(format!("{proxy}: {text}")),
            None => other(text),
        };
        let trouble = if let Some(status) = error.status() {
            Trouble::Status(status.as_u16())
        } else if error.is_redirect() {
            Trouble::Redirects(text)
        } else if error.is_timeout() {
            Trouble::Slow
        } else if says(&["tunnel", "proxy authorization"]) {
            proxied(text, Trouble::Proxy)
        } else if says(&["dns error", "failed to lookup"]) {
            proxied(text, Trouble::Name)
        } else if says(&[
            "certificate",
            "corrupt message",
            "handshake",
            "invalidcontenttype",
            "tls error",
            "received fatal alert",
        ]) {
            Trouble::Tls(text)
        } else if error.is_connect() {
            proxied(text, Trouble::Connect)
        } else if error.is_builder() {
            Trouble::Address(text)
        } else {
            Trouble::Cut(text)
        };
        NetError::new(url, trouble)
    }

    /// What to try; empty where nothing is known.
    pub fn hint(&self) -> String {
        let hint = match &self.trouble {
            Trouble::Name(_) | Trouble::Connect(_) | Trouble::Slow => {
                "compute nodes often have no network: try it on a login node"
            }
            Trouble::Tls(_) => "a proxy that looks into connections needs its certificate in SSL_CERT_FILE",
            Trouble::Proxy(_) => "the proxy decides: ask those who run it, or name this host in no_proxy",
            Trouble::Status(401 | 403) => {
                "credentials are needed, or those given do not do (~/.netrc is read where only you can read it)"
            }
            Trouble::Status(404 | 410) => "check the address",
            Trouble::Status(407) => "the proxy wants credentials, as in https_proxy=http://user:password@host:port",
            Trouble::Status(429) => "the server is asked too often: try again later",
            Trouble::Status(500..) => "the server has a problem of its own: try again later, or use a mirror",
            Trouble::Cut(_) => "what has come is kept: the next try goes on with it",
            Trouble::Digest { .. } => {
                "the file has changed, or what came is something else: look at it before changing the digest"
            }
            Trouble::Offline => "leave --offline out, or run it once where there is a network",
            _ => "",
        };
        let asks_for_proxy = matches!(
            self.trouble,
            Trouble::Name(_)
                | Trouble::Connect(_)
                | Trouble::Slow
                | Trouble::Tls(_)
                | Trouble::Proxy(_)
                | Trouble::Status(407)
        );
        if !asks_for_proxy {
            return hint.to_owned();
        }
        match proxy::seen() {
            seen if seen.is_empty() => format!("{hint}; no proxy is set (http_proxy, https_proxy)"),
            seen => format!("{hint}; proxies as set: {}", seen.join(", ")),
        }
    }

    /// Whether trying again may help.
    pub fn is_passing(&self) -> bool {
        match &self.trouble {
            Trouble::Cut(_) | Trouble::Slow | Trouble::Connect(_) => true,
            // A name server that is overloaded says so; a name that is not known stays unknown.
            Trouble::Name(text) => text.contains("Temporary failure") || text.contains("try again"),
            Trouble::Status(status) => matches!(status, 429 | 408 | 500 | 502..),
            _ => false,
        }
    }

    /// Whether there is no way to the server at all.
    pub fn is_unreachable(&self) -> bool {
        matches!(self.trouble, Trouble::Name(_) | Trouble::Connect(_) | Trouble::Slow | Trouble::Proxy(_))
    }

    /// Whether a disk or a quota is full.
    pub fn is_full(&self) -> bool {
        match &self.trouble {
            Trouble::Room { .. } => true,
            Trouble::File(error) => error.is_full(),
            _ => false,
        }
    }
}

/// An error with all its causes; libraries tell the interesting part last. Their addresses are left out: who tells the
/// error knows the address, and how to show it.
pub fn chain(error: &(dyn std::error::Error + 'static)) -> String {
    let said = |error: &(dyn std::error::Error + 'static)| {
        let text = error.to_string();
        let url = error.downcast_ref::<reqwest::Error>().and_then(reqwest::Error::url);
        url.map_or_else(|| text.clone(), |url| text.replace(&format!(" for url ({url})"), ""))
    };
    let mut text = said(error);
    let mut next = error.source();
    while let Some(cause) = next {
        let more = said(cause);
        if !text.contains(&more) {
            text = format!("{text}: {more}");
        }
        next = cause.source();
    }
    text
}

/// An address without what is secret in it: user, password, query, fragment, and the token in `/t/TOKEN/…`.
pub fn redacted(url: &str) -> String {
    match url::Url::parse(url) {
        Ok(mut parsed) => {
            let _ = parsed.set_username("");
            let _ = parsed.set_password(None);
            parsed.set_query(None);
            parsed.set_fragment(None);
            let path = without_token(parsed.path());
            parsed.set_path(&path);
            parsed.to_string()
        }
        Err(_) => {
            let bare = without_token(url.split(['?', '#']).next().unwrap_or_default());
            match bare.split_once("://") {
                Some((scheme, rest)) => format!("{scheme}://{}", rest.rsplit('@').next().unwrap_or_default()),
                None => bare,
            }
        }
    }
}

/// Servers of channels know their users by a part of the path.
fn without_token(path: &str) -> String {
    match path.split_once("/t/") {
        Some((before, after)) => match after.split_once('/') {
            Some((_, rest)) => format!("{before}/t/***/{rest}"),
            None => path.to_owned(),
        },
        None => path.to_owned(),
    }
}

/// A line of another program without what is secret in the addresses in it.
pub fn redacted_text(line: &str) -> String {
    let word = |word: &str| {
        let bare = word.trim_matches(['\'', '"', ':', ',', '(', ')']);
        if bare.contains("://") { word.replace(bare, &redacted(bare)) } else { word.to_owned() }
    };
    line.split(' ').map(word).collect::<Vec<_>>().join(" ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_secret_is_shown() {
        assert_eq!(redacted("https://u:geheim@host/a?token=geheim#geheim"), "https://host/a");
        assert_eq!(redacted("https://host/t/geheim/c/linux-64/a.conda"), "https://host/t/***/c/linux-64/a.conda");
        assert_eq!(redacted("https://host/c/t/a.conda"), "https://host/c/t/a.conda");
        assert_eq!(redacted_text("error for url (http://h/x?token=geheim)"), "error for url (http://h/x)");
        assert!(!NetError::new("https://u:geheim@h/x", Trouble::Slow).to_string().contains("geheim"));
    }
    #[test]
    fn what_the_client_says_of_an_address_is_left_out() {
        let url = "http://127.0.0.1:1/x?token=geheim";
        let error = crate::net::block_on(async { crate::net::http().unwrap().get(url).send().await });
        let error = error.unwrap().unwrap_err();
        let told = NetError::of(url, &error).to_string();
        assert!(told.starts_with("http://127.0.0.1:1/x: no connection: ") && !told.contains("geheim"), "{told}");
    }
}
