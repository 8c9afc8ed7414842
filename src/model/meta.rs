//! What an overlay says about itself: the metadata embedded at `/cnt/<name>/<version>/.ovl/meta.json`.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::env::EnvVar;
use super::name::Name;

/// Directory of ovl's own files below an overlay's root.
pub const DIR: &str = ".ovl";
/// The metadata in it.
pub const META: &str = "meta.json";
/// The recipe in it, exactly as it was built from.
pub const RECIPE: &str = "recipe";

/// The kind of overlays that are whole systems, with a root directory of their own.
pub const SYSTEM: &str = "system";

/// The embedded metadata. Field order is the order in the file; the first five are row G30's.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Meta {
    /// The overlay's version.
    pub version: String,
    /// When it was built, RFC 3339, UTC; `SOURCE_DATE_EPOCH` or the recipe's own time, so that equal builds are equal.
    pub build_date: String,
    /// Commit of the git checkout the recipe lies in.
    pub git_commit: Option<String>,
    /// Branch of that checkout.
    pub git_branch: Option<String>,
    /// The full name, as a title.
    pub release_name: String,
    /// Whether the recipe differed from that commit.
    #[serde(default)]
    pub git_dirty: bool,
    /// Version of this format.
    pub format: u32,
    /// The overlay's name.
    pub name: Name,
    /// "app", "data" or [`SYSTEM`].
    pub kind: String,
    /// What it is (`#WHATIS`).
    #[serde(default)]
    pub whatis: Option<String>,
    /// Where it comes from (`#URL`).
    #[serde(default)]
    pub url: Option<String>,
    /// What decides whether it is up to date.
    pub inputs: Inputs,
    /// `sha256:` over the inputs.
    pub key: String,
    /// What was fetched for it (`#SRC`), with its digests.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub sources: Vec<SourcePin>,
    /// Exported variables, symbolic.
    #[serde(default)]
    pub env: Vec<EnvVar>,
    /// `#LABEL` values.
    #[serde(default)]
    pub labels: BTreeMap<String, String>,
    /// Where the recipe came from: a path, or `built-in`.
    pub recipe_source: String,
    /// Host that built it.
    pub host: String,
    /// Platform, as in `linux/amd64`.
    pub platform: String,
    /// Version of ovl.
    pub ovl: String,
    /// Compressor and level.
    pub compression: String,
    /// SquashFS block size in bytes.
    pub block_size: u32,
    /// Network that install() saw.
    pub network: String,
}

/// Everything that decides whether an overlay is up to date.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Inputs {
    /// `sha256:` of the recipe's bytes.
    pub recipe: String,
    /// Dependencies in declared order with the `sha256:` of the image each was built with.
    pub dependencies: Vec<Dependency>,
    /// Of a conda environment: what beside its text decides about its packages.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub conda: Option<Channels>,
}

/// Where the packages of a conda environment come from and what they are for, flags and configuration included.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Channels {
    /// Addresses of the channels, first one first; none where packages are named by their addresses.
    pub channels: Vec<String>,
    /// The platform, as in `linux-64`.
    pub platform: String,
    /// Whether a package comes from the first channel that has it.
    pub strict: bool,
    /// Virtual packages that the configuration sets.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub overrides: Vec<String>,
}

/// One dependency as it was used.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Dependency {
    /// Its name.
    pub name: Name,
    /// `sha256:` of its image.
    pub digest: String,
    /// Only while building (`#BUILDDEP`): not mounted when the overlay is used.
    #[serde(default)]
    pub build_only: bool,
}

/// A file as it was fetched.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct SourcePin {
    /// Its address, without anything secret.
    pub url: String,
    /// `sha256:` of it, or for a git checkout `commit:`.
    pub digest: String,
    /// Bytes.
    pub bytes: u64,
    /// What it was called in `$src_dir`.
    pub name: String,
}

/// Why something is to be built.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", tag = "why")]
pub enum Why {
    /// It is not there.
    Missing,
    /// The recipe's bytes differ.
    RecipeChanged,
    /// Channels, their priority or the platform of a conda environment differ.
    ChannelsChanged,
    /// A dependency is another image than it was.
    DependencyRebuilt {
        /// Which.
        name: Name,
    },
    /// Dependencies were added, removed or reordered.
    DependenciesChanged,
    /// It carries no metadata of ovl's.
    NoMetadata,
    /// It is no readable image.
    Damaged,
    /// The user asked for it.
    Forced,
}

impl std::fmt::Display for Why {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Why::Missing => f.write_str("not built yet"),
            Why::RecipeChanged => f.write_str("the recipe has changed"),
            Why::ChannelsChanged => f.write_str("its channels or its platform have changed"),
            Why::DependencyRebuilt { name } => write!(f, "its dependency {name} was rebuilt"),
            Why::DependenciesChanged => f.write_str("its dependencies have changed"),
            Why::Damaged => f.write_str("the file that is there is no readable image"),
            Why::NoMetadata => f.write_str("it carries no metadata to compare with"),
            Why::Forced => f.write_str("asked for"),
        }
    }
}

impl Inputs {
    /// The first difference to what is wanted now, if any.
    pub fn differs_from(&self, wanted: &Inputs) -> Option<Why> {
        if self.recipe != wanted.recipe {
            return Some(Why::RecipeChanged);
        }
        // Overlays of old do not tell.
        if let (Some(old), Some(new)) = (&self.conda, &wanted.conda)
            && old != new
        {
            return Some(Why::ChannelsChanged);
        }
        let names = |inputs: &Inputs| inputs.dependencies.iter().map(|dep| dep.name.clone()).collect::<Vec<_>>();
        if names(self) != names(wanted) {
            return Some(Why::DependenciesChanged);
        }
        let rebuilt = self.dependencies.iter().zip(&wanted.dependencies).find(|(old, new)| old.digest != new.digest);
        rebuilt.map(|(_, new)| Why::DependencyRebuilt { name: new.name.clone() })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn inputs(recipe: &str, deps: &[(&str, &str)]) -> Inputs {
        let dependency = |(name, digest): &(&str, &str)| Dependency {
            name: name.parse().unwrap(),
            digest: (*digest).into(),
            build_only: false,
        };
        Inputs { recipe: recipe.into(), dependencies: deps.iter().map(dependency).collect(), conda: None }
    }

    #[test]
    fn the_difference_is_named() {
        let old = inputs("r", &[("a/1", "x"), ("b/1", "y")]);
        assert_eq!(old.differs_from(&old), None);
        assert_eq!(old.differs_from(&inputs("s", &[])), Some(Why::RecipeChanged));
        assert_eq!(old.differs_from(&inputs("r", &[("b/1", "y"), ("a/1", "x")])), Some(Why::DependenciesChanged));
        let of = |channel: &str| {
            let (channels, platform) = (vec![channel.to_owned()], "linux-64".to_owned());
            let conda = Some(Channels { channels, platform, strict: true, overrides: Vec::new() });
            Inputs { conda, ..old.clone() }
        };
        assert_eq!(of("a").differs_from(&of("b")), Some(Why::ChannelsChanged));
        assert_eq!((of("a").differs_from(&of("a")), old.differs_from(&of("a"))), (None, None));
        assert!(!serde_json::to_string(&old).unwrap().contains("conda"), "keys of other recipes stay what they were");
        let rebuilt = old.differs_from(&inputs("r", &[("a/1", "x"), ("b/1", "z")])).unwrap();
        assert_eq!(rebuilt.to_string(), "its dependency b/1 was rebuilt");
    }
}
