//! The SquashFS reader: opens in one small read, loads what is asked for, serves any number of threads and believes
//! nothing an image says without a check. `superblock` → `inode` → `dir`, `data`, `xattr`; all tables are made of
//! metadata blocks (`meta`, `table`), unpacked by one `decoder` per thread into bounded caches.

mod buffer;
mod data;
mod decoder;
mod dir;
mod inode;
mod meta;
mod near;
mod superblock;
mod table;
mod touched;
mod verify;
mod xattr;

use std::fs::File;
use std::sync::Arc;

pub use dir::DirEntry;
pub use inode::{Inode, InodeKind};
pub use superblock::Superblock;
pub use verify::Verified;

use super::format::SUPERBLOCK;
use crate::image::bytes::Region;
use crate::image::cache::{Cache, image_number};
use crate::image::error::{ImageError, Result};

/// Where an inode is: `block << 16 | offset`, the block counted in bytes from the inode table's start. Always below
/// 2^52 for inodes that exist.
pub type InodeRef = u64;

/// Unpacked data blocks that are kept by default, in bytes.
pub const DATA_CACHE: usize = 32 << 20;
/// Unpacked metadata that is kept, in bytes.
const META_CACHE: usize = 8 << 20;
/// Block positions of large files that are kept, in bytes.
const RUN_CACHE: usize = 2 << 20;

/// What was unpacked lately; images may share one, so that fifty of them need no more memory than one.
pub struct Caches {
    data: Cache<Arc<buffer::Buffer>>,
    meta: Cache<Arc<meta::MetaBlock>>,
    runs: Cache<Arc<data::Run>>,
}

impl Caches {
    /// With room for `data` bytes of file content.
    pub fn new(data: usize) -> Arc<Caches> {
        Arc::new(Caches { data: Cache::new(data, 8), meta: Cache::new(META_CACHE, 16), runs: Cache::new(RUN_CACHE, 4) })
    }
}

/// An open image. Cheap to share (`Arc`), usable from any number of threads at once; dropping it closes the file.
pub struct Image {
    region: Region,
    superblock: Superblock,
    /// Where the directory table ends at the latest.
    directory_end: u64,
    tables: table::Tables,
    caches: Arc<Caches>,
    touched: touched::Touched,
    number: u32,
}

impl Image {
    /// Opens the image that begins at byte `offset` of `file`, with caches of its own. Only the superblock is read.
    ///
    /// # Errors
    /// When there is no such image or its superblock contradicts itself or the file's size.
    pub fn open(file: impl Into<Arc<File>>, offset: u64) -> Result<Image> {
        Image::open_sharing(file, offset, Caches::new(DATA_CACHE))
    }

    /// [`Image::open`] with caches that other images use too.
    pub fn open_sharing(file: impl Into<Arc<File>>, offset: u64, caches: Arc<Caches>) -> Result<Image> {
        Image::in_region(Region::new(file.into(), offset)?, caches)
    }

    /// [`Image::open_sharing`] for an image that ends after `length` bytes at the latest: a partition.
    pub fn open_within(file: impl Into<Arc<File>>, offset: u64, length: u64, caches: Arc<Caches>) -> Result<Image> {
        Image::in_region(Region::within(file.into(), offset, length)?, caches)
    }

    fn in_region(mut region: Region, caches: Arc<Caches>) -> Result<Image> {
        let mut raw = [0; SUPERBLOCK];
        if region.read_some(0, &mut raw, "the superblock")? < SUPERBLOCK {
            return Err(ImageError::corrupt("too short for a squashfs"));
        }
        let superblock = Superblock::parse(&raw, region.length())?;
        region.shorten(superblock.bytes_used);
        let tables = [superblock.fragment_table, superblock.export_table, Some(superblock.id_table)];
        let directory_end = tables.into_iter().flatten().min().unwrap_or(superblock.bytes_used);
        let touched = touched::Touched::new(superblock.bytes_used);
        Ok(Image {
            region,
            touched,
            superblock,
            directory_end,
            tables: table::Tables::default(),
            caches,
            number: image_number(),
        })
    }

    /// The superblock's fields.
    pub fn superblock(&self) -> &Superblock {
        &self.superblock
    }

    /// The top directory.
    pub fn root(&self) -> InodeRef {
        self.superblock.root
    }
}

impl std::fmt::Debug for Image {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Image").field("superblock", &self.superblock).finish_non_exhaustive()
    }
}

const _: () = {
    const fn shared<T: Send + Sync>() {}
    shared::<Image>();
};
