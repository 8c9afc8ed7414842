//! Packing, read back by independent readers: unsquashfs, the kernel and squashfuse must all see the source's tree.

use std::fs::{self, File};
use std::io::Write;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{FileExt, OpenOptionsExt, PermissionsExt, symlink};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};

use nix::fcntl::{AT_FDCWD, AtFlags};
use nix::sys::stat::{Mode, SFlag, UtimensatFlags, makedev, mknod, utimensat};
use nix::sys::time::TimeSpec;
use ovl::image::ImageError;
use ovl::image::source::dir::DirSource;
use ovl::image::source::graft::Graft;
use ovl::image::source::tree::TreeSource;
use ovl::image::source::{Kind, Source};
use ovl::image::squashfs::write::{Owners, PackOptions, PackReport, Watch, pack};

use crate::support::tree::{Look, assert_same, os, set_xattr, snapshot, xattrs};

/// A directory that goes away with everything mounted in it.
struct Temp(PathBuf);

impl Temp {
    fn new(name: &str) -> Temp {
        static COUNT: AtomicUsize = AtomicUsize::new(0);
        let count = COUNT.fetch_add(1, Ordering::Relaxed);
        let path = Path::new(env!("CARGO_TARGET_TMPDIR")).join(format!("{name}-{}-{count}", std::process::id()));
        fs::create_dir_all(&path).unwrap();
        Temp(path)
    }

    fn path(&self, name: &str) -> PathBuf {
        self.0.join(name)
    }

    fn dir(&self, name: &str) -> PathBuf {
        let path = self.path(name);
        fs::create_dir_all(&path).unwrap();
        path
    }
}

impl Drop for Temp {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

/// A mount that ends with the scope.
struct Mounted(PathBuf);

impl Drop for Mounted {
    fn drop(&mut self) {
        let _ = Command::new("umount").arg(&self.0).output();
    }
}

fn is_root() -> bool {
    nix::unistd::geteuid().is_root()
}

fn noise(seed: u32, length: usize) -> Vec<u8> {
    let mut state = seed | 1;
    let mut bytes = Vec::with_capacity(length);
    while bytes.len() < length {
        state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        // Every other kilobyte compresses well.
        bytes.push(if (bytes.len() >> 10) % 2 == 0 { (state >> 24) as u8 } else { b'a' + (state >> 30) as u8 });
    }
    bytes
}

fn image(temp: &Temp, name: &str) -> (PathBuf, File) {
    let path = temp.path(name);
    let file = File::options().read(true).write(true).create(true).truncate(true).open(&path).unwrap();
    (path, file)
}

fn options(compression: &str, block_size: u32) -> PackOptions {
    PackOptions { compression: compression.parse().unwrap(), block_size, owners: Owners::Keep, ..Default::default() }
}

fn pack_dir(tree: &Path, out: &File, options: &PackOptions) -> Result<PackReport, ImageError> {
    pack(&DirSource::new(tree)?, out, options, &())
}

const ALL: Look = Look { owners: true, xattrs: true };

/// Everything that has ever been hard for a packer, kept small.
fn hard_tree(root: &Path) {
    let file = |name: &[u8], bytes: &[u8]| fs::write(root.join(os(name)), bytes).unwrap();
    for block in [4096usize, 128 << 10, 1 << 20] {
        for (what, length) in [("less", block - 1), ("exact", block), ("more", block + 1), ("twice", 2 * block)] {
            file(format!("size-{block}-{what}").as_bytes(), &noise(length as u32, length));
        }
    }
    for index in 0..200u32 {
        file(format!("small-{index}").as_bytes(), &noise(index, (index * 37) as usize));
    }
    file(b"zeros", &vec![0; 300_000]);
    file(b"small zeros", &[0; 100]);
    file(b"new\nline", b"1");
    file(&[b'n'; 255], b"2");
    file(b"not \xff\xfe utf-8", b"3");
    file(b"-rf", b"4");
    file("größe ☃".as_bytes(), b"5");
    fs::create_dir(root.join("empty dir")).unwrap();
    symlink("target", root.join("link")).unwrap();
    symlink("x".repeat(4000), root.join("long link")).unwrap();
    symlink("/no/such/place", root.join("dangling")).unwrap();

    // Hard links, also of a symbolic link, a file in a fragment and a file of blocks; and one name outside the tree.
    fs::create_dir(root.join("links")).unwrap();
    for (from, to) in
        [("small-100", "links/a"), ("small-100", "links/b"), ("size-131072-more", "links/c"), ("link", "l")]
    {
        nix::unistd::linkat(AT_FDCWD, &root.join(from), AT_FDCWD, &root.join(to), AtFlags::empty()).unwrap();
    }

    // Holes at the start, in the middle, at the end, and a file beyond 4 GiB.
    let sparse = |name: &str, size: u64, parts: &[u64]| {
        let file = File::create(root.join(name)).unwrap();
        file.set_len(size).unwrap();
        for at in parts {
            file.write_all_at(&noise(*at as u32, 5000), *at).unwrap();
        }
    };
    sparse("hole-start", 3_000_000, &[2_900_000]);
    sparse("hole-middle", 3_000_000, &[0, 2_995_000]);
    sparse("hole-end", 3_000_001, &[0, 1_000_000]);
    sparse("hole-all", 5_000_000, &[]);
    sparse("huge", (4 << 30) + 70_000, &[0, 1 << 30, 4 << 30, (4 << 30) + 60_000]);

    // Deeper than any path may be long.
    let mut deep = root.join("deep");
    for level in 0..60 {
        deep.push(format!("level-{level}"));
    }
    fs::create_dir_all(&deep).unwrap();
    fs::write(deep.join("bottom"), b"here").unwrap();

    let many = root.join("many");
    fs::create_dir(&many).unwrap();
    for index in 0..5000 {
        File::create(many.join(format!("entry-{index}"))).unwrap();
    }

    for (name, mode) in [("setuid", 0o4755), ("setgid", 0o2755), ("sticky", 0o1777), ("none", 0o000)] {
        file(name.as_bytes(), name.as_bytes());
        fs::set_permissions(root.join(name), PermissionsExt::from_mode(mode)).unwrap();
    }
    fs::set_permissions(root.join("empty dir"), PermissionsExt::from_mode(0o3770)).unwrap();
    mknod(&root.join("fifo"), SFlag::S_IFIFO, Mode::from_bits_truncate(0o640), 0).unwrap();
    drop(std::os::unix::net::UnixListener::bind(root.join("socket")).unwrap());
    if is_root() {
        let mode = Mode::from_bits_truncate(0o600);
        mknod(&root.join("null"), SFlag::S_IFCHR, mode, makedev(1, 3)).unwrap();
        mknod(&root.join("block"), SFlag::S_IFBLK, mode, makedev(259, 70_000)).unwrap();
        for (name, id) in [("small-1", 1000), ("small-2", 70_000), ("many", u32::MAX - 7)] {
            std::os::unix::fs::lchown(root.join(name), Some(id), Some(id / 2)).unwrap();
        }
    }

    let long = noise(7, 3000);
    for (name, attribute, value) in [
        ("small-3", "user.short", &b"v"[..]),
        ("small-3", "user.empty", b""),
        ("small-4", "user.long", &long),
        ("small-5", "user.long", &long),
        ("size-4096-exact", "user.long", &long),
        ("many", "user.dir", b"d"),
        ("empty dir", "user.dir", b"d"),
        (".", "user.root", b"r"),
    ] {
        assert!(set_xattr(&root.join(name), attribute, value), "{attribute} of {name}");
    }
    if is_root() {
        for (name, attribute) in
            [("link", "trusted.l"), ("fifo", "trusted.f"), ("null", "security.n"), ("zeros", "trusted.z")]
        {
            set_xattr(&root.join(name), attribute, b"kept");
        }
    }
    // Times: before 1970 cannot be expressed, after 2038 can.
    for (name, seconds) in [("small-7", 0), ("small-8", 1), ("small-9", 4_000_000_000), ("many", 1_000_000_000)] {
        let time = TimeSpec::new(seconds, 0);
        utimensat(AT_FDCWD, &root.join(name), &time, &time, UtimensatFlags::NoFollowSymlink).unwrap();
    }
}

fn unsquash(image: &Path, into: &Path) -> Vec<String> {
    let done = Command::new("unsquashfs").args(["-q", "-n", "-d"]).arg(into).arg(image).output().unwrap();
    let said = String::from_utf8_lossy(&done.stderr);
    // It cannot make sockets' contents or the like; anything it says is a finding.
    assert!(done.status.success() && said.trim().is_empty(), "unsquashfs: {:?} {said}", done.status);
    snapshot(into, ALL)
}

fn mounted(program: &str, args: &[&str], image: &Path, at: &Path) -> Result<Mounted, String> {
    fs::create_dir_all(at).unwrap();
    let done = Command::new(program).args(args).arg(image).arg(at).output().map_err(|error| error.to_string())?;
    if done.status.success() {
        Ok(Mounted(at.to_owned()))
    } else {
        Err(String::from_utf8_lossy(&done.stderr).into_owned())
    }
}

fn read_back_everywhere(codec: &str) {
    if !is_root() {
        println!("skipped: needs root for devices, owners and loop mounts");
        return;
    }
    let temp = Temp::new("packing");
    let tree = temp.dir("tree");
    hard_tree(&tree);
    let expected = snapshot(&tree, ALL);
    let plain = snapshot(&tree, Look { owners: true, xattrs: false });
    for block in [4096, 128 << 10, 1 << 20] {
        // A file of its own: the kernel lets go of a loop device some time after the unmount, and a new mount of the
        // same file would get that device, with the size of the image before.
        let (path, file) = image(&temp, &format!("image-{block}.sqf"));
        let report = pack_dir(&tree, &file, &options(codec, block)).unwrap();
        let length = file.metadata().unwrap().len();
        assert_eq!(length % 4096, 0);
        assert_eq!(report.bytes_out, length);
        assert_eq!(report.inodes + report.hard_links, expected.len() as u64);

        let what = format!("{codec} {block}");
        let mount = mounted("mount", &["-t", "squashfs", "-o", "loop,ro"], &path, &temp.path("kernel"));
        let seen = snapshot(&mount.unwrap_or_else(|error| panic!("{what}: mount: {error}")).0, ALL);
        assert_same(&expected, &seen, &format!("{what}, kernel"));

        // The kernel checks most strictly and reads all; the slow readers see every compressor at the usual size.
        if block == 128 << 10 {
            let mount = mounted("squashfuse", &[], &path, &temp.path("fuse"));
            let mount = mount.unwrap_or_else(|error| panic!("{what}: squashfuse: {error}"));
            // squashfuse takes trusted. for security., and cannot give empty values; with mksquashfs' images too.
            let seen = snapshot(&mount.0, Look { owners: true, xattrs: false });
            assert_same(&plain, &seen, &format!("{what}, squashfuse"));
            assert_eq!(xattrs(&mount.0.join("small-4")), xattrs(&tree.join("small-4")), "{what}, squashfuse");
            assert_same(&expected, &unsquash(&path, &temp.path("unsquashed")), &format!("{what}, unsquashfs"));
        }
    }
}

#[test]
fn gzip_is_read_alike_everywhere() {
    read_back_everywhere("gzip:12");
}

#[test]
fn xz_is_read_alike_everywhere() {
    read_back_everywhere("xz:1");
}

#[test]
fn lz4_is_read_alike_everywhere() {
    read_back_everywhere("lz4");
    // The options block also tells of lz4hc.
    let temp = Temp::new("lz4hc");
    fs::write(temp.dir("tree").join("f"), noise(1, 500_000)).unwrap();
    let (path, file) = image(&temp, "image.sqf");
    pack_dir(&temp.path("tree"), &file, &options("lz4hc", 131072)).unwrap();
    assert_same(&snapshot(&temp.path("tree"), ALL), &unsquash(&path, &temp.path("out")), "lz4hc");
}

#[test]
fn zstd_is_read_alike_everywhere() {
    read_back_everywhere("zstd:3");
}

fn pack_bytes<S: Source>(source: &S, temp: &Temp, options: &PackOptions) -> Vec<u8> {
    let (path, file) = image(temp, "same.sqf");
    pack(source, &file, options, &()).unwrap();
    fs::read(path).unwrap()
}

#[test]
fn any_number_of_threads_gives_the_same_bytes() {
    let temp = Temp::new("threads");
    let tree = temp.dir("tree");
    hard_tree(&tree);
    let source = DirSource::new(&tree).unwrap();
    let with = |threads, budget| PackOptions { threads, budget, ..options("zstd:1", 65536) };
    let one = pack_bytes(&source, &temp, &with(1, 64 << 20));
    assert!(one == pack_bytes(&source, &temp, &with(2, 1)), "2 threads, smallest budget");
    assert!(one == pack_bytes(&source, &temp, &with(8, 64 << 20)), "8 threads");
}

#[test]
fn squashed_owners_and_clamped_times() {
    let temp = Temp::new("squashed");
    let tree = temp.dir("tree");
    hard_tree(&tree);
    let (path, file) = image(&temp, "image.sqf");
    let options = PackOptions { owners: Owners::AllRoot, epoch: Some(1_000_000), ..PackOptions::default() };
    pack_dir(&tree, &file, &options).unwrap();
    let out = temp.path("out");
    unsquash(&path, &out);
    for line in snapshot(&out, ALL) {
        assert!(line.contains(" owner=0:0"), "{line}");
        assert!(line.contains(" mtime=1000000 ") || line.contains(" mtime=0 ") || line.contains(" mtime=1 "), "{line}");
        assert!(!line.contains("trusted."), "{line}");
    }
    let mut superblock = [0; 96];
    file.read_exact_at(&mut superblock, 0).unwrap();
    assert_eq!(superblock[8..12], 1_000_000u32.to_le_bytes());
}

#[test]
fn seventy_thousand_inodes() {
    let temp = Temp::new("inodes");
    let mut tree = TreeSource::new(5);
    for index in 0..70_000u32 {
        let bytes = if index % 10 == 0 { index.to_le_bytes().to_vec() } else { Vec::new() };
        tree.file(format!("d{:02}/f{index}", index / 1000).as_bytes(), bytes, 0o644).unwrap();
    }
    // One directory whose entries' numbers lie far apart: only other directories with much in them.
    for index in 0..40u32 {
        for below in 0..300 {
            tree.add(format!("wide/{index:02}/{below}").as_bytes(), Kind::Fifo, 0o600, Vec::new()).unwrap();
        }
    }
    let (path, file) = image(&temp, "image.sqf");
    let report = pack(&tree, &file, &options("lz4", 131072), &()).unwrap();
    assert_eq!(report.inodes, 70_000 + 70 + 40 * 301 + 2);
    let done = Command::new("unsquashfs").args(["-l", "-d", ""]).arg(&path).output().unwrap();
    let lines = done.stdout.split(|byte| *byte == b'\n').filter(|line| line.starts_with(b"/") || line.is_empty());
    assert!(done.status.success());
    assert!(lines.count() as u64 >= report.inodes, "{}", String::from_utf8_lossy(&done.stderr));
    if !is_root() {
        println!("skipped the kernel's view: needs root");
        return;
    }
    let mount = mounted("mount", &["-t", "squashfs", "-o", "loop,ro"], &path, &temp.path("kernel")).unwrap();
    for index in (0..70_000u32).step_by(10) {
        let bytes = fs::read(mount.0.join(format!("d{:02}/f{index}", index / 1000))).unwrap();
        assert_eq!(bytes, index.to_le_bytes());
    }
}

#[test]
fn grafted_trees_keep_their_inner_side() {
    let temp = Temp::new("graft");
    let tree = temp.dir("tree");
    hard_tree(&tree);
    let extras = vec![
        (b"cnt/tool/1.0/.ovl/meta.json".to_vec(), b"{}".to_vec(), 0o644),
        (b"cnt/tool/1.0/small-9".to_vec(), b"instead".to_vec(), 0o600),
    ];
    let graft = Graft::new(DirSource::new(&tree).unwrap(), b"cnt/tool/1.0", 77, extras).unwrap();
    let (path, file) = image(&temp, "image.sqf");
    pack(&graft, &file, &options("lz4", 131072), &()).unwrap();
    let out = temp.path("out");
    unsquash(&path, &out);
    let inner = out.join("cnt/tool/1.0");
    assert_eq!(fs::read(inner.join(".ovl/meta.json")).unwrap(), b"{}");
    assert_eq!(fs::read(inner.join("small-9")).unwrap(), b"instead");
    assert_eq!(xattrs(&inner), xattrs(&tree));
    fs::remove_dir_all(inner.join(".ovl")).unwrap();
    let others = |root: &Path| -> Vec<String> {
        // The removed directory has changed the root's time.
        snapshot(root, ALL)
            .into_iter()
            .filter(|line| !line.starts_with("./small-9 ") && !line.starts_with(". "))
            .collect()
    };
    assert_same(&others(&tree), &others(&inner), "graft");
}

#[test]
fn equal_files_are_stored_once() {
    let temp = Temp::new("equal");
    let tree = temp.dir("tree");
    for (name, seed, length) in [("a", 1, 700_000), ("b", 1, 700_000), ("c", 1, 30_000), ("d", 1, 30_000)] {
        fs::write(tree.join(name), noise(seed, length)).unwrap();
    }
    // Head, middle and tail agree, the rest does not.
    let mut other = noise(1, 700_000);
    other[100_000] ^= 1;
    fs::write(tree.join("e"), &other).unwrap();
    let sparse = noise(5, 5000);
    for name in ["f", "g"] {
        let file = File::create(tree.join(name)).unwrap();
        file.set_len(2_000_000).unwrap();
        file.write_all_at(&sparse, 1_000_000).unwrap();
    }
    let (path, file) = image(&temp, "image.sqf");
    let without = pack_dir(&tree, &file, &PackOptions { dedup: false, ..options("zstd:3", 131072) }).unwrap();
    let with = pack_dir(&tree, &file, &options("zstd:3", 131072)).unwrap();
    assert_eq!((without.duplicates, with.duplicates), (0, 3));
    assert_eq!(with.bytes_in, 2 * 700_000 + 2 * 30_000 + 700_000 + 4_000_000);
    assert!(with.bytes_out + 300_000 < without.bytes_out);
    assert_same(&snapshot(&tree, ALL), &unsquash(&path, &temp.path("out")), "equal files");
}

/// Cancels after that many bytes, and remembers what it was told.
struct After {
    bytes: u64,
    seen: AtomicU64,
    total: AtomicU64,
}

impl Watch for After {
    fn progress(&self, done: u64, total: Option<u64>) {
        self.seen.store(done, Ordering::Relaxed);
        self.total.store(total.unwrap_or(0), Ordering::Relaxed);
    }

    fn cancelled(&self) -> bool {
        self.seen.load(Ordering::Relaxed) > self.bytes
    }
}

#[test]
fn cancellation_stops_at_once_and_progress_adds_up() {
    let temp = Temp::new("cancel");
    let tree = temp.dir("tree");
    for index in 0..24 {
        fs::write(tree.join(format!("f{index}")), noise(index, 1 << 20)).unwrap();
    }
    let source = DirSource::new(&tree).unwrap();
    let (_, file) = image(&temp, "image.sqf");
    let watch = After { bytes: 3 << 20, seen: AtomicU64::new(0), total: AtomicU64::new(0) };
    let small = PackOptions { budget: 2 << 20, threads: 2, ..options("zstd:3", 131072) };
    let error = pack(&source, &file, &small, &watch).unwrap_err();
    assert!(matches!(error, ImageError::Interrupted), "{error}");
    assert!(watch.seen.load(Ordering::Relaxed) < 8 << 20);
    let mut start = [1; 4];
    file.read_exact_at(&mut start, 0).unwrap();
    assert_eq!(start, [0; 4], "a half-written image must not look like one");

    let watch = After { bytes: u64::MAX, seen: AtomicU64::new(0), total: AtomicU64::new(0) };
    let report = pack(&source, &file, &small, &watch).unwrap();
    assert_eq!(report.bytes_in, 24 << 20);
    assert_eq!(watch.seen.load(Ordering::Relaxed), 24 << 20);
    assert_eq!(watch.total.load(Ordering::Relaxed), 24 << 20);
}

#[test]
fn a_full_disk_is_reported_as_such() {
    if !is_root() {
        println!("skipped: needs root to mount a small tmpfs");
        return;
    }
    let temp = Temp::new("full");
    let tree = temp.dir("tree");
    fs::write(tree.join("f"), noise(3, 8 << 20)).unwrap();
    let at = temp.dir("small");
    let done = Command::new("mount").args(["-t", "tmpfs", "-o", "size=1m", "tmpfs"]).arg(&at).status().unwrap();
    assert!(done.success());
    let mount = Mounted(at);
    let out = File::options().read(true).write(true).create_new(true).open(mount.0.join("image")).unwrap();
    let error = pack_dir(&tree, &out, &options("lz4", 131072)).unwrap_err();
    assert!(
        matches!(&error, ImageError::Io { source, .. } if source.raw_os_error() == Some(nix::libc::ENOSPC)),
        "{error}"
    );
    drop(out);
}

/// Changes a file of the source as soon as something has been packed.
struct Meddler<F: Fn() + Sync>(F);

impl<F: Fn() + Sync> Watch for Meddler<F> {
    fn progress(&self, _: u64, _: Option<u64>) {
        (self.0)();
    }
}

#[test]
fn a_source_that_changes_is_an_error_that_names_the_file() {
    let temp = Temp::new("changes");
    let tree = temp.dir("tree");
    let last = tree.join("z-last");
    let check = |change: &(dyn Fn() + Sync)| {
        for index in 0..16 {
            fs::write(tree.join(format!("a{index}")), noise(index, 1 << 20)).unwrap();
        }
        let _ = fs::remove_file(&last);
        fs::write(&last, noise(9, 2 << 20)).unwrap();
        let (_, file) = image(&temp, "image.sqf");
        let small = PackOptions { budget: 1, threads: 1, ..options("lz4", 131072) };
        pack(&DirSource::new(&tree).unwrap(), &file, &small, &Meddler(change)).unwrap_err().to_string()
    };
    let shrunk = check(&|| File::options().write(true).open(&last).unwrap().set_len(5000).unwrap());
    assert!(shrunk.contains("z-last: it changed"), "{shrunk}");
    let grown = check(&|| File::options().append(true).open(&last).unwrap().write_all(b"more").unwrap());
    assert!(grown.contains("z-last: it changed"), "{grown}");
    let gone = check(&|| drop(fs::remove_file(&last)));
    assert!(gone.contains("z-last: No such file"), "{gone}");
    let replaced = check(&|| {
        let _ = fs::remove_file(&last);
        let _ = symlink("/etc/passwd", &last);
    });
    assert!(replaced.contains("z-last"), "{replaced}");
}

#[test]
fn what_cannot_be_packed_is_named() {
    let temp = Temp::new("refused");
    let missing = DirSource::new(&temp.path("nowhere")).err().unwrap().to_string();
    assert!(missing.contains("nowhere: No such file"), "{missing}");
    let (path, file) = image(&temp, "image.sqf");
    let odd = PackOptions { block_size: 5000, ..PackOptions::default() };
    assert!(pack_dir(&temp.0, &file, &odd).unwrap_err().to_string().contains("block size 5000"));
    // A read-only file to write into: nothing is written, and the error says so.
    let closed = File::options().read(true).custom_flags(0).open(&path).unwrap();
    let error = pack_dir(&temp.0, &closed, &PackOptions::default()).unwrap_err();
    assert!(matches!(error, ImageError::Io { .. }), "{error}");
    assert!(!path.as_os_str().as_bytes().is_empty());
}
