//! `ovl completion`: a script for the shell.

use clap::CommandFactory;

use super::args::{Cli, Completion};
use super::failure::Outcome;
use crate::ui::Ui;

/// Runs the command.
pub fn run(args: &Completion) -> Outcome {
    let mut script = Vec::new();
    clap_complete::generate(args.shell, &mut Cli::command(), "ovl", &mut script);
    Ui::new("never", 0).out_bytes(&script);
    Ok(0)
}
