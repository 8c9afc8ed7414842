//! Kills, interrupts, time limits and crowds: the target is always absent, old or new and whole, and nothing stays
//! behind.

use std::process::Stdio;
use std::time::{Duration, Instant};

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use crate::support::house::{House, Run, script};

/// A recipe that makes 60 files which all say `generation`, and takes about a fifth of a second.
fn recipe(generation: usize) -> String {
    script(
        "#TEST:test -s $target_dir/f60",
        &format!(
            "for i in $(seq 1 60); do echo g{generation} > $target_dir/f$i; [ $((i % 10)) = 0 ] && sleep 0.02; done; head -c 3000000 /dev/urandom > $target_dir/data"
        ),
    )
}

/// What the overlay says: None when it is not there, else its generation; panics when it is not whole.
fn generation(house: &House) -> Option<usize> {
    if !house.image("k/1.0").exists() {
        return None;
    }
    let run = house
        .ovl(&[
            "exec",
            "-o",
            "k/1.0",
            "--",
            "sh",
            "-c",
            "cat /cnt/k/1.0/f* | sort | uniq -c; stat -c %s /cnt/k/1.0/data",
        ])
        .ok();
    let words: Vec<&str> = run.stdout.split_whitespace().collect();
    assert!(words.len() == 3 && words[0] == "60" && words[2] == "3000000", "a torn overlay: {run:?}");
    Some(words[1].trim_start_matches('g').parse().unwrap())
}

/// Numbers that look random and are the same in every run (splitmix64).
fn random(seed: u64) -> u64 {
    let mut z = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15);
    z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ (z >> 31)
}

fn mounts_of(house: &House) -> Vec<String> {
    let mounts = std::fs::read_to_string("/proc/self/mountinfo").unwrap();
    let needle = house.dir.to_string_lossy().into_owned();
    mounts.lines().filter(|line| line.contains(&needle)).map(str::to_owned).collect()
}

#[test]
fn a_hundred_kills_never_tear_an_overlay() {
    let house = House::new();
    house.write("home/.config/ovl/config.yaml", "build:\n  lease: 5s\n");
    let mut seen = (0, 0, 0);
    let mut last = None;
    for round in 1..=100 {
        house.recipe("k/1.0", recipe(round));
        let mut build = house.start(&["build", "--update", "k/1.0"]);
        // The first ones come early, so that "absent" is among what is seen.
        let latest = if round <= 5 { 60_000 } else { 420_000 };
        std::thread::sleep(Duration::from_micros(random(round as u64) % latest));
        // The program itself, or everything in its process group: an administrator does the one, a terminal the other.
        let pid = Pid::from_raw(build.id() as i32);
        let target = if round % 2 == 0 { Pid::from_raw(-pid.as_raw()) } else { pid };
        let _ = kill(target, Signal::SIGKILL);
        build.wait().unwrap();
        house.settle();
        let now = generation(&house);
        assert!(now == last || now == Some(round), "round {round}: {last:?} became {now:?}");
        match now {
            None => seen.0 += 1,
            Some(generation) if generation == round => seen.2 += 1,
            Some(_) => seen.1 += 1,
        }
        last = now;
        assert!(mounts_of(&house).is_empty(), "a mount is left behind");
    }
    println!("after 100 kills: absent {}, old {}, new {}", seen.0, seen.1, seen.2);
    assert!(seen.0 > 0 && seen.1 > 20, "the kills did not hit the builds: {seen:?}");
    // A directory whose maker was killed before it said whose it is can only be judged by its age.
    std::thread::sleep(Duration::from_secs(6));
    house.recipe("k/1.0", recipe(1000));
    house.ovl(&["build", "--update", "k/1.0"]).ok();
    assert_eq!(generation(&house), Some(1000));
    house.settle();
    let left: Vec<String> = house.names("home/.local/share/ovl/images");
    let own = |name: &String| matches!(name.as_str(), "k--1.0.sqf" | "k--1.0.sqf.env" | ".previous");
    assert!(left.iter().all(own), "left behind: {left:?}");
    assert_eq!(house.names("home/.local/share/ovl/images/.previous"), ["k--1.0.sqf", "k--1.0.sqf.env"]);
    assert_eq!(house.names("scratch"), Vec::<String>::new());
}

#[test]
fn interrupts_and_time_limits_clean_up_and_say_so() {
    let house = House::new();
    house.recipe("slow/1.0", script("", "echo begun > $target_dir/f; sleep 99 & sleep 98"));
    for signal in [Signal::SIGINT, Signal::SIGTERM, Signal::SIGHUP] {
        let build = house.start(&["build", "slow/1.0"]);
        let began = Instant::now();
        while house.names("scratch").is_empty() && began.elapsed() < Duration::from_secs(10) {
            std::thread::sleep(Duration::from_millis(10));
        }
        std::thread::sleep(Duration::from_millis(150));
        kill(Pid::from_raw(build.id() as i32), signal).unwrap();
        let run = Run::of(build.wait_with_output().unwrap()).code(130);
        run.says("slow/1.0: interrupted; nothing was left behind");
        house.settle();
        assert_eq!(house.names("scratch"), Vec::<String>::new());
        assert_eq!(house.names("home/.local/share/ovl/images"), Vec::<String>::new());
    }
    let began = Instant::now();
    house
        .ovl(&["build", "slow/1.0", "--timeout", "1s"])
        .code(124)
        .says("the time limit of 1.0s was reached in phase install");
    assert!(began.elapsed() < Duration::from_secs(15));
    house.recipe("slow/2.0", script("#TIMEOUT:1s", "sleep 98"));
    house.ovl(&["build", "slow/2.0"]).code(124);
    house.settle();
    assert_eq!(house.names("scratch"), Vec::<String>::new());
    assert_eq!(house.names("home/.local/share/ovl/images"), Vec::<String>::new());
}

#[test]
fn of_twenty_builds_at_once_one_builds() {
    let house = House::new();
    house.recipe("crowd/1.0", script("", &format!("echo x >> {}; sleep 0.5; echo x > $target_dir/f", "$tmp_dir/n")));
    let builds: Vec<_> = (0..20)
        .map(|_| {
            let mut command = house.ovl_command(&["build", "crowd/1.0"]);
            command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap()
        })
        .collect();
    let runs: Vec<Run> = builds.into_iter().map(|build| Run::of(build.wait_with_output().unwrap()).ok()).collect();
    let said = |text: &str| runs.iter().filter(|run| run.stderr.contains(text)).count();
    assert_eq!(said("crowd/1.0: built"), 1, "{runs:#?}");
    assert_eq!(said("already built") + said("up to date"), 19, "{runs:#?}");
    assert!(said("already built") > 10, "{runs:#?}");
    assert_eq!(house.names("home/.local/state/ovl/logs").len(), 1, "more than one build ran");
    assert_eq!(house.names("home/.local/share/ovl/images"), ["crowd--1.0.sqf", "crowd--1.0.sqf.env"]);
    assert_eq!(house.names("scratch"), Vec::<String>::new());
}

#[test]
fn a_live_builder_is_named_and_a_dead_one_is_taken_over() {
    let house = House::new();
    house.recipe("c/1.0", script("", "sleep 1; touch $target_dir/f"));
    let mut first = house.start(&["build", "c/1.0"]);
    while !house.names("home/.local/share/ovl/images").iter().any(|name| name.ends_with(".claim")) {
        std::thread::sleep(Duration::from_millis(5));
    }
    house
        .ovl(&["build", "--no-wait", "c/1.0"])
        .code(6)
        .says("c/1.0 is being built by")
        .says(&format!("pid {}", first.id()));
    let _ = kill(Pid::from_raw(first.id() as i32), Signal::SIGKILL);
    first.wait().unwrap();
    house.ovl(&["build", "--no-wait", "c/1.0"]).ok().says("c/1.0: built");
}
