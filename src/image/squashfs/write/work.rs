//! A worker: reads what a unit names and compresses it block by block.

use super::super::super::error::Result;
use super::super::super::source::{Entry, Source};
use super::super::codec::Compressor;
use super::super::format::DATA_RAW;
use super::PackOptions;
use super::queue::{Guard, Queue};
use super::unit::{Event, Filled, Unit};

/// Works until there is nothing left, or a failure.
pub(super) fn run<S: Source>(source: &S, options: &PackOptions, queue: &Queue<S::Handle>) {
    let _guard = Guard(queue);
    let mut worker = Worker {
        source,
        queue,
        compressor: Compressor::new(options.compression),
        block: options.block_size as usize,
        input: Vec::new(),
    };
    loop {
        match queue.next().and_then(|next| match next {
            Some((number, unit, buffer)) => Ok(Some((number, worker.fill(unit, buffer)?))),
            None => Ok(None),
        }) {
            Ok(Some((number, filled))) => queue.filled(number, filled),
            Ok(None) => return,
            Err(error) => return queue.fail(error),
        }
    }
}

struct Worker<'a, 'w, S: Source> {
    source: &'a S,
    queue: &'a Queue<'w, S::Handle>,
    compressor: Compressor,
    block: usize,
    input: Vec<u8>,
}

impl<S: Source> Worker<'_, '_, S> {
    fn fill(&mut self, unit: Unit<S::Handle>, out: Vec<u8>) -> Result<Filled<S::Handle>> {
        let cost = unit.cost();
        let Unit { events, bytes } = unit;
        let mut filled = Filled { events: Vec::new(), sizes: Vec::new(), out, used: 0, bytes, cost };
        // What grows here stays: a used buffer is not cleared again.
        if filled.out.len() < bytes {
            filled.out.resize(bytes, 0);
        }
        for event in &events {
            match event {
                Event::Blocks { file, offset, length } => {
                    self.read(file, *offset, 0, *length)?;
                    let mut at = 0;
                    while at < *length {
                        let end = length.min(&(at + self.block)).to_owned();
                        self.store(at, end, true, &mut filled)?;
                        at = end;
                    }
                }
                Event::Fragment { files } => {
                    let mut at = 0;
                    for file in files {
                        let length = file.meta.size as usize;
                        self.read(file, 0, at, length)?;
                        at += length;
                    }
                    self.store(0, at, false, &mut filled)?;
                }
                _ => {}
            }
        }
        filled.events = events;
        Ok(filled)
    }

    /// Reads `length` bytes of a file to place `at` of the input buffer.
    fn read(&mut self, file: &Entry<S::Handle>, offset: u64, at: usize, length: usize) -> Result<()> {
        if self.input.len() < at + length {
            self.input.resize(at + length, 0);
        }
        self.source.read(file, offset, &mut self.input[at..at + length])
    }

    /// Compresses a part of the input buffer to the end of the output.
    fn store(&mut self, from: usize, to: usize, holes: bool, filled: &mut Filled<S::Handle>) -> Result<()> {
        self.queue.check()?;
        let input = &self.input[from..to];
        if holes && is_zero(input) {
            filled.sizes.push(0);
            return Ok(());
        }
        let room = filled.out.get_mut(filled.used..filled.used + input.len()).unwrap_or_default();
        // One byte less than the input: what does not fit is not worth keeping.
        let shorter = room.split_last_mut().map_or(&mut [][..], |(_, front)| front);
        let (length, mark) = match self.compressor.compress_into(input, shorter, self.block)? {
            Some(length) => (length, 0),
            None => {
                room.copy_from_slice(input);
                (input.len(), DATA_RAW)
            }
        };
        filled.used += length;
        filled.sizes.push(length as u32 | mark);
        Ok(())
    }
}

/// Whether all bytes are zero; quick for those that are not.
fn is_zero(bytes: &[u8]) -> bool {
    match bytes {
        [0, rest @ ..] => rest == &bytes[..rest.len()],
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use super::is_zero;

    #[test]
    fn zeros_are_seen_and_nothing_else() {
        assert!(is_zero(&[0; 4096]));
        assert!(is_zero(&[0]));
        for at in [0, 1, 2047, 4095] {
            let mut bytes = [0; 4096];
            bytes[at] = 1;
            assert!(!is_zero(&bytes), "{at}");
        }
    }
}
