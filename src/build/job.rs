//! One build with everything its phases need to know; nothing is looked up again once it has begun.

use std::path::PathBuf;
use std::time::{Duration, Instant};

use super::error::BuildError;
use super::plan::ReadyDep;
use super::sandbox::Sandbox;
use super::step::Step;
use crate::config::Config;
use crate::exec::Network;
use crate::exec::environ::LayerEnv;
use crate::model::event::{Event, Listener, Phase};
use crate::model::meta::Inputs;
use crate::model::name::Name;
use crate::model::units::show_time;
use crate::recipe::def::Agent;
use crate::recipe::spec::{Content, Kind, Net, Spec};
use crate::store::overlays;
use crate::sys::process::Ended;

/// A build.
pub struct Job<'a> {
    /// The overlay.
    pub name: Name,
    /// What it is built from, understood.
    pub spec: Spec,
    /// Its dependencies, in mounting order.
    pub deps: Vec<ReadyDep>,
    /// What they contribute to the environment.
    pub dep_env: Vec<LayerEnv>,
    /// What decides whether it is up to date.
    pub inputs: Inputs,
    /// The digest of those.
    pub key: String,
    /// The file to publish.
    pub target: PathBuf,
    /// The frozen step.
    pub step: &'a Step,
    /// The configuration.
    pub config: &'a Config,
    /// Who wants to know.
    pub listener: &'a dyn Listener,
    /// The phases this build has.
    pub phases: Vec<Phase>,
    /// When it began.
    pub began: Instant,
    /// How long it may take.
    pub limit: Option<Duration>,
    /// Names its working directory.
    pub token: String,
    /// Where that is made.
    pub scratch: PathBuf,
}

impl Job<'_> {
    /// App or data.
    pub fn kind(&self) -> Kind {
        self.spec.kind(&self.name)
    }

    /// The phases a recipe has.
    pub fn phases_of(spec: &Spec) -> Vec<Phase> {
        let wanted = |phase: &Phase| match phase {
            Phase::Fetch if !spec.sources.is_empty() => true,
            Phase::Fetch => match &spec.content {
                Content::Shell => spec.functions.fetch,
                Content::Conda(_) => true,
                Content::Def(definition) => definition.stages.iter().any(|stage| stage.agent == Agent::Docker),
            },
            Phase::Check => {
                let test = spec.definition().and_then(|definition| definition.stages.last()?.script("test"));
                spec.functions.check || !spec.tests.is_empty() || test.is_some()
            }
            _ => true,
        };
        Phase::ALL.into_iter().filter(wanted).collect()
    }

    /// Tells that a phase begins, unless it is time to stop.
    pub fn enter(&self, phase: Phase, detail: &str) -> Result<(), BuildError> {
        self.alive(phase)?;
        let steps = self.phases.len();
        let step = self.phases.iter().position(|known| *known == phase).map_or(steps, |index| index + 1);
        self.listener.hear(&Event::Progress {
            name: self.name.clone(),
            step,
            steps,
            percent: 100.0 * step as f64 / steps as f64,
            current: phase,
            detail: detail.to_owned(),
        });
        Ok(())
    }

    /// Whether to go on.
    pub fn alive(&self, phase: Phase) -> Result<(), BuildError> {
        if self.step.stop.is_set() {
            return Err(BuildError::Interrupted { name: self.name.clone() });
        }
        match self.limit {
            Some(limit) if self.began.elapsed() >= limit => Err(self.timed_out(phase)),
            _ => Ok(()),
        }
    }

    /// Time that is left, if it is limited.
    pub fn left(&self) -> Option<Duration> {
        self.limit.map(|limit| limit.saturating_sub(self.began.elapsed()))
    }

    fn timed_out(&self, phase: Phase) -> BuildError {
        BuildError::TimedOut { name: self.name.clone(), limit: self.limit.map(show_time).unwrap_or_default(), phase }
    }

    /// The error for a script's end that has a meaning of its own; None: it is the script's fault or success.
    pub fn ended(&self, ended: Ended, phase: Phase) -> Option<BuildError> {
        match ended {
            Ended::TimedOut => Some(self.timed_out(phase)),
            Ended::Interrupted(_) => Some(BuildError::Interrupted { name: self.name.clone() }),
            _ => None,
        }
    }

    /// The network of install().
    pub fn network(&self) -> Network {
        match (self.step.options.network, self.spec.net) {
            (Some(network), _) => network,
            (None, Some(Net::Host)) => Network::Host,
            (None, Some(Net::None)) => Network::None,
            // Definitions install packages: it is what they are for.
            (None, None) if self.spec.definition().is_some() => Network::Host,
            (None, None) if self.config.network_host() => Network::Host,
            (None, None) => Network::None,
        }
    }

    /// A sandbox with the dependencies; `build_only` ones too.
    pub fn sandbox(&self, control: PathBuf, tmp: PathBuf, build_only: bool) -> Sandbox {
        let used: Vec<usize> =
            (0..self.deps.len()).filter(|index| build_only || !self.deps[*index].build_only).collect();
        Sandbox {
            name: self.name.clone(),
            layers: used.iter().map(|index| self.deps[*index].overlay.path.clone()).collect(),
            layer_env: used.iter().map(|index| self.dep_env[*index].clone()).collect(),
            control,
            tmp,
            sources: None,
            programs: Vec::new(),
            inputs: Vec::new(),
            target: None,
            scratch: super::work::scratch(self.config),
            cpus: self.step.cpus(self.config),
            mem: self.step.memory(self.config),
            vars: Vec::new(),
            network: Network::None,
            epoch: self.step.recipe.origin.epoch,
        }
    }
}

/// What dependencies contribute to the environment, one entry per dependency.
pub fn dep_env(deps: &[ReadyDep]) -> Result<Vec<LayerEnv>, BuildError> {
    let mut all = Vec::new();
    for dep in deps {
        let image = overlays::open(&dep.overlay.path)?;
        let facts = overlays::facts(&dep.overlay.path, &image)?;
        let layers = facts.layer_env();
        // An overlay of ovl's has one root; of a foreign one only the first can be told by one entry.
        let joined = layers.into_iter().next();
        all.push(joined.unwrap_or(LayerEnv { root: dep.overlay.name.root(), programs: Vec::new(), vars: Vec::new() }));
    }
    Ok(all)
}
