//! Thinking about users' scripts: which overlays and options their lines ask for, what runs them, the arguments of an
//! array's tasks, and how several tasks are launched. Pure.

pub mod array;
pub mod launch;
mod modules;
pub mod request;
pub mod waiting;
mod words;

use crate::model::loc::Loc;
use crate::model::need::Need;
use crate::recipe::finding::{Finding, Rule};
use crate::recipe::scan::{self, Directive};
use crate::recipe::values::without_comment;

pub use words::Line;

/// A place in a script or an array file with what is wrong there.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{loc}: {why}")]
pub struct Wrong {
    /// Where.
    pub loc: Loc,
    /// What is wrong.
    pub why: String,
    /// What to do.
    pub hint: Option<String>,
}

impl Wrong {
    /// Something wrong at a place.
    pub fn new(loc: &Loc, why: impl Into<String>) -> Wrong {
        Wrong { loc: loc.clone(), why: why.into(), hint: None }
    }

    /// With what to do about it.
    #[must_use]
    pub fn hint(self, hint: impl Into<String>) -> Wrong {
        Wrong { hint: Some(hint.into()), ..self }
    }
}

impl From<&Finding> for Wrong {
    fn from(finding: &Finding) -> Wrong {
        Wrong { loc: finding.loc.clone(), why: finding.message.clone(), hint: finding.hint.clone() }
    }
}

/// An overlay that a line of a script asks for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Wanted {
    /// A name and version, perhaps with a lower bound.
    Need(Need),
    /// A file.
    File(String),
    /// A name without a version: the newest installed.
    Newest(String),
}

impl std::fmt::Display for Wanted {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Wanted::Need(need) => need.fmt(f),
            Wanted::File(text) | Wanted::Newest(text) => f.write_str(text),
        }
    }
}

/// An overlay and who asks for it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Overlay {
    /// Where it is asked for.
    pub loc: Loc,
    /// Which.
    pub wanted: Wanted,
}

/// What a script says.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Script {
    /// Its interpreter and the one argument that `#!` allows; empty: there is no such line.
    pub interpreter: Vec<String>,
    /// Overlays of its `#DEP:` lines.
    pub deps: Vec<Overlay>,
    /// Overlays of its `module load` lines.
    pub modules: Vec<Overlay>,
    /// Its `#OVL:` and `#CNT:` lines.
    pub options: Vec<Line>,
    /// Its scheduler directives.
    pub directives: Vec<Directive>,
    /// Where it starts several tasks by itself, and with what.
    pub launches: Option<(Loc, String)>,
    /// Lines that look like something ovl reads, but are not.
    pub odd: Vec<Finding>,
}

/// Reads a script; everything that is wrong at once.
pub fn read(file: &str, bytes: &[u8]) -> Result<Script, Vec<Wrong>> {
    let start = Loc::new(file, 1, 1);
    if bytes.starts_with(b"\x7fELF") {
        return Err(vec![Wrong::new(&start, "it is a program, not a script").hint("run it with: ovl exec")]);
    }
    let mut findings = Vec::new();
    let text = scan::decode(file, bytes, &mut findings);
    let fatal = |finding: &&Finding| {
        matches!(finding.rule, Rule::NotText | Rule::ByteOrderMark | Rule::Empty | Rule::NulByte | Rule::CrLf)
    };
    let mut wrong: Vec<Wrong> = findings.iter().filter(fatal).map(Wrong::from).collect();
    for one in &mut wrong {
        one.why = one.why.replace("the recipe is empty", "the script is empty");
    }
    let Some(text) = text.filter(|_| wrong.is_empty()) else { return Err(wrong) };
    let mut of_lines = Vec::new();
    let scan = scan::scan(file, &text, &mut of_lines);
    wrong.extend(of_lines.iter().filter(|finding| finding.rule == Rule::BadDirective).map(Wrong::from));
    let mut script = Script { interpreter: interpreter(&text), directives: scan.directives, ..Script::default() };
    for header in scan.headers.iter().filter(|header| header.word == "DEP") {
        match overlay(without_comment(&header.value)) {
            Ok(wanted) => script.deps.push(Overlay { loc: header.at.clone(), wanted }),
            Err(why) => {
                wrong.push(Wrong::new(&header.at, format!("#DEP: {why}")).hint("its form is #DEP:name/version"))
            }
        }
    }
    let (options, bad) = words::lines(&scan.file, &text, scan.code);
    script.options = options;
    wrong.extend(bad);
    if is_shell(&script.interpreter) {
        modules::read(file, &text, &mut script);
    }
    let near = |finding: &Finding| matches!(finding.rule, Rule::NoColon | Rule::OddSpelling | Rule::Indented);
    script.odd = of_lines.into_iter().filter(near).collect();
    if wrong.is_empty() { Ok(script) } else { Err(wrong) }
}

/// An overlay as `#DEP:` names it: a name and version, or a file.
fn overlay(text: &str) -> Result<Wanted, String> {
    let ending = text.rsplit('/').next().and_then(|file| file.rsplit_once('.')).map(|(_, ending)| ending);
    let is_file = text.starts_with(['/', '.', '~'])
        || matches!(ending, Some("sqf" | "squashfs" | "sqfs" | "img" | "sif" | "ext3"));
    if is_file {
        return Ok(Wanted::File(text.to_owned()));
    }
    if text.is_empty() {
        return Err("it names nothing".into());
    }
    text.parse().map(Wanted::Need).map_err(|bad: crate::model::need::BadNeed| bad.to_string())
}

/// The program of the `#!` line and the rest of it as one argument, as the kernel takes it (execve(2)).
fn interpreter(text: &str) -> Vec<String> {
    let Some(line) = text.strip_prefix("#!").and_then(|rest| rest.lines().next()) else { return Vec::new() };
    let line = line.trim_matches([' ', '\t']);
    match line.split_once([' ', '\t']) {
        Some((program, argument)) => vec![program.to_owned(), argument.trim_start_matches([' ', '\t']).to_owned()],
        None if line.is_empty() => Vec::new(),
        None => vec![line.to_owned()],
    }
}

/// Whether the text is one for a shell that ovl can read.
fn is_shell(interpreter: &[String]) -> bool {
    let base = |word: &str| word.rsplit('/').next().unwrap_or(word).to_owned();
    let shell = |word: &str| matches!(base(word).as_str(), "sh" | "bash" | "dash" | "ksh" | "zsh" | "ash");
    match interpreter {
        [] => true,
        [program] => shell(program),
        [program, argument, ..] if base(program) == "env" => {
            argument.split_whitespace().find(|word| !word.starts_with('-') && !word.contains('=')).is_some_and(shell)
        }
        [program, ..] => shell(program),
    }
}

#[cfg(test)]
mod tests;
