//! Phase 2 of a definition file: its image is made by ovl's own engine or by Apptainer, whichever is wanted and can.

use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::{Files, Material};
use crate::build::error::BuildError;
use crate::build::job::Job;
use crate::build::sandbox::TMP;
use crate::build::stage::Staged;
use crate::build::work;
use crate::container::{Cooking, Order, Trouble, apptainer};
use crate::exec::{Base, Invocation, Isolation, Mount, Network, System, environ};
use crate::image::source::AnySource;
use crate::image::squashfs::source::SquashSource;
use crate::model::event::{Event, Phase};
use crate::model::name::Name;
use crate::net::Watch;
use crate::recipe::def::{Agent, Definition, Stage};
use crate::registry;

use crate::registry::{Platform, Reference};
use crate::store::layers::Layers;
use crate::store::{overlays, system};
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
    if stage.agent == Agent::Docker {
        return pulled(staged, stage, from).map(Some);
    }
    let dir = staged.job.step.recipe.dir.clone().unwrap_or_else(env::current_dir);
    // A tag may follow the path of a container image.
    let untagged = from.rsplit_once(':').map(|(path, _)| path);
    for path in [Some(from), untagged].into_iter().flatten() {
        let path = dir.join(path.strip_prefix("file://").unwrap_or(path));
        if fs::metadata_if_exists(&path)?.is_some() {
            return Ok(Some(path));
        }
    }
    if stage.agent == Agent::LocalImage
        && let Ok(name) = from.parse::<Name>()
    {
        let found = overlays::find(&Layers::new(staged.job.config), &name)?;
        return match found {
            Some(overlay) => Ok(Some(overlay.path)),
            None => Err(missing(
                format!("{}: neither a file nor an installed overlay: {from}", stage.place("from")),
                &format!("build it with: ovl build {name}"),
            )),
        };
    }
    Err(missing(
        format!("{}: there is no {}", stage.place("from"), dir.join(from).display()),
        "relative paths begin where the definition file is",
    ))
}

/// A container image from a registry, as an OCI layout in the cache.
fn pulled(staged: &mut Staged, stage: &Stage, from: &str) -> Result<PathBuf, BuildError> {
    let unfit = |what: String, hint: Option<String>| BuildError::Unfit {
        what: format!("{}: {what}", stage.place("from")),
        hint: hint.unwrap_or_default(),
    };
    let above = [stage.header("registry"), stage.header("namespace")].into_iter().flatten();
    let full: Vec<&str> = above.chain([from]).filter(|part| !part.is_empty()).collect();
    let text = format!("docker://{}", full.join("/"));
    let reference = Reference::parse(&text, None).map_err(|error| unfit(error.to_string(), None))?;
    staged.job.enter(Phase::Fetch, &reference.to_string())?;
    let options = registry::Options::new(staged.job.config);
    let watch = Pulling(&staged.job);
    let image = registry::image::fetch(&reference, &Platform::here(), &options, &watch);
    let image = image.map_err(|error| match staged.job.alive(Phase::Fetch) {
        Err(stopped) => stopped,
        Ok(()) => unfit(error.to_string(), error.hint()),
    })?;
    staged.log.note(&format!("{text} is {}", image.pinned));
    Ok(image.layout)
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
