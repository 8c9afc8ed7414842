//! Lines of sections that are not scripts: `%files` (words, perhaps quoted), `%labels` and `%arguments` (a key and a value).

use std::collections::BTreeMap;

/// The words of a line of `%files`, quotes removed; none for blank lines and comments.
pub fn split(line: &str) -> Vec<String> {
    let line = line.trim();
    let mut words = Vec::new();
    if line.starts_with('#') {
        return words;
    }
    let mut word: Option<String> = None;
    let mut quote: Option<char> = None;
    for c in line.chars() {
        match quote {
            Some(open) if c == open => quote = None,
            Some(_) => word.get_or_insert_default().push(c),
            None if matches!(c, '"' | '\'') => {
                quote = Some(c);
                word.get_or_insert_default();
            }
            None if c.is_whitespace() => words.extend(word.take()),
            None => word.get_or_insert_default().push(c),
        }
    }
    words.extend(word);
    words
}

/// Labels: `NAME VALUE` in each line.
pub fn labels(text: &str) -> BTreeMap<String, String> {
    let mut labels = BTreeMap::new();
    for line in text.lines().map(str::trim).filter(|line| !line.is_empty() && !line.starts_with('#')) {
        let (name, value) = line.split_once(' ').unwrap_or((line, ""));
        labels.insert(name.trim().to_owned(), value.trim().to_owned());
    }
    labels
}

/// `NAME=VALUE` with blanks around both dropped; None where there is no `=` or no name.
pub fn pair(text: &str) -> Option<(String, String)> {
    let (name, value) = text.split_once('=')?;
    let name = name.trim();
    (!name.is_empty()).then(|| (name.to_owned(), value.trim().to_owned()))
}
