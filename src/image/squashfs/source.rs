//! A SquashFS image as a [`Source`]: to be packed again or extracted.

use std::ops::{Deref, Range};
use std::sync::Arc;

use super::read::{Image, Inode, InodeKind};
use crate::image::error::{ImageError, Result};
use crate::image::nesting::Nesting;
use crate::image::source::{Entry, Kind, Meta, Source};

/// An image (borrowed or shared), or a directory in one, as a source.
pub struct SquashSource<I> {
    image: I,
    top: Arc<Inode>,
    nesting: Nesting,
}

impl<I: Deref<Target = Image>> SquashSource<I> {
    /// The tree below `path` in the image; empty for all of it.
    ///
    /// # Errors
    /// When there is no such directory, or the image is damaged.
    pub fn new(image: I, path: &[u8]) -> Result<SquashSource<I>> {
        let top = image
            .find(path)?
            .filter(|top| top.kind == InodeKind::Dir)
            .ok_or_else(|| ImageError::Unsupported(format!("the image has no directory '{}'", path.escape_ascii())))?;
        let nesting = Nesting::default();
        nesting.top(top.at);
        Ok(SquashSource { image, top: Arc::new(top), nesting })
    }

    fn entry(&self, name: Vec<u8>, inode: Arc<Inode>) -> Result<Entry<Arc<Inode>>> {
        let (major, minor) = inode.device();
        let kind = match inode.kind {
            InodeKind::Dir => Kind::Dir,
            InodeKind::File => Kind::File,
            InodeKind::Symlink => Kind::Symlink(self.image.readlink(&inode)?),
            InodeKind::BlockDev => Kind::BlockDev(major, minor),
            InodeKind::CharDev => Kind::CharDev(major, minor),
            InodeKind::Fifo => Kind::Fifo,
            InodeKind::Socket => Kind::Socket,
        };
        let meta = Meta {
            mode: inode.mode,
            uid: inode.uid,
            gid: inode.gid,
            mtime: inode.mtime,
            size: if kind == Kind::File { inode.size } else { 0 },
            links: inode.nlink,
            inode: (0, inode.at),
        };
        Ok(Entry { name, kind, meta, handle: inode })
    }
}

impl<I: Deref<Target = Image> + Sync> Source for SquashSource<I> {
    type Handle = Arc<Inode>;

    fn root(&self) -> Result<Entry<Arc<Inode>>> {
        self.entry(Vec::new(), Arc::clone(&self.top))
    }

    fn list(&self, dir: &Entry<Arc<Inode>>) -> Result<Vec<Entry<Arc<Inode>>>> {
        let mut entries = Vec::new();
        for found in self.image.list(&dir.handle)? {
            let inode = self.image.inode(found.at)?;
            entries.push(self.entry(found.name, Arc::new(inode))?);
        }
        let dirs = entries.iter().filter(|entry| entry.kind == Kind::Dir).map(|entry| entry.handle.at);
        self.nesting.note(dir.handle.at, dirs.collect())?;
        Ok(entries)
    }

    fn read(&self, file: &Entry<Arc<Inode>>, offset: u64, buf: &mut [u8]) -> Result<()> {
        if self.image.read(&file.handle, offset, buf)? < buf.len() {
            return Err(ImageError::corrupt(format!("the file '{}' ends early", file.name.escape_ascii())));
        }
        Ok(())
    }

    fn next_data(&self, file: &Entry<Arc<Inode>>, offset: u64) -> Result<Option<Range<u64>>> {
        self.image.next_data(&file.handle, offset)
    }

    fn xattrs(&self, entry: &Entry<Arc<Inode>>) -> Result<Vec<(Vec<u8>, Vec<u8>)>> {
        let mut found = self.image.xattrs(&entry.handle)?;
        found.sort();
        Ok(found)
    }
}
