//! Registries that answer nonsense, lies, or not at all.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpListener;
use std::sync::{Arc, Mutex};

use super::sum;
use crate::support::house::House;
use crate::support::server::{Reply, Web};

const NOUGHTS: &str = "0000000000000000000000000000000000000000000000000000000000000000";
const SQUASHFS: &str = "application/vnd.ovl.overlay.v1.squashfs";

fn blob(kind: &str, digest: &str, size: &str) -> String {
    format!(r#"{{"mediaType":"{kind}","digest":"{digest}","size":{size}}}"#)
}

fn manifest(config: &str, layers: &str) -> String {
    format!(r#"{{"schemaVersion":2,"config":{config},"layers":[{layers}]}}"#)
}

/// A registry that has one manifest, and this for every blob.
fn with(manifest: impl Into<Vec<u8>>, content: impl Into<Vec<u8>>) -> Web {
    let (manifest, content) = (manifest.into(), content.into());
    Web::start(move |asked| match asked.path.split('/').nth(3).unwrap_or_default() {
        "manifests" => Reply::new(200, manifest.clone()),
        _ => Reply::new(200, content.clone()),
    })
}

#[test]
fn nonsense_and_lies_are_refused_with_a_sentence() {
    let house = House::new();
    let config = "{}";
    let digest = sum(&house.write("config", config));
    let fine = blob("x", &digest, "2");
    let nought = format!("sha256:{NOUGHTS}");
    let layer = |digest: &str, size: &str| manifest(&fine, &blob(SQUASHFS, digest, size));
    let cases: Vec<(String, &str)> = vec![
        (String::new(), "no JSON"),
        ("<html>not found, and 200</html>".into(), "no JSON"),
        ("{}".into(), "neither a manifest nor an index"),
        (r#"{"schemaVersion":1,"fsLayers":[]}"#.into(), "schema 1"),
        (r#"{"schemaVersion":2,"config":7,"layers":[]}"#.into(), "its manifest"),
        ("[".repeat(100_000), "no JSON"),
        (format!("{{\"x\":\"{}\"}}", "y".repeat(5 << 20)), "more than 4194304 bytes"),
        (layer("sha256:../../../../../../etc/passwd", "1"), "64 hexadecimal digits"),
        (layer(&format!("sha256:{}/..{}", &NOUGHTS[..30], &NOUGHTS[..31]), "1"), "64 hexadecimal digits"),
        (layer(&format!("sha512:{NOUGHTS}{NOUGHTS}"), "1"), "64 hexadecimal digits"),
        (layer(&nought, "-1"), "its manifest"),
        (layer(&nought, "18446744073709551615"), "make no sense"),
        (layer(&nought, "1000000000000000"), "there is room for"),
        // It announces less than it sends, and more.
        (layer(&nought, "1"), "longer than the 1 bytes announced"),
        (manifest(&blob("x", &nought, "2"), &blob(SQUASHFS, &nought, "2")), "it is not used"),
        (manifest(&blob("x", &nought, "9000000"), &blob(SQUASHFS, &nought, "2")), "more than"),
        (manifest(&fine, &blob("text/plain", &nought, "2")), "neither an overlay nor a container image"),
        (format!(r#"{{"schemaVersion":2,"manifests":[{}]}}"#, blob("x", &nought, "2")), "it is not used"),
        (r#"{"schemaVersion":2,"manifests":[]}"#.into(), "only: nothing with a platform"),
    ];
    for (text, said) in cases {
        let web = with(text.clone(), config);
        let run = house.ovl(&["pull", &format!("127.0.0.1:{}/foo:1", web.port), "-n", "foo/1"]).code(1);
        assert!(run.stderr.contains(said), "{said:?} for {:.300}: {run:#?}", text);
        assert!(!house.image("foo/1").exists());
    }
    let left = house.names("home/.local/share/ovl/images");
    assert!(left.iter().all(|name| name.contains(".pull.")), "{left:?}");
}

#[test]
fn indexes_within_indexes_have_an_end() {
    let house = House::new();
    let mut chain: Vec<(String, Vec<u8>)> = Vec::new();
    let mut inner = blob("x", &format!("sha256:{NOUGHTS}"), "2");
    for _ in 0..12 {
        let text = format!(r#"{{"schemaVersion":2,"manifests":[{inner}]}}"#);
        let digest = sum(&house.write("index", &text));
        inner = blob("x", &digest, &text.len().to_string());
        chain.push((digest, text.into_bytes()));
    }
    let web = Web::start(move |asked| {
        let wanted = asked.path.rsplit('/').next().unwrap();
        let found = chain.iter().find(|(digest, _)| digest == wanted).or(chain.last());
        Reply::new(200, found.unwrap().1.clone())
    });
    house.ovl(&["pull", &format!("127.0.0.1:{}/foo:1", web.port)]).code(1).says("indexes within indexes");
    assert!(web.count() < 10);
}

#[test]
fn troubles_are_told_apart() {
    let house = House::new();
    house.set("OVL_NET_TRIES", "2");
    let pull = |host: &str| house.ovl(&["pull", &format!("{host}/foo:1")]).code(1);
    pull("127.0.0.1:1").says("no connection").says("hint: ");
    pull("no-such-host.invalid").says("cannot be resolved").says("login node");
    let answering = |status: u16, body: &'static str| {
        let web = Web::start(move |_| Reply::new(status, body).with("Retry-After", "0"));
        (format!("127.0.0.1:{}", web.port), web)
    };
    let (host, web) = answering(503, "{}");
    pull(&host).says("answers 503").says("try again later");
    assert_eq!(web.count(), 2);
    let (host, _web) = answering(403, r#"{"errors":[{"code":"DENIED","message":"not\u001b[2J yours"}]}"#);
    pull(&host).says("does not allow to").says("DENIED not [2J yours");
    let (host, _web) = answering(404, "{}");
    pull(&host).says("is not in the registry");
    let (host, _web) = answering(401, "{}");
    pull(&host).says("asks for credentials");
    // A server that speaks plainly where TLS is expected.
    let web = Web::start(|_| Reply::new(200, "{}"));
    let name = format!("localtest.invalid:{}", web.port);
    pull(&name).keeps_quiet_about("panicked");
    let forever = Web::start(|asked| Reply::new(302, "").with("Location", format!("{}x", asked.path)));
    pull(&format!("127.0.0.1:{}", forever.port)).says("sends us on more than");
    let away = Web::start(|_| Reply::new(302, "").with("Location", "file:///etc/passwd"));
    pull(&format!("127.0.0.1:{}", away.port)).says("file://");
    house.ovl_with(&[("OVL_NET_OFFLINE", "true")], &["pull", "127.0.0.1:1/foo:1"]).code(1).says("not to be used");
    house.ovl(&["pull", "http://127.0.0.1:1/foo:1"]).code(4).says("not known here");
    house.ovl(&["pull", "oras://me:hunter2@127.0.0.1:1/foo:1"]).code(4).keeps_quiet_about("hunter2");
}

/// A registry whose answers are headers and a status; what it was asked, with its headers, is kept.
fn answering(answer: impl Fn(&str, &str, u16) -> String + Send + 'static) -> (u16, Arc<Mutex<Vec<String>>>) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    let asked: Arc<Mutex<Vec<String>>> = Arc::default();
    let kept = asked.clone();
    std::thread::spawn(move || {
        for mut stream in listener.incoming().flatten() {
            let mut reader = BufReader::new(stream.try_clone().unwrap());
            let mut head = String::new();
            while reader.read_line(&mut head).is_ok_and(|got| got > 2) {}
            let head = head.to_ascii_lowercase();
            let length = head.lines().find_map(|line| line.strip_prefix("content-length: ")?.trim().parse().ok());
            let _ = std::io::copy(&mut reader.take(length.unwrap_or(0)), &mut std::io::sink());
            let mut words = head.split(' ');
            let answer = answer(words.next().unwrap(), words.next().unwrap_or_default(), port);
            kept.lock().unwrap().push(head);
            let answer = format!("HTTP/1.1 {answer}\r\nContent-Length: 0\r\nConnection: close\r\n\r\n");
            let _ = stream.write_all(answer.as_bytes());
        }
    });
    (port, asked)
}

fn count(asked: &Mutex<Vec<String>>, start: &str) -> usize {
    asked.lock().unwrap().iter().filter(|head| head.starts_with(start)).count()
}

#[test]
fn whoever_takes_uploads_for_a_registry_does_not_get_its_password() {
    let house = super::house("foo/1.0", 1000);
    house.set("OVL_NET_TRIES", "2");
    let (thief, stolen) = answering(|_, path, port| match path {
        "/token" => "200 OK".into(),
        _ => format!("401 No\r\nWWW-Authenticate: Bearer realm=\"http://127.0.0.1:{port}/token\",service=\"x\""),
    });
    let (port, _) = answering(move |method, _, _| match method {
        "post" => format!("202 Accepted\r\nLocation: http://127.0.0.1:{thief}/upload"),
        _ => "404 Not there".into(),
    });
    let text = format!(r#"{{"auths":{{"127.0.0.1:{port}":{{"username":"tester","password":"s3cret-pw"}}}}}}"#);
    house.write("home/.docker/config.json", text);
    house.ovl(&["push", "foo/1.0", &format!("127.0.0.1:{port}/foo:1.0")]).code(1);
    let stolen = stolen.lock().unwrap();
    assert!(stolen.iter().any(|head| head.starts_with("patch /upload")), "{stolen:?}");
    assert!(!stolen.iter().any(|head| head.contains("authorization") || head.contains("/token")), "{stolen:?}");
}

#[test]
fn who_keeps_nothing_is_given_up() {
    let house = super::house("foo/1.0", 1000);
    house.set("OVL_NET_TRIES", "3");
    let (port, asked) = answering(|method, _, _| match method {
        "post" => "202 Accepted\r\nLocation: /upload".into(),
        "patch" => "202 Accepted\r\nRange: 0-0".into(),
        "get" => "204 So much\r\nRange: 0-0".into(),
        _ => "404 Not there".into(),
    });
    house.ovl(&["push", "foo/1.0", &format!("127.0.0.1:{port}/foo:1.0")]).code(1).says("no more of it than before");
    assert!(count(&asked, "patch") < 10);
}

#[test]
fn who_always_breaks_off_at_the_same_place_is_given_up() {
    let house = House::new();
    house.set("OVL_NET_TRIES", "3");
    let digest = sum(&house.write("config", "{}"));
    let nought = format!("sha256:{NOUGHTS}");
    let text = manifest(&blob("x", &digest, "2"), &blob(SQUASHFS, &nought, "50000"));
    let web = Web::start(move |asked| match asked.path.split('/').nth(3).unwrap_or_default() {
        "manifests" => Reply::new(200, text.clone()),
        _ if asked.path.contains(NOUGHTS) => Reply::new(200, vec![0; 50000]).cut(20000),
        _ => Reply::new(200, "{}"),
    });
    house.ovl(&["pull", &format!("127.0.0.1:{}/foo:1", web.port), "-n", "foo/1"]).code(1);
    assert!(web.count() < 12, "{}", web.count());
}
