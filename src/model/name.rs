//! Names of overlays: `name/version`, `assembly/datatype/version`, `distro/name`; `=`, `@` and `--` do for `/`.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

/// A name of two to four parts, for example `samtools/1.22`, `grch38/gtf-gencode/47` or
/// `grch38/star/2.7.11b/gencode47-101`.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Name {
    parts: Vec<String>,
}

/// A text that is no name.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("'{text}' is not a name: {why}")]
pub struct BadName {
    /// What was given.
    pub text: String,
    /// What is wrong with it.
    pub why: String,
}

/// Longest name in bytes: the file name with its suffixes must fit in 255.
const LONGEST: usize = 180;

/// Most parts of a name: an index is of an assembly, by a tool, in the tool's version, of something.
pub const MOST_PARTS: usize = 4;

impl Name {
    /// The name of an environment, which needs no version: `nvim` is `nvim/env`.
    pub fn of_environment(text: &str) -> Result<Name, BadName> {
        let mut parts = split(text);
        if parts.len() == 1 {
            parts.push("env".into());
        }
        Name::from_parts(parts, text)
    }

    /// The parts, two to four of them.
    pub fn parts(&self) -> &[String] {
        &self.parts
    }

    /// Everything before the version.
    pub fn stem(&self) -> String {
        self.parts[..self.parts.len() - 1].join("/")
    }

    /// The last part.
    pub fn version(&self) -> &str {
        self.parts.last().map_or("", String::as_str)
    }

    /// The name of its files, without ending: `samtools--1.22`.
    pub fn file_stem(&self) -> String {
        self.parts.join("--")
    }

    /// The reverse of [`Name::file_stem`].
    pub fn from_file_stem(stem: &str) -> Option<Name> {
        Name::from_parts(stem.split("--").map(str::to_owned).collect(), stem).ok()
    }

    /// Where its content lives inside every overlay: `/cnt/samtools/1.22`.
    pub fn root(&self) -> String {
        format!("/cnt/{self}")
    }

    /// Two slashes or more make reference data unless the recipe says otherwise (row C05).
    pub fn looks_like_data(&self) -> bool {
        self.parts.len() > 2
    }

    fn from_parts(parts: Vec<String>, text: &str) -> Result<Name, BadName> {
        let bad = |why: String| Err(BadName { text: text.to_owned(), why });
        if parts.len() < 2 {
            return bad("it needs a version, as in samtools/1.22".into());
        }
        if parts.len() > MOST_PARTS {
            return bad("it has more than four parts".into());
        }
        for part in &parts {
            if let Err(why) = check_part(part) {
                return bad(why);
            }
        }
        if parts.iter().map(|part| part.len() + 2).sum::<usize>() > LONGEST {
            return bad(format!("it is longer than {LONGEST} bytes"));
        }
        Ok(Name { parts })
    }
}

/// Checks one part of a name: letters, digits and `._+-`, not beginning with `.` or `-`.
pub fn check_part(part: &str) -> Result<(), String> {
    if part.is_empty() {
        return Err("a part of it is empty".into());
    }
    if let Some(odd) = part.chars().find(|c| !c.is_ascii_alphanumeric() && !"._+-".contains(*c)) {
        return Err(format!("'{}' cannot be part of it (letters, digits and . _ + - can)", odd.escape_debug()));
    }
    if part.starts_with(['.', '-']) {
        return Err(format!("'{part}' begins with '{}'", &part[..1]));
    }
    if part.ends_with('-') {
        return Err(format!("'{part}' ends with '-'"));
    }
    Ok(())
}

/// Splits what a user typed into parts; says nothing about how many there are.
pub fn split(text: &str) -> Vec<String> {
    text.replace("--", "/").split(['/', '=', '@']).map(str::to_owned).collect()
}

impl FromStr for Name {
    type Err = BadName;

    fn from_str(text: &str) -> Result<Name, BadName> {
        Name::from_parts(split(text), text)
    }
}

impl TryFrom<String> for Name {
    type Error = BadName;

    fn try_from(text: String) -> Result<Name, BadName> {
        text.parse()
    }
}

impl From<Name> for String {
    fn from(name: Name) -> String {
        name.to_string()
    }
}

impl fmt::Display for Name {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.parts.join("/"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn separators_users_type_all_mean_the_same() {
        for text in ["samtools/1.22", "samtools=1.22", "samtools@1.22", "samtools--1.22"] {
            assert_eq!(text.parse::<Name>().unwrap().to_string(), "samtools/1.22");
        }
        let data: Name = "grch38/gtf-gencode/47".parse().unwrap();
        assert_eq!((data.stem().as_str(), data.version()), ("grch38/gtf-gencode", "47"));
        assert_eq!(data.file_stem(), "grch38--gtf-gencode--47");
        assert_eq!(Name::from_file_stem("grch38--gtf-gencode--47"), Some(data));
        let index: Name = "grch38/star/2.7.11b/gencode47-101".parse().unwrap();
        assert_eq!((index.stem().as_str(), index.version()), ("grch38/star/2.7.11b", "gencode47-101"));
        assert_eq!(Name::from_file_stem(&index.file_stem()), Some(index));
    }

    #[test]
    fn what_could_leave_the_directory_is_no_name() {
        let long = format!("{}/1", "x".repeat(200));
        for text in [
            "",
            "a",
            "a/",
            "/a",
            "../etc",
            "a/../b",
            "a/b/c/d/e",
            "a b/1",
            "a/1\n",
            "-a/1",
            "a/-1",
            "a/.1",
            "ä/1",
            "a---b/1",
            "a-/1",
            &long,
        ] {
            assert!(text.parse::<Name>().is_err(), "{text:?}");
        }
    }
}
