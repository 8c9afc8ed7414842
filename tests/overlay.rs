//! ext3 images to work in: made and looked after by ovl, written to by commands, shared with a real Apptainer, and whole
//! whoever is killed.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use crate::support::house::{House, Run, finish};

/// A house with a small image in its working directory.
fn house() -> (House, PathBuf) {
    let house = House::new();
    house.ovl(&["overlay", "create", "env.img", "-s", "64M"]).ok().says("made, 64.0 MiB");
    let image = house.path("work/env.img");
    (house, image)
}

fn write(house: &House, script: &str) -> Run {
    house.ovl(&["exec", "-w", "env.img", "sh", "-c", script])
}

/// What e2fsck says of an image without touching it.
fn sound(image: &Path) {
    let output = Command::new("e2fsck").arg("-fn").arg(image).output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stdout));
}

#[test]
fn what_is_written_is_there_for_the_next_and_for_readers() {
    let (house, image) = house();
    let run = write(&house, "echo hi > /ext3/f; mkdir -p /cnt/x/1; echo x > /cnt/x/1/f; exit 3").code(3);
    assert_eq!(run.stderr, "");
    // Everything is in the image when the command's caller goes on.
    sound(&image);
    write(&house, "cat /ext3/f /cnt/x/1/f; touch /new 2>&1 || echo memory").ok().prints("hi\nx\n");
    house.ovl(&["exec", "-o", "env.img", "cat", "/ext3/f"]).ok().prints("hi");
    house.ovl(&["exec", "-o", "env.img", "touch", "/ext3/f"]).code(1).says("Read-only");
    house
        .ovl(&["overlay", "info", "env.img"])
        .ok()
        .prints("takes it")
        .prints("clean       yes")
        .prints("in use      no");
    house.settle();
}

#[test]
fn a_union_lies_over_other_overlays_and_the_host() {
    let (house, image) = house();
    let below = house.foreign("below.sqf", &[("cnt/a/1/t", "low"), ("cnt/a/1/u", "gone")]);
    let below = below.to_str().unwrap();
    let run = |script: &str| house.ovl(&["exec", "-o", below, "-w", "env.img", "sh", "-c", script]);
    run("echo + >> /cnt/a/1/t; rm /cnt/a/1/u; echo n > /cnt/a/1/n").ok();
    sound(&image);
    run("cat /cnt/a/1/t; ls /cnt/a/1").ok().prints("low+\nn\nt\n");
    // Its deletions hold for readers too, and the overlay below is as it was.
    let read = house.ovl(&["exec", "-o", below, "-o", "env.img", "ls", "/cnt/a/1"]).ok();
    assert_eq!(read.stdout, "n\nt\n");
    assert_eq!(house.ovl(&["exec", "-o", below, "ls", "/cnt/a/1"]).ok().stdout, "t\nu\n");
    // A directory of the host that the image has too is united with it; one that it lacks stays the host's.
    house.write("work/seed/etc/ovl-test", "from the image");
    house.ovl(&["overlay", "create", "etc.img", "-s", "64", "--from", "seed"]).ok();
    let script = "cat /etc/ovl-test; test -s /etc/passwd && echo x > /etc/ovl-new && ls /etc/ovl-new";
    house.ovl(&["exec", "-w", "etc.img", "sh", "-c", script]).ok().prints("from the image/etc/ovl-new");
    assert!(!Path::new("/etc/ovl-new").exists());
    house.settle();
}

#[test]
fn over_an_image_as_base_all_of_the_root_is_written_to() {
    let (house, image) = house();
    let files = [("bin/.keep", ""), ("etc/motd", "base")];
    let base = house.foreign("base.sqf", &files);
    let bind = ["/bin", "/usr", "/lib", "/lib64"].map(|dir| format!("--bind={dir}:{dir}:ro"));
    let mut args = vec!["exec", "--base", base.to_str().unwrap(), "-w", "env.img"];
    args.extend(bind.iter().filter(|text| Path::new(&text[7..11]).exists()).map(String::as_str));
    args.extend(["/usr/bin/sh", "-c", "cat /etc/motd; echo mine > /etc/motd; echo r > /r; cat /etc/motd"]);
    house.ovl(&args).ok().prints("basemine");
    sound(&image);
    let listed = Command::new("debugfs").args(["-R", "ls /upper"]).arg(&image).output().unwrap();
    let listed = String::from_utf8_lossy(&listed.stdout).into_owned();
    assert!(listed.contains(" r ") && listed.contains(" etc "), "{listed}");
    house.settle();
}

#[test]
fn a_second_writer_and_a_reader_of_what_is_written_are_busy() {
    let (house, _) = house();
    let mut writer = house.start(&["exec", "-w", "env.img", "sleep", "60"]);
    wait_for(|| house.ovl(&["overlay", "info", "--json", "env.img"]).stdout.contains("written to"));
    write(&house, "true").code(6).says("is busy").says("(fuse2fs)");
    house.ovl(&["exec", "-o", "env.img", "true"]).code(6).says("somebody is writing to it");
    for change in [&["check"][..], &["resize", "-s", "100M"], &["chown"], &["check", "-n"]] {
        let args: Vec<&str> = ["overlay"].iter().chain(change).chain(&["env.img"]).copied().collect();
        house.ovl(&args).code(6);
    }
    house.ovl(&["overlay", "create", "env.img", "--force", "-s", "64M"]).code(6);
    writer.kill().unwrap();
    writer.wait().unwrap();
    house.settle();
    let mut reader = house.start(&["exec", "-o", "env.img", "sleep", "60"]);
    wait_for(|| house.ovl(&["overlay", "info", "--json", "env.img"]).stdout.contains("yes, read"));
    house.ovl(&["exec", "-o", "env.img", "true"]).ok();
    write(&house, "true").code(6).says("it is in use");
    reader.kill().unwrap();
    reader.wait().unwrap();
    house.settle();
    write(&house, "true").ok();
}

fn wait_for(what: impl Fn() -> bool) {
    let began = Instant::now();
    while !what() {
        assert!(began.elapsed() < Duration::from_secs(20), "it does not come");
        std::thread::sleep(Duration::from_millis(50));
    }
}

/// A process of the house by a part of its command line (`comm` when it has none of its own).
fn victim(house: &House, part: &str) -> Option<String> {
    let found = house.processes();
    let line = found.iter().find(|line| line.split_once(": ").is_some_and(|(_, line)| line.contains(part)))?;
    Some(line.split_once(':')?.0.to_owned())
}

#[test]
fn whoever_is_killed_nothing_is_left_and_the_image_is_mended() {
    let (house, image) = house();
    let work = "i=0; while :; do i=$((i+1)); mkdir -p /ext3/d$((i % 9)); echo $i > /ext3/d$((i % 9))/$i; \
                [ $((i % 7)) = 0 ] && rm -r /ext3/d$((i % 5)); done 2>/dev/null";
    let before = house.names("scratch");
    // The server, the keeper or the caller (which look alike), the command.
    for (round, part) in ["fuse2fs", "exec -w", "while :", "fuse2fs", "exec -w", "while :"].iter().enumerate() {
        let mut child = house.start(&["exec", "-w", "env.img", "sh", "-c", work]);
        wait_for(|| victim(&house, "fuse2fs").is_some() || child_is_gone(&house));
        std::thread::sleep(Duration::from_millis(40 + 70 * round as u64));
        if let Some(pid) = victim(&house, part) {
            Command::new("kill").args(["-9", &pid]).status().unwrap();
        }
        // What is left of the command, whose files are gone or whose caller is.
        std::thread::sleep(Duration::from_millis(100));
        let _ = child.kill();
        child.wait().unwrap();
        house.settle();
        let run = write(&house, "rm -rf /ext3/d*; echo fine").ok().prints("fine");
        assert!(run.stderr.is_empty() || run.stderr.contains("repairing it"), "{run:?}");
        sound(&image);
    }
    assert_eq!(house.names("scratch"), before);
    let mounts = std::fs::read_to_string("/proc/mounts").unwrap();
    assert!(!mounts.contains("/tmp/ovl-") || !mounts.contains("fuse.ext"), "{mounts}");
}

fn child_is_gone(house: &House) -> bool {
    house.processes().is_empty()
}

#[test]
fn the_nearest_image_is_taken_by_itself() {
    let (house, _) = house();
    write(
        &house,
        "mkdir -p /ext3/env/bin; printf '#!/bin/sh\\necho tool' > /ext3/env/bin/tool; chmod +x /ext3/env/bin/tool",
    )
    .ok();
    house
        .ovl(&["-v", "e", "--", "sh", "-c", "tool; echo $CONDA_PREFIX"])
        .ok()
        .prints("tool\n/ext3/env")
        .says("env.img (read-only");
    house.ovl(&["e", "--", "touch", "/ext3/x"]).code(1);
    house.ovl(&["e", "-w", "--", "touch", "/ext3/x"]).ok();
    house.ovl(&["e", "--no-autoload", "--", "tool"]).code(127);
    house.make("work/overlay");
    std::fs::rename(house.path("work/env.img"), house.path("work/overlay/env-ovltest.img")).unwrap();
    house.ovl(&["e", "--", "ls", "/ext3/x"]).ok();
    house.ovl(&["e", "overlay/env-ovltest.img", "-w", "--", "touch", "/ext3/y"]).ok();
    house.make("work/elsewhere");
    let mut command = house.ovl_command(&["e", "-w", "--", "true"]);
    command.current_dir(house.path("work/elsewhere"));
    finish(command).code(4).says("there is no image to write to").says("ovl overlay create env.img");
}

#[test]
fn images_are_made_checked_resized_and_given_away() {
    let house = House::new();
    house.write("work/seed/cnt/p/1/f", "p");
    house.ovl(&["overlay", "create", "a.img", "-s", "64", "--from", "seed", "-t", "small"]).ok();
    let image = house.path("work/a.img");
    sound(&image);
    house.ovl(&["overlay", "create", "a.img"]).code(4).says("exists").says("--force");
    house.ovl(&["overlay", "create", "b.img", "--", "numpy"]).code(4).says("no channel is named");
    house.ovl(&["overlay", "create", "b.img", "-s", "3M"]).code(4).says("an image has 8.0 MiB");
    house.ovl(&["overlay", "create", "b.img", "-n", "-s", "1G"]).ok().prints("would make");
    let info = house.ovl(&["overlay", "info", "--json", "a.img"]).ok().json();
    assert_eq!(
        info["features"].as_array().unwrap().iter().map(|name| name.as_str().unwrap()).collect::<Vec<_>>().join(" "),
        "has_journal ext_attr resize_inode dir_index filetype sparse_super large_file"
    );
    assert_eq!((info["apptainer"].as_bool(), info["inodes"].as_u64()), (Some(true), Some(16384)));
    assert!(info["on_disk"].as_u64().unwrap() < 16 << 20, "{info}");
    for (size, bytes) in [("200M", 200u64 << 20), ("32M", 32 << 20), ("64M", 64 << 20)] {
        house.ovl(&["overlay", "resize", "a.img", "-s", size]).ok();
        assert_eq!(image.metadata().unwrap().len(), bytes);
        sound(&image);
    }
    house
        .ovl(&["exec", "-w", "a.img", "sh", "-c", "head -c 40000000 /dev/zero > /ext3/big; cat /cnt/p/1/f"])
        .ok()
        .prints("p");
    house.ovl(&["overlay", "resize", "a.img", "-s", "30M"]).code(1).says("what is in it needs").says("MiB at least");
    house.ovl(&["overlay", "resize", "-n", "a.img", "-s", "30M"]).code(1).says("at least");
    sound(&image);
    house.ovl(&["overlay", "chown", "a.img", "--fakeroot", "-n"]).ok().prints("would be given to root");
    house.ovl(&["overlay", "chown", "a.img", "--fakeroot"]).ok().says("given to root");
    house.ovl(&["overlay", "info", "a.img"]).ok().prints("belongs to  root");
    house
        .ovl(&["exec", "--fakeroot", "-w", "a.img", "sh", "-c", "id -u; echo q >> /cnt/p/1/f; stat -c %u /cnt/p/1/f"])
        .ok()
        .prints("0\n0\n");
    house.ovl(&["exec", "-w", "a.img", "sh", "-c", "id -u; echo q >> /cnt/p/1/f"]).ok();
    house.ovl(&["overlay", "chown", "a.img"]).ok();
    house.ovl(&["exec", "-w", "a.img", "cat", "/cnt/p/1/f"]).ok().prints("pq\nq\n");
    // Damage is told by a look, and mended.
    let status = Command::new("debugfs").args(["-w", "-R", "clri /upper/cnt/p/1/f"]).arg(&image).status().unwrap();
    assert!(status.success());
    house.ovl(&["overlay", "check", "-n", "a.img"]).code(5).says("has errors");
    house.ovl(&["overlay", "check", "--yes", "a.img"]).ok();
    house.ovl(&["overlay", "check", "a.img"]).ok().says("no errors");
    house.settle();
    assert!(house.names("work").iter().all(|name| !name.starts_with('.')), "{:?}", house.names("work"));
}

#[test]
fn a_tool_in_the_middle_of_its_work_outlives_its_caller_and_keeps_the_image() {
    let (house, _) = house();
    house.make("bin");
    let done = house.path("work/done");
    let script = format!("#!/bin/sh\nsleep 3\necho done > {}\n", done.display());
    let tool = house.path("bin/e2fsck");
    std::fs::write(&tool, script).unwrap();
    std::fs::set_permissions(&tool, std::os::unix::fs::PermissionsExt::from_mode(0o755)).unwrap();
    let mut command = house.ovl_command(&["overlay", "check", "env.img"]);
    command.env("PATH", format!("{}:/usr/sbin:/usr/bin:/sbin:/bin", house.path("bin").display()));
    let mut child = command.spawn().unwrap();
    let part = format!("{} -fp", tool.display());
    wait_for(|| victim(&house, &part).is_some());
    child.kill().unwrap();
    child.wait().unwrap();
    house.ovl(&["overlay", "check", "env.img"]).code(6);
    house.settle();
    assert!(done.exists());
    house.ovl(&["overlay", "check", "env.img"]).ok();
}

#[test]
fn without_the_programs_it_says_what_to_ask_for() {
    let (house, _) = house();
    house.make("bin");
    for tool in ["sh", "true"] {
        std::os::unix::fs::symlink(format!("/usr/bin/{tool}"), house.path("bin").join(tool)).unwrap();
    }
    let path = house.path("bin");
    let vars = [("PATH", path.to_str().unwrap())];
    house.ovl_with(&vars, &["exec", "-w", "env.img", "true"]).code(7).says("fuse2fs").says("e2fsprogs");
    // A plain image of another kind is refused by name.
    house.write("work/other.img", "no image");
    house.ovl(&["exec", "-w", "other.img", "true"]).code(1).says("it is no ext3 image");
    house.ovl(&["overlay", "check", "other.img"]).code(1).says("is no ext image");
    finish({
        let mut command = house.command("mke2fs");
        command.args(["-q", "-F", "-t", "ext4", "four.img", "32M"]);
        command
    })
    .ok();
    house.ovl(&["overlay", "info", "four.img"]).ok().prints("would not take it: it is ext4 with");
    house.ovl(&["exec", "-w", "four.img", "true"]).code(1).says("has no /upper and /work");
}

#[test]
fn where_nothing_can_be_united_the_image_is_closed_all_the_same() {
    let (house, image) = house();
    let below = house.foreign("below.sqf", &[("cnt/a/1/t", "low")]);
    // The keeper mounts over /tmp, where the house is.
    let bin = PathBuf::from(format!("/var/tmp/ovl-test-{}", std::process::id()));
    std::fs::create_dir(&bin).unwrap();
    for tool in ["sh", "true", "fuse2fs", "e2fsck"] {
        let dirs = ["/usr/bin", "/usr/sbin", "/bin", "/sbin"];
        let found = dirs.iter().map(|dir| Path::new(dir).join(tool)).find(|path| path.exists()).unwrap();
        std::os::unix::fs::symlink(found, bin.join(tool)).unwrap();
    }
    let args = ["exec", "-o", below.to_str().unwrap(), "-w", "env.img", "true"];
    for _ in 0..3 {
        let run = house.ovl_with(&[("PATH", bin.to_str().unwrap())], &args).code(7).says("fuse-overlayfs");
        assert!(!run.stderr.contains("keeper") && !run.stderr.contains("repair"), "{run:?}");
        sound(&image);
        house.ovl(&["overlay", "info", "env.img"]).ok().prints("clean       yes").prints("in use      no");
    }
    std::fs::write(bin.join("fuse-overlayfs"), "#!/bin/sh\necho no such luck\nexit 1\n").unwrap();
    let mode = std::os::unix::fs::PermissionsExt::from_mode(0o755);
    std::fs::set_permissions(bin.join("fuse-overlayfs"), mode).unwrap();
    house.ovl_with(&[("PATH", bin.to_str().unwrap())], &args).code(1).says("no such luck");
    house.ovl(&["overlay", "info", "env.img"]).ok().prints("clean       yes");
    house.ovl(&args).ok();
    house.settle();
    std::fs::remove_dir_all(&bin).unwrap();
}

#[test]
fn what_is_no_directory_or_not_the_users_is_not_mounted() {
    let debugfs = |image: &Path, lines: &[&str]| {
        for line in lines {
            assert!(Command::new("debugfs").args(["-w", "-R", line]).arg(image).output().unwrap().status.success());
        }
    };
    let (house, image) = house();
    debugfs(&image, &["set_inode_field /work uid 0"]);
    house.ovl(&["exec", "-w", "env.img", "true"]).code(1).says("belong to two users").says("overlay chown");
    house.ovl(&["overlay", "chown", "env.img"]).ok();
    house.ovl(&["exec", "-w", "env.img", "true"]).ok();
    for name in ["upper", "work"] {
        let file = format!("{name}.img");
        house.ovl(&["overlay", "create", &file, "-s", "64M"]).ok();
        let image = house.path("work").join(&file);
        debugfs(&image, &[&format!("rmdir /{name}"), &format!("symlink /{name} /tmp")]);
        house.ovl(&["exec", "-w", &file, "true"]).code(1).says(&format!("/{name} in")).says("is no directory");
    }
    house.settle();
}

/// Runs a command in the root of a real Apptainer, as the user with this number there.
struct Apptainer {
    script: PathBuf,
    user: &'static str,
}

impl Apptainer {
    fn find() -> Option<Apptainer> {
        let script = std::env::var_os("OVL_TEST_APPTAINER_ROOT")?;
        let root = std::env::var("OVL_APPTAINER_DIR").unwrap_or_else(|_| "/tmp/ovl-apptainer".into());
        if !nix::unistd::geteuid().is_root() || !Path::new(&root).join(".debroot-done").exists() {
            return None;
        }
        let uid = nix::unistd::User::from_name("ovltest").ok()??.uid.as_raw();
        let passwd = std::fs::read_to_string(Path::new(&root).join("etc/passwd")).ok()?;
        let known = |name: &str| passwd.lines().any(|line| line.starts_with(&format!("{name}:x:{uid}:")));
        let user = ["ovltest", "ovlother"].into_iter().find(|name| known(name))?;
        Some(Apptainer { script: script.into(), user })
    }

    fn command(&self, house: &House, args: &[&str]) -> Command {
        let mut command = Command::new("timeout");
        command.arg("90").arg(&self.script).args(["in", "-u", self.user, "-b"]).arg(&house.dir).arg("-C");
        command.arg(house.path("work")).args(["--", "apptainer", "--silent"]).args(args);
        command.stdin(std::process::Stdio::null());
        command
    }

    fn run(&self, house: &House, args: &[&str]) -> Run {
        finish(self.command(house, args))
    }
}

/// A directory with a shell and its libraries: what Apptainer takes for a container.
fn container(house: &House) -> PathBuf {
    let base = house.make("base");
    for dir in ["proc", "sys", "dev", "tmp", "etc", "root", "home", "var/tmp"] {
        house.make(&format!("base/{dir}"));
    }
    let copy = |path: &str| {
        let parent = Path::new(path).parent().unwrap().strip_prefix("/").unwrap().to_str().unwrap();
        house.make(&format!("base/{parent}"));
        std::fs::copy(path, base.join(&path[1..])).unwrap();
    };
    for tool in ["/bin/sh", "/bin/cat", "/bin/mkdir", "/bin/rm", "/bin/ls", "/bin/sleep"] {
        copy(tool);
        let output = Command::new("ldd").arg(tool).output().unwrap();
        let text = String::from_utf8_lossy(&output.stdout).into_owned();
        for library in text.split_whitespace().filter(|word| word.starts_with('/')) {
            copy(library);
        }
    }
    base
}

#[test]
fn one_image_is_shared_with_a_real_apptainer() {
    let Some(apptainer) = Apptainer::find() else {
        eprintln!("skipped: no real Apptainer here (OVL_TEST_APPTAINER_ROOT names the script that runs one)");
        return;
    };
    let (house, image) = house();
    let base = container(&house);
    let base = base.to_str().unwrap();
    let in_apptainer = |overlay: &str, script: &str| {
        apptainer.run(&house, &["exec", "--overlay", overlay, base, "/bin/sh", "-c", script])
    };
    // To and fro, deletions included.
    write(&house, "mkdir -p /cnt/x; echo ovl > /cnt/x/f; echo two > /cnt/x/g").ok();
    in_apptainer("env.img", "cat /cnt/x/f; echo app > /cnt/x/a; rm /cnt/x/g; mkdir /ext3/d").ok().prints("ovl");
    sound(&image);
    let run = write(&house, "cat /cnt/x/a; ls /cnt/x /ext3").ok().prints("app");
    assert!(!run.stdout.contains("\ng\n") && run.stdout.contains("d\n"), "{run:?}");
    house.ovl(&["exec", "-o", "env.img", "ls", "/cnt/x"]).ok().prints("a\nf\n");
    in_apptainer("env.img:ro", "cat /cnt/x/a").ok().prints("app");
    // Each keeps the other out.
    let busy = "in use";
    let mut writer = house.start(&["exec", "-w", "env.img", "sleep", "60"]);
    wait_for(|| house.ovl(&["overlay", "info", "env.img"]).stdout.contains("written to"));
    in_apptainer("env.img", ":").code(255).says(busy);
    in_apptainer("env.img:ro", ":").code(255).says(busy);
    writer.kill().unwrap();
    writer.wait().unwrap();
    house.settle();
    let mut reader = house.start(&["exec", "-o", "env.img", "sleep", "60"]);
    wait_for(|| house.ovl(&["overlay", "info", "env.img"]).stdout.contains("yes, read"));
    in_apptainer("env.img", ":").code(255).says(busy);
    reader.kill().unwrap();
    reader.wait().unwrap();
    house.settle();
    for (overlay, read) in [("env.img", 6), ("env.img:ro", 0)] {
        let mut held = apptainer.command(&house, &["exec", "--overlay", overlay, base, "/bin/sleep", "8"]);
        let mut held = held.spawn().unwrap();
        wait_for(|| !house.ovl(&["overlay", "info", "env.img"]).stdout.contains("in use      no"));
        write(&house, "true").code(6);
        house.ovl(&["exec", "-o", "env.img", "true"]).code(read);
        house.ovl(&["overlay", "resize", "env.img", "-s", "80M"]).code(6);
        held.wait().unwrap();
    }
    // Its own images here, and ours for its root there.
    apptainer.run(&house, &["overlay", "create", "--size", "64", "theirs.img"]).ok();
    house.ovl(&["overlay", "info", "theirs.img"]).ok().prints("takes it");
    house.ovl(&["exec", "-w", "theirs.img", "sh", "-c", "echo y > /ext3/y"]).ok();
    in_apptainer("theirs.img", "cat /ext3/y").ok().prints("y");
    house.ovl(&["overlay", "create", "root.img", "-s", "64", "--fakeroot"]).ok();
    let fake = ["exec", "--fakeroot", "--overlay", "root.img", base, "/bin/sh", "-c", "echo r > /r"];
    apptainer.run(&house, &fake).ok();
    house.ovl(&["exec", "--fakeroot", "-w", "root.img", "sh", "-c", "stat -c %u /r; cat /r"]).ok().prints("0\nr");
}
