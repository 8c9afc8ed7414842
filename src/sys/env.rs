//! The environment and working directory this process was started with.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::path::PathBuf;

/// One variable of the process, if it is set and not empty.
#[allow(clippy::disallowed_methods)]
pub fn var_os(name: &str) -> Option<OsString> {
    std::env::var_os(name).filter(|value| !value.is_empty())
}

/// One variable as text; a value that is not UTF-8 counts as unset.
pub fn var(name: &str) -> Option<String> {
    var_os(name).and_then(|value| value.into_string().ok())
}

/// All variables of the process.
#[allow(clippy::disallowed_methods)]
pub fn all() -> BTreeMap<OsString, OsString> {
    std::env::vars_os().collect()
}

/// The working directory; `/` when it no longer exists.
#[allow(clippy::disallowed_methods)]
pub fn current_dir() -> PathBuf {
    std::env::current_dir().unwrap_or_else(|_| PathBuf::from("/"))
}

/// This program's own file, as an absolute path.
pub fn current_exe() -> std::io::Result<PathBuf> {
    std::env::current_exe()
}
