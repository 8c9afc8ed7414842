//! Claims: "I am building this", a file beside the target with owner, evidence and a lease kept alive by heartbeat.
//! A claim saves double work; publishing is safe without it. Stale only by evidence: the process is gone (same host,
//! same boot, same process table), or the lease has run out by the file server's clock.

use std::path::{Path, PathBuf};
use std::sync::mpsc;
use std::time::{Duration, SystemTime};

pub use crate::sys::owner::{Owner, heartbeat, is_stale, read};

use crate::sys::fs::{self, PathError};
use crate::sys::host;

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

/// Tries to claim `target`, taking over a stale claim.
pub fn acquire(target: &Path, lease: Duration) -> Result<Tried, PathError> {
    let path = path_for(target);
    let owner = Owner::me();
    let temp = fs::sibling(target, &format!(".claim.{}.tmp", owner.token));
    let text = serde_json::to_vec_pretty(&owner).unwrap_or_default();
    fs::write_atomic(&temp, &text, 0o644)?;
    // Whatever the umask: others of the group have to see whose it is.
    fs::set_mode(&temp, 0o644)?;
    let outcome = contend(&path, &temp, lease);
    fs::remove_file(&temp)?;
    Ok(match outcome? {
        Some(other) => Tried::Busy(other),
        None => Tried::Got(Claim { _beat: heartbeat(path.clone(), owner.token.clone(), lease), path, owner }),
    })
}

/// Links `temp` to the claim's name; returns the live owner who was faster, if any.
fn contend(path: &Path, temp: &Path, lease: Duration) -> Result<Option<Owner>, PathError> {
    loop {
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
            State::Held(owner) => return Ok(Some(*owner)),
            State::Stale(token) => clear(path, temp, &token, now, lease)?,
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

/// Removes a stale claim. Several may have judged it stale: who links the takeover file looks again, alone.
fn clear(path: &Path, temp: &Path, token: &str, now: SystemTime, lease: Duration) -> Result<(), PathError> {
    let mut takeover = path.as_os_str().to_owned();
    takeover.push(".takeover");
    let takeover = PathBuf::from(takeover);
    match fs::hard_link(temp, &takeover) {
        Ok(()) => {
            let same = matches!(look(path, now, lease), Ok(State::Stale(again)) if again == token);
            let cleared = if same { fs::remove_file(path) } else { Ok(()) };
            fs::remove_file(&takeover)?;
            cleared
        }
        Err(error) if error.source.kind() == std::io::ErrorKind::AlreadyExists => {
            if let Some(owner) = read(&takeover)?
                && is_stale(&owner, &takeover, now, lease)?
            {
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
    fs::write_atomic(&temp, b"", 0o644)?;
    let cleared = clear(&path, &temp, &token, now, lease);
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
        if matches!(read(&self.path), Ok(Some(owner)) if owner.token == self.owner.token) {
            let _ = fs::remove_file(&self.path);
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
        matches!(acquire(target, LEASE).unwrap(), Tried::Got(_))
    }

    #[test]
    fn one_at_a_time_and_gone_when_dropped() {
        let target = target();
        let Tried::Got(claim) = acquire(&target, LEASE).unwrap() else { panic!("free target is busy") };
        let Tried::Busy(owner) = acquire(&target, LEASE).unwrap() else { panic!("claimed twice") };
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
            let Tried::Busy(owner) = acquire(&target, LEASE).unwrap() else { panic!("taken over at once") };
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
                let tries: Vec<_> = (0..8).map(|_| scope.spawn(|| acquire(&target, LEASE).unwrap())).collect();
                tries.into_iter().map(|one| one.join().unwrap()).collect()
            });
            assert_eq!(claims.iter().filter(|tried| matches!(tried, Tried::Got(_))).count(), 1);
        }
    }
}
