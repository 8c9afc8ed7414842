//! `ovl module`: modulefiles for Lmod and Environment Modules out of what overlays say about themselves, with their
//! programs on PATH by wrappers.

use std::path::{Path, PathBuf};

use super::args::{FormatArg, Module as Args};
use super::failure::{Failure, Outcome};
use super::{Context, info, wrap};
use crate::exec::modulefile::{Format, MARK, Module};
use crate::model::name::Name;
use crate::store::overlays::{self, Facts};
use crate::sys::{env, fs};

/// An overlay that gets a modulefile.
struct One {
    name: Name,
    path: PathBuf,
    facts: Facts,
}

/// Runs the command.
pub fn run(args: &Args, context: &Context) -> Outcome {
    let mut all = Vec::new();
    for text in &args.names {
        let path = info::locate(text, context)?;
        let label = wrap::label(&path, context)?;
        let name = label.parse::<Name>().ok().filter(|_| !label.starts_with('/')).ok_or_else(|| {
            Failure::usage(format!("{} is in no layer: a module needs a name", path.display()))
                .hint("see what is installed with: ovl list")
        })?;
        add(&mut all, name, path, !args.no_deps, context)?;
    }
    let format = match args.format {
        FormatArg::Lua => Format::Lua,
        FormatArg::Tcl => Format::Tcl,
    };
    let Some(dir) = &args.dir else {
        return print(&all, format, context);
    };
    let dir = env::current_dir().join(dir);
    let bin = args.bin_dir.as_ref().map(|bin| env::current_dir().join(bin));
    let mut plans = Vec::new();
    for one in &all {
        let file = dir.join(format.file(&one.name));
        may_write(&file, args.force)?;
        let found = wrap::programs_of(&one.path)?;
        let bin = wrappers_of(&one.name, &file, bin.as_deref());
        let wrappers = wrap::plan(&one.name.to_string(), &found, &bin, args.force)?;
        let on_path = (!found.is_empty()).then(|| utf8(&bin)).transpose()?;
        plans.push((file, module(one, &all, on_path).text(format), bin, wrappers));
    }
    for (file, text, bin, wrappers) in plans {
        if args.dry_run {
            context.ui.out(&file.display().to_string());
            continue;
        }
        if !wrappers.files.is_empty() {
            wrappers.write(&bin)?;
            retire(&bin, &wrappers)?;
        }
        fs::create_dirs(file.parent().unwrap_or(&dir))?;
        fs::write_quick(&file, text.as_bytes(), 0o644)?;
        fs::set_mode(&file, 0o644)?;
        context.ui.say(&format!("{} with {} programs", file.display(), wrappers.files.len()));
    }
    if !args.dry_run {
        context.ui.hint(&format!("make them known with: module use {}", dir.display()));
    }
    Ok(0)
}

/// One modulefile on stdout, without wrappers: there is no place for them.
fn print(all: &[One], format: Format, context: &Context) -> Outcome {
    for (number, one) in all.iter().enumerate() {
        if number > 0 {
            context.ui.out("");
        }
        context.ui.out_bytes(module(one, all, None).text(format).as_bytes());
    }
    context.ui.hint("its programs come with a directory: -d DIR writes modulefiles and wrappers");
    Ok(0)
}

/// Adds an overlay after what it needs.
fn add(all: &mut Vec<One>, name: Name, path: PathBuf, deps: bool, context: &Context) -> Result<(), Failure> {
    if all.iter().any(|one| one.name == name) {
        return Ok(());
    }
    let image = overlays::open(&path)?;
    let facts = overlays::facts(&path, &image)?;
    facts.warnings.iter().for_each(|warning| context.ui.warn(warning));
    for need in needs(&facts).filter(|_| deps) {
        match overlays::find(&context.layers, need)? {
            Some(found) => add(all, need.clone(), found.path, deps, context)?,
            None => context.ui.warn(&format!("{name} needs {need}, which is not installed")),
        }
    }
    if !all.iter().any(|one| one.name == name) {
        all.push(One { name, path, facts });
    }
    Ok(())
}

fn needs(facts: &Facts) -> impl Iterator<Item = &Name> {
    let dependencies = facts.meta.iter().flat_map(|meta| &meta.inputs.dependencies);
    dependencies.filter(|dependency| !dependency.build_only).map(|dependency| &dependency.name)
}

fn module(one: &One, all: &[One], wrappers: Option<String>) -> Module {
    let meta = one.facts.meta.as_ref();
    let root = one.facts.roots.last().map_or_else(|| one.name.root(), |root| root.path.clone());
    let known = |need: &&Name| all.iter().any(|other| other.name == **need);
    Module {
        name: one.name.clone(),
        whatis: meta.and_then(|meta| meta.whatis.clone()),
        url: meta.and_then(|meta| meta.url.clone()),
        needs: needs(&one.facts).filter(known).cloned().collect(),
        changes: Module::changes(&root, &one.facts.env),
        wrappers,
    }
}

/// Where a module's wrappers go: below the given directory, or hidden beside the modulefile.
fn wrappers_of(name: &Name, file: &Path, bin: Option<&Path>) -> PathBuf {
    match bin {
        Some(bin) => bin.join(name.to_string()),
        None => file.with_file_name(format!(".{}.bin", name.version())),
    }
}

/// Removes wrappers of programs that the overlay no longer has.
fn retire(dir: &Path, now: &wrap::Wrappers) -> Result<(), Failure> {
    for path in wrap::ours(dir)? {
        if !now.files.iter().any(|(file, _)| *file == path) {
            fs::remove_file(&path)?;
        }
    }
    Ok(())
}

fn may_write(file: &Path, force: bool) -> Result<(), Failure> {
    let Some(bytes) = fs::read_if_exists(file)? else { return Ok(()) };
    let ours = String::from_utf8_lossy(&bytes).lines().take(3).any(|line| line.contains(MARK));
    if ours || force {
        return Ok(());
    }
    Err(Failure::usage(format!("{} was not made by ovl, nothing was written", file.display()))
        .hint("choose another directory with -d, or replace it with --force"))
}

fn utf8(path: &Path) -> Result<String, Failure> {
    let text = path.to_str().filter(|text| !text.contains(':'));
    text.map(str::to_owned)
        .ok_or_else(|| Failure::usage(format!("{}: a path with ':' or odd bytes cannot be on PATH", path.display())))
}
