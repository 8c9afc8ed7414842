//! `ovl build`: from what was typed to a plan, and from what came of it to lines, JSON and an exit code.

use std::collections::BTreeMap;
use std::time::Duration;

use super::answers::Answers;
use super::args::{Build, NetworkArg};
use super::asked;
use super::environment::{self, Environment};
use super::failure::{Failure, Outcome, code};
use super::runs::outcome::{self, Told};
use super::{Context, Flag, packages, search, templates};
use crate::build::{self, Options, Prepared, Request};
use crate::exec::Network;
use crate::model::event::{Event, Listener};
use crate::model::name::Name;
use crate::model::units;
use crate::plan::{Place, Policy, Settled, Site, place, show};
use crate::recipe;
use crate::run::dir::{self, Dir};
use crate::run::queue::{self, Queue};
use crate::run::submit::SubmitError;
use crate::run::{Drive, Local, RunError, follow, join, sweep};
use crate::sys::{fs, process};

/// Flags that stand for configuration keys.
pub fn flags(args: &Build) -> Vec<Flag> {
    let scratch =
        args.scratch.as_ref().map(|path| crate::sys::env::current_dir().join(path).to_string_lossy().into_owned());
    let mut flags: Vec<Flag> = [
        ("build.stage", "--stage", args.stage.clone()),
        ("build.comp", "--comp", args.comp.clone()),
        ("build.jobs", "--jobs", args.jobs.map(|jobs| jobs.to_string())),
        ("build.mem", "--mem-budget", args.mem_budget.clone()),
        ("dirs.scratch", "--scratch", scratch.clone()),
        ("dirs.data_scratch", "--scratch", scratch),
        ("ui.progress", "--progress", args.progress.clone()),
    ]
    .into_iter()
    .filter_map(|(key, flag, value)| Some((key, flag, value?)))
    .collect();
    flags.extend(search::flags(&args.conda));
    for (given, flag, word) in [
        (args.submit, "--submit", "auto"),
        (args.no_submit, "--no-submit", "never"),
        (args.always_submit, "--always-submit", "always"),
    ] {
        if given {
            flags.push(("build.submit", flag, word.to_owned()));
        }
    }
    flags
}

/// Runs the command.
pub fn run(args: &Build, context: &Context) -> Outcome {
    let mut answers = Answers::new(args, context.ui)?;
    let environment = environment::asked(args, context)?;
    let (names, channels) = match &environment {
        Some(_) => Default::default(),
        None => environment::channels(&args.names)?,
    };
    let targets = match &environment {
        Some(environment) => vec![environment.name.clone()],
        None => templates::concrete(&names, context, &mut |label, prompt| answers.next(label, prompt))?,
    };
    let request = Request { channels, ..request(args, targets, environment, context)? };
    // Somebody may claim a target between planning and submitting: then the plan is made again, and joins him.
    // He is submitting, and can be joined as soon as his jobs have ids.
    for pause in 0..40 {
        answers.again();
        match attempt(args, &request, &mut answers, context)? {
            Some(code) => return Ok(code),
            None if pause == 0 => context.ui.say("somebody began to build one of these a moment ago; planning again"),
            None => {}
        }
        std::thread::sleep(Duration::from_millis(100 * pause.min(20)));
    }
    Err(Failure::new(code::BUSY, "others keep starting builds of the same overlays").hint("try again in a minute"))
}

fn attempt(args: &Build, request: &Request, answers: &mut Answers, context: &Context) -> Result<Option<u8>, Failure> {
    let config = &context.config;
    let queue = scheduler(args, context)?;
    let scheduler = queue.as_ref().map(Queue::scheduler);
    if queue.is_some() && !args.dry_run {
        follow::tidy_cut_short(config);
    }
    let mut prepared = build::prepare(request, config, &context.layers, scheduler, &|text| context.ui.say(text))?;
    join::find(&prepared.plan, &mut prepared.wishes, scheduler, config)?;
    let (policy, said) = config.submit();
    let site = Site { scheduler, inside: queue::inside().map(|(_, job)| job), policy, said };
    place::place(&mut prepared.plan.steps, &prepared.wishes, &site);
    if args.dry_run {
        show_plan(args, &prepared, context);
        return Ok(Some(0));
    }
    for warning in &prepared.warnings {
        context.ui.warn(warning);
    }
    prepared.plan.notes.iter().for_each(|note| context.ui.say(note));
    let given = prepared.answers(&mut |name, prompt| answers.next(name, prompt))?;
    let listener = context.ui.listener(&config.progress());
    listener.hear(&Event::Plan { total: prepared.plan.steps.len() + prepared.plan.settled.len() });
    settle_early(&prepared, &*listener)?;
    let steps = prepared.freeze(request, given);
    join::differing(&steps).iter().for_each(|text| context.ui.warn(text));
    build::sources::demand(&steps, config)?;
    if config.prefetch() {
        let queued: Vec<&build::Step> =
            steps.iter().filter(|step| matches!(step.plan.place, Place::Queue(_))).collect();
        build::sources::prefetch(&queued, config, &*listener)?;
    }
    let mut told = Told::new(prepared.targets.clone());
    if !steps.is_empty() {
        let local = Local::of(config);
        let head = dir::head(config, scheduler, prepared.targets.clone(), prepared.plan.clone());
        let local_only = prepared.plan.steps.iter().all(|step| step.place == Place::Here) && !args.detach;
        let (run, kept) = record(head, &steps, local_only, context)?;
        sweep::old(config);
        if args.detach {
            return detach(args, &run, context).map(Some);
        }
        let drive = Drive {
            dir: &run,
            chosen: steps.iter().map(|step| (step.plan.index, 1)).collect(),
            alive: Default::default(),
            steps,
            weights: local.weigh(&prepared.plan),
            budget: local.budget(),
            queue: queue.as_ref(),
            config,
            listener: &*listener,
            fail_fast: args.fail_fast,
        };
        let report = drive.run(&run.lock()?)?;
        let untouched = report.failed.is_empty() && report.submitted.is_empty();
        if let (Some(SubmitError::Claimed { .. }), true) = (&report.refused, untouched) {
            if report.done.is_empty() {
                run.forget();
            }
            return Ok(None);
        }
        told.take(report, &run);
        if !kept {
            run.forget();
        }
    }
    for settled in &prepared.plan.settled {
        told.settled(settled, build::stale_now(settled, &context.layers)?);
    }
    if prepared.plan.settled.iter().any(|settled| settled.stale.is_some()) {
        settle_late(&prepared.plan.settled, &told, &*listener);
    }
    drop(listener);
    outcome::finish(told, &outcome::Wishes { json: args.json, wait: args.wait, cancel_jobs: args.cancel_jobs }, context)
        .map(Some)
}

/// Writes the run down. A full state directory must not keep anybody from building here: then the record is written to
/// scratch, and is gone afterwards.
fn record(head: dir::Head, steps: &[build::Step], local_only: bool, context: &Context) -> Result<(Dir, bool), Failure> {
    match Dir::create(&context.config, head.clone(), steps) {
        Ok(run) => Ok((run, true)),
        Err(RunError::Io(error) | RunError::NoState(error)) if local_only && error.is_full() => {
            context.ui.warn(&format!("no record of this run will be kept: {error}"));
            let head = dir::Head { id: format!("ovl-run-{}", head.id), ..head };
            Ok((Dir::create_in(&build::work::scratch(&context.config), head, steps)?, false))
        }
        Err(error) => Err(error.into()),
    }
}

/// The scheduler at hand; an error only where one was asked for.
fn scheduler(args: &Build, context: &Context) -> Result<Option<Queue>, Failure> {
    let unfit = |why: String| {
        Failure::new(code::UNFIT, why).hint("build everything here with --no-submit, or set sched.kind in config.yaml")
    };
    if context.config.submit().0 == Policy::Never {
        return Ok(None);
    }
    let queue = Queue::at_hand(&context.config).map_err(unfit)?;
    if queue.is_none() && (args.submit || args.always_submit) {
        return Err(unfit(
            "there is no scheduler here: neither sbatch, qsub, bsub nor condor_submit_dag was found".into(),
        ));
    }
    Ok(queue)
}

fn show_plan(args: &Build, prepared: &Prepared, context: &Context) {
    let format = if args.json { "json" } else { args.format.as_deref().unwrap_or("text") };
    let text = match format {
        "json" => outcome::plan_json(&prepared.plan, packages::json(prepared)),
        "dot" => show::dot(&prepared.plan),
        _ => show::text(&prepared.plan) + &packages::text(prepared),
    };
    context.ui.out_bytes(text.as_bytes());
    if format == "json" {
        context.ui.out("");
    }
}

/// What is current is told before anything is built.
fn settle_early(prepared: &Prepared, listener: &dyn Listener) -> Result<(), Failure> {
    for settled in prepared.plan.settled.iter().filter(|settled| settled.stale.is_none()) {
        build::heal(&settled.path)?;
        hear_settled(settled, "up to date", "", listener);
    }
    Ok(())
}

fn settle_late(settled: &[Settled], told: &Told, listener: &dyn Listener) {
    for one in settled.iter().filter(|one| one.stale.is_some()) {
        if let Some(row) = told.row(&one.name) {
            hear_settled(one, &row.outcome, row.reason.as_deref().unwrap_or(""), listener);
        }
    }
}

fn hear_settled(settled: &Settled, outcome: &str, detail: &str, listener: &dyn Listener) {
    let name = settled.name.clone();
    listener.hear(&Event::Finished { name, outcome: outcome.into(), detail: detail.into(), seconds: 0.0 });
}

/// Goes on in the background: the run is written down, so another process can carry it out.
fn detach(args: &Build, run: &Dir, context: &Context) -> Outcome {
    let log = run.path().join("driver.log");
    let mut command = crate::model::cmd::Cmd::new(&run.head.program).args(["internal", "drive"]).arg(run.path());
    if args.fail_fast {
        command = command.arg("--fail-fast");
    }
    let pid = process::detach(&command, &log)
        .map_err(|error| Failure::new(code::ERROR, format!("cannot go on in the background: {error}")))?;
    run.await_driver();
    context.ui.say(&format!("process {pid} carries run {} out; its messages go to {}", run.id(), log.display()));
    context.ui.hint(&format!("see how it is with: ovl status {}", run.id()));
    context.ui.out(run.id());
    Ok(code::SUBMITTED)
}

/// Arguments of definition files: those of the file first, so that flags win.
fn arguments(args: &Build) -> Result<recipe::Arguments, Failure> {
    let mut all = recipe::Arguments::new();
    let mut add = |from: &str, text: &str| match recipe::def::words::pair(text) {
        Some((name, value)) => {
            all.insert(name, value);
            Ok(())
        }
        None => Err(Failure::usage(format!("{from}: '{text}' is not NAME=VALUE"))),
    };
    if let Some(path) = &args.build_arg_file {
        let text = fs::read(path).map_err(|error| Failure::usage(format!("--build-arg-file: {error}")))?;
        let text = String::from_utf8_lossy(&text).into_owned();
        for line in text.lines().map(str::trim).filter(|line| !line.is_empty() && !line.starts_with('#')) {
            add(&path.display().to_string(), line)?;
        }
    }
    for text in &args.build_arg {
        add("--build-arg", text)?;
    }
    Ok(all)
}

fn request(
    args: &Build,
    targets: Vec<Name>,
    environment: Option<Environment>,
    context: &Context,
) -> Result<Request, Failure> {
    if args.file.is_some() && targets.len() > 1 {
        return Err(Failure::usage("--file gives the recipe of one overlay; name one"));
    }
    let block_size =
        match &args.block_size {
            None => None,
            Some(text) => {
                let size = units::parse_size(text).map_err(Failure::usage)?;
                let fits =
                    u32::try_from(size).ok().filter(|size| size.is_power_of_two() && (4096..=1 << 20).contains(size));
                Some(fits.ok_or_else(|| {
                    Failure::usage(format!("--block-size: '{text}' is not a power of two from 4k to 1M"))
                })?)
            }
        };
    let timeout = args
        .timeout
        .as_deref()
        .map(units::parse_time)
        .transpose()
        .map_err(|why| Failure::usage(format!("--timeout: {why}")))?;
    let options = Options {
        timeout: timeout.filter(|limit| !limit.is_zero()),
        network: args.network.map(network),
        compression: context.config.compression(),
        block_size,
        keep_owners: args.keep_owners,
        keep_failed: args.keep_failed,
        when_free: args.when_free,
        no_wait: args.no_wait,
        no_prebuilt: args.no_prebuilt,
    };
    let (given, out) = environment.map_or((None, None), |environment| (environment.recipe, environment.out));
    Ok(Request {
        targets,
        given: given.or_else(|| args.file.clone().map(Environment::in_file)),
        out,
        channels: BTreeMap::new(),
        conda: search::wishes(&args.conda),
        update: args.update,
        no_deps: args.no_deps,
        layer: args.layer.clone(),
        passthrough: args.passthrough,
        arguments: arguments(args)?,
        trust_setup: args.trust_setup,
        resources: asked::resources(&args.asked)?,
        options,
    })
}

/// The network that a flag names.
pub fn network(arg: NetworkArg) -> Network {
    match arg {
        NetworkArg::None => Network::None,
        NetworkArg::Host => Network::Host,
    }
}
