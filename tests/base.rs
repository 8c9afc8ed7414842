//! `ovl base`: systems are listed, chosen, fetched with their digest, and refused while they are in use.

use crate::support::house::{House, Run, script};
use crate::support::server::{Reply, Web};

/// A small system in an image, as bytes: enough to be looked at.
fn system(house: &House, mark: &str) -> Vec<u8> {
    let path = house.foreign(&format!("{mark}.sqf"), &[("etc/mark", mark), ("bin/true", "#!/bin/sh\n")]);
    std::fs::read(path).unwrap()
}

fn serve(files: Vec<(&'static str, Vec<u8>)>) -> Web {
    Web::of_files(files.into_iter().map(|(name, bytes)| (name.to_owned(), bytes)).collect())
}

#[test]
fn a_prebuilt_system_is_fetched_once_and_chosen() {
    let house = House::new();
    let bytes = system(&house, "one");
    let sum = ovl::sys::digest::of(&bytes);
    let web = serve(vec![("d.img", bytes)]);
    let config = house.write(
        "home/.config/ovl/config.yaml",
        format!("# mine\nbase:\n  prebuilt:\n    - d/base {} sha256={}\n", web.url("d.img"), &sum[7..]),
    );
    house.ovl(&["base", "list"]).ok().prints("*  /");
    house.ovl(&["base", "ensure"]).ok().prints("needs nothing");
    house.ovl(&["base", "use", "d/base"]).code(4).says("ovl base ensure d/base");
    house.ovl(&["base", "ensure", "--offline", "d/base"]).code(7).says("the network is not to be used");
    house.ovl(&["base", "ensure", "d/base"]).ok().prints("d/base: fetched");
    house.ovl(&["base", "ensure", "d/base"]).ok().prints("d/base: there");
    assert_eq!((web.count(), house.names("home/.local/share/ovl/bases")), (1, vec!["d--base.sqf".to_owned()]));
    house.ovl(&["base", "use", "d/base"]).ok();
    let file = house.layer().join("bases/d--base.sqf");
    let text = std::fs::read_to_string(&config).unwrap();
    assert!(
        text.starts_with("# mine\nbase:\n") && text.ends_with(&format!("exec:\n  base: {}\n", file.display())),
        "{text}"
    );
    assert_eq!(house.ovl(&["config", "get", "exec.base"]).ok().stdout.trim(), file.to_str().unwrap());
    let list = house.ovl(&["base", "list", "--json"]).ok().json();
    assert_eq!(
        (&list[1]["name"], &list[1]["kind"], &list[1]["current"]),
        (&"d/base".into(), &"sqf".into(), &true.into())
    );
    house.ovl(&["base", "ensure"]).ok().prints("d/base: there");
    // As exec takes it.
    house.ovl(&["exec", "--base", "d/base", "--", "/bin/true"]).keeps_quiet_about("No such file");
    house.ovl(&["base", "use", "/"]).ok();
    assert!(std::fs::read_to_string(&config).unwrap().ends_with("exec:\n  base: /\n"));
}

#[test]
fn a_wrong_digest_and_odd_files_are_not_taken() {
    let house = House::new();
    let bytes = system(&house, "one");
    let web = serve(vec![("d.img", bytes), ("text", b"hello".to_vec())]);
    let wrong = "0".repeat(64);
    house.write(
        "home/.config/ovl/config.yaml",
        format!(
            "base:\n  prebuilt:\n    - d/base {} sha256={wrong}\n    - t/base {}\n",
            web.url("d.img"),
            web.url("text")
        ),
    );
    house.ovl(&["base", "ensure", "d/base"]).code(5).says(&wrong);
    house.ovl(&["base", "ensure", "t/base"]).code(1).says("neither a SIF nor a SquashFS image");
    let open = ("OVL_BASE_PREBUILT", "o/base http://host.invalid/x.sif");
    house.ovl_with(&[open], &["base", "ensure", "o/base"]).code(1).says("without encryption needs its digest");
    assert!(house.names("home/.local/share/ovl/bases").is_empty());
    house.ovl(&["base", "use", house.write("work/x", "hello").to_str().unwrap()]).code(4).says("neither");
    house.ovl(&["base", "ensure", "nobody/knows"]).code(4).says("there is no recipe for nobody/knows");
    house.write("home/.config/ovl/config.yaml", "base:\n  prebuilt: [nonsense]\n");
    house.ovl(&["base", "ensure", "a/b"]).code(4).says("base.prebuilt");
}

#[test]
fn a_system_in_use_is_not_updated() {
    let house = House::new();
    let bytes = system(&house, "two");
    let web = Web::start(move |asked| Reply::file(asked, &bytes, "\"x\""));
    house.write("home/.config/ovl/config.yaml", format!("base:\n  prebuilt: ['d/base {}']\n", web.url("d.img")));
    house.ovl(&["base", "ensure", "d/base"]).ok().says("gives no digest");
    let file = house.layer().join("bases/d--base.sqf");
    let held = std::fs::File::open(&file).unwrap();
    ovl::sys::lock::try_lock(&held, ovl::sys::lock::Kind::Read).unwrap();
    house.ovl(&["base", "update", "d/base"]).code(6).says("it is in use by");
    drop(held);
    house.ovl(&["base", "update", "d/base"]).ok();
    assert_eq!(web.count(), 2);
    house.ovl(&["base", "update", "/"]).code(4);
}

#[test]
fn without_a_server_the_definition_has_to_do() {
    let house = House::new();
    house.write(
        "home/.config/ovl/config.yaml",
        "base:\n  prebuilt: ['d/1.0 http://127.0.0.1:9/d.img']\nnet:\n  tries: 1\n",
    );
    house.recipe("d/1.0", script("", "echo built > $target_dir/f"));
    let run: Run = house.ovl(&["base", "ensure", "d/1.0"]).ok();
    run.says("building it instead");
    assert!(house.image("d/1.0").exists());
}
