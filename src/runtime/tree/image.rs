//! A SquashFS image as a layer.

use std::ops::Range;

use super::layer::{Attr, Found, Layer};
use crate::image::error::Result;
use crate::image::squashfs::read::{Image, Inode};

/// An opened image.
#[derive(Debug)]
pub struct ImageLayer(pub Image);

fn facts(inode: &Inode) -> Attr {
    Attr { mode: inode.st_mode(), size: inode.size, mtime: inode.mtime, nlink: inode.nlink, rdev: inode.rdev }
}

impl Layer for ImageLayer {
    fn root(&self) -> u64 {
        self.0.root()
    }

    fn attr(&self, inode: u64) -> Result<Attr> {
        Ok(facts(&self.0.inode(inode)?))
    }

    fn number(&self, inode: u64) -> Result<u64> {
        self.0.inode_number(inode).map(u64::from)
    }

    fn lookup(&self, dir: u64, name: &[u8]) -> Result<Option<Found>> {
        let dir = self.0.inode(dir)?;
        Ok(self.0.lookup(&dir, name)?.map(|entry| Found { inode: entry.at, kind: entry.kind.mode_bits() }))
    }

    fn list(&self, dir: u64) -> Result<Vec<(Vec<u8>, Found)>> {
        let entries = self.0.list(&self.0.inode(dir)?)?.into_iter();
        Ok(entries.map(|entry| (entry.name, Found { inode: entry.at, kind: entry.kind.mode_bits() })).collect())
    }

    fn readlink(&self, link: u64) -> Result<Vec<u8>> {
        self.0.readlink(&self.0.inode(link)?)
    }

    fn read(&self, file: u64, offset: u64, buf: &mut [u8]) -> Result<usize> {
        self.0.read(&self.0.inode(file)?, offset, buf)
    }

    fn together(&self, file: u64, offset: u64) -> Result<Option<Range<u64>>> {
        self.0.unpacked_together(&self.0.inode(file)?, offset)
    }

    fn following(&self, inode: u64) -> Result<Option<(u64, Attr)>> {
        Ok(self.0.following(inode)?.map(|inode| (inode.at, facts(&inode))))
    }

    fn xattrs(&self, inode: u64) -> Result<Vec<(Vec<u8>, Vec<u8>)>> {
        self.0.xattrs(&self.0.inode(inode)?)
    }

    fn has_xattrs(&self) -> bool {
        self.0.superblock().xattr_table.is_some()
    }

    fn size(&self) -> (u64, u64) {
        let superblock = self.0.superblock();
        (superblock.bytes_used, u64::from(superblock.inodes))
    }
}
