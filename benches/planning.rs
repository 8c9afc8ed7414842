//! Planning beside coreutils on the same files, in one run: `build --dry-run` of 5,000 steps among 10,000 recipes, and
//! `build` of 200 overlays that are current. `cargo bench --bench planning -- [--runs N] [--keep DIR]`.

#![allow(clippy::disallowed_methods, clippy::disallowed_macros)]

use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

/// Recipes in all, and how many of them the targets need: `DEEP` rows of `WIDE`.
const RECIPES: usize = 10_000;
const WIDE: usize = 100;
const DEEP: usize = 50;
/// Overlays that are current, and what each of them needs.
const BUILT: usize = 200;
const BASES: usize = 10;

fn main() {
    let args: Vec<String> = std::env::args().collect();
    let value = |flag: &str| args.iter().position(|arg| arg == flag).and_then(|at| args.get(at + 1));
    let runs = value("--runs").and_then(|text| text.parse().ok()).unwrap_or(10);
    let kept = value("--keep").map(PathBuf::from);
    let work = kept
        .clone()
        .unwrap_or_else(|| PathBuf::from(env!("CARGO_TARGET_TMPDIR")).join(format!("planning-{}", std::process::id())));
    let house = House { home: work };
    println!("median and worst of {runs} runs, in ms");
    house.plan(runs);
    house.no_op(runs);
    if kept.is_none() {
        let _ = std::fs::remove_dir_all(&house.home);
    }
}

struct House {
    home: PathBuf,
}

impl House {
    fn layer(&self) -> PathBuf {
        self.home.join(".local/share/ovl")
    }

    /// Writes a recipe as long as they usually are.
    fn recipe(&self, name: &str, deps: &[String]) -> PathBuf {
        let path = self.layer().join("build-scripts").join(name);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        let mut text = format!("#!/bin/bash\n#WHATIS:{name}, made for a benchmark\n#URL:https://example.org/{name}\n");
        deps.iter().for_each(|dep| text.push_str(&format!("#DEP:{dep}\n")));
        text.push_str("#ENV:TOOL_HOME=$app_root # where it lies\n\ninstall() {\n    mkdir -p \"$target_dir/bin\"\n");
        text.push_str("    cat > \"$target_dir/bin/tool\" <<'EOF'\n#!/bin/sh\necho \"tool $*\"\nEOF\n");
        for number in 0..8 {
            text.push_str(&format!("    if [ \"${{STEP:-0}}\" = {number} ]; then echo \"step {number}\" >&2; fi\n"));
        }
        text.push_str("    chmod 755 \"$target_dir/bin/tool\"\n}\n\ncheck() {\n    tool | grep -q tool\n}\n");
        std::fs::write(&path, text).unwrap();
        path
    }

    fn ovl(&self, args: &[String]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_ovl"));
        command.args(args).env_clear().env("HOME", &self.home).env("PATH", "/usr/bin:/bin").env("NO_COLOR", "1");
        command.stdin(Stdio::null());
        command
    }

    /// 5,000 steps: each needs two of the row below, every fifth of them at least some version.
    fn plan(&self, runs: usize) {
        let name = |row: usize, at: usize| format!("pkg{}/{}.0", row * WIDE / 4 + at / 4, at % 4 + 1);
        let mut needed = Vec::new();
        for row in 0..RECIPES / WIDE {
            for at in 0..WIDE {
                let dep = |at: usize| {
                    let name = name(row - 1, at);
                    if at.is_multiple_of(5) { format!("{name}>={}", name.rsplit('/').next().unwrap()) } else { name }
                };
                let deps = if row % DEEP == 0 { Vec::new() } else { vec![dep(at), dep((at + 4 + at * 7 % 92) % WIDE)] };
                let path = self.recipe(&name(row, at), &deps);
                if row < DEEP {
                    needed.push(path);
                }
            }
        }
        let mut args = vec!["build".to_owned(), "--dry-run".into()];
        args.extend((0..WIDE).map(|at| name(DEEP - 1, at)));
        let list = self.home.join("needed");
        let lines: Vec<String> = needed.iter().map(|path| path.display().to_string()).collect();
        std::fs::write(&list, lines.join("\n")).unwrap();
        let coreutils = format!(
            "find '{}' > /dev/null; xargs cat < '{}' > /dev/null",
            self.layer().join("build-scripts").display(),
            list.display()
        );
        row("find all, cat what is needed", runs, &mut || drop(run(shell(&coreutils))));
        row("the same, and sha256sum of it", runs, &mut || {
            run(shell(&format!("{coreutils}; xargs sha256sum < '{}' > /dev/null", list.display())));
        });
        row("ovl build --dry-run, 5000 steps", runs, &mut || {
            assert_eq!(steps(&run(self.ovl(&args))), WIDE * DEEP);
        });
        row("ovl build --dry-run, 1 step", runs, &mut || {
            assert_eq!(steps(&run(self.ovl(&["build".into(), "--dry-run".into(), name(DEEP, 0)]))), 1);
        });
        println!("{:<36} {:.0} MiB", "highest resident memory of these", peak() as f64 / 1024.0);
    }

    /// 200 targets that are there and current.
    fn no_op(&self, runs: usize) {
        let base = |number: usize| format!("base{number}/1");
        let mut files: Vec<PathBuf> = (0..BASES).map(|number| self.recipe(&base(number), &[])).collect();
        let mut args = vec!["build".to_owned()];
        for number in 0..BUILT {
            let name = format!("made{number}/1.0");
            files.push(self.recipe(&name, &[base(number % BASES)]));
            args.push(name);
        }
        let began = Instant::now();
        run(self.ovl(&args));
        println!("{:<36} {:8.0}", "building the 200 and 10 below them", began.elapsed().as_secs_f64() * 1000.0);
        let images = self.layer().join("images");
        let lines: Vec<String> = files.iter().map(|path| path.display().to_string()).collect();
        let list = self.home.join("current");
        std::fs::write(&list, lines.join("\n")).unwrap();
        let coreutils = format!(
            "xargs sha256sum < '{}' > /dev/null; stat '{1}'/*.sqf > /dev/null; cat '{1}'/*.env > /dev/null",
            list.display(),
            images.display()
        );
        row("sha256sum, stat, cat of the 200", runs, &mut || drop(run(shell(&coreutils))));
        row("ovl build, 200 current", runs, &mut || {
            assert_eq!(run(self.ovl(&args)).lines().count(), BUILT);
        });
    }
}

/// How many steps a plan has.
fn steps(shown: &str) -> usize {
    shown.lines().filter(|line| line.starts_with("would build")).count()
}

fn shell(line: &str) -> Command {
    let mut command = Command::new("sh");
    command.args(["-c", line]);
    command
}

fn run(mut command: Command) -> String {
    let output = command.stderr(Stdio::piped()).output().unwrap();
    assert!(output.status.success(), "{}: {}", output.status, String::from_utf8_lossy(&output.stderr));
    String::from_utf8_lossy(&output.stdout).into_owned()
}

/// The largest resident set of any process that has ended so far, in KiB.
fn peak() -> i64 {
    nix::sys::resource::getrusage(nix::sys::resource::UsageWho::RUSAGE_CHILDREN).map_or(0, |usage| usage.max_rss())
}

fn row(name: &str, runs: usize, one: &mut dyn FnMut()) {
    one();
    let mut times: Vec<Duration> = Vec::new();
    for _ in 0..runs {
        let began = Instant::now();
        one();
        times.push(began.elapsed());
    }
    times.sort();
    let ms = |time: Option<&Duration>| time.map_or(0.0, |time| time.as_secs_f64() * 1000.0);
    println!("{name:<36} {:8.1} {:8.1}", ms(times.get(times.len() / 2)), ms(times.last()));
}
