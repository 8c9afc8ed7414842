//! Overlays and container images to and from real registries, and from servers that mean no good.

mod images;
mod keys;
mod odd;
mod transfers;

use serde_json::Value;

use crate::support::house::{House, Run, script};
use crate::support::registry::Registry;

/// Bytes of the larger overlays.
const LARGE: usize = 6 << 20;

/// A house with an overlay that has been built.
fn house(name: &str, bytes: usize) -> House {
    let house = House::new();
    recipe(&house, name, bytes, 1);
    house.ovl(&["build", name]).ok();
    house
}

/// A recipe whose overlay cannot be compressed.
fn recipe(house: &House, name: &str, bytes: usize, number: u32) {
    let install = format!(
        "mkdir -p $target_dir/bin\nhead -c {bytes} /dev/urandom > $target_dir/data\necho {number} > $target_dir/bin/n"
    );
    house.recipe(name, script(&format!("#LABEL:license=MIT\n#URL:https://example.org/{number}"), &install));
}

fn sum(path: &std::path::Path) -> String {
    let output = std::process::Command::new("sha256sum").arg(path).output().unwrap();
    format!("sha256:{}", String::from_utf8(output.stdout).unwrap().split(' ').next().unwrap())
}

/// Removes an overlay as if it had never been there.
fn wipe(house: &House, name: &str) {
    let image = house.image(name);
    std::fs::remove_file(format!("{}.env", image.display())).unwrap();
    std::fs::remove_file(image).unwrap();
}

fn run(program: &str, args: &[&str]) -> Run {
    let mut command = std::process::Command::new(program);
    command.args(args);
    crate::support::house::finish(command)
}

/// What skopeo says of a reference's manifest.
fn raw(reference: &str) -> Value {
    run("skopeo", &["inspect", "--raw", "--tls-verify=false", &format!("docker://{reference}")]).ok().json()
}

#[test]
fn pushed_wiped_and_pulled_it_is_the_same_and_up_to_date() {
    let house = house("foo/1.0", 100_000);
    let Some(registry) = Registry::start(&house.make("reg"), false) else { return };
    let host = registry.host();
    let before = sum(&house.image("foo/1.0"));
    let reference = format!("{host}/group/foo:1.0");
    house.ovl(&["push", "foo/1.0", "--registry", &format!("{host}/group"), "--dry-run"]).ok().prints(&reference);
    assert!(registry.repositories().is_empty(), "a dry run has pushed");
    let second = format!("{host}/group/foo:stable");
    let other = format!("{host}/copies/foo:x");
    let args = ["push", "foo/1.0", &reference, &second, &other, "--annotation", "org.example.who=me", "--json"];
    let pushed = house.ovl(&args).ok().json();
    let digests: Vec<&str> =
        pushed["pushed"].as_array().unwrap().iter().map(|one| one["digest"].as_str().unwrap()).collect();
    assert!(digests.len() == 3 && digests[0] == digests[1] && digests[1] == digests[2], "{pushed}");
    let hows: Vec<&str> =
        pushed["pushed"].as_array().unwrap().iter().map(|one| one["transfer"].as_str().unwrap()).collect();
    assert_eq!(hows, ["sent", "there", "mounted"]);
    assert_eq!(pushed["pushed"][0]["layer"], before.as_str());

    // Others read it.
    let manifest = raw(&reference);
    assert_eq!(manifest["artifactType"], "application/vnd.ovl.overlay.v1");
    for (key, value) in [
        ("org.opencontainers.image.version", "1.0"),
        ("org.opencontainers.image.title", "foo/1.0"),
        ("org.opencontainers.image.licenses", "MIT"),
        ("org.opencontainers.image.description", "made by a test"),
        ("org.example.who", "me"),
    ] {
        assert_eq!(manifest["annotations"][key], value, "{manifest}");
    }
    let tags = run("skopeo", &["list-tags", "--tls-verify=false", &format!("docker://{host}/group/foo")]).ok().json();
    let mut tags: Vec<&str> = tags["Tags"].as_array().unwrap().iter().map(|tag| tag.as_str().unwrap()).collect();
    tags.sort_unstable();
    assert_eq!(tags, ["1.0", "stable"]);
    let copy = house.path("copy");
    let dir = format!("dir:{}", copy.display());
    run("skopeo", &["copy", "--src-tls-verify=false", &format!("docker://{reference}"), &dir]).ok();
    assert_eq!(sum(&copy.join(before.trim_start_matches("sha256:"))), before);

    wipe(&house, "foo/1.0");
    let would = house.ovl(&["pull", &reference, "--dry-run", "--json"]).ok().json();
    assert_eq!((would["outcome"].as_str(), would["name"].as_str()), (Some("would pull"), Some("foo/1.0")));
    assert!(!house.image("foo/1.0").exists());
    let pulled = house.ovl(&["pull", &reference, "--json"]).ok().json();
    assert_eq!(pulled["pinned"], format!("{reference}@{}", digests[0]));
    assert_eq!(sum(&house.image("foo/1.0")), before);
    assert_eq!(house.names("home/.local/share/ovl/images"), ["foo--1.0.sqf", "foo--1.0.sqf.env"]);
    // Its key came with it.
    house.ovl(&["build", "foo/1.0"]).ok().says("up to date");
    house.ovl(&["exec", "-o", "foo/1.0", "--", "cat", "/cnt/foo/1.0/bin/n"]).ok().prints("1");
    let again = house.ovl(&["pull", &format!("oras://{reference}"), "--json"]).ok().json();
    assert_eq!(again["outcome"], "up to date");
    house.ovl(&["pull", &reference, "-n", "bar/2"]).code(1).says("it is foo/1.0 and lives in /cnt/foo/1.0");
    house.ovl(&["pull", &format!("{host}/group/none:1")]).code(1).says("is not in the registry").says("hint: ");
}

#[test]
fn an_edited_sidecar_travels_and_the_previous_overlay_is_kept() {
    let house = house("foo/1.0", 1000);
    let Some(registry) = Registry::start(&house.make("reg"), false) else { return };
    let reference = format!("{}/foo:1.0", registry.host());
    let sidecar = house.image("foo/1.0").with_extension("sqf.env");
    let own = std::fs::read_to_string(&sidecar).unwrap();
    std::fs::write(&sidecar, format!("{own}EDITED=yes\n")).unwrap();
    house.ovl(&["push", "foo/1.0", &reference]).ok();
    assert_eq!(raw(&reference)["layers"].as_array().unwrap().len(), 2);
    wipe(&house, "foo/1.0");
    recipe(&house, "foo/1.0", 1000, 2);
    house.ovl(&["build", "foo/1.0"]).ok();
    let built = sum(&house.image("foo/1.0"));
    house.ovl(&["pull", &reference]).ok();
    house.ovl(&["exec", "-o", "foo/1.0", "--", "sh", "-c", "echo $EDITED"]).ok().prints("yes");
    house.ovl(&["rollback", "foo/1.0"]).ok();
    assert_eq!(sum(&house.image("foo/1.0")), built);
}

#[test]
fn each_item_lands_in_its_own_registry_and_nowhere_else() {
    let house = house("foo/1.0", 1000);
    recipe(&house, "bar/2", 1000, 2);
    house.ovl(&["build", "bar/2"]).ok();
    let (Some(one), Some(two)) =
        (Registry::start(&house.make("one"), false), Registry::start(&house.make("two"), false))
    else {
        return;
    };
    house.ovl(&["push", "foo/1.0", &format!("{}/a/foo:1.0", one.host())]).ok();
    house.ovl(&["push", "bar/2", &format!("{}/b/bar:2", two.host())]).ok();
    assert_eq!((one.repositories(), two.repositories()), (vec!["a/foo".to_owned()], vec!["b/bar".to_owned()]));
    // The reference's own host, then the flag, then the variable, then the file.
    let config = format!("registry:\n  default: {}/file\n", one.host());
    house.write("home/.config/ovl/config.yaml", config);
    house.ovl(&["push", "foo/1.0"]).ok().prints("/file/foo:1.0@sha256:");
    let variable = [("OVL_REGISTRY_DEFAULT", format!("{}/variable", two.host()))];
    let variable = variable.each_ref().map(|(name, value)| (*name, value.as_str()));
    house.ovl_with(&variable, &["push", "foo/1.0"]).ok().prints(&format!("{}/variable/foo:1.0", two.host()));
    let flag = format!("http://{}/flag", one.host());
    house.ovl_with(&variable, &["push", "foo/1.0", "-r", &flag]).ok().prints(&format!("{}/flag/foo:1.0", one.host()));
    let own = format!("{}/own/foo:1", two.host());
    house.ovl_with(&variable, &["push", "foo/1.0", "-r", &flag, &own]).ok().prints(&own);
    house.ovl(&["push", "foo/1.0", "below/foo"]).ok().prints("/file/below/foo:1.0@");
    assert_eq!(one.repositories(), ["a/foo", "file/below/foo", "file/foo", "flag/foo"]);
    assert_eq!(two.repositories(), ["b/bar", "own/foo", "variable/foo"]);
    house.ovl(&["push", "foo/1.0", "-r", "http://registry.invalid/x"]).code(4).says("without encryption");
}

#[test]
fn a_digest_means_the_same_whatever_its_tag_means_later() {
    let house = house("foo/1.0", 1000);
    let Some(registry) = Registry::start(&house.make("reg"), false) else { return };
    let reference = format!("{}/foo:1.0", registry.host());
    let first = sum(&house.image("foo/1.0"));
    let pinned = house.ovl(&["push", "foo/1.0", &reference]).ok().stdout.trim().to_owned();
    recipe(&house, "foo/1.0", 1000, 2);
    house.ovl(&["build", "--update", "foo/1.0"]).ok();
    let second = sum(&house.image("foo/1.0"));
    assert_ne!(first, second);
    house.ovl(&["push", "foo/1.0", &reference]).ok();
    house.ovl(&["pull", &pinned]).ok().prints(&pinned);
    assert_eq!(sum(&house.image("foo/1.0")), first);
    house.ovl(&["pull", &reference]).ok();
    assert_eq!(sum(&house.image("foo/1.0")), second);

    // Further names cost no transfer, in other repositories either.
    let elsewhere = format!("{}/deep/er/foo:v9", registry.host());
    let tagged = house.ovl(&["tag", &pinned, "old", &elsewhere, "--json"]).ok().json();
    let digest = pinned.rsplit_once('@').unwrap().1;
    assert!(tagged["tagged"].as_array().unwrap().iter().all(|one| one["digest"] == digest), "{tagged}");
    house.ovl(&["pull", &elsewhere]).code(4).says("was not asked for");
    house.ovl(&["pull", &elsewhere, "-n", "foo/1.0"]).ok();
    assert_eq!(sum(&house.image("foo/1.0")), first);
    house.ovl(&["tag", &pinned, "registry.invalid/x:1"]).code(1).says("it is no tag in");
}

#[test]
fn platforms_lie_beside_each_other_under_one_tag() {
    let house = house("foo/1.0", 1000);
    let Some(registry) = Registry::start(&house.make("reg"), false) else { return };
    let reference = format!("{}/foo:1.0", registry.host());
    let (other, this) = if cfg!(target_arch = "x86_64") { ("arm64", "amd64") } else { ("amd64", "arm64") };
    // The same overlay as it would have been built elsewhere.
    let (tree, foreign) = (house.path("tree"), house.path("elsewhere.sqf"));
    let text = |path: &std::path::Path| path.to_string_lossy().into_owned();
    run("unsquashfs", &["-quiet", "-no-progress", "-d", &text(&tree), &text(&house.image("foo/1.0"))]).ok();
    let meta = tree.join("cnt/foo/1.0/.ovl/meta.json");
    let changed = std::fs::read_to_string(&meta).unwrap().replace(&format!("linux/{this}"), &format!("linux/{other}"));
    std::fs::write(&meta, changed).unwrap();
    run("mksquashfs", &[&text(&tree), &text(&foreign), "-quiet", "-no-progress", "-all-root"]).ok();
    house.ovl(&["push", &text(&foreign), &reference]).ok().says(&format!("for linux/{other}"));
    house.ovl(&["pull", &reference]).code(1).says(&format!("it is for linux/{other}, not for linux/{this}"));
    house.ovl(&["push", "foo/1.0", &reference]).ok();
    house.ovl(&["push", "foo/1.0", &reference]).ok();
    let index = raw(&reference);
    let platforms: Vec<&str> = index["manifests"]
        .as_array()
        .unwrap()
        .iter()
        .map(|one| one["platform"]["architecture"].as_str().unwrap())
        .collect();
    assert_eq!(platforms, ["amd64", "arm64"], "{index}");
    let own = sum(&house.image("foo/1.0"));
    wipe(&house, "foo/1.0");
    house.ovl(&["pull", &reference]).ok();
    assert_eq!(sum(&house.image("foo/1.0")), own);
    house.ovl(&["pull", &reference, "--platform", &format!("linux/{other}")]).ok();
    assert_eq!(sum(&house.image("foo/1.0")), sum(&foreign));
    house.ovl(&["pull", &reference, "--platform", "linux/s390x"]).code(1).says("only: linux/amd64, linux/arm64");
}

#[test]
fn what_is_built_already_is_found_by_its_key() {
    let house = house("foo/1.0", 1000);
    let Some(registry) = Registry::start(&house.make("reg"), false) else { return };
    let base = format!("{}/built", registry.host());
    let before = sum(&house.image("foo/1.0"));
    house.ovl(&["push", "foo/1.0", "-r", &base, "--by-key"]).ok();
    house.write("home/.config/ovl/config.yaml", format!("build:\n  prebuilt: [{base}]\n"));
    wipe(&house, "foo/1.0");
    house.ovl(&["build", "foo/1.0"]).ok().says("prebuilt");
    assert_eq!(sum(&house.image("foo/1.0")), before);
    wipe(&house, "foo/1.0");
    house.ovl(&["build", "foo/1.0", "--no-prebuilt"]).ok();
    assert_ne!(sum(&house.image("foo/1.0")), before);
    // Another recipe is another key.
    recipe(&house, "foo/1.0", 1000, 2);
    house.ovl(&["build", "--update", "foo/1.0"]).ok().keeps_quiet_about("prebuilt");
    // What was tampered with is not used, and no reason not to build.
    recipe(&house, "foo/1.0", 1000, 1);
    let data = registry.blob(&before);
    let mut bytes = std::fs::read(&data).unwrap();
    bytes[600] ^= 1;
    std::fs::write(&data, bytes).unwrap();
    wipe(&house, "foo/1.0");
    house.ovl(&["build", "foo/1.0"]).ok().says("is not used");
    assert!(house.image("foo/1.0").exists());
    // Nor is a registry that is not there.
    drop(registry);
    wipe(&house, "foo/1.0");
    house.ovl(&["build", "foo/1.0"]).ok().says("no prebuilt overlay from");
}

#[test]
fn what_calls_itself_otherwise_replaces_nothing() {
    let house = house("foo/1.0", 1000);
    let Some(registry) = Registry::start(&house.make("reg"), false) else { return };
    let reference = format!("{}/someone/tool:1", registry.host());
    house.ovl(&["push", "foo/1.0", &reference]).ok();
    let old = std::fs::read(house.image("foo/1.0")).unwrap();
    recipe(&house, "foo/1.0", 2000, 2);
    house.ovl(&["build", "-u", "foo/1.0"]).ok();
    let new = std::fs::read(house.image("foo/1.0")).unwrap();
    assert_ne!(old, new);
    let command = format!("ovl pull {reference} -n foo/1.0");
    house.ovl(&["pull", &reference]).code(4).says("calls itself foo/1.0").says(&command);
    assert!(std::fs::read(house.image("foo/1.0")).unwrap() == new);
    house.ovl(&["pull", &reference, "-n", "foo/1.0"]).ok();
    assert!(std::fs::read(house.image("foo/1.0")).unwrap() == old);
    // An overlay is a system as well, if one is in it.
    let system = format!("x/base oras://{reference}");
    house.ovl_with(&[("OVL_BASE_PREBUILT", &system)], &["base", "ensure", "x/base"]).ok().prints("x/base: fetched");
    assert!(std::fs::read(house.layer().join("bases/x--base.sqf")).unwrap() == old);
}
