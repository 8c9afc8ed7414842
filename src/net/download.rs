//! One file from an address to a place on disk: resumed where a server allows it, checked while it streams, and only
//! ever there whole.

use std::fs::File;
use std::io::Write;
use std::path::Path;
use std::time::Duration;

use super::error::{NetError, Trouble};
use crate::sys::digest;
use crate::sys::fs::{self, PathError};

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
}

/// A digest that is wanted, in lower case hexadecimal.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Sum {
    /// SHA-256.
    Sha256(String),
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
}

/// How often a passing trouble is overlooked.
const TRIES: u32 = 5;

/// Fetches a file. Its parent directory must be there; the file is there whole or not at all.
pub fn download(what: &Download, watch: &dyn Watch) -> Result<Fetched, NetError> {
    let part = part_of(what);
    let told = |trouble| NetError::new(what.url, trouble);
    let mut pause = Duration::from_millis(500);
    let mut tries = 0;
    let fetched = loop {
        tries += 1;
        match attempt(what, &part, watch) {
            Ok(fetched) => break fetched,
            Err(error) if error.is_passing() && tries < TRIES && !watch.cancelled() => {
                std::thread::sleep(pause);
                pause *= 2;
            }
            Err(error) => return Err(error),
        }
    };
    if let Some(Sum::Sha256(wanted)) = &what.sum
        && *wanted != fetched.sha256
    {
        fs::remove_file(&part).map_err(|error| told(error.into()))?;
        let digest = |hex: &str| format!("sha256:{hex}");
        return Err(told(Trouble::Digest { wanted: digest(wanted), found: digest(&fetched.sha256) }));
    }
    fs::rename(&part, what.to).map_err(|error| told(error.into()))?;
    Ok(fetched)
}

/// Where an unfinished transfer lies: a name told by the address, so that a later one goes on with it.
fn part_of(what: &Download) -> std::path::PathBuf {
    let id = digest::of(what.url.as_bytes());
    let short: String = id.chars().skip("sha256:".len()).take(16).collect();
    fs::sibling(what.to, &format!(".{short}.part"))
}

fn attempt(what: &Download, part: &Path, watch: &dyn Watch) -> Result<Fetched, NetError> {
    let told = |trouble| NetError::new(what.url, trouble);
    let client = super::http()?;
    let mut hash = digest::Running::new();
    let mut done = 0;
    let mut file = open_part(part, &mut hash, &mut done).map_err(|error| told(error.into()))?;
    super::block_on(async {
        let mut request = client.get(what.url);
        if done > 0 {
            request = request.header("range", format!("bytes={done}-"));
        }
        let mut answer = request.send().await.map_err(|error| NetError::of(what.url, &error))?;
        let status = answer.status().as_u16();
        if done > 0 && status != 206 {
            // The server does not go on where it stopped: from the beginning, then.
            file.set_len(0).map_err(|error| told(PathError::new("empty", part)(error).into()))?;
            file = fs::append(part).map_err(|error| told(error.into()))?;
            (hash, done) = (digest::Running::new(), 0);
            if status == 416 {
                answer = client.get(what.url).send().await.map_err(|error| NetError::of(what.url, &error))?;
            }
        }
        if !answer.status().is_success() {
            return Err(told(Trouble::Status(answer.status().as_u16())));
        }
        let total = what.size.or(answer.content_length().map(|rest| done + rest));
        while let Some(piece) = answer.chunk().await.map_err(|error| NetError::of(what.url, &error))? {
            if watch.cancelled() {
                return Err(told(Trouble::Interrupted));
            }
            hash.add(&piece);
            file.write_all(&piece).map_err(|error| told(PathError::new("write", part)(error).into()))?;
            done += piece.len() as u64;
            watch.progress(done, total);
        }
        Ok(())
    })??;
    let sha256 = hash.finish().trim_start_matches("sha256:").to_owned();
    Ok(Fetched { sha256, bytes: done })
}

/// Opens what is there of an unfinished transfer, and hashes it.
fn open_part(part: &Path, hash: &mut digest::Running, done: &mut u64) -> Result<File, PathError> {
    if let Some(bytes) = fs::metadata_if_exists(part)? {
        let mut file = fs::open(part)?;
        let mut buffer = vec![0; 1 << 20];
        while *done < bytes.len() {
            let got = std::io::Read::read(&mut file, &mut buffer).map_err(PathError::new("read", part))?;
            if got == 0 {
                break;
            }
            hash.add(&buffer[..got]);
            *done += got as u64;
        }
    }
    fs::append(part)
}

/// A small thing, into memory; more than `most` bytes are refused.
pub fn bytes(url: &str, most: u64) -> Result<Vec<u8>, NetError> {
    let client = super::http()?;
    super::block_on(async {
        let mut answer = client.get(url).send().await.map_err(|error| NetError::of(url, &error))?;
        if !answer.status().is_success() {
            return Err(NetError::new(url, Trouble::Status(answer.status().as_u16())));
        }
        let mut all = Vec::new();
        while let Some(piece) = answer.chunk().await.map_err(|error| NetError::of(url, &error))? {
            if (all.len() + piece.len()) as u64 > most {
                return Err(NetError::new(url, Trouble::TooLarge(most)));
            }
            all.extend_from_slice(&piece);
        }
        Ok(all)
    })?
}
