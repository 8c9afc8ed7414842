//! Resources given by flags.

use super::args::Asked;
use super::failure::Failure;
use crate::model::resources::{Extra, Figure, Gpus, Limit, Mem, Resources, Scheduler, Source};
use crate::model::units;

/// The flags as resources.
pub fn resources(asked: &Asked) -> Result<Resources, Failure> {
    let flag = |name: &str| Source::Flag(name.to_owned());
    let word = |name: &str, value: &Option<String>| -> Result<Option<Figure<String>>, Failure> {
        let Some(value) = value else { return Ok(None) };
        if value.is_empty() || value.chars().any(|c| c.is_control() || c.is_whitespace()) {
            return Err(Failure::usage(format!("{name}: '{}' is not a name", value.escape_debug())));
        }
        Ok(Some(Figure::new(value.clone(), flag(name))))
    };
    if asked.cpus == Some(0) {
        return Err(Failure::usage("--cpus: at least one CPU is needed"));
    }
    let size = |text: &String| units::parse_size(text).map_err(|why| Failure::usage(format!("--mem: {why}")));
    let mem = asked.mem.as_ref().map(size).transpose()?;
    let time = asked.time.as_deref().map(time).transpose()?;
    let mut extra = Vec::new();
    for (scheduler, name, words) in [
        (Scheduler::Slurm, "--sbatch-arg", &asked.sbatch_arg),
        (Scheduler::Pbs, "--qsub-arg", &asked.qsub_arg),
        (Scheduler::Lsf, "--bsub-arg", &asked.bsub_arg),
        (Scheduler::HtCondor, "--condor-arg", &asked.condor_arg),
    ] {
        for text in words {
            if text.chars().any(char::is_control) {
                return Err(Failure::usage(format!("{name}: '{}' is not on one line", text.escape_debug())));
            }
            extra.push(Extra::given(scheduler, name, text));
        }
    }
    Ok(Resources {
        cpus: asked.cpus.map(|cpus| Figure::new(cpus, flag("--cpus"))),
        mem: mem.map(|bytes| Figure::new(if bytes == 0 { Mem::Node } else { Mem::Total(bytes) }, flag("--mem"))),
        time: time.map(|limit| Figure::new(limit, flag("--time"))),
        gpus: asked.gpus.as_deref().map(gpus).transpose()?.map(|gpus| Figure::new(gpus, flag("--gpus"))),
        partition: word("--partition", &asked.partition)?,
        account: word("--account", &asked.account)?,
        qos: word("--qos", &asked.qos)?,
        extra,
        ..Resources::default()
    })
}

/// `2h`, `1h30m`, `90` (seconds), and the clock forms `H:MM:SS` and `D-HH:MM:SS`.
fn time(text: &str) -> Result<Limit, Failure> {
    let bad = || Failure::usage(format!("--time: '{text}' is not a time; write 2h, 1h30m, 02:00:00 or 1-12:00:00"));
    if text == "unlimited" {
        return Ok(Limit::Unlimited);
    }
    if !text.contains(':') {
        return units::parse_time(text).map(Limit::Time).map_err(|_| bad());
    }
    let (days, clock) = match text.split_once('-') {
        Some((days, clock)) => (days.parse::<u64>().map_err(|_| bad())?, clock),
        None => (0, text),
    };
    let parts: Vec<u64> = clock.split(':').map(|part| part.parse().ok()).collect::<Option<_>>().ok_or_else(bad)?;
    let [hours, minutes, seconds] = parts[..] else { return Err(bad()) };
    if minutes > 59 || seconds > 59 || days > 10_000 || hours > 100_000 {
        return Err(bad());
    }
    Ok(Limit::Time(std::time::Duration::from_secs(((days * 24 + hours) * 60 + minutes) * 60 + seconds)))
}

fn gpus(text: &str) -> Result<Gpus, Failure> {
    let bad = || Failure::usage(format!("--gpus: '{text}' is not a number of GPUs; write 1 or a100:2"));
    let (kind, count) = match text.rsplit_once(':') {
        Some((kind, count)) => (Some(kind), count),
        None => (None, text),
    };
    let fine = |kind: &str| !kind.is_empty() && kind.chars().all(|c| c.is_ascii_alphanumeric() || "._-".contains(c));
    if kind.is_some_and(|kind| !fine(kind)) {
        return Err(bad());
    }
    Ok(Gpus { count: count.parse().map_err(|_| bad())?, kind: kind.map(str::to_owned) })
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    #[test]
    fn flags_are_understood_or_refused() {
        let asked = |time: &str, gpus: &str| {
            resources(&Asked { time: Some(time.into()), gpus: Some(gpus.into()), ..Asked::default() })
        };
        let both = asked("1-12:00:00", "a100:2").unwrap();
        assert_eq!(both.time.unwrap().value, Limit::Time(Duration::from_secs(36 * 3600)));
        assert_eq!(both.gpus.unwrap().value, Gpus { count: 2, kind: Some("a100".into()) });
        for (time, gpus) in [("1:2", "1"), ("x", "1"), ("00:61:00", "1"), ("2h", "a b:1"), ("2h", ":1"), ("2h", "many")]
        {
            assert!(asked(time, gpus).is_err(), "{time} {gpus}");
        }
        let evil = Asked { partition: Some("short\n#SBATCH --uid=0".into()), ..Asked::default() };
        assert!(resources(&evil).is_err());
    }
}
