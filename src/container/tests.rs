//! The parts of the engine that need no namespaces.

use std::path::Path;

use super::*;
use crate::sys::fs;

fn dir(name: &str) -> PathBuf {
    let dir = std::env::temp_dir().join(format!("ovl-container-{name}-{}", host::token()));
    fs::create_private_dir(&dir).unwrap();
    dir
}

#[test]
fn no_link_leads_out_of_a_tree() {
    let top = dir("root");
    let root = root::Root(top.clone());
    root.dir("usr/lib").unwrap();
    for (target, path) in [("usr/lib", "lib"), ("/etc", "abs"), ("../../../../etc", "up"), ("loop", "loop")] {
        fs::symlink(Path::new(target), &top.join(path)).unwrap();
    }
    let found = |path: &str| root.find(path).map(|path| path.strip_prefix(&top).unwrap().display().to_string());
    assert_eq!(found("/lib/x").unwrap(), "usr/lib/x");
    assert_eq!(found("abs/passwd").unwrap(), "etc/passwd");
    assert_eq!(found("up/passwd").unwrap(), "etc/passwd");
    assert_eq!(found("../../x/../y").unwrap(), "y");
    assert!(found("loop/x").is_err());
    assert_eq!(root.find_link("abs").unwrap(), top.join("abs"));
    fs::remove_tree(&top).unwrap();
}

#[test]
fn patterns_are_those_of_a_shell() {
    let top = dir("glob[1]*");
    for name in ["a.so", "b.so", ".c.so", "x[1]", "d"] {
        fs::write_quick(&top.join(name), b"", 0o600).unwrap();
    }
    let found = |pattern: &str| -> Vec<String> {
        let paths = glob::expand(&top, pattern, &|path, _| Some(path.to_owned()));
        paths.iter().map(|path| path.strip_prefix(&top).unwrap().display().to_string()).collect()
    };
    assert_eq!(found("*.so"), ["a.so", "b.so"]);
    assert_eq!(found(".*.so"), [".c.so"]);
    assert_eq!(found("[ab].so"), ["a.so", "b.so"]);
    assert_eq!(found("[!a].so"), ["b.so"]);
    assert_eq!(found("?"), ["d"]);
    assert_eq!(found("none*"), ["none*"]);
    assert_eq!(found("x[[]1]"), ["x[1]"]);
    fs::remove_tree(&top).unwrap();
}

#[test]
fn patterns_in_a_tree_stay_in_it() {
    let top = dir("globs");
    let root = root::Root(top.clone());
    root.write("/usr/lib/a.so", "", 0o644).unwrap();
    fs::symlink(Path::new("/usr/lib"), &top.join("lib")).unwrap();
    fs::symlink(Path::new("/etc"), &top.join("out")).unwrap();
    let at = |path: &Path, follow| if follow { root.find(path) } else { root.find_link(path) }.ok();
    let found = |pattern: &str| glob::expand(Path::new("/"), pattern, &at);
    assert_eq!(found("/lib/*.so"), [PathBuf::from("/lib/a.so")]);
    assert_eq!(found("/out/pass*"), [PathBuf::from("/out/pass*")], "those of the host are not there");
    fs::remove_tree(&top).unwrap();
}
