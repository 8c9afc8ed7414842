//! A source as a tar archive: POSIX pax, with hard links, attributes and sparse files as GNU tar and libarchive read them.

use std::collections::HashMap;
use std::io::Write;
use std::ops::Range;

use super::super::super::error::{ImageError, Result};
use super::super::super::squashfs::write::Watch;
use super::super::{Entry, Kind, Source};
use super::header::BLOCK;
use super::tree::{LONGEST_PATH, shown};

/// Bytes read at once.
const PIECE: usize = 1 << 20;
/// GNU tar writes archives in records of this size.
const RECORD: u64 = 20 * BLOCK as u64;
/// Stretches of one sparse file that are told; a file with more is written with its holes as zeroes.
const MOST: usize = 1 << 16;

struct Writer<'a, W> {
    out: W,
    done: u64,
    watch: &'a dyn Watch,
}

/// Writes all of `source` to `out`, the entries of each directory in the order of their names. Returns how many bytes.
///
/// # Errors
/// The first thing that could not be read or written.
pub fn write<S: Source>(source: &S, out: impl Write, watch: &dyn Watch) -> Result<u64> {
    let mut writer = Writer { out, done: 0, watch };
    let root = source.root()?;
    let mut firsts: HashMap<(u64, u64), Vec<u8>> = HashMap::new();
    let mut open = vec![(b"./".to_vec(), source.list(&root)?.into_iter())];
    writer.entry(source, &root, b"./", None)?;
    while let Some((path, entries)) = open.last_mut() {
        if watch.cancelled() {
            return Err(ImageError::Interrupted);
        }
        let Some(entry) = entries.next() else {
            open.pop();
            continue;
        };
        let mut full = [path.as_slice(), &entry.name].concat();
        if full.len() > LONGEST_PATH {
            let what = format!("'{}' has a path of more than {LONGEST_PATH} bytes", shown(&full));
            return Err(ImageError::Unsupported(what));
        }
        if entry.kind == Kind::Dir {
            full.push(b'/');
            writer.entry(source, &entry, &full, None)?;
            open.push((full, source.list(&entry)?.into_iter()));
            continue;
        }
        let first = if entry.meta.links > 1 { firsts.get(&entry.meta.inode) } else { None };
        writer.entry(source, &entry, &full, first.map(Vec::as_slice))?;
        if entry.meta.links > 1 && first.is_none() {
            firsts.insert(entry.meta.inode, full);
        }
    }
    let end = (writer.done + 2 * BLOCK as u64).next_multiple_of(RECORD);
    writer.put(&vec![0; (end - writer.done) as usize])?;
    writer.out.flush().map_err(ImageError::io("write", "the archive"))?;
    Ok(writer.done)
}

/// `LENGTH KEY=VALUE\n`, the length counting itself.
fn record(key: &[u8], value: &[u8], into: &mut Vec<u8>) {
    let rest = key.len() + value.len() + 3;
    let mut length = rest + 1;
    while rest + length.to_string().len() != length {
        length = rest + length.to_string().len();
    }
    into.extend_from_slice(length.to_string().as_bytes());
    into.push(b' ');
    into.extend_from_slice(key);
    into.push(b'=');
    into.extend_from_slice(value);
    into.push(b'\n');
}

/// Where a file has data, if that is worth telling.
fn holes<S: Source>(source: &S, entry: &Entry<S::Handle>) -> Result<Option<Vec<Range<u64>>>> {
    let mut ranges: Vec<Range<u64>> = Vec::new();
    let mut at = 0;
    while let Some(range) = source.next_data(entry, at)? {
        at = range.end;
        let joined = ranges.last_mut().filter(|last| last.end == range.start).map(|last| last.end = range.end);
        if joined.is_none() {
            if ranges.len() >= MOST {
                return Ok(None);
            }
            ranges.push(range);
        }
    }
    let data: u64 = ranges.iter().map(|range| range.end - range.start).sum();
    Ok((data < entry.meta.size).then_some(ranges))
}

impl<W: Write> Writer<'_, W> {
    fn put(&mut self, bytes: &[u8]) -> Result<()> {
        self.out.write_all(bytes).map_err(ImageError::io("write", "the archive"))?;
        self.done += bytes.len() as u64;
        self.watch.progress(self.done, None);
        Ok(())
    }

    fn pad(&mut self) -> Result<()> {
        let length = self.done.next_multiple_of(BLOCK as u64) - self.done;
        self.put(&[0; BLOCK][..length as usize])
    }

    /// An entry at `path`; `first`: it is another name of what came there.
    fn entry<S: Source>(
        &mut self,
        source: &S,
        entry: &Entry<S::Handle>,
        path: &[u8],
        first: Option<&[u8]>,
    ) -> Result<()> {
        let meta = &entry.meta;
        let (kind, link, device): (u8, &[u8], (u32, u32)) = match (&entry.kind, first) {
            (_, Some(first)) => (b'1', first, (0, 0)),
            (Kind::Dir, _) => (b'5', b"", (0, 0)),
            (Kind::File, _) => (b'0', b"", (0, 0)),
            (Kind::Symlink(target), _) => (b'2', target, (0, 0)),
            (Kind::CharDev(major, minor), _) => (b'3', b"", (*major, *minor)),
            (Kind::BlockDev(major, minor), _) => (b'4', b"", (*major, *minor)),
            (Kind::Fifo, _) => (b'6', b"", (0, 0)),
            // There is no kind for sockets; they mean nothing without whoever listens.
            (Kind::Socket, _) => return Ok(()),
        };
        let mut more = Vec::new();
        let content = kind == b'0' && meta.size > 0;
        let ranges = if content { holes(source, entry)? } else { None };
        let map = ranges.as_deref().map(|ranges| map(ranges, meta.size));
        let size = match (&ranges, &map) {
            (Some(ranges), Some(map)) => {
                record(b"GNU.sparse.major", b"1", &mut more);
                record(b"GNU.sparse.minor", b"0", &mut more);
                record(b"GNU.sparse.name", path, &mut more);
                record(b"GNU.sparse.realsize", meta.size.to_string().as_bytes(), &mut more);
                map.len() as u64 + ranges.iter().map(|range| range.end - range.start).sum::<u64>()
            }
            _ if content => meta.size,
            _ => 0,
        };
        if map.is_none() && path.len() > 100 {
            record(b"path", path, &mut more);
        }
        if link.len() > 100 {
            record(b"linkpath", link, &mut more);
        }
        for (key, value, fits) in [
            ("size", i128::from(size), size < 1 << 33),
            ("uid", meta.uid.into(), meta.uid < 1 << 21),
            ("gid", meta.gid.into(), meta.gid < 1 << 21),
            ("mtime", meta.mtime.into(), (0..1 << 33).contains(&meta.mtime)),
        ] {
            if !fits {
                record(key.as_bytes(), value.to_string().as_bytes(), &mut more);
            }
        }
        if first.is_none() {
            for (name, value) in source.xattrs(entry)? {
                record(&[b"SCHILY.xattr.", name.as_slice()].concat(), &value, &mut more);
            }
        }
        if !more.is_empty() {
            self.put(&header(b"././@PaxHeader", b"", b'x', 0o644, (0, 0), more.len() as u64, 0, (0, 0)))?;
            self.put(&more)?;
            self.pad()?;
        }
        self.put(&header(path, link, kind, meta.mode, (meta.uid, meta.gid), size, meta.mtime, device))?;
        if content {
            self.put(map.as_deref().unwrap_or_default())?;
            let whole = std::slice::from_ref(&(0..meta.size)).to_vec();
            self.content(source, entry, &ranges.unwrap_or(whole))?;
        }
        Ok(())
    }

    fn content<S: Source>(&mut self, source: &S, entry: &Entry<S::Handle>, ranges: &[Range<u64>]) -> Result<()> {
        let mut buffer = vec![0; PIECE.min(usize::try_from(entry.meta.size).unwrap_or(PIECE))];
        for range in ranges {
            let mut at = range.start;
            while at < range.end {
                if self.watch.cancelled() {
                    return Err(ImageError::Interrupted);
                }
                let length = (range.end - at).min(buffer.len() as u64) as usize;
                let piece = buffer.get_mut(..length).unwrap_or_default();
                source.read(entry, at, piece)?;
                self.put(buffer.get(..length).unwrap_or_default())?;
                at += length as u64;
            }
        }
        self.pad()
    }
}

/// The map of a sparse file, version 1.0: a number a line, padded to a block. A hole at the end is told by an empty
/// stretch there: GNU tar takes the size from that.
fn map(ranges: &[Range<u64>], size: u64) -> Vec<u8> {
    let end = ranges.last().is_none_or(|last| last.end < size).then_some(size..size);
    let all: Vec<&Range<u64>> = ranges.iter().chain(&end).collect();
    let mut text = format!("{}\n", all.len());
    for range in all {
        text.push_str(&format!("{}\n{}\n", range.start, range.end - range.start));
    }
    let mut bytes = text.into_bytes();
    bytes.resize(bytes.len().next_multiple_of(BLOCK), 0);
    bytes
}

#[allow(clippy::too_many_arguments)]
fn header(
    path: &[u8],
    link: &[u8],
    kind: u8,
    mode: u16,
    owner: (u32, u32),
    size: u64,
    mtime: i64,
    device: (u32, u32),
) -> [u8; BLOCK] {
    let mut block = [0; BLOCK];
    let mut put = |at: usize, length: usize, bytes: &[u8]| {
        for (place, byte) in block.iter_mut().skip(at).take(length).zip(bytes) {
            *place = *byte;
        }
    };
    // What does not fit is told by the extended header.
    let octal = |value: u64, digits: usize| format!("{:0digits$o}", value & ((1 << (3 * digits)) - 1));
    put(0, 100, path);
    put(100, 7, octal(mode.into(), 7).as_bytes());
    put(108, 7, octal(owner.0.into(), 7).as_bytes());
    put(116, 7, octal(owner.1.into(), 7).as_bytes());
    put(124, 11, octal(size, 11).as_bytes());
    put(136, 11, octal(u64::try_from(mtime).unwrap_or(0), 11).as_bytes());
    put(148, 8, b"        ");
    put(156, 1, &[kind]);
    put(157, 100, link);
    put(257, 8, b"ustar\x0000");
    put(329, 7, octal(device.0.into(), 7).as_bytes());
    put(337, 7, octal(device.1.into(), 7).as_bytes());
    let sum: u32 = block.iter().map(|byte| u32::from(*byte)).sum();
    for (place, byte) in block.iter_mut().skip(148).zip(format!("{sum:06o}\0 ").bytes()) {
        *place = byte;
    }
    block
}
