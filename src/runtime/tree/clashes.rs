//! Which files of lower layers nobody can see because a higher layer has something else at the same path.

use std::collections::HashSet;

use super::Tree;
use super::merge::{Part, unite_noting};
use crate::image::error::{ImageError, Result};

/// Directories looked at; no sensible pile of overlays unites more, and damaged images may pretend to.
const MOST_DIRS: usize = 1 << 18;

/// A path that two layers have and only one can show.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Clash {
    /// The path, beginning with `/`.
    pub path: Vec<u8>,
    /// The layer that is seen there, counted from 0 as they were given to [`Tree::new`].
    pub seen: u16,
    /// The layer that is hidden there.
    pub hidden: u16,
}

/// All of them.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Clashes {
    /// The first ones.
    pub first: Vec<Clash>,
    /// How many there are.
    pub total: u64,
}

impl Tree {
    /// Finds the paths at which a layer hides what is not a directory in a lower one, or hides a directory by what is
    /// none; at most `most` of them are named. What whiteouts remove is removed on purpose and no clash. Only
    /// directories that several layers have are read.
    ///
    /// # Errors
    /// When a directory cannot be read, or there are more than a quarter of a million to unite.
    pub fn clashes(&self, most: usize) -> Result<Clashes> {
        let mut found = Clashes::default();
        let mut root: Vec<Part> = (0u16..).zip(&self.layers).map(|(number, layer)| (number, layer.root())).collect();
        root.reverse();
        let mut seen = HashSet::from([root.clone()]);
        let mut waiting = vec![(Vec::new(), root)];
        while let Some((path, parts)) = waiting.pop() {
            let mut dirs = Vec::with_capacity(parts.len());
            for part in parts {
                dirs.push((part, self.layer(part.0)?));
            }
            let names = unite_noting(&dirs, &mut |name, upper, lower| {
                found.total += 1;
                if found.first.len() < most {
                    let path = [path.as_slice(), b"/", name].concat();
                    found.first.push(Clash { path, seen: upper.0, hidden: lower.0 });
                }
            })?;
            // The last one waiting comes next: names in their order.
            for (name, merged) in names.into_iter().rev() {
                if merged.parts.len() > 1 && seen.insert(merged.parts.clone()) {
                    if seen.len() > MOST_DIRS {
                        return Err(ImageError::Unsupported("too many directories to look for clashes".into()));
                    }
                    waiting.push(([path.as_slice(), b"/", name.as_slice()].concat(), merged.parts));
                }
            }
        }
        Ok(found)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::runtime::tree::layer::Layer;
    use crate::runtime::tree::memory::Memory;

    fn tree(layers: &[&dyn Fn(&mut Memory)]) -> Tree {
        let layer = |build: &&dyn Fn(&mut Memory)| {
            let mut memory = Memory::default();
            build(&mut memory);
            Box::new(memory) as Box<dyn Layer>
        };
        Tree::new(layers.iter().map(layer).collect()).unwrap()
    }

    fn told(tree: &Tree, most: usize) -> (Vec<String>, u64) {
        let found = tree.clashes(most).unwrap();
        let line = |clash: &Clash| format!("{} {}>{}", String::from_utf8_lossy(&clash.path), clash.seen, clash.hidden);
        (found.first.iter().map(line).collect(), found.total)
    }

    #[test]
    fn files_hidden_by_a_higher_layer_are_named_with_both_layers() {
        let tree = tree(&[
            &|low| {
                low.file(b"/cnt/a/1/f", b"").file(b"/cnt/a/1/own", b"").file(b"/cnt/x", b"").dir(b"/cnt/y/sub");
            },
            &|middle| {
                middle.file(b"/cnt/a/1/f", b"").file(b"/cnt/b", b"").dir(b"/cnt/x");
            },
            &|high| {
                high.symlink(b"/cnt/a/1/f", b"g").file(b"/cnt/y", b"");
            },
        ]);
        let (first, total) = told(&tree, 10);
        assert_eq!(first, ["/cnt/x 1>0", "/cnt/y 2>0", "/cnt/a/1/f 2>1", "/cnt/a/1/f 2>0"]);
        assert_eq!(total, 4);
        let (first, total) = told(&tree, 1);
        assert_eq!((first.len(), total), (1, 4));
    }

    #[test]
    fn what_is_removed_on_purpose_is_no_clash() {
        let tree = tree(&[
            &|low| {
                low.file(b"/d/gone", b"").file(b"/d/also", b"").file(b"/o/f", b"").file(b"/d/new", b"");
            },
            &|high| {
                high.whiteout(b"/d/gone").file(b"/d/.wh.also", b"").file(b"/o/.wh..wh..opq", b"").file(b"/o/f", b"");
                high.file(b"/d/.wh.new", b"").file(b"/d/new", b"");
            },
            &|top| {
                top.file(b"/d/gone", b"again");
            },
        ]);
        assert_eq!(told(&tree, 10), (Vec::new(), 0));
    }

    #[test]
    fn layers_with_nothing_in_common_do_not_clash() {
        assert_eq!(tree(&[]).clashes(5).unwrap(), Clashes::default());
        let tree = tree(&[
            &|a| {
                a.file(b"/cnt/a/1/f", b"");
            },
            &|b| {
                b.file(b"/cnt/b/1/f", b"");
            },
        ]);
        assert_eq!(told(&tree, 5).1, 0);
    }
}
