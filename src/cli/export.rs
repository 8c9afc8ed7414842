//! `ovl export`: the recipe that made an overlay, byte for byte; or the packages of a conda environment.

use std::path::Path;

use super::args::Export;
use super::failure::{Failure, Outcome, code};
use super::{Context, info};
use crate::conda::{Locked, locked};
use crate::image::squashfs::read::Image;
use crate::model::meta::{self, Meta};
use crate::recipe;
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
    let recipe = match &facts.meta {
        Some(meta) if args.explicit || args.lock || args.yaml => packages(args, &path, &image, meta, &recipe)?,
        _ => recipe,
    };
    match &args.output {
        None => context.ui.out_bytes(&recipe),
        Some(file) => fs::write_atomic(&env::current_dir().join(file), &recipe, 0o644)?,
    }
    Ok(0)
}

/// The packages that are in the overlay, in the form asked for.
fn packages(args: &Export, path: &Path, image: &Image, meta: &Meta, recipe: &[u8]) -> Result<Vec<u8>, Failure> {
    let damaged = |why: String| Failure::new(code::ERROR, format!("{}: {why}", path.display()));
    let at = format!("{}/{}/{}", meta.name.root(), meta::DIR, locked::FILE);
    let text = overlays::read_file(image, &at).map_err(|error| damaged(error.to_string()))?.ok_or_else(|| {
        Failure::usage(format!("{} is no conda environment made by ovl: it carries no lock file", path.display()))
            .hint(format!("print its recipe with: ovl export {}", args.overlay))
    })?;
    if args.lock {
        return Ok(text);
    }
    let text = String::from_utf8_lossy(&text);
    let platform = Locked::platform_of(&text).ok_or_else(|| damaged("its lock file cannot be read".into()))?;
    let mut packages = Locked::from_lock_file(&text, platform).map_err(|error| damaged(error.to_string()))?;
    if args.explicit {
        return Ok(packages.to_explicit().into_bytes());
    }
    // What a lock file has no place for is in the recipe.
    let label = path.display().to_string();
    let asked = recipe::conda::read(&label, &String::from_utf8_lossy(recipe), &mut Vec::new());
    packages.pip = asked.pip.into_iter().map(|at| at.value).collect();
    packages.variables = asked.variables.into_iter().collect();
    Ok(packages.to_environment().into_bytes())
}
