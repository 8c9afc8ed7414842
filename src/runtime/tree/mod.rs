//! Many layers as one tree. Nodes have numbers: those that lie in one layer only carry layer and inode in the number
//! (so hard links share one, and nothing has to be remembered or forgotten); united directories get one from a table.

pub mod clashes;
mod ext;
mod image;
pub mod layer;
pub mod memory;
mod merge;
#[cfg(test)]
mod tests;

use std::collections::{BTreeMap, HashMap, VecDeque};
use std::ops::Range;
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};

pub use ext::ExtLayer;
pub use image::ImageLayer;
use layer::{Attr, DIR, KIND, Layer, SYMLINK};
use merge::{MARK, Merged, Part, is_whiteout, unite};

use crate::image::error::{ImageError, Result};

/// Most layers: their number has 12 bits, and 0 stands for "united".
pub const MOST_LAYERS: usize = 4095;
/// The number of the top directory.
pub const ROOT: u64 = 1;
const INODE_BITS: u32 = 52;
/// Directory listings kept for readers that come back for the next piece.
const LISTINGS: usize = 8;
/// Symbolic links followed before giving up, as the kernel has it.
const MOST_LINKS: usize = 40;

/// The merged tree.
pub struct Tree {
    layers: Vec<Box<dyn Layer>>,
    /// What each layer's own inode numbers begin after, and how many it has.
    numbers: Vec<(u64, u64)>,
    united: Mutex<Table>,
    listings: Mutex<VecDeque<(u64, Listing)>>,
}

/// A name in a directory.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Entry {
    /// The name.
    pub name: Vec<u8>,
    /// Its node.
    pub node: u64,
    /// Its kind, as the type bits of `st_mode`.
    pub kind: u32,
}

/// The names of a directory, sorted by their bytes.
pub type Listing = Arc<Vec<Entry>>;

/// A directory that several layers have.
struct United {
    /// Where, highest layer first.
    parts: Vec<Part>,
    /// What is in it, once somebody asked.
    names: OnceLock<BTreeMap<Vec<u8>, Merged>>,
}

#[derive(Default)]
struct Table {
    dirs: Vec<Arc<United>>,
    /// By the uppermost parts; a directory is united with the same others whichever way it is reached.
    numbers: HashMap<Vec<Part>, u64>,
}

impl Tree {
    /// Merges layers, lowest first: later ones win.
    pub fn new(layers: Vec<Box<dyn Layer>>) -> Result<Tree> {
        if layers.len() > MOST_LAYERS {
            return Err(ImageError::Unsupported(format!("{} layers are more than {MOST_LAYERS}", layers.len())));
        }
        let parts: Vec<Part> = (0u16..).zip(&layers).map(|(number, layer)| (number, layer.root())).collect();
        let parts = parts.into_iter().rev().collect();
        let mut begin = 1u64;
        let mut numbers = Vec::with_capacity(layers.len());
        for layer in &layers {
            let (_, count) = layer.size();
            numbers.push((begin, count));
            begin = begin.saturating_add(count).saturating_add(1);
        }
        let tree = Tree { layers, numbers, united: Mutex::default(), listings: Mutex::default() };
        tree.number_of(parts);
        Ok(tree)
    }

    /// The layers back, lowest first.
    pub fn into_layers(self) -> Vec<Box<dyn Layer>> {
        self.layers
    }

    /// Facts of a node.
    pub fn attr(&self, node: u64) -> Result<Attr> {
        let (number, inode) = self.top(node)?;
        let mut attr = self.layer(number)?.attr(inode)?;
        if node >> INODE_BITS == 0 {
            // 1 means "unknown" to programs that count subdirectories.
            attr.nlink = 1;
        }
        Ok(attr)
    }

    /// A node's number for programs that tell files apart by it: small, so that 32 bits nearly always hold it, and the
    /// same for all names of a file. An inode that says what it cannot be keeps its node's number.
    pub fn number(&self, node: u64) -> u64 {
        let number = || {
            let (layer, inode) = self.top(node).ok()?;
            let number = self.layer(layer).ok()?.number(inode).ok()?;
            let (begin, count) = self.numbers.get(usize::from(layer))?;
            if number <= *count { begin.checked_add(number) } else { None }
        };
        number().unwrap_or(node)
    }

    /// Finds a name in a directory.
    pub fn lookup(&self, dir: u64, name: &[u8]) -> Result<Option<u64>> {
        if name.starts_with(MARK) {
            return Ok(None);
        }
        if dir >> INODE_BITS == 0 {
            let united = self.united(dir)?;
            return Ok(self.names(&united)?.get(name).map(|merged| self.number_of(merged.parts.clone())));
        }
        let (number, inode) = self.top(dir)?;
        let layer = self.layer(number)?;
        match layer.lookup(inode, name)? {
            Some(found) if !is_whiteout(layer, found)? => Ok(Some(single(number, found.inode))),
            _ => Ok(None),
        }
    }

    /// All names of a directory.
    pub fn list(&self, dir: u64) -> Result<Listing> {
        if let Some((_, listing)) = lock(&self.listings).iter().find(|(node, _)| *node == dir) {
            return Ok(listing.clone());
        }
        let mut entries = Vec::new();
        if dir >> INODE_BITS == 0 {
            let united = self.united(dir)?;
            for (name, merged) in self.names(&united)? {
                let node = self.number_of(merged.parts.clone());
                entries.push(Entry { name: name.clone(), node, kind: merged.kind });
            }
        } else {
            let (number, inode) = self.top(dir)?;
            let layer = self.layer(number)?;
            for (name, found) in layer.list(inode)? {
                if !name.starts_with(MARK) && !is_whiteout(layer, found)? {
                    entries.push(Entry { name, node: single(number, found.inode), kind: found.kind });
                }
            }
            entries.sort_by(|a, b| a.name.cmp(&b.name));
        }
        let listing = Arc::new(entries);
        let mut kept = lock(&self.listings);
        kept.push_front((dir, listing.clone()));
        kept.truncate(LISTINGS);
        Ok(listing)
    }

    /// Where a symbolic link points.
    pub fn readlink(&self, node: u64) -> Result<Vec<u8>> {
        let (number, inode) = self.top(node)?;
        self.layer(number)?.readlink(inode)
    }

    /// Fills `buf` from `offset` on; fewer bytes only at the end of the file.
    pub fn read(&self, node: u64, offset: u64, buf: &mut [u8]) -> Result<usize> {
        let (number, inode) = self.top(node)?;
        self.layer(number)?.read(inode, offset, buf)
    }

    /// The bytes of a file that come out of its image together with the one at `offset`; None when each can be had by
    /// itself.
    pub fn together(&self, node: u64, offset: u64) -> Result<Option<Range<u64>>> {
        let (number, inode) = self.top(node)?;
        self.layer(number)?.together(inode, offset)
    }

    /// The node that a walk through the tree is likely to come to after this one, with its facts.
    pub fn following(&self, node: u64) -> Result<Option<(u64, Attr)>> {
        if node >> INODE_BITS == 0 {
            return Ok(None);
        }
        let (number, inode) = self.top(node)?;
        let found = self.layer(number)?.following(inode)?;
        Ok(found.map(|(inode, attr)| (single(number, inode), attr)))
    }

    /// Extended attributes as (full name, value); marks of overlay file systems are left out.
    pub fn xattrs(&self, node: u64) -> Result<Vec<(Vec<u8>, Vec<u8>)>> {
        let (number, inode) = self.top(node)?;
        let mut found = self.layer(number)?.xattrs(inode)?;
        found.retain(|(name, _)| !name.starts_with(b"trusted.overlay.") && !name.starts_with(b"user.overlay."));
        Ok(found)
    }

    /// Whether any layer can have extended attributes.
    pub fn has_xattrs(&self) -> bool {
        self.layers.iter().any(|layer| layer.has_xattrs())
    }

    /// Bytes and inodes of all layers.
    pub fn size(&self) -> (u64, u64) {
        self.layers
            .iter()
            .map(|layer| layer.size())
            .fold((0u64, 0u64), |sum, size| (sum.0.saturating_add(size.0), sum.1.saturating_add(size.1)))
    }

    /// The path with its symbolic links resolved inside the tree, as far as it exists; the rest is appended as it is.
    pub fn resolve(&self, path: &[u8]) -> Result<Vec<u8>> {
        let mut todo: VecDeque<Vec<u8>> = names_of(path).map(<[u8]>::to_vec).collect();
        let mut done: Vec<(Vec<u8>, Option<u64>)> = Vec::new();
        let mut links = 0;
        while let Some(name) = todo.pop_front() {
            if name == b".." {
                done.pop();
                continue;
            }
            let dir = done.last().map_or(Some(ROOT), |(_, node)| *node);
            let node = match dir {
                Some(dir) if self.attr(dir)?.mode & KIND == DIR => self.lookup(dir, &name)?,
                _ => None,
            };
            if let Some(link) = node
                && self.attr(link)?.mode & KIND == SYMLINK
                && links < MOST_LINKS
            {
                links += 1;
                let target = self.readlink(link)?;
                if target.starts_with(b"/") {
                    done.clear();
                }
                for name in names_of(&target).rev() {
                    todo.push_front(name.to_vec());
                }
                continue;
            }
            done.push((name, node));
        }
        Ok(done.iter().flat_map(|(name, _)| [b"/", name.as_slice()].concat()).collect())
    }

    fn layer(&self, number: u16) -> Result<&dyn Layer> {
        let layer = self.layers.get(usize::from(number));
        Ok(layer.ok_or_else(|| ImageError::corrupt(format!("no layer {number}")))?.as_ref())
    }

    /// The layer and inode that give a node its attributes.
    fn top(&self, node: u64) -> Result<Part> {
        match node >> INODE_BITS {
            0 => {
                let united = self.united(node)?;
                united.parts.first().copied().ok_or_else(|| ImageError::corrupt("a tree without layers"))
            }
            number => Ok((number as u16 - 1, node & ((1 << INODE_BITS) - 1))),
        }
    }

    fn united(&self, node: u64) -> Result<Arc<United>> {
        let place = usize::try_from(node).ok().and_then(|node| node.checked_sub(1));
        let table = lock(&self.united);
        let found = place.and_then(|place| table.dirs.get(place)).cloned();
        found.ok_or_else(|| ImageError::corrupt(format!("no node {node}")))
    }

    /// What a united directory holds, found out once.
    fn names<'a>(&self, united: &'a United) -> Result<&'a BTreeMap<Vec<u8>, Merged>> {
        if let Some(names) = united.names.get() {
            return Ok(names);
        }
        let mut dirs = Vec::with_capacity(united.parts.len());
        for &part in &united.parts {
            dirs.push((part, self.layer(part.0)?));
        }
        let names = unite(&dirs)?;
        Ok(united.names.get_or_init(|| names))
    }

    /// The number of what lies in these layers. The root is always in the table, with number 1.
    fn number_of(&self, parts: Vec<Part>) -> u64 {
        let mut table = lock(&self.united);
        if let ([(number, inode)], false) = (parts.as_slice(), table.dirs.is_empty()) {
            return single(*number, *inode);
        }
        if let Some(&number) = table.numbers.get(&parts) {
            return number;
        }
        table.dirs.push(Arc::new(United { parts: parts.clone(), names: OnceLock::new() }));
        let number = table.dirs.len() as u64;
        table.numbers.insert(parts, number);
        number
    }
}

fn single(layer: u16, inode: u64) -> u64 {
    (u64::from(layer) + 1) << INODE_BITS | inode
}

fn names_of(path: &[u8]) -> impl DoubleEndedIterator<Item = &[u8]> {
    path.split(|&byte| byte == b'/').filter(|name| !matches!(*name, b"" | b"."))
}

/// A panic elsewhere leaves these tables whole: they are only ever added to.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
