//! `module load` lines of a shell script, and whether it starts several tasks by itself. Nothing is run.

use super::{Overlay, Script, Wanted};
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
        let Some(first) = command.words.first() else { continue };
        let name = command.name();
        let base = name.rsplit('/').next().unwrap_or(&name);
        if LAUNCHERS.contains(&base) && script.launches.is_none() {
            script.launches = Some((first.loc.clone(), base.to_owned()));
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
