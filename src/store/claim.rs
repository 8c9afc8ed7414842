//! Claims: "I am building this", a file beside the target with owner, evidence and a lease kept alive by heartbeat.
//! A claim saves double work; publishing is safe without it. Stale only by evidence: the process is gone (same host,
//! same boot, same process table), or the lease has run out by the file server's clock.

use std::path::{Path, PathBuf};
use std::sync::mpsc;
use std::time::{Duration, SystemTime};

pub use crate::sys::owner::{Owner, heartbeat, is_stale, read};

use crate::model::resources::JobId;
use crate::plan::Ticket;
use crate::sys::fs::{self, PathError};
use crate::sys::{host, signal};

/// What trying to claim came to.
#[derive(Debug)]
pub enum Tried {
    /// It is ours until dropped.
    Got(Claim),
    /// Somebody alive has it.
    Busy(Owner),
}

/// A claim held; dropping it gives it up.
#[derive(Debug)]
pub struct Claim {
    path: PathBuf,
    owner: Owner,
    // Dropped first: its closing ends the heartbeat.
    _beat: mpsc::Sender<()>,
}

/// The claim file of a target.
pub fn path_for(target: &Path) -> PathBuf {
    fs::sibling(target, ".claim")
}

/// Tries to claim `target`, taking over a stale claim, and the queued claim of the step that `ticket` stands for.
pub fn acquire(target: &Path, lease: Duration, ticket: Option<&Ticket>) -> Result<Tried, PathError> {
    let path = path_for(target);
    let owner = Owner { ticket: ticket.cloned(), ..Owner::me() };
    Ok(match put(target, &owner, lease)? {
        Some(other) => Tried::Busy(other),
        None => Tried::Got(Claim { _beat: heartbeat(path.clone(), owner.token.clone(), lease), path, owner }),
    })
}

/// Whether the claim of a target is that of a queued step.
pub fn is_queued(target: &Path) -> bool {
    matches!(read(&path_for(target)), Ok(Some(owner)) if owner.is_queued())
}

/// Claims `target` for a step that is about to be submitted; the live owner when there is one. Until
/// [`Reserved::hand_over`] it is this process' claim, and stale as soon as the process is gone.
pub fn reserve(target: &Path, lease: Duration, ticket: &Ticket) -> Result<Result<Reserved, Owner>, PathError> {
    let owner = Owner { ticket: Some(ticket.clone()), ..Owner::me() };
    Ok(match put(target, &owner, lease)? {
        Some(other) => Err(other),
        None => Ok(Reserved { path: path_for(target), owner, handed_over: false }),
    })
}

/// A claim for a step that is being submitted; dropped without being handed over, it is given up.
#[derive(Debug)]
pub struct Reserved {
    path: PathBuf,
    owner: Owner,
    handed_over: bool,
}

impl Drop for Reserved {
    fn drop(&mut self) {
        if !self.handed_over && holds(&self.path, &self.owner.token) {
            let _ = fs::remove_file(&self.path);
        }
    }
}

impl Reserved {
    /// The scheduler has the step: the claim is the job's from now on, whatever becomes of this process. Returns who has
    /// it instead, if somebody took it meanwhile; that the job itself has begun and taken it is fine.
    pub fn hand_over(mut self, job: &JobId) -> Result<Option<Owner>, PathError> {
        let now = read(&self.path)?;
        if now.as_ref().is_none_or(|owner| owner.token != self.owner.token) {
            let ours = |owner: &Owner| match (&owner.ticket, &self.owner.ticket) {
                (Some(theirs), Some(ours)) => theirs.same_step(ours),
                _ => false,
            };
            return Ok(now.filter(|owner| !ours(owner)));
        }
        self.owner.pid = 0;
        if let Some(ticket) = &mut self.owner.ticket {
            ticket.job = job.clone();
        }
        // Whatever the umask, others have to see whose it is from the first moment.
        let mut temp = self.path.clone().into_os_string();
        temp.push(format!(".{}.tmp", host::token()));
        let temp = PathBuf::from(temp);
        fs::write_quick(&temp, &serde_json::to_vec_pretty(&self.owner).unwrap_or_default(), 0o644)?;
        fs::set_mode(&temp, 0o644)?;
        fs::rename(&temp, &self.path)?;
        self.handed_over = true;
        Ok(None)
    }
}

/// Keeps claims alive until the sender is dropped: submitting many jobs takes longer than a lease.
pub fn beat<'a>(claims: impl Iterator<Item = &'a Reserved>, lease: Duration) -> mpsc::Sender<()> {
    let files: Vec<(PathBuf, String)> = claims.map(|claim| (claim.path.clone(), claim.owner.token.clone())).collect();
    let (sender, receiver) = mpsc::channel();
    std::thread::spawn(move || {
        while receiver.recv_timeout(lease / 4) == Err(mpsc::RecvTimeoutError::Timeout) {
            files.iter().filter(|(path, token)| holds(path, token)).for_each(|(path, _)| drop(fs::touch(path)));
        }
    });
    sender
}

fn holds(path: &Path, token: &str) -> bool {
    matches!(read(path), Ok(Some(owner)) if owner.token == token)
}

/// Removes the claim of a step's ticket, queued or left by a process that is gone; true when there was one.
pub fn release(target: &Path, lease: Duration, ticket: &Ticket) -> Result<bool, PathError> {
    let path = path_for(target);
    let Some(owner) = read(&path)? else { return Ok(false) };
    if !owner.ticket.as_ref().is_some_and(|other| other.same_step(ticket)) || !is_mine(&owner, Some(ticket)) {
        return Ok(false);
    }
    let temp = fs::sibling(target, &format!(".claim.{}.tmp", host::token()));
    // Who is killed while he takes over must be seen to be gone.
    fs::write_quick(&temp, &serde_json::to_vec(&Owner::me()).unwrap_or_default(), 0o644)?;
    let cleared = clear(&path, &temp, &owner.token, crate::sys::clock::system(), lease, Some(ticket), false);
    fs::remove_file(&temp)?;
    cleared.map(|()| true)
}

fn put(target: &Path, owner: &Owner, lease: Duration) -> Result<Option<Owner>, PathError> {
    let temp = fs::sibling(target, &format!(".claim.{}.tmp", owner.token));
    let text = serde_json::to_vec_pretty(owner).unwrap_or_default();
    fs::write_quick(&temp, &text, 0o644)?;
    // Whatever the umask: others of the group have to see whose it is.
    fs::set_mode(&temp, 0o644)?;
    let outcome = contend(&path_for(target), &temp, lease, owner.ticket.as_ref());
    fs::remove_file(&temp)?;
    outcome
}

/// Whether a claim is of the same step, and free to be taken over by this attempt at it: nobody has begun it, or the
/// process that has can be seen to be gone, or it was an earlier life of the same job (a requeued job runs once only).
fn is_mine(owner: &Owner, ticket: Option<&Ticket>) -> bool {
    let (Some(theirs), Some(ours)) = (&owner.ticket, ticket) else { return false };
    if !theirs.same_step(ours) || theirs.attempt > ours.attempt {
        return false;
    }
    if owner.is_comparable() && !owner.is_queued() {
        return host::start_time(owner.pid) != Some(owner.start);
    }
    owner.is_queued() || !ours.job.0.is_empty() && theirs.job == ours.job
}

/// Links `temp` to the claim's name; returns the live owner who was faster, if any.
fn contend(path: &Path, temp: &Path, lease: Duration, ticket: Option<&Ticket>) -> Result<Option<Owner>, PathError> {
    loop {
        if crate::sys::signal::interrupted().is_some() {
            let interrupted = std::io::Error::from(std::io::ErrorKind::Interrupted);
            return Err(PathError::new("claim", path)(interrupted));
        }
        // link(2) is atomic on NFS too, where O_EXCL has not always been.
        match fs::hard_link(temp, path) {
            Ok(()) => return Ok(None),
            Err(error) if error.source.kind() == std::io::ErrorKind::AlreadyExists => {}
            Err(error) => return Err(error),
        }
        // The temporary file's time is the file server's now, so clocks of hosts need not agree.
        let now = fs::metadata(temp)?.modified().unwrap_or(SystemTime::UNIX_EPOCH);
        match look(path, now, lease)? {
            State::Gone => {}
            // The one that a moment ago took the place of our queued step's.
            State::Held(owner) if holds(temp, &owner.token) => return Ok(None),
            State::Held(owner) if is_mine(&owner, ticket) => clear(path, temp, &owner.token, now, lease, ticket, true)?,
            State::Held(owner) => return Ok(Some(*owner)),
            State::Stale(token) => clear(path, temp, &token, now, lease, ticket, true)?,
        }
    }
}

/// What a claim file means at a time.
enum State {
    /// There is none.
    Gone,
    /// Somebody has it.
    Held(Box<Owner>),
    /// Its owner is gone; the token says which claim was judged.
    Stale(String),
}

fn look(path: &Path, now: SystemTime, lease: Duration) -> Result<State, PathError> {
    if let Some(owner) = read(path)? {
        let stale = is_stale(&owner, path, now, lease)?;
        return Ok(if stale { State::Stale(owner.token) } else { State::Held(Box::new(owner)) });
    }
    // Not ours to read, or never written by ovl: only its age can tell.
    let Some(meta) = fs::metadata_if_exists(path)? else { return Ok(State::Gone) };
    let age = meta.modified().ok().and_then(|beat| now.duration_since(beat).ok());
    Ok(if age.is_some_and(|age| age > lease) {
        State::Stale(String::new())
    } else {
        State::Held(Box::new(Owner::unknown()))
    })
}

/// Removes a stale claim, or puts ours in its place, so that nobody sees a moment without any. Several may have judged
/// it stale: who links the takeover file looks again, alone.
fn clear(
    path: &Path,
    temp: &Path,
    token: &str,
    now: SystemTime,
    lease: Duration,
    ticket: Option<&Ticket>,
    replace: bool,
) -> Result<(), PathError> {
    let mut takeover = path.as_os_str().to_owned();
    takeover.push(".takeover");
    let takeover = PathBuf::from(takeover);
    match fs::hard_link(temp, &takeover) {
        Ok(()) => {
            let same = match look(path, now, lease) {
                Ok(State::Stale(again)) => again == token,
                Ok(State::Held(owner)) => owner.token == token && is_mine(&owner, ticket),
                _ => false,
            };
            if same && replace {
                // It is our claim under another name.
                return fs::rename(&takeover, path);
            }
            let cleared = if same { fs::remove_file(path) } else { Ok(()) };
            fs::remove_file(&takeover)?;
            cleared
        }
        Err(error) if error.source.kind() == std::io::ErrorKind::AlreadyExists => {
            if !matches!(look(&takeover, now, lease)?, State::Held(_)) {
                fs::remove_file(&takeover)?;
            }
            std::thread::sleep(Duration::from_millis(2));
            Ok(())
        }
        Err(error) => Err(error),
    }
}

/// The live owner of the claim on `target` at a time, if any; changes nothing.
pub fn holder(target: &Path, now: SystemTime, lease: Duration) -> Result<Option<Owner>, PathError> {
    match look(&path_for(target), now, lease)? {
        State::Held(owner) => Ok(Some(*owner)),
        State::Gone | State::Stale(_) => Ok(None),
    }
}

/// Removes the claim on `target` if its owner is gone, and says whether it did.
pub fn remove_stale(target: &Path, now: SystemTime, lease: Duration) -> Result<bool, PathError> {
    let path = path_for(target);
    let State::Stale(token) = look(&path, now, lease)? else { return Ok(false) };
    let temp = fs::sibling(target, &format!(".claim.{}.tmp", host::token()));
    fs::write_quick(&temp, &serde_json::to_vec(&Owner::me()).unwrap_or_default(), 0o644)?;
    let cleared = clear(&path, &temp, &token, now, lease, None, false);
    fs::remove_file(&temp)?;
    cleared.map(|()| true)
}

impl Claim {
    /// Who we are in it.
    pub fn owner(&self) -> &Owner {
        &self.owner
    }
}

impl Drop for Claim {
    fn drop(&mut self) {
        if !holds(&self.path, &self.owner.token) {
            return;
        }
        let job = self.owner.ticket.as_ref().map(|ticket| ticket.job.clone()).filter(|job| !job.0.is_empty());
        match job.filter(|_| signal::interrupted().is_some()) {
            // Its scheduler has ended it, and may begin it again: until that is known the step counts as queued.
            Some(job) => {
                let queued = Reserved { path: self.path.clone(), owner: self.owner.clone(), handed_over: false };
                let _ = queued.hand_over(&job);
            }
            None => drop(fs::remove_file(&self.path)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn target() -> PathBuf {
        let dir = std::env::temp_dir().join(format!("ovl-claim-{}", host::token()));
        fs::create_dirs(&dir).unwrap();
        dir.join("a--1.sqf")
    }

    const LEASE: Duration = Duration::from_secs(60);

    fn forge(target: &Path, change: impl FnOnce(&mut Owner)) {
        let mut owner = Owner::me();
        change(&mut owner);
        fs::write_atomic(&path_for(target), &serde_json::to_vec(&owner).unwrap(), 0o644).unwrap();
    }

    fn got(target: &Path) -> bool {
        matches!(acquire(target, LEASE, None).unwrap(), Tried::Got(_))
    }

    #[test]
    fn one_at_a_time_and_gone_when_dropped() {
        let target = target();
        let Tried::Got(claim) = acquire(&target, LEASE, None).unwrap() else { panic!("free target is busy") };
        let Tried::Busy(owner) = acquire(&target, LEASE, None).unwrap() else { panic!("claimed twice") };
        assert_eq!(owner, *claim.owner());
        drop(claim);
        assert!(got(&target));
        assert!(fs::list(target.parent().unwrap()).unwrap().is_empty(), "something was left behind");
    }

    #[test]
    fn stale_only_by_evidence() {
        let target = target();
        forge(&target, |owner| owner.pid = 4_000_000);
        assert!(got(&target), "a dead process");
        forge(&target, |owner| owner.start += 1);
        assert!(got(&target), "a reused pid");
        let changes: [fn(&mut Owner); 2] =
            [|owner| owner.boot = "another".into(), |owner| owner.table = "pid:[1]".into()];
        for change in changes {
            forge(&target, change);
            assert!(!got(&target), "another boot or process table within its lease");
        }
        forge(&target, |owner| owner.host = "elsewhere".into());
        assert!(!got(&target), "another host within its lease");
        fs::open_rw(&path_for(&target)).unwrap().set_modified(SystemTime::UNIX_EPOCH).unwrap();
        assert!(got(&target), "another host past its lease");
    }

    #[test]
    fn what_cannot_be_read_is_held_until_the_lease_is_over() {
        let target = target();
        for garbage in [&b""[..], b"{", b"null"] {
            fs::write_atomic(&path_for(&target), garbage, 0o644).unwrap();
            let Tried::Busy(owner) = acquire(&target, LEASE, None).unwrap() else { panic!("taken over at once") };
            assert_eq!(owner.to_string(), "somebody (the claim file cannot be read)");
            fs::open_rw(&path_for(&target)).unwrap().set_modified(SystemTime::UNIX_EPOCH).unwrap();
            assert!(got(&target));
        }
    }

    #[test]
    fn of_many_exactly_one_takes_over() {
        let target = target();
        for _ in 0..20 {
            forge(&target, |owner| owner.pid = 4_000_000);
            let claims: Vec<_> = std::thread::scope(|scope| {
                let tries: Vec<_> = (0..8).map(|_| scope.spawn(|| acquire(&target, LEASE, None).unwrap())).collect();
                tries.into_iter().map(|one| one.join().unwrap()).collect()
            });
            assert_eq!(claims.iter().filter(|tried| matches!(tried, Tried::Got(_))).count(), 1);
        }
    }
}
