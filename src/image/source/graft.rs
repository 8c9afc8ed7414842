//! Puts a source's tree under a path such as `cnt/samtools/1.22` and lays files from memory over it: what is in the
//! overlay wins, directories that both sides have are merged (with the inner tree's facts).

use std::ops::Range;

use super::super::error::{ImageError, Result};
use super::tree::TreeSource;
use super::{Entry, Kind, Source};

/// A file from memory: its path from the image's root, its bytes, its permission bits.
pub type Extra = (Vec<u8>, Vec<u8>, u16);

/// A source under a path, with files of the caller's laid over it.
pub struct Graft<S: Source> {
    inner: S,
    over: TreeSource,
    mount: usize,
}

/// How a [`Graft`] finds an entry again: in the inner source, in the overlay, or (merged directories) in both.
#[derive(Debug, Clone)]
pub struct Handle<H> {
    inner: Option<H>,
    over: Option<usize>,
}

impl<S: Source> Graft<S> {
    /// Puts `inner` under `prefix` (relative, without leading or trailing `/`; empty for the root itself) and lays
    /// `extras` over it. Directories that only the overlay has are root's, 0755, with the time `mtime`, as files are.
    ///
    /// # Errors
    /// When a path is empty, absolute, or has `.` or `..` in it, or an extra file stands in the way of another's path.
    pub fn new(inner: S, prefix: &[u8], mtime: i64, extras: Vec<Extra>) -> Result<Graft<S>> {
        let mut over = TreeSource::new(mtime);
        let mount = over.dir(prefix)?;
        for (path, bytes, mode) in extras {
            over.file(&path, bytes, mode)?;
        }
        // An extra file may not replace the prefix or a part of it.
        if over.dir(prefix)? != mount {
            return Err(ImageError::Unsupported(format!("'{}' is overlaid by a file", prefix.escape_ascii())));
        }
        Ok(Graft { inner, over, mount })
    }

    /// The overlay's entry, joined with the inner tree's where that is mounted or has a directory of the same name.
    fn joined(&self, over: Entry<usize>, inner: Option<Entry<S::Handle>>) -> Result<Entry<Handle<S::Handle>>> {
        let inner = if over.handle == self.mount { Some(self.inner.root()?) } else { inner };
        let inner = inner.filter(|inner| inner.kind == Kind::Dir && over.kind == Kind::Dir);
        let meta = inner.as_ref().map_or(over.meta, |inner| inner.meta);
        let handle = Handle { inner: inner.map(|inner| inner.handle), over: Some(over.handle) };
        Ok(Entry { name: over.name, kind: over.kind, meta, handle })
    }

    fn inner(&self, entry: &Entry<Handle<S::Handle>>) -> Option<Entry<S::Handle>> {
        let name = if entry.handle.over == Some(self.mount) { Vec::new() } else { entry.name.clone() };
        let handle = entry.handle.inner.clone()?;
        Some(Entry { name, kind: entry.kind.clone(), meta: entry.meta, handle })
    }

    fn over(&self, entry: &Entry<Handle<S::Handle>>) -> Result<Entry<usize>> {
        let node = entry.handle.over.ok_or_else(|| ImageError::corrupt("an entry of another tree"))?;
        self.over.entry(node, &entry.name)
    }
}

impl<S: Source> Source for Graft<S> {
    type Handle = Handle<S::Handle>;

    fn root(&self) -> Result<Entry<Self::Handle>> {
        self.joined(self.over.root()?, None)
    }

    fn list(&self, dir: &Entry<Self::Handle>) -> Result<Vec<Entry<Self::Handle>>> {
        let mut inner = match self.inner(dir) {
            Some(inner) => self.inner.list(&inner)?.into_iter().peekable(),
            None => Vec::new().into_iter().peekable(),
        };
        let over = match dir.handle.over {
            Some(_) => self.over.list(&self.over(dir)?)?,
            None => Vec::new(),
        };
        let plain = |entry: Entry<S::Handle>| Entry {
            name: entry.name,
            kind: entry.kind,
            meta: entry.meta,
            handle: Handle { inner: Some(entry.handle), over: None },
        };
        let mut merged = Vec::with_capacity(inner.len() + over.len());
        for over in over {
            while let Some(entry) = inner.next_if(|entry| entry.name < over.name) {
                merged.push(plain(entry));
            }
            let same = inner.next_if(|entry| entry.name == over.name);
            merged.push(self.joined(over, same)?);
        }
        merged.extend(inner.map(plain));
        Ok(merged)
    }

    fn read(&self, file: &Entry<Self::Handle>, offset: u64, buf: &mut [u8]) -> Result<()> {
        match self.inner(file) {
            Some(inner) => self.inner.read(&inner, offset, buf),
            None => self.over.read(&self.over(file)?, offset, buf),
        }
    }

    fn next_data(&self, file: &Entry<Self::Handle>, offset: u64) -> Result<Option<Range<u64>>> {
        match self.inner(file) {
            Some(inner) => self.inner.next_data(&inner, offset),
            None => self.over.next_data(&self.over(file)?, offset),
        }
    }

    fn xattrs(&self, entry: &Entry<Self::Handle>) -> Result<Vec<(Vec<u8>, Vec<u8>)>> {
        match self.inner(entry) {
            Some(inner) => self.inner.xattrs(&inner),
            None => self.over.xattrs(&self.over(entry)?),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn walk<S: Source>(source: &S, dir: &Entry<S::Handle>, path: &str, lines: &mut Vec<String>) {
        for entry in source.list(dir).unwrap() {
            let path = format!("{path}/{}", String::from_utf8_lossy(&entry.name));
            let mut bytes = vec![0; entry.meta.size as usize];
            if entry.kind == Kind::File {
                source.read(&entry, 0, &mut bytes).unwrap();
            }
            let text = String::from_utf8_lossy(&bytes);
            lines.push(format!("{path} {:o} {text}", entry.meta.mode).trim_end().to_owned());
            if entry.kind == Kind::Dir {
                walk(source, &entry, &path, lines);
            }
        }
    }

    fn lines(graft: &Graft<TreeSource>) -> Vec<String> {
        let mut lines = Vec::new();
        walk(graft, &graft.root().unwrap(), "", &mut lines);
        lines
    }

    fn inner() -> TreeSource {
        let mut inner = TreeSource::new(7);
        inner.file(b"bin/tool", b"old".to_vec(), 0o755).unwrap();
        inner.file(b"bin/zed", b"zed".to_vec(), 0o755).unwrap();
        let bin = inner.dir(b"bin").unwrap();
        inner.change(bin, |meta| meta.mode = 0o700);
        inner
    }

    #[test]
    fn extras_win_and_directories_merge() {
        let extras = vec![
            (b"cnt/x/1/bin/tool".to_vec(), b"new".to_vec(), 0o644),
            (b"cnt/x/1/.ovl/meta.json".to_vec(), b"{}".to_vec(), 0o644),
            (b"cnt/x/1/bin/a".to_vec(), b"a".to_vec(), 0o600),
        ];
        let graft = Graft::new(inner(), b"cnt/x/1", 9, extras).unwrap();
        let expected = [
            "/cnt 755",
            "/cnt/x 755",
            "/cnt/x/1 755",
            "/cnt/x/1/.ovl 755",
            "/cnt/x/1/.ovl/meta.json 644 {}",
            "/cnt/x/1/bin 700",
            "/cnt/x/1/bin/a 600 a",
            "/cnt/x/1/bin/tool 644 new",
            "/cnt/x/1/bin/zed 755 zed",
        ];
        assert_eq!(lines(&graft), expected);
    }

    #[test]
    fn an_empty_prefix_keeps_the_tree_at_the_root() {
        let graft = Graft::new(inner(), b"", 9, Vec::new()).unwrap();
        assert_eq!(lines(&graft), ["/bin 700", "/bin/tool 755 old", "/bin/zed 755 zed"]);
    }

    #[test]
    fn paths_that_lead_elsewhere_are_refused() {
        for path in ["/etc/x", "a//b", "../x", "a/./b", ""] {
            let extras = vec![(path.as_bytes().to_vec(), Vec::new(), 0o644)];
            assert!(Graft::new(inner(), b"cnt", 9, extras).is_err(), "{path}");
        }
        let over = vec![(b"cnt".to_vec(), Vec::new(), 0o644)];
        assert!(Graft::new(inner(), b"cnt/x", 9, over).is_err());
    }
}
