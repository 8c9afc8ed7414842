//! The three forms of recipes, told by the ending of their file, or by their first line where it has none of these.

use std::fmt;

/// How a recipe is written. Headers (`#DEP:`, `#SBATCH` …) are comments in all of them, and mean the same.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Form {
    /// A shell script with functions.
    Shell,
    /// A conda environment: `environment.yml`, a list of packages, an explicit list or a lock file.
    Conda,
    /// An Apptainer definition file.
    Def,
}

/// Endings of recipe files, in the order in which a name is looked for.
pub const ENDINGS: &[(&str, Form)] =
    &[("", Form::Shell), (".sh", Form::Shell), (".def", Form::Def), (".yml", Form::Conda), (".yaml", Form::Conda)];

/// Further endings of files that are named directly.
const DIRECT: &[(&str, Form)] = &[(".txt", Form::Conda), (".lock", Form::Conda)];

impl Form {
    /// The form of a recipe called `label` with this text.
    pub fn of(label: &str, text: &str) -> Form {
        if text.starts_with("#!") {
            return Form::Shell;
        }
        let label = label.to_ascii_lowercase();
        let mut endings = ENDINGS.iter().chain(DIRECT).filter(|(ending, _)| !ending.is_empty());
        if let Some((_, form)) = endings.find(|(ending, _)| label.ends_with(ending)) {
            return *form;
        }
        let mut lines = text.lines().map(str::trim);
        match lines.find(|line| !line.is_empty() && (!line.starts_with('#') || line.starts_with("# platform"))) {
            Some(line) if line.to_ascii_lowercase().starts_with("bootstrap:") => Form::Def,
            Some("@EXPLICIT") => Form::Conda,
            _ => Form::Shell,
        }
    }
}

impl fmt::Display for Form {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Form::Shell => "build script",
            Form::Conda => "conda environment",
            Form::Def => "definition file",
        })
    }
}

/// A recipe file's path below `build-scripts/` without its ending: the overlay's name.
pub fn without_ending(path: &str) -> &str {
    ENDINGS
        .iter()
        .filter(|(ending, _)| !ending.is_empty())
        .find_map(|(ending, _)| path.strip_suffix(ending))
        .unwrap_or(path)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn endings_first_then_the_first_line() {
        for (label, text, form) in [
            ("samtools/1.22", "install() { :; }", Form::Shell),
            ("x.sh", "", Form::Shell),
            ("ubuntu24/base.def", "", Form::Def),
            ("env.YML", "", Form::Conda),
            ("env.yaml", "#!/bin/bash\n", Form::Shell),
            ("pixi.lock", "", Form::Conda),
            ("recipe", "# a comment\n\nBootStrap: docker\n", Form::Def),
            ("list", "# x\n@EXPLICIT\n", Form::Conda),
            ("list", "", Form::Shell),
        ] {
            assert_eq!(Form::of(label, text), form, "{label}");
        }
        assert_eq!(without_ending("a/1.def"), "a/1");
        assert_eq!(without_ending("a/1.0"), "a/1.0");
    }
}
