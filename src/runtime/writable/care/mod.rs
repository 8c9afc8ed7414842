//! Making and changing images without root, by the programs of e2fsprogs, which work on a file that is held locked here
//! and lent to them.

mod check;
mod create;
mod own;
mod resize;

use std::ffi::OsStr;
use std::path::Path;

pub use check::{How, Outcome, check};
pub use create::{Order, create};
pub use own::{Whole, chown};
pub use resize::{Sizes, resize, sizes};

use super::hold::{Hold, hold, unlocked, unsure};
use crate::image::ext::Facts;
use crate::image::kind::{self, Kind};
use crate::runtime::error::{Result, RuntimeError};
use crate::sys::fs::PathError;
use crate::sys::{lend, lock, process};

/// What takes longer than a moment, and why.
pub type Tell<'a> = &'a dyn Fn(&str);

/// Opens an ext image for a change and holds it: nobody else uses it meanwhile.
///
/// # Errors
/// When somebody uses it, or it is no ext image.
pub fn hold_image(path: &Path, tell: Tell) -> Result<Hold> {
    let held = hold(path, lock::Kind::Write)?;
    if !held.locked {
        tell(&unlocked(path));
    }
    let found = kind::of(&held.file).map_err(|source| RuntimeError::Image { path: path.to_owned(), source })?;
    match found {
        Kind::Ext => Ok(held),
        _ => Err(RuntimeError::Impossible(format!("{} is no ext image", path.display()))),
    }
}

/// Makes sure that an image which is to be changed (and not merely repaired, which somebody has decided then) is nobody
/// else's at the moment.
fn nobody_elses(path: &Path, held: &Hold) -> Result<()> {
    if !held.locked && !facts(path, held)?.is_clean() { Err(unsure(path)) } else { Ok(()) }
}

/// What the superblock of a held image says.
pub fn facts(path: &Path, held: &Hold) -> Result<Facts> {
    Facts::read(&held.file).map_err(|source| RuntimeError::Image { path: path.to_owned(), source })
}

/// Runs a program of e2fsprogs on a held image; its exit code and what it said. Its file name is the last argument
/// unless `more` follow it.
fn run(name: &str, args: &[&OsStr], path: &Path, held: &Hold, more: &[&OsStr]) -> Result<(i32, String)> {
    let program = process::find(name).ok_or_else(|| missing(name))?;
    let image = lend::path_of(&held.file);
    let mut all = args.to_vec();
    all.push(image.as_os_str());
    all.extend(more);
    let (code, said) = lend::run(&program, &all, Some(&held.file)).map_err(PathError::new("run e2fsprogs on", path))?;
    let text = String::from_utf8_lossy(&said).replace(&image.display().to_string(), &path.display().to_string());
    match code {
        Some(code) => Ok((code, text)),
        None => Err(RuntimeError::Impossible(format!("{name} was killed while it worked on {}", path.display()))),
    }
}

fn missing(name: &str) -> RuntimeError {
    RuntimeError::Missing {
        what: format!("{name} is not on PATH; images are made and changed with it"),
        hint: "ask for e2fsprogs".into(),
    }
}

fn failed(name: &str, path: &Path, text: &str) -> RuntimeError {
    RuntimeError::Impossible(format!("{name} failed on {}: {}", path.display(), lend::words(text.as_bytes())))
}
