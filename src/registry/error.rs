//! What goes wrong with registries, each with its own sentence and its own hint; nothing secret is in any of them.

use super::reference::{BadReference, Digest};
use crate::image::ImageError;
use crate::net::{NetError, Trouble};
use crate::store::layers::LayerError;
use crate::store::overlays::OverlayError;
use crate::sys::fs::PathError;

/// Something with a registry that did not come to pass.
#[derive(Debug, thiserror::Error)]
pub enum RegistryError {
    /// What was typed is no reference.
    #[error(transparent)]
    Reference(#[from] BadReference),
    /// The network, or the server as such.
    #[error(transparent)]
    Net(#[from] NetError),
    /// The registry wants credentials, or other ones.
    #[error("{registry} {}", if *.had { "does not take the credentials it was given" } else { "asks for credentials, and there are none for it" })]
    Unauthorized {
        /// The registry.
        registry: String,
        /// Credentials were given.
        had: bool,
    },
    /// The registry knows who we are and does not allow it.
    #[error("{registry} does not allow to {what}{said}")]
    Forbidden {
        /// The registry.
        registry: String,
        /// What was tried, as in "write to group/x".
        what: String,
        /// What it says, with ": " before it; may be empty.
        said: String,
    },
    /// It is not there.
    #[error("{what} is not in the registry")]
    Missing {
        /// What was wanted.
        what: String,
    },
    /// Another answer than what was asked for.
    #[error("{registry} answers {status} when asked to {what}{said}")]
    Answer {
        /// The registry.
        registry: String,
        /// The status.
        status: u16,
        /// What was tried.
        what: String,
        /// What it says, with ": " before it; may be empty.
        said: String,
    },
    /// Credentials would have gone over an open line.
    #[error("{registry} sends us on to {to}, which is not encrypted")]
    Downgrade {
        /// The registry.
        registry: String,
        /// Where to.
        to: String,
    },
    /// The bytes are not those that were asked for.
    #[error("{what}: the registry's content is {found}, not {wanted}; it is not used")]
    Digest {
        /// What was fetched.
        what: String,
        /// The digest it was asked for by.
        wanted: Digest,
        /// That of what came.
        found: String,
    },
    /// What the registry has makes no sense.
    #[error("{what}: {why}")]
    Odd {
        /// The reference, or a part of it.
        what: String,
        /// What is wrong.
        why: String,
    },
    /// What the registry has is of no use here.
    #[error("{what}: {why}")]
    Unfit {
        /// The reference, or the file.
        what: String,
        /// What is wrong.
        why: String,
        /// What to do.
        hint: String,
    },
    /// It is not in the cache, and the network is not to be used.
    #[error("{what} is not in the cache, and the network is not to be used")]
    Offline {
        /// What was wanted.
        what: String,
    },
    /// A file of credentials, or a helper, that cannot be used.
    #[error("{what}: {why}")]
    Credentials {
        /// The file or the helper.
        what: String,
        /// What is wrong.
        why: String,
    },
    /// Somebody else builds or pulls it.
    #[error("{what} is being made by {by}")]
    Busy {
        /// The overlay.
        what: String,
        /// Who.
        by: String,
    },
    /// The user has interrupted.
    #[error("interrupted; what was transferred is kept, and the same command goes on from there")]
    Interrupted,
    /// The file system refused.
    #[error(transparent)]
    Io(#[from] PathError),
    /// No layer can be written to.
    #[error(transparent)]
    Layer(#[from] LayerError),
    /// An overlay that cannot be read.
    #[error(transparent)]
    Overlay(#[from] OverlayError),
    /// An image that cannot be read or written.
    #[error("{what}: {source}")]
    Image {
        /// Which.
        what: String,
        /// What is wrong.
        source: ImageError,
    },
}

impl RegistryError {
    /// For content that makes no sense.
    pub(super) fn odd(what: impl std::fmt::Display, why: impl Into<String>) -> RegistryError {
        RegistryError::Odd { what: what.to_string(), why: why.into() }
    }

    /// For `map_err` of what an image does.
    pub(super) fn image(what: impl std::fmt::Display) -> impl FnOnce(ImageError) -> RegistryError {
        let what = what.to_string();
        move |source| match source {
            ImageError::Interrupted => RegistryError::Interrupted,
            source => RegistryError::Image { what, source },
        }
    }

    /// What to do next, where that is known.
    pub fn hint(&self) -> Option<String> {
        let text = match self {
            RegistryError::Reference(_) => {
                "write host/repository:tag, as in registry.example.org/group/samtools:1.22".into()
            }
            RegistryError::Net(error) => return Some(error.hint().to_owned()).filter(|hint| !hint.is_empty()),
            RegistryError::Unauthorized { registry, .. } => format!("log in with: ovl login {registry}"),
            RegistryError::Forbidden { registry, .. } => {
                format!(
                    "look at the rights of the user that you are there, or log in as another: ovl login {registry} -u USER"
                )
            }
            RegistryError::Missing { .. } => {
                "look at how it is written; a registry also says so of what it hides".into()
            }
            RegistryError::Answer { status, .. } if *status == 429 || *status >= 500 => {
                "the registry has trouble of its own: try again later".into()
            }
            RegistryError::Downgrade { .. } => "the registry is set up wrongly; its administrators can help".into(),
            RegistryError::Digest { .. } => {
                "the registry's storage is damaged or was tampered with; nothing was kept of it".into()
            }
            RegistryError::Unfit { hint, .. } => return Some(hint.clone()).filter(|hint| !hint.is_empty()),
            RegistryError::Offline { .. } => "leave --offline out, or pull it once where there is a network".into(),
            RegistryError::Busy { .. } => "wait until that has ended, and try again".into(),
            _ => return None,
        };
        Some(text)
    }

    /// Whether trying again may help.
    pub(super) fn is_passing(&self) -> bool {
        match self {
            RegistryError::Net(error) => error.is_passing(),
            RegistryError::Answer { status, .. } => *status == 429 || *status == 408 || *status >= 500,
            _ => false,
        }
    }

    /// Whether a file system or a quota is full.
    pub fn is_full(&self) -> bool {
        match self {
            RegistryError::Io(error) => error.is_full(),
            RegistryError::Net(NetError { trouble: Trouble::File(error), .. }) => error.is_full(),
            RegistryError::Image { source: ImageError::Io { source, .. }, .. } => crate::sys::fs::is_full(source),
            _ => false,
        }
    }
}
