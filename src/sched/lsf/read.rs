//! `#BSUB` lines into resources, by bsub(1).

use super::options::flags;
use super::require::{Section, sections};
use crate::model::batch::Asks;
use crate::model::resources::{Figure, Gpus, Limit, Mem, Resources, Scheduler};
use crate::recipe::scan::Directive;
use crate::sched::FlagError;
use crate::sched::amount::{count, lsf_mem, lsf_time};
use crate::sched::gather::{Gather, figure};
use crate::sched::pattern::from_lsf;
use crate::sched::words::Flag;

/// Reads all lines; later flags win, and `-R` adds up.
pub fn read(directives: &[Directive]) -> Result<Resources, FlagError> {
    gather(Gather::new(Scheduler::Lsf), directives).map(|gather| gather.resources)
}

/// The same for a user's script.
pub fn read_script(directives: &[Directive]) -> Result<(Resources, Asks), FlagError> {
    gather(Gather::of_script(Scheduler::Lsf), directives).map(Gather::script)
}

fn gather(mut gather: Gather, directives: &[Directive]) -> Result<Gather, FlagError> {
    let mut limit = None;
    let mut tile = None;
    for directive in directives {
        for flag in flags(directive)? {
            match flag.name {
                "M" => limit = Some(flag),
                "R" => require(&mut gather, &flag, &mut tile)?,
                _ => one(&mut gather, &flag)?,
            }
        }
    }
    slots(&mut gather, tile.as_ref());
    let cpus = gather.resources.cpus.as_ref().map_or(1, |cpus| cpus.value);
    if let Some((flag, each)) = tile
        && gather.asks.is_none()
        && cpus > each
    {
        let why = format!("{cpus} slots with {each} on each host are several hosts, but a build is one process tree");
        return Err(flag.refuse(why, "write -R \"span[hosts=1]\""));
    }
    if let Some(flag) = limit {
        // A limit says what is needed only where nothing is reserved.
        let text = flag.value().trim_end_matches('!');
        let bytes = lsf_mem(text).map_err(|why| flag.error(why))?;
        if gather.resources.mem.is_none() && bytes > 0 {
            gather.resources.mem = figure(&flag, Mem::Total(bytes));
        } else {
            gather.extra(&flag);
        }
    }
    Ok(gather)
}

/// Slots of a script: the CPUs of one task where all are to lie on one host (`span[hosts=1]`), else tasks of one CPU.
/// `affinity[cores(n)]` says what each task has.
fn slots(gather: &mut Gather, tile: Option<&(Flag, u32)>) {
    let Some(asks) = &mut gather.asks else { return };
    let cores = gather.resources.extra.iter().find_map(|extra| cores_of(extra.words.get(1)?));
    if asks.nodes.is_some() && cores.is_none() {
        // One host.
        return;
    }
    let Some(slots) = gather.resources.cpus.take().filter(|slots| slots.value > 1 || cores.is_some()) else { return };
    gather.resources.cpus = cores.map(|cores| Figure::new(cores, slots.source.clone()));
    if let Some((flag, each)) = tile {
        asks.per_node = figure(flag, *each);
    }
    asks.tasks = Some(slots);
    // It is in the model now, and is written as slots.
    gather.resources.extra.retain(|extra| extra.words.get(1).is_none_or(|text| cores_of(text).is_none()));
}

/// The number in `affinity[cores(2)…]` or `affinity[core(2)…]`.
fn cores_of(requirement: &str) -> Option<u32> {
    let (_, rest) = requirement.split_once("affinity[core")?;
    let (_, rest) = rest.split_once('(')?;
    rest.split(|c: char| !c.is_ascii_digit()).next()?.parse().ok().filter(|cores| *cores > 0)
}

/// What only a user's script may say; false where a build says the same.
fn script(gather: &mut Gather, flag: &Flag) -> Result<bool, FlagError> {
    let text = gather.text(flag);
    let Some(asks) = &mut gather.asks else { return Ok(false) };
    let path = |text: Option<Figure<String>>| text.map(|it| Figure { value: from_lsf(&it.value), ..it });
    match flag.name {
        "J" => {
            let text = text?;
            match flag.value().split_once('[') {
                Some((name, _)) => {
                    asks.array = text;
                    asks.name = figure(flag, name.to_owned()).filter(|name| !name.value.is_empty());
                    gather.extra(flag);
                }
                None => asks.name = text,
            }
        }
        "o" | "oo" => asks.output = path(text?),
        "e" | "eo" => asks.error = path(text?),
        "cwd" => asks.cwd = text?,
        "N" | "Nd" | "Ne" => gather.extra(flag),
        "K" | "notify" | "outdir" | "I" | "IS" | "ISp" | "ISs" | "IX" | "Ip" | "Is" | "tty" | "L" => {}
        "nnodes" => asks.nodes = figure(flag, count(flag.value(), 1).map_err(|why| flag.error(why))?),
        "w" => {
            asks.after = text?;
            gather.extra(flag);
        }
        "H" | "B" | "Jd" | "env" | "i" | "is" | "u" => gather.extra(flag),
        _ => return Ok(false),
    }
    Ok(true)
}

fn one(gather: &mut Gather, flag: &Flag) -> Result<(), FlagError> {
    if script(gather, flag)? {
        return Ok(());
    }
    let wrong = |why: String| flag.error(why);
    match flag.name {
        "n" => {
            // -n least,most: the least is enough.
            let least = flag.value().split_once(',').map_or(flag.value(), |(least, _)| least);
            gather.resources.cpus = figure(flag, count(least, 1).map_err(wrong)?);
        }
        "W" => gather.resources.time = figure::<Limit>(flag, lsf_time(flag.value()).map_err(wrong)?),
        "q" => gather.resources.partition = gather.text(flag)?,
        "P" => gather.resources.account = gather.text(flag)?,
        "U" => gather.resources.reservation = gather.text(flag)?,
        "x" => gather.resources.exclusive = figure(flag, true),
        "gpu" => gpu(gather, flag)?,
        "nnodes" => match count(flag.value(), 1).map_err(wrong)? {
            1 => {}
            many => {
                let why = format!("it asks for {many} hosts, but a build is one process tree on one host");
                return Err(flag.refuse(why, "write -R \"span[hosts=1]\""));
            }
        },
        "J" if flag.value().contains('[') => {
            let why = "a build recipe is no job array: it makes one overlay";
            return Err(flag.refuse(why, "remove the [...]; ovl builds many at once by itself"));
        }
        "w" => return Err(flag.refuse("ovl orders builds by what they need", "write #DEP:name/version instead")),
        "H" => {
            return Err(flag.refuse("a held build would never start: ovl holds and releases jobs itself", "remove it"));
        }
        "I" | "IS" | "ISp" | "ISs" | "IX" | "Ip" | "Is" | "tty" => {
            return Err(flag.refuse("a build runs without a terminal", "remove it"));
        }
        "pack" | "h" | "V" | "json" | "yaml" | "jsdl" | "jsdl_strict" | "stage" => {
            return Err(flag.refuse("it does not fit here: ovl writes the job script itself", "remove it"));
        }
        // ovl's own business.
        "B" | "J" | "Jd" | "K" | "L" | "N" | "Nd" | "Ne" | "cwd" | "e" | "env" | "eo" | "i" | "is" | "notify" | "o"
        | "oo" | "outdir" | "u" => {}
        _ => gather.extra(flag),
    }
    Ok(())
}

/// `-gpu "num=2:gmodel=…:mode=…"`, or `-gpu -` for the site's default.
fn gpu(gather: &mut Gather, flag: &Flag) -> Result<(), FlagError> {
    let mut gpus = Gpus { count: 1, kind: None };
    let mut others = Vec::new();
    for item in flag.value().split(':').filter(|item| !item.is_empty() && *item != "-") {
        match item.split_once('=') {
            Some(("num", number)) => {
                let number = number.split('/').next().unwrap_or(number);
                gpus.count = count(number, 0).map_err(|why| flag.error(why))?;
            }
            Some(("gmodel", kind)) if !kind.is_empty() => gpus.kind = Some(kind.to_owned()),
            Some((name, _)) if !name.is_empty() => others.push(item),
            _ => return Err(flag.error(format!("'{item}' is no name=value"))),
        }
    }
    gather.resources.gpus = figure(flag, gpus);
    if !others.is_empty() {
        gather.extra_words(flag, vec!["-gpu".to_owned(), others.join(":")]);
    }
    Ok(())
}

/// `-R` with its sections; what has no place in the model stays as a section of its own.
fn require(gather: &mut Gather, flag: &Flag, tile: &mut Option<(Flag, u32)>) -> Result<(), FlagError> {
    let keep = |gather: &mut Gather, text: String| gather.extra_words(flag, vec!["-R".to_owned(), text]);
    let Some(sections) = sections(flag.value()) else {
        return Err(flag.error("a resource requirement is section[...] section[...]"));
    };
    for Section { name, inside } in sections {
        match name.as_str() {
            "rusage" if !inside.contains(['|', '(']) => rusage(gather, flag, &inside)?,
            "span" => {
                for item in inside.split(',').map(str::trim) {
                    match item.split_once('=') {
                        Some(("hosts", number)) => match count(number, 1).map_err(|why| flag.error(why))? {
                            hosts if gather.asks.is_some() => {
                                *tile = None;
                                if let Some(asks) = &mut gather.asks {
                                    asks.nodes = figure(flag, hosts);
                                }
                            }
                            1 => *tile = None,
                            many => {
                                let why =
                                    format!("it asks for {many} hosts, but a build is one process tree on one host");
                                return Err(flag.refuse(why, "write -R \"span[hosts=1]\""));
                            }
                        },
                        Some(("ptile", number)) => {
                            let each = number.trim_matches(['\'', '!']);
                            *tile = Some((flag.clone(), count(each, 1).map_err(|why| flag.error(why))?));
                        }
                        _ => keep(gather, format!("span[{item}]")),
                    }
                }
            }
            "" => keep(gather, inside),
            _ => keep(gather, format!("{name}[{inside}]")),
        }
    }
    Ok(())
}

/// `rusage[mem=4000, tmp=500, …]`. Memory is for the host, as LSF and its relatives count by default;
/// `mem=4000/task` (or `/slot`) says otherwise.
fn rusage(gather: &mut Gather, flag: &Flag, inside: &str) -> Result<(), FlagError> {
    let mut others = Vec::new();
    for group in inside.split(',') {
        let mut left = Vec::new();
        for item in group.split(':').map(str::trim).filter(|item| !item.is_empty()) {
            if !reserved(gather, flag, item)? {
                left.push(item);
            }
        }
        // How long something is reserved belongs to what stands before it.
        let timing = |item: &&str| item.starts_with("duration=") || item.starts_with("decay=");
        if !left.iter().all(timing) {
            others.push(left.join(":"));
        }
    }
    let timed = others.iter().any(|item| item.contains("duration=") || item.contains("decay="));
    if !others.is_empty() {
        let between = if timed { "," } else { ":" };
        gather.extra_words(flag, vec!["-R".to_owned(), format!("rusage[{}]", others.join(between))]);
    }
    Ok(())
}

/// One resource of `rusage`; false where the model has no place for it.
fn reserved(gather: &mut Gather, flag: &Flag, item: &str) -> Result<bool, FlagError> {
    let (name, value) = item.split_once('=').unwrap_or((item, ""));
    let (amount, per) = value.split_once('/').unwrap_or((value, "host"));
    let wrong = |why: String| flag.error(why);
    match name.trim() {
        "mem" => {
            let bytes = lsf_mem(amount.trim()).map_err(wrong)?;
            let mem = match per {
                "task" | "slot" => Mem::PerCpu(bytes),
                _ => Mem::Total(bytes),
            };
            gather.resources.mem = figure(flag, mem);
        }
        "tmp" => gather.resources.scratch = figure(flag, lsf_mem(amount.trim()).map_err(wrong)?),
        "ngpus_physical" | "ngpus" => {
            gather.resources.gpus = figure(flag, Gpus { count: count(amount, 0).map_err(wrong)?, kind: None });
        }
        _ => return Ok(false),
    }
    Ok(true)
}
