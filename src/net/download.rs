//! One file from an address (or several that have the same) to a place on disk: tried again with patience, resumed
//! where a server allows it, checked while it streams, and only ever there whole.

use std::path::{Path, PathBuf};
use std::time::Duration;

use super::error::{NetError, Trouble};
use super::part::Part;
use super::transfer::{self, Stopped, Way};
use crate::sys::fs;
use crate::sys::{digest, signal};

/// What to fetch.
#[derive(Debug, Clone)]
pub struct Download<'a> {
    /// `https:`, `http:` or `file:`.
    pub url: &'a str,
    /// Where it goes, by a rename at the end.
    pub to: &'a Path,
    /// What it must be.
    pub sum: Option<Sum>,
    /// Bytes, when known beforehand.
    pub size: Option<u64>,
    /// The most that is taken, in bytes; more ends the transfer when it comes.
    pub most: Option<u64>,
    /// What is shown to the server.
    pub access: Access,
}

impl<'a> Download<'a> {
    /// Whatever comes from there.
    pub fn new(url: &'a str, to: &'a Path) -> Download<'a> {
        Download { url, to, sum: None, size: None, most: None, access: Access::Netrc }
    }
}

/// What a server is shown of who asks. It is for the address alone: where that leads to another host, it is left out.
#[derive(Clone, Default, PartialEq, Eq)]
pub enum Access {
    /// What netrc has for the host, if anything.
    #[default]
    Netrc,
    /// Nothing.
    Anonymous,
    /// The value of an `Authorization` header.
    Header(String),
    /// A token that stands before the path, as `/t/TOKEN/…`.
    Token(String),
}

/// A secret is not shown.
impl std::fmt::Debug for Access {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Access::Netrc => "Netrc",
            Access::Anonymous => "Anonymous",
            Access::Header(_) => "Header(…)",
            Access::Token(_) => "Token(…)",
        })
    }
}

/// What to fetch into a store in which files are called by their digest.
#[derive(Debug, Clone)]
pub struct Keep<'a> {
    /// Addresses that have the same file, the one to try first at the front; at least one.
    pub urls: &'a [&'a str],
    /// The store: the file will be called by its SHA-256 in it.
    pub dir: &'a Path,
    /// What it must be.
    pub sum: Option<Sum>,
    /// Permission bits of the file.
    pub mode: u32,
}

/// A digest that is wanted, in lower case hexadecimal.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Sum {
    /// SHA-256.
    Sha256(String),
}

impl Sum {
    fn hex(&self) -> &str {
        match self {
            Sum::Sha256(hex) => hex,
        }
    }
}

/// What came.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Fetched {
    /// SHA-256 in lower case hexadecimal.
    pub sha256: String,
    /// Bytes.
    pub bytes: u64,
}

/// Somebody who follows a transfer.
pub trait Watch: Sync {
    /// So many bytes are there, of how many if that is known.
    fn progress(&self, done: u64, total: Option<u64>);
    /// Whether to stop.
    fn cancelled(&self) -> bool;
    /// Something worth a line of a log: another try, another server.
    fn note(&self, _text: &str) {}
    /// Somebody else is at it; `what` tells who, to stand behind "waiting for".
    fn waits_for(&self, _what: &str) {}
}

/// A watch for transfers that nobody looks at: only Ctrl-C ends them.
#[derive(Debug, Clone, Copy)]
pub struct Unwatched;

impl Watch for Unwatched {
    fn progress(&self, _done: u64, _total: Option<u64>) {}

    fn cancelled(&self) -> bool {
        signal::interrupted().is_some()
    }
}

/// The first pause between two tries; each is twice as long as the one before.
const FIRST_PAUSE: Duration = Duration::from_millis(500);
/// The longest pause between two tries; a server may ask for more.
const LONGEST_PAUSE: Duration = Duration::from_secs(30);
/// A server that asks for more patience than this has refused.
const MOST_PATIENCE: Duration = Duration::from_secs(300);

/// Fetches a file. Its parent directory must be there; the file is there whole or not at all.
pub fn download(what: &Download, watch: &dyn Watch) -> Result<Fetched, NetError> {
    let access = &what.access;
    let goal =
        Goal { urls: &[what.url], sum: what.sum.as_ref(), size: what.size, most: what.most, access, mode: 0o644 };
    fetch(&goal, &fs::sibling(what.to, &format!(".{}.part", goal.id())), &|_| what.to.to_owned(), watch)
}

/// Fetches a file into a store; gives its path there. What is there already under the digest wanted is not looked at.
pub fn download_into(what: &Keep, watch: &dyn Watch) -> Result<(PathBuf, Fetched), NetError> {
    let goal = Goal {
        urls: what.urls,
        sum: what.sum.as_ref(),
        size: None,
        most: None,
        access: &Access::Netrc,
        mode: what.mode,
    };
    let part = what.dir.join(format!(".{}.part", goal.id()));
    let fetched = fetch(&goal, &part, &|sha256| what.dir.join(sha256), watch)?;
    Ok((what.dir.join(&fetched.sha256), fetched))
}

struct Goal<'a> {
    urls: &'a [&'a str],
    sum: Option<&'a Sum>,
    size: Option<u64>,
    most: Option<u64>,
    access: &'a Access,
    mode: u32,
}

impl Goal<'_> {
    /// Tells what is wanted: the same for all mirrors of a known file.
    fn id(&self) -> String {
        let by = self.sum.map_or_else(|| self.urls.first().copied().unwrap_or_default(), Sum::hex);
        digest::of(by.as_bytes()).chars().skip("sha256:".len()).take(16).collect()
    }

    fn way(&self) -> Way<'_> {
        Way { known: self.sum.is_some(), access: self.access, most: self.most.or(self.size).unwrap_or(u64::MAX) }
    }

    fn told(&self, trouble: impl Into<Trouble>) -> NetError {
        NetError::new(self.urls.first().copied().unwrap_or_default(), trouble.into())
    }
}

fn fetch(goal: &Goal, part: &Path, to: &dyn Fn(&str) -> PathBuf, watch: &dyn Watch) -> Result<Fetched, NetError> {
    let (mut part, waited) = Part::open(part, watch).map_err(|error| goal.told(error))?;
    if let (true, Some(sum)) = (waited, goal.sum)
        && let Some(fetched) = already(&to(sum.hex()), sum)
    {
        return Ok(fetched);
    }
    // Pieces of several servers may not fit together.
    let pieced = part.len > 0 || goal.urls.len() > 1;
    try_all(goal, &mut part, watch)?;
    let wrong = |part: &Part| goal.sum.is_some_and(|sum| sum.hex() != part.sha256());
    if wrong(&part) && pieced {
        // Its beginning may be that of another version: once more, all of it.
        watch.note("what was begun earlier does not fit; fetching all of it");
        part.restart(None).map_err(|error| goal.told(error))?;
        try_all(goal, &mut part, watch)?;
    }
    let fetched = Fetched { sha256: part.sha256(), bytes: part.len };
    if let (true, Some(sum)) = (wrong(&part), goal.sum) {
        part.discard().map_err(|error| goal.told(error))?;
        let digest = |hex: &str| format!("sha256:{hex}");
        return Err(goal.told(Trouble::Digest { wanted: digest(sum.hex()), found: digest(&fetched.sha256) }));
    }
    if let Some(size) = goal.size.filter(|size| *size != fetched.bytes) {
        part.discard().map_err(|error| goal.told(error))?;
        return Err(goal.told(Trouble::Cut(format!("{} bytes came, not {size}", fetched.bytes))));
    }
    part.finish(&to(&fetched.sha256), goal.mode).map_err(|error| goal.told(error))?;
    Ok(fetched)
}

/// Another process has fetched it meanwhile.
fn already(path: &Path, sum: &Sum) -> Option<Fetched> {
    let file = fs::open(path).ok()?;
    let found = digest::of_file(&file).ok()?;
    let bytes = file.metadata().ok()?.len();
    (found.strip_prefix("sha256:") == Some(sum.hex())).then(|| Fetched { sha256: sum.hex().to_owned(), bytes })
}

/// Tries the addresses in turn, as often as it makes sense.
fn try_all(goal: &Goal, part: &mut Part, watch: &dyn Watch) -> Result<(), NetError> {
    let mut left: Vec<&str> = goal.urls.to_vec();
    let mut pause = FIRST_PAUSE;
    let mut tries = 0;
    let mut last = None;
    while !left.is_empty() {
        let before = part.len;
        let mut wait: Option<Duration> = None;
        let mut again = Vec::new();
        for url in left {
            let Stopped { error, after } = match transfer::run(url, part, &goal.way(), watch) {
                Ok(()) => return Ok(()),
                Err(stopped) => stopped,
            };
            if matches!(error.trouble, Trouble::TooLarge(_)) {
                // It is no beginning of what is wanted.
                part.restart(None).map_err(|error| goal.told(error))?;
            }
            if matches!(error.trouble, Trouble::Interrupted | Trouble::File(_) | Trouble::Room { .. }) {
                return Err(error);
            }
            let refused = after.is_some_and(|after| after > MOST_PATIENCE);
            if error.is_passing() && !refused {
                again.push(url);
            }
            wait = wait.max(after.filter(|_| !refused));
            watch.note(&error.to_string());
            // The first address is the one that people know.
            if last.is_none() || !again.is_empty() || goal.urls.len() == 1 {
                last = Some(error);
            }
        }
        left = again;
        if part.len > before {
            (tries, pause) = (1, FIRST_PAUSE);
        } else {
            tries += 1;
        }
        if left.is_empty() || tries >= super::patience().tries {
            break;
        }
        let wait = wait.unwrap_or(pause);
        watch.note(&format!("trying again in {:.1} s", wait.as_secs_f64()));
        if !sleep(wait, watch) {
            return Err(goal.told(Trouble::Interrupted));
        }
        pause = (pause * 2).min(LONGEST_PAUSE);
    }
    Err(last.unwrap_or_else(|| goal.told(Trouble::Address("there is none".into()))))
}

/// Whether the time has passed without an interrupt.
fn sleep(time: Duration, watch: &dyn Watch) -> bool {
    let began = std::time::Instant::now();
    while began.elapsed() < time {
        if watch.cancelled() {
            return false;
        }
        std::thread::sleep(Duration::from_millis(50).min(time.saturating_sub(began.elapsed())));
    }
    true
}

/// A small thing, into memory; more than `most` bytes are refused.
pub fn bytes(url: &str, most: u64) -> Result<Vec<u8>, NetError> {
    let mut pause = Duration::from_millis(300);
    let mut tries = 0;
    loop {
        tries += 1;
        match transfer::small(url, most) {
            Err(error) if error.is_passing() && tries < super::patience().tries => {
                if !sleep(pause, &Unwatched) {
                    return Err(NetError::new(url, Trouble::Interrupted));
                }
                pause *= 2;
            }
            other => return other,
        }
    }
}
