//! What programs print, made fit for one line of a drawing: no escape sequences, nothing that moves the cursor.

/// Longest text that is kept, in characters; no terminal is wider.
const LONGEST: usize = 512;

/// What a terminal would still show of a line: what follows the last carriage return, without control characters,
/// escape sequences (ECMA-48, sections 5.4 and 5.6) and characters that change the direction of writing.
pub fn shown(line: &str) -> String {
    // A progress bar that redraws itself ends in nothing after its last return.
    let last = line.rsplit('\r').find(|part| !part.trim().is_empty()).unwrap_or("");
    let mut text = String::new();
    let mut chars = last.chars().peekable();
    while let Some(c) = chars.next() {
        match c {
            '\x1b' => match chars.next() {
                // Control sequence: parameters, then one final byte.
                Some('[') => while chars.next().is_some_and(|c| !('@'..='~').contains(&c)) {},
                // Strings (titles, links): up to BEL or ESC \.
                Some(']' | 'P' | 'X' | '^' | '_') => {
                    while let Some(c) = chars.next().filter(|c| *c != '\x07') {
                        if c == '\x1b' {
                            chars.next();
                            break;
                        }
                    }
                }
                // Intermediate bytes, then a final one: character sets and the like.
                Some(' '..='/') => while chars.next().is_some_and(|c| (' '..='/').contains(&c)) {},
                _ => {}
            },
            '\t' => text.push(' '),
            '\u{200b}'..='\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2060}'..='\u{206f}' => {}
            c if c.is_control() => {}
            c => text.push(c),
        }
    }
    text.trim_end().chars().take(LONGEST).collect()
}

#[cfg(test)]
mod tests {
    use super::shown;
    use proptest::prelude::*;

    #[test]
    fn only_what_can_be_seen_stays() {
        for (line, expected) in [
            ("gcc -c a.c", "gcc -c a.c"),
            ("\x1b[1;31merror:\x1b[0m no", "error: no"),
            (" 10 %\r 50 %\r100 %\r", "100 %"),
            ("\x1b]0;title\x07text\x1b]8;;http://x\x1b\\link", "textlink"),
            ("\x1b[2J\x1b[Hgone\x1b(B!", "gone!"),
            ("a\tb\x08\x00c\u{202e}d", "a bcd"),
            ("cut \x1b[3", "cut"),
            ("\r\r", ""),
        ] {
            assert_eq!(shown(line), expected, "{line:?}");
        }
    }

    proptest! {
        #[test]
        fn nothing_moves_the_cursor(line in "(\\PC|\x1b|\\[|\\]|\x07|\r|\t|[0-9;mA-Z]){0,80}") {
            prop_assert!(!shown(&line).chars().any(char::is_control));
        }
    }
}
