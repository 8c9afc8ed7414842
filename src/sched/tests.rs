//! Helpers of the dialects' tests, and what holds across dialects.

use super::*;
use crate::model::resources::{Figure, Gpus, Limit, Mem, Source};
use crate::recipe::scan::scan;

/// The directives of a recipe.
pub fn directives(text: &str) -> Vec<Directive> {
    let mut findings = Vec::new();
    scan("recipe", text, &mut findings).directives
}

/// What a recipe with these directive lines asks for.
pub fn asks(text: &str) -> Result<Resources, FlagError> {
    read(&directives(text), None)
}

/// The error a recipe gives, as text with its hint.
pub fn refused(text: &str) -> String {
    match asks(text) {
        Err(error) => match &error.hint {
            Some(hint) => format!("{error} | {hint}"),
            None => error.to_string(),
        },
        Ok(resources) => format!("read as {resources:?}"),
    }
}

/// A job of one command.
pub fn job(resources: Resources) -> Job {
    Job {
        name: "ovl-samtools-1.21-k3".into(),
        resources,
        output: "/home/u/logs/samtools.%j.log".into(),
        cwd: "/home/u/state/run 1".into(),
        argv: vec!["/opt/ovl/bin/ovl".into(), "internal".into(), "it's".into()],
        env: [("OVL_STEP".to_owned(), "a b".to_owned())].into(),
        comments: vec!["samtools/1.21 for u".into(), "BSUB -q evil".into()],
        batch: None,
    }
}

/// Flags of nobody's recipe.
pub fn said<T>(value: T) -> Option<Figure<T>> {
    Some(Figure::new(value, Source::Flag("--x".into())))
}

/// Everything at once.
pub fn full() -> Resources {
    Resources {
        cpus: said(8),
        mem: said(Mem::Total(16 << 30)),
        time: said(Limit::Time(Duration::from_secs(5400))),
        gpus: said(Gpus { count: 2, kind: Some("a100".into()) }),
        partition: said("long".into()),
        account: said("lab".into()),
        ..Resources::default()
    }
}

/// A reply.
pub fn reply(code: i32, stdout: &str, stderr: &str) -> Reply {
    Reply { code: Some(code), stdout: stdout.into(), stderr: stderr.into() }
}

/// A reply that never came.
pub fn silence() -> Reply {
    Reply::default()
}

/// Ids from numbers.
pub fn ids(ids: &[&str]) -> Vec<JobId> {
    ids.iter().map(|id| JobId((*id).to_owned())).collect()
}

/// The values of figures without their sources.
pub fn values(resources: &Resources) -> String {
    let Resources { cpus, mem, time, gpus, scratch, partition, account, qos, reservation, exclusive, extra } =
        resources;
    let mut text = Vec::new();
    text.extend(cpus.as_ref().map(|f| format!("cpus={}", f.value)));
    text.extend(mem.as_ref().map(|f| match f.value {
        Mem::Total(bytes) => format!("mem={bytes}"),
        Mem::PerCpu(bytes) => format!("mem/cpu={bytes}"),
        Mem::Node => "mem=node".into(),
    }));
    text.extend(time.as_ref().map(|f| match f.value {
        Limit::Time(time) => format!("time={}", time.as_secs()),
        Limit::Unlimited => "time=no".into(),
    }));
    text.extend(gpus.as_ref().map(|f| format!("gpus={}{}", f.value.count, f.value.kind.as_deref().unwrap_or(""))));
    text.extend(scratch.as_ref().map(|f| format!("scratch={}", f.value)));
    for (name, figure) in [("partition", partition), ("account", account), ("qos", qos), ("reservation", reservation)] {
        text.extend(figure.as_ref().map(|f| format!("{name}={}", f.value)));
    }
    text.extend(exclusive.as_ref().map(|f| format!("exclusive={}", f.value)));
    text.extend(extra.iter().map(|extra| format!("extra[{}]", extra.words.join(" "))));
    text.join(" ")
}

#[test]
fn one_recipe_in_three_dialects_asks_for_the_same() {
    let slurm = "#SBATCH -c 8 --mem=16G -t 1:30:00\n#SBATCH --gres=gpu:a100:2 -p long -A lab --exclusive\n";
    let pbs = "#PBS -l select=1:ncpus=8:mem=16gb:ngpus=2:gpu_model=a100\n#PBS -l walltime=1:30:00,place=excl -q long -A lab\n";
    let lsf =
        "#BSUB -n 8 -R \"rusage[mem=16384] span[hosts=1]\" -W 1:30 -q long -P lab -x\n#BSUB -gpu num=2:gmodel=a100\n";
    let one = values(&asks(slurm).unwrap());
    assert_eq!(
        one,
        format!("cpus=8 mem={} time=5400 gpus=2a100 partition=long account=lab exclusive=true", 16u64 << 30)
    );
    assert_eq!(one, values(&asks(pbs).unwrap()));
    assert_eq!(one, values(&asks(lsf).unwrap()));
}

#[test]
fn directives_for_the_scheduler_at_hand_count() {
    let both = directives("#!/bin/bash\n#SBATCH -c 2\n#PBS -l ncpus=4\n");
    let cpus = |at_hand| read(&both, at_hand).unwrap().cpus.unwrap().value;
    assert_eq!(cpus(None), 2);
    assert_eq!(cpus(Some(Scheduler::Slurm)), 2);
    assert_eq!(cpus(Some(Scheduler::Pbs)), 4);
    assert_eq!(cpus(Some(Scheduler::Lsf)), 2);
    assert_eq!(cpus(Some(Scheduler::HtCondor)), 2);
    assert_eq!(read(&[], Some(Scheduler::Slurm)), Ok(Resources::default()));
}

mod properties {
    use proptest::prelude::*;

    use super::*;

    fn figures() -> impl Strategy<Value = Resources> {
        let name = || proptest::option::of("[a-zA-Z][a-zA-Z0-9_.,#$%&'!? -]{0,11}[a-z0-9]");
        (
            proptest::option::of(1u32..300),
            proptest::option::of(1u64..4_000_000),
            proptest::option::of(1u64..100_000),
            proptest::option::of((0u32..9, proptest::option::of("[a-z][a-z0-9]{0,6}"))),
            (name(), name()),
            any::<bool>(),
        )
            .prop_map(|(cpus, mem, minutes, gpus, (partition, account), exclusive)| Resources {
                cpus: cpus.and_then(said),
                mem: mem.and_then(|mb| said(Mem::Total(mb << 20))),
                time: minutes.and_then(|minutes| said(Limit::Time(Duration::from_secs(60 * minutes)))),
                gpus: gpus.and_then(|(count, kind)| said(Gpus { count, kind })),
                partition: partition.and_then(said),
                account: account.and_then(said),
                exclusive: exclusive.then(|| said(true)).flatten(),
                ..Resources::default()
            })
    }

    proptest! {
        #[test]
        fn what_is_written_reads_the_same(mut resources in figures()) {
            for scheduler in [Scheduler::Slurm, Scheduler::Pbs, Scheduler::Lsf] {
                let written = dialect(scheduler).write(&job(resources.clone()));
                prop_assert_eq!(&written.notes, &Vec::<String>::new());
                let back = asks(&written.text).map_err(|error| TestCaseError::fail(error.to_string()))?;
                let mut back = values(&back);
                for own in [" extra[-W umask=022]", "extra[-W umask=022]", " extra[-r y]", " extra[-r]", "extra[-r]", " extra[--requeue]", "extra[--requeue]"] {
                    back = back.replace(own, "");
                }
                if scheduler != Scheduler::Slurm && resources.cpus.is_none() {
                    // They are told that one is enough.
                    resources.cpus = said(1);
                }
                prop_assert_eq!(back.trim(), values(&resources));
            }
        }

        #[test]
        fn no_value_makes_a_directive_of_its_own(text in "\\PC{0,20}|[\\n\\r#SBATCHPU \"'\\\\-]{0,30}") {
            for scheduler in Scheduler::ALL {
                let count = |value: &str| {
                    let mut job = job(Resources { partition: said(value.to_owned()), account: said(value.to_owned()), ..full() });
                    job.comments = vec![value.to_owned()];
                    job.argv.push(value.to_owned());
                    job.env.insert("X".into(), value.to_owned());
                    let text = dialect(scheduler).write(&job).text;
                    let lines = text.lines().filter(|line| {
                        let bare = line.trim_start_matches([' ', '\t', '#']);
                        ["SBATCH", "PBS", "BSUB", "queue"].iter().any(|word| bare.starts_with(word))
                    });
                    lines.count()
                };
                prop_assert!(count(&text) <= count("plain"));
            }
        }

        #[test]
        fn no_directive_makes_a_reader_panic(line in "(#SBATCH|#PBS|#BSUB)( ?[-a-zA-Z0-9=:,.\\[\\]+/\"' é€]{0,12}){0,6}") {
            let _ = asks(&line);
        }

        #[test]
        fn likely_directives_make_no_reader_panic(
            marker in "#SBATCH|#PBS|#BSUB",
            flag in "(-[lWRMnNctG]|--(time|mem|nodes|gres|gpus|mem-per-gpu)|-gpu|-l (select|nodes|walltime|mem|place))[ =]",
            value in "[-0-9a-z:=,.\\[\\]/+()é ]{0,24}",
        ) {
            let _ = asks(&format!("{marker} {flag}{value}"));
        }

        #[test]
        fn no_reply_makes_a_parser_panic(code in proptest::option::of(-1i32..260), stdout in "\\PC{0,200}|[0-9|:.<>JobStaus,\\n \\[\\]{}\"]{0,200}", stderr in "\\PC{0,60}") {
            let reply = Reply { code, stdout, stderr };
            for scheduler in Scheduler::ALL {
                let dialect = dialect(scheduler);
                let _ = dialect.job_id(&reply);
                let _ = dialect.tested(&reply);
                let _ = dialect.states(&reply);
                let _ = dialect.past_states(&reply);
                let _ = dialect.found(&reply);
                let _ = dialect.settled(&reply);
            }
        }

        #[test]
        fn truncated_records_are_no_answer_or_fewer_jobs(at in 0usize..400) {
            let slurm = "1|COMPLETED|0:0|00:00:01||ovl1|None\n2|FAILED|3:0|00:00:00||ovl1|None\n";
            let condor = "[\n{ \"ClusterId\": 47, \"JobStatus\": 2, \"JobUniverse\": 7 }\n,\n{ \"ClusterId\": 48, \"JobStatus\": 1 }\n]\n";
            for (scheduler, text) in [(Scheduler::Slurm, slurm), (Scheduler::HtCondor, condor)] {
                let text = text.get(..at.min(text.len())).unwrap_or("");
                if let Ok(jobs) = dialect(scheduler).past_states(&reply(0, text, "")) {
                    prop_assert!(jobs.len() <= 2);
                }
            }
        }
    }
}
