//! What the environment says about proxies: for telling whom a failed connection was meant for (rows P35, P36). The
//! client itself reads the same variables.

use crate::sys::env;

const NAMES: [&str; 8] =
    ["https_proxy", "HTTPS_PROXY", "http_proxy", "HTTP_PROXY", "all_proxy", "ALL_PROXY", "no_proxy", "NO_PROXY"];

/// The proxy variables that are set, as `name=value`, without user names and passwords.
pub fn seen() -> Vec<String> {
    let shown = |name: &&str| env::var(name).map(|value| format!("{name}={}", without_user(&value)));
    NAMES.iter().filter_map(shown).collect()
}

/// The proxy that a request for this address goes through, without user name and password.
pub fn of(url: &str) -> Option<String> {
    let parsed = url::Url::parse(url).ok()?;
    let any = |names: &[&str]| names.iter().find_map(|name| env::var(name));
    let host = parsed.host_str()?;
    if any(&["no_proxy", "NO_PROXY"]).is_some_and(|list| excepted(host, &list)) {
        return None;
    }
    let own = match parsed.scheme() {
        "https" => any(&["https_proxy", "HTTPS_PROXY"]),
        "http" => any(&["http_proxy", "HTTP_PROXY"]),
        _ => return None,
    };
    own.or_else(|| any(&["all_proxy", "ALL_PROXY"])).map(|proxy| without_user(&proxy))
}

/// Whether a list in the form of `no_proxy` names a host: `*`, the host itself, or a domain that it lies in.
fn excepted(host: &str, list: &str) -> bool {
    let host = host.trim_matches(['[', ']']);
    list.split(',').map(str::trim).filter(|entry| !entry.is_empty()).any(|entry| {
        let domain = entry.trim_start_matches('.');
        entry == "*"
            || host.eq_ignore_ascii_case(domain)
            || host.to_ascii_lowercase().ends_with(&format!(".{}", domain.to_ascii_lowercase()))
    })
}

fn without_user(value: &str) -> String {
    match (value.find("://"), value.rfind('@')) {
        (Some(scheme), Some(at)) if at > scheme => format!("{}{}", &value[..scheme + 3], &value[at + 1..]),
        (None, Some(at)) => value[at + 1..].to_owned(),
        _ => value.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn exceptions_are_hosts_and_domains() {
        for (host, list, is) in [
            ("a.example.org", "example.org", true),
            ("a.example.org", ".example.org, localhost", true),
            ("example.org", "EXAMPLE.org", true),
            ("notexample.org", "example.org", false),
            ("x", "*", true),
            ("x", "", false),
        ] {
            assert_eq!(excepted(host, list), is, "{host} in {list}");
        }
        assert_eq!(without_user("http://u:p@proxy:3128"), "http://proxy:3128");
        assert_eq!(without_user("u:p@proxy:3128"), "proxy:3128");
        assert_eq!(without_user("http://proxy:3128"), "http://proxy:3128");
    }
}
