//! Templates: one recipe for many overlays. `#TARGET:` is the pattern of their names, each `#PL:` a placeholder in it
//! with its values; everything here is text in, text out.

mod fill;
mod resolve;
#[cfg(test)]
mod tests;

use std::collections::HashSet;

use super::finding::{Finding, Rule};
use super::scan::Scan;
use super::spec::{At, Choice, PlaceholderSpec, Spec};
use crate::model::loc::Loc;
use crate::model::name::Name;
use crate::model::version::Version;
pub use resolve::Mismatch;

/// A placeholder of a template.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Placeholder {
    /// The word between the braces.
    pub name: String,
    /// Its values, best first: newest first for `,` lists, the author's order for `|` lists.
    pub listed: Vec<String>,
    /// Whether values that are not listed will do.
    pub open: bool,
    /// The values as the author wrote them.
    pub form: String,
    known: HashSet<String>,
}

impl Placeholder {
    /// Whether it may have this value; open lists take whatever can be part of a name.
    pub fn takes(&self, value: &str) -> bool {
        self.known.contains(value) || (self.open && !value.is_empty() && value.chars().all(may_stand_in_a_part))
    }
}

/// A pattern cut into pieces.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Piece {
    Text(String),
    /// The number of a placeholder.
    Token(usize),
}

/// A recipe that makes overlays of many names.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Template {
    /// The pattern of names, as written.
    pub pattern: String,
    /// The placeholders, in the order of their `#PL:`.
    pub placeholders: Vec<Placeholder>,
    /// `#WHATIS:` as written.
    pub whatis: Option<String>,
    /// `#DEP:` and `#BUILDDEP:` as written.
    pub deps: Vec<String>,
    pieces: Vec<Piece>,
}

/// A value for each placeholder of a template.
#[derive(Debug, Clone, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct Binding(Vec<(String, String)>);

impl Binding {
    /// From placeholders and their values.
    pub fn new(values: impl IntoIterator<Item = (String, String)>) -> Binding {
        Binding(values.into_iter().collect())
    }

    /// The value of a placeholder.
    pub fn get(&self, name: &str) -> Option<&str> {
        self.0.iter().find(|(own, _)| own == name).map(|(_, value)| value.as_str())
    }

    /// Gives one more placeholder its value.
    pub fn add(&mut self, name: &str, value: &str) {
        self.0.push((name.to_owned(), value.to_owned()));
    }

    /// A line with the tokens of these placeholders replaced.
    pub fn fill(&self, line: &str) -> String {
        fill::line(line, self)
    }
}

/// `star_version=2.7.11b, read_length=101`
impl std::fmt::Display for Binding {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let pairs: Vec<String> = self.0.iter().map(|(name, value)| format!("{name}={value}")).collect();
        f.write_str(&pairs.join(", "))
    }
}

/// Whether a character can stand in a part of a name.
fn may_stand_in_a_part(c: char) -> bool {
    c.is_ascii_alphanumeric() || "._+-".contains(c)
}

/// Whether headers say that this is a template, however badly.
pub(super) fn is_meant(scan: &Scan) -> bool {
    scan.headers.iter().any(|header| matches!(header.word.as_str(), "PL" | "TARGET"))
}

/// The template that a recipe is; None, with findings, where its headers do not go together.
pub(super) fn read(scan: &Scan, spec: &Spec, findings: &mut Vec<Finding>) -> Option<Template> {
    let before = findings.len();
    let target = spec.target.as_ref();
    let mut placeholders: Vec<Placeholder> = Vec::new();
    let mut places: Vec<&Loc> = Vec::new();
    for At { loc, value } in &spec.placeholders {
        match placeholders.iter().position(|other| other.name == value.name) {
            Some(first) => {
                let line = places.get(first).map_or(0, |loc| loc.line);
                let message = format!("the placeholder {} is declared already in line {line}", value.name);
                findings.push(Finding::new(Rule::PlaceholderTwice, loc, message).hint("put all values into one list"));
            }
            None => {
                placeholders.push(placeholder(value));
                places.push(loc);
            }
        }
    }
    let Some(target) = target else {
        if let Some(first) = scan.headers.iter().find(|header| header.word == "PL") {
            let message = "#PL: without #TARGET:, the pattern of the names that it is to fill in";
            let hint = format!("add #TARGET:name/{{{}}}", placeholders.first().map_or("version", |p| &p.name));
            findings.push(Finding::new(Rule::HalfTemplate, &first.loc, message).hint(hint));
        }
        return None;
    };
    if !scan.headers.iter().any(|header| header.word == "PL") {
        let message = "#TARGET: without #PL:, the values that are to be filled in";
        findings.push(
            Finding::new(Rule::HalfTemplate, &target.loc, message)
                .hint("leave it out: the path of the file is the name, or declare #PL:name:values"),
        );
        return None;
    }
    let at = |offset: usize| {
        let header = scan.headers.iter().find(|header| header.word == "TARGET");
        let from = header.map_or(&target.loc, |header| &header.at);
        Loc { col: from.col + offset, ..from.clone() }
    };
    let mut pieces = Vec::new();
    for (offset, piece) in cut(&target.value) {
        match piece {
            Ok(Cut::Text(text)) => pieces.push(Piece::Text(text.to_owned())),
            Ok(Cut::Token(name)) => match placeholders.iter().position(|known| known.name == name) {
                Some(number) => pieces.push(Piece::Token(number)),
                // One whose #PL: could not be understood has its finding already.
                None if scan.headers.iter().any(|header| header.word == "PL" && header.value.starts_with(name)) => {}
                None => {
                    let message = format!("{{{name}}} is declared by no #PL:");
                    let hint = format!("add #PL:{name}:values");
                    findings.push(Finding::new(Rule::UndeclaredToken, &at(offset), message).hint(hint));
                }
            },
            Err(why) => findings.push(Finding::new(Rule::BadValue, &at(offset), format!("#TARGET: {why}"))),
        }
    }
    for (number, (unused, loc)) in placeholders.iter().zip(&places).enumerate() {
        if !pieces.contains(&Piece::Token(number)) {
            let message = format!("#TARGET: has no {{{}}}, so all its values would make the same overlay", unused.name);
            let hint = format!("write {{{}}} into #TARGET:, or leave the #PL: out", unused.name);
            findings.push(Finding::new(Rule::UnusedPlaceholder, loc, message).hint(hint));
        }
    }
    let first = |word: &str| scan.headers.iter().find(|header| header.word == word).map(|header| header.value.clone());
    let deps = scan.headers.iter().filter(|header| matches!(header.word.as_str(), "DEP" | "BUILDDEP"));
    let template = Template {
        pattern: target.value.clone(),
        placeholders,
        whatis: first("WHATIS"),
        deps: deps.map(|header| header.value.clone()).collect(),
        pieces,
    };
    let declared = scan.headers.iter().filter(|header| header.word == "PL").count();
    if findings.len() > before || declared != template.placeholders.len() {
        return None;
    }
    if let Err(why) = template.name(&template.sample()) {
        findings.push(Finding::new(Rule::BadValue, &at(0), format!("#TARGET: {why}")));
        return None;
    }
    Some(template)
}

fn placeholder(spec: &PlaceholderSpec) -> Placeholder {
    let mut listed = Vec::new();
    let mut open = false;
    for choice in &spec.choices {
        match choice {
            Choice::One(text) => listed.push(text.clone()),
            Choice::Range { from, to, width } => {
                listed.extend((*from..=*to).map(|number| format!("{number:0width$}")));
            }
            Choice::Any => open = true,
        }
    }
    if spec.sorted {
        listed.sort_by_cached_key(|text| std::cmp::Reverse((Version::new(text), text.clone())));
    }
    let mut known = HashSet::new();
    listed.retain(|text| known.insert(text.clone()));
    Placeholder { name: spec.name.clone(), listed, open, form: spec.form.clone(), known }
}

enum Cut<'a> {
    Text(&'a str),
    Token(&'a str),
}

/// Cuts a pattern at its tokens; each piece with the characters before it.
fn cut(pattern: &str) -> Vec<(usize, Result<Cut<'_>, String>)> {
    let mut pieces = Vec::new();
    let mut rest = pattern;
    let mut offset = 0;
    while !rest.is_empty() {
        let (piece, length) = match rest.strip_prefix('{') {
            Some(inside) => match inside.split_once('}') {
                Some((name, _)) => (Ok(Cut::Token(name)), name.len() + 2),
                None => (Err("a { is not closed".to_owned()), rest.len()),
            },
            None => {
                let length = rest.find('{').unwrap_or(rest.len());
                let text = rest.get(..length).unwrap_or(rest);
                match text.chars().find(|c| !may_stand_in_a_part(*c) && *c != '/') {
                    Some(odd) => (Err(format!("'{}' cannot be part of a name", odd.escape_debug())), length),
                    None if text.contains("--") => (Err("'--' means '/' in names".to_owned()), length),
                    None => (Ok(Cut::Text(text)), length),
                }
            }
        };
        pieces.push((offset, piece));
        let (done, left) = rest.split_at_checked(length).unwrap_or((rest, ""));
        offset += done.chars().count();
        rest = left;
    }
    pieces
}

impl Template {
    /// The name that a binding makes; fails where values do not make one.
    pub fn name(&self, binding: &Binding) -> Result<Name, String> {
        let mut text = String::new();
        for piece in &self.pieces {
            match piece {
                Piece::Text(own) => text.push_str(own),
                Piece::Token(number) => {
                    let name = self.placeholders.get(*number).map_or("", |placeholder| &placeholder.name);
                    text.push_str(binding.get(name).ok_or_else(|| format!("{name} has no value"))?);
                }
            }
        }
        let name: Name = text.parse().map_err(|bad: crate::model::name::BadName| bad.to_string())?;
        // Separators inside values would give the name more parts than the pattern has.
        if name.to_string() == text { Ok(name) } else { Err(format!("'{text}' is not a name: it reads as {name}")) }
    }

    /// The best listed value of each placeholder, `1` where none is listed.
    pub fn sample(&self) -> Binding {
        let first = |p: &Placeholder| (p.name.clone(), p.listed.first().map_or("1", String::as_str).to_owned());
        Binding::new(self.placeholders.iter().map(first))
    }

    /// Whether names besides the listed ones are possible.
    pub fn is_open(&self) -> bool {
        self.placeholders.iter().any(|placeholder| placeholder.open)
    }

    /// How many bindings the lists make.
    pub fn count(&self) -> u64 {
        self.placeholders.iter().fold(1, |product: u64, p| product.saturating_mul(p.listed.len() as u64))
    }

    /// All bindings that the lists make, best first, one after another: there may be very many.
    pub fn expand(&self) -> impl Iterator<Item = Binding> + '_ {
        let mut wheels = vec![0_usize; self.placeholders.len()];
        let mut over = self.count() == 0;
        std::iter::from_fn(move || {
            if over {
                return None;
            }
            let pick = |(p, at): (&Placeholder, &usize)| Some((p.name.clone(), p.listed.get(*at)?.clone()));
            let binding = Binding::new(self.placeholders.iter().zip(&wheels).filter_map(pick));
            over = true;
            for (placeholder, at) in self.placeholders.iter().zip(&mut wheels).rev() {
                *at += 1;
                if *at < placeholder.listed.len() {
                    over = false;
                    break;
                }
                *at = 0;
            }
            Some(binding)
        })
    }

    /// A template's text as the ordinary recipe that a binding makes of it: tokens replaced in headers and body, `#PL:`
    /// and `#TARGET:` turned into comments that tell the values. Line by line: places stay where they are.
    pub fn fill(&self, bytes: &[u8], binding: &Binding) -> Vec<u8> {
        match std::str::from_utf8(bytes) {
            Ok(text) => fill::text(text, &self.pattern, binding).into_bytes(),
            Err(_) => bytes.to_vec(),
        }
    }

    /// Where a column of a filled-in line stands in the template's line.
    pub(super) fn column(&self, line: &str, binding: &Binding, col: usize) -> usize {
        fill::column(line, binding, col)
    }
}
