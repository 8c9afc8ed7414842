//! Directive words into flags: each scheduler's own option syntax over a table of its options.

use super::FlagError;
use crate::model::loc::Loc;
use crate::recipe::scan::Directive;

/// Whether a flag takes a value.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Takes {
    /// Never.
    Nothing,
    /// Always.
    Value,
    /// Only attached: `--exclusive=user`.
    Perhaps,
}

/// One option of a scheduler's submit command.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Opt {
    /// Its letter, where it has one.
    pub short: Option<char>,
    /// Its name: the long option without dashes; where there are no long ones, the letter.
    pub name: &'static str,
    /// Whether it takes a value.
    pub takes: Takes,
}

/// One flag of a directive.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Flag {
    /// Where it begins.
    pub loc: Loc,
    /// The option's [`Opt::name`].
    pub name: &'static str,
    /// Its value.
    pub value: Option<String>,
    /// Its words as written, quotes removed.
    pub words: Vec<String>,
}

impl Flag {
    /// The flag as written.
    pub fn text(&self) -> String {
        self.words.join(" ")
    }

    /// The value; empty where there is none.
    pub fn value(&self) -> &str {
        self.value.as_deref().unwrap_or("")
    }

    /// An error about this flag.
    pub fn error(&self, why: impl std::fmt::Display) -> FlagError {
        FlagError { loc: self.loc.clone(), why: format!("{}: {why}", self.text()), hint: None }
    }

    /// An error about this flag, with what to write instead.
    pub fn refuse(&self, why: impl std::fmt::Display, hint: impl Into<String>) -> FlagError {
        FlagError { hint: Some(hint.into()), ..self.error(why) }
    }
}

/// An error at a word that is no flag.
fn not_understood(loc: &Loc, why: String, hint: Option<String>) -> FlagError {
    FlagError { loc: loc.clone(), why: format!("directive not understood: {why}"), hint }
}

/// Splits as getopt_long does: `-c8`, `-c 8`, `-Hc 8`, `--mem=8G`, `--mem 8G`, and any unambiguous beginning of a long
/// option. With `longs` false there are letters only (PBS).
pub fn getopt(
    program: &str,
    table: &'static [Opt],
    longs: bool,
    directive: &Directive,
) -> Result<Vec<Flag>, FlagError> {
    let mut flags = Vec::new();
    let mut words = directive.words.iter();
    while let Some((loc, word)) = words.next() {
        if let Some(long) = word.strip_prefix("--").filter(|_| longs) {
            let (name, attached) = match long.split_once('=') {
                Some((name, value)) => (name, Some(value.to_owned())),
                None => (long, None),
            };
            let opt = find_long(program, table, loc, name)?;
            let mut flag = Flag { loc: loc.clone(), name: opt.name, value: attached, words: vec![word.clone()] };
            match (opt.takes, &flag.value) {
                (Takes::Nothing, Some(_)) => return Err(flag.error(format!("--{} takes no value", opt.name))),
                (Takes::Value, None) => take(&mut flag, words.next())?,
                _ => {}
            }
            flags.push(flag);
            continue;
        }
        let Some(letters) = word.strip_prefix('-').filter(|letters| !letters.is_empty() && *letters != "-") else {
            let why = format!("'{word}' belongs to no flag");
            return Err(not_understood(loc, why, None));
        };
        let mut rest = letters.chars();
        while let Some(letter) = rest.next() {
            let Some(opt) = table.iter().find(|opt| opt.short == Some(letter)) else {
                return Err(not_understood(loc, format!("{program} knows no flag '-{letter}' (in '{word}')"), None));
            };
            let mut flag = Flag { loc: loc.clone(), name: opt.name, value: None, words: vec![format!("-{letter}")] };
            if opt.takes == Takes::Value {
                let attached: String = rest.by_ref().collect();
                if attached.is_empty() {
                    take(&mut flag, words.next())?;
                } else {
                    flag.words = vec![format!("-{letter}{attached}")];
                    flag.value = Some(attached);
                }
            }
            flags.push(flag);
        }
    }
    Ok(flags)
}

/// The next word as the flag's value.
pub fn take(flag: &mut Flag, next: Option<&(Loc, String)>) -> Result<(), FlagError> {
    match next {
        Some((_, value)) => {
            flag.words.push(value.clone());
            flag.value = Some(value.clone());
            Ok(())
        }
        None => Err(flag.error("a value is missing")),
    }
}

fn find_long(program: &str, table: &'static [Opt], loc: &Loc, name: &str) -> Result<&'static Opt, FlagError> {
    let long = |opt: &&Opt| opt.name.len() > 1;
    if let Some(exact) = table.iter().filter(long).find(|opt| opt.name == name) {
        return Ok(exact);
    }
    let near: Vec<&'static Opt> =
        table.iter().filter(long).filter(|opt| !name.is_empty() && opt.name.starts_with(name)).collect();
    match near.as_slice() {
        [only] => Ok(only),
        [] => {
            let close =
                table.iter().filter(long).map(|opt| (strsim::damerau_levenshtein(name, opt.name), opt.name)).min();
            let hint = close.filter(|(far, _)| *far <= 3).map(|(_, name)| format!("did you mean --{name}?"));
            Err(not_understood(loc, format!("{program} knows no flag '--{name}'"), hint))
        }
        several => {
            let names: Vec<String> = several.iter().map(|opt| format!("--{}", opt.name)).collect();
            Err(not_understood(loc, format!("'--{name}' can be {}", names.join(" or ")), None))
        }
    }
}

/// One word for a directive line, quoted where needed; None when it cannot stand there: control characters, or for LSF,
/// which knows no escapes, both kinds of quotes.
pub fn directive_word(word: &str, escapes: bool) -> Option<String> {
    if word.chars().any(char::is_control) {
        return None;
    }
    let plain = |c: char| c.is_alphanumeric() || "_-./:=@%+,^~".contains(c);
    if !word.is_empty() && word.chars().all(plain) {
        return Some(word.to_owned());
    }
    if !word.contains('"') && !word.contains('\\') {
        return Some(format!("\"{word}\""));
    }
    if !word.contains('\'') && (!word.contains('\\') || !escapes) {
        return Some(format!("'{word}'"));
    }
    escapes.then(|| format!("\"{}\"", word.replace('\\', "\\\\").replace('"', "\\\"")))
}
