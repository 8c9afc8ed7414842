//! Chains of builds on a real Slurm, as an unprivileged user. Installs are instant, or wait at a gate that the test opens.

mod asked;
mod cancel;
mod chains;
mod trouble;
mod users;

use std::path::PathBuf;
use std::process::Child;
use std::time::{Duration, Instant};

use serde_json::Value;

use crate::support::house::{House, Run, finish, script};
use crate::support::queue::shell;
use crate::support::slurm::Slurm;

/// What a recipe says that is to be queued; small, so that many fit.
const DIRECTIVES: &str = "#SBATCH --time=5 --mem=100M --cpus-per-task=1";

/// What a job without directives asks for: the usual 8 GiB are more than a node of the tests has.
const CONFIG: &str = "build:\n  defaults:\n    cpus: 1\n    mem: 100M\n    time: 5m\n";

/// A house at a Slurm. Its jobs end with it.
struct Site {
    slurm: Slurm,
    house: House,
}

impl Site {
    fn shared() -> Option<Site> {
        Site::with(Slurm::shared)
    }

    fn own(conf: &[&str]) -> Option<Site> {
        Site::with(|house| Slurm::own(house, conf))
    }

    fn with(slurm: impl FnOnce(&House) -> Option<Slurm>) -> Option<Site> {
        let house = House::new();
        let slurm = slurm(&house)?;
        house.write("home/.config/ovl/config.yaml", CONFIG);
        Some(Site { slurm, house })
    }

    fn ovl(&self, args: &[&str]) -> Run {
        self.house.ovl(args)
    }

    /// `ovl` for root: what an administrator does to the controller.
    fn admin(&self, line: &str) -> Run {
        let conf = self.slurm.dir().join("slurm.conf");
        let mut command = std::process::Command::new("sh");
        command.args(["-c", line]).env("SLURM_CONF", conf);
        finish(command)
    }

    /// A recipe with an instant install, queued or not.
    fn quick(&self, name: &str, deps: &[&str], queued: bool) {
        self.recipe(name, deps, queued, "");
    }

    /// A recipe whose install waits at a gate.
    fn gated(&self, name: &str, deps: &[&str], queued: bool) {
        self.recipe(
            name,
            deps,
            queued,
            "echo at the gate; touch $tmp_dir/begun; until [ -e $tmp_dir/go ]; do sleep 0.05; done",
        );
    }

    /// A recipe whose install does something and then makes a file.
    fn recipe(&self, name: &str, deps: &[&str], queued: bool, install: &str) {
        let mut headers: Vec<String> = deps.iter().map(|dep| format!("#DEP:{dep}")).collect();
        headers.extend(queued.then(|| DIRECTIVES.to_owned()));
        let see = deps.iter().map(|dep| format!("cat /cnt/{dep}/f >> $target_dir/f\n")).collect::<String>();
        let install = format!("{see}{install}\necho {name} >> $target_dir/f");
        self.house.recipe(name, script(&headers.join("\n"), &install));
    }

    /// What an overlay holds: its own name last, those of everything it was built on before it.
    fn content(&self, name: &str) -> String {
        self.house.ovl(&["exec", "-o", name, "cat", &format!("/cnt/{name}/f")]).ok().stdout
    }

    /// The overlay is there.
    fn is_built(&self, name: &str) -> bool {
        self.house.image(name).exists()
    }

    /// How often an overlay's build has begun, by the logs.
    fn builds(&self, name: &str) -> usize {
        let stem = format!("{}-", name.replace('/', "--"));
        let logs = self.house.names("home/.local/state/ovl/logs");
        logs.iter().filter(|log| log.starts_with(&stem) && log.ends_with(".log")).count()
    }

    /// Directories of builds at the gate.
    fn at_the_gate(&self) -> Vec<PathBuf> {
        let mut found = Vec::new();
        for work in self.house.names("scratch") {
            let tmp = self.house.path(&format!("scratch/{work}/tmp"));
            if tmp.join("begun").exists() {
                found.push(tmp);
            }
        }
        found
    }

    /// Waits until so many builds are at the gate.
    #[track_caller]
    fn wait_for_gate(&self, builds: usize) {
        self.until("at the gate", || self.at_the_gate().len() >= builds);
    }

    /// Lets those builds go on that are at the gate.
    fn open_gate(&self) {
        for tmp in self.at_the_gate() {
            // One that was killed meanwhile needs it no more.
            let _ = std::fs::write(tmp.join("go"), "");
        }
    }

    /// Looks until something is so.
    #[track_caller]
    fn until(&self, what: &str, so: impl Fn() -> bool) {
        let began = Instant::now();
        while !so() {
            if began.elapsed() > Duration::from_secs(60) {
                let queue = self.squeue("-o '%i %j %T %r'").stdout;
                let status = self.ovl(&["status", "--all"]).stdout;
                let said = shell(&self.house, "tail -n 99 ~/.local/state/ovl/logs/jobs/*").stdout;
                panic!("not {what} within a minute\n{queue}\n{status}\n{said}");
            }
            std::thread::sleep(Duration::from_millis(50));
        }
    }

    fn squeue(&self, args: &str) -> Run {
        shell(&self.house, &format!("timeout 20 squeue -h {args}"))
    }

    /// Jobs of this house that are not over: id, state, reason.
    fn jobs(&self) -> Vec<String> {
        self.listed("-o '%Z %i %T %r'")
    }

    /// Jobs of this house, also those that are over.
    fn all_jobs(&self) -> Vec<String> {
        self.listed("-t all -o '%Z %i %T %r'")
    }

    fn listed(&self, args: &str) -> Vec<String> {
        let home = self.house.dir.display().to_string();
        let all = self.squeue(args).stdout;
        let own = all.lines().filter(|line| line.starts_with(&home));
        own.filter_map(|line| Some(line.split_once(' ')?.1.to_owned())).collect()
    }

    /// Nothing of this house is in the queue, on scratch, mounted, claimed or alive.
    #[track_caller]
    fn is_clean(&self) {
        self.until("out of the queue", || self.jobs().is_empty());
        self.house.settle();
        assert_eq!(self.house.names("scratch"), [""; 0], "left on scratch");
        let images = self.house.names("home/.local/share/ovl/images");
        let left: Vec<&String> =
            images.iter().filter(|file| !file.ends_with(".sqf") && !file.ends_with(".sqf.env")).collect();
        assert!(left.is_empty(), "left beside the images: {left:?}");
        let mounts = std::fs::read_to_string("/proc/self/mountinfo").unwrap();
        assert!(!mounts.contains(&self.house.dir.display().to_string()), "{mounts}");
    }

    /// What `status` says of a step of the newest run that has it.
    #[track_caller]
    fn status(&self, name: &str) -> Value {
        let runs = self.ovl(&["status", "--json", name]).ok().json();
        runs[0]["steps"][0].clone()
    }

    /// Its state.
    #[track_caller]
    fn state(&self, name: &str) -> String {
        self.status(name)["state"].as_str().unwrap_or("none").to_owned()
    }

    /// Its newest job.
    #[track_caller]
    fn job(&self, name: &str) -> String {
        self.status(name)["job"].as_str().unwrap_or_else(|| panic!("{name} has no job")).to_owned()
    }

    #[track_caller]
    fn explain(&self, name: &str) -> String {
        self.ovl(&["explain", name]).ok().stdout
    }
}

impl Drop for Site {
    fn drop(&mut self) {
        let ids: Vec<String> = self.jobs().iter().filter_map(|job| Some(job.split_once(' ')?.0.to_owned())).collect();
        if !ids.is_empty() {
            let _ =
                self.admin(&format!("timeout 20 scancel --full -s KILL {0}; timeout 20 scancel {0}", ids.join(" ")));
        }
    }
}

/// What a command that was started in the background came to.
fn end(child: Child) -> Run {
    Run::of(child.wait_with_output().unwrap())
}

/// The rows of `build --json` or `wait --json` as `name=outcome`.
fn rows(run: &Run) -> Vec<String> {
    let json = run.json();
    let word = |row: &Value, field: &str| row[field].as_str().unwrap_or("-").to_owned();
    json.as_array().unwrap().iter().map(|row| format!("{}={}", word(row, "name"), word(row, "outcome"))).collect()
}
