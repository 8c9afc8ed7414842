//! One configuration file: YAML to (key, value) pairs, every complaint with its line.

use std::fmt;

use serde::de::{DeserializeSeed, Deserializer, Error as _, MapAccess, SeqAccess, Visitor};

use super::schema;

/// What a file says.
#[derive(Debug, Default)]
pub struct Content {
    /// Settings in the order of the file, by their own names (aliases resolved).
    pub settings: Vec<(&'static str, Raw)>,
    /// Keys that were passed over, for a warning.
    pub foreign: Vec<String>,
}

/// A value as written.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Raw {
    /// A scalar as text.
    One(String),
    /// A list.
    Many(Vec<String>),
    /// `key:` without a value, which means "unset".
    Nothing,
}

/// Reads a file's text. The error is `LINE:COLUMN: what is wrong`, or without the place where YAML does not tell.
pub fn read(text: &str) -> Result<Content, String> {
    let mut content = Content::default();
    if text.lines().all(|line| line.trim().is_empty() || line.trim_start().starts_with('#') || line.trim() == "---") {
        return Ok(content);
    }
    let seed = Section { prefix: String::new(), content: &mut content };
    seed.deserialize(serde_yaml::Deserializer::from_str(text)).map_err(|error| told(&error))?;
    Ok(content)
}

fn told(error: &serde_yaml::Error) -> String {
    let mut text = error.to_string();
    let Some(place) = error.location() else { return text };
    // The library says the place behind the message and the section before it; editors want it in front.
    if let Some(cut) = text.rfind(" at line ") {
        text.truncate(cut);
    }
    let own = ["unknown key '", "a list of plain"].iter().find_map(|start| text.find(start));
    format!("{}:{}: {}", place.line(), place.column(), &text[own.unwrap_or(0)..])
}

struct Section<'a> {
    prefix: String,
    content: &'a mut Content,
}

impl<'de> DeserializeSeed<'de> for Section<'_> {
    type Value = ();

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<(), D::Error> {
        deserializer.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for Section<'_> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter) -> fmt::Result {
        match self.prefix.as_str() {
            "" => f.write_str("a mapping of keys to values"),
            prefix => write!(f, "a mapping below '{prefix}'"),
        }
    }

    fn visit_unit<E>(self) -> Result<(), E> {
        Ok(())
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<(), A::Error> {
        while let Some(found) = map.next_key_seed(KeyName { prefix: &self.prefix, content: self.content })? {
            match found {
                Found::Key(name) => {
                    let raw = map.next_value_seed(RawSeed)?;
                    self.content.settings.push((name, raw));
                }
                Found::Section(prefix) => map.next_value_seed(Section { prefix, content: self.content })?,
                Found::Foreign(name) => {
                    map.next_value::<serde::de::IgnoredAny>()?;
                    self.content.foreign.push(name);
                }
            }
        }
        Ok(())
    }
}

enum Found {
    Key(&'static str),
    Section(String),
    Foreign(String),
}

/// Judges a key while YAML still knows its line.
struct KeyName<'a> {
    prefix: &'a str,
    content: &'a Content,
}

impl<'de> DeserializeSeed<'de> for KeyName<'_> {
    type Value = Found;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Found, D::Error> {
        deserializer.deserialize_str(self)
    }
}

impl Visitor<'_> for KeyName<'_> {
    type Value = Found;

    fn expecting(&self, f: &mut fmt::Formatter) -> fmt::Result {
        f.write_str("a key")
    }

    fn visit_str<E: serde::de::Error>(self, text: &str) -> Result<Found, E> {
        let name = if self.prefix.is_empty() { text.to_owned() } else { format!("{}.{text}", self.prefix) };
        if let Some(key) = schema::find(&name) {
            if self.content.settings.iter().any(|(known, _)| *known == key.name) {
                return Err(E::custom(format!("'{}' is set twice", key.name)));
            }
            return Ok(Found::Key(key.name));
        }
        if schema::is_section(&name) {
            return Ok(Found::Section(name));
        }
        if schema::FOREIGN.contains(&name.as_str()) {
            return Ok(Found::Foreign(name));
        }
        let hint = schema::nearest(&name).map(|near| format!("; did you mean '{near}'?")).unwrap_or_default();
        Err(E::custom(format!("unknown key '{name}'{hint}")))
    }
}

struct RawSeed;

impl<'de> DeserializeSeed<'de> for RawSeed {
    type Value = Raw;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Raw, D::Error> {
        deserializer.deserialize_any(RawSeed)
    }
}

impl<'de> Visitor<'de> for RawSeed {
    type Value = Raw;

    fn expecting(&self, f: &mut fmt::Formatter) -> fmt::Result {
        f.write_str("a value or a list of values")
    }

    fn visit_unit<E>(self) -> Result<Raw, E> {
        Ok(Raw::Nothing)
    }

    fn visit_bool<E>(self, value: bool) -> Result<Raw, E> {
        Ok(Raw::One(value.to_string()))
    }

    fn visit_i64<E>(self, value: i64) -> Result<Raw, E> {
        Ok(Raw::One(value.to_string()))
    }

    fn visit_u64<E>(self, value: u64) -> Result<Raw, E> {
        Ok(Raw::One(value.to_string()))
    }

    fn visit_f64<E>(self, value: f64) -> Result<Raw, E> {
        Ok(Raw::One(value.to_string()))
    }

    fn visit_str<E>(self, value: &str) -> Result<Raw, E> {
        Ok(Raw::One(value.to_owned()))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut list: A) -> Result<Raw, A::Error> {
        let mut values = Vec::new();
        while let Some(item) = list.next_element_seed(RawSeed)? {
            match item {
                Raw::One(value) => values.push(value),
                _ => return Err(A::Error::custom("a list of plain values is expected here")),
            }
        }
        Ok(Raw::Many(values))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn complaints_name_line_and_nearest_key() {
        let error = read("layers:\n  user: /a\nbuild:\n  compp: lz4\n").unwrap_err();
        assert_eq!(error, "4:3: unknown key 'build.compp'; did you mean 'build.comp'?");
        let error = read("build:\n  comp: lz4\n  comp: xz\n").unwrap_err();
        assert!(error.starts_with("3:3: ") && error.contains("'build.comp' is set twice"), "{error}");
        for bad in [
            "- a\n",
            "build: 3\n",
            "just text",
            "a: [",
            "build:\n  comp: {x: 1}\n",
            "layers:\n  extra: [[a]]\n",
            "\u{0}",
        ] {
            assert!(read(bad).is_err(), "{bad:?}");
        }
    }

    #[test]
    fn empty_files_and_sections_say_nothing() {
        for text in ["", "# only\n\n# comments\n", "---\n", "build:\n"] {
            assert!(read(text).unwrap().settings.is_empty(), "{text:?}");
        }
    }

    #[test]
    fn condatainers_names_are_read() {
        let content =
            read("extra_base_dirs: [/a, /b]\nbuild:\n  ncpus: 8\n  overlay_type: ext3\napptainer_bin: /x\n").unwrap();
        let values = [
            ("layers.extra", Raw::Many(vec!["/a".into(), "/b".into()])),
            ("build.defaults.cpus", Raw::One("8".into())),
        ];
        assert_eq!(content.settings, values);
        assert_eq!(content.foreign, ["build.overlay_type", "apptainer_bin"]);
    }
}
