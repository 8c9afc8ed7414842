//! What travels through the pipeline: units of work that a planner makes, workers fill and one writer takes in order.

use super::super::super::source::Entry;
use super::inode::Common;

/// Bytes of input after which a unit is handed out, unless one block is larger.
pub(super) const UNIT_BYTES: usize = 1 << 20;
/// Events after which a unit is handed out, whatever its bytes.
pub(super) const UNIT_EVENTS: usize = 4096;

/// A piece of the plan.
pub(super) struct Unit<H> {
    pub events: Vec<Event<H>>,
    /// Bytes that are read for it.
    pub bytes: usize,
}

impl<H> Unit<H> {
    /// What it counts against the budget: its content, and a guess at what its events take.
    pub fn cost(&self) -> usize {
        self.bytes + self.events.len() * 512
    }
}

/// A step, carried out by the writer in exactly this order; for the first two a worker has made the blocks.
pub(super) enum Event<H> {
    /// Whole blocks of the file that the next [`Event::Leaf`] is about, `length` bytes from `offset`.
    Blocks { file: Entry<H>, offset: u64, length: usize },
    /// A fragment block: the contents of small files, one after another.
    Fragment { files: Vec<Entry<H>> },
    /// That many blocks of holes, `bytes` in all.
    Hole { blocks: u32, bytes: u64 },
    /// An entry that is no directory; the file's blocks came before it.
    Leaf(Box<Leaf>),
    /// Another name of an inode that came before, with its basic type.
    Link { name: Vec<u8>, number: u32, kind: u16 },
    /// What follows, up to the matching [`Event::Leave`], lies in a directory.
    Enter,
    /// The directory is complete.
    Leave { name: Vec<u8>, common: Common, parent: u32 },
}

/// An inode that is no directory.
pub(super) struct Leaf {
    pub name: Vec<u8>,
    pub common: Common,
    pub content: Content,
}

/// What a leaf holds.
pub(super) enum Content {
    /// A regular file; one smaller than a block lies in a fragment (number, offset).
    /// With `keep`, a later [`Content::Same`] may refer to it.
    File {
        size: u64,
        fragment: Option<(u32, u32)>,
        keep: bool,
    },
    /// The blocks or the fragment of an earlier file with this inode number.
    Same {
        size: u64,
        number: u32,
        fragment: Option<(u32, u32)>,
    },
    Symlink(Vec<u8>),
    /// Basic type and encoded device number.
    Device(u16, u32),
    /// Basic type.
    Ipc(u16),
}

/// A unit whose blocks are made.
pub(super) struct Filled<H> {
    pub events: Vec<Event<H>>,
    /// Stored size of each block in order, as the format has it (0 for a block of zeros).
    pub sizes: Vec<u32>,
    /// The stored blocks, one after another, in the first `used` bytes.
    pub out: Vec<u8>,
    pub used: usize,
    /// Bytes read.
    pub bytes: usize,
    /// What it counts against the budget.
    pub cost: usize,
}
