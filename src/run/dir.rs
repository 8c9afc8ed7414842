//! A run's directory below `runs/` in the state directory: what was planned (`run.json`), a directory per step with the
//! frozen step, its job script and its status, and the journal. Everything that `status`, `cancel` and `retry` know is
//! read from here; there is no daemon.

use std::collections::BTreeMap;
use std::fs::File;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use crate::build::Step;
use crate::config::{Config, ConfigError};
use crate::model::name::Name;
use crate::model::resources::{JobId, Scheduler};
use crate::plan::{Plan, Ticket, step_dir};
use crate::sys::fs::{self, PathError};
use crate::sys::lock::{self, Kind, Taken};
use crate::sys::owner::{self, Owner};
use crate::sys::{clock, env, host};

/// A run that cannot be read or written.
#[derive(Debug, thiserror::Error)]
pub enum RunError {
    /// A file.
    #[error(transparent)]
    Io(#[from] PathError),
    /// The state directory cannot be written to.
    #[error("no record of the run can be kept: {0}")]
    NoState(PathError),
    /// A file that is not what ovl writes.
    #[error("{}: not understood: {why}", path.display())]
    Odd {
        /// The file.
        path: PathBuf,
        /// What is wrong.
        why: String,
    },
    /// No run of this id.
    #[error("there is no run '{id}' in {}", dir.display())]
    Unknown {
        /// What was asked for.
        id: String,
        /// Where runs are.
        dir: PathBuf,
    },
    /// Several runs begin so.
    #[error("'{id}' is the beginning of several runs: {}", among.join(", "))]
    Ambiguous {
        /// What was asked for.
        id: String,
        /// Which.
        among: Vec<String>,
    },
    /// Another ovl changes this run right now.
    #[error("run {id} is being changed by another ovl")]
    Locked {
        /// Which.
        id: String,
    },
    /// The frozen configuration.
    #[error(transparent)]
    Config(#[from] ConfigError),
}

/// What a run is, frozen when it began.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Head {
    /// Its id: time and a few letters; sorts by time.
    pub id: String,
    /// Version of this format.
    pub format: u32,
    /// Version of ovl.
    pub ovl: String,
    /// Who.
    pub user: String,
    /// On which host.
    pub host: String,
    /// In which directory.
    pub cwd: PathBuf,
    /// The command line.
    pub command: Vec<String>,
    /// When, seconds since 1970.
    pub began: i64,
    /// The program, as a path that jobs can start.
    pub program: PathBuf,
    /// The scheduler that queued steps go to.
    pub scheduler: Option<Scheduler>,
    /// The names asked for, and their files.
    pub targets: Vec<(Name, PathBuf)>,
    /// The plan.
    pub plan: Plan,
    /// The configuration.
    pub settings: BTreeMap<String, Vec<String>>,
}

/// A run's directory.
#[derive(Debug, Clone)]
pub struct Dir {
    path: PathBuf,
    /// What the run is.
    pub head: Head,
}

/// Where runs are.
pub fn runs(config: &Config) -> PathBuf {
    config.state_dir().join("runs")
}

const HEAD: &str = "run.json";
/// The frozen step in its directory.
pub const STEP: &str = "step.json";
/// There once all steps are over: saves looking at finished runs again.
const OVER: &str = "over";
/// Which process works on it.
const DRIVER: &str = "driver.json";
const ANSWERS: &str = "answers.json";

/// A new run id. Those of one second sort by time too: the newest run is the one that is meant where none is named.
pub fn new_id() -> String {
    let token = host::token();
    let tail: String = token.chars().rev().take(2).collect();
    let (seconds, millis) = clock::now_millis();
    format!("{}-{millis:03}{tail}", clock::compact(seconds).to_ascii_lowercase().trim_end_matches('z'))
}

impl Dir {
    /// Writes a new run with its steps.
    pub fn create(config: &Config, head: Head, steps: &[Step]) -> Result<Dir, RunError> {
        Dir::create_in(&runs(config), head, steps)
    }

    /// Writes a new run below another directory than the state directory's.
    pub fn create_in(runs: &Path, head: Head, steps: &[Step]) -> Result<Dir, RunError> {
        fs::create_dirs(runs).map_err(RunError::NoState)?;
        let path = fs::canonicalize(runs)?.join(&head.id);
        fs::create_dirs(&path.join("steps")).map_err(RunError::NoState)?;
        let dir = Dir { path, head };
        for step in steps {
            dir.write_step(step)?;
        }
        // Before the run can be seen: nobody is to take it for one that was given up.
        dir.mark_driven(&Owner::me())?;
        dir.write_head()?;
        Ok(dir)
    }

    /// Writes the head anew.
    pub fn write_head(&self) -> Result<(), RunError> {
        self.write_json(&self.path.join(HEAD), &self.head)
    }

    /// Opens a run, unless all its steps were seen to be over.
    pub fn open_unless_over(path: &Path) -> Result<Option<Dir>, RunError> {
        if fs::metadata_if_exists(&path.join(OVER))?.is_some() {
            return Ok(None);
        }
        Dir::open(path).map(Some)
    }

    /// Whether all its steps were seen to be over.
    pub fn is_over(&self) -> bool {
        fs::metadata_if_exists(&self.path.join(OVER)).ok().flatten().is_some()
    }

    /// Notes that all its steps are over, or not any more; others' runs stay as they are.
    pub fn mark_over(&self, over: bool) {
        let path = self.path.join(OVER);
        let _ = if over { fs::write_quick(&path, b"", 0o644) } else { fs::remove_file(&path) };
    }

    /// Opens a run by its directory.
    pub fn open(path: &Path) -> Result<Dir, RunError> {
        let head: Head = read_json(&path.join(HEAD))?;
        // Everything below counts on it, and the file may be anybody's.
        let in_order = |(index, step): (usize, &crate::plan::Planned)| {
            step.index == index && step.after.iter().all(|parent| *parent < index)
        };
        if !head.plan.steps.iter().enumerate().all(in_order) {
            return Err(RunError::Odd { path: path.join(HEAD), why: "its steps are not in order".into() });
        }
        Ok(Dir { path: path.to_owned(), head })
    }

    /// Whether its files are this user's own. The name in them may be anything.
    pub fn is_mine(&self) -> bool {
        use std::os::unix::fs::MetadataExt;
        let own = |path: &Path| fs::metadata(path).is_ok_and(|meta| meta.uid() == host::ids().0);
        let journal = self.path.join(super::journal::FILE);
        own(&self.path) && own(&self.path.join(HEAD)) && (own(&journal) || !journal.exists())
    }

    /// Opens a run by the beginning of its id.
    pub fn find(config: &Config, id: &str) -> Result<Dir, RunError> {
        let dir = runs(config);
        let among: Vec<String> = ids(config)?.into_iter().filter(|known| known.starts_with(id)).collect();
        match &among[..] {
            [one] => Dir::open(&dir.join(one)),
            [] => Err(RunError::Unknown { id: id.to_owned(), dir }),
            _ if among.iter().any(|known| known == id) => Dir::open(&dir.join(id)),
            _ => Err(RunError::Ambiguous { id: id.to_owned(), among }),
        }
    }

    /// The file that tells which process works on it.
    pub fn driver(&self) -> PathBuf {
        self.path.join(DRIVER)
    }

    /// Notes who works on it.
    pub fn mark_driven(&self, by: &Owner) -> Result<(), PathError> {
        fs::write_quick(&self.driver(), &serde_json::to_vec(by).unwrap_or_default(), 0o644)
    }

    /// Waits a moment until another process than this one is noted as working on it.
    pub fn await_driver(&self) {
        let mine = |who: &Owner| who.pid == std::process::id();
        for _ in 0..500 {
            if !owner::read(&self.driver()).ok().flatten().as_ref().is_some_and(mine) {
                return;
            }
            std::thread::sleep(std::time::Duration::from_millis(10));
        }
    }

    /// Removes the run and all that is known of it.
    pub fn forget(&self) {
        let _ = fs::remove_tree(&self.path);
    }

    /// The directory.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Its id.
    pub fn id(&self) -> &str {
        &self.head.id
    }

    /// The configuration the run was planned with.
    pub fn config(&self) -> Result<Config, RunError> {
        Ok(Config::thaw(&self.head.settings)?)
    }

    /// The directory of a step.
    pub fn step_dir(&self, step: usize) -> PathBuf {
        step_dir(&self.path, step)
    }

    /// The job script of a step.
    pub fn script(&self, step: usize) -> PathBuf {
        self.step_dir(step).join("job.sh")
    }

    /// Writes a frozen step; answers into a file that only the user can read.
    pub fn write_step(&self, step: &Step) -> Result<(), RunError> {
        let dir = self.step_dir(step.plan.index);
        fs::create_dirs(&dir)?;
        self.write_json(&dir.join(STEP), step)?;
        if !step.answers.is_empty() {
            let bytes = serde_json::to_vec(&step.answers).unwrap_or_default();
            fs::write_quick(&dir.join(ANSWERS), &bytes, 0o600)?;
        }
        Ok(())
    }

    /// Reads a frozen step.
    pub fn read_step(&self, step: usize) -> Result<Step, RunError> {
        let dir = self.step_dir(step);
        let mut frozen: Step = read_json(&dir.join(STEP))?;
        if fs::metadata_if_exists(&dir.join(ANSWERS))?.is_some() {
            frozen.answers = read_json(&dir.join(ANSWERS))?;
        }
        Ok(frozen)
    }

    /// Removes the answers of a step that will not ask again.
    pub fn forget_answers(&self, step: usize) {
        let _ = fs::remove_file(&self.step_dir(step).join(ANSWERS));
    }

    /// The ticket of a step.
    pub fn ticket(&self, step: usize, attempt: u32, job: JobId) -> Ticket {
        let scheduler = self.head.scheduler.unwrap_or(Scheduler::Slurm);
        Ticket { scheduler, job, run: self.path.clone(), step, attempt }
    }

    fn write_json<T: Serialize>(&self, path: &Path, value: &T) -> Result<(), RunError> {
        let bytes =
            serde_json::to_vec(value).map_err(|error| RunError::Odd { path: path.into(), why: error.to_string() });
        Ok(fs::write_quick(path, &bytes?, 0o644)?)
    }

    /// Keeps others from submitting, cancelling or retrying steps of this run as long as the lock lives.
    pub fn lock(&self) -> Result<Lock, RunError> {
        let path = self.path.join("lock");
        let file = fs::append(&path)?;
        match lock::try_lock(&file, Kind::Write).map_err(PathError::new("lock", &path))? {
            Taken::Busy => Err(RunError::Locked { id: self.head.id.clone() }),
            // Where there are no locks, two commands at once are the users' own business.
            _ => Ok(Lock { _file: file }),
        }
    }
}

/// A held lock.
#[derive(Debug)]
pub struct Lock {
    _file: File,
}

/// The ids of all runs, oldest first.
pub fn ids(config: &Config) -> Result<Vec<String>, RunError> {
    let mut ids: Vec<String> = fs::list_if_exists(&runs(config))?
        .into_iter()
        .filter_map(|file| file.into_string().ok())
        .filter(|name| !name.starts_with('.'))
        .collect();
    ids.sort_unstable();
    Ok(ids)
}

fn read_json<T: serde::de::DeserializeOwned>(path: &Path) -> Result<T, RunError> {
    let bytes = fs::read(path)?;
    serde_json::from_slice(&bytes).map_err(|error| RunError::Odd { path: path.to_owned(), why: error.to_string() })
}

/// A command line without the answers to questions: some are secret.
fn without_answers(words: Vec<String>) -> Vec<String> {
    let mut hide = false;
    let one = |word: String| match word.as_str() {
        _ if std::mem::take(&mut hide) => "***".to_owned(),
        "--answer" => {
            hide = true;
            word
        }
        text if text.starts_with("--answer=") => "--answer=***".to_owned(),
        _ => word,
    };
    words.into_iter().map(one).collect()
}

/// What a run is, for one that begins now.
pub fn head(config: &Config, scheduler: Option<Scheduler>, targets: Vec<(Name, PathBuf)>, plan: Plan) -> Head {
    Head {
        id: new_id(),
        format: 1,
        ovl: env!("CARGO_PKG_VERSION").into(),
        user: host::user(),
        host: host::hostname(),
        cwd: env::current_dir(),
        command: without_answers(env::command_line()),
        began: clock::now(),
        program: env::current_exe().unwrap_or_else(|_| "ovl".into()),
        scheduler,
        targets,
        plan,
        settings: config.frozen(),
    }
}
