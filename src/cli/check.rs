//! `ovl check`: lint, and dependencies. All findings of all recipes at once, with ids, lines and columns; then what the
//! recipes depend on, installed or missing; `-a` builds what is missing.

use std::path::{Path, PathBuf};

use clap::Parser;
use serde_json::json;

use super::args::{Check, Cli, Command};
use super::failure::{Failure, Outcome, code};
use super::missing::{self, Checked};
use super::{Context, build};
use crate::model::name::{MOST_PARTS, Name};
use crate::model::need::Need;
use crate::recipe::{self, Finding, Rule};
use crate::sched;
use crate::store::recipes::{self, RecipeError};
use crate::store::templates;
use crate::sys::{env, fs};

/// Runs the command.
pub fn run(args: &Check, context: &Context) -> Outcome {
    let mut all: Vec<Finding> = Vec::new();
    let mut clean = Vec::new();
    let mut checked = Vec::new();
    let mut count = 0;
    let mut unread = 0;
    for text in &args.recipes {
        for Source { label, name, bytes } in sources(text, context)? {
            count += 1;
            let bytes = match bytes {
                Ok(bytes) => bytes,
                Err(error) => {
                    unread += 1;
                    context.ui.error(&error.to_string(), &[]);
                    continue;
                }
            };
            let mut parsed = recipe::parse(&label, &bytes);
            // A script that only uses overlays is no recipe; what it needs can be installed all the same.
            let is_script = parsed.findings.iter().any(|finding| finding.rule == Rule::NoInstall);
            parsed.findings.retain(|finding| !(args.auto_install && finding.rule == Rule::NoInstall));
            // What lines with options of `ovl run` ask for, only scripts have.
            let lines = super::run::needs_of_lines(&label, &bytes);
            if let Some(spec) = parsed.spec.as_mut() {
                spec.deps.extend(lines);
            }
            // What a build would refuse (rows C46, C47), or a run of the script.
            let directives = parsed.spec.as_ref().map_or(&[][..], |spec| &spec.directives);
            let read = match args.auto_install && is_script {
                true => sched::read_script(directives, None).map(|_| ()),
                false => sched::read(directives, None).map(|_| ()),
            };
            if let Err(error) = read {
                let finding = Finding::new(Rule::BadDirective, &error.loc, error.why);
                parsed.findings.push(match error.hint {
                    Some(hint) => finding.hint(hint),
                    None => finding,
                });
            }
            if parsed.findings.is_empty() {
                clean.push(label.clone());
            }
            all.extend(parsed.findings);
            checked.extend(parsed.spec.map(|spec| Checked { label, name, spec }));
        }
    }
    let errors = unread + all.iter().filter(|finding| finding.is_error()).count();
    if args.json {
        let findings: Vec<_> = all.iter().map(as_json).collect();
        context.ui.out(&serde_json::to_string_pretty(&findings).unwrap_or_default());
    } else {
        for finding in &all {
            context.ui.out(&finding.to_string());
        }
        clean.iter().for_each(|label| context.ui.out(&format!("OK: {label}")));
        context.ui.say(&format!("{count} checked: {errors} errors, {} other findings", all.len() + unread - errors));
    }
    let needs = missing::of(&checked, context)?;
    if !args.json {
        needs.lines().iter().for_each(|line| context.ui.out(line));
    }
    if !needs.unknown().is_empty() {
        return Err(Failure::usage(format!("missing, and no recipe makes it: {}", names(&needs.unknown())))
            .hint("see what can be built with: ovl avail"));
    }
    if errors > 0 {
        return Ok(code::USAGE);
    }
    if args.auto_install && !needs.beside().is_empty() {
        return Err(Failure::usage(format!("missing, and its recipe is in no layer: {}", names(&needs.beside())))
            .hint("put the recipes into build-scripts/ of a layer, or build each with: ovl build NAME -f FILE"));
    }
    if !needs.are_buildable() {
        return Ok(0);
    }
    if !args.auto_install {
        context.ui.hint(&format!("build what is missing with: ovl check -a {}", args.recipes.join(" ")));
        return Ok(0);
    }
    install(needs.to_build(), context)
}

fn names(needs: &[&Need]) -> String {
    needs.iter().map(ToString::to_string).collect::<Vec<_>>().join(", ")
}

/// As `ovl build` with these names and nothing else would.
fn install(names: &[Name], context: &Context) -> Outcome {
    let line = ["ovl".to_owned(), "build".to_owned()].into_iter().chain(names.iter().map(Name::to_string));
    match Cli::try_parse_from(line).map(|cli| cli.command) {
        Ok(Command::Build(args)) => build::run(&args, context),
        _ => Err(Failure::new(code::ERROR, "cannot build what is missing")),
    }
}

fn as_json(finding: &Finding) -> serde_json::Value {
    json!({
        "id": finding.rule.id(), "severity": finding.rule.severity().to_string(), "file": &*finding.loc.file,
        "line": finding.loc.line, "column": finding.loc.col, "message": finding.message, "hint": finding.hint,
    })
}

/// A recipe to check.
struct Source {
    label: String,
    /// The name it would have in a layer; None for a file given alone.
    name: Option<Name>,
    bytes: Result<Vec<u8>, RecipeError>,
}

impl Source {
    fn new(label: String, name: Option<Name>, bytes: Result<Vec<u8>, RecipeError>) -> Source {
        Source { label, name, bytes }
    }
}

/// The recipes that an argument means: a file, a directory of files, or a name.
fn sources(text: &str, context: &Context) -> Result<Vec<Source>, Failure> {
    let path = env::current_dir().join(text);
    match fs::metadata_if_exists(&path)? {
        Some(meta) if meta.is_dir() => {
            let mut found = Vec::new();
            walk(&path, &PathBuf::from(text), &mut Vec::new(), &mut found);
            if found.is_empty() {
                return Err(Failure::usage(format!("{text}: no recipes in this directory")));
            }
            Ok(found)
        }
        Some(_) => Ok(vec![Source::new(text.to_owned(), None, recipes::read_file(&path))]),
        None => {
            if let Some(file) = templates::named(&context.layers, text)? {
                return Ok(vec![Source::new(file.label(), None, file.read())]);
            }
            let name: Name = text.parse().map_err(|_| {
                Failure::usage(format!("{text}: neither a file nor a name of a recipe"))
                    .hint("see what can be built with: ovl avail")
            })?;
            let found = recipes::find(&context.layers, &name)?;
            let found = found.ok_or_else(|| {
                Failure::usage(format!("{text}: neither a file nor a known recipe"))
                    .hint("see what can be built with: ovl avail")
            })?;
            Ok(vec![Source::new(found.label(), Some(name), found.read())])
        }
    }
}

/// What cannot be read is an error of its own, told with those of the others.
fn walk(dir: &Path, shown: &Path, parts: &mut Vec<String>, found: &mut Vec<Source>) {
    let files = fs::list(dir).unwrap_or_else(|error| {
        found.push(Source::new(shown.display().to_string(), None, Err(error.into())));
        Vec::new()
    });
    for file in files {
        if file.to_string_lossy().starts_with('.') {
            continue;
        }
        let (path, shown) = (dir.join(&file), shown.join(&file));
        let label = shown.display().to_string();
        parts.push(file.to_string_lossy().into_owned());
        match fs::metadata_if_exists(&path) {
            Ok(Some(meta)) if meta.is_dir() && parts.len() <= MOST_PARTS => walk(&path, &shown, parts, found),
            Ok(Some(meta)) if meta.is_file() => {
                let joined = parts.join("/");
                let name = joined.strip_suffix(".sh").unwrap_or(&joined).parse().ok();
                found.push(Source::new(label, name, recipes::read_file(&path)));
            }
            Ok(_) => {}
            Err(error) => found.push(Source::new(label, None, Err(error.into()))),
        }
        parts.pop();
    }
}
