//! `ovl build -n NAME PACKAGES` and `-p PATH`: an overlay that is named here, and made of packages or of a file.

use std::collections::BTreeMap;
use std::path::PathBuf;

use super::Context;
use super::args::Build;
use super::failure::Failure;
use crate::model::name::Name;
use crate::recipe::conda::{compose, split_channel};
use crate::store::recipes::Place;
use crate::sys::env;

/// What was asked for.
pub struct Environment {
    /// The overlay.
    pub name: Name,
    /// The file to publish, when one is named.
    pub out: Option<PathBuf>,
    /// The recipe that the packages make; None: `--file` has it.
    pub recipe: Option<Place>,
}

impl Environment {
    /// A recipe in a file that is named directly.
    pub fn in_file(path: PathBuf) -> Place {
        Place::File(path, "file")
    }
}

/// Ending of overlays.
const ENDING: &str = "sqf";

/// The environment that the arguments name; None where they name recipes.
pub fn asked(args: &Build, context: &Context) -> Result<Option<Environment>, Failure> {
    let (name, out) = match (&args.name, &args.prefix) {
        (Some(name), _) => (Name::of_environment(name)?, None),
        (None, Some(path)) => {
            let mut path = env::current_dir().join(path);
            if path.extension().is_none_or(|ending| ending != ENDING) {
                path.as_mut_os_string().push(format!(".{ENDING}"));
            }
            let stem = path.file_stem().unwrap_or_default().to_string_lossy().into_owned();
            (Name::of_environment(&stem)?, Some(path))
        }
        (None, None) => return Ok(None),
    };
    let recipe = match (args.names.as_slice(), &args.file) {
        ([], Some(_)) => None,
        ([], None) => {
            return Err(Failure::usage(format!("{name} is to be made of nothing"))
                .hint("name packages, as in: ovl build -n nvim nvim nodejs    or a file with -f"));
        }
        (_, Some(_)) => {
            return Err(
                Failure::usage("packages and --file cannot be given together").hint("write the packages into the file")
            );
        }
        (packages, None) => Some(Place::Made(format!("{name}.yml"), text(packages, args, context))),
    };
    Ok(Some(Environment { name, out, recipe }))
}

/// An environment file that asks for these packages. Channels of flags are written down, and then those that are asked
/// after them, too: a list of channels is complete.
fn text(packages: &[String], args: &Build, context: &Context) -> String {
    let flags = &args.conda;
    let more = if flags.channel.is_empty() || flags.override_channels { &[] } else { context.config.conda_channels() };
    let channels: Vec<String> = flags.channel.iter().chain(more).cloned().collect();
    compose(packages, &channels, flags.platform.as_deref())
}

/// Takes `channel::name/version` apart: the names as others are typed, and the channels that some are to come from.
pub fn channels(names: &[String]) -> Result<(Vec<String>, BTreeMap<Name, String>), Failure> {
    let mut channels = BTreeMap::new();
    let mut plain = Vec::new();
    for text in names {
        match split_channel(text) {
            (Some(channel), name) => {
                channels.insert(name.parse()?, channel.to_owned());
                plain.push(name.to_owned());
            }
            (None, _) => plain.push(text.clone()),
        }
    }
    Ok((plain, channels))
}
