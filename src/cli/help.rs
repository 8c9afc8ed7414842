//! `ovl help`: what a command does, or what an overlay or image says about itself.

use std::path::Path;

use clap::CommandFactory;

use super::args::{Cli, Help};
use super::failure::{Failure, Outcome};
use super::{Context, info};
use crate::store::{overlays, system};

/// Runs the command.
pub fn run(args: &Help, context: &Context) -> Outcome {
    let mut command = Cli::command();
    command.build();
    let Some(about) = &args.about else {
        context.ui.out(&command.render_long_help().to_string());
        return Ok(0);
    };
    if let Some(found) = command.find_subcommand_mut(about) {
        context.ui.out(&found.render_long_help().to_string());
        return Ok(0);
    }
    let path = info::locate(about, context)?;
    let image = system::open(&path)?;
    let said = system::of(&path, &image)?.and_then(|system| system.help);
    let said = match said {
        Some(help) => Some(help),
        None => what(&path)?,
    };
    match said {
        Some(text) => {
            // It is what somebody else wrote: nothing that moves the cursor.
            let plain = |c: &char| !c.is_control() || matches!(c, '\n' | '\t');
            context.ui.out(text.chars().filter(plain).collect::<String>().trim_end());
            Ok(0)
        }
        None => Err(Failure::usage(format!("{about} says nothing about itself"))
            .hint(format!("see what is known of it with: ovl info {about}"))),
    }
}

/// What the recipe says it is.
fn what(path: &Path) -> Result<Option<String>, Failure> {
    let Ok(image) = overlays::open(path) else { return Ok(None) };
    Ok(overlays::facts(path, &image)?.meta.and_then(|meta| meta.whatis))
}
