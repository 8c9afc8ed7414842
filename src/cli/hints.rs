//! What a failing script's last lines usually mean (row G42): a small table of patterns with one-line hints.

use crate::model::event::Phase;

/// A text in the output, and what helps.
const PATTERNS: &[(&str, &str)] = &[
    ("No space left on device", "the scratch directory is full: choose another with --scratch DIR"),
    ("Disk quota exceeded", "your quota is exhausted: choose another place with --scratch DIR or --layer LAYER"),
    ("Cannot allocate memory", "the build ran out of memory: run it where there is more"),
    (" Killed ", "something was killed, most often because the memory ran out: run it where there is more"),
    ("command not found", "name what provides the command: #BUILDDEP:name/version (or #NEEDS:command to say so early)"),
    ("fatal error: ", "a header is missing: name the overlay that has it with #BUILDDEP:name/version"),
    ("cannot find -l", "a library is missing: name the overlay that has it with #BUILDDEP:name/version"),
    ("Read-only file system", "only $target_dir and $tmp_dir can be written to during a build"),
];

/// Texts of failed look-ups and connections.
const NETWORK: &[&str] = &[
    "Could not resolve host",
    "Temporary failure in name resolution",
    "Network is unreachable",
    "Couldn't connect to server",
    "Failed to connect",
    "unable to resolve host address",
    "Name or service not known",
];

/// Hints for the last lines of a failing phase.
pub fn of_output(tail: &[String], phase: Phase) -> Vec<String> {
    let said = |text: &str| tail.iter().any(|line| line.contains(text));
    let mut hints = Vec::new();
    if NETWORK.iter().any(|text| said(text)) {
        hints.push(match phase {
            Phase::Fetch => "fetch() has the host's network: check the connection and the proxy variables".to_owned(),
            _ => "install() runs without network: download in fetch(), or allow it with #NET:host or --network host"
                .to_owned(),
        });
    }
    hints.extend(PATTERNS.iter().filter(|(text, _)| said(text)).map(|(_, hint)| (*hint).to_owned()));
    hints
}
