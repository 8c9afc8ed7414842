//! Start-up of `ovl exec … true` with 0, 1, 10 and 50 overlays beside bwrap and one squashfuse_ll per overlay, in one run.
//! `cargo bench --bench startup -- [--runs N]`. Run it as an unprivileged user or as root; /dev/fuse must be open.

#![allow(clippy::disallowed_methods, clippy::disallowed_macros)]

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

fn main() {
    let args: Vec<String> = std::env::args().collect();
    let runs = args.iter().position(|arg| arg == "--runs").and_then(|at| args.get(at + 1)?.parse().ok()).unwrap_or(100);
    let work = PathBuf::from(env!("CARGO_TARGET_TMPDIR")).join(format!("startup-{}", std::process::id()));
    let images = images(&work, 50);
    println!("median and 99th percentile of {runs} starts of `true`, in ms");
    row("true by itself", runs, &mut |_| run(&mut Command::new("true")));
    row("bwrap, the host's root", runs, &mut |_| {
        run(Command::new("bwrap").args(["--ro-bind", "/", "/", "--dev", "/dev", "--proc", "/proc", "true"]));
    });
    for count in [0, 1, 10, 50] {
        row(&format!("ovl exec, {count} overlays"), runs, &mut |_| {
            let mut command = Command::new(env!("CARGO_BIN_EXE_ovl"));
            command.arg("exec").env("HOME", &work);
            for image in &images[..count] {
                command.arg("-o").arg(image);
            }
            run(command.args(["--", "true"]));
        });
    }
    for count in [1, 10] {
        let at: Vec<PathBuf> = (0..count).map(|number| work.join(format!("mnt{number}"))).collect();
        at.iter().for_each(|dir| std::fs::create_dir_all(dir).unwrap());
        // What a start costs a tool that mounts every image by a process of its own; without the namespaces and binds.
        row(&format!("squashfuse_ll alone, {count} mounts"), runs.min(30), &mut |_| {
            for (image, dir) in images.iter().zip(&at) {
                run(Command::new("squashfuse_ll").arg(image).arg(dir));
            }
            for dir in &at {
                run(Command::new("fusermount3").arg("-u").arg(dir));
            }
        });
    }
    let _ = std::fs::remove_dir_all(&work);
}

fn run(command: &mut Command) {
    let status = command.stdin(Stdio::null()).stdout(Stdio::null()).status().unwrap();
    assert!(status.success(), "{command:?} ended with {status}");
}

fn row(name: &str, runs: usize, one: &mut dyn FnMut(usize)) {
    let mut times: Vec<Duration> = Vec::new();
    one(0);
    for number in 0..runs {
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
