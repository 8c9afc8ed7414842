//! Which value counts: flag > OVL_* variable > user > group > site > /etc > default, and where it came from.

use std::collections::BTreeMap;
use std::fmt;
use std::path::{Path, PathBuf};

use super::ConfigError;
use super::file::{self, Raw};
use super::schema::{self, KEYS, Key, Kind};
use super::value;
use crate::sys::{env, fs};

/// Where a value comes from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Origin {
    /// A command line flag.
    Flag(&'static str),
    /// An environment variable.
    Variable(String),
    /// A file and what it is called among the levels ("user", "group", "site", "system").
    File(&'static str, PathBuf),
    /// The run that this step belongs to.
    Frozen,
    /// Nobody set it.
    Default,
}

impl fmt::Display for Origin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Origin::Flag(flag) => f.write_str(flag),
            Origin::Variable(name) => write!(f, "${name}"),
            Origin::File(level, path) => write!(f, "{level} file {}", path.display()),
            Origin::Frozen => f.write_str("the run"),
            Origin::Default => f.write_str("default"),
        }
    }
}

/// One key's value and where it comes from.
#[derive(Debug, Clone)]
pub struct Setting {
    /// The value, checked against the key's kind and expanded; empty: unset.
    pub values: Vec<String>,
    /// Where it comes from.
    pub origin: Origin,
}

/// All settings.
#[derive(Debug, Clone, Default)]
pub struct Settings {
    /// By key name.
    pub map: BTreeMap<&'static str, Setting>,
    /// Files that were looked for: level, path, whether it is there.
    pub files: Vec<(&'static str, PathBuf, bool)>,
    /// Things worth telling that are no errors.
    pub warnings: Vec<String>,
}

/// The user's own file: `$OVL_CONFIG`, else `$XDG_CONFIG_HOME/ovl/config.yaml`.
pub fn user_file() -> PathBuf {
    if let Some(path) = env::var_os("OVL_CONFIG") {
        return path.into();
    }
    let base = env::var_os("XDG_CONFIG_HOME").map(PathBuf::from).filter(|path| path.is_absolute());
    base.unwrap_or_else(|| value::home().join(".config")).join("ovl/config.yaml")
}

/// The machine's file: `$OVL_SYSTEM_CONFIG`, else /etc/ovl/config.yaml.
fn system_file() -> PathBuf {
    env::var_os("OVL_SYSTEM_CONFIG").map_or_else(|| PathBuf::from("/etc/ovl/config.yaml"), PathBuf::from)
}

/// Every key with its default.
pub fn defaults() -> Result<Settings, ConfigError> {
    let mut settings = Settings::default();
    for key in KEYS {
        let raw = default_of(key);
        settings.put(key, raw, Origin::Default)?;
    }
    Ok(settings)
}

/// Resolves every key. `flags` are (key name, flag as typed, value).
pub fn resolve(flags: &[(&'static str, &'static str, String)]) -> Result<Settings, ConfigError> {
    // Weakest first: each later source overrides. The layers' files can only be found once the paths above are known.
    let mut settings = defaults()?;
    let overrides = |settings: &mut Settings| -> Result<(), ConfigError> {
        settings.read_file("user", user_file())?;
        let missing = settings.files.iter().find(|(level, _, there)| *level == "user" && !there);
        if let (Some(_), Some((_, path, _))) = (env::var_os("OVL_CONFIG"), missing) {
            let path = path.clone();
            return Err(ConfigError::File { path, why: " $OVL_CONFIG names this file, and it is not there".into() });
        }
        settings.variables()?;
        settings.flags(flags)
    };
    let mut known = settings.clone();
    known.read_file("system", system_file())?;
    overrides(&mut known)?;
    settings.read_file("system", system_file())?;
    for level in ["site", "group"] {
        let key = if level == "site" { "layers.site" } else { "layers.group" };
        if let Some(dir) = known.first(key) {
            let dir = Path::new(dir.strip_suffix(":ro").unwrap_or(&dir));
            settings.read_file(level, dir.join("config.yaml"))?;
            known = settings.clone();
            overrides(&mut known)?;
        }
    }
    overrides(&mut settings)?;
    settings.files.reverse();
    Ok(settings)
}

/// A complaint about a variable that looks like a key's and is none: a misspelt one would be passed over in silence.
fn unknown_variable(name: &str) -> Option<String> {
    let key = name.strip_prefix("OVL_")?.to_ascii_lowercase().replacen('_', ".", 1);
    let (section, _) = key.split_once('.')?;
    if !schema::is_section(section) || KEYS.iter().any(|key| key.variable() == name) {
        return None;
    }
    let near = schema::nearest(&key).and_then(schema::find);
    let hint = near.map(|key| format!("; did you mean {}?", key.variable())).unwrap_or_default();
    Some(format!("the variable {name} sets no key that ovl knows{hint}"))
}

fn default_of(key: &Key) -> Raw {
    let data = |name: &str, below: &str| {
        let base = env::var_os(name).map(PathBuf::from).filter(|path| path.is_absolute());
        base.map(|base| base.join(below).to_string_lossy().into_owned())
    };
    let from_xdg = match key.name {
        "layers.user" => data("XDG_DATA_HOME", "ovl"),
        "dirs.state" => data("XDG_STATE_HOME", "ovl"),
        _ => None,
    };
    match from_xdg {
        Some(path) => Raw::One(path),
        None if key.default.is_empty() => Raw::Nothing,
        None => Raw::One(key.default.to_owned()),
    }
}

impl Settings {
    /// The first (or only) value of a key.
    pub fn first(&self, key: &str) -> Option<String> {
        self.map.get(key).and_then(|setting| setting.values.first().cloned())
    }

    /// All values of a list key.
    pub fn all(&self, key: &str) -> &[String] {
        self.map.get(key).map_or(&[], |setting| &setting.values)
    }

    fn put(&mut self, key: &'static Key, raw: Raw, origin: Origin) -> Result<(), ConfigError> {
        let checked =
            value::check(key, raw).map_err(|why| ConfigError::Value { origin: origin.clone(), key: key.name, why })?;
        self.map.insert(key.name, Setting { values: checked, origin });
        Ok(())
    }

    fn read_file(&mut self, level: &'static str, path: PathBuf) -> Result<(), ConfigError> {
        let bytes = match fs::read_if_exists(&path) {
            // Other people's file: that it is closed to this user must not keep ovl from working.
            Err(error) if matches!(level, "group" | "site") && error.is_denied() => {
                let warning = error.to_string();
                if !self.warnings.contains(&warning) {
                    self.warnings.push(warning);
                }
                None
            }
            other => other?,
        };
        if !self.files.iter().any(|(known, _, _)| *known == level) {
            self.files.push((level, path.clone(), bytes.is_some()));
        }
        let Some(bytes) = bytes else { return Ok(()) };
        let bad = |why: String| ConfigError::File { path: path.clone(), why };
        let text = String::from_utf8(bytes).map_err(|_| bad(" it is not UTF-8".into()))?;
        let content = file::read(&text).map_err(bad)?;
        for name in content.foreign {
            let warning = format!("{}: '{name}' is a key of CondaTainer that ovl has no use for", path.display());
            if !self.warnings.contains(&warning) {
                self.warnings.push(warning);
            }
        }
        for (name, raw) in content.settings {
            if let Some(key) = schema::find(name) {
                self.put(key, raw, Origin::File(level, path.clone()))?;
            }
        }
        Ok(())
    }

    fn variables(&mut self) -> Result<(), ConfigError> {
        for key in KEYS {
            let name = key.variable();
            if let Some(text) = env::var(&name) {
                let raw = match key.kind {
                    Kind::Paths => Raw::Many(value::split_paths(&text)),
                    Kind::Texts => Raw::Many(text.split_whitespace().map(str::to_owned).collect()),
                    _ => Raw::One(text),
                };
                self.put(key, raw, Origin::Variable(name))?;
            }
        }
        for name in env::all().keys().filter_map(|name| name.to_str()) {
            let Some(warning) = unknown_variable(name) else { continue };
            if !self.warnings.contains(&warning) {
                self.warnings.push(warning);
            }
        }
        Ok(())
    }

    fn flags(&mut self, flags: &[(&'static str, &'static str, String)]) -> Result<(), ConfigError> {
        for (name, flag, text) in flags {
            if let Some(key) = schema::find(name) {
                self.put(key, Raw::One(text.clone()), Origin::Flag(flag))?;
            }
        }
        Ok(())
    }
}
