//! Checking an image, and repairing it.

use std::path::Path;

use super::{Hold, failed, run};
use crate::runtime::error::Result;
use crate::sys::lend;

/// What to do about errors.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum How {
    /// Tell only.
    Look,
    /// Repair what can be repaired without a decision.
    Safely,
    /// Repair everything, by e2fsck's own choice.
    Yes,
}

/// How a check went.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Outcome {
    /// No errors.
    Clean,
    /// There were errors, which are gone.
    Repaired(String),
    /// There are errors.
    Broken(String),
}

/// Checks a held image, all of it even if it looks clean. Codes: e2fsck(8).
///
/// # Errors
/// When e2fsck could not do its work.
pub fn check(path: &Path, held: &Hold, how: How) -> Result<Outcome> {
    let flags = match how {
        How::Look => "-fn",
        How::Safely => "-fp",
        How::Yes => "-fy",
    };
    let (code, text) = run("e2fsck", &[flags.as_ref()], path, held, &[])?;
    let words = lend::words(text.as_bytes());
    match code {
        0 => Ok(Outcome::Clean),
        1..=3 => Ok(Outcome::Repaired(words)),
        4..=7 => Ok(Outcome::Broken(words)),
        _ => Err(failed("e2fsck", path, &text)),
    }
}
