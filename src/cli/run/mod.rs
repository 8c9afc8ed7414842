//! `ovl run`: a script with its overlays, here or as a job. Read → overlays → a frozen request → here or there.

mod after;
mod here;
mod image;
mod options;
mod overlays;
mod show;
mod task;
mod there;
mod work;

use std::path::{Path, PathBuf};

use clap::CommandFactory;

use super::args::{Cli, Run};
use super::asked;
use super::failure::{Failure, Outcome, code};
use super::{Context, Flag, exec};
use crate::model::batch::{Array, Asks, Shape};
use crate::model::resources::{Figure, Resources, Scheduler, Source};
use crate::run::queue::{self, Queue};
use crate::sched::{self, FlagError};
use crate::script::request::Request;
use crate::script::{self, Script, Wrong};
use crate::sys::{env, fs, host, signal, term};

pub use options::needs_of_lines;
pub use task::{await_jobs, run as task};

/// Longest script, in bytes; Slurm refuses longer ones.
const LONGEST: u64 = 4 << 20;

/// What flags say about the configuration.
pub fn flags(args: &Run) -> Vec<Flag> {
    let launcher = args.launcher.iter().map(|word| ("run.launcher", "--launcher", word.clone()));
    exec::flags(&args.options.with).into_iter().chain(launcher).collect()
}

/// A run that is understood: everything that either way of carrying it out needs.
struct Planned<'a> {
    args: &'a Run,
    context: &'a Context,
    /// The script's text.
    bytes: Vec<u8>,
    /// Its file name.
    file: String,
    request: Request,
    resources: Resources,
    asks: Asks,
    array: Option<Array>,
    queue: Option<Queue>,
    /// Why it runs where it does.
    because: String,
}

/// Runs the command.
pub fn run(args: &Run, context: &Context) -> Outcome {
    signal::die_on_closed_pipe();
    if let Some(path) = image::meant(args, context)? {
        return image::run(&path, args, context);
    }
    let (label, bytes) = source(args)?;
    let script = script::read(&label, &bytes).map_err(|wrong| of_wrong(&label, &wrong))?;
    for finding in &script.odd {
        context.ui.warn(&finding.to_string());
    }
    let tasks = args.array.as_deref().map(array).transpose()?;
    let matches = Cli::command().try_get_matches_from(env::command_line_os()).ok();
    let typed = matches.as_ref().and_then(|matches| matches.subcommand_matches("run"));
    let exec = options::words(&script, typed, context)?;
    let exec = overlays::resolve(&label, &script, exec, args, context)?;
    let planned = plan(args, context, &label, bytes, script, tasks, exec)?;
    if args.dry_run {
        return show::dry(&planned);
    }
    match planned.queue {
        Some(_) => there::submit(&planned),
        None => here::run(planned),
    }
}

/// The script's name in messages and its text.
fn source(args: &Run) -> Result<(String, Vec<u8>), Failure> {
    if args.script == Path::new("-") {
        let bytes = term::read_all(LONGEST).map_err(|error| Failure::usage(format!("standard input: {error}")))?;
        return Ok(("-".to_owned(), bytes));
    }
    let label = args.script.display().to_string();
    let meta =
        fs::metadata(&env::current_dir().join(&args.script)).map_err(|error| Failure::usage(error.to_string()))?;
    if !meta.is_file() {
        // A pipe made by the shell, `<(…)`, is one too.
        let what = if meta.is_dir() { "a directory" } else { "no plain file; give it on standard input as -" };
        return Err(Failure::usage(format!("{label}: it is {what}")));
    }
    if meta.len() > LONGEST {
        return Err(Failure::usage(format!("{label}: {} bytes are too many for a script", meta.len())));
    }
    Ok((label, fs::read(&args.script)?))
}

/// The arguments of an array's tasks.
fn array(path: &Path) -> Result<Vec<Vec<String>>, Failure> {
    let label = path.display().to_string();
    let bytes = fs::read(path).map_err(|error| Failure::usage(format!("--array: {error}")))?;
    let tasks = script::array::read(&label, &bytes).map_err(|wrong| of_wrong(&label, &wrong))?;
    if u32::try_from(tasks.len()).is_err() {
        return Err(Failure::usage(format!("{label}: {} tasks are too many", tasks.len())));
    }
    Ok(tasks)
}

fn of_wrong(label: &str, wrong: &[Wrong]) -> Failure {
    let failure = match wrong {
        [one] => Failure::usage(one.to_string()),
        several => {
            let lines: Vec<String> = several.iter().map(|one| format!("  {one}")).collect();
            Failure::usage(format!("{label}: {} things are wrong\n{}", several.len(), lines.join("\n")))
        }
    };
    match wrong.iter().find_map(|one| one.hint.clone()) {
        Some(hint) => failure.hint(hint),
        None => failure,
    }
}

impl From<FlagError> for Failure {
    fn from(error: FlagError) -> Failure {
        let failure = Failure::usage(error.to_string());
        match error.hint {
            Some(hint) => failure.hint(hint),
            None => failure,
        }
    }
}

/// Where it goes, what it asks for, and all of it frozen.
fn plan<'a>(
    args: &'a Run,
    context: &'a Context,
    label: &str,
    bytes: Vec<u8>,
    script: Script,
    tasks: Option<Vec<Vec<String>>>,
    exec: Vec<String>,
) -> Result<Planned<'a>, Failure> {
    let (queue, because) = place(args, &script, context)?;
    let scheduler = queue.as_ref().map(Queue::scheduler);
    let (of_script, script_asks) = sched::read_script(&script.directives, scheduler)?;
    let mut resources = asked::resources(&args.asked())?.or(of_script);
    let asks = flags_ask(args)?.or(script_asks);
    gpus_of_others(args, &mut resources)?;
    if let (Some(array), Some(_)) = (&asks.array, &tasks) {
        return Err(Failure::usage(format!("--array, and {}: only one of them can make the array", array.source)));
    }
    let speaks = sched::speaks(&script.directives, scheduler);
    if let Some(array) = &asks.array
        && speaks.is_some_and(|own| !reaches(own, scheduler))
    {
        let whose = speaks.map(|own| format!(" of {own}")).unwrap_or_default();
        let reason = if scheduler.is_some() { "the job is another scheduler's" } else { "it runs here" };
        return Err(Failure::usage(format!("{}: the array{whose} would be lost: {reason}", array.source))
            .hint("remove it, and give the tasks' arguments with --array FILE, which works everywhere"));
    }
    if let (Some(after), true) = (&asks.after, waits(args)) {
        return Err(Failure::usage(format!(
            "--after…, and {}: the scheduler would take only one of them",
            after.source
        ))
        .hint("say all that the job waits for with --afterok, --afternotok and --afterany"));
    }
    let shape = asks.shape().map_err(Failure::usage)?;
    if scheduler == Some(Scheduler::HtCondor) && shape.nodes > 1 {
        return Err(Failure::usage(format!(
            "HTCondor runs a job on one machine, but {} nodes are asked for",
            shape.nodes
        )));
    }
    if let (Some(Scheduler::Pbs), true, Some(gpus)) = (scheduler, shape.spread, &resources.gpus) {
        let text = format!("{}: GPUs are those of a node, but PBS may put every task on any node", gpus.source);
        return Err(Failure::usage(text).hint("say on how many nodes the tasks lie: -N"));
    }
    let count = tasks.as_ref().map(|tasks| u32::try_from(tasks.len()).unwrap_or(u32::MAX));
    let cwd = asks.cwd.as_ref().map_or_else(env::current_dir, |dir| env::current_dir().join(&dir.value));
    let file = match args.script.file_name().filter(|_| label != "-") {
        Some(name) => name.to_string_lossy().into_owned(),
        None => "stdin".to_owned(),
    };
    let mut launcher = context.config.launcher();
    if let (Some((loc, program)), true, "auto") = (&script.launches, shape.tasks > 1, launcher.as_str()) {
        context.ui.warn(&format!(
            "{loc}: the script calls {program} itself, so it is started once; what {program} starts sees the overlays as: {program} … ovl exec -o NAME -- COMMAND"
        ));
        launcher = "none".to_owned();
    }
    let mut request = Request {
        format: 1,
        id: crate::run::dir::new_id(),
        script: env::current_dir().join(&args.script),
        origin: if label == "-" { "-".into() } else { env::current_dir().join(&args.script) },
        interpreter: script.interpreter,
        args: args.args.clone(),
        exec,
        tasks,
        shape,
        cpus: None,
        mem: None,
        launcher,
        cwd,
        scheduler,
        umask: host::umask(),
        settings: context.config.frozen(),
    };
    request.ask(&resources, shape);
    let array = count.map(|count| Array { count, limit: args.array_limit });
    Ok(Planned { args, context, bytes, file, request, resources, asks, array, queue, because })
}

/// GPUs of the whole job or of each task, in Slurm's own words: a flag for those of a node replaces them; read for one
/// shape, they are not those of another.
fn gpus_of_others(args: &Run, resources: &mut Resources) -> Result<(), Failure> {
    let own = |text: &str| ["-G", "--gpus=", "--gpus ", "--gpus-per-t"].iter().any(|start| text.starts_with(start));
    if args.gpus.is_some() {
        resources.extra.retain(|extra| !extra.words.first().is_some_and(|word| own(word) || word == "--gpus"));
    }
    match resources.gpus.as_ref().map(|gpus| &gpus.source) {
        Some(Source::Directive { at, text }) if own(text) && (args.nodes.or(args.ntasks).is_some_and(|n| n > 1)) => {
            Err(Failure::usage(format!("{at}: {text}: these are not the GPUs of one node, which -N and -n now need"))
                .hint("say how many GPUs each node has to have: -g"))
        }
        _ => Ok(()),
    }
}

/// What only flags of `ovl run` say.
fn flags_ask(args: &Run) -> Result<Asks, Failure> {
    let number = |flag: &str, value: Option<u32>| value.map(|value| Figure::new(value, Source::Flag(flag.to_owned())));
    let text = |flag: &str, value: &Option<String>| -> Result<Option<Figure<String>>, Failure> {
        let Some(value) = value else { return Ok(None) };
        if value.is_empty() || value.chars().any(char::is_control) {
            return Err(Failure::usage(format!(
                "{flag}: '{}' is empty or holds control characters",
                value.escape_debug()
            )));
        }
        Ok(Some(Figure::new(value.clone(), Source::Flag(flag.to_owned()))))
    };
    Ok(Asks {
        nodes: number("--nodes", args.nodes),
        tasks: number("--ntasks", args.ntasks),
        name: text("--name", &args.name)?,
        output: text("--output", &args.output)?,
        error: text("--error", &args.error)?,
        ..Asks::default()
    })
}

/// Whether an array in the words of `own` is carried out: by a job of `scheduler`, or this is a task of it already.
fn reaches(own: Scheduler, scheduler: Option<Scheduler>) -> bool {
    scheduler == Some(own)
        || (scheduler.is_none()
            && queue::inside().is_some_and(|(inside, _)| inside == own)
            && sched::dialect(own).index(&queue::own_env()).is_some())
}

/// Whether it waits for other jobs.
fn waits(args: &Run) -> bool {
    !(args.afterok.is_empty() && args.afternotok.is_empty() && args.afterany.is_empty())
}

/// Flags that only a job can heed mean that the user expects one.
fn tell_without_effect(args: &Run, context: &Context) {
    let given = [
        (args.time.is_some(), "--time"),
        (args.gpus.is_some(), "--gpus"),
        (args.nodes.is_some(), "--nodes"),
        (args.partition.is_some(), "--partition"),
        (args.account.is_some(), "--account"),
        (args.qos.is_some(), "--qos"),
    ];
    let given: Vec<&str> = given.into_iter().filter(|(given, _)| *given).map(|(_, flag)| flag).collect();
    if !given.is_empty() {
        context.ui.warn(&format!(
            "the script has no directives, so it runs on this machine, without {}; submit it with --always-submit",
            given.join(", ")
        ));
    }
}

/// The scheduler it goes to, if it does, and why.
fn place(args: &Run, script: &Script, context: &Context) -> Result<(Option<Queue>, String), Failure> {
    let waits = waits(args);
    let here = |because: String| {
        if waits {
            let failure =
                Failure::usage(format!("only a job can wait for others, but the script runs here: {because}"));
            return Err(failure);
        }
        Ok((None, because))
    };
    if let Some((_, job)) = queue::inside() {
        return here(format!("this process is in job {job}"));
    }
    if args.no_submit {
        return here("--no-submit".into());
    }
    let reason = if args.always_submit {
        "--always-submit".to_owned()
    } else if let Some(directive) = script.directives.first() {
        format!("it has directives ({})", directive.loc)
    } else if args.array.is_some() {
        "--array".to_owned()
    } else if waits {
        "it waits for other jobs".to_owned()
    } else {
        tell_without_effect(args, context);
        return here("the script has no directives".into());
    };
    let unfit = |why: String| {
        Failure::new(code::UNFIT, why).hint("run it here with --no-submit, or set sched.kind in config.yaml")
    };
    match Queue::at_hand(&context.config).map_err(unfit)? {
        Some(queue) => Ok((Some(queue), reason)),
        None if args.submit || args.always_submit || waits => {
            Err(unfit("there is no scheduler here: neither sbatch, qsub, bsub nor condor_submit_dag was found".into()))
        }
        None => here(format!("there is no scheduler here; {reason}")),
    }
}

/// Where frozen runs of scripts are.
fn scripts(context: &Context) -> PathBuf {
    context.config.state_dir().join("scripts")
}

/// The shape of one task alone.
fn is_alone(shape: &Shape) -> bool {
    shape.tasks == 1
}
