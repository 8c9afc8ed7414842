//! Owner files: who holds a claim or a working directory, and whether there is evidence that the holder is gone.

use std::path::{Path, PathBuf};
use std::sync::mpsc;
use std::time::{Duration, SystemTime};

use serde::{Deserialize, Serialize};

use super::fs::{self, PathError};
use super::{clock, env, host};
use crate::plan::Ticket;

/// Who holds something.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Owner {
    /// Unique per owner file.
    pub token: String,
    /// Host name.
    pub host: String,
    /// That host's boot.
    pub boot: String,
    /// Process id there.
    pub pid: u32,
    /// That process' start time in ticks since boot.
    pub start: u64,
    /// The process table (PID namespace) in which the number means something.
    #[serde(default)]
    pub table: String,
    /// User name.
    pub user: String,
    /// Scheduler job, when it runs in one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub job: Option<String>,
    /// The step of a run that it belongs to; with process id 0, the step is queued and no process has it yet.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ticket: Option<Ticket>,
    /// Since when, seconds since 1970.
    pub since: i64,
}

impl Owner {
    /// This process.
    pub fn me() -> Owner {
        let job = ["SLURM_JOB_ID", "PBS_JOBID", "LSB_JOBID", "_CONDOR_JOB_AD"].iter().find_map(|name| env::var(name));
        let pid = std::process::id();
        Owner {
            token: host::token(),
            host: host::hostname(),
            boot: host::boot_id(),
            pid,
            start: host::start_time(pid).unwrap_or(0),
            table: host::process_table(),
            user: host::user(),
            job,
            ticket: None,
            since: clock::now(),
        }
    }
}

impl Owner {
    /// Whether it stands for a queued step that no process has begun.
    pub fn is_queued(&self) -> bool {
        self.pid == 0 && self.ticket.is_some()
    }

    /// Whether this is evidence that can be compared here: the same boot of the same host, and the same process table.
    pub fn is_comparable(&self) -> bool {
        self.host == host::hostname()
            && self.boot == host::boot_id()
            && self.table == host::process_table()
            && !self.boot.is_empty()
            && !self.table.is_empty()
    }

    /// Somebody of whom nothing is known.
    pub fn unknown() -> Owner {
        let text = String::new;
        Owner {
            token: text(),
            host: text(),
            boot: text(),
            pid: 0,
            start: 0,
            table: text(),
            user: text(),
            job: None,
            ticket: None,
            since: 0,
        }
    }
}

impl std::fmt::Display for Owner {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        if self.token.is_empty() {
            return f.write_str("somebody (the claim file cannot be read)");
        }
        match &self.ticket {
            Some(ticket) if self.is_queued() => {
                write!(f, "{} ({} job {}, submitted on {}", self.user, ticket.scheduler, ticket.job, self.host)?;
            }
            _ => {
                write!(f, "{} (pid {} on {}", self.user, self.pid, self.host)?;
                if let Some(job) = &self.job {
                    write!(f, ", job {job}")?;
                }
            }
        }
        write!(f, ", since {})", clock::rfc3339(self.since))
    }
}

/// What an owner file says; None when it is not there or cannot be read as one.
pub fn read(path: &Path) -> Result<Option<Owner>, PathError> {
    match fs::read_if_exists(path) {
        Ok(bytes) => Ok(bytes.and_then(|bytes| serde_json::from_slice(&bytes).ok())),
        Err(error) if error.source.kind() == std::io::ErrorKind::PermissionDenied => Ok(None),
        Err(error) => Err(error),
    }
}

/// Whether there is evidence that the owner of `path` is gone.
pub fn is_stale(owner: &Owner, path: &Path, now: SystemTime, lease: Duration) -> Result<bool, PathError> {
    if owner.is_queued() {
        return Ok(owner.ticket.as_ref().is_some_and(is_over));
    }
    // A process number means something on one boot of one host in one process table only.
    if owner.is_comparable() {
        return Ok(host::start_time(owner.pid) != Some(owner.start));
    }
    let Some(meta) = fs::metadata_if_exists(path)? else { return Ok(false) };
    let beat = meta.modified().unwrap_or(SystemTime::UNIX_EPOCH);
    Ok(now.duration_since(beat).is_ok_and(|age| age > lease))
}

/// Whether a queued step has ended, by its own word. Nobody beats for a queued step, so its age says nothing; what the
/// scheduler knows of it is asked where runs are planned.
fn is_over(ticket: &Ticket) -> bool {
    #[derive(Deserialize)]
    struct Word {
        state: String,
    }
    let bytes = fs::read(&ticket.status_file()).unwrap_or_default();
    let word: Option<Word> = serde_json::from_slice(&bytes).ok();
    word.is_some_and(|word| matches!(word.state.as_str(), "done" | "failed" | "skipped" | "cancelled"))
}

/// Renews the file at `path` as long as it is the owner's with this token; ends when the sender is dropped.
pub fn heartbeat(path: PathBuf, token: String, lease: Duration) -> mpsc::Sender<()> {
    let (sender, receiver) = mpsc::channel();
    std::thread::spawn(move || {
        while receiver.recv_timeout(lease / 4) == Err(mpsc::RecvTimeoutError::Timeout) {
            match read(&path) {
                Ok(Some(owner)) if owner.token == token => {
                    let _ = fs::touch(&path);
                }
                Ok(_) => break,
                // A hanging file server is no reason to stop renewing.
                Err(_) => {}
            }
        }
    });
    sender
}
