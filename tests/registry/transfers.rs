//! Transfers that break off, are killed, or bring something else than they should.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use super::{LARGE, house, sum, wipe};
use crate::support::registry::{Cutter, Registry};

#[test]
fn what_breaks_off_goes_on_and_nothing_is_sent_twice() {
    let house = house("foo/1.0", LARGE);
    let Some(registry) = Registry::start(&house.make("reg"), false) else { return };
    let before = sum(&house.image("foo/1.0"));
    let size = std::fs::metadata(house.image("foo/1.0")).unwrap().len();
    let cutter = Cutter::start(registry.port, size / 3, 1);
    let reference = format!("{}/foo:1.0", cutter.host());
    house.ovl(&["push", "foo/1.0", &reference]).ok();
    let passed = cutter.passed();
    // This registry gives up what broke off: a third was in vain.
    assert!(passed >= size && passed < size * 3 / 2, "{passed} bytes for {size}");
    assert_eq!(sum(&registry.blob(&before)), before);
    wipe(&house, "foo/1.0");
    cutter.cut(u64::MAX);
    house.ovl(&["pull", &reference]).ok();
    let passed = cutter.passed();
    assert!(passed >= size && passed < size + 200_000, "{passed} bytes for {size}");
    assert_eq!(sum(&house.image("foo/1.0")), before);
    // Pushed once more nothing is sent.
    house.ovl(&["push", "foo/1.0", &reference]).ok().says("its content was there");
    assert!(cutter.passed() < 20_000);
}

/// What came, and where each part of it began.
type Came = (Vec<u8>, Vec<usize>);

/// A registry that only takes uploads, and drops the line after so many bytes of each part; what it took, and where each part
/// that came began.
fn taking(most: usize) -> (u16, Arc<Mutex<Came>>) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    let taken: Arc<Mutex<Came>> = Arc::default();
    let kept = taken.clone();
    std::thread::spawn(move || {
        for stream in listener.incoming().flatten() {
            serve(stream, most, &kept);
        }
    });
    (port, taken)
}

fn serve(mut stream: TcpStream, most: usize, kept: &Mutex<Came>) {
    let mut reader = BufReader::new(stream.try_clone().unwrap());
    let mut head = String::new();
    while reader.read_line(&mut head).is_ok_and(|got| got > 2) {}
    let header = |name: &str| {
        let found = head.lines().find(|line| line.to_ascii_lowercase().starts_with(&format!("{name}:")));
        found.and_then(|line| line.split_once(": ")).map(|(_, value)| value.trim().to_owned())
    };
    let length: usize = header("content-length").and_then(|text| text.parse().ok()).unwrap_or(0);
    let upload = "/v2/foo/blobs/uploads/one";
    let mut words = head.split(' ');
    let (method, path) = (words.next().unwrap_or(""), words.next().unwrap_or(""));
    let (status, more) = match method {
        "POST" => (202, format!("Location: {upload}?state=0\r\n")),
        "PATCH" => {
            let mut kept = kept.lock().unwrap();
            let at = header("content-range").and_then(|text| text.split('-').next()?.parse().ok()).unwrap_or(0);
            // The small configuration comes first, as an upload of its own.
            kept.0.truncate(at);
            kept.1.push(at);
            let mut part = vec![0; length.min(most)];
            reader.read_exact(&mut part).unwrap();
            kept.0.extend(&part);
            if length > most {
                let _ = stream.shutdown(std::net::Shutdown::Both);
                return;
            }
            (202, format!("Location: {upload}?state=1\r\nRange: 0-{}\r\n", kept.0.len() - 1))
        }
        "GET" if path.starts_with(upload) => {
            let kept = kept.lock().unwrap();
            (204, format!("Location: {upload}?state=2\r\nRange: 0-{}\r\n", kept.0.len().max(1) - 1))
        }
        "PUT" => {
            let mut body = vec![0; length];
            reader.read_exact(&mut body).unwrap();
            (201, String::new())
        }
        _ => (404, String::new()),
    };
    let answer = format!("HTTP/1.1 {status} Whatever\r\n{more}Content-Length: 0\r\nConnection: close\r\n\r\n");
    let answer = if status == 204 { answer.replace("Content-Length: 0\r\n", "") } else { answer };
    let _ = stream.write_all(answer.as_bytes());
}

#[test]
fn an_upload_goes_on_where_the_registry_says_it_stopped() {
    let house = house("foo/1.0", LARGE);
    let size = std::fs::metadata(house.image("foo/1.0")).unwrap().len() as usize;
    let (port, taken) = taking(size / 3 + 1000);
    house.ovl(&["push", "foo/1.0", &format!("127.0.0.1:{port}/foo:1.0")]).ok();
    let (bytes, parts) = taken.lock().unwrap().clone();
    assert!(bytes == std::fs::read(house.image("foo/1.0")).unwrap(), "other bytes came than were sent");
    // The configuration, and the image in three parts.
    assert_eq!(parts, [0, 0, size / 3 + 1000, 2 * (size / 3 + 1000)]);
}

#[test]
fn what_was_killed_goes_on_where_it_stopped() {
    let house = house("foo/1.0", LARGE);
    let Some(registry) = Registry::start(&house.make("reg"), false) else { return };
    let before = sum(&house.image("foo/1.0"));
    let size = std::fs::metadata(house.image("foo/1.0")).unwrap().len();
    let cutter = Cutter::start(registry.port, u64::MAX, 0);
    let reference = format!("{}/foo:1.0", cutter.host());
    house.ovl(&["push", "foo/1.0", &reference]).ok();
    wipe(&house, "foo/1.0");
    cutter.drip(20);
    let mut child = house.start(&["pull", &reference]);
    let images = house.layer().join("images");
    let partial = || {
        let found = std::fs::read_dir(&images).unwrap().flatten();
        found
            .filter(|entry| entry.file_name().to_string_lossy().contains(".pull."))
            .find_map(|entry| Some(entry.metadata().ok()?.len()))
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
    let cutter = Cutter::start(registry.port, u64::MAX, 0);
    let reference = format!("{}/foo:1.0", cutter.host());
    house.ovl(&["push", "foo/1.0", &reference]).ok();
    wipe(&house, "foo/1.0");
    cutter.drip(30);
    let child = house.start(&["pull", &reference]);
    std::thread::sleep(Duration::from_millis(1500));
    nix::sys::signal::kill(
        nix::unistd::Pid::from_raw(child.id().try_into().unwrap()),
        nix::sys::signal::Signal::SIGINT,
    )
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
    house.ovl(&["exec", "-o", "foo/1.0", "--", "cat", "/cnt/foo/1.0/bin/n"]).ok().prints("1");
    // A manifest too: the registry itself may not notice.
    let manifest = registry.blob(pushed["pushed"][0]["digest"].as_str().unwrap());
    let text = std::fs::read_to_string(&manifest).unwrap().replace("made by a test", "made by a TEST");
    std::fs::write(&manifest, text).unwrap();
    wipe(&house, "foo/1.0");
    house.ovl(&["pull", &reference]).code(1);
    assert!(!house.image("foo/1.0").exists());
}
