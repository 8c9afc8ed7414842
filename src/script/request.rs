//! A run of a script, frozen: what a job needs to carry it out without resolving anything again.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::path::PathBuf;

use serde::{Deserialize, Serialize};

use crate::model::batch::{Granted, Shape, mem_per_node};
use crate::model::resources::{Mem, Resources, Scheduler};

/// The frozen run.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Request {
    /// Version of this format.
    pub format: u32,
    /// Its id: time and a few letters.
    pub id: String,
    /// The script's copy.
    pub script: PathBuf,
    /// Where it was read from; `-` for standard input.
    pub origin: PathBuf,
    /// What runs it; empty: bash.
    pub interpreter: Vec<String>,
    /// Its arguments.
    pub args: Vec<OsString>,
    /// Words for `ovl exec`: overlays as absolute paths, binds, variables.
    pub exec: Vec<String>,
    /// An array's further arguments, for each task.
    pub tasks: Option<Vec<Vec<String>>>,
    /// Tasks and nodes.
    pub shape: Shape,
    /// CPUs of each task, if anybody said.
    pub cpus: Option<u32>,
    /// Memory, if anybody said.
    pub mem: Option<Mem>,
    /// What starts several tasks: auto, none or a command.
    pub launcher: String,
    /// Where it runs.
    pub cwd: PathBuf,
    /// Who has the job; None: it runs where it was started.
    pub scheduler: Option<Scheduler>,
    /// The umask of whoever submits it, in octal digits.
    #[serde(default)]
    pub umask: Option<String>,
    /// The configuration.
    pub settings: BTreeMap<String, Vec<String>>,
}

/// A task that an array does not have.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum NoTask {
    /// Its number is not known.
    #[error("this is an array of {0} tasks, but the job does not say which one it is")]
    Unnumbered(usize),
    /// There are fewer.
    #[error("there is no task {index} in an array of {count}")]
    Beyond {
        /// Asked for.
        index: u32,
        /// There are.
        count: usize,
    },
}

impl Request {
    /// What the script is started with: its interpreter, itself and its arguments; of an array those of the task, too.
    pub fn command(&self, index: Option<u32>) -> Result<Vec<OsString>, NoTask> {
        let mut argv: Vec<OsString> = if self.interpreter.is_empty() {
            vec!["bash".into()]
        } else {
            self.interpreter.iter().map(OsString::from).collect()
        };
        argv.push(self.script.clone().into_os_string());
        argv.extend(self.args.iter().cloned());
        if let Some(tasks) = &self.tasks {
            let count = tasks.len();
            // An array of one is a plain job to some schedulers.
            let index = index.or((count == 1).then_some(1)).ok_or(NoTask::Unnumbered(count))?;
            let task = usize::try_from(index).ok().and_then(|index| tasks.get(index.checked_sub(1)?));
            argv.extend(task.ok_or(NoTask::Beyond { index, count })?.iter().map(OsString::from));
        }
        Ok(argv)
    }

    /// What was asked for, for where nobody tells what was granted.
    pub fn asked(&self) -> Granted {
        let per_node = self.shape.most_per_node();
        let mem = self.mem.and_then(|mem| mem_per_node(mem, self.cpus.unwrap_or(1), per_node));
        Granted::asked(&self.shape, self.cpus, mem)
    }

    /// Takes the figures that a task needs to know from what its job asks for.
    pub fn ask(&mut self, resources: &Resources, shape: Shape) {
        self.shape = shape;
        self.cpus = resources.cpus.as_ref().map(|cpus| cpus.value);
        self.mem = resources.mem.as_ref().map(|mem| mem.value);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn request(tasks: Option<Vec<Vec<String>>>) -> Request {
        Request {
            format: 1,
            id: "i".into(),
            script: "/r/s.sh".into(),
            origin: "/s.sh".into(),
            interpreter: Vec::new(),
            args: vec!["a b".into()],
            exec: Vec::new(),
            tasks,
            shape: Shape::default(),
            cpus: None,
            mem: None,
            launcher: "auto".into(),
            cwd: "/".into(),
            scheduler: None,
            umask: None,
            settings: BTreeMap::new(),
        }
    }

    #[test]
    fn a_task_has_its_own_arguments_behind_the_common_ones() {
        let array = request(Some(vec![vec!["x".into()], vec!["y z".into()]]));
        assert_eq!(array.command(Some(2)).unwrap(), ["bash", "/r/s.sh", "a b", "y z"]);
        assert_eq!(array.command(None), Err(NoTask::Unnumbered(2)));
        for index in [0, 3, u32::MAX] {
            assert_eq!(array.command(Some(index)), Err(NoTask::Beyond { index, count: 2 }));
        }
        assert_eq!(request(Some(vec![vec!["x".into()]])).command(None).unwrap()[3], "x");
        let mut python = request(None);
        python.interpreter = vec!["/usr/bin/env".into(), "python3 -u".into()];
        assert_eq!(python.command(Some(7)).unwrap(), ["/usr/bin/env", "python3 -u", "/r/s.sh", "a b"]);
    }

    #[test]
    fn it_is_the_same_after_writing_and_reading() {
        use std::os::unix::ffi::OsStringExt;
        let mut one = request(None);
        one.args.push(OsString::from_vec(vec![b'\n', 0xff, b'"']));
        let back: Request = serde_json::from_slice(&serde_json::to_vec(&one).unwrap()).unwrap();
        assert_eq!(back.args, one.args);
    }
}
