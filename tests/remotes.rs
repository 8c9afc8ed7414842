//! Recipe remotes: taken over, pinned, used without a network, and never in another form than they were taken over in.

use std::io::Write;
use std::process::Command;
use std::sync::{Arc, Mutex};

use crate::support::house::{House, Run, finish, script};
use crate::support::server::{Reply, Web};

fn gzip(text: &str) -> Vec<u8> {
    let mut packer = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    packer.write_all(text.as_bytes()).unwrap();
    packer.finish().unwrap()
}

type Files = Arc<Mutex<Vec<(String, Vec<u8>)>>>;

/// A server whose files can be changed.
fn serve(files: &Files) -> Web {
    let files = files.clone();
    Web::start(move |asked| {
        let files = files.lock().unwrap();
        match files.iter().find(|(name, _)| *name == asked.path.trim_start_matches('/')) {
            Some((_, bytes)) => Reply::new(200, bytes.clone()),
            None => Reply::new(404, ""),
        }
    })
}

fn put(files: &Files, name: &str, bytes: impl Into<Vec<u8>>) {
    let mut files = files.lock().unwrap();
    files.retain(|(known, _)| known != name);
    files.push((name.to_owned(), bytes.into()));
}

fn says(house: &House, what: &str, name: &str) -> Run {
    house.ovl(&["exec", "-o", name, "cat", &format!("/cnt/{name}/f")]).ok().prints(what)
}

const LISTING: &str = r#"{"tool/1.0":{"path":"tool/1.0","whatis":"a tool","deps":[]},
    "ref/all":{"path":"ref/all","is_template":true,"target_template":"ref/{v}/x","pl":{"v":["1","2"]},"pl_order":["v"],"whatis":"all of {v}"},
    "ref/1/x":{"path":"ref/all","pl":{"v":["1"]},"whatis":"all of 1"}}"#;

fn lab() -> (Files, Web) {
    let files = Files::default();
    put(&files, "metadata/build-scripts.json.gz", gzip(LISTING));
    put(&files, "build-scripts/tool/1.0", script("", "echo remote > $target_dir/f"));
    put(
        &files,
        "build-scripts/ref/all",
        "#WHATIS:all of {v}\n#TARGET:ref/{v}/x\n#PL:v:1,2\ninstall() {\necho {v} > $target_dir/f\n}\n",
    );
    let web = serve(&files);
    (files, web)
}

#[test]
fn a_directory_of_recipes_is_taken_over_and_works_without_it() {
    let house = House::new();
    let (files, web) = lab();
    house.ovl(&["recipes", "add", "lab", &web.url("")]).ok().prints("lab: 2 recipes");
    let asked = web.count();
    files.lock().unwrap().clear();
    house.ovl(&["avail"]).ok().prints("from lab").prints("tool/1.0").prints("ref/{v}/x");
    let avail = house.ovl(&["avail", "tool/1", "--json"]).ok().json();
    assert_eq!((&avail[0]["layer"], &avail[0]["whatis"]), (&"lab".into(), &"a tool".into()));
    house.ovl(&["build", "--offline", "tool/1.0", "ref/2/x"]).ok();
    says(&house, "remote", "tool/1.0");
    says(&house, "2", "ref/2/x");
    house.ovl(&["info", "tool/1.0"]).ok().prints("lab:tool/1.0");
    assert_eq!(house.ovl(&["export", "tool/1.0"]).ok().stdout, script("", "echo remote > $target_dir/f"));
    assert_eq!(web.count(), asked, "something was fetched again");
    house.ovl(&["recipes", "list"]).ok().prints("lab").prints("2 recipes");
    // A layer's own recipe comes first.
    house.recipe("tool/1.0", script("", "echo mine > $target_dir/f"));
    house.ovl(&["build", "-u", "tool/1.0"]).ok();
    says(&house, "mine", "tool/1.0");
    house.ovl(&["recipes", "remove", "lab"]).ok();
    house.ovl(&["build", "ref/1/x"]).code(4).says("no recipe");
    house.ovl(&["recipes", "update", "lab"]).code(4).says("there is no remote 'lab'");
}

#[test]
fn what_differs_from_the_pin_is_refused() {
    let house = House::new();
    let (files, web) = lab();
    house.ovl(&["recipes", "add", "lab", &web.url("")]).ok();
    put(&files, "build-scripts/tool/1.0", script("", "echo evil > $target_dir/f"));
    // The cache can be lost at any time.
    let lose = || {
        std::fs::remove_dir_all(house.path("home/.cache/ovl/recipes")).unwrap();
        std::fs::remove_dir_all(house.path("home/.local/share/ovl/remotes/lab.d")).unwrap();
    };
    lose();
    house.ovl(&["build", "tool/1.0"]).code(5).says("tool/1.0 is sha256:").says("refused");
    house.ovl(&["build", "--offline", "tool/1.0"]).code(7).says("the network is not to be used");
    // What others cannot have changed is fetched again.
    house.ovl(&["build", "ref/1/x"]).ok();
    house.ovl(&["recipes", "update"]).ok().prints("1 changed").says("changed: tool/1.0");
    house.ovl(&["build", "tool/1.0"]).ok();
    says(&house, "evil", "tool/1.0");
    // Nor is what was changed in the cache taken: what is whole elsewhere is.
    let cache = house.names("home/.cache/ovl/recipes");
    let cache = house.path("home/.cache/ovl/recipes").join(&cache[0]);
    let change = |dir: &std::path::Path| {
        for entry in std::fs::read_dir(dir).unwrap() {
            std::fs::write(entry.unwrap().path(), "install() { :; }\n").unwrap();
        }
    };
    change(&cache);
    house.ovl(&["build", "--offline", "-u", "tool/1.0"]).ok();
    change(&cache);
    change(&house.path("home/.local/share/ovl/remotes/lab.d"));
    house.ovl(&["build", "--offline", "-u", "tool/1.0"]).code(5).says("refused");
    house.ovl(&["build", "-u", "tool/1.0"]).ok();
    says(&house, "evil", "tool/1.0");
    put(&files, "build-scripts/tool/1.0", script("", "echo worse > $target_dir/f"));
    change(&cache);
    house.ovl(&["build", "-u", "tool/1.0"]).code(5).says("refused");
}

#[test]
fn a_remote_needs_nobodys_cache() {
    let house = House::new();
    let (_files, web) = lab();
    house.ovl(&["recipes", "add", "lab", &web.url("")]).ok();
    let kept = house.names("home/.local/share/ovl/remotes/lab.d");
    assert_eq!(kept.len(), 2, "{kept:?}");
    drop(web);
    std::fs::remove_dir_all(house.path("home/.cache/ovl/recipes")).unwrap();
    house.ovl(&["build", "--offline", "tool/1.0"]).ok();
    house.ovl(&["recipes", "remove", "lab"]).ok();
    assert!(house.names("home/.local/share/ovl/remotes").is_empty());
}

#[test]
fn an_address_with_a_password_is_not_written_down() {
    let house = House::new();
    for url in [
        "https://user:s3cret@host.invalid/x.git",
        "https://s3cret@host.invalid/x",
        "git+http://user:s3/cret@host.invalid/x",
        "ssh://git:s3cret@host.invalid/x.git",
    ] {
        let run = house.ovl(&["recipes", "add", "lab", url]).code(4).says("credential helper");
        assert!(!run.stderr.contains("s3"), "{run:?}");
    }
    assert!(house.names("home/.local/share/ovl/remotes").is_empty());
}

#[test]
fn a_listing_with_digests_holds_its_server_to_them() {
    let house = House::new();
    let files = Files::default();
    let good = script("", "echo good > $target_dir/f");
    let sum = ovl::sys::digest::of(good.as_bytes());
    let listing = format!(r#"{{"t/1":{{"path":"t/1","sha256":"{sum}"}}}}"#);
    put(&files, "metadata/build-scripts.json.gz", gzip(&listing));
    put(&files, "build-scripts/t/1", "evil");
    let web = serve(&files);
    house.ovl(&["recipes", "add", "lab", &web.url("")]).code(5).says(sum.trim_start_matches("sha256:")).says("refused");
    assert!(house.names("home/.local/share/ovl/remotes").is_empty());
    put(&files, "build-scripts/t/1", good);
    house.ovl(&["recipes", "add", "lab", &web.url("")]).ok();
    let pin = ovl::sys::digest::of(&gzip(&listing));
    house.ovl(&["recipes", "update", "lab", "--pin", &pin]).ok();
    put(&files, "metadata/build-scripts.json.gz", gzip(LISTING));
    house.ovl(&["recipes", "update"]).code(5).says("refused");
    for (listing, what) in [
        (&b"no gzip"[..], "not compressed"),
        (&gzip("[1]"), "no listing"),
        (&gzip(r#"{"a":{"path":"../x"}}"#), "no recipe can be"),
    ] {
        put(&files, "metadata/build-scripts.json.gz", listing);
        house.ovl(&["recipes", "add", "odd", &web.url("")]).code(1).says(what);
    }
    house.ovl(&["recipes", "add", "odd", &web.url("nothing")]).code(1).says("404");
    for name in ["user", "a/b", "..", ""] {
        house.ovl(&["recipes", "add", name, &web.url("")]).code(4).says("cannot be a remote's name");
    }
}

fn git(house: &House, args: &[&str]) -> String {
    let mut command: Command = house.command("git");
    command
        .current_dir(house.path("work/repo"))
        .args(["-c", "user.name=t", "-c", "user.email=t@t", "-c", "init.defaultBranch=main"])
        .args(args);
    finish(command).ok().stdout.trim().to_owned()
}

#[test]
fn a_git_repository_is_taken_over_at_a_commit() {
    let house = House::new();
    let write = |text: &str| {
        house.write("work/repo/build-scripts/tool/1.0.sh", script("", &format!("echo {text} > $target_dir/f")))
    };
    write("one");
    std::os::unix::fs::symlink("/etc/passwd", house.path("work/repo/build-scripts/leak")).unwrap();
    git(&house, &["init", "-q", "."]);
    git(&house, &["add", "-A"]);
    git(&house, &["commit", "-qm", "one"]);
    git(&house, &["tag", "v1"]);
    let first = git(&house, &["rev-parse", "HEAD"]);
    let url = format!("git+file://{}", house.path("work/repo").display());
    house.ovl(&["recipes", "add", "lab", &url]).ok().prints("lab: 1 recipe").prints(&first[..12]);
    house.ovl(&["recipes", "add", "held", &url, "--pin", "v1"]).ok();
    house.ovl(&["recipes", "add", "exact", &url, "--pin", &first[..10]]).ok();
    house.ovl(&["build", "--offline", "tool/1.0"]).ok();
    says(&house, "one", "tool/1.0");
    assert_eq!(house.ovl(&["info", "tool/1.0", "--json"]).json()["meta"]["git_commit"], first);
    write("two");
    git(&house, &["commit", "-qam", "two"]);
    let second = git(&house, &["rev-parse", "HEAD"]);
    // Nothing changes until it is asked for.
    std::fs::remove_dir_all(house.path("home/.cache/ovl/recipes")).unwrap();
    house.ovl(&["build", "-u", "tool/1.0"]).ok();
    says(&house, "one", "tool/1.0");
    let run = house.ovl(&["recipes", "update"]).ok();
    assert_eq!(run.stdout.matches("1 changed").count(), 1, "{run:?}");
    let list = house.ovl(&["recipes", "list", "--json"]).json();
    let revision =
        |name: &str| list.as_array().unwrap().iter().find(|r| r["name"] == name).unwrap()["revision"].clone();
    assert_eq!(
        (revision("lab"), revision("held"), revision("exact")),
        (second.into(), first.clone().into(), first.into())
    );
    house.ovl(&["recipes", "add", "gone", &format!("{url}-not")]).code(1).says("git: ");
    house.ovl(&["recipes", "add", "odd", &url, "--pin", "--upload-pack=x"]).code(4);
    house.ovl(&["recipes", "add", "odd", &url, "--pin", "no-such"]).code(1).says("git: ");
}
