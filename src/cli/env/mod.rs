//! `ovl env`: the conda environment in an image that is written to. `look` reads it, `change` decides what is to be
//! changed, `make` fetches packages and writes them out, for `ovl overlay create` too.

mod change;
mod look;
mod make;

use std::path::Path;

use super::args::{ChangeArgs, Env, EnvAction};
use super::failure::{Failure, Outcome, code};
use super::{Context, Flag, search};
use crate::conda::apply::{Change, apply};
use crate::exec::environ::CONDA;
use crate::sys::fs;

pub use make::create;

/// Flags that stand for configuration keys.
pub fn flags(args: &Env) -> Vec<Flag> {
    match &args.action {
        EnvAction::Install(args) | EnvAction::Remove(args) | EnvAction::Update(args) => search::flags(&args.conda),
        EnvAction::List { .. } | EnvAction::Export { .. } => Vec::new(),
    }
}

/// How packages are changed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum How {
    Install,
    Remove,
    Update,
}

/// Runs the command.
pub fn run(args: &Env, context: &Context) -> Outcome {
    let change = |how: How, args: &ChangeArgs| change::run(how, args, context);
    match &args.action {
        EnvAction::Install(args) => change(How::Install, args),
        EnvAction::Remove(args) => change(How::Remove, args),
        EnvAction::Update(args) => change(How::Update, args),
        EnvAction::List { image, overlay, json } => look::list(image.as_deref(), overlay.as_deref(), *json, context),
        EnvAction::Export { image, form } => look::export(image.as_deref(), *form, context),
    }
}

/// Makes a change, in a process that has the image in place.
pub fn change_here(file: &Path) -> Outcome {
    let odd = |why: String| Failure::new(code::ERROR, why);
    let change: Change = serde_json::from_slice(&fs::read(file)?).map_err(|error| odd(error.to_string()))?;
    apply(Path::new(CONDA), &change).map_err(|error| {
        odd(error.to_string()).hint("the next ovl env install finishes or clears away what was begun")
    })?;
    Ok(0)
}
