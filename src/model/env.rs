//! Environment variables of overlays, kept symbolic: `$app_root` and `$VAR` are expanded by ovl, nothing by a shell.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

/// A variable that an overlay exports.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct EnvVar {
    /// Its name: letters, digits and `_`, not beginning with a digit.
    pub name: String,
    /// Its value as the recipe has it, `$app_root` and other variables not expanded.
    pub value: String,
    /// What it is for (`#ENVNOTE`).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub note: Option<String>,
}

/// Whether `name` can be the name of a variable.
pub fn is_name(name: &str) -> bool {
    !name.is_empty()
        && !name.starts_with(|c: char| c.is_ascii_digit())
        && name.chars().all(|c| c.is_ascii_alphanumeric() || c == '_')
}

/// Expands `$NAME`, `${NAME}` and `${NAME:-text}` from `known`; an unknown variable is empty, a `$` before anything
/// else stays. `$(…)` and backticks stay text: nothing is ever evaluated by a shell (row C35).
pub fn expand(value: &str, known: &BTreeMap<String, String>) -> String {
    let mut out = String::new();
    let mut rest = value;
    while let Some(dollar) = rest.find('$') {
        out.push_str(&rest[..dollar]);
        let tail = &rest[dollar + 1..];
        let found = match tail.strip_prefix('{').and_then(|braced| braced.split_once('}')) {
            Some((inside, after)) => {
                let (name, default) = inside.split_once(":-").map_or((inside, ""), |(name, default)| (name, default));
                is_name(name).then_some((name, default, after))
            }
            None => {
                let end = tail.find(|c: char| !c.is_ascii_alphanumeric() && c != '_').unwrap_or(tail.len());
                is_name(&tail[..end]).then_some((&tail[..end], "", &tail[end..]))
            }
        };
        match found {
            Some((name, default, after)) => {
                out.push_str(known.get(name).map(String::as_str).filter(|value| !value.is_empty()).unwrap_or(default));
                rest = after;
            }
            None => {
                out.push('$');
                rest = tail;
            }
        }
    }
    out.push_str(rest);
    out
}

/// The text of a `.env` file: `NAME=value` lines with `#ENVNOTE:NAME=text` after those that have a note.
/// `head` lines are written first, as comments.
pub fn write_sidecar(head: &[String], vars: &[EnvVar]) -> String {
    let mut text = String::new();
    for line in head {
        text.push_str(&format!("# {line}\n"));
    }
    for var in vars {
        text.push_str(&format!("{}={}\n", var.name, var.value));
        if let Some(note) = &var.note {
            text.push_str(&format!("#ENVNOTE:{}={note}\n", var.name));
        }
    }
    text
}

/// Reads a `.env` file back. Lines that are no variable are returned as complaints with their line number.
pub fn read_sidecar(text: &str) -> (Vec<EnvVar>, Vec<String>) {
    let mut vars: Vec<EnvVar> = Vec::new();
    let mut odd = Vec::new();
    for (number, line) in text.lines().enumerate() {
        let line = line.trim_end();
        if let Some((name, note)) = line.strip_prefix("#ENVNOTE:").and_then(|rest| rest.split_once('=')) {
            if let Some(var) = vars.iter_mut().find(|var| var.name == name.trim()) {
                var.note = Some(note.trim().to_owned());
            }
            continue;
        }
        if line.trim().is_empty() || line.starts_with('#') {
            continue;
        }
        let plain = line.strip_prefix("export ").unwrap_or(line);
        match plain.split_once('=') {
            Some((name, value)) if is_name(name) => {
                vars.push(EnvVar { name: name.to_owned(), value: unquote(value).to_owned(), note: None });
            }
            _ => odd.push(format!("line {}: '{line}' is not NAME=value", number + 1)),
        }
    }
    (vars, odd)
}

/// Takes one pair of quotes off, which people write by habit.
fn unquote(value: &str) -> &str {
    for quote in ['"', '\''] {
        if let Some(inside) = value.strip_prefix(quote).and_then(|rest| rest.strip_suffix(quote)) {
            return inside;
        }
    }
    value
}

#[cfg(test)]
mod tests {
    use super::*;

    fn known() -> BTreeMap<String, String> {
        [("app_root", "/cnt/a/1"), ("PATH", "/usr/bin")].map(|(k, v)| (k.into(), v.into())).into()
    }

    #[test]
    fn variables_expand_and_shell_code_stays_text() {
        for (value, expected) in [
            ("$app_root/bin:$PATH", "/cnt/a/1/bin:/usr/bin"),
            ("${app_root}x", "/cnt/a/1x"),
            ("$nothing", ""),
            ("${nothing:-d}", "d"),
            ("${PATH:-d}", "/usr/bin"),
            ("$(touch /tmp/x) `id` $$ $1 ${ x} $", "$(touch /tmp/x) `id` $$ $1 ${ x} $"),
            ("${app_root", "${app_root"),
            ("ä$app_root", "ä/cnt/a/1"),
        ] {
            assert_eq!(expand(value, &known()), expected, "{value}");
        }
    }

    #[test]
    fn a_sidecar_reads_back_as_written() {
        let vars = vec![
            EnvVar { name: "A".into(), value: "$app_root/x=y".into(), note: Some("what it is".into()) },
            EnvVar { name: "B".into(), value: String::new(), note: None },
        ];
        let text = write_sidecar(&["made by a test".into()], &vars);
        assert_eq!(read_sidecar(&text), (vars, vec![]));
        let (vars, odd) = read_sidecar("export X=\"a b\"\nnot a line\n1A=2\n");
        assert_eq!((vars[0].value.as_str(), odd.len()), ("a b", 2));
    }
}
