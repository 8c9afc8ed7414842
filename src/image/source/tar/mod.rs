//! A tar archive as a source, never unpacked: an index in memory of where each member's content is, and the archive
//! itself, or for what comes once or compressed a copy of the contents on scratch. `input` reads, `header`, `pax` and
//! `sparse` understand, `members` puts them together, `tree` is the index. Formats: POSIX pax, ustar, GNU, v7.

mod header;
mod input;
mod members;
mod pax;
mod sparse;
#[cfg(test)]
mod tests;
mod tree;
pub mod write;

use std::fs::File;
use std::io::{self, Read};
use std::ops::Range;
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::sync::Arc;

use super::super::bytes::Region;
use super::super::error::{ImageError, Result};
use super::super::squashfs::write::Watch;
use super::open::{Quiet, Way};
use super::{Entry, Kind, Source};
use input::Input;
use tree::{Data, Node, Tree};

/// An archive.
pub struct TarSource {
    tree: Tree,
    /// Where contents are.
    store: Arc<File>,
    compression: Option<&'static str>,
    notes: Vec<String>,
}

/// An archive in a file.
///
/// # Errors
/// When it is none, cut off or damaged, or has members that lead out of it.
pub fn file(file: File, way: &Way) -> Result<TarSource> {
    let file = Arc::new(file);
    part(Region::new(file.clone(), 0)?, file, 0, way)
}

/// An archive that is a part of a file: `region` begins at byte `start` of `file`.
pub(super) fn part(region: Region, file: Arc<File>, start: u64, way: &Way) -> Result<TarSource> {
    match compression_of(&region)? {
        None => TarSource::index(Input::in_place(region, start, way.watch), file, None),
        compression => {
            streamed(Cursor { region, at: 0, watch: way.watch }, compression, way.scratch, &Quiet(way.watch))
        }
    }
}

/// An archive that comes once.
///
/// # Errors
/// As for [`file()`].
pub fn stream(mut input: impl Read, way: &Way) -> Result<TarSource> {
    let (mut head, mut length) = ([0; 6], 0);
    while let Some(rest) = head.get_mut(length..).filter(|rest| !rest.is_empty()) {
        match input.read(rest) {
            Ok(0) => break,
            Ok(count) => length += count,
            Err(error) if error.kind() == io::ErrorKind::Interrupted && !way.watch.cancelled() => {}
            Err(error) if error.kind() == io::ErrorKind::Interrupted => return Err(ImageError::Interrupted),
            Err(error) => return Err(ImageError::io("read", "the archive")(error)),
        }
    }
    let head = head.get(..length).unwrap_or_default().to_vec();
    let compression = input::compression(&head)?;
    streamed(io::Cursor::new(head).chain(input), compression, way.scratch, way.watch)
}

/// An archive that comes once and is not compressed, whose contents are appended to a file that many archives share: they
/// go to `at`. Returns where the next one's go.
///
/// # Errors
/// As for [`file()`].
pub fn shared<'a>(input: impl Read + 'a, store: Arc<File>, at: u64, watch: &'a dyn Watch) -> Result<(TarSource, u64)> {
    let mut input = Input::appending(Box::new(input), store.clone(), at, watch);
    let mut tree = Tree::new();
    let notes = members::read(&mut input, &mut tree)?;
    let end = input.stored();
    Ok((TarSource { tree, store, compression: None, notes }, end))
}

/// Whether an archive is not compressed.
pub(super) fn part_is_plain(region: &Region) -> Result<bool> {
    Ok(compression_of(region)?.is_none())
}

fn compression_of(region: &Region) -> Result<Option<&'static str>> {
    let mut head = [0; 6];
    let length = region.read_some(0, &mut head, "the archive")?;
    input::compression(head.get(..length).unwrap_or_default())
}

/// The bytes of an archive behind its compressor, for those who look at them too.
pub(super) fn unpacked<'a>(region: Region, watch: &'a dyn Watch) -> Result<Box<dyn Read + 'a>> {
    let compression = compression_of(&region)?;
    Ok(input::decompress(Cursor { region, at: 0, watch }, compression))
}

/// An archive from bytes that are not compressed and come once.
pub(super) fn plain_stream<'a>(input: impl Read + 'a, scratch: &Path, watch: &'a dyn Watch) -> Result<TarSource> {
    streamed(input, None, scratch, watch)
}

fn streamed<'a>(
    input: impl Read + 'a,
    compression: Option<&'static str>,
    scratch: &Path,
    watch: &'a dyn Watch,
) -> Result<TarSource> {
    let (input, store) = Input::streamed(input::decompress(input, compression), scratch, watch)?;
    TarSource::index(input, store, compression)
}

/// Reads a region from its beginning to its end, and tells how far it is.
struct Cursor<'a> {
    region: Region,
    at: u64,
    watch: &'a dyn Watch,
}

impl Read for Cursor<'_> {
    fn read(&mut self, out: &mut [u8]) -> io::Result<usize> {
        if self.watch.cancelled() {
            return Err(io::Error::other("interrupted"));
        }
        self.watch.progress(self.at, Some(self.region.length()));
        let got = self.region.read_some(self.at, out, "the archive").map_err(io::Error::other)?;
        self.at += got as u64;
        Ok(got)
    }
}

impl TarSource {
    fn index(mut input: Input, store: Arc<File>, compression: Option<&'static str>) -> Result<TarSource> {
        let mut tree = Tree::new();
        let notes = members::read(&mut input, &mut tree)?;
        Ok(TarSource { tree, store, compression, notes })
    }

    /// What it is, for people.
    pub fn what(&self) -> String {
        match self.compression {
            Some(how) => format!("a tar archive ({how})"),
            None => "a tar archive".into(),
        }
    }

    /// What the user should know about it.
    pub fn notes(&self) -> &[String] {
        &self.notes
    }

    /// What lies at a path, symbolic links not followed.
    pub fn find(&self, path: &[u8]) -> Option<Entry<u32>> {
        let name = path.rsplit(|byte| *byte == b'/').next().unwrap_or_default();
        self.entry(name, self.tree.find(path)?).ok()
    }

    /// The entry behind a handle of [`TarSource::find`]'s; its name is empty.
    ///
    /// # Errors
    /// When it is none of this archive's.
    pub fn get(&self, handle: u32) -> Result<Entry<u32>> {
        self.entry(b"", handle)
    }

    /// The content of a regular file in it as a part of a file: with its place and length. Symbolic links are followed
    /// as often as a few times, as old container archives need it.
    pub(super) fn place(&self, path: &[u8]) -> Option<(Arc<File>, u64, u64)> {
        let mut path = path.to_vec();
        for _ in 0..4 {
            let node = self.tree.get(self.tree.find(&path)?)?;
            match (&node.kind, &node.data) {
                (Kind::Symlink(target), _) => path = beside(&path, target)?,
                (Kind::File, Data::Whole(at)) => return Some((self.store.clone(), *at, node.meta.size)),
                (Kind::File, Data::None) => return Some((self.store.clone(), 0, 0)),
                _ => return None,
            }
        }
        None
    }

    fn node(&self, entry: &Entry<u32>) -> Result<&Node> {
        self.tree.get(entry.handle).ok_or_else(|| ImageError::corrupt("an entry of another archive"))
    }

    fn entry(&self, name: &[u8], number: u32) -> Result<Entry<u32>> {
        let node = self.tree.get(number).ok_or_else(|| ImageError::corrupt("an entry of another archive"))?;
        Ok(Entry { name: name.to_vec(), kind: node.kind.clone(), meta: node.meta, handle: number })
    }

    fn read_at(&self, file: &Entry<u32>, buf: &mut [u8], at: u64) -> Result<()> {
        let named = || format!("'{}' in the archive", file.name.escape_ascii());
        self.store.read_exact_at(buf, at).map_err(|error| ImageError::io("read", named())(error))
    }
}

/// What a symbolic link at `path` means; None when that lies outside.
fn beside(path: &[u8], target: &[u8]) -> Option<Vec<u8>> {
    let split = |path: &[u8]| path.split(|byte| *byte == b'/').map(<[u8]>::to_vec).collect::<Vec<_>>();
    let mut parts = split(path);
    parts.pop();
    for part in split(target) {
        match part.as_slice() {
            b"" | b"." => {}
            b".." => drop(parts.pop()?),
            _ => parts.push(part),
        }
    }
    Some(parts.join(&b'/'))
}

impl Source for TarSource {
    type Handle = u32;

    fn root(&self) -> Result<Entry<u32>> {
        self.entry(b"", 0)
    }

    fn list(&self, dir: &Entry<u32>) -> Result<Vec<Entry<u32>>> {
        self.node(dir)?.children.iter().map(|(name, number)| self.entry(name, *number)).collect()
    }

    fn read(&self, file: &Entry<u32>, offset: u64, buf: &mut [u8]) -> Result<()> {
        let end = offset.checked_add(buf.len() as u64).filter(|end| *end <= file.meta.size);
        let end = end.ok_or_else(|| ImageError::corrupt("a read past the end of a member"))?;
        match &self.node(file)?.data {
            Data::None => Ok(()),
            Data::Whole(place) => self.read_at(file, buf, place.saturating_add(offset)),
            Data::Sparse(extents) => {
                buf.fill(0);
                let first = extents.partition_point(|extent| extent.offset + extent.length <= offset);
                for extent in extents.iter().skip(first).take_while(|extent| extent.offset < end) {
                    let (from, to) = (extent.offset.max(offset), (extent.offset + extent.length).min(end));
                    // Both lie within the buffer's range.
                    let piece = buf.get_mut((from - offset) as usize..(to - offset) as usize).unwrap_or_default();
                    self.read_at(file, piece, extent.place + (from - extent.offset))?;
                }
                Ok(())
            }
        }
    }

    fn next_data(&self, file: &Entry<u32>, offset: u64) -> Result<Option<Range<u64>>> {
        let Data::Sparse(extents) = &self.node(file)?.data else {
            return Ok((offset < file.meta.size).then_some(offset..file.meta.size));
        };
        let first = extents.partition_point(|extent| extent.offset + extent.length <= offset);
        let found = extents.get(first);
        Ok(found.map(|extent| extent.offset.max(offset)..extent.offset + extent.length))
    }

    fn is_made_up(&self, entry: &Entry<u32>) -> Result<bool> {
        Ok(self.node(entry)?.made_up)
    }

    fn xattrs(&self, entry: &Entry<u32>) -> Result<Vec<(Vec<u8>, Vec<u8>)>> {
        Ok(self.node(entry)?.xattrs.to_vec())
    }
}
