//! `ovl avail`: what can be built, from all layers and from inside the binary.

use serde_json::json;

use super::args::Avail;
use super::failure::Outcome;
use super::{Context, pattern};
use crate::recipe;
use crate::store::{overlays, recipes};
use crate::ui::table;

/// Runs the command.
pub fn run(args: &Avail, context: &Context) -> Outcome {
    let pattern = pattern::compile(args.pattern.as_deref(), args.regex)?;
    let mut rows = Vec::new();
    let mut items = Vec::new();
    let mut last = None;
    let (all, odd) = recipes::all(&context.layers);
    odd.iter().for_each(|error| context.ui.warn(&error.to_string()));
    for found in all {
        if last.as_ref() == Some(&found.name) {
            continue;
        }
        last = Some(found.name.clone());
        let by_name = pattern.is_match(&found.name.to_string());
        if !by_name && !args.whatis {
            continue;
        }
        let (what, error) = match found.read() {
            Ok(bytes) if args.whatis || args.json => {
                let spec = recipe::parse(&found.label(), &bytes).spec;
                (spec.and_then(|spec| spec.whatis).map(|at| at.value).unwrap_or_default(), None)
            }
            Ok(_) => (String::new(), None),
            Err(error) => (String::new(), Some(error.to_string())),
        };
        if !by_name && !pattern.is_match(&what) {
            continue;
        }
        error.iter().for_each(|error| context.ui.warn(error));
        let installed = overlays::find(&context.layers, &found.name)?.is_some();
        items.push(json!({ "name": found.name, "layer": found.layer(), "recipe": found.label(), "installed": installed, "whatis": what, "error": error }));
        let mut row = vec![found.name.to_string(), if installed { "installed".into() } else { String::new() }];
        if args.whatis {
            row.push(what);
        }
        rows.push(row);
    }
    if args.json {
        context.ui.out(&serde_json::to_string_pretty(&items).unwrap_or_default());
        return Ok(0);
    }
    if rows.is_empty() {
        context.ui.say("no recipe matches");
    }
    table::columns(&rows).iter().for_each(|line| context.ui.out(line));
    Ok(0)
}
