//! `module load` lines of a shell script, and whether it starts several tasks by itself. Nothing is run.

use super::{Overlay, Script, Wanted};
use crate::model::loc::Loc;
use crate::recipe::shell;

/// Programs that start tasks of a job.
const LAUNCHERS: &[&str] = &[
    "srun",
    "mpirun",
    "mpiexec",
    "mpiexec.hydra",
    "prun",
    "prterun",
    "orterun",
    "aprun",
    "jsrun",
    "ibrun",
    "blaunch",
    "pbsdsh",
];

/// Looks for both.
pub fn read(file: &str, text: &str, script: &mut Script) {
    for command in shell::read(file, text).commands {
        let name = command.name();
        if script.launches.is_none() {
            script.launches = launched(&command.words);
        }
        let skip = match (name.as_str(), command.words.get(1).map(shell::Word::plain).as_deref()) {
            ("module", Some("load" | "add")) => 2,
            ("ml", Some("load" | "add")) => 2,
            ("ml", Some(word)) if !is_action(word) => 1,
            _ => continue,
        };
        for word in command.words.iter().skip(skip) {
            let plain = word.plain();
            // What a shell would have to work out is nobody's name.
            if plain.is_empty() || plain.starts_with(['-', '<', '>']) || plain.contains(['$', '`', '*', '(']) {
                continue;
            }
            let wanted = match plain.parse() {
                Ok(name) => Wanted::Need(crate::model::need::Need { name, min: None }),
                Err(_) => Wanted::Newest(plain),
            };
            let known = |one: &Overlay| one.wanted == wanted;
            if !script.modules.iter().any(known) {
                script.modules.push(Overlay { loc: word.loc.clone(), wanted });
            }
        }
    }
}

/// Programs and words of the shell that become or start the command behind them, each with its options that take the
/// next word as their value.
const WRAPPERS: &[(&str, &[&str])] = &[
    ("exec", &["-a"]),
    ("command", &[]),
    ("builtin", &[]),
    ("time", &["-o", "-f"]),
    ("env", &["-u", "-C", "--unset", "--chdir"]),
    ("nohup", &[]),
    ("setsid", &[]),
    ("nice", &["-n"]),
    ("ionice", &["-c", "-n"]),
    ("chrt", &["-T", "-P", "-D"]),
    ("taskset", &[]),
    ("numactl", &["-N", "-m", "-C", "-i", "-p", "--membind", "--cpunodebind", "--physcpubind", "--interleave"]),
    ("stdbuf", &["-i", "-o", "-e"]),
    ("timeout", &["-k", "-s", "--kill-after", "--signal"]),
];

/// The launcher that a command is, or that the wrappers before it come to.
fn launched(words: &[shell::Word]) -> Option<(Loc, String)> {
    // The reserved word `time` is no word of the command behind it, but its option looks like one.
    let timed = words.first().is_some_and(|word| word.plain() == "-p");
    let mut values: Option<&[&str]> = timed.then_some(&[]);
    let mut words = words.iter();
    while let Some(word) = words.next() {
        let plain = word.plain();
        let base = plain.rsplit('/').next().unwrap_or(&plain);
        if LAUNCHERS.contains(&base) {
            return Some((word.loc.clone(), base.to_owned()));
        }
        if let Some((_, own)) = WRAPPERS.iter().find(|(name, _)| *name == base) {
            values = Some(own);
            continue;
        }
        // Options of a wrapper, variables of env, numbers: CPUs of taskset, the time of timeout.
        let values = values?;
        if values.contains(&plain.as_str()) {
            words.next();
        } else if !plain.starts_with(['-', '$'])
            && !plain.starts_with(|c: char| c.is_ascii_digit())
            && !plain.contains('=')
        {
            return None;
        }
    }
    None
}

/// Words of `ml` that are no modules.
fn is_action(word: &str) -> bool {
    word.starts_with('-')
        || matches!(
            word,
            "avail"
                | "av"
                | "list"
                | "purge"
                | "unload"
                | "rm"
                | "del"
                | "swap"
                | "switch"
                | "show"
                | "help"
                | "spider"
                | "use"
                | "unuse"
                | "save"
                | "restore"
                | "reset"
                | "update"
                | "refresh"
                | "keyword"
                | "whatis"
        )
}
