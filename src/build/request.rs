//! What the user asked of a build, as values.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::conda::Wishes;
use crate::exec::Network;
use crate::image::squashfs::codec::Compression;
use crate::model::meta::Why;
use crate::model::name::Name;
use crate::model::resources::Resources;
use crate::store::recipes::Place;

/// What to build and how.
#[derive(Debug, Clone, Default)]
pub struct Request {
    /// The overlays asked for.
    pub targets: Vec<Name>,
    /// A recipe given directly for the only target: `-f FILE`, or made from packages.
    pub given: Option<Place>,
    /// The file to publish the only target as, instead of one in a layer (`--prefix`).
    pub out: Option<PathBuf>,
    /// Targets that come from this channel, recipe or not (`channel::name/version`).
    pub channels: BTreeMap<Name, String>,
    /// What flags say of conda.
    pub conda: Wishes,
    /// Rebuild what is there (`--update`).
    pub update: bool,
    /// Do not build missing dependencies (`--no-deps`).
    pub no_deps: bool,
    /// Which layer to write to.
    pub layer: Option<String>,
    /// Directives are not interpreted but handed to the scheduler as they are (`--passthrough`, row C47).
    pub passthrough: bool,
    /// Resources given by flags; over the recipes'.
    pub resources: Resources,
    /// Arguments of definition files (`--build-arg`).
    pub arguments: crate::recipe::Arguments,
    /// Definitions from remotes may run scripts on this host and copy its files (`--trust-setup`).
    pub trust_setup: bool,
    /// How each step is built.
    pub options: Options,
}

/// How one step is built; travels with it to wherever that is.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Options {
    /// Longest time for one build; over `#TIMEOUT` and the configuration.
    pub timeout: Option<Duration>,
    /// Network of install(); over `#NET` and the configuration.
    pub network: Option<Network>,
    /// Compressor; over the configuration.
    pub compression: Compression,
    /// Block size in bytes; over the configuration.
    pub block_size: Option<u32>,
    /// Keep file owners instead of making everything root's.
    pub keep_owners: bool,
    /// Keep the working directory of a failed build.
    pub keep_failed: bool,
    /// Wait for readers of the overlay to end instead of refusing to update it.
    pub when_free: bool,
    /// Do not wait for somebody else's build of the same overlay.
    pub no_wait: bool,
    /// Do not look for the result in registries first (`--no-prebuilt`).
    #[serde(default)]
    pub no_prebuilt: bool,
}

/// How one overlay came out.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Outcome {
    /// A new image was published.
    Built,
    /// It was there and nothing had changed.
    UpToDate,
    /// Somebody else built it while we waited.
    AlreadyBuilt,
    /// It is there, but the recipe or a dependency has changed; `--update` rebuilds it.
    Stale,
}

impl std::fmt::Display for Outcome {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Outcome::Built => "built",
            Outcome::UpToDate => "up to date",
            Outcome::AlreadyBuilt => "already built",
            Outcome::Stale => "stale",
        })
    }
}

/// What became of one overlay.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Done {
    /// Which.
    pub name: Name,
    /// How it came out.
    pub outcome: Outcome,
    /// Why it was (or would be) built; for a stale one, what has changed.
    pub reason: Option<String>,
    /// The image.
    pub path: PathBuf,
    /// `sha256:` of a newly built image.
    pub digest: Option<String>,
    /// Bytes of a newly built image.
    pub bytes: Option<u64>,
    /// Seconds it took.
    pub seconds: f64,
    /// The log of a newly built image.
    pub log: Option<PathBuf>,
}

impl Done {
    /// Size and reason, for people.
    pub fn detail(&self) -> String {
        let size = self.bytes.map(crate::model::units::show_size);
        // That a new overlay was not there before goes without saying.
        let reason = match self.outcome {
            Outcome::Built => self.reason.clone().filter(|reason| *reason != Why::Missing.to_string()),
            _ => self.reason.clone(),
        };
        size.into_iter().chain(reason).collect::<Vec<_>>().join("; ")
    }
}
