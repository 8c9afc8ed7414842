//! What a job of several tasks has, from the variables that Slurm sets (sbatch(1), OUTPUT ENVIRONMENT VARIABLES).

use crate::model::batch::Granted;
use crate::sched::Env;
use crate::sched::amount::MIB;

/// Reads them.
pub fn tasks(env: &Env) -> Granted {
    let number = |name: &str| env.get(name)?.trim().parse::<u32>().ok().filter(|number| *number > 0);
    let most = |name: &str| env.get(name).and_then(|text| counts(text)).and_then(|all| all.into_iter().max());
    let nodes = number("SLURM_JOB_NUM_NODES").or_else(|| number("SLURM_NNODES"));
    let listed = env.get("SLURM_TASKS_PER_NODE").and_then(|text| counts(text));
    let tasks = number("SLURM_NTASKS")
        .or_else(|| number("SLURM_NPROCS"))
        .or_else(|| listed.as_ref()?.iter().try_fold(0u32, |sum, one| sum.checked_add(*one)))
        .or(nodes);
    let per_node = number("SLURM_NTASKS_PER_NODE").or_else(|| {
        // The list counts what fits, which can be more than there are tasks.
        let even = tasks?.div_ceil(nodes?);
        Some(
            listed.as_ref().and_then(|all| all.iter().max().copied()).map_or(even, |most| most.min(tasks.unwrap_or(1))),
        )
    });
    let on_node = number("SLURM_CPUS_ON_NODE").or_else(|| most("SLURM_JOB_CPUS_PER_NODE"));
    let cpus = number("SLURM_CPUS_PER_TASK").or_else(|| Some((on_node? / per_node.unwrap_or(1).max(1)).max(1)));
    let mem =
        match (env.get("SLURM_MEM_PER_NODE").and_then(|mb| mb.trim().parse::<u64>().ok()), number("SLURM_MEM_PER_CPU"))
        {
            // 0 stands for all the node has.
            (Some(0), _) | (None, None) => None,
            (Some(mb), _) => mb.checked_mul(MIB),
            (None, Some(mb)) => u64::from(mb).checked_mul(MIB).and_then(|bytes| bytes.checked_mul(on_node?.into())),
        };
    Granted { nodes, tasks, per_node, cpus, mem }
}

/// `2(x3),1`: three nodes with two, one with one.
fn counts(text: &str) -> Option<Vec<u32>> {
    let mut all = Vec::new();
    for item in text.trim().split(',') {
        let (number, times) = match item.split_once("(x") {
            Some((number, times)) => (number, times.strip_suffix(')')?.parse::<usize>().ok()?),
            None => (item, 1),
        };
        let number = number.parse::<u32>().ok()?;
        // More nodes than any cluster has: nonsense.
        if times > 1 << 20 {
            return None;
        }
        all.extend(std::iter::repeat_n(number, times));
    }
    Some(all)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(vars: &[(&str, &str)]) -> Granted {
        tasks(&vars.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect())
    }

    #[test]
    fn recorded_environments() {
        // sbatch -N2 --mem=200, one task on each.
        let two = of(&[
            ("SLURM_CPUS_ON_NODE", "1"),
            ("SLURM_MEM_PER_NODE", "200"),
            ("SLURM_NNODES", "2"),
            ("SLURM_JOB_NUM_NODES", "2"),
            ("SLURM_TASKS_PER_NODE", "1(x2)"),
        ]);
        let expected =
            Granted { nodes: Some(2), tasks: Some(2), per_node: Some(1), cpus: Some(1), mem: Some(200 * MIB) };
        assert_eq!(two, expected);
        // sbatch -n2 -c2 --mem-per-cpu=100.
        let one = of(&[
            ("SLURM_CPUS_ON_NODE", "4"),
            ("SLURM_CPUS_PER_TASK", "2"),
            ("SLURM_MEM_PER_CPU", "100"),
            ("SLURM_NNODES", "1"),
            ("SLURM_NTASKS", "2"),
            ("SLURM_TASKS_PER_NODE", "2"),
        ]);
        let expected =
            Granted { nodes: Some(1), tasks: Some(2), per_node: Some(2), cpus: Some(2), mem: Some(400 * MIB) };
        assert_eq!(one, expected);
        assert_eq!(of(&[]), Granted::default());
        assert_eq!(of(&[("SLURM_NNODES", "x"), ("SLURM_TASKS_PER_NODE", "9(x99999999999)")]), Granted::default());
        let uneven = of(&[("SLURM_NNODES", "3"), ("SLURM_TASKS_PER_NODE", "2(x2),1")]);
        assert_eq!((uneven.tasks, uneven.per_node), (Some(5), Some(2)));
    }
}
