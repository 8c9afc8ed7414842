//! How registries are spoken to: what the configuration and the flags say.

use std::path::PathBuf;

use super::auth::Keys;
use super::reference::check_host;
use crate::config::Config;

/// How to speak to registries.
#[derive(Debug, Clone)]
pub struct Options {
    /// Where blobs are kept (`blobs/` and `images/` are made in it).
    pub cache: PathBuf,
    /// Hosts that may be spoken to without encryption, as `host` or `host:port`.
    pub insecure: Vec<String>,
    /// Any host may (`--plain-http`).
    pub plain_http: bool,
    /// Nothing but the cache is asked.
    pub offline: bool,
    /// The user's credentials.
    pub keys: Keys,
}

impl Options {
    /// As configured, with the credentials of this user.
    pub fn new(config: &Config) -> Options {
        Options {
            cache: config.cache_dir(),
            insecure: config.insecure_registries().to_vec(),
            plain_http: false,
            offline: config.offline(),
            keys: Keys::of_user(),
        }
    }

    /// Whether a registry is spoken to without encryption: on this machine, where nobody else can listen, and where the
    /// user says so.
    pub fn is_plain(&self, registry: &str) -> bool {
        let named = |host: &String| {
            let host = check_host(host).unwrap_or_default();
            host == registry || host == bare(registry)
        };
        self.plain_http || is_loopback(bare(registry)) || self.insecure.iter().any(named)
    }
}

/// A host without its port.
pub fn bare(registry: &str) -> &str {
    match registry.rsplit_once(':') {
        Some((host, port)) if port.bytes().all(|byte| byte.is_ascii_digit()) => host,
        _ => registry,
    }
}

/// Whether a host is this machine's loopback.
pub fn is_loopback(host: &str) -> bool {
    let address = host.trim_start_matches('[').trim_end_matches(']');
    host == "localhost" || address.parse::<std::net::IpAddr>().is_ok_and(|address| address.is_loopback())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn plain_http_is_for_the_loopback_and_for_who_is_named() {
        let mut options = Options {
            cache: "/tmp".into(),
            insecure: vec!["lab.example.org:5000".into(), "plain.example.org".into()],
            plain_http: false,
            offline: false,
            keys: Keys::default(),
        };
        for registry in ["localhost", "localhost:5000", "127.0.0.1:5000", "127.1.2.3", "[::1]:5000"] {
            assert!(options.is_plain(registry), "{registry}");
        }
        for registry in ["lab.example.org:5000", "plain.example.org", "plain.example.org:81"] {
            assert!(options.is_plain(registry), "{registry}");
        }
        for registry in ["lab.example.org", "example.org", "localhost.example.org", "127.0.0.1.example.org", "10.0.0.1"]
        {
            assert!(!options.is_plain(registry), "{registry}");
        }
        options.plain_http = true;
        assert!(options.is_plain("example.org"));
    }
}
