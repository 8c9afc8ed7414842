//! The members of an archive as a tree in memory: where each one's content is, never the content. Later members replace
//! earlier ones of the same path, as when an archive is unpacked.

use std::collections::BTreeMap;

use super::super::super::error::{ImageError, Result};
use super::super::{Kind, Meta};

/// Most members, so that an archive of headers alone cannot take all memory.
const MOST: usize = 1 << 24;
/// Longest path, as Linux has it. Directories can so be nested 2048 deep.
pub const LONGEST_PATH: usize = 4096;
/// Most bytes of all names, targets of links, attributes and maps of sparse files: compressed, the same few bytes over
/// and over cost whoever sends them nothing.
const MOST_TEXT: u64 = 1 << 30;

/// A stretch of a sparse file: `length` bytes at `offset` in the file that lie at `place` in the store.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Extent {
    /// In the file.
    pub offset: u64,
    /// In bytes.
    pub length: u64,
    /// In the store.
    pub place: u64,
}

/// Where content is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Data {
    /// Nowhere: not a regular file, or an empty one.
    None,
    /// All of it at this place of the store.
    Whole(u64),
    /// In pieces, in order; holes between.
    Sparse(Box<[Extent]>),
}

/// A member.
#[derive(Debug)]
pub struct Node {
    /// What it is.
    pub kind: Kind,
    /// Its facts.
    pub meta: Meta,
    /// Its content.
    pub data: Data,
    /// Its attributes, sorted.
    pub xattrs: Box<[(Vec<u8>, Vec<u8>)]>,
    /// A directory that no member is about: others lie in it.
    pub made_up: bool,
    /// What is in it, of a directory.
    pub children: BTreeMap<Box<[u8]>, u32>,
}

impl Node {
    /// Bytes it holds beside its fixed size.
    fn weight(&self) -> usize {
        let target = match &self.kind {
            Kind::Symlink(target) => target.len(),
            _ => 0,
        };
        let map = match &self.data {
            Data::Sparse(extents) => extents.len().saturating_mul(size_of::<Extent>()),
            _ => 0,
        };
        // An attribute is two vectors.
        let xattrs = self.xattrs.iter().map(|(name, value)| name.len() + value.len() + 48).sum::<usize>();
        target.saturating_add(map).saturating_add(xattrs)
    }
}

/// All members.
#[derive(Debug)]
pub struct Tree {
    nodes: Vec<Node>,
    text: u64,
}

fn directory(mtime: i64) -> Node {
    let meta = Meta { mode: 0o755, uid: 0, gid: 0, mtime, size: 0, links: 1, inode: (0, 0) };
    Node { kind: Kind::Dir, meta, data: Data::None, xattrs: Box::default(), made_up: true, children: BTreeMap::new() }
}

/// The names of a path; the root has none.
///
/// # Errors
/// When it leads out of the archive or has a name that no file can have.
fn names(path: &[u8]) -> Result<Vec<&[u8]>> {
    let parts = path.split(|byte| *byte == b'/').filter(|name| !matches!(*name, b"" | b"."));
    let names: Vec<&[u8]> = parts.collect();
    let bad = |why: &str| Err(ImageError::Unsupported(format!("the member '{}' {why}", shown(path))));
    if path.len() > LONGEST_PATH {
        return bad("has a path of more than 4096 bytes");
    }
    if names.contains(&&b".."[..]) {
        return bad("leads out of the archive");
    }
    if names.iter().any(|name| name.len() > 255) {
        return bad("has a name of more than 255 bytes");
    }
    if path.contains(&0) {
        return bad("has a zero byte in its name");
    }
    Ok(names)
}

/// A path for messages.
pub fn shown(path: &[u8]) -> String {
    let cut = path.get(..200).unwrap_or(path);
    format!("{}{}", cut.escape_ascii(), if cut.len() < path.len() { "…" } else { "" })
}

impl Tree {
    /// A root directory with nothing in it.
    pub fn new() -> Tree {
        Tree { nodes: vec![directory(0)], text: 0 }
    }

    /// A node by its number.
    pub fn get(&self, node: u32) -> Option<&Node> {
        self.nodes.get(node as usize)
    }

    /// The node of a path, symbolic links not followed.
    pub fn find(&self, path: &[u8]) -> Option<u32> {
        names(path).ok()?.into_iter().try_fold(0, |at, name| self.get(at)?.children.get(name).copied())
    }

    /// Counts what a node holds beside its fixed size.
    fn weigh(&mut self, bytes: usize) -> Result<()> {
        self.text = self.text.saturating_add(bytes as u64);
        if self.text > MOST_TEXT {
            let what = format!("an archive with more than {} MiB of names and attributes", MOST_TEXT >> 20);
            return Err(ImageError::Unsupported(what));
        }
        Ok(())
    }

    fn add(&mut self, mut node: Node) -> Result<u32> {
        self.weigh(node.weight())?;
        if self.nodes.len() >= MOST {
            return Err(ImageError::Unsupported(format!("an archive of more than {MOST} members")));
        }
        let number = self.nodes.len() as u32;
        node.meta.inode = (0, u64::from(number));
        self.nodes.push(node);
        Ok(number)
    }

    /// The directory a path lies in, made where the archive has no member for it, and the path's last name; None: the
    /// path is the root.
    fn parent<'p>(&mut self, path: &'p [u8], mtime: i64) -> Result<Option<(u32, &'p [u8])>> {
        let mut names = names(path)?;
        let Some(last) = names.pop() else { return Ok(None) };
        let mut at = 0;
        for name in names {
            let child = self.get(at).and_then(|node| node.children.get(name).copied());
            at = match child {
                Some(child) if self.get(child).is_some_and(|node| node.kind == Kind::Dir) => child,
                Some(_) => {
                    let (path, name) = (shown(path), name.escape_ascii());
                    let what = format!("the member '{path}' goes through '{name}', which is no directory");
                    return Err(ImageError::Unsupported(what));
                }
                None => {
                    let child = self.add(directory(mtime))?;
                    self.put(at, name, child)?;
                    child
                }
            };
        }
        Ok(Some((at, last)))
    }

    fn put(&mut self, dir: u32, name: &[u8], node: u32) -> Result<()> {
        self.weigh(name.len())?;
        if let Some(dir) = self.nodes.get_mut(dir as usize) {
            dir.children.insert(name.into(), node);
        }
        Ok(())
    }

    /// Puts a member at its path.
    ///
    /// # Errors
    /// When the path leads elsewhere or through something that is no directory, or there are too many.
    pub fn insert(&mut self, path: &[u8], node: Node) -> Result<()> {
        let there = match self.parent(path, node.meta.mtime)? {
            None => Some(0),
            Some((dir, name)) => {
                let there = self.get(dir).and_then(|dir| dir.children.get(name).copied());
                let keeps = node.kind == Kind::Dir
                    && there.and_then(|there| self.get(there)).is_some_and(|there| there.kind == Kind::Dir);
                if !keeps {
                    let number = self.add(node)?;
                    return self.put(dir, name, number);
                }
                there
            }
        };
        if node.kind != Kind::Dir {
            return Err(ImageError::Unsupported("the archive's root is no directory".into()));
        }
        self.weigh(node.weight())?;
        // A directory's own member may come after those in it.
        if let Some(old) = there.and_then(|there| self.nodes.get_mut(there as usize)) {
            let inode = old.meta.inode;
            (old.meta, old.xattrs, old.made_up) = (Meta { inode, ..node.meta }, node.xattrs, false);
        }
        Ok(())
    }

    /// Gives a member that has come before another name.
    ///
    /// # Errors
    /// As [`Tree::insert`]; and when there is no such member, or it is a directory.
    pub fn link(&mut self, path: &[u8], target: &[u8], mtime: i64) -> Result<()> {
        let refused = |why| {
            Err(ImageError::Unsupported(format!("'{}' is a hard link to '{}', {why}", shown(path), shown(target))))
        };
        names(target)?;
        let Some(number) = self.find(target) else { return refused("which has not come before it") };
        if self.get(number).is_none_or(|node| node.kind == Kind::Dir) {
            return refused("a directory");
        }
        let Some((dir, name)) = self.parent(path, mtime)? else { return refused("and the root") };
        // Making the parents cannot have replaced the target; a link to itself changes nothing.
        if self.get(dir).and_then(|dir| dir.children.get(name)) != Some(&number) {
            self.put(dir, name, number)?;
            if let Some(node) = self.nodes.get_mut(number as usize) {
                node.meta.links = node.meta.links.saturating_add(1);
            }
        }
        Ok(())
    }
}
