//! What happens during a build, as values: one stream, many listeners; workers never print.

use serde::Serialize;

use super::name::Name;

/// The phases of one build, in order.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Phase {
    /// Claiming the target and making a place to build in.
    Stage,
    /// fetch(), with network.
    Fetch,
    /// install().
    Install,
    /// Writing the image.
    Pack,
    /// check() and #TEST inside the finished overlay.
    Check,
    /// Flush, verify, rename.
    Publish,
}

impl Phase {
    /// All of them.
    pub const ALL: [Phase; 6] = [Phase::Stage, Phase::Fetch, Phase::Install, Phase::Pack, Phase::Check, Phase::Publish];

    /// The phase of this name; install() for a word that is none.
    pub fn named(word: &str) -> Phase {
        Phase::ALL.into_iter().find(|phase| phase.as_str() == word).unwrap_or(Phase::Install)
    }

    /// Its name in messages and JSON.
    pub fn as_str(self) -> &'static str {
        match self {
            Phase::Stage => "stage",
            Phase::Fetch => "fetch",
            Phase::Install => "install",
            Phase::Pack => "pack",
            Phase::Check => "check",
            Phase::Publish => "publish",
        }
    }
}

/// One thing that happened.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[serde(rename_all = "lowercase", tag = "event")]
pub enum Event {
    /// What is to come: of this many overlays the end will be told, by `Finished`, `Failed` or `Skipped`.
    Plan {
        /// How many.
        total: usize,
    },
    /// A build begins a phase; `step` of `steps` counts phases.
    Progress {
        /// Which overlay.
        name: Name,
        /// Number of this phase, from 1.
        step: usize,
        /// How many phases this build has.
        steps: usize,
        /// Share of the phases that are done or running, in percent.
        percent: f64,
        /// The phase.
        current: Phase,
        /// What exactly, for people.
        detail: String,
    },
    /// How far a long phase is, in bytes.
    Amount {
        /// Which overlay.
        name: Name,
        /// Done so far.
        done: u64,
        /// Of how many, when known.
        total: Option<u64>,
    },
    /// A line of the build's own output.
    Output {
        /// Which overlay.
        name: Name,
        /// The line, control characters included.
        line: String,
    },
    /// A build writes its log from here on.
    Logging {
        /// Which overlay.
        name: Name,
        /// The file.
        path: std::path::PathBuf,
    },
    /// Waiting for somebody else.
    Waiting {
        /// Which overlay.
        name: Name,
        /// For whom.
        reason: String,
    },
    /// Something the user should know that is no failure.
    Warning {
        /// About which overlay, if one.
        name: Option<Name>,
        /// A sentence.
        text: String,
    },
    /// A build is over.
    Finished {
        /// Which overlay.
        name: Name,
        /// "built", "up to date", "stale", …
        outcome: String,
        /// Size, reason and the like, for people; may be empty.
        detail: String,
        /// Seconds it took.
        seconds: f64,
    },
    /// A build is over, badly.
    Failed {
        /// Which overlay.
        name: Name,
        /// What went wrong, a sentence; its first line says the most.
        text: String,
        /// Seconds it took.
        seconds: f64,
    },
    /// A build will not be tried.
    Skipped {
        /// Which overlay.
        name: Name,
        /// Because of what: a part of a sentence, as in "it needs zlib/1.3, which failed".
        because: String,
    },
}

impl Event {
    /// The overlay it is about, if one.
    pub fn name(&self) -> Option<&Name> {
        match self {
            Event::Plan { .. } => None,
            Event::Warning { name, .. } => name.as_ref(),
            Event::Progress { name, .. }
            | Event::Amount { name, .. }
            | Event::Output { name, .. }
            | Event::Logging { name, .. }
            | Event::Waiting { name, .. }
            | Event::Finished { name, .. }
            | Event::Failed { name, .. }
            | Event::Skipped { name, .. } => Some(name),
        }
    }
}

/// Somebody who wants to know. Called from any thread; must not block for long.
pub trait Listener: Sync + Send {
    /// Takes one event.
    fn hear(&self, event: &Event);
}
