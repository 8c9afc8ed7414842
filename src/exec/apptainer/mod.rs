//! An invocation as a command line of Apptainer or Singularity, with the environment to start it in: nothing a user's
//! value holds is evaluated by a shell or split at a comma. `dialect` knows the versions, `variables` the environment.

mod dialect;
#[cfg(test)]
mod tests;
mod variables;

use std::collections::BTreeMap;
use std::ffi::{OsStr, OsString};
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

pub use dialect::{Dialect, Values};

use super::{Invocation, Mount, Network};

/// Most overlays: their mount options are cut without a word at 4095 bytes, which 100 overlays reach and 80 do not.
pub const MOST_LAYERS: usize = 80;

/// What the command starts from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Root<'a> {
    /// A directory or an image, absolute.
    pub path: &'a Path,
    /// Paths of the host that are to be seen in it at the same place; without those that Apptainer itself provides.
    pub host: &'a [PathBuf],
    /// It is a skeleton of the host's root: complaints about what it lacks are not for the user.
    pub skeleton: bool,
}

/// A command line with its whole environment.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Line {
    /// Arguments behind the program's own name.
    pub args: Vec<OsString>,
    /// Environment of Apptainer itself, sorted.
    pub env: BTreeMap<OsString, OsString>,
}

/// Puts the command line together. `host` is the environment ovl was started with.
///
/// # Errors
/// A sentence, when the invocation asks for something that the program cannot do or be told.
pub fn line(
    dialect: Dialect,
    invocation: &Invocation,
    root: Root<'_>,
    host: &BTreeMap<OsString, OsString>,
) -> Result<Line, String> {
    if invocation.unpack {
        return Err("overlays cannot be unpacked for apptainer: leave --unpack out".into());
    }
    if invocation.isolation.read_only {
        return Err(format!("a read-only view of the host cannot be had through {}", dialect.name()));
    }
    let images = invocation.layers.len() + usize::from(invocation.writable.is_some());
    if images > MOST_LAYERS {
        return Err(format!("{} takes no more than {MOST_LAYERS} overlays, not {images}", dialect.name()));
    }
    let passed = variables::pass(dialect, invocation, host)?;
    let mut args: Vec<OsString> = vec![if root.skeleton { "--silent" } else { "--quiet" }.into(), "exec".into()];
    // Variables that no shell can name only pass on the plain way, which this would close.
    if !passed.plain {
        args.push("--cleanenv".into());
    }
    if dialect.values == Values::Literal {
        args.push("--no-eval".into());
    }
    args.push("--no-home".into());
    if dialect.no_mount {
        let binds = if dialect.no_bind_paths { ",bind-paths" } else { "" };
        args.extend(["--no-mount".into(), format!("home,cwd,tmp{binds}").into()]);
    }
    args.extend(gpus(dialect, invocation)?.into_iter().map(Into::into));
    if invocation.fakeroot {
        if !dialect.fakeroot {
            return Err(format!("this version of {} has no --fakeroot", dialect.name()));
        }
        args.push("--fakeroot".into());
    }
    if invocation.isolation.processes {
        args.extend(["--pid", "--ipc"].map(Into::into));
    }
    if invocation.isolation.network == Network::None {
        args.extend(["--net", "--network", "none"].map(Into::into));
    }
    // Its own variable for it is refused; nothing is mounted there because of --no-home.
    if let Some(home) = variable(invocation, "HOME").map(Path::new)
        && home.is_absolute()
        && passable(dialect, home).is_ok()
    {
        args.extend(["--home".into(), home.into()]);
    }
    for layer in &invocation.layers {
        args.extend(["--overlay".into(), joined(&[passable(dialect, layer)?, OsStr::new("ro")])]);
    }
    // The last one lies on top, and only without `ro` it takes what is written.
    if let Some(image) = &invocation.writable {
        args.extend(["--overlay".into(), passable(dialect, image)?.to_owned()]);
    }
    let mut targets: Vec<&Path> = Vec::new();
    for mount in &invocation.mounts {
        let Mount::Bind { source, target, writable } = mount else {
            return Err(format!("a place in memory cannot be had through {}", dialect.name()));
        };
        let mode = OsStr::new(if *writable { "rw" } else { "ro" });
        args.extend(["--bind".into(), joined(&[passable(dialect, source)?, passable(dialect, target)?, mode])]);
        targets.push(target);
    }
    // Of two binds at one place the first is taken: the user's come before the host's own.
    for place in root.host.iter().filter(|place| !targets.contains(&place.as_path())) {
        let Ok(place) = passable(dialect, place) else { continue };
        args.extend(["--bind".into(), joined(&[place, place])]);
    }
    for flag in &invocation.flags {
        args.push(foreign(flag)?.to_owned());
    }
    args.extend(["--pwd".into(), invocation.cwd.clone().into(), root.path.into()]);
    if let Some(path) = passed.path {
        let mut setting = OsString::from("PATH=");
        setting.push(path);
        args.extend(["/usr/bin/env".into(), setting]);
    }
    args.extend(invocation.argv.iter().cloned());
    Ok(Line { args, env: passed.env })
}

/// The flags for graphics processors.
fn gpus(dialect: Dialect, invocation: &Invocation) -> Result<Vec<&'static str>, String> {
    let mut flags = Vec::new();
    let gpus = &invocation.gpus;
    let makes = [(gpus.nvidia, dialect.nv, "--nv", "--no-nv"), (gpus.rocm, dialect.rocm, "--rocm", "--no-rocm")];
    for (wanted, has, flag, off) in makes {
        if wanted && !has {
            return Err(format!("this version of {} has no {flag}; leave it out with --no-gpu", dialect.name()));
        }
        if wanted {
            flags.push(flag);
        } else if gpus.off && has {
            // Hidden, but there since it has the other: for `always use nv = yes` in its configuration.
            flags.push(off);
        }
    }
    Ok(flags)
}

/// A flag that is passed on as it is.
///
/// # Errors
/// A sentence, when it would be taken for the container or the command.
pub fn foreign(flag: &OsStr) -> Result<&OsStr, String> {
    let bytes = flag.as_bytes();
    if !bytes.starts_with(b"-") || matches!(bytes, b"-" | b"--") {
        return Err(format!(
            "'{}' is no flag that can be passed on: it has to begin with -, its value behind =, as in --dns=10.0.0.1",
            flag.display()
        ));
    }
    Ok(flag)
}

fn variable<'a>(invocation: &'a Invocation, wanted: &str) -> Option<&'a OsStr> {
    invocation.env.iter().find(|(name, _)| name == wanted).map(|(_, value)| value.as_os_str())
}

/// Refuses paths that cannot be written into an option, where `:` and `,` separate and quotes and `\` are read.
fn passable(dialect: Dialect, path: &Path) -> Result<&OsStr, String> {
    let text = path.as_os_str();
    match text.as_bytes().iter().find(|byte| matches!(byte, b':' | b',' | b'"' | b'\\' | b'\n' | b'\r')) {
        None => Ok(text),
        Some(byte) => Err(format!(
            "{}: a path with '{}' in it cannot be passed to {}; use a link without it",
            path.display(),
            byte.escape_ascii(),
            dialect.name()
        )),
    }
}

fn joined(parts: &[&OsStr]) -> OsString {
    parts.join(OsStr::new(":"))
}
