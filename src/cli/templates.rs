//! From what was typed to names: a template, by its path or its pattern, asks for each of its values.

use std::collections::BTreeSet;
use std::fmt::Display;

use super::Context;
use super::failure::{Failure, code};
use crate::model::loc::Loc;
use crate::model::name::Name;
use crate::model::need::Need;
use crate::recipe::spec::Prompt;
use crate::recipe::template::{Binding, Placeholder};
use crate::store::overlays;
use crate::store::templates::{self, TemplateFile};
use crate::sys::{signal, term};

/// Answers a question of what is named first; None when nobody can.
pub type Ask<'a> = dyn FnMut(&dyn Display, &Prompt) -> Option<String> + 'a;

/// Wrong answers on a terminal before ovl gives up.
const PATIENCE: usize = 5;

/// More values than these are not written out in a question or an error.
const SHOWN: usize = 12;

/// The names that arguments mean, each once, in order.
pub fn concrete(texts: &[String], context: &Context, ask: &mut Ask) -> Result<Vec<Name>, Failure> {
    let mut names: Vec<Name> = Vec::new();
    for text in texts {
        let name = match templates::named(&context.layers, text)? {
            Some(file) => fill(text, &file, context, ask)?,
            None if text.contains('{') => {
                return Err(Failure::usage(format!("there is no template {text}"))
                    .hint("see what can be built with: ovl avail"));
            }
            None => text.parse()?,
        };
        if !names.contains(&name) {
            names.push(name);
        }
    }
    Ok(names)
}

fn fill(text: &str, file: &TemplateFile, context: &Context, ask: &mut Ask) -> Result<Name, Failure> {
    let template = &file.template;
    let all = overlays::all(&context.layers)?;
    let installed: BTreeSet<Name> = all.into_iter().map(|overlay| overlay.name).collect();
    if term::stdin_is_terminal() {
        template.whatis.iter().for_each(|what| context.ui.say(what));
        context.ui.say(&format!("fills in {}", template.pattern));
    }
    let mut binding = Binding::default();
    for placeholder in &template.placeholders {
        let default = preferred(placeholder, &binding, file, &installed);
        let value = value(file, placeholder, default, context, ask).ok_or_else(|| unanswered(text, file))??;
        binding.add(&placeholder.name, &value);
    }
    let name = template.name(&binding).map_err(|why| Failure::usage(format!("{}: {why}", file.label())))?;
    // Values that are right one by one may run into one another.
    template.matches(&name).map_err(|error| Failure::from(crate::store::recipes::RecipeError::from(error)))?;
    context.ui.say(&format!("{text}: {name}"));
    Ok(name)
}

/// The first listed value with the most dependencies installed; with none installed the first.
fn preferred<'a>(
    placeholder: &'a Placeholder,
    chosen: &Binding,
    file: &TemplateFile,
    installed: &BTreeSet<Name>,
) -> Option<&'a str> {
    let token = format!("{{{}}}", placeholder.name);
    let deps: Vec<&String> = file.template.deps.iter().filter(|dep| dep.contains(&token)).collect();
    let there = |value: &str| {
        let mut binding = chosen.clone();
        binding.add(&placeholder.name, value);
        let is_there = |dep: &&&String| {
            // Unparsable while another placeholder has no value yet: says nothing for or against.
            binding.fill(dep).parse::<Need>().is_ok_and(|need| installed.contains(&need.name))
        };
        deps.iter().filter(is_there).count()
    };
    let mut best: Option<(&str, usize)> = None;
    for value in &placeholder.listed {
        let count = if deps.is_empty() { 0 } else { there(value) };
        if best.is_none_or(|(_, most)| count > most) {
            best = Some((value, count));
        }
        if count == deps.len() {
            break;
        }
    }
    best.map(|(value, _)| value)
}

/// Asks until an answer fits; None when nobody answers.
fn value(
    file: &TemplateFile,
    placeholder: &Placeholder,
    default: Option<&str>,
    context: &Context,
    ask: &mut Ask,
) -> Option<Result<String, Failure>> {
    let instead = default.map(|value| format!(", default {value}")).unwrap_or_default();
    let text = format!("{} [{}]{instead}", placeholder.name, listed(placeholder));
    let prompt = Prompt { text, secret: false, loc: Loc::new(file.label(), 1, 1) };
    let mut wrong = String::new();
    for _ in 0..PATIENCE {
        let answer = ask(&file.id, &prompt)?;
        let answer = answer.trim();
        match default {
            Some(default) if answer.is_empty() => return Some(Ok(default.to_owned())),
            _ if placeholder.takes(answer) => return Some(Ok(answer.to_owned())),
            _ => {}
        }
        let near = placeholder.nearest(answer).map(|near| format!("; the nearest is {near}")).unwrap_or_default();
        wrong = match answer {
            "" => format!("{} needs a value", placeholder.name),
            _ => format!("'{answer}' is no {} ({}){near}", placeholder.name, listed(placeholder)),
        };
        if !term::stdin_is_terminal() {
            break;
        }
        context.ui.warn(&wrong);
    }
    Some(Err(Failure::usage(format!("{}: {wrong}", file.id))))
}

/// The values as the author wrote them, or the first ones where they are many.
fn listed(placeholder: &Placeholder) -> String {
    let mut shown = placeholder.listed.clone();
    if shown.len() > SHOWN {
        return placeholder.form.clone();
    }
    if placeholder.open {
        shown.push(if shown.is_empty() { "any value".into() } else { "or any other".into() });
    }
    shown.join(", ")
}

fn unanswered(text: &str, file: &TemplateFile) -> Failure {
    if signal::interrupted().is_some() {
        return Failure::new(code::INTERRUPTED, format!("{text}: interrupted; nothing was left behind"));
    }
    let template = &file.template;
    let values: Vec<String> = template.placeholders.iter().map(|p| format!("\n  {}: {}", p.name, listed(p))).collect();
    let failure = Failure::usage(format!("{text} is a template, and nobody says with which values{}", values.concat()));
    match template.name(&template.sample()) {
        Ok(name) => failure.hint(format!("name them, as in: ovl build {name}")),
        Err(_) => failure.hint("answer with --answer, once for each"),
    }
}
