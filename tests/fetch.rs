//! Downloads against servers that misbehave in every way that servers do.

use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use ovl::net::{self, Download, Fetched, Keep, NetError, Patience, Sum, Trouble, Unwatched, Watch};

use crate::support::server::{Reply, Web};

fn content() -> Vec<u8> {
    (0..300_000_u32).flat_map(|i| i.wrapping_mul(2_654_435_761).to_le_bytes()).collect()
}

fn sha256(bytes: &[u8]) -> String {
    ovl::sys::digest::of(bytes).trim_start_matches("sha256:").to_owned()
}

struct Dir(PathBuf);

impl Dir {
    fn new() -> Dir {
        net::be_patient(Patience { silence: Duration::from_secs(1), tries: 3 });
        let dir = std::env::temp_dir().join(format!("ovl-fetch-{}", ovl::sys::host::token()));
        std::fs::create_dir(&dir).unwrap();
        Dir(dir)
    }

    fn names(&self) -> Vec<String> {
        let entries = std::fs::read_dir(&self.0).unwrap();
        let mut names: Vec<String> = entries.map(|e| e.unwrap().file_name().to_string_lossy().into_owned()).collect();
        names.sort();
        names
    }

    fn get(&self, url: &str, sum: Option<&str>) -> Result<Fetched, NetError> {
        let sum = sum.map(|hex| Sum::Sha256(hex.to_owned()));
        net::download(&Download { sum, ..Download::new(url, &self.0.join("file")) }, &Unwatched)
    }

    fn file(&self) -> Vec<u8> {
        std::fs::read(self.0.join("file")).unwrap()
    }
}

impl Drop for Dir {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

#[test]
fn a_transfer_that_is_cut_goes_on_where_it_stopped() {
    let (dir, all) = (Dir::new(), content());
    let web = Web::start({
        let all = all.clone();
        move |asked| {
            let reply = Reply::file(asked, &all, "\"one\"");
            if asked.number < 4 { reply.cut(200_000) } else { reply }
        }
    });
    let fetched = dir.get(&web.url("f"), Some(&sha256(&all))).unwrap();
    assert_eq!((fetched.bytes, dir.file() == all), (1_200_000, true));
    // More cuts than tries: each brought something.
    let ranges: Vec<_> = web.asked().iter().map(|asked| asked.headers.get("range").cloned()).collect();
    assert_eq!(ranges[0], None);
    assert!(ranges[1].as_ref().unwrap().starts_with("bytes="), "{ranges:?}");
    assert_eq!(web.asked()[1].headers.get("if-range").map(String::as_str), Some("\"one\""));
    assert_eq!(web.count(), 5);
    assert_eq!(dir.names(), ["file"]);
}

#[test]
fn a_later_run_goes_on_and_another_version_begins_anew() {
    let (dir, all) = (Dir::new(), content());
    let other: Vec<u8> = all.iter().map(|byte| byte ^ 1).collect();
    let changed = std::sync::Arc::new(AtomicBool::new(false));
    let web = Web::start({
        let (all, other, changed) = (all.clone(), other.clone(), changed.clone());
        move |asked| match (changed.load(Ordering::SeqCst), asked.number) {
            (false, 0) => Reply::file(asked, &all, "\"one\"").cut(500_000),
            (false, _) => Reply::new(503, ""),
            (true, _) => Reply::file(asked, &other, "\"two\""),
        }
    });
    let error = dir.get(&web.url("f"), None).unwrap_err();
    assert!(matches!(error.trouble, Trouble::Status(503)), "{error}");
    let names = dir.names();
    assert!(names.len() == 2 && names[0].ends_with(".part") && names[1].ends_with(".part.from"), "{names:?}");
    changed.store(true, Ordering::SeqCst);
    dir.get(&web.url("f"), None).unwrap();
    assert!(dir.file() == other, "pieces of two versions");
    assert!(web.asked().last().unwrap().headers.contains_key("range"));
    assert_eq!(dir.names(), ["file"]);
}

#[test]
fn servers_without_ranges_or_with_wrong_ones_are_asked_for_all() {
    let all = content();
    for kind in ["ignores", "416", "wrong start", "wrong total"] {
        let dir = Dir::new();
        let web = Web::start({
            let all = all.clone();
            move |asked| match (asked.number, asked.headers.contains_key("range"), kind) {
                (0, ..) => Reply::file(asked, &all, "\"one\"").cut(500_000),
                (_, false, _) | (_, true, "ignores") => Reply::new(200, all.clone()),
                (_, true, "416") => Reply::new(416, "").with("Content-Range", "bytes */7"),
                (_, true, "wrong start") => Reply::new(206, "xyz").with("Content-Range", "bytes 3-5/1200000"),
                _ => Reply::new(206, "xyz").with("Content-Range", "bytes 500000-500002/500003"),
            }
        });
        dir.get(&web.url("f"), Some(&sha256(&all))).unwrap();
        assert!(dir.file() == all, "{kind}");
    }
}

#[test]
fn a_beginning_that_does_not_fit_is_thrown_away_once() {
    let (dir, all) = (Dir::new(), content());
    let mut broken = all.clone();
    broken[7] ^= 1;
    let web = Web::start({
        let all = all.clone();
        move |asked| match asked.number {
            0 => Reply::file(asked, &broken, "\"one\"").cut(500_000),
            1 => Reply::new(404, ""),
            _ => Reply::file(asked, &all, "\"one\""),
        }
    });
    assert!(dir.get(&web.url("f"), Some(&sha256(&all))).is_err());
    dir.get(&web.url("f"), Some(&sha256(&all))).unwrap();
    assert!(dir.file() == all);
    assert_eq!(web.count(), 4, "the rest, and then all of it");
}

#[test]
fn a_wrong_digest_names_both_and_leaves_nothing() {
    let dir = Dir::new();
    let web = Web::of_files(vec![("f".into(), b"hello\n".to_vec())]);
    let wanted = "0".repeat(64);
    let error = dir.get(&web.url("f?token=geheim"), Some(&wanted)).unwrap_err().to_string();
    assert!(error.contains(&format!("sha256:{}", sha256(b"hello\n"))) && error.contains(&wanted), "{error}");
    assert!(!error.contains("geheim"), "{error}");
    assert!(dir.names().is_empty(), "{:?}", dir.names());
}

#[test]
fn a_length_that_is_a_lie_is_not_believed() {
    let dir = Dir::new();
    let web = Web::start(|_| {
        let mut reply = Reply::new(200, "short");
        reply.length = Some(500);
        reply
    });
    let error = dir.get(&web.url("f"), None).unwrap_err();
    assert!(matches!(error.trouble, Trouble::Cut(_)), "{error}");
    assert!(!dir.names().contains(&"file".to_owned()));
}

#[test]
fn servers_that_are_busy_are_asked_again_when_they_say() {
    let dir = Dir::new();
    let web = Web::start(|asked| match asked.number {
        0 => Reply::new(429, "").with("Retry-After", "1"),
        1 => Reply::new(500, ""),
        _ => Reply::new(200, "fine"),
    });
    let began = Instant::now();
    dir.get(&web.url("f"), None).unwrap();
    assert!(began.elapsed() > Duration::from_secs(1), "{:?}", began.elapsed());
    assert_eq!((web.count(), dir.file()), (3, b"fine".to_vec()));
    let never = Web::start(|_| Reply::new(429, "").with("Retry-After", "86400"));
    let began = Instant::now();
    let error = dir.get(&never.url("f"), None).unwrap_err();
    assert!(matches!(error.trouble, Trouble::Status(429)) && began.elapsed() < Duration::from_secs(5), "{error}");
    assert_eq!(never.count(), 1);
}

#[test]
fn each_trouble_has_its_own_name() {
    let dir = Dir::new();
    let get = |url: &str| dir.get(url, None).unwrap_err();
    let gone = {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        listener.local_addr().unwrap().port()
    };
    let error = get(&format!("http://127.0.0.1:{gone}/f"));
    assert!(matches!(error.trouble, Trouble::Connect(_)), "{error:?}");
    assert!(error.hint().contains("login node") && error.hint().contains("no proxy is set"), "{}", error.hint());
    let error = get("http://no-such-host.invalid/f");
    assert!(matches!(error.trouble, Trouble::Name(_)), "{error:?}");
    let plain = Web::of_files(vec![]);
    let error = get(&format!("https://127.0.0.1:{}/f", plain.port));
    assert!(matches!(error.trouble, Trouble::Tls(_)), "{error:?}");
    let error = get(&plain.url("f"));
    assert!(matches!(error.trouble, Trouble::Status(404)) && plain.count() == 1, "{error:?}");
    let round = Web::start(|_| Reply::new(302, "").with("Location", "/again"));
    let error = get(&round.url("f"));
    assert!(matches!(error.trouble, Trouble::Redirects(_)), "{error:?}");
    let silent = Web::start(|_| Reply { pause: Duration::from_secs(30), ..Reply::new(200, "late") });
    let error = get(&silent.url("f"));
    assert!(matches!(error.trouble, Trouble::Slow) && silent.count() == 3, "{error:?}");
    for odd in ["ftp://host/f", "no address", "file://host.example/f", "file:///no/such/file", "file:///"] {
        assert!(matches!(get(odd).trouble, Trouble::Address(_) | Trouble::File(_)), "{odd}");
    }
    assert!(dir.names().is_empty(), "{:?}", dir.names());
}

#[test]
fn mirrors_are_tried_in_turn() {
    let (dir, all) = (Dir::new(), content());
    let sum = sha256(&all);
    let missing = Web::of_files(vec![]);
    let weak = Web::start({
        let all = all.clone();
        move |asked| Reply::file(asked, &all, "\"a\"").cut(400_000)
    });
    let good = Web::of_files(vec![("pub/f".into(), all.clone())]);
    let urls = [missing.url("f"), weak.url("f"), good.url("pub/f")];
    let urls: Vec<&str> = urls.iter().map(String::as_str).collect();
    let keep = Keep { urls: &urls, dir: &dir.0, sum: Some(Sum::Sha256(sum.clone())), mode: 0o644 };
    let (path, fetched) = net::download_into(&keep, &Unwatched).unwrap();
    assert_eq!((path, fetched.bytes), (dir.0.join(&sum), all.len() as u64));
    assert!(std::fs::read(dir.0.join(&sum)).unwrap() == all);
    // What the second one brought was not fetched again.
    assert!(good.asked()[0].headers["range"].starts_with("bytes="), "{:?}", good.asked());
    assert_eq!((missing.count(), weak.count(), good.count()), (1, 1, 1));
}

#[test]
fn two_processes_that_want_the_same_fetch_it_once() {
    let (dir, all) = (Dir::new(), content());
    let web = Web::start({
        let all = all.clone();
        move |asked| Reply { drip: Duration::from_millis(30), ..Reply::file(asked, &all, "\"one\"") }
    });
    let (url, sum) = (web.url("f"), sha256(&all));
    std::thread::scope(|scope| {
        for _ in 0..4 {
            scope.spawn(|| dir.get(&url, Some(&sum)).unwrap());
        }
    });
    assert!(dir.file() == all);
    assert_eq!((web.count(), dir.names()), (1, vec!["file".to_owned()]));
}

#[test]
fn an_interrupt_ends_a_transfer_soon_and_keeps_what_has_come() {
    struct Impatient(Mutex<u64>);
    impl Watch for Impatient {
        fn progress(&self, done: u64, _: Option<u64>) {
            *self.0.lock().unwrap() = done;
        }
        fn cancelled(&self) -> bool {
            *self.0.lock().unwrap() > 300_000
        }
    }
    let (dir, all) = (Dir::new(), content());
    let web = Web::start({
        let all = all.clone();
        move |asked| Reply { drip: Duration::from_millis(100), ..Reply::file(asked, &all, "\"one\"") }
    });
    let url = web.url("f");
    let to = dir.0.join("file");
    let what = Download::new(&url, &to);
    let error = net::download(&what, &Impatient(Mutex::new(0))).unwrap_err();
    assert!(matches!(error.trouble, Trouble::Interrupted), "{error}");
    net::download(&what, &Unwatched).unwrap();
    assert!(dir.file() == all && web.asked()[1].headers.contains_key("range"));
}

#[test]
fn no_more_is_taken_than_is_wanted() {
    let dir = Dir::new();
    // One that says how much comes, and one that does not.
    let says = Web::start(|_| Reply::new(200, vec![7; 200_000]));
    let chunked = Web::start(|_| Reply::new(200, vec![7; 200_000]).with("Transfer-Encoding", "identity"));
    let file = dir.0.join("large");
    std::fs::write(&file, vec![7; 200_000]).unwrap();
    let to = dir.0.join("file");
    for url in [says.url("f"), chunked.url("f"), format!("file://{}", file.display())] {
        for (size, most) in [(Some(100_000), None), (None, Some(100_000))] {
            let what = Download { size, most, ..Download::new(&url, &to) };
            let error = net::download(&what, &Unwatched).unwrap_err();
            assert!(matches!(error.trouble, Trouble::TooLarge(100_000)), "{url}: {error}");
            assert_eq!(dir.names(), ["large"]);
        }
    }
}

#[test]
fn nothing_is_written_through_what_lies_at_the_parts_name() {
    let dir = Dir::new();
    let web = Web::of_files(vec![("f".into(), content())]);
    let (url, to) = (web.url("f"), dir.0.join("file"));
    let id: String = ovl::sys::digest::of(url.as_bytes()).chars().skip("sha256:".len()).take(16).collect();
    let part = ovl::sys::fs::sibling(&to, &format!(".{id}.part"));
    let victim = dir.0.join("victim");
    let lay: [&dyn Fn(); 3] = [
        &|| std::os::unix::fs::symlink(&victim, &part).unwrap(),
        &|| std::fs::hard_link(&victim, &part).unwrap(),
        &|| nix::unistd::mkfifo(&part, nix::sys::stat::Mode::S_IRWXU).unwrap(),
    ];
    for (number, lay) in lay.iter().enumerate() {
        std::fs::write(&victim, "precious").unwrap();
        let _ = std::fs::remove_file(&part);
        lay();
        net::download(&Download::new(&url, &to), &Unwatched).unwrap();
        assert!(dir.file() == content(), "{number}");
        assert_eq!(std::fs::read(&victim).unwrap(), b"precious", "{number}");
    }
}

#[test]
fn a_full_disk_is_told_with_its_path() {
    // /dev/full cannot hold a part; a small tmpfs can be made by root only.
    if !nix::unistd::geteuid().is_root() {
        eprintln!("skipped: only root can mount a small file system");
        return;
    }
    let dir = Dir::new();
    let small = dir.0.join("small");
    std::fs::create_dir(&small).unwrap();
    let mounted = |args: &[&str], path: &Path| std::process::Command::new(args[0]).args(&args[1..]).arg(path).status();
    assert!(mounted(&["mount", "-t", "tmpfs", "-o", "size=256k", "none"], &small).unwrap().success());
    let web = Web::of_files(vec![("f".into(), content())]);
    let url = web.url("f");
    let told = net::download(&Download::new(&url, &small.join("f")), &Unwatched);
    // A server that does not say how much will come.
    let chunked = Web::start(|_| Reply { length: Some(200_000), ..Reply::new(200, vec![7; 200_000]) });
    std::fs::write(small.join("other"), vec![1; 150_000]).unwrap();
    let url = chunked.url("g");
    let late = net::download(&Download::new(&url, &small.join("g")), &Unwatched);
    assert!(mounted(&["umount"], &small).unwrap().success());
    for error in [told.unwrap_err(), late.unwrap_err()] {
        assert!(error.is_full() && error.to_string().contains(small.to_str().unwrap()), "{error}");
    }
}

#[test]
fn files_are_addresses_too() {
    let dir = Dir::new();
    std::fs::write(dir.0.join("with blank"), "local").unwrap();
    let url = url::Url::from_file_path(dir.0.join("with blank")).unwrap();
    assert_eq!(dir.get(url.as_str(), None).unwrap().bytes, 5);
    assert_eq!(dir.file(), b"local");
}
