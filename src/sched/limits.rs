//! What partitions allow: so that a request no partition can ever meet is found before it is queued, where the
//! scheduler itself would take it and let it wait for ever.

use std::time::Duration;

use crate::model::resources::{Limit, Resources};
use crate::model::units::{show_size, show_time};

/// What one partition or queue allows; None: no limit, or nobody knows.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Allowed {
    /// Its name.
    pub name: String,
    /// Where jobs go that name none.
    pub is_default: bool,
    /// Longest time.
    pub time: Option<Duration>,
    /// CPUs of its largest node.
    pub cpus: Option<u32>,
    /// Memory of its largest node, in bytes.
    pub mem: Option<u64>,
}

/// Whether a request could ever run in the partition it names (several may be named, `a,b`), or in the default one. The
/// sentence when it never could. Unknown partitions are left to the scheduler.
pub fn fits(resources: &Resources, all: &[Allowed]) -> Result<(), String> {
    let named: Vec<&str> = resources.partition.as_ref().map(|name| name.value.split(',').collect()).unwrap_or_default();
    let meant = |one: &&Allowed| if named.is_empty() { one.is_default } else { named.contains(&one.name.as_str()) };
    let mut reasons = Vec::new();
    for one in all.iter().filter(meant) {
        match too_much(resources, one) {
            None => return Ok(()),
            Some(reason) => reasons.push(reason),
        }
    }
    if reasons.is_empty() { Ok(()) } else { Err(reasons.join("; ")) }
}

fn too_much(resources: &Resources, allowed: &Allowed) -> Option<String> {
    let name = &allowed.name;
    let time = resources.time.as_ref();
    if let (Some(figure), Some(most)) = (time, allowed.time) {
        let (asked, over) = match figure.value {
            Limit::Time(time) => (show_time(time), time > most),
            Limit::Unlimited => ("no time limit".into(), true),
        };
        if over {
            return Some(format!("{asked} ({}) is more time than {name} allows: {}", figure.source, show_time(most)));
        }
    }
    if let (Some(figure), Some(most)) = (&resources.cpus, allowed.cpus)
        && figure.value > most
    {
        return Some(format!("{} CPUs ({}) are more than a node of {name} has: {most}", figure.value, figure.source));
    }
    if let (Some(figure), Some(asked), Some(most)) = (&resources.mem, resources.mem_bytes(), allowed.mem)
        && asked > most
    {
        let (asked, most) = (show_size(asked), show_size(most));
        return Some(format!("{asked} of memory ({}) is more than a node of {name} has: {most}", figure.source));
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::resources::{Figure, Mem, Source};

    #[test]
    fn what_never_fits_is_said_with_figures() {
        let allowed = |name: &str, is_default, hours: Option<u64>| Allowed {
            name: name.into(),
            is_default,
            time: hours.map(|hours| Duration::from_secs(hours * 3600)),
            cpus: Some(4),
            mem: Some(4000 << 20),
        };
        let all = [allowed("short", true, Some(1)), allowed("long", false, None)];
        let flag = |text: &str| Source::Flag(text.into());
        let mut asked = Resources {
            time: Some(Figure::new(Limit::Time(Duration::from_secs(7200)), flag("--time"))),
            ..Resources::default()
        };
        assert_eq!(fits(&asked, &all).unwrap_err(), "2h00m (--time) is more time than short allows: 1h00m");
        asked.partition = Some(Figure::new("short,long".into(), flag("--partition")));
        assert_eq!(fits(&asked, &all), Ok(()));
        asked.cpus = Some(Figure::new(2, flag("--cpus")));
        asked.mem = Some(Figure::new(Mem::PerCpu(3 << 30), flag("--mem")));
        asked.time = None;
        assert!(fits(&asked, &all).unwrap_err().contains("6.0 GiB of memory (--mem) is more than a node of short has"));
        asked.partition = Some(Figure::new("unheard-of".into(), flag("--partition")));
        assert_eq!(fits(&asked, &all), Ok(()));
    }
}
