//! The packages that would go into conda environments, for `--dry-run`.

use serde_json::{Map, Value, json};

use crate::build::Prepared;
use crate::conda::Locked;
use crate::model::units;
use crate::ui::table;

/// A table for each environment; empty where there is none.
pub fn text(prepared: &Prepared) -> String {
    let mut text = String::new();
    for (step, locked) in prepared.packages() {
        let Some(locked) = locked else { continue };
        let total: u64 = locked.records.iter().filter_map(|record| record.package_record.size).sum();
        let (count, size) = (locked.records.len(), units::show_size(total));
        text.push_str(&format!("{}: {count} packages for {}, {size} to fetch\n", step.name, locked.platform));
        for line in table::columns(&rows(locked)) {
            text.push_str(&format!("    {line}\n"));
        }
        locked.pip.iter().for_each(|line| text.push_str(&format!("    pip: {line}\n")));
    }
    text
}

/// Name, version, build, channel, size of each package, by name.
fn rows(locked: &Locked) -> Vec<Vec<String>> {
    let mut rows: Vec<Vec<String>> = locked
        .records
        .iter()
        .map(|record| {
            let one = &record.package_record;
            vec![
                one.name.as_normalized().to_owned(),
                one.version.to_string(),
                one.build.to_string(),
                record.channel.as_deref().unwrap_or_default().trim_end_matches('/').to_owned(),
                one.size.map(units::show_size).unwrap_or_default(),
            ]
        })
        .collect();
    rows.sort();
    rows
}

/// The same by the overlay's name, in the order of linking.
pub fn json(prepared: &Prepared) -> Value {
    let of = |locked: &Locked| -> Value {
        let packages = locked.records.iter().map(|record| {
            let one = &record.package_record;
            json!({
                "name": one.name.as_normalized(), "version": one.version.to_string(), "build": one.build.to_string(),
                "channel": record.channel, "url": record.url, "size": one.size,
            })
        });
        packages.collect()
    };
    let all = prepared.packages().filter_map(|(step, locked)| Some((step.name.to_string(), of(locked?))));
    Value::Object(all.collect::<Map<_, _>>())
}
