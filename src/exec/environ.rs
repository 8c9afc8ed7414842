//! The environment of a command: the host's (or a clean one), then each overlay's in the order given, then `--env`.
//! `$app_root` and `$VAR` are expanded here; no shell evaluates anything (rows C19, C35).

use std::collections::BTreeMap;
use std::ffi::OsString;

use crate::model::env::{self, EnvVar};

/// What an overlay contributes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LayerEnv {
    /// Its root inside, as in `/cnt/samtools/1.22`.
    pub root: String,
    /// Program directories that exist below its root, as in `bin`; the first is found first.
    pub programs: Vec<String>,
    /// Its variables: the sidecar's where there is one, else the embedded ones.
    pub vars: Vec<EnvVar>,
}

/// Where an image that is written to keeps a conda environment.
pub const CONDA: &str = "/ext3/env";

/// What a conda environment at [`CONDA`] contributes.
pub fn conda() -> LayerEnv {
    let prefix = EnvVar { name: "CONDA_PREFIX".into(), value: "$app_root".into(), note: None };
    LayerEnv { root: CONDA.into(), programs: vec!["bin".into()], vars: vec![prefix] }
}

/// The search path when nothing else says.
pub const DEFAULT_PATH: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

/// Variables that survive `--cleanenv`: who and where the user is, not what the host's software wants.
const KEPT: [&str; 8] = ["HOME", "USER", "LOGNAME", "TERM", "LANG", "LC_ALL", "TZ", "SHELL"];

/// Puts the environment together, sorted by name.
pub fn environment(
    host: &BTreeMap<OsString, OsString>,
    clean: bool,
    layers: &[LayerEnv],
    set: &[(String, String)],
) -> Vec<(OsString, OsString)> {
    let mut all: BTreeMap<OsString, OsString> = host
        .iter()
        .filter(|(name, _)| !clean || KEPT.iter().any(|kept| name.as_os_str() == *kept))
        .map(|(name, value)| (name.clone(), value.clone()))
        .collect();
    // Values that are not UTF-8 pass through untouched; only text can be expanded.
    let mut text: BTreeMap<String, String> =
        all.iter().filter_map(|(name, value)| Some((name.to_str()?.to_owned(), value.to_str()?.to_owned()))).collect();
    let mut changed: BTreeMap<String, String> = BTreeMap::new();
    let mut put = |text: &mut BTreeMap<String, String>, name: &str, value: String| {
        text.insert(name.to_owned(), value.clone());
        changed.insert(name.to_owned(), value);
    };
    if text.get("PATH").is_none_or(String::is_empty) {
        put(&mut text, "PATH", DEFAULT_PATH.to_owned());
    }
    for layer in layers {
        let before = text.get("app_root").cloned();
        text.insert("app_root".into(), layer.root.clone());
        for dir in layer.programs.iter().rev() {
            let path = format!("{}/{dir}:{}", layer.root, text.get("PATH").map_or("", String::as_str));
            put(&mut text, "PATH", path);
        }
        for var in &layer.vars {
            let value = env::expand(&var.value, &text);
            put(&mut text, &var.name, value);
        }
        match before {
            Some(value) => text.insert("app_root".into(), value),
            None => text.remove("app_root"),
        };
    }
    if let Some(path) = text.get("PATH").map(|path| without_repeats(path)) {
        put(&mut text, "PATH", path);
    }
    for (name, value) in [("IN_OVL", "1"), ("IN_CONDATAINER", "1")] {
        put(&mut text, name, value.to_owned());
    }
    for (name, value) in set {
        put(&mut text, name, value.clone());
    }
    all.extend(changed.into_iter().map(|(name, value)| (name.into(), value.into())));
    all.into_iter().collect()
}

/// Keeps the first of entries that stand twice; an overlay's `#ENV:PATH=` often repeats what ovl has put there.
fn without_repeats(path: &str) -> String {
    let mut kept: Vec<&str> = Vec::new();
    for entry in path.split(':') {
        if !kept.contains(&entry) {
            kept.push(entry);
        }
    }
    kept.join(":")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn layer(name: &str, programs: &[&str], vars: &[(&str, &str)]) -> LayerEnv {
        let var = |(name, value): &(&str, &str)| EnvVar { name: (*name).into(), value: (*value).into(), note: None };
        LayerEnv {
            root: format!("/cnt/{name}/1"),
            programs: programs.iter().map(|dir| (*dir).into()).collect(),
            vars: vars.iter().map(var).collect(),
        }
    }

    fn of(host: &[(&str, &str)], clean: bool, layers: &[LayerEnv], set: &[(&str, &str)]) -> BTreeMap<String, String> {
        let host = host.iter().map(|(name, value)| ((*name).into(), (*value).into())).collect();
        let set: Vec<_> = set.iter().map(|(name, value)| ((*name).into(), (*value).into())).collect();
        let text = |text: OsString| text.into_string().unwrap();
        environment(&host, clean, layers, &set).into_iter().map(|(name, value)| (text(name), text(value))).collect()
    }

    #[test]
    fn later_overlays_prepend_in_the_order_given() {
        let layers = [layer("a", &["bin"], &[("PATH", "$app_root/bin:$PATH")]), layer("b", &["bin", "sbin"], &[])];
        let all = of(&[("PATH", "/usr/bin:/usr/bin")], false, &layers, &[]);
        assert_eq!(all["PATH"], "/cnt/b/1/bin:/cnt/b/1/sbin:/cnt/a/1/bin:/usr/bin");
        assert!(!all.contains_key("app_root"), "app_root is for expansion only");
    }

    #[test]
    fn a_conda_environment_is_found_first_and_named() {
        let all = of(&[("PATH", "/usr/bin")], false, &[layer("a", &["bin"], &[]), conda()], &[]);
        assert_eq!(all["PATH"], "/ext3/env/bin:/cnt/a/1/bin:/usr/bin");
        assert_eq!(all["CONDA_PREFIX"], "/ext3/env");
    }

    #[test]
    fn values_see_earlier_ones_and_flags_win() {
        let layers =
            [layer("a", &[], &[("A", "$app_root"), ("B", "$A/x:$(touch /x)")]), layer("b", &[], &[("A", "$A:b")])];
        let all = of(&[], false, &layers, &[("B", "flag")]);
        assert_eq!((all["A"].as_str(), all["B"].as_str()), ("/cnt/a/1:b", "flag"));
        assert_eq!(all["PATH"], DEFAULT_PATH);
    }

    #[test]
    fn a_clean_environment_keeps_only_who_and_where() {
        let all = of(&[("HOME", "/home/u"), ("LD_PRELOAD", "/x"), ("PATH", "/odd")], true, &[], &[]);
        let names: Vec<&str> = all.keys().map(String::as_str).collect();
        assert_eq!(names, ["HOME", "IN_CONDATAINER", "IN_OVL", "PATH"]);
    }
}
