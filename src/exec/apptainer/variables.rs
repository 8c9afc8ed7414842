//! The environment to start Apptainer or Singularity in, so that the command gets its own.

use std::collections::BTreeMap;
use std::ffi::{OsStr, OsString};
use std::os::unix::ffi::OsStrExt;

use super::dialect::{Dialect, Values};
use crate::exec::Invocation;
use crate::model::env::is_name;

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

/// What `--nvccli` is told by (`NVIDIA_VISIBLE_DEVICES` and more).
const NVIDIA: &[u8] = b"NVIDIA_";

/// Names that its start-up script cannot set: read-only in shells, or they would change how it reads the others.
/// `PREPEND_PATH` and `APPEND_PATH` would change PATH instead.
const NOT_FOR_SCRIPTS: [&str; 6] = ["UID", "EUID", "GID", "IFS", "PREPEND_PATH", "APPEND_PATH"];

/// Names that are taken away from the command if they come without the prefix.
const ONLY_PREFIXED: [&str; 2] = ["PATH", "LD_LIBRARY_PATH"];

/// What the command line needs to know of the variables.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Passed {
    /// Environment of Apptainer itself, sorted.
    pub env: BTreeMap<OsString, OsString>,
    /// Some of the command's are in it as they are, which a clean environment would take away.
    pub plain: bool,
    /// A PATH that the command has to be given in another way.
    pub path: Option<OsString>,
}

/// Finds a way for each of the command's variables but HOME, which has a flag of its own.
pub(super) fn pass(
    dialect: Dialect,
    invocation: &Invocation,
    host: &BTreeMap<OsString, OsString>,
) -> Result<Passed, String> {
    let own = |name: &OsStr| OWN.iter().any(|own| name == *own) || name.as_bytes().starts_with(NVIDIA);
    let mut passed = Passed::default();
    passed.env.extend(host.iter().filter(|(name, _)| own(name)).map(|(name, value)| (name.clone(), value.clone())));
    if !dialect.apptainer {
        // SingularityCE 4 may be configured to run containers by another engine, which reads all of this differently.
        passed.env.insert("SINGULARITY_NO_OCI".into(), "1".into());
    }
    for (name, value) in &invocation.env {
        if name == "HOME" {
            continue;
        }
        // A name that is none for a shell (an exported function's, say) would make it drop all of them.
        let word = name.to_str().filter(|name| is_name(name) && !NOT_FOR_SCRIPTS.contains(name));
        match word.and_then(|word| dialect.passed(word, value)) {
            Some(value) => {
                let mut prefixed = OsString::from(format!("{}ENV_", dialect.prefix()));
                prefixed.push(name);
                passed.env.insert(prefixed, value);
            }
            None if dialect.values == Values::Direct && name == "PATH" => passed.path = Some(value.clone()),
            None if ONLY_PREFIXED.iter().any(|only| name == *only) => {
                return Err(format!(
                    "{}: this version of singularity cannot be given the value {value:?} without a shell evaluating it",
                    name.display()
                ));
            }
            None => {
                passed.env.insert(name.clone(), value.clone());
                passed.plain = true;
            }
        }
    }
    Ok(passed)
}
