//! Removing trees that belong to subordinate ids: their user may not, root in a user namespace may. This program starts
//! itself again for that, as `ovl internal erase DIR`.

use std::path::Path;
use std::time::Duration;

use super::fs::{self, PathError};
use super::{process, userns};
use crate::model::cmd::Cmd;

/// Longest time for a removal.
const PATIENCE: Duration = Duration::from_secs(600);

/// Removes a tree; a missing one is fine. What cannot be removed stays.
pub fn tree(dir: &Path) {
    // A program made for tests would take the words for names of tests.
    if fs::remove_tree(dir).is_ok() || cfg!(test) {
        return;
    }
    let _ = process::capture_steadily(&Cmd::new("/proc/self/exe").args(["internal", "erase"]).arg(dir), PATIENCE);
}

/// Removes a directory with nothing in it; any other stays.
#[allow(clippy::disallowed_methods)]
pub fn empty(dir: &Path) {
    let _ = std::fs::remove_dir(dir);
}

/// `ovl internal erase DIR`.
pub fn main(dir: &Path) -> Result<(), String> {
    userns::enter_as_root(userns::Kinds::default()).map_err(|refusal| refusal.to_string())?;
    fs::remove_tree(dir).map_err(|error: PathError| error.to_string())
}
