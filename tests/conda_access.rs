//! Where packages of conda come from: who may fetch them, what makes an environment another one, what a cache takes for
//! what, and what the program micromamba is told where a site wants it.

use std::fs;
use std::os::unix::fs::PermissionsExt;

use ovl::conda::cache::{Cache, FetchError, How};
use ovl::conda::{Conda, Wishes};
use ovl::config::Config;

use crate::support::channel::Channel;
use crate::support::house::House;
use crate::support::web::Web;

fn tool(house: &House, dir: &str, says: &str) -> String {
    let program = format!("#!/bin/sh\necho {says}\n");
    Channel::new(house.path(dir)).package("tool", "1.0", "0").program("bin/tool", &program).write()
}

fn said(house: &House) -> String {
    house.ovl(&["exec", "-o", "tool/1.0", "--", "tool"]).ok().stdout.trim().to_owned()
}

#[test]
fn archives_are_fetched_with_the_credentials_of_the_lists() {
    for (file, text, header) in [
        ("home/.rattler/credentials.json", r#"{"127.0.0.1": {"BearerToken": "geheim"}}"#, "Bearer geheim"),
        (
            "home/.rattler/credentials.json",
            r#"{"127.0.0.1": {"BasicHTTP": {"username": "me", "password": "geheim"}}}"#,
            "Basic bWU6Z2VoZWlt",
        ),
        ("home/.netrc", "machine 127.0.0.1 login me password geheim\n", "Basic bWU6Z2VoZWlt"),
    ] {
        let house = House::new();
        tool(&house, "channel", "one");
        let web = Web::serve(&house.path("channel"));
        web.protect(header);
        house.set("OVL_CONDA_CHANNELS", &web.url);
        let path = house.write(file, text);
        if file.ends_with(".netrc") {
            // Anybody could have read it: then it does not count, for lists and for archives.
            fs::set_permissions(&path, fs::Permissions::from_mode(0o644)).unwrap();
            assert_ne!(house.ovl(&["build", "tool/1.0"]).code, 0);
        }
        fs::set_permissions(&path, fs::Permissions::from_mode(0o600)).unwrap();
        house.ovl(&["build", "tool/1.0"]).ok();
        assert_eq!(said(&house), "one");
    }
}

#[test]
fn a_token_before_the_path_is_for_archives_too() {
    let house = House::new();
    tool(&house, "channel/t/geheim/c", "one");
    let web = Web::serve(&house.path("channel"));
    house.set("OVL_CONDA_CHANNELS", format!("{}/c", web.url));
    house.write("home/.rattler/credentials.json", r#"{"127.0.0.1": {"CondaToken": "geheim"}}"#);
    let built = house.ovl(&["build", "tool/1.0"]).ok();
    assert!(!built.stderr.contains("geheim") && !built.stdout.contains("geheim"), "{built:?}");
    assert_eq!(said(&house), "one");
}

#[test]
fn a_channel_that_is_named_counts_before_what_is_installed() {
    let house = House::new();
    let (first, second) = (tool(&house, "first", "one"), tool(&house, "second", "two"));
    house.set("OVL_CONDA_CHANNELS", &first);
    house.ovl(&["build", "tool/1.0"]).ok();
    assert_eq!(said(&house), "one");
    let named = format!("{second}::tool/1.0");
    let again = house.ovl(&["build", &named]);
    assert!(!format!("{again:?}").contains("up to date"), "{again:?}");
    house.ovl(&["build", "--update", &named]).ok();
    assert_eq!(said(&house), "two");
}

#[test]
fn other_channels_make_another_environment() {
    let house = House::new();
    let (first, second) = (tool(&house, "first", "one"), tool(&house, "second", "two"));
    house.set("OVL_CONDA_CHANNELS", &first);
    house.write("work/env.yml", "dependencies:\n  - tool\n");
    let build = |more: &[&str]| house.ovl(&[&["build", "tool/1.0", "-f", "env.yml"], more].concat());
    build(&[]).ok();
    let again = build(&[]).ok();
    assert!(!format!("{again:?}").contains("have changed"), "{again:?}");
    for more in [&["-c", &second][..], &["-c", &second, "--override-channels"]] {
        let stale = build(more);
        assert!(format!("{stale:?}").contains("its channels or its platform have changed"), "{stale:?}");
    }
    house.ovl(&["build", "--update", "tool/1.0", "-f", "env.yml", "-c", &second]).ok();
    assert_eq!(said(&house), "two");
}

#[test]
fn an_overlay_is_for_the_platform_of_its_packages() {
    let house = House::new();
    let arm = Channel::new(house.path("arm"))
        .package("tool", "1.0", "0")
        .file("share/x", "x")
        .subdir("linux-aarch64")
        .write();
    house.set("OVL_CONDA_CHANNELS", &arm);
    house.ovl(&["build", "--platform", "linux-aarch64", "tool/1.0"]).ok();
    let info = house.ovl(&["info", "tool/1.0"]).ok().stdout;
    assert!(info.contains("linux/arm64"), "{info}");
}

#[test]
fn addresses_of_packages_carry_no_secrets() {
    let house = House::new();
    for (name, text) in [
        ("list.txt", "@EXPLICIT\nhttp://me:geheim@127.0.0.1:1/c/linux-64/tool-1.0-0.conda\n".to_owned()),
        ("token.txt", "@EXPLICIT\nhttp://127.0.0.1:1/t/geheim/c/linux-64/tool-1.0-0.conda\n".to_owned()),
        (
            "pixi.lock",
            format!(
                "version: 6\nenvironments:\n  default:\n    channels:\n    - url: http://127.0.0.1:1/c/\n    packages:\n      \
                 linux-64:\n      - conda: {0}\npackages:\n- conda: {0}\n  sha256: {1}\n",
                "http://127.0.0.1:1/t/geheim/c/linux-64/tool-1.0-0.conda",
                "0".repeat(64)
            ),
        ),
    ] {
        house.write(&format!("work/{name}"), text);
        let run = house.ovl(&["build", "-n", "lab", "-f", name, "--platform", "linux-64"]).code(4);
        assert!(run.stderr.contains("password"), "{name}: {}", run.stderr);
        assert!(run.stderr.contains("netrc"), "{name}: {}", run.stderr);
    }
}

/// Nobody follows the transfer.
struct Never;

impl ovl::net::Watch for Never {
    fn progress(&self, _done: u64, _total: Option<u64>) {}

    fn cancelled(&self) -> bool {
        false
    }
}

fn listed(house: &House, list: &str) -> Vec<rattler_conda_types::RepoDataRecord> {
    let cache = vec![house.path("lists").to_str().unwrap().to_owned()];
    let config = Config::thaw(&[("dirs.cache".to_owned(), cache)].into()).unwrap();
    let wishes = Wishes { platform: Some("linux-64".into()), ..Wishes::default() };
    let text = format!("@EXPLICIT\n{list}\n");
    let environment = ovl::recipe::conda::read("f", &text, &mut Vec::new());
    Conda::new(&config, &wishes).unwrap().lock("f", &text, &environment).unwrap().records
}

#[test]
fn without_a_digest_the_address_tells_archives_apart() {
    let house = House::new();
    tool(&house, "channel/first", "one");
    tool(&house, "channel/second", "two!");
    let web = Web::serve(&house.path("channel"));
    let lease = std::time::Duration::from_secs(60);
    let (own, foreign) = (house.path("work/pkgs"), house.make("work/foreign"));
    fs::write(foreign.join("tool-1.0-0.conda"), "somebody's").unwrap();
    let cache = Cache::new(vec![own, foreign], lease);
    let fetch = |channel: &str, offline| {
        let list = format!("{}/{channel}/linux-64/tool-1.0-0.conda", web.url);
        cache.fetch(&listed(&house, &list), How { threads: 1, offline }, &Never)
    };
    assert!(matches!(fetch("first", true), Err(FetchError::Missing { .. })));
    for channel in ["first", "second"] {
        let paths = fetch(channel, false).unwrap();
        let wanted = fs::read(house.path(&format!("channel/{channel}/linux-64/tool-1.0-0.conda"))).unwrap();
        assert!(fs::read(&paths[0]).unwrap() == wanted, "{channel}");
        assert_eq!(paths[0].metadata().unwrap().permissions().mode() & 0o777, 0o444);
        assert_eq!(fetch(channel, true).unwrap(), paths);
    }
    let gone = format!("file://{}", house.path("channel/first/linux-64/gone-1.0-0.conda").display());
    let gone = cache.fetch(&listed(&house, &gone), How { threads: 1, offline: false }, &Never).unwrap_err();
    assert!(gone.to_string().contains("linux-64/gone-1.0-0.conda is not there"), "{gone}");
}

#[test]
fn an_archive_is_what_its_address_says() {
    let house = House::new();
    tool(&house, "channel", "one");
    let dir = house.path("channel/linux-64");
    fs::rename(dir.join("tool-1.0-0.conda"), dir.join("tool-1.0-other.conda")).unwrap();
    house.write("work/list.txt", format!("@EXPLICIT\nfile://{}/tool-1.0-other.conda\n", dir.display()));
    let run = house.ovl(&["build", "-n", "lab", "-f", "list.txt", "--platform", "linux-64"]);
    assert_ne!(run.code, 0);
    assert!(run.stderr.contains("it holds tool 1.0 0 for linux-64"), "{}", run.stderr);
}

#[test]
fn micromamba_is_told_what_was_asked_and_runs_from_a_home() {
    let house = House::new();
    let channel = tool(&house, "channel", "one");
    let more = tool(&house, "more", "two");
    let program = "#!/bin/sh\nprefix=\nargs=\"$*\"\nwhile [ $# -gt 0 ]; do\n  [ \"$1\" = --prefix ] && prefix=$2\n  shift\n\
                   done\nmkdir -p \"$prefix/bin\"\necho \"$args\" > \"$prefix/asked\"\n";
    let bin = house.write("home/.local/bin/micromamba", program);
    fs::set_permissions(&bin, fs::Permissions::from_mode(0o755)).unwrap();
    house.put_on_path(bin.parent().unwrap());
    house.set("OVL_CONDA_CHANNELS", &channel);
    house.set("OVL_CONDA_BACKEND", "micromamba");
    house.write("work/env.yml", "dependencies:\n  - tool\nvariables:\n  LAB: 'costs $5'\n");
    let words = ["-c", &more, "--override-channels", "--platform", "linux-64"];
    house.ovl(&[&["build", "-n", "lab", "-f", "env.yml"], &words[..]].concat()).ok();
    let run = |words: &[&str]| house.ovl(&[&["exec", "-o", "lab/env", "--"], words].concat()).ok().stdout;
    let asked = run(&["cat", "/cnt/lab/env/asked"]);
    let wanted = format!("--platform linux-64 --channel-priority strict --override-channels --channel {more}\n");
    assert!(asked.starts_with("create ") && asked.contains(&wanted), "{asked}");
    assert_eq!(run(&["sh", "-c", "echo $LAB $CONDA_PREFIX"]).trim(), "costs $5 /cnt/lab/env");
}
