//! Configuration: flag > OVL_* variable > user > group > site > /etc > default, each value with its origin.

mod conda;
pub mod edit;
pub mod example;
pub mod file;
pub mod resolve;
pub mod schema;
pub mod value;

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::time::Duration;

use crate::image::squashfs::codec::Compression;
use crate::model::units;
use crate::net::Patience;
use crate::plan::Policy;
use crate::sys::fs::PathError;

pub use resolve::{Origin, Settings};

/// A configuration that cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum ConfigError {
    /// A file that is no valid configuration.
    #[error("{}:{why}", path.display())]
    File {
        /// The file.
        path: PathBuf,
        /// What is wrong, with line and column.
        why: String,
    },
    /// A value that does not fit its key.
    #[error("{key} (from {origin}): {why}")]
    Value {
        /// Where the value was set.
        origin: Origin,
        /// The key.
        key: &'static str,
        /// What is wrong with it.
        why: String,
    },
    /// A file that cannot be read.
    #[error(transparent)]
    Io(#[from] PathError),
}

/// A layer: a directory with images/ and build-scripts/.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LayerDir {
    /// "user", "group", "site" or "extra".
    pub kind: &'static str,
    /// Where it is.
    pub path: PathBuf,
    /// Never written to, by the user's own word.
    pub read_only: bool,
}

/// The settings as typed values.
#[derive(Debug, Clone)]
pub struct Config {
    /// Everything with its origin.
    pub settings: Settings,
}

impl Config {
    /// Loads all sources; `flags` are (key, flag as typed, value).
    pub fn load(flags: &[(&'static str, &'static str, String)]) -> Result<Config, ConfigError> {
        Ok(Config { settings: resolve::resolve(flags)? })
    }

    /// All values, to be frozen into a run.
    pub fn frozen(&self) -> BTreeMap<String, Vec<String>> {
        self.settings.map.iter().map(|(key, setting)| ((*key).to_owned(), setting.values.clone())).collect()
    }

    /// The same with a value that a flag gives; unknown keys are passed over.
    #[must_use]
    pub fn with_flag(mut self, key: &str, flag: &'static str, value: String) -> Config {
        if let Some(key) = schema::find(key) {
            self.settings.map.insert(key.name, resolve::Setting { values: vec![value], origin: Origin::Flag(flag) });
        }
        self
    }

    /// The configuration that was frozen into a run; keys it does not have keep their defaults.
    pub fn thaw(frozen: &BTreeMap<String, Vec<String>>) -> Result<Config, ConfigError> {
        let mut settings = resolve::defaults()?;
        for (name, values) in frozen {
            if let Some(key) = schema::find(name) {
                settings.map.insert(key.name, resolve::Setting { values: values.clone(), origin: Origin::Frozen });
            }
        }
        Ok(Config { settings })
    }

    fn text(&self, key: &str) -> String {
        self.settings.first(key).unwrap_or_default()
    }

    fn path(&self, key: &str) -> Option<PathBuf> {
        self.settings.first(key).map(PathBuf::from)
    }

    fn size(&self, key: &str) -> u64 {
        units::parse_size(&self.text(key)).unwrap_or(0)
    }

    fn number(&self, key: &str) -> u32 {
        self.text(key).parse().unwrap_or(0)
    }

    fn time(&self, key: &str) -> Duration {
        units::parse_time(&self.text(key)).unwrap_or_default()
    }

    /// The layers, first looked at first: user, group, site, extra.
    pub fn layers(&self) -> Vec<LayerDir> {
        let mut layers = Vec::new();
        for (kind, key) in
            [("user", "layers.user"), ("group", "layers.group"), ("site", "layers.site"), ("extra", "layers.extra")]
        {
            for text in self.settings.all(key) {
                let (path, read_only) = match text.strip_suffix(":ro") {
                    Some(path) => (path, true),
                    None => (text.as_str(), false),
                };
                layers.push(LayerDir { kind, path: path.into(), read_only });
            }
        }
        layers
    }

    /// Where logs and history live.
    pub fn state_dir(&self) -> PathBuf {
        self.path("dirs.state").unwrap_or_else(|| PathBuf::from("/tmp/ovl-state"))
    }

    /// Where build logs go.
    pub fn logs_dir(&self) -> PathBuf {
        self.path("dirs.logs").unwrap_or_else(|| self.state_dir().join("logs"))
    }

    /// Where downloads are kept.
    pub fn cache_dir(&self) -> PathBuf {
        self.path("dirs.cache").unwrap_or_else(|| PathBuf::from("/tmp/ovl-cache"))
    }

    /// Node-local scratch, when the configuration names one.
    pub fn scratch(&self) -> Option<PathBuf> {
        self.path("dirs.scratch")
    }

    /// Where reference data is built, when the configuration names a place.
    pub fn data_scratch(&self) -> Option<PathBuf> {
        self.path("dirs.data_scratch")
    }

    /// Whether sources of queued builds are fetched before they are submitted.
    pub fn prefetch(&self) -> bool {
        self.text("build.prefetch") == "true"
    }

    /// Nothing is to be fetched.
    pub fn offline(&self) -> bool {
        self.text("net.offline") == "true"
    }

    /// How patient transfers are.
    pub fn patience(&self) -> Patience {
        let silence = self.time("net.timeout").max(Duration::from_secs(1));
        Patience { silence, tries: self.number("net.tries").clamp(1, 1000) }
    }

    /// auto, native or apptainer.
    pub fn def_engine(&self) -> String {
        self.text("build.def_engine")
    }

    /// auto, dir or ext3.
    pub fn stage(&self) -> String {
        self.text("build.stage")
    }

    /// Largest content of an ext3 stage, in bytes.
    pub fn stage_size(&self) -> u64 {
        self.size("build.stage_size")
    }

    /// Compressor and level.
    pub fn compression(&self) -> Compression {
        self.text("build.comp").parse().unwrap_or_default()
    }

    /// SquashFS block size for applications or data, in bytes.
    pub fn block_size(&self, data: bool) -> u32 {
        let size = self.size(if data { "build.data_block_size" } else { "build.block_size" });
        u32::try_from(size).unwrap_or(128 << 10)
    }

    /// Whether install() sees the host's network when nothing else says.
    pub fn network_host(&self) -> bool {
        self.text("build.network") == "host"
    }

    /// Longest time of one build.
    pub fn timeout(&self) -> Option<Duration> {
        Some(self.time("build.timeout")).filter(|limit| !limit.is_zero())
    }

    /// How long a claim outlives its last heartbeat.
    pub fn lease(&self) -> Duration {
        self.time("build.lease").max(Duration::from_secs(5))
    }

    /// Builds that run here at once.
    pub fn jobs(&self) -> usize {
        self.number("build.jobs").max(1) as usize
    }

    /// Memory that builds here may use together, in bytes; None: as the machine allows.
    pub fn local_mem(&self) -> Option<u64> {
        Some(self.size("build.mem")).filter(|bytes| *bytes > 0)
    }

    /// Threads for packing, for a build with this many CPUs.
    pub fn pack_threads(&self, cpus: u32) -> usize {
        match self.number("build.pack_threads") {
            0 => cpus.max(1) as usize,
            threads => threads as usize,
        }
    }

    /// What goes to the scheduler, and who says so.
    pub fn submit(&self) -> (Policy, String) {
        let policy = match self.text("build.submit").as_str() {
            "never" => Policy::Never,
            "always" => Policy::Always,
            _ => Policy::Auto,
        };
        let said = match self.settings.map.get("build.submit").map(|setting| &setting.origin) {
            Some(Origin::Flag(flag)) => (*flag).to_owned(),
            Some(origin) => format!("build.submit: {} ({origin})", self.text("build.submit")),
            None => String::new(),
        };
        (policy, said)
    }

    /// Registries that are asked for a build's result before it is built.
    pub fn prebuilt(&self) -> &[String] {
        self.settings.all("build.prebuilt")
    }

    /// The registry of references that name none.
    pub fn registry(&self) -> Option<String> {
        self.settings.first("registry.default")
    }

    /// Registries that may be spoken to without encryption.
    pub fn insecure_registries(&self) -> &[String] {
        self.settings.all("registry.insecure")
    }

    /// auto, a scheduler's word or none.
    pub fn scheduler(&self) -> String {
        self.text("sched.kind")
    }

    /// Partition of jobs whose recipe names none.
    pub fn partition(&self) -> Option<String> {
        self.settings.first("sched.partition")
    }

    /// Account of jobs whose recipe names none.
    pub fn account(&self) -> Option<String> {
        self.settings.first("sched.account")
    }

    /// Quality of service of jobs whose recipe names none.
    pub fn qos(&self) -> Option<String> {
        self.settings.first("sched.qos")
    }

    /// Further flags for every job.
    pub fn sched_args(&self) -> &[String] {
        self.settings.all("sched.args")
    }

    /// How long to wait for the scheduler's commands.
    pub fn sched_timeout(&self) -> Duration {
        self.time("sched.timeout").max(Duration::from_secs(1))
    }

    /// Jobs that are submitted at the same time.
    pub fn submitters(&self) -> usize {
        self.number("sched.submitters").clamp(1, 32) as usize
    }

    /// How long records of finished runs are kept; None: for ever.
    pub fn history_keep(&self) -> Option<Duration> {
        Some(self.time("history.keep")).filter(|time| !time.is_zero())
    }

    /// Bytes in flight while packing.
    pub fn pack_memory(&self) -> usize {
        usize::try_from(self.size("build.pack_memory")).unwrap_or(64 << 20).max(4 << 20)
    }

    /// Whether a replaced overlay is kept.
    pub fn keep_previous(&self) -> bool {
        self.text("build.keep_previous") == "true"
    }

    /// CPUs of a build that asks for nothing, within what this process may use.
    pub fn default_cpus(&self) -> u32 {
        let here = std::thread::available_parallelism().map_or(1, usize::from);
        self.number("build.defaults.cpus").clamp(1, u32::try_from(here).unwrap_or(1))
    }

    /// CPUs of a build that asks for nothing, as configured.
    pub fn asked_cpus(&self) -> u32 {
        self.number("build.defaults.cpus").max(1)
    }

    /// Time limit of a job that asks for nothing; zero: none.
    pub fn default_time(&self) -> Duration {
        self.time("build.defaults.time")
    }

    /// Memory of a build that asks for nothing, in bytes.
    pub fn default_mem(&self) -> u64 {
        self.size("build.defaults.mem")
    }

    /// What lies under the overlays of `exec`.
    pub fn base(&self) -> PathBuf {
        self.path("exec.base").unwrap_or_else(|| PathBuf::from("/"))
    }

    /// Where systems can be had that others have built, as written.
    pub fn prebuilt_bases(&self) -> &[String] {
        self.settings.all("base.prebuilt")
    }

    /// Binds for every exec, as written.
    pub fn binds(&self) -> &[String] {
        self.settings.all("exec.bind")
    }

    /// Where wrappers go.
    pub fn wrap_dir(&self) -> PathBuf {
        self.path("wrap.dir").unwrap_or_else(|| PathBuf::from("/tmp/ovl-bin"))
    }

    /// auto, nvidia, rocm or none.
    pub fn gpu(&self) -> String {
        self.text("exec.gpu")
    }

    /// A list of what NVIDIA's driver consists of.
    pub fn nvliblist(&self) -> Option<PathBuf> {
        self.path("exec.nvliblist")
    }

    /// auto, native, apptainer or singularity.
    pub fn runtime(&self) -> String {
        self.text("exec.runtime")
    }

    /// What starts several tasks of a script: auto, none or a command.
    pub fn launcher(&self) -> String {
        self.text("run.launcher")
    }

    /// How progress is told: auto, bars, plain, json or none.
    pub fn progress(&self) -> String {
        self.text("ui.progress")
    }

    /// auto, always or never.
    pub fn color(&self) -> String {
        self.text("ui.color")
    }
}
