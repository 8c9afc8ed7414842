//! The compressors of SquashFS blocks: gzip (zlib streams), xz, lz4 and zstd, one compressing state per thread.
//! Every block stands alone; a block that does not get smaller is stored as it is.

#![allow(unsafe_code)]

use std::ffi::c_int;
use std::fmt;
use std::str::FromStr;

use super::super::error::{ImageError, Result};

/// A compressor as the superblock numbers them.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Codec {
    /// zlib streams, number 1.
    Gzip,
    /// xz streams, number 4.
    Xz,
    /// raw LZ4 blocks, number 5.
    Lz4,
    /// zstd frames, number 6.
    Zstd,
}

impl Codec {
    /// The superblock's number.
    pub fn id(self) -> u16 {
        match self {
            Codec::Gzip => 1,
            Codec::Xz => 4,
            Codec::Lz4 => 5,
            Codec::Zstd => 6,
        }
    }

    /// From the superblock's number.
    pub fn from_id(id: u16) -> Result<Codec> {
        match id {
            1 => Ok(Codec::Gzip),
            4 => Ok(Codec::Xz),
            5 => Ok(Codec::Lz4),
            6 => Ok(Codec::Zstd),
            2 => Err(ImageError::Unsupported("the image is compressed with lzma, which ovl does not read".into())),
            3 => Err(ImageError::Unsupported("the image is compressed with lzo, which ovl does not read".into())),
            other => Err(ImageError::corrupt(format!("compressor number {other}"))),
        }
    }

    /// The name users know.
    pub fn name(self) -> &'static str {
        match self {
            Codec::Gzip => "gzip",
            Codec::Xz => "xz",
            Codec::Lz4 => "lz4",
            Codec::Zstd => "zstd",
        }
    }

    /// The levels it takes and the one used when none is given. lz4: 1 is the fast one, 3–12 are lz4hc.
    pub fn levels(self) -> (std::ops::RangeInclusive<u32>, u32) {
        match self {
            Codec::Gzip => (1..=12, 6),
            Codec::Xz => (0..=9, 6),
            Codec::Lz4 => (1..=12, 1),
            Codec::Zstd => (1..=22, 3),
        }
    }
}

/// A compressor and its level, written `zstd:3` or `lz4`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, serde::Serialize, serde::Deserialize)]
#[serde(into = "String", try_from = "String")]
pub struct Compression {
    /// Which compressor.
    pub codec: Codec,
    /// How hard it tries; always within [`Codec::levels`].
    pub level: u32,
}

impl Default for Compression {
    fn default() -> Self {
        Compression { codec: Codec::Zstd, level: 3 }
    }
}

impl fmt::Display for Compression {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", self.codec.name(), self.level)
    }
}

impl From<Compression> for String {
    fn from(how: Compression) -> String {
        how.to_string()
    }
}

impl TryFrom<String> for Compression {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        text.parse()
    }
}

impl FromStr for Compression {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let (name, level) = match text.split_once([':', '-']) {
            Some((name, level)) => (name, Some(level)),
            None => (text, None),
        };
        let codec = match name {
            "gzip" | "zlib" => Codec::Gzip,
            "xz" => Codec::Xz,
            "lz4" => Codec::Lz4,
            "zstd" => Codec::Zstd,
            "lz4hc" => return format!("lz4:{}", level.unwrap_or("9")).parse(),
            _ => {
                return Err(format!(
                    "unknown compressor '{name}'; known: zstd, lz4, gzip, xz, with a level as in zstd:3"
                ));
            }
        };
        let (range, default) = codec.levels();
        let level = match level {
            None => default,
            Some(text) => text
                .parse()
                .ok()
                .filter(|level| range.contains(level))
                .ok_or_else(|| format!("{name} has levels {} to {}, not '{text}'", range.start(), range.end()))?,
        };
        Ok(Compression { codec, level })
    }
}

/// A compressor at work; one per thread.
pub struct Compressor {
    state: State,
    level: u32,
}

enum State {
    Gzip(libdeflater::Compressor),
    Xz,
    Lz4,
    Zstd(zstd_safe::CCtx<'static>),
}

impl Compressor {
    /// Sets one up.
    pub fn new(how: Compression) -> Compressor {
        let state = match how.codec {
            Codec::Gzip => {
                let level = libdeflater::CompressionLvl::new(how.level as i32).unwrap_or_default();
                State::Gzip(libdeflater::Compressor::new(level))
            }
            Codec::Xz => State::Xz,
            Codec::Lz4 => State::Lz4,
            Codec::Zstd => State::Zstd(zstd_safe::CCtx::create()),
        };
        Compressor { state, level: how.level }
    }

    /// Compresses `input` into `output` (cleared first) and says whether that made it smaller. When not, `output`
    /// holds nothing of use and the block is to be stored as it is. `window` is the image's block size.
    pub fn compress(&mut self, input: &[u8], output: &mut Vec<u8>, window: usize) -> Result<bool> {
        output.clear();
        if input.len() < 2 {
            return Ok(false);
        }
        // One byte less than the input: what does not fit is not worth keeping.
        output.resize(input.len() - 1, 0);
        let length = self.compress_into(input, output, window)?;
        output.truncate(length.unwrap_or(0));
        Ok(length.is_some())
    }

    /// Compresses `input` into the front of `output` and says how long it became; None when it does not fit there.
    pub fn compress_into(&mut self, input: &[u8], output: &mut [u8], window: usize) -> Result<Option<usize>> {
        Ok(match &mut self.state {
            State::Gzip(gzip) => gzip.zlib_compress(input, output).ok(),
            State::Zstd(zstd) => zstd.compress(output, input, self.level as i32).ok(),
            State::Xz => xz_compress(input, output, self.level, window)?,
            State::Lz4 => lz4_compress(input, output, self.level),
        })
    }
}

fn xz_compress(input: &[u8], output: &mut [u8], level: u32, window: usize) -> Result<Option<usize>> {
    use liblzma::stream::{Action, Check, Filters, LzmaOptions, Status, Stream};
    let bad = |error: liblzma::stream::Error| ImageError::Unsupported(format!("xz cannot be set up: {error}"));
    let mut options = LzmaOptions::new_preset(level).map_err(bad)?;
    // The kernel's decoder is given a dictionary of one block; squashfs wants 2^n or 2^n + 2^(n+1), 8 KiB or more.
    options.dict_size(window.max(8192) as u32);
    let mut filters = Filters::new();
    filters.lzma2(&options);
    let mut stream = Stream::new_stream_encoder(&filters, Check::Crc32).map_err(bad)?;
    loop {
        let (read, written) = (stream.total_in() as usize, stream.total_out() as usize);
        match stream.process(&input[read..], &mut output[written..], Action::Finish) {
            Ok(Status::StreamEnd) => return Ok(Some(stream.total_out() as usize)),
            Ok(_) if (stream.total_out() as usize) < output.len() => {}
            Ok(_) | Err(_) => return Ok(None),
        }
    }
}

fn lz4_compress(input: &[u8], output: &mut [u8], level: u32) -> Option<usize> {
    let (source, target) = (input.as_ptr().cast(), output.as_mut_ptr().cast());
    let (length, room) = (c_int::try_from(input.len()).ok()?, c_int::try_from(output.len()).ok()?);
    let length = if level < 3 {
        // SAFETY: both pointers are valid for the lengths given with them.
        unsafe { lz4_sys::LZ4_compress_default(source, target, length, room) }
    } else {
        // SAFETY: as above; the library allocates and frees its own state.
        unsafe { lz4_sys::LZ4_compress_HC(source, target, length, room, level as c_int) }
    };
    usize::try_from(length).ok().filter(|length| *length > 0)
}

/// A decompressor at work; one per thread.
pub struct Decompressor {
    codec: Codec,
    gzip: Option<libdeflater::Decompressor>,
    zstd: Option<zstd_safe::DCtx<'static>>,
}

impl Decompressor {
    /// Sets one up.
    pub fn new(codec: Codec) -> Decompressor {
        Decompressor {
            codec,
            gzip: (codec == Codec::Gzip).then(libdeflater::Decompressor::new),
            zstd: (codec == Codec::Zstd).then(zstd_safe::DCtx::create),
        }
    }

    /// Decompresses one block into `output` and returns how many bytes it held.
    ///
    /// # Errors
    /// [`ImageError::Corrupt`] when the bytes are no such stream or hold more than `output` takes.
    pub fn decompress(&mut self, input: &[u8], output: &mut [u8]) -> Result<usize> {
        let bad = |what: String| ImageError::corrupt(format!("{} block: {what}", self.codec.name()));
        match self.codec {
            Codec::Gzip => {
                let gzip = self.gzip.get_or_insert_with(libdeflater::Decompressor::new);
                gzip.zlib_decompress(input, output).map_err(|error| bad(format!("{error:?}")))
            }
            Codec::Zstd => {
                let zstd = self.zstd.get_or_insert_with(zstd_safe::DCtx::create);
                zstd.decompress(output, input).map_err(|code| bad(zstd_safe::get_error_name(code).to_owned()))
            }
            Codec::Xz => xz_decompress(input, output).map_err(bad),
            Codec::Lz4 => {
                let lengths = (c_int::try_from(input.len()), c_int::try_from(output.len()));
                let (Ok(length), Ok(room)) = lengths else { return Err(bad("too long".into())) };
                // SAFETY: both pointers are valid for the lengths given with them; the library checks the stream.
                let got = unsafe {
                    lz4_sys::LZ4_decompress_safe(input.as_ptr().cast(), output.as_mut_ptr().cast(), length, room)
                };
                usize::try_from(got).map_err(|_| bad("malformed".into()))
            }
        }
    }
}

fn xz_decompress(input: &[u8], output: &mut [u8]) -> Result<usize, String> {
    use liblzma::stream::{Action, Status, Stream};
    // 64 MiB is more than any dictionary of a 1 MiB block needs, and bounds what hostile headers can ask for.
    let mut stream = Stream::new_stream_decoder(64 << 20, 0).map_err(|error| error.to_string())?;
    loop {
        let (read, written) = (stream.total_in() as usize, stream.total_out() as usize);
        match stream.process(&input[read..], &mut output[written..], Action::Finish) {
            Ok(Status::StreamEnd) => return Ok(stream.total_out() as usize),
            Ok(_) if stream.total_in() as usize > read || stream.total_out() as usize > written => {}
            Ok(_) => return Err("ends too early or is too long".into()),
            Err(error) => return Err(error.to_string()),
        }
    }
}
