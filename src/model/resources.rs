//! What a build costs, in one model for the local pool and every scheduler; each figure remembers who said so.

use std::time::Duration;

use serde::{Deserialize, Serialize};

/// A scheduler ovl speaks to.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Scheduler {
    /// Slurm.
    Slurm,
    /// OpenPBS and PBS Professional.
    Pbs,
    /// IBM Spectrum LSF and its relatives.
    Lsf,
    /// HTCondor, through DAGMan.
    HtCondor,
}

impl Scheduler {
    /// All of them, in the order in which they are looked for.
    pub const ALL: [Scheduler; 4] = [Scheduler::Slurm, Scheduler::Pbs, Scheduler::Lsf, Scheduler::HtCondor];

    /// The word that configuration and messages use.
    pub fn word(self) -> &'static str {
        match self {
            Scheduler::Slurm => "slurm",
            Scheduler::Pbs => "pbs",
            Scheduler::Lsf => "lsf",
            Scheduler::HtCondor => "htcondor",
        }
    }
}

impl std::fmt::Display for Scheduler {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Scheduler::Slurm => "Slurm",
            Scheduler::Pbs => "PBS",
            Scheduler::Lsf => "LSF",
            Scheduler::HtCondor => "HTCondor",
        })
    }
}

/// The id of a job, as its scheduler writes it. For HTCondor `<cluster of the DAG>:<node>`.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct JobId(pub String);

impl JobId {
    /// Whether it looks like an id of any scheduler, and could not be taken for an option.
    pub fn is_plain(&self) -> bool {
        let fine = |c: char| c.is_ascii_alphanumeric() || "._:[]-".contains(c);
        self.0.starts_with(|c: char| c.is_ascii_alphanumeric()) && self.0.chars().all(fine)
    }
}

impl std::fmt::Display for JobId {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.0)
    }
}

/// Who said a figure.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Source {
    /// A directive of the recipe: `file:line:col` and the flag as written, `--mem=8G`.
    Directive {
        /// Where, as `file:line:col`.
        at: String,
        /// The flag as written.
        text: String,
    },
    /// A flag of the command line.
    Flag(String),
    /// A key of the configuration.
    Config(String),
    /// Nobody: ovl's own choice, with its reason.
    Auto(String),
}

impl std::fmt::Display for Source {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Source::Directive { at, text } => write!(f, "{at} {text}"),
            Source::Flag(text) | Source::Config(text) | Source::Auto(text) => f.write_str(text),
        }
    }
}

/// A value and who said it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Figure<T> {
    /// The value.
    pub value: T,
    /// Who said so.
    pub source: Source,
}

impl<T> Figure<T> {
    /// A value with its source.
    pub fn new(value: T, source: Source) -> Figure<T> {
        Figure { value, source }
    }
}

/// Memory asked for, in bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Mem {
    /// For the whole build.
    Total(u64),
    /// For each CPU.
    PerCpu(u64),
    /// All that the node has (`--mem=0`).
    Node,
}

/// A time limit.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Limit {
    /// At most this long; whole seconds.
    Time(Duration),
    /// None (`--time=0`, `UNLIMITED`).
    Unlimited,
}

/// GPUs asked for.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Gpus {
    /// How many.
    pub count: u32,
    /// Of which kind (`a100`), if that matters.
    pub kind: Option<String>,
}

/// A flag that has no place in the model: it stays with its own scheduler, and is reported when crossing to another.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Extra {
    /// Whose flag.
    pub scheduler: Scheduler,
    /// Where, as `file:line:col`, or the flag or key it came from.
    pub at: String,
    /// The words, ready to stand after the marker: `["--gres-flags=enforce-binding"]`, `["-W", "umask=022"]`.
    pub words: Vec<String>,
}

impl Extra {
    /// A flag as people give it in one piece: `-p 5` is a flag and its value, `--comment=a b` is one word.
    pub fn given(scheduler: Scheduler, at: impl Into<String>, text: &str) -> Extra {
        let split = text.split_once(char::is_whitespace);
        let words = match split.filter(|(flag, _)| flag.starts_with('-') && !flag.contains('=')) {
            Some((flag, value)) if scheduler != Scheduler::HtCondor => vec![flag.to_owned(), value.trim().to_owned()],
            _ => vec![text.to_owned()],
        };
        Extra { scheduler, at: at.into(), words }
    }
}

/// What one build asks for. None: nobody said.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Resources {
    /// CPUs for its one task.
    pub cpus: Option<Figure<u32>>,
    /// Memory.
    pub mem: Option<Figure<Mem>>,
    /// Time limit.
    pub time: Option<Figure<Limit>>,
    /// GPUs.
    pub gpus: Option<Figure<Gpus>>,
    /// Node-local scratch, in bytes.
    pub scratch: Option<Figure<u64>>,
    /// Partition or queue.
    pub partition: Option<Figure<String>>,
    /// Account or project.
    pub account: Option<Figure<String>>,
    /// Quality of service.
    pub qos: Option<Figure<String>>,
    /// A reservation.
    pub reservation: Option<Figure<String>>,
    /// The whole node for itself.
    pub exclusive: Option<Figure<bool>>,
    /// Flags without a place here.
    pub extra: Vec<Extra>,
}

impl Resources {
    /// What `self` says, and where it says nothing, what `other` does.
    #[must_use]
    pub fn or(self, other: Resources) -> Resources {
        let mut extra = other.extra;
        extra.extend(self.extra);
        Resources {
            cpus: self.cpus.or(other.cpus),
            mem: self.mem.or(other.mem),
            time: self.time.or(other.time),
            gpus: self.gpus.or(other.gpus),
            scratch: self.scratch.or(other.scratch),
            partition: self.partition.or(other.partition),
            account: self.account.or(other.account),
            qos: self.qos.or(other.qos),
            reservation: self.reservation.or(other.reservation),
            exclusive: self.exclusive.or(other.exclusive),
            extra,
        }
    }

    /// Memory in bytes, counted for all CPUs; None when nobody said, or when it is "all the node has".
    pub fn mem_bytes(&self) -> Option<u64> {
        match self.mem.as_ref()?.value {
            Mem::Total(bytes) => Some(bytes),
            Mem::PerCpu(bytes) => Some(bytes.saturating_mul(self.cpus.as_ref().map_or(1, |cpus| cpus.value).into())),
            Mem::Node => None,
        }
    }

    /// The time limit; None when there is none.
    pub fn time_limit(&self) -> Option<Duration> {
        match self.time.as_ref()?.value {
            Limit::Time(time) => Some(time),
            Limit::Unlimited => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_flag_given_in_one_piece() {
        let words = |scheduler, text| Extra::given(scheduler, "--x", text).words;
        assert_eq!(words(Scheduler::Pbs, "-p 5"), ["-p", "5"]);
        assert_eq!(words(Scheduler::Pbs, "-V"), ["-V"]);
        assert_eq!(words(Scheduler::Slurm, "--comment=a b"), ["--comment=a b"]);
        assert_eq!(words(Scheduler::Lsf, "-R  select[a && b] "), ["-R", "select[a && b]"]);
        assert_eq!(words(Scheduler::HtCondor, "rank = Memory"), ["rank = Memory"]);
    }

    #[test]
    fn the_stronger_word_wins_and_flags_without_a_place_add_up() {
        let flag = |text: &str| Source::Flag(text.into());
        let extra = |word: &str| Extra { scheduler: Scheduler::Slurm, at: String::new(), words: vec![word.into()] };
        let strong =
            Resources { cpus: Some(Figure::new(8, flag("--cpus"))), extra: vec![extra("-b")], ..Resources::default() };
        let weak = Resources {
            cpus: Some(Figure::new(1, flag("weak"))),
            mem: Some(Figure::new(Mem::PerCpu(1 << 30), flag("weak"))),
            extra: vec![extra("-a")],
            ..Resources::default()
        };
        let both = strong.or(weak);
        assert_eq!(both.cpus.as_ref().unwrap().value, 8);
        assert_eq!(both.mem_bytes(), Some(8 << 30));
        assert_eq!(both.extra.iter().map(|extra| extra.words[0].as_str()).collect::<Vec<_>>(), ["-a", "-b"]);
    }
}
