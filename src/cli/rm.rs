//! `ovl rm`: removes overlays with their sidecars and kept versions, after a probe and a question.

use std::path::PathBuf;

use super::Context;
use super::args::Rm;
use super::failure::{Failure, Outcome, code};
use crate::model::name::{BadName, Name};
use crate::store::claim::{self, Tried};
use crate::store::overlays::{self, Overlay};
use crate::store::publish;
use crate::store::usage::{self, Usage};
use crate::sys::{fs, term};

/// Runs the command.
pub fn run(args: &Rm, context: &Context) -> Outcome {
    let mut doomed = Vec::new();
    for text in &args.names {
        let name = installed_name(text)?;
        if doomed.iter().any(|overlay: &Overlay| overlay.name == name) {
            continue;
        }
        let overlay = overlays::find(&context.layers, &name)?;
        let overlay = overlay.ok_or_else(|| {
            Failure::usage(format!("there is no overlay {name}")).hint("see what is installed with: ovl list")
        })?;
        context.layers.may_change(&overlay.path)?;
        probe(&overlay, context)?;
        doomed.push(overlay);
    }
    if !args.yes && !args.dry_run && !term::stdin_is_terminal() {
        let hint = format!("remove without a question: ovl rm --yes {}", args.names.join(" "));
        return Err(Failure::usage("nobody is there to ask").hint(hint));
    }
    for overlay in &doomed {
        for path in files(overlay)? {
            context.ui.say(&format!(
                "{} {}",
                if args.dry_run { "would remove" } else { "to be removed:" },
                path.display()
            ));
        }
    }
    if args.dry_run {
        return Ok(0);
    }
    if !args.yes {
        confirm(doomed.len(), context)?;
    }
    for overlay in &doomed {
        // Nobody shall publish between the look and the removal.
        let claim = match claim::acquire(&overlay.path, context.config.lease(), None)? {
            Tried::Got(claim) => claim,
            Tried::Busy(owner) => {
                return Err(Failure::new(
                    code::BUSY,
                    format!("cannot remove {}: it is being built by {owner}", overlay.name),
                ));
            }
        };
        for path in files(overlay)? {
            fs::remove_file(&path)?;
        }
        drop(claim);
        context.ui.say(&format!("removed {}", overlay.name));
    }
    Ok(0)
}

/// The name of something installed, version and all: removing and rolling back shall not guess.
pub fn installed_name(text: &str) -> Result<Name, Failure> {
    text.parse()
        .map_err(|error: BadName| Failure::usage(error.to_string()).hint("see what is installed with: ovl list"))
}

/// What belongs to an overlay: the image last, so that a half-done removal leaves no orphans that look installed.
fn files(overlay: &Overlay) -> Result<Vec<PathBuf>, Failure> {
    let previous = publish::previous_of(&overlay.path);
    let all = [publish::sidecar_of(&previous), previous, publish::sidecar_of(&overlay.path), overlay.path.clone()];
    let mut there = Vec::new();
    for path in all {
        if fs::metadata_if_exists(&path)?.is_some() {
            there.push(path);
        }
    }
    Ok(there)
}

fn probe(overlay: &Overlay, context: &Context) -> Result<(), Failure> {
    match usage::of(&overlay.path)? {
        Usage::Free => Ok(()),
        Usage::Unknown => {
            context
                .ui
                .warn(&format!("{}: no file locks here; whether it is in use cannot be told", overlay.path.display()));
            Ok(())
        }
        Usage::By(who) => {
            Err(Failure::new(code::BUSY, format!("cannot remove {}: it is in use by {who}", overlay.name)))
        }
    }
}

fn confirm(count: usize, context: &Context) -> Result<(), Failure> {
    context.ui.ask(&format!("remove {count} overlay{}? [y/N]", if count == 1 { "" } else { "s" }));
    match term::read_line(false).ok().flatten().as_deref() {
        Some("y" | "Y" | "yes") => Ok(()),
        _ => Err(Failure::new(code::INTERRUPTED, "nothing was removed")),
    }
}
