//! Images read back through libsquashfs (the squashfs-ng crate), an implementation independent of the kernel's and of
//! squashfs-tools'. Needs the system's library, hence the feature; `tests/run` turns it on.

use std::path::{Path, PathBuf};

use ovl::image::source::dir::DirSource;
use ovl::image::squashfs::write::{PackOptions, pack};
use squashfs_ng::read::{Archive, Data};

/// Compares a directory of the archive with one on disk; returns how many things were compared.
fn compare(archive: &Archive, inside: &Path, outside: &Path) -> usize {
    let mut count = 0;
    let mut names: Vec<String> = Vec::new();
    for entry in std::fs::read_dir(outside).unwrap().map(Result::unwrap) {
        let name = entry.file_name().into_string().unwrap();
        let (path, real) = (inside.join(&name), entry.path());
        names.push(name);
        count += 1;
        let kind = entry.file_type().unwrap();
        let node = archive.get(&path).unwrap().unwrap_or_else(|| panic!("{} is missing", path.display()));
        if kind.is_dir() {
            count += compare(archive, &path, &real);
        } else if kind.is_symlink() {
            let Data::Symlink(target) = node.data().unwrap() else { panic!("{} is no link", path.display()) };
            assert_eq!(target, std::fs::read_link(&real).unwrap());
        } else if kind.is_file() {
            let bytes = node.as_file().unwrap().to_bytes().unwrap();
            assert!(bytes == std::fs::read(&real).unwrap(), "{} differs", path.display());
        }
    }
    let mut listed: Vec<String> = Vec::new();
    let dir = archive.get(inside).unwrap().unwrap();
    for node in dir.as_dir().unwrap() {
        listed.push(node.unwrap().name().unwrap());
    }
    names.sort();
    listed.sort();
    assert_eq!(listed, names, "the listing of {}", inside.display());
    count
}

#[test]
fn libsquashfs_sees_the_source_tree() {
    let dir = PathBuf::from(env!("CARGO_TARGET_TMPDIR")).join(format!("libsquashfs-{}", std::process::id()));
    std::fs::create_dir_all(&dir).unwrap();
    // A real tree with many small files, a few large ones and links.
    let tree = ["/usr/share/perl/5.36.0", "/usr/share/perl", "/usr/include"]
        .map(Path::new)
        .into_iter()
        .find(|path| path.is_dir());
    let tree = tree.unwrap();
    for comp in ["gzip", "xz:1", "lz4", "zstd:3"] {
        let path = dir.join("x.sqf");
        let out = std::fs::File::options().read(true).write(true).create(true).truncate(true).open(&path).unwrap();
        let options = PackOptions { compression: comp.parse().unwrap(), ..PackOptions::default() };
        pack(&DirSource::new(tree).unwrap(), &out, &options, &()).unwrap();
        let count = compare(&Archive::open(&path).unwrap(), Path::new("/"), tree);
        assert!(count > 100, "only {count} entries were compared");
    }
    std::fs::remove_dir_all(&dir).unwrap();
}
