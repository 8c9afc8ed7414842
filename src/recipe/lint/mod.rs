//! What can be said about a recipe beyond its headers; the rules are described in `docs/lint.md`.

mod body;
#[cfg(test)]
mod tests;

use super::finding::{Finding, Rule};
use super::headers::KNOWN;
use super::scan::{Marker, Scan, directive};
use super::shell::Script;
use super::spec::Spec;
use super::values::{looks_random, sounds_secret};

/// All rules on a recipe that has been read.
pub(super) fn check(scan: &Scan, script: &Script, spec: &Spec, findings: &mut Vec<Finding>) {
    check_headers(scan, spec, findings);
    late(scan, script, findings);
    body::check(script, spec, findings);
}

/// The rules on headers alone: those that hold for recipes of every form.
pub(super) fn check_headers(scan: &Scan, spec: &Spec, findings: &mut Vec<Finding>) {
    headers(scan, spec, findings);
    environment(spec, findings);
}

/// Takes away findings that `# ovl:allow OVL012` on their line, or alone on the line before, silences.
///
/// What makes the text unreadable cannot be allowed.
pub(super) fn allow(text: &str, findings: &mut Vec<Finding>) {
    if !text.contains("ovl:allow") {
        return;
    }
    let lines: Vec<&str> = text.lines().collect();
    let allows = |line: &str, id: &str| {
        let Some((_, list)) = line.split_once("# ovl:allow ") else { return false };
        list.split([',', ' ', '\t']).any(|word| word == id)
    };
    findings.retain(|finding| {
        let id = finding.rule.id();
        let own = lines.get(finding.loc.line.wrapping_sub(1)).is_some_and(|line| allows(line, id));
        let before = finding.loc.line.checked_sub(2).and_then(|n| lines.get(n));
        let before = before.is_some_and(|line| line.trim_start().starts_with("# ovl:allow") && allows(line, id));
        !(finding.rule.can_be_allowed() && (own || before))
    });
}

fn headers(scan: &Scan, spec: &Spec, findings: &mut Vec<Finding>) {
    if spec.whatis.is_none() && !scan.headers.iter().any(|header| header.word == "WHATIS") {
        let start = crate::model::loc::Loc::new(scan.file.clone(), 1, 1);
        findings
            .push(Finding::new(Rule::NoWhatis, &start, "no #WHATIS: says what this is").hint("add #WHATIS:one line"));
    }
    for dep in &spec.builddeps {
        if let Some(first) = spec.deps.iter().find(|other| other.value.name.stem() == dep.value.name.stem()) {
            let message = format!("{} is a #DEP: already, in line {}", dep.value.name.stem(), first.loc.line);
            findings.push(Finding::new(Rule::DuplicateDep, &dep.loc, message).hint("a #DEP: is there at build, too"));
        }
    }
    for source in spec.sources.iter().filter(|source| source.value.sha256.is_none()) {
        let message = "the download is not pinned: whatever the address gives will be built";
        findings
            .push(Finding::new(Rule::NoDigest, &source.loc, message).hint("add sha256=…, from sha256sum of the file"));
    }
    for arg in &spec.args {
        let (name, default) = &arg.value;
        if sounds_secret(name) || looks_random(default) {
            let message = format!("{name} looks like a secret; arguments are recorded and shown");
            let hint = format!("use #SECRET:{} and read /run/secrets/{0}", name.to_ascii_lowercase());
            findings.push(Finding::new(Rule::SecretDefault, &arg.loc, message).hint(hint));
        }
    }
    let mut markers: Vec<Marker> = Vec::new();
    for directive in &spec.directives {
        match markers.first() {
            Some(first) if !markers.contains(&directive.marker) => {
                let message =
                    format!("#{} after #{}: one scheduler's directives do", directive.marker.word(), first.word());
                let hint = "ovl translates them for the scheduler at hand";
                findings.push(Finding::new(Rule::MixedDirectives, &directive.loc, message).hint(hint));
                markers.push(directive.marker);
            }
            Some(_) => {}
            None => markers.push(directive.marker),
        }
    }
}

fn environment(spec: &Spec, findings: &mut Vec<Finding>) {
    for note in spec.notes.iter().filter(|note| note.name.is_none()) {
        findings.push(Finding::new(Rule::NoteWithoutEnv, &note.loc, "no #ENV: stands before this note"));
    }
    for var in &spec.env {
        let value = &var.value;
        if var.name == "PATH" && !value.contains("$PATH") && !value.contains("${PATH}") {
            let message = "this PATH hides every other program";
            findings.push(Finding::new(Rule::PathLost, &var.loc, message).hint(format!("#ENV:PATH={value}:$PATH")));
        }
        let quoted = ['"', '\''].iter().any(|q| value.len() > 1 && value.starts_with(*q) && value.ends_with(*q));
        if value.contains("$(") || value.contains('`') || quoted {
            let what =
                if quoted { "the quotes stay part of the value" } else { "no shell ever runs this, it stays text" };
            let hint = "only $app_root and $VAR are expanded";
            findings.push(Finding::new(Rule::ShellInEnv, &var.loc, format!("{}: {what}", var.name)).hint(hint));
        }
        let literal = !value.is_empty() && !value.starts_with(['$', '/']);
        if (sounds_secret(&var.name) && literal) || looks_random(value) {
            let message = format!("{} looks like a secret; everyone who can read the overlay sees it", var.name);
            findings
                .push(Finding::new(Rule::SecretDefault, &var.loc, message).hint("let the user set it when running"));
        }
    }
}

/// Headers and directives below the first line of code.
/// Headers and directives below the first line that is no comment, in recipes that are no scripts: they are not read.
pub(super) fn late_lines(scan: &Scan, text: &str, findings: &mut Vec<Finding>) {
    for (index, line) in text.lines().enumerate().skip(scan.code) {
        let word = line.strip_prefix('#').and_then(|rest| rest.split_once(':')).map(|(word, _)| word);
        let known = word.filter(|word| KNOWN.iter().any(|known| known.word == *word)).map(|word| format!("{word}:"));
        let marker = directive(line, 1).filter(|_| line.starts_with('#')).map(|(marker, _)| marker.word().to_owned());
        let Some(what) = known.or(marker) else { continue };
        let loc = crate::model::loc::Loc::new(scan.file.clone(), index + 1, 1);
        let message =
            format!("#{what} stands below the first line of the recipe itself (line {}) and is not read", scan.code);
        findings.push(Finding::new(Rule::LateHeader, &loc, message).hint("move it to the top"));
    }
}

fn late(scan: &Scan, script: &Script, findings: &mut Vec<Finding>) {
    for comment in script.comments.iter().filter(|comment| comment.loc.line >= scan.code) {
        if let Some((marker, _)) = directive(&comment.raw, comment.loc.col) {
            if comment.raw.starts_with('#') && !comment.raw.starts_with("# ") {
                let message = format!("this #{} stands after code (line {}) and is not read", marker.word(), scan.code);
                findings.push(Finding::new(Rule::LateDirective, &comment.loc, message).hint("move it to the top"));
            }
            continue;
        }
        let word = comment.raw.strip_prefix('#').and_then(|rest| rest.split_once(':')).map(|(word, _)| word);
        if let Some(known) = word.and_then(|word| KNOWN.iter().find(|known| known.word == word)) {
            let message = format!("#{}: stands after code (line {}) and is not read", known.word, scan.code);
            findings.push(Finding::new(Rule::LateHeader, &comment.loc, message).hint("move it to the top"));
        }
    }
}
