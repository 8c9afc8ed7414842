//! Here or on the cluster: the rules, each with the sentence that `--dry-run` and `explain` show (rows C42, C45–C47, C53).

use serde::{Deserialize, Serialize};

use super::{Place, Planned, Ticket};
use crate::model::resources::{Figure, JobId, Resources, Scheduler, Source};

/// What the user wants submitted.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Policy {
    /// What has directives, and what depends on that.
    #[default]
    Auto,
    /// Nothing.
    Never,
    /// Everything.
    Always,
}

/// What there is to place on.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Site {
    /// The scheduler at hand.
    pub scheduler: Option<Scheduler>,
    /// The job this process runs in.
    pub inside: Option<JobId>,
    /// What the user wants.
    pub policy: Policy,
    /// The flag or key that says so.
    pub said: String,
}

/// What decides about one step, beside its dependencies.
#[derive(Debug, Clone, Default)]
pub struct Wish {
    /// The first directive of its recipe, as `file:line:col`.
    pub directive: Option<String>,
    /// A job that builds it already, and whose it is.
    pub joined: Option<(Ticket, String)>,
}

/// Places all steps; `wishes` has one entry per step.
pub fn place(steps: &mut [Planned], wishes: &[Wish], site: &Site) {
    for index in 0..steps.len() {
        let wish = wishes.get(index).cloned().unwrap_or_default();
        let (place, because) = one(steps, index, wish, site);
        if let Some(step) = steps.get_mut(index) {
            if place == Place::Here {
                only_here(&mut step.resources);
            }
            (step.place, step.because) = (place, because);
        }
    }
}

/// What the configuration says of jobs means nothing for a build without one.
fn only_here(resources: &mut Resources) {
    fn drop_default<T>(figure: &mut Option<Figure<T>>) {
        if figure.as_ref().is_some_and(|figure| matches!(figure.source, Source::Config(_))) {
            *figure = None;
        }
    }
    drop_default(&mut resources.time);
    drop_default(&mut resources.partition);
    drop_default(&mut resources.account);
    drop_default(&mut resources.qos);
}

fn one(steps: &[Planned], index: usize, wish: Wish, site: &Site) -> (Place, String) {
    if let Some(job) = &site.inside {
        return (Place::Here, format!("this process is in job {job}"));
    }
    if site.policy == Policy::Never {
        return (Place::Here, site.said.clone());
    }
    let Some(scheduler) = site.scheduler else {
        let told = match &wish.directive {
            Some(at) => format!("no scheduler here; {at} counts for the local budget"),
            None => "no scheduler here".into(),
        };
        return (Place::Here, told);
    };
    if let Some((ticket, whose)) = wish.joined.filter(|(ticket, _)| ticket.scheduler == scheduler) {
        return (Place::Join(ticket), format!("already being built by {whose}"));
    }
    if site.policy == Policy::Always {
        return (Place::Queue(scheduler), site.said.clone());
    }
    if let Some(at) = wish.directive {
        return (Place::Queue(scheduler), format!("its recipe has directives ({at})"));
    }
    let queued = steps.get(index).into_iter().flat_map(|step| &step.after).filter_map(|&parent| steps.get(parent));
    match queued.into_iter().find(|parent| parent.place != Place::Here) {
        Some(parent) => (Place::Queue(scheduler), format!("its dependency {} is queued", parent.name)),
        None => (Place::Here, "its recipe has no directives".into()),
    }
}

#[cfg(test)]
mod tests {
    use super::super::tests::step;
    use super::*;

    fn placed(site: &Site) -> Vec<(Place, String)> {
        // 0 → 1 (directives) → 2; 3 alone; 4 is being built by another job → 5
        let mut steps = vec![
            step(0, 0, &[]),
            step(1, 0, &[0]),
            step(2, 0, &[1]),
            step(3, 0, &[]),
            step(4, 0, &[]),
            step(5, 0, &[4]),
        ];
        let mut wishes = vec![Wish::default(); 6];
        wishes[1].directive = Some("r:2:1".into());
        wishes[4].joined = Some((ticket(), "ada (job 7)".into()));
        place(&mut steps, &wishes, site);
        steps.into_iter().map(|step| (step.place, step.because)).collect()
    }

    fn ticket() -> Ticket {
        Ticket { scheduler: Scheduler::Slurm, job: JobId("7".into()), run: "/run".into(), step: 0, attempt: 1 }
    }

    fn places(site: &Site) -> String {
        let letter = |(place, _): &(Place, String)| match place {
            Place::Here => 'h',
            Place::Queue(_) => 'q',
            Place::Join(_) => 'j',
        };
        placed(site).iter().map(letter).collect()
    }

    #[test]
    fn every_rule() {
        let slurm = Site { scheduler: Some(Scheduler::Slurm), ..Site::default() };
        assert_eq!(places(&slurm), "hqqhjq");
        assert_eq!(placed(&slurm)[1].1, "its recipe has directives (r:2:1)");
        assert_eq!(placed(&slurm)[2].1, "its dependency s1/1 is queued");
        assert_eq!(placed(&slurm)[4].1, "already being built by ada (job 7)");
        assert_eq!(places(&Site { policy: Policy::Always, ..slurm.clone() }), "qqqqjq");
        assert_eq!(places(&Site { policy: Policy::Never, ..slurm.clone() }), "hhhhhh");
        assert_eq!(places(&Site { inside: Some(JobId("5".into())), ..slurm }), "hhhhhh");
        assert_eq!(places(&Site::default()), "hhhhhh");
        assert_eq!(placed(&Site::default())[1].1, "no scheduler here; r:2:1 counts for the local budget");
        // Another scheduler's job cannot be depended on: its claim is waited for.
        assert_eq!(places(&Site { scheduler: Some(Scheduler::Pbs), ..Site::default() }), "hqqhhh");
    }
}
