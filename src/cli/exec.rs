//! `ovl exec` and `ovl e`: names → overlays → environment → invocation → the command, which this process becomes.

use std::ffi::OsString;
use std::path::{Path, PathBuf};

use super::args::Surroundings;
use super::build::network;
use super::failure::{Failure, Outcome};
use super::{Context, Flag, info};
use crate::build::work::scratch;
use crate::exec::{Base, Invocation, Isolation, Mount, Network, apptainer, binds, environ};
use crate::image::kind::{self, Kind};
use crate::model::env::is_name;
use crate::model::name::Name;
use crate::runtime::{self, Choice};
use crate::store::overlays::{self, Facts};
use crate::sys::{env, fs};

/// What flags say about the configuration.
pub fn flags(with: &Surroundings) -> Vec<Flag> {
    let runtime = with.runtime.iter().map(|word| ("exec.runtime", "--runtime", word.clone()));
    let gpus = [(with.nv, "--nv", "nvidia"), (with.rocm, "--rocm", "rocm"), (with.no_gpu, "--no-gpu", "none")];
    let gpus = gpus.into_iter().filter(|(given, ..)| *given).map(|(_, flag, word)| ("exec.gpu", flag, word.to_owned()));
    runtime.chain(gpus).collect()
}

/// Becomes the command.
pub fn run(wanted: &[String], command: &[OsString], with: &Surroundings, context: &Context) -> Outcome {
    let choice = Choice::of(&context.config.runtime());
    foreign_flags(with, choice)?;
    let mut stack = Stack { context, deps: !with.no_deps, layers: Vec::new() };
    for text in wanted {
        stack.add(info::locate(text, context)?)?;
    }
    let mut layer_env = Vec::new();
    for (path, facts) in &stack.layers {
        facts.warnings.iter().for_each(|warning| context.ui.warn(warning));
        if path.to_str().is_none() {
            return Err(Failure::usage(format!("{}: the path is not UTF-8", path.display())));
        }
        layer_env.extend(facts.layer_env());
    }
    let cwd = env::current_dir();
    let mut mounts = Vec::new();
    for (from, texts) in [("exec.bind", context.config.binds()), ("--bind", &with.bind)] {
        for text in texts {
            mounts.push(bind(text, &cwd).map_err(|why| Failure::usage(format!("{from}: {why}")))?);
        }
    }
    let set = with.env.iter().map(|text| variable(text)).collect::<Result<Vec<_>, _>>()?;
    let argv = if command.is_empty() { shell() } else { command.to_vec() };
    let invocation = Invocation {
        base: base(with.base.as_deref(), context)?,
        layers: stack.layers.into_iter().map(|(path, _)| path).collect(),
        mounts,
        isolation: Isolation { network: with.network.map_or(Network::Host, network), ..Isolation::default() },
        scratch: scratch(&context.config),
        gpus: runtime::gpu::wanted(&context.config.gpu(), context.config.nvliblist()),
        unpack: with.unpack,
        fakeroot: with.fakeroot,
        flags: with.apptainer_arg.clone(),
        cwd: with.pwd.as_ref().map_or(cwd.clone(), |dir| cwd.join(dir)),
        env: environ::environment(&env::all(), with.cleanenv, &layer_env, &set),
        argv,
        ..Invocation::default()
    };
    let say = |line: &str| context.ui.say(&format!("note: {line}"));
    match runtime::run(choice, &invocation, &context.config.state_dir(), &say) {
        Err(error) => Err(error.into()),
        Ok(never) => match never {},
    }
}

/// Refuses flags for Apptainer where something else may run the command, or that are none.
fn foreign_flags(with: &Surroundings, choice: Choice) -> Result<(), Failure> {
    for flag in &with.apptainer_arg {
        apptainer::foreign(flag).map_err(|why| Failure::usage(format!("--apptainer-arg: {why}")))?;
    }
    match with.apptainer_arg.first().filter(|_| choice.program().is_none()) {
        Some(flag) => Err(Failure::usage(format!("--apptainer-arg: the native runtime knows no {}", flag.display()))
            .hint("choose what knows it with: --runtime apptainer, or --runtime singularity")),
        None => Ok(()),
    }
}

fn bind(text: &str, cwd: &Path) -> Result<Mount, String> {
    let mount = binds::parse(text, cwd)?;
    if let Mount::Bind { source, .. } = &mount {
        fs::metadata(source).map_err(|error| error.to_string())?;
    }
    Ok(mount)
}

fn shell() -> Vec<OsString> {
    vec!["bash".into()]
}

/// Overlays in mounting order: what an overlay needs lies below it, and nothing lies there twice.
struct Stack<'a> {
    context: &'a Context,
    deps: bool,
    layers: Vec<(PathBuf, Facts)>,
}

impl Stack<'_> {
    fn add(&mut self, path: PathBuf) -> Result<(), Failure> {
        if self.layers.iter().any(|(known, _)| *known == path) {
            return Ok(());
        }
        // Such images say nothing about themselves; what cannot be read is told below.
        if kind::of(&fs::open(&path)?).is_ok_and(|kind| kind == Kind::Ext) {
            self.layers.push((path, Facts::default()));
            return Ok(());
        }
        let image = overlays::open(&path)?;
        let facts = overlays::facts(&path, &image)?;
        let needed: Vec<Name> = match &facts.meta {
            Some(meta) if self.deps => {
                meta.inputs.dependencies.iter().filter(|dep| !dep.build_only).map(|dep| dep.name.clone()).collect()
            }
            _ => Vec::new(),
        };
        for name in needed {
            match overlays::find(&self.context.layers, &name)? {
                Some(overlay) => self.add(overlay.path)?,
                None => self.context.ui.warn(&format!(
                    "{} was built with {name}, which is not installed; install it with: ovl build {name}",
                    path.display()
                )),
            }
        }
        self.layers.push((path, facts));
        Ok(())
    }
}

fn variable(text: &str) -> Result<(String, String), Failure> {
    match text.split_once('=') {
        Some((name, value)) if is_name(name) => Ok((name.to_owned(), value.to_owned())),
        _ => Err(Failure::usage(format!("--env: '{text}' is not NAME=VALUE"))),
    }
}

fn base(flag: Option<&Path>, context: &Context) -> Result<Base, Failure> {
    let path = flag.map_or_else(|| context.config.base(), |path| env::current_dir().join(path));
    let meta = fs::metadata(&path).map_err(|error| Failure::usage(format!("base: {error}")))?;
    Ok(if meta.is_dir() { Base::Dir(fs::canonicalize(&path)?) } else { Base::Image(path) })
}
