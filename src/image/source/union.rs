//! Layers above each other as one source: upper ones win, directories are merged, whiteouts hide and are gone. What an
//! upper layer says nothing about (it has files in `tmp` and no `tmp`) keeps the facts of the lower one.

use std::collections::BTreeMap;
use std::ops::Range;

use super::super::error::{ImageError, Result};
use super::any::{AnySource, Ticket};
use super::whiteouts::{Whiteouts, is_mark, is_opaque, is_whiteout};
use super::{Entry, Kind, Source};

/// Layers, lowest first.
pub struct Union(Vec<Whiteouts<AnySource>>);

type Inner = Entry<super::whiteouts::Handle<Ticket>>;

/// Where an entry is: of files one place, of merged directories all, highest layer first.
#[derive(Clone)]
pub struct Handle(std::sync::Arc<Parts>);

/// What the layers have under one name.
#[derive(Default)]
struct Parts {
    all: Vec<(usize, Inner)>,
    /// A directory whose facts count, when those of the first part are made up.
    facts: Option<(usize, Inner)>,
    /// Lower layers add nothing.
    closed: bool,
    /// The facts are known, or it is known that no lower layer has any.
    settled: bool,
}

impl Parts {
    /// Adds what the next lower layer has. `opaque`: a directory that hides what is below it.
    fn add(&mut self, number: usize, found: Inner, opaque: bool, made_up: bool) {
        let dir = found.kind == Kind::Dir;
        if !self.settled {
            // Only a directory of which nothing is said lets lower ones speak.
            self.settled = !(dir && made_up);
            if dir && !made_up && !self.all.is_empty() {
                self.facts = Some((number, found.clone()));
            }
        }
        if !self.closed {
            self.closed = !dir || opaque;
            if !is_whiteout(&found) && (self.all.is_empty() || dir) {
                self.all.push((number, found));
            }
        }
    }

    fn facts(&self) -> Result<&(usize, Inner)> {
        let facts = self.facts.as_ref().or(self.all.first());
        facts.ok_or_else(|| ImageError::corrupt("an entry of no layer"))
    }
}

impl Union {
    /// Unites them; whiteouts of both kinds count.
    ///
    /// # Errors
    /// When there are none.
    pub fn new(layers: Vec<AnySource>) -> Result<Union> {
        if layers.is_empty() {
            return Err(ImageError::Unsupported("an image without layers".into()));
        }
        Ok(Union(layers.into_iter().map(Whiteouts::new).collect()))
    }

    fn layer(&self, number: usize) -> Result<&Whiteouts<AnySource>> {
        self.0.get(number).ok_or_else(|| ImageError::corrupt(format!("no layer {number}")))
    }

    fn top<'a>(&self, entry: &'a Entry<Handle>) -> Result<(&Whiteouts<AnySource>, &'a Inner)> {
        let (number, inner) = entry.handle.0.all.first().ok_or_else(|| ImageError::corrupt("an entry of no layer"))?;
        Ok((self.layer(*number)?, inner))
    }
}

fn entry(name: Vec<u8>, parts: Parts) -> Result<Entry<Handle>> {
    let (number, top) = parts.facts()?;
    let (kind, mut meta) = (top.kind.clone(), top.meta);
    // Layers number their inodes independently; device numbers have 32 bits.
    meta.inode.0 = (meta.inode.0 & 0xFFFF_FFFF) | ((*number as u64 + 1) << 32);
    Ok(Entry { name, kind, meta, handle: Handle(std::sync::Arc::new(parts)) })
}

impl Source for Union {
    type Handle = Handle;

    fn root(&self) -> Result<Entry<Handle>> {
        let mut parts = Parts::default();
        for (number, layer) in self.0.iter().enumerate().rev() {
            let root = layer.root()?;
            let (opaque, made_up) = (is_opaque(&layer.xattrs(&root)?), layer.is_made_up(&root)?);
            parts.add(number, root, opaque, made_up);
        }
        entry(Vec::new(), parts)
    }

    fn list(&self, dir: &Entry<Handle>) -> Result<Vec<Entry<Handle>>> {
        let mut names: BTreeMap<Vec<u8>, Parts> = BTreeMap::new();
        for (number, inner) in dir.handle.0.all.iter() {
            let layer = self.layer(*number)?;
            for found in layer.list(inner)? {
                let parts = names.entry(found.name.clone()).or_default();
                if parts.closed && parts.settled {
                    continue;
                }
                let is_dir = found.kind == Kind::Dir;
                let opaque = is_dir && !parts.closed && is_opaque(&layer.xattrs(&found)?);
                let made_up = is_dir && !parts.settled && layer.is_made_up(&found)?;
                parts.add(*number, found, opaque, made_up);
            }
        }
        let there = names.into_iter().filter(|(_, parts)| !parts.all.is_empty());
        there.map(|(name, parts)| entry(name, parts)).collect()
    }

    fn read(&self, file: &Entry<Handle>, offset: u64, buf: &mut [u8]) -> Result<()> {
        let (layer, inner) = self.top(file)?;
        layer.read(inner, offset, buf)
    }

    fn next_data(&self, file: &Entry<Handle>, offset: u64) -> Result<Option<Range<u64>>> {
        let (layer, inner) = self.top(file)?;
        layer.next_data(inner, offset)
    }

    fn xattrs(&self, entry: &Entry<Handle>) -> Result<Vec<(Vec<u8>, Vec<u8>)>> {
        let (number, inner) = entry.handle.0.facts()?;
        let mut xattrs = self.layer(*number)?.xattrs(inner)?;
        xattrs.retain(|(name, _)| !is_mark(name));
        Ok(xattrs)
    }
}

#[cfg(test)]
mod tests {
    use super::super::TreeSource;
    use super::*;

    fn lines(source: &Union, dir: &Entry<Handle>, path: &str, lines: &mut Vec<String>) {
        for entry in source.list(dir).unwrap() {
            let path = format!("{path}/{}", String::from_utf8_lossy(&entry.name));
            let mut bytes = vec![0; entry.meta.size as usize];
            if entry.kind == Kind::File {
                source.read(&entry, 0, &mut bytes).unwrap();
            }
            assert!(!is_whiteout(&entry) && !is_opaque(&source.xattrs(&entry).unwrap()));
            lines.push(format!("{path} {}", String::from_utf8_lossy(&bytes)).trim_end().to_owned());
            if entry.kind == Kind::Dir {
                self::lines(source, &entry, &path, lines);
            }
        }
    }

    fn united(layers: Vec<TreeSource>) -> Vec<String> {
        let union = Union::new(layers.into_iter().map(AnySource::new).collect()).unwrap();
        let mut all = Vec::new();
        lines(&union, &union.root().unwrap(), "", &mut all);
        all
    }

    fn layer(files: &[(&str, &str)]) -> TreeSource {
        let mut tree = TreeSource::new(1);
        for (path, text) in files {
            tree.file(path.as_bytes(), text.as_bytes().to_vec(), 0o644).unwrap();
        }
        tree
    }

    #[test]
    fn layers_apply_in_order() {
        let low = || layer(&[("a/x", "low"), ("a/y", "low"), ("b/z", "low"), ("c", "low"), ("d/e/f", "low")]);
        let middle =
            layer(&[("a/.wh.x", ""), ("b/.wh..wh..opq", ""), ("b/new", "mid"), ("c/now-dir", "mid"), ("d", "")]);
        let top = layer(&[("a/x", "top"), ("d/again", "top")]);
        assert_eq!(
            united(vec![low(), middle, top]),
            ["/a", "/a/x top", "/a/y low", "/b", "/b/new mid", "/c", "/c/now-dir mid", "/d", "/d/again top"]
        );
        assert_eq!(united(vec![low(), layer(&[(".wh..wh..opq", ""), ("only", "1")])]), ["/only 1"]);
        assert_eq!(united(vec![layer(&[(".wh.nothing", ""), ("k", "1")])]), ["/k 1"]);
        assert!(Union::new(Vec::new()).is_err());
    }
}
