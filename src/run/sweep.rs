//! Records of runs that are over are kept for a while, then removed; unfinished ones stay.

use super::dir::{Dir, ids, runs};
use crate::config::Config;
use crate::sys::{clock, fs};

/// Removes the records of runs that were over long ago. Trouble with one is no reason to keep anybody from building.
pub fn old(config: &Config) {
    let Some(keep) = config.history_keep() else { return };
    let before = clock::now().saturating_sub(i64::try_from(keep.as_secs()).unwrap_or(i64::MAX));
    let oldest = clock::compact(before).to_ascii_lowercase();
    for id in ids(config).unwrap_or_default() {
        // Ids begin with the time, so that most need not be opened.
        if id.as_str() >= oldest.as_str() {
            break;
        }
        if let Ok(dir) = Dir::open(&runs(config).join(&id))
            && dir.is_over()
        {
            let _ = fs::remove_tree(dir.path());
        }
    }
}
