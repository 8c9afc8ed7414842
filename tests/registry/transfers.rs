//! Transfers that break off, are killed, or bring something else than they should.

use std::time::Duration;

use super::{LARGE, house, sum, wipe};
use crate::support::registry::{Cutter, Registry};

#[test]
fn what_breaks_off_goes_on_and_nothing_is_sent_twice() {
    let house = house("foo/1.0", LARGE);
    let Some(registry) = Registry::start(&house.make("reg"), false) else { return };
    let before = sum(&house.image("foo/1.0"));
    let size = std::fs::metadata(house.image("foo/1.0")).unwrap().len();
    let cutter = Cutter::start(registry.port, size / 3);
    let reference = format!("{}/foo:1.0", cutter.host());
    house.ovl(&["push", "foo/1.0", &reference]).ok();
    let passed = cutter.passed();
    assert!(passed >= size && passed < size * 3 / 2, "{passed} bytes for {size}");
    assert_eq!(sum(&registry.blob(&before)), before);
    wipe(&house, "foo/1.0");
    house.ovl(&["pull", &reference]).ok();
    let passed = cutter.passed();
    assert!(passed >= size && passed < size * 3 / 2, "{passed} bytes for {size}");
    assert_eq!(sum(&house.image("foo/1.0")), before);
    // Pushed once more nothing is sent.
    house.ovl(&["push", "foo/1.0", &reference]).ok().says("its content was there");
    assert!(cutter.passed() < 20_000);
}

#[test]
fn what_was_killed_goes_on_where_it_stopped() {
    let house = house("foo/1.0", LARGE);
    let Some(registry) = Registry::start(&house.make("reg"), false) else { return };
    let before = sum(&house.image("foo/1.0"));
    let size = std::fs::metadata(house.image("foo/1.0")).unwrap().len();
    let cutter = Cutter::start(registry.port, u64::MAX);
    let reference = format!("{}/foo:1.0", cutter.host());
    house.ovl(&["push", "foo/1.0", &reference]).ok();
    wipe(&house, "foo/1.0");
    cutter.drip(20);
    let mut child = house.start(&["pull", &reference]);
    let images = house.layer().join("images");
    let partial = || {
        let found = std::fs::read_dir(&images).unwrap().flatten();
        found.filter(|entry| entry.file_name().to_string_lossy().contains(".pull.")).find_map(|entry| Some(entry.metadata().ok()?.len()))
    };
    for _ in 0..1000 {
        if partial().is_some_and(|length| length > size / 3) {
            break;
        }
        std::thread::sleep(Duration::from_millis(10));
    }
    child.kill().unwrap();
    child.wait().unwrap();
    let there = partial().unwrap();
    assert!(there > size / 3 && there < size, "{there} of {size}");
    assert!(!house.image("foo/1.0").exists());
    house.ovl(&["list"]).ok();
    std::thread::sleep(Duration::from_millis(500));
    cutter.drip(0);
    cutter.passed();
    house.ovl(&["pull", &reference]).ok();
    let passed = cutter.passed();
    assert!(passed < size - there + 100_000, "{passed} bytes for the {} that were missing", size - there);
    assert_eq!(sum(&house.image("foo/1.0")), before);
    assert_eq!(house.names("home/.local/share/ovl/images"), ["foo--1.0.sqf", "foo--1.0.sqf.env"]);
}

#[test]
fn an_interrupted_pull_says_so_and_keeps_what_came() {
    let house = house("foo/1.0", LARGE);
    let Some(registry) = Registry::start(&house.make("reg"), false) else { return };
    let cutter = Cutter::start(registry.port, u64::MAX);
    let reference = format!("{}/foo:1.0", cutter.host());
    house.ovl(&["push", "foo/1.0", &reference]).ok();
    wipe(&house, "foo/1.0");
    cutter.drip(30);
    let child = house.start(&["pull", &reference]);
    std::thread::sleep(Duration::from_millis(1500));
    nix::sys::signal::kill(nix::unistd::Pid::from_raw(child.id().try_into().unwrap()), nix::sys::signal::Signal::SIGINT)
        .unwrap();
    let run = crate::support::house::Run::of(child.wait_with_output().unwrap()).code(130);
    run.says("interrupted");
    assert!(!house.image("foo/1.0").exists());
    assert!(house.names("home/.local/share/ovl/images").iter().all(|name| !name.contains(".claim")));
}

#[test]
fn what_was_tampered_with_is_refused() {
    let house = house("foo/1.0", 200_000);
    let Some(registry) = Registry::start(&house.make("reg"), false) else { return };
    let reference = format!("{}/foo:1.0", registry.host());
    let pushed = house.ovl(&["push", "foo/1.0", &reference, "--json"]).ok().json();
    wipe(&house, "foo/1.0");
    let config = super::raw(&reference)["config"]["digest"].as_str().unwrap().to_owned();
    for digest in [pushed["pushed"][0]["layer"].as_str().unwrap(), &config] {
        let data = registry.blob(digest);
        let whole = std::fs::read(&data).unwrap();
        let mut bytes = whole.clone();
        let middle = bytes.len() / 2;
        bytes[middle] ^= 1;
        std::fs::write(&data, &bytes).unwrap();
        house.ovl(&["pull", &reference]).code(1).says("it is not used").says("tampered with");
        assert!(!house.image("foo/1.0").exists());
        let left = house.names("home/.local/share/ovl/images");
        assert!(left.iter().all(|name| name.contains(".pull.")), "{left:?}");
        std::fs::write(&data, &whole).unwrap();
    }
    house.ovl(&["pull", &reference]).ok();
    house.ovl(&["exec", "foo/1.0", "--", "cat", "/cnt/foo/1.0/bin/n"]).ok().prints("1");
    // A manifest too: the registry itself may not notice.
    let manifest = registry.blob(pushed["pushed"][0]["digest"].as_str().unwrap());
    let text = std::fs::read_to_string(&manifest).unwrap().replace("made by a test", "made by a TEST");
    std::fs::write(&manifest, text).unwrap();
    wipe(&house, "foo/1.0");
    house.ovl(&["pull", &reference]).code(1);
    assert!(!house.image("foo/1.0").exists());
}
