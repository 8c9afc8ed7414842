//! `ovl exec` and `ovl e`: names → overlays → environment → invocation → the command, which this process becomes.

use std::ffi::{OsStr, OsString};
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use super::args::{Exec, Short, Surroundings};
use super::build::network;
use super::failure::{Failure, Outcome};
use super::{Context, Flag, img, info};
use crate::build::work::scratch;
use crate::exec::environ::LayerEnv;
use crate::exec::{Base, Invocation, Isolation, Mount, Network, System, apptainer, binds, environ};
use crate::model::env::is_name;
use crate::model::name::Name;
use crate::runtime::{self, Choice};
use crate::store::overlays;
use crate::sys::{env, fs};

/// What flags say about the configuration.
pub fn flags(with: &Surroundings) -> Vec<Flag> {
    let runtime = with.runtime.iter().map(|word| ("exec.runtime", "--runtime", word.clone()));
    let gpus = [(with.nv, "--nv", "nvidia"), (with.rocm, "--rocm", "rocm"), (with.no_gpu, "--no-gpu", "none")];
    let gpus = gpus.into_iter().filter(|(given, ..)| *given).map(|(_, flag, word)| ("exec.gpu", flag, word.to_owned()));
    runtime.chain(gpus).collect()
}

/// Overlays as they were asked for.
pub struct Wanted<'a> {
    /// By name or file.
    pub overlays: &'a [String],
    /// The image to write to.
    pub writable: Writable<'a>,
}

/// Which image is written to.
pub enum Writable<'a> {
    /// None, or this one.
    Named(Option<&'a Path>),
    /// The nearest one is taken by itself, to be read or to be written to.
    Nearest {
        /// Whether it is written to.
        write: bool,
        /// Whether one is looked for where none is named.
        look: bool,
    },
}

impl Exec {
    /// What was asked for.
    pub fn wanted(&self) -> Wanted<'_> {
        Wanted { overlays: &self.overlay, writable: Writable::Named(self.writable.as_deref()) }
    }
}

impl Short {
    /// What was asked for.
    pub fn wanted(&self) -> Wanted<'_> {
        Wanted {
            overlays: &self.overlay,
            writable: Writable::Nearest { write: self.writable, look: !self.no_autoload },
        }
    }
}

/// Becomes the command.
pub fn run(wanted: &Wanted, command: &[OsString], with: &Surroundings, context: &Context) -> Outcome {
    let choice = Choice::of(&context.config.runtime());
    foreign_flags(with, choice)?;
    let mut stack = Stack { context, deps: !with.no_deps, layers: Vec::new() };
    for text in wanted.overlays {
        stack.add(info::locate(text, context)?)?;
    }
    let writable = writable(wanted, &mut stack)?;
    let (base, mut layer_env) = base(with.base.as_deref(), context)?;
    for (path, contributed) in &stack.layers {
        if path.to_str().is_none() {
            return Err(Failure::usage(format!("{}: the path is not UTF-8", path.display())));
        }
        layer_env.extend(contributed.iter().cloned());
    }
    if let Some(path) = &writable {
        layer_env.extend(img::layer_env(path)?);
    }
    let cwd = env::current_dir();
    let mut mounts = if base == Base::default() { Vec::new() } else { own_places(&cwd, with.pwd.is_some()) };
    for (from, texts) in [("exec.bind", context.config.binds()), ("--bind", &with.bind)] {
        for text in texts {
            mounts.push(bind(text, &cwd).map_err(|why| Failure::usage(format!("{from}: {why}")))?);
        }
    }
    let set = with.env.iter().map(|text| variable(text)).collect::<Result<Vec<_>, _>>()?;
    let argv = if command.is_empty() { shell() } else { command.to_vec() };
    let invocation = Invocation {
        system: (base != Base::default()).then(|| system(&layer_env, &set, with.cleanenv)),
        base,
        layers: stack.layers.into_iter().map(|(path, _)| path).collect(),
        writable,
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
    };
    if context.ui.verbosity > 0 {
        tell_hidden(&invocation, context)?;
    }
    let say = |line: &str| context.ui.say(&format!("note: {line}"));
    match runtime::run(choice, &invocation, &context.config.state_dir(), &say) {
        Err(error) => Err(error.into()),
        Ok(never) => match never {},
    }
}

/// Hidden files that are named.
const NAMED: usize = 20;

/// Tells what the overlays hide of each other.
fn tell_hidden(invocation: &Invocation, context: &Context) -> Result<(), Failure> {
    let (hidden, total) = runtime::hidden(&invocation.layers, NAMED)?;
    for one in &hidden {
        let (path, of, by) = (one.path.display(), one.of.display(), one.by.display());
        context.ui.say(&format!("{path} of {of} is hidden by {by}"));
    }
    let more = total.saturating_sub(hidden.len() as u64);
    if more > 0 {
        context.ui.say(&format!("and {more} more files are hidden by later overlays"));
    }
    Ok(())
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

/// The image to write to, if any; one to be read goes below the others.
fn writable(wanted: &Wanted, stack: &mut Stack) -> Result<Option<PathBuf>, Failure> {
    match wanted.writable {
        Writable::Named(None) => Ok(None),
        Writable::Named(Some(path)) => {
            let path = env::current_dir().join(path);
            fs::metadata(&path).map_err(|error| {
                Failure::usage(error.to_string()).hint(format!("make it with: ovl overlay create {}", path.display()))
            })?;
            stack.layers.retain(|(other, _)| *other != path);
            Ok(Some(path))
        }
        Writable::Nearest { write, look } => {
            let mut named = None;
            for (place, (path, _)) in stack.layers.iter().enumerate() {
                if img::is_ext(path)? {
                    named = Some(place);
                }
            }
            match (named, write) {
                (Some(place), true) => return Ok(Some(stack.layers.remove(place).0)),
                (Some(_), false) => return Ok(None),
                (None, _) => {}
            }
            let found = if look { img::nearest() } else { None };
            let Some(path) = found else {
                let text = "there is no image to write to: neither env-USER.img nor env.img, here or in overlay/";
                let hint = "make one with: ovl overlay create env.img";
                return if write { Err(Failure::usage(text).hint(hint)) } else { Ok(None) };
            };
            let how = if write { "to be written to" } else { "read-only; -w makes it writable" };
            if stack.context.ui.verbosity > 0 {
                stack.context.ui.say(&format!("with {} ({how})", path.display()));
            }
            if write {
                return Ok(Some(path));
            }
            stack.add(path)?;
            Ok(None)
        }
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
    /// With what each contributes to the environment.
    layers: Vec<(PathBuf, Vec<LayerEnv>)>,
}

impl Stack<'_> {
    fn add(&mut self, path: PathBuf) -> Result<(), Failure> {
        if self.layers.iter().any(|(known, _)| *known == path) {
            return Ok(());
        }
        if img::is_ext(&path)? {
            let contributed = img::layer_env(&path)?.into_iter().collect();
            self.layers.push((path, contributed));
            return Ok(());
        }
        let image = overlays::open(&path)?;
        let facts = overlays::facts(&path, &image)?;
        facts.warnings.iter().for_each(|warning| self.context.ui.warn(warning));
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
        self.layers.push((path, facts.layer_env()));
        Ok(())
    }
}

fn variable(text: &str) -> Result<(String, String), Failure> {
    match text.split_once('=') {
        Some((name, value)) if is_name(name) => Ok((name.to_owned(), value.to_owned())),
        _ => Err(Failure::usage(format!("--env: '{text}' is not NAME=VALUE"))),
    }
}

/// What lies under everything, and what it contributes to the environment: a directory, an image, an overlay by name.
fn base(flag: Option<&Path>, context: &Context) -> Result<(Base, Vec<LayerEnv>), Failure> {
    let path = flag.map_or_else(|| context.config.base(), |path| env::current_dir().join(path));
    let path = match (fs::metadata(&path), flag.and_then(Path::to_str)) {
        (Ok(meta), _) if meta.is_dir() => return Ok((Base::Dir(fs::canonicalize(&path)?), Vec::new())),
        (Ok(_), _) => path,
        (Err(error), Some(text)) if error.is_not_found() => info::locate(text, context)
            .map_err(|failure| Failure::usage(format!("base: {error}")).hint(failure.message))?,
        (Err(error), _) => return Err(Failure::usage(format!("base: {error}"))),
    };
    let mut layer_env = Vec::new();
    if path.extension().is_some_and(|ending| ending == "sqf") {
        let image = overlays::open(&path)?;
        layer_env = overlays::facts(&path, &image)?.layer_env();
    }
    Ok((Base::Image(path), layer_env))
}

/// What of the host a command expects in another system, as Apptainer has it: the home and the working directory. Below
/// the temporary directories they are seen anyway.
fn own_places(cwd: &Path, elsewhere: bool) -> Vec<Mount> {
    let home = env::var_os("HOME").map(PathBuf::from);
    let mut places: Vec<PathBuf> = home.into_iter().chain((!elsewhere).then(|| cwd.to_owned())).collect();
    let seen = |path: &Path| ["/tmp", "/var/tmp", "/dev", "/proc", "/sys"].iter().any(|dir| path.starts_with(dir));
    places.retain(|path| path.is_absolute() && path.parent().is_some() && path.is_dir() && !seen(path));
    places.sort();
    places.dedup_by(|below, above| below.starts_with(above));
    places.into_iter().map(|path| Mount::Bind { source: path.clone(), target: path, writable: true }).collect()
}

/// What overlays and the user say about the environment of a system that has its own.
fn system(layers: &[LayerEnv], set: &[(String, String)], clean: bool) -> System {
    let host = env::all();
    let of = |layers: &[LayerEnv], set: &[(String, String)]| environ::environment(&host, clean, layers, set);
    let plain: std::collections::BTreeMap<OsString, OsString> = of(&[], &[]).into_iter().collect();
    let mut system = System::default();
    for (name, value) in of(layers, set) {
        let before = plain.get(&name);
        if name == "PATH" && !set.iter().any(|(set, _)| set == "PATH") {
            let (value, end) = (value.as_bytes(), before.map_or(&b""[..], |path| path.as_bytes()));
            // Of a PATH that an overlay has made anew nothing is known.
            system.path = OsStr::from_bytes(value.strip_suffix(end).unwrap_or_default()).to_owned();
        } else if before != Some(&value) {
            system.set.push((name, value));
        }
    }
    system
}
