//! The everyday commands: list, info, avail, rm, rollback, check, export, with their JSON, on good and odd layers.

use std::os::unix::fs::{MetadataExt, PermissionsExt};

use serde_json::Value;

use crate::support::house::{House, finish, script};

const PROGRAM: &str = "#!/bin/sh\necho foreign\n";

fn simple() -> String {
    script("", "echo x > $target_dir/f")
}

/// The values of one field in a list of objects.
fn column<'a>(list: &'a Value, field: &str) -> Vec<&'a str> {
    list.as_array().unwrap().iter().map(|item| item[field].as_str().unwrap_or("-")).collect()
}

#[test]
fn names_are_understood_in_all_spellings() {
    let house = House::new();
    house.recipe("g/d/47", simple());
    for name in ["g=d=47", "g@d@47", "g--d--47", "g/d=47"] {
        house.ovl(&["build", name]).ok().says("g/d/47: ");
        house.ovl(&["info", name]).ok().prints("mounts at     /cnt/g/d/47");
        house.ovl(&["exec", "-o", name, "cat", "/cnt/g/d/47/f"]).ok().prints("x");
        house.ovl(&["list", name]).ok().prints("g/d/47");
        house.ovl(&["avail", name]).ok().prints("g/d/47  installed");
        house.ovl(&["check", name]).ok().prints("OK: ");
        house.ovl(&["export", name]).ok().prints("install() {");
    }
    // Without a version the newest one is meant, but nothing is removed or rolled back on a guess.
    house.ovl(&["info", "g/d"]).ok().prints("/cnt/g/d/47");
    house.ovl(&["rm", "-y", "g"]).code(4).says("it needs a version").says("ovl list");
    house.ovl(&["rollback", "g"]).code(4).says("it needs a version").says("ovl list");
    house.ovl(&["rm", "-y", "g--d--47", "g/d/47"]).ok().says("removed g/d/47");
    assert!(house.names("home/.local/share/ovl/images").is_empty());
}

#[test]
fn the_newest_version_is_the_newest_not_the_last_in_the_alphabet() {
    let house = House::new();
    for version in ["1.9", "1.10", "1.10rc1"] {
        house.recipe(&format!("t/{version}"), simple());
        house.ovl(&["build", "-q", &format!("t/{version}")]).ok();
    }
    assert_eq!(house.ovl(&["list"]).ok().stdout, "t/1.9\nt/1.10rc1\nt/1.10\n");
    house.ovl(&["info", "t"]).ok().prints("name          t/1.10\n");
}

#[test]
fn json_of_every_command_that_has_it() {
    let house = House::new();
    let built = house.ovl(&["build", "--json", "hello/1.0"]).ok().json();
    assert_eq!(column(&built, "outcome"), ["built"]);
    assert_eq!(column(&house.ovl(&["build", "--json", "hello/1.0"]).ok().json(), "outcome"), ["up_to_date"]);
    let dry = house.ovl(&["build", "--json", "--dry-run", "toy/genome/1"]).ok().json();
    assert_eq!(column(&dry["steps"], "name"), ["samtools/1.22", "toy/genome/1"]);
    let list = house.ovl(&["list", "--json"]).ok().json();
    assert_eq!((column(&list, "name"), column(&list, "layer")), (vec!["hello/1.0"], vec!["user"]));
    assert!(list[0]["bytes"].as_u64().unwrap() > 0 && list[0]["hidden"] == false && list[0]["error"].is_null());
    assert_eq!(house.ovl(&["list", "--json", "nothing"]).ok().json(), serde_json::json!([]));
    let info = house.ovl(&["info", "--json", "hello"]).ok().json();
    assert_eq!(info["digest"], built[0]["digest"]);
    assert_eq!((&info["mounts"][0], &info["in_use"]), (&Value::from("/cnt/hello/1.0"), &Value::from("no")));
    assert_eq!(info["env"][0]["value"], "$app_root", "values stay symbolic");
    let avail = house.ovl(&["avail", "--json", "hello"]).ok().json();
    assert_eq!((&avail[0]["layer"], &avail[0]["installed"]), (&Value::from("built-in"), &Value::from(true)));
    let bad = house.write("work/bad", "#DEP hello/1.0\n");
    let findings = house.ovl(&["check", "--json", bad.to_str().unwrap()]).code(4).json();
    let findings = findings.as_array().unwrap();
    let finding = findings.iter().find(|finding| finding["id"] == "OVL010").unwrap();
    assert_eq!((finding["line"].as_u64(), finding["severity"].as_str()), (Some(1), Some("error")));
    assert!(house.ovl(&["doctor", "--json"]).ok().json().as_array().is_some_and(|list| list.len() > 10));
    let show = house.ovl(&["config", "show", "--json"]).ok().json();
    assert_eq!(show["build.comp"], serde_json::json!({ "value": ["zstd:3"], "origin": "default" }));
    // Events are one JSON object a line, on standard error.
    let run = house.ovl(&["build", "-u", "--progress", "json", "hello/1.0"]).ok();
    let events: Vec<Value> = run.stderr.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    assert_eq!(events.last().unwrap()["outcome"], "built");
}

#[test]
fn patterns_find_by_part_wildcard_regex_and_description() {
    let house = House::new();
    let found = |args: &[&str]| house.ovl(&[&["avail"], args].concat()).ok().stdout;
    assert_eq!(found(&["TOOLS"]), "samtools/1.22\n");
    assert_eq!(found(&["h*/1.?"]), "hello/1.0\n");
    assert_eq!(found(&["-r", "^sam.*22$"]), "samtools/1.22\n");
    assert!(found(&["-w", "greeting"]).starts_with("hello/1.0  "));
    assert_eq!(found(&["greeting"]), "");
    house.ovl(&["avail", "-r", "("]).code(4).says("no regular expression");
}

#[test]
fn damaged_images_hide_nothing_else_and_are_told() {
    let house = House::new();
    house.ovl(&["build", "-q", "hello/1.0"]).ok();
    let whole = std::fs::read(house.image("hello/1.0")).unwrap();
    house.write("home/.local/share/ovl/images/garbage--1.sqf", vec![7; 5000]);
    house.write("home/.local/share/ovl/images/empty--1.sqf", "");
    house.write("home/.local/share/ovl/images/cut--1.sqf", &whole[..1000]);
    house.make("home/.local/share/ovl/images/dir--1.sqf");
    house.write("home/.local/share/ovl/images/no name.sqf", "");
    let list = house.ovl(&["list"]).ok();
    assert_eq!(list.stdout, "cut/1\ndir/1\nempty/1\ngarbage/1\nhello/1.0\n");
    let list = house.ovl(&["list", "--json"]).ok().json();
    let broken: Vec<bool> = list.as_array().unwrap().iter().map(|item| item["error"].is_string()).collect();
    assert_eq!(broken, [true, true, true, true, false]);
    for (name, why) in [("garbage", "no squashfs"), ("empty", "too short"), ("cut", "cut short"), ("dir", "directory")]
    {
        let file = format!("{name}--1.sqf: damaged image");
        house.ovl(&["info", name]).code(1).says(&file).says(why);
        house.ovl(&["exec", "-o", name, "true"]).code(1).says(&file);
        house.ovl(&["export", name]).code(1).says(&file);
    }
    // A damaged overlay counts as not there: building it needs no --update.
    house.write("home/.local/share/ovl/images/hello--1.0.sqf", &whole[..1000]);
    house
        .ovl(&["build", "hello/1.0"])
        .ok()
        .says("hello/1.0: built")
        .says("the file that is there is no readable image");
    assert!(whole == std::fs::read(house.image("hello/1.0")).unwrap());
}

#[test]
fn images_of_others_are_used_as_they_are() {
    let house = House::new();
    let files = [("cnt/x/1/bin/prog", PROGRAM), ("cnt/g/data/3/bin/prog3", PROGRAM)];
    house.foreign("home/.local/share/ovl/images/x--1.sqf", &files);
    assert_eq!(house.ovl(&["list"]).ok().stdout, "x/1\n");
    let info = house.ovl(&["info", "x/1"]).ok().prints("none: not built by ovl");
    let mounts: Vec<&str> = info.stdout.lines().filter_map(|line| line.strip_prefix("mounts at     ")).collect();
    assert_eq!(mounts, ["/cnt/x/1", "/cnt/g/data/3"]);
    house.ovl(&["exec", "-o", "x", "prog"]).ok().prints("foreign");
    house.ovl(&["exec", "-o", "x", "prog3"]).ok().prints("foreign");
    house.ovl(&["export", "x"]).code(4).says("carries no recipe");
    // Its variables can come from a file beside it.
    house.write("home/.local/share/ovl/images/x--1.sqf.env", "X_HOME=$app_root/share\nnot a variable\n");
    let run = house.ovl(&["exec", "-o", "x", "sh", "-c", "echo $X_HOME"]).ok();
    assert_eq!(run.stdout, "/cnt/g/data/3/share\n");
    run.says("x--1.sqf.env: line 2: 'not a variable' is not NAME=value");
}

#[test]
fn a_sidecar_shadows_what_is_inside_and_is_the_users_to_edit() {
    let house = House::new();
    house.recipe("s/1", script("#ENV:S_HOME=$app_root/inside", "touch $target_dir/f"));
    house.ovl(&["build", "-q", "s/1"]).ok();
    let sidecar = house.layer().join("images/s--1.sqf.env");
    let value = || house.ovl(&["exec", "-o", "s", "sh", "-c", "echo $S_HOME"]).ok();
    assert_eq!(value().stdout, "/cnt/s/1/inside\n");
    let text = std::fs::read_to_string(&sidecar).unwrap();
    let edited = text.replace("/inside", "/$(touch /tmp/ovl-never)`id`");
    std::fs::write(&sidecar, &edited).unwrap();
    assert_eq!(value().stdout, "/cnt/s/1/$(touch /tmp/ovl-never)`id`\n");
    assert!(!std::path::Path::new("/tmp/ovl-never").exists());
    // Of another build: told and passed over, and put right by the next build.
    std::fs::write(&sidecar, edited.replace("# key: sha256:", "# key: sha256:0")).unwrap();
    assert_eq!(value().says("belongs to another build").stdout, "/cnt/s/1/inside\n");
    house.ovl(&["build", "s/1"]).ok().says("up to date");
    assert_eq!(std::fs::read_to_string(&sidecar).unwrap(), text);
    std::fs::remove_file(&sidecar).unwrap();
    assert_eq!(value().stdout, "/cnt/s/1/inside\n");
    house.ovl(&["build", "s/1"]).ok();
    assert_eq!(std::fs::read_to_string(&sidecar).unwrap(), text);
    // The user's own words stay, even with a mistake in them.
    std::fs::write(&sidecar, "S_HOME=mine\noops\n").unwrap();
    house.ovl(&["build", "s/1"]).ok();
    assert_eq!(std::fs::read_to_string(&sidecar).unwrap(), "S_HOME=mine\noops\n");
}

#[test]
fn files_are_found_by_path_and_renamed_ones_are_told() {
    let house = House::new();
    house.ovl(&["build", "-q", "hello/1.0"]).ok();
    let image = house.image("hello/1.0");
    std::fs::copy(&image, house.path("work/free.sqf")).unwrap();
    std::fs::copy(&image, house.path("work/free.img")).unwrap();
    std::fs::copy(&image, house.path("work/free.image")).unwrap();
    std::fs::copy(&image, house.layer().join("images/other--2.sqf")).unwrap();
    for spelling in ["free.sqf", "./free.sqf", "./free.img", house.path("work/free.img").to_str().unwrap()] {
        house.ovl(&["exec", "-o", spelling, "hello"]).ok().prints("Hello, world!");
    }
    house.ovl(&["e", "free.img", "--", "hello"]).ok().prints("Hello, world!");
    house.ovl(&["e", "free.image"]).code(4).says("there is a file of this name: ./free.image");
    house.ovl(&["info", "./nope.sqf"]).code(4).says("/work/nope.sqf: No such file");
    house.ovl(&["info", "other/2"]).ok().says("the file is called other/2, but hello/1.0 is in it");
    house.ovl(&["info", "hello/1.0"]).ok().keeps_quiet_about("is called");
}

#[test]
fn layers_hide_each_other_in_their_order() {
    let house = House::new();
    let site = house.path("site").display().to_string();
    let in_site = [("OVL_LAYERS_USER", "/nonexistent"), ("OVL_LAYERS_SITE", &site)];
    house.ovl_with(&in_site, &["build", "-q", "hello/1.0"]).ok().prints("/site/images/hello--1.0.sqf");
    let both = [("OVL_LAYERS_SITE", site.as_str())];
    house.ovl_with(&both, &["build", "hello/1.0"]).ok().says("up to date").prints("/site/images/");
    house
        .ovl_with(&both, &["build", "-q", "--layer", "user", "hello/1.0"])
        .ok()
        .prints("/home/.local/share/ovl/images/");
    house
        .ovl_with(&both, &["build", "--layer", "zzz", "hello/1.0"])
        .code(4)
        .says("there is no layer 'zzz'; known: user (");
    assert_eq!(house.ovl_with(&both, &["list"]).ok().stdout, "hello/1.0\n");
    let long = house.ovl_with(&both, &["list", "-l"]).ok().prints("site  hidden by the one above");
    assert_eq!(long.stdout.lines().count(), 2);
    house.recipe("hello/1.0", simple());
    house.ovl_with(&both, &["avail", "--json", "hello"]).ok().prints("\"layer\": \"user\"");
    // What is marked :ro is left alone by every command.
    let marked = format!("{site}:ro");
    let marked = [("OVL_LAYERS_USER", "/nonexistent"), ("OVL_LAYERS_SITE", marked.as_str())];
    house.ovl_with(&marked, &["info", "hello"]).ok().prints("/site/images/");
    for args in [["rm", "-y", "hello/1.0"], ["rollback", "-n", "hello/1.0"]] {
        house.ovl_with(&marked, &args).code(7).says("is marked :ro");
    }
    house.ovl_with(&marked, &["build", "-u", "hello/1.0"]).code(7).says("/site is marked :ro");
    assert_eq!(house.names("site/images"), ["hello--1.0.sqf", "hello--1.0.sqf.env"]);
}

#[test]
fn a_groups_directories_and_files_stay_the_groups_whatever_the_umask() {
    let house = House::new();
    let group = house.path("group");
    std::fs::set_permissions(&group, std::fs::Permissions::from_mode(0o2775)).unwrap();
    let line = "umask 077; $OVL build -q --layer group hello/1.0 && $OVL build -q -u --layer group hello/1.0";
    let mut shell = house.command("sh");
    shell.args(["-c", line]).env("OVL", crate::support::house::program()).env("OVL_LAYERS_GROUP", &group);
    finish(shell).ok();
    for (path, wanted) in [
        ("group/images", 0o2070),
        ("group/images/.previous", 0o2070),
        ("group/images/hello--1.0.sqf", 0o060),
        ("group/images/hello--1.0.sqf.env", 0o060),
        ("group/images/.previous/hello--1.0.sqf", 0o060),
    ] {
        let mode = std::fs::metadata(house.path(path)).unwrap().mode();
        assert_eq!(mode & wanted, wanted, "{path} has mode {mode:o}");
    }
}

#[test]
fn what_cannot_be_looked_into_hides_nothing_else() {
    let house = House::new();
    house.ovl(&["build", "-q", "hello/1.0"]).ok();
    house.recipe("secret/1", simple());
    let scripts = house.layer().join("build-scripts");
    std::os::unix::fs::symlink("loop", scripts.join("loop")).unwrap();
    house.write("site/config.yaml", "ui:\n  color: never\n");
    house.make("site/images");
    // Root may look everywhere, so this is the user's: closed to its own owner.
    for closed in [scripts.join("secret"), house.path("site/images"), house.path("site/config.yaml")] {
        std::fs::set_permissions(closed, std::fs::Permissions::from_mode(0o0)).unwrap();
    }
    let site = house.path("site").display().to_string();
    let vars = [("OVL_LAYERS_SITE", site.as_str())];
    let avail = house.ovl_with(&vars, &["avail"]).ok().prints("hello/1.0           installed");
    avail.says("build-scripts/secret: Permission denied").says("build-scripts/loop: Too many levels");
    let list = house.ovl_with(&vars, &["list"]).ok();
    assert_eq!(list.stdout, "hello/1.0\n");
    list.says("the site layer is left out: cannot look into ").says("site/config.yaml: Permission denied");
    house.ovl_with(&vars, &["exec", "-o", "hello", "hello"]).ok().prints("Hello");
    let scripts = scripts.display().to_string();
    house.ovl(&["check", &scripts]).code(4).says("loop: Too many levels").says("secret: Permission denied");
}

#[test]
fn removing_asks_and_a_closed_pipe_is_no_error() {
    let house = House::new();
    house.ovl(&["build", "-q", "hello/1.0"]).ok();
    house.ovl(&["rm", "hello/1.0"]).code(4).says("nobody is there to ask").says("ovl rm --yes hello/1.0");
    house.ovl(&["rm", "-n", "hello/1.0"]).ok().says("would remove").says("hello--1.0.sqf.env");
    house.on_terminal("$OVL rm hello/1.0", &["n\r"]).code(130).prints("remove 1 overlay? [y/N]");
    assert!(house.image("hello/1.0").exists());
    house.on_terminal("$OVL rm hello/1.0", &["y\r"]).ok().prints("removed hello/1.0");
    assert!(house.names("home/.local/share/ovl/images").is_empty());
    let mut shell = house.command("bash");
    shell.args(["-c", "$OVL config example | head -1; $OVL avail | head -1; $OVL completion bash | head -1"]);
    let run = finish({
        shell.env("OVL", crate::support::house::program());
        shell
    });
    assert_eq!((run.stderr.as_str(), run.stdout.lines().count()), ("", 3));
}

#[test]
fn colour_only_on_a_terminal_and_never_with_no_color() {
    let house = House::new();
    let red = "\x1b[1;31merror:";
    house.on_terminal("$OVL info nope", &[]).code(4).prints(red);
    for line in ["NO_COLOR=1 $OVL info nope", "TERM=dumb $OVL info nope", "$OVL --color never info nope"] {
        house.on_terminal(line, &[]).code(4).prints("error: there is no overlay 'nope'");
    }
    house.ovl(&["info", "nope"]).code(4).keeps_quiet_about("\x1b");
    house.ovl(&["--color", "always", "info", "nope"]).code(4).says(red);
    house.ovl(&["build", "--progress", "plain", "hello/1.0"]).ok().keeps_quiet_about("\x1b");
}

#[test]
fn questions_are_asked_on_the_terminal_and_ctrl_c_leaves_them() {
    let house = House::new();
    house.recipe("q/1", "#WHATIS:t\n#INTERACTIVE:Your link?\n#INTERACTIVE:Password?\ninstall() {\nread -r a; read -r b; echo \"$a|$b\" > $target_dir/f\n}\n");
    let run = house.on_terminal("$OVL build q/1", &["http://x\r", "hushed\r"]).ok().prints("q/1: Your link?");
    assert!(!run.stdout.contains("hushed"), "a secret is not echoed: {run:#?}");
    house.ovl(&["exec", "-o", "q", "cat", "/cnt/q/1/f"]).ok().prints("http://x|hushed");
    for keys in [&["\x03"][..], &["http://x\r", "\x03"]] {
        house.on_terminal("$OVL build -u q/1", keys).code(130).prints("q/1: interrupted; nothing was left behind");
    }
    house.recipe("slow/1", script("", "trap '' INT TERM; for i in $(seq 300); do echo line $i; sleep 0.1; done"));
    house.on_terminal("$OVL build slow/1", &["", "\x03"]).code(130).prints("slow/1: interrupted");
    assert!(house.names("scratch").is_empty());
    house.settle();
}
