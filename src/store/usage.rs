//! Whether an overlay is in use, as a sentence that names who.

use std::path::Path;
use std::time::Duration;

use crate::sys::fs::PathError;
use crate::sys::lock::{self, Use};

/// The answer, for messages.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Usage {
    /// Nobody uses it.
    Free,
    /// These do.
    By(String),
    /// The file system has no locks.
    Unknown,
}

/// Looks; a file server of ovl's that is about to end, because its command just has, is given a moment to do so.
pub fn of(path: &Path) -> Result<Usage, PathError> {
    for patience in (0..6).rev() {
        match lock::probe(path)? {
            Use::Free => return Ok(Usage::Free),
            Use::Unknown => return Ok(Usage::Unknown),
            Use::Readers | Use::Writer => {}
        }
        let holders = lock::holders(path);
        let ending = holders.iter().all(|holder| holder.ends_with("(ovl)"));
        if !ending || patience == 0 {
            let who = if holders.is_empty() { "a process of another user or node".into() } else { holders.join(", ") };
            return Ok(Usage::By(who));
        }
        std::thread::sleep(Duration::from_millis(50));
    }
    Ok(Usage::Free)
}
