//! ext3 images as Apptainer uses them: `hold` locks them, `tools` finds the programs that serve them, `mend` repairs
//! them after a crash, `keeper` keeps one mounted for writing outside of the command's namespaces, `place` is what the
//! command sees of it, and `exec` runs the command and waits until everything is in the image. `care` makes and
//! changes images.

pub mod care;
mod exec;
mod hold;
mod keeper;
mod mend;
mod place;
mod tools;

use std::fs::File;
use std::path::{Path, PathBuf};

pub use exec::exec;
pub use hold::hold;
pub use place::Place;

use super::error::{Result, RuntimeError};
use super::tree::ExtLayer;
use crate::image::ext::{ExtImage, Facts};
use crate::image::kind;
use crate::image::sif::{Object, Sif};
use crate::sys::fs;
use crate::sys::lock::{self, Kind, Use};

/// An image as a layer that is only read; marked as used for as long as the file is open.
///
/// # Errors
/// When somebody writes it, it is damaged, or it was not unmounted cleanly.
pub fn read_only(path: &Path, file: File) -> Result<ExtLayer> {
    let locked = hold::lock(path, &file, Kind::Read)?;
    let failed = |source| RuntimeError::Image { path: path.to_owned(), source };
    // A lock of our own does not show here: these are others who read.
    let shared = lock::probe_file(&file).is_ok_and(|used| used == Use::Readers);
    if !shared && !Facts::read(&file).map_err(failed)?.is_clean() {
        if !locked {
            return Err(hold::unsure(path));
        }
        return Err(RuntimeError::Impossible(format!(
            "{} was not closed cleanly; repair it with: ovl overlay check {}",
            path.display(),
            path.display()
        )));
    }
    let image = if shared { ExtImage::open_shared(file, 0) } else { ExtImage::open(file, 0) };
    image.and_then(ExtLayer::new).map_err(failed)
}

/// An ext3 partition of a SIF file as a layer that is only read, held as Apptainer holds it: by a lock over its range.
///
/// # Errors
/// When somebody writes it, it is damaged, or it was not unmounted cleanly.
pub fn partition(path: &Path, sif: &Sif, object: &Object) -> Result<ExtLayer> {
    hold::part(path, sif.file(), Kind::Read, object.offset, object.size)?;
    let failed = |source| RuntimeError::Image { path: path.to_owned(), source };
    sif.ext(object).and_then(ExtLayer::new).map_err(failed)
}

/// Says once when nobody can tell whether an image among these layers, which are only read, is written to meanwhile.
pub fn tell_unlocked(layers: &[PathBuf], tell: &dyn Fn(&str)) {
    // Every file opened takes its time on a slow file server; what is named as something else is not looked into.
    let may_be = |path: &&PathBuf| path.extension().is_none_or(|ending| ending != "sqf" && ending != "sif");
    let unlocked = layers.iter().filter(may_be).find(|path| {
        fs::open(path).is_ok_and(|file| {
            kind::of(&file).is_ok_and(|kind| kind == kind::Kind::Ext)
                && lock::probe_file(&file).is_ok_and(|used| used == Use::Unknown)
        })
    });
    if let Some(path) = unlocked {
        tell(&hold::unlocked(path));
    }
}
