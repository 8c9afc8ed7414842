//! What can be wrong with packages that are to be put together.

use crate::image::ImageError;

/// An environment that cannot be put together.
#[derive(Debug, thiserror::Error)]
pub enum LinkError {
    /// An archive that cannot be read, or says something impossible.
    #[error("the package {package}: {why}")]
    Package {
        /// Its file name.
        package: String,
        /// A sentence.
        why: String,
    },
    /// Packages that do not fit each other.
    #[error("{0}")]
    Together(String),
    /// Reading or writing.
    #[error(transparent)]
    Image(#[from] ImageError),
}

impl LinkError {
    /// An error about a package.
    pub fn of(package: &str, why: impl std::fmt::Display) -> LinkError {
        LinkError::Package { package: package.to_owned(), why: why.to_string() }
    }
}
