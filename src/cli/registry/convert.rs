//! Container images and SIF files that were pulled become overlays: their layers are united, and packed anew. What they
//! were made from is written beside them, so that the next pull knows.

use std::path::Path;
use std::sync::Arc;

use serde_json::{Value, json};

use super::Watching;
use crate::build::work::scratch;
use crate::cli::Context;
use crate::cli::failure::{Failure, code};
use crate::image::ImageError;
use crate::image::source::dir::Skip;
use crate::image::source::open::{self, Found as Source, Way};
use crate::image::squashfs::write::{Owners, PackOptions, pack};
use crate::model::env::{self, EnvVar};
use crate::registry::image::PulledImage;
use crate::registry::pull::Found;
use crate::registry::{Digest, RegistryError};
use crate::store::overlays;
use crate::store::publish::{self, NewImage};
use crate::sys::{fs, signal};
use crate::ui::Meter;

/// What the line begins with that says where an overlay comes from.
const FROM: &str = "from: ";

/// A container image.
pub fn image(
    found: &Found,
    image: &PulledImage,
    target: &Path,
    meter: &Meter,
    context: &Context,
) -> Result<Value, Failure> {
    let config = fs::read(&image.config)?;
    into(found, target, meter, context, &variables(&config), |way| open::directory(&image.layout, way))
}

/// A SIF file.
pub fn sif(found: &Found, path: &Path, target: &Path, meter: &Meter, context: &Context) -> Result<Value, Failure> {
    let file = fs::open(path)?;
    into(found, target, meter, context, &[], |way| open::file(file, way))
}

/// The digest of what an overlay was made from.
pub fn origin(target: &Path) -> Option<Digest> {
    fs::metadata_if_exists(target).ok()??;
    let text = fs::read_start(&publish::sidecar_of(target), 1 << 16).ok()?;
    let text = String::from_utf8_lossy(&text).into_owned();
    let line = text.lines().find_map(|line| line.strip_prefix("# ")?.strip_prefix(FROM).map(str::to_owned))?;
    line.rsplit_once('@')?.1.parse().ok()
}

fn into(
    found: &Found,
    target: &Path,
    meter: &Meter,
    context: &Context,
    vars: &[EnvVar],
    open: impl FnOnce(&Way) -> Result<Source, ImageError>,
) -> Result<Value, Failure> {
    let watch = Watching(meter);
    let bad = |error: ImageError| match error {
        ImageError::Interrupted => Failure::from(RegistryError::Interrupted),
        source => RegistryError::Image { what: found.pinned.to_string(), source }.into(),
    };
    meter.turn_to(&format!("reading {}", found.reference));
    let way = Way { scratch: &scratch(&context.config), watch: &watch, skip: Arc::new(Skip::default()) };
    let source = open(&way).map_err(bad)?;
    source.notes.iter().for_each(|note| context.ui.warn(&format!("{}: {note}", found.reference)));
    let processors = std::thread::available_parallelism().map_or(1, usize::from);
    let options = PackOptions {
        compression: context.config.compression(),
        block_size: context.config.block_size(false),
        threads: context.config.pack_threads(u32::try_from(processors).unwrap_or(1)),
        owners: Owners::AllRoot,
        epoch: None,
        budget: context.config.pack_memory(),
        dedup: true,
    };
    meter.turn_to(&format!("packing {}", found.reference));
    let image = NewImage::create(target)?;
    let report = pack(&source.source, image.file(), &options, &watch).map_err(bad)?;
    image.flush()?;
    let read = overlays::open(image.path()).map_err(Failure::from)?;
    read.verify().map_err(|error| {
        Failure::new(code::ERROR, format!("the image just written does not read back: {error}"))
            .hint("the disk or its file server may be failing; nothing was published")
    })?;
    if signal::interrupted().is_some() {
        return Err(RegistryError::Interrupted.into());
    }
    let digest = crate::sys::digest::of_file(image.file()).map_err(fs::PathError::new("read", image.path()))?;
    let head = [format!("{FROM}{}", found.pinned), format!("digest: {digest}")];
    let (_, warnings) = image.publish(&env::write_sidecar(&head, vars), context.config.keep_previous())?;
    warnings.iter().for_each(|warning| context.ui.warn(warning));
    Ok(json!({ "layer": digest, "bytes": report.bytes_out, "files": report.files, "what": source.what }))
}

/// The variables of an image's configuration. Its PATH is that of a system of its own, and values with a `$` in them would
/// mean something else in an overlay.
fn variables(config: &[u8]) -> Vec<EnvVar> {
    let value: Value = serde_json::from_slice(config).unwrap_or_default();
    let all = value["config"]["Env"].as_array().map_or(&[][..], Vec::as_slice);
    let one = |text: &Value| {
        let (name, value) = text.as_str()?.split_once('=')?;
        let fine = env::is_name(name) && !matches!(name, "PATH" | "HOME") && !value.contains(['$', '\n', '\r']);
        fine.then(|| EnvVar { name: name.to_owned(), value: value.to_owned(), note: None })
    };
    all.iter().filter_map(one).collect()
}
