//! What a definition says about its image, written where runtimes look for it.

use std::collections::BTreeMap;

use super::root::Root;
use super::{Order, Result};
use crate::recipe::def::{Script, Stage, words};
use crate::sys::{clock, fs};

/// Labels that `%post` may leave.
pub const BUILD_LABELS: &str = ".build.labels";

/// Writes help, labels, definition, environment and scripts.
pub fn add(root: &Root, stage: &Stage, order: &Order) -> Result<()> {
    if let Some(help) = stage.script("help") {
        root.write(".singularity.d/runscript.help", &format!("{}\n", help.text), 0o644)?;
    }
    labels(root, stage, order)?;
    definition(root, &order.text)?;
    if let Some(environment) = stage.script("environment") {
        let path = ".singularity.d/env/90-environment.sh";
        let before = root.read(path)?.unwrap_or_else(|| "#!/bin/sh\n".into());
        root.write(path, &format!("{before}\n{}\n", environment.text), 0o755)?;
    }
    for name in ["startscript", "runscript", "test"] {
        if let Some(script) = stage.script(name) {
            root.write(&format!(".singularity.d/{name}"), &program(&script), 0o755)?;
        }
    }
    Ok(())
}

/// A script as a program: its own `#!` counts, else /bin/sh; what stood behind the section's name are its arguments.
fn program(script: &Script) -> String {
    let (mut first, body) = match script.text.trim_start().strip_prefix("#!") {
        Some(rest) => {
            let (first, body) = rest.split_once('\n').unwrap_or((rest, ""));
            (format!("#!{}", first.trim()), body)
        }
        None => ("#!/bin/sh".to_owned(), script.text.as_str()),
    };
    if !script.args.is_empty() {
        first.push(' ');
        first.push_str(&script.args);
    }
    format!("{first}\n\n{body}\n")
}

/// The definition; that of the image built on is kept beside it.
fn definition(root: &Root, text: &str) -> Result<()> {
    const PATH: &str = ".singularity.d/Singularity";
    if root.has(PATH)? {
        let history = root.find(".singularity.d/bootstrap_history")?;
        fs::create_dirs(&history)?;
        let count = fs::list(&history)?.len();
        fs::rename(&root.find(PATH)?, &history.join(format!("Apptainer{count}")))?;
    }
    root.write(PATH, text, 0o644)
}

fn labels(root: &Root, stage: &Stage, order: &Order) -> Result<()> {
    const PATH: &str = ".singularity.d/labels.json";
    let mut labels: BTreeMap<String, String> =
        root.read(PATH)?.and_then(|text| serde_json::from_str(&text).ok()).unwrap_or_default();
    if let Some(text) = root.read(BUILD_LABELS)? {
        labels.extend(words::labels(&text));
        fs::remove_file(&root.find(BUILD_LABELS)?)?;
    }
    let date = clock::rfc3339(order.epoch);
    let arch = match std::env::consts::ARCH {
        "x86_64" => "amd64",
        "aarch64" => "arm64",
        other => other,
    };
    let mut put = |name: &str, value: &str| labels.insert(name.to_owned(), value.to_owned());
    put("org.label-schema.schema-version", "1.0");
    put("org.label-schema.build-date", &date);
    put("org.label-schema.build-arch", arch);
    put("org.opencontainers.image.created", &date);
    put("org.opencontainers.image.architecture", arch);
    if stage.script("help").is_some() {
        put("org.label-schema.usage", "/.singularity.d/runscript.help");
    }
    for key in &stage.headers {
        put(&format!("org.label-schema.usage.singularity.deffile.{}", key.name), &key.value);
    }
    // As Apptainer does: what is there already counts more.
    for (name, value) in stage.labels() {
        labels.entry(name).or_insert(value);
    }
    let text = serde_json::to_string_pretty(&labels).unwrap_or_default();
    root.write(PATH, &text, 0o644)
}
