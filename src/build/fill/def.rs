//! Phase 2 of a definition file: its image is made by ovl's own engine or by Apptainer, whichever is wanted and can.

use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::{Files, Material};
use crate::build::error::BuildError;
use crate::build::job::Job;
use crate::build::sandbox::TMP;
use crate::build::stage::Staged;
use crate::build::starts;
use crate::build::step::Step;
use crate::build::work;
use crate::config::Config;
use crate::container::{Cooking, Order, Trouble, apptainer};
use crate::exec::{Base, Invocation, Isolation, Mount, Network, System, environ};
use crate::image::source::AnySource;
use crate::image::squashfs::source::SquashSource;
use crate::model::event::{Event, Listener, Phase};
use crate::model::meta::SourcePin;
use crate::model::name::Name;
use crate::net::Watch;
use crate::recipe::def::{Agent, Definition, Stage};
use crate::registry::{self, Platform, Reference, RegistryError};
use crate::store::system;
use crate::sys::fs::PathError;
use crate::sys::process::{self, Ended};
use crate::sys::{env, fs, host};

/// What makes the image.
enum Engine {
    Native,
    /// This program.
    Apptainer(PathBuf),
}

/// Makes the image and gives it as the system it is.
pub fn fill(staged: &mut Staged, definition: &Definition) -> Result<Material, BuildError> {
    let engine = engine(&staged.job, definition)?;
    let from = definition.stages.iter().map(|stage| from(staged, stage, &engine)).collect::<Result<Vec<_>, _>>()?;
    let network = if staged.job.network() == Network::Host { "network: host" } else { "" };
    staged.job.enter(Phase::Install, network)?;
    staged.log.new_phase("install");
    let dir = staged.job.step.recipe.dir.clone().unwrap_or_else(env::current_dir);
    let image = match engine {
        Engine::Native => natively(staged, definition, from, dir)?,
        Engine::Apptainer(program) => by_apptainer(staged, &program, definition, &dir)?,
    };
    let bad = |source| BuildError::Pack { name: staged.job.name.clone(), source };
    let source = SquashSource::new(Arc::new(system::open(&image)?), b"").map_err(bad)?;
    Ok(Material { files: Files::System(AnySource::new(source)), extras: Vec::new(), env: Vec::new() })
}

fn natively(
    staged: &mut Staged,
    definition: &Definition,
    from: Vec<Option<PathBuf>>,
    dir: PathBuf,
) -> Result<PathBuf, BuildError> {
    let job = &staged.job;
    let order = Order {
        label: job.step.recipe.label.clone(),
        text: definition.text.clone(),
        dir,
        from,
        work: staged.work.make("cook")?,
        tmp: staged.tmp.clone(),
        image: staged.work.path().join("system.sqf"),
        epoch: job.step.recipe.origin.epoch,
        keep_owners: job.step.options.keep_owners,
        network: job.network() == Network::Host,
        threads: job.config.pack_threads(job.step.cpus(job.config)),
    };
    let mut cooking = Cooking::new(&order).map_err(|trouble| unfit(&staged.job, trouble))?;
    let ended = stream(staged, &mut cooking.command)?;
    match (cooking.trouble(), ended) {
        (None, ended) if ended.ok() => Ok(order.image),
        (Some(trouble), _) if trouble.script.is_none() => Err(unfit(&staged.job, trouble)),
        (trouble, ended) => {
            if let Some(trouble) = trouble {
                staged.log.note(&trouble.what);
            }
            Err(failed(staged, ended))
        }
    }
}

fn by_apptainer(
    staged: &mut Staged,
    program: &Path,
    definition: &Definition,
    dir: &Path,
) -> Result<PathBuf, BuildError> {
    let file = staged.work.path().join("recipe.def");
    fs::write_quick(&file, definition.text.as_bytes(), 0o600)?;
    let sif = staged.work.path().join("system.sif");
    let places = apptainer::Places {
        definition: &file,
        image: &sif,
        tmp: &staged.work.make("apptainer")?,
        cache: &staged.job.config.cache_dir().join("apptainer"),
        dir,
    };
    let cmd = apptainer::build(program, &places, host::ids().0 == 0);
    staged.log.note(&cmd.to_string());
    let ended = stream(staged, &mut process::prepared(&cmd))?;
    if ended.ok() { Ok(sif) } else { Err(failed(staged, ended)) }
}

/// Runs the engine, its output into the log and to the listener.
fn stream(staged: &mut Staged, command: &mut std::process::Command) -> Result<Ended, BuildError> {
    let (job, log) = (&staged.job, &mut staged.log);
    let ended = process::stream(command, Vec::new(), job.left(), &|| job.step.stop.is_set(), &mut |line| {
        let line = log.line(line);
        job.listener.hear(&Event::Output { name: job.name.clone(), line });
    });
    let ended = ended.map_err(PathError::new("run the engine for", job.target.clone()))?;
    log.note(&ended.to_string());
    match job.ended(ended, Phase::Install) {
        Some(error) => Err(error),
        None => Ok(ended),
    }
}

fn failed(staged: &Staged, ended: Ended) -> BuildError {
    BuildError::Script {
        name: staged.job.name.clone(),
        phase: Phase::Install,
        ended,
        tail: staged.log.tail(),
        log: staged.log.path().to_owned(),
    }
}

/// Where a stage's files come from, for ovl's own engine.
fn from(staged: &mut Staged, stage: &Stage, engine: &Engine) -> Result<Option<PathBuf>, BuildError> {
    if !matches!(engine, Engine::Native) || !needs_file(stage.agent) {
        return Ok(None);
    }
    let from = stage.header("from").unwrap_or_default();
    let missing = |what: String, hint: &str| BuildError::Unfit { what, hint: hint.to_owned() };
    if let Some(reference) = starts::image(stage) {
        return pulled(staged, stage, reference).map(Some);
    }
    let dir = staged.job.step.recipe.dir.as_deref();
    if let Some(name) = starts::overlay(stage, dir) {
        // Found when the build was planned, and built before this one.
        let dep = staged.job.deps.iter().find(|dep| dep.overlay.name == name);
        return match dep {
            Some(dep) => Ok(Some(dep.overlay.path.clone())),
            None => Err(missing(
                format!("{}: neither a file nor an overlay: {from}", stage.place("from")),
                &format!("build it with: ovl build {name}"),
            )),
        };
    }
    let dir = dir.unwrap_or(Path::new("/"));
    // A tag may follow the path of a container image.
    let untagged = from.rsplit_once(':').map(|(path, _)| path);
    for path in [Some(from), untagged].into_iter().flatten() {
        let path = dir.join(path.strip_prefix("file://").unwrap_or(path));
        if fs::metadata_if_exists(&path)?.is_some() {
            return Ok(Some(path));
        }
    }
    Err(missing(
        format!("{}: there is no {}", stage.place("from"), dir.join(from).display()),
        "relative paths begin where the definition file is",
    ))
}

/// A container image from a registry, as an OCI layout in the cache; what it is becomes part of the metadata.
fn pulled(
    staged: &mut Staged,
    stage: &Stage,
    reference: Result<Reference, RegistryError>,
) -> Result<PathBuf, BuildError> {
    let refused = |error| refused(&staged.job.name, stage, error);
    let reference = reference.map_err(refused)?;
    staged.job.enter(Phase::Fetch, &reference.to_string())?;
    let mut options = registry::Options::new(staged.job.config);
    let watch = Pulling(&staged.job);
    let mut image = registry::image::fetch(&reference, &Platform::here(), &options, &watch);
    let unreachable = matches!(&image, Err(RegistryError::Net(error)) if error.is_unreachable());
    if unreachable && staged.job.alive(Phase::Fetch).is_ok() {
        // Nodes often have no network: what was fetched before the job was submitted is in the cache.
        options.offline = true;
        if let Ok(cached) = registry::image::fetch(&reference, &Platform::here(), &options, &watch) {
            staged.log.note("the registry cannot be reached; what the cache has of this name is taken");
            image = Ok(cached);
        }
    }
    let image = image.map_err(|error| match staged.job.alive(Phase::Fetch) {
        Err(stopped) => stopped,
        Ok(()) => refused(error),
    })?;
    staged.log.note(&format!("{reference} is {}", image.pinned));
    let digest = image.pinned.digest.as_ref().map(ToString::to_string).unwrap_or_default();
    let name = stage.header("from").unwrap_or_default().to_owned();
    staged.pulled.push(SourcePin { url: image.pinned.to_string(), digest, bytes: image.size, name });
    Ok(image.layout)
}

fn refused(name: &Name, stage: &Stage, error: RegistryError) -> BuildError {
    match error.is_full() {
        true => BuildError::Full { name: name.clone(), what: error.to_string() },
        false => BuildError::Registry { name: name.clone(), loc: stage.place("from").clone(), source: Box::new(error) },
    }
}

/// Brings the images of a step that will be built elsewhere into the cache, if ovl's own engine will use them.
pub fn prefetch(step: &Step, config: &Config, listener: &dyn Listener) -> Result<(), BuildError> {
    let (name, spec) = (step.name(), step.spec()?);
    let Some(definition) = spec.definition().filter(|_| config.def_engine() != "apptainer") else { return Ok(()) };
    for stage in &definition.stages {
        let Some(reference) = starts::image(stage) else { continue };
        let refused = |error| match error {
            RegistryError::Interrupted => BuildError::Interrupted { name: name.clone() },
            error => refused(name, stage, error),
        };
        let reference = reference.map_err(refused)?;
        let reason = format!("{reference} to be fetched before it is submitted");
        listener.hear(&Event::Waiting { name: name.clone(), reason });
        let options = registry::Options::new(config);
        let watch = Ahead { step, listener };
        registry::image::fetch(&reference, &Platform::here(), &options, &watch).map_err(refused)?;
    }
    Ok(())
}

/// Tells how far a transfer is that goes before a job.
struct Ahead<'a> {
    step: &'a Step,
    listener: &'a dyn Listener,
}

impl Watch for Ahead<'_> {
    fn progress(&self, done: u64, total: Option<u64>) {
        self.listener.hear(&Event::Amount { name: self.step.name().clone(), done, total });
    }

    fn cancelled(&self) -> bool {
        self.step.stop.is_set()
    }
}

/// Tells how far a transfer is.
struct Pulling<'a>(&'a Job<'a>);

impl Watch for Pulling<'_> {
    fn progress(&self, done: u64, total: Option<u64>) {
        self.0.listener.hear(&Event::Amount { name: self.0.name.clone(), done, total });
    }

    fn cancelled(&self) -> bool {
        self.0.step.stop.is_set() || self.0.left().is_some_and(|left| left.is_zero())
    }
}

fn needs_file(agent: Agent) -> bool {
    !matches!(agent, Agent::Scratch | Agent::Debootstrap | Agent::Mmdebstrap)
}

fn unfit(job: &Job, trouble: Trouble) -> BuildError {
    if trouble.full {
        return BuildError::Full { name: job.name.clone(), what: trouble.what };
    }
    BuildError::Unfit { what: format!("{}: {}", job.name, trouble.what), hint: trouble.hint }
}

/// Which engine it is; refuses what that cannot do.
fn engine(job: &Job, definition: &Definition) -> Result<Engine, BuildError> {
    let program = ["apptainer", "singularity"].iter().find_map(|program| process::find(program));
    let own = definition.stages.iter().find(|stage| stage.agent == Agent::Mmdebstrap);
    let foreign = definition.stages.iter().find(|stage| !stage.agent.is_native());
    let refuse = |stage: &Stage, why: &str, hint: &str| {
        let what = format!("{}: Bootstrap: {} {why}", stage.loc, stage.agent.word());
        Err(BuildError::Unfit { what, hint: hint.to_owned() })
    };
    match (job.config.def_engine().as_str(), program, foreign, own) {
        ("native", _, Some(stage), _) | ("auto", None, Some(stage), _) => {
            refuse(stage, "is nothing that ovl's own engine has", stage.agent.instead())
        }
        ("native", ..) | ("auto", None, ..) => Ok(Engine::Native),
        (_, _, _, Some(stage)) if foreign.is_some() => {
            refuse(stage, "is nothing that Apptainer has", "use Bootstrap: debootstrap in all of its stages")
        }
        ("auto", _, _, Some(_)) => Ok(Engine::Native),
        (_, _, _, Some(stage)) => refuse(stage, "is nothing that Apptainer has", "use Bootstrap: debootstrap"),
        (_, Some(program), ..) => Ok(Engine::Apptainer(program)),
        (_, None, ..) => Err(BuildError::Unfit {
            what: format!("{}: build.def_engine is apptainer, which is not on PATH", job.name),
            hint: "load its module, or let ovl build it: ovl config set build.def_engine native".into(),
        }),
    }
}

/// A test of the finished image: with that as the whole system, and nothing of the host but its network.
pub fn test(staged: &Staged, image: &Path, argv: Vec<OsString>) -> Invocation {
    let bind = |target: &str| Mount::Bind { source: staged.tmp.clone(), target: target.into(), writable: true };
    let user = host::user();
    let env = [
        ("PATH", environ::DEFAULT_PATH),
        ("HOME", TMP),
        ("USER", &user),
        ("LANG", "C.UTF-8"),
        ("TERM", "dumb"),
        ("TMPDIR", TMP),
    ];
    Invocation {
        base: Base::Image(image.to_owned()),
        mounts: vec![bind(TMP)],
        isolation: Isolation { read_only: false, processes: true, network: staged.job.network() },
        scratch: work::scratch(staged.job.config),
        cwd: "/".into(),
        system: Some(System::default()),
        env: env.map(|(name, value)| (name.into(), value.into())).into(),
        argv,
        ..Invocation::default()
    }
}
