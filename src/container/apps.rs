//! Apps of the Scientific Filesystem (`%app…`): each has a directory in `/scif/apps` with its scripts and variables.

use super::root::Root;
use super::{Result, files};
use crate::recipe::def::{Stage, Transfer, words};
use crate::sys::tolerate::Tolerate;

/// Writes all apps but what their `%appinstall` will do; that is given back as a part of `%post`.
pub fn add(root: &Root, stage: &Stage, dir: &std::path::Path, tolerate: Tolerate) -> Result<String> {
    let mut install = String::new();
    let mut exports = String::new();
    for app in stage.apps() {
        let base = format!("scif/apps/{app}");
        for part in ["bin", "lib", "scif/env"] {
            root.dir(&format!("{base}/{part}"))?;
        }
        for part in ["input", "output"] {
            root.dir(&format!("scif/data/{app}/{part}"))?;
        }
        root.write(&format!("{base}/scif/env/01-base.sh"), &variables(app), 0o755)?;
        let script = |section: &str| stage.app_script(app, section);
        if let Some(env) = script("appenv") {
            root.write(&format!("{base}/scif/env/90-environment.sh"), &env.text, 0o755)?;
        }
        for (section, file) in [("apprun", "runscript"), ("appstart", "startscript"), ("apptest", "test")] {
            if let Some(script) = script(section) {
                root.write(&format!("{base}/scif/{file}"), &format!("#!/bin/sh\n\n{}\n", script.text), 0o755)?;
            }
        }
        if let Some(help) = script("apphelp") {
            root.write(&format!("{base}/scif/runscript.help"), &help.text, 0o644)?;
        }
        if let Some(list) = script("appfiles") {
            for line in list.text.lines() {
                let mut words = words::split(line).into_iter();
                let Some(source) = words.next() else { continue };
                let target = format!("/{base}/{}", words.next().unwrap_or_else(|| source.clone()));
                let transfer = Transfer { source, target, stage: None, line: 0 };
                files::from_host(&transfer, dir, root, tolerate)?;
            }
        }
        let mut labels = script("applabels").map(|labels| words::labels(&labels.text)).unwrap_or_default();
        labels.entry("SCIF_APP_NAME".into()).or_insert_with(|| app.to_owned());
        let labels = serde_json::to_string_pretty(&labels).unwrap_or_default();
        root.write(&format!("{base}/scif/labels.json"), &labels, 0o644)?;
        exports.push_str(&global(root, app)?);
        let commands = script("appinstall").map(|script| script.text).unwrap_or_default();
        install.push_str(&format!("\ncd /\n. /{base}/scif/env/01-base.sh\n\ncd /{base}\n{commands}\n\ncd /\n"));
    }
    root.write(".singularity.d/env/94-appsbase.sh", &exports, 0o755)?;
    Ok(install)
}

fn variables(app: &str) -> String {
    let mut text = String::from("#!/bin/sh\n");
    for (name, value) in [
        ("APPNAME", app.to_owned()),
        ("APPROOT", format!("/scif/apps/{app}")),
        ("APPMETA", format!("/scif/apps/{app}/scif")),
        ("DATA", "/scif/data".into()),
        ("APPDATA", format!("/scif/data/{app}")),
        ("APPINPUT", format!("/scif/data/{app}/input")),
        ("APPOUTPUT", format!("/scif/data/{app}/output")),
    ] {
        text.push_str(&format!("export SCIF_{name}=\"{value}\"\n"));
    }
    text
}

/// Where an app's parts are, for everybody.
fn global(root: &Root, app: &str) -> Result<String> {
    let base = format!("/scif/apps/{app}");
    let mut parts = vec![
        ("DATA", format!("/scif/data/{app}")),
        ("META", format!("{base}/scif")),
        ("ROOT", base.clone()),
        ("BIN", format!("{base}/bin")),
        ("LIB", format!("{base}/lib")),
    ];
    for (name, file) in
        [("ENV", "env/90-environment.sh"), ("LABELS", "labels.json"), ("RUN", "runscript"), ("START", "startscript")]
    {
        let path = format!("{base}/scif/{file}");
        if root.has(&path)? {
            parts.push((name, path));
        }
    }
    let id: String = app.chars().map(|c| if c.is_ascii_alphanumeric() { c } else { '_' }).collect();
    Ok(parts.into_iter().map(|(name, value)| format!("export SCIF_APP{name}_{id}=\"{value}\"\n")).collect())
}
