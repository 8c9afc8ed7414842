//! What can go wrong before a command runs, with the exit code and the hint that belong to it.

use std::path::PathBuf;

use serde::{Deserialize, Serialize};

use crate::image::ImageError;
use crate::sys::fs::PathError;
use crate::sys::userns::Refusal;

/// A command that could not be run.
#[derive(Debug, thiserror::Error)]
pub enum RuntimeError {
    /// An overlay or base image cannot be used.
    #[error("image {}: {source}", path.display())]
    Image {
        /// Its file.
        path: PathBuf,
        /// What is wrong with it.
        source: ImageError,
    },
    /// The machine lacks something; the hint says what would help.
    #[error("{what}")]
    Missing {
        /// What is missing.
        what: String,
        /// What would help.
        hint: String,
    },
    /// Somebody else uses an image.
    #[error("{what}")]
    Busy {
        /// Which, and who.
        what: String,
        /// What would help.
        hint: String,
    },
    /// The kernel refused a step.
    #[error(transparent)]
    Refused(#[from] Refusal),
    /// A file operation failed.
    #[error(transparent)]
    Path(#[from] PathError),
    /// The invocation asks for something that cannot be.
    #[error("{0}")]
    Impossible(String),
    /// There is no such program inside.
    #[error("command not found: {0}")]
    NotFound(String),
    /// There is one, but it cannot be run.
    #[error("cannot run {program}: {why}")]
    NotRunnable {
        /// The program.
        program: String,
        /// Why not.
        why: String,
    },
    /// Another process of the runtime failed and said so.
    #[error("{}", .0.text)]
    Reported(Report),
}

/// A failure as it travels between the runtime's processes.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Report {
    /// The whole sentence.
    pub text: String,
    /// What would help.
    pub hint: Option<String>,
    /// [`RuntimeError::exit_code`].
    pub code: u8,
}

impl RuntimeError {
    /// The code to end with: 127 no such program, 126 a program that cannot be run, 7 something is missing on this
    /// machine, 6 an image is busy, 1 everything else.
    pub fn exit_code(&self) -> u8 {
        match self {
            RuntimeError::NotFound(_) => 127,
            RuntimeError::NotRunnable { .. } => 126,
            RuntimeError::Missing { .. } => 7,
            RuntimeError::Busy { .. } => 6,
            RuntimeError::Reported(report) => report.code,
            _ => 1,
        }
    }

    /// What would help.
    pub fn hint(&self) -> Option<&str> {
        match self {
            RuntimeError::Missing { hint, .. } | RuntimeError::Busy { hint, .. } => Some(hint),
            RuntimeError::Reported(report) => report.hint.as_deref(),
            _ => None,
        }
    }

    /// For another process.
    pub fn report(&self) -> Report {
        Report { text: self.to_string(), hint: self.hint().map(str::to_owned), code: self.exit_code() }
    }
}

/// Result of the runtime.
pub type Result<T, E = RuntimeError> = std::result::Result<T, E>;
