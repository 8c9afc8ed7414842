//! `ovl run IMAGE [ARGS]`: an image or an overlay with a system in it is run by its own runscript.

use std::ffi::OsString;
use std::path::{Path, PathBuf};

use super::super::args::Run;
use super::super::exec::{self, Wanted, Writable};
use super::super::failure::{Failure, Outcome};
use super::super::{Context, info};
use crate::image::kind::{self, Kind};
use crate::model::cmd::Cmd;
use crate::store::system;
use crate::sys::{env, fs};

/// The image that is meant, unless it is a script.
pub fn meant(args: &Run, context: &Context) -> Result<Option<PathBuf>, Failure> {
    if args.script == Path::new("-") {
        return Ok(None);
    }
    let path = env::current_dir().join(&args.script);
    match fs::metadata_if_exists(&path)? {
        Some(meta) if meta.is_file() => {
            let kind = kind::of(&fs::open(&path)?).unwrap_or(Kind::Other);
            Ok(matches!(kind, Kind::Squashfs | Kind::Sif).then_some(path))
        }
        Some(_) => Ok(None),
        // Neither: the message about a script that is not there says most.
        None => Ok(args.script.to_str().and_then(|text| info::locate(text, context).ok())),
    }
}

/// Runs it.
pub fn run(path: &Path, args: &Run, context: &Context) -> Outcome {
    let shown = args.script.display();
    if args.submit || args.always_submit || args.array.is_some() {
        return Err(Failure::usage(format!("{shown} is an image, which is run here"))
            .hint(format!("put 'ovl run {shown}' into a script, and run that as a job")));
    }
    let image = system::open(path)?;
    let system = system::of(path, &image)?;
    if !system.is_some_and(|system| system.runscript) {
        return Err(Failure::usage(format!("{shown} has no runscript"))
            .hint(format!("run a command with it: ovl exec -o {shown} -- COMMAND")));
    }
    let mut command: Vec<OsString> = vec![system::RUNSCRIPT.into()];
    command.extend(args.args.iter().cloned());
    let mut with = args.options.with.clone();
    with.base = Some(path.to_owned());
    if args.dry_run {
        let cmd = Cmd::new("ovl").args(["exec", "--base"]).arg(path).arg("--").args(&command);
        context.ui.out(&cmd.to_string());
        return Ok(0);
    }
    let wanted = Wanted { overlays: &args.options.overlay, writable: Writable::Named(None) };
    exec::run(&wanted, &command, &with, context)
}
