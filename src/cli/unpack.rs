//! `ovl unpack`: an image becomes a directory, a tar archive, or an ext3 image that can be written to.

use std::io::BufWriter;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use super::args::Unpack;
use super::failure::{Failure, Outcome, code};
use super::pack::{self, Count, Watching, count, failed, open_source};
use super::{Context, Flag};
use crate::build::work::scratch;
use crate::image::ImageError;
use crate::image::ext::{ExtImage, ExtSource, make};
use crate::image::source::dir::Skip;
use crate::image::source::extract::{self, Options, Report};
use crate::image::source::open::Way;
use crate::image::source::tar::write;
use crate::image::source::{AnySource, Source};
use crate::model::units::{self, show_size, show_time};
use crate::store::publish::NewImage;
use crate::store::sweep;
use crate::sys::fs::{self, PathError};
use crate::sys::lock;
use crate::sys::workdir::WorkDir;
use crate::sys::{env, host, process, signal};
use crate::ui::Meter;

/// Longest time for mke2fs to copy a tree.
const PATIENCE: Duration = Duration::from_secs(24 * 3600);

/// Flags that stand for configuration keys.
pub fn flags(args: &Unpack) -> Vec<Flag> {
    args.progress.iter().map(|how| ("ui.progress", "--progress", how.clone())).collect()
}

/// What is to be written.
enum Output {
    Dir(PathBuf),
    Tar(PathBuf),
    Stdout,
    Img(PathBuf),
}

/// Runs the command.
pub fn run(args: &Unpack, context: &Context) -> Outcome {
    let began = Instant::now();
    let output = output(args)?;
    if args.size.is_some() && !matches!(output, Output::Img(_)) {
        return Err(Failure::usage("--size is for ext3 images (--format img)"));
    }
    if args.keep_owner && host::ids().0 != 0 {
        return Err(Failure::usage("only root can give files to others (--keep-owner)")
            .hint("owners are kept in an archive: ovl unpack SOURCE -o FILE.tar"));
    }
    let meter = Meter::new(context.ui, &context.config.progress(), &format!("reading {}", args.source.display()));
    let watch = Watching(&meter);
    let scratch = scratch(&context.config);
    let skip = Arc::new(Skip::default());
    let way = Way { scratch: &scratch, watch: &watch, skip: skip.clone() };
    let (found, _lock) = open_source(&args.source, &way, context)?;
    found.notes.iter().for_each(|note| context.ui.warn(&format!("{}: {note}", args.source.display())));
    meter.turn_to(&format!("unpacking {}", args.source.display()));
    let bad = |error| failed(&args.source, error);
    let told = if args.dry_run {
        let Count { entries, bytes, .. } = count(&found.source).map_err(bad)?;
        drop(meter);
        context.ui.say(&format!("would unpack {}: {} in {entries} entries, {output}", found.what, show_size(bytes)));
        return Ok(0);
    } else {
        match &output {
            Output::Dir(dir) => directory(args, &found.source, dir, &skip, &watch, context)?,
            Output::Img(target) => image(args, &found.source, target, &skip, &scratch, &watch, context)?,
            Output::Tar(target) => archive(args, &found.source, target, &skip, &watch, context)?,
            Output::Stdout => {
                let done = write::write(&found.source, std::io::stdout().lock(), &watch);
                done.map(show_size).map_err(|error| of_writing(args, "standard output", error))?
            }
        }
    };
    drop(meter);
    context.ui.say(&format!("unpacked {} {output}: {told}, {}", found.what, show_time(began.elapsed())));
    Ok(0)
}

impl std::fmt::Display for Output {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Output::Dir(path) | Output::Tar(path) | Output::Img(path) => write!(f, "into {}", path.display()),
            Output::Stdout => f.write_str("to standard output"),
        }
    }
}

fn output(args: &Unpack) -> Result<Output, Failure> {
    let cwd = env::current_dir();
    let format = args.format.as_deref();
    let Some(out) = &args.output else {
        let full = cwd.join(&args.source);
        let name = full.file_name().and_then(|name| name.to_str()).filter(|_| args.source != Path::new("-"));
        let stem = name.map(pack::stem).ok_or_else(|| Failure::usage("name what to write with -o OUT"))?;
        return Ok(match format {
            Some("tar") => Output::Tar(cwd.join(format!("{stem}.tar"))),
            Some("img") => Output::Img(cwd.join(format!("{stem}.img"))),
            _ => Output::Dir(cwd.join(stem)),
        });
    };
    if out == Path::new("-") {
        return match format {
            None | Some("tar") => Ok(Output::Stdout),
            _ => Err(Failure::usage("only an archive can go to standard output")),
        };
    }
    let ending = out.extension().and_then(|ending| ending.to_str());
    let path = cwd.join(out);
    match (format, ending) {
        (Some("tar"), _) | (None, Some("tar")) => Ok(Output::Tar(path)),
        (Some("img"), _) | (None, Some("img" | "ext3")) => Ok(Output::Img(path)),
        (None, Some("gz" | "xz" | "zst" | "tgz")) => Err(Failure::usage("archives are not compressed here")
            .hint(format!("ovl unpack {} -o - | zstd > {}", args.source.display(), out.display()))),
        _ => Ok(Output::Dir(path)),
    }
}

fn threads(args: &Unpack) -> usize {
    let here = std::thread::available_parallelism().map_or(1, usize::from);
    args.threads.map_or(here, |threads| threads as usize).clamp(1, 64)
}

/// Into a directory, which is made when it is not there. What was begun is removed when it cannot be finished, unless
/// there was something before.
fn directory(
    args: &Unpack,
    source: &AnySource,
    dir: &Path,
    skip: &Skip,
    watch: &Watching,
    context: &Context,
) -> Result<String, Failure> {
    let fresh = match fs::metadata_if_exists(dir)? {
        None => {
            fs::create_private_dir(dir)?;
            true
        }
        Some(meta) if !meta.is_dir() => return Err(Failure::usage(format!("{} is no directory", dir.display()))),
        Some(_) if fs::list(dir)?.is_empty() => false,
        Some(_) if args.force => false,
        Some(_) => {
            return Err(Failure::usage(format!("{} is not empty", dir.display()))
                .hint("write into it all the same, replacing files of the same names, with --force"));
        }
    };
    skip.add(dir);
    let options = Options { keep_owner: args.keep_owner, replace: args.force, threads: threads(args) };
    match extract::extract(source, dir, options, watch) {
        Ok(report) => {
            tell(&report, context);
            Ok(format!("{} in {} files", show_size(report.bytes), report.files))
        }
        Err(error) => {
            let failure = of_writing(args, &dir.display().to_string(), error);
            if fresh {
                let _ = fs::remove_tree(dir);
                return Err(failure);
            }
            Err(failure.hint(format!("what has been written is in {}", dir.display())))
        }
    }
}

fn tell(report: &Report, context: &Context) {
    for (count, what) in [
        (report.devices, "device nodes are left out: only root may make them"),
        (report.marks, "whiteouts are written as .wh. files: this kernel lets only root make devices 0:0"),
        (
            report.harmless,
            "files are no longer setuid or setgid: they were somebody else's (--keep-owner, as root, keeps owners)",
        ),
        (report.attributes, "extended attributes could not be set here"),
    ] {
        if count > 0 {
            context.ui.warn(&format!("{count} {what}"));
        }
    }
}

fn archive(
    args: &Unpack,
    source: &AnySource,
    target: &Path,
    skip: &Skip,
    watch: &Watching,
    context: &Context,
) -> Result<String, Failure> {
    let image = begin(target, args.force, skip, context)?;
    let out = BufWriter::with_capacity(1 << 20, image.file());
    let size =
        write::write(source, out, watch).map_err(|error| of_writing(args, &target.display().to_string(), error))?;
    finish(image, target, args)?;
    Ok(show_size(size))
}

/// A new file for `target`, after a look whether it may be. Neither is a part of what is read.
fn begin(target: &Path, force: bool, skip: &Skip, context: &Context) -> Result<NewImage, Failure> {
    pack::may_write(target, force)?;
    sweep::unfinished(target, context.config.lease());
    skip.add(target);
    let image = NewImage::create(target)?;
    skip.add(image.path());
    let _ = lock::try_lock(image.file(), lock::Kind::Write);
    Ok(image)
}

fn finish(image: NewImage, target: &Path, args: &Unpack) -> Result<(), Failure> {
    image.flush()?;
    // The last moment at which an interrupt leaves nothing.
    if signal::interrupted().is_some() {
        return Err(failed(&args.source, ImageError::Interrupted));
    }
    image.place(args.force).map_err(|error| pack::exists(error, target))
}

/// An ext3 image as Apptainer and `ovl exec --writable` take them: the content in `upper`, an empty `work` beside it.
fn image(
    args: &Unpack,
    source: &AnySource,
    target: &Path,
    skip: &Skip,
    scratch: &Path,
    watch: &Watching,
    context: &Context,
) -> Result<String, Failure> {
    if process::find("mke2fs").is_none() {
        return Err(Failure::new(code::UNFIT, "an ext3 image needs mke2fs, which is not on PATH")
            .hint("ask for e2fsprogs, or write a directory or an archive"));
    }
    let bad = |error| failed(&args.source, error);
    let Count { entries, bytes, blocks } = count(source).map_err(bad)?;
    let inodes = entries + entries / 4 + 10_000;
    let mib = match &args.size {
        Some(text) => units::parse_size(text).map_err(|why| Failure::usage(format!("--size: {why}")))? >> 20,
        None => make::room_for(blocks.saturating_mul(4096), inodes),
    };
    let image = begin(target, args.force, skip, context)?;
    let work = WorkDir::create(scratch, context.config.lease())?;
    skip.add(work.path());
    let (seed, upper) = (work.make("seed")?, work.make("seed/upper")?);
    work.make("seed/work")?;
    let options = Options { keep_owner: args.keep_owner, replace: false, threads: threads(args) };
    let report = extract::extract(source, &upper, options, watch)
        .map_err(|error| of_writing(args, &format!("the working directory in {}", scratch.display()), error))?;
    let (uid, gid) = host::ids();
    let cmd = make::staging_image(image.path(), mib, inodes, uid, gid).arg("-d").arg(&seed);
    let output = process::capture(&cmd, PATIENCE).map_err(PathError::new("run mke2fs for", target))?;
    if signal::interrupted().is_some() {
        return Err(bad(ImageError::Interrupted));
    }
    let said = String::from_utf8_lossy(&output.stderr);
    if !output.ended.ok() || !said.trim().is_empty() {
        let said = said.split_whitespace().collect::<Vec<_>>().join(" ");
        let failure =
            Failure::new(code::ERROR, format!("mke2fs failed for {} ({}): {said}", target.display(), output.ended));
        return Err(failure.hint(format!("{mib} MiB may be too few: give more with --size, and look for free space")));
    }
    let made = ExtImage::open(fs::open(image.path())?, 0)
        .and_then(|made| ExtSource::new(&made, b"upper").and_then(|upper| upper.list(&upper.root()?)));
    made.map_err(|error| Failure::new(code::ERROR, format!("the image just written does not read back: {error}")))?;
    finish(image, target, args)?;
    tell(&report, context);
    Ok(format!("{} in {entries} entries, {mib} MiB", show_size(bytes)))
}

/// An error while writing to `place`, unless it is one of reading the source.
fn of_writing(args: &Unpack, place: &str, error: ImageError) -> Failure {
    match &error {
        ImageError::Io { source, .. } if fs::is_full(source) => {
            Failure::new(code::ERROR, format!("cannot write {place}: {source}"))
                .hint("free space there, or write elsewhere with -o OUT")
        }
        ImageError::Io { source, .. } if source.kind() == std::io::ErrorKind::BrokenPipe => {
            Failure::new(code::ERROR, format!("nobody reads {place} any more"))
        }
        _ => failed(&args.source, error),
    }
}
