//! Stand-ins for PBS, LSF and HTCondor in front of a house's PATH: their commands answer as the recorded ones, and jobs
//! are really run. What can go wrong is put in by the test; the list is in `fakes/core.py`.

use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use super::house::{House, Run, finish};

/// Which scheduler.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// OpenPBS 23.06.
    Pbs,
    /// volclava 2.2.
    Lsf,
    /// HTCondor 23.9 with DAGMan.
    HtCondor,
}

impl Kind {
    /// All of them, for tests that hold for each.
    pub const ALL: [Kind; 3] = [Kind::Pbs, Kind::Lsf, Kind::HtCondor];

    fn name(self) -> &'static str {
        match self {
            Kind::Pbs => "pbs",
            Kind::Lsf => "lsf",
            Kind::HtCondor => "htcondor",
        }
    }

    fn commands(self) -> &'static [&'static str] {
        match self {
            Kind::Pbs => &["qsub", "qstat", "qselect", "qdel", "qhold", "qrls", "pbsnodes"],
            Kind::Lsf => &["bsub", "bjobs", "bhist", "bkill", "bresume", "bstop", "lsid"],
            Kind::HtCondor => &[
                "condor_submit",
                "condor_submit_dag",
                "condor_q",
                "condor_history",
                "condor_rm",
                "condor_release",
                "condor_hold",
                "condor_version",
            ],
        }
    }
}

const PARTS: [(&str, &str); 5] = [
    ("fake", include_str!("fakes/fake")),
    ("core.py", include_str!("fakes/core.py")),
    ("pbs.py", include_str!("fakes/pbs.py")),
    ("lsf.py", include_str!("fakes/lsf.py")),
    ("htcondor.py", include_str!("fakes/htcondor.py")),
];

/// One scheduler of a house. Made after the house, so that it ends before it: its processes go with it.
pub struct Queue {
    dir: PathBuf,
}

impl Queue {
    /// Puts the scheduler's commands first on the house's PATH.
    pub fn new(kind: Kind, house: &House) -> Queue {
        let dir = house.make(&format!("queue-{}", kind.name()));
        for part in ["bin", "state/inject"] {
            std::fs::create_dir_all(dir.join(part)).unwrap();
        }
        for (name, text) in PARTS {
            std::fs::write(dir.join(name), text).unwrap();
        }
        std::fs::set_permissions(dir.join("fake"), std::fs::Permissions::from_mode(0o755)).unwrap();
        for command in kind.commands() {
            symlink(dir.join("fake"), dir.join("bin").join(command)).unwrap();
        }
        // The commands run as the user, who takes away what was injected for one time.
        for part in ["state", "state/inject"] {
            std::fs::set_permissions(dir.join(part), std::fs::Permissions::from_mode(0o777)).unwrap();
        }
        house.put_on_path(&dir.join("bin"));
        // A real Slurm may be installed too, and would be found first.
        house.set("OVL_SCHED_KIND", kind.name());
        Queue { dir }
    }

    /// Makes trouble: `down`, `hang`, `lose-reply`, `refuse`, `vanish`, `start-early`, `forget`, `stall`, `slots`,
    /// `grace`, `kill`; what the text means is told in `fakes/core.py`.
    pub fn inject(&self, trouble: &str, text: &str) {
        let new = self.dir.join("state").join(format!("new-{trouble}"));
        std::fs::write(&new, text).unwrap();
        std::fs::rename(new, self.dir.join("state/inject").join(trouble)).unwrap();
    }

    /// Ends a trouble that lasts.
    pub fn relent(&self, trouble: &str) {
        let _ = std::fs::remove_file(self.dir.join("state/inject").join(trouble));
    }

    /// All jobs ever submitted, in order, as the stand-in keeps them (`state`: pending, running, ended; `held`, `code`,
    /// `name`, …).
    pub fn jobs(&self) -> Vec<serde_json::Value> {
        let Ok(text) = std::fs::read_to_string(self.dir.join("state/state.json")) else { return Vec::new() };
        let state: serde_json::Value = serde_json::from_str(&text).unwrap();
        let mut jobs: Vec<_> = state["jobs"].as_object().unwrap().values().cloned().collect();
        let number = |job: &serde_json::Value| {
            // `7`, `7.1`, `7[]`, `7[1]`.
            let mut parts = job["id"].as_str().unwrap().split(['.', '[', ']']).map(|part| part.parse::<u64>().ok());
            (parts.next().flatten(), parts.next().flatten())
        };
        jobs.sort_by_key(number);
        jobs
    }

    /// The last job of this name (HTCondor: of this node).
    pub fn find(&self, name: &str) -> Option<serde_json::Value> {
        self.jobs().into_iter().rev().find(|job| job["name"] == name || job["node"] == name)
    }

    /// The same, where it must be there.
    #[track_caller]
    pub fn job(&self, name: &str) -> serde_json::Value {
        self.find(name).unwrap_or_else(|| panic!("no job {name} in {:#?}", self.jobs()))
    }

    /// Commands called so far, each with its arguments.
    pub fn calls(&self) -> Vec<Vec<String>> {
        let text = std::fs::read_to_string(self.dir.join("state/calls")).unwrap_or_default();
        text.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
    }

    /// Waits until it is so, at most 20 seconds.
    #[track_caller]
    pub fn until(&self, what: &str, so: impl Fn(&Queue) -> bool) {
        let begun = Instant::now();
        while !so(self) {
            assert!(begun.elapsed() < Duration::from_secs(20), "not {what}: {:#?}", self.jobs());
            std::thread::sleep(Duration::from_millis(20));
        }
    }

    /// Waits until a job is in a state: pending, running or ended.
    #[track_caller]
    pub fn wait(&self, name: &str, state: &str) {
        self.until(&format!("{name} {state}"), |queue| {
            queue.jobs().iter().any(|job| (job["name"] == name || job["node"] == name) && job["state"] == state)
        });
    }

    fn processes(&self) -> Vec<i32> {
        let needle = self.dir.to_string_lossy().into_owned();
        let holds = |path: PathBuf| String::from_utf8_lossy(&std::fs::read(path).unwrap_or_default()).contains(&needle);
        let own = i32::try_from(std::process::id()).unwrap();
        let pids = std::fs::read_dir("/proc").unwrap().flatten();
        pids.filter_map(|entry| entry.file_name().to_string_lossy().parse().ok().map(|pid: i32| (pid, entry.path())))
            .filter(|(pid, path)| *pid != own && (holds(path.join("cmdline")) || holds(path.join("environ"))))
            .map(|(pid, _)| pid)
            .collect()
    }
}

impl Drop for Queue {
    fn drop(&mut self) {
        let _ = std::fs::write(self.dir.join("state/stop"), "");
        let begun = Instant::now();
        while begun.elapsed() < Duration::from_secs(5) {
            let left = self.processes();
            if left.is_empty() {
                return;
            }
            // The daemon ends its jobs by itself; what called setsid or outlived it goes now.
            if begun.elapsed() > Duration::from_millis(200) {
                for pid in left {
                    let _ = nix::sys::signal::kill(nix::unistd::Pid::from_raw(pid), nix::sys::signal::Signal::SIGKILL);
                }
            }
            std::thread::sleep(Duration::from_millis(20));
        }
    }
}

/// Runs a line of shell in the house, as the user.
pub fn shell(house: &House, line: &str) -> Run {
    let mut command = house.command("bash");
    command.args(["-c", line]).current_dir(house.path("work"));
    finish(command)
}

/// Writes a script that can be executed.
pub fn executable(house: &House, below: &str, text: &str) -> PathBuf {
    let path: &Path = &house.write(below, text);
    std::fs::set_permissions(path, std::fs::Permissions::from_mode(0o755)).unwrap();
    path.to_owned()
}
