//! What can be wrong with an image or with reading and writing one.

use std::io;

/// An image that cannot be read or written.
#[derive(Debug, thiserror::Error)]
pub enum ImageError {
    /// The bytes are not what the format allows; the text says what and where.
    #[error("damaged image: {0}")]
    Corrupt(String),
    /// Well-formed, but uses something ovl does not read; the text says what.
    #[error("{0}")]
    Unsupported(String),
    /// The kernel refused; `what` names the object ("file usr/bin/x", "image /a/b.sqf").
    #[error("cannot {op} {what}: {source}")]
    Io {
        /// What was tried, as a verb that fits "cannot …".
        op: &'static str,
        /// On what.
        what: String,
        /// What the kernel said.
        source: io::Error,
    },
    /// The work was interrupted by the user or a time limit.
    #[error("interrupted")]
    Interrupted,
}

impl ImageError {
    /// For `map_err`: names the operation and the object.
    pub fn io(op: &'static str, what: impl Into<String>) -> impl FnOnce(io::Error) -> ImageError {
        let what = what.into();
        move |source| ImageError::Io { op, what, source }
    }

    /// A [`ImageError::Corrupt`] from anything printable.
    pub fn corrupt(text: impl Into<String>) -> ImageError {
        ImageError::Corrupt(text.into())
    }
}

/// Result of work on an image.
pub type Result<T, E = ImageError> = std::result::Result<T, E>;
