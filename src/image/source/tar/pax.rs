//! Extended headers (POSIX pax): records `LENGTH KEY=VALUE\n` that say what a plain header has no room for, and the ways
//! in which GNU tar writes sparse files with them.

use super::super::super::error::{ImageError, Result};

/// What extended headers say about a member.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Extended {
    /// The member's path.
    pub path: Option<Vec<u8>>,
    /// Where a link points.
    pub link: Option<Vec<u8>>,
    /// Bytes that follow.
    pub size: Option<u64>,
    /// Owner.
    pub uid: Option<i64>,
    /// Group.
    pub gid: Option<i64>,
    /// Last change, whole seconds since 1970.
    pub mtime: Option<i64>,
    /// Extended attributes.
    pub xattrs: Vec<(Vec<u8>, Vec<u8>)>,
    /// The real path of a sparse file.
    pub sparse_path: Option<Vec<u8>>,
    /// The real size of a sparse file.
    pub sparse_size: Option<u64>,
    /// Version of the way it is written: (major, minor).
    pub sparse_version: (u64, u64),
    /// Where data is: (offset, bytes) in turn.
    pub sparse_map: Vec<u64>,
}

impl Extended {
    /// Takes over what the records say.
    ///
    /// # Errors
    /// When they are not well-formed.
    pub fn read(&mut self, mut bytes: &[u8]) -> Result<()> {
        while !bytes.is_empty() {
            // Some programs pad with zeroes.
            if bytes.iter().all(|byte| *byte == 0) {
                break;
            }
            let bad = || ImageError::corrupt("an extended header that is not well-formed");
            let blank = bytes.iter().position(|byte| *byte == b' ').ok_or_else(bad)?;
            let length = bytes.get(..blank).and_then(decimal).and_then(|length| usize::try_from(length).ok());
            let (record, rest) = length.and_then(|length| bytes.split_at_checked(length)).ok_or_else(bad)?;
            let body = record.get(blank + 1..).and_then(|body| body.strip_suffix(b"\n")).ok_or_else(bad)?;
            let equals = body.iter().position(|byte| *byte == b'=').ok_or_else(bad)?;
            let (key, value) = body.split_at(equals);
            self.take(key, value.get(1..).unwrap_or_default())?;
            bytes = rest;
        }
        Ok(())
    }

    fn take(&mut self, key: &[u8], value: &[u8]) -> Result<()> {
        let number = || -> Result<u64> {
            let bad = || ImageError::corrupt(format!("{}: '{}'", key.escape_ascii(), value.escape_ascii()));
            decimal(value).ok_or_else(bad)
        };
        let whole = || -> Result<i64> {
            let (sign, digits) = value.strip_prefix(b"-").map_or((1, value), |digits| (-1, digits));
            let mut parts = digits.split(|byte| *byte == b'.');
            let value = parts.next().and_then(decimal).and_then(|value| i64::try_from(value).ok());
            let fraction = parts.next().is_some_and(|part| part.iter().any(|digit| *digit != b'0'));
            // Towards the past, as a whole second of file systems without fractions.
            value
                .map(|value| sign * value - i64::from(sign < 0 && fraction))
                .ok_or_else(|| ImageError::corrupt(format!("{} in an extended header", key.escape_ascii())))
        };
        // An empty value takes back what a global header has said.
        let text = || (!value.is_empty()).then(|| value.to_vec());
        let given = !value.is_empty();
        match key {
            b"path" => self.path = text(),
            b"linkpath" => self.link = text(),
            b"size" => self.size = given.then(number).transpose()?,
            b"uid" => self.uid = given.then(whole).transpose()?,
            b"gid" => self.gid = given.then(whole).transpose()?,
            b"mtime" => self.mtime = given.then(whole).transpose()?,
            b"GNU.sparse.major" => self.sparse_version.0 = number()?,
            b"GNU.sparse.minor" => self.sparse_version.1 = number()?,
            b"GNU.sparse.name" => self.sparse_path = text(),
            b"GNU.sparse.size" | b"GNU.sparse.realsize" => self.sparse_size = Some(number()?),
            b"GNU.sparse.offset" | b"GNU.sparse.numbytes" => self.sparse_map.push(number()?),
            b"GNU.sparse.map" => {
                let numbers = value.split(|byte| *byte == b',').map(decimal).collect::<Option<Vec<u64>>>();
                self.sparse_map =
                    numbers.ok_or_else(|| ImageError::corrupt("a map of a sparse file that is not well-formed"))?;
            }
            _ => {
                if let Some(name) = key.strip_prefix(b"SCHILY.xattr.") {
                    self.xattrs.push((name.to_vec(), value.to_vec()));
                }
            }
        }
        Ok(())
    }

    /// Whether the member is a sparse file, whatever its kind.
    pub fn is_sparse(&self) -> bool {
        self.sparse_version != (0, 0) || self.sparse_size.is_some() || !self.sparse_map.is_empty()
    }
}

/// Decimal digits only.
pub fn decimal(text: &[u8]) -> Option<u64> {
    if text.is_empty() || !text.iter().all(u8::is_ascii_digit) {
        return None;
    }
    std::str::from_utf8(text).ok()?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &[u8]) -> Result<Extended> {
        let mut extended = Extended::default();
        extended.read(text).map(|()| extended)
    }

    #[test]
    fn records_are_taken_by_their_length() {
        let found =
            read(b"12 path=a\nb\n17 mtime=-1.5000\n31 SCHILY.xattr.user.x=\0\n=1 2\n\n14 comment=xy\n").unwrap();
        assert_eq!((found.path.as_deref(), found.mtime), (Some(&b"a\nb"[..]), Some(-2)));
        assert_eq!(found.xattrs, [(b"user.x".to_vec(), b"\0\n=1 2\n".to_vec())]);
        assert_eq!(read(b"21 size=999999999999\n").unwrap().size, Some(999_999_999_999));
        assert!(!found.is_sparse());
        assert!(read(b"25 GNU.sparse.map=0,1,9,1\n").is_err(), "its length is wrong");
        assert_eq!(read(b"26 GNU.sparse.map=0,1,9,1\n").unwrap().sparse_map, [0, 1, 9, 1]);
    }

    #[test]
    fn what_is_not_well_formed_is_an_error() {
        for bad in [
            &b"x"[..],
            b"5 a=b",
            b"999 a=b\n",
            b"0 a=b\n",
            b"3 a=b\n",
            b"-6 a=b\n",
            b"6 aab\n",
            b"99999999999999999999 a=b\n",
            b"9 size=x\n",
            b"10 size=-1\n",
            b"30 size=99999999999999999999\n",
        ] {
            assert!(read(bad).is_err(), "{}", bad.escape_ascii());
        }
    }
}
