//! Every byte, link, device and attribute as it comes through the native runtime's file system is what unsquashfs makes of
//! the same image: three makers, every compressor each of them knows, blocks of 4 KiB to 1 MiB, all mounted at once.
#![cfg(target_os = "linux")]

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::Command;

use ovl::image::source::DirSource;
use ovl::image::squashfs::write::{PackOptions, pack};

use crate::reading::{make_tree, run, text};
use crate::runtime::Place;

/// What there is to know about a tree, line by line. Owners are not shown, nor what only root may read.
const FACTS: &str = "find . -type f -print0 | sort -z | xargs -0 sha256sum
find . ! -type d -printf '%p %m %s %y %n %T@ %l\\n' | sort
find . -type d -printf '%p %m %T@\\n' | sort
find . \\( -type b -o -type c \\) -exec stat -c '%n %t %T' {} + | sort
find . -type f -links +1 -printf '%i %p\\n' | sort -k2 | awk '{ if (!($1 in n)) n[$1] = $2; print n[$1], $2 }'
getfattr -R -h -d -m '^user' . | sort";

/// One image and where its facts are expected.
struct Made {
    image: PathBuf,
    expected: PathBuf,
}

fn unpack(image: &Path, to: &Path) {
    assert!(run("unsquashfs", &["-quiet", "-no-progress", "-d", text(to), text(image)]));
}

/// Images of the tree below `tree`, each with its own name at the top.
fn images(place: &Place, tree: &Path) -> Vec<Made> {
    let mut made = Vec::new();
    let name = |maker: &str, codec: &str, block: u32| {
        let name = format!("m-{maker}-{codec}-{block}");
        let top = place.0.join("tops").join(&name);
        fs::create_dir_all(&top).unwrap();
        // The packers are shown the same tree under each name.
        fs::rename(tree, top.join(&name)).unwrap();
        let made = Made { image: place.0.join(format!("{name}.sqf")), expected: place.0.join("plain").join(&name) };
        (top.clone(), top.join(&name), made)
    };
    let all = [4096, 131_072, 1 << 20];
    let mut plans: Vec<(&str, &str, u32)> = Vec::new();
    for block in all {
        plans.extend(["gzip", "lz4", "xz", "zstd"].map(|codec| ("mksquashfs", codec, block)));
        plans.extend(["gzip", "lz4", "xz", "zstd"].map(|codec| ("gensquashfs", codec, block)));
        plans.extend(["gzip", "lz4", "xz", "zstd"].map(|codec| ("ovl", codec, block)));
    }
    plans.extend([8192, 16384, 32768, 65536, 262_144, 524_288].map(|block| ("mksquashfs", "zstd", block)));
    for (maker, codec, block) in plans {
        let (top, inside, this) = name(maker, codec, block);
        let size = block.to_string();
        let done = match maker {
            "mksquashfs" => {
                let more = if block == 4096 { "-always-use-fragments" } else { "-no-progress" };
                let args = [text(&top), text(&this.image), "-quiet", "-no-progress", "-comp", codec, "-b", &size, more];
                run("mksquashfs", &args)
            }
            "gensquashfs" => run(
                "gensquashfs",
                &["-q", "-f", "-k", "-x", "-c", codec, "-b", &size, "-D", text(&top), text(&this.image)],
            ),
            _ => {
                let out = File::create(&this.image).unwrap();
                let options =
                    PackOptions { compression: codec.parse().unwrap(), block_size: block, ..PackOptions::default() };
                pack(&DirSource::new(&top).unwrap(), &out, &options, &()).unwrap();
                true
            }
        };
        fs::rename(&inside, tree).unwrap();
        if done {
            made.push(this);
        }
    }
    made
}

fn facts(dir: &Path) -> String {
    let output = Command::new("sh").args(["-c", FACTS]).current_dir(dir).output().unwrap();
    assert!(output.status.success(), "{output:?}");
    String::from_utf8_lossy(&output.stdout).into_owned()
}

#[test]
fn every_byte_of_every_maker_is_what_unsquashfs_says() {
    let Some(place) = Place::new() else { return };
    if !nix::unistd::geteuid().is_root() {
        println!("skipped: only root makes device nodes");
        return;
    }
    let tree = place.0.join("tree");
    make_tree(&tree, 60);
    // Large enough for blocks of 1 MiB, small enough for 40 images.
    for name in ["noise", "nothing-but-hole", "words-again"] {
        let file = File::options().write(true).open(tree.join(name)).unwrap();
        file.set_len(fs::metadata(tree.join(name)).unwrap().len() / 3).unwrap();
    }
    File::options().write(true).open(tree.join("holes")).unwrap().set_len(5_100_000).unwrap();
    for (name, value) in
        [("words", "v".repeat(2000)), ("deep/tiny", "short".into()), ("empty", "of a directory".into())]
    {
        assert!(run("setfattr", &["-n", "user.key", "-v", &value, text(&tree.join(name))]));
    }
    // The test user reads what root has made.
    assert!(run("chmod", &["-R", "a+rX", text(&tree)]));
    let made = images(&place, &tree);
    assert!(made.len() > 12, "only {} images", made.len());
    let mut expected = BTreeMap::new();
    for this in &made {
        let name = this.expected.file_name().unwrap().to_string_lossy().into_owned();
        // unsquashfs refuses gensquashfs's lz4: the id table has "grown" when compressed.
        let like = name.replace("gensquashfs-lz4", "gensquashfs-zstd");
        let to = place.0.join("plain");
        if like == name {
            let image = &this.image;
            let whole = place.0.join("whole");
            unpack(image, &whole);
            fs::create_dir_all(&to).unwrap();
            fs::rename(whole.join(&name), to.join(&name)).unwrap();
            fs::remove_dir_all(&whole).unwrap();
            expected.insert(name.clone(), facts(&to.join(&name)));
            fs::remove_dir_all(to.join(&name)).unwrap();
        }
    }
    let layers: Vec<&Path> = made.iter().map(|this| this.image.as_path()).collect();
    let script = format!("for dir in /m-*; do echo \"== ${{dir#/}}\"; cd $dir; {FACTS}; done");
    let output = place.sh(&[], &layers, &script);
    assert!(output.status.success(), "{output:?}");
    let all = String::from_utf8_lossy(&output.stdout).into_owned();
    let parts: Vec<&str> = all.split("== ").skip(1).collect();
    assert_eq!(parts.len(), made.len());
    for part in parts {
        let (name, found) = part.split_once('\n').unwrap();
        let like = name.replace("gensquashfs-lz4", "gensquashfs-zstd");
        let Some(expected) = expected.get(&like) else { panic!("nothing to compare {name} with") };
        assert!(expected.lines().count() > 150, "{expected}");
        for (mine, theirs) in found.lines().zip(expected.lines()) {
            assert_eq!(mine, theirs, "{name}");
        }
        assert_eq!(found.lines().count(), expected.lines().count(), "{name}");
    }
    place.assert_nothing_left();
}
