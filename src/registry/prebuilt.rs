//! Overlays that somebody has built already: found in a registry by the key of the build, under the tag that this key
//! makes. What is found counts only if its metadata has the very same key.

use super::platform::Platform;
use super::pull::{Found, What, look};
use super::reference::Reference;
use super::{Options, RegistryError, Result};
use crate::model::name::Name;
use crate::net::Watch;

/// Digits of the key in the tag.
const DIGITS: usize = 40;

/// The tag of a build with this key (`sha256:…`).
pub fn tag(key: &str) -> String {
    let hex: String = key.trim_start_matches("sha256:").chars().filter(char::is_ascii_hexdigit).take(DIGITS).collect();
    format!("key-{hex}")
}

/// Where the overlay with this key would be below `base` (`host[/namespace]`).
///
/// # Errors
/// When `base` is not the beginning of a reference.
pub fn place(base: &str, name: &Name, key: &str) -> Result<Reference> {
    Ok(Reference::for_name(base, name)?.with_tag(&tag(key)))
}

/// Looks for the overlay in each of these registries; the first that has it counts. What goes wrong with one of them is
/// told to `complain`, and is no reason not to build.
///
/// # Errors
/// Only when the user interrupts.
pub fn find(
    bases: &[String],
    name: &Name,
    key: &str,
    options: &Options,
    watch: &dyn Watch,
    complain: &mut dyn FnMut(String),
) -> Result<Option<Found>> {
    for base in bases {
        let found = place(base, name, key).and_then(|reference| look(&reference, &Platform::here(), options, watch));
        match found {
            Ok(found) if is_it(&found, name, key) => return Ok(Some(found)),
            Ok(found) => complain(format!("{} is not the build that its tag says; it is not used", found.pinned)),
            Err(RegistryError::Missing { .. }) => {}
            // A registry that hides what is not there from who is not logged in.
            Err(RegistryError::Unauthorized { had: false, .. }) => {}
            Err(RegistryError::Interrupted) => return Err(RegistryError::Interrupted),
            Err(error) => complain(format!("no prebuilt overlay from {base}: {error}")),
        }
    }
    Ok(None)
}

fn is_it(found: &Found, name: &Name, key: &str) -> bool {
    matches!(&found.what, What::Overlay { meta: Some(meta), .. } if meta.key == key && meta.name == *name)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_makes_a_tag() {
        let key = format!("sha256:{}", "ab".repeat(32));
        assert_eq!(tag(&key), format!("key-{}", "ab".repeat(20)));
        let place = place("h.org/g", &"samtools/1.22".parse().unwrap(), &key).unwrap();
        assert_eq!(place.to_string(), format!("h.org/g/samtools:{}", tag(&key)));
    }
}
