//! `ovl pack` and `ovl unpack` as a user has them: there and back through every form, and what must not happen.

use std::fs;
use std::os::unix::fs::{FileTypeExt, MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use ovl::image::squashfs::read::Image;

use crate::running::system;
use crate::support::house::{House, Run, finish};
use crate::support::sif;
use crate::support::tree::{Look, assert_same, set_xattr, snapshot};

const LOOK: Look = Look { owners: false, xattrs: true };

/// Runs a line of shell as the house's user, in its work directory.
#[track_caller]
fn sh(house: &House, line: &str) -> String {
    let mut command = house.command("bash");
    command.args(["-ec", line]);
    finish(command).ok().stdout
}

/// A house with a tree of everything a user can make in `work/tree`.
fn house() -> House {
    let house = House::new();
    sh(
        &house,
        r#"mkdir -p tree/a/b tree/empty tree/"odd name"; echo hi > tree/a/file; ln tree/a/file tree/a/hard
        ln tree/a/file tree/hard; ln -s ../file tree/a/b/link; ln -s /nowhere tree/dangling; mkfifo tree/pipe
        head -c 300000 /dev/urandom > tree/noise; cp tree/noise tree/twin; : > tree/nothing
        truncate -s 5M tree/holes; echo x >> tree/holes; truncate -s 9M tree/holes; truncate -s 1M tree/hole
        name=$(printf 'n%.0s' $(seq 120)); mkdir -p tree/$name/$name; echo long > tree/$name/$name/$name
        ln -s $name/$name/$name tree/longlink; printf 'x' > "tree/odd name/ü"$'\n''ß'
        chmod 711 tree/noise; chmod 1777 tree/empty; chmod 400 tree/nothing; touch -d 2001-02-03 tree/twin
        touch -d 1969-12-31T23:00:00Z tree/hole; touch -d 2002-03-04 tree/a"#,
    );
    if !set_xattr(&house.path("work/tree/a/file"), "user.colour", b"blue\0\n=") {
        println!("skipped in part: no extended attributes in {}", house.dir.display());
    }
    house
}

#[track_caller]
fn unsquashed(house: &House, image: &str) -> Vec<String> {
    let to = house.path(&format!("work/{image}.tree"));
    let mut command = house.command("unsquashfs");
    command.args(["-no-progress", "-dest"]).arg(&to).arg(image);
    finish(command).ok();
    snapshot(&to, LOOK)
}

/// SquashFS has no times before 1970.
fn without_old_times(lines: Vec<String>) -> Vec<String> {
    lines.into_iter().map(|line| line.replace("mtime=-3600", "mtime=0")).collect()
}

#[test]
fn every_form_of_a_tree_packs_to_the_same_bytes() {
    let house = house();
    house.ovl(&["pack", "tree"]).ok().says("packed a directory");
    let expected = fs::read(house.path("work/tree.sqf")).unwrap();
    let tree = without_old_times(snapshot(&house.path("work/tree"), LOOK));
    assert_same(&tree, &unsquashed(&house, "tree.sqf"), "the packed directory");
    let forms = [
        "--format=posix",
        "--format=posix --xattrs -S --sparse-version=0.0 -z",
        "--format=posix --xattrs -S --sparse-version=0.1 --xz",
        "--format=posix --xattrs -S --sparse-version=1.0 --zstd",
        "--format=posix --xattrs -S -z",
    ];
    for (number, form) in forms.iter().enumerate() {
        let xattrs = if form.contains("--xattrs") { "" } else { "--xattrs" };
        sh(&house, &format!("tar -C tree {form} {xattrs} -cf {number}.tar ."));
        house.ovl(&["pack", &format!("{number}.tar"), "-o", "x.sqf", "-f", "-t", "3"]).ok().says("a tar archive");
        assert!(fs::read(house.path("work/x.sqf")).unwrap() == expected, "{form}");
        let run = sh(
            &house,
            &format!("cat {number}.tar | {} pack - -o y.sqf -f", crate::support::house::program().display()),
        );
        assert_eq!(run, "");
        assert!(fs::read(house.path("work/y.sqf")).unwrap() == expected, "{form} through a pipe");
    }
    // Old GNU archives have no attributes, plain ones no times before 1970 and no sparse files.
    sh(&house, "setfattr -x user.colour tree/a/file || true; touch -d @7 tree/hole");
    house.ovl(&["pack", "tree", "-f"]).ok();
    let expected = fs::read(house.path("work/tree.sqf")).unwrap();
    for form in ["gnu", "gnu -S", "oldgnu -S"] {
        sh(&house, &format!("tar -C tree --format={form} -cf old.tar ."));
        house.ovl(&["pack", "old.tar", "-f"]).ok();
        assert!(fs::read(house.path("work/old.sqf")).unwrap() == expected, "{form}");
    }
    // An image again, with another compressor, and back.
    house.ovl(&["pack", "tree.sqf", "-o", "lz4.sqf", "--comp", "lz4", "--block-size", "1M"]).ok().says("lz4:");
    house.ovl(&["pack", "lz4.sqf", "-o", "back.sqf"]).ok();
    assert!(fs::read(house.path("work/back.sqf")).unwrap() == expected);
    assert!(house.names("scratch").is_empty() && !house.names("work").iter().any(|name| name.starts_with('.')));
}

#[test]
fn unpacked_is_what_was_packed() {
    let house = house();
    house.ovl(&["pack", "tree"]).ok();
    let tree = without_old_times(snapshot(&house.path("work/tree"), LOOK));
    house.ovl(&["unpack", "tree.sqf", "-o", "there"]).ok().says("unpacked a SquashFS image into");
    assert_same(&tree, &snapshot(&house.path("work/there"), LOOK), "a directory");
    let blocks = |path: &str| fs::metadata(house.path(&format!("work/there/{path}"))).unwrap().blocks() * 512;
    assert!(blocks("holes") < 100_000 && blocks("hole") == 0, "holes stay holes");

    house.ovl(&["unpack", "tree.sqf", "-o", "out.tar"]).ok();
    sh(&house, "mkdir gnu && tar -C gnu --xattrs -xpf out.tar");
    assert_same(&tree, &snapshot(&house.path("work/gnu"), LOOK), "GNU tar reads the archive");
    assert!(fs::metadata(house.path("work/out.tar")).unwrap().len() < 2_000_000, "sparse files stay sparse");
    house.ovl(&["pack", "out.tar", "-o", "again.sqf"]).ok();
    assert!(fs::read(house.path("work/again.sqf")).unwrap() == fs::read(house.path("work/tree.sqf")).unwrap());
    let program = crate::support::house::program().display();
    let listed = sh(&house, &format!("{program} unpack tree.sqf -o - | tar -tv | wc -l"));
    assert_eq!(listed.trim().parse::<usize>().unwrap(), tree.len());
    sh(
        &house,
        "python3 -c 'import tarfile; t = tarfile.open(\"out.tar\"); assert t.getmember(\"./a/hard\").islnk(), 1'",
    );
}

#[test]
fn a_writable_image_there_and_back() {
    let house = house();
    sh(
        &house,
        "mkdir seed; cp -a tree seed/upper; mkdir seed/work; cd seed/upper; mkdir opq marked again; echo new > opq/new
        touch .wh.gone a/.wh.deleted opq/.wh..wh..opq .wh.again; echo x > again/x
        setfattr -n user.fuseoverlayfs.opaque -v y marked; chmod 644 nothing
        mke2fs -q -F -t ext3 -d ../../seed ../../env.img 64M",
    );
    house.ovl(&["pack", "env.img"]).ok().says("packed an ext3 image (its upper directory)");
    let image = Image::open(fs::File::open(house.path("work/env.sqf")).unwrap(), 0).unwrap();
    let find = |path: &str| image.find(path.as_bytes()).unwrap();
    for gone in ["gone", "a/deleted"] {
        let inode = find(gone).unwrap();
        assert_eq!((inode.st_mode() & 0o170_000, inode.rdev), (0o020_000, 0), "{gone}");
    }
    for mark in [".wh.gone", "a/.wh.deleted", "opq/.wh..wh..opq", ".wh.again"] {
        assert!(find(mark).is_none(), "{mark}");
    }
    for opaque in ["opq", "marked", "again"] {
        let xattrs = image.xattrs(&find(opaque).unwrap()).unwrap();
        for name in ["trusted.overlay.opaque", "user.overlay.opaque"] {
            assert!(xattrs.contains(&(name.into(), b"y".to_vec())), "{opaque}: {xattrs:?}");
        }
        assert!(!xattrs.iter().any(|(name, _)| name.starts_with(b"user.fuse")), "{opaque}");
    }
    assert!(find("work").is_none());

    // Back to an image, and to the same SquashFS again.
    let made = house.ovl(&["unpack", "env.sqf", "-o", "back.img"]).ok();
    assert!(!made.stderr.contains("could not be set"), "{made:#?}");
    house.ovl(&["info", "back.img"]).ok().prints("a writable overlay of user");
    house.ovl(&["pack", "back.img", "-o", "again.sqf"]).ok();
    assert_same(&listing(&house, "env.sqf"), &listing(&house, "again.sqf"), "img, sqf, img, sqf");
    house.ovl(&["unpack", "env.sqf", "-o", "small.img", "--size", "1M"]).code(1).says("mke2fs failed").says("--size");
    // Without upper and work it is a file system like any other.
    sh(&house, "mke2fs -q -F -t ext4 -d tree plain.img 64M");
    house.ovl(&["pack", "plain.img"]).ok().says("packed an ext image");
    house.ovl(&["pack", "tree"]).ok();
    assert_same(&listing(&house, "tree.sqf"), &listing(&house, "plain.sqf"), "an ext4 image");
    assert!(house.names("scratch").is_empty());
}

/// What GNU tar lists of an image.
fn listing(house: &House, image: &str) -> Vec<String> {
    let program = crate::support::house::program().display();
    let text = sh(house, &format!("{program} unpack {image} -o - | tar --xattrs -tvv --numeric-owner --utc"));
    text.lines().map(str::to_owned).collect()
}

/// The OFD write lock that Apptainer takes, by another process that says when it has it.
fn writer(house: &House, image: &Path) -> std::process::Child {
    let mut command = house.command("python3");
    command.arg("-c").arg(
        "import fcntl, struct, sys, time\nf = open(sys.argv[1], 'r+b')\n\
         fcntl.fcntl(f, 37, struct.pack('hhqqi4x', fcntl.F_WRLCK, 0, 0, 0, 0))\nprint('held', flush=True)\ntime.sleep(60)",
    );
    let mut child = command.arg(image).stdout(Stdio::piped()).spawn().unwrap();
    let mut line = String::new();
    std::io::BufRead::read_line(&mut std::io::BufReader::new(child.stdout.as_mut().unwrap()), &mut line).unwrap();
    assert_eq!(line, "held\n");
    child
}

#[test]
fn an_image_that_is_written_to_is_left_alone() {
    let house = house();
    sh(&house, "mkdir -p seed/upper seed/work; mke2fs -q -F -t ext3 -d seed env.img 16M");
    let mut holder = writer(&house, &house.path("work/env.img"));
    let run = house.ovl(&["pack", "env.img"]).code(6).says("env.img is being written to by");
    assert!(run.stderr.contains(&format!("{} (python3)", holder.id())), "{run:#?}");
    house.ovl(&["unpack", "env.img", "-o", "x"]).code(6);
    house.ovl(&["info", "env.img"]).ok().prints("yes, for writing");
    holder.kill().unwrap();
    holder.wait().unwrap();
    house.ovl(&["pack", "env.img"]).ok();
    assert_eq!(house.names("work"), ["env.img", "env.sqf", "seed", "tree"]);
}

#[test]
fn nothing_is_overwritten_unasked_and_a_dry_run_writes_nothing() {
    let house = house();
    house.ovl(&["pack", "tree", "-n"]).ok().says("would pack a directory").says("tree.sqf");
    let json = house.ovl(&["pack", "tree", "-n", "--json"]).ok().json();
    assert_eq!((&json["exists"], &json["what"]), (&false.into(), &"a directory".into()));
    house.write("work/tree.sqf", "mine");
    house.ovl(&["pack", "tree"]).code(4).says("is there already").says("--force");
    house.ovl(&["pack", "tree", "-o", "tree"]).code(4).says("is a directory");
    assert_eq!(fs::read(house.path("work/tree.sqf")).unwrap(), b"mine");
    let json = house.ovl(&["pack", "tree", "--force", "--json", "--level", "9"]).ok().json();
    assert_eq!(json["compression"], "zstd:9");
    house.write("work/full/x", "x");
    house.ovl(&["unpack", "tree.sqf", "-o", "full"]).code(4).says("is not empty");
    house.ovl(&["unpack", "tree.sqf", "-o", "tree.sqf"]).code(4).says("is no directory");
    house.ovl(&["unpack", "tree.sqf", "-n"]).ok().says("would unpack");
    house.ovl(&["unpack", "tree.sqf", "-o", "x.tar.gz"]).code(4).says("zstd");
    // What lies in a directory does not lead out of it.
    sh(&house, "mkdir outside; ln -s ../outside full/a; ln -s ../outside/file full/noise; rm full/x");
    house.ovl(&["unpack", "tree.sqf", "-o", "full", "-f"]).code(1).says("'a'");
    sh(&house, "rm -r full/a");
    house.ovl(&["unpack", "tree.sqf", "-o", "full", "-f"]).ok();
    assert!(house.names("work/outside").is_empty());
    assert!(fs::symlink_metadata(house.path("work/full/noise")).unwrap().is_file());
    for (args, text) in [
        (&["pack", "nothing", "-o", "x.sqf"][..], "nothing"),
        (&["pack", "-", "-n"], "with -o FILE"),
        (&["pack", "tree", "-o", "x.sqf", "--comp", "zstd:3", "--level", "4"], "has a level"),
        (&["pack", "tree", "-o", "x.sqf", "--comp", "brotli"], "unknown compressor"),
        (&["pack", "tree", "-o", "x.sqf", "--block-size", "3k"], "3k"),
        (&["unpack", "tree.sqf", "-o", "y", "--size", "1G"], "--format img"),
    ] {
        house.ovl(args).code(4).says(text);
    }
    house.write("work/text", "some text\n");
    house.ovl(&["pack", "text"]).code(1).says("text: neither an image nor a tar archive");
    let left: Vec<String> = house.names("work").into_iter().filter(|name| name.starts_with('.')).collect();
    assert!(left.is_empty(), "{left:?}");
}

#[test]
fn a_prefix_makes_an_overlay_that_runs() {
    let house = House::new();
    house.write("work/tool/bin/hello", "#!/bin/sh\necho hello from $0\n");
    fs::set_permissions(house.path("work/tool/bin/hello"), fs::Permissions::from_mode(0o755)).unwrap();
    house.ovl(&["pack", "tool", "--prefix", "/cnt/tool/1.0"]).ok();
    assert_eq!(house.ovl(&["exec", "-o", "./tool.sqf", "hello"]).ok().stdout, "hello from /cnt/tool/1.0/bin/hello\n");
    house.ovl(&["pack", "tool", "-f", "--prefix", "/cnt/../etc"]).code(1).says("no path inside");
}

#[test]
fn a_sif_is_packed_with_its_overlays_and_unpacked() {
    let house = House::new();
    let tree = system(&house);
    house.write("more/etc/which", "the overlay\n");
    sh(
        &house,
        "mksquashfs ../system base.sqf -quiet -no-progress; mkdir -p seed/upper/etc seed/work
        echo three > seed/upper/etc/three; touch seed/upper/etc/.wh.two; mke2fs -q -F -t ext3 -d seed over.img 8M
        echo two > ../more/etc/two; mksquashfs ../more more.sqf -quiet -no-progress",
    );
    let objects = [("base.sqf", 1, 2), ("more.sqf", 1, 4), ("over.img", 2, 4)];
    let objects = objects.map(|(file, kind, role)| sif::partition(&house.path("work").join(file), kind, role));
    house.write("work/x.sif", sif::bytes(&objects));
    house.ovl(&["pack", "x.sif"]).ok().says("its system with 2 overlays merged");
    house.ovl(&["unpack", "x.sif"]).ok();
    assert_eq!(house.names("work/x/etc"), ["three", "which"]);
    let text = house.ovl(&["exec", "--base", "x.sqf", "cat", "/etc/which", "/etc/three"]).ok().stdout;
    assert_eq!(text, "the overlay\nthree\n");
    assert!(tree.exists());
}

/// Makes OCI layouts and archives of docker save out of directories `l0`, `l1`, `l2`.
const OCI: &str = r#"
import gzip, hashlib, io, json, os, subprocess, sys, tarfile
def sha(data): return hashlib.sha256(data).hexdigest()
def blob(data):
    os.makedirs("layout/blobs/sha256", exist_ok=True)
    open("layout/blobs/sha256/" + sha(data), "wb").write(data)
    return {"digest": "sha256:" + sha(data), "size": len(data)}
layers, diffs, plain = [], [], []
for number, how in enumerate(["", "gzip", "zstd"]):
    data = subprocess.run(["tar", "-C", "l%d" % number, "--format=posix", "-c", "."], check=True, stdout=subprocess.PIPE).stdout
    diffs.append("sha256:" + sha(data)); plain.append(data)
    if how == "gzip": data = gzip.compress(data)
    if how == "zstd": data = subprocess.run(["zstd", "-c"], input=data, check=True, stdout=subprocess.PIPE).stdout
    layers.append({"mediaType": "application/vnd.oci.image.layer.v1.tar" + ("+" + how if how else ""), **blob(data)})
arch = {"x86_64": "amd64", "aarch64": "arm64"}.get(os.uname().machine, os.uname().machine)
config = json.dumps({"architecture": arch, "os": "linux", "rootfs": {"type": "layers", "diff_ids": diffs}}).encode()
manifest = {"schemaVersion": 2, "config": blob(config), "layers": layers}
inner = {"manifests": [
    {"platform": {"os": "linux", "architecture": "vax"}, "digest": "sha256:" + "0" * 64, "size": 1},
    {"platform": {"os": "linux", "architecture": arch}, **blob(json.dumps(manifest).encode())}]}
open("layout/oci-layout", "w").write('{"imageLayoutVersion": "1.0.0"}')
open("layout/index.json", "w").write(json.dumps({"schemaVersion": 2, "manifests": [blob(json.dumps(inner).encode())]}))
subprocess.run(["tar", "-C", "layout", "-cf", "oci.tar", "."], check=True)
with tarfile.open("docker.tar", "w") as out:
    def add(name, data):
        info = tarfile.TarInfo(name); info.size = len(data); out.addfile(info, io.BytesIO(data))
    names = []
    for number, data in enumerate(plain):
        add("%d/layer.tar" % number, data); names.append("%d/layer.tar" % number)
    link = tarfile.TarInfo("again/layer.tar"); link.type = tarfile.SYMTYPE; link.linkname = "../1/layer.tar"; out.addfile(link)
    names[1] = "again/layer.tar"
    name = hashlib.sha256(config).hexdigest() + ".json"
    add(name, config)
    add("manifest.json", json.dumps([{"Config": name, "RepoTags": ["x:1"], "Layers": names}]).encode())
"#;

#[test]
fn container_images_are_applied_layer_by_layer() {
    let house = House::new();
    sh(
        &house,
        "mkdir -p l0/etc l0/usr/lib l0/gone l1/etc l1/usr l2/etc; echo a > l0/etc/a; echo b > l0/etc/b; echo x > l0/gone/x
        echo lib > l0/usr/lib/lib; ln -s usr/lib l0/lib; ln l0/etc/a l0/etc/hard; touch l1/.wh.gone l1/usr/.wh..wh..opq
        echo new > l1/usr/new; echo c > l2/etc/c; touch l2/etc/.wh.b; echo hard > l2/etc/hard; chmod 700 l2/etc",
    );
    house.write("work/oci.py", OCI);
    sh(&house, "python3 oci.py; gzip -k oci.tar");
    let mut images = Vec::new();
    for (source, what) in [
        ("layout", "an OCI layout (3 layers)"),
        ("oci.tar", "an OCI archive (3 layers)"),
        ("oci.tar.gz", "an OCI archive (3 layers)"),
        ("docker.tar", "an archive of docker save (3 layers)"),
    ] {
        house.ovl(&["pack", source, "-o", "x.sqf", "-f"]).ok().says(what).keeps_quiet_about("warning");
        images.push(fs::read(house.path("work/x.sqf")).unwrap());
    }
    assert!(images.iter().all(|image| *image == images[0]), "all forms are the same image");
    house.ovl(&["unpack", "x.sqf", "-o", "root"]).ok();
    assert_eq!(house.names("work/root"), ["etc", "lib", "usr"]);
    assert_eq!(
        (house.names("work/root/etc"), house.names("work/root/usr")),
        (vec!["a".to_owned(), "c".into(), "hard".into()], vec!["new".to_owned()])
    );
    assert_eq!(fs::metadata(house.path("work/root/etc")).unwrap().mode() & 0o777, 0o700);
    assert!(house.names("scratch").is_empty());

    // The configuration of docker save, which says what the layers are, is named after its digest.
    let rewritten =
        |change: &str| {
            house.write("work/change.py", format!(
            "import io, tarfile\nold = tarfile.open('docker.tar')\nwith tarfile.open('changed.tar', 'w') as out:\n \
             for info in old:\n  data = old.extractfile(info).read() if info.isfile() else b''\n  {change}\n  \
             info.size = len(data)\n  out.addfile(info, io.BytesIO(data))\n"
        ));
            sh(&house, "python3 change.py");
            house.ovl(&["pack", "changed.tar", "-f"])
        };
    rewritten("data = data.replace(b'\"linux\"', b'\"LINUX\"')").code(1).says("content is sha256:");
    let named = "if len(info.name) == 69: info.name = 'c.json'\n  if info.name == 'manifest.json': data = \
                 __import__('re').sub(rb'[0-9a-f]{64}\\.json', b'c.json', data)";
    rewritten(named).ok().says("'c.json' is not named after its digest");

    // Nothing is believed that is not what its digest says.
    let blobs = house.path("work/layout/blobs/sha256");
    let mut refused = 0;
    for blob in fs::read_dir(&blobs).unwrap() {
        let path = blob.unwrap().path();
        let good = fs::read(&path).unwrap();
        let mut bad = good.clone();
        let middle = bad.len() / 2;
        bad[middle] ^= 1;
        for content in [&bad[..], &good[..good.len() - 1], &[]] {
            fs::write(&path, content).unwrap();
            house.ovl(&["pack", "layout", "-o", "bad.sqf"]).code(1);
            refused += 1;
        }
        fs::remove_file(&path).unwrap();
        house.ovl(&["pack", "layout", "-o", "bad.sqf"]).code(1);
        fs::write(&path, good).unwrap();
    }
    assert_eq!(refused, 18);
    house.ovl(&["pack", "layout", "-o", "good.sqf"]).ok();
    let index = fs::read_to_string(house.path("work/layout/index.json")).unwrap();
    for (from, to, why) in [
        ("sha256:", "sha256:../../../../etc/passwd#", "no sha256 digest"),
        ("\"manifests\"", "\"none\"", "no container image for"),
    ] {
        house.write("work/layout/index.json", index.replacen(from, to, 1));
        house.ovl(&["pack", "layout", "-o", "bad.sqf"]).code(1).says(why);
    }
    assert!(!house.path("work/bad.sqf").exists());
}

#[test]
fn layers_that_leave_parents_out_change_nothing_of_them() {
    let house = House::new();
    sh(
        &house,
        "mkdir -p l0/tmp l0/opq l1/tmp l1/opq l1/new l2; chmod 1777 l0/tmp; chmod 750 l0/opq; echo x > l0/opq/old
        touch -d 2001-02-03 l0/tmp l0; chmod 711 l0; echo 1 > l1/tmp/x; touch l1/opq/.wh..wh..opq l1/new/x",
    );
    let bare = OCI.replace("\".\"], check=True, stdout", "*([\".\"] if number == 0 else sorted(str(path.relative_to(\"l%d\" % number)) \
                           for path in __import__(\"pathlib\").Path(\"l%d\" % number).rglob(\"*\") if path.is_file()) or [\"-T\", \"/dev/null\"])], check=True, stdout");
    assert_ne!(bare, OCI);
    house.write("work/oci.py", bare);
    sh(&house, "python3 oci.py");
    house.ovl(&["pack", "docker.tar", "-o", "x.sqf"]).ok();
    house.ovl(&["unpack", "x.sqf", "-o", "there"]).ok();
    let of = |path: &str| {
        let meta = fs::metadata(house.path("work/there").join(path)).unwrap();
        (meta.mode() & 0o7777, meta.mtime() < 1_000_000_000)
    };
    assert_eq!((of(""), of("tmp"), of("new").0, of("opq").0), ((0o711, true), (0o1777, true), 0o755, 0o750));
    assert_eq!(house.names("work/there/opq"), [""; 0]);
}

#[test]
fn an_image_may_be_written_into_what_is_packed() {
    let house = house();
    let packed = |source: &str, args: &[&str]| {
        house.ovl(&[&["pack", source], args].concat()).ok();
    };
    packed("tree", &["-o", "tree/out.sqf"]);
    let names = |image: &str| -> Vec<String> {
        sh(&house, &format!("unsquashfs -lls -no-progress {image}")).lines().map(str::to_owned).collect()
    };
    assert!(names("tree/out.sqf").iter().any(|line| line.ends_with("/noise")));
    // Neither the new image nor the one that is replaced, but its other name.
    sh(&house, "ln tree/out.sqf tree/kept");
    packed("tree", &["-o", "tree/out.sqf", "--force"]);
    let found = names("tree/out.sqf");
    assert!(found.iter().any(|line| line.ends_with("/kept")) && !found.iter().any(|line| line.contains("out.sqf")));
    let mut here = house.command(crate::support::house::program());
    here.args(["pack", "."]).current_dir(house.path("work/tree"));
    finish(here).ok();
    house.ovl(&["unpack", "tree", "-o", "tree/out.tar"]).ok();
    assert!(!sh(&house, "tar -tf tree/out.tar").contains("out.tar"));
    house.ovl(&["unpack", "tree", "-o", "tree/inside"]).ok();
    assert!(!house.names("work/tree/inside").contains(&"inside".to_owned()));
    assert!(!house.names("work/tree").iter().any(|name| name.starts_with('.')));
}

#[test]
fn programs_of_others_do_not_become_roots() {
    if !nix::unistd::geteuid().is_root() {
        println!("skipped: only root gives files away");
        return;
    }
    let house = House::new();
    sh(&house, "mkdir t; echo x > t/mine; chmod 6755 t/mine");
    let root = |args: &[&str]| {
        let mut command = Command::new(crate::support::house::program());
        command.args(args).current_dir(house.path("work")).stdin(Stdio::null());
        finish(command).ok()
    };
    root(&["pack", "t", "-o", "r.sqf"]).says("1 files are no longer setuid");
    root(&["pack", "t", "-o", "k.sqf", "--keep-owner"]).keeps_quiet_about("setuid");
    root(&["unpack", "k.sqf", "-o", "bare"]).says("1 files are no longer setuid");
    root(&["unpack", "k.sqf", "-o", "kept", "--keep-owner"]).keeps_quiet_about("setuid");
    root(&["unpack", "r.sqf", "-o", "packed"]).keeps_quiet_about("setuid");
    let mode = |path: &str| fs::metadata(house.path(&format!("work/{path}/mine"))).unwrap().mode() & 0o7777;
    assert_eq!((mode("bare"), mode("kept"), mode("packed")), (0o755, 0o6755, 0o755));
}

#[test]
fn damaged_archives_leave_nothing() {
    let house = house();
    for how in ["", "-z", "--xz", "--zstd"] {
        sh(&house, &format!("tar -C tree {how} -cf good.tar ."));
        let good = fs::read(house.path("work/good.tar")).unwrap();
        for part in [1, 3, 7] {
            house.write("work/bad.tar", &good[..good.len() * part / 8]);
            house.ovl(&["pack", "bad.tar"]).code(1).says("bad.tar: ");
        }
        let mut bad = good;
        let middle = bad.len() / 2;
        bad[middle..middle + 100].fill(0x55);
        house.write("work/bad.tar", &bad);
        if !how.is_empty() {
            house.ovl(&["pack", "bad.tar"]).code(1).says("bad.tar: ");
        }
    }
    assert_eq!(house.names("work"), ["bad.tar", "good.tar", "tree"]);
    assert!(house.names("scratch").is_empty());
}

#[test]
fn a_full_disk_is_told_and_leaves_nothing() {
    if !nix::unistd::geteuid().is_root() {
        println!("skipped: only root can mount a small disk");
        return;
    }
    let house = house();
    let small = house.make("small");
    sh(&house, "tar -C tree -czf tree.tar.gz .");
    let owner = fs::metadata(house.path("work")).unwrap();
    let within = |args: &str, set: &str| -> Run {
        let plain = house.ovl_command(&[]);
        let mut command = Command::new("unshare");
        command.args(["-m", "--propagation", "private", "--", "sh", "-c"]);
        command.arg(format!(
            "mount -t tmpfs -o size=128k,mode=777 none {0} && cd {1} && setpriv --reuid={2} --regid={3} --clear-groups \
             -- env {set} {4} {args}; code=$?; ls -A {0} >&2; exit $code",
            small.display(),
            house.path("work").display(),
            owner.uid(),
            owner.gid(),
            plain.get_program().display()
        ));
        command.env_clear().envs(plain.get_envs().filter_map(|(name, value)| Some((name, value?))));
        finish(command)
    };
    let dir = small.display();
    let checked = |run: Run| {
        let run = run.code(1).says("No space left on device").says("hint: ");
        let last = run.stderr.lines().last().unwrap_or_default().to_owned();
        assert!(last.starts_with("hint: "), "something is left: {run:#?}");
    };
    checked(within(&format!("pack tree -o {dir}/x.sqf"), ""));
    checked(within("pack tree.tar.gz -o x.sqf", &format!("OVL_DIRS_SCRATCH={dir}")));
    house.ovl(&["pack", "tree"]).ok();
    checked(within(&format!("unpack tree.sqf -o {dir}/x"), ""));
    checked(within(&format!("unpack tree.sqf -o {dir}/x.tar"), ""));
    assert!(house.names("work").iter().all(|name| !name.starts_with('.')));
}

#[test]
fn killed_or_interrupted_nothing_is_seen_and_the_next_one_cleans_up() {
    let house = House::new();
    sh(&house, "mkdir tree; head -c 60M /dev/urandom > tree/a");
    let signal = |child: &std::process::Child, signal| {
        let pid = nix::unistd::Pid::from_raw(child.id() as i32);
        nix::sys::signal::kill(pid, signal).unwrap();
    };
    let begun = |house: &House| {
        let before = house.names("work").len();
        let child = house.start(&["pack", "tree", "--comp", "xz", "-t", "1"]);
        for _ in 0..400 {
            if house.names("work").len() > before {
                break;
            }
            std::thread::sleep(std::time::Duration::from_millis(10));
        }
        child
    };
    let child = begun(&house);
    signal(&child, nix::sys::signal::Signal::SIGINT);
    let run = Run::of(child.wait_with_output().unwrap()).code(130).says("interrupted");
    assert!(!run.stderr.contains("packed"));
    assert_eq!(house.names("work"), ["tree"]);

    let child = begun(&house);
    signal(&child, nix::sys::signal::Signal::SIGKILL);
    child.wait_with_output().unwrap();
    let left = house.names("work");
    assert!(left.len() == 2 && left[0].starts_with(".tree.sqf.new."), "{left:?}");
    // One that is alive is left alone.
    let alive = begun(&house);
    std::thread::sleep(std::time::Duration::from_millis(2500));
    house.ovl(&["pack", "tree", "--comp", "lz4"]).ok();
    let left = house.names("work");
    assert_eq!(left.len(), 3, "{left:?}");
    signal(&alive, nix::sys::signal::Signal::SIGTERM);
    Run::of(alive.wait_with_output().unwrap()).code(130);
    assert_eq!(house.names("work"), ["tree", "tree.sqf"]);

    // A stream that never ends is left at once.
    let program = crate::support::house::program().display().to_string();
    let mut child = house.command("bash");
    child.args(["-c", &format!("sleep 50 | exec {program} pack - -o x.sqf")]);
    child.stdout(Stdio::piped()).stderr(Stdio::piped());
    std::os::unix::process::CommandExt::process_group(&mut child, 0);
    let child = child.spawn().unwrap();
    std::thread::sleep(std::time::Duration::from_millis(600));
    let began = std::time::Instant::now();
    nix::sys::signal::killpg(nix::unistd::Pid::from_raw(child.id() as i32), nix::sys::signal::Signal::SIGINT).unwrap();
    child.wait_with_output().unwrap();
    assert!(began.elapsed() < std::time::Duration::from_secs(10));
    assert_eq!(house.names("work"), ["tree", "tree.sqf"]);
}

#[test]
fn devices_and_owners_are_kept_where_asked() {
    if !nix::unistd::geteuid().is_root() {
        println!("skipped: only root can make devices and give files away");
        return;
    }
    let house = House::new();
    let run = |line: &str| {
        let program = crate::support::house::program().display().to_string();
        let output = Command::new("bash")
            .args(["-ec", line])
            .current_dir(house.path("work"))
            .env("OVL", program)
            .env("HOME", house.path("home"))
            .env("OVL_DIRS_SCRATCH", house.path("scratch"))
            .output()
            .unwrap();
        Run::of(output).ok()
    };
    run("mkdir tree; mknod tree/null c 1 3; mknod tree/disk b 8 1; mknod tree/white c 0 0; echo x > tree/mine; \
         chown 12:34 tree/mine; setfattr -n trusted.x -v y tree/mine || true; $OVL pack tree --keep-owner; \
         tar -C tree --xattrs --xattrs-include='*' -c . | $OVL pack - --keep-owner -o tar.sqf; cmp tree.sqf tar.sqf; \
         $OVL unpack tree.sqf -o there --keep-owner; $OVL unpack tree.sqf -o out.tar");
    let look = Look { owners: true, xattrs: true };
    let (tree, there) = (snapshot(&house.path("work/tree"), look), snapshot(&house.path("work/there"), look));
    assert_same(&tree, &there, "as root, owners kept");
    assert!(fs::metadata(house.path("work/there/disk")).unwrap().file_type().is_block_device());
    let listed = run("tar -tvf out.tar --numeric-owner").stdout;
    assert!(listed.contains("12/34") && listed.contains("8,1") && listed.contains("1,3"), "{listed}");
    // An ordinary user gets what he may have, and is told.
    run("chmod 644 tree.sqf");
    let told = house.ovl(&["unpack", "tree.sqf", "-o", "user"]).ok().says("2 device nodes are left out");
    assert!(!told.stderr.contains("whiteouts"), "this kernel lets users make them: {told:#?}");
    assert_eq!(house.names("work/user"), ["mine", "white"]);
    house.ovl(&["unpack", "tree.sqf", "-o", "user2", "--keep-owner"]).code(4).says("only root");
}

#[test]
fn the_real_apptainer_honours_what_was_packed() {
    let Some(root) = sif::real_apptainer() else { return };
    let house = House::new();
    system(&house);
    // Deletions made through a writable image, by Apptainer itself.
    let shared = house.path("");
    sif::in_apptainer(
        &root,
        &shared,
        "mkdir -p system/d; echo low > system/d/low; \
         cp /bin/rm /bin/mkdir system/bin/; apptainer -q build -F base.sif system; \
         apptainer -q overlay create --size 64 env.img; \
         apptainer -q exec --overlay env.img base.sif sh -c 'echo new > /etc/new; : > /etc/which; rm /etc/which; rm -r /d; mkdir /d'",
    );
    house.ovl(&["pack", "../env.img"]).ok();
    let list = "ls /etc /d";
    let native =
        house.ovl(&["exec", "--runtime", "native", "--base", "../base.sif", "-o", "env.sqf", "sh", "-c", list]).ok();
    assert!(native.stdout.contains("new") && !native.stdout.contains("which"), "{native:#?}");
    assert!(native.stdout.starts_with("/d:\n\n"), "an opaque directory: {native:#?}");
    let theirs = sif::in_apptainer(
        &root,
        &shared,
        &format!("apptainer -q exec --overlay work/env.sqf:ro base.sif sh -c '{list}'"),
    );
    // The opaque mark is an attribute that it does not see where it has no privileges.
    assert!(theirs.contains("new") && !theirs.contains("which"), "{theirs}");
    // An image of ovl's is one that Apptainer writes to.
    let packed: PathBuf = house.path("work/back.img");
    house.ovl(&["unpack", "env.sqf", "-o", packed.to_str().unwrap(), "--size", "64M"]).ok();
    let line = "echo more > /etc/more; cat /etc/new /etc/more; ls /d";
    let line = format!("apptainer -q exec --overlay work/back.img base.sif sh -c '{line}'");
    let again = sif::in_apptainer(&root, &shared, &line);
    assert!(again.ends_with("new\nmore\n"), "{again}");
}
