//! The writer: takes units in order, writes their blocks, and makes inodes and listings as soon as what they point
//! at has its place; at the end it lays down the tables and the superblock.

use std::collections::HashMap;
use std::fs::File;
use std::os::unix::fs::FileExt;

use super::super::super::error::{ImageError, Result};
use super::super::format::{DATA_RAW, NONE64, SUPERBLOCK, inode};
use super::inode::{self as inodes, Body};
use super::listing::{self, Listed};
use super::meta::{MetaWriter, block_start};
use super::plan::Outcome;
use super::queue::{Guard, Queue};
use super::tables::{Superblock, Tail, compressor_options, records};
use super::unit::{Content, Event, Filled, Leaf};
use super::{PackOptions, PackReport, Watch};

/// Images are padded to this, so that loop devices can use all of them.
const PADDING: u64 = 4096;

/// The image being written.
pub(super) struct Assembler<'a> {
    out: &'a File,
    options: &'a PackOptions,
    position: u64,
    inodes: MetaWriter,
    listings: MetaWriter,
    fragments: Vec<(u64, u32)>,
    /// Where each inode lies, by number; 0 for one that is yet to come.
    places: Vec<u64>,
    frames: Vec<Vec<Listed>>,
    file: Blocks,
    /// Blocks of files that others may share, by inode number.
    kept: HashMap<u32, Blocks>,
    blocks: u64,
    /// Bytes of content that need no reading: holes, and what earlier files have brought.
    skipped: u64,
    scratch: Vec<u8>,
    has_options: bool,
}

/// The blocks of the file under way.
#[derive(Default)]
struct Blocks {
    start: Option<u64>,
    sizes: Vec<u32>,
    sparse: u64,
}

impl Blocks {
    fn body(&self, size: u64, fragment: Option<(u32, u32)>) -> Body<'_> {
        Body::File { size, start: self.start.unwrap_or(0), sparse: self.sparse, fragment, blocks: &self.sizes }
    }
}

/// Takes units until the last; reports progress and stops everybody on failure.
pub(super) fn run<'a, H>(
    mut assembler: Assembler<'a>,
    queue: &Queue<H>,
    watch: &dyn Watch,
    total: u64,
) -> Option<Assembler<'a>> {
    let _guard = Guard(queue);
    let mut done = 0;
    loop {
        let next = queue.take().and_then(|next| match next {
            Some(mut filled) => {
                assembler.unit(&mut filled)?;
                Ok(Some(filled))
            }
            None => Ok(None),
        });
        match next {
            Ok(Some(filled)) => {
                done += filled.bytes as u64;
                queue.written(filled.cost, filled.out);
                let done = done.saturating_add(assembler.skipped);
                watch.progress(done, Some(total.max(done)));
            }
            Ok(None) => return Some(assembler),
            Err(error) => {
                queue.fail(error);
                return None;
            }
        }
    }
}

impl<'a> Assembler<'a> {
    /// Begins behind the superblock and the compressor's options; what the file held before is dropped.
    pub fn new(out: &'a File, options: &'a PackOptions) -> Result<Assembler<'a>> {
        out.set_len(0).map_err(ImageError::io("empty", "the image"))?;
        let (compression, window) = (options.compression, options.block_size as usize);
        let mut assembler = Assembler {
            out,
            options,
            position: SUPERBLOCK as u64,
            inodes: MetaWriter::new(compression, window),
            listings: MetaWriter::new(compression, window),
            fragments: Vec::new(),
            places: Vec::new(),
            frames: vec![Vec::new()],
            file: Blocks::default(),
            kept: HashMap::new(),
            blocks: 0,
            skipped: 0,
            scratch: Vec::new(),
            has_options: false,
        };
        let extra = compressor_options(compression);
        assembler.has_options = !extra.is_empty();
        assembler.write(&extra)?;
        Ok(assembler)
    }

    fn write(&mut self, bytes: &[u8]) -> Result<()> {
        self.out.write_all_at(bytes, self.position).map_err(ImageError::io("write", "the image"))?;
        self.position += bytes.len() as u64;
        Ok(())
    }

    fn unit<H>(&mut self, filled: &mut Filled<H>) -> Result<()> {
        let mut at = self.position;
        let bytes = filled.out.get(..filled.used).unwrap_or_default();
        self.write(bytes)?;
        let block = self.options.block_size as usize;
        let mut sizes = std::mem::take(&mut filled.sizes).into_iter();
        for event in std::mem::take(&mut filled.events) {
            match event {
                Event::Blocks { length, .. } => {
                    let count = length.div_ceil(block);
                    self.file.start.get_or_insert(at);
                    for (index, size) in sizes.by_ref().take(count).enumerate() {
                        if size == 0 {
                            self.file.sparse += block.min(length - index * block) as u64;
                        }
                        self.blocks += u64::from(size != 0);
                        self.file.sizes.push(size);
                        at += u64::from(size & !DATA_RAW);
                    }
                }
                Event::Fragment { .. } => {
                    let size = sizes.next().unwrap_or(0);
                    self.fragments.push((at, size));
                    at += u64::from(size & !DATA_RAW);
                }
                Event::Hole { blocks, bytes } => {
                    self.file.start.get_or_insert(at);
                    self.file.sparse += bytes;
                    self.skipped += bytes;
                    self.file.sizes.resize(self.file.sizes.len() + blocks as usize, 0);
                }
                Event::Leaf(leaf) => self.leaf(*leaf)?,
                Event::Link { name, number, kind } => {
                    let place = self.places.get(number as usize).copied().unwrap_or(0);
                    self.list(Listed { name, kind, number, inode: place });
                }
                Event::Enter => self.frames.push(Vec::new()),
                Event::Leave { name, common, parent } => {
                    let entries = self.frames.pop().unwrap_or_default();
                    let place = listing::write(&entries, &mut self.listings, &mut self.scratch)?;
                    let listing::Place { block, offset, length, index } = place;
                    let body = Body::Dir { block, offset, length, parent, index: &index };
                    self.inode(name, &common, &body)?;
                }
            }
        }
        Ok(())
    }

    fn leaf(&mut self, leaf: Leaf) -> Result<()> {
        let Leaf { name, common, content } = leaf;
        match content {
            Content::File { size, fragment, keep } => {
                let file = std::mem::take(&mut self.file);
                self.inode(name, &common, &file.body(size, fragment))?;
                if keep {
                    self.kept.insert(common.number, file);
                }
                Ok(())
            }
            Content::Same { size, number, fragment } => {
                self.skipped = self.skipped.saturating_add(size);
                let file = self.kept.remove(&number).unwrap_or_default();
                self.inode(name, &common, &file.body(size, fragment))?;
                self.kept.insert(number, file);
                Ok(())
            }
            Content::Symlink(target) => self.inode(name, &common, &Body::Symlink(&target)),
            Content::Device(kind, number) => self.inode(name, &common, &Body::Device(kind, number)),
            Content::Ipc(kind) => self.inode(name, &common, &Body::Ipc(kind)),
        }
    }

    /// Writes an inode and lists it in the directory under way.
    fn inode(&mut self, name: Vec<u8>, common: &inodes::Common, body: &Body) -> Result<()> {
        let place = self.inodes.reference();
        let kind = inodes::encode(common, body, &mut self.scratch);
        self.inodes.push(&self.scratch)?;
        let slot = common.number as usize;
        if self.places.len() <= slot {
            self.places.resize(slot + 1, 0);
        }
        self.places[slot] = place;
        self.list(Listed { name, kind, number: common.number, inode: place });
        Ok(())
    }

    fn list(&mut self, entry: Listed) {
        if let Some(frame) = self.frames.last_mut() {
            frame.push(entry);
        }
    }

    /// Lays down the tables and, last of all, the superblock: until then the file is no image.
    pub fn finish(mut self, outcome: Outcome) -> Result<PackReport> {
        let Outcome { ids, xattrs, mut report, latest } = outcome;
        let root = match self.frames.pop().as_deref() {
            Some([root]) if root.kind == inode::DIR => root.inode,
            _ => return Err(ImageError::corrupt("the source's walk ended inside a directory")),
        };
        let fresh = || MetaWriter::new(self.options.compression, self.options.block_size as usize);
        let mut tail = Tail::new(self.position);
        let (stream, _) = self.inodes.finish()?;
        let inode_table = tail.put(&stream);
        block_start(stream.len() as u64, "inode")?;
        drop(stream);
        let (stream, _) = self.listings.finish()?;
        let directory_table = tail.put(&stream);
        drop(stream);
        let fragments = self.fragments.len() as u32;
        let fragment_table = if fragments == 0 {
            NONE64
        } else {
            let fragments = self.fragments.iter().map(|(start, size)| {
                let mut record = [0; 16];
                record[..8].copy_from_slice(&start.to_le_bytes());
                record[8..12].copy_from_slice(&size.to_le_bytes());
                record
            });
            tail.table(records(fresh(), fragments)?, |_| Vec::new())
        };
        let places = self.places.iter().skip(1).map(|place| place.to_le_bytes());
        let export_table = tail.table(records(fresh(), places)?, |_| Vec::new());
        let id_table = tail.table(records(fresh(), ids.list().iter().map(|id| id.to_le_bytes()))?, |_| Vec::new());
        let xattr_table = xattrs.finish(&mut tail)?;
        let bytes_used = tail.position();
        tail.bytes.resize(tail.bytes.len() + (bytes_used.next_multiple_of(PADDING) - bytes_used) as usize, 0);
        let superblock = Superblock {
            inodes: report.inodes as u32,
            time: self.options.epoch.map_or(latest, |epoch| u32::try_from(epoch.max(0)).unwrap_or(u32::MAX)),
            block_size: self.options.block_size,
            fragments,
            compression: self.options.compression,
            options: self.has_options,
            ids: ids.list().len() as u16,
            root,
            bytes_used,
            id_table,
            xattr_table,
            inode_table,
            directory_table,
            fragment_table,
            export_table,
        };
        let io = |error| ImageError::io("write", "the image")(error);
        self.out.write_all_at(&tail.bytes, self.position).map_err(io)?;
        self.out.write_all_at(&superblock.bytes(), 0).map_err(io)?;
        report.bytes_out = bytes_used.next_multiple_of(PADDING);
        report.blocks = self.blocks;
        Ok(report)
    }
}
