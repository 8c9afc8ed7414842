//! Replacing `{token}`: only declared ones, never inside `${…}`, nor in `{{token}}`, which other tools read.

use super::Binding;

/// A stretch of a line: as it stands, or a token with its value.
enum Stretch<'a> {
    Plain(&'a str),
    Token { written: &'a str, value: &'a str },
}

fn stretches<'a>(line: &'a str, binding: &'a Binding) -> Vec<Stretch<'a>> {
    let mut found = Vec::new();
    let (mut from, mut at) = (0, 0);
    while let Some(open) = line.get(at..).and_then(|rest| rest.find('{')).map(|offset| at + offset) {
        let (before, rest) = line.split_at_checked(open).unwrap_or((line, ""));
        if before.ends_with('$') {
            at = open + closing(rest).unwrap_or(1);
            continue;
        }
        let braces = rest.len() - rest.trim_start_matches('{').len();
        let token = rest.get(1..).and_then(|inside| inside.split_once('}')).map(|(name, _)| name);
        match token.and_then(|name| Some((name, binding.get(name)?))) {
            Some((name, value)) if braces == 1 => {
                let end = open + name.len() + 2;
                found.extend(line.get(from..open).map(Stretch::Plain));
                found.extend(line.get(open..end).map(|written| Stretch::Token { written, value }));
                (from, at) = (end, end);
            }
            _ => at = open + braces,
        }
    }
    found.extend(line.get(from..).map(Stretch::Plain));
    found
}

/// The length of `{…}` with the braces inside it; None where it is not closed in this line.
fn closing(text: &str) -> Option<usize> {
    let mut depth = 0_usize;
    for (at, c) in text.char_indices() {
        match c {
            '{' => depth += 1,
            '}' => depth = depth.saturating_sub(1),
            _ => {}
        }
        if depth == 0 {
            return Some(at + 1);
        }
    }
    None
}

pub(super) fn line(line: &str, binding: &Binding) -> String {
    stretches(line, binding)
        .iter()
        .map(|stretch| match stretch {
            Stretch::Plain(text) => *text,
            Stretch::Token { value, .. } => *value,
        })
        .collect()
}

pub(super) fn text(text: &str, pattern: &str, binding: &Binding) -> String {
    let mut filled = String::with_capacity(text.len());
    let mut in_block = true;
    for whole in text.split_inclusive('\n') {
        let bare = whole.trim_end_matches(['\n', '\r']);
        let end = whole.get(bare.len()..).unwrap_or("");
        in_block = in_block && (bare.trim_start().starts_with('#') || bare.trim().is_empty());
        match bare.strip_prefix("#PL:").filter(|_| in_block) {
            Some(values) => {
                let name = values.trim().split(':').next().unwrap_or("");
                filled.push_str(&format!("# with {name} = {}", binding.get(name).unwrap_or("")));
            }
            None if in_block && bare.starts_with("#TARGET:") => {
                filled.push_str(&format!("# from the template {pattern}"));
            }
            None => filled.push_str(&line(bare, binding)),
        }
        filled.push_str(end);
    }
    filled
}

pub(super) fn column(line: &str, binding: &Binding, col: usize) -> usize {
    let (mut old, mut new) = (1, 1);
    for stretch in stretches(line, binding) {
        let (was, is) = match stretch {
            Stretch::Plain(text) => (text.chars().count(), text.chars().count()),
            Stretch::Token { written, value } => (written.chars().count(), value.chars().count()),
        };
        if col < new + is {
            // Inside a value: where its token begins.
            return if was == is { old + (col - new) } else { old };
        }
        (old, new) = (old + was, new + is);
    }
    old.min(line.chars().count() + 1)
}
