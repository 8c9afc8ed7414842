//! The package cache: archives as single files, never unpacked, named by digest and file name. Several directories may be
//! looked at; the first is written to, by a rename from another name under a claim, so that it may lie on any network
//! file system and be shared by a group. Every archive is checked before it is used.

use std::io::Read;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Mutex, OnceLock, PoisonError};
use std::time::Duration;

use rattler_conda_types::RepoDataRecord;
use rattler_digest::digest::Digest;
use rattler_digest::{Md5, Sha256};

use super::auth::Credentials;
use super::error::CondaError;
use crate::config::Config;
use crate::net::{self, Access, Download, NetError, Sum, Watch};
use crate::store::claim::{self, Tried};
use crate::sys::fs::{self, PathError};
use crate::sys::host;

/// Bytes read at once for checking.
const PIECE: usize = 1 << 20;
/// How often somebody else's transfer is looked at.
const LOOK: Duration = Duration::from_millis(200);

/// Archives that cannot be had.
#[derive(Debug, thiserror::Error)]
pub enum FetchError {
    /// Without network, these are not there.
    #[error("{} of {total} packages are not in the cache: {}", missing.len(), shown(missing))]
    Missing {
        /// Their file names.
        missing: Vec<String>,
        /// Of how many packages.
        total: usize,
    },
    /// A file that is where a channel says it is, and not what the channel says it is.
    #[error("{0} is damaged: its digest is not the one the channel gives")]
    Damaged(String),
    /// A channel in a directory names a file that is not there.
    #[error("{} is not there, although its channel names it", .0.display())]
    Gone(PathBuf),
    /// A transfer.
    #[error(transparent)]
    Net(#[from] NetError),
    /// A file of credentials that cannot be read.
    #[error(transparent)]
    Credentials(Box<CondaError>),
    /// The cache itself.
    #[error(transparent)]
    File(#[from] PathError),
    /// The user has interrupted.
    #[error("interrupted")]
    Interrupted,
}

fn shown(names: &[String]) -> String {
    let more = names.len().saturating_sub(10);
    let mut text = names.iter().take(10).cloned().collect::<Vec<_>>().join(", ");
    if more > 0 {
        text.push_str(&format!(" and {more} more"));
    }
    text
}

/// Directories with archives.
#[derive(Debug, Clone)]
pub struct Cache {
    dirs: Vec<PathBuf>,
    lease: Duration,
}

/// How to fetch.
#[derive(Debug, Clone, Copy)]
pub struct How {
    /// Transfers at a time.
    pub threads: usize,
    /// Only what is there counts.
    pub offline: bool,
}

impl Cache {
    /// The one that the configuration names.
    pub fn of(config: &Config) -> Cache {
        let mut dirs = config.conda_pkgs_dirs();
        if dirs.is_empty() {
            dirs.push(config.cache_dir().join("pkgs"));
        }
        Cache::new(dirs, config.lease())
    }

    /// One in these directories; archives that are not there go into the first. `lease`: how long somebody else's transfer
    /// counts as alive without a sign of life.
    pub fn new(dirs: Vec<PathBuf>, lease: Duration) -> Cache {
        Cache { dirs, lease }
    }

    /// The archives of packages, in their order; what is not there is fetched.
    ///
    /// # Errors
    /// The first that could not be had; without network, all that are missing.
    pub fn fetch(&self, records: &[RepoDataRecord], how: How, watch: &dyn Watch) -> Result<Vec<PathBuf>, FetchError> {
        let all = All {
            done: AtomicU64::new(0),
            total: records.iter().filter_map(|record| record.package_record.size).sum(),
            watch,
            credentials: OnceLock::new(),
        };
        let next = AtomicUsize::new(0);
        let found: Vec<Mutex<Option<PathBuf>>> = records.iter().map(|_| Mutex::new(None)).collect();
        let failed: Mutex<Option<FetchError>> = Mutex::new(None);
        let missing: Mutex<Vec<String>> = Mutex::new(Vec::new());
        let work = || {
            while failed.lock().is_ok_and(|failed| failed.is_none()) {
                let index = next.fetch_add(1, Ordering::Relaxed);
                let (Some(record), Some(place)) = (records.get(index), found.get(index)) else { return };
                match self.one(record, how.offline, &all) {
                    Ok(Some(path)) => *place.lock().unwrap_or_else(PoisonError::into_inner) = Some(path),
                    Ok(None) => missing.lock().unwrap_or_else(PoisonError::into_inner).push(plain(record)),
                    Err(error) => drop(failed.lock().unwrap_or_else(PoisonError::into_inner).get_or_insert(error)),
                }
            }
        };
        std::thread::scope(|scope| {
            for _ in 0..how.threads.clamp(1, records.len().max(1)) {
                scope.spawn(work);
            }
        });
        if let Some(error) = failed.into_inner().unwrap_or_else(PoisonError::into_inner) {
            return Err(error);
        }
        let mut missing = missing.into_inner().unwrap_or_else(PoisonError::into_inner);
        if !missing.is_empty() {
            missing.sort();
            return Err(FetchError::Missing { missing, total: records.len() });
        }
        let paths = found.into_iter().filter_map(|one| one.into_inner().unwrap_or_else(PoisonError::into_inner));
        Ok(paths.collect())
    }

    /// One archive; None: it is not there, and the network is not to be used.
    fn one(&self, record: &RepoDataRecord, offline: bool, all: &All) -> Result<Option<PathBuf>, FetchError> {
        // A channel in a directory needs no copies.
        if record.url.scheme() == "file"
            && let Ok(path) = record.url.to_file_path()
        {
            return match check(&path, record, all)? {
                Checked::Good => Ok(Some(path)),
                Checked::Absent => Err(FetchError::Gone(path)),
                Checked::Bad => Err(FetchError::Damaged(path.display().to_string())),
            };
        }
        if let Some(path) = self.there(record, all)? {
            return Ok(Some(path));
        }
        let Some(dir) = self.dirs.first().filter(|_| !offline) else { return Ok(None) };
        fs::create_dirs(dir)?;
        let target = dir.join(name(record));
        let mut told = false;
        loop {
            // Where claims cannot be made, two may fetch the same: each under a name of its own.
            let claim = match claim::acquire(&target, self.lease, None) {
                Ok(Tried::Got(claim)) => Some(claim),
                Ok(Tried::Busy(owner)) => {
                    if !told {
                        all.watch.waits_for(&format!("{}, which is fetched by {owner}", plain(record)));
                        told = true;
                    }
                    if all.cancelled() {
                        return Err(FetchError::Interrupted);
                    }
                    std::thread::sleep(LOOK);
                    if target.is_file()
                        && let Some(path) = self.there(record, all)?
                    {
                        return Ok(Some(path));
                    }
                    continue;
                }
                Err(_) => None,
            };
            if claim.is_some() && target.is_file() && matches!(check(&target, record, all)?, Checked::Good) {
                return Ok(Some(target));
            }
            let own = if claim.is_some() { host::user() } else { host::token() };
            let fresh = fs::sibling(&target, &format!(".{own}"));
            get(record, &fresh, all)?;
            // Nobody writes to what others read; in a directory of a group another file may take its name.
            fs::set_mode(&fresh, 0o444)?;
            fs::rename(&fresh, &target)?;
            return Ok(Some(target));
        }
    }

    /// Where a good one is.
    fn there(&self, record: &RepoDataRecord, all: &All) -> Result<Option<PathBuf>, FetchError> {
        for dir in &self.dirs {
            // Caches of conda and others have the plain name; what it is, only a digest tells.
            let known = &record.package_record;
            let plain = (known.sha256.is_some() || known.md5.is_some()).then(|| plain(record));
            for name in [Some(name(record)), plain].into_iter().flatten() {
                let path = dir.join(name);
                match check(&path, record, all) {
                    Ok(Checked::Good) => return Ok(Some(path)),
                    // What cannot be read is not there for us.
                    Ok(_) | Err(FetchError::File(_)) => {}
                    Err(error) => return Err(error),
                }
            }
        }
        Ok(None)
    }
}

/// Progress of all transfers together.
struct All<'a> {
    done: AtomicU64,
    total: u64,
    watch: &'a dyn Watch,
    /// Read when the first transfer needs them.
    credentials: OnceLock<Credentials>,
}

impl All<'_> {
    /// What the server of a package is shown.
    fn access(&self, record: &RepoDataRecord) -> Result<Access, FetchError> {
        let credentials = match self.credentials.get() {
            Some(known) => known,
            None => {
                let made = Credentials::new().map_err(|error| FetchError::Credentials(Box::new(error)))?;
                self.credentials.get_or_init(|| made)
            }
        };
        Ok(credentials.of(&record.url, record.channel.as_deref()))
    }

    fn cancelled(&self) -> bool {
        self.watch.cancelled()
    }

    fn add(&self, bytes: u64) {
        let done = self.done.fetch_add(bytes, Ordering::Relaxed) + bytes;
        self.watch.progress(done, Some(self.total.max(done)));
    }
}

/// Progress of one of them.
struct One<'a> {
    all: &'a All<'a>,
    last: AtomicU64,
}

impl Watch for One<'_> {
    fn progress(&self, done: u64, _total: Option<u64>) {
        let before = self.last.swap(done, Ordering::Relaxed);
        self.all.add(done.saturating_sub(before));
    }

    fn cancelled(&self) -> bool {
        self.all.cancelled()
    }
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// The file name the channel has.
fn plain(record: &RepoDataRecord) -> String {
    record.identifier.to_file_name()
}

/// The name in the cache: packages of different channels may have the same file name.
fn name(record: &RepoDataRecord) -> String {
    let known = &record.package_record;
    let digest = known.sha256.as_ref().map(|sum| hex(sum)).or(known.md5.as_ref().map(|sum| hex(sum)));
    match digest.as_deref().and_then(|digest| digest.get(..16)) {
        Some(digest) => format!("{digest}-{}", plain(record)),
        // Nothing else tells it from another channel's.
        None => {
            format!("{}-{}", hex(&Sha256::digest(record.url.as_str())).get(..16).unwrap_or_default(), plain(record))
        }
    }
}

enum Checked {
    Good,
    Bad,
    Absent,
}

/// Whether an archive is what the channel says it is.
fn check(path: &Path, record: &RepoDataRecord, all: &All) -> Result<Checked, FetchError> {
    let known = &record.package_record;
    let Some(meta) = fs::metadata_if_exists(path)?.filter(|meta| meta.is_file()) else { return Ok(Checked::Absent) };
    let good = match (&known.sha256, &known.md5, known.size) {
        (Some(sum), ..) => digest::<Sha256>(path, all)?.as_slice() == sum.as_slice(),
        (None, Some(sum), _) => digest::<Md5>(path, all)?.as_slice() == sum.as_slice(),
        (None, None, Some(size)) => meta.len() == size,
        (None, None, None) => true,
    };
    if good {
        all.add(known.size.unwrap_or(0));
    }
    Ok(if good { Checked::Good } else { Checked::Bad })
}

fn digest<D: Digest>(path: &Path, all: &All) -> Result<Vec<u8>, FetchError> {
    let mut file = fs::open(path)?;
    let mut hash = D::new();
    let mut buffer = vec![0; PIECE];
    loop {
        if all.cancelled() {
            return Err(FetchError::Interrupted);
        }
        let got = file.read(&mut buffer).map_err(PathError::new("read", path))?;
        if got == 0 {
            return Ok(hash.finalize().to_vec());
        }
        hash.update(buffer.get(..got).unwrap_or_default());
    }
}

/// Fetches an archive to a place of its own.
fn get(record: &RepoDataRecord, to: &Path, all: &All) -> Result<(), FetchError> {
    let known = &record.package_record;
    let sum = known.sha256.as_ref().map(|sum| Sum::Sha256(hex(sum)));
    let access = all.access(record)?;
    let what = Download { sum, size: known.size, access, ..Download::new(record.url.as_str(), to) };
    net::download(&what, &One { all, last: AtomicU64::new(0) })?;
    if known.sha256.is_none()
        && let Some(sum) = &known.md5
        && digest::<Md5>(to, all)?.as_slice() != sum.as_slice()
    {
        fs::remove_file(to)?;
        return Err(FetchError::Damaged(net::redacted(record.url.as_str())));
    }
    Ok(())
}
