//! The planner: walks the source in order, decides numbers, owners, attributes, fragments and hard links, and hands
//! out units. Everything that shapes the image is decided here, so the number of threads cannot change it.

use std::collections::HashMap;
use std::vec::IntoIter;

use super::super::super::error::{ImageError, Result};
use super::super::super::source::{Entry, Kind, Meta, Source};
use super::super::format::inode;
use super::dedup::{Dedup, Found, Original};
use super::inode::{Common, device};
use super::queue::Queue;
use super::tables::Ids;
use super::unit::{Content, Event, Leaf, UNIT_BYTES, UNIT_EVENTS, Unit};
use super::xattr::Xattrs;
use super::{Owners, PackOptions, PackReport};

/// A file's list of blocks is held in memory while it is written: 32 Mi blocks are 4 TiB of 128 KiB ones.
const MOST_BLOCKS: u64 = 1 << 25;
/// Linux knows no longer target, and newer kernels refuse to read one.
const LONGEST_TARGET: usize = 4095;

/// What the plan comes to.
pub(super) struct Outcome {
    pub ids: Ids,
    pub xattrs: Xattrs,
    pub report: PackReport,
    /// The latest time of an inode.
    pub latest: u32,
}

/// A count of what is there, made before the work.
pub(super) struct Census<H> {
    /// Bytes of all regular files, hard links counted once.
    pub bytes: u64,
    links: HashMap<(u64, u64), Linked>,
    dedup: Dedup<H>,
}

#[derive(Default)]
struct Linked {
    names: u32,
    number: Option<u32>,
}

/// Walks the whole source once: how many names of an inode lie within it, and how much there is to read.
pub(super) fn census<S: Source>(source: &S, queue: &Queue<S::Handle>, dedup: bool) -> Result<Census<S::Handle>> {
    let mut census = Census { bytes: 0, links: HashMap::new(), dedup: Dedup::new() };
    let mut pending = vec![source.root()?];
    while let Some(dir) = pending.pop() {
        queue.check()?;
        for entry in source.list(&dir)? {
            if entry.kind == Kind::Dir {
                pending.push(entry);
                continue;
            }
            let mut first = true;
            if entry.meta.links > 1 {
                let linked = census.links.entry(entry.meta.inode).or_default();
                linked.names += 1;
                first = linked.names == 1;
            }
            if first {
                census.bytes = census.bytes.saturating_add(entry.meta.size);
                if dedup && entry.kind == Kind::File {
                    census.dedup.count(entry.meta.size);
                }
            }
        }
    }
    Ok(census)
}

/// A directory being walked.
struct Frame<H> {
    dir: Entry<H>,
    number: u32,
    parent: u32,
    children: IntoIter<Entry<H>>,
    subdirs: u32,
}

pub(super) struct Planner<'a, 'w, S: Source> {
    source: &'a S,
    options: &'a PackOptions,
    queue: &'a Queue<'w, S::Handle>,
    census: Census<S::Handle>,
    unit: Unit<S::Handle>,
    fragment: Vec<Entry<S::Handle>>,
    fragment_bytes: usize,
    fragments: u32,
    inodes: u32,
    outcome: Outcome,
}

impl<'a, 'w, S: Source> Planner<'a, 'w, S> {
    pub fn new(
        source: &'a S,
        options: &'a PackOptions,
        queue: &'a Queue<'w, S::Handle>,
        census: Census<S::Handle>,
    ) -> Planner<'a, 'w, S> {
        let xattrs = Xattrs::new(options.compression, options.block_size as usize);
        let outcome = Outcome { ids: Ids::default(), xattrs, report: PackReport::default(), latest: 0 };
        let unit = Unit { events: Vec::new(), bytes: 0 };
        Planner {
            source,
            options,
            queue,
            census,
            unit,
            fragment: Vec::new(),
            fragment_bytes: 0,
            fragments: 0,
            inodes: 0,
            outcome,
        }
    }

    /// Hands out the whole source; the queue is closed by the caller.
    pub fn run(mut self) -> Result<Outcome> {
        let root = self.source.root()?;
        if root.kind != Kind::Dir {
            return Err(ImageError::Unsupported("the source is no directory".into()));
        }
        let mut frames = vec![self.enter(root, 0)?];
        while let Some(frame) = frames.last_mut() {
            match frame.children.next() {
                Some(entry) if entry.kind == Kind::Dir => {
                    frame.subdirs += 1;
                    let parent = frame.number;
                    frames.push(self.enter(entry, parent)?);
                }
                Some(entry) => self.leaf(entry)?,
                None => {
                    if let Some(frame) = frames.pop() {
                        self.leave(frame)?;
                    }
                }
            }
        }
        self.close_fragment()?;
        self.flush()?;
        self.outcome.report.inodes = u64::from(self.inodes);
        Ok(self.outcome)
    }

    fn enter(&mut self, dir: Entry<S::Handle>, parent: u32) -> Result<Frame<S::Handle>> {
        let children = self.source.list(&dir)?;
        check_names(&dir, &children)?;
        let number = self.number()?;
        self.push(Event::Enter)?;
        Ok(Frame { dir, number, parent, children: children.into_iter(), subdirs: 0 })
    }

    fn leave(&mut self, frame: Frame<S::Handle>) -> Result<()> {
        let links = frame.subdirs.saturating_add(2);
        let common = self.common(&frame.dir, frame.number, links)?;
        self.outcome.report.directories += 1;
        // The root has no parent; mksquashfs gives it the number after the last, and so do we.
        let parent = if frame.parent == 0 { self.inodes.saturating_add(1) } else { frame.parent };
        self.push(Event::Leave { name: frame.dir.name, common, parent })
    }

    fn leaf(&mut self, entry: Entry<S::Handle>) -> Result<()> {
        let mut links = 1;
        if entry.meta.links > 1 {
            // The tree may have changed since it was counted: an inode that is new counts as having one name.
            let linked = self.census.links.entry(entry.meta.inode).or_default();
            if let Some(number) = linked.number {
                self.outcome.report.hard_links += 1;
                return self.push(Event::Link { kind: kind_number(&entry.kind), name: entry.name, number });
            }
            linked.number = Some(self.inodes.saturating_add(1));
            links = linked.names.max(1);
        }
        let number = self.number()?;
        let common = self.common(&entry, number, links)?;
        let content = match &entry.kind {
            Kind::Symlink(target) if (1..=LONGEST_TARGET).contains(&target.len()) => Content::Symlink(target.clone()),
            Kind::Symlink(target) => {
                let (name, length) = (entry.name.escape_ascii(), target.len());
                return Err(ImageError::Unsupported(format!("symbolic link {name} has a target of {length} bytes")));
            }
            Kind::CharDev(major, minor) => Content::Device(inode::CHRDEV, device(*major, *minor)?),
            Kind::BlockDev(major, minor) => Content::Device(inode::BLKDEV, device(*major, *minor)?),
            Kind::Fifo => Content::Ipc(inode::FIFO),
            Kind::Socket => Content::Ipc(inode::SOCKET),
            Kind::File | Kind::Dir => {
                self.outcome.report.files += 1;
                self.outcome.report.bytes_in = self.outcome.report.bytes_in.saturating_add(entry.meta.size);
                self.content(&entry, number)?
            }
        };
        self.push(Event::Leaf(Box::new(Leaf { name: entry.name, common, content })))
    }

    /// Plans a file's content, unless an earlier file has the same.
    fn content(&mut self, file: &Entry<S::Handle>, number: u32) -> Result<Content> {
        let size = file.meta.size;
        match self.census.dedup.find(self.source, self.queue, file)? {
            Found::Alone => Ok(Content::File { size, fragment: self.data(file)?, keep: false }),
            Found::Same(original) => {
                self.outcome.report.duplicates += 1;
                Ok(Content::Same { size, number: original.number, fragment: original.fragment })
            }
            Found::New(key) => {
                let fragment = self.data(file)?;
                self.census.dedup.remember(key, Original { file: file.clone(), number, fragment });
                Ok(Content::File { size, fragment, keep: fragment.is_none() })
            }
        }
    }

    /// Plans a file's content; says where in which fragment it goes.
    fn data(&mut self, file: &Entry<S::Handle>) -> Result<Option<(u32, u32)>> {
        let (size, block) = (file.meta.size, u64::from(self.options.block_size));
        if size == 0 {
            return Ok(None);
        }
        if size < block {
            if self.fragment_bytes as u64 + size > block {
                self.close_fragment()?;
            }
            let at = self.fragment_bytes as u32;
            self.fragment_bytes += size as usize;
            self.fragment.push(file.clone());
            return Ok(Some((self.fragments, at)));
        }
        let (blocks, block_bytes) = (size.div_ceil(block), block as usize);
        if blocks > MOST_BLOCKS {
            let (name, most) = (file.name.escape_ascii(), MOST_BLOCKS * block);
            return Err(ImageError::Unsupported(format!(
                "file {name} has {size} bytes; with blocks of {block} at most {most} can be packed"
            )));
        }
        let mut at = 0;
        while at < blocks {
            let range = self.source.next_data(file, at * block)?;
            let first = range.as_ref().map_or(blocks, |range| (range.start / block).clamp(at, blocks));
            let end = range.as_ref().map_or(blocks, |range| range.end.div_ceil(block).clamp(first, blocks));
            if first > at {
                let bytes = (first * block).min(size) - at * block;
                self.push(Event::Hole { blocks: (first - at) as u32, bytes })?;
            }
            at = first;
            while at < end {
                let room = UNIT_BYTES.saturating_sub(self.unit.bytes) / block_bytes;
                let count = (room.max(1) as u64).min(end - at);
                let length = ((at + count) * block).min(size) - at * block;
                self.unit.bytes += length as usize;
                self.push(Event::Blocks { file: file.clone(), offset: at * block, length: length as usize })?;
                at += count;
            }
            if first < blocks && end == first {
                return Err(ImageError::corrupt(format!(
                    "file {} has an empty range of data",
                    file.name.escape_ascii()
                )));
            }
        }
        Ok(None)
    }

    fn close_fragment(&mut self) -> Result<()> {
        if self.fragment.is_empty() {
            return Ok(());
        }
        self.unit.bytes += self.fragment_bytes;
        self.fragment_bytes = 0;
        self.fragments = self
            .fragments
            .checked_add(1)
            .filter(|count| *count < u32::MAX)
            .ok_or_else(|| ImageError::Unsupported("more fragments than SquashFS can count".into()))?;
        self.outcome.report.fragments += 1;
        let files = std::mem::take(&mut self.fragment);
        self.push(Event::Fragment { files })
    }

    fn push(&mut self, event: Event<S::Handle>) -> Result<()> {
        self.unit.events.push(event);
        if self.unit.bytes >= UNIT_BYTES || self.unit.events.len() >= UNIT_EVENTS { self.flush() } else { Ok(()) }
    }

    fn flush(&mut self) -> Result<()> {
        let empty = Unit { events: Vec::new(), bytes: 0 };
        self.queue.hand_in(std::mem::replace(&mut self.unit, empty))
    }

    fn number(&mut self) -> Result<u32> {
        // The last number is left for the root's parent.
        self.inodes = self
            .inodes
            .checked_add(1)
            .filter(|count| *count < u32::MAX - 1)
            .ok_or_else(|| ImageError::Unsupported("more inodes than SquashFS can count".into()))?;
        Ok(self.inodes)
    }

    fn common(&mut self, entry: &Entry<S::Handle>, number: u32, links: u32) -> Result<Common> {
        let Meta { mut mode, uid, gid, mtime, .. } = entry.meta;
        let mut set = self.source.xattrs(entry)?;
        let (uid, gid) = match self.options.owners {
            Owners::Keep => (uid, gid),
            Owners::AllRoot => {
                set.retain(|(name, _)| {
                    name.starts_with(b"user.") || name == b"security.capability" || name == b"trusted.overlay.opaque"
                });
                mode = entry.mode_for(0, 0);
                self.outcome.report.harmless += u64::from(mode != entry.meta.mode);
                (0, 0)
            }
        };
        let mtime = u32::try_from(mtime.min(self.options.epoch.unwrap_or(mtime)).max(0)).unwrap_or(u32::MAX);
        self.outcome.latest = self.outcome.latest.max(mtime);
        let (uid, gid) = (self.outcome.ids.number(uid)?, self.outcome.ids.number(gid)?);
        let xattr = self.outcome.xattrs.number(&set).map_err(|error| match error {
            ImageError::Unsupported(what) => ImageError::Unsupported(format!("{}: {what}", entry.name.escape_ascii())),
            other => other,
        })?;
        Ok(Common { mode: mode & 0o7777, uid, gid, mtime, number, xattr, links })
    }
}

fn kind_number(kind: &Kind) -> u16 {
    match kind {
        Kind::Dir => inode::DIR,
        Kind::File => inode::FILE,
        Kind::Symlink(_) => inode::SYMLINK,
        Kind::CharDev(..) => inode::CHRDEV,
        Kind::BlockDev(..) => inode::BLKDEV,
        Kind::Fifo => inode::FIFO,
        Kind::Socket => inode::SOCKET,
    }
}

/// Readers search listings by name: unsorted, double or malformed names would make entries unreachable or worse.
fn check_names<H>(dir: &Entry<H>, children: &[Entry<H>]) -> Result<()> {
    let mut last: &[u8] = b"";
    for child in children {
        let name = child.name.as_slice();
        let odd = name.len() > 255 || name == b"." || name == b".." || name.contains(&b'/') || name.contains(&0);
        // An empty name is not greater than the one before.
        if odd || name <= last {
            let (name, dir) = (name.escape_ascii(), dir.name.escape_ascii());
            return Err(ImageError::corrupt(format!("the entry '{name}' of directory '{dir}' is malformed or double")));
        }
        last = name;
    }
    Ok(())
}
