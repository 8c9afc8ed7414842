//! The file of an array: one line holds the arguments of one task, quoted as for a shell. No shell sees it.

use std::sync::Arc;

use super::Wrong;
use crate::model::loc::Loc;

/// Most things wrong that are told.
const TOLD: usize = 20;

/// The arguments of each task; or what is wrong with the file, each with its line.
pub fn read(file: &str, bytes: &[u8]) -> Result<Vec<Vec<String>>, Vec<Wrong>> {
    let file: Arc<str> = Arc::from(file);
    let place = |line: usize, col: usize| Loc::new(file.clone(), line + 1, col + 1);
    let text = match std::str::from_utf8(bytes) {
        Ok(text) => text,
        Err(bad) => {
            let line = bytes.iter().take(bad.valid_up_to()).filter(|byte| **byte == b'\n').count();
            return Err(vec![Wrong::new(&place(line, 0), "the line is not UTF-8")]);
        }
    };
    let mut wrong = Vec::new();
    let mut tasks: Vec<Vec<String>> = Vec::new();
    // The end of the last line begins no new one.
    let lines = text.strip_suffix('\n').unwrap_or(text);
    let mut wide: Option<(usize, usize)> = None;
    for (number, line) in lines.split('\n').enumerate() {
        if line.ends_with('\r') {
            let hint = format!("sed -i 's/\\r$//' {file}");
            wrong.push(
                Wrong::new(&place(number, line.chars().count() - 1), "the line ends in CRLF (\\r\\n)").hint(hint),
            );
            break;
        }
        if line.contains('\0') {
            wrong.push(Wrong::new(&place(number, 0), "the line holds a NUL byte"));
            continue;
        }
        let words = match split(line) {
            Ok(words) => words,
            Err(col) => {
                wrong.push(Wrong::new(&place(number, col), "what is opened here is not closed in this line"));
                continue;
            }
        };
        if words.is_empty() {
            wrong.push(
                Wrong::new(&place(number, 0), "the line is blank: a task without arguments")
                    .hint("write '' for an empty argument, or remove the line"),
            );
            continue;
        }
        match wide {
            None => wide = Some((number, words.len())),
            Some((first, count)) if count != words.len() => {
                let first = first + 1;
                let why = format!("{} arguments, but line {first} has {count}", words.len());
                wrong.push(Wrong::new(&place(number, 0), why).hint("quote arguments with blanks in them"));
                continue;
            }
            Some(_) => {}
        }
        tasks.push(words);
        if wrong.len() >= TOLD {
            break;
        }
    }
    if wrong.len() > TOLD {
        wrong.truncate(TOLD);
    }
    if wrong.is_empty() { Ok(tasks) } else { Err(wrong) }
}

/// Words as a POSIX shell splits them, without any expansion: blanks separate, `'…'` is literal, in `"…"` a backslash
/// takes `"`, `\`, `$` and backticks literally, elsewhere any character. The column of what is never closed is an error.
pub fn split(line: &str) -> Result<Vec<String>, usize> {
    let mut words: Vec<String> = Vec::new();
    let mut word: Option<String> = None;
    let mut chars = line.chars().enumerate().peekable();
    while let Some((at, c)) = chars.next() {
        match c {
            ' ' | '\t' => words.extend(word.take()),
            '\'' => {
                let into = word.get_or_insert_default();
                loop {
                    match chars.next() {
                        Some((_, '\'')) => break,
                        Some((_, inner)) => into.push(inner),
                        None => return Err(at),
                    }
                }
            }
            '"' => {
                let into = word.get_or_insert_default();
                loop {
                    match chars.next() {
                        Some((_, '"')) => break,
                        Some((_, '\\')) => match chars.next() {
                            Some((_, next @ ('"' | '\\' | '$' | '`'))) => into.push(next),
                            Some((_, next)) => into.extend(['\\', next]),
                            None => return Err(at),
                        },
                        Some((_, inner)) => into.push(inner),
                        None => return Err(at),
                    }
                }
            }
            '\\' => match chars.next() {
                Some((_, next)) => word.get_or_insert_default().push(next),
                None => return Err(at),
            },
            c => word.get_or_insert_default().push(c),
        }
    }
    words.extend(word);
    Ok(words)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(text: &str) -> Result<Vec<Vec<String>>, String> {
        read("a", text.as_bytes()).map_err(|wrong| wrong.iter().map(ToString::to_string).collect::<Vec<_>>().join("; "))
    }

    #[test]
    fn lines_are_split_as_a_shell_would_and_nothing_is_expanded() {
        let tasks = of("a 'b c' \"d \\\"e\\\" $HOME\" f\\ g\n\"\" '' # $(x)\n'é'\"ü\" `y` *.txt \\'\n").unwrap();
        assert_eq!(tasks[0], ["a", "b c", "d \"e\" $HOME", "f g"]);
        assert_eq!(tasks[1], ["", "", "#", "$(x)"]);
        assert_eq!(tasks[2], ["éü", "`y`", "*.txt", "'"]);
        assert_eq!(of("x").unwrap(), [["x"]]);
    }

    #[test]
    fn what_is_wrong_is_told_with_its_line() {
        assert_eq!(of("").unwrap_err(), "a:1:1: the line is blank: a task without arguments");
        let several = of("a b\n\nc\nd 'e\nf g\n  \n").unwrap_err();
        assert_eq!(
            several,
            "a:2:1: the line is blank: a task without arguments; a:3:1: 1 arguments, but line 1 has 2; \
             a:4:3: what is opened here is not closed in this line; a:6:1: the line is blank: a task without arguments"
        );
        assert!(of("a\r\nb\r\n").unwrap_err().contains("CRLF"));
        assert!(of("a\\").is_err() && of("a\0").is_err());
        assert!(read("a", b"ok\n\xff\n").unwrap_err()[0].to_string().starts_with("a:2:1: "));
        assert_eq!(read("a", "\n".repeat(100).as_bytes()).unwrap_err().len(), TOLD);
    }
}
