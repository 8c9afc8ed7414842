//! `ovl avail`: what can be built, from all layers and from inside the binary; templates as one line, or name by name.

use std::collections::{BTreeSet, HashSet};

use regex::Regex;
use serde_json::{Value, json};

use super::args::Avail;
use super::failure::Outcome;
use super::{Context, pattern};
use crate::model::name::Name;
use crate::recipe;
use crate::store::recipes::Place;
use crate::store::templates::TemplateFile;
use crate::store::{overlays, recipes, templates};
use crate::ui::table;

/// More names of one template are not looked at: such lists are not for reading.
const MOST_NAMES: usize = 100_000;

/// More names of one template are left out of the JSON unless `--expand` asks for them.
const MOST_IN_JSON: usize = 1_000;

struct Listing<'a> {
    args: &'a Avail,
    context: &'a Context,
    pattern: Regex,
    installed: BTreeSet<Name>,
    rows: Vec<Vec<String>>,
    items: Vec<Value>,
}

/// Runs the command.
pub fn run(args: &Avail, context: &Context) -> Outcome {
    let pattern = pattern::compile(args.pattern.as_deref(), args.regex)?;
    let installed = overlays::all(&context.layers)?.into_iter().map(|overlay| overlay.name).collect();
    let mut listing = Listing { args, context, pattern, installed, rows: Vec::new(), items: Vec::new() };
    let (all, odd) = recipes::all(&context.layers);
    odd.iter().for_each(|error| context.ui.warn(&error.to_string()));
    context
        .layers
        .remotes()
        .iter()
        .filter_map(|remote| remote.complaint.as_ref())
        .for_each(|text| context.ui.warn(text));
    let mut last = None;
    for found in all {
        if last.as_ref() != Some(&found.name) {
            last = Some(found.name.clone());
            listing.recipe(&found);
        }
    }
    let mut seen = HashSet::new();
    templates::all(&context.layers).filter(|file| seen.insert(&file.id)).for_each(|file| listing.template(file));
    let Listing { rows, items, .. } = listing;
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

impl Listing<'_> {
    fn row(&mut self, name: String, note: String, what: &str) {
        let mut row = vec![name, note];
        if self.args.whatis {
            row.push(what.to_owned());
        }
        self.rows.push(row);
    }

    fn recipe(&mut self, found: &recipes::Found) {
        let by_name = self.pattern.is_match(&found.name.to_string());
        if !by_name && !self.args.whatis {
            return;
        }
        let (what, error) = match &found.place {
            // What a remote says of a recipe is told without its bytes, which may not be here.
            Place::Remote(pinned) => (pinned.whatis.clone().unwrap_or_default(), None),
            _ => match found.read() {
                Ok(bytes) if self.args.whatis || self.args.json => {
                    let spec = recipe::parse(&found.label(), &bytes).spec;
                    (spec.and_then(|spec| spec.whatis).map(|at| at.value).unwrap_or_default(), None)
                }
                Ok(_) => (String::new(), None),
                Err(error) => (String::new(), Some(error.to_string())),
            },
        };
        if !by_name && !self.pattern.is_match(&what) {
            return;
        }
        error.iter().for_each(|error| self.context.ui.warn(error));
        let installed = self.installed.contains(&found.name);
        self.items.push(json!({
            "name": found.name, "layer": found.layer(), "recipe": found.label(), "installed": installed, "whatis": what,
            "error": error, "template": null,
        }));
        let note = match &found.place {
            _ if installed => "installed".to_owned(),
            Place::Remote(pinned) => format!("from {}", pinned.remote),
            _ => String::new(),
        };
        self.row(found.name.to_string(), note, &what);
    }

    fn template(&mut self, file: &TemplateFile) {
        let template = &file.template;
        let what = template.whatis.clone().unwrap_or_default();
        let whole = self.pattern.is_match(&template.pattern)
            || self.pattern.is_match(&file.id)
            || (self.args.whatis && self.pattern.is_match(&what));
        let total = template.count();
        // Only to be counted: the product of the lists tells.
        let needed = if whole && !self.args.expand && !self.args.json { 0 } else { MOST_NAMES };
        let names: Vec<Name> = template
            .expand()
            .take(needed)
            .filter_map(|binding| template.name(&binding).ok())
            .filter(|name| whole || self.pattern.is_match(&name.to_string()))
            .collect();
        // An open list also makes names that are not listed.
        let by_open = || self.installed.iter().filter(|name| self.pattern.is_match(&name.to_string()));
        let made = |name: &&Name| matches!(template.matches(name), Ok(Some(_)));
        let installed: Vec<&Name> =
            if whole { self.installed.iter().filter(made).collect() } else { by_open().filter(made).collect() };
        if !whole && names.is_empty() && installed.is_empty() {
            return;
        }
        if total > MOST_NAMES as u64 && self.args.expand {
            let message = format!("{}: only {MOST_NAMES} of its {total} names are looked at", file.label());
            self.context.ui.warn(&message);
        }
        if self.args.json {
            let lists = template.placeholders.iter();
            let lists: Vec<Value> =
                lists.map(|p| json!({ "name": p.name, "values": p.listed, "open": p.open })).collect();
            let shown = (self.args.expand || names.len() <= MOST_IN_JSON).then_some(&names);
            self.items.push(json!({
                "name": template.pattern, "layer": file.place.layer(), "recipe": file.label(),
                "installed": !installed.is_empty(), "whatis": what, "error": null,
                "template": {
                    "path": file.id, "placeholders": lists, "open": template.is_open(), "count": total,
                    "names": shown, "installed": installed,
                },
            }));
            return;
        }
        if self.args.expand {
            let rows: Vec<(String, String)> = names
                .iter()
                .map(|name| {
                    let note = if self.installed.contains(name) { "installed" } else { "" };
                    (name.to_string(), note.to_owned())
                })
                .chain(
                    installed.iter().filter(|name| !names.contains(name)).map(|n| (n.to_string(), "installed".into())),
                )
                .collect();
            if rows.is_empty() {
                self.row(template.pattern.clone(), "template, any value".into(), &what);
            }
            let binding = |name: &str| template.matches(&name.parse().ok()?).ok()?;
            for (name, note) in rows {
                let what = binding(&name).map_or_else(|| what.clone(), |binding| binding.fill(&what));
                self.row(name, note, &what);
            }
            return;
        }
        let mut note = match total {
            0 => "template, any value".to_owned(),
            1 => "template, 1 name".to_owned(),
            _ if whole || names.len() as u64 == total => format!("template, {total} names"),
            _ => format!("template, {} of {total} names", names.len()),
        };
        if total > 0 && template.is_open() {
            note.push_str(" and others");
        }
        if !installed.is_empty() {
            note.push_str(&format!(", {} installed", installed.len()));
        }
        self.row(template.pattern.clone(), note, &what);
    }
}
