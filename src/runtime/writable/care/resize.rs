//! Growing and shrinking an image where it lies. The file is made longer before, and cut after, its file system: whenever
//! this is interrupted, the file holds all of it.

use std::path::Path;

use super::check::{How, Outcome, check};
use super::{Hold, Tell, facts, failed, nobody_elses, run};
use crate::model::units::show_size;
use crate::runtime::error::{Result, RuntimeError};
use crate::sys::fs::PathError;

/// Figures of an image, in bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Sizes {
    /// What its file system takes now.
    pub now: u64,
    /// The least it can be shrunk to, as resize2fs estimates.
    pub least: u64,
}

/// The figures; the image is not changed, except for what a check repairs.
///
/// # Errors
/// When it is damaged.
pub fn sizes(path: &Path, held: &Hold, how: How) -> Result<Sizes> {
    nobody_elses(path, held)?;
    if let Outcome::Broken(words) = check(path, held, how)? {
        return Err(RuntimeError::Impossible(format!(
            "{} is damaged ({words}); repair it first with: ovl overlay check --yes {}",
            path.display(),
            path.display()
        )));
    }
    let facts = facts(path, held)?;
    let (code, text) = run("resize2fs", &["-P".as_ref()], path, held, &[])?;
    let least =
        text.lines().filter(|_| code == 0).find_map(|line| line.rsplit_once(": ")?.1.trim().parse::<u64>().ok());
    let least = least.ok_or_else(|| failed("resize2fs", path, &text))?;
    Ok(Sizes { now: facts.size(), least: least.saturating_mul(facts.block_size) })
}

/// Makes the image `bytes` large (rounded down to whole blocks).
///
/// # Errors
/// When it does not fit, with figures.
pub fn resize(path: &Path, held: &Hold, bytes: u64, tell: Tell) -> Result<Sizes> {
    let sizes = sizes(path, held, How::Safely)?;
    let block = facts(path, held)?.block_size;
    let blocks = bytes / block;
    let bytes = blocks.saturating_mul(block);
    if bytes < sizes.least {
        return Err(RuntimeError::Impossible(format!(
            "{} cannot be made {}: what is in it needs {} at least",
            path.display(),
            show_size(bytes),
            show_size(sizes.least)
        )));
    }
    let cut = |bytes| held.file.set_len(bytes).map_err(PathError::new("set the size of", path));
    if bytes > sizes.now {
        cut(bytes)?;
    }
    if bytes != sizes.now {
        tell(&format!("resizing {} from {} to {}", path.display(), show_size(sizes.now), show_size(bytes)));
        // In units of its own blocks.
        let (code, text) = run("resize2fs", &[], path, held, &[blocks.to_string().as_ref()])?;
        if code != 0 {
            return Err(failed("resize2fs", path, &text));
        }
    }
    held.file.sync_all().map_err(PathError::new("flush", path))?;
    let now = facts(path, held)?.size();
    cut(now)?;
    Ok(Sizes { now, ..sizes })
}
