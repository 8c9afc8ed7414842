//! `{{ NAME }}`: arguments take the values given for them, else their defaults from `%arguments` of the same stage.

use std::collections::BTreeSet;
use std::ops::Range;

use super::Arguments;
use super::words::pair;
use crate::model::loc::Loc;
use crate::recipe::finding::{Finding, Rule};

/// Fills the arguments of one stage in. `first` is the number of its first line. The number of lines stays.
pub fn fill(
    file: &str,
    text: &str,
    first: usize,
    given: &Arguments,
    used: &mut BTreeSet<String>,
    findings: &mut Vec<Finding>,
) -> String {
    let defaults = defaults(file, text, first, findings);
    let value = |name: &str| given.get(name).or_else(|| defaults.get(name));
    let mut filled = String::with_capacity(text.len());
    let mut missing = BTreeSet::new();
    for (index, line) in text.split_inclusive('\n').enumerate() {
        let mut from = 0;
        for (range, name) in places(line) {
            if is_comment(line.get(..range.start).unwrap_or("")) {
                continue;
            }
            let Some(value_of) = value(name) else {
                if missing.insert(name.to_owned()) {
                    let col = line.get(..range.start).unwrap_or("").chars().count() + 1;
                    let loc = Loc::new(file, first + index, col);
                    let hint =
                        format!("give it with --build-arg {name}=VALUE, or a default in %arguments: {name}=VALUE");
                    findings.push(
                        Finding::new(Rule::DefArgument, &loc, format!("the argument {name} has no value")).hint(hint),
                    );
                }
                continue;
            };
            used.insert(name.to_owned());
            filled.push_str(line.get(from..range.start).unwrap_or(""));
            filled.push_str(&nested(value_of, &value, used));
            from = range.end;
        }
        filled.push_str(line.get(from..).unwrap_or(""));
    }
    filled
}

/// Arguments inside of a value, once.
fn nested<'a>(text: &str, value: &dyn Fn(&str) -> Option<&'a String>, used: &mut BTreeSet<String>) -> String {
    let mut filled = String::new();
    let mut from = 0;
    for (range, name) in places(text) {
        if let Some(inner) = value(name) {
            used.insert(name.to_owned());
            filled.push_str(text.get(from..range.start).unwrap_or(""));
            filled.push_str(inner);
            from = range.end;
        }
    }
    filled.push_str(text.get(from..).unwrap_or(""));
    // What a value brings stays in its line: places in messages are those of the file.
    filled.replace('\n', " ")
}

/// Where arguments stand in a line, and their names.
fn places(line: &str) -> Vec<(Range<usize>, &str)> {
    let mut found = Vec::new();
    let mut at = 0;
    while let Some(open) = line.get(at..).and_then(|rest| rest.find("{{")).map(|offset| at + offset) {
        let inside = line.get(open + 2..).unwrap_or("");
        let name = inside.split_once("}}").map(|(name, _)| name).filter(|name| is_name(name.trim()));
        match name {
            Some(name) => {
                let end = open + 2 + name.len() + 2;
                found.push((open..end, name.trim()));
                at = end;
            }
            None => at = open + 1,
        }
    }
    found
}

fn is_name(name: &str) -> bool {
    !name.is_empty() && name.chars().all(|c| c.is_ascii_alphanumeric() || c == '_')
}

/// Whether what stands before an argument makes it part of a comment: `#`, but not the `#!` of a first line.
fn is_comment(before: &str) -> bool {
    before
        .match_indices('#')
        .any(|(at, _)| before.get(at + 1..).and_then(|rest| rest.chars().next()).is_some_and(|c| c != '!'))
}

/// The defaults in `%arguments`.
fn defaults(file: &str, text: &str, first: usize, findings: &mut Vec<Finding>) -> Arguments {
    let mut defaults = Arguments::new();
    let mut inside = false;
    for (index, line) in text.lines().enumerate() {
        let bare = line.trim();
        if let Some(name) = bare.strip_prefix('%') {
            inside = name.split_whitespace().next().is_some_and(|name| name.eq_ignore_ascii_case("arguments"));
            continue;
        }
        if !inside || bare.is_empty() || bare.starts_with('#') {
            continue;
        }
        match pair(bare) {
            Some((name, value)) => {
                defaults.insert(name, value);
            }
            None => {
                let col = line.chars().take_while(|c| c.is_whitespace()).count() + 1;
                let finding = Finding::new(Rule::DefArgument, &Loc::new(file, first + index, col), "no NAME=VALUE");
                findings.push(finding.hint("each line of %arguments gives one argument its default: NAME=VALUE"));
            }
        }
    }
    defaults
}
