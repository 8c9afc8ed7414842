//! ext3 images on the command line: which one `ovl e` takes by itself, and what an image contributes to the environment.

use std::path::{Path, PathBuf};

use super::failure::Failure;
use crate::exec::environ::{self, CONDA, LayerEnv};
use crate::image::ext::{ExtImage, ExtSource};
use crate::image::kind::{self, Kind};
use crate::sys::{env, fs, host};

/// Where `ovl e` looks, in this order.
const PLACES: [&str; 3] = ["", "overlay", "src/overlay"];

/// The image to work in that lies nearest: the user's own, or everybody's.
pub fn nearest() -> Option<PathBuf> {
    let here = env::current_dir();
    let names = [format!("env-{}.img", host::user()), "env.img".to_owned()];
    let paths = names.iter().flat_map(|name| PLACES.map(|place| here.join(place).join(name)));
    paths.into_iter().find(|path| fs::metadata(path).is_ok_and(|meta| meta.is_file()))
}

/// Whether a file is an ext image. What cannot be read is told where it is opened.
pub fn is_ext(path: &Path) -> Result<bool, Failure> {
    Ok(kind::of(&fs::open(path)?).is_ok_and(|kind| kind == Kind::Ext))
}

/// What an ext image contributes to the environment: a conda environment in it. An image that has to be repaired first
/// is not looked into.
pub fn layer_env(path: &Path) -> Result<Option<LayerEnv>, Failure> {
    let Ok(image) = ExtImage::open(fs::open(path)?, 0) else { return Ok(None) };
    let has = |top: &str| ExtSource::new(&image, format!("{top}{CONDA}/bin").as_bytes()).is_ok();
    Ok((has("upper") || has("")).then(environ::conda))
}
