//! Conda environments: archives into the cache, then put together and packed from where they are. Only when something has
//! to run with all files in place (scripts of packages, pip) are they written out, into the staged tree.

mod micromamba;
mod pip;
mod python;
mod scripts;
mod told;

use std::path::PathBuf;

use super::{Files, Material};
use crate::build::error::BuildError;
use crate::build::job::Job;
use crate::build::sandbox::Sandbox;
use crate::build::stage::Staged;
use crate::build::step::Step;
use crate::build::tree::inside;
use crate::conda::cache::{Cache, FetchError, How};
use crate::conda::link::{self, Environment, LinkError, Wanted, literal};
use crate::conda::{Locked, locked};
use crate::config::Config;
use crate::exec::environ::LayerEnv;
use crate::image::ImageError;
use crate::model::env::EnvVar;
use crate::model::event::{Event, Listener, Phase};
use crate::recipe;
use told::Told;

/// Transfers at a time.
const TRANSFERS: usize = 6;

/// Fetches and puts together the environment.
pub fn fill(staged: &mut Staged, wanted: &recipe::conda::Environment) -> Result<Material, BuildError> {
    if staged.job.config.conda_micromamba() {
        return micromamba::fill(staged, wanted);
    }
    let Some(locked) = staged.job.step.recipe.locked.clone() else {
        return Err(BuildError::Unfit {
            what: format!("{}: the step has no list of packages", staged.job.name),
            hint: format!("plan it anew with: ovl build {}", staged.job.name),
        });
    };
    let locked = &locked;
    let requested = requested(wanted);
    staged.log.new_phase(Phase::Fetch.as_str());
    staged.job.enter(Phase::Fetch, &format!("{} packages", locked.records.len()))?;
    let told = Told::new(&staged.job);
    let archives = archives(staged.job.step, staged.job.config, locked, &told).map_err(|error| match error {
        BuildError::Interrupted { .. } => stopped(&staged.job, Phase::Fetch),
        error => error,
    })?;
    staged.log.note(&format!("{} archives of packages are there", archives.len()));
    let mut environment = compose(staged, locked, archives, requested)?;
    let active = environment.active();
    tell(staged, &environment, &active.scripts);
    let mut variables = active.variables;
    variables.extend(locked.variables.clone());
    let ready = Ready { locked, variables };
    let scripts = environment.scripts();
    let written = !scripts.is_empty() || !locked.pip.is_empty();
    if locked.pip.is_empty() {
        enter_install(staged)?;
    }
    python::compile(staged, &mut environment)?;
    let python = environment.python().map(|python| python.path().to_string_lossy().into_owned());
    let source = environment.finish().map_err(|error| bad(&staged.job, error))?;
    let files = if written {
        scripts::write_out(staged, source)?;
        if !locked.pip.is_empty() {
            let python = python.ok_or_else(|| BuildError::Unfit {
                what: format!("{}: there is a pip section, and no python in the environment", staged.job.name),
                hint: "add python and pip to the dependencies".into(),
            })?;
            pip::fetch(staged, &ready, &python)?;
            enter_install(staged)?;
            scripts::run(staged, &ready, &scripts)?;
            pip::install(staged, &ready, &python)?;
        } else {
            scripts::run(staged, &ready, &scripts)?;
        }
        Files::Tree
    } else {
        Files::App(source)
    };
    let lock = locked.to_lock_file().map_err(|error| BuildError::Unfit {
        what: format!("{}: {error}", staged.job.name),
        hint: "this is an error of ovl's; please report it".into(),
    })?;
    let extras = vec![(locked::FILE.as_bytes().to_vec(), lock.into_bytes(), 0o644)];
    Ok(Material { files, extras, env: ready.exported() })
}

/// What was asked for.
fn requested(wanted: &recipe::conda::Environment) -> Vec<String> {
    match &wanted.content {
        recipe::conda::Content::Wishes(wishes) => wishes.iter().map(|wish| wish.value.clone()).collect(),
        _ => Vec::new(),
    }
}

/// Brings the archives of an environment into the cache, for a build that will have no network.
///
/// # Errors
/// The first that cannot be had.
pub fn prefetch(step: &Step, config: &Config, listener: &dyn Listener) -> Result<(), BuildError> {
    let Some(locked) = &step.recipe.locked else { return Ok(()) };
    archives(step, config, locked, &Told::of(step, listener)).map(|_| ())
}

fn archives(step: &Step, config: &Config, locked: &Locked, told: &Told) -> Result<Vec<PathBuf>, BuildError> {
    let how = How { threads: TRANSFERS, offline: config.offline() };
    let name = step.name().clone();
    Cache::of(config).fetch(&locked.records, how, told).map_err(|error| match error {
        FetchError::Interrupted => BuildError::Interrupted { name },
        _ if step.stop.is_set() => BuildError::Interrupted { name },
        error => BuildError::Packages { name, source: Box::new(error) },
    })
}

fn stopped(job: &Job, phase: Phase) -> BuildError {
    job.alive(phase).err().unwrap_or(BuildError::Interrupted { name: job.name.clone() })
}

fn bad(job: &Job, error: LinkError) -> BuildError {
    match error {
        LinkError::Image(ImageError::Interrupted) => stopped(job, Phase::Install),
        LinkError::Image(source) => BuildError::Pack { name: job.name.clone(), source },
        error => BuildError::Unfit {
            what: format!("{}: {error}", job.name),
            hint: "the lock names the packages: ovl build --dry-run shows it".into(),
        },
    }
}

fn compose(
    staged: &Staged,
    locked: &Locked,
    archives: Vec<PathBuf>,
    requested: Vec<String>,
) -> Result<Environment, BuildError> {
    let job = &staged.job;
    let wanted = Wanted {
        packages: locked.records.iter().cloned().zip(archives).collect(),
        platform: locked.platform,
        prefix: &job.name.root(),
        scratch: &staged.tmp,
        threads: job.config.pack_threads(job.step.cpus(job.config)).max(1),
        time: job.step.recipe.origin.epoch,
        requested,
        python: None,
    };
    link::compose(wanted, &Told::new(job)).map_err(|error| bad(job, error))
}

fn enter_install(staged: &mut Staged) -> Result<(), BuildError> {
    staged.log.new_phase(Phase::Install.as_str());
    staged.job.enter(Phase::Install, "")
}

/// What the user should know of the packages.
fn tell(staged: &mut Staged, environment: &Environment, scripts: &[String]) {
    for package in environment.packages() {
        staged.log.note(&package);
    }
    for path in environment.clobbered() {
        staged.log.note(&format!("several packages bring {path}; the others' are below __clobbers__/"));
    }
    if !scripts.is_empty() {
        let text = format!(
            "the environment has scripts that conda's activation would run, and ovl exec does not: {}",
            scripts.join(", ")
        );
        staged.log.note(&text);
        staged.job.listener.hear(&Event::Warning { name: Some(staged.job.name.clone()), text });
    }
}

/// What what runs in the environment gets.
struct Ready<'a> {
    locked: &'a Locked,
    /// With `$` as it is.
    variables: std::collections::BTreeMap<String, String>,
}

impl Ready<'_> {
    /// What the overlay exports.
    fn exported(&self) -> Vec<EnvVar> {
        let prefix = EnvVar { name: "CONDA_PREFIX".into(), value: "$app_root".into(), note: None };
        let var = |(name, value): (&String, &String)| EnvVar { name: name.clone(), value: literal(value), note: None };
        [prefix].into_iter().chain(self.variables.iter().map(var)).collect()
    }

    /// A sandbox with the environment writable in its place.
    fn sandbox(&self, staged: &Staged) -> Sandbox {
        let mut sandbox = staged.sandbox();
        sandbox.target = Some(staged.tree.bind(&staged.job));
        let root = staged.job.name.root();
        sandbox.layer_env.push(LayerEnv { root, programs: vec!["bin".into()], vars: self.exported() });
        sandbox
    }
}

/// Whether programs of the environment run here.
fn runs_here(locked: &Locked) -> bool {
    rattler_conda_types::Subdir::current() == Some(locked.platform)
}

/// Where the staged tree has the environment, on the host.
fn staged_root(staged: &Staged) -> PathBuf {
    staged.tree.top.join(inside(&staged.job.name.root()))
}

fn workers(job: &Job) -> usize {
    job.config.pack_threads(job.step.cpus(job.config)).clamp(1, host_cpus())
}

fn host_cpus() -> usize {
    std::thread::available_parallelism().map_or(1, usize::from)
}
