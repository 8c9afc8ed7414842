//! `ovl internal`: what ovl starts itself for, and what writes the manual pages.

use clap::CommandFactory;

use super::args::{Cli, Internal, InternalAction};
use super::failure::{Failure, Outcome, code};
use super::{jobs, run as scripts};
use crate::container;
use crate::runtime;
use crate::sys::{erase, fs};
use crate::ui::Ui;

/// Runs the command.
pub fn run(args: &Internal) -> Outcome {
    match &args.action {
        InternalAction::Sandbox { fd, parent } => {
            // Into the log of the build that has started this.
            let tell = |text: &str| Ui::new("never", 0).say(text);
            Err(runtime::sandbox_main(*fd, *parent, &tell).into())
        }
        InternalAction::Stage { fd, parent, image, at } => Err(runtime::stage_main(*fd, *parent, image, at).into()),
        InternalAction::Cook { fd, parent } => {
            let tell = |text: &str| Ui::new("never", 0).say(text);
            Ok(container::cook_main(*fd, *parent, &tell))
        }
        InternalAction::Enclosed { fd } => Err(Failure::new(code::ERROR, container::enclosed_main(*fd).to_string())),
        InternalAction::Erase { dir } => match erase::main(dir) {
            Ok(()) => Ok(0),
            Err(why) => Err(Failure::new(code::ERROR, why)),
        },
        InternalAction::ChangeEnv { change } => super::env::change_here(change),
        InternalAction::Step { dir, attempt } => jobs::step(dir, *attempt),
        InternalAction::Task { dir, rank, index } => scripts::task(dir, rank.as_deref(), *index),
        InternalAction::AwaitJobs { dir } => scripts::await_jobs(dir),
        InternalAction::Await { dir } => jobs::await_others(dir),
        InternalAction::Drive { dir, fail_fast } => jobs::drive(dir, *fail_fast),
        InternalAction::Man { dir } => {
            fs::create_dirs(dir)?;
            for (name, page) in manual()? {
                fs::write_atomic(&dir.join(name), &page, 0o644)?;
            }
            Ok(0)
        }
    }
}

/// All manual pages as (file name, content).
pub fn manual() -> Result<Vec<(String, Vec<u8>)>, Failure> {
    let mut command = Cli::command();
    command.build();
    let mut pages = Vec::new();
    let mut open = vec![command];
    while let Some(command) = open.pop() {
        open.extend(command.get_subcommands().filter(|sub| !sub.is_hide_set()).cloned());
        let title = command.get_bin_name().unwrap_or("ovl").replace(' ', "-");
        let mut page = Vec::new();
        let man = clap_mangen::Man::new(command).title(title.clone()).date("");
        man.render(&mut page)
            .map_err(|error| Failure::new(code::ERROR, format!("cannot write the manual: {error}")))?;
        pages.push((format!("{title}.1"), page));
    }
    pages.sort();
    Ok(pages)
}
