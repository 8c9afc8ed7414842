//! How directories of the same name are united: upper layers win, whiteouts of both kinds hide what is below them.
//! Kinds: character device 0:0 and `*.overlay.opaque=y` (kernel overlayfs), `.wh.NAME` and `.wh..wh..opq`
//! (OCI layers, fuse-overlayfs, which also writes `.wh..opq`).

use std::collections::{BTreeMap, HashMap};

use super::layer::{CHARDEV, DIR, Found, Layer};
use crate::image::error::Result;

/// A directory or file in one layer: (layer, inode).
pub type Part = (u16, u64);

/// Names that begin so say something about other names and are never shown.
pub const MARK: &[u8] = b".wh.";
const OPAQUE_MARKS: [&[u8]; 2] = [b".wh..wh..opq", b".wh..opq"];

/// A name of a united directory.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Merged {
    /// Its kind, as the type bits of `st_mode`.
    pub kind: u32,
    /// Where it is, highest layer first; more than one only for directories.
    pub parts: Vec<Part>,
}

/// Unites directories, highest layer first, each given with its layer.
pub fn unite(dirs: &[(Part, &dyn Layer)]) -> Result<BTreeMap<Vec<u8>, Merged>> {
    unite_noting(dirs, &mut |_, _, _| {})
}

/// [`unite`]; `clash` is told of every name that is seen in one layer and for that reason hidden in another, unless both
/// are directories.
pub fn unite_noting(
    dirs: &[(Part, &dyn Layer)],
    clash: &mut dyn FnMut(&[u8], Part, Part),
) -> Result<BTreeMap<Vec<u8>, Merged>> {
    let mut names: BTreeMap<Vec<u8>, Merged> = BTreeMap::new();
    // Names of which no lower layer may add anything, and whether they are removed from all lower ones.
    let mut closed: HashMap<Vec<u8>, bool> = HashMap::new();
    for (index, &((number, dir), layer)) in dirs.iter().enumerate() {
        let last = index + 1 == dirs.len();
        let mut opaque = !last && is_opaque(layer, dir)?;
        let mut closing = Vec::new();
        for (name, found) in layer.list(dir)? {
            if let Some(hidden) = name.strip_prefix(MARK) {
                opaque |= OPAQUE_MARKS.contains(&name.as_slice());
                closing.push((hidden.to_vec(), true));
                continue;
            }
            if is_whiteout(layer, found)? {
                closing.push((name, true));
                continue;
            }
            let part = (number, found.inode);
            if let Some(removed) = closed.get(&name) {
                if let (false, Some(upper)) = (removed, names.get(&name))
                    && let Some(first) = upper.parts.first()
                    && (upper.kind != DIR || found.kind != DIR)
                {
                    clash(&name, *first, part);
                }
                continue;
            }
            match names.get_mut(&name) {
                None => {
                    if found.kind != DIR && !last {
                        closing.push((name.clone(), false));
                    }
                    names.insert(name, Merged { kind: found.kind, parts: vec![part] });
                }
                Some(upper) if upper.kind == DIR && found.kind == DIR => upper.parts.push(part),
                // A directory above, something else here: what is still lower has nothing to do with either.
                Some(upper) => {
                    if let Some(first) = upper.parts.first() {
                        clash(&name, *first, part);
                    }
                    closing.push((name, false));
                }
            }
        }
        if opaque {
            break;
        }
        for (name, removed) in closing {
            *closed.entry(name).or_default() |= removed;
        }
    }
    Ok(names)
}

/// Whether something is a character device 0:0.
pub fn is_whiteout(layer: &dyn Layer, found: Found) -> Result<bool> {
    Ok(found.kind == CHARDEV && layer.attr(found.inode)?.rdev == 0)
}

/// Whether a directory hides all of its lower namesakes.
fn is_opaque(layer: &dyn Layer, dir: u64) -> Result<bool> {
    if !layer.has_xattrs() {
        return Ok(false);
    }
    Ok(layer.xattrs(dir)?.iter().any(|(name, value)| {
        matches!(name.as_slice(), b"trusted.overlay.opaque" | b"user.overlay.opaque") && value == b"y"
    }))
}
