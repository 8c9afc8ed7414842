//! Start-up of `ovl exec … true` with 0, 1, 10 and 50 overlays: the first one, joining a session, and 64 at once; beside
//! bwrap, one squashfuse_ll per overlay and, where it is on PATH, Apptainer; all in one run, as an unprivileged user with
//! /dev/fuse open. `cargo bench --bench startup -- [--runs N]`; `OVL_BENCH_DIR` is where images are made.

#![allow(clippy::disallowed_methods, clippy::disallowed_macros)]

use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

/// Overlays in the rows.
const COUNTS: [usize; 4] = [0, 1, 10, 50];
/// Commands started at once.
const CROWD: usize = 64;

fn main() {
    let args: Vec<String> = std::env::args().collect();
    let runs = args.iter().position(|arg| arg == "--runs").and_then(|at| args.get(at + 1)?.parse().ok()).unwrap_or(100);
    let dir = std::env::var_os("OVL_BENCH_DIR").map_or_else(|| env!("CARGO_TARGET_TMPDIR").into(), PathBuf::from);
    let work = dir.join(format!("startup-{}", std::process::id()));
    let images = images(&work, 50);
    let ovl = |count: usize, command: &[&str]| {
        let mut line = Command::new(env!("CARGO_BIN_EXE_ovl"));
        line.arg("exec").env("HOME", &work);
        for image in &images[..count] {
            line.arg("-o").arg(image);
        }
        line.arg("--").args(command);
        line
    };
    println!("median and 99th percentile of {runs} starts of `true`, in ms");
    row("true by itself", runs, &mut |_| run(&mut Command::new("true")));
    let bwrap = || {
        let mut line = Command::new("bwrap");
        line.args(["--ro-bind", "/", "/", "--dev", "/dev", "--proc", "/proc", "true"]);
        line
    };
    row("bwrap, the host's root", runs, &mut |_| run(&mut bwrap()));
    for count in COUNTS {
        row(&format!("ovl exec, {count} overlays, first"), runs, &mut |_| run(&mut ovl(count, &["true"])));
    }
    for count in &COUNTS[1..] {
        let held = held(ovl(*count, &["sh", "-c", "echo; cat >/dev/null"]));
        row(&format!("ovl exec, {count} overlays, joined"), runs, &mut |_| run(&mut ovl(*count, &["true"])));
        release(held);
    }
    let crowds = (runs / 20).max(5);
    println!("{CROWD} at once, until the last has ended, {crowds} times");
    row("bwrap", crowds, &mut |_| crowd(&mut bwrap()));
    for count in &COUNTS[1..] {
        row(&format!("ovl exec, {count} overlays"), crowds, &mut |_| crowd(&mut ovl(*count, &["true"])));
    }
    peers(&work, &images, runs.min(30));
    let _ = std::fs::remove_dir_all(&work);
}

fn peers(work: &Path, images: &[PathBuf], runs: usize) {
    println!("peers, {runs} starts");
    if !Path::new("/etc/mtab").exists() {
        println!("no /etc/mtab: fusermount3 cannot unmount, so squashfuse_ll is left out");
    }
    for count in [1, 10].into_iter().filter(|_| Path::new("/etc/mtab").exists()) {
        let at: Vec<PathBuf> = (0..count).map(|number| work.join(format!("mnt{number}"))).collect();
        at.iter().for_each(|dir| std::fs::create_dir_all(dir).unwrap());
        // What a start costs a tool that mounts every image by a process of its own; without the namespaces and binds.
        row(&format!("squashfuse_ll alone, {count} mounts"), runs, &mut |_| {
            for (image, dir) in images.iter().zip(&at) {
                run(Command::new("squashfuse_ll").arg(image).arg(dir));
            }
            for dir in &at {
                run(Command::new("fusermount3").arg("-u").arg(dir));
            }
        });
    }
    if Command::new("apptainer").arg("--version").stdout(Stdio::null()).status().is_err() {
        println!("apptainer is not on PATH");
        return;
    }
    let root = root(work);
    for count in COUNTS {
        row(&format!("apptainer exec, {count} overlays"), runs, &mut |_| {
            let mut line = Command::new("apptainer");
            line.args(["--silent", "exec", "--no-home"]);
            for image in &images[..count] {
                line.arg("--overlay").arg(format!("{}:ro", image.display()));
            }
            run(line.arg(&root).arg("/bin/true").current_dir("/"));
        });
    }
}

/// A container with nothing but `true` and what it needs, for Apptainer.
fn root(work: &Path) -> PathBuf {
    let root = work.join("root");
    for dir in ["bin", "dev", "etc", "proc", "sys", "tmp", "var/tmp"] {
        std::fs::create_dir_all(root.join(dir)).unwrap();
    }
    std::fs::copy("/bin/true", root.join("bin/true")).unwrap();
    let needed = Command::new("ldd").arg("/bin/true").output().unwrap();
    for path in String::from_utf8_lossy(&needed.stdout).split_whitespace().filter(|word| word.starts_with('/')) {
        let to = root.join(path.trim_start_matches('/'));
        std::fs::create_dir_all(to.parent().unwrap()).unwrap();
        std::fs::copy(path, to).unwrap();
    }
    root
}

/// Starts a command that says a line and goes on until its standard input is closed.
fn held(mut command: Command) -> Child {
    let mut child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
    std::io::Read::read_exact(child.stdout.as_mut().unwrap(), &mut [0]).unwrap();
    child
}

fn release(mut child: Child) {
    drop(child.stdin.take());
    child.wait().unwrap();
}

fn crowd(command: &mut Command) {
    let start = |_| command.stdin(Stdio::null()).stdout(Stdio::null()).spawn().unwrap();
    let children: Vec<Child> = (0..CROWD).map(start).collect();
    for mut child in children {
        assert!(child.wait().unwrap().success());
    }
}

fn run(command: &mut Command) {
    let status = command.stdin(Stdio::null()).stdout(Stdio::null()).status().unwrap();
    assert!(status.success(), "{command:?} ended with {status}");
}

fn row(name: &str, runs: usize, one: &mut dyn FnMut(usize)) {
    let mut times: Vec<Duration> = Vec::new();
    one(0);
    for number in 0..runs {
        // The last one's server is to be gone.
        std::thread::sleep(Duration::from_millis(5));
        let began = Instant::now();
        one(number);
        times.push(began.elapsed());
    }
    times.sort();
    let ms = |time: Duration| time.as_secs_f64() * 1000.0;
    println!("{name:<32} {:7.2} {:7.2}", ms(times[runs / 2]), ms(times[runs * 99 / 100]));
}

/// Small images with /cnt/nameN/1.0/bin in them.
fn images(work: &Path, count: usize) -> Vec<PathBuf> {
    (0..count)
        .map(|number| {
            let root = work.join(format!("root{number}"));
            let bin = root.join(format!("cnt/name{number}/1.0/bin"));
            std::fs::create_dir_all(&bin).unwrap();
            std::fs::write(bin.join(format!("tool{number}")), "#!/bin/sh\necho tool\n").unwrap();
            let image = work.join(format!("name{number}--1.0.sqf"));
            run(Command::new("mksquashfs").arg(&root).arg(&image).args([
                "-quiet",
                "-no-progress",
                "-all-root",
                "-comp",
                "zstd",
            ]));
            image
        })
        .collect()
}
