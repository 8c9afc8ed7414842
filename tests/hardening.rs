//! Builds on unkind machines: readers that go away, ignored signals, damaged files, other people's leftovers, no user
//! namespaces.

use std::os::unix::process::CommandExt;
use std::process::Stdio;
use std::time::Duration;

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use crate::support::house::{House, Run, finish, program, script};

#[test]
fn a_reader_that_goes_away_does_not_end_a_build() {
    let house = House::new();
    house.recipe("noisy/1.0", script("", "for i in $(seq 1 3000); do echo line $i; done; touch $target_dir/f"));
    let mut shell = house.command("bash");
    shell.args(["-c", "set -o pipefail; \"$0\" build -v noisy/1.0 2>&1 >/dev/null | head -1"]).arg(program());
    finish(shell).ok().prints("Step 1/");
    assert!(house.image("noisy/1.0").exists());
}

#[test]
fn what_nohup_ignores_stays_ignored() {
    let house = House::new();
    house.recipe("slow/1.0", script("", "sleep 1; touch $target_dir/f"));
    let mut command = house.command("nohup");
    command.arg(program()).args(["build", "slow/1.0"]).stdout(Stdio::piped()).stderr(Stdio::piped()).process_group(0);
    let build = command.spawn().unwrap();
    std::thread::sleep(Duration::from_millis(400));
    kill(Pid::from_raw(build.id() as i32), Signal::SIGHUP).unwrap();
    Run::of(build.wait_with_output().unwrap()).ok();
    assert!(house.image("slow/1.0").exists());
}

#[test]
fn two_signals_in_a_row_still_clean_up() {
    let house = House::new();
    house.recipe("slow/1.0", script("", "sleep 98"));
    let build = house.start(&["build", "slow/1.0"]);
    std::thread::sleep(Duration::from_millis(500));
    for signal in [Signal::SIGTERM, Signal::SIGHUP, Signal::SIGTERM] {
        kill(Pid::from_raw(build.id() as i32), signal).unwrap();
        std::thread::sleep(Duration::from_millis(10));
    }
    Run::of(build.wait_with_output().unwrap()).code(130);
    house.settle();
    assert_eq!(house.names("scratch"), Vec::<String>::new());
    assert_eq!(house.names("home/.local/share/ovl/images"), Vec::<String>::new());
}

#[test]
fn a_damaged_file_is_not_installed() {
    let house = House::new();
    for content in [&b""[..], b"garbage", &[0; 4096]] {
        house.write("home/.local/share/ovl/images/hello--1.0.sqf", content);
        house.ovl(&["exec", "-o", "hello/1.0", "hello"]).code(1);
        house.ovl(&["list"]).ok().says("hello--1.0.sqf");
        house.ovl(&["build", "hello/1.0"]).ok().says("no readable image");
        house.ovl(&["exec", "-o", "hello/1.0", "hello"]).ok();
    }
}

#[test]
fn a_garbled_claim_holds_no_longer_than_its_lease() {
    let house = House::new();
    house.write("home/.config/ovl/config.yaml", "build:\n  lease: 5s\n");
    house.write("home/.local/share/ovl/images/.hello--1.0.sqf.claim", "");
    house
        .ovl(&["build", "--no-wait", "hello/1.0"])
        .code(6)
        .says("hello/1.0 is being built by somebody (the claim file cannot be read)");
    house.ovl(&["build", "hello/1.0"]).ok().says("waiting for").says("hello/1.0: built");
}

#[test]
fn a_live_build_of_another_host_keeps_its_directory_by_its_heartbeat() {
    let house = House::new();
    house.write("home/.config/ovl/config.yaml", "build:\n  lease: 5s\n");
    house.recipe("slow/1.0", script("", "sleep 9; touch $target_dir/f"));
    let build = house.start(&["build", "slow/1.0"]);
    while house.names("scratch").is_empty() {
        std::thread::sleep(Duration::from_millis(20));
    }
    std::thread::sleep(Duration::from_millis(300));
    // Seen from here it is another host's: only its heartbeat speaks for it.
    let owner = house.path("scratch").join(&house.names("scratch")[0]).join("owner.json");
    let text = std::fs::read_to_string(&owner).unwrap();
    let host = nix::unistd::gethostname().unwrap().into_string().unwrap();
    std::fs::write(&owner, text.replace(&format!("\"{host}\""), "\"node7\"")).unwrap();
    std::thread::sleep(Duration::from_secs(7));
    house.ovl(&["build", "hello/1.0"]).ok();
    Run::of(build.wait_with_output().unwrap()).ok();
}

#[test]
fn a_missing_scratch_is_never_passed_over() {
    let house = House::new();
    house.ovl(&["build", "hello/1.0", "--scratch", "/no/such/dir"]).code(7).says("/no/such/dir").says("--scratch");
}

#[test]
fn many_needs_are_all_looked_at() {
    let house = House::new();
    let needs = "#NEEDS:bash\n".to_owned() + &"#NEEDS:ls\n".repeat(40) + "#NEEDS:nope";
    house.recipe("n/1.0", script(&needs, "touch $target_dir/f"));
    let run = house.ovl(&["build", "n/1.0"]).code(5).says("'nope' is not in the build environment");
    assert!(!run.stderr.contains("'bash' is not"), "{run:?}");
}

#[test]
fn a_kept_directory_outlives_the_next_build() {
    let house = House::new();
    house.recipe("f/1.0", script("#VERIFY:nope", "echo x > $target_dir/f"));
    let run = house.ovl(&["build", "--keep-failed", "f/1.0"]).code(5).says("the working directory is kept: ");
    let kept = run.stderr.split("is kept: ").nth(1).unwrap().lines().next().unwrap().to_owned();
    house.ovl(&["build", "hello/1.0"]).ok();
    assert!(std::path::Path::new(&kept).join("top/cnt/f/1.0/f").exists(), "{kept}");
}

#[test]
fn without_user_namespaces_it_is_the_machine_that_is_unfit() {
    let house = House::new();
    let none = |args: &str| {
        let mut shell = house.command("unshare");
        let script = format!("echo 0 > /proc/sys/user/max_user_namespaces && exec \"$0\" {args}");
        shell.args(["-Ur", "sh", "-c", &script]).arg(program());
        finish(shell)
    };
    none("build hello/1.0")
        .code(7)
        .says("user namespaces are switched off (user.max_user_namespaces = 0)")
        .says("sysctl");
    assert_eq!(house.names("home/.local/share/ovl/images"), Vec::<String>::new());
    house.ovl(&["build", "hello/1.0"]).ok();
    none("exec -o hello/1.0 hello").code(7).says("user namespaces are switched off");
    none("doctor").code(7).prints("user.max_user_namespaces");
}
