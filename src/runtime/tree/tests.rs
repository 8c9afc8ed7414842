//! Merging, by small trees in memory.

use super::layer::{DIR, FILE, KIND, Layer};
use super::memory::Memory;
use super::{ROOT, Tree};

fn memory(build: impl FnOnce(&mut Memory)) -> Box<dyn Layer> {
    let mut memory = Memory::default();
    build(&mut memory);
    Box::new(memory)
}

fn find(tree: &Tree, path: &str) -> Option<u64> {
    let mut node = ROOT;
    for name in path.split('/').filter(|name| !name.is_empty()) {
        node = tree.lookup(node, name.as_bytes()).unwrap()?;
    }
    Some(node)
}

fn text(tree: &Tree, path: &str) -> String {
    let mut buf = [0; 100];
    let length = tree.read(find(tree, path).expect(path), 0, &mut buf).unwrap();
    String::from_utf8(buf[..length].to_vec()).unwrap()
}

fn names(tree: &Tree, path: &str) -> String {
    let listing = tree.list(find(tree, path).expect(path)).unwrap();
    let names: Vec<String> = listing.iter().map(|entry| String::from_utf8(entry.name.clone()).unwrap()).collect();
    for entry in listing.iter() {
        let found = tree.lookup(find(tree, path).unwrap(), &entry.name).unwrap();
        assert_eq!(found, Some(entry.node), "listing and lookup agree");
        assert_eq!(tree.attr(entry.node).unwrap().mode & KIND, entry.kind);
    }
    names.join(" ")
}

#[test]
fn later_layers_win_and_directories_are_united() {
    let tree = Tree::new(vec![
        memory(|low| {
            low.file(b"/cnt/a/1/bin/x", b"low").file(b"/cnt/a/1/only-low", b"1");
        }),
        memory(|high| {
            high.file(b"/cnt/a/1/bin/x", b"high").file(b"/cnt/b/2/y", b"y");
        }),
    ])
    .unwrap();
    assert_eq!(names(&tree, "/cnt"), "a b");
    assert_eq!(names(&tree, "/cnt/a/1"), "bin only-low");
    assert_eq!(text(&tree, "/cnt/a/1/bin/x"), "high");
    assert_eq!(find(&tree, "/cnt/a/1"), find(&tree, "/cnt/a/1"), "a united directory keeps its number");
    assert!(find(&tree, "/cnt/b").unwrap() >> 52 == 2, "a directory of one layer needs no table");
    assert_eq!(find(&tree, "/cnt/c"), None);
}

#[test]
fn both_kinds_of_whiteouts_hide_lower_names_only() {
    let low = |low: &mut Memory| {
        low.file(b"/d/gone", b"").file(b"/d/also", b"").file(b"/d/stays", b"").dir(b"/d/sub/x");
    };
    let tree = Tree::new(vec![
        memory(low),
        memory(|high| {
            high.whiteout(b"/d/gone").file(b"/d/.wh.also", b"").file(b"/d/.wh.sub", b"").file(b"/d/sub/new", b"");
        }),
    ])
    .unwrap();
    assert_eq!(names(&tree, "/d"), "stays sub");
    assert_eq!(names(&tree, "/d/sub"), "new", "a directory made anew after it was removed");
    for hidden in ["/d/gone", "/d/also", "/d/.wh.also"] {
        assert_eq!(find(&tree, hidden), None, "{hidden}");
    }
    let back = Tree::new(vec![
        memory(low),
        memory(|middle| {
            middle.whiteout(b"/d/gone");
        }),
        memory(|high| {
            high.file(b"/d/gone", b"back");
        }),
    ])
    .unwrap();
    assert_eq!(text(&back, "/d/gone"), "back");
}

#[test]
fn opaque_directories_hide_all_below() {
    for mark in 0..4 {
        let tree = Tree::new(vec![
            memory(|low| {
                low.file(b"/d/low", b"");
            }),
            memory(|high| {
                high.file(b"/d/high", b"");
                match mark {
                    0 => high.file(b"/d/.wh..wh..opq", b""),
                    3 => high.whiteout(b"/d/.wh..opq"),
                    1 => high.xattr(b"/d", b"trusted.overlay.opaque", b"y"),
                    _ => high.xattr(b"/d", b"user.overlay.opaque", b"y"),
                };
            }),
            memory(|top| {
                top.file(b"/d/top", b"");
            }),
        ])
        .unwrap();
        assert_eq!(names(&tree, "/d"), "high top", "mark {mark}");
    }
}

#[test]
fn a_file_between_two_directories_cuts_them_apart() {
    let tree = Tree::new(vec![
        memory(|low| {
            low.file(b"/d/low", b"");
        }),
        memory(|middle| {
            middle.file(b"/d", b"a file");
        }),
        memory(|top| {
            top.file(b"/d/top", b"");
        }),
    ])
    .unwrap();
    assert_eq!(names(&tree, "/d"), "top");
    let file_wins = Tree::new(vec![
        memory(|low| {
            low.dir(b"/d/x");
        }),
        memory(|high| {
            high.file(b"/d", b"file");
        }),
    ])
    .unwrap();
    assert_eq!(text(&file_wins, "/d"), "file");
}

#[test]
fn whiteouts_of_a_single_layer_are_not_shown() {
    let tree = Tree::new(vec![memory(|only| {
        only.whiteout(b"/d/gone").file(b"/d/.wh.other", b"").file(b"/d/here", b"");
    })])
    .unwrap();
    assert_eq!(names(&tree, "/d"), "here");
    assert_eq!(names(&tree, "/"), "d");
}

#[test]
fn links_are_resolved_inside_the_tree() {
    let tree = Tree::new(vec![memory(|only| {
        only.symlink(b"/var/run", b"/run").dir(b"/run/x").symlink(b"/bin", b"usr/bin").dir(b"/usr/bin");
        only.symlink(b"/loop", b"loop").symlink(b"/up", b"../../..");
    })])
    .unwrap();
    let resolve = |path: &str| String::from_utf8(tree.resolve(path.as_bytes()).unwrap()).unwrap();
    assert_eq!(resolve("/var/run/x/new"), "/run/x/new");
    assert_eq!(resolve("/bin/tool"), "/usr/bin/tool");
    assert_eq!(resolve("//usr/./bin/../lib"), "/usr/lib");
    assert_eq!(resolve("/up/usr"), "/usr");
    assert_eq!(resolve("/loop/x"), "/loop/x", "a loop ends");
}

#[test]
fn numbers_nobody_gave_out_are_errors() {
    let tree = Tree::new(vec![memory(|only| {
        only.dir(b"/d");
    })])
    .unwrap();
    for node in [0, 2, 99, 5 << 52, (1 << 52) | 77, u64::MAX] {
        assert!(tree.attr(node).is_err(), "{node}");
        assert!(tree.list(node).is_err(), "{node}");
    }
    assert_eq!(tree.attr(ROOT).unwrap().mode & KIND, DIR);
    assert_ne!(DIR, FILE);
}

#[test]
fn a_tree_of_nothing_says_so() {
    let tree = Tree::new(Vec::new()).unwrap();
    assert!(tree.attr(ROOT).is_err());
    assert!(tree.list(ROOT).unwrap().is_empty());
}
