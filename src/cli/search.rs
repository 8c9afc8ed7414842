//! `ovl search`: what the conda channels have.

use serde_json::{Value, json};

use super::args::{CondaFlags, Search};
use super::failure::Outcome;
use super::{Context, Flag, pattern};
use crate::conda::{Conda, Wishes};
use crate::model::units;
use crate::ui::table;

/// What the flags say.
pub fn wishes(flags: &CondaFlags) -> Wishes {
    Wishes {
        channels: flags.channel.clone(),
        only_those: flags.override_channels,
        platform: flags.platform.clone(),
        ..Wishes::default()
    }
}

/// Flags that stand for configuration keys.
pub fn flags(flags: &CondaFlags) -> Vec<Flag> {
    flags.offline.then(|| ("net.offline", "--offline", "true".to_owned())).into_iter().collect()
}

/// Runs the command.
pub fn run(args: &Search, context: &Context) -> Outcome {
    let conda = Conda::new(&context.config, &wishes(&args.conda))?;
    let spec = match args.spec.split_once('/') {
        // A name as overlays have it.
        Some((name, version)) if !args.spec.contains(":") && !args.spec.starts_with(['.', '/']) => {
            format!("{name}={version}")
        }
        _ => args.spec.clone(),
    };
    let done = if spec.contains('*') && !spec.contains(['=', '<', '>', ' ', ':']) {
        names(&spec, args, &conda, context)
    } else {
        packages(&spec, args, &conda, context)
    };
    conda.notes().iter().for_each(|note| context.ui.warn(note));
    done
}

fn last<T>(mut all: Vec<T>, limit: Option<usize>) -> Vec<T> {
    let keep = limit.unwrap_or(all.len()).min(all.len());
    all.drain(..all.len() - keep);
    all
}

fn names(spec: &str, args: &Search, conda: &Conda, context: &Context) -> Outcome {
    let pattern = pattern::compile(Some(spec), false)?;
    let names: Vec<String> = conda.names()?.into_iter().filter(|name| pattern.is_match(name)).collect();
    if names.is_empty() && !args.json {
        context.ui.say("no package has such a name");
    }
    let names = last(names, args.limit);
    if args.json {
        context.ui.out(&serde_json::to_string_pretty(&names).unwrap_or_default());
    } else {
        names.iter().for_each(|name| context.ui.out(name));
    }
    Ok(0)
}

fn packages(spec: &str, args: &Search, conda: &Conda, context: &Context) -> Outcome {
    let records = last(conda.search(spec)?, args.limit);
    if args.json {
        let items: Vec<Value> = records
            .iter()
            .map(|record| {
                let package = &record.package_record;
                json!({
                    "name": package.name.as_normalized(), "version": package.version.to_string(),
                    "build": package.build.to_string(), "build_number": package.build_number,
                    "subdir": package.subdir, "channel": conda.channel_of(record), "size": package.size,
                    "url": record.url, "depends": package.depends, "constrains": package.constrains,
                    "license": package.license,
                })
            })
            .collect();
        context.ui.out(&serde_json::to_string_pretty(&items).unwrap_or_default());
        return Ok(0);
    }
    let rows: Vec<Vec<String>> = records
        .iter()
        .map(|record| {
            let package = &record.package_record;
            vec![
                package.name.as_normalized().to_owned(),
                package.version.to_string(),
                package.build.to_string(),
                package.size.map(units::show_size).unwrap_or_default(),
                conda.channel_of(record),
            ]
        })
        .collect();
    table::columns(&rows).iter().for_each(|line| context.ui.out(line));
    Ok(0)
}
