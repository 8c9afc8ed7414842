//! Where an archive's bytes come from, and where content can be read again later: the archive itself when it is a plain
//! file, else a file without a name on scratch that content is copied to.

use std::fs::File;
use std::io::{self, Read};
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::sync::Arc;

use flate2::read::MultiGzDecoder;
use liblzma::read::XzDecoder;
use zstd_safe::{DCtx, InBuffer, OutBuffer};

use super::super::super::bytes::Region;
use super::super::super::error::{ImageError, Result};
use super::super::super::squashfs::write::Watch;
use super::header::BLOCK;
use crate::sys::fs;

/// Bytes read at once.
const PIECE: usize = 256 << 10;

/// An archive being read from its beginning to its end.
pub struct Input<'a> {
    from: From<'a>,
    buffer: Vec<u8>,
    /// What of the buffer is still to be used.
    at: usize,
    filled: usize,
    /// Bytes of the archive before `at`.
    done: u64,
    watch: &'a dyn Watch,
}

enum From<'a> {
    /// The archive stays where it is.
    Place(Region, u64),
    /// It comes once; content goes to the file.
    Stream { input: Box<dyn Read + 'a>, spool: Arc<File>, length: u64, shown: String },
}

impl<'a> Input<'a> {
    /// A plain archive that can be read at any place. `start` is where it begins in its file, for [`Input::take`].
    pub fn in_place(region: Region, start: u64, watch: &'a dyn Watch) -> Input<'a> {
        Input::new(From::Place(region, start), watch)
    }

    /// One that comes once; `scratch` takes what has to be read again.
    pub fn streamed(input: Box<dyn Read + 'a>, scratch: &Path, watch: &'a dyn Watch) -> Result<(Input<'a>, Arc<File>)> {
        let shown = format!("a temporary file in {}", scratch.display());
        let spool = fs::unnamed_file(scratch).map_err(|error| ImageError::Io {
            op: "make",
            what: shown.clone(),
            source: error.source,
        })?;
        let spool = Arc::new(spool);
        Ok((Input::new(From::Stream { input, spool: spool.clone(), length: 0, shown }, watch), spool))
    }

    /// One that comes once; what has to be read again is written to `spool` from `at` on.
    pub fn appending(input: Box<dyn Read + 'a>, spool: Arc<File>, at: u64, watch: &'a dyn Watch) -> Input<'a> {
        let shown = "a temporary file".to_owned();
        Input::new(From::Stream { input, spool, length: at, shown }, watch)
    }

    /// Where the next content would be written.
    pub fn stored(&self) -> u64 {
        match &self.from {
            From::Place(..) => 0,
            From::Stream { length, .. } => *length,
        }
    }

    fn new(from: From<'a>, watch: &'a dyn Watch) -> Input<'a> {
        let size = match &from {
            From::Place(region, _) => usize::try_from(region.length()).unwrap_or(PIECE).clamp(BLOCK, PIECE),
            From::Stream { .. } => PIECE,
        };
        Input { from, buffer: vec![0; size], at: 0, filled: 0, done: 0, watch }
    }

    /// More into an empty buffer; false at the end.
    fn fill(&mut self) -> Result<bool> {
        if self.watch.cancelled() {
            return Err(ImageError::Interrupted);
        }
        let total = match &self.from {
            From::Place(region, _) => Some(region.length()),
            From::Stream { .. } => None,
        };
        self.watch.progress(self.done, total);
        self.at = 0;
        self.filled = match &mut self.from {
            From::Place(region, _) => region.read_some(self.done, &mut self.buffer, "the archive")?,
            From::Stream { input, .. } => loop {
                match input.read(&mut self.buffer) {
                    Ok(count) => break count,
                    // A signal; the look at the watch above says what it means.
                    Err(error) if error.kind() == io::ErrorKind::Interrupted => {
                        if self.watch.cancelled() {
                            return Err(ImageError::Interrupted);
                        }
                    }
                    Err(error) => return Err(ImageError::io("read", "the archive")(error)),
                }
            },
        };
        Ok(self.filled > 0)
    }

    fn rest(&self) -> &[u8] {
        self.buffer.get(self.at..self.filled).unwrap_or_default()
    }

    fn advance(&mut self, count: usize) {
        self.at += count;
        self.done += count as u64;
    }

    /// Fills `out`; false when the archive has ended before the first byte.
    fn read(&mut self, mut out: &mut [u8]) -> Result<bool> {
        let wanted = out.len();
        while !out.is_empty() {
            if self.rest().is_empty() && !self.fill()? {
                return if out.len() == wanted { Ok(false) } else { Err(truncated()) };
            }
            let count = self.rest().len().min(out.len());
            let (now, later) = out.split_at_mut(count);
            now.copy_from_slice(self.rest().get(..count).unwrap_or_default());
            self.advance(count);
            out = later;
        }
        Ok(true)
    }

    /// The next block; None at the end.
    pub fn block(&mut self) -> Result<Option<[u8; BLOCK]>> {
        let mut block = [0; BLOCK];
        Ok(self.read(&mut block)?.then_some(block))
    }

    /// The next `length` bytes, and the padding behind them passed over.
    pub fn bytes(&mut self, length: u64, most: u64, what: &str) -> Result<Vec<u8>> {
        let size = usize::try_from(length).ok().filter(|_| length <= most);
        let size = size.ok_or_else(|| ImageError::Unsupported(format!("{what} of {length} bytes")))?;
        let mut bytes = vec![0; size];
        if !self.read(&mut bytes)? && size > 0 {
            return Err(truncated());
        }
        self.skip(padding(length))?;
        Ok(bytes)
    }

    /// Passes over bytes.
    pub fn skip(&mut self, mut length: u64) -> Result<()> {
        while length > 0 {
            if self.rest().is_empty() {
                if let From::Place(region, _) = &self.from {
                    // Nothing in between has to be read.
                    self.done = self.done.checked_add(length).ok_or_else(truncated)?;
                    return if self.done <= region.length() { Ok(()) } else { Err(truncated()) };
                }
                if !self.fill()? {
                    return Err(truncated());
                }
            }
            let count = (self.rest().len() as u64).min(length);
            self.advance(count as usize);
            length -= count;
        }
        Ok(())
    }

    /// Keeps the next `length` bytes and passes over the padding behind them; returns where they can be read again.
    pub fn take(&mut self, length: u64) -> Result<u64> {
        if let From::Place(_, start) = &self.from {
            let place = start + self.done;
            self.skip(length)?;
            self.skip_padding(length)?;
            return Ok(place);
        }
        let mut left = length;
        let place = match &self.from {
            From::Stream { length, .. } => *length,
            From::Place(..) => 0,
        };
        while left > 0 {
            if self.rest().is_empty() && !self.fill()? {
                return Err(truncated());
            }
            let count = (self.rest().len() as u64).min(left) as usize;
            let (at, filled) = (self.at, self.at + count);
            if let From::Stream { spool, length, shown, .. } = &mut self.from {
                let piece = self.buffer.get(at..filled).unwrap_or_default();
                spool.write_all_at(piece, *length).map_err(ImageError::io("write", shown.clone()))?;
                *length += count as u64;
            }
            self.advance(count);
            left -= count as u64;
        }
        self.skip_padding(length)?;
        Ok(place)
    }

    /// Passes over the padding behind a content. Some writers leave it out where the archive ends.
    fn skip_padding(&mut self, length: u64) -> Result<()> {
        let mut padding = padding(length);
        if let From::Place(region, _) = &self.from {
            padding = padding.min(region.length().saturating_sub(self.done));
            return self.skip(padding);
        }
        while padding > 0 && (!self.rest().is_empty() || self.fill()?) {
            self.advance(1);
            padding -= 1;
        }
        Ok(())
    }

    /// Reads what comes after the archive's end, so that whoever writes it can finish.
    pub fn drain(&mut self) -> Result<()> {
        if let From::Stream { .. } = &self.from {
            while self.fill()? {
                self.done += self.filled as u64;
            }
        }
        Ok(())
    }
}

fn padding(length: u64) -> u64 {
    (BLOCK as u64 - length % BLOCK as u64) % BLOCK as u64
}

fn truncated() -> ImageError {
    ImageError::corrupt("the archive ends in the middle of a member")
}

/// How an archive is compressed, by its first bytes: None for not at all.
///
/// # Errors
/// For formats that are not read here, with the way to go.
pub fn compression(head: &[u8]) -> Result<Option<&'static str>> {
    let other = |name: &str, program: &str| {
        let text = format!("{name} is not read here; unpack it on the way: {program} -dc FILE | ovl pack - -o OUT.sqf");
        Err(ImageError::Unsupported(text))
    };
    match head {
        [0x1f, 0x8b, ..] => Ok(Some("gzip")),
        [0xfd, b'7', b'z', b'X', b'Z', 0, ..] => Ok(Some("xz")),
        // A frame, or one of those to be skipped that parallel compressors begin with.
        [0x28, 0xb5, 0x2f, 0xfd, ..] | [0x50..=0x5f, 0x2a, 0x4d, 0x18, ..] => Ok(Some("zstd")),
        [b'B', b'Z', b'h', b'1'..=b'9', ..] => other("bzip2", "bzip2"),
        [0x04, 0x22, 0x4d, 0x18, ..] => other("lz4", "lz4"),
        [b'P', b'K', 3, 4, ..] => {
            Err(ImageError::Unsupported("a zip archive; unpack it and pack the directory".into()))
        }
        _ => Ok(None),
    }
}

/// The bytes behind a compressor that [`compression`] has told.
pub fn decompress<'a>(input: impl Read + 'a, how: Option<&str>) -> Box<dyn Read + 'a> {
    match how {
        Some("gzip") => Box::new(MultiGzDecoder::new(io::BufReader::with_capacity(PIECE, input))),
        Some("xz") => Box::new(XzDecoder::new_multi_decoder(input)),
        Some("zstd") => {
            Box::new(Zstd { input, context: DCtx::create(), buffer: vec![0; PIECE], at: 0, filled: 0, within: false })
        }
        _ => Box::new(input),
    }
}

/// Any number of Zstandard frames.
struct Zstd<R> {
    input: R,
    context: DCtx<'static>,
    buffer: Vec<u8>,
    at: usize,
    filled: usize,
    /// A frame has begun and not ended.
    within: bool,
}

impl<R: Read> Read for Zstd<R> {
    fn read(&mut self, out: &mut [u8]) -> io::Result<usize> {
        loop {
            let mut ended = false;
            if self.at == self.filled {
                (self.at, self.filled) = (0, self.input.read(&mut self.buffer)?);
                ended = self.filled == 0;
            }
            if ended && !self.within {
                return Ok(0);
            }
            let mut from = InBuffer::around(self.buffer.get(self.at..self.filled).unwrap_or_default());
            let mut into = OutBuffer::around(&mut *out);
            let failed = |code| io::Error::new(io::ErrorKind::InvalidData, zstd_safe::get_error_name(code));
            let hint = self.context.decompress_stream(&mut into, &mut from).map_err(failed)?;
            let (used, made) = (from.pos(), into.pos());
            self.at += used;
            self.within = hint != 0;
            if made > 0 || out.is_empty() {
                return Ok(made);
            }
            if ended && self.within {
                return Err(io::ErrorKind::UnexpectedEof.into());
            }
        }
    }
}
