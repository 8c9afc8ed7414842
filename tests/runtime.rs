//! The native runtime, as an unprivileged user, through the example program `native`.
#![cfg(target_os = "linux")]

use std::fs;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::os::unix::process::ExitStatusExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

/// A directory of one test that any user may read; its path marks the processes of that test.
pub struct Place(pub PathBuf);

impl Place {
    /// None, with the reason printed, where the runtime cannot work.
    pub fn new() -> Option<Place> {
        static COUNT: AtomicU32 = AtomicU32::new(0);
        let name = format!("ovl-runtime-{}-{}", std::process::id(), COUNT.fetch_add(1, Ordering::Relaxed));
        let dir = std::env::temp_dir().join(name);
        fs::create_dir_all(&dir).unwrap();
        fs::set_permissions(&dir, fs::Permissions::from_mode(0o755)).unwrap();
        let place = Place(dir);
        let probe = place.native().arg("--probe").output().expect("the example program is built");
        let text = String::from_utf8_lossy(&probe.stdout);
        if !text.starts_with("usable") {
            println!("skipped: {text}");
            return None;
        }
        if Command::new("mksquashfs").arg("-version").output().is_err() {
            crate::support::missing("there is no mksquashfs");
            return None;
        }
        Some(place)
    }

    /// The example program as a user without privileges.
    fn native(&self) -> Command {
        let tests = std::env::current_exe().unwrap();
        let program = tests.parent().unwrap().parent().unwrap().join("examples/native");
        let mut command;
        if nix::unistd::geteuid().is_root() {
            command = Command::new("setpriv");
            command.args(["--reuid=1001", "--regid=1001", "--clear-groups", "--"]).arg(program);
        } else {
            command = Command::new(program);
        }
        command.env("HOME", &self.0).env("PATH", "/usr/bin:/bin").current_dir("/");
        command
    }

    /// Runs a shell command over images.
    pub fn sh(&self, flags: &[&str], layers: &[&Path], script: &str) -> Output {
        let mut command = self.native();
        command.args(flags);
        for layer in layers {
            command.arg("--layer").arg(layer);
        }
        command.args(["--", "sh", "-c", script]).stdin(Stdio::null());
        command.output().unwrap()
    }

    /// An image of what `build` puts into a directory.
    fn image(&self, name: &str, build: impl FnOnce(&Path)) -> PathBuf {
        let source = self.0.join(format!("{name}.d"));
        fs::create_dir_all(&source).unwrap();
        build(&source);
        self.pack(name, &source)
    }

    fn pack(&self, name: &str, source: &Path) -> PathBuf {
        let image = self.0.join(format!("{name}.sqf"));
        let mut command = Command::new("mksquashfs");
        let made = command.arg(source).arg(&image).args(["-all-root", "-quiet", "-no-progress"]).output().unwrap();
        assert!(made.status.success(), "{}", String::from_utf8_lossy(&made.stderr));
        image
    }

    /// Processes of this test that have not ended, as (pid, command line).
    fn processes(&self) -> Vec<(i32, String)> {
        let mark = self.0.to_str().unwrap();
        let mut found = Vec::new();
        for entry in fs::read_dir("/proc").unwrap().flatten() {
            let Some(pid) = entry.file_name().to_str().and_then(|name| name.parse().ok()) else { continue };
            let Ok(line) = fs::read(entry.path().join("cmdline")) else { continue };
            let line = String::from_utf8_lossy(&line).replace('\0', " ");
            let zombie = fs::read_to_string(entry.path().join("stat")).is_ok_and(|stat| stat.contains(") Z "));
            if line.contains(mark) && !zombie {
                found.push((pid, line));
            }
        }
        found
    }

    /// Waits until nothing of this test runs any more.
    pub fn assert_nothing_left(&self) {
        let start = Instant::now();
        while !self.processes().is_empty() {
            assert!(start.elapsed() < Duration::from_secs(10), "still there: {:?}", self.processes());
            std::thread::sleep(Duration::from_millis(20));
        }
        assert!(!fs::read_to_string("/proc/mounts").unwrap().contains("fuse.ovl"), "a mount is left on the host");
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

fn write(path: PathBuf, text: &str) {
    fs::create_dir_all(path.parent().unwrap()).unwrap();
    fs::write(path, text).unwrap();
}

fn text(output: &Output) -> String {
    assert!(output.status.success(), "{output:?}");
    String::from_utf8(output.stdout.clone()).unwrap()
}

fn simple(place: &Place) -> PathBuf {
    place.image("simple", |dir| write(dir.join("cnt/a/1/f"), "content\n"))
}

#[test]
fn later_images_win_and_whiteouts_hide() {
    let Some(place) = Place::new() else { return };
    let low = place.image("low", |dir| {
        write(dir.join("cnt/a/1/f"), "low\n");
        write(dir.join("cnt/a/1/gone"), "");
        write(dir.join("cnt/a/1/also-gone"), "");
        write(dir.join("cnt/a/1/opaque/x"), "");
    });
    let high = place.image("high", |dir| {
        write(dir.join("cnt/a/1/f"), "high\n");
        write(dir.join("cnt/a/1/.wh.gone"), "");
        write(dir.join("cnt/a/1/opaque/.wh..wh..opq"), "");
        write(dir.join("cnt/a/1/opaque/y"), "");
        if nix::unistd::geteuid().is_root() {
            let node = Command::new("mknod").arg(dir.join("cnt/a/1/also-gone")).args(["c", "0", "0"]).status();
            assert!(node.unwrap().success());
        } else {
            write(dir.join("cnt/a/1/.wh.also-gone"), "");
        }
    });
    let script = "cat /cnt/a/1/f; cd /cnt/a/1; find . | sort";
    assert_eq!(text(&place.sh(&[], &[&low, &high], script)), "high\n.\n./f\n./opaque\n./opaque/y\n");
    assert!(text(&place.sh(&[], &[&high, &low], script)).starts_with("low\n"));
    place.assert_nothing_left();
}

#[test]
fn the_commands_end_is_seen_as_it_is() {
    let Some(place) = Place::new() else { return };
    let image = simple(&place);
    write(place.0.join("plain"), "no program\n");
    for flags in [&[][..], &["--processes"]] {
        let code = |script: &str| place.sh(flags, &[&image], script).status;
        assert_eq!(code("exit 0").code(), Some(0));
        assert_eq!(code("exit 3").code(), Some(3));
        assert_eq!(code("kill -KILL $$").signal(), Some(9));
        assert_eq!(code("kill -TERM $$").signal(), Some(15));
        let run = |program: &str| {
            place.native().args(flags).arg("--layer").arg(&image).args(["--", program]).output().unwrap()
        };
        let missing = run("no-such-program");
        assert_eq!(missing.status.code(), Some(127), "{missing:?}");
        assert!(String::from_utf8_lossy(&missing.stderr).contains("no-such-program"), "{missing:?}");
        assert_eq!(run("/no/such/program").status.code(), Some(127));
        assert_eq!(run(place.0.join("plain").to_str().unwrap()).status.code(), Some(126));
        assert_eq!(run("/usr").status.code(), Some(126));
    }
    place.assert_nothing_left();
}

#[test]
fn damaged_and_missing_images_are_named() {
    let Some(place) = Place::new() else { return };
    write(place.0.join("bad.sqf"), "this is no image");
    for name in ["bad.sqf", "missing.sqf"] {
        let output = place.sh(&[], &[&place.0.join(name)], "true");
        assert_eq!(output.status.code(), Some(1));
        assert!(String::from_utf8_lossy(&output.stderr).contains(name), "{output:?}");
    }
    place.assert_nothing_left();
}

#[test]
fn pipes_close_when_the_command_ends() {
    let Some(place) = Place::new() else { return };
    let image = simple(&place);
    for flags in [&[][..], &["--processes"]] {
        let mut command = place.native();
        command.args(flags).arg("--layer").arg(&image).args(["--", "cat"]);
        let mut child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
        use std::io::{Read, Write};
        child.stdin.take().unwrap().write_all(b"through").unwrap();
        let mut out = String::new();
        child.stdout.take().unwrap().read_to_string(&mut out).unwrap();
        assert_eq!(out, "through");
        assert!(child.wait().unwrap().success());
    }
    // A reader that leaves early: SIGPIPE has its default action again.
    let script = "yes | head -1; test \"${PIPESTATUS[0]}\" = 141";
    let mut command = place.native();
    command.arg("--layer").arg(&image).args(["--", "bash", "-c", script]);
    assert!(command.output().unwrap().status.success());
    place.assert_nothing_left();
}

#[test]
fn a_background_process_keeps_its_files() {
    let Some(place) = Place::new() else { return };
    let image = simple(&place);
    let result = place.0.join("result");
    fs::create_dir(&result).unwrap();
    fs::set_permissions(&result, fs::Permissions::from_mode(0o777)).unwrap();
    let script = format!("(sleep 0.7; cat /cnt/a/1/f > {}/f) > /dev/null 2>&1 &", result.display());
    assert!(place.sh(&[], &[&image], &script).status.success());
    place.assert_nothing_left();
    assert_eq!(fs::read_to_string(result.join("f")).unwrap(), "content\n");
}

#[test]
fn many_starts_at_once_leave_nothing() {
    let Some(place) = Place::new() else { return };
    let image = simple(&place);
    for round in 0..3 {
        let children: Vec<_> = (0..64)
            .map(|number| {
                let mut command = place.native();
                if number % 4 == 0 {
                    command.arg("--processes");
                }
                command.arg("--layer").arg(&image).args(["--", "cat", "/cnt/a/1/f"]);
                command.stdout(Stdio::piped()).spawn().unwrap()
            })
            .collect();
        for child in children {
            assert_eq!(text(&child.wait_with_output().unwrap()), "content\n", "round {round}");
        }
    }
    place.assert_nothing_left();
}

#[test]
fn whatever_is_killed_nothing_is_left() {
    let Some(place) = Place::new() else { return };
    let image = simple(&place);
    let kill = |pid: i32| nix::sys::signal::kill(nix::unistd::Pid::from_raw(pid), nix::sys::signal::Signal::SIGKILL);
    for round in 0..30u64 {
        let mut command = place.native();
        if round % 2 == 0 {
            command.arg("--processes");
        }
        let script = format!("while cat /cnt/a/1/f; do :; done; : {}", place.0.display());
        command.arg("--layer").arg(&image).args(["--", "sh", "-c", &script]);
        let mut child = command.stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
        std::thread::sleep(Duration::from_millis(round * 2 % 47));
        if round % 3 == 0 {
            // Not the command: one of the others, usually the server.
            let others = place.processes().into_iter().find(|(pid, _)| *pid != child.id() as i32);
            let _ = others.map(|(pid, _)| kill(pid));
            std::thread::sleep(Duration::from_millis(10));
        }
        let _ = kill(child.id() as i32);
        child.wait().unwrap();
        place.assert_nothing_left();
    }
}

#[test]
fn a_server_killed_under_many_readers_leaves_nothing() {
    let Some(place) = Place::new() else { return };
    let image = place.image("files", |dir| {
        for number in 0..3000 {
            write(dir.join(format!("cnt/a/{}/file-{number}", number / 100)), &"some text ".repeat(number % 500));
        }
        write(dir.join("cnt/large"), &"a longer text ".repeat(2_000_000));
    });
    // More readers than the kernel hands to the server at once; each names this test, so that none is overlooked.
    let none = place.0.join("none");
    let many = format!("for i in $(seq 40); do tail -c +$((i * 600000)) /cnt/large {} & done; wait", none.display());
    let read = format!("{{ find /cnt -type f -exec cat {{}} + & {many}; }} > /dev/null");
    let script = format!("while :; do {read}; done 2> /dev/null; : {}", place.0.display());
    for round in 0..20u64 {
        let mut command = place.native();
        command.arg("--layer").arg(&image).args(["--", "sh", "-c", &script]);
        let mut child = command.stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
        std::thread::sleep(Duration::from_millis(30 + round * 17 % 160));
        for (pid, line) in place.processes() {
            // The server kept the command line that the command had before it became the shell.
            if line.contains("--layer") && pid != child.id() as i32 {
                let _ = nix::sys::signal::kill(nix::unistd::Pid::from_raw(pid), nix::sys::signal::Signal::SIGKILL);
            }
        }
        std::thread::sleep(Duration::from_millis(10));
        child.kill().unwrap();
        child.wait().unwrap();
        place.assert_nothing_left();
    }
}

#[test]
fn a_killed_caller_takes_everything_with_it() {
    let Some(place) = Place::new() else { return };
    let image = simple(&place);
    let script = format!("setsid sleep 100 {0} & sleep 100; : {0}", place.0.display());
    let mut command = place.native();
    command.args(["--processes", "--layer"]).arg(&image).args(["--", "sh", "-c", &script]);
    let mut child = command.spawn().unwrap();
    std::thread::sleep(Duration::from_millis(300));
    assert!(place.processes().len() >= 4, "{:?}", place.processes());
    child.kill().unwrap();
    child.wait().unwrap();
    place.assert_nothing_left();
}

#[test]
fn signals_are_passed_on() {
    let Some(place) = Place::new() else { return };
    let image = simple(&place);
    for flags in [&[][..], &["--processes"]] {
        let script = "trap 'echo got it; exit 7' TERM; echo ready; while :; do sleep 0.05; done";
        let mut command = place.native();
        command.args(flags).arg("--layer").arg(&image).args(["--", "sh", "-c", script]);
        let mut child = command.stdout(Stdio::piped()).spawn().unwrap();
        let mut lines = std::io::BufRead::lines(std::io::BufReader::new(child.stdout.take().unwrap()));
        assert_eq!(lines.next().unwrap().unwrap(), "ready");
        let pid = nix::unistd::Pid::from_raw(child.id() as i32);
        nix::sys::signal::kill(pid, nix::sys::signal::Signal::SIGTERM).unwrap();
        assert_eq!(lines.next().unwrap().unwrap(), "got it");
        assert_eq!(child.wait().unwrap().code(), Some(7));
    }
    place.assert_nothing_left();
}

#[test]
fn a_read_only_base_refuses_writes_and_memory_hides() {
    let Some(place) = Place::new() else { return };
    let image = simple(&place);
    let open = place.0.join("open");
    fs::create_dir_all(open.join("below")).unwrap();
    fs::set_permissions(&open, fs::Permissions::from_mode(0o777)).unwrap();
    let (dir, parent) = (open.to_str().unwrap(), place.0.to_str().unwrap());
    let refused = place.sh(&["--read-only"], &[&image], &format!("touch {dir}/x"));
    assert!(!refused.status.success() && !open.join("x").exists(), "{refused:?}");
    assert!(place.sh(&[], &[&image], &format!("touch {dir}/y && rm {dir}/y")).status.success());

    // The home is hidden, a directory below it is bound elsewhere and back, writable and not.
    let binds = [format!("{dir}:{dir}:rw"), format!("{dir}:/new/place")];
    let flags = ["--read-only", "--tmpfs", parent, "--bind", &binds[0], "--bind", &binds[1]];
    let script = format!("touch {dir}/z && ls /new/place && ls {parent} && ! touch /new/place/no && ! touch /new/no");
    let output = place.sh(&flags, &[&image], &script);
    assert_eq!(text(&output), "below\nz\nopen\n", "{output:?}");
    assert!(open.join("z").exists());
    place.assert_nothing_left();
}

#[test]
fn mount_points_are_never_made_on_the_host() {
    let Some(place) = Place::new() else { return };
    let bind = format!("{}:{}/new/dir", place.0.display(), "/usr/lib");
    let output = place.sh(&["--bind", &bind], &[], "ls /usr/lib/new; ls /usr/lib | wc -l");
    assert!(text(&output).starts_with("dir\n"), "{output:?}");
    assert!(!Path::new("/usr/lib/new").exists());
    place.assert_nothing_left();
}

#[test]
fn without_a_network_there_is_only_loopback() {
    let Some(place) = Place::new() else { return };
    let image = simple(&place);
    let script = "cut -d: -f1 /proc/net/dev | tail -n +3; cat /sys/class/net/lo/operstate > /dev/null; \
                  python3 -c 'import socket; s = socket.create_server((\"127.0.0.1\", 0)); \
                  socket.create_connection(s.getsockname()); print(\"lo works\")'";
    for flags in [&["--no-network"][..], &["--no-network", "--processes"]] {
        let output = place.sh(flags, &[&image], script);
        assert_eq!(text(&output).split_whitespace().collect::<Vec<_>>(), ["lo", "lo", "works"], "{output:?}");
    }
    place.assert_nothing_left();
}

#[test]
fn processes_are_kept_apart() {
    let Some(place) = Place::new() else { return };
    let image = simple(&place);
    let output = place.sh(&["--processes"], &[&image], "echo /proc/[0-9]*; grep -E '^(Cap|NoNew)' /proc/self/status");
    let text = text(&output);
    assert!(text.starts_with("/proc/1 /proc/2\n"), "{text}");
    for line in text.lines().skip(1) {
        let value = line.split_whitespace().nth(1).unwrap();
        assert_eq!(value.trim_start_matches('0').len(), usize::from(line.starts_with("NoNew")), "{line}");
    }
    place.assert_nothing_left();
}

/// A small system: a few programs with the libraries they need.
fn system(dir: &Path) {
    for name in ["bin", "lib", "lib64"] {
        fs::create_dir_all(dir.join("usr").join(name)).unwrap();
        std::os::unix::fs::symlink(format!("usr/{name}"), dir.join(name)).unwrap();
    }
    for program in ["sh", "cat", "ls", "touch", "mkdir", "id"] {
        let path = Path::new("/usr/bin").join(program);
        fs::copy(&path, dir.join("usr/bin").join(program)).unwrap();
        let ldd = Command::new("ldd").arg(&path).output().unwrap();
        for library in String::from_utf8_lossy(&ldd.stdout).split_whitespace().filter(|word| word.starts_with('/')) {
            let target = dir.join(library.trim_start_matches('/'));
            fs::create_dir_all(target.parent().unwrap()).unwrap();
            fs::copy(library, target).unwrap();
        }
    }
    std::os::unix::fs::symlink("/run", dir.join("var-run")).unwrap();
    fs::create_dir_all(dir.join("run")).unwrap();
    write(dir.join("etc/own"), "of the image\n");
}

#[test]
fn an_image_can_be_the_root() {
    let Some(place) = Place::new() else { return };
    let base = place.image("system", system);
    let layer = simple(&place);
    let bind = format!("{}:/deep/inside/here", place.0.display());
    let file = "/etc/hostname:/var-run/a-file".to_owned();
    for more in [&[][..], &["--processes", "--read-only"]] {
        let mut flags = vec!["--base", base.to_str().unwrap(), "--bind", &bind, "--bind", &file];
        flags.extend(["--tmpfs", "/scratch"]);
        flags.extend(more);
        let script = "cat /etc/own /cnt/a/1/f; ls /; ls -d /deep/inside/here/simple.sqf /run/a-file /proc/self/fd; \
                      touch /scratch/x && ! touch /etc/x 2> /dev/null && id -u";
        let output = place.sh(&flags, &[&layer], script);
        let text = text(&output);
        assert!(text.starts_with("of the image\ncontent\n"), "{text}");
        let names = "bin\ncnt\ndeep\ndev\netc\nlib\nlib64\nproc\nrun\nscratch\nsys\ntmp\nusr\nvar-run\n";
        assert!(text.contains(names), "{text}");
        assert!(text.contains("/deep/inside/here/simple.sqf") && text.contains("/run/a-file"), "{text}");
    }
    place.assert_nothing_left();
}

#[test]
fn a_directory_can_be_the_root() {
    let Some(place) = Place::new() else { return };
    let base = place.0.join("system");
    fs::create_dir_all(base.join("home")).unwrap();
    system(&base);
    let layer = place.image("layer", |dir| {
        write(dir.join("cnt/a/1/f"), "content\n");
        write(dir.join("etc/added"), "by the layer\n");
    });
    let bind = format!("{}:/home/me/work", place.0.display());
    let flags = ["--base", base.to_str().unwrap(), "--bind", &bind, "--processes", "--read-only"];
    let script = "cat /cnt/a/1/f /etc/own /etc/added; ls /home/me; ls /home/me/work/layer.sqf";
    let output = place.sh(&flags, &[&layer], script);
    let text = text(&output);
    assert!(text.starts_with("content\nof the image\nby the layer\nwork\n"), "{text}");
    assert!(text.ends_with("/home/me/work/layer.sqf\n"), "{text}");
    assert!(!base.join("home/me").exists() && !base.join("proc").exists(), "nothing is made in the base");
    place.assert_nothing_left();
}

#[test]
fn a_command_inside_can_start_commands_over_other_images() {
    let Some(place) = Place::new() else { return };
    let outer = simple(&place);
    let inner = place.image("inner", |dir| write(dir.join("cnt/b/2/g"), "inner\n"));
    let native = place.native();
    let program = native.get_args().map(Path::new).find(|path| path.ends_with("examples/native"));
    let program = program.unwrap_or(Path::new(native.get_program())).display();
    let script = format!("cd {} && {program} --layer inner.sqf -- cat /cnt/a/1/f /cnt/b/2/g", place.0.display());
    let output = place.sh(&[], &[&outer], &script);
    assert_eq!(text(&output), "content\ninner\n", "{output:?}");
    drop(inner);
    place.assert_nothing_left();
}

#[test]
fn builds_start_commands_through_a_child() {
    let Some(place) = Place::new() else { return };
    let image = simple(&place);
    let run = |script: &str| {
        let mut command = place.native();
        command.arg("--processes").arg("--layer").arg(&image).args(["--spawn", "sh", "-c", script]);
        text(&command.output().unwrap())
    };
    assert_eq!(run("cat /cnt/a/1/f; exit 4"), "content\nexit status: 4\n");
    assert!(run("kill -SEGV $$").contains("signal: 11"));
    let descriptors = "echo /proc/self/fd/*";
    let here = Command::new("sh").args(["-c", descriptors]).output().unwrap();
    assert_eq!(run(descriptors).lines().next(), text(&here).lines().next(), "no descriptor is passed on");

    let mut command = place.native();
    command.arg("--processes").arg("--layer").arg(&image).args(["--spawn", "sleep", "100"]);
    let mut child = command.spawn().unwrap();
    std::thread::sleep(Duration::from_millis(300));
    child.kill().unwrap();
    child.wait().unwrap();
    place.assert_nothing_left();
}

#[test]
fn images_in_use_are_marked() {
    let Some(place) = Place::new() else { return };
    let image = simple(&place);
    let mut command = place.native();
    command.arg("--layer").arg(&image).args(["--", "sh", "-c", "echo ready; read x"]);
    let mut child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
    let mut lines = std::io::BufRead::lines(std::io::BufReader::new(child.stdout.take().unwrap()));
    assert_eq!(lines.next().unwrap().unwrap(), "ready");
    let inode = format!(":{} ", fs::metadata(&image).unwrap().ino());
    let locked = || fs::read_to_string("/proc/locks").unwrap().lines().any(|line| line.contains(&inode));
    assert!(locked());
    drop(child.stdin.take());
    child.wait().unwrap();
    place.assert_nothing_left();
    assert!(!locked());
}
