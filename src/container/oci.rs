//! What a container image's configuration says (Env, Entrypoint, Cmd, Labels), as Apptainer keeps it: an environment
//! script, a runscript and labels. Values are quoted, so that no shell finds anything to do in them.

use std::collections::BTreeMap;

use serde_json::Value;

use super::Result;
use super::root::Root;

/// Writes them; `config` is the image's configuration document.
pub fn add(root: &Root, config: &Value) -> Result<()> {
    let config = &config["config"];
    root.write(".singularity.d/env/10-docker2singularity.sh", &environment(&texts(&config["Env"])), 0o755)?;
    let runscript = runscript(&texts(&config["Entrypoint"]), &texts(&config["Cmd"]));
    root.write(".singularity.d/runscript", &runscript, 0o755)?;
    let labels: BTreeMap<String, String> = config["Labels"]
        .as_object()
        .into_iter()
        .flatten()
        .filter_map(|(name, value)| Some((name.clone(), value.as_str()?.to_owned())))
        .collect();
    let text = serde_json::to_string_pretty(&labels).unwrap_or_default();
    root.write(".singularity.d/labels.json", &text, 0o644)
}

fn texts(list: &Value) -> Vec<String> {
    list.as_array().into_iter().flatten().filter_map(|text| Some(text.as_str()?.to_owned())).collect()
}

/// A word in single quotes.
fn quoted(text: &str) -> String {
    format!("'{}'", text.replace('\'', "'\\''"))
}

/// What is special between double quotes, escaped.
fn escaped(text: &str) -> String {
    let mut escaped = String::with_capacity(text.len());
    for c in text.chars() {
        if matches!(c, '"' | '\\' | '$' | '`') {
            escaped.push('\\');
        }
        escaped.push(c);
    }
    escaped
}

fn is_variable(name: &str) -> bool {
    name.starts_with(|c: char| c.is_ascii_alphabetic() || c == '_')
        && name.chars().all(|c| c.is_ascii_alphanumeric() || c == '_')
}

fn environment(env: &[String]) -> String {
    let mut text = String::from("#!/bin/sh\n");
    for entry in env {
        let (name, value) = entry.split_once('=').map_or((entry.as_str(), None), |(name, value)| (name, Some(value)));
        if !is_variable(name) {
            continue;
        }
        text.push_str(&match value {
            None => format!("export {name}=\"${{{name}:-}}\"\n"),
            Some(value) if name == "PATH" => format!("export PATH=\"{}\"\n", escaped(value)),
            // What the user has set already counts more.
            Some(value) => format!("export {name}=\"${{{name}:-\"{}\"}}\"\n", escaped(value)),
        });
    }
    text
}

/// ENTRYPOINT with the arguments, CMD in place of missing ones.
fn runscript(entry: &[String], cmd: &[String]) -> String {
    let words = |words: &[String]| words.iter().map(|word| quoted(word)).collect::<Vec<_>>().join(" ");
    let mut text = String::from("#!/bin/sh\n# From the container image's ENTRYPOINT and CMD.\n");
    if !cmd.is_empty() {
        text.push_str(&format!("if [ $# -eq 0 ]; then set -- {}; fi\n", words(cmd)));
    }
    if !entry.is_empty() {
        text.push_str(&format!("set -- {} \"$@\"\n", words(entry)));
    }
    if cmd.is_empty() && entry.is_empty() {
        text.push_str("if [ $# -eq 0 ]; then set -- /bin/sh; fi\n");
    }
    text.push_str("exec \"$@\"\n");
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    fn strings(words: &[&str]) -> Vec<String> {
        words.iter().map(|word| (*word).to_owned()).collect()
    }

    #[test]
    fn nothing_in_a_configuration_is_run_by_a_shell() {
        let text = environment(&strings(&["PATH=/a:$(x)", "B=`y` \"z\"", "C", "bad name=1", "1X=2"]));
        let expected =
            "#!/bin/sh\nexport PATH=\"/a:\\$(x)\"\nexport B=\"${B:-\"\\`y\\` \\\"z\\\"\"}\"\nexport C=\"${C:-}\"\n";
        assert_eq!(text, expected);
    }

    #[test]
    fn entry_point_and_command_are_joined_as_docker_does() {
        let text = runscript(&strings(&["/e", "it's"]), &strings(&["c d"]));
        assert!(
            text.ends_with("if [ $# -eq 0 ]; then set -- 'c d'; fi\nset -- '/e' 'it'\\''s' \"$@\"\nexec \"$@\"\n"),
            "{text}"
        );
        assert!(runscript(&[], &[]).contains("/bin/sh; fi"));
    }
}
