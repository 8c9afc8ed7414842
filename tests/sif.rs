//! SIF files, hand-made and of the real Apptainer: told by `ovl info`, run by `ovl exec`.

use std::path::{Path, PathBuf};

use crate::running::system;
use crate::support::house::{House, finish};
use crate::support::sif::{self, LABELS, SIGNATURE, partition};

fn squash(house: &House, tree: &Path, image: &str) -> PathBuf {
    let image = house.path(image);
    let mut pack = house.command("mksquashfs");
    pack.arg(tree).arg(&image).args(["-quiet", "-no-progress", "-all-root", "-noappend"]);
    finish(pack).ok();
    image
}

/// A house with a small system as `base.sif`, and its squashfs.
fn house() -> (House, PathBuf) {
    let house = House::new();
    let tree = system(&house);
    house.write("system/usr/lib/os-release", "PRETTY_NAME=\"Tiny Linux 1\"\nID=tiny\n");
    house.write("system/cnt/tool/1.0/bin/tool", "#!/bin/sh\necho tool of the system\n");
    let tool = house.path("system/cnt/tool/1.0/bin/tool");
    std::fs::set_permissions(tool, std::os::unix::fs::PermissionsExt::from_mode(0o755)).unwrap();
    let image = squash(&house, &tree, "system.sqf");
    (house, image)
}

#[test]
fn a_sif_is_told_and_run() {
    let (house, image) = house();
    house.write("over/etc/which", "the overlay\n");
    house.write("over/etc/more", "more\n");
    let over = squash(&house, &house.path("over"), "over.sqf");
    let objects = [
        (LABELS, br#"{"org.author":"ann","n":3}"#.to_vec(), None),
        partition(&image, 1, 2),
        partition(&over, 1, 4),
        (SIGNATURE, b"signed".to_vec(), None),
    ];
    let base = house.write("work/base.sif", sif::bytes(&objects));
    let told = house.ovl(&["info", "base.sif"]).ok();
    for text in ["Tiny Linux 1", "org.author=ann", "n=3", "primary system partition: squashfs", "yes (not verified)"] {
        assert!(told.stdout.contains(text), "no {text} in {told:#?}");
    }
    let json = house.ovl(&["info", "--json", "base.sif"]).ok().json();
    assert_eq!(json["sif"]["system"]["ID"], "tiny");
    assert_eq!(json["sif"]["objects"][1]["partition"]["role"], "primary system");
    assert_eq!((&json["sif"]["signed"], &json["sif"]["trouble"]), (&true.into(), &serde_json::Value::Null));

    let base = base.to_str().unwrap();
    let exec = |args: &[&str]| house.ovl(&[&["exec", "--runtime", "native"], args].concat());
    assert_eq!(exec(&["--base", base, "cat", "/etc/which", "/etc/more"]).ok().stdout, "the overlay\nmore\n");
    exec(&["--base", base, "sh", "-c", "echo x > /etc/y"]).code(1).says("Read-only");
    // As an overlay over a directory: what lies below /cnt in it.
    let over_system = house.path("system").to_str().unwrap().to_owned();
    assert_eq!(exec(&["--base", &over_system, "-o", "base.sif", "tool"]).ok().stdout, "tool of the system\n");
    house.settle();
}

#[test]
fn an_ext3_overlay_in_a_sif_is_read_unless_somebody_writes_it() {
    let (house, image) = house();
    house.write("seed/upper/etc/more", "from ext3\n");
    house.write("seed/upper/etc/.wh.which", "");
    std::fs::create_dir_all(house.path("seed/work")).unwrap();
    let over = house.path("over.img");
    let mut make = house.command("mke2fs");
    make.args(["-q", "-F", "-t", "ext3", "-d"]).arg(house.path("seed")).arg(&over).arg("8M");
    finish(make).ok();
    let base = house.write("work/base.sif", sif::bytes(&[partition(&image, 1, 2), partition(&over, 2, 4)]));
    let run = || {
        let script = "cat /etc/more; test ! -e /etc/which";
        house.ovl(&["exec", "--runtime", "native", "--base", base.to_str().unwrap(), "sh", "-c", script])
    };
    assert_eq!(run().ok().stdout, "from ext3\n");
    let json = house.ovl(&["info", "--json", "base.sif"]).ok().json();
    let objects = json["sif"]["objects"].as_array().unwrap();
    let object = objects.iter().find(|object| object["partition"]["role"] == "overlay").unwrap();
    let held = std::fs::File::options().read(true).write(true).open(&base).unwrap();
    let lock = |kind: i32| {
        let lock = nix::libc::flock {
            l_type: kind as i16,
            l_whence: nix::libc::SEEK_SET as i16,
            l_start: object["offset"].as_i64().unwrap(),
            l_len: object["size"].as_i64().unwrap(),
            l_pid: 0,
        };
        nix::fcntl::fcntl(&held, nix::fcntl::FcntlArg::F_OFD_SETLK(&lock)).unwrap();
    };
    lock(nix::libc::F_WRLCK);
    run().code(6).says("base.sif is busy, somebody is writing to it");
    lock(nix::libc::F_RDLCK);
    assert_eq!(run().ok().stdout, "from ext3\n");
    house.settle();
}

#[test]
fn what_cannot_be_run_is_said() {
    let (house, image) = house();
    let run = |objects: &[sif::Object]| {
        house.write("work/x.sif", sif::bytes(objects));
        house.ovl(&["exec", "--runtime", "native", "--base", "x.sif", "true"]).code(1)
    };
    let mut encrypted = partition(&image, 5, 2);
    run(&[encrypted.clone()]).says("x.sif").says("encrypted").says("apptainer build --sandbox");
    encrypted.2 = Some((6, 2, sif::here()));
    run(&[encrypted]).says("encrypted");
    let foreign = if std::env::consts::ARCH == "s390x" { *b"04\0" } else { *b"11\0" };
    let mut other = partition(&image, 1, 2);
    other.2 = Some((1, 2, foreign));
    run(&[other]).says("the system in it is for");
    house.ovl(&["info", "x.sif"]).ok().says("it cannot be run here");
    house.ovl(&["pack", "x.sif"]).ok().says("warning").says("the system in it is for");
    run(&[(LABELS, b"{}".to_vec(), None)]).says("no primary system partition");
    let whole = sif::bytes(&[partition(&image, 1, 2)]);
    for length in [40, 130, 5000, 40000, whole.len() - 5000] {
        house.write("work/x.sif", &whole[..length]);
        house.ovl(&["exec", "--runtime", "native", "--base", "x.sif", "true"]).code(1).says("x.sif");
        let info = house.ovl(&["info", "x.sif"]);
        assert!(info.code <= 1 && !info.stderr.contains("panicked"), "{info:#?}");
    }
}

#[test]
fn files_of_the_real_apptainer() {
    let Some(root) = sif::real_apptainer() else { return };
    let (house, _) = house();
    let shared = house.path("");
    sif::in_apptainer(
        &root,
        &shared,
        "apptainer -q build -F real.sif system; \
         mkdir -p more/etc; echo added > more/etc/which; mksquashfs more more.sqf -quiet -no-progress; \
         cp real.sif over.sif; \
         apptainer sif add --datatype 4 --partfs 1 --parttype 4 --partarch 2 --groupid 1 over.sif more.sqf; \
         cp real.sif ext.sif; apptainer -q overlay create --size 64 ext.sif",
    );
    let json = house.ovl(&["info", "--json", house.path("real.sif").to_str().unwrap()]).ok().json();
    let listed = sif::in_apptainer(&root, &shared, "apptainer sif list real.sif");
    let objects = json["sif"]["objects"].as_array().unwrap();
    for object in objects {
        let at = object["offset"].as_u64().unwrap();
        let end = at + object["size"].as_u64().unwrap();
        assert!(listed.contains(&format!("{at}-{end}")), "no {at}-{end} in {listed}");
    }
    assert_eq!(listed.lines().filter(|line| line.contains('-') && line.contains("|1 ")).count(), objects.len());
    assert_eq!(json["sif"]["system"]["PRETTY_NAME"], "Tiny Linux 1");
    let which = |file: &str| {
        let file = house.path(file);
        house.ovl(&["exec", "--runtime", "native", "--base", file.to_str().unwrap(), "cat", "/etc/which"])
    };
    assert_eq!(which("real.sif").ok().stdout, "the base\n");
    assert_eq!(which("over.sif").ok().stdout, "added\n");
    let told = house.ovl(&["info", house.path("ext.sif").to_str().unwrap()]).ok();
    assert!(told.stdout.contains("overlay partition: ext3"), "{told:#?}");
}
