//! The merged tree of an environment as a source for the packer: directories and names in memory, contents still in the
//! packages' stores. Whose file is whose when several packages bring it is decided here, as rattler decides it: of
//! packages in topological order the later wins, the others' files go below `__clobbers__/PACKAGE/`.

use std::collections::BTreeMap;

use super::archive::At;
use super::package::Package;
use super::splice::Splice;
use crate::image::ImageError;
use crate::image::error::Result;
use crate::image::source::tar::TarSource;
use crate::image::source::{Entry, Kind, Meta, Source};

/// Where files go that another package has won over.
pub const CLOBBERS: &[u8] = b"__clobbers__";

/// A file that wants a place.
pub struct Wish {
    /// Where, below the prefix.
    pub path: Vec<u8>,
    /// Rank of its package: higher wins.
    pub rank: u32,
    /// Its number, told back in [`Lost`].
    pub number: usize,
    /// What it is.
    pub thing: Thing,
    /// Made by the installer (a command of an entry point): gone when it loses, not kept aside.
    pub made: bool,
}

/// A wish that was not granted.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Lost {
    /// Rank of its package.
    pub rank: u32,
    /// Its number.
    pub number: usize,
    /// Where it was to be.
    pub path: Vec<u8>,
    /// Made by the installer.
    pub made: bool,
}

/// What lies at a path.
pub struct Thing {
    /// What it is.
    pub kind: Kind,
    /// Its facts.
    pub meta: Meta,
    /// Its content, if it is a regular file.
    pub data: Data,
}

/// Where content is.
pub enum Data {
    /// Nowhere: a link of this package, say.
    None(u32),
    /// In a package.
    Package(u32, At),
    /// In a package, with its prefix replaced.
    Spliced(u32, At, Box<Splice>),
    /// Here.
    Bytes(Box<[u8]>),
    /// In the archive of compiled files.
    Compiled(u32),
}

#[derive(Default)]
struct Node {
    thing: Option<Thing>,
    children: BTreeMap<Box<[u8]>, u32>,
    /// Those who want this very place.
    wishes: Vec<Wish>,
    /// Highest rank of those with something here or below, plus one.
    reach: u32,
}

/// The tree.
pub struct Tree {
    nodes: Vec<Node>,
    /// The packages that contents lie in.
    pub packages: Vec<Package>,
    /// Files compiled after the rest was known.
    pub compiled: Option<TarSource>,
    /// The time of directories and of what is made here.
    pub time: i64,
}

impl Tree {
    /// An empty one.
    pub fn new(packages: Vec<Package>, time: i64) -> Tree {
        Tree { nodes: vec![Node::default()], packages, compiled: None, time }
    }

    fn node(&self, number: u32) -> Result<&Node> {
        self.nodes.get(number as usize).ok_or_else(|| ImageError::corrupt("an entry of another environment"))
    }

    /// The node of a path, made with its parents where it is not there; `reach` is noted on the way.
    fn reach(&mut self, path: &[u8], reach: u32) -> u32 {
        let mut at = 0u32;
        for name in path.split(|byte| *byte == b'/') {
            let next = self.nodes.len() as u32;
            let Some(node) = self.nodes.get_mut(at as usize) else { return at };
            node.reach = node.reach.max(reach);
            at = match node.children.get(name) {
                Some(child) => *child,
                None => {
                    node.children.insert(name.into(), next);
                    self.nodes.push(Node::default());
                    next
                }
            };
        }
        if let Some(node) = self.nodes.get_mut(at as usize) {
            node.reach = node.reach.max(reach);
        }
        at
    }

    /// Notes what somebody wants; paths are those [`super::package::inside`] has checked.
    pub fn wish(&mut self, wish: Wish) {
        let at = self.reach(&wish.path, wish.rank + 1);
        if let Some(node) = self.nodes.get_mut(at as usize) {
            node.wishes.push(wish);
        }
    }

    /// Grants every place to whom it belongs, and puts what has lost aside. Tells what has.
    pub fn settle(&mut self) -> Vec<Lost> {
        let mut lost: Vec<Wish> = Vec::new();
        let mut open = vec![0u32];
        while let Some(at) = open.pop() {
            let Some(node) = self.nodes.get_mut(at as usize) else { continue };
            let mut wishes = std::mem::take(&mut node.wishes);
            // A directory that a package asks for stands in nobody's way but that of files.
            let best = wishes.iter().map(|wish| wish.rank).max();
            let wins = best.is_some_and(|best| best + 1 >= node.reach);
            wishes.sort_by_key(|wish| (wish.rank, wish.made));
            match wishes.pop() {
                Some(wish) if wins && (wish.thing.kind != Kind::Dir || node.children.is_empty()) => {
                    node.thing = Some(wish.thing).filter(|thing| thing.kind != Kind::Dir);
                    let below: Vec<u32> = std::mem::take(&mut node.children).into_values().collect();
                    lost.extend(wishes);
                    self.all_below(below, &mut lost);
                    continue;
                }
                last => lost.extend(wishes.into_iter().chain(last)),
            }
            let Some(node) = self.nodes.get(at as usize) else { continue };
            open.extend(node.children.values());
        }
        lost.retain(|wish| wish.thing.kind != Kind::Dir);
        let mut told = Vec::with_capacity(lost.len());
        for wish in lost {
            told.push(Lost { rank: wish.rank, number: wish.number, path: wish.path.clone(), made: wish.made });
            if wish.made {
                continue;
            }
            let Some(aside) = self.aside(wish.rank, &wish.path) else { continue };
            let at = self.reach(&aside, 0);
            if let Some(node) = self.nodes.get_mut(at as usize) {
                node.thing = Some(wish.thing);
            }
        }
        self.count_links();
        told
    }

    /// Where a file of a package goes that has lost its place.
    pub fn aside(&self, rank: u32, path: &[u8]) -> Option<Vec<u8>> {
        let name = self.packages.get(rank as usize)?.name().as_bytes();
        Some([CLOBBERS, name, path].join(&b'/'))
    }

    fn all_below(&mut self, mut open: Vec<u32>, lost: &mut Vec<Wish>) {
        while let Some(at) = open.pop() {
            if let Some(node) = self.nodes.get_mut(at as usize) {
                lost.append(&mut node.wishes);
                open.extend(std::mem::take(&mut node.children).into_values());
            }
        }
    }

    /// Names that share an inode in a package share one here, as far as they are here.
    fn count_links(&mut self) {
        let mut names: BTreeMap<(u64, u64), u32> = BTreeMap::new();
        for (number, node) in self.nodes.iter_mut().enumerate() {
            let Some(thing) = &mut node.thing else { continue };
            match thing.data {
                Data::Package(package, _) if thing.meta.links > 1 => {
                    thing.meta.inode = (u64::from(package) + 1, thing.meta.inode.1);
                    *names.entry(thing.meta.inode).or_default() += 1;
                }
                _ => {
                    thing.meta.inode = (0, number as u64);
                    thing.meta.links = 1;
                }
            }
        }
        for node in &mut self.nodes {
            if let Some(thing) = node.thing.as_mut().filter(|thing| thing.meta.links > 1) {
                thing.meta.links = names.get(&thing.meta.inode).copied().unwrap_or(1);
            }
        }
    }

    /// Puts something at a path after everything is settled, over what is there; false when a file is in the way.
    pub fn put(&mut self, path: &[u8], thing: Thing) -> bool {
        let mut at = 0u32;
        for name in path.split(|byte| *byte == b'/') {
            let Some(node) = self.nodes.get(at as usize) else { return false };
            if node.thing.is_some() {
                return false;
            }
            match node.children.get(name) {
                Some(child) => at = *child,
                None => break,
            }
        }
        let at = self.reach(path, 0);
        let Some(node) = self.nodes.get_mut(at as usize).filter(|node| node.children.is_empty()) else { return false };
        let meta = Meta { links: 1, inode: (0, u64::from(at)), ..thing.meta };
        node.thing = Some(Thing { meta, ..thing });
        true
    }

    /// A file with these bytes.
    pub fn file(&self, bytes: Vec<u8>, mode: u16) -> Thing {
        let size = bytes.len() as u64;
        let meta = Meta { mode, uid: 0, gid: 0, mtime: self.time, size, links: 1, inode: (0, 0) };
        Thing { kind: Kind::File, meta, data: Data::Bytes(bytes.into()) }
    }

    /// What lies at a path; None for directories and where nothing is.
    pub fn at(&self, path: &[u8]) -> Option<&Thing> {
        let mut at = 0u32;
        for name in path.split(|byte| *byte == b'/') {
            at = *self.nodes.get(at as usize)?.children.get(name)?;
        }
        self.nodes.get(at as usize)?.thing.as_ref()
    }

    /// All bytes of a regular file, if it is one of at most `most` bytes.
    pub fn bytes(&self, path: &[u8], most: u64) -> Option<Vec<u8>> {
        let thing = self.at(path).filter(|thing| thing.kind == Kind::File && thing.meta.size <= most)?;
        let mut bytes = vec![0; usize::try_from(thing.meta.size).ok()?];
        self.content(thing, 0, &mut bytes).ok()?;
        Some(bytes)
    }

    /// The names in a directory.
    pub fn names(&self, dir: &[u8]) -> Vec<Vec<u8>> {
        let found = dir
            .split(|byte| *byte == b'/')
            .try_fold(0u32, |at, name| self.nodes.get(at as usize)?.children.get(name).copied());
        let node = found.and_then(|at| self.nodes.get(at as usize));
        node.map(|node| node.children.keys().map(|name| name.to_vec()).collect()).unwrap_or_default()
    }

    /// The package that a file is from; None of what was made here.
    pub fn owner(&self, node: u32) -> Option<u32> {
        match self.nodes.get(node as usize)?.thing.as_ref()?.data {
            Data::None(rank) | Data::Package(rank, _) | Data::Spliced(rank, ..) => Some(rank),
            Data::Bytes(_) | Data::Compiled(_) => None,
        }
    }

    fn content(&self, thing: &Thing, offset: u64, buf: &mut [u8]) -> Result<()> {
        let package = |number: &u32| {
            let found = self.packages.get(*number as usize);
            found.map(|package| &package.payload).ok_or_else(|| ImageError::corrupt("a file of no package"))
        };
        match &thing.data {
            Data::None(_) => Ok(()),
            Data::Package(number, at) => package(number)?.read_at(*at, offset, buf),
            Data::Spliced(number, at, splice) => {
                let payload = package(number)?;
                splice.read(offset, buf, |from, out| payload.read_at(*at, from, out))
            }
            Data::Bytes(bytes) => {
                let from = usize::try_from(offset).ok();
                let part = from.and_then(|from| bytes.get(from..from.checked_add(buf.len())?));
                buf.copy_from_slice(part.ok_or_else(|| ImageError::corrupt("a read past the end of a file"))?);
                Ok(())
            }
            Data::Compiled(handle) => {
                let source = self.compiled.as_ref().ok_or_else(|| ImageError::corrupt("no compiled files"))?;
                source.read(&source.get(*handle)?, offset, buf)
            }
        }
    }

    fn entry(&self, name: &[u8], number: u32) -> Result<Entry<u32>> {
        let (kind, meta) = match &self.node(number)?.thing {
            Some(thing) => (thing.kind.clone(), thing.meta),
            None => {
                let inode = (0, u64::from(number));
                let meta = Meta { mode: 0o755, uid: 0, gid: 0, mtime: self.time, size: 0, links: 1, inode };
                (Kind::Dir, meta)
            }
        };
        Ok(Entry { name: name.to_vec(), kind, meta, handle: number })
    }
}

impl Source for Tree {
    type Handle = u32;

    fn root(&self) -> Result<Entry<u32>> {
        self.entry(b"", 0)
    }

    fn list(&self, dir: &Entry<u32>) -> Result<Vec<Entry<u32>>> {
        self.node(dir.handle)?.children.iter().map(|(name, number)| self.entry(name, *number)).collect()
    }

    fn read(&self, file: &Entry<u32>, offset: u64, buf: &mut [u8]) -> Result<()> {
        match &self.node(file.handle)?.thing {
            Some(thing) => self.content(thing, offset, buf),
            None => Err(ImageError::corrupt("a read of a directory")),
        }
    }

    fn xattrs(&self, _entry: &Entry<u32>) -> Result<Vec<(Vec<u8>, Vec<u8>)>> {
        // Installers leave them behind.
        Ok(Vec::new())
    }
}
