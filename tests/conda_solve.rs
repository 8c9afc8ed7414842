//! Conda, the thinking half: channels made by the tests, solved, searched, locked.

use ovl::conda::{Conda, CondaError, Locked, Wishes};
use ovl::config::Config;
use ovl::recipe;

use crate::support::channel::{Channel, members};
use crate::support::house::House;
use crate::support::web::Web;

#[test]
fn a_channel_of_a_test_has_archives_that_the_library_reads() {
    let house = House::new();
    let dir = house.path("channel");
    let url = Channel::new(&dir)
        .package("zlib", "1.3", "h1_2")
        .file("lib/libz.so.1", "z")
        .link("lib/libz.so", "libz.so.1")
        .package("tool", "1.0", "0")
        .tar_bz2()
        .depends("zlib >=1.2")
        .prefix_text("bin/tool", "#!{prefix}/bin/sh\n")
        .script("post-link", "#!/bin/sh\n")
        .package("six", "1.16", "py_0")
        .noarch_python()
        .entry_point("six = six:main")
        .file("site-packages/six.py", "def main(): pass\n")
        .write();
    assert!(url.starts_with("file:///"));
    let zlib = members(&dir.join("linux-64/zlib-1.3-h1_2.conda"));
    for path in ["lib/libz.so", "lib/libz.so.1", "info/index.json", "info/paths.json", "info/files"] {
        assert!(zlib.contains(path), "{path} is not in {zlib:?}");
    }
    let tool = members(&dir.join("linux-64/tool-1.0-0.tar.bz2"));
    assert!(tool.contains("bin/.tool-post-link.sh") && tool.contains("info/has_prefix"), "{tool:?}");
    assert!(members(&dir.join("noarch/six-1.16-py_0.conda")).contains("info/link.json"));
    let index = std::fs::read_to_string(dir.join("linux-64/repodata.json")).unwrap();
    let index: rattler_conda_types::RepoData = serde_json::from_str(&index).unwrap();
    assert_eq!((index.packages.len(), index.conda_packages.len()), (1, 1));
    let (_, zlib) = index.conda_packages.iter().next().unwrap();
    assert_eq!((zlib.build_number, zlib.sha256.is_some()), (2, true));
}

/// Asks in this process, with a cache of the house's own.
fn conda(house: &House, channels: &[&str], more: &[(&str, &str)]) -> Conda {
    let mut keys = std::collections::BTreeMap::new();
    let own = |value: &str| vec![value.to_owned()];
    keys.insert("conda.channels".to_owned(), channels.iter().map(|&url| url.to_owned()).collect());
    keys.insert("dirs.cache".to_owned(), own(house.path("cache").to_str().unwrap()));
    for (key, value) in more.iter().filter(|(key, _)| key.contains('.')) {
        keys.insert((*key).to_owned(), own(value));
    }
    let is = |word: &str| more.iter().any(|(key, _)| *key == word);
    let of = |word: &str| -> Vec<String> {
        more.iter().filter(|(key, _)| *key == word).map(|(_, value)| (*value).to_owned()).collect()
    };
    let wishes = Wishes {
        channels: of("-c"),
        only_those: is("only"),
        platform: Some(of("platform").pop().unwrap_or("linux-64".into())),
        offline: is("offline"),
    };
    Conda::new(&Config::thaw(&keys).unwrap(), &wishes).unwrap()
}

fn lock(conda: &Conda, text: &str) -> Result<Locked, CondaError> {
    let mut findings = Vec::new();
    let environment = recipe::conda::read("f", text, &mut findings);
    assert!(!findings.iter().any(recipe::Finding::is_error), "{findings:?}");
    conda.lock("f", text, &environment)
}

fn shown(locked: &Locked) -> Vec<String> {
    locked.records.iter().map(|one| one.identifier.identifier.to_string()).collect()
}

fn solved(conda: &Conda, text: &str) -> Vec<String> {
    shown(&lock(conda, text).unwrap_or_else(|error| panic!("{error}\n{}", error.hint())))
}

fn small(house: &House, dir: &str) -> String {
    Channel::new(house.path(dir))
        .package("zlib", "1.2.13", "h0_0")
        .file("lib/libz.so.1", "old")
        .package("zlib", "1.3", "h0_0")
        .file("lib/libz.so.1", "z")
        .package("zlib", "1.3", "h1_1")
        .file("lib/libz.so.1", "newer z")
        .package("samtools", "1.21", "h0_0")
        .depends("zlib >=1.2,<1.3")
        .package("samtools", "1.22", "h0_0")
        .depends("zlib >=1.3,<2")
        .depends("six")
        .program("bin/samtools", "#!/bin/sh\necho 1.22\n")
        .package("six", "1.16", "py_0")
        .noarch_generic()
        .file("six.py", "")
        .package("gputool", "1.0", "cpu_0")
        .package("gputool", "1.0", "cuda_1")
        .depends("__cuda >=12")
        .package("newlibc", "1", "0")
        .depends("__glibc >=99")
        .write()
}

#[test]
fn wishes_become_packages_in_order_and_always_the_same() {
    let house = House::new();
    let url = small(&house, "channel");
    let conda = conda(&house, &[&url], &[]);
    let wanted = ["six-1.16-py_0", "zlib-1.3-h1_1", "samtools-1.22-h0_0"];
    let first = lock(&conda, "samtools\n").unwrap();
    assert_eq!(shown(&first).last().unwrap(), "samtools-1.22-h0_0");
    let mut names = shown(&first);
    names.sort();
    let mut sorted = wanted.map(str::to_owned);
    sorted.sort();
    assert_eq!(names, sorted);
    assert_eq!(first.channels, [format!("{url}/")]);
    for _ in 0..5 {
        assert_eq!(lock(&self::conda(&house, &[&url], &[]), "samtools\n").unwrap(), first);
    }
    assert!(solved(&conda, "samtools=1.21\n").contains(&"zlib-1.2.13-h0_0".to_owned()));
    assert_eq!(solved(&conda, "zlib==1.3=h0_0\n"), ["zlib-1.3-h0_0"]);
    let text = "dependencies:\n  - six\n  - pip:\n    - requests==2.32\nvariables:\n  A: b\n";
    let channel = Channel::new(house.path("more")).package("pip", "25", "0").noarch_generic().write();
    let locked = lock(&self::conda(&house, &[&url, &channel], &[]), text).unwrap();
    assert_eq!((locked.pip, locked.variables["A"].as_str()), (vec!["requests==2.32".to_owned()], "b"));
}

#[test]
fn locks_and_explicit_lists_go_out_and_come_back() {
    let house = House::new();
    let url = small(&house, "channel");
    let conda = conda(&house, &[&url], &[]);
    let locked = lock(&conda, "samtools\n").unwrap();
    let frozen: Locked = serde_json::from_str(&serde_json::to_string(&locked).unwrap()).unwrap();
    assert_eq!(frozen, locked);
    let text = locked.to_lock_file().unwrap();
    let back = lock(&conda, &text).unwrap();
    assert_eq!(back.records, locked.records, "{text}");
    assert_eq!(back.channels, locked.channels);
    let list = locked.to_explicit();
    assert!(list.starts_with("# platform: linux-64\n@EXPLICIT\nfile:///"), "{list}");
    let back = lock(&conda, &list).unwrap();
    assert_eq!(shown(&back), shown(&locked));
    assert_eq!(back.to_explicit(), list);
    assert_eq!(back.records[0].package_record.sha256, locked.records[0].package_record.sha256);
    let other = self::conda(&house, &[&url], &[("platform", "linux-aarch64")]);
    let error = lock(&other, &text).unwrap_err().to_string();
    assert!(error.contains("it has nothing for linux-aarch64, only for linux-64"), "{error}");
    let error = lock(&other, &list).unwrap_err().to_string();
    assert!(error.contains("it is for 'linux-64', not for linux-aarch64"), "{error}");
    let error = lock(&conda, "version: 99\npackages: []\n").unwrap_err().to_string();
    assert!(error.contains("no lock file that can be read"), "{error}");
}

#[test]
fn channels_count_in_their_order() {
    let house = House::new();
    let first = Channel::new(house.path("first")).package("tool", "1.0", "first_0").package("only", "1", "0").write();
    let second = Channel::new(house.path("second"))
        .package("tool", "2.0", "second_0")
        .package("other", "1", "0")
        .depends("tool")
        .write();
    let strict = conda(&house, &[&first, &second], &[]);
    assert_eq!(solved(&strict, "tool\n"), ["tool-1.0-first_0"]);
    assert_eq!(solved(&strict, "other\n"), ["tool-1.0-first_0", "other-1-0"]);
    let loose = conda(&house, &[&first, &second], &[("conda.priority", "disabled")]);
    assert_eq!(solved(&loose, "tool\n"), ["tool-2.0-second_0"]);
    let flag = conda(&house, &[&first], &[("-c", &second)]);
    assert_eq!(solved(&flag, "tool\n"), ["tool-2.0-second_0"]);
    let only = conda(&house, &[&first], &[("-c", &second), ("only", "")]);
    assert!(lock(&only, "only\n").unwrap_err().to_string().starts_with("no package 'only' for linux-64 in file:///"));
    // A wish may name its channel, asked for or not; so may a file.
    assert_eq!(solved(&strict, &format!("{second}::tool\n")), ["tool-2.0-second_0"]);
    let alone = conda(&house, &[&first], &[]);
    assert_eq!(solved(&alone, &format!("{second}::tool\n")), ["tool-2.0-second_0"]);
    let file = format!("channels: ['{second}']\ndependencies: [tool]\n");
    assert_eq!(solved(&alone, &file), ["tool-2.0-second_0"]);
    // Names lie below the alias.
    let alias = format!("file://{}", house.dir.canonicalize().unwrap().display());
    let named = conda(&house, &["first"], &[("conda.channel_alias", &alias)]);
    assert_eq!(solved(&named, "tool\n"), ["tool-1.0-first_0"]);
    assert_eq!(solved(&named, "second::tool\n"), ["tool-2.0-second_0"]);
}

#[test]
fn what_cannot_be_is_explained() {
    let house = House::new();
    let url = small(&house, "channel");
    let conda = conda(&house, &[&url], &[]);
    let error = lock(&conda, "samtools=1.22\nzlib<1.3\n").unwrap_err().to_string();
    assert!(error.contains("samtools") && error.contains("zlib >=1.3,<2"), "{error}");
    let error = lock(&conda, "samtols\n").unwrap_err();
    assert!(error.to_string().starts_with("no package 'samtols' for linux-64 in"), "{error}");
    assert_eq!(error.hint(), "there is samtools");
    let error = lock(&conda, "samtools=9\n").unwrap_err();
    assert!(error.to_string().starts_with("no package 'samtools=9' for linux-64 in"), "{error}");
    assert_eq!(error.hint(), "there is samtools=1.22, samtools=1.21");
    let error = lock(&conda, "newlibc\n").unwrap_err().to_string();
    assert!(error.contains("__glibc >=99"), "{error}");
    let none = self::conda(&house, &[], &[]);
    assert_eq!(lock(&none, "zlib\n").unwrap_err().to_string(), "no channel is named to take packages from");
    let gone = format!("file://{}", house.path("nowhere").display());
    let error = lock(&self::conda(&house, &[&gone], &[]), "zlib\n").unwrap_err();
    assert!(error.hint().contains("noarch/repodata.json"), "{error}\n{}", error.hint());
    let secret = "http://me:geheim@127.0.0.1:1/c";
    let error = lock(&self::conda(&house, &[secret], &[]), "zlib\n").unwrap_err();
    assert!(error.to_string().contains("password") && !error.to_string().contains("geheim"), "{error}");
}

#[test]
fn virtual_packages_are_those_of_the_target() {
    let house = House::new();
    let url = small(&house, "channel");
    let with = |overrides: &str| conda(&house, &[&url], &[("conda.overrides", overrides)]);
    assert_eq!(solved(&with("cuda=12.4"), "gputool\n"), ["gputool-1.0-cuda_1"]);
    assert_eq!(solved(&with("cuda="), "gputool\n"), ["gputool-1.0-cpu_0"]);
    assert_eq!(solved(&with("glibc=99.1"), "newlibc\n"), ["newlibc-1-0"]);
    assert!(lock(&with("what"), "zlib\n").unwrap_err().to_string().contains("conda.overrides: 'what' has no version"));
    // A base of another C library than the host's.
    house.write("base/lib64/libc.so.6", "GNU C Library stable release version 99.5.\n");
    let base = conda(&house, &[&url], &[("exec.base", house.path("base").to_str().unwrap())]);
    assert_eq!(solved(&base, "newlibc\n"), ["newlibc-1-0"]);
    // Another platform is asked for its own packages.
    let arm = Channel::new(house.path("arm")).package("tool", "1", "0").subdir("linux-aarch64").write();
    assert_eq!(solved(&conda(&house, &[&arm], &[("platform", "linux-aarch64")]), "tool\n"), ["tool-1-0"]);
    assert!(lock(&conda(&house, &[&arm], &[]), "tool\n").is_err());
}

#[test]
fn what_was_read_once_is_enough_without_a_network() {
    let house = House::new();
    small(&house, "channel");
    let web = Web::serve(&house.path("channel"));
    let url = web.url.clone();
    let error = lock(&conda(&house, &[&url], &[("offline", "")]), "zlib\n").unwrap_err();
    assert!(error.hint().contains("leave --offline out"), "{error}\n{}", error.hint());
    assert!(web.asked().is_empty(), "{:?}", web.asked());
    let wanted = solved(&conda(&house, &[&url], &[]), "samtools\n");
    assert!(web.asked().iter().any(|line| line.contains("/linux-64/repodata.json")), "{:?}", web.asked());
    let so_far = web.asked().len();
    assert_eq!(solved(&conda(&house, &[&url], &[("offline", "")]), "samtools\n"), wanted);
    assert_eq!(web.asked().len(), so_far);
    drop(web);
    // Nobody answers any more: the same, with a word about it.
    let conda = conda(&house, &[&url], &[]);
    assert_eq!(solved(&conda, "samtools\n"), wanted);
    assert!(conda.notes().iter().all(|note| note.contains("do not answer")));
}

#[test]
fn credentials_come_from_where_other_tools_keep_them() {
    let house = House::new();
    small(&house, "channel");
    let web = Web::serve(&house.path("channel"));
    web.protect("Basic bWU6Z2VoZWlt");
    house.set("OVL_CONDA_CHANNELS", &web.url);
    let denied = house.ovl(&["search", "zlib"]);
    assert_eq!(denied.code, 7, "{denied:?}");
    assert!(denied.stderr.contains("401") && denied.stderr.contains("credentials are needed"), "{}", denied.stderr);
    let netrc = house.write("home/.netrc", "machine 127.0.0.1 login me password geheim\n");
    std::fs::set_permissions(netrc, std::os::unix::fs::PermissionsExt::from_mode(0o600)).unwrap();
    assert_eq!(house.ovl(&["search", "zlib"]).ok().stdout.lines().count(), 3);
}

#[test]
fn search_lists_what_there_is_newest_last() {
    let house = House::new();
    let url = small(&house, "channel");
    house.set("OVL_CONDA_CHANNELS", &url);
    let lines = house.ovl(&["search", "zlib"]).ok().stdout;
    let words: Vec<Vec<&str>> = lines.lines().map(|line| line.split_whitespace().take(3).collect()).collect();
    assert_eq!(words, [["zlib", "1.2.13", "h0_0"], ["zlib", "1.3", "h0_0"], ["zlib", "1.3", "h1_1"]]);
    assert!(lines.contains(&url), "{lines}");
    assert_eq!(house.ovl(&["search", "zlib/1.3", "--limit", "1"]).ok().stdout.lines().count(), 1);
    assert_eq!(house.ovl(&["search", "zlib<1.3"]).ok().stdout.lines().count(), 1);
    let json: serde_json::Value = serde_json::from_str(&house.ovl(&["search", "six", "--json"]).ok().stdout).unwrap();
    assert_eq!((json[0]["name"].as_str(), json[0]["subdir"].as_str()), (Some("six"), Some("noarch")));
    assert_eq!(house.ovl(&["search", "*tool*"]).ok().stdout, "gputool\nsamtools\n");
    let run = house.ovl(&["search", "zlib=9"]);
    assert_eq!(run.code, 4);
    assert!(run.stderr.contains("there is zlib=1.3, zlib=1.2.13"), "{}", run.stderr);
    let run = house.ovl(&["search", "zlub"]);
    assert!(run.code == 4 && run.stderr.contains("there is zlib"), "{}", run.stderr);
    let run = house.ovl(&["search", "zlib>>"]);
    assert!(run.code == 4 && run.stderr.contains("no specification of a package"), "{}", run.stderr);
}

#[test]
fn a_name_without_a_recipe_comes_from_conda() {
    let house = House::new();
    small(&house, "channel");
    let web = Web::serve(&house.path("channel"));
    house.set("OVL_CONDA_CHANNELS", &web.url);
    // A recipe wins, and then nobody is asked.
    house.recipe("samtools/1.22", "install() { mkdir -p $target_dir; touch $target_dir/x; }\n");
    let plan = house.ovl(&["build", "--dry-run", "samtools/1.22"]).ok();
    assert!(plan.stdout.contains("would build samtools/1.22") && !plan.stdout.contains("packages"), "{}", plan.stdout);
    assert!(web.asked().is_empty(), "{:?}", web.asked());
    let plan = house.ovl(&["build", "--dry-run", "samtools/1.21"]).ok();
    let said = "samtools/1.21: there is no recipe; the package samtools==1.21 is taken from conda";
    assert!(plan.stdout.contains(said), "{}", plan.stdout);
    assert!(plan.stdout.contains("samtools/1.21: 2 packages for linux-64, "), "{}", plan.stdout);
    let row: Vec<&str> = plan.stdout.lines().last().unwrap().split_whitespace().collect();
    assert_eq!(row[..4], ["zlib", "1.2.13", "h0_0", &web.url]);
    // The beginning of a version will do; a channel may be named, and then the recipe does not count.
    let json = house.ovl(&["build", "--dry-run", "--json", "zlib/1"]).ok().json();
    assert_eq!(json["packages"]["zlib/1"][0]["version"], "1.3");
    let named = house.ovl(&["build", "--dry-run", &format!("{}::samtools/1.22", web.url)]).ok();
    assert!(named.stdout.contains("samtools/1.22: 3 packages"), "{}", named.stdout);
    // Nobody has it: names of both worlds.
    house.recipe("zlab/1", "install() { :; }\n");
    let run = house.ovl(&["build", "zlab/2"]).code(4);
    assert!(run.stderr.contains("there is no recipe for zlab/2, and conda has no package 'zlab'"), "{}", run.stderr);
    assert!(run.stderr.contains("did you mean zlab/1 or zlib"), "{}", run.stderr);
    let run = house.ovl(&["build", "zlib/9"]).code(4);
    assert!(run.stderr.contains("zlib/1.3 or zlib/1.2.13"), "{}", run.stderr);
    let asked = web.asked().len();
    house.set("OVL_CONDA_CHANNELS", "none");
    let run = house.ovl(&["build", "zlab/2"]).code(4);
    assert!(run.stderr.contains("there is no recipe for zlab/2\n"), "{}", run.stderr);
    assert_eq!(web.asked().len(), asked);
    drop(web);
    house.set("OVL_CONDA_CHANNELS", "http://127.0.0.1:1/none");
    let run = house.ovl(&["build", "zlab/2"]).code(4);
    assert!(run.stderr.contains("and conda could not be asked: "), "{}", run.stderr);
}

#[test]
fn environments_are_solved_before_anything_is_built() {
    let house = House::new();
    let url = small(&house, "channel");
    let more = Channel::new(house.path("more")).package("tool", "1", "0").write();
    house.set("OVL_CONDA_CHANNELS", &url);
    let packages = |args: &[&str]| {
        let json = house.ovl(&[&["build", "--dry-run", "--json"], args].concat()).ok().json();
        let (_, list) = json["packages"].as_object().unwrap().iter().next().unwrap();
        let names: Vec<String> =
            list.as_array().unwrap().iter().map(|one| format!("{}-{}", one["name"], one["version"])).collect();
        names.join(" ").replace('"', "")
    };
    assert_eq!(packages(&["-n", "lab", "zlib<1.3", "six"]), "zlib-1.2.13 six-1.16");
    assert_eq!(packages(&["-n", "lab", "-c", &more, "tool", "six"]), "tool-1 six-1.16");
    assert_eq!(packages(&["-p", "lab", &format!("{more}::tool")]), "tool-1");
    let file = house.write("work/environment.yml", format!("channels: ['{more}']\ndependencies:\n  - tool\n"));
    assert_eq!(packages(&["-n", "lab", "-f", file.to_str().unwrap()]), "tool-1");
    house.write("work/list.txt", "# packages\nzlib=1.3\n");
    assert_eq!(packages(&["lab/1", "-f", "list.txt"]), "zlib-1.3");
    house.recipe("from/1.yml", "#WHATIS: a recipe that is an environment\ndependencies:\n  - six\n");
    assert_eq!(packages(&["from/1"]), "six-1.16");
    // What cannot be is told before anything begins, in the solver's words, and with its place in the file.
    let run = house.ovl(&["build", "-n", "lab", "samtools=1.22", "zlib<1.3"]).code(2);
    assert!(run.stderr.contains("lab/env: the environment cannot be solved:"), "{}", run.stderr);
    assert!(run.stderr.contains("zlib >=1.3,<2"), "{}", run.stderr);
    house.write("work/bad.yml", "dependencies:\n  - six\n  - zlib>=\n");
    let run = house.ovl(&["build", "-n", "lab", "-f", "bad.yml"]).code(4);
    assert!(run.stderr.contains("bad.yml:3:5: error[OVL061]: 'zlib>=' is no specification"), "{}", run.stderr);
    let run = house.ovl(&["build", "-n", "lab", "tool", "--override-channels"]);
    assert_eq!(run.code, 4, "{run:?}");
    let run = house.ovl(&["build", "-n", "lab", "six", "--platform", "amiga"]).code(4);
    assert!(run.stderr.contains("'amiga' is no platform"), "{}", run.stderr);
    assert!(house.ovl(&["check", "bad.yml"]).code == 4);
    house.ovl(&["check", "environment.yml"]).ok();
}
