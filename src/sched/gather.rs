//! What the readers of all dialects share: collecting figures with their sources.

use super::FlagError;
use super::amount;
use super::words::Flag;
use crate::model::batch::Asks;
use crate::model::resources::{Extra, Figure, Gpus, Resources, Scheduler, Source};

/// Resources being read.
pub struct Gather {
    /// So far.
    pub resources: Resources,
    /// What only scripts may ask for; None: a recipe is read.
    pub asks: Option<Asks>,
    scheduler: Scheduler,
}

/// The source of what a flag says.
pub fn source(flag: &Flag) -> Source {
    Source::Directive { at: flag.loc.to_string(), text: flag.text() }
}

/// A value with its flag as the source.
pub fn figure<T>(flag: &Flag, value: T) -> Option<Figure<T>> {
    Some(Figure::new(value, source(flag)))
}

impl Gather {
    /// Nothing yet.
    pub fn new(scheduler: Scheduler) -> Gather {
        Gather { resources: Resources::default(), asks: None, scheduler }
    }

    /// Nothing yet of a user's script.
    pub fn of_script(scheduler: Scheduler) -> Gather {
        Gather { asks: Some(Asks::default()), ..Gather::new(scheduler) }
    }

    /// All that was read.
    pub fn script(self) -> (Resources, Asks) {
        (self.resources, self.asks.unwrap_or_default())
    }

    /// Keeps a flag that has no place in the model.
    pub fn extra(&mut self, flag: &Flag) {
        self.extra_words(flag, flag.words.clone());
    }

    /// Keeps a part of a flag.
    pub fn extra_words(&mut self, flag: &Flag, words: Vec<String>) {
        let at = flag.loc.to_string();
        self.resources.extra.push(Extra { scheduler: self.scheduler, at, words });
    }

    /// A name (queue, account, …) as the flag's value.
    pub fn text(&self, flag: &Flag) -> Result<Option<Figure<String>>, FlagError> {
        let value = flag.value();
        if value.is_empty() || value.chars().any(char::is_control) {
            return Err(flag.error("the value is empty or holds control characters"));
        }
        Ok(figure(flag, value.to_owned()))
    }
}

/// GPUs as `[kind:]count` or `kind`; `count` alone too.
pub fn gpus(text: &str) -> Result<Gpus, String> {
    let bad = || format!("'{text}' is no number of GPUs; write a number, or kind:number");
    let numeric = |text: &str| !text.is_empty() && text.bytes().all(|b| b.is_ascii_digit());
    let kind = |text: &str| {
        (!text.is_empty() && !text.chars().any(|c| c.is_whitespace() || c.is_control())).then(|| text.to_owned())
    };
    match text.rsplit_once([':', '=']) {
        None if numeric(text) => Ok(Gpus { count: amount::count(text, 0)?, kind: None }),
        None => Ok(Gpus { count: 1, kind: Some(kind(text).ok_or_else(bad)?) }),
        Some((name, number)) if numeric(number) && !name.contains([':', '=', ',']) => {
            Ok(Gpus { count: amount::count(number, 0)?, kind: Some(kind(name).ok_or_else(bad)?) })
        }
        Some(_) => Err(bad()),
    }
}
