//! Which runtime carries an invocation out: the native one, else Apptainer or Singularity. The native one is simply
//! tried, so that where it works nothing is lost.

use std::convert::Infallible;
use std::path::{Path, PathBuf};

use super::error::{Result, RuntimeError};
use super::{apptainer, native};
use crate::exec::Invocation;
use crate::sys::fs;

/// Runtimes to choose from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Choice {
    /// The native one where it works, else the other.
    Auto,
    /// The native one.
    Native,
    /// Apptainer or Singularity.
    Apptainer,
}

impl Choice {
    /// The words of `exec.runtime`; anything else is `auto`.
    pub fn of(word: &str) -> Choice {
        match word {
            "native" => Choice::Native,
            "apptainer" => Choice::Apptainer,
            _ => Choice::Auto,
        }
    }
}

/// Carries an invocation out; this process becomes the command, or Apptainer. `state` is a directory of the user's
/// own for what Apptainer needs; `say` is told why it is used when nobody asked for it, and that images are unpacked.
///
/// # Errors
/// As [`native::exec`] and [`apptainer::exec`].
pub fn run(choice: Choice, invocation: &Invocation, state: &Path, say: &dyn Fn(&str)) -> Result<Infallible> {
    if choice == Choice::Apptainer {
        let program = apptainer::find().ok_or_else(|| RuntimeError::Missing {
            what: "there is neither apptainer nor singularity on PATH".into(),
            hint: "load its module (module load apptainer), or leave --runtime apptainer and exec.runtime out".into(),
        })?;
        return apptainer::exec(&program, invocation, state);
    }
    let before = namespaces();
    let error = match native::exec(invocation, say) {
        Err(error) => error,
        Ok(never) => match never {},
    };
    // Behind the first namespace Apptainer would see another machine than the user does.
    let untouched = before.is_some() && before == namespaces();
    if choice == Choice::Auto
        && untouched
        && let RuntimeError::Missing { what, hint } = &error
        && let Some(program) = apptainer::find()
    {
        if !apptainer::works_without_namespaces(&program) {
            let hint = format!("{hint} ({} is installed without set-user-ID and needs them too)", program.display());
            return Err(RuntimeError::Missing { what: what.clone(), hint });
        }
        say(&format!("{what}: running through {} instead", program.display()));
        return apptainer::exec(&program, invocation, state);
    }
    Err(error)
}

/// Which user and mount namespace this process is in.
fn namespaces() -> Option<(PathBuf, PathBuf)> {
    let of = |kind: &str| fs::read_link(&Path::new("/proc/self/ns").join(kind)).ok();
    Some((of("user")?, of("mnt")?))
}
