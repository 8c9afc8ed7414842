//! `ovl base`: the systems that overlays are run on; the host itself needs nothing, others are fetched or built.

use std::path::{Path, PathBuf};

use clap::Parser;
use serde_json::json;

use super::args::{Base as Args, BaseAction, Cli, Command};
use super::failure::{Failure, Outcome, code};
use super::{Context, build, info};
use crate::build::base::{self as prebuilt, Prebuilt};
use crate::config::edit;
use crate::config::resolve::user_file;
use crate::model::name::Name;
use crate::model::units::show_size;
use crate::net::{self, Watch};
use crate::store::bases;
use crate::store::usage::{self, Usage};
use crate::sys::{env, fs, signal};
use crate::ui::{Ui, table};

/// Runs the command.
pub fn run(args: &Args, context: &Context) -> Outcome {
    match &args.action {
        BaseAction::List { json } => list(*json, context),
        BaseAction::Use { base } => choose(base, context),
        BaseAction::Ensure { name, offline, layer } => {
            ensure(&meant(name.as_deref(), context)?, *offline, layer.as_deref(), context)
        }
        BaseAction::Update { name, layer } => update(&meant(name.as_deref(), context)?, layer.as_deref(), context),
    }
}

fn list(as_json: bool, context: &Context) -> Outcome {
    let current = context.config.base();
    let all = bases::all(&context.layers)?;
    let known = |path: &Path| path == Path::new("/") || all.iter().any(|base| base.path == path);
    if as_json {
        let host = json!({ "name": "/", "path": "/", "kind": "host", "layer": null, "bytes": null, "current": current == Path::new("/") });
        let one = |base: &bases::BaseImage| {
            json!({
                "name": base.name, "path": base.path, "kind": base.kind, "layer": base.layer, "bytes": base.bytes,
                "current": base.path == current,
            })
        };
        let mut items: Vec<serde_json::Value> = std::iter::once(host).chain(all.iter().map(one)).collect();
        if !known(&current) {
            items.push(
                json!({ "name": null, "path": current, "kind": "path", "layer": null, "bytes": null, "current": true }),
            );
        }
        context.ui.out(&serde_json::to_string_pretty(&items).unwrap_or_default());
        return Ok(0);
    }
    let mark = |path: &Path| if path == current { "*".to_owned() } else { String::new() };
    let mut rows = vec![vec![
        mark(Path::new("/")),
        "/".into(),
        "host".into(),
        "this machine, needs nothing".into(),
        String::new(),
    ]];
    rows.extend(all.iter().map(|base| {
        let what = format!("{}, {}", base.layer, show_size(base.bytes));
        vec![mark(&base.path), base.name.to_string(), base.kind.to_owned(), what, base.path.display().to_string()]
    }));
    if !known(&current) {
        let there = if current.exists() { "" } else { "not there" };
        rows.push(vec!["*".into(), current.display().to_string(), "path".into(), there.into(), String::new()]);
    }
    table::columns(&rows).iter().for_each(|line| context.ui.out(line));
    Ok(0)
}

/// The file or directory that a user means.
fn path_of(text: &str, context: &Context) -> Result<PathBuf, Failure> {
    let path = env::current_dir().join(text);
    if text.starts_with(['/', '.']) || (fs::metadata_if_exists(&path)?.is_some() && !text.contains('/')) {
        let path = fs::canonicalize(&path).map_err(|error| Failure::usage(error.to_string()))?;
        if path.is_file() {
            bases::ending_of(&path).map_err(|error| Failure::usage(format!("{}: {error}", path.display())))?;
        }
        return Ok(path);
    }
    let name: Name = text.parse()?;
    if let Some(path) = bases::find(&context.layers, &name)? {
        return Ok(path);
    }
    let failure = match info::locate(text, context) {
        Ok(path) => Failure::usage(format!("{} holds no system, only {name}", path.display())),
        Err(_) => {
            Failure::usage(format!("there is no system '{text}'")).hint(format!("get it with: ovl base ensure {name}"))
        }
    };
    Err(failure.hint("see what there is with: ovl base list"))
}

fn choose(text: &str, context: &Context) -> Outcome {
    let path = path_of(text, context)?;
    let value = path.to_str().ok_or_else(|| Failure::usage(format!("{}: the path is not UTF-8", path.display())))?;
    let file = user_file();
    let before = fs::read_if_exists(&file)?.unwrap_or_default();
    let odd = |why: &str| Failure::usage(format!("{}:{why}", file.display()));
    let before = String::from_utf8(before).map_err(|_| odd(" it is not UTF-8"))?;
    let after = edit::set(&before, "exec.base", value).map_err(|why| odd(&why))?;
    if let Some(dir) = file.parent() {
        fs::create_dirs(dir)?;
    }
    // A link, as people have who keep their files in a repository, stays one.
    let real = if file.exists() { fs::canonicalize(&file)? } else { file.clone() };
    let mode = fs::metadata_if_exists(&real)?.map_or(0o644, |meta| std::os::unix::fs::MetadataExt::mode(&meta) & 0o777);
    if after != before {
        fs::write_atomic(&real, after.as_bytes(), mode)?;
    }
    context.ui.out(&format!("exec.base: {value} ({})", file.display()));
    if let Some(other) = env::var("OVL_EXEC_BASE") {
        context.ui.warn(&format!("OVL_EXEC_BASE is set and wins: {other}"));
    }
    Ok(0)
}

/// The system that is meant: by its name, or the one that the configuration names.
fn meant(name: Option<&str>, context: &Context) -> Result<Meant, Failure> {
    if let Some(text) = name {
        return Ok(if text == "/" { Meant::Host } else { Meant::Named(text.parse()?) });
    }
    let path = context.config.base();
    if path == Path::new("/") {
        return Ok(Meant::Host);
    }
    let ours = |dir: PathBuf| path.parent() == Some(&dir);
    let in_layer =
        context.layers.dirs().iter().any(|layer| ours(bases::place(layer)) || ours(layer.path.join("images")));
    let name = path.file_stem().and_then(|stem| stem.to_str()).and_then(Name::from_file_stem);
    Ok(match name.filter(|_| in_layer) {
        Some(name) => Meant::Named(name),
        None => Meant::Path(path),
    })
}

enum Meant {
    Host,
    Path(PathBuf),
    Named(Name),
}

fn ensure(meant: &Meant, offline: bool, layer: Option<&str>, context: &Context) -> Outcome {
    let name = match meant {
        Meant::Host => {
            context.ui.out("/: the host itself, needs nothing");
            return Ok(0);
        }
        Meant::Path(path) => {
            fs::metadata(path).map_err(|error| {
                Failure::new(code::UNFIT, format!("exec.base: {error}")).hint("choose another with: ovl base use")
            })?;
            context.ui.out(&format!("{}: there", path.display()));
            return Ok(0);
        }
        Meant::Named(name) => name,
    };
    if let Some(path) = bases::find(&context.layers, name)? {
        context.ui.out(&format!("{name}: there ({})", path.display()));
        return Ok(0);
    }
    match wanted(name, context)? {
        Some(prebuilt) => match fetch(&prebuilt, offline, layer, context) {
            Ok(()) => Ok(0),
            // A server that is gone is no reason to have no system, if there is a definition; a wrong digest is one.
            Err(failure) if failure.code != code::ERROR || !has_recipe(name, context)? => Err(failure),
            Err(failure) => {
                context.ui.warn(&format!("{}; building it instead", failure.message));
                make(name, false, offline, layer, context)
            }
        },
        None => make(name, false, offline, layer, context),
    }
}

fn update(meant: &Meant, layer: Option<&str>, context: &Context) -> Outcome {
    let name = match meant {
        Meant::Host => return Err(Failure::usage("the host itself is not ovl's to update")),
        Meant::Path(path) => {
            return Err(Failure::usage(format!("{} is not of ovl's making; name a system", path.display())));
        }
        Meant::Named(name) => name,
    };
    if let Some(path) = bases::find(&context.layers, name)? {
        context.layers.may_change(&path)?;
        match usage::of(&path)? {
            Usage::By(who) => {
                return Err(Failure::new(code::BUSY, format!("cannot update {name}: it is in use by {who}"))
                    .hint("try again when nobody runs anything on it"));
            }
            Usage::Unknown => context.ui.warn(&format!(
                "{} has no file locks: whether the system is in use cannot be told",
                path.parent().unwrap_or(&path).display()
            )),
            Usage::Free => {}
        }
    }
    match wanted(name, context)? {
        Some(prebuilt) => fetch(&prebuilt, false, layer, context).map(|()| 0),
        None => make(name, true, false, layer, context),
    }
}

fn wanted(name: &Name, context: &Context) -> Result<Option<Prebuilt>, Failure> {
    Ok(prebuilt::list(&context.config)?.into_iter().find(|one| one.name == *name))
}

fn has_recipe(name: &Name, context: &Context) -> Result<bool, Failure> {
    Ok(crate::store::recipes::find(&context.layers, name)?.is_some())
}

struct Shown {
    ui: Ui,
}

impl Watch for Shown {
    fn progress(&self, _done: u64, _total: Option<u64>) {}

    fn cancelled(&self) -> bool {
        signal::interrupted().is_some()
    }

    fn note(&self, text: &str) {
        self.ui.say(text);
    }
}

fn fetch(what: &Prebuilt, offline: bool, layer: Option<&str>, context: &Context) -> Result<(), Failure> {
    let layer = context.layers.writable(layer)?;
    let config = if offline {
        context.config.clone().with_flag("net.offline", "--offline", "true".into())
    } else {
        context.config.clone()
    };
    context.ui.say(&format!("{}: fetching {}", what.name, net::redacted(&what.url)));
    let (path, fetched) = prebuilt::fetch(what, &layer, &config, &Shown { ui: context.ui })?;
    if what.sha256.is_none() {
        context
            .ui
            .warn(&format!("base.prebuilt gives no digest for {}; what came has sha256={}", what.name, fetched.sha256));
    }
    context.ui.out(&format!("{}: fetched ({}, {})", what.name, path.display(), show_size(fetched.bytes)));
    context.ui.hint(&format!("run on it from now on with: ovl base use {}", what.name));
    Ok(())
}

/// Builds it as `ovl build` does.
fn make(name: &Name, update: bool, offline: bool, layer: Option<&str>, context: &Context) -> Outcome {
    let name = name.to_string();
    let mut words = vec!["ovl", "build", "--no-submit"];
    words.extend(update.then_some("--update"));
    words.extend(offline.then_some("--offline"));
    words.extend(layer.into_iter().flat_map(|layer| ["--layer", layer]));
    words.extend(["--", &name]);
    let parsed = Cli::try_parse_from(words).map_err(|error| Failure::usage(error.to_string()))?;
    let Command::Build(args) = parsed.command else { return Err(Failure::usage("this is no build")) };
    let mut config = context.config.clone();
    for (key, flag, value) in build::flags(&args) {
        config = config.with_flag(key, flag, value);
    }
    let layers = crate::store::layers::Layers::new(&config);
    build::run(&args, &Context { config, layers, ui: context.ui })
}
