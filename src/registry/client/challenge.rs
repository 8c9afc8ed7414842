//! Challenges: what a registry says when it wants to know who asks (RFC 9110, section 11; the distribution project's
//! "Token Authentication Specification"), and the header that answers one.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use reqwest::header::{AUTHORIZATION, CONTENT_TYPE, HeaderMap, HeaderValue, WWW_AUTHENTICATE};
use url::Url;
use url::form_urlencoded::Serializer;

use super::super::auth::Credentials;
use super::super::options::{bare, is_loopback};
use super::super::{RegistryError, Result};
use super::{Client, Scope, answer, net};

/// Longest answer with a token.
const LONGEST: u64 = 1 << 20;

/// What is asked for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Challenge {
    /// A user and a password with each request.
    Basic,
    /// A token from somebody.
    Bearer {
        /// Who gives it.
        realm: String,
        /// For whom.
        service: Option<String>,
        /// For what, as the registry sees it.
        scope: Option<String>,
    },
}

/// The challenge in the headers of an answer; of several the one for tokens.
pub fn of(headers: &HeaderMap) -> Option<Challenge> {
    let values = headers.get_all(WWW_AUTHENTICATE).iter().filter_map(|value| value.to_str().ok());
    let all: Vec<Challenge> = values.flat_map(parse).collect();
    let bearer = all.iter().find(|challenge| matches!(challenge, Challenge::Bearer { .. })).cloned();
    bearer.or_else(|| all.into_iter().next())
}

/// Reads one header, which may hold several challenges.
fn parse(text: &str) -> Vec<Challenge> {
    let mut found = Vec::new();
    let mut current: Option<(String, Vec<(String, String)>)> = None;
    let mut rest = text.trim_start();
    let mut finish = |one: Option<(String, Vec<(String, String)>)>| {
        let Some((scheme, params)) = one else { return };
        let get = |key: &str| params.iter().find(|(name, _)| name == key).map(|(_, value)| value.clone());
        match scheme.as_str() {
            "basic" => found.push(Challenge::Basic),
            "bearer" => {
                if let Some(realm) = get("realm") {
                    found.push(Challenge::Bearer { realm, service: get("service"), scope: get("scope") });
                }
            }
            _ => {}
        }
    };
    while !rest.is_empty() {
        let end = rest.find(|c: char| c.is_whitespace() || matches!(c, '=' | ',')).unwrap_or(rest.len());
        let (word, after) = rest.split_at(end);
        let after = after.trim_start();
        match after.strip_prefix('=') {
            Some(value) => {
                let (value, more) = value_of(value.trim_start());
                if let Some((_, params)) = &mut current {
                    params.push((word.to_ascii_lowercase(), value));
                }
                rest = more;
            }
            None if word.is_empty() => rest = after.get(1..).unwrap_or_default(),
            None => {
                finish(current.replace((word.to_ascii_lowercase(), Vec::new())));
                rest = after;
            }
        }
        rest = rest.trim_start_matches(|c: char| c == ',' || c.is_whitespace());
    }
    finish(current);
    found
}

/// A token or a quoted string, and what comes after it.
fn value_of(text: &str) -> (String, &str) {
    let Some(quoted) = text.strip_prefix('"') else {
        let end = text.find(|c: char| c == ',' || c.is_whitespace()).unwrap_or(text.len());
        let (value, rest) = text.split_at(end);
        return (value.to_owned(), rest);
    };
    let mut value = String::new();
    let mut chars = quoted.char_indices();
    while let Some((at, c)) = chars.next() {
        match c {
            '"' => return (value, quoted.get(at + 1..).unwrap_or_default()),
            '\\' => value.extend(chars.next().map(|(_, c)| c)),
            c => value.push(c),
        }
    }
    (value, "")
}

fn header(text: &str) -> Option<HeaderValue> {
    let mut value = HeaderValue::from_str(text).ok()?;
    value.set_sensitive(true);
    Some(value)
}

fn basic(user: &str, password: &str) -> Option<HeaderValue> {
    header(&format!("Basic {}", STANDARD.encode(format!("{user}:{password}"))))
}

impl Client {
    /// The header that answers a challenge, and whether the user's credentials are in it.
    pub(super) async fn meet(&self, challenge: Option<Challenge>, scope: &Scope) -> Result<(HeaderValue, bool)> {
        let registry = self.registry.clone();
        let credentials = self.options.keys.find(&registry, scope.repository())?;
        let refused = |had| RegistryError::Unauthorized { registry: registry.clone(), had };
        match (challenge, credentials) {
            (_, Some(Credentials::Bearer(token))) => {
                Ok((header(&format!("Bearer {}", token.reveal())).ok_or_else(|| refused(true))?, true))
            }
            (Some(Challenge::Basic), Some(Credentials::User { user, password })) => {
                Ok((basic(&user, password.reveal()).ok_or_else(|| refused(true))?, true))
            }
            (Some(Challenge::Bearer { realm, service, scope: wanted }), credentials) => {
                let had = credentials.is_some();
                let token = self.token(&realm, service.as_deref(), wanted.as_deref(), scope, credentials).await?;
                Ok((header(&format!("Bearer {token}")).ok_or_else(|| refused(had))?, had))
            }
            (_, credentials) => Err(refused(credentials.is_some())),
        }
    }

    /// Gets a token for a scope.
    async fn token(
        &self,
        realm: &str,
        service: Option<&str>,
        wanted: Option<&str>,
        scope: &Scope,
        credentials: Option<Credentials>,
    ) -> Result<String> {
        let odd = |why: &str| RegistryError::odd(&self.registry, why);
        let mut url = Url::parse(realm).map_err(|_| odd("its challenge names no address for tokens"))?;
        let host = url.host_str().unwrap_or_default().to_owned();
        let port = url.port().map(|port| format!(":{port}")).unwrap_or_default();
        // Openly only to whom the user speaks so; another's loopback is not meant when it is named from afar.
        let may_be_open = match is_loopback(&host) {
            true => is_loopback(bare(&self.registry)),
            false => self.options.is_plain(&format!("{host}{port}")),
        };
        if url.scheme() != "https" && !(url.scheme() == "http" && may_be_open) {
            let to = format!("{}://{host}{port}", url.scheme());
            return Err(RegistryError::Downgrade { registry: self.registry.clone(), to });
        }
        let mut scopes = scope.words();
        if scopes.is_empty() {
            scopes.extend(wanted.map(str::to_owned));
        }
        let had = credentials.is_some();
        let request = match credentials {
            Some(Credentials::Identity(token)) => {
                let mut form = Serializer::new(String::new());
                form.append_pair("grant_type", "refresh_token").append_pair("client_id", "ovl");
                form.append_pair("service", service.unwrap_or_default());
                form.append_pair("scope", &scopes.join(" ")).append_pair("refresh_token", token.reveal());
                let request = self.quick.post(url.clone()).header(CONTENT_TYPE, "application/x-www-form-urlencoded");
                request.body(form.finish())
            }
            other => {
                {
                    let mut query = url.query_pairs_mut();
                    query.extend_pairs(service.map(|service| ("service", service)));
                    query.extend_pairs(scopes.iter().map(|scope| ("scope", scope)));
                }
                let request = self.quick.get(url.clone());
                match other {
                    Some(Credentials::User { user, password }) => match basic(&user, password.reveal()) {
                        Some(value) => request.header(AUTHORIZATION, value),
                        None => request,
                    },
                    _ => request,
                }
            }
        };
        let response = request.send().await.map_err(|error| net(&url, error))?;
        match response.status().as_u16() {
            200..=299 => {}
            400 | 401 | 403 => return Err(RegistryError::Unauthorized { registry: self.registry.clone(), had }),
            _ => return Err(answer(&self.registry, response, &format!("give a token ({host})")).await),
        }
        let bytes = super::limited(response, LONGEST, &url).await?;
        let value: serde_json::Value =
            serde_json::from_slice(&bytes).map_err(|_| odd("its token server answers no JSON"))?;
        let token = value["token"].as_str().or(value["access_token"].as_str()).filter(|token| !token.is_empty());
        token.map(str::to_owned).ok_or_else(|| odd("its token server gives no token"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn challenges_are_told_apart() {
        let text = r#"Bearer realm="https://a.org/token",service="reg, \"x\"",scope="repository:a:pull,push""#;
        let bearer = Challenge::Bearer {
            realm: "https://a.org/token".into(),
            service: Some("reg, \"x\"".into()),
            scope: Some("repository:a:pull,push".into()),
        };
        assert_eq!(parse(text), std::slice::from_ref(&bearer));
        assert_eq!(parse(&format!("Basic realm=\"x\", {text}")), [Challenge::Basic, bearer]);
        assert_eq!(parse("basic"), [Challenge::Basic]);
        assert_eq!(parse("Negotiate, Basic realm=x"), [Challenge::Basic]);
        for text in ["", ",,,", "=", "Bearer", "Bearer realm", "Digest realm=\"x\"", "Bearer realm=\"", "\"=\""] {
            assert!(
                parse(text).iter().all(|found| matches!(found, Challenge::Bearer { realm, .. } if realm.is_empty())),
                "{text}"
            );
        }
    }

    proptest! {
        #[test]
        fn any_header_is_read(text in "(\\PC|[\",=\\\\ ]){0,80}") {
            parse(&text);
        }
    }
}
