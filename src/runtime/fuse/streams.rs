//! Who reads one file after another, in the order in which they are stored.

use std::collections::VecDeque;

/// Readers told apart at a time.
const STREAMS: usize = 8;
/// Files read in a row before more are expected.
const SURE: u32 = 3;
/// How far behind a node the next one may be: in an image, one more block of its inode table.
const NEAR: u64 = 8194 << 16;
/// Bytes that are expected to be read: at first, and at most.
const FIRST: u64 = 256 << 10;
const MOST: u64 = 4 << 20;

/// Files that will probably be read soon.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Expected {
    /// Names the reader in [`Streams::done`] and the like.
    pub stream: u64,
    /// They follow this node.
    pub after: u64,
    /// How much of them.
    pub bytes: u64,
}

/// The readers of late, the last one first.
#[derive(Debug, Default)]
pub struct Streams {
    list: VecDeque<Stream>,
    count: u64,
}

#[derive(Debug)]
struct Stream {
    number: u64,
    last: u64,
    /// All up to here were expected before.
    reach: u64,
    run: u32,
    window: u64,
    /// Whoever comes here wants more; None while more is under way.
    marker: Option<u64>,
}

impl Streams {
    /// A file was read from its beginning; says what to expect next.
    pub fn file(&mut self, node: u64) -> Option<Expected> {
        let follows =
            |stream: &Stream| stream.last <= node && node.saturating_sub(stream.reach.max(stream.last)) <= NEAR;
        let Some(mut stream) = self.list.iter().position(follows).and_then(|place| self.list.remove(place)) else {
            self.count += 1;
            let number = self.count;
            self.list.push_front(Stream { number, last: node, reach: node, run: 1, window: FIRST, marker: Some(0) });
            self.list.truncate(STREAMS);
            return None;
        };
        let again = stream.last == node;
        stream.last = node;
        stream.run += u32::from(!again);
        let more = !again && stream.run >= SURE && stream.marker.is_some_and(|marker| marker <= node);
        let expected = Expected { stream: stream.number, after: stream.reach.max(node), bytes: stream.window };
        if more {
            stream.marker = None;
            stream.window = (stream.window * 2).min(MOST);
        }
        self.list.push_front(stream);
        more.then_some(expected)
    }

    /// What was expected has been prepared up to `reach`; more is wanted when `marker` is read.
    pub fn done(&mut self, stream: u64, reach: u64, marker: u64) {
        if let Some(stream) = self.find(stream) {
            (stream.reach, stream.marker) = (stream.reach.max(reach), Some(marker));
        }
    }

    /// Where a reader is by now; None when it is forgotten.
    pub fn latest(&mut self, stream: u64) -> Option<u64> {
        self.find(stream).map(|stream| stream.last)
    }

    fn find(&mut self, number: u64) -> Option<&mut Stream> {
        self.list.iter_mut().find(|stream| stream.number == number)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn three_files_in_a_row_promise_more_and_the_promise_grows() {
        let mut streams = Streams::default();
        assert_eq!((streams.file(100), streams.file(132)), (None, None));
        let first = streams.file(164).unwrap();
        assert_eq!((first.after, first.bytes), (164, FIRST));
        assert_eq!(streams.file(196), None, "while it is prepared, nothing more");
        streams.done(first.stream, 900, 500);
        assert_eq!(streams.latest(first.stream), Some(196));
        assert_eq!(streams.file(400), None);
        let second = streams.file(500).unwrap();
        assert_eq!((second.after, second.bytes), (900, 2 * FIRST));
        for _ in 0..10 {
            streams.done(first.stream, 2000, 0);
            let last = streams.latest(first.stream).unwrap();
            assert!(streams.file(last + 1).unwrap().bytes <= MOST);
        }
    }

    #[test]
    fn files_from_anywhere_promise_nothing() {
        let mut streams = Streams::default();
        for number in 0..1000u64 {
            let node = number.wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 12;
            assert_eq!(streams.file(node), None);
        }
        assert!(streams.list.len() <= STREAMS);
        for _ in 0..5 {
            assert_eq!(streams.file(7), None, "the same one again and again");
        }
        assert_eq!(streams.file(3), None, "backwards");
    }

    #[test]
    fn two_readers_are_told_apart() {
        let mut streams = Streams::default();
        let far = 1 << 50;
        let found = (0..3).filter_map(|step| [streams.file(step * 40), streams.file(far + step * 40)].into()).flatten();
        assert_eq!(found.flatten().map(|expected: Expected| expected.after).collect::<Vec<_>>(), [80, far + 80]);
    }
}
