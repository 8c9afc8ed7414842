//! `#SBATCH` lines into resources, by sbatch(1).

use super::options::OPTIONS;
use crate::model::batch::Asks;
use crate::model::resources::{Gpus, Mem, Resources, Scheduler};
use crate::recipe::scan::Directive;
use crate::sched::FlagError;
use crate::sched::amount::{count, slurm_mem, slurm_time};
use crate::sched::gather::{Gather, figure, gpus};
use crate::sched::words::{Flag, getopt};

/// Reads all lines; later flags win.
pub fn read(directives: &[Directive]) -> Result<Resources, FlagError> {
    gather(Gather::new(Scheduler::Slurm), directives).map(|gather| gather.resources)
}

/// The same for a user's script.
pub fn read_script(directives: &[Directive]) -> Result<(Resources, Asks), FlagError> {
    gather(Gather::of_script(Scheduler::Slurm), directives).map(Gather::script)
}

fn gather(mut gather: Gather, directives: &[Directive]) -> Result<Gather, FlagError> {
    // These two depend on the number of GPUs, which may be said after them.
    let mut mem_per_gpu = None;
    let mut cpus_per_gpu = None;
    let mut not_of_nodes = None;
    for directive in directives {
        for flag in getopt("sbatch", OPTIONS, true, directive)? {
            match flag.name {
                "mem-per-gpu" => mem_per_gpu = Some(flag),
                "cpus-per-gpu" => cpus_per_gpu = Some(flag),
                _ => {
                    one(&mut gather, &flag)?;
                    match flag.name {
                        "gpus" | "gpus-per-task" => not_of_nodes = Some(flag),
                        "gpus-per-node" | "gres" => not_of_nodes = None,
                        _ => {}
                    }
                }
            }
        }
    }
    let shape = gather.asks.as_ref().map(|asks| asks.shape().unwrap_or_default());
    let several = shape.filter(|shape| shape.tasks > 1 || shape.nodes > 1);
    if let (Some(_), Some(flag)) = (several, not_of_nodes) {
        // In the model they are those of a node. Only Slurm knows what these come to on each.
        let known = gather.resources.gpus.take().is_some();
        for flag in known.then_some(flag).iter().chain(&mem_per_gpu).chain(&cpus_per_gpu) {
            gather.extra(flag);
        }
        return Ok(gather);
    }
    let gpus = gather.resources.gpus.as_ref().map_or(0, |gpus| gpus.value.count);
    if let Some(flag) = mem_per_gpu {
        if gpus == 0 {
            return Err(flag.refuse("no GPUs are asked for", "write --mem=…"));
        }
        let each = slurm_mem(flag.value()).map_err(|why| flag.error(why))?;
        gather.resources.mem = figure(&flag, Mem::Total(each.saturating_mul(gpus.into())));
    }
    if let Some(flag) = cpus_per_gpu {
        if gpus == 0 {
            return Err(flag.refuse("no GPUs are asked for", "write --cpus-per-task=…"));
        }
        let each = count(flag.value(), 1).map_err(|why| flag.error(why))?;
        let cpus = each.saturating_mul(gpus);
        // CPUs are those of a task.
        let cpus = match several.map(|shape| (shape.spread, cpus.saturating_mul(shape.nodes), shape.tasks)) {
            None => cpus,
            Some((false, all, tasks)) if all.is_multiple_of(tasks) => all / tasks,
            Some(_) => {
                return Err(flag.refuse("the tasks' CPUs cannot be worked out of it", "write --cpus-per-task=…"));
            }
        };
        gather.resources.cpus = figure(&flag, cpus);
    }
    Ok(gather)
}

fn one(gather: &mut Gather, flag: &Flag) -> Result<(), FlagError> {
    if script(gather, flag)? {
        return Ok(());
    }
    let wrong = |why: String| flag.error(why);
    match flag.name {
        "cpus-per-task" => gather.resources.cpus = figure(flag, count(flag.value(), 1).map_err(wrong)?),
        "mem" => {
            let mem = match slurm_mem(flag.value()).map_err(wrong)? {
                0 => Mem::Node,
                bytes => Mem::Total(bytes),
            };
            gather.resources.mem = figure(flag, mem);
        }
        "mem-per-cpu" => {
            let mem = match slurm_mem(flag.value()).map_err(wrong)? {
                0 => Mem::Node,
                bytes => Mem::PerCpu(bytes),
            };
            gather.resources.mem = figure(flag, mem);
        }
        "time" => gather.resources.time = figure(flag, slurm_time(flag.value()).map_err(wrong)?),
        "tmp" => gather.resources.scratch = figure(flag, slurm_mem(flag.value()).map_err(wrong)?),
        "partition" => gather.resources.partition = gather.text(flag)?,
        "account" => gather.resources.account = gather.text(flag)?,
        "qos" => gather.resources.qos = gather.text(flag)?,
        "reservation" => gather.resources.reservation = gather.text(flag)?,
        "exclusive" if flag.value.is_none() => gather.resources.exclusive = figure(flag, true),
        "gpus" | "gpus-per-node" | "gpus-per-task" => match gpus(flag.value()) {
            Ok(gpus) => gather.resources.gpus = figure(flag, gpus),
            // Several kinds at once.
            Err(_) if flag.value().contains(',') => gather.extra(flag),
            Err(why) => return Err(wrong(why)),
        },
        "gres" => gres(gather, flag)?,
        "ntasks" | "ntasks-per-node" | "tasks-per-node" | "ntasks-per-gpu" => tasks(flag)?,
        "nodes" => nodes(flag)?,
        "array" => {
            return Err(flag.refuse(
                "a build recipe is no job array: it makes one overlay",
                "remove it; ovl builds many at once by itself",
            ));
        }
        "dependency" => {
            return Err(flag.refuse("ovl orders builds by what they need", "write #DEP:name/version instead"));
        }
        "hold" => {
            return Err(flag.refuse("a held build would never start: ovl holds and releases jobs itself", "remove it"));
        }
        "clusters" => return Err(flag.refuse("ovl speaks to the cluster it runs on", "remove it, and run ovl there")),
        "wrap" | "help" | "usage" | "version" | "container" | "container-id" => {
            return Err(flag.refuse("it does not fit here: ovl writes the job script itself", "remove it"));
        }
        // ovl's own business.
        "job-name"
        | "output"
        | "error"
        | "input"
        | "open-mode"
        | "chdir"
        | "workdir"
        | "mail-type"
        | "mail-user"
        | "parsable"
        | "quiet"
        | "verbose"
        | "wait"
        | "test-only"
        | "export"
        | "export-file"
        | "get-user-env"
        | "ignore-pbs"
        | "kill-on-invalid-dep"
        | "signal" => {}
        _ => gather.extra(flag),
    }
    Ok(())
}

/// What only a user's script may say; false where a build says the same.
fn script(gather: &mut Gather, flag: &Flag) -> Result<bool, FlagError> {
    let text = gather.text(flag);
    let Some(asks) = &mut gather.asks else { return Ok(false) };
    let number = || count(flag.value(), 1).map_err(|why| flag.error(why));
    match flag.name {
        "ntasks" => asks.tasks = figure(flag, number()?),
        "ntasks-per-node" | "tasks-per-node" => asks.per_node = figure(flag, number()?),
        "nodes" => asks.nodes = figure(flag, u32::try_from(fewest_nodes(flag)?).unwrap_or(u32::MAX)),
        "job-name" => asks.name = text?,
        "output" => asks.output = text?,
        "error" => asks.error = text?,
        "array" => {
            asks.array = text?;
            gather.extra(flag);
        }
        "dependency" => {
            asks.after = text?;
            gather.extra(flag);
        }
        "chdir" | "workdir" => asks.cwd = text?,
        // They change what sbatch itself prints or when it ends.
        "parsable" | "quiet" | "verbose" | "wait" | "test-only" => {}
        "mail-type"
        | "mail-user"
        | "open-mode"
        | "input"
        | "signal"
        | "hold"
        | "export"
        | "export-file"
        | "get-user-env"
        | "kill-on-invalid-dep"
        | "ntasks-per-gpu" => gather.extra(flag),
        _ => return Ok(false),
    }
    Ok(true)
}

fn tasks(flag: &Flag) -> Result<(), FlagError> {
    match count(flag.value(), 1).map_err(|why| flag.error(why))? {
        1 => Ok(()),
        many => Err(flag.refuse(
            format!("it asks for {many} tasks, but a build is one process tree"),
            format!("for {many} CPUs write --cpus-per-task={many}"),
        )),
    }
}

/// `--nodes=min[-max]`, or since 23.02 a list of such, each with an optional step. A build takes one node if it may.
fn nodes(flag: &Flag) -> Result<(), FlagError> {
    let fewest = fewest_nodes(flag)?;
    if fewest > 1 {
        let why = format!("it asks for {fewest} nodes, but a build is one process tree on one node");
        return Err(flag.refuse(why, "write --nodes=1, and --cpus-per-task for its CPUs"));
    }
    Ok(())
}

fn fewest_nodes(flag: &Flag) -> Result<u64, FlagError> {
    let bad = || flag.error("it is no number of nodes; write --nodes=1");
    let mut fewest = u64::MAX;
    for item in flag.value().split(',') {
        let item = item.split_once(':').map_or(item, |(range, _)| range);
        let (min, max) = item.split_once('-').unwrap_or((item, item));
        let (min, max) = (nodes_number(min).ok_or_else(bad)?, nodes_number(max).ok_or_else(bad)?);
        if min == 0 || max < min {
            return Err(bad());
        }
        fewest = fewest.min(min);
    }
    Ok(fewest)
}

/// A number, also with `k` or `m` behind it.
fn nodes_number(text: &str) -> Option<u64> {
    let (digits, scale) = match text.char_indices().last()? {
        (at, 'k' | 'K') => (text.get(..at)?, 1024),
        (at, 'm' | 'M') => (text.get(..at)?, 1024 * 1024),
        _ => (text, 1),
    };
    digits
        .bytes()
        .all(|b| b.is_ascii_digit())
        .then(|| digits.parse::<u32>().ok())
        .flatten()
        .map(|n| u64::from(n) * scale)
}

/// `--gres=gpu[:kind][:number]` into GPUs; other resources of the list stay as they are.
fn gres(gather: &mut Gather, flag: &Flag) -> Result<(), FlagError> {
    let mut others = Vec::new();
    for item in flag.value().split(',') {
        let item = item.strip_prefix("gres/").or_else(|| item.strip_prefix("gres:")).unwrap_or(item);
        match item.strip_prefix("gpu") {
            Some("") => gather.resources.gpus = figure(flag, Gpus { count: 1, kind: None }),
            Some(rest) if rest.starts_with([':', '=']) => {
                // Sockets may stand behind: gpu:2(S:0).
                let rest = rest.get(1..).unwrap_or("");
                let rest = rest.split_once('(').map_or(rest, |(plain, _)| plain);
                gather.resources.gpus = figure(flag, gpus(rest).map_err(|why| flag.error(why))?);
            }
            _ if item.is_empty() => return Err(flag.error("an item of the list is empty")),
            _ if item == "none" => {}
            _ => others.push(item),
        }
    }
    if !others.is_empty() {
        gather.extra_words(flag, vec![format!("--gres={}", others.join(","))]);
    }
    Ok(())
}
