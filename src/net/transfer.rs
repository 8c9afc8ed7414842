//! One attempt at a transfer: the request for what is missing, the answer judged (RFC 9110, 14), its bytes added to the
//! part. What ends it is told apart; whether to try again is decided by the caller.

use std::io::Read;
use std::path::PathBuf;
use std::time::Duration;

use reqwest::header::{HeaderMap, HeaderName, HeaderValue};
use reqwest::{Client, RequestBuilder, Response, header};

use super::download::{Access, Watch};
use super::error::{NetError, Trouble};
use super::netrc;
use super::part::{Part, Validator};
use crate::sys::fs::{self, PathError};

/// Why an attempt ended.
pub struct Stopped {
    /// What went wrong.
    pub error: NetError,
    /// When the server wants to be asked again.
    pub after: Option<Duration>,
}

impl From<NetError> for Stopped {
    fn from(error: NetError) -> Stopped {
        Stopped { error, after: None }
    }
}

/// How often an interrupt is looked for.
const LOOK: Duration = Duration::from_millis(100);

/// How something is fetched.
#[derive(Debug, Clone, Copy)]
pub struct Way<'a> {
    /// A digest will tell whether the pieces fit together.
    pub known: bool,
    /// The most bytes that are taken.
    pub most: u64,
    /// What the server is shown.
    pub access: &'a Access,
}

/// Brings a part to its end.
pub fn run(url: &str, part: &mut Part, way: &Way, watch: &dyn Watch) -> Result<(), Stopped> {
    if let Some(path) = local(url)? {
        return Ok(copy(url, &path, part, way.most, watch)?);
    }
    let client = super::http()?;
    super::block_on(async {
        let mut ask_whole = false;
        loop {
            let resume = if ask_whole { None } else { resumable(url, part, way.known) };
            if resume.is_none() {
                part.restart(None).map_err(|error| NetError::new(url, error.into()))?;
            }
            let mut request = authorized(client, url, way.access);
            if let Some(validator) = resume {
                request = request.header(header::RANGE, format!("bytes={}-", part.len));
                if let Some(tag) = validator.etag.or(validator.modified).filter(|_| validator.url == url) {
                    request = request.header(header::IF_RANGE, tag);
                }
            }
            let answer = heard(request.send(), watch).await.ok_or_else(|| NetError::new(url, Trouble::Interrupted))?;
            let answer = answer.map_err(|error| NetError::of(url, &error))?;
            match judge(&answer, part) {
                Answer::Rest => {}
                Answer::Whole => {
                    let validator = validator(url, &answer);
                    part.restart(Some(validator)).map_err(|error| NetError::new(url, error.into()))?;
                }
                Answer::Done => return Ok(()),
                // Once: a server that refuses the beginning refuses everything.
                Answer::Unfitting if !ask_whole => {
                    ask_whole = true;
                    continue;
                }
                Answer::Unfitting | Answer::Failure => {
                    let error = NetError::new(url, Trouble::Status(answer.status().as_u16()));
                    return Err(Stopped { error, after: retry_after(answer.headers()) });
                }
            }
            return Ok(take(url, answer, part, way.most, watch).await?);
        }
    })?
}

/// What an answer is good for.
enum Answer {
    /// It brings what is missing.
    Rest,
    /// It brings everything.
    Whole,
    /// Nothing is missing.
    Done,
    /// What is there does not fit to what the server has.
    Unfitting,
    /// An error.
    Failure,
}

fn judge(answer: &Response, part: &Part) -> Answer {
    match answer.status().as_u16() {
        206 => {
            let from = text(answer.headers(), &header::CONTENT_RANGE).and_then(|range| range_of(&range));
            match from {
                Some((Some(from), total)) if from == part.len && fits(total, part) => Answer::Rest,
                _ => Answer::Unfitting,
            }
        }
        416 => {
            let range = text(answer.headers(), &header::CONTENT_RANGE).and_then(|range| range_of(&range));
            match range {
                Some((None, Some(total))) if total == part.len && part.len > 0 => Answer::Done,
                _ => Answer::Unfitting,
            }
        }
        200 => Answer::Whole,
        _ => Answer::Failure,
    }
}

fn fits(total: Option<u64>, part: &Part) -> bool {
    let before = part.validator.as_ref().and_then(|validator| validator.total);
    before.is_none() || total.is_none() || before == total
}

/// First byte and length of `bytes 5-9/10` or `bytes */10`.
fn range_of(text: &str) -> Option<(Option<u64>, Option<u64>)> {
    let (range, total) = text.strip_prefix("bytes ")?.split_once('/')?;
    let from = match range {
        "*" => None,
        range => Some(range.split_once('-')?.0.trim().parse().ok()?),
    };
    Some((from, total.trim().parse().ok()))
}

/// Of what the part is the beginning, if the server can be asked for the rest: it must be able to tell that its file is
/// still the same, or the digest will.
fn resumable(url: &str, part: &Part, known: bool) -> Option<Validator> {
    let validator = part.validator.clone().filter(|_| part.len > 0)?;
    let tells = validator.url == url && (validator.etag.is_some() || validator.modified.is_some());
    (tells || known).then_some(validator)
}

fn validator(url: &str, answer: &Response) -> Validator {
    let headers = answer.headers();
    Validator {
        url: url.to_owned(),
        // A weak tag says "as good as", not "the same bytes".
        etag: text(headers, &header::ETAG).filter(|tag| !tag.starts_with("W/")),
        modified: text(headers, &header::LAST_MODIFIED),
        total: answer.content_length(),
    }
}

fn text(headers: &HeaderMap, name: &HeaderName) -> Option<String> {
    Some(headers.get(name)?.to_str().ok()?.to_owned())
}

/// Seconds only: servers that give a date are asked again after the usual pause.
fn retry_after(headers: &HeaderMap) -> Option<Duration> {
    text(headers, &header::RETRY_AFTER)?.trim().parse().ok().map(Duration::from_secs)
}

/// A request with what the server is to be shown. The client leaves the header out where an answer leads to another host.
fn authorized(client: &Client, url: &str, access: &Access) -> RequestBuilder {
    match access {
        Access::Anonymous => client.get(url),
        Access::Netrc => match netrc::credentials(url) {
            Some((user, secret)) => client.get(url).basic_auth(user, Some(secret)),
            None => client.get(url),
        },
        Access::Header(value) => match HeaderValue::from_str(value) {
            Ok(mut value) => {
                value.set_sensitive(true);
                client.get(url).header(header::AUTHORIZATION, value)
            }
            Err(_) => client.get(url),
        },
        Access::Token(token) => match url::Url::parse(url) {
            Ok(mut parsed) => {
                parsed.set_path(&format!("/t/{token}{}", parsed.path()));
                client.get(parsed)
            }
            Err(_) => client.get(url),
        },
    }
}

/// Waits for something, or for an interrupt: then None.
async fn heard<T>(future: impl Future<Output = T>, watch: &dyn Watch) -> Option<T> {
    let mut future = std::pin::pin!(future);
    loop {
        match tokio::time::timeout(LOOK, &mut future).await {
            Ok(value) => return Some(value),
            Err(_) if watch.cancelled() => return None,
            Err(_) => {}
        }
    }
}

async fn take(url: &str, mut answer: Response, part: &mut Part, most: u64, watch: &dyn Watch) -> Result<(), NetError> {
    let told = |trouble| NetError::new(url, trouble);
    let total = answer.content_length().and_then(|rest| rest.checked_add(part.len));
    if total.is_some_and(|total| total > most) {
        return Err(told(Trouble::TooLarge(most)));
    }
    room(url, part, total)?;
    loop {
        let piece = heard(answer.chunk(), watch).await.ok_or_else(|| told(Trouble::Interrupted))?;
        let Some(piece) = piece.map_err(|error| NetError::of(url, &error))? else { break };
        if piece.len() as u64 > most.saturating_sub(part.len) {
            return Err(told(Trouble::TooLarge(most)));
        }
        part.add(&piece).map_err(|error| told(error.into()))?;
        watch.progress(part.len, total);
        if watch.cancelled() {
            return Err(told(Trouble::Interrupted));
        }
    }
    match total {
        Some(total) if total != part.len => Err(told(Trouble::Cut(format!("{} of {total} bytes came", part.len)))),
        _ => Ok(()),
    }
}

/// Whether the rest will fit, as far as anybody can say; better than to find out after an hour.
fn room(url: &str, part: &Part, total: Option<u64>) -> Result<(), NetError> {
    let dir = part.path().parent().unwrap_or(part.path());
    let Some(missing) = total.map(|total| total.saturating_sub(part.len)) else { return Ok(()) };
    match fs::free_bytes(dir) {
        Ok(free) if free < missing => {
            Err(NetError::new(url, Trouble::Room { dir: dir.to_owned(), needs: missing, free }))
        }
        _ => Ok(()),
    }
}

/// The file that a `file:` address means.
fn local(url: &str) -> Result<Option<PathBuf>, NetError> {
    let bad = |why: String| NetError::new(url, Trouble::Address(why));
    let parsed = url::Url::parse(url).map_err(|error| bad(error.to_string()))?;
    match parsed.scheme() {
        "http" | "https" => Ok(None),
        "file" => match parsed.to_file_path() {
            Ok(path) => Ok(Some(path)),
            Err(()) => Err(bad("it names no file of this machine".into())),
        },
        other => Err(bad(format!("'{other}:' is not understood; http, https and file are"))),
    }
}

fn copy(url: &str, path: &std::path::Path, part: &mut Part, most: u64, watch: &dyn Watch) -> Result<(), NetError> {
    let told = |error: PathError| NetError::new(url, error.into());
    // Reading it is as fast as comparing what is there.
    part.restart(None).map_err(told)?;
    let mut file = fs::open(path).map_err(told)?;
    let meta = fs::metadata(path).map_err(told)?;
    if !meta.is_file() {
        return Err(NetError::new(url, Trouble::Address("this is no regular file".into())));
    }
    if meta.len() > most {
        return Err(NetError::new(url, Trouble::TooLarge(most)));
    }
    room(url, part, Some(meta.len()))?;
    let mut buffer = vec![0; 1 << 20];
    loop {
        match file.read(&mut buffer).map_err(|error| told(PathError::new("read", path)(error)))? {
            0 => return Ok(()),
            got if got as u64 > most.saturating_sub(part.len) => {
                return Err(NetError::new(url, Trouble::TooLarge(most)));
            }
            got => part.add(&buffer[..got]).map_err(told)?,
        }
        watch.progress(part.len, Some(meta.len()));
        if watch.cancelled() {
            return Err(NetError::new(url, Trouble::Interrupted));
        }
    }
}

/// A small thing, into memory.
pub fn small(url: &str, most: u64) -> Result<Vec<u8>, NetError> {
    let too_large = || NetError::new(url, Trouble::TooLarge(most));
    if let Some(path) = local(url)? {
        let told = |error: PathError| NetError::new(url, error.into());
        let meta = fs::metadata(&path).map_err(told)?;
        if !meta.is_file() {
            return Err(NetError::new(url, Trouble::Address("this is no regular file".into())));
        }
        return if meta.len() > most { Err(too_large()) } else { fs::read(&path).map_err(told) };
    }
    let client = super::http()?;
    super::block_on(async {
        let request = authorized(client, url, &Access::Netrc).send();
        let interrupted = || NetError::new(url, Trouble::Interrupted);
        let answer = heard(request, &super::Unwatched).await.ok_or_else(interrupted)?;
        let mut answer = answer.map_err(|error| NetError::of(url, &error))?;
        if !answer.status().is_success() {
            return Err(NetError::new(url, Trouble::Status(answer.status().as_u16())));
        }
        let mut all = Vec::new();
        while let Some(piece) = answer.chunk().await.map_err(|error| NetError::of(url, &error))? {
            if (all.len() + piece.len()) as u64 > most {
                return Err(too_large());
            }
            all.extend_from_slice(&piece);
        }
        Ok(all)
    })?
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ranges_are_read() {
        assert_eq!(range_of("bytes 5-9/10"), Some((Some(5), Some(10))));
        assert_eq!(range_of("bytes 5-9/*"), Some((Some(5), None)));
        assert_eq!(range_of("bytes */10"), Some((None, Some(10))));
        for odd in ["", "bytes", "bytes 5/10", "bytes x-9/10", "items 1-2/3", "bytes 99999999999999999999-1/2"] {
            assert!(range_of(odd).is_none_or(|(from, _)| from.is_none()), "{odd}");
        }
    }
}
