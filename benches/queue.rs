//! Submitting 1,000 steps beside 1,000 bare `sbatch` calls, and `status` of them beside one `squeue`, in one run on a real
//! Slurm: `cargo bench --bench queue -- [--steps N] [--rounds N]`, as a user who may submit, with SLURM_CONF set where
//! it is not the system's. Everything is submitted held or behind a held job, and cancelled afterwards.

#![allow(clippy::disallowed_methods, clippy::disallowed_macros)]

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

fn main() {
    let args: Vec<String> = std::env::args().collect();
    let value = |flag: &str| args.iter().position(|arg| arg == flag).and_then(|at| args.get(at + 1)?.parse().ok());
    let (steps, rounds) = (value("--steps").unwrap_or(1000), value("--rounds").unwrap_or(3));
    if Command::new("squeue").arg("-h").stdout(Stdio::null()).status().map_or(true, |status| !status.success()) {
        println!("no Slurm answers here: nothing to compare with");
        return;
    }
    let work = PathBuf::from(std::env::var_os("TMPDIR").unwrap_or_else(|| "/tmp".into()))
        .join(format!("ovl-queue-{}", std::process::id()));
    for round in 0..rounds {
        let home = work.join(round.to_string());
        one(&home, steps);
    }
    let _ = std::fs::remove_dir_all(&work);
}

fn one(home: &Path, steps: usize) {
    let targets = recipes(home, steps);
    let job = home.join("job.sh");
    std::fs::write(&job, "#!/bin/sh\n#SBATCH -t 5 --mem=100M -c 1 -o /dev/null\nexit 0\n").unwrap();
    let began = Instant::now();
    let bare: Vec<String> =
        (0..steps).map(|_| output(Command::new("sbatch").args(["--parsable", "-H"]).arg(&job))).collect();
    let sbatch = began.elapsed();
    run(Command::new("scancel").args(&bare));
    let ovl = |args: &[&str]| {
        let mut command = Command::new(env!("CARGO_BIN_EXE_ovl"));
        command.args(args).env("HOME", home).env_remove("XDG_STATE_HOME").env("OVL_SCHED_KIND", "slurm");
        command
    };
    // An account of its own hold: nothing may start, or jobs that end would be part of what is measured.
    let mut build = ovl(&["build", "-q", "--sbatch-arg=--begin=now+1day"]);
    let began = Instant::now();
    let out = build.args(&targets).stderr(Stdio::null()).output().unwrap();
    let submit = began.elapsed();
    assert_eq!(out.status.code(), Some(3), "the chain was not submitted");
    let ids: Vec<String> = String::from_utf8_lossy(&out.stdout).lines().map(str::to_owned).collect();
    assert_eq!(ids.len(), steps);
    let list = ids.join(",");
    let squeue = least(|| run(Command::new("squeue").args(["-h", "-t", "all", "-O", COLUMNS, "-j", &list])));
    let status = least(|| run(&mut ovl(&["status"])));
    println!(
        "{steps} steps: sbatch {:.2} s, ovl build {:.2} s ({:.2}×); squeue {:.0} ms, ovl status {:.0} ms ({:.2}×)",
        sbatch.as_secs_f64(),
        submit.as_secs_f64(),
        submit.as_secs_f64() / sbatch.as_secs_f64(),
        squeue.as_secs_f64() * 1000.0,
        status.as_secs_f64() * 1000.0,
        status.as_secs_f64() / squeue.as_secs_f64()
    );
    run(&mut ovl(&["cancel", "--all"]));
}

/// What a status needs to know of a job.
const COLUMNS: &str = "JobArrayID:32,State:24,exit_code:12,TimeUsed:24,BatchHost:80,Reason:200";

/// Ten rows of recipes, each of which needs two of the row before; the last row is built.
fn recipes(home: &Path, steps: usize) -> Vec<String> {
    let wide = (steps / 10).max(1);
    for number in 0..steps {
        let dir = home.join(format!(".local/share/ovl/build-scripts/n{number}"));
        std::fs::create_dir_all(&dir).unwrap();
        let mut text = String::from("#!/bin/bash\n#SBATCH --mem=100M -t 5 -c 1\n");
        if number >= wide {
            text.push_str(&format!("#DEP:n{}/1\n", number - wide));
            text.push_str(&format!("#DEP:n{}/1\n", number - number % wide - wide + (number + 1) % wide));
        }
        text.push_str("install() { mkdir -p \"$target_dir\"; echo x > \"$target_dir/x\"; }\n");
        std::fs::write(dir.join("1"), text).unwrap();
    }
    (steps - wide..steps).map(|number| format!("n{number}/1")).collect()
}

fn least(mut one: impl FnMut()) -> Duration {
    let time = |one: &mut dyn FnMut()| {
        let began = Instant::now();
        one();
        began.elapsed()
    };
    (0..5).map(|_| time(&mut one)).min().unwrap()
}

fn run(command: &mut Command) {
    let status = command.stdout(Stdio::null()).stderr(Stdio::null()).status().unwrap();
    assert!(status.success(), "{command:?} ended with {status}");
}

fn output(command: &mut Command) -> String {
    let out = command.output().unwrap();
    assert!(out.status.success(), "{command:?}: {}", String::from_utf8_lossy(&out.stderr));
    String::from_utf8_lossy(&out.stdout).trim().to_owned()
}
