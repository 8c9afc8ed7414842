//! `ovl recipes`: remotes of recipes are added, updated, listed and forgotten.

use serde_json::json;

use super::Context;
use super::args::{Recipes, RecipesAction};
use super::failure::{Failure, Outcome};
use crate::config::LayerDir;
use crate::net;
use crate::store::remotes::{self, Changes, Kind, Remote, RemoteError};
use crate::sys::{clock, env};
use crate::ui::table;

/// Runs the command.
pub fn run(args: &Recipes, context: &Context) -> Outcome {
    match &args.action {
        RecipesAction::Add { name, url, pin, layer } => add(name, url, pin.as_deref(), layer.as_deref(), context),
        RecipesAction::List { json } => list(*json, context),
        RecipesAction::Update { names, pin } => update(names, pin.as_deref(), context),
        RecipesAction::Remove { name } => remove(name, context),
    }
}

/// All remotes with the layer that names each; complaints are told.
fn all(context: &Context) -> Vec<(&LayerDir, Remote)> {
    let mut all: Vec<(&LayerDir, Remote)> = Vec::new();
    for layer in context.layers.dirs() {
        for remote in remotes::of_layer(layer, &mut |text| context.ui.warn(&text)) {
            if !all.iter().any(|(_, other)| other.name == remote.name) {
                all.push((layer, remote));
            }
        }
    }
    all
}

/// A path of this machine as an address; other things as they are.
fn address(text: &str) -> Result<String, Failure> {
    if text.contains("://") || text.contains('@') {
        return Ok(text.to_owned());
    }
    let (git, path) = match text.strip_prefix("git+") {
        Some(path) => (true, env::current_dir().join(path)),
        None => (false, env::current_dir().join(text)),
    };
    let url = url::Url::from_file_path(&path).map_err(|()| Failure::usage(format!("'{text}' is no address")))?;
    let listed = path.join("metadata/build-scripts.json.gz").is_file();
    let git = git || (!listed && (path.join(".git").exists() || path.join("objects").is_dir()));
    Ok(if git { format!("git+{url}") } else { url.to_string() })
}

fn online(url: &str, context: &Context) -> Result<(), Failure> {
    let here = url.starts_with("file:") || url.starts_with("git+file:");
    if context.config.offline() && !here {
        return Err(RemoteError::Offline(net::redacted(url)).into());
    }
    Ok(())
}

fn add(name: &str, url: &str, pin: Option<&str>, layer: Option<&str>, context: &Context) -> Outcome {
    remotes::check_name(name)?;
    if let Some((_, remote)) = all(context).into_iter().find(|(_, remote)| remote.name == name) {
        return Err(RemoteError::Taken { name: remote.name, url: net::redacted(&remote.url) }.into());
    }
    let url = address(url)?;
    if remotes::has_secret(&url) {
        return Err(Failure::usage(format!(
            "{}: an address with a user or a password in it is written down for all to read",
            net::redacted(&url)
        ))
        .hint("leave them out; a credential helper of git (git help credentials) or ~/.netrc keeps them"));
    }
    online(&url, context)?;
    let layer = context.layers.writable(layer)?;
    let (remote, changes) = remotes::fetch(name, &url, pin, None, context.layers.cache())?;
    remotes::save(&remote, &layer, context.layers.cache())?;
    tell(&remote, &changes, context);
    context.ui.hint("see them with: ovl avail");
    Ok(0)
}

fn update(names: &[String], pin: Option<&str>, context: &Context) -> Outcome {
    let all = all(context);
    let known = || all.iter().map(|(_, remote)| remote.name.clone()).collect::<Vec<_>>().join(", ");
    for name in names {
        if !all.iter().any(|(_, remote)| remote.name == *name) {
            return Err(RemoteError::Unknown { name: name.clone(), known: known() }.into());
        }
    }
    if pin.is_some() && names.len() != 1 {
        return Err(Failure::usage("--pin is for one remote; name it"));
    }
    if all.is_empty() {
        context.ui.say("there are no remotes");
    }
    let mut failure: Option<Failure> = None;
    for (layer, before) in all.iter().filter(|(_, remote)| names.is_empty() || names.contains(&remote.name)) {
        // The others may be fine.
        if let Err(error) = update_one(layer, before, pin.or(before.pin.as_deref()), context) {
            match &failure {
                Some(_) => context.ui.warn(&format!("{}: {}", before.name, error.message)),
                None => failure = Some(error),
            }
        }
    }
    failure.map_or(Ok(0), Err)
}

fn update_one(layer: &LayerDir, before: &Remote, pin: Option<&str>, context: &Context) -> Result<(), Failure> {
    let url = if before.kind == Kind::Git { format!("git+{}", before.url) } else { before.url.clone() };
    online(&url, context)?;
    context.layers.may_change(&layer.path.join("remotes"))?;
    let (remote, changes) = remotes::fetch(&before.name, &url, pin, Some(before), context.layers.cache())?;
    remotes::save(&remote, layer, context.layers.cache())?;
    tell(&remote, &changes, context);
    Ok(())
}

fn tell(remote: &Remote, changes: &Changes, context: &Context) {
    let short: String = remote.revision.chars().take(if remote.kind == Kind::Git { 12 } else { 19 }).collect();
    let count = |n: usize, what: &str| (n > 0).then(|| format!("{n} {what}"));
    let total = remote.recipes.len();
    let new = changes.new.len();
    let mut parts = vec![format!("{total} {}", if total == 1 { "recipe" } else { "recipes" })];
    parts.extend(count(if new == total { 0 } else { new }, "new"));
    parts.extend(count(changes.changed.len(), "changed"));
    parts.extend(count(changes.gone.len(), "gone"));
    context.ui.out(&format!("{}: {} ({short})", remote.name, parts.join(", ")));
    for (what, paths) in [("changed", &changes.changed), ("gone", &changes.gone)] {
        paths.iter().for_each(|path| context.ui.say(&format!("{what}: {path}")));
    }
}

fn list(as_json: bool, context: &Context) -> Outcome {
    let all = all(context);
    if as_json {
        let one = |(layer, remote): &(&LayerDir, Remote)| {
            json!({
                "name": remote.name, "url": net::redacted(&remote.url), "kind": remote.kind, "pin": remote.pin,
                "revision": remote.revision, "updated": clock::rfc3339(remote.updated), "layer": layer.kind,
                "recipes": remote.recipes,
            })
        };
        context.ui.out(&serde_json::to_string_pretty(&all.iter().map(one).collect::<Vec<_>>()).unwrap_or_default());
        return Ok(0);
    }
    if all.is_empty() {
        context.ui.say("there are no remotes");
    }
    let row = |(layer, remote): &(&LayerDir, Remote)| {
        let pin = remote.pin.as_ref().map(|pin| format!("pinned to {pin}")).unwrap_or_default();
        let count = format!("{} recipes", remote.recipes.len());
        let updated = clock::rfc3339(remote.updated);
        vec![remote.name.clone(), net::redacted(&remote.url), count, updated, layer.kind.to_owned(), pin]
    };
    table::columns(&all.iter().map(row).collect::<Vec<_>>()).iter().for_each(|line| context.ui.out(line));
    Ok(0)
}

fn remove(name: &str, context: &Context) -> Outcome {
    let all = all(context);
    let Some((layer, remote)) = all.iter().find(|(_, remote)| remote.name == name) else {
        let known = all.iter().map(|(_, remote)| remote.name.clone()).collect::<Vec<_>>().join(", ");
        return Err(RemoteError::Unknown { name: name.to_owned(), known }.into());
    };
    context.layers.may_change(&layer.path.join("remotes"))?;
    remotes::forget(remote, layer, context.layers.cache())?;
    context.ui.out(&format!("{name}: forgotten"));
    Ok(0)
}
