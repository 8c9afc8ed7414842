//! `ovl config`: every value, where it comes from, and whether all of it can be understood.

use serde_json::json;

use super::Context;
use super::args::{Common, Config as Args, ConfigAction};
use super::failure::{Failure, Outcome};
use crate::config::{example, schema};
use crate::ui::table;

/// Runs the command.
pub fn run(args: &Args, common: &Common) -> Outcome {
    if let ConfigAction::Example = args.action {
        crate::ui::Ui::new("never", 0).out_bytes(example::example().as_bytes());
        return Ok(0);
    }
    let context = Context::new(common, Vec::new())?;
    let settings = &context.config.settings;
    let ui = context.ui;
    match &args.action {
        ConfigAction::Show { json: true } => {
            let all: serde_json::Map<String, serde_json::Value> = settings
                .map
                .iter()
                .map(|(key, setting)| {
                    ((*key).to_owned(), json!({ "value": setting.values, "origin": setting.origin.to_string() }))
                })
                .collect();
            ui.out(&serde_json::to_string_pretty(&all).unwrap_or_default());
        }
        ConfigAction::Show { json: false } => {
            let rows: Vec<Vec<String>> = schema::KEYS
                .iter()
                .filter_map(|key| settings.map.get(key.name).map(|setting| (key, setting)))
                .map(|(key, setting)| {
                    vec![key.name.to_owned(), setting.values.join(", "), format!("({})", setting.origin)]
                })
                .collect();
            table::columns(&rows).iter().for_each(|line| ui.out(line));
        }
        ConfigAction::Get { key } => match schema::find(key) {
            Some(key) => settings.all(key.name).iter().for_each(|value| ui.out(value)),
            None => {
                let failure = Failure::usage(format!("there is no key '{key}'"));
                let near = schema::nearest(key)
                    .map_or("see all keys with: ovl config show".to_owned(), |near| format!("did you mean {near}?"));
                return Err(failure.hint(near));
            }
        },
        ConfigAction::Path => {
            let rows: Vec<Vec<String>> = settings
                .files
                .iter()
                .map(|(level, path, there)| {
                    vec![
                        (*level).to_owned(),
                        path.display().to_string(),
                        if *there { "read".into() } else { "not there".to_owned() },
                    ]
                })
                .collect();
            table::columns(&rows).iter().for_each(|line| ui.out(line));
        }
        ConfigAction::Check => {
            for dir in context.layers.dirs() {
                if !dir.path.is_dir() {
                    ui.say(&format!("the {} layer {} does not exist yet", dir.kind, dir.path.display()));
                }
            }
            let read = settings.files.iter().filter(|(_, _, there)| *there).count();
            ui.out(&format!("OK: {} keys, {read} files read", schema::KEYS.len()));
        }
        ConfigAction::Example => {}
    }
    Ok(0)
}
