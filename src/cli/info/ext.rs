//! `ovl info X.img`: what an ext2/3/4 image is for.

use std::path::Path;

use serde_json::json;

use super::super::Context;
use super::super::failure::Outcome;
use crate::image::ext::{ExtImage, ExtSource};
use crate::image::source::Source;
use crate::model::units::show_size;
use crate::store::overlays::OverlayError;
use crate::sys::fs;

/// Tells it.
pub fn run(path: &Path, in_use: &str, as_json: bool, context: &Context) -> Outcome {
    let bad = |source| OverlayError::Image { path: path.to_owned(), source };
    let size = fs::metadata(path)?.len();
    let image = ExtImage::open(fs::open(path)?, 0).map_err(bad)?;
    let part = |name: &[u8]| ExtSource::new(&image, name).and_then(|source| source.root());
    let (upper, work) = (part(b"upper"), part(b"work"));
    // A writable overlay as Apptainer and `ovl overlay create` make it: upper takes what is written.
    let owner = match (&upper, &work) {
        (Ok(upper), Ok(_)) => Some(upper.meta.uid),
        _ => None,
    };
    if as_json {
        let value = json!({
            "file": path, "bytes": size, "in_use": in_use, "ext": { "writable_overlay": owner.is_some(), "owner": owner },
        });
        context.ui.out(&serde_json::to_string_pretty(&value).unwrap_or_default());
        return Ok(0);
    }
    let out = |key: &str, value: &str| context.ui.out(&format!("{key:<14}{value}"));
    out("file", &path.display().to_string());
    out("size", &format!("{} ({size} bytes)", show_size(size)));
    match owner {
        Some(uid) => out("ext", &format!("a writable overlay of user {uid} (it has upper and work)")),
        None => out("ext", "a file system; no writable overlay (without upper and work)"),
    }
    out("in use", in_use);
    Ok(0)
}
