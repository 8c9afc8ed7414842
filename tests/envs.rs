//! Conda environments in images that are written to: made with the image, changed where they lie, whole after a kill.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use crate::support::channel::Channel;
use crate::support::house::{House, Run};

/// A house with a channel, and the channel's address.
fn house() -> (House, String) {
    let house = House::new();
    let channel = Channel::new(house.path("channel"))
        .package("tool", "1.0", "h0_0")
        .depends("lib")
        .prefix_text("bin/tool", "#!/bin/sh\ncat {prefix}/lib/lib.txt\necho tool 1.0 of {prefix}\n")
        .package("tool", "2.0", "h0_0")
        .depends("lib >=2")
        .prefix_text("bin/tool", "#!/bin/sh\ncat {prefix}/lib/lib.txt\necho tool 2.0 of {prefix}\n")
        .file("share/new/tool.txt", "new")
        .package("lib", "1.0", "h0_0")
        .file("lib/lib.txt", "lib 1.0\n")
        .file("share/old/deep/lib.txt", "old")
        .package("lib", "2.0", "h0_0")
        .file("lib/lib.txt", "lib 2.0\n")
        .package("other", "1.0", "h0_0")
        .file("share/other.txt", "other\n")
        .link("share/link.txt", "other.txt")
        .package("rude", "1.0", "h0_0")
        .file("lib/lib.txt", "rude\n")
        .file("share/rude.txt", "rude\n")
        .package("scripted", "1.0", "h0_0")
        .script("post-link", "#!/bin/bash\necho \"$PREFIX $PKG_NAME $PKG_VERSION\" > \"$PREFIX/said\"\n")
        .write();
    house.set("OVL_CONDA_CHANNELS", &channel);
    (house, channel)
}

fn create(house: &House, packages: &[&str]) -> PathBuf {
    let args = [&["overlay", "create", "env.img", "-s", "64M", "--"], packages].concat();
    house.ovl(&args).ok();
    house.path("work/env.img")
}

fn env(house: &House, args: &[&str]) -> Run {
    house.ovl(&[&["env"], args].concat())
}

fn sh(house: &House, script: &str) -> Run {
    house.ovl(&["e", "--", "sh", "-c", script])
}

/// Name and version of everything.
fn listed(house: &House) -> Vec<String> {
    let all = env(house, &["list", "--json"]).ok().json();
    let text = |one: &serde_json::Value, key: &str| one[key].as_str().unwrap().to_owned();
    all.as_array().unwrap().iter().map(|one| format!("{} {}", text(one, "name"), text(one, "version"))).collect()
}

fn sound(image: &Path) {
    let output = Command::new("e2fsck").arg("-fn").arg(image).output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stdout));
}

#[test]
fn an_image_is_made_with_packages_and_they_are_on_path() {
    let (house, channel) = house();
    house.ovl(&["overlay", "create", "env.img", "-s", "64M", "-n", "--", "tool=1"]).ok().prints("+ tool 1.0 h0_0");
    assert!(!house.path("work/env.img").exists());
    let image = create(&house, &["tool=1", "scripted"]);
    sound(&image);
    sh(&house, "tool; echo $CONDA_PREFIX; cat /ext3/env/said")
        .ok()
        .prints("lib 2.0\ntool 1.0 of /ext3/env\n/ext3/env\n/ext3/env scripted 1.0\n");
    assert_eq!(listed(&house), ["lib 2.0", "scripted 1.0", "tool 1.0"]);
    env(&house, &["list"]).ok().prints("tool").prints(&channel);
    env(&house, &["export"]).ok().prints("- tool=1.0=h0_0");
    let explicit = env(&house, &["export", "--form", "explicit"]).ok().stdout;
    house.write("work/again.txt", &explicit);
    house.ovl(&["overlay", "create", "again.img", "-s", "64M", "-f", "again.txt"]).ok();
    assert_eq!(env(&house, &["export", "--form", "explicit", "-w", "again.img"]).ok().stdout, explicit);
    house.ovl(&["overlay", "create", "env.img", "--", "tool"]).code(4).says("exists");
    house.ovl(&["overlay", "create", "no.img", "--", "nothing"]).code(4).says("nothing");
    house.write("work/pip.yml", "dependencies:\n  - tool\n  - pip:\n    - x\n");
    house.ovl(&["overlay", "create", "no.img", "-f", "pip.yml"]).code(4).says("pip");
    assert!(!house.path("work/no.img").exists());
    house.settle();
}

#[test]
fn packages_come_go_and_change() {
    let (house, _) = house();
    let image = create(&house, &["tool=1", "lib=1"]);
    let before = fs::read(&image).unwrap();
    env(&house, &["install", "other"]).code(4).says("nobody is there to ask");
    env(&house, &["install", "other", "-n"]).ok().prints("+").prints("other");
    assert!(before == fs::read(&image).unwrap(), "a dry run has changed the image");
    // What is installed stays as it is.
    env(&house, &["install", "other", "--yes"]).ok();
    assert_eq!(listed(&house), ["lib 1.0", "other 1.0", "tool 1.0"]);
    sh(&house, "cat /ext3/env/share/link.txt; tool").ok().prints("other\nlib 1.0\ntool 1.0 of /ext3/env\n");
    env(&house, &["install", "other", "--yes"]).ok().says("everything is as wished for");
    // What was wished for holds until somebody wishes something else.
    env(&house, &["update", "--yes"]).ok();
    assert_eq!(listed(&house), ["lib 1.0", "other 1.0", "tool 1.0"]);
    env(&house, &["install", "tool=2", "--yes"]).code(2).says("lib");
    let done = env(&house, &["install", "tool=2", "lib=2", "--yes", "--json"]).ok().json();
    assert_eq!((&done["done"], done["changes"].as_array().unwrap().len()), (&true.into(), 2));
    sh(&house, "tool; cat /ext3/env/share/new/tool.txt; ls /ext3/env/share")
        .ok()
        .prints("lib 2.0\ntool 2.0 of /ext3/env\nnewlink.txt\nnew\nother.txt\n");
    env(&house, &["remove", "lib", "--yes"]).code(4).says("lib is needed by tool");
    env(&house, &["remove", "absent", "--yes"]).code(4).says("absent is not installed");
    // With what only they needed; what is not a package's stays.
    house.ovl(&["exec", "-w", "env.img", "touch", "/ext3/env/lib/mine"]).ok();
    env(&house, &["remove", "tool", "lib", "--yes"]).ok();
    assert_eq!(listed(&house), ["other 1.0"]);
    sh(&house, "cd /ext3/env; find . -type f | sort; test -d bin || echo no bin")
        .ok()
        .prints("./conda-meta/history\n./conda-meta/other-1.0-h0_0.json\n./lib/mine\n./share/other.txt\nno bin\n");
    sound(&image);
    house.settle();
}

#[test]
fn what_a_package_has_stays_its_own() {
    let (house, _) = house();
    create(&house, &["lib"]);
    env(&house, &["install", "rude", "scripted", "-y"]).ok().says("lib/lib.txt stays another package's");
    sh(&house, "cat /ext3/env/lib/lib.txt /ext3/env/share/rude.txt /ext3/env/said")
        .ok()
        .prints("lib 2.0\nrude\n/ext3/env scripted 1.0\n");
    env(&house, &["remove", "rude", "-y"]).ok();
    sh(&house, "cat /ext3/env/lib/lib.txt; ls /ext3/env/share 2>&1").code(2).prints("lib 2.0");
    house.settle();
}

#[test]
fn an_empty_image_takes_packages_and_one_in_use_does_not() {
    let (house, _) = house();
    house.ovl(&["overlay", "create", "env.img", "-s", "64M"]).ok();
    env(&house, &["list"]).code(4).says("no conda environment").says("ovl env install");
    env(&house, &["install", "tool", "-y"]).ok();
    assert_eq!(listed(&house), ["lib 2.0", "tool 2.0"]);
    let mut reader = house.start(&["exec", "-o", "env.img", "sleep", "60"]);
    while !house.ovl(&["overlay", "info", "--json", "env.img"]).stdout.contains("yes, read") {
        std::thread::sleep(std::time::Duration::from_millis(50));
    }
    env(&house, &["install", "other", "-y"]).code(6).says("it is in use");
    env(&house, &["list"]).ok();
    reader.kill().unwrap();
    reader.wait().unwrap();
    house.settle();
}

/// A change that was ended in its middle: the records say so, and the next change clears away and finishes.
#[test]
fn a_change_that_was_ended_is_finished_by_the_next() {
    let (house, _) = house();
    let image = create(&house, &["tool=1", "lib=1"]);
    // As a kill leaves it: lib has gone half, other has come half.
    let meta = "/ext3/env/conda-meta";
    let record = r#"{"name": "other", "version": "1.0", "build": "h0_0", "build_number": 0, "subdir": "linux-64",
        "fn": "other-1.0-h0_0.conda", "url": "file:///x/linux-64/other-1.0-h0_0.conda", "channel": "file:///x",
        "files": ["share/half.txt", "../../ext3/out"], "paths_data": {"paths_version": 1, "paths": []},
        "depends": [], "constrains": []}"#;
    house.write("work/record", record);
    let script = format!(
        "cd {meta} && mv lib-1.0-h0_0.json lib-1.0-h0_0.json.old && cp \"$1\" other-1.0-h0_0.json.new && \
         rm ../lib/lib.txt && echo half > ../share/half.txt && echo out > /ext3/out"
    );
    let path = house.path("work/record");
    house.ovl(&["exec", "-w", "env.img", "sh", "-c", &script, "sh", path.to_str().unwrap()]).ok();
    env(&house, &["list"]).ok().says("was not finished");
    env(&house, &["install", "-y"]).ok();
    assert_eq!(listed(&house), ["lib 1.0", "tool 1.0"]);
    let script = format!("tool; cat /ext3/out; cd {meta}; ls; ls ../share; test -e ../share/half.txt || echo gone");
    sh(&house, &script)
        .ok()
        .prints("lib 1.0\ntool 1.0 of /ext3/env\nout\nhistory\nlib-1.0-h0_0.json\ntool-1.0-h0_0.json\nold\ngone\n");
    env(&house, &["list"]).ok().keeps_quiet_about("was not finished");
    sound(&image);
    house.settle();
}

/// Whenever a change is killed, the image is sound and the next change brings it about.
#[test]
fn a_killed_change_is_brought_about_by_the_next() {
    let (house, _) = house();
    let image = create(&house, &["tool=1", "lib=1"]);
    for delay in [150, 400, 700] {
        let mut change = house.start(&["env", "install", "tool=2", "lib=2", "-y"]);
        std::thread::sleep(std::time::Duration::from_millis(delay));
        change.kill().unwrap();
        change.wait().unwrap();
        house.settle();
        env(&house, &["install", "tool=1", "lib=1", "-y"]).ok();
        sound(&image);
        assert_eq!(listed(&house), ["lib 1.0", "tool 1.0"]);
        sh(&house, "tool; ls /ext3/env/share").ok().prints("lib 1.0\ntool 1.0 of /ext3/env\nold\n");
    }
}

#[test]
fn links_in_an_image_lead_nowhere() {
    let (house, _) = house();
    let image = create(&house, &["tool", "other"]);
    let prey = house.write("work/prey/other.txt", "mine");
    let script = format!("cd /ext3/env && rm -r share && ln -s {} share", house.path("work/prey").display());
    house.ovl(&["exec", "-w", "env.img", "sh", "-c", &script]).ok();
    env(&house, &["remove", "other", "-y"]).ok();
    assert_eq!(fs::read_to_string(&prey).unwrap(), "mine");
    env(&house, &["install", "other", "-y"]).code(1).says("leads out of the environment");
    assert_eq!(fs::read_to_string(&prey).unwrap(), "mine");
    sound(&image);
    house.settle();
}
