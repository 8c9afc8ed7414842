//! Configuration: flag > OVL_* variable > user > group > site > /etc > default, each value with its origin.

pub mod file;
pub mod resolve;
pub mod schema;
pub mod value;

use std::path::PathBuf;
use std::time::Duration;

use crate::image::squashfs::codec::Compression;
use crate::model::units;
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

    /// Node-local scratch, when the configuration names one.
    pub fn scratch(&self) -> Option<PathBuf> {
        self.path("dirs.scratch")
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

    /// Threads for packing.
    pub fn jobs(&self) -> usize {
        match self.number("build.jobs") {
            0 => std::thread::available_parallelism().map_or(1, usize::from),
            jobs => jobs as usize,
        }
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

    /// Memory of a build that asks for nothing, in bytes.
    pub fn default_mem(&self) -> u64 {
        self.size("build.defaults.mem")
    }

    /// What lies under the overlays of `exec`.
    pub fn base(&self) -> PathBuf {
        self.path("exec.base").unwrap_or_else(|| PathBuf::from("/"))
    }

    /// Binds for every exec, as written.
    pub fn binds(&self) -> &[String] {
        self.settings.all("exec.bind")
    }

    /// auto, native or apptainer.
    pub fn runtime(&self) -> String {
        self.text("exec.runtime")
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
