//! A house with a scheduler's stand-in, and what tests of chains ask of both.

use std::path::PathBuf;
use std::time::{Duration, Instant};

use serde_json::Value;

use crate::support::house::{House, Run, script};
use crate::support::queue::{Kind, Queue};

/// A scheduler and the house it serves.
pub struct Site {
    // Dropped first: its processes work in the house.
    pub queue: Queue,
    pub house: House,
    pub kind: Kind,
}

impl Site {
    pub fn new(kind: Kind) -> Site {
        let house = House::new();
        let queue = Queue::new(kind, &house);
        Site { queue, house, kind }
    }

    /// A recipe `NAME/1` that needs others, does this and leaves a file that says so.
    pub fn recipe(&self, name: &str, headers: &str, deps: &[&str], install: &str) {
        let deps: String = deps.iter().map(|dep| format!("\n#DEP:{dep}/1")).collect();
        let install = format!("{install}\necho {name} > $target_dir/{name}");
        self.house.recipe(&format!("{name}/1"), script(&format!("{headers}{deps}"), &install));
    }

    /// a; b and c need a; d needs both. Those in `queued` have directives; `then` is what a recipe does first.
    pub fn diamond(&self, queued: &str, then: impl Fn(&str) -> &'static str) {
        for (name, deps) in [("a", &[][..]), ("b", &["a"]), ("c", &["a"]), ("d", &["b", "c"])] {
            let headers = if queued.contains(name) { "#SBATCH --cpus-per-task=1" } else { "" };
            self.recipe(name, headers, deps, then(name));
        }
    }

    /// Whether `NAME/1` is built.
    pub fn is_built(&self, name: &str) -> bool {
        self.house.image(&format!("{name}/1")).exists()
    }

    /// Asserts which overlays are there.
    #[track_caller]
    pub fn built(&self, names: &str) {
        let images = self.house.names("home/.local/share/ovl/images");
        let there: String = images.iter().filter_map(|file| file.strip_suffix("--1.sqf")).collect();
        assert_eq!(there, names, "{images:?}");
    }

    /// Nothing waits or runs, no claim is left, no run is locked.
    #[track_caller]
    pub fn settled(&self) {
        self.queue.until("settled", |queue| queue.jobs().iter().all(|job| job["state"] == "ended"));
        let claims: Vec<String> = self.house.names("home/.local/share/ovl/images");
        assert!(!claims.iter().any(|file| file.contains(".claim")), "{claims:?}");
    }

    /// The directory of the newest run.
    pub fn run(&self) -> PathBuf {
        let runs = self.house.names("home/.local/state/ovl/runs");
        self.house.path("home/.local/state/ovl/runs").join(runs.last().unwrap_or_else(|| panic!("no run")))
    }

    /// The number of a step in the newest run.
    #[track_caller]
    pub fn step(&self, name: &str) -> usize {
        let head: Value = serde_json::from_slice(&std::fs::read(self.run().join("run.json")).unwrap()).unwrap();
        let steps = head["plan"]["steps"].as_array().unwrap();
        steps.iter().position(|step| step["name"] == format!("{name}/1")).unwrap_or_else(|| panic!("no {name}"))
    }

    /// The stand-in's newest job for a step of the newest run.
    pub fn job(&self, name: &str) -> Option<Value> {
        let step = self.step(name);
        let id = self.run().file_name().unwrap().to_string_lossy().into_owned();
        let mut jobs = self.queue.jobs().into_iter().rev();
        jobs.find(|job| match self.kind {
            Kind::HtCondor => job["node"] == format!("S{step:04}"),
            _ => job["name"].as_str().is_some_and(|name| name.starts_with(&format!("ovl-{id}-{step}."))),
        })
    }

    /// How many jobs of steps there were.
    pub fn count(&self) -> usize {
        self.queue.jobs().iter().filter(|job| job.get("dag").is_none_or(Value::is_null)).count()
    }

    /// Waits until the step itself says that it is in this state.
    #[track_caller]
    pub fn says(&self, name: &str, state: &str) {
        let path = self.run().join(format!("steps/{:04}/status.json", self.step(name)));
        let told =
            || -> Value { serde_json::from_slice(&std::fs::read(&path).unwrap_or_default()).unwrap_or(Value::Null) };
        let begun = Instant::now();
        while told()["state"] != state {
            assert!(begun.elapsed() < Duration::from_secs(20), "{name} is not {state}: {:#}", told());
            std::thread::sleep(Duration::from_millis(20));
        }
    }

    /// Does trouble to the running job of a step.
    pub fn kill(&self, name: &str, how: &str) {
        let id = self.job(name).unwrap()["id"].as_str().unwrap().to_owned();
        self.queue.inject("kill", &format!("{id} {how}\n"));
    }

    /// One word for each step of the newest run: `a=done b=failed`.
    #[track_caller]
    pub fn status(&self) -> String {
        let shown = self.house.ovl(&["status", "--json", self.id().as_str()]).ok().json();
        let steps = shown[0]["steps"].as_array().unwrap().clone();
        let mut words: Vec<String> = steps
            .iter()
            .map(|step| {
                format!("{}={}", step["name"].as_str().unwrap().trim_end_matches("/1"), step["state"].as_str().unwrap())
            })
            .collect();
        words.sort();
        words.join(" ")
    }

    /// The id of the newest run.
    pub fn id(&self) -> String {
        self.run().file_name().unwrap().to_string_lossy().into_owned()
    }

    /// Builds names with all steps queued and does not wait.
    #[track_caller]
    pub fn submit(&self, names: &[&str]) -> Run {
        let names: Vec<String> = names.iter().map(|name| format!("{name}/1")).collect();
        let mut args = vec!["build", "--always-submit"];
        args.extend(names.iter().map(String::as_str));
        self.house.ovl(&args)
    }
}

/// Makes each test one of every scheduler.
macro_rules! for_each_scheduler {
    ($($name:ident),* $(,)?) => {
        mod pbs { $(#[test] fn $name() { super::$name(&super::Site::new(crate::support::queue::Kind::Pbs)); })* }
        mod lsf { $(#[test] fn $name() { super::$name(&super::Site::new(crate::support::queue::Kind::Lsf)); })* }
        mod htcondor { $(#[test] fn $name() { super::$name(&super::Site::new(crate::support::queue::Kind::HtCondor)); })* }
    };
}
pub(crate) use for_each_scheduler;
