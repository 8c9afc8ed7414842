//! Archives made by hand, good ones and hostile ones.

use super::*;
use crate::sys::pass::memory_file;

/// A member: path, kind, link, content; `more` is done to the header before it is summed.
fn member(path: &[u8], kind: u8, link: &[u8], content: &[u8], more: impl FnOnce(&mut [u8])) -> Vec<u8> {
    let mut block = vec![0u8; 512];
    block[..path.len()].copy_from_slice(path);
    block[100..107].copy_from_slice(b"0000644");
    block[108..115].copy_from_slice(b"0001750");
    block[116..123].copy_from_slice(b"0000144");
    block[124..135].copy_from_slice(format!("{:011o}", content.len()).as_bytes());
    block[136..147].copy_from_slice(b"00000000007");
    block[156] = kind;
    block[157..157 + link.len()].copy_from_slice(link);
    block[257..265].copy_from_slice(b"ustar\x0000");
    more(&mut block);
    sum(&mut block);
    block.extend_from_slice(content);
    block.resize(block.len().next_multiple_of(512), 0);
    block
}

fn sum(block: &mut [u8]) {
    block[148..156].copy_from_slice(b"        ");
    let sum: u32 = block.iter().take(512).map(|byte| u32::from(*byte)).sum();
    block[148..156].copy_from_slice(format!("{sum:06o}\0 ").as_bytes());
}

fn file(path: &str, content: &str) -> Vec<u8> {
    member(path.as_bytes(), b'0', b"", content.as_bytes(), |_| {})
}

fn archive(members: &[Vec<u8>]) -> Vec<u8> {
    [members.concat(), vec![0; 1024]].concat()
}

fn open(bytes: &[u8]) -> Result<TarSource> {
    // Tens of thousands of files without names, one after another: where there is no disk to wait for.
    let memory = Path::new("/dev/shm");
    let scratch = if memory.is_dir() { memory.to_owned() } else { std::env::temp_dir() };
    let way = Way { scratch: &scratch, watch: &(), skip: Arc::default() };
    let place = super::file(memory_file(bytes).unwrap(), &way);
    let stream = super::stream(bytes, &way);
    match (&place, &stream) {
        (Ok(one), Ok(other)) => assert_eq!(lines(one), lines(other)),
        (Err(one), Err(other)) => assert_eq!(one.to_string(), other.to_string()),
        _ => panic!("a file and a stream differ: {:?} {:?}", place.err(), stream.err()),
    }
    place
}

fn walk(source: &TarSource, dir: &Entry<u32>, path: &str, lines: &mut Vec<String>) {
    for entry in source.list(dir).unwrap() {
        let path = format!("{path}/{}", entry.name.escape_ascii());
        let text = match &entry.kind {
            Kind::File => {
                let mut bytes = vec![1; usize::try_from(entry.meta.size).unwrap().min(1 << 20)];
                // Pieces of odd sizes give the same.
                for (number, piece) in bytes.chunks_mut(7).enumerate() {
                    source.read(&entry, number as u64 * 7, piece).unwrap();
                }
                String::from_utf8_lossy(&bytes).replace('\0', "_")
            }
            Kind::Symlink(target) => format!("-> {}", target.escape_ascii()),
            Kind::Dir => "dir".into(),
            other => format!("{other:?}"),
        };
        lines.push(format!("{path} {text}").trim_end().to_owned());
        if entry.kind == Kind::Dir {
            walk(source, &entry, &path, lines);
        }
    }
}

fn lines(source: &TarSource) -> Vec<String> {
    let mut all = Vec::new();
    walk(source, &source.root().unwrap(), "", &mut all);
    all
}

#[test]
fn members_become_a_tree_and_later_ones_win() {
    let bytes = archive(&[
        file("./a/one", "1"),
        member(b"./a/", b'5', b"", b"", |block| block[100..107].copy_from_slice(b"0001777")),
        file("/abs//./olute", "2"),
        member(b"a/link", b'2', b"../../etc", b"", |_| {}),
        member(b"a/hard", b'1', b"./a/one", b"", |_| {}),
        member(b"a/null", b'3', b"", b"", |block| block[329..345].copy_from_slice(b"0000001\x000000003\0")),
        member(b"a/pipe", b'6', b"", b"", |_| {}),
        member(b"old-dir/", 0, b"", b"", |_| {}),
        file("a/again", "old"),
        file("a/again", "new"),
        file("gone/x", "x"),
        file("gone", "a file now"),
    ]);
    let source = open(&bytes).unwrap();
    assert_eq!(
        lines(&source),
        [
            "/a dir",
            "/a/again new",
            "/a/hard 1",
            "/a/link -> ../../etc",
            "/a/null CharDev(1, 3)",
            "/a/one 1",
            "/a/pipe Fifo",
            "/abs dir",
            "/abs/olute 2",
            "/gone a file now",
            "/old-dir dir",
        ]
    );
    let a = source.list(&source.root().unwrap()).unwrap().remove(0);
    assert_eq!((a.meta.mode, a.meta.uid, a.meta.gid, a.meta.mtime), (0o1777, 1000, 100, 7));
    let names = source.list(&a).unwrap();
    let find = |name: &[u8]| names.iter().find(|entry| entry.name == name).unwrap();
    assert_eq!(find(b"one").meta.inode, find(b"hard").meta.inode);
    assert_eq!(find(b"one").meta.links, 2);
    assert!(source.notes().is_empty());
    assert_eq!(open(&bytes[..bytes.len() - 1024]).unwrap().notes().len(), 1, "no end mark");
    assert!(lines(&open(&vec![0; 1024]).unwrap()).is_empty());
}

#[test]
fn an_old_sparse_file_of_many_pieces() {
    // 30 pieces of 10 bytes, every 100 bytes: 4 in the header, 21 and 5 in two blocks more.
    let pair = |number: usize| format!("{:011o}\0{:011o}\0", number * 100, 10).into_bytes();
    let content: Vec<u8> = (0..30u8).flat_map(|number| [b'a' + number % 26; 10]).collect();
    let mut header = member(b"holes", b'S', b"", b"", |block| {
        block[124..135].copy_from_slice(b"00000000454");
        block[257..265].copy_from_slice(b"ustar  \0");
        block[345..500].fill(0);
        (0..4).for_each(|number| block[386 + number * 24..410 + number * 24].copy_from_slice(&pair(number)));
        block[482] = 1;
        block[483..494].copy_from_slice(b"00000006000");
    });
    for (first, last) in [(4, 25), (25, 30)] {
        let mut block: Vec<u8> = (first..last).flat_map(pair).collect();
        block.resize(512, 0);
        block[504] = u8::from(last < 30);
        header.extend(block);
    }
    header.extend(&content);
    header.resize(header.len().next_multiple_of(512), 0);
    let source = open(&archive(&[header, file("next", "n")])).unwrap();
    let entries = source.list(&source.root().unwrap()).unwrap();
    assert_eq!(entries[0].meta.size, 0o6000);
    assert_eq!(source.next_data(&entries[0], 111).unwrap(), Some(200..210));
    assert_eq!(source.next_data(&entries[0], 2905).unwrap(), Some(2905..2910));
    assert_eq!(source.next_data(&entries[0], 2910).unwrap(), None);
    let mut bytes = vec![9; 0o6000];
    source.read(&entries[0], 0, &mut bytes).unwrap();
    for (at, byte) in bytes.iter().enumerate() {
        let expected = if at % 100 < 10 && at < 3000 { b'a' + (at / 100) as u8 % 26 } else { 0 };
        assert_eq!(*byte, expected, "{at}");
    }
    assert_eq!(entries[1].name, b"next");
}

#[test]
fn what_leads_out_is_refused() {
    let pax = |records: &str| member(b"x", b'x', b"", records.as_bytes(), |_| {});
    for (bad, why) in [
        (vec![file("../x", "")], "leads out"),
        (vec![file("a/../../x", "")], "leads out"),
        (vec![pax("15 path=../etc\n"), file("x", "")], "leads out"),
        (vec![member(b"l", b'2', b"/tmp", b"", |_| {}), file("l/x", "")], "no directory"),
        (vec![file("f", ""), file("f/x", "")], "no directory"),
        (vec![member(b"h", b'1', b"nothing", b"", |_| {})], "has not come before"),
        (vec![member(b"h", b'1', b"../../etc/passwd", b"", |_| {})], "leads out"),
        (vec![member(b"d/", b'5', b"", b"", |_| {}), member(b"h", b'1', b"d", b"", |_| {})], "a directory"),
        (vec![member(b"./", b'2', b"/tmp", b"", |_| {})], "root is no directory"),
        (vec![member(b"m", b'M', b"", b"", |_| {})], "several volumes"),
        (
            vec![file(&"n".repeat(100), ""), pax(&format!("1012 path={}\n", "n".repeat(1001))), file("x", "")],
            "255 bytes",
        ),
        (vec![pax("20 size=99999999999\n"), file("x", "")], "in the middle"),
        (vec![pax("28 size=9223372036854775807\n"), file("x", "")], "in the middle"),
        (vec![pax("22 GNU.sparse.major=1\n"), file("x", "")], "how long it is"),
    ] {
        let error = open(&archive(&bad)).err().map(|error| error.to_string()).unwrap_or_default();
        assert!(error.contains(why), "{why}: {error}");
    }
    for (bytes, why) in
        [(&b""[..], "neither"), (b"#!/bin/sh\n", "neither"), (b"BZh91AY", "bzip2 -dc"), (b"PK\x03\x04xx", "zip")]
    {
        let error = open(bytes).err().unwrap().to_string();
        assert!(error.contains(why), "{error}");
    }
    let mut damaged = archive(&[file("a", "1"), file("b", "2")]);
    damaged[1024] ^= 1;
    assert!(open(&damaged).err().unwrap().to_string().contains("sum is wrong"));
}

#[test]
fn no_archive_takes_memory_out_of_proportion() {
    let long = |kind: u8, length: usize| member(b"long", kind, b"", &b"a/".repeat(length / 2), |_| {});
    let error = |members: &[Vec<u8>]| open(&archive(members)).err().map(|error| error.to_string()).unwrap_or_default();
    assert!(error(&[long(b'L', 400_000), file("x", "")]).contains("path of more than 4096 bytes"));
    assert!(
        error(&[long(b'K', 400_000), member(b"l", b'2', b"", b"", |_| {})]).contains("link to a path of more than")
    );
    assert!(
        error(&[long(b'K', 400_000), member(b"h", b'1', b"", b"", |_| {})]).contains("link to a path of more than")
    );
    assert_eq!(error(&[long(b'L', 4096), file("x", "")]), "");
    let attribute = |length: usize| {
        let rest = format!(" SCHILY.xattr.user.x={}\n", "v".repeat(length));
        let record = format!("{}{rest}", rest.len() + (rest.len() + 6).to_string().len());
        member(b"x", b'x', b"", record.as_bytes(), |_| {})
    };
    assert_eq!(error(&[attribute(65536), file("x", "")]), "");
    assert!(error(&[attribute(65537), file("x", "")]).contains("64 KiB"));
    // What is replaced again counts too.
    let mut tree = Tree::new();
    let node = || Node {
        kind: Kind::Dir,
        meta: super::super::Meta { mode: 0, uid: 0, gid: 0, mtime: 0, size: 0, links: 1, inode: (0, 0) },
        data: Data::None,
        xattrs: vec![(b"user.x".to_vec(), vec![0; 60_000])].into(),
        made_up: false,
        children: Default::default(),
    };
    let added = (0..20_000).take_while(|_| tree.insert(b"same", node()).is_ok()).count();
    assert!((17_000..18_000).contains(&added), "{added}");
    assert!(tree.insert(b"same", node()).unwrap_err().to_string().contains("1024 MiB of names"));
}

#[test]
fn directories_without_members_are_known_as_such() {
    let source =
        open(&archive(&[file("tmp/x", ""), file("etc/x", ""), member(b"etc/", b'5', b"", b"", |_| {})])).unwrap();
    let root = source.root().unwrap();
    let top = source.list(&root).unwrap();
    let made_up = |entry: &Entry<u32>| source.is_made_up(entry).unwrap();
    assert_eq!((made_up(&root), made_up(&top[0]), made_up(&top[1])), (true, false, true));
    let source = open(&archive(&[member(b"./", b'5', b"", b"", |_| {})])).unwrap();
    assert!(!source.is_made_up(&source.root().unwrap()).unwrap());
}

#[test]
fn the_padding_of_the_last_member_may_be_missing() {
    let whole = archive(&[file("a", "first"), file("v", "last")]);
    let content = 3 * 512;
    assert_eq!(lines(&open(&whole[..content + 4]).unwrap()), lines(&open(&whole).unwrap()));
    assert!(open(&whole[..content + 3]).is_err(), "a piece of the content is missing");
}

#[test]
fn anything_is_read_without_harm() {
    let good = archive(&[
        member(b"x", b'x', b"", b"30 mtime=1234567890.123456789\n25 SCHILY.xattr.user.x=1\n", |_| {}),
        file("a/b", "content"),
        member(b"long", b'L', b"", &[b'n'; 200], |_| {}),
        file("short", ""),
        member(b"h", b'1', b"a/b", b"", |_| {}),
        member(b"x", b'x', b"", b"22 GNU.sparse.major=1\n22 GNU.sparse.minor=0\n27 GNU.sparse.realsize=999\n", |_| {}),
        file("s", &format!("1\n5\n3\n{}abc", "\0".repeat(506))),
    ]);
    assert_eq!(lines(&open(&good).unwrap()).len(), 5);
    for end in (0..good.len()).step_by(97) {
        let _ = open(&good[..end]);
    }
    for at in 0..good.len() - 1024 {
        let header = at / 512 * 512;
        for value in [0, b'/', b'7', 0x80, 0xFF] {
            let mut bad = good.clone();
            bad[at] = value;
            let _ = open(&bad);
            // Where it is a header, its sum agrees.
            sum(&mut bad[header..]);
            let _ = open(&bad);
        }
    }
}
