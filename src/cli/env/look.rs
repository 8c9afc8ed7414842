//! `ovl env list` and `ovl env export`, and how the environment in an image is read.

use std::fs::File;
use std::path::{Path, PathBuf};

use rattler_conda_types::{PrefixRecord, Subdir};
use serde_json::{Value, json};

use crate::cli::args::FormArg;
use crate::cli::failure::{Failure, Outcome, code};
use crate::cli::{Context, img, info};
use crate::conda::Locked;
use crate::conda::installed::{self, Installed, META};
use crate::exec::environ::CONDA;
use crate::image::ext::{ExtImage, ExtSource};
use crate::image::squashfs::source::SquashSource;
use crate::net::redacted;
use crate::runtime::writable::hold;
use crate::store::overlays;
use crate::sys::lock::Kind;
use crate::sys::{env, fs};
use crate::ui::table;

/// The image that is meant.
pub fn image(named: Option<&Path>) -> Result<PathBuf, Failure> {
    let found = match named {
        Some(path) => Some(env::current_dir().join(path)),
        None => img::nearest(),
    };
    let path = found.ok_or_else(|| {
        Failure::usage("there is no image: neither env-USER.img nor env.img, here or in overlay/")
            .hint("make one with: ovl overlay create env.img -- PACKAGE…")
    })?;
    fs::metadata(&path).map_err(|error| {
        Failure::usage(error.to_string())
            .hint(format!("make it with: ovl overlay create {} -- PACKAGE…", path.display()))
    })?;
    Ok(path)
}

/// Reads the environment of a held image; an empty one where there is none.
pub fn read(path: &Path, file: File) -> Result<Installed, Failure> {
    let failed = |error| Failure::new(code::ERROR, format!("{}: {error}", path.display()));
    let image = ExtImage::open(file, 0).map_err(failed)?;
    for top in ["upper", ""] {
        if let Ok(meta) = ExtSource::new(&image, format!("{top}{CONDA}/{META}").as_bytes()) {
            return installed::read(&meta).map_err(failed);
        }
    }
    Ok(Installed::default())
}

fn of_image(named: Option<&Path>) -> Result<(PathBuf, Installed), Failure> {
    let path = image(named)?;
    let held = hold(&path, Kind::Read)?;
    let found = read(&path, held.file)?;
    if found.records.is_empty() {
        let text = format!("{} has no conda environment at {CONDA}", path.display());
        return Err(
            Failure::usage(text).hint(format!("install packages with: ovl env install -w {} PACKAGE…", path.display()))
        );
    }
    Ok((path, found))
}

fn of_overlay(name: &str, context: &Context) -> Result<(PathBuf, Installed), Failure> {
    let path = info::locate(name, context)?;
    if img::is_ext(&path)? {
        return of_image(Some(&path));
    }
    let image = overlays::open(&path)?;
    let facts = overlays::facts(&path, &image)?;
    let metas = facts.roots.iter().filter_map(|root| {
        let meta = format!("{}/{META}", root.path.trim_start_matches('/'));
        SquashSource::new(&image, meta.as_bytes()).ok()
    });
    let mut all = Installed::default();
    for meta in metas {
        let found = installed::read(&meta)
            .map_err(|error| Failure::new(code::ERROR, format!("{}: {error}", path.display())))?;
        all.records.extend(found.records);
    }
    match all.records.is_empty() {
        true => Err(Failure::usage(format!("{} is no conda environment", path.display()))),
        false => Ok((path, all)),
    }
}

/// Lists what is installed.
pub fn list(named: Option<&Path>, overlay: Option<&str>, as_json: bool, context: &Context) -> Outcome {
    let (path, found) = match overlay {
        Some(name) => of_overlay(name, context)?,
        None => of_image(named)?,
    };
    if found.half_done {
        context.ui.warn(&format!("a change of {} was not finished; finish it with: ovl env install", path.display()));
    }
    if as_json {
        let all: Vec<Value> = found.records.iter().map(one).collect();
        context.ui.out(&Value::from(all).to_string());
        return Ok(0);
    }
    let rows: Vec<Vec<String>> = found
        .records
        .iter()
        .map(|record| {
            let package = &record.repodata_record.package_record;
            let name = package.name.as_normalized().to_owned();
            vec![name, package.version.to_string(), package.build.to_string(), channel(record)]
        })
        .collect();
    table::columns(&rows).iter().for_each(|line| context.ui.out(line));
    Ok(0)
}

fn channel(record: &PrefixRecord) -> String {
    redacted(record.repodata_record.channel.as_deref().unwrap_or_default().trim_end_matches('/'))
}

fn one(record: &PrefixRecord) -> Value {
    let package = &record.repodata_record.package_record;
    json!({
        "name": package.name.as_normalized(), "version": package.version.to_string(),
        "build": package.build.to_string(), "channel": channel(record),
        "url": redacted(record.repodata_record.url.as_str()), "size": package.size,
    })
}

/// What packages are for, by those that are not for any machine.
pub fn platform(found: &Installed) -> Option<Subdir> {
    let mut all = found.records.iter().filter_map(|record| record.repodata_record.package_record.subdir.parse().ok());
    all.find(|platform| *platform != Subdir::NoArch)
}

/// Prints it in a form that makes the same elsewhere.
pub fn export(named: Option<&Path>, form: FormArg, context: &Context) -> Outcome {
    let (path, found) = of_image(named)?;
    let mut locked = Locked {
        platform: platform(&found).or(Subdir::current()).unwrap_or(Subdir::Linux64),
        channels: found.channels(),
        records: found.packages(),
        pip: Vec::new(),
        variables: Default::default(),
    };
    locked.sort();
    let text = match form {
        FormArg::Yaml => locked.to_environment(),
        FormArg::Explicit => locked.to_explicit(),
        FormArg::Lock => {
            locked.to_lock_file().map_err(|error| Failure::new(code::ERROR, format!("{}: {error}", path.display())))?
        }
    };
    context.ui.out_bytes(text.as_bytes());
    Ok(0)
}
