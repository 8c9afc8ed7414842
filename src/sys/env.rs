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

/// This program's own file, as an absolute path; also when another one has been installed in its place meanwhile, which
/// the kernel calls "deleted" (proc(5), `/proc/pid/exe`).
pub fn current_exe() -> std::io::Result<PathBuf> {
    use std::os::unix::ffi::{OsStrExt, OsStringExt};
    let path = std::env::current_exe()?;
    let replaced = path.as_os_str().as_bytes().strip_suffix(b" (deleted)");
    let replaced = replaced.map(|bytes| PathBuf::from(OsString::from_vec(bytes.to_vec())));
    Ok(match replaced {
        Some(replaced) if !path.exists() && replaced.exists() => replaced,
        _ => path,
    })
}

/// The command line of this process.
pub fn command_line_os() -> Vec<OsString> {
    std::env::args_os().collect()
}

/// The command line of this process, invalid UTF-8 replaced.
pub fn command_line() -> Vec<String> {
    std::env::args_os().map(|arg| arg.to_string_lossy().into_owned()).collect()
}
