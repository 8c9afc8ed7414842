//! Patterns of paths as a shell has them: `*`, `?` and `[…]` within one part of a path.

use std::path::{Path, PathBuf};

use regex::Regex;

use crate::sys::fs;

/// The paths that fit a pattern, sorted; the pattern itself where none does, or where it is none. What it begins with is
/// no pattern. `place` says where a path really is, with a link at its end followed or not.
pub fn expand(start: &Path, pattern: &str, place: &dyn Fn(&Path, bool) -> Option<PathBuf>) -> Vec<PathBuf> {
    let whole = vec![start.join(pattern)];
    if !pattern.contains(['*', '?', '[']) {
        return whole;
    }
    let start = if pattern.starts_with('/') { Path::new("/") } else { start };
    let mut found = vec![start.to_owned()];
    for part in pattern.split('/').filter(|part| !part.is_empty()) {
        let Some(rule) = part.contains(['*', '?', '[']).then(|| rule(part)).flatten() else {
            found.iter_mut().for_each(|path| path.push(part));
            continue;
        };
        let hidden = part.starts_with('.');
        let mut next = Vec::new();
        for dir in &found {
            let listed = place(dir, true).and_then(|dir| fs::list(&dir).ok()).unwrap_or_default();
            let mut names: Vec<String> = listed.into_iter().filter_map(|name| name.into_string().ok()).collect();
            names.retain(|name| (hidden || !name.starts_with('.')) && rule.is_match(name));
            names.sort();
            next.extend(names.into_iter().map(|name| dir.join(name)));
        }
        found = next;
    }
    found.retain(|path| place(path, false).is_some_and(|path| fs::symlink_metadata(&path).is_ok()));
    if found.is_empty() { whole } else { found }
}

fn rule(part: &str) -> Option<Regex> {
    let mut rule = String::from("^(?s:");
    let mut rest = part.chars();
    while let Some(c) = rest.next() {
        match c {
            '*' => rule.push_str(".*"),
            '?' => rule.push('.'),
            '[' => match rest.as_str().char_indices().skip(1).find(|(_, c)| *c == ']') {
                Some((end, _)) => {
                    let inside = rest.as_str().get(..end).unwrap_or("");
                    let (not, inside) = inside.strip_prefix(['!', '^']).map_or(("", inside), |inside| ("^", inside));
                    rule.push_str(&format!("[{not}{}]", inside.replace('\\', "\\\\").replace('[', "\\[")));
                    rest = rest.as_str().get(end + 1..).unwrap_or("").chars();
                }
                None => rule.push_str("\\["),
            },
            other => rule.push_str(&regex::escape(other.encode_utf8(&mut [0; 4]))),
        }
    }
    Regex::new(&(rule + ")$")).ok()
}
