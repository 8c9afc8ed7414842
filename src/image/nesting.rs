//! Guards walks against images whose directories contain themselves or have two places: a tree is a tree.

use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};

use super::error::{ImageError, Result};

/// Which directory every directory seen so far lies in.
#[derive(Default)]
pub struct Nesting(Mutex<HashMap<u64, u64>>);

impl Nesting {
    /// Notes the directories found in `parent`; listing the same one again is fine.
    ///
    /// # Errors
    /// [`ImageError::Corrupt`] when one of them lies elsewhere, twice here, or in itself.
    pub fn note(&self, parent: u64, mut children: Vec<u64>) -> Result<()> {
        let fail = |child: u64| Err(ImageError::corrupt(format!("the directory with inode {child} has two places")));
        children.sort_unstable();
        if let Some((child, _)) = children.iter().zip(children.iter().skip(1)).find(|(one, other)| one == other) {
            return fail(*child);
        }
        let mut places = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        for child in children {
            if child == parent || *places.entry(child).or_insert(parent) != parent {
                return fail(child);
            }
        }
        Ok(())
    }

    /// Notes the directory a walk begins in: it lies in no other.
    pub fn top(&self, root: u64) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).insert(root, u64::MAX);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_tree_may_be_listed_twice_but_has_no_loops() {
        let nesting = Nesting::default();
        nesting.top(1);
        for _ in 0..2 {
            nesting.note(1, vec![3, 2]).unwrap();
            nesting.note(2, vec![4]).unwrap();
        }
        for (parent, children) in [(4, vec![1]), (4, vec![2]), (3, vec![4]), (5, vec![5]), (3, vec![6, 6])] {
            assert!(nesting.note(parent, children.clone()).is_err(), "{parent} {children:?}");
        }
    }
}
