//! What an image file is, told by its content: names end as people like.

use std::fs::File;
use std::os::unix::fs::FileExt;

use super::error::{ImageError, Result};

/// Kinds of images.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// A SquashFS file system (`hsqs` at byte 0).
    Squashfs,
    /// An ext2, ext3 or ext4 file system (0xEF53 at byte 1080).
    Ext,
    /// A Singularity image: a container of partitions (`SIF_MAGIC` at byte 32).
    Sif,
    /// None of these.
    Other,
}

/// Tells the kind of an open file.
///
/// # Errors
/// [`ImageError::Io`] when it cannot be read.
pub fn of(file: &File) -> Result<Kind> {
    let mut head = [0; 1082];
    let mut got = 0;
    while let Some(rest) = head.get_mut(got..).filter(|rest| !rest.is_empty()) {
        match file.read_at(rest, got as u64) {
            Ok(0) => break,
            Ok(count) => got += count,
            Err(error) if error.kind() == std::io::ErrorKind::Interrupted => {}
            Err(error) if error.kind() == std::io::ErrorKind::IsADirectory => return Ok(Kind::Other),
            Err(error) => return Err(ImageError::io("read", "the beginning of the image")(error)),
        }
    }
    let at = |offset: usize, magic: &[u8]| head.get(offset..).is_some_and(|rest| rest.starts_with(magic));
    Ok(if at(0, b"hsqs") {
        Kind::Squashfs
    } else if at(32, b"SIF_MAGIC\0") {
        Kind::Sif
    } else if at(1080, &0xEF53u16.to_le_bytes()) {
        Kind::Ext
    } else {
        Kind::Other
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn content_tells() {
        let kind = |at: usize, magic: &[u8]| {
            let mut bytes = vec![0; at];
            bytes.extend_from_slice(magic);
            let file = crate::sys::pass::memory_file(&bytes).unwrap();
            of(&file).unwrap()
        };
        assert_eq!(kind(0, b"hsqs"), Kind::Squashfs);
        assert_eq!(kind(32, b"SIF_MAGIC\0"), Kind::Sif);
        assert_eq!(kind(1080, &[0x53, 0xEF]), Kind::Ext);
        for (at, other) in [(0, &b"#!/bin/sh\n"[..]), (0, b""), (1080, &[0x53])] {
            assert_eq!(kind(at, other), Kind::Other);
        }
    }
}
