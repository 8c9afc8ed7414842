//! What an environment that is written to consists of: the records in its `conda-meta`, and what was asked for, by its
//! history, as conda writes both down.

use std::collections::BTreeMap;

use rattler_conda_types::{PrefixRecord, RepoDataRecord};

use crate::image::ImageError;
use crate::image::source::{Kind, Source};
use crate::recipe::conda::wish;

/// The directory of records in an environment.
pub const META: &str = "conda-meta";
/// What the name of a package's record gets while its files are being removed, and while they are being put in place.
pub const OLD: &str = ".old";
/// See [`OLD`].
pub const NEW: &str = ".new";
/// A larger record is damage.
const MOST: u64 = 64 << 20;

/// An environment as it is.
#[derive(Debug, Default)]
pub struct Installed {
    /// Packages by name.
    pub records: Vec<PrefixRecord>,
    /// Names of the files of records, sorted.
    pub files: Vec<String>,
    /// The history's text.
    pub history: String,
    /// A change was begun and not finished.
    pub half_done: bool,
}

/// Reads a directory of records.
///
/// # Errors
/// When the image is damaged, or a record is no record.
pub fn read<S: Source>(meta: &S) -> Result<Installed, ImageError> {
    let mut found = Installed::default();
    for entry in meta.list(&meta.root()?)? {
        let Ok(name) = std::str::from_utf8(&entry.name) else { continue };
        if entry.kind != Kind::File {
            continue;
        }
        found.half_done |= is_half(name);
        if !name.ends_with(".json") && name != "history" {
            continue;
        }
        let length = usize::try_from(entry.meta.size.min(MOST)).unwrap_or_default();
        let mut bytes = vec![0; length];
        meta.read(&entry, 0, &mut bytes)?;
        if name == "history" {
            found.history = String::from_utf8_lossy(&bytes).into_owned();
            continue;
        }
        let record: PrefixRecord = serde_json::from_slice(&bytes)
            .map_err(|error| ImageError::corrupt(format!("{META}/{name} is no record of a package: {error}")))?;
        found.records.push(record);
        found.files.push(name.to_owned());
    }
    found.files.sort();
    found.records.sort_by(|one, other| one.name().cmp(other.name()));
    Ok(found)
}

/// Whether a file's name is that of a record of a change under way.
pub fn is_half(name: &str) -> bool {
    [OLD, NEW].iter().any(|ending| name.strip_suffix(ending).is_some_and(|name| name.ends_with(".json")))
}

impl Installed {
    /// A package.
    pub fn get(&self, name: &str) -> Option<&PrefixRecord> {
        self.records.iter().find(|record| record.name().as_normalized() == name)
    }

    /// The packages as channels list them.
    pub fn packages(&self) -> Vec<RepoDataRecord> {
        self.records.iter().map(|record| record.repodata_record.clone()).collect()
    }

    /// The channels that they came from.
    pub fn channels(&self) -> Vec<String> {
        let mut all: Vec<String> = Vec::new();
        for channel in self.records.iter().filter_map(|record| record.repodata_record.channel.as_deref()) {
            let channel = channel.trim_end_matches('/');
            if channel.contains("://") && !all.iter().any(|known| known == channel) {
                all.push(channel.to_owned());
            }
        }
        all
    }

    /// What was asked for, by the name of the package. Where nobody has written that down, every package was.
    pub fn wishes(&self) -> BTreeMap<String, String> {
        let mut wishes = of_history(&self.history);
        if wishes.is_empty() {
            let asked = self.records.iter().flat_map(|record| &record.requested_specs);
            wishes.extend(asked.filter_map(|spec| Some((name_of(spec)?, spec.clone()))));
        }
        if wishes.is_empty() {
            let name = |record: &PrefixRecord| record.name().as_normalized().to_owned();
            wishes.extend(self.records.iter().map(|record| (name(record), name(record))));
        }
        wishes
    }
}

/// The package that a wish is about.
pub fn name_of(text: &str) -> Option<String> {
    wish(text).ok()?.name.as_exact().map(|name| name.as_normalized().to_owned())
}

/// Lines of a history that say what was asked for: `# update specs: ['a', "b=1"]`, and that it is no longer.
fn of_history(text: &str) -> BTreeMap<String, String> {
    let mut wishes = BTreeMap::new();
    for line in text.lines() {
        let Some((what, list)) = line.strip_prefix("# ").and_then(|line| line.split_once(" specs: ")) else { continue };
        for spec in quoted(list) {
            let Some(name) = name_of(&spec) else { continue };
            match what {
                "update" | "install" | "create" => drop(wishes.insert(name, spec)),
                "remove" | "neutered" => drop(wishes.remove(&name)),
                _ => {}
            }
        }
    }
    wishes
}

/// The words in quotes of either kind.
fn quoted(list: &str) -> Vec<String> {
    let mut words = Vec::new();
    let mut rest = list;
    while let Some(at) = rest.find(['\'', '"']) {
        let (quote, after) = rest.split_at(at).1.split_at(1);
        let Some((word, more)) = after.split_once(quote) else { break };
        words.push(word.to_owned());
        rest = more;
    }
    words
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_history_tells_what_is_still_wished_for() {
        let text = "==> 2024-01-02 03:04:05 <==\n# cmd: conda create\n+c/linux-64::a-1-h0_0\n# update specs: ['a', \"b>=1,<2\"]\n\
                    ==> x <==\n# update specs: ['a=2']\n# remove specs: ['c']\n# remove specs: ['b']\n# update specs: ['d";
        let wishes = of_history(text);
        assert_eq!(wishes.into_iter().collect::<Vec<_>>(), [("a".to_owned(), "a=2".to_owned())]);
    }
}
