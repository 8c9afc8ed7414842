//! One decompressor and one scratch buffer per thread.

use std::cell::RefCell;

use super::Image;
use crate::image::error::Result;
use crate::image::squashfs::codec::{Codec, Decompressor};

thread_local! {
    static DECODERS: RefCell<Vec<(Codec, Decompressor)>> = const { RefCell::new(Vec::new()) };
    static STORED: RefCell<Vec<u8>> = const { RefCell::new(Vec::new()) };
}

/// Lends this thread's buffer of `length` bytes (whatever was in it before) to `work`, which must not ask for it again.
pub(super) fn with_buffer<T>(length: usize, work: impl FnOnce(&mut [u8]) -> Result<T>) -> Result<T> {
    STORED.with(|buffer| match buffer.try_borrow_mut() {
        Ok(mut buffer) => {
            if buffer.len() < length {
                buffer.resize(length, 0);
            }
            work(buffer.get_mut(..length).unwrap_or_default())
        }
        Err(_) => work(&mut vec![0; length]),
    })
}

impl Image {
    /// Unpacks one block into `out` and returns how many bytes it held.
    pub(super) fn decompress(&self, stored: &[u8], out: &mut [u8]) -> Result<usize> {
        let codec = self.superblock.codec;
        DECODERS.with_borrow_mut(|decoders| {
            let place = match decoders.iter().position(|(known, _)| *known == codec) {
                Some(place) => place,
                None => {
                    decoders.push((codec, Decompressor::new(codec)));
                    decoders.len() - 1
                }
            };
            match decoders.get_mut(place) {
                Some((_, decoder)) => decoder.decompress(stored, out),
                None => Decompressor::new(codec).decompress(stored, out),
            }
        })
    }
}
