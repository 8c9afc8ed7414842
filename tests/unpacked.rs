//! Running and building where `/dev/fuse` is closed or is no FUSE: the images are unpacked to scratch and cleared away.

use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use crate::support::house::{House, finish, script};

/// How `/dev/fuse` is spoilt.
#[derive(Clone, Copy)]
enum Fuse {
    /// It may not be opened.
    Closed,
    /// It opens, but mounting is refused.
    Useless,
}

/// None, with the reason printed, where `/dev/fuse` cannot be hidden from ovl.
fn house() -> Option<House> {
    if !nix::unistd::geteuid().is_root() {
        println!("skipped: only root can hide /dev/fuse from ovl");
        return None;
    }
    let house = House::new();
    house.recipe(
        "tool/1.0",
        script(
            "#ENV:TOOL_HOME=$app_root",
            r#"mkdir -p $target_dir/bin $target_dir/shut
            printf '#!/bin/sh\necho tool in $TOOL_HOME\n' > $target_dir/bin/tool; chmod 755 $target_dir/bin/tool
            ln -s bin/tool $target_dir/link; ln $target_dir/bin/tool $target_dir/hard; echo x > $target_dir/shut/x
            head -c 300000 /dev/urandom > $target_dir/data; truncate -s 40M $target_dir/holes; echo y >> $target_dir/holes
            chmod 400 $target_dir/shut/x; chmod 2555 $target_dir/shut; touch -d 2001-02-03 $target_dir/data"#,
        ),
    );
    house.ovl(&["build", "tool/1.0"]).ok();
    house.settle();
    Some(house)
}

/// `ovl` as the house's user, with `/dev/fuse` spoilt.
fn without(fuse: Fuse, house: &House, args: &[&str]) -> Command {
    within("mount --bind \"$0\" /dev/fuse", fuse, house, args)
}

/// The same after a shell command of root's in a mount namespace of its own; `$0` is what hides `/dev/fuse`.
fn within(prepare: &str, fuse: Fuse, house: &House, args: &[&str]) -> Command {
    let closed = house.path("closed");
    let _ = std::fs::remove_file(&closed);
    std::fs::write(&closed, "").unwrap();
    std::fs::set_permissions(&closed, std::os::unix::fs::PermissionsExt::from_mode(0o000)).unwrap();
    let cover = match fuse {
        Fuse::Closed => closed.as_path(),
        Fuse::Useless => Path::new("/dev/null"),
    };
    let plain = house.ovl_command(args);
    let owner = std::fs::metadata(house.path("scratch")).unwrap();
    let mut command = Command::new("unshare");
    command.args(["-m", "--propagation", "private", "--", "sh", "-c"]);
    command.arg(format!("{prepare} && exec \"$@\"")).arg(cover);
    command.arg("setpriv").arg(format!("--reuid={}", owner.uid())).arg(format!("--regid={}", owner.gid()));
    command.args(["--clear-groups", "--"]).arg(plain.get_program()).args(plain.get_args());
    command.env_clear().envs(plain.get_envs().filter_map(|(name, value)| Some((name, value?))));
    command.current_dir(plain.get_current_dir().unwrap()).stdin(Stdio::null());
    command
}

/// Waits until scratch is empty.
#[track_caller]
fn assert_cleared(house: &House) {
    let start = Instant::now();
    while !house.names("scratch").is_empty() {
        assert!(start.elapsed() < Duration::from_secs(10), "still there: {:?}", house.names("scratch"));
        std::thread::sleep(Duration::from_millis(20));
    }
}

/// Waits until a file is there.
#[track_caller]
fn wait_for(path: &Path) {
    let start = Instant::now();
    while !path.exists() {
        assert!(start.elapsed() < Duration::from_secs(10), "no {}", path.display());
        std::thread::sleep(Duration::from_millis(10));
    }
}

const LOOK: &str = "cd /cnt/tool/1.0 && find . -printf '%p %M %n %s %U %G %Ts %l\\n' | sort && \
                    find . -type f | sort | xargs sha256sum && tool && ! touch x 2> /dev/null && ls -A / | sort";

#[test]
fn a_command_sees_the_same_files() {
    let Some(house) = house() else { return };
    let args = ["exec", "-o", "tool/1.0", "sh", "-c", LOOK];
    // Directories report sizes and link counts of their own kind.
    let rows = |text: &str| -> Vec<String> {
        let row = |line: &str| {
            let words: Vec<&str> = line.split(' ').collect();
            match words.get(1) {
                Some(mode) if mode.starts_with('d') => format!("{} {mode} {}", words[0], words[4..].join(" ")),
                _ => line.to_owned(),
            }
        };
        text.lines().map(row).collect()
    };
    let served = house.ovl(&args).ok();
    assert!(served.stderr.is_empty() && served.stdout.contains("tool in /cnt/tool/1.0"), "{served:#?}");
    for fuse in [Fuse::Closed, Fuse::Useless] {
        let unpacked = finish(without(fuse, &house, &args)).ok().says("unpacking 40");
        assert_eq!(rows(&served.stdout), rows(&unpacked.stdout));
        assert_eq!(unpacked.stderr.lines().count(), 1, "{unpacked:#?}");
        assert_cleared(&house);
    }
    finish(without(Fuse::Closed, &house, &args)).says("/dev/fuse may not be opened");
    finish(without(Fuse::Useless, &house, &args)).says("FUSE");
    finish(without(Fuse::Closed, &house, &["exec", "-o", "tool/1.0", "sh", "-c", "exit 3"])).code(3);
    assert_cleared(&house);
    house.settle();
}

#[test]
fn holes_take_no_space_and_nobody_else_looks_in() {
    let Some(house) = house() else { return };
    let command = "du -sk $TMPDIR | cut -f1; stat -c %a $TMPDIR/ovl-*; ls $TMPDIR/ovl-*/root";
    let run = finish(without(Fuse::Closed, &house, &["exec", "-o", "tool/1.0", "sh", "-c", command])).ok();
    let lines: Vec<&str> = run.stdout.lines().collect();
    assert!(lines[0].parse::<u32>().unwrap() < 2000, "{run:#?}");
    assert_eq!(lines[1..], ["700", "cnt"], "{run:#?}");
    assert_cleared(&house);
}

#[test]
fn a_build_with_a_dependency_works_and_its_log_says_how() {
    let Some(house) = house() else { return };
    house.recipe("user/2.0", script("#DEP:tool/1.0", "tool > $target_dir/said; ! touch /cnt/tool/1.0/x 2>/dev/null"));
    finish(without(Fuse::Closed, &house, &["build", "user/2.0"])).ok().says("user/2.0: built");
    assert_cleared(&house);
    house.ovl(&["exec", "-o", "user/2.0", "cat", "/cnt/user/2.0/said"]).ok().prints("tool in /cnt/tool/1.0");
    let logs = house.command("grep").args(["-rl", "unpacking 40"]).arg(house.path("home")).output().unwrap();
    assert!(!logs.stdout.is_empty(), "no log says that files were unpacked");
    house.settle();
}

#[test]
fn nothing_stays_whoever_is_killed() {
    let Some(house) = house() else { return };
    let here = house.path("work/here");
    let script = format!("touch {}; while cat /cnt/tool/1.0/data; do :; done > /dev/null", here.display());
    for round in 0..12u64 {
        let mut command = without(Fuse::Closed, &house, &["exec", "-o", "tool/1.0", "sh", "-c", &script]);
        let mut child = command.stderr(Stdio::null()).spawn().unwrap();
        if round % 2 == 0 {
            wait_for(&here);
            assert_eq!(house.names("scratch").len(), 1);
        } else {
            // At any moment: before, while or after files are unpacked.
            std::thread::sleep(Duration::from_millis(round * 7));
        }
        child.kill().unwrap();
        child.wait().unwrap();
        assert_cleared(&house);
        let _ = std::fs::remove_file(&here);
    }
    house.settle();
}

#[test]
fn a_background_process_keeps_its_files() {
    let Some(house) = house() else { return };
    // The second one in a mount namespace made inside, in which nothing of the command's root is left but the overlays.
    let inside = "mkdir new && mount -t tmpfs x new && mkdir new/old new/out && mount --bind . new/out && \
                  for dir in usr bin lib lib64 cnt; do \
                  [ ! -e /$dir ] || { mkdir new/$dir && mount --rbind /$dir new/$dir; }; done && \
                  cd new && pivot_root . old && python3 -c \"import ctypes; exit(ctypes.CDLL(None).umount2(b\\\"/old\\\", 2))\" && sleep 2 && sha256sum < /cnt/tool/1.0/data > /out/two";
    let script = format!(
        "(sleep 1; sha256sum < /cnt/tool/1.0/data > one) > /dev/null 2>&1 & \
         unshare -rm sh -c '{inside}' > log 2>&1 & sha256sum < /cnt/tool/1.0/data"
    );
    let run = finish(without(Fuse::Closed, &house, &["exec", "-o", "tool/1.0", "sh", "-c", &script])).ok();
    assert_eq!(house.names("scratch").len(), 1, "removed under a process that uses it");
    assert_cleared(&house);
    for name in ["one", "two"] {
        let text = std::fs::read_to_string(house.path(&format!("work/{name}"))).unwrap_or_default();
        let log = std::fs::read_to_string(house.path("work/log")).unwrap_or_default();
        assert_eq!(text, run.stdout, "{name}: {log}");
    }
    house.settle();
}

#[test]
fn what_a_crash_left_is_swept_but_not_from_under_a_command() {
    let Some(house) = house() else { return };
    let here = house.path("work/here");
    let script = format!("touch {}; exec sleep 60", here.display());
    let mut command = without(Fuse::Closed, &house, &["exec", "-o", "tool/1.0", "sh", "-c", &script]);
    let mut child = command.stderr(Stdio::null()).spawn().unwrap();
    wait_for(&here);
    // Whoever has the owner file open is the one that would clear up.
    let first = house.names("scratch");
    let owner = house.path("scratch").join(&first[0]).join("owner.json");
    let owner: serde_json::Value = serde_json::from_slice(&std::fs::read(owner).unwrap()).unwrap();
    let server = nix::unistd::Pid::from_raw(i32::try_from(owner["pid"].as_i64().unwrap()).unwrap());
    nix::sys::signal::kill(server, nix::sys::signal::Signal::SIGKILL).unwrap();
    let args = ["exec", "-o", "tool/1.0", "sh", "-c", "ls $TMPDIR"];
    let run = finish(without(Fuse::Closed, &house, &args)).ok();
    assert!(run.stdout.contains(&first[0]), "swept while a command uses it: {run:#?}");
    child.kill().unwrap();
    child.wait().unwrap();
    while !house.processes().is_empty() {
        std::thread::sleep(Duration::from_millis(20));
    }
    assert_eq!(house.names("scratch"), first);
    let run = finish(without(Fuse::Closed, &house, &args)).ok();
    assert!(!run.stdout.contains(&first[0]), "not swept: {run:#?}");
    assert_cleared(&house);
}

#[test]
fn too_little_space_and_scratch_without_programs_are_said_with_figures() {
    let Some(house) = house() else { return };
    let scratch = house.path("scratch");
    let args = ["exec", "-o", "tool/1.0", "true"];
    for (options, texts) in [
        ("size=8m,mode=777", ["has 8.0 MiB free", "need 40"]),
        ("nr_inodes=5,mode=777", ["inodes free", "need 1"]),
        ("noexec,mode=777", ["noexec", "dirs.scratch"]),
    ] {
        let prepare = format!("mount --bind \"$0\" /dev/fuse && mount -t tmpfs -o {options} x {}", scratch.display());
        let run = finish(within(&prepare, Fuse::Closed, &house, &args)).code(7);
        let run = run.says("/dev/fuse may not be opened").says("chmod 666 /dev/fuse");
        texts.iter().fold(run, |run, text| run.says(text));
    }
    assert_cleared(&house);
    house.settle();
}

#[test]
fn unpacking_can_be_asked_for_and_is_shared() {
    let house = House::new();
    house.recipe("tool/1.0", script("", "mkdir $target_dir/bin; echo x > $target_dir/bin/f"));
    house.ovl(&["build", "-q", "tool/1.0"]).ok();
    let line = "stat -f -c %T /cnt/tool/1.0; readlink /proc/self/ns/mnt; cat";
    let args = ["exec", "--unpack", "-o", "tool", "--", "sh", "-c", line];
    let mut command = house.ovl_command(&args);
    let mut first = command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    let mut lines = std::io::BufRead::lines(std::io::BufReader::new(first.stdout.as_mut().unwrap()));
    let (kind, place) = (lines.next().unwrap().unwrap(), lines.next().unwrap().unwrap());
    assert_ne!(kind, "fuseblk");
    let second = house.ovl(&args).ok();
    assert_eq!(second.stdout, format!("{kind}\n{place}\n"), "it joins");
    assert_eq!(house.names("scratch").len(), 1);
    drop(first.stdin.take());
    let first = crate::support::house::Run::of(first.wait_with_output().unwrap()).says("unpacking");
    assert_eq!(first.code, 0);
    assert_ne!(
        house.ovl(&["exec", "-o", "tool", "--", "stat", "-f", "-c", "%T", "/cnt/tool/1.0"]).ok().stdout.trim(),
        kind
    );
    house.settle();
    assert!(house.names("scratch").is_empty());
    house.ovl(&["exec", "--unpack", "--runtime", "apptainer", "-o", "tool", "true"]).says("apptainer");
}
