//! What can be said about a definition whose lines are understood: what agents need, which stages are known, what
//! `%files` and script sections say.

use super::{Agent, Definition, Stage, words};
use crate::model::loc::Loc;
use crate::recipe::finding::{Finding, Rule};

/// All rules.
pub fn check(file: &str, definition: &Definition, findings: &mut Vec<Finding>) {
    if definition.stages.is_empty() && !findings.iter().any(Finding::is_error) {
        let finding = Finding::new(Rule::DefHeader, &Loc::new(file, 1, 1), "no Bootstrap: says what to start from");
        findings.push(finding.hint("begin with Bootstrap: docker and From: IMAGE, or Bootstrap: localimage"));
    }
    for (index, stage) in definition.stages.iter().enumerate() {
        let before = definition.stages.get(..index).unwrap_or(&[]);
        header(stage, findings);
        stages(stage, before, &definition.stages, findings);
        files(stage, findings);
        shells(stage, findings);
    }
}

fn header(stage: &Stage, findings: &mut Vec<Finding>) {
    let needs: &[&str] = match stage.agent {
        Agent::Debootstrap | Agent::Mmdebstrap => &["osversion", "mirrorurl"],
        Agent::Scratch | Agent::Yum | Agent::Dnf | Agent::Zypper | Agent::Arch | Agent::Busybox | Agent::Dockerfile => {
            &[]
        }
        _ => &["from"],
    };
    for name in needs {
        if stage.header(name).is_none_or(str::is_empty) {
            let shown = match *name {
                "osversion" => "OSVersion",
                "mirrorurl" => "MirrorURL",
                _ => "From",
            };
            let message = format!("Bootstrap: {} needs {shown}:", stage.agent.word());
            findings
                .push(Finding::new(Rule::DefHeader, &stage.loc, message).hint(format!("add {shown}: VALUE below it")));
        }
    }
    if stage.agent == Agent::Mmdebstrap {
        let message = "mmdebstrap is an agent of ovl's own: Apptainer has only debootstrap";
        findings.push(Finding::new(Rule::DefOwn, &stage.loc, message).hint("ovl builds it with its own engine"));
    }
}

fn stages(stage: &Stage, before: &[Stage], all: &[Stage], findings: &mut Vec<Finding>) {
    if let Some(name) = &stage.name
        && before.iter().any(|other| other.name.as_ref() == Some(name))
    {
        let message = format!("there are two stages called {name}");
        findings.push(Finding::new(Rule::DefStage, stage.place("stage"), message).hint("give each its own name"));
    }
    for section in stage.sections.iter().filter(|section| section.name == "files" && !section.args.is_empty()) {
        let words: Vec<&str> = section.args.split_whitespace().collect();
        let ["from", name] = words.as_slice() else {
            let message = format!("'%files {}' is not understood", section.args);
            let finding = Finding::new(Rule::DefFiles, &section.loc, message);
            findings.push(finding.hint("it is %files, or %files from STAGE"));
            continue;
        };
        if before.iter().any(|other| other.name.as_deref() == Some(name)) {
            continue;
        }
        let message = match all.iter().find(|other| other.name.as_deref() == Some(name)) {
            Some(other) if other.loc == stage.loc => format!("a stage cannot copy from itself: {name}"),
            Some(other) => format!("the stage {name} comes later, in line {}", other.loc.line),
            None => format!("there is no stage {name}"),
        };
        let known: Vec<&str> = before.iter().filter_map(|other| other.name.as_deref()).collect();
        let hint = match known.as_slice() {
            [] => format!("name an earlier stage with Stage: {name}"),
            known => format!("stages above this one: {}", known.join(", ")),
        };
        findings.push(Finding::new(Rule::DefStage, &section.loc, message).hint(hint));
    }
}

fn files(stage: &Stage, findings: &mut Vec<Finding>) {
    for section in stage.sections.iter().filter(|section| section.name == "files") {
        for (index, line) in section.body.lines().enumerate() {
            let words = words::split(line);
            let loc = Loc::new(section.loc.file.clone(), section.loc.line + 1 + index, 1);
            if words.first().is_some_and(String::is_empty) {
                findings.push(Finding::new(Rule::DefFiles, &loc, "this copies nothing").hint("write SOURCE [TARGET]"));
            }
            if words.len() > 2 {
                let message = format!("{} words: only the first two count", words.len());
                let finding = Finding::new(Rule::DefFiles, &loc, message);
                findings.push(finding.hint("write SOURCE [TARGET]; quote a path with blanks"));
            }
        }
    }
}

fn shells(stage: &Stage, findings: &mut Vec<Finding>) {
    for section in stage.sections.iter().filter(|section| matches!(section.name.as_str(), "post" | "setup" | "pre")) {
        if section.args.split_whitespace().last() == Some("-c") {
            let message = format!("%{} -c names no program", section.name);
            findings.push(Finding::new(Rule::DefSection, &section.loc, message).hint("write -c /bin/bash, say"));
        }
    }
}
