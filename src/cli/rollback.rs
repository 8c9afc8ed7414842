//! `ovl rollback`: the replaced version of an overlay comes back; a second rollback undoes the first.

use super::Context;
use super::args::Rollback;
use super::failure::{Failure, Outcome, code};
use super::rm::installed_name;
use crate::store::claim::{self, Tried};
use crate::store::{overlays, publish};
use crate::sys::fs;

/// Runs the command.
pub fn run(args: &Rollback, context: &Context) -> Outcome {
    let name = installed_name(&args.name)?;
    let overlay = overlays::find(&context.layers, &name)?;
    let overlay = overlay.ok_or_else(|| {
        Failure::usage(format!("there is no overlay {name}")).hint("see what is installed with: ovl list")
    })?;
    context.layers.may_change(&overlay.path)?;
    let previous = publish::previous_of(&overlay.path);
    let nothing = || {
        Failure::usage(format!("no earlier version of {name} is kept"))
            .hint("builds keep one when build.keep_previous is true")
    };
    if args.dry_run {
        fs::metadata_if_exists(&previous)?.ok_or_else(nothing)?;
        context.ui.out(&format!("would exchange {} and {}", overlay.path.display(), previous.display()));
        return Ok(0);
    }
    let _claim = match claim::acquire(&overlay.path, context.config.lease(), None)? {
        Tried::Got(claim) => claim,
        Tried::Busy(owner) => {
            return Err(Failure::new(code::BUSY, format!("cannot roll {name} back: it is being built by {owner}")));
        }
    };
    if !publish::rollback(&overlay.path)? {
        return Err(nothing());
    }
    context.ui.say(&format!("{name}: rolled back; undo it with: ovl rollback {name}"));
    Ok(0)
}
