//! `ovl explain`: a build in sentences.

use super::find;
use crate::cli::Context;
use crate::cli::args::Explain;
use crate::cli::failure::Outcome;
use crate::model::name::Name;
use crate::run::{explain, survey};

/// Runs the command.
pub fn run(args: &Explain, context: &Context) -> Outcome {
    let name: Name = args.name.parse()?;
    let meant = find::of_name(&name, args.run.as_deref(), context)?;
    let survey = survey::survey(&meant.dir, &context.config)?;
    for one in survey.steps.iter().filter(|one| meant.steps.contains(&one.index)) {
        let sentences = explain::explain(&meant.dir, one);
        if args.json {
            let value = serde_json::json!({
                "name": one.name, "run": meant.dir.id(), "state": one.state, "class": one.class,
                "attempt": one.attempt, "job": one.job, "text": one.text, "sentences": sentences,
                "step": meant.dir.head.plan.steps.get(one.index),
            });
            context.ui.out(&serde_json::to_string_pretty(&value).unwrap_or_default());
        } else {
            sentences.iter().for_each(|sentence| context.ui.out(sentence));
        }
    }
    Ok(0)
}
