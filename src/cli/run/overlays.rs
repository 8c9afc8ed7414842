//! The overlays of a script as files: found, or listed all at once where they are missing, or built first.

use std::path::PathBuf;

use super::options::Exec;
use crate::cli::args::Run;
use crate::cli::failure::{Failure, code};
use crate::cli::{Context, info};
use crate::model::cmd::Cmd;
use crate::model::name::{self, Name};
use crate::model::version::Version;
use crate::script::{Script, Wanted};
use crate::store::overlays::{self, Overlay};
use crate::store::recipes;
use crate::sys::process::{self, Ended};
use crate::sys::{env, fs};
use crate::ui::table;

/// One that is asked for.
struct Ask {
    wanted: Wanted,
    /// Where, or by which flag.
    by: String,
}

/// One that is missing.
struct Missing {
    text: String,
    by: String,
    /// What to build, where there is a recipe.
    name: Option<Name>,
}

/// The words for `ovl exec`: every overlay as an absolute path, then everything else. Order: `#DEP:` lines, modules,
/// option lines, the command line; later ones win.
pub fn resolve(
    label: &str,
    script: &Script,
    exec: Exec,
    args: &Run,
    context: &Context,
) -> Result<Vec<String>, Failure> {
    let mut asks: Vec<Ask> = Vec::new();
    let modules = if args.module { &script.modules[..] } else { &[] };
    for one in script.deps.iter().chain(modules) {
        asks.push(Ask { wanted: one.wanted.clone(), by: one.loc.to_string() });
    }
    let typed = exec.typed.iter().map(|text| (text.clone(), "--overlay".to_owned()));
    for (text, by) in exec.of_lines.iter().cloned().chain(typed) {
        asks.push(Ask { wanted: of_word(&text), by });
    }
    let (mut paths, mut missing) = find(&asks, context)?;
    if !missing.is_empty() && args.auto_install && !args.dry_run {
        install(&missing, context)?;
        (paths, missing) = find(&asks, context)?;
    }
    if !missing.is_empty() {
        return Err(told(label, &missing, args));
    }
    let mut words = Vec::new();
    for path in paths {
        let Some(path) = path.to_str() else {
            return Err(Failure::usage(format!("{}: the path is not UTF-8", path.display())));
        };
        words.push(format!("--overlay={path}"));
    }
    words.extend(exec.words);
    Ok(words)
}

/// As `ovl exec -o` takes it.
fn of_word(text: &str) -> Wanted {
    let ending = std::path::Path::new(text).extension().and_then(|ending| ending.to_str());
    if text.starts_with(['/', '.']) || matches!(ending, Some("sqf" | "squashfs" | "sqfs" | "img" | "ext3" | "sif")) {
        return Wanted::File(text.to_owned());
    }
    match text.parse::<Name>() {
        Ok(name) => Wanted::Need(crate::model::need::Need { name, min: None }),
        Err(_) => Wanted::Newest(text.to_owned()),
    }
}

fn find(asks: &[Ask], context: &Context) -> Result<(Vec<PathBuf>, Vec<Missing>), Failure> {
    let installed = overlays::all(&context.layers)?;
    let (mut paths, mut missing) = (Vec::new(), Vec::<Missing>::new());
    let mut lacks = |text: String, by: &str, name: Option<Name>| {
        if !missing.iter().any(|one| one.text == text) {
            missing.push(Missing { text, by: by.to_owned(), name });
        }
    };
    for Ask { wanted, by } in asks {
        match wanted {
            Wanted::File(text) => {
                let path = match text.strip_prefix("~/") {
                    Some(rest) => {
                        env::var_os("HOME").map_or_else(|| PathBuf::from(text), |home| PathBuf::from(home).join(rest))
                    }
                    None => env::current_dir().join(text.strip_prefix("./").unwrap_or(text)),
                };
                match fs::metadata_if_exists(&path)? {
                    Some(_) => paths.push(path),
                    None => lacks(text.clone(), by, None),
                }
            }
            Wanted::Need(need) => match newest(&installed, &|overlay| need.satisfied_by(&overlay.name)) {
                Some(path) => paths.push(path),
                // A name of one part, or of a version that only looks like one.
                None => match info::locate(&need.to_string(), context) {
                    Ok(path) if need.min.is_none() => paths.push(path),
                    _ => {
                        let known = recipes::find(&context.layers, &need.name)?.is_some();
                        lacks(need.to_string(), by, known.then(|| need.name.clone()));
                    }
                },
            },
            Wanted::Newest(text) => {
                let stem = name::split(text).join("/");
                match newest(&installed, &|overlay| overlay.name.stem() == stem) {
                    Some(path) => paths.push(path),
                    None => lacks(text.clone(), by, None),
                }
            }
        }
    }
    Ok((paths, missing))
}

/// The first layer's of the newest version that will do.
fn newest(installed: &[Overlay], will_do: &dyn Fn(&Overlay) -> bool) -> Option<PathBuf> {
    let mut best: Option<&Overlay> = None;
    for overlay in installed.iter().filter(|overlay| will_do(overlay)) {
        let newer = |best: &Overlay| Version::new(overlay.name.version()) > Version::new(best.name.version());
        if best.is_none_or(newer) {
            best = Some(overlay);
        }
    }
    best.map(|overlay| overlay.path.clone())
}

fn told(label: &str, missing: &[Missing], args: &Run) -> Failure {
    let rows: Vec<Vec<String>> = missing
        .iter()
        .map(|one| {
            let can = if one.name.is_some() { "can be built" } else { "no recipe" };
            vec![format!("  {}", one.text), can.to_owned(), one.by.clone()]
        })
        .collect();
    let noun = if missing.len() == 1 { "overlay is" } else { "overlays are" };
    let failure = Failure::usage(format!("{} {noun} missing\n{}", missing.len(), table::columns(&rows).join("\n")));
    let of_script = missing.iter().all(|one| one.by.contains(':')) && !args.module && label != "-";
    let names: Vec<String> = missing.iter().filter_map(|one| one.name.as_ref()).map(Name::to_string).collect();
    if names.len() < missing.len() {
        return failure.hint("see what is installed with: ovl list    what can be built with: ovl avail");
    }
    if of_script {
        failure.hint(format!("install them with: ovl check -a {label}"))
    } else {
        failure.hint(format!("install them with: ovl build {}", names.join(" ")))
    }
}

/// Builds what is missing, by a process of its own: its standard output is not for our reader.
fn install(missing: &[Missing], context: &Context) -> Result<(), Failure> {
    let names: Vec<String> = missing.iter().filter_map(|one| one.name.as_ref()).map(Name::to_string).collect();
    if names.len() < missing.len() {
        return Ok(());
    }
    context.ui.say(&format!("building what is missing: {}", names.join(", ")));
    let program =
        env::current_exe().map_err(|error| Failure::new(code::ERROR, format!("cannot start ovl: {error}")))?;
    let cmd = Cmd::new(program).args(["build", "--wait"]).args(names);
    match process::run_aside(&cmd) {
        Ok(Ended::Code(0)) => Ok(()),
        Ok(Ended::Code(code)) => {
            Err(Failure::new(u8::try_from(code).unwrap_or(code::ERROR), "what is missing could not be built"))
        }
        Ok(ended) => Err(Failure::new(code::INTERRUPTED, format!("building what is missing: {ended}"))),
        Err(error) => Err(Failure::new(code::ERROR, format!("cannot start ovl: {error}"))),
    }
}
