//! Places in texts, for messages.

use std::fmt;
use std::sync::Arc;

/// A place in a file: line and column count from 1; the column counts characters.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Loc {
    /// The file as the user knows it.
    pub file: Arc<str>,
    /// Line, from 1.
    pub line: usize,
    /// Column in characters, from 1.
    pub col: usize,
}

impl Loc {
    /// A place in `file`.
    pub fn new(file: impl Into<Arc<str>>, line: usize, col: usize) -> Loc {
        Loc { file: file.into(), line, col }
    }
}

impl fmt::Display for Loc {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}:{}", self.file, self.line, self.col)
    }
}
