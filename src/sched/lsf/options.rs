//! The options of bsub (IBM Spectrum LSF 10.1), and how they are split: one dash, names of several letters.

use crate::recipe::scan::Directive;
use crate::sched::FlagError;
use crate::sched::words::{Flag, take};

/// Options without a value.
const ALONE: &[&str] = &[
    "ar", "B", "datachk", "H", "h", "hl", "I", "IS", "ISp", "ISs", "IX", "Ip", "Is", "json", "K", "N", "Ne", "Nd", "r",
    "rn", "stepcg", "ti", "tty", "ul", "V", "x", "yaml", "Zs",
];

/// Options with a value.
const VALUED: &[&str] = &[
    "a",
    "alloc_flags",
    "app",
    "b",
    "C",
    "c",
    "clusters",
    "cn_mem",
    "cn_cu",
    "core_isolation",
    "csm",
    "cwd",
    "D",
    "data",
    "datagrp",
    "E",
    "Ep",
    "e",
    "eo",
    "env",
    "eptl",
    "ext",
    "extsched",
    "F",
    "f",
    "freq",
    "G",
    "g",
    "gpu",
    "hostfile",
    "i",
    "is",
    "J",
    "Jd",
    "jobaff",
    "jsdl",
    "jsdl_strict",
    "jsm",
    "k",
    "L",
    "Lp",
    "ln_mem",
    "ln_slots",
    "M",
    "m",
    "mig",
    "n",
    "network",
    "nnodes",
    "notify",
    "o",
    "oo",
    "outdir",
    "P",
    "p",
    "pack",
    "ptl",
    "Q",
    "q",
    "R",
    "rcacct",
    "rnc",
    "S",
    "s",
    "sla",
    "smt",
    "sp",
    "stage",
    "step_cgroup",
    "T",
    "t",
    "U",
    "u",
    "v",
    "W",
    "We",
    "w",
    "wa",
    "wt",
];

/// The flags of one directive. A name of several letters is taken whole, as IBM's bsub does; its relatives that know
/// only single letters would misread it without a word.
pub fn flags(directive: &Directive) -> Result<Vec<Flag>, FlagError> {
    let mut flags = Vec::new();
    let mut words = directive.words.iter();
    while let Some((loc, word)) = words.next() {
        let not_understood =
            |why: String| FlagError { loc: loc.clone(), why: format!("directive not understood: {why}"), hint: None };
        let Some(name) = word.strip_prefix('-').filter(|name| !name.is_empty()) else {
            return Err(not_understood(format!("'{word}' belongs to no flag")));
        };
        let flag = |name: &'static str| Flag { loc: loc.clone(), name, value: None, words: vec![word.clone()] };
        if let Some(name) = ALONE.iter().find(|known| **known == name) {
            flags.push(flag(name));
        } else if let Some(name) = VALUED.iter().find(|known| **known == name) {
            let mut flag = flag(name);
            take(&mut flag, words.next())?;
            flags.push(flag);
        } else {
            let letter = |known: &&&str| known.len() == 1 && name.starts_with(**known);
            let Some(short) = VALUED.iter().find(letter) else {
                return Err(not_understood(format!("bsub knows no flag '{word}'")));
            };
            flags.push(Flag { value: name.get(1..).map(str::to_owned), ..flag(short) });
        }
    }
    Ok(flags)
}
