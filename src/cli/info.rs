//! `ovl info`: what an overlay is, what it exports, and where it comes from; what SIF and ext3 images are.

mod ext;
mod sif;

use std::os::unix::fs::FileTypeExt;
use std::path::{Path, PathBuf};

use serde_json::json;

use super::Context;
use super::args::Info;
use super::failure::{Failure, Outcome};
use crate::image::kind::{self, Kind};
use crate::model::env::expand;
use crate::model::name::{self, Name};
use crate::model::units::show_size;
use crate::model::version::Version;
use crate::store::bases;
use crate::store::overlays::{self, Facts, OverlayError};
use crate::store::{claim, publish, system};
use crate::sys::lock::{self, Use};
use crate::sys::{clock, env, fs};

/// The file that a user means: a path, an exact name, or a name without version (the newest installed).
pub fn locate(text: &str, context: &Context) -> Result<PathBuf, Failure> {
    let ending = Path::new(text).extension().and_then(|ending| ending.to_str());
    let is_path = text.starts_with(['/', '.']) || matches!(ending, Some("sqf" | "squashfs" | "sqfs" | "sif" | "img"));
    if is_path {
        let path = env::current_dir().join(text.strip_prefix("./").unwrap_or(text));
        let meta = fs::metadata(&path).map_err(|error| Failure::usage(error.to_string()))?;
        let kind = meta.file_type();
        // Opening a pipe would wait for somebody to write to it.
        if kind.is_fifo() || kind.is_socket() || kind.is_char_device() {
            return Err(Failure::usage(format!("{}: it is no regular file", path.display())));
        }
        return Ok(path);
    }
    if let Ok(name) = text.parse::<Name>()
        && let Some(found) = overlays::find(&context.layers, &name)?
    {
        return Ok(found.path);
    }
    if let Ok(name) = text.parse::<Name>()
        && let Some(path) = bases::find_file(&context.layers, &name)?
    {
        return Ok(path);
    }
    let stem = name::split(text).join("/");
    let all = overlays::all(&context.layers)?;
    let newest = all
        .iter()
        .filter(|overlay| overlay.name.stem() == stem)
        .max_by_key(|overlay| Version::new(overlay.name.version()));
    if let Some(overlay) = newest {
        return Ok(overlay.path.clone());
    }
    let failure = Failure::usage(format!("there is no overlay '{text}'"));
    let failure = match text.parse::<Name>() {
        Ok(name) => failure.hint(format!("build it with: ovl build {name}")),
        Err(_) => failure,
    };
    let failure = match fs::metadata_if_exists(&env::current_dir().join(text)) {
        Ok(Some(meta)) if meta.is_file() => failure.hint(format!("there is a file of this name: ./{text}")),
        _ => failure,
    };
    Err(failure.hint("see what is installed with: ovl list"))
}

/// Runs the command.
pub fn run(args: &Info, context: &Context) -> Outcome {
    let path = locate(&args.overlay, context)?;
    let in_use = match lock::probe(&path)? {
        Use::Free => "no",
        Use::Readers => "yes",
        Use::Writer => "yes, for writing",
        Use::Unknown => "unknown: no file locks here",
    };
    match kind::of(&fs::open(&path)?).map_err(|source| OverlayError::Image { path: path.clone(), source })? {
        Kind::Sif => return sif::run(&path, in_use, args.json, context),
        Kind::Ext => return ext::run(&path, in_use, args.json, context),
        Kind::Squashfs | Kind::Other => {}
    }
    let image = overlays::open(&path)?;
    let facts = overlays::facts(&path, &image)?;
    facts.warnings.iter().for_each(|warning| context.ui.warn(warning));
    let called = path.file_stem().and_then(|stem| stem.to_str()).and_then(Name::from_file_stem);
    if let (Some(called), Some(meta)) = (called, &facts.meta)
        && called != meta.name
    {
        context.ui.warn(&format!("the file is called {called}, but {} is in it", meta.name));
    }
    let size = fs::metadata(&path)?.len();
    let superblock = image.superblock();
    let codec = superblock.codec.name();
    let now = path.parent().map_or(std::time::UNIX_EPOCH, fs::server_now);
    let builder = claim::holder(&path, now, context.config.lease())?.map(|owner| owner.to_string());
    let previous = publish::previous_of(&path);
    let previous = fs::metadata_if_exists(&previous)?.map(|_| previous);
    let system = system::of(&path, &image)?;
    if args.json {
        let value = json!({
            "file": path, "bytes": size, "digest": facts.digest, "in_use": in_use, "being_built_by": builder, "previous": previous,
            "squashfs": { "compression": codec, "block_size": superblock.block_size, "inodes": superblock.inodes, "bytes": superblock.bytes_used, "time": clock::rfc3339(superblock.mkfs_time.into()) },
            "mounts": facts.roots.iter().map(|root| &root.path).collect::<Vec<_>>(),
            "env": facts.env, "meta": facts.meta,
            "system": system.as_ref().map(|system| json!({
                "labels": system.labels, "runscript": system.runscript, "test": system.test, "help": system.help,
            })),
        });
        context.ui.out(&serde_json::to_string_pretty(&value).unwrap_or_default());
        return Ok(0);
    }
    let out = |key: &str, value: &str| context.ui.out(&format!("{key:<14}{value}"));
    if let Some(meta) = &facts.meta {
        out("name", &meta.name.to_string());
        meta.whatis.iter().for_each(|text| out("what", text));
        meta.url.iter().for_each(|text| out("url", text));
    }
    out("file", &path.display().to_string());
    out("size", &format!("{} ({size} bytes)", show_size(size)));
    facts.digest.iter().for_each(|text| out("digest", text));
    out(
        "squashfs",
        &format!(
            "{codec}, blocks of {}, {} inodes, made {}",
            show_size(superblock.block_size.into()),
            superblock.inodes,
            clock::rfc3339(superblock.mkfs_time.into())
        ),
    );
    facts.roots.iter().for_each(|root| out("mounts at", &root.path));
    out("in use", in_use);
    builder.iter().for_each(|text| out("being built", &format!("by {text}")));
    previous.iter().for_each(|path| out("previous", &path.display().to_string()));
    if let Some(system) = &system {
        let parts = [("runscript", system.runscript), ("test", system.test), ("help", system.help.is_some())];
        let parts: Vec<&str> = parts.into_iter().filter(|(_, has)| *has).map(|(name, _)| name).collect();
        out("system", &if parts.is_empty() { "one of its own".into() } else { format!("with {}", parts.join(", ")) });
        if !system.labels.is_empty() {
            context.ui.out("labels");
            system.labels.iter().for_each(|(key, value)| context.ui.out(&format!("  {key}={value}")));
        }
    }
    variables(&facts, context);
    provenance(&facts, context);
    Ok(0)
}

fn variables(facts: &Facts, context: &Context) {
    if facts.env.is_empty() {
        return;
    }
    let root = facts.roots.last().map(|root| root.path.clone()).unwrap_or_default();
    let known = [("app_root".to_owned(), root), ("PATH".to_owned(), "$PATH".to_owned())].into();
    context.ui.out("variables");
    for var in &facts.env {
        let note = var.note.as_ref().map(|note| format!("    # {note}")).unwrap_or_default();
        context.ui.out(&format!("  {}={}{note}", var.name, expand(&var.value, &known)));
    }
}

fn provenance(facts: &Facts, context: &Context) {
    let Some(meta) = &facts.meta else {
        context.ui.out("provenance    none: not built by ovl");
        return;
    };
    let out = |key: &str, value: &str| context.ui.out(&format!("  {key:<12}{value}"));
    context.ui.out("provenance");
    out("recipe", &format!("{} ({})", meta.recipe_source, meta.inputs.recipe));
    if let Some(commit) = &meta.git_commit {
        let branch = meta.git_branch.as_ref().map(|branch| format!(" on {branch}")).unwrap_or_default();
        out("git", &format!("{commit}{branch}{}", if meta.git_dirty { ", changed since" } else { "" }));
    }
    out("built", &format!("{} on {} for {} by ovl {}", meta.build_date, meta.host, meta.platform, meta.ovl));
    out("network", &meta.network);
    for dep in &meta.inputs.dependencies {
        out(if dep.build_only { "built with" } else { "needs" }, &format!("{} ({})", dep.name, dep.digest));
    }
    for source in &meta.sources {
        out("fetched", &format!("{} {} ({})", source.url, source.digest, show_size(source.bytes)));
    }
    for (key, value) in &meta.labels {
        out("label", &format!("{key}={value}"));
    }
    out("key", &meta.key);
}
