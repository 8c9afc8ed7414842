//! Which parts of an image file are being read: from the second block on, the rest of such a part is asked of the file
//! system in one go, as blocks in the order in which they are wanted are many small reads from a disk or a network.

use std::sync::atomic::{AtomicU8, Ordering};

use crate::image::bytes::Region;

/// Bytes of a part: what parallel file systems transfer at a time.
const PART: u64 = 1 << 20;
/// Parts told apart; in larger images some share their mark, which does no harm.
const MOST: u64 = 1 << 16;
/// How often a part was read from when all of it is worth reading.
const ENOUGH: u8 = 2;

/// How often each part was read from, up to [`ENOUGH`].
pub(super) struct Touched(Box<[AtomicU8]>);

impl Touched {
    /// For an image of so many bytes.
    pub fn new(bytes: u64) -> Touched {
        Touched((0..bytes.div_ceil(PART).clamp(1, MOST)).map(|_| AtomicU8::new(0)).collect())
    }

    /// A block at `at` is about to be read.
    pub fn note(&self, region: &Region, at: u64) {
        let part = at / PART;
        let Some(count) = self.0.get((part % self.0.len() as u64) as usize) else { return };
        if count.load(Ordering::Relaxed) < ENOUGH && count.fetch_add(1, Ordering::Relaxed) + 1 == ENOUGH {
            region.will_read(part * PART, PART);
        }
    }
}
