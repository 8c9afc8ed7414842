//! A real Slurm for tests: the one that `tests/run` starts for all of them, or one of a test's own (half a second) where
//! it stops the controller, loses a node or needs another configuration.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::atomic::{AtomicU32, Ordering};

use super::house::{House, Run, finish};

/// A Slurm that the house's commands talk to.
pub struct Slurm {
    dir: PathBuf,
    own: bool,
}

/// Says why a test is skipped, unless `tests/run` told that none may be.
fn skip(why: &str) -> Option<Slurm> {
    super::missing(why);
    None
}

impl Slurm {
    /// The Slurm of all tests: partitions short (default, 1 h) and long (1 d) of two nodes each, 4 CPUs and 4000 MiB
    /// per node, KillWait 5 s. None: there is none, and the reason is printed.
    pub fn shared(house: &House) -> Option<Slurm> {
        let Some(dir) = std::env::var_os("OVL_TEST_SLURM") else {
            return skip("OVL_TEST_SLURM is not set; tests/run starts a Slurm and sets it");
        };
        Some(Slurm { dir: dir.into(), own: false }.join(house))
    }

    /// A Slurm of the test's own, with lines for slurm.conf (`MinJobAge=2`). None: it cannot be had here.
    pub fn own(house: &House, conf: &[&str]) -> Option<Slurm> {
        static COUNT: AtomicU32 = AtomicU32::new(0);
        if !nix::unistd::geteuid().is_root() {
            return skip("only root can start a Slurm");
        }
        if !Path::new("/usr/sbin/slurmctld").exists() || !Path::new("/usr/sbin/munged").exists() {
            return skip("slurmctld or munged is not installed");
        }
        let number = COUNT.fetch_add(1, Ordering::Relaxed);
        let dir = std::env::temp_dir().join(format!("ovl-slurm-{}-{number}", std::process::id()));
        let slurm = Slurm { dir, own: true };
        slurm.ctl("up", conf).ok();
        Some(slurm.join(house))
    }

    fn join(self, house: &House) -> Slurm {
        house.set("SLURM_CONF", self.dir.join("slurm.conf").to_string_lossy());
        self
    }

    /// Its directory: `slurm.conf`, logs.
    pub fn dir(&self) -> &Path {
        &self.dir
    }

    /// `stop-ctld`, `start-ctld`, `restart-ctld`, `node-down NODE`, `node-up NODE` (nodes n1 to n4); only for a Slurm of
    /// one's own.
    pub fn ctl(&self, action: &str, more: &[&str]) -> Run {
        assert!(self.own, "this Slurm belongs to all tests");
        let mut command = Command::new(Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/support/slurm.sh"));
        command.arg(action).arg(&self.dir).args(more);
        finish(command)
    }
}

impl Drop for Slurm {
    fn drop(&mut self) {
        if self.own {
            let _ = self.ctl("down", &[]);
        }
    }
}
