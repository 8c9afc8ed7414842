//! One block of 512 bytes that begins a member. Formats: POSIX ustar, old GNU, and what came before them.

use super::super::super::bytes::array;
use super::super::super::error::{ImageError, Result};

/// Bytes of a block.
pub const BLOCK: usize = 512;

/// What a header says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Header {
    /// The member's path.
    pub path: Vec<u8>,
    /// Where a link points.
    pub link: Vec<u8>,
    /// Permission bits.
    pub mode: u16,
    /// Owner and group.
    pub uid: i64,
    /// Group.
    pub gid: i64,
    /// Bytes that follow.
    pub size: u64,
    /// Last change, seconds since 1970.
    pub mtime: i64,
    /// The kind of member as it is written: `'0'`, `'5'` and so on.
    pub kind: u8,
    /// (major, minor) of a device.
    pub device: (u32, u32),
}

impl Header {
    /// Reads one; None: a block of zeroes, which ends the archive.
    ///
    /// # Errors
    /// When its sum is wrong: this is no header.
    pub fn parse(block: &[u8; BLOCK]) -> Result<Option<Header>> {
        if block.iter().all(|byte| *byte == 0) {
            return Ok(None);
        }
        let field = |at: usize, length: usize| block.get(at..at + length).unwrap_or_default();
        let sum = number(field(148, 8))?;
        // The sum's own field counts as blanks; some old programs summed signed bytes.
        let bytes = || block.iter().enumerate().map(|(at, byte)| if (148..156).contains(&at) { b' ' } else { *byte });
        let (unsigned, signed): (i64, i64) =
            (bytes().map(i64::from).sum(), bytes().map(|byte| i64::from(byte as i8)).sum());
        if sum != unsigned && sum != signed {
            return Err(ImageError::corrupt("a header whose sum is wrong"));
        }
        let mut path = text(field(0, 100)).to_vec();
        // Old GNU archives ("ustar  ") have times where POSIX has the beginning of a long path.
        if array::<6>(block, 257)? == *b"ustar\0" {
            let prefix = text(field(345, 155));
            if !prefix.is_empty() {
                path = [prefix, b"/", &path].concat();
            }
        }
        let device = |at| u32::try_from(number(field(at, 8)).unwrap_or(0)).unwrap_or(0);
        let [kind] = array::<1>(block, 156)?;
        let size = number(field(124, 12))?;
        Ok(Some(Header {
            path,
            link: text(field(157, 100)).to_vec(),
            mode: (number(field(100, 8))? & 0o7777) as u16,
            uid: number(field(108, 8))?,
            gid: number(field(116, 8))?,
            size: u64::try_from(size).map_err(|_| ImageError::corrupt(format!("a member of {size} bytes")))?,
            mtime: number(field(136, 12))?,
            kind,
            device: (device(329), device(337)),
        }))
    }
}

/// Up to the first NUL.
fn text(field: &[u8]) -> &[u8] {
    field.split(|byte| *byte == 0).next().unwrap_or_default()
}

/// A number in octal digits, or in binary where the first bit is set (GNU).
pub fn number(field: &[u8]) -> Result<i64> {
    let bad = || ImageError::corrupt(format!("'{}' is no number", field.escape_ascii()));
    if let Some((first, rest)) = field.split_first()
        && first & 0x80 != 0
    {
        let begin = i128::from(first & 0x3f) - if first & 0x40 != 0 { 0x40 } else { 0 };
        // No overflow: fields have at most 12 bytes.
        let value = rest.iter().take(14).fold(begin, |value, byte| (value << 8) | i128::from(*byte));
        return i64::try_from(value).map_err(|_| bad());
    }
    let mut digits = field.iter().copied().skip_while(|byte| matches!(byte, b' ' | 0)).peekable();
    let mut value = 0i64;
    while let Some(digit) = digits.next_if(u8::is_ascii_digit) {
        let digit = i64::from(digit - b'0');
        value =
            value.checked_mul(8).and_then(|value| value.checked_add(digit)).filter(|_| digit < 8).ok_or_else(bad)?;
    }
    if digits.all(|byte| matches!(byte, b' ' | 0)) { Ok(value) } else { Err(bad()) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_in_both_forms() {
        for (field, value) in [
            (&b"0000644\0"[..], 0o644),
            (b"  644 \0\0", 0o644),
            (b"\0\0\0\0\0\0\0\0", 0),
            (b"77777777777\0", 0o777_7777_7777),
            (b"\x80\0\0\0\0\0\0\x01\0\0\0\0", 1 << 32),
            (b"\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xfe", -2),
        ] {
            assert_eq!(number(field).unwrap(), value, "{}", field.escape_ascii());
        }
        for bad in [&b"0000844\0"[..], b"12 34   ", b"-1      ", b"\x80\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff"] {
            assert!(number(bad).is_err(), "{}", bad.escape_ascii());
        }
    }

    #[test]
    fn a_block_without_a_sum_is_no_header() {
        assert_eq!(Header::parse(&[0; BLOCK]).unwrap(), None);
        assert!(Header::parse(&[b'x'; BLOCK]).is_err());
        let mut block = [0; BLOCK];
        block[..4].copy_from_slice(b"name");
        assert!(Header::parse(&block).is_err());
        block[148..156]
            .copy_from_slice(format!("{:06o}\0 ", b"name".map(u32::from).iter().sum::<u32>() + 256).as_bytes());
        assert_eq!(Header::parse(&block).unwrap().unwrap().path, b"name");
    }
}
