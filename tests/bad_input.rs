//! Bad input: each gives its exit code and a sentence that names the thing and the place, and never a panic.

use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use crate::support::house::{House, finish, script};

const INSTALL: &str = "install() { echo x > $target_dir/f; }\n";

/// Nothing of a failed build may be left: no image, no claim, no working directory, no process.
#[track_caller]
fn nothing_left(house: &House) {
    let images = house.names("home/.local/share/ovl/images");
    assert!(images.is_empty(), "left: {images:?}");
    let scratch = house.names("scratch");
    assert!(scratch.is_empty(), "left: {scratch:?}");
    house.settle();
}

#[test]
fn recipes() {
    let house = House::new();
    let with = |headers: &str| format!("#WHATIS:t\n{headers}\n{INSTALL}").into_bytes();
    let long =
        |start: &str| [b"#WHATIS:t\n", start.as_bytes(), &vec![b'x'; 1_000_000], b"\n", INSTALL.as_bytes()].concat();
    let table: Vec<(&str, Vec<u8>, i32, &str)> = vec![
        ("empty", vec![], 4, "r/empty:1:1: error[OVL001]: the recipe is empty"),
        ("missing-install", b"#WHATIS:t\necho hi\n".to_vec(), 4, "defines neither install() nor install_app()"),
        (
            "crlf",
            with("#ENV:A=b").iter().flat_map(|b| if *b == b'\n' { vec![b'\r', b'\n'] } else { vec![*b] }).collect(),
            4,
            "3 lines end in CRLF",
        ),
        ("nul", b"#WHATIS:t\ninstall() {\n  echo a\0b\n}\n".to_vec(), 4, "r/nul:3:9: error[OVL003]: a NUL byte"),
        (
            "not-utf8",
            b"#WHATIS:t \xff\ninstall() {\n:\n}\n".to_vec(),
            4,
            "r/not-utf8:1:11: error[OVL002]: byte 0xff is not UTF-8",
        ),
        ("elf", b"\x7fELF\x02\x01\x01\0\0".to_vec(), 4, "a NUL byte: this is no shell script"),
        ("long-header", long("#ENV:A="), 4, "r/long-header:2:1: error[OVL005]: the line has 1000007 characters"),
        ("long-comment", long("# "), 4, "error[OVL005]: the line has 1000002 characters"),
        ("huge", vec![b'#'; 5 << 20], 4, "r/huge: 5242880 bytes are no recipe"),
        ("unknown-dependency", with("#DEP:no/such"), 4, "r/unknown-dependency:2:1: unknown dependency no/such"),
        ("cycle-a", with("#DEP:r/cycle-b"), 4, "a cycle: r/cycle-a → r/cycle-b → r/cycle-c → r/cycle-a"),
        ("cycle-b", with("#DEP:r/cycle-c"), 4, "form a cycle: r/cycle-b → r/cycle-c → r/cycle-a → r/cycle-b"),
        ("cycle-c", with("#DEP:r/cycle-a"), 4, "form a cycle"),
        ("self", with("#DEP:r/self"), 4, "form a cycle: r/self → r/self"),
        (
            "no-version",
            with("#DEP:hello"),
            4,
            "r/no-version:2:6: error[OVL014]: #DEP: 'hello' is not a name: it needs a version",
        ),
        ("bad-version", with("#DEP:hello/!!"), 4, "r/bad-version:2:6: error[OVL014]: #DEP: "),
        ("no-minimum", with("#DEP:hello/1.0>="), 4, "'' is not a version: it is empty"),
        ("above", with("#DEP:hello/1.0>=2.0"), 4, "'hello/1.0>=2.0' can never be satisfied"),
        ("no-colon", with("#DEP hello/1.0"), 4, "r/no-colon:2:1: error[OVL010]: #DEP has no colon"),
        ("indented", with("  #ENV:A=b"), 4, "r/indented:2:3: error[OVL011]: #ENV: is indented"),
        ("env-name", with("#ENV:1A=b"), 4, "r/env-name:2:6: error[OVL014]: #ENV: '1A' cannot be a variable's name"),
        ("env-value", with("#ENV:A"), 4, "#ENV: it has no '='"),
        ("net", with("#NET:maybe"), 4, "#NET: 'maybe' is no network"),
        ("timeout", with("#TIMEOUT:soon"), 4, "#TIMEOUT: 'soon' is not a time"),
        ("type", with("#TYPE:thing"), 4, "#TYPE: 'thing' is no type"),
        (
            "unsupported",
            with("#CACHE:/x"),
            7,
            "r/unsupported:2:1: #CACHE: is understood, but this version of ovl cannot carry it out",
        ),
        ("syntax", b"#WHATIS:t\ninstall() { echo \"x\n".to_vec(), 2, "r/syntax: failed in phase install: exit code 2"),
        ("fails", b"#WHATIS:t\ninstall() { exit 3; }\n".to_vec(), 2, "r/fails: failed in phase install: exit code 3"),
        ("killed", b"#WHATIS:t\ninstall() { kill -9 $$; }\n".to_vec(), 2, "hint: something was killed"),
        (
            "nothing",
            b"#WHATIS:t\ninstall() { :; }\n".to_vec(),
            2,
            "r/nothing: install() left $target_dir (/cnt/r/nothing) empty",
        ),
        (
            "slow",
            b"#WHATIS:t\n#TIMEOUT:1s\ninstall() { sleep 60; }\n".to_vec(),
            124,
            "r/slow: the time limit of 1.0s was reached in phase install",
        ),
    ];
    for (name, text, _, _) in &table {
        house.recipe(&format!("r/{name}"), text);
    }
    for (name, _, code, sentence) in &table {
        let run = house.ovl(&["build", &format!("r/{name}")]).code(*code).says("error: ").says(sentence);
        assert!(run.stdout.is_empty(), "{run:#?}");
        assert!(run.stderr.len() < 3000, "{name}: a message must be read by people, not {} bytes", run.stderr.len());
        // A mistake in the text is found without building; nothing is told twice.
        if sentence.contains("error[") {
            house.ovl(&["check", &format!("r/{name}")]).code(4).prints(sentence);
            assert_eq!(run.stderr.matches(sentence).count(), 1, "{run:#?}");
        }
        for line in run.stderr.lines().filter(|line| line.contains("hint: ")) {
            assert_eq!(run.stderr.matches(line.trim()).count(), 1, "told twice: {run:#?}");
        }
    }
    nothing_left(&house);
}

#[test]
fn what_is_no_recipe_file() {
    let house = House::new();
    let scripts = house.layer().join("build-scripts");
    let closed = house.recipe("r/closed", script("", "touch $target_dir/f"));
    std::fs::set_permissions(&closed, std::fs::Permissions::from_mode(0o0)).unwrap();
    house.make("home/.local/share/ovl/build-scripts/r/dir");
    std::os::unix::fs::symlink("/nope", scripts.join("r/dangling")).unwrap();
    std::os::unix::fs::symlink("loop", scripts.join("r/loop")).unwrap();
    finish({
        let mut command = house.command("mkfifo");
        command.arg(scripts.join("r/pipe"));
        command
    })
    .ok();
    for (name, code, sentence) in [
        ("closed", 4, "r/closed: Permission denied"),
        ("dir", 4, "there is no recipe for r/dir"),
        ("dangling", 4, "there is no recipe for r/dangling"),
        ("loop", 1, "r/loop: Too many levels of symbolic links"),
        ("pipe", 4, "r/pipe: a recipe is a file, this is a device, pipe or socket"),
    ] {
        house.ovl(&["build", &format!("r/{name}")]).code(code).says(sentence);
    }
    for (path, sentence) in [
        (scripts.join("r"), "a recipe is a file, this is a directory"),
        (scripts.join("r/pipe"), "a recipe is a file, this is a device, pipe or socket"),
        ("/dev/zero".into(), "a recipe is a file, this is a device, pipe or socket"),
        (closed, "Permission denied"),
        ("/nope".into(), "cannot look at /nope: No such file or directory"),
    ] {
        house.ovl(&["build", "x/1", "-f", path.to_str().unwrap()]).code(4).says(sentence);
    }
    house.ovl(&["check", "/dev/null"]).code(4).says("this is a device, pipe or socket");
    house.ovl(&["check", "/nope"]).code(4).says("/nope: neither a file nor a name of a recipe");
    nothing_left(&house);
}

#[test]
fn names() {
    let house = House::new();
    for (name, sentence) in [
        ("", "'' is not a name: it needs a version"),
        ("hello", "'hello' is not a name: it needs a version, as in samtools/1.22"),
        ("hello/", "a part of it is empty"),
        ("/hello/1.0", "a part of it is empty"),
        ("a/b/c/d/e", "it has more than four parts"),
        ("../x/1", "'..' begins with '.'"),
        ("hello/..", "'..' begins with '.'"),
        ("hello/1.0;id", "';' cannot be part of it"),
        ("hélo/1", "'é' cannot be part of it"),
        ("a/1\n2", "'\\n' cannot be part of it"),
        ("hello/>=1", "'>' cannot be part of it"),
    ] {
        for command in ["build", "rm", "rollback"] {
            house.ovl(&[command, name]).code(4).says(sentence);
        }
    }
    let long = format!("{}/1", "x".repeat(300));
    house.ovl(&["build", &long]).code(4).says("it is longer than 180 bytes");
    house.ovl(&["build", "helo/1.0"]).code(4).says("there is no recipe for helo/1.0").says("did you mean hello/1.0?");
    house.ovl(&["build", "hello/9"]).code(4).says("did you mean hello/1.0?");
    house
        .ovl(&["exec", "-o", "nosuch/1", "x"])
        .code(4)
        .says("there is no overlay 'nosuch/1'")
        .says("ovl build nosuch/1");
    house.ovl(&["info", "nosuch"]).code(4).says("there is no overlay 'nosuch'").says("ovl list");
    nothing_left(&house);
}

#[test]
fn flags() {
    let house = House::new();
    for (args, code, sentence) in [
        (&[][..], 4, "Usage: ovl"),
        (&["nosuch"], 4, "unrecognized subcommand 'nosuch'"),
        (&["build"], 4, "<NAME>..."),
        (&["build", "hello/1.0", "--comp", "zip"], 4, "build.comp (from --comp): unknown compressor 'zip'"),
        (&["build", "hello/1.0", "--block-size", "3k"], 4, "--block-size: '3k' is not a power of two"),
        (&["build", "hello/1.0", "--timeout", "x"], 4, "--timeout: 'x' is not a time"),
        (&["build", "hello/1.0", "-j", "x"], 4, "invalid value 'x' for '--jobs <N>'"),
        (&["build", "hello/1.0", "--progress", "x"], 4, "ui.progress (from --progress): 'x' is none of"),
        (&["build", "hello/1.0", "--stage", "x"], 4, "build.stage (from --stage): 'x' is none of auto, dir, ext3"),
        (&["build", "hello/1.0", "--layer", "zzz"], 4, "there is no layer 'zzz'"),
        (&["build", "hello/1.0", "--answers-file", "/nope"], 4, "--answers-file: cannot read /nope"),
        (&["build", "hello/1.0", "samtools/1.22", "-f", "x"], 4, "--file gives the recipe of one overlay"),
        (&["build", "hello/1.0", "--when-free"], 4, "--update"),
        (&["build", "hello/1.0", "--scratch", "/nope"], 7, "the scratch directory /nope is not there"),
        (
            &["build", "hello/1.0", "--scratch", "/proc"],
            7,
            "the scratch directory /proc is not there or cannot be written to",
        ),
        (&["-q", "-v", "list"], 4, "cannot be used with"),
        (&["--color", "sometimes", "list"], 4, "[possible values: auto, always, never]"),
        (&["completion", "nosh"], 4, "[possible values: bash"),
        (&["internal", "sandbox", "3", "4"], 1, "error: "),
        (&["export", "nosuch/1"], 4, "there is no overlay 'nosuch/1'"),
    ] {
        house.ovl(args).code(code).says(sentence);
    }
    nothing_left(&house);
}

#[test]
fn places_that_cannot_be_written() {
    let house = House::new();
    let file = house.write("work/file", "").display().to_string();
    house.make("closed/images");
    std::fs::set_permissions(house.path("closed/images"), std::fs::Permissions::from_mode(0o555)).unwrap();
    let closed = house.path("closed").display().to_string();
    for (layer, reason) in [
        (file.clone(), format!("cannot use {file}: not a directory")),
        ("/proc/x".into(), "cannot create directory /proc/x".into()),
        (closed.clone(), format!("cannot write to {closed}/images: Permission denied")),
        (format!("{closed}:ro"), format!("{closed} is marked :ro")),
    ] {
        let run = house.ovl_with(&[("OVL_LAYERS_USER", &layer)], &["build", "hello/1.0"]).code(7);
        run.says("error: no layer can be written to: ").says(&reason);
        house.ovl_with(&[("OVL_LAYERS_USER", &layer)], &["list"]).ok();
    }
    let run = house.ovl_with(&[("OVL_DIRS_STATE", "/proc/x")], &["build", "hello/1.0"]).code(7);
    run.says("no record of the run can be kept: cannot create directory /proc/x").says("dirs.state");
    house.ovl(&["build", "-q", "hello/1.0"]).ok();
    house.ovl(&["export", "hello", "-o", "/nope/x"]).code(1).says("cannot create /nope/x: No such file");
    house.ovl(&["rm", "-y", "hello/1.0"]).ok();
    nothing_left(&house);
}

/// A file system of `size` that everybody may write to, gone when dropped; None where it cannot be made.
struct Full(std::path::PathBuf);

impl Full {
    fn new(house: &House, size: &str) -> Option<Full> {
        let at = house.make("full");
        let mounted = std::process::Command::new("mount")
            .args(["-t", "tmpfs", "-o", &format!("size={size},mode=777"), "tmpfs"])
            .arg(&at)
            .stderr(std::process::Stdio::null())
            .status();
        if !mounted.is_ok_and(|status| status.success()) {
            eprintln!("skipped: a small file system can only be mounted by root");
            return None;
        }
        Some(Full(at))
    }

    fn files(&self) -> Vec<String> {
        let found = std::process::Command::new("find").arg(&self.0).args(["-type", "f"]).output().unwrap();
        String::from_utf8(found.stdout).unwrap().lines().map(str::to_owned).collect()
    }
}

impl Drop for Full {
    fn drop(&mut self) {
        let _ = std::process::Command::new("umount").arg("-l").arg(&self.0).status();
    }
}

#[test]
fn full_disks() {
    let house = House::new();
    house.recipe("big/1", script("", "head -c 3000000 /dev/urandom > $target_dir/f"));
    let Some(full) = Full::new(&house, "1m") else { return };
    let at = |path: &Path| path.display().to_string();
    let place = at(&full.0);
    let layer = at(&full.0.join("layer"));
    let in_layer = [("OVL_LAYERS_USER", layer.as_str())];
    let recipe = at(&house.layer().join("build-scripts/big/1"));
    let on_scratch = ["build", "big/1", "--scratch", &place];
    // While the script writes, while the image is written, and before anything is.
    house.ovl(&on_scratch).code(2).says("No space left on device").says("the scratch directory is full");
    house.ovl_with(&in_layer, &["build", "big/1", "-f", &recipe]).code(2).says("big/1: cannot pack: ").says("is full");
    assert!(full.files().is_empty(), "left: {:?}", full.files());
    let _ = std::fs::write(full.0.join("filler"), vec![1; 2 << 20]);
    house.ovl(&on_scratch).code(2).says("No space left on device").says("is full");
    house.ovl_with(&in_layer, &["build", "hello/1.0"]).code(2).says("No space left on device").says("is full");
    let ext3 = ["build", "hello/1.0", "--stage", "ext3", "--scratch", &place];
    house.ovl(&ext3).code(2).says("No space left on device");
    assert_eq!(full.files(), [at(&full.0.join("filler"))]);
    // A log that cannot be written is no reason to fail.
    let state = at(&full.0.join("state"));
    house.ovl_with(&[("OVL_DIRS_STATE", &state)], &["build", "hello/1.0"]).ok();
    house.ovl(&["export", "hello", "-o", &at(&full.0.join("x"))]).code(1).says("full/x: No space left on device");
    house.ovl(&["rm", "-y", "hello/1.0"]).ok();
    nothing_left(&house);
}
