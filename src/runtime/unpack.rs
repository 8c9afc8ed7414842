//! Writes a merged tree out into an empty private directory: modes, times, links, holes and `user.` attributes; owners
//! become the caller, device nodes, sockets and pipes are left out. Images are not trusted: every directory and file
//! is newly made, so that no name can lead out of the directory.

use std::collections::{HashMap, HashSet};
use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Mutex, PoisonError};

use super::error::{Result, RuntimeError};
use super::tree::layer::{Attr, DIR, FILE, KIND, SYMLINK};
use super::tree::{ROOT, Tree};
use crate::image::ImageError;
use crate::sys::dirfd;
use crate::sys::fs::{self, PathError};

/// Bytes read at once.
const PIECE: usize = 1 << 20;

/// What there is to write.
#[derive(Debug, Default)]
pub struct Plan {
    /// Directories, parents before children.
    dirs: Vec<Item>,
    files: Vec<Item>,
    symlinks: Vec<Item>,
    /// Further names of files: (index of the file, path).
    links: Vec<(usize, PathBuf)>,
    /// Bytes that will be taken at most.
    pub bytes: u64,
}

/// Something at a path below the top.
#[derive(Debug)]
struct Item {
    path: PathBuf,
    node: u64,
    attr: Attr,
}

fn broken(source: ImageError) -> RuntimeError {
    RuntimeError::Image { path: "(all)".into(), source }
}

impl Plan {
    /// Looks through the tree, without the names in `skip` at its top.
    pub fn new(tree: &Tree, skip: &[&str]) -> Result<Plan> {
        let mut plan = Plan::default();
        let top = Item { path: PathBuf::new(), node: ROOT, attr: tree.attr(ROOT).map_err(broken)? };
        let mut seen = HashSet::from([ROOT]);
        let mut linked = HashMap::new();
        plan.dirs.push(top);
        let mut next = 0;
        while let Some(dir) = plan.dirs.get(next) {
            let (path, listing) = (dir.path.clone(), tree.list(dir.node).map_err(broken)?);
            for entry in listing.iter() {
                if next == 0 && skip.iter().any(|name| name.as_bytes() == entry.name) {
                    continue;
                }
                let path = path.join(name(&entry.name)?);
                let attr = tree.attr(entry.node).map_err(broken)?;
                let item = Item { path, node: entry.node, attr };
                plan.bytes = plan.bytes.saturating_add(fs::BLOCK as u64);
                match attr.mode & KIND {
                    DIR if !seen.insert(entry.node) => {
                        let what = format!("the directory {} is in itself or in two others", item.path.display());
                        return Err(broken(ImageError::corrupt(what)));
                    }
                    DIR => plan.dirs.push(item),
                    SYMLINK => plan.symlinks.push(item),
                    FILE if attr.nlink > 1 => match linked.get(&entry.node) {
                        Some(&first) => plan.links.push((first, item.path)),
                        None => {
                            linked.insert(entry.node, plan.files.len());
                            plan.file(item);
                        }
                    },
                    FILE => plan.file(item),
                    _ => {}
                }
            }
            next += 1;
        }
        Ok(plan)
    }

    fn file(&mut self, item: Item) {
        self.bytes = self.bytes.saturating_add(item.attr.size);
        self.files.push(item);
    }

    /// How many inodes it takes.
    pub fn inodes(&self) -> u64 {
        (self.dirs.len() + self.files.len() + self.symlinks.len()) as u64
    }

    /// Writes all of it to `top`, an empty directory, with so many threads. Stops early (with an error) when
    /// `wanted` says no.
    pub fn write(&self, tree: &Tree, top: &Path, threads: usize, wanted: &(dyn Fn() -> bool + Sync)) -> Result<()> {
        for item in self.dirs.iter().skip(1) {
            fs::create_private_dir(&top.join(&item.path))?;
        }
        for item in &self.symlinks {
            let (path, target) = (top.join(&item.path), tree.readlink(item.node).map_err(broken)?);
            fs::symlink(Path::new(OsStr::from_bytes(&target)), &path)?;
            fs::set_mtime(&path, item.attr.mtime)?;
        }
        self.write_files(tree, top, threads, wanted)?;
        for (first, path) in &self.links {
            if let Some(first) = self.files.get(*first) {
                fs::hard_link(&top.join(&first.path), &top.join(path))?;
            }
        }
        // Children first: afterwards a directory may be closed to its owner, and its time is to stay.
        for item in self.dirs.iter().rev() {
            finish(tree, item, &top.join(&item.path))?;
        }
        Ok(())
    }

    fn write_files(&self, tree: &Tree, top: &Path, threads: usize, wanted: &(dyn Fn() -> bool + Sync)) -> Result<()> {
        let (next, stop, failed) = (AtomicUsize::new(0), AtomicBool::new(false), Mutex::new(None));
        let work = || {
            let mut buffer = vec![0; PIECE];
            while !stop.load(Ordering::Relaxed)
                && let Some(item) = self.files.get(next.fetch_add(1, Ordering::Relaxed))
            {
                let path = top.join(&item.path);
                let done = write_file(tree, item, &path, &mut buffer, &|| wanted() && !stop.load(Ordering::Relaxed))
                    .and_then(|()| finish(tree, item, &path));
                if let Err(error) = done {
                    stop.store(true, Ordering::Relaxed);
                    failed.lock().unwrap_or_else(PoisonError::into_inner).get_or_insert(error);
                }
            }
        };
        std::thread::scope(|scope| {
            for _ in 1..threads.min(self.files.len()) {
                // With fewer threads it takes longer.
                let _ = std::thread::Builder::new().spawn_scoped(scope, work);
            }
            work();
        });
        failed.into_inner().unwrap_or_else(PoisonError::into_inner).map_or(Ok(()), Err)
    }
}

/// A name that can only be that of something in the directory that lists it.
fn name(bytes: &[u8]) -> Result<&OsStr> {
    if matches!(bytes, b"" | b"." | b"..") || bytes.iter().any(|byte| matches!(byte, b'/' | 0)) {
        let text = String::from_utf8_lossy(bytes).into_owned();
        return Err(broken(ImageError::corrupt(format!("'{text}' is no name for a file"))));
    }
    Ok(OsStr::from_bytes(bytes))
}

fn write_file(tree: &Tree, item: &Item, path: &Path, buffer: &mut [u8], wanted: &dyn Fn() -> bool) -> Result<()> {
    let file = fs::create_new(path, 0o600)?;
    let failed = || PathError::new("write", path);
    file.set_len(item.attr.size).map_err(failed())?;
    let mut offset = 0;
    while offset < item.attr.size {
        if !wanted() {
            return Err(RuntimeError::Impossible("nobody waits for the files any more".into()));
        }
        let length = tree.read(item.node, offset, buffer).map_err(broken)?;
        let Some(piece) = buffer.get(..length).filter(|piece| !piece.is_empty()) else {
            return Err(broken(ImageError::corrupt(format!("{} ends early", item.path.display()))));
        };
        fs::write_sparse(&file, piece, offset).map_err(failed())?;
        offset = offset.saturating_add(length as u64);
    }
    Ok(())
}

/// Attributes, permissions and time, in the order in which they do not undo each other.
fn finish(tree: &Tree, item: &Item, path: &Path) -> Result<()> {
    if tree.has_xattrs() {
        for (name, value) in tree.xattrs(item.node).map_err(broken)? {
            if name.starts_with(b"user.") {
                // Not every file system has them, and few programs look.
                let _ = dirfd::set_xattr(path, &name, &value);
            }
        }
    }
    fs::set_mode(path, item.attr.mode & 0o7777)?;
    Ok(fs::set_mtime(path, item.attr.mtime)?)
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::MetadataExt;

    use super::*;
    use crate::runtime::tree::layer::{Found, Layer};
    use crate::runtime::tree::memory::Memory;
    use crate::sys::host;

    fn dir(name: &str) -> PathBuf {
        let dir = std::env::temp_dir().join(format!("ovl-unpack-{name}-{}", host::token()));
        fs::create_private_dir(&dir).unwrap();
        dir
    }

    fn unpack(layers: Vec<Box<dyn Layer>>, to: &Path, skip: &[&str]) -> Result<u64> {
        let tree = Tree::new(layers).unwrap();
        let plan = Plan::new(&tree, skip)?;
        plan.write(&tree, to, 3, &|| true).map(|()| plan.bytes)
    }

    #[test]
    fn layers_are_merged_and_zeroes_become_holes() {
        let mut low = Memory::default();
        low.file(b"cnt/a/f", b"low").file(b"cnt/a/gone", b"").file(b"cnt/b", b"x").dir(b"proc/x");
        let mut content = vec![0u8; 5 << 20];
        content[2 << 20] = 7;
        *content.last_mut().unwrap() = 9;
        let mut high = Memory::default();
        high.file(b"cnt/a/f", b"high").whiteout(b"cnt/a/gone").symlink(b"cnt/a/l", b"../b").file(b"holes", &content);
        let top = dir("merged");
        unpack(vec![Box::new(low), Box::new(high)], &top, &["proc"]).unwrap();
        assert_eq!(fs::read(&top.join("cnt/a/f")).unwrap(), b"high");
        assert_eq!(fs::read(&top.join("cnt/a/l")).unwrap(), b"x");
        assert!(!top.join("cnt/a/gone").exists() && !top.join("proc").exists());
        assert_eq!(fs::read(&top.join("holes")).unwrap(), content);
        let meta = fs::metadata(&top.join("holes")).unwrap();
        assert!(meta.blocks() * 512 < 1 << 20, "{} blocks", meta.blocks());
        assert_eq!((meta.mtime(), meta.mode() & 0o7777), (0, 0o644));
        fs::remove_tree(&top).unwrap();
    }

    /// A directory with whatever entries: (name, inode); 0 is the top, 1 a file, 2 a link to /tmp.
    struct Hostile(Vec<(&'static [u8], u64)>);

    impl Layer for Hostile {
        fn root(&self) -> u64 {
            0
        }
        fn attr(&self, inode: u64) -> crate::image::error::Result<Attr> {
            let mode = [DIR | 0o755, FILE | 0o644, SYMLINK | 0o777, DIR | 0o755][inode as usize];
            let size = if inode == 1 { 1 << 60 } else { 0 };
            Ok(Attr { mode, size, mtime: 0, nlink: 1, rdev: 0 })
        }
        fn lookup(&self, _: u64, _: &[u8]) -> crate::image::error::Result<Option<Found>> {
            Ok(None)
        }
        fn list(&self, dir: u64) -> crate::image::error::Result<Vec<(Vec<u8>, Found)>> {
            let found = |&(name, inode): &(&[u8], u64)| {
                (name.to_vec(), Found { inode, kind: self.attr(inode).unwrap().mode & KIND })
            };
            Ok(if dir == 3 {
                vec![(b"inside".to_vec(), Found { inode: 2, kind: SYMLINK })]
            } else {
                self.0.iter().map(found).collect()
            })
        }
        fn readlink(&self, _: u64) -> crate::image::error::Result<Vec<u8>> {
            Ok(b"/tmp".to_vec())
        }
        fn read(&self, _: u64, _: u64, _: &mut [u8]) -> crate::image::error::Result<usize> {
            Ok(0)
        }
        fn xattrs(&self, _: u64) -> crate::image::error::Result<Vec<(Vec<u8>, Vec<u8>)>> {
            Ok(Vec::new())
        }
        fn has_xattrs(&self) -> bool {
            false
        }
        fn size(&self) -> (u64, u64) {
            (0, 0)
        }
    }

    /// The hostile directory as one that lies in one layer only: united ones have unique names anyway.
    fn below(entries: Vec<(&'static [u8], u64)>) -> Result<u64> {
        let top = dir("hostile");
        let result = unpack(vec![Box::new(Hostile(entries))], &top, &[]);
        fs::remove_tree(&top).unwrap();
        result
    }

    #[test]
    fn names_cannot_lead_out_and_loops_end() {
        for bad in [&b".."[..], b".", b"", b"a/b", b"/etc/x", b"a\0b"] {
            let error = below(vec![(bad, 1)]).unwrap_err();
            assert!(error.to_string().contains("no name"), "{error}");
        }
        assert!(below(vec![(b"loop", 0)]).unwrap_err().to_string().contains("in itself"));
        assert!(below(vec![(b"a", 3), (b"b", 3)]).is_err());
        assert!(below(vec![(b"f", 1)]).unwrap_err().to_string().contains("f"), "a file that has no content");
        assert!(below(vec![(b"a", 3), (b"l", 2)]).is_ok());
    }
}
