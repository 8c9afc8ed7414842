//! Credential helpers: programs `docker-credential-NAME` that are told what is wanted on their standard input (docker's
//! credential helper protocol). What they say is never shown.

use std::time::Duration;

use serde_json::{Value, json};

use super::super::{RegistryError, Result};
use super::{Credentials, Secret};
use crate::model::cmd::Cmd;
use crate::sys::process::{self, Output};

/// How long one may think: some ask a server.
const PATIENCE: Duration = Duration::from_secs(60);

fn bad(name: &str, why: impl Into<String>) -> RegistryError {
    RegistryError::Credentials { what: format!("docker-credential-{}", name.escape_debug()), why: why.into() }
}

/// How docker's own registry is called by helpers.
fn server(registry: &str) -> &str {
    if registry == "docker.io" { "https://index.docker.io/v1/" } else { registry }
}

fn run(name: &str, verb: &str, stdin: Vec<u8>) -> Result<Output> {
    if name.is_empty() || !name.chars().all(|c| c.is_ascii_alphanumeric() || "._-".contains(c)) {
        return Err(bad(name, "this is no name for a helper"));
    }
    let program = format!("docker-credential-{name}");
    let found = process::find(&program).ok_or_else(|| bad(name, "the helper is not on PATH"))?;
    let cmd = Cmd { stdin: Some(stdin), ..Cmd::new(found).arg(verb) };
    process::capture(&cmd, PATIENCE).map_err(|error| bad(name, format!("it cannot be run: {error}")))
}

/// Whether a helper says that it has nothing, which it does by failing.
fn has_nothing(output: &Output) -> bool {
    let said = String::from_utf8_lossy(&output.stdout).to_ascii_lowercase();
    said.contains("credentials not found") || said.contains("no credentials")
}

/// Asks for a registry's credentials.
pub fn get(name: &str, registry: &str) -> Result<Option<Credentials>> {
    let output = run(name, "get", server(registry).as_bytes().to_vec())?;
    if !output.ended.ok() {
        return if has_nothing(&output) { Ok(None) } else { Err(bad(name, format!("it fails ({})", output.ended))) };
    }
    let value: Value = serde_json::from_slice(&output.stdout).map_err(|_| bad(name, "its answer is no JSON"))?;
    let text = |key: &str| value[key].as_str().unwrap_or_default();
    match (text("Username"), text("Secret")) {
        (_, "") => Ok(None),
        ("<token>", secret) => Ok(Some(Credentials::Identity(Secret::new(secret)))),
        (user, secret) => Ok(Some(Credentials::User { user: user.to_owned(), password: Secret::new(secret) })),
    }
}

/// Has it keep a registry's credentials.
pub fn store(name: &str, registry: &str, user: &str, password: &Secret) -> Result<()> {
    let text = json!({ "ServerURL": server(registry), "Username": user, "Secret": password.reveal() }).to_string();
    let output = run(name, "store", text.into_bytes())?;
    if output.ended.ok() {
        Ok(())
    } else {
        Err(bad(name, format!("it does not take the credentials ({})", output.ended)))
    }
}

/// Has it forget them.
pub fn erase(name: &str, registry: &str) -> Result<()> {
    let output = run(name, "erase", server(registry).as_bytes().to_vec())?;
    let done = output.ended.ok() || has_nothing(&output);
    if done { Ok(()) } else { Err(bad(name, format!("it does not forget the credentials ({})", output.ended))) }
}
