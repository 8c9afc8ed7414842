//! What recipes and scripts depend on: what of it is installed, what is missing and can be built, what nobody knows.

use std::collections::BTreeSet;

use super::Context;
use super::failure::Failure;
use crate::model::loc::Loc;
use crate::model::name::Name;
use crate::model::need::Need;
use crate::model::version::Version;
use crate::recipe::spec::At;
use crate::recipe::{self, Spec};
use crate::store::overlays::{self, Overlay};
use crate::store::recipes;
use crate::ui::table;

/// How it stands with a dependency.
#[derive(Debug, Clone, PartialEq, Eq)]
enum State {
    /// It is there: this version, in this file.
    Installed(Name, String),
    /// It is not, but there is a recipe.
    Buildable(String),
    /// It is not, and its recipe is among those that are checked, but in no layer.
    Beside(String),
    /// Nobody knows it.
    Unknown(Loc),
}

/// Everything that was asked for, dependencies before dependents.
#[derive(Default)]
pub struct Needs {
    rows: Vec<(Need, State)>,
    seen: BTreeSet<String>,
    /// What the checked recipes themselves ask for and is missing.
    direct: Vec<Name>,
}

/// A recipe that is checked, and so known, in whichever directory it is.
pub struct Checked {
    /// Its name in messages.
    pub label: String,
    /// The name it would have in a layer.
    pub name: Option<Name>,
    /// What it says.
    pub spec: Spec,
}

/// Follows the dependencies of recipes. Those of templates are left out: they depend on the values.
pub fn of(checked: &[Checked], context: &Context) -> Result<Needs, Failure> {
    let mut needs = Needs::default();
    let installed = overlays::all(&context.layers)?;
    for one in checked.iter().filter(|one| one.spec.template.is_none()) {
        for need in asked(&one.spec) {
            if needs.follow(&need, checked, &installed, context)? && !needs.direct.contains(&need.value.name) {
                needs.direct.push(need.value.name);
            }
        }
    }
    Ok(needs)
}

fn asked(spec: &Spec) -> Vec<At<Need>> {
    spec.builddeps.iter().chain(&spec.deps).cloned().collect()
}

impl Needs {
    /// Looks a dependency up, and those of its recipe when it is missing; whether it is missing and could be built.
    fn follow(
        &mut self,
        root: &At<Need>,
        checked: &[Checked],
        installed: &[Overlay],
        context: &Context,
    ) -> Result<bool, Failure> {
        // By hand, not by recursion: a chain is as long as its authors please. None: what is below it has been told.
        let mut open = vec![(root.clone(), None::<State>)];
        let mut missing = false;
        while let Some((need, told)) = open.pop() {
            if let Some(state) = told {
                self.rows.push((need.value, state));
                continue;
            }
            let first = need.value == root.value;
            if !self.seen.insert(need.value.to_string()) {
                missing |= first && self.rows.iter().any(|(n, s)| *n == need.value && matches!(s, State::Buildable(_)));
                continue;
            }
            let (state, below) = look(&need, checked, installed, context)?;
            missing |= first && matches!(state, State::Buildable(_));
            open.push((need, Some(state)));
            open.extend(below.into_iter().rev().map(|need| (need, None)));
        }
        Ok(missing)
    }

    /// Lines for people.
    pub fn lines(&self) -> Vec<String> {
        let rows: Vec<Vec<String>> = self
            .rows
            .iter()
            .map(|(need, state)| {
                let (word, detail) = match state {
                    State::Installed(name, path) if *name == need.name => ("installed".to_owned(), path.clone()),
                    State::Installed(name, path) => (format!("installed: {}", name.version()), path.clone()),
                    State::Buildable(label) => ("missing, can be built".to_owned(), label.clone()),
                    State::Beside(label) => ("missing, in no layer".to_owned(), label.clone()),
                    State::Unknown(loc) => ("missing, no recipe".to_owned(), loc.to_string()),
                };
                vec![need.to_string(), word, detail]
            })
            .collect();
        table::columns(&rows)
    }

    /// Whether anything is missing that can be built.
    pub fn are_buildable(&self) -> bool {
        self.rows.iter().any(|(_, state)| matches!(state, State::Buildable(_)))
    }

    /// What nobody knows.
    pub fn unknown(&self) -> Vec<&Need> {
        self.rows.iter().filter(|(_, state)| matches!(state, State::Unknown(_))).map(|(need, _)| need).collect()
    }

    /// What only recipes make that are in no layer.
    pub fn beside(&self) -> Vec<&Need> {
        self.rows.iter().filter(|(_, state)| matches!(state, State::Beside(_))).map(|(need, _)| need).collect()
    }

    /// What to build so that nothing is missing: the rest follows from it.
    pub fn to_build(&self) -> &[Name] {
        &self.direct
    }
}

/// How it stands with one dependency, and what its recipe asks for when it is missing.
fn look(
    need: &At<Need>,
    checked: &[Checked],
    installed: &[Overlay],
    context: &Context,
) -> Result<(State, Vec<At<Need>>), Failure> {
    let name = &need.value.name;
    // The first layer's of the newest version that will do.
    let mut best: Option<&Overlay> = None;
    for overlay in installed.iter().filter(|overlay| need.value.satisfied_by(&overlay.name)) {
        let newer = |best: &Overlay| Version::new(overlay.name.version()) > Version::new(best.name.version());
        if best.is_none_or(newer) {
            best = Some(overlay);
        }
    }
    if let Some(overlay) = best {
        return Ok((State::Installed(overlay.name.clone(), overlay.path.display().to_string()), Vec::new()));
    }
    if let Some(found) = recipes::find(&context.layers, name)? {
        let spec = recipe::parse(&found.label(), &found.read()?).spec;
        return Ok((State::Buildable(found.label()), spec.as_ref().map(asked).unwrap_or_default()));
    }
    let makes = |one: &&Checked| {
        let template = one.spec.template.as_ref();
        one.name.as_ref() == Some(name)
            || template.is_some_and(|template| matches!(template.matches(name), Ok(Some(_))))
    };
    Ok(match checked.iter().find(makes) {
        Some(beside) => (State::Beside(beside.label.clone()), Vec::new()),
        None => (State::Unknown(need.loc.clone()), Vec::new()),
    })
}
