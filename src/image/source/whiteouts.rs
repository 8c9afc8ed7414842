//! Whiteouts of every kind as those that kernel overlayfs knows: a character device 0:0 for a deleted name, an attribute
//! for a directory that hides its lower namesakes. fuse-overlayfs and OCI layers write `.wh.NAME` and `.wh..wh..opq`,
//! which the kernel takes for files.

use std::collections::BTreeSet;
use std::ops::Range;

use super::super::error::{ImageError, Result};
use super::{Entry, Kind, Source};

/// Names that begin so say something about others.
const MARK: &[u8] = b".wh.";
/// What hides everything below a directory; fuse-overlayfs writes the second beside the first.
const OPAQUE_FILES: [&[u8]; 2] = [b".wh..wh..opq", b".wh..opq"];
/// Marks of overlay file systems among the attributes.
const OWN: [&[u8]; 3] = [b"trusted.overlay.", b"user.overlay.", b"user.fuseoverlayfs."];
/// Those for "opaque". Overlayfs reads the first, and where it is mounted without privileges the second.
const OPAQUE: [&[u8]; 2] = [b"trusted.overlay.opaque", b"user.overlay.opaque"];

/// A source with its whiteouts translated.
pub struct Whiteouts<S: Source>(S);

/// How a [`Whiteouts`] finds an entry again.
#[derive(Clone)]
pub struct Handle<H> {
    inner: H,
    /// A whiteout of the same name lies beside this directory.
    opaque: bool,
}

impl<S: Source> Whiteouts<S> {
    /// Translates those of `inner`.
    pub fn new(inner: S) -> Whiteouts<S> {
        Whiteouts(inner)
    }

    fn inner(entry: &Entry<Handle<S::Handle>>) -> Entry<S::Handle> {
        let Entry { name, kind, meta, handle } = entry;
        Entry { name: name.clone(), kind: kind.clone(), meta: *meta, handle: handle.inner.clone() }
    }
}

fn wrap<H>(entry: Entry<H>, opaque: bool) -> Entry<Handle<H>> {
    let Entry { name, kind, meta, handle } = entry;
    Entry { name, kind, meta, handle: Handle { inner: handle, opaque } }
}

/// Whether an entry stands for a deleted name.
pub fn is_whiteout<H>(entry: &Entry<H>) -> bool {
    entry.kind == Kind::CharDev(0, 0)
}

/// Whether these are the attributes of a directory that hides its lower namesakes.
pub fn is_opaque(xattrs: &[(Vec<u8>, Vec<u8>)]) -> bool {
    let marked = |name: &[u8]| OPAQUE.contains(&name) || name == b"user.fuseoverlayfs.opaque";
    xattrs.iter().any(|(name, value)| value == b"y" && marked(name))
}

/// Whether an attribute is a mark of an overlay file system.
pub fn is_mark(name: &[u8]) -> bool {
    OWN.iter().any(|prefix| name.starts_with(prefix))
}

impl<S: Source> Source for Whiteouts<S> {
    type Handle = Handle<S::Handle>;

    fn root(&self) -> Result<Entry<Self::Handle>> {
        Ok(wrap(self.0.root()?, false))
    }

    fn list(&self, dir: &Entry<Self::Handle>) -> Result<Vec<Entry<Self::Handle>>> {
        let entries = self.0.list(&Self::inner(dir))?;
        if !entries.iter().any(|entry| entry.name.starts_with(MARK)) {
            return Ok(entries.into_iter().map(|entry| wrap(entry, false)).collect());
        }
        let hidden: BTreeSet<Vec<u8>> = entries
            .iter()
            .filter_map(|entry| entry.name.strip_prefix(MARK))
            // Further marks (.wh..wh.plnk and the like) belong to file systems that made them.
            .filter(|name| !name.is_empty() && !name.starts_with(MARK) && *name != b".opq")
            .map(<[u8]>::to_vec)
            .collect();
        let mut found = Vec::with_capacity(entries.len());
        let mut there = BTreeSet::new();
        let mut marks = Vec::new();
        for entry in entries {
            if entry.name.starts_with(MARK) {
                marks.push(entry);
                continue;
            }
            let both = hidden.contains(&entry.name);
            if both {
                there.insert(entry.name.clone());
            }
            let opaque = both && entry.kind == Kind::Dir;
            found.push(wrap(entry, opaque));
        }
        for mut mark in marks {
            let Some(name) = mark.name.strip_prefix(MARK).map(<[u8]>::to_vec) else { continue };
            if hidden.contains(&name) && !there.contains(&name) {
                mark.name = name;
                mark.kind = Kind::CharDev(0, 0);
                (mark.meta.mode, mark.meta.size, mark.meta.links) = (0, 0, 1);
                found.push(wrap(mark, false));
            }
        }
        found.sort_by(|one, other| one.name.cmp(&other.name));
        Ok(found)
    }

    fn read(&self, file: &Entry<Self::Handle>, offset: u64, buf: &mut [u8]) -> Result<()> {
        self.0.read(&Self::inner(file), offset, buf)
    }

    fn next_data(&self, file: &Entry<Self::Handle>, offset: u64) -> Result<Option<Range<u64>>> {
        self.0.next_data(&Self::inner(file), offset)
    }

    fn is_made_up(&self, entry: &Entry<Self::Handle>) -> Result<bool> {
        self.0.is_made_up(&Self::inner(entry))
    }

    fn xattrs(&self, entry: &Entry<Self::Handle>) -> Result<Vec<(Vec<u8>, Vec<u8>)>> {
        if is_whiteout(entry) {
            return Ok(Vec::new());
        }
        let inner = Self::inner(entry);
        let mut xattrs = self.0.xattrs(&inner)?;
        let mut opaque = entry.handle.opaque || is_opaque(&xattrs);
        for (name, value) in &xattrs {
            let rest = OWN.iter().take(2).find_map(|prefix| name.strip_prefix(*prefix));
            if matches!(rest, Some(b"redirect" | b"metacopy")) {
                return Err(ImageError::Unsupported(format!(
                    "'{}' is only a reference into the layer below ({}={}); pack the merged view of both instead",
                    entry.name.escape_ascii(),
                    name.escape_ascii(),
                    value.escape_ascii()
                )));
            }
        }
        xattrs.retain(|(name, _)| !is_mark(name));
        if entry.kind == Kind::Dir {
            opaque = opaque || self.0.list(&inner)?.iter().any(|entry| OPAQUE_FILES.contains(&entry.name.as_slice()));
            if opaque {
                xattrs.extend(OPAQUE.map(|name| (name.to_vec(), b"y".to_vec())));
                xattrs.sort();
            }
        }
        Ok(xattrs)
    }
}

#[cfg(test)]
mod tests {
    use super::super::TreeSource;
    use super::*;

    #[test]
    fn both_kinds_become_the_kernels() {
        let mut tree = TreeSource::new(7);
        tree.file(b"d/.wh.gone", Vec::new(), 0o644).unwrap();
        tree.file(b"d/.wh.both", Vec::new(), 0o644).unwrap();
        tree.file(b"d/both/x", b"x".to_vec(), 0o644).unwrap();
        tree.file(b"d/.wh.file", Vec::new(), 0o644).unwrap();
        tree.file(b"d/file", b"new".to_vec(), 0o644).unwrap();
        tree.file(b"d/.wh..wh.plnk", Vec::new(), 0o644).unwrap();
        tree.add(b"d/dev", Kind::CharDev(0, 0), 0, Vec::new()).unwrap();
        tree.file(b"opq/.wh..wh..opq", Vec::new(), 0o644).unwrap();
        tree.add(b"opq/.wh..opq", Kind::CharDev(0, 0), 0, Vec::new()).unwrap();
        let marked = tree.dir(b"marked").unwrap();
        tree.xattr(marked, b"user.fuseoverlayfs.opaque", b"y");
        tree.xattr(marked, b"user.fuseoverlayfs.origin", b"12");
        tree.xattr(marked, b"user.mine", b"1");
        let source = Whiteouts::new(tree);
        let root = source.root().unwrap();
        let top = source.list(&root).unwrap();
        let find = |name: &[u8]| top.iter().find(|entry| entry.name == name).unwrap();
        let d: Vec<(String, bool)> = source
            .list(find(b"d"))
            .unwrap()
            .iter()
            .map(|entry| (String::from_utf8(entry.name.clone()).unwrap(), is_whiteout(entry)))
            .collect();
        let expected = [("both", false), ("dev", true), ("file", false), ("gone", true)];
        assert_eq!(d, expected.map(|(name, whiteout)| (name.to_owned(), whiteout)));
        let both = source.list(find(b"d")).unwrap().remove(0);
        assert!(is_opaque(&source.xattrs(&both).unwrap()), "removed and made anew");
        assert!(source.list(find(b"opq")).unwrap().is_empty());
        let names = |name: &[u8]| {
            source.xattrs(find(name)).unwrap().into_iter().map(|(name, _)| String::from_utf8(name).unwrap())
        };
        assert!(names(b"opq").eq(["trusted.overlay.opaque", "user.overlay.opaque"]));
        assert!(names(b"marked").eq(["trusted.overlay.opaque", "user.mine", "user.overlay.opaque"]));
        assert_eq!(names(b"d").count(), 0);
    }

    #[test]
    fn references_into_lower_layers_are_no_content() {
        let mut tree = TreeSource::new(7);
        let dir = tree.dir(b"moved").unwrap();
        tree.xattr(dir, b"trusted.overlay.redirect", b"/old");
        let source = Whiteouts::new(tree);
        let entry = source.list(&source.root().unwrap()).unwrap().remove(0);
        assert!(source.xattrs(&entry).unwrap_err().to_string().contains("merged view"));
    }
}
