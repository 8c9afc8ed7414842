//! Names of output files with what a scheduler fills in: `%j` the job's id, `%A` that of the whole array, `%a` the number
//! of the task, `%x` the job's name, `%u` the user, `%%` a percent sign, as sbatch has them. Other dialects' marks are
//! read into these and written from these.

/// One piece of a pattern.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Piece {
    /// Plain text.
    Text(String),
    /// The job's id; in an array that of the task.
    Job,
    /// The id of the whole array; of the job where there is none.
    Array,
    /// The number of the task in its array.
    Index,
    /// The job's name.
    Name,
    /// The user.
    User,
    /// Something only Slurm can fill in: the letter.
    Other(char),
}

/// A pattern in its pieces.
pub fn parse(text: &str) -> Vec<Piece> {
    let mut pieces: Vec<Piece> = Vec::new();
    let mut plain = String::new();
    let mut chars = text.chars().peekable();
    while let Some(c) = chars.next() {
        if c != '%' {
            plain.push(c);
            continue;
        }
        // Slurm pads numbers: %4a. The width is passed over.
        let mut width = String::new();
        while let Some(digit) = chars.next_if(char::is_ascii_digit) {
            width.push(digit);
        }
        let piece = match chars.peek() {
            Some('j' | 'J') => Piece::Job,
            Some('A') => Piece::Array,
            Some('a') => Piece::Index,
            Some('x') => Piece::Name,
            Some('u') => Piece::User,
            Some(letter @ ('N' | 'n' | 't' | 's' | 'b')) => Piece::Other(*letter),
            Some('%') if width.is_empty() => {
                chars.next();
                plain.push('%');
                continue;
            }
            _ => {
                plain.push('%');
                plain.push_str(&width);
                continue;
            }
        };
        chars.next();
        if !plain.is_empty() {
            pieces.push(Piece::Text(std::mem::take(&mut plain)));
        }
        pieces.push(piece);
    }
    if !plain.is_empty() {
        pieces.push(Piece::Text(plain));
    }
    pieces
}

/// Whether each task of an array has a file of its own by this pattern.
pub fn tells_tasks(text: &str) -> bool {
    parse(text).iter().any(|piece| matches!(piece, Piece::Job | Piece::Index))
}

/// The pattern of plain text.
pub fn escape(text: &str) -> String {
    text.replace('%', "%%")
}

/// The pieces as text again, each written by `show`; None in `show` means that it cannot be filled in, and the letter
/// stands for itself.
pub fn fill(pieces: &[Piece], show: &dyn Fn(&Piece) -> Option<String>) -> String {
    pieces
        .iter()
        .map(|piece| match (show(piece), piece) {
            (Some(text), _) => text,
            (None, Piece::Text(text)) => text.clone(),
            (None, Piece::Job) => "j".into(),
            (None, Piece::Array) => "A".into(),
            (None, Piece::Index) => "a".into(),
            (None, Piece::Name) => "x".into(),
            (None, Piece::User) => "u".into(),
            (None, Piece::Other(letter)) => letter.to_string(),
        })
        .collect()
}

/// LSF's `%J` and `%I` in these words.
pub fn from_lsf(text: &str) -> String {
    escape(text).replace("%%J", "%A").replace("%%I", "%a")
}

/// PBS' `^array_index^` and `^jobid^` in these words; a host before a colon is left out, as all share the files.
pub fn from_pbs(text: &str) -> String {
    let path = match text.split_once(':') {
        Some((host, path)) if !host.contains('/') => path,
        _ => text,
    };
    escape(path).replace("^array_index^", "%a").replace("^jobid^", "%j")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn patterns_of_all_schedulers() {
        let shown = |text: &str| {
            fill(&parse(text), &|piece| match piece {
                Piece::Job => Some("7".into()),
                Piece::Array => Some("5".into()),
                Piece::Index => Some("3".into()),
                Piece::Name => Some("name".into()),
                Piece::User => Some("me".into()),
                _ => None,
            })
        };
        for (text, expected) in [
            ("out-%j.txt", "out-7.txt"),
            ("%x_%A_%4a.log", "name_5_3.log"),
            ("100%%/%u", "100%/me"),
            ("%q%", "%q%"),
            ("%5%", "%5%"),
            ("é%N", "éN"),
            (&from_lsf("o.%J.%I-50%"), "o.5.3-50%"),
            (&from_pbs("host:/a/b.^array_index^"), "/a/b.3"),
            (&from_pbs("/a:b/^jobid^%"), "/a:b/7%"),
        ] {
            assert_eq!(shown(text), expected, "{text}");
        }
        assert!(tells_tasks("o-%j") && tells_tasks("o-%A_%a"));
        assert!(!tells_tasks("o-%A") && !tells_tasks("o-%%j-%x"));
    }
}
