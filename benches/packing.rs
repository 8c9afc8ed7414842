//! ovl's packer beside mksquashfs: the same tree, compressor and block size, each as a process of its own; wall time,
//! size and peak memory. `cargo bench --bench packing -- [--tree DIR | --megabytes N] [--runs N] [COMPRESSION…]`
//! ovl packs the directory and, without mounting it, an ext3 image of it; mksquashfs the directory and the image as an
//! unprivileged peer has it, through fuse2fs.
//! Without a tree it copies this system's own Python and shared files. With OVL_BENCH_NO_DEDUP set, neither side
//! looks for files with the same content.

#![allow(unsafe_code, clippy::disallowed_methods, clippy::disallowed_macros)]

use std::fs::{self, File};
use std::mem::MaybeUninit;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Instant;

use nix::libc;
use ovl::image::ext::{ExtImage, ExtSource};
use ovl::image::source::Source;
use ovl::image::source::dir::DirSource;
use ovl::image::squashfs::codec::{Codec, Compression};
use ovl::image::squashfs::write::{PackOptions, pack};

const BLOCK: u32 = 128 << 10;

/// One run of a packer.
#[derive(Clone, Copy)]
struct Run {
    seconds: f64,
    bytes: u64,
    peak: u64,
}

/// Somebody who packs, by name.
type Contender<'a> = (&'static str, Box<dyn Fn() -> Run + 'a>);

fn main() {
    let args: Vec<String> = std::env::args().skip(1).filter(|arg| arg != "--bench").collect();
    if args.first().is_some_and(|arg| arg == "pack") {
        return child(&args[1..]);
    }
    let mut rest = args.into_iter();
    let (mut tree, mut megabytes, mut runs, mut how) = (None, 600, 3, Vec::new());
    while let Some(arg) = rest.next() {
        match arg.as_str() {
            "--tree" => tree = rest.next().map(PathBuf::from),
            "--megabytes" => megabytes = rest.next().and_then(|text| text.parse().ok()).unwrap_or(megabytes),
            "--runs" => runs = rest.next().and_then(|text| text.parse().ok()).unwrap_or(runs),
            _ => how.push(arg.parse::<Compression>().unwrap()),
        }
    }
    if how.is_empty() {
        how = ["lz4", "zstd:3", "gzip:9"].iter().map(|text| text.parse().unwrap()).collect();
    }
    let work = PathBuf::from(env!("CARGO_TARGET_TMPDIR")).join(format!("bench-{}", std::process::id()));
    fs::create_dir_all(&work).unwrap();
    let tree = tree.unwrap_or_else(|| collect(&work.join("tree"), megabytes << 20));
    let image = ext3_of(&tree, &work);
    let mounted = image.as_ref().and_then(|image| Mounted::new(image, &work));
    println!("tree {} · block {BLOCK} · median of {runs} · ratios against mksquashfs on the directory", tree.display());
    for how in how {
        let out = work.join("out.sqf");
        let mut contenders: Vec<Contender> = Vec::new();
        contenders.push(("mksquashfs, directory", Box::new(|| mksquashfs(&tree, &out, how))));
        contenders.push(("ovl, directory", Box::new(|| ovl("dir", &tree, &out, how))));
        if let Some(image) = &image {
            contenders.push(("ovl, unmounted ext3", Box::new(|| ovl("ext", image, &out, how))));
        }
        if let Some(mounted) = &mounted {
            contenders.push(("mksquashfs, fuse2fs", Box::new(|| mksquashfs(&mounted.0, &out, how))));
        }
        // Side by side, so that what else the machine does meets all of them.
        let mut results: Vec<Vec<Run>> = contenders.iter().map(|_| Vec::new()).collect();
        for _ in 0..runs {
            for ((_, contender), runs) in contenders.iter().zip(&mut results) {
                runs.push(contender());
            }
        }
        let results: Vec<Run> = results.into_iter().map(median).collect();
        let base = results[0];
        for ((name, _), run) in contenders.iter().zip(&results) {
            let peak = run.peak as f64 / 1048576.0;
            println!(
                "{:>8}  {name:<22} {:7.2} s  {:6.1} MB  peak {peak:5.0} MiB   speed ×{:.2}  size ×{:.4}",
                how.to_string(),
                run.seconds,
                run.bytes as f64 / 1e6,
                base.seconds / run.seconds,
                run.bytes as f64 / base.bytes as f64
            );
        }
    }
    drop(mounted);
    let _ = fs::remove_dir_all(&work);
}

/// An ext3 image of the tree, made without mounting anything; None where mke2fs is missing.
fn ext3_of(tree: &Path, work: &Path) -> Option<PathBuf> {
    let image = work.join("tree.img");
    let size = Command::new("du").args(["-sm", "--apparent-size"]).arg(tree).output().ok()?;
    let megabytes: u64 = String::from_utf8_lossy(&size.stdout).split_whitespace().next()?.parse().ok()?;
    let mut command = Command::new("/usr/sbin/mke2fs");
    command.args(["-q", "-t", "ext3", "-N", "400000", "-m", "0", "-E", "lazy_itable_init=1,nodiscard", "-d"]);
    let done = command.arg(tree).arg(&image).arg(format!("{}M", megabytes * 2 + 400)).stdout(Stdio::null()).status();
    done.is_ok_and(|status| status.success()).then_some(image)
}

/// The image mounted read-only through fuse2fs; unmounted when dropped.
struct Mounted(PathBuf);

impl Mounted {
    fn new(image: &Path, work: &Path) -> Option<Mounted> {
        let at = work.join("mnt");
        fs::create_dir_all(&at).unwrap();
        let status = Command::new("fuse2fs").arg("-o").arg("ro").arg(image).arg(&at).stdout(Stdio::null()).status();
        status.is_ok_and(|status| status.success()).then_some(Mounted(at))
    }
}

impl Drop for Mounted {
    fn drop(&mut self) {
        let _ = Command::new("umount").arg(&self.0).status();
    }
}

/// A process of its own, so that its peak memory can be told: `pack KIND SOURCE IMAGE COMPRESSION`.
fn child(args: &[String]) {
    let [kind, source, image, how] = args else { panic!("pack KIND SOURCE IMAGE COMPRESSION") };
    let (source, image, how) = (Path::new(source), Path::new(image), how.parse().unwrap());
    match kind.as_str() {
        "dir" => pack_source(&DirSource::new(source).unwrap(), image, how),
        "ext" => {
            let ext = ExtImage::open(File::open(source).unwrap(), 0).unwrap();
            pack_source(&ExtSource::new(&ext, b"").unwrap(), image, how);
        }
        other => panic!("no source of the kind '{other}'"),
    }
}

fn pack_source<S: Source>(source: &S, image: &Path, compression: Compression) {
    let out = File::create(image).unwrap();
    let dedup = std::env::var_os("OVL_BENCH_NO_DEDUP").is_none();
    let options = PackOptions { compression, block_size: BLOCK, dedup, ..PackOptions::default() };
    pack(source, &out, &options, &()).unwrap();
}

fn ovl(kind: &str, tree: &Path, image: &Path, how: Compression) -> Run {
    let mut command = Command::new(std::env::current_exe().unwrap());
    measure(command.args(["pack", kind]).arg(tree).arg(image).arg(how.to_string()), image)
}

fn mksquashfs(tree: &Path, image: &Path, how: Compression) -> Run {
    let _ = fs::remove_file(image);
    let mut command = Command::new("mksquashfs");
    command.arg(tree).arg(image).args(["-quiet", "-no-progress", "-all-root", "-b", &BLOCK.to_string(), "-comp"]);
    command.arg(how.codec.name());
    if std::env::var_os("OVL_BENCH_NO_DEDUP").is_some() {
        command.arg("-no-duplicates");
    }
    match how.codec {
        Codec::Gzip | Codec::Zstd => {
            let most = if how.codec == Codec::Gzip { 9 } else { 22 };
            command.args(["-Xcompression-level", &how.level.min(most).to_string()]);
        }
        Codec::Lz4 if how.level >= 3 => {
            command.arg("-Xhc");
        }
        Codec::Lz4 | Codec::Xz => {}
    }
    measure(&mut command, image)
}

fn measure(command: &mut Command, image: &Path) -> Run {
    let start = Instant::now();
    #[allow(clippy::zombie_processes, reason = "waited for below, with its resource usage")]
    let child = command.stdout(Stdio::null()).spawn().unwrap();
    let mut status = 0;
    let mut usage = MaybeUninit::<libc::rusage>::zeroed();
    // SAFETY: both pointers are valid, and nobody else waits for this child.
    let waited = unsafe { libc::wait4(child.id() as i32, &mut status, 0, usage.as_mut_ptr()) };
    let seconds = start.elapsed().as_secs_f64();
    assert!(waited > 0 && status == 0, "{command:?} ended with {status}");
    // SAFETY: the structure was zeroed, and every bit pattern is a value of it.
    let peak = unsafe { usage.assume_init() }.ru_maxrss as u64 * 1024;
    Run { seconds, bytes: fs::metadata(image).unwrap().len(), peak }
}

fn median(mut runs: Vec<Run>) -> Run {
    runs.sort_by(|a, b| a.seconds.total_cmp(&b.seconds));
    runs[runs.len() / 2]
}

/// Copies real files until there are enough.
fn collect(into: &Path, bytes: u64) -> PathBuf {
    let mut left = bytes;
    for from in
        ["/usr/lib/python3", "/usr/share", "/usr/lib/x86_64-linux-gnu", "/usr/lib/aarch64-linux-gnu", "/usr/bin"]
    {
        copy(Path::new(from), &into.join(from.trim_start_matches('/')), &mut left);
    }
    into.to_owned()
}

fn copy(from: &Path, to: &Path, left: &mut u64) {
    let Ok(meta) = fs::symlink_metadata(from) else { return };
    if *left == 0 {
        return;
    }
    if meta.is_dir() {
        fs::create_dir_all(to).unwrap();
        let mut names: Vec<_> = fs::read_dir(from).unwrap().map(|entry| entry.unwrap().file_name()).collect();
        names.sort();
        for name in names {
            copy(&from.join(&name), &to.join(&name), left);
        }
    } else if meta.is_symlink() {
        let _ = std::os::unix::fs::symlink(fs::read_link(from).unwrap(), to);
    } else if meta.is_file() && fs::copy(from, to).is_ok() {
        *left = left.saturating_sub(meta.len());
    }
}
