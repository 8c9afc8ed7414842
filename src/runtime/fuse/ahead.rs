//! What a reader of one file after another will want next is unpacked before it is asked for, into the cache of unpacked
//! blocks. It is not pushed into the kernel's own cache, which would be faster still: who writes there may wait, beyond
//! the reach of any signal, for a page that a reader holds, and a killed server could leave both waiting for ever.

use std::collections::VecDeque;
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};

use super::streams::{Expected, Streams};
use crate::runtime::tree::Tree;
use crate::runtime::tree::layer::{FILE, KIND};

/// Readers that wait; older ones are no longer worth it.
const WAITING: usize = 32;
/// Larger files are left to the kernel's own read-ahead.
const LARGE: u64 = 256 << 10;
/// Inodes looked at for one task.
const MOST_INODES: usize = 4096;

/// What is expected, shared by the threads that answer and the one that prepares.
#[derive(Default)]
pub struct Ahead {
    state: Mutex<State>,
    wake: Condvar,
}

#[derive(Default)]
struct State {
    streams: Streams,
    tasks: VecDeque<Expected>,
    started: bool,
    closed: bool,
}

impl Ahead {
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Notes that a file was read from its beginning. True asks the caller to start the thread that prepares what
    /// follows; it is said once.
    pub fn note(&self, node: u64) -> bool {
        let mut state = self.state();
        if state.closed {
            return false;
        }
        let Some(expected) = state.streams.file(node) else { return false };
        state.add(expected);
        self.wake.notify_one();
        !std::mem::replace(&mut state.started, true)
    }

    /// Nothing more is to be prepared.
    pub fn close(&self) {
        self.state().closed = true;
        self.wake.notify_all();
    }

    /// The work of the thread that unpacks what comes next, until [`Ahead::close`].
    pub fn prepare(&self, tree: &Tree) {
        while let Some(expected) = self.next() {
            self.files(tree, expected);
        }
    }

    /// Prepares what waits, and no more.
    #[cfg(test)]
    pub fn prepare_all(&self, tree: &Tree) {
        loop {
            let Some(task) = self.state().tasks.pop_front() else { return };
            self.files(tree, task);
        }
    }

    fn next(&self) -> Option<Expected> {
        let mut state = self.state();
        loop {
            if state.closed {
                return None;
            }
            if let Some(task) = state.tasks.pop_front() {
                return Some(task);
            }
            state = self.wake.wait(state).unwrap_or_else(PoisonError::into_inner);
        }
    }

    /// Unpacks what a reader of file after file will want. More is to be prepared once it has come half of the way.
    fn files(&self, tree: &Tree, expected: Expected) {
        let (mut node, mut bytes, mut marker) = (expected.after, 0, None);
        for _ in 0..MOST_INODES {
            if bytes >= expected.bytes {
                break;
            }
            let Ok(Some((next, attr))) = tree.following(node) else {
                // Where the inodes end there is nothing to come back for.
                marker = marker.or(Some(u64::MAX));
                break;
            };
            node = next;
            if attr.mode & KIND != FILE || attr.size == 0 || attr.size > LARGE {
                continue;
            }
            bytes += attr.size;
            if bytes >= expected.bytes / 2 {
                marker = marker.or(Some(node));
            }
            let Some(latest) = self.latest(expected.stream) else { return };
            if node > latest {
                unpack(tree, node, attr.size);
            }
        }
        self.state().streams.done(expected.stream, node, marker.unwrap_or(node));
    }

    fn latest(&self, stream: u64) -> Option<u64> {
        let mut state = self.state();
        if state.closed { None } else { state.streams.latest(stream) }
    }
}

/// Has every piece of a file that is unpacked as a whole unpacked, and so kept: one byte of each is asked for. What
/// cannot be read is for its reader to find out.
fn unpack(tree: &Tree, node: u64, size: u64) {
    let mut offset = 0;
    while offset < size {
        let Ok(Some(unit)) = tree.together(node, offset) else { return };
        if tree.read(node, offset, &mut [0]).is_err() || unit.end <= offset {
            return;
        }
        offset = unit.end;
    }
}

impl State {
    fn add(&mut self, expected: Expected) {
        self.tasks.push_back(expected);
        if self.tasks.len() > WAITING
            && let Some(expected) = self.tasks.pop_front()
        {
            self.streams.done(expected.stream, 0, 0);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::ops::Range;
    use std::sync::Arc;

    use super::*;
    use crate::image::error::Result;
    use crate::runtime::tree::layer::{Attr, DIR, Found, Layer};

    /// Files of ten thousand bytes, one behind another, which are unpacked five thousand at a time; reads are written
    /// down.
    #[derive(Default)]
    struct Row(Arc<Mutex<Vec<(u64, u64)>>>);

    const COUNT: u64 = 100_000;
    const SIZE: u64 = 10_000;

    impl Layer for Row {
        fn root(&self) -> u64 {
            0
        }
        fn attr(&self, inode: u64) -> Result<Attr> {
            let mode = if inode == 0 { DIR } else { FILE };
            Ok(Attr { mode, size: SIZE, mtime: 0, nlink: 1, rdev: 0 })
        }
        fn lookup(&self, _: u64, _: &[u8]) -> Result<Option<Found>> {
            Ok(None)
        }
        fn list(&self, _: u64) -> Result<Vec<(Vec<u8>, Found)>> {
            Ok(Vec::new())
        }
        fn readlink(&self, _: u64) -> Result<Vec<u8>> {
            Ok(Vec::new())
        }
        fn read(&self, file: u64, offset: u64, buf: &mut [u8]) -> Result<usize> {
            self.0.lock().unwrap().push((file, offset));
            Ok(buf.len())
        }
        fn together(&self, _: u64, offset: u64) -> Result<Option<Range<u64>>> {
            Ok(Some(offset / 5000 * 5000..offset / 5000 * 5000 + 5000))
        }
        fn following(&self, inode: u64) -> Result<Option<(u64, Attr)>> {
            (inode + 1 < COUNT).then(|| Ok((inode + 1, self.attr(inode + 1)?))).transpose()
        }
        fn xattrs(&self, _: u64) -> Result<Vec<(Vec<u8>, Vec<u8>)>> {
            Ok(Vec::new())
        }
        fn has_xattrs(&self) -> bool {
            false
        }
        fn size(&self) -> (u64, u64) {
            (0, COUNT)
        }
    }

    fn node(inode: u64) -> u64 {
        1 << 52 | inode
    }

    /// What is unpacked when these files are read, one after the other, with time to prepare between them.
    fn unpacked(reads: &[u64]) -> Vec<(u64, u64)> {
        let row = Row::default();
        let told = row.0.clone();
        let tree = Tree::new(vec![Box::new(row)]).unwrap();
        let ahead = Ahead::default();
        let mut starts = 0;
        for &inode in reads {
            starts += u32::from(ahead.note(node(inode)));
            ahead.prepare_all(&tree);
        }
        assert!(starts <= 1, "the thread is asked for once");
        told.lock().unwrap().clone()
    }

    #[test]
    fn what_comes_next_is_unpacked_once_and_whole() {
        let found = unpacked(&[5, 6, 7]);
        assert!(found.len() > 20 && found.len() < 100, "{}", found.len());
        assert_eq!(found[..4], [(8, 0), (8, 5000), (9, 0), (9, 5000)]);
        let further = unpacked(&(5..40).collect::<Vec<u64>>());
        assert!(further.len() > 2 * found.len(), "the reader goes on, and so does this");
        let mut once = further.clone();
        once.sort_unstable();
        once.dedup();
        assert_eq!(once.len(), further.len());
    }

    #[test]
    fn single_files_and_the_end_of_the_tree_promise_nothing() {
        assert!(unpacked(&[5, 900, 17, 40_000]).is_empty());
        let last = unpacked(&[COUNT - 4, COUNT - 3, COUNT - 2]);
        assert_eq!(last, [(COUNT - 1, 0), (COUNT - 1, 5000)]);
    }

    #[test]
    fn the_thread_ends_when_all_is_over() {
        let tree = Tree::new(vec![Box::new(Row::default())]).unwrap();
        let ahead = Ahead::default();
        std::thread::scope(|scope| {
            scope.spawn(|| ahead.prepare(&tree));
            ahead.note(node(5));
            ahead.close();
            assert!(!ahead.note(node(6)));
        });
    }
}
