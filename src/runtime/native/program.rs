//! Becoming the command: found in the PATH it will have itself, inside the root it will see.

use std::convert::Infallible;
use std::ffi::{CString, OsStr, OsString};
use std::io;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use crate::exec::Invocation;
use crate::runtime::error::{Result, RuntimeError};
use crate::sys::{fork, mount};

/// Where programs are looked for when the environment has no PATH.
const DEFAULT_PATH: &str = "/usr/local/bin:/usr/bin:/bin";

/// The shell that sources environment scripts.
const SHELL: &str = "/bin/sh";
/// Sources them. What a shell cannot read would end it, and with it the command: such a script is left out.
const SOURCING: &str = r#"for script in /.singularity.d/env/*.sh; do
    if [ ! -f "$script" ]; then continue; fi
    if [ -r "$script" ] && /bin/sh -n "$script" 2>/dev/null; then
        . "$script"
    else
        echo "warning: $script of the image cannot be read as a script of /bin/sh; its variables are missing" >&2
    fi
    set +eu
done
unset script
"#;
/// Becomes the command, or says what is said where there are no scripts ([`RuntimeError::NotFound`]).
const BECOMING: &str = r#"ovl_missing() { printf 'error: command not found: %s\n' "$1" >&2; exit 127; }
case $1 in
*/*) if [ ! -e "$1" ] && [ ! -L "$1" ]; then ovl_missing "$1"; fi ;;
*) command -v -- "$1" >/dev/null 2>&1 || ovl_missing "$1" ;;
esac
exec "$@"
"#;
/// The PATH they begin with: the host's means nothing in another system.
const SYSTEM_PATH: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

/// Goes to the command's working directory.
pub fn enter_directory(path: &Path) -> Result<()> {
    Ok(mount::go_to(path)?)
}

/// Replaces this process by the command.
pub fn run(invocation: &Invocation) -> Result<Infallible> {
    let wrapped = wrapped(invocation);
    let invocation = wrapped.as_ref().unwrap_or(invocation);
    let Some(name) = invocation.argv.first().filter(|name| !name.is_empty()) else {
        return Err(RuntimeError::Impossible("there is no command to run".into()));
    };
    let argv = invocation.argv.iter().map(|arg| c_string(arg)).collect::<Result<Vec<_>>>()?;
    let mut env = Vec::with_capacity(invocation.env.len());
    for (key, value) in &invocation.env {
        let mut line = key.clone();
        line.push("=");
        line.push(value);
        env.push(c_string(&line)?);
    }
    let path = invocation.env.iter().find(|(key, _)| key == "PATH").map(|(_, value)| value.clone());
    let mut worst = None;
    for candidate in candidates(name, path.as_deref()) {
        let error = fork::become_program(&candidate, &argv, &env);
        match error.kind() {
            // A directory of PATH may be missing, closed to us, or not be a directory.
            io::ErrorKind::NotFound | io::ErrorKind::NotADirectory if !candidate.exists() => {}
            io::ErrorKind::PermissionDenied if candidate.as_path() != name && !candidate.exists() => {}
            // As execvp(3): what may not be run does not hide a namesake further on.
            _ => worst = worst.or(Some((candidate, error))),
        }
    }
    Err(match worst {
        None => RuntimeError::NotFound(name.to_string_lossy().into_owned()),
        Some((program, error)) => {
            RuntimeError::NotRunnable { program: program.display().to_string(), why: reason(&program, &error) }
        }
    })
}

/// The command behind the environment scripts of the system it is to see, where that has some and a shell for them.
fn wrapped(invocation: &Invocation) -> Option<Invocation> {
    let system = invocation.system.as_ref()?;
    if !(Path::new("/.singularity.d/env").is_dir() && Path::new(SHELL).exists() && !invocation.argv.is_empty()) {
        return None;
    }
    let mut script = OsString::from(SOURCING);
    for (name, value) in &system.set {
        script.push("export ");
        script.push(name);
        script.push("=");
        script.push(quoted(value));
        script.push("\n");
    }
    script.push("PATH=");
    script.push(quoted(&system.path));
    script.push("\"$PATH\"\nexport PATH\n");
    script.push(BECOMING);
    let mut argv: Vec<OsString> = vec![SHELL.into(), "-c".into(), script, "ovl".into()];
    argv.extend(invocation.argv.iter().cloned());
    let mut env = invocation.env.clone();
    env.retain(|(name, _)| name != "PATH");
    env.push(("PATH".into(), SYSTEM_PATH.into()));
    Some(Invocation { argv, env, ..invocation.clone() })
}

/// A word in single quotes.
fn quoted(text: &OsStr) -> OsString {
    use std::os::unix::ffi::OsStringExt;
    let mut quoted = vec![b'\''];
    for &byte in text.as_bytes() {
        match byte {
            b'\'' => quoted.extend(b"'\\''"),
            other => quoted.push(other),
        }
    }
    quoted.push(b'\'');
    OsString::from_vec(quoted)
}

/// A name with a slash is a path; others are looked for in PATH, where an empty piece means the working directory.
fn candidates(name: &OsStr, path: Option<&OsStr>) -> Vec<PathBuf> {
    if name.as_bytes().contains(&b'/') {
        return vec![name.into()];
    }
    let path = path.unwrap_or(OsStr::new(DEFAULT_PATH));
    let dirs = path.as_bytes().split(|&byte| byte == b':').map(|dir| Path::new(OsStr::from_bytes(dir)));
    dirs.map(|dir| if dir.as_os_str().is_empty() { Path::new(".").join(name) } else { dir.join(name) }).collect()
}

fn reason(program: &Path, error: &io::Error) -> String {
    match error.kind() {
        io::ErrorKind::NotFound => "the interpreter or loader it names is not there".into(),
        _ if program.is_dir() => "it is a directory".into(),
        io::ErrorKind::PermissionDenied => "it is not executable, or its file system does not allow programs".into(),
        _ if error.raw_os_error() == Some(8) => {
            "its format is unknown: made for another machine, or a script without #!".into()
        }
        _ => error.to_string(),
    }
}

fn c_string(text: &OsStr) -> Result<CString> {
    CString::new(text.as_bytes()).map_err(|_| {
        let text: OsString = text.to_owned();
        RuntimeError::Impossible(format!("{text:?} has a NUL byte in it"))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_looked_for_in_path_in_order() {
        let found = candidates(OsStr::new("tool"), Some(OsStr::new("/a::/b c")));
        assert_eq!(found, ["/a/tool", "./tool", "/b c/tool"].map(PathBuf::from));
        assert_eq!(candidates(OsStr::new("./tool"), Some(OsStr::new("/a"))), [PathBuf::from("./tool")]);
        assert_eq!(candidates(OsStr::new("tool"), None).len(), 3);
    }

    #[test]
    fn arguments_with_nul_bytes_are_refused() {
        assert!(c_string(OsStr::new("a\0b")).is_err());
    }
}
