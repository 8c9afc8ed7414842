//! `ovl export`: the recipe that made an overlay, byte for byte.

use super::args::Export;
use super::failure::{Failure, Outcome, code};
use super::{Context, info};
use crate::store::overlays;
use crate::sys::{env, fs};

/// Runs the command.
pub fn run(args: &Export, context: &Context) -> Outcome {
    let path = info::locate(&args.overlay, context)?;
    let image = overlays::open(&path)?;
    let facts = overlays::facts(&path, &image)?;
    let damaged = |error| Failure::new(code::ERROR, format!("{}: {error}", path.display()));
    let recipe = match &facts.meta {
        Some(meta) => overlays::read_recipe(&image, meta).map_err(damaged)?,
        None => None,
    };
    let recipe = recipe
        .ok_or_else(|| Failure::usage(format!("{} carries no recipe: it was not built by ovl", path.display())))?;
    match &args.output {
        None => context.ui.out_bytes(&recipe),
        Some(file) => fs::write_atomic(&env::current_dir().join(file), &recipe, 0o644)?,
    }
    Ok(0)
}
