//! Platforms as registries name them: `linux/amd64`, `linux/arm64/v8` (OCI image specification, "image index").

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use crate::sys::host;

/// An operating system with a processor.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Platform {
    /// `linux`.
    #[serde(default)]
    pub os: String,
    /// In the words of Go: `amd64`, `arm64`.
    #[serde(default)]
    pub architecture: String,
    /// `v7`, `v8`, when it matters.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub variant: Option<String>,
}

impl Platform {
    /// This machine's.
    pub fn here() -> Platform {
        host::platform().parse().unwrap_or(Platform { os: "linux".into(), architecture: "amd64".into(), variant: None })
    }

    /// Whether something for `self` runs on `wanted`; what names no variant fits any.
    pub fn fits(&self, wanted: &Platform) -> bool {
        let variants = match (&self.variant, &wanted.variant) {
            (Some(own), Some(wanted)) => own == wanted,
            _ => true,
        };
        self.os == wanted.os && self.architecture == wanted.architecture && variants
    }
}

impl FromStr for Platform {
    type Err = String;

    fn from_str(text: &str) -> Result<Platform, String> {
        let parts: Vec<&str> = text.split('/').collect();
        let word = |part: &&str| {
            !part.is_empty() && part.len() < 40 && part.chars().all(|c| c.is_ascii_alphanumeric() || "._-".contains(c))
        };
        match parts.as_slice() {
            [os, architecture, rest @ ..] if rest.len() < 2 && parts.iter().all(word) => Ok(Platform {
                os: (*os).to_owned(),
                architecture: (*architecture).to_owned(),
                variant: rest.first().map(|variant| (*variant).to_owned()),
            }),
            _ => Err(format!("'{}' is not a platform, as in linux/amd64", text.escape_debug())),
        }
    }
}

impl fmt::Display for Platform {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.os, self.architecture)?;
        self.variant.as_ref().map_or(Ok(()), |variant| write!(f, "/{variant}"))
    }
}

#[cfg(test)]
mod tests {
    use super::Platform;

    #[test]
    fn platforms_fit_or_not() {
        let of = |text: &str| text.parse::<Platform>().unwrap();
        assert!(of("linux/arm64/v8").fits(&of("linux/arm64")));
        assert!(!of("linux/arm/v6").fits(&of("linux/arm/v7")));
        assert!(!of("linux/arm64").fits(&of("linux/amd64")));
        assert_eq!(of("linux/arm/v7").to_string(), "linux/arm/v7");
        for text in ["", "linux", "linux/", "a/b/c/d", "linux/am d64"] {
            assert!(text.parse::<Platform>().is_err(), "{text:?}");
        }
    }
}
