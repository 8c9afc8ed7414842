//! Prefix replacement without writing: where a file's stretches come from, found once, so that its size is known and any
//! range of it can be read. What is replaced and how (text, C strings padded with NULs, shebangs longer than kernels
//! allow) is the library's own finding, so that the bytes are those of its installer.

use rattler::install::link::{find_cstring_occurrences, find_text_occurrences, replace_shebang_region};
use rattler_conda_types::Subdir;
use rattler_conda_types::package::{FileMode, PrefixPlaceholder};

use crate::image::error::Result;

/// A stretch of the result.
#[derive(Debug)]
struct Piece {
    /// Where it begins in the result.
    start: u64,
    from: From,
}

#[derive(Debug)]
enum From {
    /// The source's bytes from here on.
    Source(u64),
    /// These bytes.
    Bytes(Box<[u8]>),
    /// NULs.
    Zeros,
}

/// A file with its prefix replaced.
#[derive(Debug, Default)]
pub struct Splice {
    pieces: Vec<Piece>,
    size: u64,
}

impl Splice {
    /// Finds what is to be replaced in `source`.
    ///
    /// # Errors
    /// When the new prefix is longer than there is room for in a binary.
    pub fn find(source: &[u8], placeholder: &PrefixPlaceholder, prefix: &str) -> Result<Splice, String> {
        match placeholder.file_mode {
            FileMode::Text => Ok(Splice::text(source, &placeholder.placeholder, prefix)),
            FileMode::Binary => Splice::binary(source, &placeholder.placeholder, prefix),
        }
    }

    fn text(source: &[u8], placeholder: &str, prefix: &str) -> Splice {
        let mut splice = Splice::default();
        let mut at = 0;
        if source.starts_with(b"#!") {
            at = source.iter().position(|byte| *byte == b'\n').map_or(source.len(), |end| end + 1);
            let first = source.get(..at).unwrap_or_default();
            splice.bytes(replace_shebang_region(first, placeholder, prefix, &Subdir::Linux64));
        }
        for found in find_text_occurrences(source, at, placeholder) {
            splice.source(at, found.offset);
            splice.bytes(found.encoding.encode(prefix));
            at = found.offset + found.encoding.encode(placeholder).len();
        }
        splice.source(at, source.len());
        splice
    }

    fn binary(source: &[u8], placeholder: &str, prefix: &str) -> Result<Splice, String> {
        let mut splice = Splice::default();
        let mut at = 0;
        for string in find_cstring_occurrences(source, placeholder) {
            let (old, new) = (string.encoding.encode(placeholder).len(), string.encoding.encode(prefix));
            let Some(shrinks) = old.checked_sub(new.len()) else {
                return Err(format!("its prefix has room for {old} bytes, and {prefix} has {}", new.len()));
            };
            for offset in &string.offsets {
                splice.source(at, *offset);
                splice.bytes(new.clone());
                at = offset + old;
            }
            splice.source(at, string.nul_pos);
            splice.zeros((shrinks * string.offsets.len()) as u64);
            at = string.nul_pos;
        }
        splice.source(at, source.len());
        Ok(splice)
    }

    fn push(&mut self, length: u64, from: From) {
        if length > 0 {
            self.pieces.push(Piece { start: self.size, from });
            self.size += length;
        }
    }

    fn source(&mut self, from: usize, to: usize) {
        self.push(to.saturating_sub(from) as u64, From::Source(from as u64));
    }

    fn bytes(&mut self, bytes: Vec<u8>) {
        self.push(bytes.len() as u64, From::Bytes(bytes.into()));
    }

    fn zeros(&mut self, count: u64) {
        self.push(count, From::Zeros);
    }

    /// Bytes of the result.
    pub fn size(&self) -> u64 {
        self.size
    }

    /// Fills `buf` with the result from `offset` on; `source` reads the file before the replacement.
    pub fn read(
        &self,
        offset: u64,
        buf: &mut [u8],
        mut source: impl FnMut(u64, &mut [u8]) -> Result<()>,
    ) -> Result<()> {
        let end = offset.saturating_add(buf.len() as u64);
        let first = self.pieces.partition_point(|piece| piece.start <= offset).saturating_sub(1);
        for (index, piece) in self.pieces.iter().enumerate().skip(first).take_while(|(_, piece)| piece.start < end) {
            let until = self.pieces.get(index + 1).map_or(self.size, |next| next.start);
            let (from, to) = (piece.start.max(offset), until.min(end));
            // Both lie within the buffer's range and within the piece.
            let out = buf.get_mut((from - offset) as usize..(to - offset) as usize).unwrap_or_default();
            let skipped = from - piece.start;
            match &piece.from {
                From::Source(at) => source(at + skipped, out)?,
                From::Bytes(bytes) => {
                    let bytes = bytes.get(skipped as usize..).unwrap_or_default();
                    out.copy_from_slice(bytes.get(..out.len()).unwrap_or_default());
                }
                From::Zeros => out.fill(0),
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use rattler::install::link::copy_and_replace_placeholders;

    fn both(mode: FileMode, source: &[u8], old: &str, new: &str) {
        let mut wanted = Vec::new();
        copy_and_replace_placeholders(source, &mut wanted, old, new, &Subdir::Linux64, mode).unwrap();
        let placeholder = PrefixPlaceholder { file_mode: mode, placeholder: old.into(), experimental_offsets: None };
        let splice = Splice::find(source, &placeholder, new).unwrap();
        assert_eq!(splice.size(), wanted.len() as u64);
        let read = |at: u64, out: &mut [u8]| {
            out.copy_from_slice(&source[at as usize..at as usize + out.len()]);
            Ok(())
        };
        // Whole, and in steps that cut through every piece.
        for step in [1, 3, 7, wanted.len().max(1)] {
            let mut found = vec![0xaa; wanted.len()];
            for (index, chunk) in found.chunks_mut(step).enumerate() {
                splice.read((index * step) as u64, chunk, read).unwrap();
            }
            assert_eq!(found, wanted, "{mode:?}, steps of {step}");
        }
    }

    #[test]
    fn the_bytes_are_those_of_the_library() {
        let old = "/old/prefix/that/is/long";
        let long = format!("/{}", "cnt/deep/".repeat(20));
        let text = format!("#!{old}/bin/python3 -E\nx = '{old}/lib'\n{old}{old}\n# end {old}");
        let plain = format!("a {old}\nno shebang, no end");
        for new in ["/cnt/a/1", long.as_str()] {
            both(FileMode::Text, text.as_bytes(), old, new);
            both(FileMode::Text, plain.as_bytes(), old, new);
            both(FileMode::Text, b"nothing", old, new);
            both(FileMode::Text, b"", old, new);
        }
        let mut wide: Vec<u8> = format!("{old}/wide").encode_utf16().flat_map(u16::to_le_bytes).collect();
        wide.extend([0, 0, 7]);
        let mut binary = format!("ELF\0{old}/lib:{old}/lib64\0rest\0{old}\0").into_bytes();
        binary.extend([0xff, 0, 1]);
        binary.extend(&wide);
        binary.extend(format!("{old} unterminated").as_bytes());
        both(FileMode::Binary, &binary, old, "/cnt/a/1");
        both(FileMode::Binary, &binary, old, old);
        both(FileMode::Binary, b"", old, "/cnt/a/1");
    }

    #[test]
    fn a_prefix_too_long_for_a_binary_is_refused() {
        let placeholder =
            PrefixPlaceholder { file_mode: FileMode::Binary, placeholder: "/o".into(), experimental_offsets: None };
        assert!(Splice::find(b"x\0/o/lib\0", &placeholder, "/cnt/a/1").unwrap_err().contains("room for 2 bytes"));
        assert!(Splice::find(b"nothing of it", &placeholder, "/cnt/a/1").is_ok());
    }
}
