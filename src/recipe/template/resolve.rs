//! From a filled-in name back to the values that made it.

use std::collections::HashSet;

use super::{Binding, Piece, Placeholder, Template};
use crate::model::name::Name;

/// A name that has a template's shape, but not one meaning.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Mismatch {
    /// Its text can be cut into values in more than one way.
    #[error("{name} is ambiguous in {pattern}: {first}, or {second}")]
    Ambiguous {
        /// The name.
        name: Name,
        /// The pattern.
        pattern: String,
        /// One reading.
        first: Binding,
        /// Another.
        second: Binding,
    },
    /// A value is not among those of a closed list.
    #[error("{name}: '{value}' is no {placeholder} of {pattern} ({form}){}", near.as_ref().map(|near| format!("; the nearest is {near}")).unwrap_or_default())]
    Outside {
        /// The name.
        name: Name,
        /// The pattern.
        pattern: String,
        /// Which placeholder.
        placeholder: String,
        /// What the name says.
        value: String,
        /// The list as written.
        form: String,
        /// The listed value that looks most like it.
        near: Option<String>,
    },
}

/// More readings of one name are not looked at.
const ENOUGH: usize = 64;

/// More ways to cut one name are not looked at.
const MOST_TRIES: usize = 10_000;

impl Template {
    /// The values that make this name; None where the name has another shape.
    ///
    /// Fails for a name with more than one reading, and for one whose only fault is a value outside a closed list.
    pub fn matches(&self, name: &Name) -> Result<Option<Binding>, Box<Mismatch>> {
        let text = name.to_string();
        if let Some(Piece::Text(start)) = self.pieces.first()
            && !text.starts_with(start.as_str())
        {
            return Ok(None);
        }
        let mut readings = self.readings(&text, true).into_iter();
        match (readings.next(), readings.next()) {
            (Some(only), None) => Ok(Some(only)),
            (Some(first), Some(second)) => {
                Err(Box::new(Mismatch::Ambiguous { name: name.clone(), pattern: self.pattern.clone(), first, second }))
            }
            (None, _) => self.outside(name, &text),
        }
    }

    /// A name of the right shape with a wrong value. A pattern that begins with a token has no shape to speak of.
    fn outside(&self, name: &Name, text: &str) -> Result<Option<Binding>, Box<Mismatch>> {
        if !matches!(self.pieces.first(), Some(Piece::Text(_))) {
            return Ok(None);
        }
        let wrong = |binding: &Binding| -> Vec<(usize, String)> {
            let values = self.placeholders.iter().enumerate();
            let values = values.filter_map(|(number, p)| Some((number, p, binding.get(&p.name)?)));
            values
                .filter(|(_, p, value)| !p.takes(value))
                .map(|(number, _, value)| (number, value.to_owned()))
                .collect()
        };
        let best = self.readings(text, false).iter().map(wrong).min_by_key(Vec::len).unwrap_or_default();
        let first = best.first().and_then(|(number, value)| Some((self.placeholders.get(*number)?, value)));
        let Some((placeholder, value)) = first else { return Ok(None) };
        Err(Box::new(Mismatch::Outside {
            name: name.clone(),
            pattern: self.pattern.clone(),
            placeholder: placeholder.name.clone(),
            value: value.clone(),
            form: placeholder.form.clone(),
            near: placeholder.nearest(value),
        }))
    }

    /// All ways to read a name, up to [`ENOUGH`]; `strict`: only with values that the placeholders take.
    fn readings(&self, text: &str, strict: bool) -> Vec<Binding> {
        let (dead, cuts, found) = (HashSet::new(), Vec::new(), Vec::new());
        let mut reader = Reader { template: self, text, strict, dead, cuts, found, tries: 0 };
        reader.read(0, 0);
        reader.found
    }
}

struct Reader<'a> {
    template: &'a Template,
    text: &'a str,
    strict: bool,
    /// Piece and byte from where no reading goes on: what makes cutting polynomial.
    dead: HashSet<(usize, usize)>,
    cuts: Vec<(usize, &'a str)>,
    found: Vec<Binding>,
    /// Whole readings so far, with those that give one placeholder two values.
    tries: usize,
}

impl<'a> Reader<'a> {
    /// Cuts from a piece and a byte on; whether the text could be cut to its end.
    fn read(&mut self, piece: usize, at: usize) -> bool {
        if self.is_over() || self.dead.contains(&(piece, at)) {
            return false;
        }
        let rest = self.text.get(at..).unwrap_or("");
        let reached = match self.template.pieces.get(piece) {
            None if rest.is_empty() => {
                self.keep();
                true
            }
            None => false,
            Some(Piece::Text(own)) => rest.starts_with(own.as_str()) && self.read(piece + 1, at + own.len()),
            Some(Piece::Token(number)) => {
                let longest = rest.find('/').unwrap_or(rest.len());
                let mut reached = false;
                for length in 1..=longest {
                    let Some(value) = rest.get(..length) else { continue };
                    if self.strict && !self.template.placeholders.get(*number).is_some_and(|p| p.takes(value)) {
                        continue;
                    }
                    self.cuts.push((*number, value));
                    reached |= self.read(piece + 1, at + length);
                    self.cuts.pop();
                }
                reached
            }
        };
        if !reached && !self.is_over() {
            self.dead.insert((piece, at));
        }
        reached
    }

    fn is_over(&self) -> bool {
        self.found.len() >= ENOUGH || self.tries >= MOST_TRIES
    }

    /// A reading, unless it gives one placeholder two values.
    fn keep(&mut self) {
        self.tries += 1;
        let mut values = Vec::new();
        for (number, placeholder) in self.template.placeholders.iter().enumerate() {
            let mut own = self.cuts.iter().filter(|(of, _)| *of == number).map(|(_, value)| *value);
            let Some(first) = own.next() else { return };
            if own.any(|other| other != first) {
                return;
            }
            values.push((placeholder.name.clone(), first.to_owned()));
        }
        self.found.push(Binding::new(values));
    }
}

impl Placeholder {
    /// The listed value most like another: by number where all are numbers, else by letters.
    pub fn nearest(&self, value: &str) -> Option<String> {
        let number = |text: &str| text.parse::<u64>().ok();
        if let Some(wanted) = number(value)
            && self.listed.iter().all(|text| number(text).is_some())
        {
            return self
                .listed
                .iter()
                .min_by_key(|text| number(text).map_or(u64::MAX, |n| n.abs_diff(wanted)))
                .cloned();
        }
        self.listed.iter().min_by_key(|text| strsim::damerau_levenshtein(value, text)).cloned()
    }
}
