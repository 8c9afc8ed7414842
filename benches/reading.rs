//! Reading from mounted images: ovl's own FUSE server beside squashfuse_ll and the kernel's squashfs on a loop device,
//! the same images, compressors and readers, in one run; needs root. `cargo bench --bench reading -- [--tree DIR]
//! [--files N] [--large MEGABYTES] [--venv DIR] [--runs N] [--only NAME,…] [--ovl PROGRAM] [--keep DIR] [COMPRESSOR…]`
//!
//! - `walk`: every directory, attribute and byte of a tree of small and some large files, by one thread.
//! - `stream`: one large file from its beginning to its end. - `random`: 4 KiB from random places of it, 8 threads.
//! - `scatter`: 4 KiB from random places of random files of the tree, 8 threads.
//! - `import`: `python3 -c 'import numpy, scipy, pandas'` of a virtual environment, when one is given.
//!
//! Cold: the machine's page cache is dropped and the image mounted anew, and the time is taken inside, from the first
//! access on (mounting is the business of the bench `startup`). Warm: the same once more. All contenders take turns in
//! each round, medians are shown; every contender has to read the same number of bytes. `×ll` and `×kernel` say how many
//! times faster than those ovl is. Memory is the server's peak (VmHWM).

#![allow(clippy::disallowed_methods, clippy::disallowed_macros)]

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io::Read;
use std::os::unix::fs::{FileExt, MetadataExt};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Instant;

const KINDS: [&str; 5] = ["walk", "stream", "random", "scatter", "import"];
const THREADS: u64 = 8;

fn main() {
    let args: Vec<String> = std::env::args().skip(1).filter(|arg| arg != "--bench").collect();
    if args.first().is_some_and(|arg| arg == "child") {
        return child(&args[1..]);
    }
    let asked = Asked::parse(args);
    let work = asked
        .keep
        .clone()
        .unwrap_or_else(|| PathBuf::from(env!("CARGO_TARGET_TMPDIR")).join(format!("reading-{}", std::process::id())));
    fs::create_dir_all(work.join("mnt")).unwrap();
    let tree = asked.tree.clone().unwrap_or_else(|| make_tree(&work.join("tree"), asked.files));
    let large = work.join("one");
    if !large.exists() {
        fs::create_dir(&large).unwrap();
        fs::write(large.join("large"), content(asked.large << 20, 77)).unwrap();
    }
    list_files(&tree, &work.join("list"));
    println!("median of {} rounds; times in s, memory in MiB", asked.runs);
    println!("{:<24} {:>8} {:>8} {:>8}   {:>6} {:>8}   memory", "", "ovl", "ll", "kernel", "×ll", "×kernel");
    for codec in &asked.codecs {
        for kind in KINDS.iter().filter(|kind| asked.only.is_empty() || asked.only.iter().any(|only| only == *kind)) {
            let source = match *kind {
                "walk" | "scatter" => Some(&tree),
                "import" => asked.venv.as_ref(),
                _ => Some(&large),
            };
            let Some(source) = source else { continue };
            let image = pack(source, codec, &work);
            compare(kind, &image, codec, &work, &asked);
        }
    }
    if asked.keep.is_none() {
        let _ = fs::remove_dir_all(&work);
    }
}

/// The command line.
struct Asked {
    tree: Option<PathBuf>,
    files: usize,
    large: usize,
    venv: Option<PathBuf>,
    runs: usize,
    only: Vec<String>,
    ovl: String,
    keep: Option<PathBuf>,
    codecs: Vec<String>,
}

impl Asked {
    fn parse(args: Vec<String>) -> Asked {
        let ovl = env!("CARGO_BIN_EXE_ovl").to_owned();
        let (tree, venv, keep, only, codecs) = (None, None, None, Vec::new(), Vec::new());
        let mut asked = Asked { tree, files: 30_000, large: 600, venv, runs: 3, only, ovl, keep, codecs };
        let mut rest = args.into_iter();
        while let Some(arg) = rest.next() {
            let mut value = || rest.next().unwrap_or_else(|| panic!("{arg} needs a value"));
            match arg.as_str() {
                "--tree" => asked.tree = Some(value().into()),
                "--files" => asked.files = value().parse().unwrap(),
                "--large" => asked.large = value().parse().unwrap(),
                "--venv" => asked.venv = Some(value().into()),
                "--runs" => asked.runs = value().parse().unwrap(),
                "--only" => asked.only = value().split(',').map(str::to_owned).collect(),
                "--ovl" => asked.ovl = value(),
                "--keep" => asked.keep = Some(value().into()),
                codec => asked.codecs.push(codec.to_owned()),
            }
        }
        if asked.codecs.is_empty() {
            asked.codecs = ["zstd", "lz4", "gzip"].map(str::to_owned).to_vec();
        }
        asked
    }
}

/// What one contender did in one round.
#[derive(Clone, Copy, Default)]
struct Round {
    cold: f64,
    warm: f64,
    bytes: u64,
    memory: u64,
}

fn compare(kind: &str, image: &Path, codec: &str, work: &Path, asked: &Asked) {
    const CONTENDERS: [&str; 3] = ["ovl", "ll", "kernel"];
    let mut rounds: BTreeMap<&str, Vec<Round>> = BTreeMap::new();
    for _ in 0..asked.runs {
        for who in CONTENDERS {
            rounds.entry(who).or_default().push(round(who, kind, image, work, asked));
        }
    }
    let bytes = rounds.values().flatten().map(|round| round.bytes).collect::<Vec<_>>();
    assert!(bytes.windows(2).all(|pair| pair[0] == pair[1]), "{kind}: different bytes were read: {bytes:?}");
    let median = |who: &str, state: &str| {
        let time = |round: &Round| if state == "cold" { round.cold } else { round.warm };
        let mut values: Vec<f64> = rounds[who].iter().map(time).collect();
        values.sort_by(f64::total_cmp);
        values[values.len() / 2]
    };
    let peak = |who: &str| rounds[who].iter().map(|round| round.memory).max().unwrap_or(0) / 1024;
    for state in ["cold", "warm"] {
        let [ovl, ll, kernel] = CONTENDERS.map(|who| median(who, state));
        println!(
            "{:<24} {ovl:8.3} {ll:8.3} {kernel:8.3}   {:6.2} {:8.2}   ovl {} · ll {}",
            format!("{codec} {kind} {state}"),
            ll / ovl,
            kernel / ovl,
            peak("ovl"),
            peak("ll"),
        );
    }
}

fn round(who: &str, kind: &str, image: &Path, work: &Path, asked: &Asked) -> Round {
    let (top, mnt) = (image.file_stem().unwrap(), work.join("mnt"));
    let me = std::env::current_exe().unwrap();
    let inside = if who == "ovl" { Path::new("/").join(top) } else { mnt.join(top) };
    let mut command;
    match who {
        "ovl" => {
            command = Command::new(&asked.ovl);
            command.args(["exec", "-o"]).arg(image).arg("--").arg(&me).env("HOME", work);
        }
        "ll" => {
            run(Command::new("squashfuse_ll").arg(image).arg(&mnt));
            command = Command::new(&me);
        }
        _ => {
            run(Command::new("mount").args(["-t", "squashfs", "-o", "loop,ro"]).arg(image).arg(&mnt));
            command = Command::new(&me);
        }
    }
    fs::write("/proc/sys/vm/drop_caches", "3").expect("only root can drop the page cache");
    if let (Some(venv), "import") = (&asked.venv, kind) {
        // What the interpreter needs of the host itself is no business of any contender.
        import(venv);
    }
    command.args(["child", kind]).arg(inside).arg(work.join("list")).arg(image);
    let output = command.stderr(Stdio::inherit()).stdin(Stdio::null()).output().unwrap();
    if who != "ovl" {
        run(Command::new("umount").arg(&mnt));
    }
    let text = String::from_utf8_lossy(&output.stdout);
    assert!(output.status.success(), "{command:?} ended with {}", output.status);
    let numbers: Vec<f64> = text.split_whitespace().map(|word| word.parse().unwrap()).collect();
    let [cold, warm, bytes, memory] = numbers[..] else { panic!("{command:?} said {text}") };
    Round { cold, warm, bytes: bytes as u64, memory: memory as u64 }
}

/// The reader: `child KIND PATH LIST IMAGE`; says seconds cold and warm, bytes, and the server's peak in KiB.
fn child(args: &[String]) {
    let [kind, path, list, image] = args else { panic!("child KIND PATH LIST IMAGE") };
    let path = Path::new(path);
    let read = || {
        let begun = Instant::now();
        let bytes = match kind.as_str() {
            "walk" => walk(path, &mut vec![0; 128 << 10]),
            "stream" => drain(&path.join("large"), &mut vec![0; 1 << 20]),
            "random" => random(path, 4000),
            "scatter" => scatter(path, list, 2000),
            "import" => import(path),
            other => panic!("no reader '{other}'"),
        };
        (begun.elapsed().as_secs_f64(), bytes)
    };
    let ((cold, bytes), (warm, again)) = (read(), read());
    assert_eq!(bytes, again);
    println!("{cold} {warm} {bytes} {}", server_peak(image));
}

fn walk(dir: &Path, buffer: &mut [u8]) -> u64 {
    let mut bytes = 0;
    for entry in fs::read_dir(dir).unwrap() {
        let path = entry.unwrap().path();
        let meta = fs::symlink_metadata(&path).unwrap();
        if meta.is_dir() {
            bytes += walk(&path, buffer);
        } else if meta.is_file() {
            bytes += drain(&path, buffer);
        }
    }
    bytes
}

fn drain(path: &Path, buffer: &mut [u8]) -> u64 {
    let mut file = File::open(path).unwrap();
    let mut bytes = 0;
    loop {
        match file.read(buffer).unwrap() {
            0 => return bytes,
            count => bytes += count as u64,
        }
    }
}

fn random(dir: &Path, each: u64) -> u64 {
    let file = File::open(dir.join("large")).unwrap();
    let pages = file.metadata().unwrap().size() / 4096;
    threads(each, |chance| file.read_at(&mut [0; 4096], chance % pages * 4096).unwrap())
}

fn scatter(dir: &Path, list: &str, each: u64) -> u64 {
    let text = fs::read_to_string(list).unwrap();
    let names: Vec<&str> = text.lines().collect();
    threads(each, |chance| {
        let file = File::open(dir.join(names[chance as usize % names.len()])).unwrap();
        let pages = file.metadata().unwrap().size().div_ceil(4096).max(1);
        file.read_at(&mut [0; 4096], (chance >> 32) % pages * 4096).unwrap()
    })
}

/// `one` so many times in each thread, with numbers that are the same in every run.
fn threads(each: u64, one: impl Fn(u64) -> usize + Sync) -> u64 {
    let one = &one;
    std::thread::scope(|scope| {
        let work = |seed: u64| {
            let mut chance = Chance(seed);
            (0..each).map(|_| one(chance.next()) as u64).sum::<u64>()
        };
        let handles: Vec<_> = (0..THREADS).map(|seed| scope.spawn(move || work(seed))).collect();
        handles.into_iter().map(|handle| handle.join().unwrap()).sum()
    })
}

fn import(venv: &Path) -> u64 {
    run(Command::new(venv.join("bin/python3")).args(["-B", "-c", "import numpy, scipy, pandas"]));
    0
}

/// The most memory a process that has this image on its command line ever had, without the reader itself.
fn server_peak(image: &str) -> u64 {
    let mut most = 0;
    for entry in fs::read_dir("/proc").unwrap().flatten() {
        let text = |name: &str| fs::read(entry.path().join(name)).unwrap_or_default();
        let line = String::from_utf8_lossy(&text("cmdline")).into_owned();
        if line.contains(image) && entry.file_name().to_string_lossy() != std::process::id().to_string() {
            let status = String::from_utf8_lossy(&text("status")).into_owned();
            let peak =
                status.lines().find_map(|line| line.strip_prefix("VmHWM:")?.split_whitespace().next()?.parse().ok());
            most = most.max(peak.unwrap_or(0));
        }
    }
    most
}

fn run(command: &mut Command) {
    let status = command.stdin(Stdio::null()).stdout(Stdio::null()).status().unwrap();
    assert!(status.success(), "{command:?} ended with {status}");
}

/// The image of a directory or file, under its own name at the top.
fn pack(source: &Path, codec: &str, work: &Path) -> PathBuf {
    let name = source.file_name().unwrap().to_string_lossy().into_owned();
    let image = work.join(codec).join(format!("{name}.sqf"));
    if !image.exists() {
        fs::create_dir_all(image.parent().unwrap()).unwrap();
        let mut command = Command::new("mksquashfs");
        command.arg(source).arg(&image).args(["-quiet", "-no-progress", "-all-root", "-comp", codec, "-b", "128K"]);
        // The directory's own name is wanted above what is in it.
        run(command.arg("-keep-as-directory"));
    }
    image
}

/// The paths of all files below `top`, relative to it, a line each.
fn list_files(top: &Path, list: &Path) {
    let (mut waiting, mut names) = (vec![top.to_owned()], Vec::new());
    while let Some(dir) = waiting.pop() {
        for entry in fs::read_dir(&dir).unwrap() {
            let path = entry.unwrap().path();
            let meta = fs::symlink_metadata(&path).unwrap();
            if meta.is_dir() {
                waiting.push(path);
            } else if meta.is_file() && !path.to_string_lossy().contains('\n') {
                names.push(path.strip_prefix(top).unwrap().to_string_lossy().into_owned());
            }
        }
    }
    names.sort();
    fs::write(list, names.join("\n")).unwrap();
}

/// Files as installed software has them: nearly all small, a few large; the same in every run.
fn make_tree(top: &Path, files: usize) -> PathBuf {
    if top.exists() {
        return top.to_owned();
    }
    let mut chance = Chance(4711);
    for number in 0..files {
        let dir = top.join(format!("lib{}/part{}", number / 3000, number / 100 % 30));
        fs::create_dir_all(&dir).unwrap();
        let random = chance.next();
        let size = match number % 1000 {
            0 => 2_000_000 + random % 6_000_000,
            place if place % 50 == 0 => 50_000 + random % 200_000,
            _ => (200 << (random % 7)) + (random >> 20) % 400,
        };
        fs::write(dir.join(format!("file{number}.dat")), content(size as usize, random)).unwrap();
    }
    top.to_owned()
}

/// Bytes that compress about as installed software does: words that return, and some that do not.
fn content(length: usize, seed: u64) -> Vec<u8> {
    let mut chance = Chance(seed);
    let mut bytes: Vec<u8> = Vec::with_capacity(length + 64);
    while bytes.len() < length {
        let random = chance.next();
        match random % 16 {
            0..4 => bytes.extend_from_slice(&random.to_le_bytes()),
            4..12 if bytes.len() > 300 => {
                let (back, length) = (16 + (random >> 8) as usize % 280, 4 + (random >> 32) as usize % 24);
                let from = bytes.len().saturating_sub(back.max(length));
                bytes.extend_from_within(from..from + length);
            }
            _ => {
                bytes.extend_from_slice(format!("self.field_{} = {};\n", random >> 60, random >> 20 & 0xff).as_bytes())
            }
        }
    }
    bytes.truncate(length);
    bytes
}

/// Numbers by chance, the same in every run (Knuth's MMIX constants).
struct Chance(u64);

impl Chance {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        self.0 ^ self.0 >> 29
    }
}
