//! Container images and SIF files out of registries.

use std::path::Path;

use super::{raw, run};
use crate::support::house::House;
use crate::support::registry::Registry;
use crate::support::server::Web;
use crate::support::sif;

/// An image of two layers: the upper one changes, adds, hides a file and empties a directory.
fn image(house: &House) -> String {
    let layout = house.path("layout");
    let shown = layout.to_string_lossy().into_owned();
    let reference = format!("{shown}:img");
    run("umoci", &["init", "--layout", &shown]).ok();
    run("umoci", &["new", "--image", &reference]).ok();
    let add = |number: &str, files: &[(&str, &str)]| {
        for (path, content) in files {
            house.write(&format!("layers/{number}/{path}"), content);
        }
        let dir = house.path(&format!("layers/{number}"));
        let tar = house.path(&format!("layers/{number}.tar"));
        run("tar", &["-C", &dir.to_string_lossy(), "-cf", &tar.to_string_lossy(), "."]).ok();
        run("umoci", &["raw", "add-layer", "--image", &reference, &tar.to_string_lossy()]).ok();
    };
    add("1", &[("etc/a", "one"), ("etc/b", "one"), ("opt/d/x", "one"), ("opt/d/y", "one"), ("bin/tool", "t")]);
    add("2", &[("etc/a", "two"), ("etc/.wh.b", ""), ("opt/d/.wh..wh..opq", ""), ("opt/d/z", "two")]);
    let config = ["config", "--image", &reference, "--config.env", "GREETING=hello there", "--config.env", "PATH=/bin"];
    run("umoci", &config).ok();
    reference
}

fn copy(from: &str, to: &str) {
    run("skopeo", &["copy", "--dest-tls-verify=false", &format!("oci:{from}"), &format!("docker://{to}")]).ok();
}

/// Every file of an image with its content.
fn files(house: &House, image: &Path) -> Vec<(String, String)> {
    let out = house.path("out");
    let _ = std::fs::remove_dir_all(&out);
    run("unsquashfs", &["-quiet", "-no-progress", "-d", &out.to_string_lossy(), &image.to_string_lossy()]).ok();
    let mut found = Vec::new();
    let mut open = vec![out.clone()];
    while let Some(dir) = open.pop() {
        for entry in std::fs::read_dir(dir).unwrap().flatten() {
            let path = entry.path();
            if path.is_dir() {
                open.push(path);
            } else {
                let shown = path.strip_prefix(&out).unwrap().to_string_lossy().into_owned();
                found.push((shown, std::fs::read_to_string(path).unwrap()));
            }
        }
    }
    found.retain(|(path, _)| !path.starts_with(".singularity.d"));
    found.sort();
    found
}

#[test]
fn a_container_image_becomes_an_overlay_with_its_whiteouts_applied() {
    let house = House::new();
    let Some(registry) = Registry::start(&house.make("reg"), false) else { return };
    let reference = format!("{}/group/img:1", registry.host());
    copy(&image(&house), &reference);
    let pulled = house.ovl(&["pull", &format!("docker://{reference}"), "img/1", "--json"]).ok().json();
    let expected = [("bin/tool", "t"), ("etc/a", "two"), ("opt/d/z", "two")];
    let expected: Vec<(String, String)> = expected.iter().map(|(a, b)| ((*a).to_owned(), (*b).to_owned())).collect();
    assert_eq!(files(&house, &house.image("img/1")), expected, "{pulled}");
    let sidecar = std::fs::read_to_string(house.image("img/1").with_extension("sqf.env")).unwrap();
    assert!(sidecar.contains("GREETING=hello there") && !sidecar.contains("PATH="), "{sidecar}");
    // The same image is not packed again; layers are not transferred again for another name.
    let again = house.ovl(&["pull", &format!("docker://{reference}"), "-n", "img/1", "--json"]).ok().json();
    assert_eq!(again["outcome"], "up to date");
    let manifest = raw(&reference);
    for layer in manifest["layers"].as_array().unwrap() {
        std::fs::remove_file(registry.blob(layer["digest"].as_str().unwrap())).unwrap();
    }
    house.ovl(&["pull", &format!("docker://{reference}"), "copy/1"]).ok();
    assert_eq!(files(&house, &house.image("copy/1")), expected);
    // The cache has a layout that others read.
    let hex = pulled["digest"].as_str().unwrap().trim_start_matches("sha256:").to_owned();
    let layout = house.path(&format!("home/.cache/ovl/images/{hex}"));
    let inspected = run("skopeo", &["inspect", "--config", &format!("oci:{}", layout.display())]).ok().json();
    assert_eq!(inspected["config"]["Env"][0], "GREETING=hello there");
}

#[test]
fn a_layer_that_was_tampered_with_makes_no_overlay() {
    let house = House::new();
    let Some(registry) = Registry::start(&house.make("reg"), false) else { return };
    let reference = format!("{}/img:1", registry.host());
    copy(&image(&house), &reference);
    let layer = raw(&reference)["layers"][1]["digest"].as_str().unwrap().to_owned();
    let data = registry.blob(&layer);
    let whole = std::fs::read(&data).unwrap();
    let mut bytes = whole.clone();
    let middle = bytes.len() / 2;
    bytes[middle] ^= 1;
    std::fs::write(&data, &bytes).unwrap();
    house.ovl(&["pull", &format!("docker://{reference}")]).code(1).says("it is not used");
    assert!(!house.image("img/1").exists());
    std::fs::write(&data, &whole).unwrap();
    house.ovl(&["pull", &format!("docker://{reference}")]).ok();
    // What lies in the cache is not believed either.
    let cached = house.path(&format!("home/.cache/ovl/blobs/sha256/{}", layer.trim_start_matches("sha256:")));
    std::fs::write(&cached, &bytes).unwrap();
    house.ovl(&["pull", &format!("docker://{reference}"), "again/1"]).ok();
    assert_eq!(std::fs::read(&cached).unwrap(), whole);
}

#[test]
fn a_sif_file_comes_by_its_system() {
    let house = House::new();
    let squashfs = house.foreign("system.sqf", &[("etc/name", "from a sif")]);
    // Its primary partition, a SquashFS.
    let sif = sif::bytes(&[sif::partition(&squashfs, 1, 2)]);
    let path = house.write("x.sif", &sif);
    let (digest, config) = (super::sum(&path), super::sum(&house.write("config", "{}")));
    let kind = "application/vnd.sylabs.sif.layer.v1.sif";
    let manifest = format!(
        r#"{{"schemaVersion":2,"config":{{"mediaType":"application/vnd.sylabs.sif.config.v1+json","digest":"{config}","size":2}},"layers":[{{"mediaType":"{kind}","digest":"{digest}","size":{}}}]}}"#,
        sif.len()
    );
    let web = Web::of_files(vec![
        ("v2/sys/manifests/1".into(), manifest.into_bytes()),
        (format!("v2/sys/blobs/{digest}"), sif),
    ]);
    house.ovl(&["pull", &format!("oras://127.0.0.1:{}/sys:1", web.port), "sys/1"]).ok();
    assert_eq!(files(&house, &house.image("sys/1")), [("etc/name".to_owned(), "from a sif".to_owned())]);
}
