//! What definition files start from and reach for: overlays by their names are dependencies, images in registries have a
//! reference, and what a recipe from elsewhere would do with the host is refused unless the user trusts it.

use std::path::Path;

use super::error::BuildError;
use super::plan::Recipe;
use crate::model::name::Name;
use crate::model::need::Need;
use crate::recipe::def::{Agent, Definition, Stage};
use crate::recipe::spec::At;
use crate::registry::{Reference, RegistryError};
use crate::store::recipes::Place;
use crate::sys::fs;

/// Endings of files, which no overlay's name is taken for.
const FILES: [&str; 6] = [".sif", ".sqf", ".sqfs", ".squashfs", ".img", ".tar"];

/// The overlay that a stage starts from; None where it is a file. `dir` is where the recipe lies.
pub fn overlay(stage: &Stage, dir: Option<&Path>) -> Option<Name> {
    let from = stage.header("from").filter(|_| stage.agent == Agent::LocalImage)?;
    if FILES.iter().any(|ending| from.ends_with(ending)) {
        return None;
    }
    let is_file = dir.is_some_and(|dir| fs::symlink_metadata(&dir.join(from)).is_ok());
    if is_file { None } else { from.parse().ok() }
}

/// The overlays that stages start from: needed to build, and not afterwards.
pub fn overlays(definition: &Definition, dir: Option<&Path>) -> Vec<At<Need>> {
    let mut needs: Vec<At<Need>> = Vec::new();
    for stage in &definition.stages {
        if let Some(name) = overlay(stage, dir).filter(|name| needs.iter().all(|at| at.value.name != *name)) {
            needs.push(At { loc: stage.place("from").clone(), value: Need { name, min: None } });
        }
    }
    needs
}

/// The image in a registry that a stage starts from, as it is written; None where it starts from something else.
pub fn image(stage: &Stage) -> Option<Result<Reference, RegistryError>> {
    if stage.agent != Agent::Docker {
        return None;
    }
    let parts = ["registry", "namespace", "from"].into_iter().filter_map(|name| stage.header(name));
    let full: Vec<&str> = parts.filter(|part| !part.is_empty()).collect();
    Some(Reference::parse(&format!("docker://{}", full.join("/")), None).map_err(RegistryError::from))
}

/// Refuses what a definition from elsewhere would do with this host, and paths that begin nowhere.
pub fn refuse(recipe: &Recipe, trusted: bool) -> Result<(), BuildError> {
    let Some(definition) = recipe.spec.definition() else { return Ok(()) };
    let place = &recipe.found.place;
    if let (Place::Remote(pinned), false) = (place, trusted)
        && let Some((loc, what)) = definition.stages.iter().find_map(reaches_out)
    {
        return Err(BuildError::Unfit {
            what: format!("{loc}: {what}, and this recipe comes from the remote {}", pinned.remote),
            hint: format!("read it with: ovl export {}; if you trust it, add --trust-setup", recipe.found.name),
        });
    }
    if place.dir().is_none()
        && let Some((loc, path)) = definition.stages.iter().find_map(begins_nowhere)
    {
        return Err(BuildError::Unfit {
            what: format!("{loc}: {path} is a relative path, and this recipe lies in no directory"),
            hint: "take a full path, or put the recipe into a file and build that with -f".into(),
        });
    }
    Ok(())
}

/// What a stage does with the host outside of its own tree, and where.
fn reaches_out(stage: &Stage) -> Option<(String, String)> {
    for name in ["pre", "setup"] {
        if stage.script(name).is_some() {
            let loc = stage.sections.iter().find(|section| section.name == name).map_or(&stage.loc, |found| &found.loc);
            return Some((loc.to_string(), format!("%{name} runs on this host as you")));
        }
    }
    if let Some((loc, path)) = host_files(stage).into_iter().next() {
        return Some((loc, format!("it takes {path} of this host")));
    }
    let from = stage.header("from").filter(|_| takes_file(stage.agent))?;
    overlay(stage, None).is_none().then(|| (stage.place("from").to_string(), format!("it takes {from} of this host")))
}

/// A path of a stage that is relative to the recipe's directory, and where.
fn begins_nowhere(stage: &Stage) -> Option<(String, String)> {
    if let Some(found) = host_files(stage).into_iter().find(|(_, path)| !path.starts_with('/')) {
        return Some(found);
    }
    let from = stage.header("from").filter(|_| takes_file(stage.agent))?;
    let path = from.strip_prefix("file://").unwrap_or(from);
    let relative = !path.starts_with('/') && overlay(stage, None).is_none();
    relative.then(|| (stage.place("from").to_string(), from.to_owned()))
}

/// The files of the host that a stage copies, each with its place.
fn host_files(stage: &Stage) -> Vec<(String, String)> {
    let file = stage.loc.file.clone();
    let transfers = stage.files().into_iter().filter(|transfer| transfer.stage.is_none());
    let mut all: Vec<(String, String)> =
        transfers.map(|transfer| (format!("{file}:{}", transfer.line), transfer.source)).collect();
    for section in stage.sections.iter().filter(|section| section.name == "appfiles") {
        let sources = section.body.lines().filter_map(|line| crate::recipe::def::words::split(line).into_iter().next());
        all.extend(sources.map(|source| (section.loc.to_string(), source)));
    }
    all
}

/// Whether `From:` is a file or a directory.
fn takes_file(agent: Agent) -> bool {
    matches!(agent, Agent::LocalImage | Agent::OciArchive | Agent::DockerArchive | Agent::Oci)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::recipe::def::{self, Arguments};
    use crate::store::recipes::Found;

    fn of(text: &str) -> Definition {
        def::read("x.def", text, &Arguments::new(), &mut Vec::new())
    }

    #[test]
    fn an_overlay_is_needed_where_there_is_no_file() {
        let needs = |text: &str| -> Vec<String> {
            let dir = Some(Path::new("/"));
            overlays(&of(text), dir).iter().map(|at| format!("{} {}", at.loc, at.value.name)).collect()
        };
        let twice = "Bootstrap: localimage\nFrom: a/1\nStage: x\nBootstrap: localimage\nFrom: a/1\n";
        assert_eq!(needs(twice), ["x.def:2:1 a/1"]);
        assert!(needs("Bootstrap: localimage\nFrom: usr/bin\n").is_empty(), "a directory is there");
        assert!(needs("Bootstrap: localimage\nFrom: a/1.sif\n").is_empty());
        assert!(needs("Bootstrap: docker\nFrom: a/1\n").is_empty());
    }

    #[test]
    fn what_begins_nowhere_is_refused() {
        let place = Place::Made("x.def".into(), String::new());
        let said = |text: &str| {
            let label = "x.def".to_owned();
            let spec = crate::recipe::parse(&label, text.as_bytes()).ready().unwrap().0;
            let found = Found { name: "x/1".parse().unwrap(), place: place.clone() };
            let recipe = Recipe { label, found, bytes: text.into(), spec, warnings: Vec::new() };
            refuse(&recipe, false).err().map(|error| error.to_string()).unwrap_or_default()
        };
        assert!(said("Bootstrap: scratch\n%files\n  a /b\n").starts_with("x.def:3: a is a relative path"));
        assert!(said("Bootstrap: localimage\nFrom: x.sif\n").contains("x.sif is a relative path"));
        assert_eq!(said("Bootstrap: localimage\nFrom: x/2\n%setup\n  true\n%files\n  /a /b\n"), "");
    }
}
