//! Conda behind the recipes (row C10): a name that no recipe makes is looked for in the channels, and environments are
//! solved while a build is prepared. The channels are asked only when something is wanted that only they can tell.

use std::cell::{Cell, OnceCell, RefCell};

use super::error::BuildError;
use super::plan::{self, Recipe};
use super::request::Request;
use crate::conda::{self, Conda, CondaError, Locked};
use crate::config::Config;
use crate::model::meta::Channels;
use crate::model::name::Name;
use crate::recipe::conda::compose;
use crate::recipe::{self, Content, Form};
use crate::store::layers::Layers;
use crate::store::overlays;
use crate::store::recipes::{Found, Place};

/// The channels, as far as they were asked.
pub struct Fallback<'a> {
    request: &'a Request,
    layers: &'a Layers,
    config: &'a Config,
    conda: OnceCell<Conda>,
    /// Why a name was not found there.
    trouble: RefCell<Option<CondaError>>,
    notes: RefCell<Vec<String>>,
    /// Tells at once that something may take long.
    tell: &'a dyn Fn(&str),
    told: Cell<bool>,
}

impl<'a> Fallback<'a> {
    /// Nothing is asked yet.
    pub fn new(request: &'a Request, layers: &'a Layers, config: &'a Config, tell: &'a dyn Fn(&str)) -> Fallback<'a> {
        let (trouble, notes) = (RefCell::default(), RefCell::default());
        Fallback { request, layers, config, conda: OnceCell::new(), trouble, notes, tell, told: Cell::new(false) }
    }

    fn conda(&self) -> Result<&Conda, CondaError> {
        if let Some(conda) = self.conda.get() {
            return Ok(conda);
        }
        let made = Conda::new(self.config, &self.request.conda)?;
        Ok(self.conda.get_or_init(|| made))
    }

    fn tell_once(&self) {
        if !self.told.replace(true) {
            (self.tell)("asking the channels of conda …");
        }
    }

    /// The recipe of a name that no layer has one for: what it was made of, if it is there and came from conda; else
    /// the package of this name and version.
    pub fn recipe(&self, name: &Name) -> Result<Option<Recipe>, BuildError> {
        let made = |text| {
            let place = Place::Made(format!("{name}.yml"), text);
            plan::load(Found { name: name.clone(), place }, &recipe::Arguments::new()).map(Some)
        };
        let channel = self.request.channels.get(name);
        // Who names a channel wants it from there, whatever is installed.
        if channel.is_none()
            && let Some(place) = self.embedded(name)?
        {
            return plan::load(Found { name: name.clone(), place }, &recipe::Arguments::new()).map(Some);
        }
        let none = self.config.conda_channels().is_empty() && self.request.conda.channels.is_empty();
        if name.parts().len() != 2 || (none && channel.is_none()) {
            return Ok(None);
        }
        self.tell_once();
        let wish =
            match self.conda().and_then(|conda| conda.pin(&name.stem(), name.version(), channel.map(String::as_str))) {
                Ok(wish) => wish,
                Err(CondaError::Interrupted) => return Err(BuildError::Interrupted { name: name.clone() }),
                Err(error) => {
                    *self.trouble.borrow_mut() = Some(error);
                    return Ok(None);
                }
            };
        self.notes.borrow_mut().push(format!("{name}: there is no recipe; the package {wish} is taken from conda"));
        let text = compose(&[wish], &self.channels(), self.request.conda.platform.as_deref());
        made(text)
    }

    /// The channels to write down: none unless flags name some, as the configuration's stay the configuration's.
    fn channels(&self) -> Vec<String> {
        let wishes = &self.request.conda;
        let own = if wishes.channels.is_empty() || wishes.only_those { &[] } else { self.config.conda_channels() };
        wishes.channels.iter().chain(own).cloned().collect()
    }

    /// The environment that an installed overlay was made of, if nothing else says.
    fn embedded(&self, name: &Name) -> Result<Option<Place>, BuildError> {
        let Some(there) = plan::existing(name, true, self.request, self.layers)? else { return Ok(None) };
        // What cannot be read is built anew.
        let read = || -> Option<Place> {
            let image = overlays::open(&there.path).ok()?;
            let meta = overlays::read_meta(&image).ok()??;
            let text = String::from_utf8(overlays::read_recipe(&image, &meta).ok()??).ok()?;
            let of_conda = Form::of(&meta.recipe_source, &text) == Form::Conda;
            of_conda.then_some(Place::Made(meta.recipe_source, text))
        };
        Ok(read())
    }

    /// What beside its text decides about the packages of a recipe that is a conda environment; None for others.
    pub fn inputs(&self, recipe: &Recipe) -> Result<Option<Channels>, BuildError> {
        let Content::Conda(environment) = &recipe.spec.content else { return Ok(None) };
        let name = recipe.found.name.clone();
        let inputs = conda::inputs(self.config, &self.request.conda, environment);
        inputs.map(Some).map_err(|source| BuildError::Conda { name, source: Box::new(source) })
    }

    /// The packages of a recipe that is a conda environment; None for others, and where micromamba is to solve it.
    pub fn lock(&self, recipe: &Recipe) -> Result<Option<Locked>, BuildError> {
        let Content::Conda(environment) = &recipe.spec.content else { return Ok(None) };
        let has_wishes = matches!(environment.content, recipe::conda::Content::Wishes(_));
        if self.config.conda_micromamba() && has_wishes {
            return Ok(None);
        }
        if has_wishes {
            self.tell_once();
        }
        let text = String::from_utf8_lossy(&recipe.bytes);
        let locked = self.conda().and_then(|conda| conda.lock(&recipe.label, &text, environment));
        let name = &recipe.found.name;
        locked.map(Some).map_err(|source| match source {
            CondaError::Interrupted => BuildError::Interrupted { name: name.clone() },
            source => BuildError::Conda { name: name.clone(), source: Box::new(source) },
        })
    }

    /// Names in the channels that look like what was asked for.
    pub fn near(&self) -> Vec<String> {
        match &*self.trouble.borrow() {
            Some(CondaError::NoPackage { near, .. }) => {
                near.iter().take(3).map(|near| near.replacen('=', "/", 1)).collect()
            }
            _ => Vec::new(),
        }
    }

    /// Why the channels did not help, as a part of a sentence; None where none was asked.
    pub fn trouble(&self) -> Option<String> {
        self.trouble.borrow().as_ref().map(|trouble| match trouble {
            CondaError::NoPackage { .. } => format!("conda has {trouble}"),
            trouble => format!("conda could not be asked: {trouble}"),
        })
    }

    /// What the user should know of the answers.
    pub fn notes(&self) -> Vec<String> {
        let mut notes = self.notes.borrow().clone();
        notes.extend(self.conda.get().map(Conda::notes).unwrap_or_default());
        notes
    }
}
