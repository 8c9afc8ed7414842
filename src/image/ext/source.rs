//! An ext2/3/4 image as a [`Source`].

use std::ops::{Deref, Range};
use std::sync::Arc;

use super::ExtImage;
use super::inode::{ExtInode, ROOT};
use crate::image::error::{ImageError, Result};
use crate::image::nesting::Nesting;
use crate::image::source::{Entry, Kind, Source};

/// An image (borrowed or shared), or a directory in one, as a source. `lost+found` at the image's root is left out. Overlay whiteouts of
/// both forms (character device 0:0, `.wh.NAME`) are passed on as they are.
pub struct ExtSource<I> {
    image: I,
    top: Arc<ExtInode>,
    nesting: Nesting,
}

impl<I: Deref<Target = ExtImage>> ExtSource<I> {
    /// The tree below `subdirectory` (as in `upper` or `a/b`; empty: all). Symbolic links in it are not followed.
    ///
    /// # Errors
    /// When there is no such directory, or the image is damaged.
    pub fn new(image: I, subdirectory: &[u8]) -> Result<ExtSource<I>> {
        let missing =
            || ImageError::Unsupported(format!("the ext image has no directory '{}'", subdirectory.escape_ascii()));
        let mut top = image.inode(ROOT)?;
        for part in subdirectory.split(|byte| *byte == b'/').filter(|part| !matches!(*part, b"" | b".")) {
            top = image.lookup(&top, part)?.filter(ExtInode::is_dir).ok_or_else(missing)?;
        }
        if !top.is_dir() {
            return Err(ImageError::corrupt("the ext image's root is no directory"));
        }
        let nesting = Nesting::default();
        nesting.top(u64::from(top.number));
        Ok(ExtSource { image, top: Arc::new(top), nesting })
    }

    fn entry(&self, name: Vec<u8>, inode: Arc<ExtInode>) -> Result<Entry<Arc<ExtInode>>> {
        Ok(Entry { name, kind: self.image.kind(&inode)?, meta: inode.meta(), handle: inode })
    }
}

impl<I: Deref<Target = ExtImage> + Sync> Source for ExtSource<I> {
    type Handle = Arc<ExtInode>;

    fn root(&self) -> Result<Entry<Arc<ExtInode>>> {
        self.entry(Vec::new(), Arc::clone(&self.top))
    }

    fn list(&self, dir: &Entry<Arc<ExtInode>>) -> Result<Vec<Entry<Arc<ExtInode>>>> {
        let at_root = dir.handle.number == ROOT;
        let mut entries = Vec::new();
        for (name, number) in self.image.names(&dir.handle)? {
            if !(at_root && name == b"lost+found") {
                entries.push(self.entry(name, Arc::new(self.image.inode(number)?))?);
            }
        }
        let dirs = entries.iter().filter(|entry| entry.kind == Kind::Dir).map(|entry| u64::from(entry.handle.number));
        self.nesting.note(u64::from(dir.handle.number), dirs.collect())?;
        Ok(entries)
    }

    fn read(&self, file: &Entry<Arc<ExtInode>>, offset: u64, buf: &mut [u8]) -> Result<()> {
        self.image.read(&file.handle, offset, buf)
    }

    fn next_data(&self, file: &Entry<Arc<ExtInode>>, offset: u64) -> Result<Option<Range<u64>>> {
        self.image.next_data(&file.handle, offset)
    }

    fn xattrs(&self, entry: &Entry<Arc<ExtInode>>) -> Result<Vec<(Vec<u8>, Vec<u8>)>> {
        self.image.xattrs(&entry.handle)
    }
}
