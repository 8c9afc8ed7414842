//! `ovl tag`: further names for what a registry has.

use serde_json::json;

use super::{Watching, base, options, print, reference};
use crate::cli::Context;
use crate::cli::args::Tag;
use crate::cli::failure::{Failure, Outcome};
use crate::registry::{self, Reference};
use crate::ui::Meter;

/// Runs the command.
pub fn run(args: &Tag, context: &Context) -> Outcome {
    let options = options(&args.speaking, context);
    let base = base(&options, context)?;
    let source = reference(&args.source, base.as_deref())?;
    let target = |text: &String| -> Result<Reference, Failure> {
        match text.strip_prefix(':').unwrap_or(text) {
            // A tag alone is one of the same repository.
            word if !word.contains(['/', ':', '@']) => {
                reference(&format!("oci://{}/{}:{word}", source.registry, source.repository), None)
            }
            _ => reference(text, base.as_deref()),
        }
    };
    let targets: Vec<Reference> = args.targets.iter().map(target).collect::<Result<_, _>>()?;
    let meter = Meter::new(context.ui, &context.config.progress(), &format!("tagging {source}"));
    let done = registry::tag::tag(&source, &targets, &options, &Watching(&meter))?;
    drop(meter);
    if args.speaking.json {
        let tagged: Vec<_> =
            done.iter().map(|(one, digest)| json!({ "ref": one.to_string(), "digest": digest })).collect();
        print(&json!({ "source": source.to_string(), "tagged": tagged }), context);
        return Ok(0);
    }
    for (one, digest) in &done {
        context.ui.say(&format!("tagged {one}"));
        context.ui.out(&one.pinned(digest).to_string());
    }
    Ok(0)
}
