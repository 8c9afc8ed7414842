//! An ext2/3/4 image as a read-only layer: its `/upper` when it was made to be written through (it has `/upper` and
//! `/work`), else all of it. Whiteouts of both kinds are left to the merging.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, PoisonError};

use super::layer::{Attr, DIR, Found, KIND, Layer};
use crate::image::error::{ImageError, Result};
use crate::image::ext::{ExtImage, ExtInode};

/// The root directory's number, and the name in it that belongs to the file system itself.
const ROOT: u32 = 2;
const LOST: &[u8] = b"lost+found";

/// Directories whose names are kept: programs look many names up in the same few.
const KEPT: usize = 64;

/// Names with their inodes, sorted.
type Names = Arc<Vec<(Vec<u8>, u32)>>;

/// An opened image.
pub struct ExtLayer {
    image: ExtImage,
    root: u32,
    dirs: Mutex<VecDeque<(u64, Names)>>,
}

impl ExtLayer {
    /// The layer that an image is.
    ///
    /// # Errors
    /// When the image is damaged.
    pub fn new(image: ExtImage) -> Result<ExtLayer> {
        let top = image.inode(ROOT)?;
        let mut upper = None;
        let mut has_work = false;
        for (name, number) in image.names(&top)? {
            match name.as_slice() {
                b"upper" => upper = Some(number).filter(|number| is_dir(&image, *number)),
                b"work" => has_work = is_dir(&image, number),
                _ => {}
            }
        }
        let root = upper.filter(|_| has_work).unwrap_or(ROOT);
        Ok(ExtLayer { image, root, dirs: Mutex::default() })
    }

    fn inode(&self, number: u64) -> Result<ExtInode> {
        let number = u32::try_from(number).map_err(|_| ImageError::corrupt(format!("no inode {number}")))?;
        self.image.inode(number)
    }

    /// The names of a directory.
    fn names(&self, dir: u64) -> Result<Names> {
        let kept = || self.dirs.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some((_, names)) = kept().iter().find(|(known, _)| *known == dir) {
            return Ok(names.clone());
        }
        let mut names = self.image.names(&self.inode(dir)?)?;
        names.retain(|(name, _)| !(dir == u64::from(ROOT) && name == LOST));
        let names = Arc::new(names);
        let mut kept = kept();
        kept.push_front((dir, names.clone()));
        kept.truncate(KEPT);
        Ok(names)
    }

    fn found(&self, number: u32) -> Result<Found> {
        let kind = u32::from(self.image.inode(number)?.mode) & KIND;
        Ok(Found { inode: u64::from(number), kind })
    }
}

fn is_dir(image: &ExtImage, number: u32) -> bool {
    image.inode(number).is_ok_and(|inode| u32::from(inode.mode) & KIND == DIR)
}

impl Layer for ExtLayer {
    fn root(&self) -> u64 {
        u64::from(self.root)
    }

    fn attr(&self, inode: u64) -> Result<Attr> {
        let inode = self.inode(inode)?;
        Ok(Attr {
            mode: u32::from(inode.mode),
            size: inode.size,
            mtime: inode.mtime,
            nlink: u32::from(inode.links),
            rdev: self.image.device(&inode)?,
        })
    }

    fn lookup(&self, dir: u64, name: &[u8]) -> Result<Option<Found>> {
        let names = self.names(dir)?;
        let place = names.binary_search_by(|(found, _)| found.as_slice().cmp(name)).ok();
        place.and_then(|place| names.get(place)).map(|(_, number)| self.found(*number)).transpose()
    }

    fn list(&self, dir: u64) -> Result<Vec<(Vec<u8>, Found)>> {
        self.names(dir)?.iter().map(|(name, number)| Ok((name.clone(), self.found(*number)?))).collect()
    }

    fn readlink(&self, link: u64) -> Result<Vec<u8>> {
        self.image.target(&self.inode(link)?)
    }

    fn read(&self, file: u64, offset: u64, buf: &mut [u8]) -> Result<usize> {
        let inode = self.inode(file)?;
        let left = inode.size.saturating_sub(offset);
        let length = usize::try_from(left).unwrap_or(usize::MAX).min(buf.len());
        let Some(piece) = buf.get_mut(..length).filter(|piece| !piece.is_empty()) else { return Ok(0) };
        self.image.read(&inode, offset, piece)?;
        Ok(length)
    }

    fn xattrs(&self, inode: u64) -> Result<Vec<(Vec<u8>, Vec<u8>)>> {
        self.image.xattrs(&self.inode(inode)?)
    }

    fn has_xattrs(&self) -> bool {
        true
    }

    fn size(&self) -> (u64, u64) {
        self.image.size()
    }
}
