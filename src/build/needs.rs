//! `#NEEDS`: commands that must be there in the build environment, all missing ones told at once (rows P20, P33).

use std::ffi::OsString;
use std::time::Duration;

use super::error::BuildError;
use super::fill::{self, Script};
use super::stage::Staged;
use crate::model::event::Phase;
use crate::model::version::Version;

/// Prints `NAME missing` or `NAME FIRST-LINE-OF---version` for each argument.
const PROBE: &str = r#"for c; do
  if command -v -- "$c" >/dev/null; then
    v=$("$c" --version 2>&1 </dev/null) || v=
    printf '%s\t%s\n' "$c" "${v%%$'\n'*}"
  else
    printf '%s\n' "$c"
  fi
done"#;

/// Asks in the sandbox that install() will see.
pub fn check(staged: &mut Staged) -> Result<(), BuildError> {
    let needs = staged.job.spec.needs.clone();
    if needs.is_empty() {
        return Ok(());
    }
    let mut argv: Vec<OsString> = ["bash", "-c", PROBE, "needs"].map(Into::into).into();
    argv.extend(needs.iter().map(|need| need.value.command.clone().into()));
    staged.log.new_phase("needs");
    let sandbox = staged.sandbox();
    let limit = Some(staged.job.left().unwrap_or(Duration::from_secs(120)));
    let mut found: Vec<String> = Vec::new();
    let script = Script { argv, tree: None, limit };
    let ended = fill::run(&staged.job, &mut staged.log, &sandbox, script, &mut |line| {
        found.push(String::from_utf8_lossy(line).into_owned());
    })?;
    if let Some(error) = staged.job.ended(ended, Phase::Stage) {
        return Err(error);
    }
    let mut missing = Vec::new();
    for need in &needs {
        let command = &need.value.command;
        let line = found.iter().find(|line| line.split('\t').next() == Some(command));
        let version = line.and_then(|line| line.split_once('\t')).map(|(_, text)| text);
        match (version, &need.value.min) {
            (None, _) => missing.push(format!("{}: '{command}' is not in the build environment", need.loc)),
            (Some(text), Some(min)) => match first_version(text) {
                Some(version) if version >= *min => {}
                Some(version) => missing.push(format!(
                    "{}: '{command}' is {}, not {} or newer",
                    need.loc,
                    version.as_str(),
                    min.as_str()
                )),
                None => missing.push(format!("{}: '{command} --version' does not tell a version", need.loc)),
            },
            (Some(_), None) => {}
        }
    }
    if missing.is_empty() {
        return Ok(());
    }
    Err(BuildError::Unfulfilled { name: staged.job.name.clone(), what: missing.join("\n") })
}

/// The first word that begins with a digit and has a dot in it, as in `git version 2.47.3`.
fn first_version(text: &str) -> Option<Version> {
    let words = text.split(|c: char| c.is_whitespace() || matches!(c, ',' | '(' | ')'));
    let mut versions =
        words.map(|word| word.trim_start_matches('v')).filter(|word| word.starts_with(|c: char| c.is_ascii_digit()));
    versions.find(|word| word.contains('.')).map(Version::new)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions_are_found_in_what_programs_print() {
        for (text, version) in [
            ("git version 2.47.3", "2.47.3"),
            ("cargo 1.95.0 (f2d3 2026-03-21)", "1.95.0"),
            ("GNU bash, version 5.2.15(1)-release", "5.2.15"),
            ("v20.20.2", "20.20.2"),
        ] {
            assert_eq!(first_version(text), Some(Version::new(version)), "{text}");
        }
        assert_eq!(first_version("no idea"), None);
    }
}
