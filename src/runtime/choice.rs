//! Which runtime carries an invocation out: the native one, else Apptainer or Singularity. The native one is simply
//! tried, so that where it works nothing is lost.

use std::convert::Infallible;
use std::path::{Path, PathBuf};

use super::error::{Result, RuntimeError};
use super::{apptainer, gpu, native, writable};
use crate::exec::Invocation;
use crate::sys::fs;

/// Runtimes to choose from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Choice {
    /// The native one where it works, else Apptainer, else Singularity.
    Auto,
    /// The native one.
    Native,
    /// The program `apptainer`.
    Apptainer,
    /// The program `singularity`.
    Singularity,
}

impl Choice {
    /// The words of `exec.runtime`; anything else is `auto`.
    pub fn of(word: &str) -> Choice {
        match word {
            "native" => Choice::Native,
            "apptainer" => Choice::Apptainer,
            "singularity" => Choice::Singularity,
            _ => Choice::Auto,
        }
    }

    /// The program that is to be used whatever else would work.
    pub fn program(self) -> Option<&'static str> {
        match self {
            Choice::Auto | Choice::Native => None,
            Choice::Apptainer => Some("apptainer"),
            Choice::Singularity => Some("singularity"),
        }
    }
}

/// Carries an invocation out; this process becomes the command, or Apptainer. `state` is a directory of the user's
/// own for what Apptainer needs; `say` is told why it is used when nobody asked for it, and that images are unpacked.
///
/// # Errors
/// As [`native::exec`] and [`apptainer::exec`].
pub fn run(choice: Choice, invocation: &Invocation, state: &Path, say: &dyn Fn(&str)) -> Result<Infallible> {
    if let Some(name) = choice.program() {
        let program = apptainer::find(name).ok_or_else(|| not_there(name))?;
        return apptainer::exec(&program, invocation, state);
    }
    let before = namespaces();
    writable::tell_unlocked(&invocation.layers, say);
    let furnished = gpu::furnished(invocation, say);
    let error = match native::exec(furnished.as_ref().unwrap_or(invocation), say) {
        Err(error) => error,
        Ok(never) => match never {},
    };
    // Behind the first namespace Apptainer would see another machine than the user does.
    let untouched = before.is_some() && before == namespaces();
    if choice == Choice::Auto
        && untouched
        && let RuntimeError::Missing { what, hint } = &error
        && let Some(program) = apptainer::PROGRAMS.iter().find_map(|name| apptainer::find(name))
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

fn not_there(name: &str) -> RuntimeError {
    let other = apptainer::PROGRAMS.iter().find(|other| **other != name && apptainer::find(other).is_some());
    let hint = match other {
        Some(other) => format!("{other} is there: --runtime {other}"),
        None => format!("load its module (module load {name}), or leave --runtime {name} and exec.runtime out"),
    };
    RuntimeError::Missing { what: format!("there is no {name} on PATH"), hint }
}

/// Which user and mount namespace this process is in.
fn namespaces() -> Option<(PathBuf, PathBuf)> {
    let of = |kind: &str| fs::read_link(&Path::new("/proc/self/ns").join(kind)).ok();
    Some((of("user")?, of("mnt")?))
}
