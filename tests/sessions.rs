//! Sessions: commands that want the same files share one root and one server; whoever ends, or is killed, and whenever,
//! nothing is left.

use std::collections::BTreeSet;
use std::process::{Child, Stdio};
use std::time::{Duration, Instant};

use crate::support::house::{House, Run};

const WHERE: &str = "readlink /proc/self/ns/mnt";

/// A house with three images.
fn house() -> House {
    let house = House::new();
    for name in ["a", "b", "c"] {
        let (tool, data) = (format!("cnt/{name}/1/bin/{name}"), format!("cnt/{name}/1/data"));
        house.foreign(&format!("{name}.sqf"), &[(&tool, &format!("#!/bin/sh\necho {name}\n")), (&data, name)]);
    }
    house
}

fn exec<'a>(house: &'a House, images: &'a [&'a str], line: &'a str) -> std::process::Command {
    let paths: Vec<String> =
        images.iter().map(|name| house.path(&format!("{name}.sqf")).display().to_string()).collect();
    let mut args = vec!["exec"];
    paths.iter().for_each(|path| args.extend(["-o", path]));
    args.extend(["--", "sh", "-c", line]);
    house.ovl_command(&args)
}

fn run(house: &House, images: &[&str], line: &str) -> Run {
    crate::support::house::finish(exec(house, images, line))
}

/// Starts a command that goes on until its standard input is closed, and waits until it has begun.
fn held(house: &House, images: &[&str], line: &str) -> (Child, String) {
    let line = format!("{line}; cat >/dev/null");
    let mut command = exec(house, images, &line);
    let mut child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
    let mut first = String::new();
    let mut reader = std::io::BufReader::new(child.stdout.as_mut().unwrap());
    std::io::BufRead::read_line(&mut reader, &mut first).unwrap();
    (child, first.trim().to_owned())
}

fn release(mut child: Child) {
    drop(child.stdin.take());
    assert!(child.wait().unwrap().success());
}

fn kill(pid: u32) {
    let _ = nix::sys::signal::kill(nix::unistd::Pid::from_raw(pid as i32), nix::sys::signal::Signal::SIGKILL);
}

/// The name of the door that a server keeps.
fn door_of(server: u32) -> String {
    let text = std::fs::read_to_string("/proc/net/unix").unwrap();
    let fds = std::fs::read_dir(format!("/proc/{server}/fd")).unwrap().flatten();
    let links: Vec<String> =
        fds.filter_map(|fd| Some(std::fs::read_link(fd.path()).ok()?.to_string_lossy().into_owned())).collect();
    let mut names = text.lines().filter_map(|line| {
        let (fields, name) = line.split_once(" @ovl/")?;
        let inode = fields.split_whitespace().last()?;
        links.contains(&format!("socket:[{inode}]")).then(|| name.to_owned())
    });
    names.next().expect("the server keeps a door")
}

/// Processes of the house that serve files: the program itself with no standard streams but /dev/null.
fn servers(house: &House) -> Vec<u32> {
    let pids = house.processes().into_iter().filter_map(|line| line.split(':').next()?.parse::<u32>().ok());
    pids.filter(|pid| {
        let link = |what: &str| std::fs::read_link(format!("/proc/{pid}/{what}"));
        link("exe").is_ok_and(|exe| exe.ends_with("ovl")) && link("fd/1").is_ok_and(|out| out == *"/dev/null")
    })
    .collect()
}

#[test]
fn a_second_command_joins_with_its_own_directory_environment_and_streams() {
    let house = house();
    let (first, place) = held(&house, &["a", "b"], WHERE);
    let line = format!(
        "{WHERE}; pwd; echo $OWN; a; ls /cnt; cat; grep -c . /proc/self/uid_map; grep CapEff /proc/self/status"
    );
    let mut command = exec(&house, &["a", "b"], &line);
    command.env("OWN", "mine").current_dir("/usr").stdin(Stdio::piped()).stdout(Stdio::piped());
    let mut child = command.spawn().unwrap();
    std::io::Write::write_all(&mut child.stdin.take().unwrap(), b"fed\n").unwrap();
    let run = Run::of(child.wait_with_output().unwrap()).ok();
    assert_eq!(run.stdout, format!("{place}\n/usr\nmine\na\na\nb\nfed\n1\nCapEff:\t0000000000000000\n"));
    assert_eq!(servers(&house).len(), 1);
    assert_eq!(self::run(&house, &["a", "b"], "exit 7").code, 7);
    assert_eq!(self::run(&house, &["a", "b"], "kill -9 $$").code, 1009);
    release(first);
    house.settle();
}

#[test]
fn whatever_differs_has_a_root_of_its_own() {
    let house = house();
    let (first, place) = held(&house, &["a", "b"], WHERE);
    let image = |name: &str| house.path(&format!("{name}.sqf")).display().to_string();
    let (a, b, work) = (image("a"), image("b"), house.path("work").display().to_string());
    let bind = format!("{work}:/in");
    for args in [
        &["-o", &a][..],
        &["-o", &b, "-o", &a],
        &["-o", &a, "-o", &b, "--bind", &bind],
        &["-o", &a, "-o", &b, "--network", "none"],
    ] {
        let all = [&["exec"], args, &["--", "sh", "-c", WHERE]].concat();
        assert_ne!(house.ovl(&all).ok().stdout.trim(), place, "{args:?}");
    }
    let job = |id: &str| {
        let mut command = exec(&house, &["a", "b"], WHERE);
        command.env("SLURM_JOB_ID", id);
        crate::support::house::finish(command).ok().stdout
    };
    assert_ne!(job("7").trim(), place, "a job's files do not depend on another one's processes");
    // The same file name with something else in it.
    house.foreign("new.sqf", &[("cnt/a/1/data", "newer")]);
    std::fs::rename(house.path("new.sqf"), house.path("a.sqf")).unwrap();
    let other = run(&house, &["a", "b"], &format!("{WHERE}; cat /cnt/a/1/data")).ok().stdout;
    assert!(!other.contains(&place) && other.ends_with("newer"), "{other}");
    release(first);
    house.settle();
}

#[test]
fn a_session_goes_on_until_the_last_one_leaves() {
    let house = house();
    let (first, place) = held(&house, &["a"], WHERE);
    let (second, other) = held(&house, &["a"], WHERE);
    assert_eq!(place, other);
    release(first);
    let (third, other) = held(&house, &["a"], WHERE);
    assert_eq!(place, other);
    release(second);
    // Only something that a member has started is left: it can be joined too.
    let (fourth, other) = held(&house, &["a"], &format!("{WHERE}; (setsid sleep 3 </dev/null >/dev/null 2>&1 &)"));
    assert_eq!(place, other);
    release(third);
    release(fourth);
    assert_eq!(run(&house, &["a"], WHERE).ok().stdout.trim(), place);
    house.settle();
    assert_ne!(run(&house, &["a"], "cat /cnt/a/1/data").ok().stdout, "");
    house.settle();
}

#[test]
fn commands_inside_of_commands_have_their_own() {
    let house = house();
    let program = crate::support::house::program().display().to_string();
    let (a, b) = (house.path("a.sqf").display().to_string(), house.path("b.sqf").display().to_string());
    let line =
        format!("{program} exec -o {b} -- cat /cnt/b/1/data; {program} exec -o {a} -- cat /cnt/a/1/data; {WHERE}");
    let (first, _) = held(&house, &["a"], WHERE);
    assert!(run(&house, &["a"], &line).ok().stdout.starts_with("ba"));
    release(first);
    house.settle();
}

#[test]
fn many_at_once_share_one_server() {
    let house = house();
    let start = |_| {
        let mut command = exec(&house, &["a", "b", "c"], &format!("{WHERE}; cat /cnt/c/1/data; sleep 1"));
        command.stdout(Stdio::piped()).spawn().unwrap()
    };
    let children: Vec<Child> = (0..64).map(start).collect();
    let said: Vec<String> =
        children.into_iter().map(|child| Run::of(child.wait_with_output().unwrap()).ok().stdout).collect();
    assert!(said.iter().all(|text| text.ends_with("\nc")), "{said:?}");
    let places: BTreeSet<&str> = said.iter().map(String::as_str).collect();
    assert_eq!(places.len(), 1, "{places:?}");
    house.settle();
}

#[test]
fn a_founder_that_fails_does_not_hold_the_others_up() {
    let house = house();
    let bad = house.write("bad.sqf", [&b"hsqs"[..], &[0; 4096]].concat()).display().to_string();
    let began = Instant::now();
    let start = |_| house.start(&["exec", "-o", &bad, "true"]);
    let children: Vec<Child> = (0..8).map(start).collect();
    for child in children {
        let run = Run::of(child.wait_with_output().unwrap());
        assert!(run.code == 1 || run.code == 4, "{run:?}");
        assert!(run.stderr.contains("bad.sqf"), "{run:?}");
    }
    assert!(began.elapsed() < Duration::from_secs(10));
    // The same with a mount that cannot be made, found out only when the images are open.
    let a = house.path("a.sqf").display().to_string();
    let work = house.path("work").display().to_string();
    let bind = format!("{work}:/etc/passwd");
    let start = |_| house.start(&["exec", "-o", &a, "--bind", &bind, "true"]);
    let children: Vec<Child> = (0..8).map(start).collect();
    for child in children {
        assert_eq!(Run::of(child.wait_with_output().unwrap()).code, 1);
    }
    house.settle();
}

#[test]
fn a_name_taken_by_another_user_costs_nothing() {
    if !nix::unistd::geteuid().is_root() {
        println!("skipped: only root can be another user");
        return;
    }
    use nix::sys::socket::{AddressFamily, Backlog, SockFlag, SockType, UnixAddr, bind, listen, socket};
    use std::os::fd::AsRawFd;
    let house = house();
    let (first, _) = held(&house, &["a"], WHERE);
    let name = format!("ovl/{}", door_of(servers(&house)[0]));
    release(first);
    house.settle();
    let door = socket(AddressFamily::Unix, SockType::SeqPacket, SockFlag::SOCK_CLOEXEC, None).unwrap();
    let address = UnixAddr::new_abstract(name.as_bytes()).unwrap();
    // The server's process is gone from sight a little earlier than its sockets.
    while bind(door.as_raw_fd(), &address) == Err(nix::errno::Errno::EADDRINUSE) {
        std::thread::sleep(Duration::from_millis(1));
    }
    listen(&door, Backlog::new(8).unwrap()).unwrap();
    let began = Instant::now();
    assert_eq!(run(&house, &["a"], "cat /cnt/a/1/data").ok().stdout, "a");
    assert!(began.elapsed() < Duration::from_secs(2), "{:?}", began.elapsed());
    house.settle();
}

#[test]
fn a_killed_server_takes_its_session_and_the_next_one_is_new() {
    let house = house();
    let (mut first, place) = held(&house, &["a"], WHERE);
    for pid in servers(&house) {
        kill(pid);
    }
    std::thread::sleep(Duration::from_millis(50));
    let run = run(&house, &["a"], &format!("{WHERE}; cat /cnt/a/1/data")).ok();
    assert!(!run.stdout.contains(&place) && run.stdout.ends_with('a'), "{run:?}");
    kill(first.id());
    let _ = first.wait();
    house.settle();
}

#[test]
fn whoever_is_killed_whenever_nothing_is_left() {
    let house = house();
    for round in 0..40u64 {
        let start = |_| {
            let mut command = exec(&house, &["a", "b"], "while cat /cnt/a/1/data; do :; done");
            command.stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap()
        };
        let mut children: Vec<Child> = (0..3).map(start).collect();
        std::thread::sleep(Duration::from_millis(round * 3 % 41));
        // The server first, or one of the commands, or all at once.
        if round % 3 == 0 {
            servers(&house).into_iter().for_each(kill);
        }
        for child in &mut children {
            if round % 2 == 0 {
                std::thread::sleep(Duration::from_millis(round % 5));
            }
            let _ = child.kill();
        }
        for mut child in children {
            child.wait().unwrap();
        }
        house.settle();
    }
    assert!(house.names("scratch").is_empty(), "{:?}", house.names("scratch"));
}

#[test]
fn a_thousand_commands_leave_nothing() {
    let house = house();
    let before = std::fs::read_to_string("/proc/mounts").unwrap().matches("fuse.ovl").count();
    let program = crate::support::house::program().display().to_string();
    let (a, b) = (house.path("a.sqf").display().to_string(), house.path("b.sqf").display().to_string());
    // Alone, together, and over each other.
    let line = format!(
        "for i in $(seq 250); do {program} exec -o {a} true || exit 9; done
         for i in $(seq 125); do {program} exec -o {a} -o {b} true & {program} exec -o {a} -o {b} true & \
         {program} exec -o {b} true & {program} exec -o {a} -o {b} sleep 0.01 & \
         {program} exec -o {b} true & {program} exec -o {b} true; wait; done"
    );
    let mut command = house.command("sh");
    crate::support::house::finish({
        command.args(["-c", &line]);
        command
    })
    .ok();
    house.settle();
    assert_eq!(std::fs::read_to_string("/proc/mounts").unwrap().matches("fuse.ovl").count(), before);
    assert!(house.names("scratch").is_empty(), "{:?}", house.names("scratch"));
}
