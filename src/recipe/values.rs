//! Small parsers for the values of headers and directives.

use crate::model::loc::Loc;

/// Splits characters into words as schedulers do: blanks separate, quotes join, a `#` at the start of a word ends it all.
///
/// With `escapes` a backslash takes the next character literally (Slurm, PBS; LSF knows none).
/// Returns also where a quote was left open.
pub fn split_words(text: &[(Loc, char)], escapes: bool) -> (Vec<(Loc, String)>, Option<Loc>) {
    let mut words: Vec<(Loc, String)> = Vec::new();
    let mut word: Option<(Loc, String)> = None;
    let mut chars = text.iter();
    while let Some((loc, c)) = chars.next() {
        match c {
            ' ' | '\t' => words.extend(word.take()),
            '#' if word.is_none() => break,
            '"' | '\'' => {
                let (_, into) = word.get_or_insert_with(|| (loc.clone(), String::new()));
                loop {
                    match chars.next() {
                        Some((_, end)) if end == c => break,
                        Some((_, '\\')) if escapes && *c == '"' => {
                            if let Some((_, next)) = chars.next() {
                                if !matches!(next, '"' | '\\') {
                                    into.push('\\');
                                }
                                into.push(*next);
                            }
                        }
                        Some((_, inner)) => into.push(*inner),
                        None => {
                            words.extend(word.take());
                            return (words, Some(loc.clone()));
                        }
                    }
                }
            }
            '\\' if escapes => {
                let (_, into) = word.get_or_insert_with(|| (loc.clone(), String::new()));
                into.push(chars.next().map_or('\\', |(_, next)| *next));
            }
            _ => word.get_or_insert_with(|| (loc.clone(), String::new())).1.push(*c),
        }
    }
    words.extend(word.take());
    (words, None)
}

/// A value without a comment after it: ` #` begins one, `#` inside a word does not.
pub fn without_comment(value: &str) -> &str {
    match value.find(" #").or_else(|| value.find("\t#")) {
        Some(at) => value.get(..at).unwrap_or(value).trim_end(),
        None if value.starts_with('#') => "",
        None => value,
    }
}

/// What a file is called that comes from this address: the last part of its path, with nothing in it that a file system
/// or a shell would mind; None when there is none.
pub fn file_name(url: &str) -> Option<String> {
    let path = url.split(['?', '#']).next()?;
    let last = path.split("://").nth(1)?.split_once('/')?.1.rsplit('/').next()?;
    let clean: String =
        last.chars().map(|c| if c.is_ascii_alphanumeric() || "._+-=@".contains(c) { c } else { '_' }).collect();
    (!clean.is_empty() && !clean.starts_with(['.', '-'])).then_some(clean)
}

/// Whether `text` can name an environment variable.
pub fn is_variable(text: &str) -> bool {
    let mut chars = text.chars();
    chars.next().is_some_and(|c| c.is_ascii_alphabetic() || c == '_')
        && chars.all(|c| c.is_ascii_alphanumeric() || c == '_')
}

/// Whether `text` can be an id: letters, digits and `._-`, beginning with a letter or digit.
pub fn is_id(text: &str) -> bool {
    text.starts_with(|c: char| c.is_ascii_alphanumeric())
        && text.chars().all(|c| c.is_ascii_alphanumeric() || "._-".contains(c))
}

/// Whether `text` is a SHA-256 in hexadecimal.
pub fn is_sha256(text: &str) -> bool {
    text.len() == 64 && text.bytes().all(|b| b.is_ascii_hexdigit())
}

/// Items between `separators`, trimmed; None if one is empty.
pub fn list(text: &str, separators: &[char]) -> Option<Vec<String>> {
    let items: Vec<String> = text.split(separators).map(|item| item.trim().to_owned()).collect();
    (!items.iter().any(String::is_empty)).then_some(items)
}

/// Whether a variable of this name, or a prompt with these words, is about something secret (row E39).
pub fn sounds_secret(text: &str) -> bool {
    let lower = text.to_ascii_lowercase();
    let words: Vec<&str> = lower.split(|c: char| !c.is_ascii_alphanumeric()).collect();
    let whole = |wanted: &[&str]| words.iter().any(|word| wanted.contains(word));
    ["password", "passwd", "passphrase", "secret", "apikey", "credential"].iter().any(|sign| lower.contains(sign))
        || whole(&["token", "tokens", "pat", "pin"])
        || ["_key", "api key", "license key", "licence key", "private key", "access key", "serial number"]
            .iter()
            .any(|sign| lower.contains(sign))
        || lower == "key"
}

/// Whether a value looks like a key itself: a known prefix, or long and of very mixed characters.
pub fn looks_random(value: &str) -> bool {
    if ["ghp_", "gho_", "github_pat_", "glpat-", "npm_", "hf_", "xoxb-", "AKIA", "sk-"]
        .iter()
        .any(|prefix| value.strip_prefix(prefix).is_some_and(|rest| rest.len() >= 16))
    {
        return true;
    }
    let plain = value.chars().all(|c| c.is_ascii_alphanumeric() || "+/=_-".contains(c));
    if value.len() < 32 || !plain || value.bytes().all(|b| b.is_ascii_hexdigit()) || value.starts_with('/') {
        return false;
    }
    let mut counts = [0_u32; 128];
    for b in value.bytes() {
        if let Some(count) = counts.get_mut(usize::from(b)) {
            *count += 1;
        }
    }
    let length = value.len() as f64;
    let entropy: f64 = counts.iter().filter(|c| **c > 0).map(|c| f64::from(*c) / length).map(|p| -p * p.log2()).sum();
    let classes = [u8::is_ascii_uppercase, u8::is_ascii_lowercase, u8::is_ascii_digit];
    entropy > 4.2 && classes.iter().all(|class| value.bytes().any(|b| class(&b)))
}
