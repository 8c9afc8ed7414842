//! What local steps weigh against the local budget, and how many CPUs each may think it has (rows C45, E58).

use super::{Place, Plan};
use crate::model::resources::Source;

/// A step's share of this machine.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Weighed {
    /// Thousandths of a CPU that it takes from the budget.
    pub cpu: u64,
    /// Bytes that it takes from the budget.
    pub mem: u64,
    /// `NCPUS` of the build.
    pub ncpus: u32,
}

/// Weighs every step of a plan (queued ones too, so that indices agree). `cpus` and `mem` are the budget, `at_once` the
/// most builds at a time. What a recipe or flag asked for counts as it is; defaults share the machine evenly, so that
/// small builds run side by side whatever the defaults are.
pub fn weigh(plan: &Plan, cpus: u32, mem: u64, at_once: usize) -> Vec<Weighed> {
    let here = plan.steps.iter().filter(|step| step.place == Place::Here).count();
    let width = here.min(at_once).max(1) as u64;
    let total = u64::from(cpus.max(1));
    let said = |source: &Source| matches!(source, Source::Directive { .. } | Source::Flag(_));
    let one = |step: &super::Planned| {
        let asked = step.resources.cpus.as_ref();
        let (cpu, ncpus) = match asked {
            Some(figure) if said(&figure.source) => {
                (u64::from(figure.value).min(total) * 1000, figure.value.clamp(1, cpus.max(1)))
            }
            _ => {
                let share = u32::try_from(total / width).unwrap_or(1).max(1);
                (total * 1000 / width, asked.map_or(share, |figure| figure.value.clamp(1, share)))
            }
        };
        let bytes = step.resources.mem_bytes();
        let mem = match (&step.resources.mem, bytes) {
            (Some(figure), Some(bytes)) if said(&figure.source) => bytes.min(mem),
            (Some(figure), None) if said(&figure.source) => mem,
            (_, bytes) => bytes.unwrap_or(u64::MAX).min(mem / width),
        };
        Weighed { cpu, mem, ncpus }
    };
    plan.steps.iter().map(one).collect()
}

#[cfg(test)]
mod tests {
    use super::super::tests::step;
    use super::*;
    use crate::model::resources::{Figure, Mem};

    #[test]
    fn defaults_share_and_words_count() {
        let mut plan = Plan { steps: vec![step(0, 0, &[]), step(1, 0, &[]), step(2, 0, &[])], ..Plan::default() };
        let cpus = |value, source| Some(Figure::new(value, source));
        plan.steps[0].resources.cpus = cpus(4, Source::Config("build.defaults.cpus".into()));
        plan.steps[1].resources.cpus = cpus(16, Source::Flag("--cpus".into()));
        plan.steps[2].resources.mem = Some(Figure::new(Mem::Total(8 << 30), Source::Flag("--mem".into())));
        let weights = weigh(&plan, 2, 10 << 30, 4);
        assert_eq!(weights[0], Weighed { cpu: 666, mem: (10 << 30) / 3, ncpus: 1 });
        assert_eq!(weights[1].cpu, 2000);
        assert_eq!(weights[1].ncpus, 2);
        assert_eq!(weights[2].mem, 8 << 30);
        plan.steps.truncate(1);
        assert_eq!(weigh(&plan, 64, 10 << 30, 4)[0].ncpus, 4);
    }
}
