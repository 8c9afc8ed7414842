//! Damaged images behind the server: thousands of small ones with changed bytes, asked everything a kernel asks.

#![allow(clippy::disallowed_methods)]

use std::fs::File;
use std::os::unix::fs::FileExt;
use std::time::{Duration, Instant};

use super::abi::{Fields, OUT_HEADER, Reply, Request, op};
use super::answer::{Answers, Verdict};
use crate::image::source::{Kind, TreeSource};
use crate::image::squashfs::codec::Codec;
use crate::image::squashfs::read::{Caches, Image};
use crate::image::squashfs::write::{PackOptions, pack};
use crate::runtime::tree::layer::{DIR, KIND, Layer};
use crate::runtime::tree::{ImageLayer, ROOT, Tree};

/// Damaged images for each compressor.
const ROUNDS: u64 = 700;
/// Longest reply the server may give: one read and its header.
const LONGEST: usize = (1 << 20) + OUT_HEADER;

fn image(codec: Codec) -> File {
    let mut source = TreeSource::new(1_700_000_000);
    let words = b"words that come again and again, ".repeat(400);
    for number in 0..40usize {
        let path = format!("cnt/a/{}/file-{number:03}", number % 3);
        let node = source.file(path.as_bytes(), words[..number * 300].to_vec(), 0o644).unwrap();
        if number % 7 == 0 {
            source.xattr(node, b"user.key", &words[..200 + number]);
        }
    }
    source.add(b"cnt/link", Kind::Symlink(b"a/0/file-000".to_vec()), 0o777, Vec::new()).unwrap();
    source.add(b"cnt/null", Kind::CharDev(1, 3), 0o666, Vec::new()).unwrap();
    source.dir(b"cnt/empty").unwrap();
    let (level, block_size) = (codec.levels().1, 4096);
    let compression = crate::image::squashfs::codec::Compression { codec, level };
    let out = nix::sys::memfd::memfd_create("image", nix::sys::memfd::MFdFlags::empty()).unwrap();
    let out = File::from(out);
    pack(&source, &out, &PackOptions { compression, block_size, threads: 1, ..PackOptions::default() }, &()).unwrap();
    out
}

struct Kernel<'a> {
    answers: &'a Answers,
    reply: Reply,
    /// Requests left.
    budget: u32,
    /// Bytes of files read.
    read: u64,
}

impl Kernel<'_> {
    fn ask(&mut self, opcode: u32, node: u64, body: &[u8]) -> Result<Vec<u8>, i32> {
        self.budget = self.budget.saturating_sub(1);
        self.reply.start();
        let request = Request { opcode, unique: 1, node, body };
        let Verdict::Send(error) = self.answers.answer(&request, &mut self.reply) else { panic!("no reply") };
        let bytes = self.reply.finish(1, error).to_vec();
        assert!(bytes.len() <= LONGEST, "{} bytes for {opcode}", bytes.len());
        if error == 0 {
            self.answers.afterwards(&request);
        }
        assert!([0, 2, 5, 22, 34, 38, 61].contains(&error), "error {error} for {opcode}");
        if error == 0 { Ok(bytes[OUT_HEADER..].to_vec()) } else { Err(error) }
    }

    fn range(offset: u64, size: u32) -> Vec<u8> {
        [&0u64.to_ne_bytes()[..], &offset.to_ne_bytes(), &size.to_ne_bytes(), &[0; 20]].concat()
    }

    /// Lists a directory as the kernel does, then everything in it.
    fn walk(&mut self, dir: u64, depth: u32) {
        let mut offset = 0;
        while self.budget > 0 {
            let Ok(bytes) = self.ask(op::READDIRPLUS, dir, &Self::range(offset, 4096)) else { return };
            let _ = self.ask(op::READDIR, dir, &Self::range(offset, 4096));
            let mut rest = bytes.as_slice();
            while rest.len() >= 152 && self.budget > 0 {
                let fields = Fields(rest);
                let (node, mode) = (fields.u64(0).unwrap(), fields.u32(40 + 60).unwrap());
                let (size, length) = (fields.u64(40 + 8).unwrap(), fields.u32(128 + 16).unwrap() as usize);
                offset = fields.u64(128 + 8).unwrap();
                let name = rest[152..152 + length].to_vec();
                rest = &rest[(152 + length).next_multiple_of(8)..];
                if node != 0 {
                    self.one(dir, &name, node, mode, size);
                    if mode & KIND == DIR && depth > 0 {
                        self.walk(node, depth - 1);
                    }
                }
            }
            if bytes.is_empty() {
                return;
            }
        }
    }

    fn one(&mut self, dir: u64, name: &[u8], node: u64, mode: u32, size: u64) {
        let _ = self.ask(op::LOOKUP, dir, &[name, b"\0"].concat());
        let _ = self.ask(op::GETATTR, node, &[0; 16]);
        let _ = self.ask(op::LISTXATTR, node, &[0, 0, 1, 0, 0, 0, 0, 0]);
        let _ = self.ask(op::GETXATTR, node, b"\0\x10\0\0\0\0\0\0user.key\0");
        let _ = self.ask(op::READLINK, node, b"");
        if mode & KIND != DIR {
            for offset in [0, 4096, size / 2 / 4096 * 4096, size.saturating_sub(100)] {
                self.read += self.ask(op::READ, node, &Self::range(offset, 8192)).map_or(0, |bytes| bytes.len() as u64);
            }
        }
    }
}

/// Asks everything; how many bytes of files could be read, and whether the image was refused at once.
fn use_up(file: &File) -> Option<u64> {
    let image = Image::open_sharing(file.try_clone().unwrap(), 0, Caches::new(1 << 20)).ok()?;
    let layers: Vec<Box<dyn Layer>> = vec![Box::new(ImageLayer(image))];
    let answers = Answers::new(Tree::new(layers).unwrap(), (1, 1));
    let mut kernel = Kernel { answers: &answers, reply: Reply::default(), budget: 3000, read: 0 };
    kernel.walk(ROOT, 8);
    let read = kernel.read;
    // What the look-ahead was told to prepare is prepared now.
    answers.prepare_all();
    let _ = answers.tree.clashes(10);
    Some(read)
}

#[test]
fn damaged_images_give_errors_and_nothing_worse() {
    for codec in [Codec::Gzip, Codec::Lz4, Codec::Zstd, Codec::Xz] {
        let file = image(codec);
        let whole = use_up(&file).unwrap();
        assert!(whole > 100_000, "only {whole} bytes of the sound image were read");
        let mut bytes = vec![0; file.metadata().unwrap().len() as usize];
        file.read_exact_at(&mut bytes, 0).unwrap();
        let used = u64::from_le_bytes(bytes[40..48].try_into().unwrap());
        let tables = u64::from_le_bytes(bytes[64..72].try_into().unwrap());
        let (mut seed, mut refused, mut less, mut longest) = (7u64, 0, 0, Duration::ZERO);
        for round in 0..ROUNDS {
            seed = seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            let chance = seed >> 24;
            let place = match round % 4 {
                0 => chance % 96,
                1 => chance % used,
                _ => tables + chance % (used - tables),
            };
            let length = (1 + seed % 4).min(used - place) as usize;
            let new: Vec<u8> = match round % 3 {
                0 => vec![0xff; length],
                1 => bytes[place as usize..][..length].iter().map(|byte| byte ^ (1 << (round % 8))).collect(),
                _ => (0..length).map(|index| (seed >> (8 * index)) as u8).collect(),
            };
            file.write_all_at(&new, place).unwrap();
            let began = Instant::now();
            match use_up(&file) {
                None => refused += 1,
                Some(read) => less += u64::from(read != whole),
            }
            longest = longest.max(began.elapsed());
            file.write_all_at(&bytes[place as usize..][..length], place).unwrap();
        }
        assert!(refused > ROUNDS / 20 && less > ROUNDS / 20, "{refused} refused, {less} read differently");
        assert!(longest < Duration::from_secs(5), "{codec:?}: {longest:?}");
        assert_eq!(use_up(&file), Some(whole));
    }
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let peak =
        status.lines().find_map(|line| line.strip_prefix("VmHWM:")?.split_whitespace().next()?.parse::<u64>().ok());
    assert!(peak.unwrap() < 300 << 10, "{peak:?} KiB");
}
