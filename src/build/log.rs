//! The log of one build: every line of every phase in a file, the last ones kept for the message of a failure.

use std::collections::VecDeque;
use std::fs::File;
use std::io::Write;
use std::path::{Path, PathBuf};

use crate::model::name::Name;
use crate::sys::fs::{self, PathError};
use crate::sys::{clock, host};

/// Lines of a failing build that are shown.
const TAIL: usize = 20;
/// Longest line that is shown, in characters; the file has it whole.
const WIDTH: usize = 400;

/// An open log.
#[derive(Debug)]
pub struct Log {
    path: PathBuf,
    file: File,
    tail: VecDeque<String>,
}

impl Log {
    /// Starts a new file in the log directory; its name tells overlay, time and job.
    pub fn create(dir: &Path, name: &Name, job: Option<&str>) -> Result<Log, PathError> {
        fs::create_dirs(dir)?;
        let plain = |c: char| if c.is_ascii_alphanumeric() || ".-_".contains(c) { c } else { '_' };
        let job: String = job.iter().flat_map(|job| "job".chars().chain(job.chars()).map(plain).chain(['-'])).collect();
        let time = clock::compact(clock::now());
        let path = dir.join(format!("{}-{time}-{job}{}.log", name.file_stem(), host::token()));
        let file = fs::create_new(&path, 0o644)?;
        Ok(Log { path, file, tail: VecDeque::new() })
    }

    /// The file.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Writes a line of ovl's own.
    pub fn note(&mut self, text: &str) {
        let _ = writeln!(self.file, "ovl: {text}");
    }

    /// Takes a line of a script; returns it as text for listeners.
    pub fn line(&mut self, bytes: &[u8]) -> String {
        // A full log disk must not end the build: the tail is kept in memory all the same.
        let _ = self.file.write_all(bytes).and_then(|()| self.file.write_all(b"\n"));
        let text = String::from_utf8_lossy(bytes);
        let text: String = text.trim_end_matches('\r').chars().take(WIDTH).collect();
        if self.tail.len() == TAIL {
            self.tail.pop_front();
        }
        self.tail.push_back(text.clone());
        text
    }

    /// Forgets the last lines: a new phase begins.
    pub fn new_phase(&mut self, phase: &str) {
        self.note(&format!("--- {phase} ---"));
        self.tail.clear();
    }

    /// The last lines.
    pub fn tail(&self) -> Vec<String> {
        self.tail.iter().cloned().collect()
    }
}
