//! Where values come from: flag > variable > user > group > site > system > default; and the example file.

use std::path::Path;

use crate::support::house::{House, Run};

/// The value and the origin of a key, as `config show --json` tells them.
fn shown(run: &Run, key: &str) -> (String, String) {
    let all = run.json();
    let values: Vec<&str> = all[key]["value"].as_array().unwrap().iter().map(|value| value.as_str().unwrap()).collect();
    (values.join(","), all[key]["origin"].as_str().unwrap().to_owned())
}

#[test]
fn each_source_overrides_the_weaker_ones_and_is_named() {
    let house = House::new();
    let file = |level: &str, path: &str, comp: &str| {
        let text = format!("build:\n  comp: {comp}\n");
        (format!("{level} file {}", house.write(path, text).display()), comp.to_owned())
    };
    let show = |house: &House| shown(&house.ovl(&["config", "show", "--json"]).ok(), "build.comp");
    assert_eq!(show(&house), ("zstd:3".into(), "default".into()));
    let layers = format!(
        "layers:\n  group: {}\n  site: {}:ro\nbuild:\n  comp: gzip:1\n",
        house.path("group").display(),
        house.path("site").display()
    );
    let system = house.write("etc.yaml", &layers);
    assert_eq!(show(&house), ("gzip:1".into(), format!("system file {}", system.display())));
    let weakest_first = [
        file("site", "site/config.yaml", "gzip:2"),
        file("group", "group/config.yaml", "gzip:3"),
        file("user", "home/.config/ovl/config.yaml", "gzip:4"),
    ];
    // All are there: each in turn is the strongest once those above it are gone.
    for (origin, comp) in weakest_first.iter().rev() {
        assert_eq!(show(&house), (comp.clone(), origin.clone()));
        std::fs::remove_file(origin.split_once(" file ").unwrap().1).unwrap();
    }
    let (_, comp) = file("user", "home/.config/ovl/config.yaml", "gzip:4");
    assert_eq!(comp, "gzip:4");
    let variable = [("OVL_BUILD_COMP", "gzip:5")];
    let run = house.ovl_with(&variable, &["config", "show", "--json"]).ok();
    assert_eq!(shown(&run, "build.comp"), ("gzip:5".into(), "$OVL_BUILD_COMP".into()));
    // A flag is stronger than all of them.
    let built = house.ovl_with(&variable, &["build", "-q", "--comp", "xz", "hello/1.0"]).ok();
    assert!(built.stderr.is_empty());
    assert_eq!(house.ovl(&["info", "--json", "hello"]).ok().json()["squashfs"]["compression"], "xz");
    house.ovl_with(&variable, &["build", "-q", "-u", "hello/1.0"]).ok();
    assert_eq!(house.ovl(&["info", "--json", "hello"]).ok().json()["squashfs"]["compression"], "gzip");
    house.ovl(&["--color", "always", "config", "show", "--json"]).ok().prints("\"origin\": \"--color\"");
}

#[test]
fn the_files_are_listed_strongest_first() {
    let house = House::new();
    let site = house.path("site").display().to_string();
    house.write("site/config.yaml", "ui:\n  color: never\n");
    let run = house.ovl_with(&[("OVL_LAYERS_SITE", &site)], &["config", "path"]).ok();
    let rows: Vec<Vec<&str>> = run.stdout.lines().map(|line| line.split_whitespace().collect()).collect();
    assert_eq!(rows.iter().map(|row| row[0]).collect::<Vec<_>>(), ["user", "site", "system"]);
    assert_eq!((rows[1][2], rows[2][2..].join(" ").as_str()), ("read", "not there"));
    house.ovl_with(&[("OVL_LAYERS_SITE", &site)], &["config", "check"]).ok().prints("OK: ").prints("1 files read");
}

#[test]
fn the_example_file_is_what_the_program_prints_and_means_the_defaults() {
    let house = House::new();
    let example = std::fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join("config.yaml.example")).unwrap();
    let printed = house.ovl(&["config", "example"]).ok().stdout;
    assert_eq!(example, printed, "update it with: ovl config example > config.yaml.example");
    let defaults = house.ovl(&["config", "show", "--json"]).ok().json();
    house.write("home/.config/ovl/config.yaml", &example);
    let read = house.ovl(&["config", "show", "--json"]).ok().json();
    let mut from_file = 0;
    for (key, default) in defaults.as_object().unwrap() {
        assert_eq!(read[key]["value"], default["value"], "{key}");
        from_file += usize::from(read[key]["origin"].as_str().unwrap().starts_with("user file"));
        let leaf = key.rsplit('.').next().unwrap();
        assert!(
            example.lines().any(|line| line.trim_start_matches([' ', '#']).starts_with(&format!("{leaf}:"))),
            "{key}"
        );
    }
    assert!(from_file >= 18, "only {from_file} keys are set by the example");
    assert!(read.as_object().unwrap().len() == defaults.as_object().unwrap().len());
}

#[test]
fn mistakes_name_file_line_column_and_the_nearest_key() {
    let house = House::new();
    for (text, wanted) in [
        ("build:\n  compp: lz4\n", "config.yaml:2:3: unknown key 'build.compp'; did you mean 'build.comp'?"),
        ("zzz: 1\n", "config.yaml:1:1: unknown key 'zzz'"),
        ("build:\n  comp: lz4\n  comp: xz\n", "config.yaml:3:3: build: 'build.comp' is set twice"),
        ("build: [1]\n", "config.yaml:1:8: "),
        ("build:\n\tcomp: lz4\n", "config.yaml:2:1: "),
        ("build:\n  comp: zip\n", "config.yaml): unknown compressor 'zip'; known: zstd, lz4, gzip, xz"),
        ("build:\n  jobs: 99999999999\n", "'99999999999' is not a whole number"),
        ("build:\n  block_size: 100k\n", "'100k' is not a power of two"),
        ("ui:\n  color: true\n", "'true' is none of auto, always, never"),
        ("layers:\n  user: rel\n", "layers.user (from user file "),
        ("layers:\n  extra: [\"$NOPE/x\"]\n", "the variable 'NOPE' is not set"),
    ] {
        house.write("home/.config/ovl/config.yaml", text);
        for args in [&["config", "check"][..], &["list"]] {
            house.ovl(args).code(4).says(wanted);
        }
    }
    house.write("home/.config/ovl/config.yaml", b"ui:\n  color: \xff\n");
    house.ovl(&["list"]).code(4).says("it is not UTF-8");
    house.write("home/.config/ovl/config.yaml", "# nothing\n");
    house.ovl(&["list"]).ok();
    house.ovl(&["config", "get", "build.compp"]).code(4).says("did you mean build.comp?");
    assert_eq!(house.ovl(&["config", "get", "build.comp"]).ok().stdout, "zstd:3\n");
}

#[test]
fn variables_are_checked_and_misspelt_ones_are_told() {
    let house = House::new();
    house.ovl_with(&[("OVL_BUILD_COMP", "zip")], &["list"]).code(4).says("build.comp (from $OVL_BUILD_COMP): unknown");
    let run = house.ovl_with(&[("OVL_BUILD_COMPP", "lz4"), ("OVL_OTHER", "x")], &["list"]).ok();
    run.says("the variable OVL_BUILD_COMPP sets no key that ovl knows; did you mean OVL_BUILD_COMP?")
        .keeps_quiet_about("OVL_OTHER");
    let extra = house.ovl_with(&[("OVL_LAYERS_EXTRA", "/a:ro:/b")], &["config", "get", "layers.extra"]).ok();
    assert_eq!(extra.stdout, "/a:ro\n/b\n");
    house.ovl_with(&[("OVL_BUILD_COMP", "")], &["config", "get", "build.comp"]).ok().prints("zstd:3");
    house.ovl_with(&[("OVL_CONFIG", "/nope/x.yaml")], &["list"]).code(4).says("$OVL_CONFIG names this file");
    let own = house.write("work/own.yaml", "build:\n  jobs: 3\n");
    let run = house.ovl_with(&[("OVL_CONFIG", own.to_str().unwrap())], &["config", "get", "build.jobs"]).ok();
    assert_eq!(run.stdout, "3\n");
}

#[test]
fn keys_of_condatainer_are_read_or_passed_over_with_a_warning() {
    let house = House::new();
    house.write("home/.config/ovl/config.yaml", "apptainer_bin: /x\nextra_base_dirs: [/a]\nbuild:\n  ncpus: 7\n");
    let run = house.ovl(&["config", "show", "--json"]).ok();
    assert_eq!((shown(&run, "layers.extra").0.as_str(), shown(&run, "build.defaults.cpus").0.as_str()), ("/a", "7"));
    run.says("'apptainer_bin' is a key of CondaTainer");
}

#[test]
fn without_home_or_with_an_odd_one_the_account_tells() {
    let house = House::new();
    for home in [None, Some("relative")] {
        let mut command = house.ovl_command(&["config", "get", "layers.user"]);
        match home {
            None => command.env_remove("HOME"),
            Some(home) => command.env("HOME", home),
        };
        let run = crate::support::house::finish(command).ok();
        let path = run.stdout.strip_suffix("/.local/share/ovl\n").unwrap();
        assert!(path.starts_with('/') && path != house.path("home").to_str().unwrap(), "{path}");
    }
    let data = house.path("data").display().to_string();
    let run = house.ovl_with(&[("XDG_DATA_HOME", &data)], &["config", "get", "layers.user"]).ok();
    assert_eq!(run.stdout, format!("{data}/ovl\n"));
}
