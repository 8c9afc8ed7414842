//! Reading every table of an image, as is done before one is published.

use std::collections::HashSet;

use super::inode::{Body, Inode, InodeKind};
use super::{Image, InodeRef};
use crate::image::error::{ImageError, Result};
use crate::image::squashfs::format::DATA_RAW;

/// What a verified image holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Verified {
    /// Inodes reached from the root; hard links count once.
    pub inodes: u64,
    /// Directories among them.
    pub directories: u64,
    /// Regular files among them.
    pub files: u64,
    /// Bytes of all regular files, each once.
    pub bytes: u64,
}

impl Image {
    /// Reads and checks all tables and the whole tree: every inode, listing, block list, fragment, owner and xattr.
    /// File content is not unpacked.
    ///
    /// # Errors
    /// The first thing found wrong.
    pub fn verify(&self) -> Result<Verified> {
        let superblock = &self.superblock;
        let (inodes, end) = self.metadata_bytes(superblock.inode_table, superblock.directory_table);
        end?;
        // Behind the listings may lie something else than metadata: they go as far as it reads as such.
        let (listings, _) = self.metadata_bytes(superblock.directory_table, self.directory_end);
        let mut walk = Walk { image: self, seen: HashSet::new(), lists: inodes, listings, found: Verified::default() };
        walk.tree()?;
        let found = walk.found;
        if found.inodes != u64::from(superblock.inodes) {
            let (there, said) = (found.inodes, superblock.inodes);
            return Err(ImageError::corrupt(format!("the tree has {there} inodes, the superblock says {said}")));
        }
        self.verify_fragments(found.files)?;
        Ok(found)
    }

    /// How many bytes the metadata blocks from `at` up to `end` hold, and whether they could all be read.
    fn metadata_bytes(&self, mut at: u64, end: u64) -> (u64, Result<()>) {
        let mut bytes = 0;
        while at < end {
            match self.meta_block(at) {
                Ok(block) => (bytes, at) = (bytes + block.bytes.len() as u64, block.next),
                Err(error) => return (bytes, Err(error)),
            }
        }
        (bytes, Ok(()))
    }

    fn verify_fragments(&self, files: u64) -> Result<()> {
        let superblock = &self.superblock;
        if u64::from(superblock.fragments) > files {
            let count = superblock.fragments;
            return Err(ImageError::corrupt(format!("{count} fragments for the tails of {files} files")));
        }
        for number in 0..superblock.fragments {
            let fragment = self.fragment(number)?;
            let stored = fragment.size & !DATA_RAW;
            let end = fragment.start.checked_add(u64::from(stored));
            if stored == 0 || stored > superblock.block_size || end.is_none_or(|end| end > superblock.inode_table) {
                return Err(ImageError::corrupt(format!("fragment {number} lies outside of the data")));
            }
        }
        Ok(())
    }
}

struct Walk<'a> {
    image: &'a Image,
    seen: HashSet<InodeRef>,
    /// Bytes of tables that no block list or listing has taken yet. None is stored twice, so nothing an image says of
    /// sizes makes this walk longer than its tables are.
    lists: u64,
    listings: u64,
    found: Verified,
}

impl Walk<'_> {
    fn tree(&mut self) -> Result<()> {
        let root = self.image.inode(self.image.root())?;
        if root.kind != InodeKind::Dir {
            return Err(ImageError::corrupt("the root is no directory"));
        }
        self.one(&root)?;
        // By hand, not by recursion: the depth is the image's to choose.
        let mut waiting = vec![root];
        while let Some(dir) = waiting.pop() {
            for entry in self.image.list(&dir)? {
                let inode = self.image.inode(entry.at)?;
                let name = entry.name.escape_ascii();
                if inode.kind != entry.kind {
                    return Err(ImageError::corrupt(format!("'{name}' is not what its directory says it is")));
                }
                let new = self.one(&inode)?;
                if let Body::Dir { parent, .. } = inode.body {
                    if !new || parent != dir.number {
                        return Err(ImageError::corrupt(format!("the directory '{name}' has two places")));
                    }
                    waiting.push(inode);
                }
            }
        }
        Ok(())
    }

    /// Checks an inode; false when it was seen before.
    fn one(&mut self, inode: &Inode) -> Result<bool> {
        if !self.seen.insert(inode.at) {
            return Ok(false);
        }
        if self.seen.len() as u64 > u64::from(self.image.superblock.inodes) {
            return Err(ImageError::corrupt("more inodes than the superblock says"));
        }
        if self.image.exported(inode.number)?.is_some_and(|at| at != inode.at) {
            return Err(ImageError::corrupt(format!("inode {} is not where the export table says", inode.number)));
        }
        self.image.xattrs(inode)?;
        self.found.inodes += 1;
        let larger = || ImageError::corrupt(format!("inode {} is larger than the tables are", inode.number));
        match inode.body {
            Body::Dir { .. } => {
                self.found.directories += 1;
                self.listings = self.listings.checked_sub(inode.size.saturating_sub(3)).ok_or_else(larger)?;
            }
            Body::File { blocks, .. } => {
                self.found.files += 1;
                self.found.bytes = self.found.bytes.saturating_add(inode.size);
                self.lists = self.lists.checked_sub(blocks.saturating_mul(4)).ok_or_else(larger)?;
                self.image.stored_bytes(inode)?;
            }
            Body::Symlink { .. } => {
                self.image.readlink(inode)?;
            }
            Body::Other => {}
        }
        Ok(true)
    }
}
