//! In a job: what was granted, which task this is, and then the script itself, which this process becomes; with several
//! tasks the launcher first, and this again for each of them.

use std::ffi::OsString;
use std::path::Path;

use super::{is_alone, options, work};
use crate::cli::failure::{Failure, Outcome, code};
use crate::cli::{Context, exec};
use crate::model::batch::Granted;
use crate::model::cmd::Cmd;
use crate::model::resources::Scheduler;
use crate::run::Local;
use crate::run::queue;
use crate::sched::{self, Env};
use crate::script::launch::{self, Launcher};
use crate::script::request::Request;
use crate::sys::{env, host, process, signal};

/// Carries out a task: `ovl internal task`.
pub fn run(dir: &Path, rank: Option<&str>, index: Option<u32>) -> Outcome {
    signal::die_on_closed_pipe();
    let request = work::thaw(dir)?;
    let context = work::context(&request)?;
    // Other schedulers run a job script that sets it.
    if let (Some(Scheduler::HtCondor), Some(umask)) = (request.scheduler, &request.umask) {
        host::set_umask(umask);
    }
    let env = queue::own_env();
    let index = index.or_else(|| sched::dialect(request.scheduler?).index(&env));
    // An array of one is a plain job to PBS.
    let index = index.or_else(|| (request.tasks.as_ref()?.len() == 1).then_some(1));
    let index = index.filter(|_| request.tasks.is_some());
    if let Some(vars) = rank {
        let vars = vars.split(',').map(str::to_owned).collect();
        return become_script(&request, vars, index, &context);
    }
    start(&request, dir, index, &context)
}

/// Becomes the script, or the launcher of its tasks.
pub fn start(request: &Request, dir: &Path, index: Option<u32>, context: &Context) -> Outcome {
    let env = queue::own_env();
    let inside = queue::inside().map(|(scheduler, _)| scheduler);
    let granted = granted(request, &env, inside, context);
    let mut vars: Vec<String> = granted.variables().iter().map(|(name, value)| format!("{name}={value}")).collect();
    vars.extend(index.map(|index| format!("OVL_ARRAY_INDEX={index}")));
    let tasks = granted.tasks.unwrap_or(1);
    if is_alone(&request.shape) || work::is_rank(&env) {
        return become_script(request, vars, index, context);
    }
    let Some(launcher) = launcher(request, tasks, inside)? else { return become_script(request, vars, index, context) };
    let program =
        env::current_exe().map_err(|error| Failure::new(code::ERROR, format!("cannot start ovl: {error}")))?;
    let mut each: Vec<OsString> = vec![program.into(), "internal".into(), "task".into(), dir.into()];
    each.extend(["--rank".into(), OsString::from(vars.join(","))]);
    if let Some(index) = index {
        each.extend(["--index".into(), OsString::from(index.to_string())]);
    }
    let argv = launcher.argv(tasks, granted.cpus, each);
    let Some((first, rest)) = argv.split_first() else { return Err(Failure::new(code::ERROR, "there is no launcher")) };
    let error = process::become_command(&Cmd::new(first).args(rest));
    Err(Failure::new(code::UNFIT, format!("cannot start {}: {error}", first.to_string_lossy())))
}

/// What starts several tasks here, if anything does.
pub fn launcher(request: &Request, tasks: u32, inside: Option<Scheduler>) -> Result<Option<Launcher>, Failure> {
    let find = |program: &str| process::find(program).is_some();
    launch::choose(&request.launcher, tasks, inside, &find).map_err(|error| {
        Failure::new(code::UNFIT, error.to_string())
            .hint("name one with --launcher or run.launcher, or start the script once with --launcher none")
    })
}

/// What there is for it: by the scheduler's word, then by what was asked for, then by the local budget.
pub fn granted(request: &Request, env: &Env, inside: Option<Scheduler>, context: &Context) -> Granted {
    let asked = request.asked();
    let alone = is_alone(&request.shape);
    let one = |cpus, mem| Granted { nodes: Some(1), tasks: Some(1), per_node: Some(1), cpus, mem };
    let budget = Local::of(&context.config).budget().weight;
    let local_cpus = u32::try_from(budget.cpu / 1000).unwrap_or(u32::MAX).max(1);
    match inside.map(sched::dialect) {
        Some(dialect) if alone => {
            let own = dialect.granted(env);
            one(own.cpus, own.mem).or(asked)
        }
        Some(dialect) => {
            let own = dialect.granted_tasks(env, request.cpus.unwrap_or(1), &work::small_file);
            // A job that was made for fewer tasks than the script asks for is the user's own; then what it asks counts.
            let own = if request.scheduler.is_some() { own } else { Granted { tasks: None, per_node: None, ..own } };
            own.or(asked)
        }
        None => {
            let cpus = asked.cpus.unwrap_or_else(|| context.config.default_cpus()).min(local_cpus);
            let mem = asked.mem.unwrap_or_else(|| context.config.default_mem()).min(budget.mem);
            Granted { nodes: Some(1), per_node: asked.tasks, cpus: Some(cpus), mem: Some(mem), ..asked }
        }
    }
    .or(one(None, None))
}

/// Becomes the script, inside its overlays.
pub fn become_script(request: &Request, vars: Vec<String>, index: Option<u32>, context: &Context) -> Outcome {
    let command = request.command(index).map_err(|error| Failure::usage(error.to_string()))?;
    let options = options::understood(&request.exec)?;
    let mut with = options.with;
    // First, so that what the user sets wins.
    let mut all = vars;
    all.push(format!("OVL_SCRIPT={}", request.origin.display()));
    all.append(&mut with.env);
    with.env = all;
    // Lines of the script may say what is a matter of the configuration.
    let config = exec::flags(&with)
        .into_iter()
        .fold(context.config.clone(), |config, (key, flag, value)| config.with_flag(key, flag, value));
    let context = &Context { config, layers: context.layers.clone(), ui: context.ui };
    let base = with.base.clone().unwrap_or_else(|| context.config.base());
    if base != Path::new("/")
        && let Some(dir) = request.script.parent().and_then(Path::to_str)
        && !dir.contains(':')
    {
        with.bind.push(format!("{dir}:{dir}:ro"));
    }
    let wanted = exec::Wanted { overlays: &options.overlay, writable: exec::Writable::Named(None) };
    exec::run(&wanted, &command, &with, context)
}

/// Waits for the jobs that a script's job waits for, where the scheduler has no words for that: `ovl internal
/// await-jobs`.
pub fn await_jobs(dir: &Path) -> Outcome {
    let request = work::thaw(dir)?;
    super::after::wait(&request, dir, &work::context(&request)?)
}
