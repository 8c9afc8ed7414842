//! A directory of this machine as a source: read through open directories, symbolic links never followed, holes and
//! extended attributes kept. A file that changes its size or is replaced while it is read is an error.

use std::collections::{HashSet, VecDeque};
use std::fs::File;
use std::io;
use std::ops::Range;
use std::os::fd::OwnedFd;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{FileExt, MetadataExt};
use std::path::Path;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use nix::libc;
use nix::sys::stat::FileStat;

use super::super::error::{ImageError, Result};
use super::super::squashfs::format::XATTR_PREFIXES;
use super::{Entry, Kind, Meta, Source};
use crate::sys::{dirfd, fs};

/// Directories kept open for the files in them that are about to be read.
const OPEN_DIRECTORIES: usize = 64;

/// What is written meanwhile and may lie in the directory that is read: no part of it. Names are told with their inodes,
/// so that a further name of the same file stays.
#[derive(Debug, Default)]
pub struct Skip(Mutex<HashSet<(u64, u64, Vec<u8>)>>);

impl Skip {
    /// Leaves out what is at this path now, if anything is.
    pub fn add(&self, path: &Path) {
        if let (Ok(meta), Some(name)) = (fs::symlink_metadata(path), path.file_name()) {
            let mut skipped = self.0.lock().unwrap_or_else(PoisonError::into_inner);
            skipped.insert((meta.dev(), meta.ino(), name.as_bytes().to_vec()));
        }
    }

    fn has(&self, stat: &FileStat, name: &[u8]) -> bool {
        let skipped = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        !skipped.is_empty() && skipped.contains(&(stat.st_dev, stat.st_ino, name.to_vec()))
    }
}

/// A directory and everything below it.
pub struct DirSource {
    root: Arc<Node>,
    root_fd: Arc<OwnedFd>,
    shown: String,
    open: Mutex<VecDeque<(u64, Arc<OwnedFd>)>>,
    ids: AtomicU64,
    skip: Arc<Skip>,
}

/// How a [`DirSource`] finds an entry again: its name and its directory's node, up to the root.
#[derive(Debug)]
pub struct Node {
    parent: Option<Arc<Node>>,
    name: Vec<u8>,
    id: u64,
    sparse: bool,
}

impl Drop for Node {
    /// Without recursion: a tree may be deeper than the stack.
    fn drop(&mut self) {
        let mut next = self.parent.take();
        while let Some(mut node) = next.and_then(Arc::into_inner) {
            next = node.parent.take();
        }
    }
}

impl DirSource {
    /// Opens the directory; `path` itself may be a symbolic link.
    ///
    /// # Errors
    /// When it is no directory or may not be read.
    pub fn new(path: &Path) -> Result<DirSource> {
        DirSource::without(path, Arc::default())
    }

    /// [`DirSource::new`] without what is skipped; that may be told as late as when the walk begins.
    pub fn without(path: &Path, skip: Arc<Skip>) -> Result<DirSource> {
        let shown = path.display().to_string();
        let fd = dirfd::open_root(path).map_err(ImageError::io("open", format!("directory {shown}")))?;
        Ok(DirSource {
            root: Arc::new(Node { parent: None, name: Vec::new(), id: 0, sparse: false }),
            root_fd: Arc::new(fd),
            shown,
            open: Mutex::default(),
            ids: AtomicU64::new(1),
            skip,
        })
    }

    /// For messages: the entry's full path.
    fn show(&self, node: &Arc<Node>) -> String {
        let mut names = Vec::new();
        let mut at = node;
        while let Some(parent) = &at.parent {
            names.push(at.name.escape_ascii().to_string());
            at = parent;
        }
        names.push(self.shown.trim_end_matches('/').to_owned());
        names.reverse();
        names.join("/")
    }

    fn failed(&self, op: &'static str, node: &Arc<Node>) -> impl FnOnce(io::Error) -> ImageError {
        ImageError::io(op, self.show(node))
    }

    /// The open directory of a directory's node.
    fn dir(&self, node: &Arc<Node>) -> Result<Arc<OwnedFd>> {
        let mut missing = Vec::new();
        let mut at = node;
        let mut fd = loop {
            let Some(parent) = &at.parent else { break self.root_fd.clone() };
            if let Some(fd) = self.cached(at.id) {
                break fd;
            }
            missing.push(at);
            at = parent;
        };
        for node in missing.into_iter().rev() {
            fd = Arc::new(dirfd::open_dir(&fd, &node.name).map_err(self.failed("open directory", node))?);
            self.keep(node.id, fd.clone());
        }
        Ok(fd)
    }

    fn cached(&self, id: u64) -> Option<Arc<OwnedFd>> {
        let mut open = self.open.lock().unwrap_or_else(PoisonError::into_inner);
        let at = open.iter().position(|(other, _)| *other == id)?;
        let hit = open.remove(at)?;
        let fd = hit.1.clone();
        open.push_front(hit);
        Some(fd)
    }

    fn keep(&self, id: u64, fd: Arc<OwnedFd>) {
        let mut open = self.open.lock().unwrap_or_else(PoisonError::into_inner);
        open.push_front((id, fd));
        open.truncate(OPEN_DIRECTORIES);
    }

    /// The directory an entry lies in and its name there; the root lies in itself under an empty name.
    fn place<'a>(&self, node: &'a Arc<Node>) -> Result<(Arc<OwnedFd>, &'a [u8])> {
        match &node.parent {
            Some(parent) => Ok((self.dir(parent)?, &node.name)),
            None => Ok((self.root_fd.clone(), b"")),
        }
    }

    fn open_file(&self, entry: &Entry<Arc<Node>>) -> Result<File> {
        let (dir, name) = self.place(&entry.handle)?;
        let file = dirfd::open_file(&dir, name).map_err(self.failed("open", &entry.handle))?;
        let stat = dirfd::stat_file(&file).map_err(self.failed("look at", &entry.handle))?;
        let same = (stat.st_dev, stat.st_ino) == entry.meta.inode;
        if !same || u64::try_from(stat.st_size).ok() != Some(entry.meta.size) {
            return Err(self.changed(entry));
        }
        Ok(file)
    }

    fn changed(&self, entry: &Entry<Arc<Node>>) -> ImageError {
        let what = format!("it changed while it was being packed ({} bytes at first)", entry.meta.size);
        self.failed("read", &entry.handle)(io::Error::other(what))
    }
}

fn kind_of(stat: &FileStat, link: impl FnOnce() -> Result<Vec<u8>>) -> Result<Kind> {
    let device = || (libc::major(stat.st_rdev), libc::minor(stat.st_rdev));
    Ok(match stat.st_mode & libc::S_IFMT {
        libc::S_IFDIR => Kind::Dir,
        libc::S_IFLNK => Kind::Symlink(link()?),
        libc::S_IFCHR => Kind::CharDev(device().0, device().1),
        libc::S_IFBLK => Kind::BlockDev(device().0, device().1),
        libc::S_IFIFO => Kind::Fifo,
        libc::S_IFSOCK => Kind::Socket,
        _ => Kind::File,
    })
}

fn meta_of(stat: &FileStat, kind: &Kind) -> Meta {
    Meta {
        mode: (stat.st_mode & 0o7777) as u16,
        uid: stat.st_uid,
        gid: stat.st_gid,
        mtime: stat.st_mtime,
        size: if *kind == Kind::File { u64::try_from(stat.st_size).unwrap_or(0) } else { 0 },
        links: u32::try_from(stat.st_nlink).unwrap_or(u32::MAX),
        inode: (stat.st_dev, stat.st_ino),
    }
}

impl Source for DirSource {
    type Handle = Arc<Node>;

    fn root(&self) -> Result<Entry<Arc<Node>>> {
        let stat = dirfd::stat(&self.root_fd, b"").map_err(self.failed("look at", &self.root))?;
        Ok(Entry { name: Vec::new(), kind: Kind::Dir, meta: meta_of(&stat, &Kind::Dir), handle: self.root.clone() })
    }

    fn list(&self, dir: &Entry<Arc<Node>>) -> Result<Vec<Entry<Arc<Node>>>> {
        let fd = self.dir(&dir.handle)?;
        let names = dirfd::names(&fd).map_err(self.failed("list", &dir.handle))?;
        let mut entries = Vec::with_capacity(names.len());
        for name in names {
            let mut node = Node { parent: Some(dir.handle.clone()), name, id: 0, sparse: false };
            let stat = match dirfd::stat(&fd, &node.name) {
                Ok(stat) => stat,
                Err(error) => return Err(self.failed("look at", &Arc::new(node))(error)),
            };
            if self.skip.has(&stat, &node.name) {
                continue;
            }
            node.id = self.ids.fetch_add(1, Ordering::Relaxed);
            node.sparse = stat.st_blocks.saturating_mul(512) < stat.st_size;
            let node = Arc::new(node);
            let kind = kind_of(&stat, || dirfd::read_link(&fd, &node.name).map_err(self.failed("read link", &node)))?;
            entries.push(Entry { name: node.name.clone(), meta: meta_of(&stat, &kind), kind, handle: node });
        }
        Ok(entries)
    }

    fn read(&self, file: &Entry<Arc<Node>>, offset: u64, buf: &mut [u8]) -> Result<()> {
        match self.open_file(file)?.read_exact_at(buf, offset) {
            Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => Err(self.changed(file)),
            result => result.map_err(self.failed("read", &file.handle)),
        }
    }

    fn next_data(&self, file: &Entry<Arc<Node>>, offset: u64) -> Result<Option<Range<u64>>> {
        if !file.handle.sparse {
            return Ok((offset < file.meta.size).then_some(offset..file.meta.size));
        }
        dirfd::next_data(&self.open_file(file)?, offset, file.meta.size)
            .map_err(self.failed("find holes in", &file.handle))
    }

    fn xattrs(&self, entry: &Entry<Arc<Node>>) -> Result<Vec<(Vec<u8>, Vec<u8>)>> {
        let (dir, name) = self.place(&entry.handle)?;
        dirfd::xattrs(&dir, name, |name| XATTR_PREFIXES.iter().any(|prefix| name.starts_with(prefix)))
            .map_err(self.failed("read attributes of", &entry.handle))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sys::host;

    #[test]
    fn what_is_skipped_is_told_by_name_and_inode() {
        let top = std::env::temp_dir().join(format!("ovl-skip-{}", host::token()));
        fs::create_dirs(&top.join("sub")).unwrap();
        fs::write_atomic(&top.join("stays"), b"x", 0o644).unwrap();
        fs::write_atomic(&top.join("sub/new"), b"x", 0o644).unwrap();
        fs::hard_link(&top.join("sub/new"), &top.join("second")).unwrap();
        let skip = Arc::new(Skip::default());
        let source = DirSource::without(&top, skip.clone()).unwrap();
        let names = |dir: &Entry<Arc<Node>>| -> Vec<Vec<u8>> {
            source.list(dir).unwrap().into_iter().map(|entry| entry.name).collect()
        };
        skip.add(&top.join("nothing"));
        skip.add(&top.join("sub/new"));
        let root = source.root().unwrap();
        assert_eq!(names(&root), [&b"second"[..], b"stays", b"sub"]);
        assert!(names(&source.list(&root).unwrap()[2]).is_empty());
        skip.add(&top.join("sub"));
        assert_eq!(names(&root), [&b"second"[..], b"stays"]);
        fs::remove_tree(&top).unwrap();
    }
}
