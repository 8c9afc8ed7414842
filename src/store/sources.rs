//! Files that recipes fetch (`#SRC`), kept under their digests: fetched once, whoever needs them. What a recipe gives no
//! digest for is remembered by its address, with the digest that it had when it came.

use std::path::{Path, PathBuf};
use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::layers;
use crate::net::{self, Keep, NetError, Sum, Trouble, Watch};
use crate::recipe::spec::Source;
use crate::sys::fs::{self, PathError};
use crate::sys::lock::{self, Kind, Taken};
use crate::sys::{clock, digest, host};

/// A store: where new files go, and where else there may be some.
#[derive(Debug, Clone)]
pub struct Sources {
    own: PathBuf,
    others: Vec<PathBuf>,
}

/// A file that is here.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Input {
    /// Where.
    pub path: PathBuf,
    /// SHA-256 in lower case hexadecimal.
    pub sha256: String,
    /// Bytes.
    pub bytes: u64,
    /// Whether it had to be fetched.
    pub fetched: bool,
}

/// What an address gave when no digest was known.
#[derive(Debug, Serialize, Deserialize)]
struct Came {
    url: String,
    sha256: String,
    bytes: u64,
    when: i64,
}

impl Sources {
    /// New files go to `own`.
    pub fn new(own: PathBuf, others: Vec<PathBuf>) -> Sources {
        Sources { own, others }
    }

    /// Where new files go.
    pub fn place(&self) -> &Path {
        &self.own
    }

    /// Whether it can be had without a network, as far as can be told without reading it.
    pub fn has(&self, source: &Source) -> Result<bool, PathError> {
        if let Some(path) = local(source) {
            return Ok(fs::metadata_if_exists(&path)?.is_some_and(|meta| meta.is_file()));
        }
        Ok(self.kept(source)?.is_some())
    }

    /// The file: a local one as it is, one that is kept, or fetched now.
    pub fn get(&self, source: &Source, offline: bool, watch: &dyn Watch) -> Result<Input, NetError> {
        let told = |error: PathError| NetError::new(&source.url, error.into());
        if let Some(path) = local(source) {
            return in_place(source, path, watch);
        }
        if let Some(input) = self.sound(source)? {
            return Ok(input);
        }
        if offline {
            return Err(NetError::new(&source.url, Trouble::Offline));
        }
        layers::make_shared(&self.own).map_err(told)?;
        // What the address gives is not known beforehand: whoever comes second has to wait for the first's answer.
        let _lock = match source.sha256 {
            Some(_) => None,
            None => Some(self.lock(source, watch)?),
        };
        if let Some(input) = self.sound(source)? {
            return Ok(input);
        }
        let urls: Vec<&str> = std::iter::once(&source.url).chain(&source.mirrors).map(String::as_str).collect();
        let keep = Keep {
            urls: &urls,
            dir: &self.own,
            sum: source.sha256.clone().map(Sum::Sha256),
            mode: layers::shared_mode(&self.own, 0o644) & 0o444,
        };
        let (path, fetched) = net::download_into(&keep, watch)?;
        if source.sha256.is_none() {
            let url = net::redacted(&source.url);
            let came = Came { url, sha256: fetched.sha256.clone(), bytes: fetched.bytes, when: clock::now() };
            let text = serde_json::to_vec_pretty(&came).unwrap_or_default();
            let record = self.own.join(record_of(source));
            fs::write_atomic(&record, &text, layers::shared_mode(&self.own, 0o644)).map_err(told)?;
        }
        Ok(Input { path, sha256: fetched.sha256, bytes: fetched.bytes, fetched: true })
    }

    /// What is kept of it: path, digest, bytes.
    fn kept(&self, source: &Source) -> Result<Option<(PathBuf, String, u64)>, PathError> {
        for dir in std::iter::once(&self.own).chain(&self.others) {
            let (sha256, size) = match &source.sha256 {
                Some(sha256) => (sha256.clone(), None),
                None => {
                    let Some(text) = fs::read_if_exists(&dir.join(record_of(source)))? else { continue };
                    match serde_json::from_slice::<Came>(&text) {
                        Ok(came) if digest::is_hex(&came.sha256) => (came.sha256, Some(came.bytes)),
                        _ => continue,
                    }
                }
            };
            let path = dir.join(&sha256);
            let Some(meta) = fs::metadata_if_exists(&path)?.filter(|meta| meta.is_file()) else { continue };
            if size.is_none_or(|size| size == meta.len()) {
                return Ok(Some((path, sha256, meta.len())));
            }
        }
        Ok(None)
    }

    /// The same, looked at: a file that others of a group may have written is compared with its digest.
    fn sound(&self, source: &Source) -> Result<Option<Input>, NetError> {
        use std::os::unix::fs::MetadataExt;
        let told = |error: PathError| NetError::new(&source.url, error.into());
        let Some((path, sha256, bytes)) = self.kept(source).map_err(told)? else { return Ok(None) };
        let meta = fs::metadata(&path).map_err(told)?;
        if meta.uid() != host::ids().0 || meta.mode() & 0o222 != 0 {
            let file = fs::open(&path).map_err(told)?;
            let found = digest::of_file(&file).map_err(|error| told(PathError::new("read", &path)(error)))?;
            if found.strip_prefix("sha256:") != Some(&sha256) {
                return Ok(None);
            }
        }
        Ok(Some(Input { path, sha256, bytes, fetched: false }))
    }

    /// Waits for whoever fetches from the same address; the lock goes with the file. Without locks nobody waits.
    fn lock(&self, source: &Source, watch: &dyn Watch) -> Result<Option<std::fs::File>, NetError> {
        let told = |error: PathError| NetError::new(&source.url, error.into());
        let path = self.own.join(format!(".{}.lock", record_of(source).trim_start_matches('.')));
        let file = match fs::create_new(&path, layers::shared_mode(&self.own, 0o644)) {
            Err(error) if error.is_taken() => match fs::open_rw(&path) {
                Err(error) if error.is_denied() => return Ok(None),
                other => other,
            },
            other => other,
        };
        let file = file.map_err(told)?;
        loop {
            match lock::try_lock(&file, Kind::Write) {
                Ok(Taken::Held) => return Ok(Some(file)),
                Ok(Taken::Busy) => {}
                Ok(Taken::Unsupported) | Err(_) => return Ok(None),
            }
            if watch.cancelled() {
                return Err(NetError::new(&source.url, Trouble::Interrupted));
            }
            std::thread::sleep(Duration::from_millis(100));
        }
    }
}

/// Where it is remembered what an address gave.
fn record_of(source: &Source) -> String {
    let id = digest::of(source.url.as_bytes());
    format!(".{}.came", id.trim_start_matches("sha256:").get(..32).unwrap_or_default())
}

/// The file that a `file:` address means.
fn local(source: &Source) -> Option<PathBuf> {
    let url = url::Url::parse(&source.url).ok().filter(|url| url.scheme() == "file")?;
    url.to_file_path().ok()
}

/// A file of this machine is used where it is: it may be large, and nobody needs it twice.
fn in_place(source: &Source, path: PathBuf, watch: &dyn Watch) -> Result<Input, NetError> {
    let told = |error: PathError| NetError::new(&source.url, error.into());
    let meta = fs::metadata(&path).map_err(told)?;
    if !meta.is_file() {
        return Err(NetError::new(&source.url, Trouble::Address("this is no regular file".into())));
    }
    let path = fs::canonicalize(&path).map_err(told)?;
    let file = fs::open(&path).map_err(told)?;
    let mut hash = digest::Running::new();
    let mut buffer = vec![0; 1 << 20];
    let mut done = 0;
    loop {
        use std::os::unix::fs::FileExt;
        let got = file.read_at(&mut buffer, done).map_err(|error| told(PathError::new("read", &path)(error)))?;
        if got == 0 {
            break;
        }
        hash.add(&buffer[..got]);
        done += got as u64;
        watch.progress(done, Some(meta.len()));
        if watch.cancelled() {
            return Err(NetError::new(&source.url, Trouble::Interrupted));
        }
    }
    let sha256 = hash.finish().trim_start_matches("sha256:").to_owned();
    match &source.sha256 {
        Some(wanted) if *wanted != sha256 => {
            let digest = |hex: &str| format!("sha256:{hex}");
            let trouble = Trouble::Digest { wanted: digest(wanted), found: digest(&sha256) };
            Err(NetError::new(&source.url, trouble))
        }
        _ => Ok(Input { path, sha256, bytes: done, fetched: false }),
    }
}
