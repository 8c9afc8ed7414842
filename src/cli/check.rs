//! `ovl check`: lint. All findings of all recipes at once, with ids, lines and columns.

use std::path::{Path, PathBuf};

use serde_json::json;

use super::Context;
use super::args::Check;
use super::failure::{Failure, Outcome, code};
use crate::model::name::Name;
use crate::recipe::{self, Finding};
use crate::store::recipes::{self, RecipeError};
use crate::sys::{env, fs};

/// Runs the command.
pub fn run(args: &Check, context: &Context) -> Outcome {
    let mut all: Vec<Finding> = Vec::new();
    let mut clean = Vec::new();
    let mut count = 0;
    let mut unread = 0;
    for text in &args.recipes {
        for (label, bytes) in sources(text, context)? {
            count += 1;
            let bytes = match bytes {
                Ok(bytes) => bytes,
                Err(error) => {
                    unread += 1;
                    context.ui.error(&error.to_string(), &[]);
                    continue;
                }
            };
            let findings = recipe::parse(&label, &bytes).findings;
            if findings.is_empty() {
                clean.push(label);
            }
            all.extend(findings);
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
    Ok(if errors > 0 { code::USAGE } else { 0 })
}

fn as_json(finding: &Finding) -> serde_json::Value {
    json!({
        "id": finding.rule.id(), "severity": finding.rule.severity().to_string(), "file": &*finding.loc.file,
        "line": finding.loc.line, "column": finding.loc.col, "message": finding.message, "hint": finding.hint,
    })
}

type Source = (String, Result<Vec<u8>, RecipeError>);

/// The recipes that an argument means: a file, a directory of files, or a name.
fn sources(text: &str, context: &Context) -> Result<Vec<Source>, Failure> {
    let path = env::current_dir().join(text);
    match fs::metadata_if_exists(&path)? {
        Some(meta) if meta.is_dir() => {
            let mut found = Vec::new();
            walk(&path, &PathBuf::from(text), 0, &mut found);
            if found.is_empty() {
                return Err(Failure::usage(format!("{text}: no recipes in this directory")));
            }
            Ok(found)
        }
        Some(_) => Ok(vec![(text.to_owned(), recipes::read_file(&path))]),
        None => {
            let name: Name = text.parse().map_err(|_| {
                Failure::usage(format!("{text}: neither a file nor a name of a recipe"))
                    .hint("see what can be built with: ovl avail")
            })?;
            let found = recipes::find(&context.layers, &name)?;
            let found = found.ok_or_else(|| {
                Failure::usage(format!("{text}: neither a file nor a known recipe"))
                    .hint("see what can be built with: ovl avail")
            })?;
            Ok(vec![(found.label(), found.read())])
        }
    }
}

/// What cannot be read is an error of its own, told with those of the others.
fn walk(dir: &Path, shown: &Path, depth: usize, found: &mut Vec<Source>) {
    let files = fs::list(dir).unwrap_or_else(|error| {
        found.push((shown.display().to_string(), Err(error.into())));
        Vec::new()
    });
    for file in files {
        if file.to_string_lossy().starts_with('.') {
            continue;
        }
        let (path, shown) = (dir.join(&file), shown.join(&file));
        match fs::metadata_if_exists(&path) {
            Ok(Some(meta)) if meta.is_dir() && depth < 4 => walk(&path, &shown, depth + 1, found),
            Ok(Some(meta)) if meta.is_file() => found.push((shown.display().to_string(), recipes::read_file(&path))),
            Ok(_) => {}
            Err(error) => found.push((shown.display().to_string(), Err(error.into()))),
        }
    }
}
