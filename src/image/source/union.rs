//! Layers above each other as one source: upper ones win, directories are merged, whiteouts hide and are gone.

use std::collections::{BTreeMap, HashSet};
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
pub struct Handle(std::sync::Arc<Vec<(usize, Inner)>>);

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
        let (number, inner) = entry.handle.0.first().ok_or_else(|| ImageError::corrupt("an entry of no layer"))?;
        Ok((self.layer(*number)?, inner))
    }
}

fn entry(name: Vec<u8>, parts: Vec<(usize, Inner)>) -> Result<Entry<Handle>> {
    let (number, top) = parts.first().ok_or_else(|| ImageError::corrupt("an entry of no layer"))?;
    let (kind, mut meta) = (top.kind.clone(), top.meta);
    // Layers number their inodes independently; device numbers have 32 bits.
    meta.inode.0 = (meta.inode.0 & 0xFFFF_FFFF) | ((*number as u64 + 1) << 32);
    Ok(Entry { name, kind, meta, handle: Handle(std::sync::Arc::new(parts)) })
}

impl Source for Union {
    type Handle = Handle;

    fn root(&self) -> Result<Entry<Handle>> {
        let mut parts = Vec::new();
        for (number, layer) in self.0.iter().enumerate().rev() {
            parts.push((number, layer.root()?));
            if is_opaque(&layer.xattrs(&layer.root()?)?) {
                break;
            }
        }
        entry(Vec::new(), parts)
    }

    fn list(&self, dir: &Entry<Handle>) -> Result<Vec<Entry<Handle>>> {
        let mut names: BTreeMap<Vec<u8>, Vec<(usize, Inner)>> = BTreeMap::new();
        // Names to which lower layers add nothing.
        let mut closed: HashSet<Vec<u8>> = HashSet::new();
        for (number, inner) in dir.handle.0.iter() {
            let layer = self.layer(*number)?;
            for found in layer.list(inner)? {
                let name = found.name.clone();
                if closed.contains(&name) {
                    continue;
                }
                let whole = found.kind != Kind::Dir || is_opaque(&layer.xattrs(&found)?);
                if whole {
                    closed.insert(name.clone());
                }
                if is_whiteout(&found) {
                    continue;
                }
                let parts = names.entry(name).or_default();
                if parts.is_empty() || found.kind == Kind::Dir {
                    parts.push((*number, found));
                }
            }
        }
        names.into_iter().map(|(name, parts)| entry(name, parts)).collect()
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
        let (layer, inner) = self.top(entry)?;
        let mut xattrs = layer.xattrs(inner)?;
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
