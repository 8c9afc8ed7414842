//! A source that lives in memory: small trees made by ovl itself (metadata, mount points) and trees for tests.

use std::collections::BTreeMap;

use super::super::error::{ImageError, Result};
use super::{Entry, Kind, Meta, Source};

/// A tree in memory.
pub struct TreeSource {
    nodes: Vec<Node>,
    mtime: i64,
}

struct Node {
    kind: Kind,
    meta: Meta,
    bytes: Vec<u8>,
    xattrs: BTreeMap<Vec<u8>, Vec<u8>>,
    children: BTreeMap<Vec<u8>, usize>,
}

impl TreeSource {
    /// An empty root directory; everything in the tree is root's and has this time.
    pub fn new(mtime: i64) -> TreeSource {
        let mut tree = TreeSource { nodes: Vec::new(), mtime };
        tree.make(Kind::Dir, 0o755, Vec::new());
        tree
    }

    fn make(&mut self, kind: Kind, mode: u16, bytes: Vec<u8>) -> usize {
        let (size, id) = (bytes.len() as u64, self.nodes.len());
        let inode = (u64::MAX, id as u64);
        let meta = Meta { mode: mode & 0o7777, uid: 0, gid: 0, mtime: self.mtime, size, links: 1, inode };
        self.nodes.push(Node { kind, meta, bytes, xattrs: BTreeMap::new(), children: BTreeMap::new() });
        id
    }

    /// A directory (0755) with its parents, or what is already there; returns its handle.
    ///
    /// # Errors
    /// When a part of the path is empty, `.`, `..` or longer than 255 bytes, or is there and no directory.
    pub fn dir(&mut self, path: &[u8]) -> Result<usize> {
        let mut at = 0;
        for name in path.split(|byte| *byte == b'/') {
            if name.is_empty() && path.is_empty() {
                break;
            }
            check(name, path)?;
            at = match self.nodes[at].children.get(name) {
                Some(child) if self.nodes[*child].kind == Kind::Dir => *child,
                Some(_) => {
                    return Err(ImageError::Unsupported(format!("'{}' is no directory", path.escape_ascii())));
                }
                None => {
                    let child = self.make(Kind::Dir, 0o755, Vec::new());
                    self.nodes[at].children.insert(name.to_vec(), child);
                    child
                }
            };
        }
        Ok(at)
    }

    /// Adds an entry (with missing parents), replacing what has its name; `bytes` are a regular file's content.
    ///
    /// # Errors
    /// As for [`TreeSource::dir`].
    pub fn add(&mut self, path: &[u8], kind: Kind, mode: u16, bytes: Vec<u8>) -> Result<usize> {
        let (parent, name) = match path.iter().rposition(|byte| *byte == b'/') {
            Some(slash) => (&path[..slash], &path[slash + 1..]),
            None => (&b""[..], path),
        };
        check(name, path)?;
        let parent = self.dir(parent)?;
        let node = self.make(kind, mode, bytes);
        self.nodes[parent].children.insert(name.to_vec(), node);
        Ok(node)
    }

    /// Adds a regular file (with missing parents).
    ///
    /// # Errors
    /// As for [`TreeSource::dir`].
    pub fn file(&mut self, path: &[u8], bytes: Vec<u8>, mode: u16) -> Result<usize> {
        self.add(path, Kind::File, mode, bytes)
    }

    /// Gives an entry an extended attribute under its full name.
    pub fn xattr(&mut self, node: usize, name: &[u8], value: &[u8]) {
        if let Some(node) = self.nodes.get_mut(node) {
            node.xattrs.insert(name.to_vec(), value.to_vec());
        }
    }

    /// Changes an entry's facts (owner, time, …).
    pub fn change(&mut self, node: usize, how: impl FnOnce(&mut Meta)) {
        if let Some(node) = self.nodes.get_mut(node) {
            how(&mut node.meta);
        }
    }

    fn get(&self, node: usize) -> Result<&Node> {
        self.nodes.get(node).ok_or_else(|| ImageError::corrupt("an entry of another tree"))
    }

    /// The entry behind a handle, under a name of the caller's choice.
    pub(super) fn entry(&self, node: usize, name: &[u8]) -> Result<Entry<usize>> {
        let found = self.get(node)?;
        Ok(Entry { name: name.to_vec(), kind: found.kind.clone(), meta: found.meta, handle: node })
    }
}

fn check(name: &[u8], path: &[u8]) -> Result<()> {
    if name.is_empty() || name.len() > 255 || name == b"." || name == b".." || name.contains(&0) {
        return Err(ImageError::Unsupported(format!("'{}' is no path inside an image", path.escape_ascii())));
    }
    Ok(())
}

impl Source for TreeSource {
    type Handle = usize;

    fn root(&self) -> Result<Entry<usize>> {
        self.entry(0, b"")
    }

    fn list(&self, dir: &Entry<usize>) -> Result<Vec<Entry<usize>>> {
        self.get(dir.handle)?.children.iter().map(|(name, node)| self.entry(*node, name)).collect()
    }

    fn read(&self, file: &Entry<usize>, offset: u64, buf: &mut [u8]) -> Result<()> {
        let bytes = &self.get(file.handle)?.bytes;
        let from = usize::try_from(offset).ok();
        let part = from.and_then(|from| bytes.get(from..from.checked_add(buf.len())?));
        buf.copy_from_slice(part.ok_or_else(|| ImageError::corrupt("a read past the end of a file in memory"))?);
        Ok(())
    }

    fn xattrs(&self, entry: &Entry<usize>) -> Result<Vec<(Vec<u8>, Vec<u8>)>> {
        Ok(self.get(entry.handle)?.xattrs.iter().map(|(name, value)| (name.clone(), value.clone())).collect())
    }
}
