//! From text to stages, headers and sections.

use std::collections::BTreeSet;

use super::{Agent, Arguments, Definition, Key, Section, Stage, arguments};
use crate::model::loc::Loc;
use crate::recipe::finding::{Finding, Rule};

/// Sections of a stage.
pub const SECTIONS: [&str; 11] =
    ["arguments", "setup", "files", "post", "environment", "labels", "test", "runscript", "startscript", "help", "pre"];
/// Sections of an app in it.
pub const APP_SECTIONS: [&str; 8] =
    ["appinstall", "applabels", "appfiles", "appenv", "apptest", "apphelp", "apprun", "appstart"];
/// Keys of the header; `otherurl` may have a number at its end.
const KEYS: [&str; 25] = [
    "bootstrap",
    "from",
    "includecmd",
    "mirrorurl",
    "updateurl",
    "osversion",
    "include",
    "library",
    "registry",
    "namespace",
    "stage",
    "product",
    "user",
    "regcode",
    "productpgp",
    "registerurl",
    "modules",
    "otherurl",
    "fingerprints",
    "confurl",
    "setopt",
    "target",
    "frontend",
    "filename",
    "buildargs",
];

/// Reads all stages.
pub fn definition(file: &str, text: &str, given: &Arguments, findings: &mut Vec<Finding>) -> Definition {
    let mut definition = Definition::default();
    for (first, part) in parts(text) {
        let is_stage = begins_stage(part.lines().next().unwrap_or(""));
        let mut used = BTreeSet::new();
        let filled = arguments::fill(file, part, first, given, &mut used, findings);
        definition.text.push_str(&filled);
        definition.used.append(&mut used);
        match is_stage {
            true => definition.stages.extend(stage(file, &filled, first, findings)),
            false => before_first(file, &filled, findings),
        }
    }
    definition
}

fn begins_stage(line: &str) -> bool {
    line.get(..10).is_some_and(|start| start.eq_ignore_ascii_case("bootstrap:"))
}

/// The text cut at each `Bootstrap:`, with the number of the first line of each part.
fn parts(text: &str) -> Vec<(usize, &str)> {
    let mut parts = Vec::new();
    let (mut from, mut first, mut at) = (0, 1, 0);
    for (index, line) in text.split_inclusive('\n').enumerate() {
        if begins_stage(line) && at > from {
            parts.extend(text.get(from..at).map(|part| (first, part)));
            (from, first) = (at, index + 1);
        }
        at += line.len();
    }
    parts.extend(text.get(from..).filter(|part| !part.is_empty()).map(|part| (first, part)));
    parts
}

/// Above the first stage there may be comments only.
fn before_first(file: &str, text: &str, findings: &mut Vec<Finding>) {
    for (index, line) in text.lines().enumerate() {
        let bare = line.trim();
        if bare.is_empty() || bare.starts_with('#') {
            continue;
        }
        let col = indent(line) + 1;
        let loc = Loc::new(file, index + 1, col);
        let indented = bare.get(..10).is_some_and(begins_stage);
        let (message, hint) = match indented {
            true => ("an indented Bootstrap: does not begin a stage", "let the line begin with Bootstrap:"),
            false => ("something other than a comment above the first Bootstrap:", "begin with Bootstrap: and From:"),
        };
        findings.push(Finding::new(Rule::DefHeader, &loc, message).hint(hint));
        return;
    }
}

fn indent(line: &str) -> usize {
    line.chars().take_while(|c| c.is_whitespace()).count()
}

/// One stage, as far as it can be understood.
fn stage(file: &str, text: &str, first: usize, findings: &mut Vec<Finding>) -> Option<Stage> {
    let mut header = Vec::new();
    let mut sections: Vec<Section> = Vec::new();
    let mut known = true;
    for (index, line) in text.split_inclusive('\n').enumerate() {
        let number = first + index;
        if line.trim_start().starts_with('%') {
            let section = section(file, line, number, findings);
            known = section.is_some();
            sections.extend(section);
        } else if let Some(section) = sections.last_mut().filter(|_| known) {
            section.body.push_str(line);
            if !line.ends_with('\n') {
                section.body.push('\n');
            }
        } else if known {
            header.push((number, line));
        }
    }
    let headers = headers(file, &header, findings);
    let find = |name: &str| headers.iter().rev().find(|key: &&Key| key.name == name);
    let bootstrap = find("bootstrap")?;
    let Some(agent) = Agent::of(&bootstrap.value) else {
        let near = Agent::ALL.iter().map(|agent| agent.word());
        let best = near.max_by(|a, b| score(a, &bootstrap.value).total_cmp(&score(b, &bootstrap.value)));
        let message = match bootstrap.value.as_str() {
            "" => "Bootstrap: names no agent".to_owned(),
            word => format!("there is no agent '{word}'"),
        };
        let best = best.filter(|best| score(best, &bootstrap.value) > 0.8);
        let hint = match best {
            Some(best) => format!("is {best} meant?"),
            None => {
                "agents are docker, localimage, oci-archive, docker-archive, oci, debootstrap, scratch and more".into()
            }
        };
        findings.push(Finding::new(Rule::DefAgent, &bootstrap.loc, message).hint(hint));
        return None;
    };
    let name = find("stage").map(|key| key.value.clone()).filter(|name| !name.is_empty());
    Some(Stage { name, agent, loc: bootstrap.loc.clone(), headers, sections })
}

fn score(word: &str, other: &str) -> f64 {
    strsim::jaro_winkler(word, &other.to_ascii_lowercase())
}

/// The line that begins a section.
fn section(file: &str, line: &str, number: usize, findings: &mut Vec<Finding>) -> Option<Section> {
    let indent = indent(line);
    let loc = Loc::new(file, number, indent + 1);
    let bare = line.trim().trim_start_matches('%');
    let mut words = bare.splitn(2, char::is_whitespace);
    let name = words.next().unwrap_or("").to_ascii_lowercase();
    let rest = words.next().unwrap_or("");
    let mut args = rest.split('#').next().unwrap_or("").trim();
    if indent > 0 {
        let finding = Finding::new(Rule::DefSection, &loc, format!("%{name} does not begin its line"));
        findings.push(finding.hint("sections begin in the first column; a script's line cannot begin with '%'"));
    }
    let mut app = None;
    if APP_SECTIONS.contains(&name.as_str()) {
        let (first, others) = args.split_once(char::is_whitespace).unwrap_or((args, ""));
        if first.is_empty() || first.contains('/') || first == ".." || first == "." {
            let finding = Finding::new(Rule::DefSection, &loc, format!("%{name} names no app"));
            findings.push(finding.hint(format!("write the app's name after it: %{name} NAME")));
            return None;
        }
        app = Some(first.to_owned());
        args = others.trim();
    } else if !SECTIONS.contains(&name.as_str()) {
        let all = SECTIONS.iter().chain(&APP_SECTIONS);
        let near =
            all.max_by(|a, b| score(a, &name).total_cmp(&score(b, &name))).filter(|near| score(near, &name) > 0.8);
        let hint = match near {
            Some(near) => format!("is %{near} meant?"),
            None => "a line of a script cannot begin with '%': indent does not help, write it otherwise".into(),
        };
        findings.push(Finding::new(Rule::DefSection, &loc, format!("there is no section %{name}")).hint(hint));
        return None;
    }
    Some(Section { name, app, args: args.to_owned(), body: String::new(), loc })
}

/// The lines above the first section.
fn headers(file: &str, lines: &[(usize, &str)], findings: &mut Vec<Finding>) -> Vec<Key> {
    let mut keys: Vec<Key> = Vec::new();
    let mut open = false;
    for (number, line) in lines {
        let bare = line.trim();
        if bare.is_empty() || bare.starts_with('#') {
            open = false;
            continue;
        }
        let text = bare.split('#').next().unwrap_or("").trim();
        let loc = Loc::new(file, *number, indent(line) + 1);
        let (name, mut value) = match (open, keys.last()) {
            (true, Some(last)) => (last.name.clone(), text.to_owned()),
            _ => match text.split_once(':') {
                Some((name, value)) => (name.trim().to_ascii_lowercase(), value.trim().to_owned()),
                None => {
                    let message = format!("'{text}' is no header");
                    let finding = Finding::new(Rule::DefHeader, &loc, message);
                    findings.push(finding.hint("headers are written as Key: value; sections begin with %"));
                    continue;
                }
            },
        };
        let continues = value.ends_with('\\');
        if continues {
            value.pop();
            if value.ends_with("\\n") {
                value.truncate(value.len().saturating_sub(2));
                value.push('\n');
            }
        }
        if open && let Some(last) = keys.last_mut() {
            last.value.push_str(&value);
        } else {
            let stem = name.trim_end_matches(|c: char| c.is_ascii_digit());
            if !(KEYS.contains(&name.as_str()) || stem == "otherurl") {
                let near = KEYS.iter().max_by(|a, b| score(a, &name).total_cmp(&score(b, &name)));
                let near = near.filter(|near| score(near, &name) > 0.8);
                let hint = near.map_or("see the list of headers in docs/definitions.md".into(), |near| {
                    format!("is {near} meant?")
                });
                let message = format!("there is no header '{name}'");
                findings.push(Finding::new(Rule::DefHeader, &loc, message).hint(hint));
            }
            keys.push(Key { name, value, loc });
        }
        open = continues;
    }
    keys
}
