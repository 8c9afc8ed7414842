//! Conda, the thinking half: channels made by the tests, solved, searched, locked.

use crate::support::channel::{Channel, members};
use crate::support::house::House;

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
