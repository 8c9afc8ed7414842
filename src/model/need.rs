//! Dependencies: `name/version` exactly, or with a lower bound, `name/version>=min`, where the version is the upper one.

use std::fmt;
use std::str::FromStr;

use super::name::{BadName, Name};
use super::version::{BadVersion, Version};

/// What a recipe needs: the preferred version, and how old a replacement may be.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Need {
    /// The preferred name and version; also the newest that will do.
    pub name: Name,
    /// The oldest that will do; None: only the preferred version.
    pub min: Option<Bound>,
}

/// A lower bound.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Bound {
    /// The bound.
    pub version: Version,
    /// `>` instead of `>=`.
    pub exclusive: bool,
}

/// A text that is no dependency.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum BadNeed {
    /// The name cannot be one.
    #[error(transparent)]
    Name(#[from] BadName),
    /// The bound is no version.
    #[error(transparent)]
    Version(#[from] BadVersion),
    /// An operator this place does not know.
    #[error("'{0}' uses an operator other than >= and >")]
    Operator(String),
    /// The bound is above the preferred version, so nothing can satisfy it.
    #[error("'{0}' can never be satisfied: the minimum is above the preferred version")]
    Empty(String),
}

impl Need {
    /// Whether `candidate` will do: the same name, and a version between the bound and the preferred one.
    pub fn satisfied_by(&self, candidate: &Name) -> bool {
        if *candidate == self.name {
            return true;
        }
        let Some(min) = &self.min else { return false };
        if candidate.stem() != self.name.stem() {
            return false;
        }
        let version = Version::new(candidate.version());
        min.allows(&version) && version <= Version::new(self.name.version())
    }
}

impl Bound {
    /// Whether `version` is new enough.
    pub fn allows(&self, version: &Version) -> bool {
        if self.exclusive { *version > self.version } else { *version >= self.version }
    }
}

impl FromStr for Need {
    type Err = BadNeed;

    fn from_str(text: &str) -> Result<Need, BadNeed> {
        let operator = || BadNeed::Operator(text.to_owned());
        let Some((name, bound)) = text.split_once('>') else {
            return match text.find(['<', '~', '!']).or_else(|| text.find("==")) {
                Some(_) => Err(operator()),
                None => Ok(Need { name: text.trim().parse()?, min: None }),
            };
        };
        let (exclusive, bound) = match bound.strip_prefix('=') {
            Some(rest) => (false, rest.trim()),
            None => (true, bound.trim()),
        };
        if bound.contains(['<', '>', '=', ',', '~']) || name.contains(['<', '~', '!']) {
            return Err(operator());
        }
        let name: Name = name.trim().parse()?;
        let bound = Bound { version: Version::strict(bound)?, exclusive };
        if !bound.allows(&Version::new(name.version())) {
            return Err(BadNeed::Empty(text.to_owned()));
        }
        Ok(Need { name, min: Some(bound) })
    }
}

impl fmt::Display for Need {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.min {
            None => write!(f, "{}", self.name),
            Some(min) => write!(f, "{}{}{}", self.name, if min.exclusive { ">" } else { ">=" }, min.version),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_preferred_version_is_the_newest_that_will_do() {
        let need: Need = "star/2.7.11b>=2.7.2c".parse().unwrap();
        let ok = |text: &str| need.satisfied_by(&text.parse().unwrap());
        assert!(ok("star/2.7.11b") && ok("star/2.7.2c") && ok("star/2.7.10a"));
        assert!(!ok("star/2.7.2b") && !ok("star/2.7.11c") && !ok("samtools/2.7.10a"));
        assert_eq!(need.to_string(), "star/2.7.11b>=2.7.2c");
        let above: Need = "star/2 > 1".parse().unwrap();
        assert!(!above.satisfied_by(&"star/1".parse().unwrap()) && above.satisfied_by(&"star/1.5".parse().unwrap()));
        let exact: Need = "star/2.7.11b".parse().unwrap();
        assert!(!exact.satisfied_by(&"star/2.7.11a".parse().unwrap()));
    }

    #[test]
    fn what_is_no_dependency_says_why() {
        for text in [
            "",
            "star",
            "star/2<3",
            "star/2==2",
            "star/2>",
            "star/2>=",
            "star/2>=3",
            "star/2>=1,<2",
            "a/1>=é",
            "~a/1",
            "star/2>2",
        ] {
            assert!(text.parse::<Need>().is_err(), "{text:?}");
        }
        assert_eq!(
            "star/2>=3".parse::<Need>().unwrap_err().to_string(),
            "'star/2>=3' can never be satisfied: the minimum is above the preferred version"
        );
    }
}
