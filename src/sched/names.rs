//! Job names every scheduler takes.

/// At most this many characters.
const LONGEST: usize = 60;

/// A name from free text: letters, digits and `._-`, beginning with a letter, as even the narrowest scheduler (PBS)
/// takes it. The beginning and the end are kept where it is too long, as the end makes it unique.
pub fn plain(text: &str) -> String {
    let mut name = String::new();
    for c in text.chars() {
        if c.is_ascii_alphanumeric() || "._-".contains(c) {
            name.push(c);
        } else if !name.ends_with('-') {
            name.push('-');
        }
    }
    if !name.starts_with(|c: char| c.is_ascii_alphabetic()) {
        name.insert_str(0, "j-");
    }
    if name.len() > LONGEST {
        let (head, tail) = (LONGEST - 1 - 24, name.len() - 24);
        name = format!("{}-{}", name.get(..head).unwrap_or(""), name.get(tail..).unwrap_or(""));
    }
    name
}
