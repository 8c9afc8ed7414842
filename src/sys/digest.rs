//! SHA-256 of bytes and files, written `sha256:…`.

use std::fs::File;
use std::os::unix::fs::FileExt;

use sha2::{Digest, Sha256};

/// A digest of bytes that come piece by piece.
#[derive(Debug, Clone, Default)]
pub struct Running(Sha256);

impl Running {
    /// Of nothing yet.
    pub fn new() -> Running {
        Running::default()
    }

    /// Adds bytes.
    pub fn add(&mut self, bytes: &[u8]) {
        self.0.update(bytes);
    }

    /// The digest of all of them.
    pub fn finish(self) -> String {
        let hex: String = self.0.finalize().iter().map(|byte| format!("{byte:02x}")).collect();
        format!("sha256:{hex}")
    }
}

/// Whether a text is a SHA-256 in lower case hexadecimal.
pub fn is_hex(text: &str) -> bool {
    text.len() == 64 && text.bytes().all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f'))
}

/// Digest of bytes.
pub fn of(bytes: &[u8]) -> String {
    let mut hash = Running::new();
    hash.add(bytes);
    hash.finish()
}

/// Digest of a whole file from its beginning; the file's position does not matter and stays.
pub fn of_file(file: &File) -> std::io::Result<String> {
    let mut hash = Running::new();
    let mut buffer = vec![0; 1 << 20];
    let mut offset = 0;
    loop {
        match file.read_at(&mut buffer, offset)? {
            0 => return Ok(hash.finish()),
            got => {
                hash.add(&buffer[..got]);
                offset += got as u64;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    #[test]
    fn known_digest() {
        let empty = "sha256:e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855";
        assert_eq!(super::of(b""), empty);
    }
}
