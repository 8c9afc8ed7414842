//! The commands about registries, one file each, and what they share.

mod convert;
pub mod login;
pub mod pull;
pub mod push;
pub mod tag;

use serde_json::Value;

use super::args::Speaking;
use super::failure::Failure;
use super::{Context, Flag};
use crate::image::squashfs::write;
use crate::net;
use crate::registry::{Options, Reference, check_host, discreet};
use crate::sys::signal;
use crate::ui::Meter;

/// Flags that stand for configuration keys.
pub fn flags(speaking: &Speaking, registry: Option<&String>) -> Vec<Flag> {
    let progress = speaking.progress.clone().map(|how| ("ui.progress", "--progress", how));
    let registry = registry.cloned().map(|url| ("registry.default", "--registry", url));
    progress.into_iter().chain(registry).collect()
}

/// How to speak to registries.
fn options(speaking: &Speaking, context: &Context) -> Options {
    Options { plain_http: speaking.plain_http, ..Options::new(&context.config) }
}

/// The registry of references that name none, as `host[/namespace]`.
fn base(options: &Options, context: &Context) -> Result<Option<String>, Failure> {
    let Some(url) = context.config.registry() else { return Ok(None) };
    without_scheme(&url, options).map(Some)
}

/// What is spoken to follows from the registry, and `http:` alone does not make it open.
fn without_scheme(url: &str, options: &Options) -> Result<String, Failure> {
    let plain = url.strip_prefix("http://");
    let schemes = ["https://", "oras://", "oci://", "docker://"];
    let rest = plain.or_else(|| schemes.iter().find_map(|scheme| url.strip_prefix(scheme))).unwrap_or(url);
    let rest = rest.trim_end_matches('/');
    let odd = |why: String| {
        Failure::usage(format!("registry: {why}"))
            .hint("write it as in registry.example.org/group, without user and password")
    };
    if rest.contains('@') {
        return Err(odd(format!("there is a user in '{}'", discreet(rest).escape_debug())));
    }
    let host = check_host(rest.split('/').next().unwrap_or_default()).map_err(odd)?;
    if plain.is_some() && !options.is_plain(&host) {
        let failure = Failure::usage(format!("{host} would be spoken to without encryption"));
        return Err(failure.hint("allow that with --plain-http, or for good with registry.insecure in config.yaml"));
    }
    Ok(rest.to_owned())
}

/// A reference as typed.
fn reference(text: &str, base: Option<&str>) -> Result<Reference, Failure> {
    Ok(Reference::parse(text, base).map_err(crate::registry::RegistryError::from)?)
}

fn print(value: &Value, context: &Context) {
    context.ui.out(&serde_json::to_string_pretty(value).unwrap_or_default());
}

/// Tells a meter, and stops at an interrupt.
struct Watching<'a>(&'a Meter);

impl net::Watch for Watching<'_> {
    fn progress(&self, done: u64, total: Option<u64>) {
        self.0.tell(done, total);
    }

    fn cancelled(&self) -> bool {
        signal::interrupted().is_some()
    }
}

impl write::Watch for Watching<'_> {
    fn progress(&self, done: u64, total: Option<u64>) {
        self.0.tell(done, total);
    }

    fn cancelled(&self) -> bool {
        signal::interrupted().is_some()
    }
}
