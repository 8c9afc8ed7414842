//! `ovl list`: what is installed, in all layers.

use rayon::prelude::*;
use serde_json::json;

use super::args::List;
use super::failure::Outcome;
use super::{Context, pattern};
use crate::model::units::show_size;
use crate::store::overlays;
use crate::sys::{clock, fs};
use crate::ui::table;

/// Runs the command.
pub fn run(args: &List, context: &Context) -> Outcome {
    use std::os::unix::fs::MetadataExt;
    let pattern = pattern::compile(args.pattern.as_deref(), false)?;
    let mut rows = Vec::new();
    let mut items = Vec::new();
    let mut last = None;
    let mut found = overlays::all(&context.layers)?;
    found.retain(|overlay| pattern.is_match(&overlay.name.to_string()));
    // Opening a file costs a round trip on a network file system: all at once, then.
    let images: Vec<_> = found.par_iter().map(|overlay| overlays::open(&overlay.path)).collect();
    for (overlay, image) in found.into_iter().zip(images) {
        let hidden = last.as_ref() == Some(&overlay.name);
        last = Some(overlay.name.clone());
        // Another process may have removed it since the directory was read.
        let Some(meta) = fs::metadata_if_exists(&overlay.path)? else { continue };
        let broken = image.as_ref().err().map(ToString::to_string);
        let inodes = image.as_ref().map_or(0, |image| image.superblock().inodes);
        items.push(json!({
            "name": overlay.name, "path": overlay.path, "layer": overlay.layer, "bytes": meta.len(), "inodes": inodes,
            "changed": clock::rfc3339(meta.mtime()), "hidden": hidden, "error": broken,
        }));
        let mut row = vec![overlay.name.to_string()];
        if args.long {
            let note = match (&broken, hidden) {
                (Some(_), _) => "unreadable",
                (None, true) => "hidden by the one above",
                (None, false) => "",
            };
            let date = clock::rfc3339(meta.mtime()).chars().take(10).collect();
            row.extend([show_size(meta.len()), format!("{inodes} inodes"), date, overlay.layer.into(), note.into()]);
        }
        broken.iter().for_each(|error| context.ui.warn(error));
        if args.long || !hidden {
            rows.push(row);
        }
    }
    if args.json {
        context.ui.out(&serde_json::to_string_pretty(&items).unwrap_or_default());
        return Ok(0);
    }
    if rows.is_empty() {
        context.ui.say("no overlays are installed here that match; see what can be built with: ovl avail");
    }
    table::columns(&rows).iter().for_each(|line| context.ui.out(line));
    Ok(0)
}
