//! Which processors a helper process may run on. A rank of an MPI job is pinned to a few of its job's processors; what
//! serves all ranks of the node must not be pinned with the rank that happened to come first.

use nix::sched::{CpuSet, sched_getaffinity, sched_setaffinity};
use nix::unistd::Pid;

/// Lets this process, and the threads it starts from now on, run wherever its control group may. Where nothing but the
/// mask keeps it to its job's processors the mask stays.
pub fn widen() {
    let this = Pid::from_raw(0);
    let Ok(before) = sched_getaffinity(this) else { return };
    let mut all = CpuSet::new();
    for cpu in 0..CpuSet::count() {
        let _ = all.set(cpu);
    }
    // The kernel takes from it what the control group allows.
    if sched_setaffinity(this, &all).is_err() {
        return;
    }
    let Ok(now) = sched_getaffinity(this) else { return };
    let online = nix::unistd::sysconf(nix::unistd::SysconfVar::_NPROCESSORS_ONLN).ok().flatten();
    if !is_confined(members(&now).len(), online) {
        let _ = sched_setaffinity(this, &before);
    }
}

/// Processors this process may run on, at least one.
pub fn usable() -> usize {
    sched_getaffinity(Pid::from_raw(0)).map_or(1, |set| members(&set).len()).max(1)
}

fn members(set: &CpuSet) -> Vec<usize> {
    (0..CpuSet::count()).filter(|&cpu| set.is_set(cpu).unwrap_or(false)).collect()
}

/// Whether something else than the mask holds a process to fewer processors than the machine has.
fn is_confined(allowed: usize, online: Option<i64>) -> bool {
    online.is_some_and(|online| i64::try_from(allowed).is_ok_and(|allowed| allowed < online))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_mask_alone_is_kept() {
        assert!(is_confined(4, Some(64)));
        assert!(!is_confined(64, Some(64)) && !is_confined(4, None));
        let before = members(&sched_getaffinity(Pid::from_raw(0)).unwrap());
        let mut one = CpuSet::new();
        one.set(before[0]).unwrap();
        sched_setaffinity(Pid::from_raw(0), &one).unwrap();
        assert_eq!(usable(), 1);
        widen();
        // Where the control group leaves all processors, the mask is all there is; elsewhere it is widened to the group's.
        let online = nix::unistd::sysconf(nix::unistd::SysconfVar::_NPROCESSORS_ONLN).unwrap();
        let all = members(&sched_getaffinity(Pid::from_raw(0)).unwrap()).len();
        assert!(if is_confined(before.len(), online) { all >= before.len() } else { all == 1 }, "{all} of {before:?}");
    }
}
