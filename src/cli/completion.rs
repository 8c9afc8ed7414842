//! `ovl completion`: a script for the shell, which asks this program what fits.

use super::args::Completion;
use super::complete;
use super::failure::{Failure, Outcome, code};
use crate::ui::Ui;

/// Runs the command.
pub fn run(args: &Completion) -> Outcome {
    let script = complete::script(&args.shell.to_string());
    let script = script.map_err(|error| Failure::new(code::ERROR, error.to_string()))?;
    Ui::new("never", 0).out_bytes(&script);
    Ok(0)
}
