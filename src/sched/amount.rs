//! Times and memory as the schedulers write them; each form follows the manual page named beside it.

use std::time::Duration;

use crate::model::resources::Limit;

/// 1024², the megabyte of all four schedulers.
pub const MIB: u64 = 1 << 20;

/// A count of at least `least`.
pub fn count(text: &str, least: u32) -> Result<u32, String> {
    match text.parse::<u32>() {
        Ok(number) if number >= least && text.bytes().all(|b| b.is_ascii_digit()) => Ok(number),
        Ok(_) => Err(format!("'{text}' is less than {least}")),
        Err(_) => Err(format!("'{text}' is no whole number")),
    }
}

/// `sbatch --time`: minutes, `min:sec`, `h:m:s`, `d-h`, `d-h:m`, `d-h:m:s`; `0`, `UNLIMITED` and `INFINITE` for no limit.
pub fn slurm_time(text: &str) -> Result<Limit, String> {
    let bad = || {
        format!(
            "'{text}' is no time for Slurm; write minutes, min:sec, h:min:sec, days-h, days-h:min or days-h:min:sec"
        )
    };
    if ["unlimited", "infinite", "-1"].iter().any(|word| text.eq_ignore_ascii_case(word)) {
        return Ok(Limit::Unlimited);
    }
    let (days, clock) = match text.split_once('-') {
        Some((days, clock)) => (Some(figure(days).ok_or_else(bad)?), clock),
        None => (None, text),
    };
    let parts: Vec<u64> = clock.split(':').map(figure).collect::<Option<_>>().ok_or_else(bad)?;
    let seconds = match (days, parts.as_slice()) {
        (None, [minutes]) => minutes.checked_mul(60),
        (None, [minutes, seconds]) => hms(0, *minutes, *seconds),
        (None, [hours, minutes, seconds]) => hms(*hours, *minutes, *seconds),
        (Some(days), [hours]) => days.checked_mul(24).and_then(|h| hms(h.checked_add(*hours)?, 0, 0)),
        (Some(days), [hours, minutes]) => days.checked_mul(24).and_then(|h| hms(h.checked_add(*hours)?, *minutes, 0)),
        (Some(days), [hours, minutes, seconds]) => {
            days.checked_mul(24).and_then(|h| hms(h.checked_add(*hours)?, *minutes, *seconds))
        }
        _ => None,
    };
    match seconds.ok_or_else(bad)? {
        0 => Ok(Limit::Unlimited),
        seconds => Ok(Limit::Time(Duration::from_secs(seconds))),
    }
}

/// `walltime` of PBS: seconds, `m:s`, `h:m:s`; a fraction of a second is allowed and dropped.
pub fn pbs_time(text: &str) -> Result<Limit, String> {
    let bad = || format!("'{text}' is no time for PBS; write seconds, min:sec or h:min:sec");
    let whole = match text.split_once('.') {
        Some((whole, part)) if part.bytes().all(|b| b.is_ascii_digit()) => whole,
        Some(_) => return Err(bad()),
        None => text,
    };
    let parts: Vec<u64> = whole.split(':').map(figure).collect::<Option<_>>().ok_or_else(bad)?;
    let seconds = match parts.as_slice() {
        [seconds] => Some(*seconds),
        [minutes, seconds] => hms(0, *minutes, *seconds),
        [hours, minutes, seconds] => hms(*hours, *minutes, *seconds),
        _ => None,
    };
    Ok(Limit::Time(Duration::from_secs(seconds.ok_or_else(bad)?)))
}

/// `bsub -W [hour:]minute`, where a host or model may follow after `/`; it only scales the limit and is left out.
pub fn lsf_time(text: &str) -> Result<Limit, String> {
    let bad = || format!("'{text}' is no time for LSF; write minutes or hours:minutes");
    let clock = text.split_once('/').map_or(text, |(clock, _)| clock);
    let parts: Vec<u64> = clock.split(':').map(figure).collect::<Option<_>>().ok_or_else(bad)?;
    let seconds = match parts.as_slice() {
        [minutes] => hms(0, *minutes, 0),
        [hours, minutes] => hms(*hours, *minutes, 0),
        _ => None,
    };
    match seconds.ok_or_else(bad)? {
        0 => Err(bad()),
        seconds => Ok(Limit::Time(Duration::from_secs(seconds))),
    }
}

fn figure(text: &str) -> Option<u64> {
    let plain = !text.is_empty() && text.bytes().all(|b| b.is_ascii_digit());
    plain.then(|| text.parse::<u32>().ok().map(u64::from)).flatten()
}

fn hms(hours: u64, minutes: u64, seconds: u64) -> Option<u64> {
    hours.checked_mul(3600)?.checked_add(minutes.checked_mul(60)?)?.checked_add(seconds)
}

/// A number and its unit: `8`, `"gb"`. The unit is in lower case.
fn split_unit(text: &str) -> Option<(&str, String)> {
    let at = text.find(|c: char| !c.is_ascii_digit() && c != '.').unwrap_or(text.len());
    let (number, unit) = text.split_at(at);
    (!number.is_empty()).then(|| (number, unit.to_ascii_lowercase()))
}

/// `--mem` and alike of sbatch: whole numbers in MB, or with K, M, G, T; only the first letter of a unit counts.
pub fn slurm_mem(text: &str) -> Result<u64, String> {
    let bad = || format!("'{text}' is no memory for Slurm; write a whole number of MB, or one with K, M, G or T");
    let (number, unit) = split_unit(text).ok_or_else(bad)?;
    let number: u64 = number.parse().map_err(|_| bad())?;
    let scale = match unit.trim_end_matches('b').trim_end_matches('i') {
        "" if unit.is_empty() => MIB,
        "m" => MIB,
        "k" => 1 << 10,
        "g" => 1 << 30,
        "t" => 1 << 40,
        _ => return Err(bad()),
    };
    number.checked_mul(scale).ok_or_else(bad)
}

/// A size of PBS (pbs_resources(7)): bytes (`b`) or words of 8 bytes (`w`), after `k`, `m`, `g`, `t` or `p`.
pub fn pbs_mem(text: &str) -> Result<u64, String> {
    let bad = || format!("'{text}' is no size for PBS; write a whole number with b, kb, mb, gb or tb");
    let (number, unit) = split_unit(text).ok_or_else(bad)?;
    let number: u64 = number.parse().map_err(|_| bad())?;
    let (prefix, word) = match unit.strip_suffix('w') {
        Some(prefix) => (prefix, 8),
        None => (unit.strip_suffix('b').unwrap_or(&unit), 1),
    };
    let scale: u64 = match prefix {
        "" => 1,
        "k" => 1 << 10,
        "m" => 1 << 20,
        "g" => 1 << 30,
        "t" => 1 << 40,
        "p" => 1 << 50,
        _ => return Err(bad()),
    };
    number.checked_mul(scale).and_then(|bytes| bytes.checked_mul(word)).ok_or_else(bad)
}

/// Memory of LSF: a number in MB, or with K, M, G, T (IBM since 10.1.0.2). What a number alone means is the site's
/// choice (`LSF_UNIT_FOR_LIMITS`); MB is what sites and the older relatives mean.
pub fn lsf_mem(text: &str) -> Result<u64, String> {
    let bad = || format!("'{text}' is no memory for LSF; write a number of MB, or one with KB, MB, GB or TB");
    let (number, unit) = split_unit(text).ok_or_else(bad)?;
    let scale: u64 = match unit.as_str() {
        "" | "m" | "mb" => MIB,
        "k" | "kb" => 1 << 10,
        "g" | "gb" => 1 << 30,
        "t" | "tb" => 1 << 40,
        _ => return Err(bad()),
    };
    if let Ok(whole) = number.parse::<u64>() {
        return whole.checked_mul(scale).ok_or_else(bad);
    }
    match number.parse::<f64>() {
        Ok(part) if part.is_finite() && part < 1e6 => Ok((part * scale as f64) as u64),
        _ => Err(bad()),
    }
}

/// Whole MB, rounded up and at least 1: 0 would mean "all" or "no limit".
pub fn mb(bytes: u64) -> u64 {
    bytes.div_ceil(MIB).max(1)
}

/// `h:mm:ss`, at least one second: 0 would mean "no limit".
pub fn clock(time: Duration) -> String {
    let seconds = time.as_secs().max(1);
    format!("{:02}:{:02}:{:02}", seconds / 3600, seconds / 60 % 60, seconds % 60)
}

/// `[d-]h:m:s` or seconds as replies show times used; None for anything else.
pub fn elapsed(text: &str) -> Option<Duration> {
    let (days, clock) = match text.trim().split_once('-') {
        Some((days, clock)) => (figure(days)?, clock),
        None => (0, text.trim()),
    };
    let clock = clock.split_once('.').map_or(clock, |(whole, _)| whole);
    let mut seconds: u64 = 0;
    for part in clock.split(':') {
        seconds = seconds.checked_mul(60)?.checked_add(figure(part)?)?;
    }
    Some(Duration::from_secs(days.checked_mul(86_400)?.checked_add(seconds)?))
}
