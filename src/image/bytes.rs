//! Little-endian numbers out of bytes nobody vouches for, and bounded positional reads from an image file.

use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;
use std::sync::Arc;

use super::error::{ImageError, Result};

/// `N` bytes at `at`, or an error when the slice ends before.
#[inline]
pub fn array<const N: usize>(bytes: &[u8], at: usize) -> Result<[u8; N]> {
    match bytes.get(at..).and_then(|rest| rest.first_chunk::<N>()) {
        Some(found) => Ok(*found),
        None => Err(ImageError::corrupt(format!("a structure of {} bytes ends before its field at {at}", bytes.len()))),
    }
}

/// 16 bits at `at`.
#[inline]
pub fn le16(bytes: &[u8], at: usize) -> Result<u16> {
    Ok(u16::from_le_bytes(array(bytes, at)?))
}

/// 32 bits at `at`.
#[inline]
pub fn le32(bytes: &[u8], at: usize) -> Result<u32> {
    Ok(u32::from_le_bytes(array(bytes, at)?))
}

/// 64 bits at `at`.
#[inline]
pub fn le64(bytes: &[u8], at: usize) -> Result<u64> {
    Ok(u64::from_le_bytes(array(bytes, at)?))
}

/// A part of a file that is an image. It is only ever read at given positions, so any number of threads may share it.
#[derive(Debug, Clone)]
pub struct Region {
    file: Arc<File>,
    start: u64,
    length: u64,
}

impl Region {
    /// From `start` to the end of the file; of a device, which does not tell its size, as far as it reads.
    pub fn new(file: Arc<File>, start: u64) -> Result<Region> {
        let meta = file.metadata().map_err(ImageError::io("look at", "the image"))?;
        if meta.is_dir() {
            return Err(ImageError::corrupt("a directory, not an image"));
        }
        let end = if meta.is_file() { meta.len() } else { i64::MAX as u64 };
        let length = end.checked_sub(start).ok_or_else(|| {
            ImageError::corrupt(format!("the image is said to begin at byte {start}, the file has only {end}"))
        })?;
        Ok(Region { file, start, length })
    }

    /// `length` bytes from `start` on, all of which lie within the file.
    pub fn within(file: Arc<File>, start: u64, length: u64) -> Result<Region> {
        let mut region = Region::new(file, start)?;
        if length > region.length {
            return Err(ImageError::corrupt(format!("{length} bytes at {start} would end beyond the end of the file")));
        }
        region.shorten(length);
        Ok(region)
    }

    /// Bytes from its start to its end.
    pub fn length(&self) -> u64 {
        self.length
    }

    /// Ends it earlier.
    pub fn shorten(&mut self, length: u64) {
        self.length = self.length.min(length);
    }

    /// Fills `buf` from `at` on; `what` names the thing read in errors.
    pub fn read_exact(&self, at: u64, buf: &mut [u8], what: &str) -> Result<()> {
        let inside = at.checked_add(buf.len() as u64).is_some_and(|end| end <= self.length);
        if !inside {
            return Err(outside(what, at, buf.len()));
        }
        self.file.read_exact_at(buf, self.start + at).map_err(|error| match error.kind() {
            io::ErrorKind::UnexpectedEof => outside(what, at, buf.len()),
            _ => ImageError::io("read", format!("{what} of the image"))(error),
        })
    }

    /// Says that these bytes will be read soon.
    pub fn will_read(&self, at: u64, length: u64) {
        let length = length.min(self.length.saturating_sub(at));
        crate::sys::fs::will_read(&self.file, self.start.saturating_add(at), length);
    }

    /// Like [`Region::read_exact`], but only as much as there is; returns how much that was.
    pub fn read_some(&self, at: u64, buf: &mut [u8], what: &str) -> Result<usize> {
        let room = self.length.saturating_sub(at).min(buf.len() as u64) as usize;
        let mut got = 0;
        while let Some(rest) = buf.get_mut(got..room).filter(|rest| !rest.is_empty()) {
            match self.file.read_at(rest, self.start + at + got as u64) {
                Ok(0) => break,
                Ok(count) => got += count,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(ImageError::io("read", format!("{what} of the image"))(error)),
            }
        }
        Ok(got)
    }
}

fn outside(what: &str, at: u64, length: usize) -> ImageError {
    ImageError::corrupt(format!("{what} would be {length} bytes at {at}, beyond the end of the image"))
}
