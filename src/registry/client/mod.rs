//! A client of one registry (OCI distribution specification 1.1): authentication, redirects that do not carry credentials
//! elsewhere, and patience with passing trouble. `manifests`, `blobs` and `uploads` are what can be asked.

mod blobs;
mod challenge;
mod manifests;
mod uploads;

use std::collections::BTreeMap;
use std::future::Future;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use reqwest::header::{AUTHORIZATION, HeaderValue, LOCATION, RETRY_AFTER};
use reqwest::{Method, Response};
use url::Url;

pub use blobs::Partial;
pub use uploads::{Content, Put};

use super::{Options, RegistryError, Result};
use crate::net::{self, NetError, Trouble, Watch, redacted};

/// The first pause after one; each further one is twice as long.
const PAUSE: Duration = Duration::from_millis(400);
/// Longest pause, also when the registry asks for more.
const LONGEST_PAUSE: Duration = Duration::from_secs(60);
/// Most redirects.
const HOPS: u32 = 5;
/// How much is read of an answer that is an error.
const SAID: usize = 16 << 10;
/// How often is looked whether to stop.
const LOOK: Duration = Duration::from_millis(100);

/// A client of one registry.
pub struct Client {
    registry: String,
    base: Url,
    options: Options,
    /// For what is answered soon.
    quick: reqwest::Client,
    /// For bodies that take as long as they take.
    slow: reqwest::Client,
    /// Headers that answered challenges before, by scope, and whether credentials are in them.
    known: Mutex<BTreeMap<String, (HeaderValue, bool)>>,
}

/// What a request needs to be allowed.
#[derive(Debug, Clone)]
pub(super) struct Scope {
    /// Repositories with what is done in them, the one of the request first.
    parts: Vec<(String, &'static str)>,
}

impl Scope {
    /// Reading a repository.
    pub fn pull(repository: &str) -> Scope {
        Scope { parts: vec![(repository.to_owned(), "pull")] }
    }

    /// Reading and writing one.
    pub fn push(repository: &str) -> Scope {
        Scope { parts: vec![(repository.to_owned(), "pull,push")] }
    }

    /// Nothing but being known.
    pub fn none() -> Scope {
        Scope { parts: Vec::new() }
    }

    /// And reading another.
    #[must_use]
    pub fn and_pull(mut self, repository: &str) -> Scope {
        self.parts.push((repository.to_owned(), "pull"));
        self
    }

    fn repository(&self) -> &str {
        self.parts.first().map_or("", |(repository, _)| repository)
    }

    fn words(&self) -> Vec<String> {
        self.parts.iter().map(|(repository, what)| format!("repository:{repository}:{what}")).collect()
    }

    fn key(&self) -> String {
        self.words().join(" ")
    }
}

/// A request that can be made again.
pub(super) struct Ask<'a> {
    method: Method,
    url: Url,
    headers: Vec<(&'static str, String)>,
    body: Vec<u8>,
    scope: &'a Scope,
    /// What it is, as in "give blob sha256:…", for messages.
    what: String,
}

impl<'a> Ask<'a> {
    fn new(method: Method, url: Url, scope: &'a Scope, what: impl Into<String>) -> Ask<'a> {
        Ask { method, url, headers: Vec::new(), body: Vec::new(), scope, what: what.into() }
    }

    fn header(mut self, name: &'static str, value: impl Into<String>) -> Ask<'a> {
        self.headers.push((name, value.into()));
        self
    }
}

impl Client {
    /// A client for `host[:port]`.
    ///
    /// # Errors
    /// When the network is not to be used, or there can be no client.
    pub fn new(registry: &str, options: &Options) -> Result<Client> {
        if options.offline {
            return Err(RegistryError::Offline { what: format!("what {registry} has") });
        }
        let scheme = if options.is_plain(registry) { "http" } else { "https" };
        let host = if registry == "docker.io" { "registry-1.docker.io" } else { registry };
        let text = format!("{scheme}://{host}/");
        let base = Url::parse(&text).map_err(|error| NetError::new(&text, Trouble::Address(error.to_string())))?;
        let make = |builder: reqwest::ClientBuilder| {
            let made = builder.redirect(reqwest::redirect::Policy::none()).build();
            made.map_err(|error| NetError::of(&text, &error.without_url()))
        };
        Ok(Client {
            registry: registry.to_owned(),
            quick: make(net::builder())?,
            // It would count while a body is sent, too; whoever sends looks himself whether it goes on.
            slow: make(net::builder().read_timeout(Duration::from_secs(24 * 3600)))?,
            base,
            options: options.clone(),
            known: Mutex::default(),
        })
    }

    /// The registry's name.
    pub fn registry(&self) -> &str {
        &self.registry
    }

    /// Whether the registry is one, and takes the credentials that it is given.
    ///
    /// # Errors
    /// When it does not.
    pub fn ping(&self, watch: &dyn Watch) -> Result<()> {
        let scope = Scope::none();
        let ask = Ask::new(Method::GET, self.url("")?, &scope, "say that it is a registry");
        waited(watch, async {
            let response = self.call(&ask).await?;
            match response.status().as_u16() {
                200..=299 => Ok(()),
                _ => Err(answer(&self.registry, response, &ask.what).await),
            }
        })
    }

    /// An address below `/v2/`.
    fn url(&self, path: &str) -> Result<Url> {
        let path = format!("v2/{path}");
        let joined = self.base.join(&path);
        Ok(joined.map_err(|error| NetError::new(&path, Trouble::Address(error.to_string())))?)
    }

    fn is_own(&self, url: &Url) -> bool {
        url.origin() == self.base.origin()
    }

    fn known(&self, scope: &Scope) -> Option<(HeaderValue, bool)> {
        self.known.lock().unwrap_or_else(PoisonError::into_inner).get(&scope.key()).cloned()
    }

    /// Answers the challenge of a response, for all requests of this scope to come.
    async fn authenticate(&self, response: &Response, scope: &Scope) -> Result<()> {
        let met = self.meet(challenge::of(response.headers()), scope).await?;
        self.known.lock().unwrap_or_else(PoisonError::into_inner).insert(scope.key(), met);
        Ok(())
    }

    /// Makes a request, again when that may help. What comes back is no redirect and no passing trouble, but may well be
    /// an error that means something.
    async fn call(&self, ask: &Ask<'_>) -> Result<Response> {
        let mut pause = PAUSE;
        let mut tries = 0;
        loop {
            tries += 1;
            let (error, wished) = match self.attempt(ask).await {
                Ok(response) if is_passing(response.status().as_u16()) && tries < tries_allowed() => {
                    let wished = retry_after(&response);
                    (answer(&self.registry, response, &ask.what).await, wished)
                }
                Ok(response) => return Ok(response),
                Err(error) => (error, None),
            };
            if tries >= tries_allowed() || !error.is_passing() || refused(&error) && tries > 1 {
                return Err(error);
            }
            tokio::time::sleep(wished.unwrap_or(pause).min(LONGEST_PAUSE)).await;
            pause = (pause * 2).min(LONGEST_PAUSE);
        }
    }

    async fn attempt(&self, ask: &Ask<'_>) -> Result<Response> {
        let mut url = ask.url.clone();
        let (mut hops, mut asked) = (0, false);
        loop {
            let mut request = self.quick.request(ask.method.clone(), url.clone()).body(ask.body.clone());
            for (name, value) in &ask.headers {
                request = request.header(*name, value);
            }
            // Credentials go to the registry itself and nowhere else, wherever it sends us.
            let own = self.is_own(&url);
            if let Some((header, _)) = self.known(ask.scope).filter(|_| own) {
                request = request.header(AUTHORIZATION, header);
            }
            let response = request.send().await.map_err(|error| net(&url, error))?;
            match response.status().as_u16() {
                401 if own && !asked => {
                    asked = true;
                    self.authenticate(&response, ask.scope).await?;
                }
                401 => return Err(self.unauthorized(ask.scope)),
                301 | 302 | 303 | 307 | 308 if matches!(ask.method, Method::GET | Method::HEAD) => {
                    hops += 1;
                    if hops > HOPS {
                        return Err(RegistryError::odd(
                            &self.registry,
                            format!("it sends us on more than {HOPS} times"),
                        ));
                    }
                    url = self.location(&url, &response)?;
                }
                _ => return Ok(response),
            }
        }
    }

    fn unauthorized(&self, scope: &Scope) -> RegistryError {
        let had = self.known(scope).is_some_and(|(_, had)| had);
        RegistryError::Unauthorized { registry: self.registry.clone(), had }
    }

    /// Where a response sends us.
    fn location(&self, from: &Url, response: &Response) -> Result<Url> {
        let odd = |why: &str| RegistryError::odd(&self.registry, why);
        let text = response.headers().get(LOCATION).and_then(|value| value.to_str().ok());
        let text = text.ok_or_else(|| odd("it sends us on without saying where"))?;
        let mut url = from.join(text).map_err(|_| odd("it sends us on to what is no address"))?;
        let _ = url.set_username("").and_then(|()| url.set_password(None));
        let host = url.host_str().unwrap_or_default();
        let port = url.port().map(|port| format!(":{port}")).unwrap_or_default();
        match url.scheme() {
            "https" => Ok(url),
            // Who is spoken to openly may send us on openly.
            "http" if self.base.scheme() == "http" || self.options.is_plain(&format!("{host}{port}")) => Ok(url),
            scheme => Err(RegistryError::Downgrade {
                registry: self.registry.clone(),
                to: format!("{scheme}://{host}{port}"),
            }),
        }
    }
}

/// How often a passing trouble is met before it is told.
fn tries_allowed() -> u32 {
    net::patience().tries.max(1)
}

/// Waits for something asynchronous, until the user wants to stop.
pub(super) fn waited<T>(watch: &dyn Watch, future: impl Future<Output = Result<T>>) -> Result<T> {
    net::block_on(async {
        let stop = async {
            while !watch.cancelled() {
                tokio::time::sleep(LOOK).await;
            }
        };
        tokio::select! {
            result = future => result,
            () = stop => Err(RegistryError::Interrupted),
        }
    })?
}

/// The network's error about an address, without what may be secret in it.
pub(super) fn net(url: &Url, error: reqwest::Error) -> RegistryError {
    NetError::of(url.as_str(), &error.without_url()).into()
}

fn is_passing(status: u16) -> bool {
    matches!(status, 408 | 429 | 500 | 502 | 503 | 504)
}

/// Nobody listens: trying six times would only be slow.
fn refused(error: &RegistryError) -> bool {
    matches!(error, RegistryError::Net(NetError { trouble: Trouble::Connect(_), .. }))
}

fn retry_after(response: &Response) -> Option<Duration> {
    let text = response.headers().get(RETRY_AFTER)?.to_str().ok()?;
    text.trim().parse().ok().map(Duration::from_secs)
}

/// The error for an answer that is none, with what the registry says about it.
pub(super) async fn answer(registry: &str, mut response: Response, what: &str) -> RegistryError {
    let status = response.status().as_u16();
    let mut bytes = Vec::new();
    while let Ok(Some(piece)) = response.chunk().await {
        bytes.extend_from_slice(&piece);
        if bytes.len() > SAID {
            break;
        }
    }
    let (registry, what, said) = (registry.to_owned(), what.to_owned(), said(&bytes));
    match status {
        401 => RegistryError::Unauthorized { registry, had: true },
        403 => RegistryError::Forbidden { registry, what, said },
        404 => RegistryError::Missing { what: what.trim_start_matches("give ").to_owned() },
        _ => RegistryError::Answer { registry, status, what, said },
    }
}

/// What an error of the specification's form says, fit for one line.
fn said(bytes: &[u8]) -> String {
    let value: serde_json::Value = serde_json::from_slice(bytes).unwrap_or_default();
    let errors = value["errors"].as_array().map_or(&[][..], Vec::as_slice);
    let one = |error: &serde_json::Value| {
        let text = |key: &str| error[key].as_str().unwrap_or_default().to_owned();
        [text("code"), text("message")].into_iter().filter(|text| !text.is_empty()).collect::<Vec<_>>().join(" ")
    };
    let all = errors.iter().map(one).filter(|text| !text.is_empty()).take(3).collect::<Vec<_>>().join("; ");
    let clean: String = all.chars().map(|c| if c.is_control() { ' ' } else { c }).take(300).collect();
    if clean.is_empty() { clean } else { format!(": {clean}") }
}

/// All of an answer, at most `most` bytes.
pub(super) async fn limited(mut response: Response, most: u64, url: &Url) -> Result<Vec<u8>> {
    let mut bytes = Vec::new();
    while let Some(piece) = response.chunk().await.map_err(|error| net(url, error))? {
        if (bytes.len() as u64).saturating_add(piece.len() as u64) > most {
            return Err(NetError { url: redacted(url.as_str()), trouble: Trouble::TooLarge(most) }.into());
        }
        bytes.extend_from_slice(&piece);
    }
    Ok(bytes)
}

#[cfg(test)]
mod tests {
    use super::said;

    #[test]
    fn what_a_registry_says_stays_on_its_line() {
        let text = r#"{"errors":[{"code":"DENIED","message":"no\u001b[2J\nway"},{"code":"X"},{}]}"#;
        assert_eq!(said(text.as_bytes()), ": DENIED no [2J way; X");
        assert_eq!(said(b"<html>"), "");
    }
}
