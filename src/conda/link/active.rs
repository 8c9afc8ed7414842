//! What using an environment sets. Data is honoured: `etc/conda/env_vars.d/*.json` and `conda-meta/state`. Scripts in
//! `etc/conda/activate.d` would need a shell at every start; they are only named.

use std::collections::BTreeMap;

use serde_json::Value;

use super::tree::Tree;
use crate::model::env::is_name;

/// Largest file that is looked at.
const MOST: u64 = 1 << 20;
/// What `conda-meta/state` has instead of a value for variables that are to be unset.
const UNSET: &str = "***unset***";

/// What an environment wants set when it is used.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Active {
    /// Variables with their values, `$` and all, not to be expanded.
    pub variables: BTreeMap<String, String>,
    /// Scripts that a shell would have to read, below the prefix.
    pub scripts: Vec<String>,
}

/// Gathers it.
pub(super) fn of(tree: &Tree) -> Active {
    let mut active = Active::default();
    let dir = "etc/conda/env_vars.d";
    for name in names(tree, dir, ".json") {
        take(&mut active.variables, tree.bytes(format!("{dir}/{name}").as_bytes(), MOST), None);
    }
    take(&mut active.variables, tree.bytes(b"conda-meta/state", MOST), Some("env_vars"));
    let dir = "etc/conda/activate.d";
    active.scripts = names(tree, dir, ".sh").into_iter().map(|name| format!("{dir}/{name}")).collect();
    active
}

fn names(tree: &Tree, dir: &str, ending: &str) -> Vec<String> {
    let names = tree.names(dir.as_bytes()).into_iter().filter_map(|name| String::from_utf8(name).ok());
    names.filter(|name| name.ends_with(ending)).collect()
}

fn take(into: &mut BTreeMap<String, String>, bytes: Option<Vec<u8>>, below: Option<&str>) {
    let Some(value) = bytes.and_then(|bytes| serde_json::from_slice::<Value>(&bytes).ok()) else { return };
    let Some(object) = below.map_or(Some(&value), |key| value.get(key)).and_then(Value::as_object) else { return };
    for (name, value) in object.iter().filter(|(name, _)| is_name(name)) {
        match value {
            Value::String(text) if text == UNSET => drop(into.remove(name)),
            Value::String(text) => drop(into.insert(name.clone(), text.clone())),
            Value::Number(number) => drop(into.insert(name.clone(), number.to_string())),
            _ => {}
        }
    }
}

/// A value as metadata has it, where `$NAME` is expanded: every `$` that would be is put so that it stays.
pub fn literal(value: &str) -> String {
    let mut out = String::with_capacity(value.len());
    let mut rest = value.chars().peekable();
    while let Some(c) = rest.next() {
        let expands = rest.peek().is_some_and(|next| *next == '{' || *next == '_' || next.is_ascii_alphabetic());
        // A variable that nobody sets, with a default.
        if c == '$' && expands { out.push_str("${OVL_NOTHING:-$}") } else { out.push(c) }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_literal_value_comes_out_as_it_went_in() {
        for value in ["plain", "$HOME/x", "a$b${c}$", "$$HOME", "$1 ${x:-y}", "100$"] {
            let known = BTreeMap::from([("HOME".to_owned(), "/h".to_owned()), ("b".to_owned(), "B".to_owned())]);
            assert_eq!(crate::model::env::expand(&literal(value), &known), value);
        }
    }
}
