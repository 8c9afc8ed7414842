//! Memory for unpacked blocks, used again and again: fresh memory costs more than unpacking a block of lz4, and an
//! allocator that serves many threads keeps several times of what they use.

use std::sync::{Mutex, PoisonError};

use crate::image::error::Result;

/// Memory that waits for its next use, in bytes.
const WAITING: usize = 4 << 20;

static FREE: Mutex<Vec<Vec<u8>>> = Mutex::new(Vec::new());

/// An unpacked block.
pub(super) struct Buffer {
    room: Vec<u8>,
    used: usize,
    /// It is as large as it was asked for, and so worth keeping for the next one.
    whole: bool,
}

impl Buffer {
    /// Room for `size` bytes, of which `fill` uses as many as it says.
    pub fn filled(size: usize, fill: impl FnOnce(&mut [u8]) -> Result<usize>) -> Result<Buffer> {
        let free = {
            let mut free = FREE.lock().unwrap_or_else(PoisonError::into_inner);
            free.iter().rposition(|room| room.len() == size).map(|place| free.swap_remove(place))
        };
        let mut buffer = Buffer { room: free.unwrap_or_else(|| vec![0; size]), used: 0, whole: true };
        buffer.used = fill(&mut buffer.room)?.min(size);
        if buffer.used > size / 2 {
            return Ok(buffer);
        }
        // A lone short tail must not keep a whole block's memory.
        let room = buffer.bytes().to_vec();
        Ok(Buffer { used: room.len(), room, whole: false })
    }

    /// What is in it.
    pub fn bytes(&self) -> &[u8] {
        self.room.get(..self.used).unwrap_or_default()
    }

    /// Bytes of memory it takes.
    pub fn weight(&self) -> usize {
        self.room.len()
    }
}

impl Drop for Buffer {
    fn drop(&mut self) {
        if !self.whole {
            return;
        }
        let mut free = FREE.lock().unwrap_or_else(PoisonError::into_inner);
        let waiting: usize = free.iter().map(Vec::len).sum();
        if waiting + self.room.len() <= WAITING {
            free.push(std::mem::take(&mut self.room));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::image::error::ImageError;

    #[test]
    fn memory_is_used_again_and_what_was_in_it_is_not_shown() {
        const SIZE: usize = 1 << 14;
        let fill = |value: u8, used: usize| {
            Buffer::filled(SIZE, |room| {
                room[..used].fill(value);
                Ok(used)
            })
            .unwrap()
        };
        let first = fill(1, SIZE);
        assert_eq!(first.bytes(), [1; SIZE]);
        drop(first);
        let second = fill(2, SIZE - 1);
        assert_eq!(second.bytes(), [2; SIZE - 1]);
        let short = fill(3, 100);
        assert_eq!((short.bytes(), short.weight()), (&[3; 100][..], 100));
        assert!(Buffer::filled(SIZE, |_| Err(ImageError::corrupt("no"))).is_err());
        drop(fill(5, 64));
        assert!(FREE.lock().unwrap().iter().all(|room| room.len() == SIZE), "what was made to measure is not kept");
        let many: Vec<Buffer> = (0..1000).map(|_| fill(4, SIZE)).collect();
        drop(many);
        let waiting: usize = FREE.lock().unwrap().iter().map(Vec::len).sum();
        assert!(waiting <= WAITING);
    }
}
