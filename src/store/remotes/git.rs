//! Git repositories, through the `git` program: a bare clone in the cache, commits looked up in it, files read from it.
//! It never asks for anything on the terminal, and runs nothing that a repository or an address brings along.

use std::path::{Path, PathBuf};
use std::time::Duration;

use super::RemoteError;
use super::listing::is_path;
use crate::model::cmd::Cmd;
use crate::net;
use crate::store::recipes;
use crate::sys::{digest, fs, process};

/// How long git may take for a fetch.
const PATIENCE: Duration = Duration::from_secs(600);
/// Most bytes of all recipes of one repository.
const MOST: u64 = 256 << 20;

/// A file of a commit.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Blob {
    /// Below `build-scripts/`.
    pub path: String,
    /// What git calls its content.
    pub id: String,
    /// Bytes.
    pub size: u64,
}

/// Whether an address means a git repository; gives the address that git understands.
pub fn address(url: &str) -> Option<String> {
    if let Some(plain) = url.strip_prefix("git+") {
        return Some(plain.to_owned());
    }
    let scp = || url.split_once(':').is_some_and(|(host, path)| host.contains('@') && !path.starts_with("//"));
    let is_git = url.starts_with("git://") || url.starts_with("ssh://") || url.ends_with(".git") || scp();
    is_git.then(|| url.to_owned())
}

fn command(dir: &Path) -> Result<Cmd, RemoteError> {
    let git = process::find("git").ok_or_else(|| RemoteError::Git("there is no git on PATH".into()))?;
    let mut cmd =
        Cmd::new(git).arg("-C").arg(dir).args(["-c", "protocol.ext.allow=never", "-c", "core.hooksPath=/dev/null"]);
    for (name, value) in
        [("GIT_TERMINAL_PROMPT", "0"), ("GIT_DIR", "."), ("LC_ALL", "C"), ("GIT_SSH_COMMAND", "ssh -oBatchMode=yes")]
    {
        cmd.env.insert(name.into(), value.into());
    }
    Ok(cmd)
}

fn run(cmd: &Cmd) -> Result<Vec<u8>, RemoteError> {
    let output = process::capture(cmd, PATIENCE).map_err(|error| RemoteError::Git(error.to_string()))?;
    if output.ended.ok() {
        return Ok(output.stdout);
    }
    let said = String::from_utf8_lossy(&output.stderr);
    let lines: Vec<&str> = said.lines().filter(|line| !line.starts_with("hint:")).collect();
    let last = lines.iter().rev().find(|line| line.starts_with("fatal:")).or(lines.last());
    Err(RemoteError::Git(last.map_or_else(|| output.ended.to_string(), |line| net::redacted_text(line))))
}

fn text(cmd: &Cmd) -> Result<String, RemoteError> {
    Ok(String::from_utf8_lossy(&run(cmd)?).trim().to_owned())
}

/// The clone of an address below a directory; made when it is not there.
fn clone_of(dir: &Path, url: &str) -> Result<PathBuf, RemoteError> {
    if url.starts_with('-') {
        return Err(RemoteError::Odd { url: net::redacted(url), why: "this is no address".into() });
    }
    let id: String = digest::of(url.as_bytes()).chars().skip("sha256:".len()).take(16).collect();
    let clone = dir.join(format!("{id}.git"));
    if fs::metadata_if_exists(&clone.join("HEAD"))?.is_none() {
        fs::create_dirs(&clone)?;
        run(&command(&clone)?.args(["init", "--bare", "--quiet"]))?;
    }
    Ok(clone)
}

/// Brings a revision (nothing: what the repository calls HEAD) into the clone; gives its commit and time.
pub fn fetch(dir: &Path, url: &str, revision: Option<&str>) -> Result<(String, i64), RemoteError> {
    let clone = clone_of(dir, url)?;
    let wanted = revision.unwrap_or("HEAD");
    if wanted.starts_with('-') || wanted.contains([':', ' ', '+']) {
        return Err(RemoteError::Odd {
            url: net::redacted(url),
            why: format!("'{wanted}' is no branch, tag or commit"),
        });
    }
    let known = |clone: &Path, name: &str| -> Result<String, RemoteError> {
        text(
            &command(clone)?
                .args(["rev-parse", "--verify", "--quiet", "--end-of-options"])
                .arg(format!("{name}^{{commit}}")),
        )
    };
    let is_commit = wanted.len() == 40 && wanted.bytes().all(|b| b.is_ascii_hexdigit());
    if let (true, Ok(commit)) = (is_commit, known(&clone, wanted)) {
        return Ok((commit.clone(), time(&clone, &commit)?));
    }
    let one = run(&command(&clone)?.args(["fetch", "--quiet", "--depth=1", "--no-tags", "--", url, wanted]));
    let commit = match one {
        Ok(_) => known(&clone, "FETCH_HEAD")?,
        // Not every server gives out a commit by its number, and none a shortened one: everything, then.
        Err(error) if revision.is_some() => {
            let all = ["+refs/heads/*:refs/heads/*", "+refs/tags/*:refs/tags/*"];
            run(&command(&clone)?.args(["fetch", "--quiet", "--", url]).args(all))?;
            known(&clone, wanted).map_err(|_| error)?
        }
        Err(error) => return Err(error),
    };
    Ok((commit.clone(), time(&clone, &commit)?))
}

fn time(clone: &Path, commit: &str) -> Result<i64, RemoteError> {
    let said = text(&command(clone)?.args(["log", "-1", "--format=%ct", commit]))?;
    said.parse().map_err(|_| RemoteError::Git(format!("{commit} has no time")))
}

/// The regular files below `build-scripts/` of a commit that can be recipes.
pub fn list(dir: &Path, url: &str, commit: &str) -> Result<Vec<Blob>, RemoteError> {
    let clone = clone_of(dir, url)?;
    let said =
        run(&command(&clone)?.args(["ls-tree", "-r", "-l", "-z", "--full-tree", commit, "--", "build-scripts/"]))?;
    let mut blobs = Vec::new();
    for line in said.split(|byte| *byte == 0).filter_map(|line| std::str::from_utf8(line).ok()) {
        let Some((facts, path)) = line.split_once('\t') else { continue };
        let facts: Vec<&str> = facts.split_whitespace().collect();
        let [mode, "blob", id, size] = facts[..] else { continue };
        let (Some(path), Ok(size)) = (path.strip_prefix("build-scripts/"), size.parse()) else { continue };
        // A link could lead anywhere.
        if mode.starts_with("100") && size <= recipes::LARGEST && is_path(path) {
            blobs.push(Blob { path: path.to_owned(), id: id.to_owned(), size });
        }
    }
    Ok(blobs)
}

/// The contents of files, in their order.
pub fn contents(dir: &Path, url: &str, blobs: &[Blob]) -> Result<Vec<Vec<u8>>, RemoteError> {
    if blobs.iter().map(|blob| blob.size).sum::<u64>() > MOST {
        return Err(RemoteError::Odd {
            url: net::redacted(url),
            why: format!("its recipes are more than {MOST} bytes"),
        });
    }
    let clone = clone_of(dir, url)?;
    let mut cmd = command(&clone)?.args(["cat-file", "--batch"]);
    cmd.stdin = Some(blobs.iter().flat_map(|blob| format!("{}\n", blob.id).into_bytes()).collect());
    let said = run(&cmd)?;
    let mut rest = said.as_slice();
    let mut all = Vec::new();
    for blob in blobs {
        let cut = || RemoteError::Git(format!("{} cannot be read", blob.path));
        // `ID blob SIZE`, a newline, the content, a newline (git-cat-file(1), "BATCH OUTPUT").
        let end = rest.iter().position(|byte| *byte == b'\n').ok_or_else(cut)?;
        let head = String::from_utf8_lossy(&rest[..end]).into_owned();
        let size: usize = head.rsplit(' ').next().and_then(|size| size.parse().ok()).ok_or_else(cut)?;
        let (content, more) = rest.get(end + 1..).and_then(|rest| rest.split_at_checked(size)).ok_or_else(cut)?;
        all.push(content.to_vec());
        rest = more.get(1..).ok_or_else(cut)?;
    }
    Ok(all)
}

/// One recipe of a commit, which is fetched again when it is not there.
pub fn recipe(dir: &Path, url: &str, commit: &str, path: &str) -> Result<Vec<u8>, RemoteError> {
    fetch(dir, url, Some(commit))?;
    let blobs: Vec<Blob> = list(dir, url, commit)?.into_iter().filter(|blob| blob.path == path).collect();
    let mut contents = contents(dir, url, &blobs)?;
    contents
        .pop()
        .ok_or_else(|| RemoteError::Odd { url: net::redacted(url), why: format!("{path} is not in {commit}") })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn repositories_are_told_by_their_addresses() {
        for (given, git) in [
            ("git+https://host/x", Some("https://host/x")),
            ("https://host/x.git", Some("https://host/x.git")),
            ("git@host:group/x", Some("git@host:group/x")),
            ("ssh://git@host/x", Some("ssh://git@host/x")),
            ("git+file:///srv/x", Some("file:///srv/x")),
            ("https://user@host/x", None),
            ("https://host/x", None),
            ("file:///srv/x", None),
        ] {
            assert_eq!(address(given).as_deref(), git, "{given}");
        }
    }
}
