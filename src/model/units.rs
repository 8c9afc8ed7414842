//! Amounts as people write them: sizes (`128k`, `20G`) and times (`90`, `30m`, `1h30m`, `2d`).

use std::time::Duration;

/// Bytes from `4096`, `128k`, `1.5G`, `20GiB`; units are powers of 1024, upper or lower case.
pub fn parse_size(text: &str) -> Result<u64, String> {
    let bad = || format!("'{text}' is not a size; write bytes or a number with k, M, G or T, as in 128k");
    let lower = text.trim().to_ascii_lowercase();
    let digits = lower.find(|c: char| !c.is_ascii_digit() && c != '.').unwrap_or(lower.len());
    let (number, unit) = lower.split_at(digits);
    let power = match unit.trim_start() {
        "" | "b" => 0,
        "k" | "kb" | "kib" => 1,
        "m" | "mb" | "mib" => 2,
        "g" | "gb" | "gib" => 3,
        "t" | "tb" | "tib" => 4,
        _ => return Err(bad()),
    };
    let scale = 1u64 << (10 * power);
    if let Ok(whole) = number.parse::<u64>() {
        return whole.checked_mul(scale).ok_or_else(bad);
    }
    match number.parse::<f64>() {
        Ok(part) if part.is_finite() && power > 0 && part < 1e6 => Ok((part * scale as f64) as u64),
        _ => Err(bad()),
    }
}

/// Bytes with a binary unit and three figures at most: `552 MiB`, `1.4 GiB`.
pub fn show_size(bytes: u64) -> String {
    const UNITS: [&str; 6] = ["B", "KiB", "MiB", "GiB", "TiB", "PiB"];
    let mut value = bytes as f64;
    let mut unit = 0;
    while value >= 1023.5 && unit + 1 < UNITS.len() {
        value /= 1024.0;
        unit += 1;
    }
    if unit == 0 || value >= 99.95 {
        format!("{value:.0} {}", UNITS[unit])
    } else {
        format!("{value:.1} {}", UNITS[unit])
    }
}

/// A time from `90` (seconds), `30m`, `1h30m`, `2d`, `500ms`.
pub fn parse_time(text: &str) -> Result<Duration, String> {
    let bad = || format!("'{text}' is not a time; write seconds or units, as in 90, 30m, 1h30m or 2d");
    let mut rest = text.trim();
    if let Ok(seconds) = rest.parse::<u32>() {
        return Ok(Duration::from_secs(seconds.into()));
    }
    let mut total = Duration::ZERO;
    if rest.is_empty() {
        return Err(bad());
    }
    while !rest.is_empty() {
        let digits = rest.find(|c: char| !c.is_ascii_digit()).ok_or_else(bad)?;
        let number: u32 = rest[..digits].parse().map_err(|_| bad())?;
        let tail = &rest[digits..];
        let end = tail.find(|c: char| c.is_ascii_digit()).unwrap_or(tail.len());
        let unit = match &tail[..end] {
            "ms" => Duration::from_millis(1),
            "s" => Duration::from_secs(1),
            "m" | "min" => Duration::from_secs(60),
            "h" => Duration::from_secs(3600),
            "d" => Duration::from_secs(86_400),
            _ => return Err(bad()),
        };
        total = unit.checked_mul(number).and_then(|part| total.checked_add(part)).ok_or_else(bad)?;
        rest = &tail[end..];
    }
    Ok(total)
}

/// A time for people: `0.4s`, `12s`, `3m20s`, `2h05m`.
pub fn show_time(time: Duration) -> String {
    let seconds = time.as_secs();
    match seconds {
        0..10 => format!("{:.1}s", time.as_secs_f64()),
        10..60 => format!("{seconds}s"),
        60..3600 => format!("{}m{:02}s", seconds / 60, seconds % 60),
        _ => format!("{}h{:02}m", seconds / 3600, seconds / 60 % 60),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes() {
        for (text, bytes) in [
            ("0", 0),
            ("4096", 4096),
            ("128k", 131_072),
            ("1M", 1 << 20),
            ("1.5G", 3 << 29),
            ("20GiB", 20 << 30),
            ("2 tb", 2 << 40),
        ] {
            assert_eq!(parse_size(text), Ok(bytes), "{text}");
        }
        for text in ["", "k", "-1", "1x", "1.5", "1.2.3k", "99999999999999999999", "20000000T", "1e5k"] {
            assert!(parse_size(text).is_err(), "{text}");
        }
        assert_eq!(
            [0, 1023, 1024, 1536, 552 << 20, u64::MAX].map(show_size),
            ["0 B", "1023 B", "1.0 KiB", "1.5 KiB", "552 MiB", "16384 PiB"]
        );
    }

    #[test]
    fn times() {
        for (text, seconds) in [("0", 0), ("90", 90), ("30m", 1800), ("1h30m", 5400), ("2d", 172_800), ("1h 30m", 0)] {
            let expected = (seconds > 0 || text == "0").then(|| Duration::from_secs(seconds));
            assert_eq!(parse_time(text).ok(), expected, "{text}");
        }
        for text in ["", "m", "1x", "-5", "1.5h", "99999999999d", "5h5"] {
            assert!(parse_time(text).is_err(), "{text}");
        }
        assert_eq!(
            [400u64, 12_000, 200_000, 7_500_000].map(|ms| show_time(Duration::from_millis(ms))),
            ["0.4s", "12s", "3m20s", "2h05m"]
        );
    }
}
