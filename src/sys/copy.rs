//! Copying whole files: a second reference to the same blocks where the file system can do that, bytes elsewhere.

#![allow(clippy::disallowed_methods)]

use std::path::Path;

use super::fs::PathError;

/// Copies a file, with its permission bits; what is at `to` is replaced. Copies in the kernel (copy_file_range(2)), which shares
/// blocks where the file system can.
pub fn file(from: &Path, to: &Path) -> Result<u64, PathError> {
    std::fs::copy(from, to).map_err(PathError::new("copy to", to))
}
