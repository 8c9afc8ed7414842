//! `ovl shell-init`: what a shell's rc file evaluates: the directory of wrappers on PATH, and completion.

use std::ffi::OsStr;

use super::args::{ShellArg, ShellInit};
use super::failure::{Failure, Outcome, code};
use super::{Context, complete};
use crate::model::cmd::quote;

/// Runs the command.
pub fn run(args: &ShellInit, context: &Context) -> Outcome {
    let dir = context.config.wrap_dir();
    let text = dir.to_str().filter(|text| !text.contains(':'));
    let dir = text.ok_or_else(|| Failure::usage(format!("wrap.dir: {} cannot be on PATH", dir.display())))?;
    let shell = match args.shell {
        ShellArg::Bash => "bash",
        ShellArg::Zsh => "zsh",
        ShellArg::Fish => "fish",
    };
    let script = complete::script(shell).map_err(|error| Failure::new(code::ERROR, error.to_string()))?;
    let completion = String::from_utf8_lossy(&script);
    context.ui.out_bytes(text_for(args.shell, dir, &completion).as_bytes());
    Ok(0)
}

fn text_for(shell: ShellArg, dir: &str, completion: &str) -> String {
    let word = quote(OsStr::new(dir));
    match shell {
        ShellArg::Bash => format!("{}{completion}", posix_path(&word)),
        // Without compinit zsh has nothing to complete with.
        ShellArg::Zsh => {
            format!("{}if (( $+functions[compdef] )); then\n{completion}\nfi\n", posix_path(&word))
        }
        ShellArg::Fish => {
            let word = format!("'{}'", dir.replace('\\', "\\\\").replace('\'', "\\'"));
            format!("contains -- {word} $PATH; or set -gx PATH {word} $PATH\n{completion}")
        }
    }
}

fn posix_path(word: &str) -> String {
    format!("case \":$PATH:\" in *:{word}:*) ;; *) PATH={word}:$PATH; export PATH ;; esac\n")
}
