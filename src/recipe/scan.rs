//! From bytes to headers and directives with their places: the leading block of comments is what ovl reads.
//!
//! The block ends at the first line of code, as it does for sbatch; blank lines and plain comments may stand in it.

use std::sync::Arc;

use super::finding::{Finding, Rule};
use super::headers::KNOWN;
use super::values::split_words;
use crate::model::loc::Loc;

/// Longest line, in characters. Slurm refuses scripts from 4 MB on; one line of this size is data, not a script.
const LONGEST_LINE: usize = 128 * 1024;

/// A scheduler, as its directives name it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Marker {
    /// `#SBATCH`, Slurm.
    Sbatch,
    /// `#PBS`, PBS.
    Pbs,
    /// `#BSUB`, LSF.
    Bsub,
}

impl Marker {
    /// The marker without its `#`.
    pub fn word(self) -> &'static str {
        match self {
            Marker::Sbatch => "SBATCH",
            Marker::Pbs => "PBS",
            Marker::Bsub => "BSUB",
        }
    }
}

/// A header: `#WORD:value`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Header {
    /// Where its `#` stands.
    pub loc: Loc,
    /// The word, in upper case.
    pub word: String,
    /// The value without surrounding blanks.
    pub value: String,
    /// Where the value begins.
    pub at: Loc,
}

/// A scheduler directive, split into words; what they mean is for the scheduler's dialect to say.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Directive {
    /// Which scheduler.
    pub marker: Marker,
    /// Where its `#` stands.
    pub loc: Loc,
    /// The words with their places, quotes removed.
    pub words: Vec<(Loc, String)>,
    /// The text as written (continued lines joined).
    pub line: String,
}

/// The leading block of a recipe.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Scan {
    /// The recipe's name in messages.
    pub file: Arc<str>,
    /// Its headers.
    pub headers: Vec<Header>,
    /// Its directives.
    pub directives: Vec<Directive>,
    /// First line of code; one past the last line when there is none.
    pub code: usize,
}

/// The bytes as text; None, with a finding, where they are none. Line ends become `\n`.
pub fn decode(file: &str, bytes: &[u8], findings: &mut Vec<Finding>) -> Option<String> {
    let start = Loc::new(file, 1, 1);
    let text = match std::str::from_utf8(bytes) {
        Ok(text) => text,
        Err(bad) => {
            let good = bytes.get(..bad.valid_up_to()).and_then(|good| std::str::from_utf8(good).ok()).unwrap_or("");
            let byte = bytes.get(bad.valid_up_to()).copied().unwrap_or(0);
            findings.push(
                Finding::new(Rule::NotText, &end_of(file, good), format!("byte 0x{byte:02x} is not UTF-8"))
                    .hint(format!("convert the file: iconv -f latin1 -t utf-8 {file} (if it is in latin1)")),
            );
            return None;
        }
    };
    let text = match text.strip_prefix('\u{feff}') {
        Some(rest) => {
            let message = "the file begins with a byte order mark, which hides #! and directives";
            findings
                .push(Finding::new(Rule::ByteOrderMark, &start, message).hint(format!("sed -i '1s/^...//' {file}")));
            rest
        }
        None => text,
    };
    if text.trim().is_empty() {
        findings.push(Finding::new(Rule::Empty, &start, "the recipe is empty"));
        return None;
    }
    for (index, line) in text.split('\n').enumerate() {
        if let Some(before) = line.find('\0').and_then(|at| line.get(..at)) {
            let loc = Loc::new(file, index + 1, before.chars().count() + 1);
            findings.push(Finding::new(Rule::NulByte, &loc, "a NUL byte: this is no shell script"));
            break;
        }
    }
    for (index, line) in text.split('\n').enumerate() {
        if line.len() > LONGEST_LINE && line.chars().count() > LONGEST_LINE {
            let message = format!("the line has {} characters (at most {LONGEST_LINE})", line.chars().count());
            let hint = "keep data in a file of its own and fetch it";
            findings.push(Finding::new(Rule::LongLine, &Loc::new(file, index + 1, 1), message).hint(hint));
        }
    }
    let crlf: Vec<usize> =
        text.split('\n').enumerate().filter(|(_, l)| l.ends_with('\r')).map(|(n, _)| n + 1).collect();
    let Some(first) = crlf.first() else { return Some(text.to_owned()) };
    let message = format!("{} end in CRLF (\\r\\n), from line {first} on", plural(crlf.len(), "line"));
    let col = text.split('\n').nth(first - 1).map_or(1, |line| line.chars().count());
    findings.push(
        Finding::new(Rule::CrLf, &Loc::new(file, *first, col.max(1)), message)
            .hint(format!("sed -i 's/\\r$//' {file} (or dos2unix {file})")),
    );
    Some(text.split('\n').map(|line| line.strip_suffix('\r').unwrap_or(line)).collect::<Vec<_>>().join("\n"))
}

fn plural(count: usize, what: &str) -> String {
    if count == 1 { format!("1 {what}") } else { format!("{count} {what}s") }
}

/// The place just behind `text`.
fn end_of(file: &str, text: &str) -> Loc {
    let last = text.rsplit('\n').next().unwrap_or("");
    Loc::new(file, text.matches('\n').count() + 1, last.chars().count() + 1)
}

/// Reads the leading block.
pub fn scan(file: &str, text: &str, findings: &mut Vec<Finding>) -> Scan {
    let file: Arc<str> = Arc::from(file);
    let mut scan = Scan { file: file.clone(), headers: Vec::new(), directives: Vec::new(), code: 0 };
    let lines: Vec<&str> = text.lines().collect();
    scan.code = lines.len() + 1;
    let mut index = 0;
    while let Some(line) = lines.get(index) {
        let number = index + 1;
        index += 1;
        let bare = line.trim_start();
        if bare.is_empty() || (number == 1 && line.starts_with("#!")) {
            continue;
        }
        if !bare.starts_with('#') {
            scan.code = number;
            break;
        }
        let loc = Loc::new(file.clone(), number, line.chars().count() - bare.chars().count() + 1);
        if let Some((marker, rest)) = directive(bare, loc.col) {
            let mut joined = Joined::new(&loc, bare, rest);
            if marker == Marker::Sbatch && joined.continues() {
                let message = "Slurm knows no continued lines: the \\ at the end would be a word of its own";
                findings.push(Finding::new(Rule::BadDirective, &loc, message).hint("begin the next line with #SBATCH"));
            }
            while marker != Marker::Sbatch && joined.continues() {
                let Some(next) = lines.get(index) else { break };
                index += 1;
                if !joined.add(&file, index, next, marker) {
                    let message = "the directive goes on in a line which the shell would run as a command";
                    let hint = format!("begin it with #{}", marker.word());
                    findings
                        .push(Finding::new(Rule::BadDirective, &Loc::new(file.clone(), index, 1), message).hint(hint));
                }
            }
            scan.directives.push(joined.finish(marker, loc, findings));
        } else if let Some(header) = header(bare, loc, findings) {
            scan.headers.push(header);
        }
    }
    scan
}

/// The scheduler of a directive line and its rest. Slurm wants its marker in the first column, PBS allows blanks
/// before it and none after it, LSF also `# BSUB`.
pub fn directive(bare: &str, col: usize) -> Option<(Marker, &str)> {
    let ends = |rest: &str| rest.is_empty() || rest.starts_with([' ', '\t']);
    if let Some(rest) = bare.strip_prefix("#SBATCH") {
        return (col == 1 && ends(rest)).then_some((Marker::Sbatch, rest));
    }
    if let Some(rest) = bare.strip_prefix("#PBS") {
        return (ends(rest) || rest.starts_with('-')).then_some((Marker::Pbs, rest));
    }
    let rest = bare.strip_prefix('#')?.trim_start().strip_prefix("BSUB")?;
    ends(rest).then_some((Marker::Bsub, rest))
}

/// A directive whose continued lines are joined, with the place of each character.
struct Joined {
    text: Vec<(Loc, char)>,
    line: String,
}

impl Joined {
    fn new(loc: &Loc, bare: &str, rest: &str) -> Joined {
        let skipped = bare.chars().count() - rest.chars().count();
        let mut joined = Joined { text: Vec::new(), line: bare.to_owned() };
        joined.push(&Loc { col: loc.col + skipped, ..loc.clone() }, rest);
        joined
    }

    fn push(&mut self, from: &Loc, rest: &str) {
        self.text.extend(rest.chars().enumerate().map(|(n, c)| (Loc { col: from.col + n, ..from.clone() }, c)));
    }

    fn continues(&self) -> bool {
        self.text.last().is_some_and(|(_, last)| *last == '\\')
    }

    /// Adds a continuation; false where the line is not a comment.
    fn add(&mut self, file: &Arc<str>, number: usize, line: &str, marker: Marker) -> bool {
        self.text.pop();
        self.line.pop();
        let bare = line.trim_start();
        let col = line.chars().count() - bare.chars().count() + 1;
        let rest = match directive(bare, col) {
            Some((found, rest)) if found == marker => rest,
            _ => bare.trim_start_matches('#'),
        };
        let skipped = line.chars().count() - rest.chars().count();
        self.push(&Loc::new(file.clone(), number, skipped + 1), rest);
        self.line.push_str(rest);
        bare.starts_with('#')
    }

    fn finish(self, marker: Marker, loc: Loc, findings: &mut Vec<Finding>) -> Directive {
        let (words, open) = split_words(&self.text, marker != Marker::Bsub);
        if let Some(at) = open {
            findings.push(Finding::new(Rule::BadDirective, &at, "the quote opened here is not closed"));
        } else if words.is_empty() {
            let message = format!("#{} says nothing", marker.word());
            findings.push(Finding::new(Rule::BadDirective, &loc, message));
        }
        Directive { marker, loc, words, line: self.line }
    }
}

/// A header in a comment line, or findings about one that is not quite.
fn header(bare: &str, loc: Loc, findings: &mut Vec<Finding>) -> Option<Header> {
    let rest = bare.strip_prefix('#')?;
    let inner = rest.trim_start();
    let blanks = rest.chars().count() - inner.chars().count();
    let end = inner.find(|c: char| !c.is_ascii_alphanumeric() && c != '_').unwrap_or(inner.len());
    let (word, tail) = inner.split_at(end);
    let upper = word.to_ascii_uppercase();
    let known = KNOWN.iter().any(|known| known.word == upper);
    if blanks == 0 && tail.starts_with(':') && matches!(word, "SBATCH" | "BSUB" | "PBS") {
        findings.push(Finding::new(Rule::BadDirective, &loc, format!("#{word} is followed by a blank, not a colon")));
        return None;
    }
    let Some(value) = tail.strip_prefix(':') else {
        let alone = tail.starts_with([' ', '\t']) && blanks == 0 && word == upper;
        // Options of `ovl run` may do without.
        let options = matches!(word, "OVL" | "CNT") && tail.trim_start().starts_with('-');
        if known && alone && !options && !tail.trim().is_empty() && !looks_like_prose(tail) {
            let message = format!("#{word} has no colon, so it is only a comment");
            let hint = format!("#{word}:{}", tail.trim());
            findings.push(Finding::new(Rule::NoColon, &loc, message).hint(format!("write {hint}")));
        }
        if matches!(upper.as_str(), "SBATCH" | "BSUB" | "PBS") {
            let message =
                format!("this is no directive: #{upper} must be written so, in the first column, before a blank");
            findings.push(Finding::new(Rule::OddSpelling, &loc, message));
        }
        return None;
    };
    if blanks > 0 || (known && word != upper) {
        // `# url: …` is prose; `# URL: …` and `#url:…` were likely meant.
        if known && blanks <= 1 && (blanks == 0 || word == upper) {
            let message = format!("this comment looks like the header #{upper}:, but is not read as one");
            let hint = format!("write #{upper}:{} if it is one", value.trim());
            findings.push(Finding::new(Rule::OddSpelling, &loc, message).hint(hint));
        }
        return None;
    }
    if word != upper || !word.starts_with(|c: char| c.is_ascii_uppercase()) {
        return None;
    }
    if !known {
        if !matches!(
            word,
            "TODO" | "FIXME" | "XXX" | "NOTE" | "HACK" | "BUG" | "WARNING" | "COPYRIGHT" | "LICENSE" | "AUTHOR"
        ) {
            let near = nearest(word);
            let finding =
                Finding::new(Rule::UnknownHeader, &loc, format!("#{word}: is no header ovl knows; it is not read"));
            findings.push(match near {
                Some(near) => finding.hint(format!("did you mean #{near}:?")),
                None => finding.hint(format!("write '# {word}:' if it is a comment")),
            });
        }
        return None;
    }
    if loc.col > 1 {
        let message = format!("#{word}: is indented, so it is only a comment");
        findings.push(Finding::new(Rule::Indented, &loc, message).hint("begin it in the first column"));
        return None;
    }
    let value = without_allow(value);
    let lead = value.chars().count() - value.trim_start().chars().count();
    let at = Loc { col: loc.col + word.len() + 2 + lead, ..loc.clone() };
    Some(Header { loc, word: word.to_owned(), value: value.trim().to_owned(), at })
}

/// A value without a trailing `# ovl:allow …`.
fn without_allow(value: &str) -> &str {
    value.split_once(" # ovl:allow").map_or(value, |(value, _)| value)
}

/// `#TARGET directory is …` is a sentence, `#DEP samtools/1.22` is not.
fn looks_like_prose(tail: &str) -> bool {
    tail.split_whitespace().count() > 2
}

fn nearest(word: &str) -> Option<&'static str> {
    let close = |known: &'static str| (strsim::damerau_levenshtein(word, known), known);
    let (distance, known) = KNOWN.iter().map(|known| close(known.word)).min()?;
    (distance <= 2 && distance < word.len()).then_some(known)
}

#[cfg(test)]
mod tests;
