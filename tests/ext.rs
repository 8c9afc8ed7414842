//! The ext2/3/4 reader against images made by mke2fs and filled by the kernel.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{FileExt, MetadataExt};
use std::path::Path;

use ovl::image::ImageError;
use ovl::image::ext::{ExtImage, ExtSource};
use ovl::image::source::{Entry, Kind, Source};

use crate::reading::{Scratch, make_tree, noise, run, text};

/// The content by its data ranges, holes left as zeros.
fn content<S: Source>(source: &S, file: &Entry<S::Handle>, step: usize) -> Vec<u8> {
    let mut bytes = vec![0; file.meta.size as usize];
    let mut at = 0;
    while let Some(range) = source.next_data(file, at).unwrap() {
        assert!(range.start >= at && range.end > range.start && range.end <= file.meta.size, "{range:?} from {at}");
        for begin in (range.start..range.end).step_by(step) {
            let end = range.end.min(begin + step as u64);
            source.read(file, begin, &mut bytes[begin as usize..end as usize]).unwrap();
        }
        at = range.end;
    }
    bytes
}

/// Compares a source with a directory on disk and returns how many entries there were.
pub fn compare<S: Source>(source: &S, dir: &Entry<S::Handle>, disk: &Path, links: &mut BTreeMap<u64, u64>) -> usize {
    let entries = source.list(dir).unwrap();
    let mut names: Vec<_> = fs::read_dir(disk).unwrap().map(|entry| entry.unwrap().file_name()).collect();
    names.retain(|name| name != "lost+found");
    names.sort();
    assert!(entries.iter().map(|entry| entry.name.as_slice()).eq(names.iter().map(|name| name.as_bytes())), "{disk:?}");
    let mut count = entries.len();
    for entry in entries {
        let path = disk.join(std::ffi::OsStr::from_bytes(&entry.name));
        let meta = fs::symlink_metadata(&path).unwrap();
        assert_eq!(u32::from(entry.meta.mode), meta.mode() & 0o7777, "{path:?}");
        assert_eq!((entry.meta.uid, entry.meta.gid), (meta.uid(), meta.gid()), "{path:?}");
        assert_eq!(entry.meta.mtime, meta.mtime(), "{path:?}");
        match &entry.kind {
            Kind::Dir => {
                assert!(meta.is_dir(), "{path:?}");
                count += compare(source, &entry, &path, links);
            }
            Kind::File => {
                let expected = fs::read(&path).unwrap();
                assert_eq!(entry.meta.size, expected.len() as u64, "{path:?}");
                for step in [100_003, 1 << 20] {
                    assert!(content(source, &entry, step) == expected, "{path:?} in steps of {step}");
                }
                let mut whole = vec![1; expected.len()];
                source.read(&entry, 0, &mut whole).unwrap();
                assert!(whole == expected, "{path:?} at once");
                if meta.nlink() > 1 {
                    assert_eq!(u64::from(entry.meta.links), meta.nlink(), "{path:?}");
                    assert_eq!(*links.entry(meta.ino()).or_insert(entry.meta.inode.1), entry.meta.inode.1, "{path:?}");
                }
            }
            Kind::Symlink(target) => assert_eq!(target, fs::read_link(&path).unwrap().as_os_str().as_bytes()),
            Kind::CharDev(major, minor) | Kind::BlockDev(major, minor) => {
                let expected = nix::sys::stat::makedev((*major).into(), (*minor).into());
                assert_eq!(expected, meta.rdev(), "{path:?}");
            }
            Kind::Fifo | Kind::Socket => {}
        }
    }
    count
}

fn same(image: &Path, tree: &Path) -> usize {
    let image = ExtImage::open(File::open(image).unwrap(), 0).unwrap();
    let source = ExtSource::new(&image, b"").unwrap();
    compare(&source, &source.root().unwrap(), tree, &mut BTreeMap::new())
}

#[test]
fn images_filled_by_mke2fs_read_like_the_tree() {
    let scratch = Scratch::new("ext");
    let tree = scratch.path("tree");
    make_tree(&tree, 2000);
    fs::write(tree.join("many/large"), noise(20_000_000, 3)).unwrap();
    // inline_data is left to the kernel below: mke2fs 1.47 cuts sparse files short when it fills such an image.
    for (number, options) in [
        "-t ext2 -b 1024",
        "-t ext2 -b 4096 -I 128",
        "-t ext3 -b 1024 -I 256",
        "-t ext3 -b 4096",
        "-t ext4 -b 1024",
        "-t ext4 -b 2048 -O ^extent,^64bit,^flex_bg",
        "-t ext4 -O 64bit,flex_bg,metadata_csum",
        "-t ext4 -b 1024 -O meta_bg,^resize_inode -g 1024",
        "-t ext4 -O ^filetype,large_dir",
        "-t ext2 -r 0",
    ]
    .iter()
    .enumerate()
    {
        let image = scratch.path(&format!("{number}.img"));
        let mut args: Vec<&str> = vec!["-q", "-F", "-d", text(&tree)];
        args.extend(options.split(' '));
        args.extend([text(&image), "150M"]);
        println!("{options}");
        if options.contains("-r 0") {
            // Revision 0 knows no features; mke2fs refuses some trees in it.
            args = vec!["-q", "-F", "-r", "0", "-t", "ext2", "-O", "none", text(&image), "20M"];
            if run("mke2fs", &args) {
                assert!(ExtImage::open(File::open(&image).unwrap(), 0).is_ok());
            }
            continue;
        }
        if !run("mke2fs", &args) {
            return;
        }
        assert!(same(&image, &tree) > 2000);
    }
}

/// A mounted image; unmounted when dropped.
struct Mounted<'a>(&'a Path);

impl Drop for Mounted<'_> {
    fn drop(&mut self) {
        run("umount", &[text(self.0)]);
    }
}

#[test]
fn images_filled_by_the_kernel_read_like_the_mount() {
    if !nix::unistd::geteuid().is_root() {
        eprintln!("skipped: mounting needs root");
        return;
    }
    for (kind, options) in [
        ("ext2", "-b 1024"),
        ("ext3", "-b 4096"),
        ("ext3", "-b 1024 -I 128"),
        ("ext4", "-b 1024 -O inline_data"),
        ("ext4", "-b 4096"),
    ] {
        let scratch = Scratch::new("mounted");
        let (image, mount) = (scratch.path("image"), scratch.path("mount"));
        fs::create_dir(&mount).unwrap();
        let mut args = vec!["-q", "-F", "-t", kind];
        args.extend(options.split(' '));
        args.extend(["-N", "40000", text(&image), "400M"]);
        if !run("mke2fs", &args) {
            return;
        }
        let output =
            std::process::Command::new("mount").args(["-o", "loop", text(&image), text(&mount)]).output().unwrap();
        if !output.status.success() {
            eprintln!("skipped: this machine mounts no {kind}: {}", String::from_utf8_lossy(&output.stderr));
            continue;
        }
        println!("{kind} {options}");
        let mounted = Mounted(&mount);
        make_tree(&mount, 12_000);
        for number in (0..12_000).step_by(3) {
            let _ = fs::remove_file(mount.join(format!("many/file-{:06}-{}", number * 7, "x".repeat(number % 30))));
        }
        // Holes and data by turns: deep extent trees, and every level of indirect blocks.
        let checkered = File::create(mount.join("checkered")).unwrap();
        for step in 0..2000u64 {
            checkered.write_all_at(&noise(700, step), step * 9000).unwrap();
        }
        let far = File::create(mount.join("far")).unwrap();
        for at in [0, 12 << 10, 300 << 10, 70 << 20, 100 << 20] {
            far.write_all_at(&noise(5000, at), at).unwrap();
        }
        drop((checkered, far));
        if kind == "ext4" {
            run("fallocate", &["-l", "3000000", text(&mount.join("unwritten"))]);
        }
        fs::write(mount.join("inline"), noise(if options.contains("inline") { 90 } else { 9 }, 1)).unwrap();
        run("touch", &["-h", "-d", "1955-05-05 12:00:00 UTC", text(&mount.join("words"))]);
        if !options.contains("-I 128") && kind == "ext4" {
            run("touch", &["-h", "-d", "2155-05-05 12:00:00 UTC", text(&mount.join("noise"))]);
        }
        let long = "v".repeat(600);
        for (name, value) in [("user.alpha", "one"), ("trusted.overlay.opaque", "y"), ("user.long", long.as_str())] {
            run("setfattr", &["-n", name, "-v", value, text(&mount.join("deep"))]);
        }
        run("setfattr", &["-n", "security.ovl", "-v", "s", text(&mount.join("words"))]);
        run("mknod", &[text(&mount.join("whiteout")), "c", "0", "0"]);
        run("mount", &["-o", "remount,ro", text(&mount)]);
        assert!(same(&image, &mount) > 8000);
        let opened = ExtImage::open(File::open(&image).unwrap(), 0).unwrap();
        let source = ExtSource::new(&opened, b"").unwrap();
        let entries = source.list(&source.root().unwrap()).unwrap();
        let named = |name: &str| entries.iter().find(|entry| entry.name == name.as_bytes()).unwrap();
        assert_eq!(
            source.xattrs(named("deep")).unwrap(),
            [("trusted.overlay.opaque", "y"), ("user.alpha", "one"), ("user.long", &long)]
                .map(|(name, value)| (name.as_bytes().to_vec(), value.as_bytes().to_vec()))
        );
        assert_eq!(source.xattrs(named("words")).unwrap(), [(b"security.ovl".to_vec(), b"s".to_vec())]);
        assert_eq!(named("whiteout").kind, Kind::CharDev(0, 0));
        if kind == "ext4" {
            assert_eq!(source.next_data(named("unwritten"), 0).unwrap(), None);
        }
        let below = ExtSource::new(&opened, b"deep/er").unwrap();
        compare(&below, &below.root().unwrap(), &mount.join("deep/er"), &mut BTreeMap::new());
        assert!(ExtSource::new(&opened, b"deep/nowhere").is_err());
        assert!(ExtSource::new(&opened, b"words").is_err());
        drop(mounted);
        assert!(ExtImage::open(File::open(&image).unwrap(), 0).is_ok());
    }
}

#[test]
fn an_unclean_image_is_refused_with_the_command_that_mends_it() {
    let scratch = Scratch::new("unclean");
    let image = scratch.path("image");
    if !run("mke2fs", &["-q", "-F", "-t", "ext3", text(&image), "20M"]) {
        return;
    }
    if !run("debugfs", &["-w", "-R", "feature needs_recovery", text(&image)]) {
        return;
    }
    let said = ExtImage::open(File::open(&image).unwrap(), 0).unwrap_err();
    assert!(matches!(&said, ImageError::Unsupported(text) if text.contains("ovl overlay check IMAGE")), "{said}");
}

#[test]
fn a_directory_within_itself_ends_a_walk() {
    let scratch = Scratch::new("loop-ext");
    let (tree, image) = (scratch.path("tree"), scratch.path("image"));
    fs::create_dir_all(tree.join("a/b")).unwrap();
    if !run("mke2fs", &["-q", "-F", "-t", "ext3", "-d", text(&tree), text(&image), "20M"])
        || !run("debugfs", &["-w", "-R", "link a a/b/again", text(&image)])
    {
        return;
    }
    let image = ExtImage::open(File::open(&image).unwrap(), 0).unwrap();
    let source = ExtSource::new(&image, b"").unwrap();
    let a = source.list(&source.root().unwrap()).unwrap().remove(0);
    let b = source.list(&a).unwrap().remove(0);
    assert!(source.list(&b).unwrap_err().to_string().contains("two places"));
}

/// Walks everything; damage may be reported, nothing else may happen.
fn walk(image: &ExtImage) {
    let Ok(source) = ExtSource::new(image, b"") else { return };
    let Ok(root) = source.root() else { return };
    let (mut waiting, mut budget) = (vec![root], 3000);
    while let Some(dir) = waiting.pop() {
        let Ok(entries) = source.list(&dir) else { continue };
        for entry in entries {
            budget -= 1;
            if budget == 0 {
                return;
            }
            let _ = source.xattrs(&entry);
            if entry.kind == Kind::File {
                let mut buf = vec![0; entry.meta.size.min(20_000) as usize];
                let _ = source.read(&entry, 0, &mut buf);
                let last = entry.meta.size - buf.len() as u64;
                let _ = source.read(&entry, last, &mut buf);
                let _ = source.next_data(&entry, entry.meta.size / 2);
            }
            if entry.kind == Kind::Dir {
                waiting.push(entry);
            }
        }
    }
}

#[test]
fn damaged_images_are_reported_and_nothing_worse() {
    let scratch = Scratch::new("damaged-ext");
    let (tree, image) = (scratch.path("tree"), scratch.path("image"));
    make_tree(&tree, 60);
    run("setfattr", &["-n", "user.alpha", "-v", "one", text(&tree.join("deep"))]);
    for options in ["-t ext4 -b 1024 -O inline_data", "-t ext3 -b 1024"] {
        let mut args = vec!["-q", "-F", "-N", "200", "-d", text(&tree)];
        args.extend(options.split(' '));
        args.extend([text(&image), "24M"]);
        let _ = fs::remove_file(&image);
        if !run("mke2fs", &args) {
            return;
        }
        let file = File::options().read(true).write(true).open(&image).unwrap();
        walk(&ExtImage::open(file.try_clone().unwrap(), 0).unwrap());
        // Where tables are: whatever is not file content. Found by looking for bytes that opening and walking reads.
        let length = file.metadata().unwrap().len();
        let mut seed = 1u64;
        for round in 0..4000u64 {
            seed = seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            let place = match round % 4 {
                0 => 1024 + (seed >> 33) % 1024,
                1 => 2048 + (seed >> 33) % 4096,
                _ => (seed >> 33) % (600 << 10),
            };
            let mut old = [0; 4];
            file.read_exact_at(&mut old, place.min(length - 4)).unwrap();
            let new = match round % 3 {
                0 => [0xff; 4],
                1 => [old[0] ^ (1 << (round % 8)), old[1], old[2], old[3]],
                _ => ((seed >> 20) as u32).to_le_bytes(),
            };
            file.write_all_at(&new, place).unwrap();
            let begun = std::time::Instant::now();
            if let Ok(image) = ExtImage::open(file.try_clone().unwrap(), 0) {
                walk(&image);
            }
            assert!(begun.elapsed().as_secs() < 5, "{options}: damage at {place} took {:?}", begun.elapsed());
            file.write_all_at(&old, place).unwrap();
        }
    }
}
