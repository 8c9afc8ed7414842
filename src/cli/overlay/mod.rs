//! `ovl overlay`: ext3 images that commands write to, made and looked after without root.

mod info;

use std::path::{Path, PathBuf};

use super::args::{Create, Overlay, OverlayAction, ProfileArg};
use super::failure::{Failure, Outcome, code};
use super::{Context, Flag, env as environments, search};
use crate::image::ext::make::Profile;
use crate::model::units::{parse_size, show_size};
use crate::runtime::writable::care::{self, How, Order, Whole};
use crate::sys::{env, fs, host};

/// Smaller file systems have no room for a journal.
const LEAST: u64 = 8 << 20;
/// What the block numbers of ext3 reach at 4 KiB each.
const MOST: u64 = 16 << 40;

/// Runs the command.
pub fn run(args: &Overlay, context: &Context) -> Outcome {
    match &args.action {
        OverlayAction::Create(args) => create(args, context),
        OverlayAction::Resize { image, size, dry_run } => resize(&absolute(image), size, *dry_run, context),
        OverlayAction::Check { image, yes, dry_run } => {
            let how = match (yes, dry_run) {
                (true, _) => How::Yes,
                (_, true) => How::Look,
                _ => How::Safely,
            };
            check(&absolute(image), how, context)
        }
        OverlayAction::Chown { image, fakeroot, top, dry_run } => {
            let whole = if *top { Whole::Tops } else { Whole::Everything };
            chown(&absolute(image), *fakeroot, whole, *dry_run, context)
        }
        OverlayAction::Info { image, json } => info::run(&absolute(image), *json, context),
    }
}

fn absolute(path: &Path) -> PathBuf {
    env::current_dir().join(path.strip_prefix(".").unwrap_or(path))
}

/// A size in whole blocks; a number alone is MiB, as those who make such images elsewhere know it.
fn size(text: &str) -> Result<u64, Failure> {
    let bytes = match text.trim().parse::<u64>() {
        Ok(mib) => mib.checked_mul(1 << 20).ok_or_else(|| format!("'{text}' MiB are too many")),
        Err(_) => parse_size(text),
    };
    let bytes = bytes.map_err(|why| Failure::usage(format!("--size: {why}")))?;
    if !(LEAST..=MOST).contains(&bytes) {
        let (least, most) = (show_size(LEAST), show_size(MOST));
        return Err(Failure::usage(format!("--size: an image has {least} to {most}, not {}", show_size(bytes))));
    }
    Ok(bytes & !4095)
}

fn asks_for_packages(args: &Create) -> bool {
    !args.packages.is_empty() || args.file.is_some()
}

/// Flags that stand for configuration keys.
pub fn flags(args: &Overlay) -> Vec<Flag> {
    match &args.action {
        OverlayAction::Create(args) => search::flags(&args.conda),
        _ => Vec::new(),
    }
}

fn create(args: &Create, context: &Context) -> Outcome {
    let order = Order {
        path: absolute(&args.image),
        size: size(&args.size)?,
        profile: match args.profile {
            ProfileArg::Small => Profile::Small,
            // Environments are many small files.
            ProfileArg::Default if asks_for_packages(args) => Profile::Small,
            ProfileArg::Default => Profile::Default,
            ProfileArg::Large => Profile::Large,
        },
        full: args.full,
        fakeroot: args.fakeroot,
        from: args.from.as_deref().map(absolute),
        force: args.force,
    };
    let path = order.path.display();
    if let Some(dir) = &order.from
        && !fs::metadata(dir).map_err(|error| Failure::usage(error.to_string()))?.is_dir()
    {
        return Err(Failure::usage(format!("--from: {} is no directory", dir.display())));
    }
    if !args.force && fs::metadata_if_exists(&order.path)?.is_some() {
        return Err(Failure::usage(format!("{path} exists")).hint("replace it with: --force"));
    }
    if asks_for_packages(args) {
        return environments::create(args, order, context);
    }
    if args.dry_run {
        context.ui.out(&format!("would make {path}, {}", show_size(order.size)));
        return Ok(0);
    }
    care::create(&order, &|text| context.ui.say(text))?;
    context.ui.say(&format!("{path}: made, {}; write to it with: ovl exec -w {path} CMD", show_size(order.size)));
    Ok(0)
}

fn resize(path: &Path, wanted: &str, dry: bool, context: &Context) -> Outcome {
    let bytes = size(wanted)?;
    let say = |text: &str| context.ui.say(text);
    let held = care::hold_image(path, &say)?;
    if dry {
        let sizes = care::sizes(path, &held, How::Look)?;
        let (now, least) = (show_size(sizes.now), show_size(sizes.least));
        if bytes < sizes.least {
            let text = format!("{} cannot be made {}: it needs {least} at least", path.display(), show_size(bytes));
            return Err(Failure::new(code::ERROR, text));
        }
        context.ui.out(&format!(
            "would resize {} from {now} to {} (at least {least})",
            path.display(),
            show_size(bytes)
        ));
        return Ok(0);
    }
    let sizes = care::resize(path, &held, bytes, &say)?;
    context.ui.say(&format!("{}: {} now", path.display(), show_size(sizes.now)));
    Ok(0)
}

fn check(path: &Path, how: How, context: &Context) -> Outcome {
    let say = |text: &str| context.ui.say(text);
    let held = care::hold_image(path, &say)?;
    let shown = path.display();
    match care::check(path, &held, how)? {
        care::Outcome::Clean => {
            context.ui.say(&format!("{shown}: no errors"));
            Ok(0)
        }
        care::Outcome::Repaired(words) => {
            context.ui.say(&format!("{shown}: repaired ({words})"));
            Ok(0)
        }
        care::Outcome::Broken(words) => {
            let failure = Failure::new(code::GATE, format!("{shown} has errors: {words}"));
            Err(match how {
                How::Look => failure.hint(format!("repair what needs no decision with: ovl overlay check {shown}")),
                How::Safely => {
                    failure.hint(format!("save a copy and repair everything with: ovl overlay check --yes {shown}"))
                }
                How::Yes => failure,
            })
        }
    }
}

fn chown(path: &Path, fakeroot: bool, whole: Whole, dry: bool, context: &Context) -> Outcome {
    let say = |text: &str| context.ui.say(text);
    let held = care::hold_image(path, &say)?;
    let owner = if fakeroot { (0, 0) } else { host::ids() };
    let count = care::chown(path, &held, whole, owner, dry)?;
    let who = if fakeroot { "root".to_owned() } else { host::user() };
    let text = format!("{}: {count} files and directories", path.display());
    if dry {
        context.ui.out(&format!("{text} would be given to {who}"));
    } else {
        context.ui.say(&format!("{text} given to {who}"));
    }
    Ok(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_are_mebibytes_or_say_what_they_are() {
        assert_eq!(size("10240").unwrap(), 10 << 30);
        assert_eq!(size("20G").unwrap(), 20 << 30);
        assert_eq!(size("8193k").unwrap(), 8192 << 10);
        for bad in ["", "x", "1", "4M", "99999999999999999999", "17T", "-3"] {
            assert!(size(bad).is_err(), "{bad}");
        }
    }
}
