//! From a request to steps: every overlay it needs compared with what is there; what has to be built becomes a step.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use super::error::BuildError;
use super::fallback::Fallback;
use super::plan::{self, Item, Recipe};
use super::request::Request;
use super::starts;
use super::step::{Frozen, LookUp, Stamp, Step, StepDep, Stop};
use crate::conda::Locked;
use crate::config::Config;
use crate::model::meta::{Channels, Why};
use crate::model::name::Name;
use crate::model::resources::{Extra, Figure, Limit, Mem, Resources, Scheduler, Source};
use crate::plan::place::Wish;
use crate::plan::{Place, Plan, Planned, Settled};
use crate::recipe::Spec;
use crate::recipe::spec::Prompt;
use crate::sched;
use crate::store::layers::Layers;
use crate::store::overlays;
use crate::sys::signal;

/// A request, thought through; nothing has been done yet.
#[derive(Debug)]
pub struct Prepared {
    /// The plan; places are all `Here` until it is placed.
    pub plan: Plan,
    /// What decides about each step's place.
    pub wishes: Vec<Wish>,
    /// One recipe for each step.
    recipes: Vec<Recipe>,
    details: Vec<Detail>,
    /// The targets in the order asked for, and the files that hold them or will.
    pub targets: Vec<(Name, PathBuf)>,
    /// Warnings about recipes that will be built.
    pub warnings: Vec<String>,
}

#[derive(Debug)]
struct Detail {
    deps: Vec<StepDep>,
    seen: Option<Stamp>,
    forced: bool,
    conda: Option<Channels>,
    locked: Option<Locked>,
}

/// Answers a recipe's question; None when nobody can.
pub type Ask<'a> = dyn FnMut(&Name, &Prompt) -> Option<String> + 'a;

/// Thinks a request through. `scheduler` is the one at hand: its directives count before others'. `tell` hears at once of
/// what may take long.
pub fn prepare(
    request: &Request,
    config: &Config,
    layers: &Layers,
    scheduler: Option<Scheduler>,
    tell: &dyn Fn(&str),
) -> Result<Prepared, BuildError> {
    let fallback = Fallback::new(request, layers, config, tell);
    let items = plan::resolve(request, layers, &fallback)?;
    let mut making = Making {
        request,
        config,
        layers,
        scheduler,
        fallback: &fallback,
        paths: BTreeMap::new(),
        steps: BTreeMap::new(),
        prepared: Prepared {
            plan: Plan::default(),
            wishes: Vec::new(),
            recipes: Vec::new(),
            details: Vec::new(),
            targets: Vec::new(),
            warnings: Vec::new(),
        },
    };
    for item in items {
        making.take(item)?;
    }
    let mut prepared = making.prepared;
    prepared.plan.notes.extend(fallback.notes());
    for name in &request.targets {
        if let Some(path) = making.paths.get(name) {
            prepared.targets.push((name.clone(), path.clone()));
        }
    }
    Ok(prepared)
}

struct Making<'a> {
    request: &'a Request,
    config: &'a Config,
    layers: &'a Layers,
    scheduler: Option<Scheduler>,
    fallback: &'a Fallback<'a>,
    /// Where each overlay is or will be.
    paths: BTreeMap<Name, PathBuf>,
    /// The step that makes it.
    steps: BTreeMap<Name, usize>,
    prepared: Prepared,
}

impl Making<'_> {
    fn take(&mut self, item: Item) -> Result<(), BuildError> {
        let existing = plan::existing(&item.name, item.target, self.request, self.layers)?;
        let Some(recipe) = item.recipe.clone() else {
            // Installed and not asked for; where, says the layer that has it.
            let path = existing.map(|overlay| overlay.path).unwrap_or_default();
            self.paths.insert(item.name, path);
            return Ok(());
        };
        let conda = self.fallback.inputs(&recipe)?;
        let forced = self.request.update && item.target;
        let after: Vec<usize> = item.deps.iter().filter_map(|dep| self.steps.get(&dep.name).copied()).collect();
        let why = match item.deps.iter().find(|dep| self.steps.contains_key(&dep.name)) {
            // What it needs is not there yet, so its inputs cannot be compared.
            Some(dep) if plan::is_there(existing.as_ref())? => Some(Why::DependencyRebuilt { name: dep.name.clone() }),
            Some(_) => Some(if existing.is_none() { Why::Missing } else { Why::Damaged }),
            None => {
                let deps = plan::ready_deps(&item, self.layers)?;
                let digest = crate::sys::digest::of(&recipe.bytes);
                plan::why(existing.as_ref(), &plan::inputs(&digest, &deps, conda.as_ref()))?
            }
        };
        match (existing, why) {
            (Some(existing), why) if !forced && why.as_ref().is_none_or(|why| *why != Why::Damaged) => {
                self.paths.insert(item.name.clone(), existing.path.clone());
                self.prepared.plan.settled.push(Settled { name: item.name, path: existing.path, stale: why });
                Ok(())
            }
            (existing, why) => {
                let target = match &self.request.out {
                    Some(out) if item.target => out.clone(),
                    _ => {
                        let home = plan::home(self.request, self.layers, existing.as_ref())?;
                        plan::target_in(&home, &item.name)
                    }
                };
                self.add(item, recipe, target, why.unwrap_or(Why::Forced), after, forced)
            }
        }
    }

    fn add(
        &mut self,
        item: Item,
        recipe: Recipe,
        target: PathBuf,
        why: Why,
        mut after: Vec<usize>,
        forced: bool,
    ) -> Result<(), BuildError> {
        starts::refuse(&recipe, self.request.trust_setup)?;
        let index = self.prepared.plan.steps.len();
        after.sort_unstable();
        after.dedup();
        let deps = item.deps.iter().map(|dep| StepDep {
            name: dep.name.clone(),
            path: self.paths.get(&dep.name).cloned().unwrap_or_default(),
            build_only: dep.build_only,
        });
        let deps = deps.collect();
        let resources = self.resources(&recipe.spec)?;
        let directive = recipe.spec.directives.first().map(|directive| directive.loc.to_string());
        self.prepared.warnings.extend(recipe.warnings.iter().cloned());
        let (conda, locked) = (self.fallback.inputs(&recipe)?, self.fallback.lock(&recipe)?);
        self.prepared.details.push(Detail { deps, seen: Stamp::of(&target), forced, conda, locked });
        self.prepared.wishes.push(Wish { directive, joined: None });
        self.prepared.recipes.push(recipe);
        self.paths.insert(item.name.clone(), target.clone());
        self.steps.insert(item.name.clone(), index);
        let because = String::new();
        let place = Place::Here;
        let planned = Planned { index, name: item.name, target, why, place, because, resources, after };
        self.prepared.plan.steps.push(planned);
        Ok(())
    }

    /// Flags over directives over the configuration (rows C45, C46).
    fn resources(&self, spec: &Spec) -> Result<Resources, BuildError> {
        let asked = if self.request.passthrough {
            let raw = |directive: &crate::recipe::scan::Directive| Extra {
                scheduler: sched::of_marker(directive.marker).scheduler(),
                at: directive.loc.to_string(),
                words: directive.words.iter().map(|(_, word)| word.clone()).collect(),
            };
            Resources { extra: spec.directives.iter().map(raw).collect(), ..Resources::default() }
        } else {
            sched::read(&spec.directives, self.scheduler).map_err(|error| BuildError::Directive(Box::new(error)))?
        };
        let asked = self.request.resources.clone().or(asked);
        Ok(if self.request.passthrough { asked } else { asked.or(defaults(self.config)) })
    }
}

/// What the configuration says of a build that says nothing itself.
fn defaults(config: &Config) -> Resources {
    let key = |name: &str| Source::Config(name.to_owned());
    let word = |name: &'static str, value: Option<String>| value.map(|value| Figure::new(value, key(name)));
    let time = config.default_time();
    Resources {
        cpus: Some(Figure::new(config.asked_cpus(), key("build.defaults.cpus"))),
        mem: Some(Figure::new(Mem::Total(config.default_mem()), key("build.defaults.mem"))),
        time: (!time.is_zero()).then(|| Figure::new(Limit::Time(time), key("build.defaults.time"))),
        partition: word("sched.partition", config.partition()),
        account: word("sched.account", config.account()),
        qos: word("sched.qos", config.qos()),
        ..Resources::default()
    }
}

impl Prepared {
    /// The packages that each step would put into its conda environment; None for steps that make none.
    pub fn packages(&self) -> impl Iterator<Item = (&Planned, Option<&Locked>)> {
        self.plan.steps.iter().zip(self.details.iter().map(|detail| detail.locked.as_ref()))
    }

    /// Asks every question of the steps that this run builds, before anything is built or submitted (row C20).
    pub fn answers(&self, ask: &mut Ask) -> Result<Vec<Vec<String>>, BuildError> {
        let mut all = Vec::new();
        for (step, recipe) in self.plan.steps.iter().zip(&self.recipes) {
            if matches!(step.place, Place::Join(_)) {
                all.push(Vec::new());
                continue;
            }
            let unanswered = |prompt: &Prompt| match signal::interrupted() {
                Some(_) => BuildError::Interrupted { name: step.name.clone() },
                None => BuildError::Unanswered { name: step.name.clone(), prompt: prompt.text.clone() },
            };
            let prompts = recipe.spec.prompts.iter();
            all.push(
                prompts
                    .map(|prompt| ask(&step.name, prompt).ok_or_else(|| unanswered(prompt)))
                    .collect::<Result<_, _>>()?,
            );
        }
        Ok(all)
    }

    /// Freezes the placed plan; `answers` has one entry per step.
    pub fn freeze(&self, request: &Request, answers: Vec<Vec<String>>) -> Vec<Step> {
        use rayon::prelude::*;
        let both = self.recipes.par_iter().zip(&self.details);
        let frozen = |(recipe, detail): (&Recipe, &Detail)| Frozen {
            conda: detail.conda.clone(),
            wishes: detail.conda.as_ref().map(|_| request.conda.clone()).unwrap_or_default(),
            ..Frozen::new(recipe, detail.locked.clone())
        };
        let recipes: Vec<Frozen> = both.map(frozen).collect();
        let all = self.plan.steps.iter().zip(recipes).zip(&self.details).zip(answers);
        all.map(|(((plan, recipe), detail), answers)| Step {
            plan: plan.clone(),
            deps: detail.deps.clone(),
            recipe,
            seen: detail.seen,
            forced: detail.forced,
            options: request.options.clone(),
            answers,
            ticket: None,
            stop: Stop::default(),
            look_up: LookUp::default(),
            ncpus: None,
            mem: None,
        })
        .collect()
    }
}

/// Why a target that was there before the run is not current now: a dependency may have been rebuilt meanwhile, to
/// something else or to the same.
pub fn stale_now(settled: &Settled, layers: &Layers) -> Result<Option<Why>, BuildError> {
    let Some(Why::DependencyRebuilt { .. }) = settled.stale else { return Ok(settled.stale.clone()) };
    let image = overlays::open(&settled.path)?;
    let Ok(Some(meta)) = overlays::read_meta(&image) else { return Ok(settled.stale.clone()) };
    for dep in &meta.inputs.dependencies {
        let now = overlays::find(layers, &dep.name)?;
        let same = now.is_some_and(|overlay| overlays::digest_of(&overlay.path).is_ok_and(|now| now == dep.digest));
        if !same {
            return Ok(Some(Why::DependencyRebuilt { name: dep.name.clone() }));
        }
    }
    Ok(None)
}

/// Writes what a kill between two renames can leave undone beside a target that is current.
pub fn heal(path: &Path) -> Result<(), BuildError> {
    super::publish::heal_sidecar(path)
}
