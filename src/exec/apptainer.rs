//! An invocation as a command line of Apptainer or Singularity, with the environment to start it in. Measured with
//! Apptainer 1.4.5: nothing a user's value holds is evaluated by a shell or split at a comma.

use std::collections::BTreeMap;
use std::ffi::{OsStr, OsString};
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::path::{Path, PathBuf};

use super::{Invocation, Mount, Network};
use crate::model::env::is_name;

/// Most overlays: their mount options are cut without a word at 4095 bytes, which 100 overlays reach and 80 do not.
pub const MOST_LAYERS: usize = 80;

/// What the installed program understands, as `exec --help` tells.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Dialect {
    /// What precedes its variables: `APPTAINER` or `SINGULARITY`.
    prefix: &'static str,
    /// It can be told not to evaluate values (`--no-eval`).
    no_eval: bool,
    /// It can be told to leave out what its configuration mounts (`--no-mount`).
    no_mount: bool,
    /// That includes the binds of its configuration.
    no_bind_paths: bool,
}

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

/// Variables Apptainer works with itself; the rest of the host's would only change what it does.
const OWN: [&str; 22] = [
    "PATH",
    "HOME",
    "USER",
    "LOGNAME",
    "SHELL",
    "TERM",
    "LANG",
    "LC_ALL",
    "TZ",
    "TMPDIR",
    "LD_LIBRARY_PATH",
    "XDG_RUNTIME_DIR",
    "XDG_CONFIG_HOME",
    "XDG_CACHE_HOME",
    "XDG_DATA_HOME",
    "DBUS_SESSION_BUS_ADDRESS",
    "APPTAINER_TMPDIR",
    "APPTAINER_CACHEDIR",
    "APPTAINER_CONFIGDIR",
    "SINGULARITY_TMPDIR",
    "SINGULARITY_CACHEDIR",
    "SINGULARITY_CONFIGDIR",
];

/// Names that its start-up script cannot set: read-only in shells, or they would change how it reads the others.
const NOT_FOR_SCRIPTS: [&str; 4] = ["UID", "EUID", "GID", "IFS"];

impl Dialect {
    /// Reads what `PROGRAM exec --help` prints. A `singularity` may well be Apptainer by its old name.
    pub fn of_help(help: &str) -> Dialect {
        let apptainer = help.contains("apptainer exec");
        Dialect {
            prefix: if apptainer { "APPTAINER" } else { "SINGULARITY" },
            no_eval: help.contains("--no-eval"),
            no_mount: help.contains("--no-mount"),
            no_bind_paths: help.contains("bind-paths"),
        }
    }

    /// The value as it has to be passed so that it arrives as it is.
    fn passed(self, value: &OsStr) -> OsString {
        if self.no_eval {
            return value.to_owned();
        }
        // Older ones write NAME="value" into a script and escape the double quotes, nothing else.
        let mut out = Vec::with_capacity(value.len());
        for &byte in value.as_bytes() {
            if matches!(byte, b'\\' | b'$' | b'`') {
                out.push(b'\\');
            }
            out.push(byte);
        }
        OsString::from_vec(out)
    }
}

/// Puts the command line together. `host` is the environment ovl was started with.
///
/// # Errors
/// A sentence, when the invocation asks for something that Apptainer cannot do or be told.
pub fn line(
    dialect: Dialect,
    invocation: &Invocation,
    root: Root<'_>,
    host: &BTreeMap<OsString, OsString>,
) -> Result<Line, String> {
    if invocation.isolation.read_only {
        return Err("a read-only view of the host cannot be had through apptainer".into());
    }
    if invocation.layers.len() > MOST_LAYERS {
        return Err(format!("apptainer takes no more than {MOST_LAYERS} overlays, not {}", invocation.layers.len()));
    }
    let (env, plain) = environment(dialect, invocation, host);
    let mut args: Vec<OsString> = vec![if root.skeleton { "--silent" } else { "--quiet" }.into(), "exec".into()];
    // Variables that no shell can name only pass on the plain way, which this would close.
    if !plain {
        args.push("--cleanenv".into());
    }
    if dialect.no_eval {
        args.push("--no-eval".into());
    }
    args.push("--no-home".into());
    if dialect.no_mount {
        let binds = if dialect.no_bind_paths { ",bind-paths" } else { "" };
        args.extend(["--no-mount".into(), format!("home,cwd,tmp{binds}").into()]);
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
        && passable(home).is_ok()
    {
        args.extend(["--home".into(), home.into()]);
    }
    for layer in &invocation.layers {
        args.extend(["--overlay".into(), joined(&[passable(layer)?, OsStr::new("ro")])]);
    }
    let mut targets: Vec<&Path> = Vec::new();
    for mount in &invocation.mounts {
        let Mount::Bind { source, target, writable } = mount else {
            return Err("a place in memory cannot be had through apptainer".into());
        };
        let mode = OsStr::new(if *writable { "rw" } else { "ro" });
        args.extend(["--bind".into(), joined(&[passable(source)?, passable(target)?, mode])]);
        targets.push(target);
    }
    // Of two binds at one place the first is taken: the user's come before the host's own.
    for place in root.host.iter().filter(|place| !targets.contains(&place.as_path())) {
        let Ok(place) = passable(place) else { continue };
        args.extend(["--bind".into(), joined(&[place, place])]);
    }
    args.extend(["--pwd".into(), invocation.cwd.clone().into(), root.path.into()]);
    args.extend(invocation.argv.iter().cloned());
    Ok(Line { args, env })
}

fn variable<'a>(invocation: &'a Invocation, wanted: &str) -> Option<&'a OsStr> {
    invocation.env.iter().find(|(name, _)| name == wanted).map(|(_, value)| value.as_os_str())
}

/// The environment to start Apptainer in, and whether some variables are in it as they are.
fn environment(
    dialect: Dialect,
    invocation: &Invocation,
    host: &BTreeMap<OsString, OsString>,
) -> (BTreeMap<OsString, OsString>, bool) {
    let own = host.iter().filter(|(name, _)| OWN.iter().any(|own| name.as_os_str() == *own));
    let mut env: BTreeMap<OsString, OsString> = own.map(|(name, value)| (name.clone(), value.clone())).collect();
    let mut plain = false;
    for (name, value) in &invocation.env {
        if name == "HOME" {
            continue;
        }
        // A name that is none for a shell (an exported function's, say) would make it drop all of them.
        if name.to_str().is_some_and(|name| is_name(name) && !NOT_FOR_SCRIPTS.contains(&name)) {
            let mut prefixed = OsString::from(format!("{}ENV_", dialect.prefix));
            prefixed.push(name);
            env.insert(prefixed, dialect.passed(value));
        } else {
            env.insert(name.clone(), value.clone());
            plain = true;
        }
    }
    (env, plain)
}

/// Refuses paths that cannot be written into an option, where `:` and `,` separate and quotes and `\` are read.
fn passable(path: &Path) -> Result<&OsStr, String> {
    let text = path.as_os_str();
    match text.as_bytes().iter().find(|byte| matches!(byte, b':' | b',' | b'"' | b'\\' | b'\n' | b'\r')) {
        None => Ok(text),
        Some(byte) => Err(format!(
            "{}: a path with '{}' in it cannot be passed to apptainer; use a link without it",
            path.display(),
            byte.escape_ascii()
        )),
    }
}

fn joined(parts: &[&OsStr]) -> OsString {
    parts.join(OsStr::new(":"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::exec::Isolation;

    const NEW: &str =
        "--no-eval  do not\n --no-mount strings 'bind-paths' to disable\n $ apptainer exec /tmp/debian.sif";
    const OLD: &str = "--no-home  do not\n $ singularity exec /tmp/debian.sif";

    fn invocation() -> Invocation {
        let bind = |source: &str, target: &str, writable| Mount::Bind {
            source: source.into(),
            target: target.into(),
            writable,
        };
        Invocation {
            layers: vec!["/l/a--1.sqf".into(), "/l/b--1.sqf".into()],
            mounts: vec![bind("/data/in put", "/in", false), bind("/w", "/opt", true)],
            scratch: "/tmp".into(),
            cwd: "/work/x y".into(),
            env: [("A", "$(x) `y` \\ \"q\",z\nn"), ("HOME", "/home/u"), ("PATH", "/cnt/a/1/bin:/bin")]
                .map(|(name, value)| (name.into(), value.into()))
                .into(),
            argv: ["tool", "-x", "$(id)", ""].map(Into::into).into(),
            ..Invocation::default()
        }
    }

    fn host() -> BTreeMap<OsString, OsString> {
        [("PATH", "/usr/bin"), ("APPTAINER_BIND", "/evil"), ("APPTAINERENV_B", "1"), ("TMPDIR", "/t")]
            .map(|(name, value)| (name.into(), value.into()))
            .into()
    }

    fn built(help: &str, invocation: &Invocation, root: Root<'_>) -> (String, String) {
        let line = line(Dialect::of_help(help), invocation, root, &host()).unwrap();
        let text = |text: &OsStr| text.to_str().unwrap().to_owned();
        let args: Vec<String> = line.args.iter().map(|arg| text(arg)).collect();
        let env: Vec<String> = line.env.iter().map(|(name, value)| format!("{}={}", text(name), text(value))).collect();
        (args.join("|"), env.join("|"))
    }

    #[test]
    fn a_new_apptainer_over_the_host() {
        let binds = ["/etc", "/opt", "/usr"].map(PathBuf::from);
        let root = Root { path: Path::new("/s/root"), host: &binds, skeleton: true };
        let (args, env) = built(NEW, &invocation(), root);
        assert_eq!(
            args,
            "--silent|exec|--cleanenv|--no-eval|--no-home|--no-mount|home,cwd,tmp,bind-paths|--home|/home/u|\
             --overlay|/l/a--1.sqf:ro|--overlay|/l/b--1.sqf:ro|--bind|/data/in put:/in:ro|--bind|/w:/opt:rw|\
             --bind|/etc:/etc|--bind|/usr:/usr|--pwd|/work/x y|/s/root|tool|-x|$(id)|"
        );
        assert_eq!(
            env,
            "APPTAINERENV_A=$(x) `y` \\ \"q\",z\nn|APPTAINERENV_PATH=/cnt/a/1/bin:/bin|PATH=/usr/bin|TMPDIR=/t"
        );
    }

    #[test]
    fn an_old_singularity_over_an_image() {
        let mut invocation = invocation();
        invocation.isolation = Isolation { read_only: false, processes: true, network: Network::None };
        invocation.mounts.clear();
        let tmp = ["/tmp".into()];
        let (args, env) = built(OLD, &invocation, Root { path: Path::new("/b/ase.sqf"), host: &tmp, skeleton: false });
        assert_eq!(
            args,
            "--quiet|exec|--cleanenv|--no-home|--pid|--ipc|--net|--network|none|--home|/home/u|\
             --overlay|/l/a--1.sqf:ro|--overlay|/l/b--1.sqf:ro|--bind|/tmp:/tmp|--pwd|/work/x y|/b/ase.sqf|\
             tool|-x|$(id)|"
        );
        assert_eq!(
            env,
            "PATH=/usr/bin|SINGULARITYENV_A=\\$(x) \\`y\\` \\\\ \"q\",z\nn|SINGULARITYENV_PATH=/cnt/a/1/bin:/bin|TMPDIR=/t"
        );
    }

    #[test]
    fn names_that_are_none_for_a_shell_pass_as_they_are() {
        let mut invocation = invocation();
        invocation.env = [("BASH_FUNC_m%%", "() { echo $1; }"), ("EUID", "7"), ("OK", "1")]
            .map(|(name, value)| (name.into(), value.into()))
            .into();
        let (args, env) = built(NEW, &invocation, Root { path: Path::new("/b"), host: &[], skeleton: false });
        assert!(!args.contains("--cleanenv") && !args.contains("--home|"), "{args}");
        assert_eq!(env, "APPTAINERENV_OK=1|BASH_FUNC_m%%=() { echo $1; }|EUID=7|PATH=/usr/bin|TMPDIR=/t");
    }

    #[test]
    fn what_cannot_be_said_is_refused_with_its_name() {
        let refused = |change: &dyn Fn(&mut Invocation)| {
            let mut invocation = invocation();
            change(&mut invocation);
            let root = Root { path: Path::new("/b"), host: &[], skeleton: false };
            line(Dialect::of_help(NEW), &invocation, root, &host()).unwrap_err()
        };
        assert!(refused(&|i| i.layers.push("/l/a:b.sqf".into())).starts_with("/l/a:b.sqf: a path with ':'"));
        assert!(refused(&|i| i.layers.push("/l/a,b.sqf".into())).contains("','"));
        let bind = |target: &str| Mount::Bind { source: "/a".into(), target: target.into(), writable: true };
        assert!(refused(&|i| i.mounts.push(bind("/x\ny"))).contains("\\n"));
        let memory = Mount::Tmpfs { target: "/m".into(), mode: 0o755, writable: true };
        assert!(refused(&|i| i.mounts.push(memory.clone())).contains("memory"));
        assert!(refused(&|i| i.isolation.read_only = true).contains("read-only"));
        assert!(refused(&|i| i.layers = vec!["/l/a.sqf".into(); 81]).contains("80 overlays"));
    }
}
