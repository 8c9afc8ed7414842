//! Patterns over names: a substring, wildcards, or a regular expression; case does not matter.

use regex::{Regex, RegexBuilder};

use super::failure::Failure;

/// A pattern ready to be used; no pattern matches everything.
pub fn compile(pattern: Option<&str>, is_regex: bool) -> Result<Regex, Failure> {
    let text = match pattern {
        None => String::new(),
        Some(text) if is_regex => text.to_owned(),
        Some(text) if text.contains(['*', '?']) => wildcard(text),
        // Other spellings of a name are found too.
        Some(text) => regex::escape(&text.replace("--", "/").replace(['=', '@'], "/")),
    };
    RegexBuilder::new(&text)
        .case_insensitive(true)
        .size_limit(1 << 20)
        .build()
        .map_err(|error| Failure::usage(format!("'{text}' is no regular expression: {error}")))
}

fn wildcard(text: &str) -> String {
    let parts: String = text
        .chars()
        .map(|c| match c {
            '*' => ".*".to_owned(),
            '?' => ".".to_owned(),
            c => regex::escape(&c.to_string()),
        })
        .collect();
    format!("^{parts}$")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn substring_wildcard_and_regex() {
        let found = |pattern: &str, is_regex, text: &str| compile(Some(pattern), is_regex).unwrap().is_match(text);
        assert!(found("TOOLS", false, "samtools/1.22") && found("samtools=1", false, "samtools/1.22"));
        assert!(found("sam*/1.?2", false, "samtools/1.22") && !found("sam*", false, "xsamtools/1"));
        assert!(found("^sam.*/1", true, "samtools/1.22") && !found("1.22", false, "samtools/1x22"));
        assert!(compile(Some("("), true).is_err() && compile(None, false).is_ok());
    }
}
