//! `ovl wrap`: thin scripts on PATH for the programs of an overlay. All is looked at before anything is written.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use super::args::Wrap;
use super::failure::{Failure, Outcome, code};
use super::{Context, info};
use crate::exec::wrapper::Wrapper;
use crate::model::name::Name;
use crate::store::{overlays, programs};
use crate::sys::{env, fs};

/// Largest file that can be one of ours.
const LARGEST: usize = 64 << 10;

/// Runs the command.
pub fn run(args: &Wrap, context: &Context) -> Outcome {
    let dir = match &args.dir {
        Some(dir) => env::current_dir().join(dir),
        None => context.config.wrap_dir(),
    };
    if args.remove {
        return remove(&args.overlay, &dir, args.dry_run, context);
    }
    let path = info::locate(&args.overlay, context)?;
    let overlay = label(&path, context)?;
    let mut found = programs_of(&path)?;
    if let Some(unknown) = args.only.iter().find(|name| !found.contains_key(*name)) {
        let near = found.keys().min_by_key(|name| strsim::damerau_levenshtein(name, unknown));
        let failure = Failure::usage(format!("{overlay} has no program '{unknown}'"));
        return Err(match near {
            Some(near) => failure.hint(format!("did you mean {near}?")),
            None => failure,
        });
    }
    found.retain(|name, _| args.only.is_empty() || args.only.contains(name));
    if found.is_empty() {
        return Err(Failure::usage(format!("{overlay} has no programs: nothing executable in its bin or sbin")));
    }
    let plan = plan(&overlay, &found, &dir, args.force)?;
    if args.dry_run {
        plan.files.iter().for_each(|(path, _)| context.ui.out(&path.display().to_string()));
        return Ok(0);
    }
    for (program, before) in &plan.moved {
        context.ui.say(&format!("{program} is of {overlay} from now on, no longer of {before}"));
    }
    plan.write(&dir)?;
    context.ui.say(&format!("{} of {overlay} in {}", count(plan.files.len()), dir.display()));
    let on_path = env::var_os("PATH").is_some_and(|path| std::env::split_paths(&path).any(|one| one == dir));
    if !on_path {
        context.ui.hint(&if args.dir.is_none() {
            "put that directory on PATH with: eval \"$(ovl shell-init bash)\"".to_owned()
        } else {
            format!("{} is not on PATH yet", dir.display())
        });
    }
    Ok(0)
}

fn count(number: usize) -> String {
    format!("{number} wrapper{}", if number == 1 { "" } else { "s" })
}

/// What an overlay is called in its wrappers: its exact name where that finds it, else its path.
pub fn label(path: &Path, context: &Context) -> Result<String, Failure> {
    let name = path.file_stem().and_then(|stem| stem.to_str()).and_then(Name::from_file_stem);
    if let Some(name) = name
        && overlays::find(&context.layers, &name)?.is_some_and(|found| found.path == path)
    {
        return Ok(name.to_string());
    }
    let path = fs::canonicalize(path)?;
    path.to_str().map(str::to_owned).ok_or_else(|| Failure::usage(format!("{}: the path is not UTF-8", path.display())))
}

/// The programs of an overlay, by name.
pub fn programs_of(path: &Path) -> Result<BTreeMap<String, String>, Failure> {
    let image = overlays::open(path)?;
    let facts = overlays::facts(path, &image)?;
    programs::of(&image, &facts).map_err(|error| Failure::new(code::ERROR, format!("{}: {error}", path.display())))
}

/// Wrappers to be written.
pub struct Wrappers {
    /// Each file with its content.
    pub files: Vec<(PathBuf, String)>,
    /// Programs that were another overlay's, with its label.
    pub moved: Vec<(String, String)>,
}

/// Looks at everything that would be replaced.
///
/// # Errors
/// When there are files that are none of ours, all of them named, and `force` is not given.
pub fn plan(overlay: &str, found: &BTreeMap<String, String>, dir: &Path, force: bool) -> Result<Wrappers, Failure> {
    let exe = env::current_exe().map_err(|error| Failure::new(code::ERROR, format!("where ovl is: {error}")))?;
    let exe = exe.to_str().ok_or_else(|| Failure::usage(format!("{}: the path is not UTF-8", exe.display())))?;
    let mut plan = Wrappers { files: Vec::new(), moved: Vec::new() };
    let mut foreign = Vec::new();
    for (name, program) in found {
        let path = dir.join(name);
        match at(&path)? {
            There::Nothing => {}
            There::Ours(known) if known.overlay == overlay => {}
            There::Ours(known) => plan.moved.push((name.clone(), known.overlay)),
            There::Other if force => {}
            There::Other | There::Directory => foreign.push(path.display().to_string()),
        }
        let wrapper = Wrapper { overlay: overlay.to_owned(), program: program.clone() };
        plan.files.push((path, wrapper.text(exe)));
    }
    if foreign.is_empty() {
        return Ok(plan);
    }
    Err(Failure::usage(format!("these are no wrappers of ovl's, nothing was written: {}", foreign.join(", ")))
        .hint("choose programs with --only, another directory with -d, or replace the files with --force"))
}

impl Wrappers {
    /// Writes them, each at once.
    pub fn write(&self, dir: &Path) -> Result<(), Failure> {
        fs::create_dirs(dir)?;
        for (path, text) in &self.files {
            fs::write_quick(path, text.as_bytes(), 0o755)?;
            // Whatever the umask is: scripts that only their owner may run are of no use in a shared directory.
            fs::set_mode(path, 0o755)?;
        }
        Ok(())
    }
}

/// The wrappers of ours in a directory.
pub fn ours(dir: &Path) -> Result<Vec<PathBuf>, Failure> {
    let mut found = Vec::new();
    for name in fs::list_if_exists(dir)? {
        let path = dir.join(name);
        if matches!(at(&path)?, There::Ours(_)) {
            found.push(path);
        }
    }
    Ok(found)
}

/// What is at a path.
enum There {
    Nothing,
    Ours(Wrapper),
    Other,
    Directory,
}

fn at(path: &Path) -> Result<There, Failure> {
    let meta = match fs::symlink_metadata(path) {
        Ok(meta) => meta,
        Err(error) if error.is_not_found() => return Ok(There::Nothing),
        Err(error) => return Err(error.into()),
    };
    if meta.is_dir() {
        return Ok(There::Directory);
    }
    if !meta.is_file() {
        return Ok(There::Other);
    }
    let content = fs::read_start(path, LARGEST).unwrap_or_default();
    Ok(Wrapper::read(&content).map_or(There::Other, There::Ours))
}

fn remove(overlay: &str, dir: &Path, dry_run: bool, context: &Context) -> Outcome {
    let path = env::current_dir().join(overlay);
    let path = fs::canonicalize(&path).unwrap_or(path);
    let mut gone = 0;
    for name in fs::list_if_exists(dir)? {
        let file = dir.join(&name);
        let There::Ours(wrapper) = at(&file)? else { continue };
        if !wrapper.is_of(overlay) && Path::new(&wrapper.overlay) != path {
            continue;
        }
        if dry_run {
            context.ui.out(&file.display().to_string());
        } else {
            fs::remove_file(&file)?;
        }
        gone += 1;
    }
    if gone == 0 {
        return Err(Failure::usage(format!("{} holds no wrappers of {overlay}", dir.display())));
    }
    if !dry_run {
        context.ui.say(&format!("removed {} from {}", count(gone), dir.display()));
    }
    Ok(0)
}
