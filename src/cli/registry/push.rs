//! `ovl push`: an overlay into registries, under one name or several.

use std::collections::BTreeMap;

use serde_json::json;

use super::{Watching, base, options, print, reference};
use crate::cli::args::Push;
use crate::cli::failure::{Failure, Outcome};
use crate::cli::{Context, info};
use crate::model::units::show_size;
use crate::registry::push::Parcel;
use crate::registry::{Reference, RegistryError, prebuilt};
use crate::ui::Meter;

/// Runs the command.
pub fn run(args: &Push, context: &Context) -> Outcome {
    let options = options(&args.speaking, context);
    let base = base(&options, context)?;
    let annotations = annotations(&args.annotations)?;
    // What cannot be is said before a large file is read.
    let mut references: Vec<Reference> =
        args.references.iter().map(|text| reference(text, base.as_deref())).collect::<Result<_, _>>()?;
    for (text, reference) in args.references.iter().zip(&references) {
        // As `ovl rm A B` is meant.
        if reference.tag.is_none() && reference.digest.is_none() && info::locate(text, context).is_ok() {
            return Err(Failure::usage(format!(
                "{text} is an overlay; {} would be pushed under its name",
                args.overlay
            ))
            .hint(format!("push one at a time: ovl push {text}    or give the reference a tag")));
        }
    }
    let path = info::locate(&args.overlay, context)?;
    let meter = Meter::new(context.ui, &context.config.progress(), &format!("reading {}", args.overlay));
    let watch = Watching(&meter);
    let parcel = Parcel::open(&path, &watch)?;
    if references.is_empty() {
        references.push(default(&parcel, base.as_deref(), args)?);
    }
    for reference in &mut references {
        if reference.tag.is_none()
            && let Some(meta) = parcel.meta()
        {
            *reference = reference.with_tag(&crate::registry::tag_of(meta.name.version()));
        }
    }
    if args.by_key {
        let Some(meta) = parcel.meta() else {
            return Err(Failure::usage(format!("{} was not built by ovl, so it has no key", path.display())));
        };
        let tag = prebuilt::tag(&meta.key);
        let mut keyed: Vec<Reference> = references.iter().map(|reference| reference.with_tag(&tag)).collect();
        keyed.dedup();
        references.extend(keyed);
    }
    let (layer, size) = parcel.layer();
    if args.dry_run {
        drop(meter);
        if args.speaking.json {
            let references: Vec<String> = references.iter().map(ToString::to_string).collect();
            print(&json!({ "file": path, "layer": layer, "size": size, "refs": references }), context);
        } else {
            for reference in &references {
                context.ui.out(&format!("would push {} ({}) to {reference}", path.display(), show_size(size)));
            }
        }
        return Ok(0);
    }
    meter.turn_to(&format!("pushing {}", args.overlay));
    let pushed = parcel.push(&references, &annotations, &options, &watch)?;
    drop(meter);
    if args.speaking.json {
        print(&json!({ "file": path, "pushed": pushed }), context);
        return Ok(0);
    }
    for one in &pushed {
        let how = match one.transfer {
            "sent" => show_size(one.size),
            "mounted" => "its content came from another repository there".into(),
            _ => "its content was there".into(),
        };
        context.ui.say(&format!("pushed {} for {} ({how})", one.reference, one.platform));
        context.ui.out(&one.pinned);
    }
    Ok(0)
}

/// Below the registry, by the overlay's own name.
fn default(parcel: &Parcel, base: Option<&str>, args: &Push) -> Result<Reference, Failure> {
    let base = base.ok_or_else(|| {
        Failure::usage("it is not said where to push to").hint(format!(
            "name it: ovl push {} HOST/GROUP/NAME:TAG, or set registry.default in config.yaml",
            args.overlay
        ))
    })?;
    let name = parcel.meta().map(|meta| meta.name.clone()).or_else(|| args.overlay.parse().ok());
    let name = name.ok_or_else(|| {
        Failure::usage(format!("{} says nothing about itself, so it needs a name there", args.overlay))
            .hint(format!("name it: ovl push {} NAME:TAG", args.overlay))
    })?;
    Ok(Reference::for_name(base, &name).map_err(RegistryError::from)?)
}

fn annotations(words: &[String]) -> Result<BTreeMap<String, String>, Failure> {
    let one = |word: &String| {
        let (key, value) = word.split_once('=').filter(|(key, _)| !key.is_empty())?;
        Some((key.to_owned(), value.to_owned()))
    };
    words
        .iter()
        .map(|word| one(word).ok_or_else(|| Failure::usage(format!("--annotation '{word}' is not KEY=VALUE"))))
        .collect()
}
