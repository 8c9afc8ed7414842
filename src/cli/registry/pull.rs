//! `ovl pull`: overlays, SIF files and container images out of registries into a layer.

use std::path::{Path, PathBuf};

use serde_json::{Value, json};

use super::{Watching, base, convert, options, print, reference};
use crate::cli::Context;
use crate::cli::args::Pull;
use crate::cli::failure::{Failure, Outcome, code};
use crate::model::name::Name;
use crate::model::units::show_size;
use crate::registry::pull::{self, Found, What};
use crate::registry::{Platform, RegistryError};
use crate::store::claim::{self, Claim, Tried};
use crate::store::usage::{self, Usage};
use crate::store::{layers, overlays};
use crate::sys::fs;
use crate::ui::Meter;

/// Runs the command.
pub fn run(args: &Pull, context: &Context) -> Outcome {
    let options = options(&args.speaking, context);
    let base = base(&options, context)?;
    let reference = reference(&args.reference, base.as_deref())?;
    let platform = args.platform.as_deref().map_or_else(|| Ok(Platform::here()), str::parse).map_err(Failure::usage)?;
    let asked = args.name.as_ref().or(args.named.as_ref()).map(|text| text.parse::<Name>()).transpose()?;
    let meter = Meter::new(context.ui, &context.config.progress(), &format!("looking for {reference}"));
    let watch = Watching(&meter);
    let found = pull::look(&reference, &platform, &options, &watch)?;
    let name = found.name(asked.as_ref())?;
    let target = target(&name, args, context)?;
    if is_there(&found, &target) {
        drop(meter);
        tell(args, &found, &name, &target, "up to date", json!({}), context);
        return Ok(0);
    }
    if asked.is_none() && !found.reads_like(&name) && fs::metadata_if_exists(&target)?.is_some() {
        let what = format!("{reference} calls itself {name}, which is there already and was not asked for");
        return Err(Failure::usage(what).hint(format!("replace it with: ovl pull {reference} -n {name}")));
    }
    if args.dry_run {
        drop(meter);
        tell(args, &found, &name, &target, "would pull", json!({}), context);
        return Ok(0);
    }
    pull::tidy(&target, context.config.lease());
    let _claim = claimed(&name, &target, context)?;
    not_in_use(&name, &target)?;
    meter.turn_to(&format!("pulling {reference}"));
    let keep = context.config.keep_previous();
    let facts = match &found.what {
        What::Overlay { .. } => {
            let pulled = found.overlay_to(&target, keep, &watch)?;
            pulled.warnings.iter().for_each(|warning| context.ui.warn(warning));
            json!({ "layer": pulled.digest, "bytes": pulled.size })
        }
        What::Image => {
            let image = found.image(&options, &watch)?;
            convert::image(&found, &image, &target, &meter, context)?
        }
        What::Sif(_) => {
            let path = found.sif(&options, &watch)?;
            convert::sif(&found, &path, &target, &meter, context)?
        }
    };
    drop(meter);
    tell(args, &found, &name, &target, "pulled", facts, context);
    Ok(0)
}

fn target(name: &Name, args: &Pull, context: &Context) -> Result<PathBuf, Failure> {
    let dir = context.layers.writable(args.layer.as_deref())?;
    Ok(overlays::file_in(&layers::images(&dir), name))
}

/// Whether the very same is there already.
fn is_there(found: &Found, target: &Path) -> bool {
    match &found.what {
        What::Overlay { layer, .. } => {
            fs::metadata_if_exists(target).is_ok_and(|meta| meta.is_some_and(|meta| meta.len() == layer.size))
                && overlays::digest_of(target).is_ok_and(|digest| digest == layer.digest.as_str())
        }
        What::Image | What::Sif(_) => convert::origin(target).is_some_and(|digest| digest == *found.digest()),
    }
}

fn claimed(name: &Name, target: &Path, context: &Context) -> Result<Claim, Failure> {
    match claim::acquire(target, context.config.lease(), None)? {
        Tried::Got(claim) => Ok(claim),
        Tried::Busy(owner) => Err(RegistryError::Busy { what: name.to_string(), by: owner.to_string() }.into()),
    }
}

fn not_in_use(name: &Name, target: &Path) -> Result<(), Failure> {
    if fs::metadata_if_exists(target)?.is_none() {
        return Ok(());
    }
    match usage::of(target)? {
        Usage::By(who) => Err(Failure::new(code::BUSY, format!("cannot replace {name}: it is in use by {who}"))
            .hint("pull it again when that has ended")),
        Usage::Free | Usage::Unknown => Ok(()),
    }
}

fn tell(args: &Pull, found: &Found, name: &Name, target: &Path, outcome: &str, facts: Value, context: &Context) {
    if args.speaking.json {
        let mut value = json!({
            "outcome": outcome, "name": name, "file": target, "ref": found.reference.to_string(),
            "pinned": found.pinned.to_string(), "digest": found.digest(), "index": found.index(),
            "platform": found.platform.to_string(), "size": found.size(),
        });
        if let (Some(all), Value::Object(facts)) = (value.as_object_mut(), facts) {
            all.extend(facts);
        }
        print(&value, context);
        return;
    }
    let size = show_size(found.size());
    let target = target.display();
    context.ui.say(&match outcome {
        "pulled" => format!("pulled {name} ({size}) into {target}"),
        "would pull" => format!("would pull {name} ({size}) into {target}"),
        _ => format!("{name} is up to date: {target}"),
    });
    context.ui.out(&found.pinned.to_string());
}
