//! The wall clock, in one place so that everything else takes time as a value.

use std::time::{SystemTime, UNIX_EPOCH};

/// Seconds since 1970-01-01 UTC.
#[allow(clippy::disallowed_methods)]
pub fn now() -> i64 {
    match SystemTime::now().duration_since(UNIX_EPOCH) {
        Ok(since) => i64::try_from(since.as_secs()).unwrap_or(i64::MAX),
        Err(_) => 0,
    }
}

/// [`now`], and the milliseconds of the running second.
#[allow(clippy::disallowed_methods)]
pub fn now_millis() -> (i64, u32) {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    (i64::try_from(since.as_secs()).unwrap_or(i64::MAX), since.subsec_millis())
}

/// This host's clock, to compare with times of files where the file server's own now does not matter.
#[allow(clippy::disallowed_methods)]
pub fn system() -> SystemTime {
    SystemTime::now()
}

/// `seconds` since the epoch as `2026-01-31T12:00:00Z`; a time no calendar holds is given as the number.
pub fn rfc3339(seconds: i64) -> String {
    jiff::Timestamp::from_second(seconds).map_or_else(|_| seconds.to_string(), |stamp| stamp.to_string())
}

/// `seconds` since the epoch as `20260131T120000Z`, for file names.
pub fn compact(seconds: i64) -> String {
    rfc3339(seconds).chars().filter(|c| !matches!(c, '-' | ':')).collect()
}
