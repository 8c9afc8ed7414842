//! What a recipe's functions see: a read-only host, their dependencies, exactly the documented variables, and nothing
//! writable but `$target_dir` and `$tmp_dir`.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::path::{Path, PathBuf};

use crate::exec::environ::{self, LayerEnv};
use crate::exec::{Invocation, Isolation, Mount, Network};
use crate::model::name::Name;
use crate::sys::{env, host};

/// Where ovl's own files are inside: driver, helpers, recipe.
pub const CONTROL: &str = "/.ovl";
/// `$tmp_dir` inside.
pub const TMP: &str = "/tmp";
/// `$src_dir` inside.
pub const SOURCES: &str = "/.ovl-src";

/// What a phase's sandbox is made from; all paths are the host's.
#[derive(Debug, Clone)]
pub struct Sandbox {
    /// The overlay being built.
    pub name: Name,
    /// Images of dependencies (and, for checks, the new one), lowest first.
    pub layers: Vec<PathBuf>,
    /// What those contribute to the environment, in the same order.
    pub layer_env: Vec<LayerEnv>,
    /// Directory with driver, helpers and recipe.
    pub control: PathBuf,
    /// The directory behind `$tmp_dir`.
    pub tmp: PathBuf,
    /// The directory behind `$src_dir`, and whether this phase may write to it.
    pub sources: Option<(PathBuf, bool)>,
    /// Files to show in it, read-only: the host's path, and the place inside.
    pub inputs: Vec<(PathBuf, String)>,
    /// Programs to show, read-only, over files that are there: the host's path, and the place inside.
    pub programs: Vec<(PathBuf, String)>,
    /// The directory to show at a place inside, writable: the target or its parent.
    pub target: Option<(PathBuf, String)>,
    /// Where images are unpacked when they cannot be mounted.
    pub scratch: PathBuf,
    /// CPUs.
    pub cpus: u32,
    /// Memory in bytes.
    pub mem: u64,
    /// Further variables, over all others.
    pub vars: Vec<(String, String)>,
    /// Network.
    pub network: Network,
    /// `SOURCE_DATE_EPOCH`.
    pub epoch: i64,
}

/// Proxy settings matter only where there is a network (row P36).
const PROXIES: [&str; 8] =
    ["http_proxy", "https_proxy", "ftp_proxy", "no_proxy", "HTTP_PROXY", "HTTPS_PROXY", "FTP_PROXY", "NO_PROXY"];

impl Sandbox {
    /// The invocation that runs `argv` in it.
    pub fn invocation(&self, argv: Vec<OsString>) -> Invocation {
        Invocation {
            layers: self.layers.clone(),
            mounts: self.mounts(),
            isolation: Isolation { read_only: true, processes: true, network: self.network },
            scratch: self.scratch.clone(),
            cwd: TMP.into(),
            env: self.env(),
            argv,
            ..Invocation::default()
        }
    }

    fn mounts(&self) -> Vec<Mount> {
        let mut mounts = Vec::new();
        let home = env::var_os("HOME").map(PathBuf::from);
        let mut homes: Vec<PathBuf> = [home, host::home_dir()].into_iter().flatten().collect();
        homes.retain(|home| home.is_dir() && home != Path::new("/"));
        // One of them may lie below the other, and is hidden with it.
        homes.sort();
        // What lies below the temporary directories is hidden by what is bound over those.
        let mut hidden: Vec<PathBuf> = Vec::new();
        for home in homes {
            let temporary = home.starts_with("/tmp") || home.starts_with("/var/tmp");
            if !temporary && !hidden.iter().any(|above| home.starts_with(above)) {
                mounts.push(Mount::Tmpfs { target: home.clone(), mode: 0o755, writable: false });
                hidden.push(home);
            }
        }
        let bind = |source: &Path, target: &str, writable| Mount::Bind {
            source: source.into(),
            target: target.into(),
            writable,
        };
        mounts.push(Mount::Tmpfs { target: "/dev/shm".into(), mode: 0o1777, writable: true });
        mounts.push(bind(&self.tmp, TMP, true));
        if Path::new("/var/tmp").is_dir() {
            mounts.push(bind(&self.tmp, "/var/tmp", true));
        }
        mounts.push(bind(&self.control, CONTROL, false));
        mounts.extend(self.programs.iter().map(|(path, inside)| bind(path, inside, false)));
        if let Some((path, writable)) = &self.sources {
            mounts.push(bind(path, SOURCES, *writable));
            mounts.extend(self.inputs.iter().map(|(path, inside)| bind(path, inside, false)));
        }
        if let Some((path, inside)) = &self.target {
            mounts.push(bind(path, inside, true));
        }
        mounts
    }

    /// The documented variables, what dependencies export, and nothing else.
    fn env(&self) -> Vec<(OsString, OsString)> {
        let megabytes = (self.mem >> 20).max(1);
        let text = |text: &str| text.to_owned();
        let mut set: Vec<(String, String)> = vec![
            (text("NCPUS"), self.cpus.to_string()),
            (text("OMP_NUM_THREADS"), self.cpus.to_string()),
            (text("MEM"), megabytes.to_string()),
            (text("MEM_GB"), (megabytes / 1024).max(1).to_string()),
            (text("app_name"), self.name.stem()),
            (text("version"), text(self.name.version())),
            (text("app_name_version"), self.name.to_string()),
            (text("target_dir"), self.name.root()),
            (text("tmp_dir"), text(TMP)),
            (text("TMPDIR"), text(TMP)),
            (text("SOURCE_DATE_EPOCH"), self.epoch.to_string()),
        ];
        if self.sources.is_some() {
            set.push((text("src_dir"), text(SOURCES)));
        }
        if self.network == Network::Host {
            set.extend(PROXIES.iter().filter_map(|name| Some((text(name), env::var(name)?))));
        }
        set.extend(self.vars.iter().cloned());
        let user = host::user();
        let base: BTreeMap<OsString, OsString> = [
            ("PATH", environ::DEFAULT_PATH),
            ("HOME", "/tmp/home"),
            ("USER", &user),
            ("LOGNAME", &user),
            ("LANG", "C.UTF-8"),
            ("LC_ALL", "C.UTF-8"),
            ("SHELL", "/bin/bash"),
            ("TERM", "dumb"),
        ]
        .into_iter()
        .map(|(name, value)| (name.into(), value.into()))
        .collect();
        environ::environment(&base, false, &self.layer_env, &set)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn exactly_the_documented_variables() {
        let sandbox = Sandbox {
            name: "grch38/gtf-gencode/47".parse().unwrap(),
            layers: vec![],
            layer_env: vec![],
            control: "/w/ctl".into(),
            tmp: "/w/tmp".into(),
            sources: None,
            inputs: vec![],
            programs: vec![],
            target: None,
            scratch: "/tmp".into(),
            cpus: 8,
            mem: 16 << 30,
            vars: vec![],
            network: Network::None,
            epoch: 7,
        };
        let env = sandbox.invocation(vec![]).env;
        let lines: Vec<String> =
            env.iter().map(|(name, value)| format!("{}={}", name.to_string_lossy(), value.to_string_lossy())).collect();
        let user = host::user();
        let expected = format!(
            "HOME=/tmp/home IN_CONDATAINER=1 IN_OVL=1 LANG=C.UTF-8 LC_ALL=C.UTF-8 LOGNAME={user} MEM=16384 MEM_GB=16 NCPUS=8 \
             OMP_NUM_THREADS=8 PATH={} SHELL=/bin/bash SOURCE_DATE_EPOCH=7 TERM=dumb TMPDIR=/tmp USER={user} \
             app_name=grch38/gtf-gencode app_name_version=grch38/gtf-gencode/47 target_dir=/cnt/grch38/gtf-gencode/47 \
             tmp_dir=/tmp version=47",
            environ::DEFAULT_PATH
        );
        assert_eq!(lines.join(" "), expected);
    }
}
