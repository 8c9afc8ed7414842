//! `#PBS` lines into resources, by qsub(1B) and pbs_resources(7B); also the forms of Torque that occur in old recipes.

use crate::model::batch::Asks;
use crate::model::resources::{Figure, Gpus, Mem, Resources, Scheduler};
use crate::recipe::scan::Directive;
use crate::sched::FlagError;
use crate::sched::amount::{count, pbs_mem, pbs_time};
use crate::sched::gather::{Gather, figure};
use crate::sched::pattern::from_pbs;
use crate::sched::words::Takes::{Nothing, Value};
use crate::sched::words::{Flag, Opt, Takes, getopt};

const fn opt(short: char, name: &'static str, takes: Takes) -> Opt {
    Opt { short: Some(short), name, takes }
}

/// The options of qsub (OpenPBS 23, and -d, -D, -t, -w of Torque).
const OPTIONS: &[Opt] = &[
    opt('A', "A", Value),
    opt('C', "C", Value),
    opt('D', "D", Value),
    opt('G', "G", Nothing),
    opt('I', "I", Nothing),
    opt('J', "J", Value),
    opt('M', "M", Value),
    opt('N', "N", Value),
    opt('P', "P", Value),
    opt('R', "R", Value),
    opt('S', "S", Value),
    opt('V', "V", Nothing),
    opt('W', "W", Value),
    opt('X', "X", Nothing),
    opt('a', "a", Value),
    opt('c', "c", Value),
    opt('d', "d", Value),
    opt('e', "e", Value),
    opt('f', "f", Nothing),
    opt('h', "h", Nothing),
    opt('j', "j", Value),
    opt('k', "k", Value),
    opt('l', "l", Value),
    opt('m', "m", Value),
    opt('o', "o", Value),
    opt('p', "p", Value),
    opt('q', "q", Value),
    opt('r', "r", Value),
    opt('t', "t", Value),
    opt('u', "u", Value),
    opt('v', "v", Value),
    opt('w', "w", Value),
    opt('z', "z", Nothing),
];

/// Reads all lines; later flags win.
pub fn read(directives: &[Directive]) -> Result<Resources, FlagError> {
    gather(Gather::new(Scheduler::Pbs), directives).map(|gather| gather.resources)
}

/// The same for a user's script.
pub fn read_script(directives: &[Directive]) -> Result<(Resources, Asks), FlagError> {
    gather(Gather::of_script(Scheduler::Pbs), directives).map(Gather::script)
}

fn gather(mut gather: Gather, directives: &[Directive]) -> Result<Gather, FlagError> {
    for directive in directives {
        for flag in getopt("qsub", OPTIONS, false, directive)? {
            one(&mut gather, &flag)?;
        }
    }
    Ok(gather)
}

/// What only a user's script may say; false where a build says the same.
fn script(gather: &mut Gather, flag: &Flag) -> Result<bool, FlagError> {
    let text = gather.text(flag);
    let Some(asks) = &mut gather.asks else { return Ok(false) };
    let path = |text: Option<Figure<String>>| text.map(|it| Figure { value: from_pbs(&it.value), ..it });
    match flag.name {
        "N" => asks.name = text?,
        "o" => asks.output = path(text?),
        "e" => asks.error = path(text?),
        "J" | "t" => {
            asks.array = text?;
            gather.extra(flag);
        }
        "d" | "D" => asks.cwd = text?,
        // Output is written by the job itself; what joins or keeps it means nothing.
        "j" => asks.error = None,
        "C" | "G" | "I" | "R" | "X" | "k" | "w" | "z" | "f" | "S" => {}
        "h" | "M" | "m" | "v" | "V" => gather.extra(flag),
        _ => return Ok(false),
    }
    Ok(true)
}

fn one(gather: &mut Gather, flag: &Flag) -> Result<(), FlagError> {
    if script(gather, flag)? {
        return Ok(());
    }
    match flag.name {
        "l" => {
            for item in flag.value().split(',') {
                resource(gather, flag, item)?;
            }
        }
        "q" => gather.resources.partition = gather.text(flag)?,
        "A" | "P" => gather.resources.account = gather.text(flag)?,
        "W" => {
            for item in flag.value().split_inclusive(',') {
                attribute(gather, flag, item.trim_end_matches(','))?;
            }
        }
        "J" | "t" => {
            let why = "a build recipe is no job array: it makes one overlay";
            return Err(flag.refuse(why, "remove it; ovl builds many at once by itself"));
        }
        "h" => {
            return Err(flag.refuse("a held build would never start: ovl holds and releases jobs itself", "remove it"));
        }
        "I" | "X" | "G" => return Err(flag.refuse("a build runs without a terminal", "remove it")),
        // ovl's own business.
        "C" | "D" | "M" | "N" | "R" | "S" | "V" | "d" | "e" | "f" | "j" | "k" | "m" | "o" | "v" | "w" | "z" => {}
        _ => gather.extra(flag),
    }
    Ok(())
}

/// One of `-W name=value,…`. Values of some attributes hold commas themselves; their pieces have no `=`.
fn attribute(gather: &mut Gather, flag: &Flag, item: &str) -> Result<(), FlagError> {
    let name = item.split_once('=').map_or(item, |(name, _)| name).trim();
    match name {
        "depend" if gather.asks.is_some() => {
            if let Some(asks) = &mut gather.asks {
                asks.after = figure(flag, item.to_owned());
            }
            gather.extra_words(flag, vec!["-W".to_owned(), item.to_owned()]);
            Ok(())
        }
        "depend" => Err(flag.refuse("ovl orders builds by what they need", "write #DEP:name/version instead")),
        "block" => Ok(()),
        "" => Err(flag.error("an attribute without a name")),
        _ if item.contains('=') => {
            gather.extra_words(flag, vec!["-W".to_owned(), item.to_owned()]);
            Ok(())
        }
        _ => match gather.resources.extra.last_mut().and_then(|extra| extra.words.last_mut()) {
            Some(last) => {
                last.push(',');
                last.push_str(item);
                Ok(())
            }
            None => Err(flag.error(format!("'{item}' is no attribute=value"))),
        },
    }
}

/// One of `-l name=value,…`.
fn resource(gather: &mut Gather, flag: &Flag, item: &str) -> Result<(), FlagError> {
    let Some((name, value)) = item.split_once('=').filter(|(name, _)| !name.is_empty()) else {
        return Err(flag.error(format!("'{item}' is no resource=value")));
    };
    match name {
        "select" => select(gather, flag, value),
        "nodes" => nodes(gather, flag, value),
        "walltime" => {
            let time = pbs_time(value).map_err(|why| flag.error(why))?;
            gather.resources.time = figure(flag, time);
            Ok(())
        }
        "place" => {
            place(gather, flag, value);
            Ok(())
        }
        _ => {
            if !chunk(gather, flag, name, value)? {
                gather.extra_words(flag, vec!["-l".to_owned(), item.to_owned()]);
            }
            Ok(())
        }
    }
}

/// One resource of a chunk; false where the model has no place for it.
fn chunk(gather: &mut Gather, flag: &Flag, name: &str, value: &str) -> Result<bool, FlagError> {
    let wrong = |why: String| flag.error(why);
    match name {
        "mpiprocs" if gather.asks.is_some() => {
            let each = figure(flag, count(value, 1).map_err(wrong)?);
            if let Some(asks) = &mut gather.asks {
                asks.per_node = each;
            }
        }
        "ncpus" | "ppn" => gather.resources.cpus = figure(flag, count(value, 1).map_err(wrong)?),
        "mem" => gather.resources.mem = figure(flag, Mem::Total(pbs_mem(value).map_err(wrong)?)),
        "ngpus" | "gpus" => {
            let kind = gather.resources.gpus.take().and_then(|gpus| gpus.value.kind);
            gather.resources.gpus = figure(flag, Gpus { count: count(value, 0).map_err(wrong)?, kind });
        }
        "gpu_model" => {
            let count = gather.resources.gpus.take().map_or(1, |gpus| gpus.value.count);
            gather.resources.gpus = figure(flag, Gpus { count, kind: Some(value.to_owned()) });
        }
        _ => return Ok(false),
    }
    Ok(true)
}

/// So many chunks of one kind: nodes of a script, of which a build has one.
fn chunks(gather: &mut Gather, flag: &Flag, number: u32) -> Result<(), FlagError> {
    match &mut gather.asks {
        None => one_chunk(flag, number),
        Some(asks) => {
            asks.nodes = figure(flag, number);
            Ok(())
        }
    }
}

/// Chunks of several kinds have no place in the model.
fn kinds(gather: &Gather, flag: &Flag, number: usize) -> Result<(), FlagError> {
    if gather.asks.is_some() {
        return Err(flag.refuse("chunks of several kinds are not understood", "write -l select=N:ncpus=…:mpiprocs=…"));
    }
    one_chunk(flag, number.try_into().unwrap_or(u32::MAX))
}

/// `ncpus` is for the whole chunk in PBS; in the model it is for each task.
fn cpus_of_tasks(gather: &mut Gather) {
    let each = gather.asks.as_ref().and_then(|asks| asks.per_node.as_ref()).map_or(1, |each| each.value);
    if let (Some(cpus), true) = (&mut gather.resources.cpus, each > 1) {
        cpus.value = (cpus.value / each).max(1);
    }
}

fn one_chunk(flag: &Flag, number: u32) -> Result<(), FlagError> {
    match number {
        1 => Ok(()),
        many => {
            let why = format!("it asks for {many} chunks, but a build is one process tree on one node");
            Err(flag.refuse(why, "write -l select=1:ncpus=…:mem=…"))
        }
    }
}

/// `select=[N:]name=value[:name=value…][+…]`.
fn select(gather: &mut Gather, flag: &Flag, value: &str) -> Result<(), FlagError> {
    if value.contains('+') {
        return kinds(gather, flag, value.split('+').count());
    }
    for (index, item) in value.split(':').enumerate() {
        match item.split_once('=') {
            None if index == 0 => chunks(gather, flag, count(item, 1).map_err(|why| flag.error(why))?)?,
            Some((name, value)) if !name.is_empty() => {
                if !chunk(gather, flag, name, value)? {
                    gather.extra_words(flag, vec!["-l".to_owned(), format!("select=1:{item}")]);
                }
            }
            _ => return Err(flag.error(format!("'{item}' is no resource=value"))),
        }
    }
    cpus_of_tasks(gather);
    Ok(())
}

/// `nodes=1:ppn=8`, as before `select`.
fn nodes(gather: &mut Gather, flag: &Flag, value: &str) -> Result<(), FlagError> {
    if value.contains('+') {
        return kinds(gather, flag, value.split('+').count());
    }
    // On several nodes `ppn` counts tasks; on one it is taken for the CPUs of one task.
    let several = value.split(':').next().and_then(|number| number.parse::<u32>().ok()).is_some_and(|nodes| nodes > 1);
    for (index, item) in value.split(':').enumerate() {
        match item.split_once('=') {
            None if index == 0 && item.bytes().all(|b| b.is_ascii_digit()) => {
                chunks(gather, flag, count(item, 1).map_err(|why| flag.error(why))?)?;
            }
            Some(("ppn", value)) if several && gather.asks.is_some() => {
                chunk(gather, flag, "mpiprocs", value)?;
            }
            Some((name, value)) if chunk(gather, flag, name, value)? => {}
            _ => {
                let why = format!("'{item}' is a host or a property, which only the old form knows");
                return Err(flag.refuse(why, "write -l select=1:ncpus=…:name=value"));
            }
        }
    }
    Ok(())
}

/// `place=arrangement:sharing:group=…`; how chunks are spread does not matter to one chunk.
fn place(gather: &mut Gather, flag: &Flag, value: &str) {
    for item in value.split(':') {
        match item {
            "excl" | "exclhost" => gather.resources.exclusive = figure(flag, true),
            "free" | "pack" | "scatter" | "vscatter" if gather.asks.is_some() => {
                gather.extra_words(flag, vec!["-l".to_owned(), format!("place={item}")]);
            }
            "free" | "pack" | "scatter" | "vscatter" | "shared" => {}
            _ => gather.extra_words(flag, vec!["-l".to_owned(), format!("place={item}")]),
        }
    }
}
