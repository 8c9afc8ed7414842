//! A solved environment: every package by its record. It is frozen into a step, so that a node without network never
//! solves again, and kept in the overlay as a lock file.

use std::collections::BTreeMap;

use rattler_conda_types::{PackageRecord, RepoDataRecord, Subdir};
use rattler_lock::{CondaPackageData, DEFAULT_ENVIRONMENT_NAME, LockFile, PlatformData, PlatformName};
use serde::{Deserialize, Serialize};

use crate::model::loc::Loc;
use crate::recipe::conda::{Content, Environment};
use crate::recipe::spec::At;

/// The lock file's name in an overlay, beside its metadata: `/cnt/NAME/.ovl/conda.lock`.
pub const FILE: &str = "conda.lock";

/// Packages that make an environment.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Locked {
    /// What the packages are for.
    pub platform: Subdir,
    /// Addresses of the channels they were taken from, first one first; without credentials.
    pub channels: Vec<String>,
    /// The packages, each after what it depends on. Those of explicit lists are in the order of the list, and know no
    /// more than an address tells: their dependencies are empty.
    pub records: Vec<RepoDataRecord>,
    /// What pip is to install afterwards, as it stands in the environment's file.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub pip: Vec<String>,
    /// Variables that the environment sets.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub variables: BTreeMap<String, String>,
}

/// A lock file that cannot be used, or not be written.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct BadLock(pub String);

impl Locked {
    /// Puts the packages in order, each after what it depends on; the same packages always come out the same.
    pub fn sort(&mut self) {
        self.records = PackageRecord::sort_topologically(std::mem::take(&mut self.records));
    }

    /// As an explicit list, which conda, mamba and micromamba read: addresses with digests in the order of linking.
    pub fn to_explicit(&self) -> String {
        let mut text = format!("# platform: {}\n@EXPLICIT\n", self.platform);
        for record in &self.records {
            text.push_str(record.url.as_str());
            match (&record.package_record.sha256, &record.package_record.md5) {
                (Some(sha256), _) => text.push_str(&format!("#sha256:{}", hex(sha256))),
                (None, Some(md5)) => text.push_str(&format!("#{}", hex(md5))),
                (None, None) => {}
            }
            text.push('\n');
        }
        text
    }

    /// As a lock file in the format of pixi and rattler. It has no place for what pip was only asked for.
    pub fn to_lock_file(&self) -> Result<String, BadLock> {
        let bad = |error: &dyn std::fmt::Display| BadLock(format!("the environment fits no lock file: {error}"));
        let platform = self.platform.as_str();
        let data = PlatformData {
            name: PlatformName::from(&self.platform),
            subdir: self.platform,
            virtual_packages: Vec::new(),
        };
        let mut builder = LockFile::builder().add_platform(data).map_err(|error| bad(&error))?;
        builder.set_channels(DEFAULT_ENVIRONMENT_NAME, self.channels.iter().cloned());
        let added = builder.add_environment_platform(DEFAULT_ENVIRONMENT_NAME, platform).map(|_| ());
        added.map_err(|error| bad(&error))?;
        for record in &self.records {
            let data = CondaPackageData::from(record.clone());
            builder.add_conda_package(DEFAULT_ENVIRONMENT_NAME, platform, data).map_err(|error| bad(&error))?;
        }
        builder.finish().render_to_string().map_err(|error| bad(&error))
    }

    /// As the text of an environment: every package with version and build, sorted by name.
    pub fn to_environment(&self) -> String {
        let at = |value: String| At { loc: Loc::new("", 1, 1), value };
        let pinned = |record: &RepoDataRecord| {
            let one = &record.package_record;
            format!("{}={}={}", one.name.as_normalized(), one.version, one.build)
        };
        let mut wishes: Vec<String> = self.records.iter().map(pinned).collect();
        wishes.sort();
        let environment = Environment {
            content: Content::Wishes(wishes.into_iter().map(at).collect()),
            channels: self.channels.iter().map(|url| at(url.trim_end_matches('/').to_owned())).collect(),
            platform: None,
            pip: self.pip.iter().cloned().map(at).collect(),
            variables: self.variables.clone().into_iter().collect(),
        };
        environment.to_yaml()
    }

    /// The only platform that a lock file is about; None where it is about several, or cannot be read.
    pub fn platform_of(text: &str) -> Option<Subdir> {
        let file = LockFile::from_str_with_base_directory(text, None).ok()?;
        let mut all = file.platforms();
        let only = all.next()?.subdir();
        all.next().is_none().then_some(only)
    }

    /// From a lock file of pixi, rattler or conda-lock: its default environment (else its only one) for a platform.
    ///
    /// Packages that are built from sources or come from the Python package index are refused: they are not what a
    /// channel holds.
    pub fn from_lock_file(text: &str, platform: Subdir) -> Result<Locked, BadLock> {
        let bad = |why: String| BadLock(why);
        let file = LockFile::from_str_with_base_directory(text, None)
            .map_err(|error| bad(format!("it is no lock file that can be read: {error}")))?;
        let mut all = file.environments();
        let environment = match (file.default_environment(), all.next(), all.next()) {
            (Some(default), ..) => default,
            (None, Some((_, only)), None) => only,
            (None, None, _) => return Err(bad("it holds no environment".into())),
            (None, Some(_), Some(_)) => {
                return Err(bad("it holds several environments, and none is called 'default'".into()));
            }
        };
        let mut known: Vec<String> = environment.platforms().map(|known| known.subdir().to_string()).collect();
        known.sort();
        let Some(of) = environment.platforms().find(|known| known.subdir() == platform) else {
            return Err(bad(format!("it has nothing for {platform}, only for {}", known.join(", "))));
        };
        if let Some(foreign) = environment.pypi_packages(of).and_then(|mut pypi| pypi.next()) {
            return Err(bad(format!(
                "{} comes from the Python package index: name it under pip: in an environment file instead",
                foreign.name()
            )));
        }
        let source = environment.conda_packages(of).and_then(|mut all| all.find(|one| one.as_binary().is_none()));
        if let Some(source) = source {
            return Err(bad(format!("{} is to be built from its source", source.name().as_source())));
        }
        let records = environment.conda_repodata_records(of).map_err(|error| bad(error.to_string()))?;
        let mut locked = Locked {
            platform,
            channels: environment.channels().iter().map(|channel| channel.url.clone()).collect(),
            records: records.unwrap_or_default(),
            pip: Vec::new(),
            variables: BTreeMap::new(),
        };
        locked.sort();
        Ok(locked)
    }
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    const SHA: &str = "00112233445566778899aabbccddeeff00112233445566778899aabbccddeeff";

    #[test]
    fn lock_files_of_conda_lock_are_read() {
        let text = format!(
            "version: 1\nmetadata:\n  content_hash:\n    linux-64: {SHA}\n  channels:\n  - url: conda-forge\n    \
             used_env_vars: []\n  platforms:\n  - linux-64\n  sources:\n  - environment.yml\npackage:\n\
             - name: zlib\n  version: '1.3'\n  manager: conda\n  platform: linux-64\n  dependencies: {{}}\n  \
             url: https://h.example/c/linux-64/zlib-1.3-h0_0.conda\n  hash:\n    sha256: {SHA}\n  category: main\n  \
             optional: false\n"
        );
        let locked = Locked::from_lock_file(&text, Subdir::Linux64).unwrap();
        assert_eq!(
            locked.to_explicit(),
            format!("# platform: linux-64\n@EXPLICIT\nhttps://h.example/c/linux-64/zlib-1.3-h0_0.conda#sha256:{SHA}\n")
        );
        assert_eq!(Locked::platform_of(&text), Some(Subdir::Linux64));
    }

    #[test]
    fn what_is_no_lock_file_is_told() {
        for text in ["", "version: 6", "version: 6\npackages: 3\n", "version: 6\nenvironments: {}\npackages: []\n"] {
            assert!(Locked::from_lock_file(text, Subdir::Linux64).is_err(), "{text:?}");
        }
        let pypi = format!(
            "version: 6\nenvironments:\n  default:\n    channels:\n    - url: https://h.example/c/\n    packages:\n      \
             linux-64:\n      - pypi: https://p.example/a-1.0-py3-none-any.whl\npackages:\n\
             - pypi: https://p.example/a-1.0-py3-none-any.whl\n  name: a\n  version: '1.0'\n  sha256: {SHA}\n"
        );
        let error = Locked::from_lock_file(&pypi, Subdir::Linux64).unwrap_err().to_string();
        assert!(error.starts_with("a comes from the Python package index"), "{error}");
    }
}
