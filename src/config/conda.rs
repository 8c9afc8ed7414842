//! What the configuration says of conda.

use std::path::PathBuf;

use super::Config;

impl Config {
    /// Channels asked when nothing names others, as written; none (also the word): conda is never asked of itself.
    pub fn conda_channels(&self) -> &[String] {
        match self.settings.all("conda.channels") {
            [word] if word == "none" => &[],
            channels => channels,
        }
    }

    /// Where channels lie that are given by name.
    pub fn conda_alias(&self) -> String {
        self.text("conda.channel_alias")
    }

    /// Whether a package comes from the first channel that has it.
    pub fn conda_strict(&self) -> bool {
        self.text("conda.priority") == "strict"
    }

    /// The platform that packages are for; None: this machine's.
    pub fn conda_platform(&self) -> Option<String> {
        self.settings.first("conda.platform").filter(|word| !word.is_empty())
    }

    /// Virtual packages as written: `cuda=12.4`.
    pub fn conda_overrides(&self) -> &[String] {
        self.settings.all("conda.overrides")
    }

    /// Whether micromamba makes environments, instead of ovl itself.
    pub fn conda_micromamba(&self) -> bool {
        self.text("conda.backend") == "micromamba"
    }

    /// Where archives of conda packages are; none: below [`Config::cache_dir`].
    pub fn conda_pkgs_dirs(&self) -> Vec<PathBuf> {
        self.settings.all("conda.pkgs_dirs").iter().map(PathBuf::from).collect()
    }
}
