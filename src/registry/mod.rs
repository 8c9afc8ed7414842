//! Registries (OCI distribution): overlays pushed and pulled as artifacts, container images pulled, prebuilt overlays
//! found. `reference` is how things are named, `client` speaks to a registry, `auth` knows the user's credentials,
//! `manifest` and `artifact` are what is kept there, `cache` what is kept here.

pub mod artifact;
pub mod auth;
mod cache;
pub mod client;
mod error;
pub mod image;
mod manifest;
mod options;
mod platform;
pub mod prebuilt;
pub mod pull;
pub mod push;
mod reference;
pub mod tag;

pub use cache::Cache;
pub use client::Client;
pub use error::RegistryError;
pub use manifest::{Descriptor, Document, Fetched, Index, Manifest};
pub use options::{Options, is_loopback};
pub use platform::Platform;
pub use reference::{BadReference, Digest, Reference, check_host, discreet, has_scheme, tag_of};

/// Result of whatever a registry is asked.
pub type Result<T, E = RegistryError> = std::result::Result<T, E>;
