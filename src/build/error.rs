//! Why a build did not come to an overlay.

use crate::conda::CondaError;
use crate::conda::cache::FetchError;
use crate::config::ConfigError;
use crate::image::ImageError;
use crate::model::event::Phase;
use crate::model::name::Name;
use crate::recipe::Finding;
use crate::store::layers::LayerError;
use crate::store::overlays::OverlayError;
use crate::store::recipes::RecipeError;
use crate::sys::fs::PathError;
use crate::sys::process::Ended;

/// A build that failed, or could not begin.
#[derive(Debug, thiserror::Error)]
pub enum BuildError {
    /// A script ended badly.
    #[error("{name}: failed in phase {}: {ended}", phase.as_str())]
    Script {
        /// Which overlay.
        name: Name,
        /// In which phase.
        phase: Phase,
        /// How it ended.
        ended: Ended,
        /// The last lines it printed.
        tail: Vec<String>,
        /// The whole log.
        log: std::path::PathBuf,
    },
    /// A check or test inside the finished overlay failed: nothing was published.
    #[error("{name}: {what} failed ({ended}); nothing was published")]
    Check {
        /// Which overlay.
        name: Name,
        /// `check()` or `#TEST:…`.
        what: String,
        /// How it ended.
        ended: Ended,
        /// The last lines it printed.
        tail: Vec<String>,
        /// The whole log.
        log: std::path::PathBuf,
    },
    /// The script ended well but left nothing.
    #[error("{name}: install() left $target_dir ({root}) empty")]
    Empty {
        /// Which overlay.
        name: Name,
        /// The directory.
        root: String,
    },
    /// A `#VERIFY` or `#NEEDS` line is not fulfilled.
    #[error("{name}: {what}")]
    Unfulfilled {
        /// Which overlay.
        name: Name,
        /// What is missing, with the place in the recipe.
        what: String,
    },
    /// Sources (`#SRC`) that could not be had.
    #[error("{}", failed.iter().map(|(loc, error)| format!("{name}: {loc}: {error}")).collect::<Vec<_>>().join("\n"))]
    Sources {
        /// Which overlay.
        name: Name,
        /// Where each is asked for, and what went wrong.
        failed: Vec<(crate::model::loc::Loc, crate::net::NetError)>,
    },
    /// The image in a registry that a definition starts from cannot be had.
    #[error("{name}: {loc}: {source}")]
    Registry {
        /// Which overlay.
        name: Name,
        /// Where it is asked for.
        loc: crate::model::loc::Loc,
        /// Why.
        source: Box<crate::registry::RegistryError>,
    },
    /// The network may not be used, and things are missing.
    #[error("the network is not to be used, and these are not here:\n  {}", missing.join("\n  "))]
    Offline {
        /// What, each with its place.
        missing: Vec<String>,
    },
    /// The recipe has errors.
    #[error("{label}: the recipe cannot be built")]
    Recipe {
        /// Which recipe.
        label: String,
        /// What is wrong with it.
        findings: Vec<Finding>,
    },
    /// A dependency that neither is installed nor has a recipe, or a cycle.
    #[error("{0}")]
    Graph(String),
    /// No recipe of this name.
    #[error("there is no recipe for {name}{}", conda.as_ref().map(|why| format!(", and {why}")).unwrap_or_default())]
    NoRecipe {
        /// What was asked for.
        name: Name,
        /// What the channels of conda say; None where none was asked.
        conda: Option<String>,
        /// Names that look like it.
        near: Vec<String>,
    },
    /// A conda environment that does not come to be.
    #[error("{name}: {source}")]
    Conda {
        /// Which overlay.
        name: Name,
        /// Why.
        source: Box<CondaError>,
    },
    /// Somebody else builds or uses it.
    #[error("{text}")]
    Busy {
        /// The sentence, holder included.
        text: String,
        /// What to do.
        hint: String,
    },
    /// A directive that cannot be carried out (rows C46, C47).
    #[error("{0}")]
    Directive(Box<crate::sched::FlagError>),
    /// What a step builds on is not there.
    #[error("{name}: its dependency {parent} is not there ({})", path.display())]
    NoParent {
        /// Which step.
        name: Name,
        /// The dependency.
        parent: Name,
        /// Where it should be.
        path: std::path::PathBuf,
    },
    /// A question nobody answers.
    #[error("{name}: no answer to: {prompt}")]
    Unanswered {
        /// Which overlay.
        name: Name,
        /// The question.
        prompt: String,
    },
    /// This machine or its configuration lacks something.
    #[error("{what}")]
    Unfit {
        /// What is lacking.
        what: String,
        /// What would help.
        hint: String,
    },
    /// The scratch directory has no room for a stage.
    #[error("{name}: the scratch directory is full: {what}")]
    Full {
        /// Which overlay.
        name: Name,
        /// What was told by whom.
        what: String,
    },
    /// The new image is not what was written.
    #[error("{name}: the new image does not read back: {source}")]
    Verify {
        /// Which overlay.
        name: Name,
        /// What is wrong.
        source: ImageError,
    },
    /// Packages of an environment cannot be had.
    #[error("{name}: {source}")]
    Packages {
        /// Which overlay.
        name: Name,
        /// Why.
        source: Box<FetchError>,
    },
    /// Packing failed.
    #[error("{name}: cannot pack: {source}")]
    Pack {
        /// Which overlay.
        name: Name,
        /// Why.
        source: ImageError,
    },
    /// Ctrl-C or its relatives.
    #[error("{name}: interrupted; nothing was left behind")]
    Interrupted {
        /// Which overlay.
        name: Name,
    },
    /// The time limit came.
    #[error("{name}: the time limit of {limit} was reached in phase {}", phase.as_str())]
    TimedOut {
        /// Which overlay.
        name: Name,
        /// The limit, for people.
        limit: String,
        /// In which phase.
        phase: Phase,
    },
    /// A recipe cannot be read.
    #[error(transparent)]
    ReadRecipe(#[from] RecipeError),
    /// The sandbox cannot be set up.
    #[error(transparent)]
    Runtime(#[from] crate::runtime::RuntimeError),
    /// No layer to write to.
    #[error(transparent)]
    Layer(#[from] LayerError),
    /// An existing overlay cannot be read.
    #[error(transparent)]
    Overlay(#[from] OverlayError),
    /// The configuration is wrong.
    #[error(transparent)]
    Config(#[from] ConfigError),
    /// The file system refused.
    #[error(transparent)]
    Io(#[from] PathError),
}
