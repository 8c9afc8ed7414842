//! The SquashFS reader against images made by mksquashfs and gensquashfs.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{FileExt, MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::atomic::{AtomicU32, Ordering};

use ovl::image::source::Source;
use ovl::image::squashfs::read::{Caches, Image, Inode, InodeKind};
use ovl::image::squashfs::source::SquashSource;

/// A directory that goes when the test ends.
pub struct Scratch(pub PathBuf);

impl Scratch {
    pub fn new(name: &str) -> Scratch {
        static COUNT: AtomicU32 = AtomicU32::new(0);
        let number = COUNT.fetch_add(1, Ordering::Relaxed);
        let path = std::env::temp_dir().join(format!("ovl-{name}-{}-{number}", std::process::id()));
        fs::create_dir_all(&path).unwrap();
        Scratch(path)
    }

    pub fn path(&self, name: &str) -> PathBuf {
        self.0.join(name)
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

/// Runs a program that must succeed; false (with a word on why) when it is not installed.
pub fn run(program: &str, args: &[&str]) -> bool {
    match Command::new(program).args(args).output() {
        Ok(output) => {
            let said = String::from_utf8_lossy(&output.stderr);
            assert!(output.status.success(), "{program} {args:?}: {}\n{said}", output.status);
            true
        }
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
            eprintln!("skipped: {program} is not installed");
            false
        }
        Err(error) => panic!("{program}: {error}"),
    }
}

pub fn text(path: &Path) -> &str {
    path.to_str().unwrap()
}

/// Bytes without a pattern a compressor would find.
pub fn noise(length: usize, mut seed: u64) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(length + 8);
    while bytes.len() < length {
        seed = seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        bytes.extend_from_slice(&(seed >> 33).to_le_bytes()[..4]);
    }
    bytes.truncate(length);
    bytes
}

/// A tree with something of everything; big directories of `many` entries.
pub fn make_tree(top: &Path, many: usize) {
    fs::create_dir_all(top.join("deep/er/and/deeper")).unwrap();
    fs::create_dir_all(top.join("empty")).unwrap();
    fs::create_dir_all(top.join("many")).unwrap();
    let words = b"the quick brown fox jumps over the lazy dog. ".repeat(40_000);
    for (name, length) in [("empty", 0), ("one", 1), ("tiny", 100), ("4095", 4095), ("4096", 4096), ("4097", 4097)] {
        fs::write(top.join(format!("deep/{name}")), &words[..length]).unwrap();
        fs::write(top.join(format!("deep/er/{name}.noise")), noise(length, length as u64 + 7)).unwrap();
    }
    fs::write(top.join("words"), &words).unwrap();
    fs::write(top.join("words-again"), &words).unwrap();
    fs::write(top.join("noise"), noise(3_000_001, 5)).unwrap();
    let mixed = [words.as_slice(), &noise(1 << 20, 9), &vec![0; 2 << 20], &words[..12_345]].concat();
    fs::write(top.join("mixed"), mixed).unwrap();
    let holes = File::create(top.join("holes")).unwrap();
    holes.set_len(9_000_000).unwrap();
    holes.write_all_at(b"island", 5_000_000).unwrap();
    File::create(top.join("nothing-but-hole")).unwrap().set_len(7_654_321).unwrap();
    for number in 0..many {
        let content = if number % 5 == 0 { format!("content of {number}\n") } else { String::new() };
        fs::write(top.join(format!("many/file-{:06}-{}", number * 7, "x".repeat(number % 30))), content).unwrap();
    }
    fs::hard_link(top.join("words"), top.join("deep/er/words-link")).unwrap();
    fs::set_permissions(top.join("words"), fs::Permissions::from_mode(0o4751)).unwrap();
    std::os::unix::fs::symlink("../words", top.join("deep/link")).unwrap();
    std::os::unix::fs::symlink("/a/very/".to_owned() + &"long/".repeat(170) + "target", top.join("deep/long")).unwrap();
    let odd = std::ffi::OsStr::from_bytes(b"od\xffd n\name \xf0\x9f\x90\x9f");
    fs::write(top.join(odd), "odd").unwrap();
    fs::write(top.join("z".repeat(255)), "long name").unwrap();
    run("mkfifo", &[text(&top.join("fifo"))]);
    if nix::unistd::geteuid().is_root() {
        run("mknod", &[text(&top.join("char")), "c", "5", "300"]);
        run("mknod", &[text(&top.join("block")), "b", "300", "70000"]);
        for name in ["deep", "words", "holes", "char"] {
            run("chown", &["70000:80000", text(&top.join(name))]);
        }
        run("chmod", &["4751", text(&top.join("words"))]);
    }
}

fn everything(image: &Image, file: &Inode, step: usize) -> Vec<u8> {
    let mut bytes = vec![0xa5; file.size as usize];
    let mut at = 0;
    while at < bytes.len() {
        let end = (at + step).min(bytes.len());
        let got = image.read(file, at as u64, &mut bytes[at..end]).unwrap();
        assert_eq!(got, end - at, "short read");
        at = end;
    }
    assert_eq!(image.read(file, file.size, &mut [0; 10]).unwrap(), 0);
    bytes
}

/// Compares a directory of the image with one on disk, all the way down; collects inode numbers of hard links.
fn compare(image: &Image, dir: &Inode, disk: &Path, links: &mut BTreeMap<u64, u32>) -> usize {
    let entries = image.list(dir).unwrap();
    let mut names: Vec<_> = fs::read_dir(disk).unwrap().map(|entry| entry.unwrap().file_name()).collect();
    names.sort();
    assert!(entries.iter().map(|entry| entry.name.as_slice()).eq(names.iter().map(|name| name.as_bytes())), "{disk:?}");
    let mut count = entries.len();
    for (entry, name) in entries.iter().zip(names) {
        let path = disk.join(name);
        assert_eq!(image.lookup(dir, &entry.name).unwrap().as_ref(), Some(entry), "{path:?}");
        let inode = image.inode(entry.at).unwrap();
        let meta = fs::symlink_metadata(&path).unwrap();
        assert_eq!(entry.kind, inode.kind, "{path:?}");
        assert_eq!(inode.st_mode(), meta.mode(), "{path:?}");
        assert_eq!((inode.uid, inode.gid, inode.mtime), (meta.uid(), meta.gid(), meta.mtime()), "{path:?}");
        match inode.kind {
            InodeKind::Dir => count += compare(image, &inode, &path, links),
            InodeKind::File => {
                let expected = fs::read(&path).unwrap();
                assert_eq!(inode.size, expected.len() as u64, "{path:?}");
                for step in
                    if expected.len() < 10_000 { vec![7, 1 << 20] } else { vec![4096, 100_003, 131_072, 5 << 20] }
                {
                    assert!(everything(image, &inode, step) == expected, "{path:?} in steps of {step}");
                }
                if meta.nlink() > 1 {
                    assert_eq!(inode.nlink, meta.nlink() as u32, "{path:?}");
                    assert_eq!(*links.entry(meta.ino()).or_insert(inode.number), inode.number, "{path:?}");
                }
            }
            InodeKind::Symlink => {
                assert_eq!(image.readlink(&inode).unwrap(), fs::read_link(&path).unwrap().as_os_str().as_bytes())
            }
            InodeKind::CharDev | InodeKind::BlockDev => {
                let (major, minor) = inode.device();
                assert_eq!(nix::sys::stat::makedev(major.into(), minor.into()), meta.rdev(), "{path:?}");
            }
            InodeKind::Fifo | InodeKind::Socket => {}
        }
    }
    assert_eq!(image.lookup(dir, b"no such name").unwrap(), None);
    assert_eq!(image.lookup(dir, b"\xff\xff").unwrap(), None);
    assert_eq!(image.lookup(dir, b"\x01").unwrap(), None);
    count
}

fn open(path: &Path) -> Image {
    Image::open(File::open(path).unwrap(), 0).unwrap()
}

fn same(image: &Image, disk: &Path) {
    let root = image.inode(image.root()).unwrap();
    let count = compare(image, &root, disk, &mut BTreeMap::new());
    let found = image.verify().unwrap();
    assert_eq!(found.inodes, u64::from(image.superblock().inodes));
    assert!(count as u64 >= found.inodes - 1);
}

#[test]
fn images_of_mksquashfs_read_like_the_tree() {
    let scratch = Scratch::new("read");
    let tree = scratch.path("tree");
    make_tree(&tree, 3000);
    for (number, options) in [
        "-comp gzip",
        "-comp xz -b 1M",
        "-comp lz4 -b 64K",
        "-comp lz4 -Xhc -b 256K -always-use-fragments",
        "-comp zstd -Xcompression-level 3",
        "-comp zstd -Xcompression-level 3 -b 4K",
        "-comp zstd -Xcompression-level 1 -b 1M -no-fragments",
        "-comp zstd -Xcompression-level 1 -noI -noD -noF -noX -noId",
        "-comp gzip -no-exports -no-duplicates -no-sparse",
        "-comp lz4 -no-tailends -noI",
    ]
    .iter()
    .enumerate()
    {
        let image = scratch.path(&format!("{number}.sqf"));
        let mut args = vec![text(&tree), text(&image), "-no-progress", "-quiet"];
        args.extend(options.split(' '));
        if !run("mksquashfs", &args) {
            return;
        }
        println!("{options}");
        same(&open(&image), &tree);
    }
}

#[test]
fn images_of_libsquashfs_read_like_the_tree() {
    let scratch = Scratch::new("gen");
    let tree = scratch.path("tree");
    make_tree(&tree, 500);
    for (number, options) in ["-c gzip", "-c xz -b 65536", "-c lz4", "-c zstd -b 1048576 -e"].iter().enumerate() {
        let image = scratch.path(&format!("{number}.sqf"));
        let mut args = vec!["-q", "-f", "-k", "-x", "-D", text(&tree)];
        args.extend(options.split(' '));
        args.push(text(&image));
        if !run("gensquashfs", &args) {
            return;
        }
        let opened = open(&image);
        // What unsquashfs makes of the first one is the measure, as gensquashfs does not keep everything. (It refuses
        // the lz4 one, whose id table libsquashfs "compresses" from four bytes to five.)
        let unpacked = scratch.path("unpacked");
        if number == 0 {
            run("unsquashfs", &["-no-progress", "-q", "-d", text(&unpacked), text(&image)]);
        }
        same(&opened, &unpacked);
    }
}

#[test]
fn large_directories_are_looked_up_by_their_index() {
    let scratch = Scratch::new("large");
    let tree = scratch.path("tree/dir");
    fs::create_dir_all(&tree).unwrap();
    for number in 0..20_000 {
        File::create(tree.join(format!("a-file-with-a-longer-name-{number}"))).unwrap();
    }
    let image = scratch.path("image");
    if !run("mksquashfs", &[text(&scratch.path("tree")), text(&image), "-no-progress", "-quiet", "-comp", "zstd"]) {
        return;
    }
    let image = open(&image);
    let dir = image.find(b"/dir").unwrap().unwrap();
    assert_eq!(image.list(&dir).unwrap().len(), 20_000);
    let begun = std::time::Instant::now();
    for number in 0..20_000 {
        let name = format!("a-file-with-a-longer-name-{number}");
        assert_eq!(image.lookup(&dir, name.as_bytes()).unwrap().unwrap().name, name.as_bytes());
    }
    for name in
        ["a-file-with-a-longer-name-", "a-file-with-a-longer-name-20000", "A", "zzz", "a-file-with-a-longer-name-1x"]
    {
        assert_eq!(image.lookup(&dir, name.as_bytes()).unwrap(), None, "{name}");
    }
    println!("20,000 lookups: {:?}", begun.elapsed());
    // Without the index each would read hundreds of KiB of listing.
    assert!(begun.elapsed().as_secs() < 5, "{:?}", begun.elapsed());
}

#[test]
fn xattrs_are_read_inline_and_from_elsewhere() {
    let scratch = Scratch::new("xattr");
    let tree = scratch.path("tree");
    fs::create_dir_all(tree.join("dir")).unwrap();
    // Values of this length that occur more than once are stored once and referred to.
    let long = "v".repeat(2000);
    for name in ["one", "two", "three"] {
        fs::write(tree.join(name), name).unwrap();
        run("setfattr", &["-n", "user.long", "-v", &long, text(&tree.join(name))]);
        run("setfattr", &["-n", "user.name", "-v", name, text(&tree.join(name))]);
    }
    run("setfattr", &["-n", "user.empty", text(&tree.join("dir"))]);
    if nix::unistd::geteuid().is_root() {
        run("setfattr", &["-n", "trusted.t", "-v", "t", text(&tree.join("dir"))]);
        run("setfattr", &["-n", "security.s", "-v", "s", text(&tree.join("dir"))]);
    }
    for (number, options) in ["-comp gzip", "-comp zstd -noX"].iter().enumerate() {
        let image = scratch.path(&format!("{number}.sqf"));
        let mut args = vec![text(&tree), text(&image), "-no-progress", "-quiet"];
        args.extend(options.split(' '));
        if !run("mksquashfs", &args) {
            return;
        }
        let image = open(&image);
        for name in ["one", "two", "three"] {
            let mut found = image.xattrs(&image.find(name.as_bytes()).unwrap().unwrap()).unwrap();
            found.sort();
            let expected = [(b"user.long".to_vec(), long.as_bytes().to_vec()), (b"user.name".to_vec(), name.into())];
            assert_eq!(found, expected);
        }
        let mut found = image.xattrs(&image.find(b"dir").unwrap().unwrap()).unwrap();
        found.retain(|(name, _)| name != b"security.selinux");
        found.sort();
        if nix::unistd::geteuid().is_root() {
            assert_eq!(found.remove(0), (b"security.s".to_vec(), b"s".to_vec()));
            assert_eq!(found.remove(0), (b"trusted.t".to_vec(), b"t".to_vec()));
        }
        assert_eq!(found, [(b"user.empty".to_vec(), Vec::new())]);
        assert_eq!(image.xattrs(&image.inode(image.root()).unwrap()).unwrap(), []);
        image.verify().unwrap();
    }
}

#[test]
fn an_image_inside_a_file_is_read_as_a_source_by_many_threads() {
    let scratch = Scratch::new("inside");
    let (tree, image, outer) = (scratch.path("tree"), scratch.path("image"), scratch.path("outer"));
    make_tree(&tree, 300);
    if !run("mksquashfs", &[text(&tree), text(&image), "-no-progress", "-quiet", "-comp", "lz4", "-b", "16K"]) {
        return;
    }
    let bytes = [noise(12_345, 1), fs::read(&image).unwrap(), noise(5000, 2)].concat();
    fs::write(&outer, bytes).unwrap();
    assert!(Image::open(File::open(&outer).unwrap(), 12_344).is_err());
    assert!(Image::open(File::open(&outer).unwrap(), 1 << 40).is_err());
    // A cache much smaller than the content: it is evicted all the time.
    let image = Image::open_sharing(File::open(&outer).unwrap(), 12_345, Caches::new(100_000)).unwrap();
    std::thread::scope(|scope| {
        for _ in 0..4 {
            scope.spawn(|| {
                let source = SquashSource::new(&image, b"").unwrap();
                crate::ext::compare(&source, &source.root().unwrap(), &tree, &mut BTreeMap::new());
            });
        }
    });
    same(&image, &tree);
    let below = SquashSource::new(&image, b"/deep/er").unwrap();
    crate::ext::compare(&below, &below.root().unwrap(), &tree.join("deep/er"), &mut BTreeMap::new());
    assert!(SquashSource::new(&image, b"/words").is_err());
    let words = image.find(b"deep/er/words-link").unwrap().unwrap();
    let holes = image.find(b"holes").unwrap().unwrap();
    assert_eq!(words.nlink, 2);
    let island = image.next_data(&holes, 0).unwrap().unwrap();
    assert!(island.contains(&5_000_000) && island.end - island.start <= 16 << 10, "{island:?}");
}

/// Reads all there is; damage may be reported, nothing else may happen.
fn walk(image: &Image) {
    let _ = image.verify();
    let Ok(root) = image.inode(image.root()) else { return };
    let (mut waiting, mut budget) = (vec![root], 1500);
    while let Some(dir) = waiting.pop() {
        let Ok(entries) = image.list(&dir) else { continue };
        for entry in entries.iter().take(300) {
            budget -= 1;
            if budget == 0 {
                return;
            }
            let _ = image.lookup(&dir, &entry.name);
            let Ok(inode) = image.inode(entry.at) else { continue };
            let _ = image.xattrs(&inode);
            let _ = image.readlink(&inode);
            if inode.kind == InodeKind::File {
                let mut buf = vec![0; inode.size.min(20_000) as usize];
                let _ = image.read(&inode, 0, &mut buf);
                let _ = image.read(&inode, inode.size - buf.len() as u64, &mut buf);
                let _ = image.next_data(&inode, inode.size / 2);
            }
            if inode.kind == InodeKind::Dir {
                waiting.push(inode);
            }
        }
    }
}

/// How many places are damaged per image.
const ROUNDS: u64 = 1000;

#[test]
fn damaged_images_are_reported_and_nothing_worse() {
    let scratch = Scratch::new("damaged");
    let tree = scratch.path("tree");
    make_tree(&tree, 300);
    for name in ["words", "noise"] {
        run("setfattr", &["-n", "user.long", "-v", &"v".repeat(500), text(&tree.join(name))]);
    }
    for options in ["-comp gzip -b 64K -noI -noX -noF -noId", "-comp zstd -b 128K", "-comp lz4", "-comp xz"] {
        let image = scratch.path("image");
        let _ = fs::remove_file(&image);
        let mut args = vec![text(&tree), text(&image), "-no-progress", "-quiet"];
        args.extend(options.split(' '));
        if !run("mksquashfs", &args) {
            return;
        }
        let file = File::options().read(true).write(true).open(&image).unwrap();
        let sound = Image::open(file.try_clone().unwrap(), 0).unwrap();
        sound.verify().unwrap();
        let (tables, end) = (sound.superblock().inode_table, sound.superblock().bytes_used);
        let (mut seed, mut refused) = (1u64, 0);
        for round in 0..ROUNDS {
            seed = seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            let place = match round % 8 {
                0 | 4 => (seed >> 33) % 96,
                1 => (seed >> 33) % end,
                _ => tables + (seed >> 33) % (end - tables),
            };
            let mut old = [0; 8];
            let length = (end - place).min(1 + (seed >> 60) % 8) as usize;
            file.read_exact_at(&mut old[..length], place).unwrap();
            let mut new = old;
            for (index, byte) in new.iter_mut().enumerate() {
                match round % 3 {
                    0 => *byte = 0xff,
                    1 if index == 0 => *byte ^= 1 << (round % 8),
                    1 => {}
                    _ => *byte = (seed >> (index * 8)) as u8,
                }
            }
            file.write_all_at(&new[..length], place).unwrap();
            let begun = std::time::Instant::now();
            match Image::open(file.try_clone().unwrap(), 0) {
                Ok(image) => {
                    refused += u64::from(image.verify().is_err());
                    walk(&image);
                }
                Err(_) => refused += 1,
            }
            assert!(begun.elapsed().as_secs() < 5, "{options}: damage at {place} took {:?}", begun.elapsed());
            file.write_all_at(&old[..length], place).unwrap();
        }
        println!("{options}: {refused} of {ROUNDS} noticed by opening and verifying");
        assert!(refused > ROUNDS / 3, "{options}: only {refused} of {ROUNDS} noticed");
        // Cut short anywhere.
        for part in 0..50 {
            fs::write(scratch.path("cut"), &fs::read(&image).unwrap()[..(end * part / 50) as usize]).unwrap();
            assert!(Image::open(File::open(scratch.path("cut")).unwrap(), 0).is_err());
        }
        assert!(Image::open(file, 0).unwrap().verify().is_ok());
    }
    let peak = nix::sys::resource::getrusage(nix::sys::resource::UsageWho::RUSAGE_SELF).unwrap().max_rss();
    println!("peak memory: {} MiB", peak >> 10);
    assert!(peak < 600 << 10, "{} MiB", peak >> 10);
}

#[test]
fn a_directory_within_itself_ends_a_walk() {
    let scratch = Scratch::new("loop");
    fs::create_dir_all(scratch.path("tree/a/b")).unwrap();
    let path = scratch.path("image");
    if !run("mksquashfs", &[text(&scratch.path("tree")), text(&path), "-no-progress", "-quiet", "-noI"]) {
        return;
    }
    // An entry is: place of the inode, number, kind (1: directory), length of the name less one, name.
    let mut bytes = fs::read(&path).unwrap();
    let entry = |name: u8| bytes.windows(5).position(|window| window == [1, 0, 0, 0, name]).unwrap() - 4;
    let (outer, inner) = (entry(b'a'), entry(b'b'));
    bytes.copy_within(outer..outer + 2, inner);
    fs::write(&path, bytes).unwrap();
    let image = open(&path);
    assert!(image.find(b"a/b/b/b/b").unwrap().is_some(), "the loop is not there");
    assert!(image.verify().unwrap_err().to_string().contains("two places"));
    let source = SquashSource::new(&image, b"").unwrap();
    let a = source.list(&source.root().unwrap()).unwrap().remove(0);
    assert!(source.list(&a).unwrap_err().to_string().contains("two places"));
}
