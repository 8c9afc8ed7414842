//! Files with the same content are stored once. Candidates share size and a hash of head, middle and tail; then the
//! bytes themselves are compared. It happens in the planner, so the outcome is the same at any number of threads.

use std::collections::HashMap;
use std::hash::{DefaultHasher, Hasher};

use super::super::super::error::Result;
use super::super::super::source::{Entry, Source};
use super::queue::Queue;

/// Smaller files cost more to look at than they save: their fragment's compressor sees most repetitions.
const SMALLEST: u64 = 4096;
/// Larger ones (mostly sparse images) would keep the planner for too long.
const LARGEST: u64 = 4 << 30;
const SAMPLE: usize = 4096;
const CHUNK: usize = 256 << 10;
/// Files remembered at most, so that memory stays bounded: about 50 MB.
const MOST: usize = 200_000;
const MOST_ALIKE: usize = 8;

/// A file that has been planned before.
pub(super) struct Original<H> {
    pub file: Entry<H>,
    pub number: u32,
    pub fragment: Option<(u32, u32)>,
}

/// What a look at a file found.
pub(super) enum Found<'a, H> {
    /// No other file has its size.
    Alone,
    /// To be remembered under this key, when it has been planned.
    New(Key),
    /// Its content has been planned before.
    Same(&'a Original<H>),
}

/// Size and hash of samples.
pub(super) type Key = (u64, u64);

/// What is known of the files so far.
pub(super) struct Dedup<H> {
    sizes: HashMap<u64, bool>,
    originals: HashMap<Key, Vec<Original<H>>>,
    count: usize,
    buffers: (Vec<u8>, Vec<u8>),
}

impl<H: Clone + Send + Sync> Dedup<H> {
    pub fn new() -> Dedup<H> {
        let buffers = (vec![0; CHUNK], vec![0; CHUNK]);
        Dedup { sizes: HashMap::new(), originals: HashMap::new(), count: 0, buffers }
    }

    /// Census: there is a file of this size.
    pub fn count(&mut self, size: u64) {
        if (SMALLEST..=LARGEST).contains(&size) {
            self.sizes.entry(size).and_modify(|shared| *shared = true).or_insert(false);
        }
    }

    /// Looks for an earlier file with the same content.
    pub fn find<S: Source<Handle = H>>(
        &mut self,
        source: &S,
        queue: &Queue<H>,
        file: &Entry<H>,
    ) -> Result<Found<'_, H>> {
        let size = file.meta.size;
        if self.sizes.get(&size) != Some(&true) {
            return Ok(Found::Alone);
        }
        let mut hasher = DefaultHasher::new();
        let sample = &mut self.buffers.0[..SAMPLE.min(size as usize)];
        for at in [0, (size / 2).min(size - sample.len() as u64), size - sample.len() as u64] {
            source.read(file, at, sample)?;
            hasher.write(sample);
            if size <= SAMPLE as u64 {
                break;
            }
        }
        let key = (size, hasher.finish());
        let Dedup { originals, buffers, .. } = self;
        for original in originals.get(&key).into_iter().flatten() {
            if same(source, queue, &original.file, file, buffers)? {
                return Ok(Found::Same(original));
            }
        }
        Ok(Found::New(key))
    }

    /// Remembers a file that has been planned.
    pub fn remember(&mut self, key: Key, original: Original<H>) {
        let alike = self.originals.entry(key).or_default();
        if self.count < MOST && alike.len() < MOST_ALIKE {
            self.count += 1;
            alike.push(original);
        }
    }
}

fn same<S: Source>(
    source: &S,
    queue: &Queue<S::Handle>,
    one: &Entry<S::Handle>,
    other: &Entry<S::Handle>,
    (a, b): &mut (Vec<u8>, Vec<u8>),
) -> Result<bool> {
    let mut at = 0;
    while at < other.meta.size {
        queue.check()?;
        let length = (other.meta.size - at).min(CHUNK as u64) as usize;
        source.read(one, at, &mut a[..length])?;
        source.read(other, at, &mut b[..length])?;
        if a[..length] != b[..length] {
            return Ok(false);
        }
        at += length as u64;
    }
    Ok(true)
}
