//! Checking and expanding one value. Expansion knows `~` and `$VAR` only; nothing is ever run.

use std::path::{Path, PathBuf};

use super::file::Raw;
use super::schema::{Key, Kind};
use crate::image::squashfs::codec::Compression;
use crate::image::squashfs::format::BLOCK_RANGE;
use crate::model::units;
use crate::sys::env;

/// The user's home directory; `/` when nothing tells.
pub fn home() -> PathBuf {
    let own = env::var_os("HOME").map(PathBuf::from).filter(|path| path.is_absolute());
    own.or_else(crate::sys::host::home_dir).unwrap_or_else(|| PathBuf::from("/"))
}

/// Checks `raw` against the key's kind and returns its values as canonical text.
pub fn check(key: &Key, raw: Raw) -> Result<Vec<String>, String> {
    let values = match (raw, key.kind) {
        (Raw::Nothing, _) => return Ok(Vec::new()),
        (Raw::One(text), Kind::Paths) => split_paths(&text),
        (Raw::One(text), _) => vec![text],
        (Raw::Many(values), Kind::Paths | Kind::Texts) => values,
        (Raw::Many(_), _) => return Err("takes one value, not a list".into()),
    };
    values.into_iter().filter(|value| !value.is_empty()).map(|value| check_one(key, &value)).collect()
}

fn check_one(key: &Key, text: &str) -> Result<String, String> {
    let text = text.trim();
    match key.kind {
        Kind::Path | Kind::Paths => expand(text),
        Kind::Text if text.contains(|c: char| c.is_control()) => {
            Err(format!("'{}' is not on one line", text.escape_debug()))
        }
        Kind::Text | Kind::Texts => Ok(text.to_owned()),
        Kind::Bool => match text {
            "true" | "yes" | "on" | "1" => Ok("true".into()),
            "false" | "no" | "off" | "0" => Ok("false".into()),
            _ => Err(format!("'{text}' is not true or false")),
        },
        Kind::Number => {
            text.parse::<u32>().map(|n| n.to_string()).map_err(|_| format!("'{text}' is not a whole number"))
        }
        // CondaTainer's *_mb keys are plain numbers of megabytes; no other size here can sensibly be below a megabyte.
        Kind::Size => match text.parse::<u64>() {
            Ok(number) if (1..1 << 20).contains(&number) => Ok(format!("{number}M")),
            _ => units::parse_size(text).map(|_| text.to_owned()),
        },
        Kind::BlockSize => {
            let size = units::parse_size(text)?;
            let fits = u32::try_from(size).is_ok_and(|size| BLOCK_RANGE.contains(&size) && size.is_power_of_two());
            if fits { Ok(text.to_owned()) } else { Err(format!("'{text}' is not a power of two from 4k to 1M")) }
        }
        Kind::Time => clock_time(text)
            .or_else(|| units::parse_time(text).is_ok().then(|| text.to_owned()))
            .ok_or_else(|| format!("'{text}' is not a time; write 30m, 1h30m or 01:30:00")),
        Kind::Compression => compression(text).map(|how| how.to_string()),
        Kind::Choice(words) if words.contains(&text) => Ok(text.to_owned()),
        Kind::Choice(words) => Err(format!("'{text}' is none of {}", words.join(", "))),
    }
}

/// `H:MM` and `H:MM:SS`, as schedulers write walltimes.
fn clock_time(text: &str) -> Option<String> {
    let parts: Vec<u64> = text.split(':').map(|part| part.parse().ok()).collect::<Option<_>>()?;
    let (hours, minutes, seconds) = match parts[..] {
        [hours, minutes] => (hours, minutes, 0),
        [hours, minutes, seconds] => (hours, minutes, seconds),
        _ => return None,
    };
    if minutes > 59 || seconds > 59 {
        return None;
    }
    let total = hours.checked_mul(3600)?.checked_add(minutes * 60 + seconds)?;
    u32::try_from(total).ok().map(|total| total.to_string())
}

/// Also reads CondaTainer's shortcuts and the mksquashfs arguments its users have in their files.
fn compression(text: &str) -> Result<Compression, String> {
    match text {
        "zstd-fast" => "zstd:1".parse(),
        "zstd-medium" => "zstd:8".parse(),
        "zstd-high" => "zstd:19".parse(),
        _ if text.contains("-comp ") => {
            let mut words = text.split_whitespace();
            let (mut name, mut level) = ("", "");
            while let Some(word) = words.next() {
                match word {
                    "-comp" => name = words.next().unwrap_or(""),
                    "-Xcompression-level" => level = words.next().unwrap_or(""),
                    other => return Err(format!("'{other}' is not understood; write the compressor as zstd:8")),
                }
            }
            if level.is_empty() { name.parse() } else { format!("{name}:{level}").parse() }
        }
        _ => text.parse(),
    }
}

/// Splits `A:B:ro:C` into paths, keeping a `:ro` with the path it belongs to.
pub fn split_paths(text: &str) -> Vec<String> {
    let mut paths: Vec<String> = Vec::new();
    for part in text.split(':') {
        match paths.last_mut() {
            Some(last) if part == "ro" => last.push_str(":ro"),
            _ if part.is_empty() => {}
            _ => paths.push(part.to_owned()),
        }
    }
    paths
}

/// Expands `~` and `$VAR`/`${VAR}` and asks for an absolute result.
fn expand(text: &str) -> Result<String, String> {
    let mut out = String::new();
    let mut rest = text;
    if let Some(below) = text.strip_prefix('~') {
        if !below.is_empty() && !below.starts_with('/') {
            return Err(format!("'{text}': only ~ itself stands for a home directory here"));
        }
        out.push_str(&home().to_string_lossy());
        rest = below;
    }
    while let Some(dollar) = rest.find('$') {
        out.push_str(&rest[..dollar]);
        let tail = &rest[dollar + 1..];
        let (name, after) = match tail.strip_prefix('{') {
            Some(braced) => braced.split_once('}').ok_or_else(|| format!("'{text}' has '${{' without '}}'"))?,
            None => tail.split_at(tail.find(|c: char| !c.is_ascii_alphanumeric() && c != '_').unwrap_or(tail.len())),
        };
        match env::var(name) {
            Some(value) => out.push_str(&value),
            None => return Err(format!("'{text}': the variable '{name}' is not set")),
        }
        rest = after;
    }
    out.push_str(rest);
    if !Path::new(&out).is_absolute() {
        return Err(format!("'{out}' is not an absolute path"));
    }
    Ok(out)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::schema::find;

    fn one(key: &str, text: &str) -> Result<Vec<String>, String> {
        check(find(key).unwrap(), Raw::One(text.into()))
    }

    #[test]
    fn values_are_checked_and_made_canonical() {
        assert_eq!(one("build.comp", "zstd").unwrap(), ["zstd:3"]);
        assert_eq!(one("build.comp", "-comp zstd -Xcompression-level 8").unwrap(), ["zstd:8"]);
        assert_eq!(one("build.timeout", "1:30").unwrap(), ["5400"]);
        assert_eq!(one("build.stage_size", "20480").unwrap(), ["20480M"]);
        assert_eq!(one("layers.extra", "/a:ro:/b").unwrap(), ["/a:ro", "/b"]);
        assert_eq!(one("build.keep_previous", "no").unwrap(), ["false"]);
        for (key, text) in [
            ("build.comp", "zip"),
            ("build.comp", "zstd:99"),
            ("build.block_size", "100k"),
            ("build.block_size", "2M"),
            ("build.stage", "tape"),
            ("layers.user", "rel/ative"),
            ("layers.user", "$NO_SUCH_VARIABLE/x"),
            ("build.jobs", "-1"),
            ("build.timeout", "soon"),
            ("build.timeout", "9999999999999999999:00"),
            ("build.timeout", "99999999:00"),
            ("build.keep_previous", "maybe"),
        ] {
            assert!(one(key, text).is_err(), "{key} {text}");
        }
    }
}
