//! Files are put into the kernel's cache before they are asked for: the rest of what had to be unpacked anyway, and what
//! a reader of one file after another will want next. One thread reads and unpacks the latter; another one, which owns
//! no descriptor but its own door to the device (see [`crate::sys::fuse`]), hands over.

use std::collections::VecDeque;
use std::fs::File;
use std::io::{IoSlice, Write};
use std::ops::Range;
use std::sync::mpsc::{Receiver, SyncSender};
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};

use super::abi;
use super::streams::{Expected, Streams};
use crate::runtime::tree::Tree;
use crate::runtime::tree::layer::{FILE, KIND};

/// Readers that wait; older ones are no longer worth it.
const WAITING: usize = 32;
/// Pieces completed of late, not to be completed again at once.
const RECENT: usize = 64;
/// Larger files are left to the kernel's own read-ahead.
const LARGE: u64 = 256 << 10;
/// Inodes looked at for one task.
const MOST_INODES: usize = 4096;
/// Bytes handed over at once, about.
const BATCH: usize = 128 << 10;
const ENOENT: i32 = 2;

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
    recent: VecDeque<(u64, u64)>,
    started: bool,
    closed: bool,
    /// To the thread that hands over, once it runs.
    out: Option<SyncSender<Batch>>,
}

/// Pieces of files for the kernel.
#[derive(Default)]
pub struct Batch {
    bytes: Vec<u8>,
    /// Node, place in the file, place in `bytes`.
    pieces: Vec<(u64, u64, Range<usize>)>,
    stream: Option<u64>,
}

impl Ahead {
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Notes that `got` of `asked` bytes of a file were read from `offset` on, and hands over the rest of what was
    /// unpacked for them. True asks the caller to start the threads for what follows; it is said once.
    pub fn note(&self, tree: &Tree, node: u64, offset: u64, asked: u64, got: u64) -> bool {
        let (end, complete) = (offset.saturating_add(got), offset == 0 && got < asked);
        let mut state = self.state();
        if state.closed || got == 0 {
            return false;
        }
        let expected = if offset == 0 { state.streams.file(node) } else { None };
        let follows = state.streams.piece(node, offset, end);
        let mut wanted = expected.is_some();
        if let Some(expected) = expected {
            state.add(expected);
            self.wake.notify_one();
        }
        // A reader of large files comes by itself for the next piece, and the kernel for it.
        if !follows && !complete {
            drop(state);
            wanted |= self.rest(tree, node, offset..end).is_some();
            state = self.state();
        }
        wanted && !std::mem::replace(&mut state.started, true)
    }

    /// Hands the rest of what was unpacked over, without waiting; None where there is none.
    fn rest(&self, tree: &Tree, node: u64, read: Range<u64>) -> Option<()> {
        let unit = tree.together(node, read.end.checked_sub(1)?).ok()??;
        let ranges = [unit.start..read.start, read.end.next_multiple_of(4096)..unit.end];
        let ranges: Vec<Range<u64>> = ranges.into_iter().filter(|range| range.start < range.end).collect();
        let key = (node, unit.start);
        let mut state = self.state();
        if ranges.is_empty() || state.recent.contains(&key) {
            return None;
        }
        let Some(out) = state.out.clone() else { return Some(()) };
        state.recent.push_front(key);
        state.recent.truncate(RECENT);
        drop(state);
        let mut batch = Batch::default();
        for range in ranges {
            batch.read(tree, node, range)?;
        }
        if out.try_send(batch).is_err() {
            self.state().recent.retain(|other| *other != key);
        }
        Some(())
    }

    /// From now on there is somebody who hands over.
    pub fn open(&self, out: SyncSender<Batch>) {
        let mut state = self.state();
        if !state.closed {
            state.out = Some(out);
        }
    }

    /// Nothing more is to be prepared.
    pub fn close(&self) {
        let mut state = self.state();
        (state.closed, state.out) = (true, None);
        self.wake.notify_all();
    }

    /// Waits until nothing waits to be prepared, then closes.
    #[cfg(test)]
    pub fn finish(&self) {
        while !self.state().tasks.is_empty() {
            std::thread::yield_now();
        }
        self.close();
    }

    /// The work of the thread that reads and unpacks what comes next, until [`Ahead::close`].
    pub fn prepare(&self, tree: &Tree, out: &SyncSender<Batch>) {
        while let Some(expected) = self.next() {
            if !self.files(tree, expected, out) {
                return self.close();
            }
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

    /// Prepares what a reader of file after file will want. One file in the middle is left out: when it is asked for,
    /// the reader has come that far, and more is to be prepared. False: nobody takes it any more.
    fn files(&self, tree: &Tree, expected: Expected, out: &SyncSender<Batch>) -> bool {
        let (mut node, mut bytes, mut marker) = (expected.after, 0, None);
        let mut batch = Batch { stream: Some(expected.stream), ..Batch::default() };
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
            let Some(latest) = self.latest(expected.stream) else { return true };
            if node <= latest {
                continue;
            }
            if marker.is_none() && bytes >= expected.bytes / 2 {
                marker = Some(node);
                continue;
            }
            let _ = batch.read(tree, node, 0..attr.size);
            if batch.bytes.len() >= BATCH {
                let full = std::mem::replace(&mut batch, Batch { stream: Some(expected.stream), ..Batch::default() });
                if out.send(full).is_err() {
                    return false;
                }
            }
        }
        self.state().streams.done(expected.stream, node, marker.unwrap_or(node));
        batch.pieces.is_empty() || out.send(batch).is_ok()
    }

    fn latest(&self, stream: u64) -> Option<u64> {
        let mut state = self.state();
        if state.closed { None } else { state.streams.latest(stream) }
    }

    /// The work of the thread that hands over; `device` is its own.
    pub fn hand_over(&self, mut device: &File, batches: &Receiver<Batch>) {
        while let Ok(batch) = batches.recv() {
            for (node, offset, place) in &batch.pieces {
                let bytes = batch.bytes.get(place.clone()).unwrap_or_default();
                let head = abi::store(*node, *offset, bytes.len() as u32);
                match device.write_vectored(&[IoSlice::new(&head), IoSlice::new(bytes)]) {
                    // The kernel does not know the file: nobody has looked it up.
                    Err(error) if error.raw_os_error() == Some(ENOENT) => {
                        if let Some(stream) = batch.stream {
                            self.state().streams.in_vain(stream);
                            break;
                        }
                    }
                    // ENODEV: unmounted. The others say that this piece will be asked for, as ever.
                    _ => {}
                }
            }
        }
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

impl Batch {
    fn read(&mut self, tree: &Tree, node: u64, range: Range<u64>) -> Option<()> {
        let begin = self.bytes.len();
        let length = usize::try_from(range.end.saturating_sub(range.start)).ok()?;
        self.bytes.resize(begin.checked_add(length)?, 0);
        let got = tree.read(node, range.start, self.bytes.get_mut(begin..)?).unwrap_or(0);
        if got < length {
            self.bytes.truncate(begin);
            return None;
        }
        self.pieces.push((node, range.start, begin..begin + length));
        Some(())
    }
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc;

    use super::*;
    use crate::image::error::Result;
    use crate::runtime::tree::layer::{Attr, DIR, Found, Layer};

    /// Files of ten bytes, one behind another, which are unpacked five at a time.
    struct Row;

    const COUNT: u64 = 100_000;

    impl Layer for Row {
        fn root(&self) -> u64 {
            0
        }
        fn attr(&self, inode: u64) -> Result<Attr> {
            let mode = if inode == 0 { DIR } else { FILE };
            Ok(Attr { mode, size: 10, mtime: 0, nlink: 1, rdev: 0 })
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
            let length = buf.len().min(10 - offset.min(10) as usize);
            buf[..length].fill(file as u8);
            Ok(length)
        }
        fn together(&self, _: u64, offset: u64) -> Result<Option<Range<u64>>> {
            Ok(Some(offset / 5 * 5..offset / 5 * 5 + 5))
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

    /// What is handed over for reads of (inode, offset, asked, got).
    fn batches(reads: &[(u64, u64, u64, u64)]) -> Vec<Batch> {
        let tree = Tree::new(vec![Box::new(Row)]).unwrap();
        let ahead = Ahead::default();
        let (send, receive) = mpsc::sync_channel(1000);
        ahead.open(send.clone());
        let starts =
            reads.iter().filter(|&&(inode, offset, asked, got)| ahead.note(&tree, node(inode), offset, asked, got));
        assert!(starts.count() <= 1, "the threads are asked for once");
        std::thread::scope(|scope| {
            scope.spawn(|| ahead.prepare(&tree, &send));
            ahead.finish();
        });
        drop(send);
        receive.iter().collect()
    }

    #[test]
    fn readers_of_file_after_file_find_the_next_ones_there_but_for_a_marker() {
        let found = batches(&[(5, 0, 4096, 10), (6, 0, 4096, 10), (7, 0, 4096, 10)]);
        let pieces: Vec<u64> = found.iter().flat_map(|batch| &batch.pieces).map(|piece| piece.0 - node(0)).collect();
        // Tiny files: the number of inodes is the limit, and the marker would stand at half of the bytes.
        assert_eq!(pieces, (8..8 + MOST_INODES as u64).collect::<Vec<_>>());
        for (node, _, place) in &found[0].pieces {
            assert!(found[0].bytes[place.clone()].iter().all(|byte| *byte == *node as u8));
        }
    }

    #[test]
    fn the_rest_of_what_was_unpacked_is_handed_over_once() {
        let found = batches(&[(9, 3, 1, 1), (9, 4, 1, 1), (9, 2, 2, 2)]);
        let pieces: Vec<_> =
            found.iter().flat_map(|batch| &batch.pieces).map(|piece| (piece.1, piece.2.len())).collect();
        // Nothing behind: that would begin within the reader's own page.
        assert_eq!(pieces, [(0, 3)]);
        assert!(batches(&[(9, 0, 4096, 10)]).is_empty(), "a small file read whole has no rest");
    }
}
