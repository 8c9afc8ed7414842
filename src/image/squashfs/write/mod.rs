//! The packing engine: any [`Source`] becomes a SquashFS image, the same bytes at any number of threads.
//! A planner walks the source in order and hands units of about 1 MiB to workers; one writer takes them in order,
//! under a byte budget that bounds memory whatever the input. Files smaller than a block share fragments; longer
//! ones end in a short block, as mksquashfs does it.

mod assemble;
mod dedup;
mod inode;
mod listing;
mod meta;
mod plan;
mod queue;
mod tables;
mod unit;
mod work;
mod xattr;

use std::fs::File;

use super::super::error::{ImageError, Result};
use super::super::source::Source;
use super::codec::Compression;
use super::format::BLOCK_RANGE;
use queue::{Guard, Queue};

/// Whose the packed files are.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Owners {
    /// Everything is root's (user and group 0). Attributes that only mean something together with the source's
    /// owners and labels (`trusted.` but for `trusted.overlay.opaque`, `security.` but for `security.capability`) are
    /// left out, and files that were setuid or setgid to anybody else are that no longer.
    AllRoot,
    /// Owners, groups and all attributes stay.
    Keep,
}

/// How to pack.
#[derive(Debug, Clone)]
pub struct PackOptions {
    /// Compressor and level for everything.
    pub compression: Compression,
    /// Bytes per block: a power of two from 4 KiB to 1 MiB.
    pub block_size: u32,
    /// Compressing threads; 0 for as many as the machine has processors for us.
    pub threads: usize,
    /// Whose the files are.
    pub owners: Owners,
    /// Seconds since 1970: later times of files are set back to it, and it is the image's own time. Without it the
    /// image's time is the latest of its files'.
    pub epoch: Option<i64>,
    /// Bytes of file content under way at a time, at least one unit of about 1 MiB.
    pub budget: usize,
    /// Whether files with the same content share their blocks.
    pub dedup: bool,
}

impl Default for PackOptions {
    fn default() -> Self {
        PackOptions {
            compression: Compression::default(),
            block_size: 128 << 10,
            threads: 0,
            owners: Owners::AllRoot,
            epoch: None,
            budget: 64 << 20,
            dedup: true,
        }
    }
}

/// Who wants to know how far the work is, and may stop it. Called from several threads.
pub trait Watch: Sync {
    /// `done_bytes` of `total_bytes` of file content are in the image.
    fn progress(&self, _done_bytes: u64, _total_bytes: Option<u64>) {}
    /// Whether to stop; asked for every block and several times a second.
    fn cancelled(&self) -> bool {
        false
    }
}

/// Nobody watches.
impl Watch for () {}

/// What was packed.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct PackReport {
    /// Bytes of all regular files, hard links counted once.
    pub bytes_in: u64,
    /// Length of the image.
    pub bytes_out: u64,
    /// All inodes.
    pub inodes: u64,
    /// Regular files, hard links counted once.
    pub files: u64,
    /// Directories with the root.
    pub directories: u64,
    /// Files whose content another file has already brought.
    pub duplicates: u64,
    /// Files that are no longer setuid or setgid, as they were somebody else's than root's.
    pub harmless: u64,
    /// Further names of inodes.
    pub hard_links: u64,
    /// Data blocks outside fragments, holes not counted.
    pub blocks: u64,
    /// Blocks that small files share.
    pub fragments: u64,
}

/// Packs the source into `out`, whose content is replaced; the superblock is written last. The image is padded to
/// 4096 bytes. Nothing is flushed to disk: whoever publishes the file does that.
///
/// # Errors
/// [`ImageError::Interrupted`] soon after the watch says so; otherwise the first thing that could not be read (it is
/// named), written (a full disk keeps its [`std::io::Error`]) or expressed in the format. `out` is no image then.
pub fn pack<S: Source>(source: &S, out: &File, options: &PackOptions, watch: &dyn Watch) -> Result<PackReport> {
    if !options.block_size.is_power_of_two() || !BLOCK_RANGE.contains(&options.block_size) {
        let size = options.block_size;
        return Err(ImageError::Unsupported(format!("block size {size} is no power of two from 4096 to 1048576")));
    }
    let threads = match options.threads {
        0 => std::thread::available_parallelism().map_or(1, usize::from),
        threads => threads.min(1024),
    };
    let assembler = assemble::Assembler::new(out, options)?;
    let queue = Queue::new(options.budget, watch);
    let census = plan::census(source, &queue, options.dedup)?;
    let total = census.bytes;
    let (planned, assembled) = std::thread::scope(|scope| {
        let writer = scope.spawn(|| assemble::run(assembler, &queue, watch, total));
        for _ in 0..threads {
            scope.spawn(|| work::run(source, options, &queue));
        }
        let guard = Guard(&queue);
        let planned = plan::Planner::new(source, options, &queue, census).run();
        let planned = match planned {
            Ok(outcome) => Some(outcome),
            Err(error) => {
                queue.fail(error);
                None
            }
        };
        queue.close();
        drop(guard);
        (planned, writer.join())
    });
    match (planned, assembled) {
        (Some(outcome), Ok(Some(assembler))) if queue.check().is_ok() => assembler.finish(outcome),
        _ => Err(queue.failure().unwrap_or(ImageError::Interrupted)),
    }
}
