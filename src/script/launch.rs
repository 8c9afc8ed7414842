//! Starting several tasks: the host's launcher in front of what each task runs.

use std::ffi::OsString;

use super::array;
use crate::model::resources::Scheduler;

/// A launcher with what was given for it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Launcher {
    /// The program and further arguments.
    pub words: Vec<String>,
}

/// Nobody to start several tasks.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum NoLauncher {
    /// None of those ovl knows is there.
    #[error("neither srun (in a job of Slurm) nor mpiexec nor mpirun is on PATH to start {0} tasks")]
    Missing(u32),
    /// The words given make no command.
    #[error("'{0}' is no launcher; write auto, none, or a program with its arguments")]
    Odd(String),
}

/// The launcher for so many tasks; None: they are not launched by ovl (`none`). `word` is what the user or the
/// configuration says, `inside` the scheduler in whose job this is, `find` tells whether a program is there.
pub fn choose(
    word: &str,
    tasks: u32,
    inside: Option<Scheduler>,
    find: &dyn Fn(&str) -> bool,
) -> Result<Option<Launcher>, NoLauncher> {
    let one = |program: &str| Ok(Some(Launcher { words: vec![program.to_owned()] }));
    match word.trim() {
        "none" => Ok(None),
        "" | "auto" => {
            if inside == Some(Scheduler::Slurm) && find("srun") {
                return one("srun");
            }
            match ["mpiexec", "mpirun"].into_iter().find(|program| find(program)) {
                Some(program) => one(program),
                None => Err(NoLauncher::Missing(tasks)),
            }
        }
        other => match array::split(other) {
            Ok(words) if words.first().is_some_and(|program| !program.is_empty() && !program.starts_with('-')) => {
                Ok(Some(Launcher { words }))
            }
            _ => Err(NoLauncher::Odd(other.to_owned())),
        },
    }
}

impl Launcher {
    /// The command line that starts `tasks` times what stands in `each`. `cpus` are those of each task: srun does not
    /// take them from its job (since Slurm 22.05).
    pub fn argv(&self, tasks: u32, cpus: Option<u32>, each: Vec<OsString>) -> Vec<OsString> {
        let mut argv: Vec<OsString> = self.words.iter().map(OsString::from).collect();
        let base = self.words.first().map_or("", |program| program.rsplit('/').next().unwrap_or(program));
        if base == "srun" {
            argv.push(format!("--ntasks={tasks}").into());
            argv.extend(cpus.map(|cpus| format!("--cpus-per-task={cpus}").into()));
        } else {
            argv.push("-n".into());
            argv.push(tasks.to_string().into());
        }
        argv.extend(each);
        argv
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_launcher_at_hand_or_the_one_asked_for() {
        let all = |_: &str| true;
        let none = |_: &str| false;
        let slurm = Some(Scheduler::Slurm);
        let words = |word, inside, find: &dyn Fn(&str) -> bool| {
            choose(word, 4, inside, find).map(|one| one.map(|one| one.words.join(" ")))
        };
        assert_eq!(words("auto", slurm, &all), Ok(Some("srun".into())));
        assert_eq!(words("auto", Some(Scheduler::Pbs), &all), Ok(Some("mpiexec".into())));
        assert_eq!(words("auto", slurm, &|program| program == "mpirun"), Ok(Some("mpirun".into())));
        assert_eq!(words("auto", slurm, &none), Err(NoLauncher::Missing(4)));
        assert_eq!(words("none", slurm, &all), Ok(None));
        assert_eq!(words("mpirun --hostfile 'a b'", None, &none), Ok(Some("mpirun --hostfile a b".into())));
        assert_eq!(words("--x", None, &all), Err(NoLauncher::Odd("--x".into())));
    }

    #[test]
    fn command_lines() {
        let line = |program: &str| {
            let launcher = Launcher { words: vec![program.into(), "-x".into()] };
            let argv = launcher.argv(4, Some(2), vec!["ovl".into()]);
            argv.iter().map(|word| word.to_string_lossy().into_owned()).collect::<Vec<_>>().join(" ")
        };
        assert_eq!(line("/usr/bin/srun"), "/usr/bin/srun -x --ntasks=4 --cpus-per-task=2 ovl");
        assert_eq!(line("mpiexec"), "mpiexec -x -n 4 ovl");
    }
}
