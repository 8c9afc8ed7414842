//! `ovl info X.sif`: what is in a SIF file, whom it is for, and which system it carries.

use std::collections::BTreeMap;
use std::path::Path;

use serde_json::{Value, json};

use super::super::Context;
use super::super::failure::Outcome;
use crate::image::ImageError;
use crate::image::sif::{FileSystem, Kind, Link, Object, Sif};
use crate::image::squashfs::read::{Caches, DATA_CACHE};
use crate::model::units::show_size;
use crate::store::overlays::{self, OverlayError};
use crate::sys::{clock, fs};
use crate::ui::table::columns;

/// Where systems say what they are (os-release(5)); the first is mostly a link to the second.
const RELEASE: [&str; 2] = ["/usr/lib/os-release", "/etc/os-release"];

/// Tells it.
pub fn run(path: &Path, in_use: &str, json: bool, context: &Context) -> Outcome {
    let bad = |source| OverlayError::Image { path: path.to_owned(), source };
    let sif = Sif::open(fs::open(path)?).map_err(bad)?;
    sif.warnings().iter().for_each(|warning| context.ui.warn(&format!("{}: {warning}", path.display())));
    let size = fs::metadata(path)?.len();
    let (system, trouble) = match system(&sif) {
        Ok(system) => (system, None),
        Err(error) => (BTreeMap::new(), Some(error.to_string())),
    };
    let labels = labels(&sif).unwrap_or_default();
    let runnable = trouble.clone().or_else(|| sif.check_arch().err().map(|error| error.to_string()));
    if json {
        let objects: Vec<Value> = sif.objects().iter().map(object).collect();
        let value = json!({
            "file": path, "bytes": size, "in_use": in_use,
            "sif": {
                "id": sif.id(), "created": clock::rfc3339(sif.created()), "architecture": sif.arch().to_string(),
                "signed": sif.is_signed(), "objects": objects, "labels": labels, "system": system, "trouble": runnable,
            },
        });
        context.ui.out(&serde_json::to_string_pretty(&value).unwrap_or_default());
        return Ok(0);
    }
    let out = |key: &str, value: &str| context.ui.out(&format!("{key:<14}{value}"));
    out("file", &path.display().to_string());
    out("size", &format!("{} ({size} bytes)", show_size(size)));
    out("SIF", &format!("{}, made {}", sif.id(), clock::rfc3339(sif.created())));
    out("architecture", &sif.arch().to_string());
    let name = system.get("PRETTY_NAME").or(system.get("NAME"));
    out("system", name.map_or("does not say what it is", String::as_str));
    out("signed", if sif.is_signed() { "yes (not verified)" } else { "no" });
    out("in use", in_use);
    if !labels.is_empty() {
        context.ui.out("labels");
        labels.iter().for_each(|(key, value)| context.ui.out(&format!("  {key}={value}")));
    }
    context.ui.out("objects");
    let mut rows = vec![["id", "group", "link", "at", "size", "what", "name"].map(str::to_owned).to_vec()];
    rows.extend(sif.objects().iter().map(row));
    columns(&rows).iter().for_each(|line| context.ui.out(&format!("  {line}")));
    runnable.iter().for_each(|text| context.ui.warn(&format!("it cannot be run here: {text}")));
    Ok(0)
}

fn what(object: &Object) -> String {
    match object.partition() {
        Some(partition) => format!("{} partition: {}, {}", partition.role, partition.fs, partition.arch),
        None => match object.kind {
            Kind::Other(number) => format!("kind {number:#x}"),
            kind => kind.name().to_owned(),
        },
    }
}

fn row(object: &Object) -> Vec<String> {
    let dash = || "-".to_owned();
    let link = match object.link {
        Link::None => dash(),
        Link::Object(id) => id.to_string(),
        Link::Group(id) => format!("group {id}"),
    };
    vec![
        object.id.to_string(),
        object.group.map_or_else(dash, |group| group.to_string()),
        link,
        object.offset.to_string(),
        show_size(object.size),
        what(object),
        object.name.clone(),
    ]
}

fn object(object: &Object) -> Value {
    let link = match object.link {
        Link::None => Value::Null,
        Link::Object(id) => json!({ "object": id }),
        Link::Group(id) => json!({ "group": id }),
    };
    let mut value = json!({
        "id": object.id, "group": object.group, "link": link, "offset": object.offset, "size": object.size,
        "kind": object.kind.name(), "name": object.name,
    });
    if let Some(partition) = object.partition() {
        value["partition"] = json!({
            "fs": partition.fs.to_string(), "role": partition.role.to_string(), "architecture": partition.arch.to_string(),
        });
    }
    value
}

/// What the primary system's os-release says; empty when it says nothing.
fn system(sif: &Sif) -> Result<BTreeMap<String, String>, ImageError> {
    let primary = sif.primary()?;
    if primary.partition().is_none_or(|partition| partition.fs != FileSystem::Squashfs) {
        return Ok(BTreeMap::new());
    }
    let image = sif.squashfs(primary, Caches::new(DATA_CACHE))?;
    for path in RELEASE {
        if let Some(bytes) = overlays::read_file(&image, path)? {
            return Ok(release(&String::from_utf8_lossy(&bytes)));
        }
    }
    Ok(BTreeMap::new())
}

/// Lines NAME=VALUE, the value perhaps quoted.
fn release(text: &str) -> BTreeMap<String, String> {
    let mut found = BTreeMap::new();
    for line in text.lines() {
        if let Some((name, value)) = line.trim().split_once('=')
            && !name.starts_with('#')
        {
            let quote = |c| value.strip_prefix(c).and_then(|value| value.strip_suffix(c));
            let value = quote('"').or_else(|| quote('\'')).unwrap_or(value);
            found.insert(name.to_owned(), value.chars().filter(|c| !c.is_control()).collect());
        }
    }
    found
}

/// The labels, of whatever JSON they are; text without what moves the cursor.
fn labels(sif: &Sif) -> Result<BTreeMap<String, String>, ImageError> {
    let Some(object) = sif.objects().iter().find(|object| object.kind == Kind::Labels) else {
        return Ok(BTreeMap::new());
    };
    let value: Value = serde_json::from_slice(&sif.content(object)?).unwrap_or_default();
    let clean = |text: &str| text.chars().filter(|c| !c.is_control()).collect::<String>();
    let text = |value: &Value| value.as_str().map_or_else(|| value.to_string(), clean);
    Ok(value.as_object().into_iter().flatten().map(|(key, value)| (clean(key), text(value))).collect())
}

#[cfg(test)]
mod tests {
    use super::release;

    #[test]
    fn quoted_and_plain_values() {
        let found = release("PRETTY_NAME=\"Tiny 1\"\nID=tiny\n# A=b\nVERSION='2'\nODD=\"x\nnone\n");
        let get = |name: &str| found.get(name).map(String::as_str);
        assert_eq!([get("PRETTY_NAME"), get("ID"), get("VERSION")], [Some("Tiny 1"), Some("tiny"), Some("2")]);
        assert_eq!((get("ODD"), found.len()), (Some("\"x"), 4));
    }
}
