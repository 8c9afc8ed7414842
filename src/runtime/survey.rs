//! For `ovl doctor`: the runtimes that are installed, what each lacks, and which one `exec.runtime` takes and why.

use std::path::PathBuf;
use std::time::Duration;

use super::apptainer::{PROGRAMS, buildcfg, find, works_without_namespaces};
use super::choice::Choice;
use super::native::Capabilities;
use crate::model::cmd::Cmd;
use crate::sys::{host, process};

/// Longest time to ask for a version.
const PATIENCE: Duration = Duration::from_secs(30);

/// An installed Apptainer or Singularity.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Program {
    /// `apptainer` or `singularity`.
    pub name: &'static str,
    /// Where it is.
    pub path: PathBuf,
    /// What it says of its version, or why it does not.
    pub version: String,
    /// It may work where users cannot have user namespaces.
    pub privileged: bool,
    /// Programs that it needs beside it for overlays when it has no privileges, and which are not there.
    pub lacks: Vec<&'static str>,
}

/// Which runtime is taken.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Taken {
    /// Whether commands can be run.
    pub works: bool,
    /// What is taken and why, as a sentence.
    pub text: String,
    /// What would help.
    pub hint: Option<String>,
}

/// The installed programs, the preferred one first.
pub fn programs() -> Vec<Program> {
    PROGRAMS.iter().filter_map(|name| Some(look_at(name, find(name)?))).collect()
}

fn look_at(name: &'static str, path: PathBuf) -> Program {
    let version = match process::capture(&Cmd::new(&path).arg("--version"), PATIENCE) {
        Ok(output) if output.ended.ok() => first_line(&output.stdout),
        Ok(output) => format!("{}: {}", output.ended, first_line(&output.stderr)),
        Err(error) => error.to_string(),
    };
    let privileged = works_without_namespaces(&path);
    let own = buildcfg(&path, "LIBEXECDIR=").map(|dir| PROGRAMS.map(|name| PathBuf::from(&dir).join(name).join("bin")));
    let there = |tool: &str| process::find(tool).is_some() || own.iter().flatten().any(|dir| dir.join(tool).exists());
    let mut lacks = Vec::new();
    if !privileged || host::ids().0 != 0 {
        if !there("squashfuse_ll") && !there("squashfuse") {
            lacks.push("squashfuse_ll");
        }
        lacks.extend(["fuse2fs", "fuse-overlayfs"].into_iter().filter(|tool| !there(tool)));
    }
    Program { name, path, version, privileged, lacks }
}

fn first_line(bytes: &[u8]) -> String {
    let text = String::from_utf8_lossy(bytes);
    text.lines().next().unwrap_or_default().trim().chars().filter(|c| !c.is_control()).collect()
}

/// What a choice comes to on a machine.
pub fn taken(choice: Choice, native: &Capabilities, programs: &[Program]) -> Taken {
    let taken = |works, text: String, hint: Option<String>| Taken { works, text, hint };
    if let Some(name) = choice.program() {
        return match programs.iter().find(|program| program.name == name) {
            Some(program) => usable(native, program),
            None => taken(
                false,
                format!("exec.runtime is {name}, which is not on PATH"),
                Some(format!("load its module (module load {name}), or leave exec.runtime out")),
            ),
        };
    }
    let Some(obstacle) = native.obstacle() else {
        let also = if native.is_usable() { "the native one, which works here" } else { "the native one" };
        return taken(true, also.to_owned(), None);
    };
    let what = format!("{}: {}", obstacle.what, obstacle.text);
    match programs.first().filter(|_| choice == Choice::Auto) {
        Some(program) if program.privileged => {
            taken(true, format!("{} ({}), because of {what}", program.path.display(), program.version), None)
        }
        Some(program) => taken(
            false,
            format!("none: {what}; {} is installed without set-user-ID and needs them too", program.path.display()),
            obstacle.hint.clone(),
        ),
        None => taken(
            false,
            format!("none: {what}"),
            Some("install or load apptainer with set-user-ID, or see the hints above".into()),
        ),
    }
}

fn usable(native: &Capabilities, program: &Program) -> Taken {
    let text = format!("{} ({}), as exec.runtime says", program.path.display(), program.version);
    let namespaces = native.findings.iter().find(|finding| finding.what == "user namespaces");
    match namespaces.filter(|finding| !finding.works && !program.privileged) {
        Some(finding) => Taken {
            works: false,
            text: format!("{text}, but it needs user namespaces: {}", finding.text),
            hint: finding.hint.clone(),
        },
        None => Taken { works: true, text, hint: None },
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::runtime::native::Finding;

    fn native(works: bool) -> Capabilities {
        let hint = (!works).then(|| "ask".to_owned());
        let text = if works { "fine" } else { "switched off" }.to_owned();
        Capabilities { findings: vec![Finding { what: "user namespaces".into(), works, needed: true, text, hint }] }
    }

    fn program(name: &'static str, privileged: bool) -> Program {
        let path = PathBuf::from("/usr/bin").join(name);
        Program { name, path, version: format!("{name} version 1"), privileged, lacks: Vec::new() }
    }

    #[test]
    fn auto_takes_the_native_one_first() {
        let both = [program("apptainer", false), program("singularity", true)];
        assert!(taken(Choice::Auto, &native(true), &both).text.starts_with("the native one"));
        let none = taken(Choice::Auto, &native(false), &[]);
        assert!(!none.works && none.text.contains("switched off"), "{none:?}");
        let plain = taken(Choice::Auto, &native(false), &both[..1]);
        assert!(!plain.works && plain.text.contains("needs them too"), "{plain:?}");
        let suid = taken(Choice::Auto, &native(false), &both[1..]);
        assert!(
            suid.works && suid.text.starts_with("/usr/bin/singularity (singularity version 1), because"),
            "{suid:?}"
        );
        assert!(!taken(Choice::Native, &native(false), &both).works);
    }

    #[test]
    fn what_was_chosen_is_taken_if_it_can_work() {
        let both = [program("apptainer", false), program("singularity", true)];
        assert!(taken(Choice::Apptainer, &native(true), &both).works);
        assert!(!taken(Choice::Apptainer, &native(false), &both).works);
        assert!(taken(Choice::Singularity, &native(false), &both).works);
        let gone = taken(Choice::Singularity, &native(true), &both[..1]);
        assert!(!gone.works && gone.hint.unwrap().contains("module load singularity"));
    }
}
