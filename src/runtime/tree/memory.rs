//! A layer that exists only in memory: directories and empty files that are needed as mount points.

use std::collections::BTreeMap;

use super::layer::{Attr, CHARDEV, DIR, FILE, Found, KIND, Layer, SYMLINK};
use crate::image::error::{ImageError, Result};

/// The layer; an inode's number is its place in the list, 0 is the top directory.
#[derive(Debug)]
pub struct Memory {
    nodes: Vec<Node>,
}

#[derive(Debug)]
struct Node {
    mode: u32,
    /// A file's bytes or a link's target.
    content: Vec<u8>,
    entries: BTreeMap<Vec<u8>, usize>,
    xattrs: Vec<(Vec<u8>, Vec<u8>)>,
}

impl Node {
    fn new(mode: u32, content: &[u8]) -> Node {
        Node { mode, content: content.to_vec(), entries: BTreeMap::new(), xattrs: Vec::new() }
    }
}

impl Default for Memory {
    fn default() -> Memory {
        Memory { nodes: vec![Node::new(DIR | 0o755, b"")] }
    }
}

impl Memory {
    /// A directory with its parents. What is there already stays; below a file nothing is made.
    pub fn dir(&mut self, path: &[u8]) -> &mut Memory {
        self.add(path, DIR | 0o755, b"");
        self
    }

    /// A file with its parents.
    pub fn file(&mut self, path: &[u8], content: &[u8]) -> &mut Memory {
        self.add(path, FILE | 0o644, content);
        self
    }

    /// A symbolic link with its parents.
    pub fn symlink(&mut self, path: &[u8], target: &[u8]) -> &mut Memory {
        self.add(path, SYMLINK | 0o777, target);
        self
    }

    /// A character device 0:0, which hides what lower layers have under its name.
    pub fn whiteout(&mut self, path: &[u8]) -> &mut Memory {
        self.add(path, CHARDEV, b"");
        self
    }

    /// An extended attribute of something that is there.
    pub fn xattr(&mut self, path: &[u8], name: &[u8], value: &[u8]) -> &mut Memory {
        let place = self.add(path, DIR | 0o755, b"");
        if let Some(node) = self.nodes.get_mut(place) {
            node.xattrs.push((name.to_vec(), value.to_vec()));
        }
        self
    }

    /// Whether nothing was added.
    pub fn is_empty(&self) -> bool {
        self.nodes.len() == 1
    }

    fn add(&mut self, path: &[u8], mode: u32, content: &[u8]) -> usize {
        let mut here = 0;
        let mut names = path.split(|&byte| byte == b'/').filter(|name| !matches!(*name, b"" | b"." | b"..")).peekable();
        while let Some(name) = names.next() {
            let last = names.peek().is_none();
            let next = self.nodes.len();
            let Some(node) = self.nodes.get_mut(here) else { break };
            if node.mode & KIND != DIR {
                break;
            }
            here = *node.entries.entry(name.to_vec()).or_insert(next);
            if here == next {
                self.nodes.push(if last { Node::new(mode, content) } else { Node::new(DIR | 0o755, b"") });
            }
        }
        here
    }

    fn node(&self, inode: u64) -> Result<&Node> {
        let node = usize::try_from(inode).ok().and_then(|place| self.nodes.get(place));
        node.ok_or_else(|| ImageError::corrupt(format!("no inode {inode}")))
    }

    fn found(&self, place: usize) -> Found {
        Found { inode: place as u64, kind: self.nodes.get(place).map_or(FILE, |node| node.mode & KIND) }
    }
}

impl Layer for Memory {
    fn root(&self) -> u64 {
        0
    }

    fn attr(&self, inode: u64) -> Result<Attr> {
        let node = self.node(inode)?;
        Ok(Attr { mode: node.mode, size: node.content.len() as u64, mtime: 0, nlink: 1, rdev: 0 })
    }

    fn lookup(&self, dir: u64, name: &[u8]) -> Result<Option<Found>> {
        Ok(self.node(dir)?.entries.get(name).map(|&place| self.found(place)))
    }

    fn list(&self, dir: u64) -> Result<Vec<(Vec<u8>, Found)>> {
        Ok(self.node(dir)?.entries.iter().map(|(name, &place)| (name.clone(), self.found(place))).collect())
    }

    fn readlink(&self, link: u64) -> Result<Vec<u8>> {
        Ok(self.node(link)?.content.clone())
    }

    fn read(&self, file: u64, offset: u64, buf: &mut [u8]) -> Result<usize> {
        let content = &self.node(file)?.content;
        let rest = usize::try_from(offset).ok().and_then(|offset| content.get(offset..)).unwrap_or_default();
        let length = rest.len().min(buf.len());
        buf[..length].copy_from_slice(&rest[..length]);
        Ok(length)
    }

    fn xattrs(&self, inode: u64) -> Result<Vec<(Vec<u8>, Vec<u8>)>> {
        Ok(self.node(inode)?.xattrs.clone())
    }

    fn has_xattrs(&self) -> bool {
        self.nodes.iter().any(|node| !node.xattrs.is_empty())
    }

    fn size(&self) -> (u64, u64) {
        (0, self.nodes.len() as u64)
    }
}
