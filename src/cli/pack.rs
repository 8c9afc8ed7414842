//! `ovl pack`: whatever holds files becomes one SquashFS image, which appears under its name whole or not at all.

use std::fs::File;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Instant;

use serde_json::json;

use super::args::Pack;
use super::failure::{Failure, Outcome, code};
use super::{Context, Flag};
use crate::build::work::scratch;
use crate::image::ImageError;
use crate::image::source::dir::Skip;
use crate::image::source::open::{self, Found, Way};
use crate::image::source::{AnySource, Entry, Graft, Kind, Source};
use crate::image::squashfs::read::Image;
use crate::image::squashfs::write::{Owners, PackOptions, PackReport, Watch, pack};
use crate::model::units::{show_size, show_time};
use crate::store::publish::NewImage;
use crate::store::sweep;
use crate::sys::lock::{self, Taken, Use};
use crate::sys::{env, fs, signal, term};
use crate::ui::Meter;

/// Flags that stand for configuration keys.
pub fn flags(args: &Pack) -> Result<Vec<Flag>, Failure> {
    let comp = match (&args.comp, args.level) {
        (Some(comp), Some(level)) if !comp.contains(':') => Some(format!("{comp}:{level}")),
        (Some(comp), Some(_)) => return Err(Failure::usage(format!("--comp {comp} has a level; leave --level out"))),
        (Some(comp), None) => Some(comp.clone()),
        (None, Some(level)) => Some(format!("zstd:{level}")),
        (None, None) => None,
    };
    let flags = [
        ("build.comp", "--comp", comp),
        ("build.block_size", "--block-size", args.block_size.clone()),
        ("build.pack_threads", "--threads", args.threads.map(|threads| threads.to_string())),
        ("ui.progress", "--progress", args.progress.clone()),
    ];
    Ok(flags.into_iter().filter_map(|(key, flag, value)| Some((key, flag, value?))).collect())
}

/// Runs the command.
pub fn run(args: &Pack, context: &Context) -> Outcome {
    let began = Instant::now();
    let target = target(args)?;
    if !args.dry_run {
        may_write(&target, args.force)?;
    }
    let meter = Meter::new(context.ui, &context.config.progress(), &format!("reading {}", args.source.display()));
    let watch = Watching(&meter);
    let skip = Arc::new(Skip::default());
    let way = Way { scratch: &scratch(&context.config), watch: &watch, skip: skip.clone() };
    // The target may lie in the directory that is packed, and so may what it is written as until it is finished.
    skip.add(&target);
    // Held until the image is written.
    let (found, _lock) = open_source(&args.source, &way, context)?;
    found.notes.iter().for_each(|note| context.ui.warn(&format!("{}: {note}", args.source.display())));
    let bad = |error| failed(&args.source, error);
    let (what, source) = (found.what.clone(), below(found, args.prefix.as_deref()).map_err(bad)?);
    if args.dry_run {
        drop(meter);
        return would(args, &what, &source, &target, context);
    }
    let options = options(args, context);
    sweep::unfinished(&target, context.config.lease());
    let image = NewImage::create(&target)?;
    skip.add(image.path());
    let _ = lock::try_lock(image.file(), lock::Kind::Write);
    meter.turn_to(&format!("packing {}", args.source.display()));
    let report = pack(&source, image.file(), &options, &watch).map_err(|error| of_packing(args, &target, error))?;
    image.flush()?;
    let written = Image::open(fs::open(image.path())?, 0).and_then(|image| image.verify());
    written.map_err(|error| {
        Failure::new(code::ERROR, format!("the image just written does not read back: {error}"))
            .hint("the disk or its file server may be failing; nothing was published")
    })?;
    // The last moment at which an interrupt leaves nothing.
    if signal::interrupted().is_some() {
        return Err(failed(&args.source, ImageError::Interrupted));
    }
    image.place(args.force).map_err(|error| exists(error, &target))?;
    drop(meter);
    tell(args, &what, &target, &options, &report, began, context);
    Ok(0)
}

fn tell(
    args: &Pack,
    what: &str,
    target: &Path,
    options: &PackOptions,
    report: &PackReport,
    began: Instant,
    context: &Context,
) {
    if args.json {
        let value = json!({
            "source": args.source, "what": what, "file": target, "bytes": report.bytes_out, "content": report.bytes_in,
            "files": report.files, "inodes": report.inodes, "hard_links": report.hard_links,
            "duplicates": report.duplicates, "setuid_dropped": report.harmless, "compression": options.compression.to_string(),
            "block_size": options.block_size, "seconds": began.elapsed().as_secs_f64(),
        });
        context.ui.out(&serde_json::to_string_pretty(&value).unwrap_or_default());
        return;
    }
    if report.harmless > 0 {
        let count = report.harmless;
        context.ui.warn(&format!(
            "{count} files are no longer setuid or setgid: they were somebody else's than root's (--keep-owner keeps owners)"
        ));
    }
    context.ui.say(&format!(
        "packed {what} into {}: {} in {} files as {} ({}, {})",
        target.display(),
        show_size(report.bytes_in),
        report.files,
        show_size(report.bytes_out),
        options.compression,
        show_time(began.elapsed()),
    ));
}

fn options(args: &Pack, context: &Context) -> PackOptions {
    let epoch = env::var("SOURCE_DATE_EPOCH").and_then(|text| text.parse().ok());
    let processors = std::thread::available_parallelism().map_or(1, usize::from);
    PackOptions {
        compression: context.config.compression(),
        block_size: context.config.block_size(false),
        threads: context.config.pack_threads(u32::try_from(processors).unwrap_or(1)),
        owners: if args.keep_owner { Owners::Keep } else { Owners::AllRoot },
        epoch,
        budget: context.config.pack_memory(),
        dedup: true,
    }
}

/// Where to write: as asked, else SOURCE's name with another ending, in the current directory.
fn target(args: &Pack) -> Result<PathBuf, Failure> {
    let cwd = env::current_dir();
    if let Some(output) = &args.output {
        return Ok(cwd.join(output));
    }
    let full = cwd.join(&args.source);
    let name = full.file_name().and_then(|name| name.to_str()).filter(|_| args.source != Path::new("-"));
    let name = name.ok_or_else(|| Failure::usage("name the image to write with -o FILE"))?;
    Ok(cwd.join(format!("{}.sqf", stem(name))))
}

/// A file's name without the endings of images and archives.
pub fn stem(name: &str) -> &str {
    let ends = [".tar.gz", ".tar.xz", ".tar.zst", ".tar", ".tgz", ".txz", ".tzst", ".img", ".ext3", ".sif", ".sqf"];
    let stem = ends.iter().find_map(|ending| name.strip_suffix(ending)).filter(|stem| !stem.is_empty());
    stem.unwrap_or(name)
}

/// Refuses early what would be refused after the work.
pub fn may_write(target: &Path, force: bool) -> Result<(), Failure> {
    match fs::symlink_metadata(target) {
        Ok(meta) if meta.is_dir() => Err(Failure::usage(format!("{} is a directory", target.display()))),
        Ok(_) if !force => Err(already(target)),
        _ => Ok(()),
    }
}

fn already(target: &Path) -> Failure {
    Failure::usage(format!("{} is there already", target.display())).hint("replace it with --force")
}

pub fn exists(error: fs::PathError, target: &Path) -> Failure {
    if error.source.kind() == std::io::ErrorKind::AlreadyExists { already(target) } else { error.into() }
}

/// Opens what is to be packed, and holds a lock on it where that means something.
pub fn open_source(path: &Path, way: &Way, context: &Context) -> Result<(Found, Option<File>), Failure> {
    if path == Path::new("-") {
        if term::stdin_is_terminal() {
            return Err(Failure::usage(
                "standard input is a terminal; give it an archive, as in: tar c DIR | ovl pack -",
            ));
        }
        let found = open::stream(std::io::stdin().lock(), way).map_err(|error| failed(path, error))?;
        return Ok((found, None));
    }
    let meta = fs::metadata(path).map_err(|error| Failure::usage(error.to_string()))?;
    let bad = |error| failed(path, error);
    if meta.is_dir() {
        return Ok((open::directory(path, way).map_err(bad)?, None));
    }
    let file = fs::open(path)?;
    if !meta.is_file() {
        return Ok((open::stream(file, way).map_err(bad)?, None));
    }
    let held = fs::open(path)?;
    match lock::try_lock(&held, lock::Kind::Read).map_err(fs::PathError::new("lock", path))? {
        Taken::Held => {}
        Taken::Busy => return Err(busy(path)),
        Taken::Unsupported if lock::probe(path).is_ok_and(|answer| answer == Use::Unknown) => context
            .ui
            .say(&format!("note: there are no file locks where {} lies; nobody may write to it now", path.display())),
        Taken::Unsupported => {}
    }
    Ok((open::file(file, way).map_err(bad)?, Some(held)))
}

fn busy(path: &Path) -> Failure {
    let holders = lock::holders(path);
    let who = if holders.is_empty() { "a process of another user or node".into() } else { holders.join(", ") };
    Failure::new(code::BUSY, format!("{} is being written to by {who}", path.display()))
        .hint("pack it when that has ended")
}

/// The content at the path where it is to appear.
fn below(found: Found, prefix: Option<&str>) -> Result<AnySource, ImageError> {
    match prefix.map(|prefix| prefix.trim_matches('/')).filter(|prefix| !prefix.is_empty()) {
        None => Ok(found.source),
        Some(prefix) => {
            let time = found.source.root()?.meta.mtime;
            Ok(AnySource::new(Graft::new(found.source, prefix.as_bytes(), time, Vec::new())?))
        }
    }
}

/// How much there is.
#[derive(Debug, Clone, Copy, Default)]
pub struct Count {
    /// Everything but the root.
    pub entries: u64,
    /// Bytes of regular files.
    pub bytes: u64,
    /// The same in blocks of 4096 bytes, with one for everything else.
    pub blocks: u64,
}

/// Looks through all of a source.
pub fn count(source: &AnySource) -> Result<Count, ImageError> {
    let mut count = Count::default();
    let mut seen = std::collections::HashSet::new();
    let mut open: Vec<Entry<_>> = vec![source.root()?];
    while let Some(dir) = open.pop() {
        if signal::interrupted().is_some() {
            return Err(ImageError::Interrupted);
        }
        for entry in source.list(&dir)? {
            count.entries += 1;
            if entry.meta.links < 2 || entry.kind == Kind::Dir || seen.insert(entry.meta.inode) {
                count.bytes = count.bytes.saturating_add(entry.meta.size);
                // Every thousand blocks need one that says where they are.
                let blocks = entry.meta.size.div_ceil(4096);
                count.blocks = count.blocks.saturating_add(blocks.max(1)).saturating_add(blocks / 1000);
            }
            if entry.kind == Kind::Dir {
                open.push(entry);
            }
        }
    }
    Ok(count)
}

/// Says what would be packed.
fn would(args: &Pack, what: &str, source: &AnySource, target: &Path, context: &Context) -> Outcome {
    let bad = |error| failed(&args.source, error);
    let Count { entries, bytes, .. } = count(source).map_err(bad)?;
    let there = fs::symlink_metadata(target).is_ok();
    if args.json {
        let value = json!({
            "source": args.source, "what": what, "file": target, "exists": there, "entries": entries, "content": bytes,
        });
        context.ui.out(&serde_json::to_string_pretty(&value).unwrap_or_default());
    } else {
        let replacing = if there { ", which is there already" } else { "" };
        let (size, target) = (show_size(bytes), target.display());
        context.ui.say(&format!("would pack {what}: about {size} in {entries} entries, into {target}{replacing}"));
    }
    Ok(0)
}

/// An error of reading the source.
pub fn failed(path: &Path, error: ImageError) -> Failure {
    let text = match path == Path::new("-") {
        true => format!("standard input: {error}"),
        false => format!("{}: {error}", path.display()),
    };
    match error {
        ImageError::Interrupted => Failure::new(code::INTERRUPTED, "interrupted; nothing was written"),
        ImageError::Io { ref source, .. } if fs::is_full(source) => {
            Failure::new(code::ERROR, text).hint("streams are kept in dirs.scratch meanwhile: OVL_DIRS_SCRATCH=DIR")
        }
        _ => Failure::new(code::ERROR, text),
    }
}

fn of_packing(args: &Pack, target: &Path, error: ImageError) -> Failure {
    match &error {
        ImageError::Io { source, .. } if fs::is_full(source) => {
            let dir = target.parent().unwrap_or(Path::new("/"));
            Failure::new(code::ERROR, format!("cannot write {}: {source}", target.display()))
                .hint(format!("free space in {}, or write elsewhere with -o FILE", dir.display()))
        }
        _ => failed(&args.source, error),
    }
}

/// Tells a meter, and stops at an interrupt.
pub struct Watching<'a>(pub &'a Meter);

impl Watch for Watching<'_> {
    fn progress(&self, done: u64, total: Option<u64>) {
        self.0.tell(done, total);
    }

    fn cancelled(&self) -> bool {
        signal::interrupted().is_some()
    }
}
