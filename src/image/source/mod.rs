//! What a packer reads: one trait for every kind of tree (directory, ext image, grafted tree, another image).
//! A source is walked in sorted order and its files are read by range, from many threads at once.

pub mod any;
pub mod dir;
pub mod extract;
pub mod graft;
pub mod oci;
pub mod open;
pub mod tar;
pub mod tree;
pub mod union;
pub mod whiteouts;

pub use any::AnySource;
pub use dir::DirSource;
pub use graft::Graft;
pub use tree::TreeSource;
pub use union::Union;
pub use whiteouts::Whiteouts;

use std::ops::Range;

use super::error::Result;

/// A tree that can be packed.
pub trait Source: Sync {
    /// How this source finds an entry again (a path, an inode number); cheap to clone.
    type Handle: Clone + Send + Sync;

    /// The top directory; its `name` is empty.
    fn root(&self) -> Result<Entry<Self::Handle>>;

    /// The entries of a directory sorted by their names' bytes, without `.` and `..`.
    fn list(&self, dir: &Entry<Self::Handle>) -> Result<Vec<Entry<Self::Handle>>>;

    /// Fills `buf` with the file's bytes from `offset` on; the range lies within [`Meta::size`].
    fn read(&self, file: &Entry<Self::Handle>, offset: u64, buf: &mut [u8]) -> Result<()>;

    /// The first range at or after `offset` that may hold data; None when only holes follow.
    fn next_data(&self, file: &Entry<Self::Handle>, offset: u64) -> Result<Option<Range<u64>>> {
        Ok((offset < file.meta.size).then_some(offset..file.meta.size))
    }

    /// Whether this is a directory of which the source says nothing itself: it had to be made up because other entries
    /// lie in it. Its facts count for less than those of a lower layer.
    fn is_made_up(&self, _entry: &Entry<Self::Handle>) -> Result<bool> {
        Ok(false)
    }

    /// Extended attributes as (full name, value), sorted by name. Only `user.`, `trusted.` and `security.` ones.
    fn xattrs(&self, entry: &Entry<Self::Handle>) -> Result<Vec<(Vec<u8>, Vec<u8>)>>;
}

/// One thing in a source tree.
#[derive(Debug, Clone)]
pub struct Entry<H> {
    /// Its name in its directory: any bytes but NUL and `/`, 1 to 255 of them.
    pub name: Vec<u8>,
    /// Its kind, with what only that kind has.
    pub kind: Kind,
    /// Facts every kind has.
    pub meta: Meta,
    /// How the source finds it again.
    pub handle: H,
}

/// What an entry is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Kind {
    /// A directory.
    Dir,
    /// A regular file.
    File,
    /// A symbolic link with its target.
    Symlink(Vec<u8>),
    /// A character device with its (major, minor).
    CharDev(u32, u32),
    /// A block device with its (major, minor).
    BlockDev(u32, u32),
    /// A named pipe.
    Fifo,
    /// A socket.
    Socket,
}

/// Permission bits under which a program runs as the file's owner or group.
const SETUID: u16 = 0o4000;
const SETGID: u16 = 0o2000;

/// Facts of an entry.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Meta {
    /// Permission bits with setuid, setgid and sticky (0o7777), without the kind.
    pub mode: u16,
    /// Owner.
    pub uid: u32,
    /// Group.
    pub gid: u32,
    /// Last change, seconds since 1970.
    pub mtime: i64,
    /// Bytes of a regular file, else 0.
    pub size: u64,
    /// How many names the inode has; entries with more than one and the same `inode` are hard links.
    pub links: u32,
    /// Identifies the inode within this source.
    pub inode: (u64, u64),
}

impl<H> Entry<H> {
    /// The permission bits under new owners: a program that ran as somebody else shall not run as them. Of directories
    /// the bits mean something else and stay.
    pub fn mode_for(&self, uid: u32, gid: u32) -> u16 {
        let mut mode = self.meta.mode;
        if matches!(self.kind, Kind::Dir | Kind::Symlink(_)) {
            return mode;
        }
        if self.meta.uid != uid {
            mode &= !(SETUID | SETGID);
        }
        if self.meta.gid != gid {
            mode &= !SETGID;
        }
        mode
    }
}
