//! Building overlays: resolve → claim → stage → fill → pack → check → publish. Each phase consumes the one before, so
//! "publish before check" does not compile, and dropping any of them removes what it made.

pub mod check;
pub mod error;
mod ext3;
mod fill;
mod job;
mod log;
mod needs;
mod one;
mod origin;
pub mod pack;
pub mod plan;
pub mod publish;
mod request;
mod sandbox;
mod stage;
mod tree;
pub mod work;

pub use error::BuildError;
pub use request::{Done, Outcome, Request};

use std::collections::BTreeMap;

use crate::config::Config;
use crate::model::event::{Event, Listener};
use crate::model::name::Name;
use crate::recipe::spec::Prompt;
use crate::store::layers::Layers;
use crate::sys::signal;
use plan::Item;

/// Answers a recipe's question; None when nobody can.
pub type Ask<'a> = dyn FnMut(&Name, &Prompt) -> Option<String> + 'a;

/// What came of a request: everything that was finished, and what ended it early.
#[derive(Debug)]
pub struct Results {
    /// In building order, dependencies included.
    pub done: Vec<Done>,
    /// The first failure.
    pub error: Option<BuildError>,
}

/// Builds what the request names and what that needs.
pub fn run(request: &Request, config: &Config, listener: &dyn Listener, ask: &mut Ask) -> Results {
    let mut done = Vec::new();
    let error = run_all(request, config, listener, ask, &mut done).err();
    Results { done, error }
}

fn run_all(
    request: &Request,
    config: &Config,
    listener: &dyn Listener,
    ask: &mut Ask,
    done: &mut Vec<Done>,
) -> Result<(), BuildError> {
    let layers = Layers::new(config);
    let items = plan::resolve(request, &layers)?;
    let mut answers = BTreeMap::new();
    for item in &items {
        if needs_building(item, request, &layers)? && !request.dry_run {
            answers.insert(item.name.clone(), answer(item, ask)?);
        }
    }
    for item in items {
        let Some(recipe) = item.recipe.clone() else { continue };
        let given = answers.remove(&item.name);
        let result = one::build(&item, recipe, given, request, config, &layers, listener)?;
        if result.outcome != Outcome::WouldBuild {
            listener.hear(&finished(&result));
        }
        done.push(result);
    }
    Ok(())
}

fn finished(result: &Done) -> Event {
    Event::Finished {
        name: result.name.clone(),
        outcome: result.outcome.to_string(),
        detail: result.detail(),
        seconds: result.seconds,
    }
}

/// Whether a build will run: known before anything is built, so that questions can be asked first (row C20).
fn needs_building(item: &Item, request: &Request, layers: &Layers) -> Result<bool, BuildError> {
    if item.recipe.is_none() {
        return Ok(false);
    }
    let existing = plan::existing(&item.name, item.target, request, layers)?;
    Ok(request.update && item.target || !plan::is_there(existing.as_ref())?)
}

fn answer(item: &Item, ask: &mut Ask) -> Result<Vec<String>, BuildError> {
    let prompts = item.recipe.as_ref().map_or(&[][..], |recipe| &recipe.spec.prompts);
    let unanswered = |prompt: &Prompt| match signal::interrupted() {
        Some(_) => BuildError::Interrupted { name: item.name.clone() },
        None => BuildError::Unanswered { name: item.name.clone(), prompt: prompt.text.clone() },
    };
    prompts.iter().map(|prompt| ask(&item.name, prompt).ok_or_else(|| unanswered(prompt))).collect()
}
