//! Directives, scripts, commands and replies of Slurm; the replies are those recorded on 22.05.8.

use std::path::Path;
use std::time::Duration;

use super::Slurm;
use crate::model::resources::{Extra, JobId, Limit, Mem, Resources, Scheduler};
use crate::sched::tests::{asks, full, ids, job, refused, reply, said, silence, values};
use crate::sched::{Dialect, End, Env, JobState, Unanswered};

#[test]
fn every_form_of_a_directive_is_read() {
    const G: u64 = 1 << 30;
    for (line, expected) in [
        ("-c8", "cpus=8".to_owned()),
        ("-c 8", "cpus=8".into()),
        ("--cpus-per-task=8", "cpus=8".into()),
        ("--cpus-per-task 8", "cpus=8".into()),
        ("--cpus-per-t=8", "cpus=8".into()),
        ("-n1 -t1:00 -pshort", "time=60 partition=short".into()),
        ("-N1 -n 1 -c4 --mem=8G -t 2-12 # all on one line", format!("cpus=4 mem={} time=216000", 8 * G)),
        ("--mem=500", format!("mem={}", 500 << 20)),
        ("--mem=0", "mem=node".into()),
        ("--mem=8GB", format!("mem={}", 8 * G)),
        ("--mem=1T", format!("mem={}", 1024 * G)),
        ("--mem=512k", "mem=524288".into()),
        ("--mem-per-cpu=2g -c 4", format!("cpus=4 mem/cpu={}", 2 * G)),
        ("--mem-per-gpu=4G --gpus=2", format!("mem={} gpus=2", 8 * G)),
        ("--cpus-per-gpu=6 -G 2", "cpus=12 gpus=2".into()),
        ("-t 30", "time=1800".into()),
        ("-t 30:00", "time=1800".into()),
        ("-t 1:30:00", "time=5400".into()),
        ("-t 1-0", "time=86400".into()),
        ("-t 1-12:30", "time=131400".into()),
        ("-t 1-12:30:15", "time=131415".into()),
        ("-t 0", "time=no".into()),
        ("--time=UNLIMITED", "time=no".into()),
        ("--time=infinite", "time=no".into()),
        ("--gres=gpu", "gpus=1".into()),
        ("--gres=gpu:2", "gpus=2".into()),
        ("--gres=gpu:a100:2(S:0-1)", "gpus=2a100".into()),
        ("--gres=gpu:a100,lscratch:20", "gpus=1a100 extra[--gres=lscratch:20]".into()),
        ("--gpus-per-node=v100:4", "gpus=4v100".into()),
        ("--gpus=a100:1,v100:1", "extra[--gpus=a100:1,v100:1]".into()),
        ("--exclusive", "exclusive=true".into()),
        ("--exclusive=user", "extra[--exclusive=user]".into()),
        ("--tmp=20G", format!("scratch={}", 20 * G)),
        ("-A lab -q high --reservation=course", "account=lab qos=high reservation=course".into()),
        ("-C 'haswell|knl' --comment=a#b", "extra[-C haswell|knl] extra[--comment=a#b]".into()),
        ("--nodes=1-1 --ntasks=1 --nodes=1-4 -N 1,2,4", String::new()),
        (
            "-J \"a name\" -o /x/%j -e e --mail-type=ALL --mail-user=a@b --export=NONE -D /tmp --signal=B:TERM@60",
            String::new(),
        ),
    ] {
        let text = format!("#!/bin/bash\n#SBATCH {line}\n");
        assert_eq!(asks(&text).map(|read| values(&read)), Ok(expected), "{line}");
    }
    let last = asks("#SBATCH -c 2\n#SBATCH -c 4\n#SBATCH --mem=1G\n#SBATCH --mem-per-cpu=1G\n").unwrap();
    assert_eq!(values(&last), format!("cpus=4 mem/cpu={G}"));
    assert_eq!(last.cpus.unwrap().source.to_string(), "recipe:2:9 -c 4");
}

#[test]
fn what_cannot_be_carried_out_is_refused_with_place_and_reason() {
    for (line, expected) in [
        ("--frobnicate=3", "recipe:1:9: directive not understood: sbatch knows no flag '--frobnicate'"),
        (
            "--cpu-per-task=3",
            "recipe:1:9: directive not understood: sbatch knows no flag '--cpu-per-task' | did you mean --cpus-per-task?",
        ),
        ("--mem-p=3", "recipe:1:9: directive not understood: '--mem-p' can be --mem-per-cpu or --mem-per-gpu"),
        ("-c 4 -Z", "recipe:1:14: directive not understood: sbatch knows no flag '-Z' (in '-Z')"),
        ("-c 4 8", "recipe:1:14: directive not understood: '8' belongs to no flag"),
        ("-c", "recipe:1:9: -c: a value is missing"),
        ("-c many", "recipe:1:9: -c many: 'many' is no whole number"),
        ("-c 0", "recipe:1:9: -c 0: '0' is less than 1"),
        ("--hold=yes", "recipe:1:9: --hold=yes: --hold takes no value"),
        (
            "--mem=1.5G",
            "recipe:1:9: --mem=1.5G: '1.5G' is no memory for Slurm; write a whole number of MB, or one with K, M, G or T",
        ),
        (
            "-t 1h",
            "recipe:1:9: -t 1h: '1h' is no time for Slurm; write minutes, min:sec, h:min:sec, days-h, days-h:min or \
             days-h:min:sec",
        ),
        (
            "-n 4",
            "recipe:1:9: -n 4: it asks for 4 tasks, but a build is one process tree | for 4 CPUs write --cpus-per-task=4",
        ),
        (
            "--ntasks-per-node=2",
            "recipe:1:9: --ntasks-per-node=2: it asks for 2 tasks, but a build is one process tree | for 2 CPUs write \
             --cpus-per-task=2",
        ),
        (
            "-N 2-4",
            "recipe:1:9: -N 2-4: it asks for 2 nodes, but a build is one process tree on one node | write --nodes=1, and \
             --cpus-per-task for its CPUs",
        ),
        (
            "--array=1-9",
            "recipe:1:9: --array=1-9: a build recipe is no job array: it makes one overlay | remove it; ovl builds many at \
             once by itself",
        ),
        (
            "-d afterok:1",
            "recipe:1:9: -d afterok:1: ovl orders builds by what they need | write #DEP:name/version instead",
        ),
        ("--partition=", "recipe:1:9: --partition=: the value is empty or holds control characters"),
        (
            "--gres=gpu:x:y:z",
            "recipe:1:9: --gres=gpu:x:y:z: 'x:y:z' is no number of GPUs; write a number, or kind:number",
        ),
        ("--mem-per-gpu=4G", "recipe:1:9: --mem-per-gpu=4G: no GPUs are asked for | write --mem=…"),
    ] {
        let text = refused(&format!("#SBATCH {line}\n"));
        assert_eq!(text, expected, "{line}");
    }
}

#[test]
fn a_script() {
    let mut resources = full();
    let mine = |words: &[&str], scheduler| Extra {
        scheduler,
        at: "recipe:3:9".into(),
        words: words.iter().map(|word| (*word).to_owned()).collect(),
    };
    resources.extra = vec![
        mine(&["-C", "a|b"], Scheduler::Slurm),
        mine(&["--gres=lscratch:20"], Scheduler::Slurm),
        mine(&["-W", "x=y"], Scheduler::Pbs),
        mine(&["--comment=a\nrm -rf"], Scheduler::Slurm),
    ];
    let written = Slurm.write(&job(resources));
    assert_eq!(
        written.text,
        r#"#!/bin/bash
#SBATCH --job-name=ovl-samtools-1.21-k3
#SBATCH --output=/home/u/logs/samtools.%j.log
#SBATCH --open-mode=append
#SBATCH --chdir="/home/u/state/run 1"
#SBATCH --export=ALL
#SBATCH --requeue
#SBATCH --nodes=1
#SBATCH --ntasks=1
#SBATCH --cpus-per-task=8
#SBATCH --mem=16384M
#SBATCH --time=01:30:00
#SBATCH --gres=gpu:a100:2,lscratch:20
#SBATCH --partition=long
#SBATCH --account=lab
#SBATCH -C "a|b"

# samtools/1.21 for u
# . BSUB -q evil
export OVL_STEP='a b'
cd '/home/u/state/run 1' || exit 1
exec '/opt/ovl/bin/ovl' 'internal' 'it'\''s'
"#
    );
    assert_eq!(
        written.notes,
        [
            "-W x=y is PBS's and is left out for Slurm (recipe:3:9)",
            "a flag with control characters is left out (recipe:3:9)"
        ]
    );
}

#[test]
fn nothing_said_and_hostile_values() {
    let mut plain = job(Resources::default());
    plain.output = "/d/100%/x%j".into();
    let text = Slurm.write(&plain).text;
    assert!(text.contains("#SBATCH --output=/d/100%%/x%j\n"), "{text}");
    assert!(!text.contains("--mem") && !text.contains("--time") && !text.contains("--cpus"), "{text}");

    let evil = Resources { partition: said("x\n#SBATCH --uid=0".into()), ..Resources::default() };
    let mut job = job(evil);
    job.argv.push("a\n#BSUB -q x\n".into());
    job.env.insert("X".into(), "1\n_USER_SCRIPT_".into());
    job.env.insert("BAD NAME".into(), "1".into());
    job.comments = vec!["two\nlines\r\n#SBATCH -n 9".into()];
    let written = Slurm.write(&job);
    assert_eq!(written.notes.len(), 2, "{:?}", written.notes);
    assert_eq!(written.notes[0], "the partition cannot be said to Slurm and is left out (--x)");
    assert!(written.text.contains(r"$'a\n#BSUB -q x\n'"), "{}", written.text);
    assert!(written.text.contains("# . #SBATCH -n 9\n"), "{}", written.text);
    let none = written.text.lines().filter(|line| line.contains("uid") || line.trim() == "_USER_SCRIPT_").count();
    assert_eq!(none, 0);
    let all = Resources { mem: said(Mem::Node), time: said(Limit::Unlimited), ..Resources::default() };
    let text = Slurm.write(&super::super::tests::job(all)).text;
    assert!(text.contains("--mem=0\n") && text.contains("--time=UNLIMITED\n"));
}

#[test]
fn commands() {
    let script = Path::new("/s/job.sh");
    assert_eq!(Slurm.submit(script, "", &[], false).to_string(), "sbatch --parsable /s/job.sh");
    assert_eq!(
        Slurm.submit(script, "", &ids(&["1", "2", "1"]), true).to_string(),
        "sbatch --parsable --hold --dependency=afterok:1:2 --kill-on-invalid-dep=yes /s/job.sh"
    );
    assert_eq!(Slurm.test(script).unwrap().to_string(), "sbatch --test-only /s/job.sh");
    assert_eq!(
        Slurm.status(&ids(&["1", "2"]), "u").to_string(),
        "squeue -h -t all -O JobArrayID:32,State:24,exit_code:12,TimeUsed:24,BatchHost:80,Reason:200 -j 1,2"
    );
    assert_eq!(
        Slurm.past(&ids(&["1", "2"])).unwrap().to_string(),
        "sacct -n -P -o JobID,State,ExitCode,Elapsed,MaxRSS,NodeList,Reason -j 1,2"
    );
    assert_eq!(Slurm.find("n-1").to_string(), "squeue -h -t all -o %i -n n-1");
    assert_eq!(Slurm.release(&ids(&["1", "2"]))[0].to_string(), "scontrol release 1,2");
    assert_eq!(Slurm.cancel(&ids(&["1", "2"]))[0].to_string(), "scancel 1 2");
}

#[test]
fn the_id_of_a_submission() {
    let id = |id: &str| Ok(JobId(id.into()));
    assert_eq!(Slurm.job_id(&reply(0, "2\n", "")), id("2"));
    assert_eq!(Slurm.job_id(&reply(0, "2;ovl\n", "sbatch: a word of the site\n")), id("2"));
    for (answer, refused) in [
        (reply(0, "", ""), false),
        (reply(0, "no id here\n", ""), false),
        (silence(), false),
        (reply(1, "", "sbatch: error: Batch job submission failed: Socket timed out on send/recv operation\n"), false),
        (reply(1, "", "sbatch: error: Batch job submission failed: Zero Bytes were transmitted or received\n"), false),
        (
            reply(
                1,
                "",
                "sbatch: error: Batch job submission failed: Unable to contact slurm controller (connect failure)\n",
            ),
            true,
        ),
        (reply(1, "", "sbatch: error: invalid partition specified: nosuch\n"), true),
        (reply(255, "", "sbatch: error: Invalid --mem specification\n"), true),
    ] {
        match Slurm.job_id(&answer) {
            Err(Unanswered::Refused(_) | Unanswered::Away(_)) => assert!(refused, "{answer:?}"),
            Err(Unanswered::Uncertain(_)) => assert!(!refused, "{answer:?}"),
            other => panic!("{answer:?}: {other:?}"),
        }
    }
    let no =
        reply(1, "", "sbatch: error: invalid partition specified: nosuch\nallocation failure: Invalid partition\n");
    assert_eq!(
        Slurm.tested(&no),
        Err(Unanswered::Refused("invalid partition specified: nosuch; allocation failure: Invalid partition".into()))
    );
    assert_eq!(
        Slurm.tested(&reply(0, "", "sbatch: Job 50 to start at 2026-11-20T23:37:33 using 1 processors\n")),
        Ok(())
    );
}

/// A line of squeue as its columns make it.
fn row(cells: [&str; 6]) -> String {
    let [id, state, exit, time, node, reason] = cells;
    format!("{id:<32}{state:<24}{exit:<12}{time:<24}{node:<80}{reason:<200}\n")
}

#[test]
fn states() {
    let text = [
        row(["24", "RUNNING", "0", "0:02", "ovl3", "None"]),
        row(["25", "PENDING", "0", "0:00", "n/a", "JobHeldUser"]),
        row(["26", "PENDING", "0", "0:00", "n/a", "DependencyNeverSatisfied"]),
        row(["27", "COMPLETED", "0", "1-02:03:04", "ovl1", "None"]),
        row(["28", "FAILED", "768", "0:01", "ovl1", "NonZeroExitCode"]),
        row(["29", "FAILED", "9", "0:01", "ovl1", "JobLaunchFailure"]),
        row(["30", "FAILED", "4021", "0:00", "ovl1", "JobLaunchFailure"]),
        row(["31", "CANCELLED", "0", "20777-00:00:00", "n/a", "None"]),
        row(["32", "CANCELLED", "0", "0:00", "n/a", "DependencyNeverSatisfied"]),
        row(["33", "TIMEOUT", "0", "1:29", "ovl1", "TimeLimit"]),
        row(["34", "OUT_OF_MEMORY", "125", "0:03", "ovl1", "OutOfMemory"]),
        row(["35", "NODE_FAIL", "0", "0:03", "ovl1", "NodeDown"]),
        row(["36", "QUANTUM", "0", "0:03", "ovl1", "None"]),
        row(["37", "COMPLETING", "0", "0:03", "ovl1", "None"]),
    ]
    .concat();
    let jobs = Slurm.states(&reply(0, &text, "")).unwrap();
    let state = |id: &str| jobs[&JobId(id.into())].state.clone();
    assert_eq!(state("24"), JobState::Running);
    assert_eq!(jobs[&JobId("24".into())].node.as_deref(), Some("ovl3"));
    assert_eq!(jobs[&JobId("24".into())].reason, None);
    assert_eq!(state("25"), JobState::Held);
    assert_eq!(state("26"), JobState::Pending);
    assert_eq!(state("27"), JobState::Ended(End::Done));
    assert_eq!(jobs[&JobId("27".into())].used.time, Some(Duration::from_secs(93_784)));
    assert_eq!(state("28"), JobState::Ended(End::Failed { code: Some(3), signal: None }));
    assert_eq!(state("29"), JobState::Ended(End::Failed { code: None, signal: Some(9) }));
    assert_eq!(state("30"), JobState::Ended(End::NotStarted("JobLaunchFailure".into())));
    assert_eq!(state("31"), JobState::Ended(End::Cancelled));
    assert_eq!(jobs[&JobId("31".into())].used.time, None);
    assert_eq!(state("32"), JobState::Ended(End::NeverRan));
    assert_eq!(state("33"), JobState::Ended(End::TimedOut));
    assert_eq!(state("34"), JobState::Ended(End::OutOfMemory));
    assert_eq!(state("35"), JobState::Ended(End::NodeLost));
    assert_eq!(state("36"), JobState::Other("QUANTUM".into()));
    assert_eq!(state("37"), JobState::Running);
    assert_eq!(Slurm.states(&reply(1, "", "slurm_load_jobs error: Invalid job id specified\n")), Ok([].into()));
    assert_eq!(Slurm.states(&reply(0, "", "")), Ok([].into()));
    let down = "slurm_load_jobs error: Unable to contact slurm controller (connect failure)\n";
    assert!(matches!(Slurm.states(&reply(1, "", down)), Err(Unanswered::Uncertain(_))));
    assert!(matches!(Slurm.states(&silence()), Err(Unanswered::Uncertain(_))));
    assert!(matches!(Slurm.states(&reply(0, "garbage\n", "")), Err(Unanswered::Odd(_))));
}

#[test]
fn finished_jobs() {
    let text = "1|COMPLETED|0:0|00:00:01||ovl1|None\n1.batch|COMPLETED|0:0|00:00:01|1234K|ovl1|\n1.0|COMPLETED|0:0|00:00:00|2M|ovl1|\n\
                2|FAILED|3:0|00:00:00||ovl1|None\n3|CANCELLED|0:0|00:00:00||None assigned|Dependency\n\
                5|CANCELLED by 1002|0:0|00:00:01||ovl1|None\n8|FAILED|0:9|00:00:00||ovl1|a|b\n\
                9|OUT_OF_MEMORY|0:125|00:00:02||ovl1|OutOfMemory\n";
    let jobs = Slurm.past_states(&reply(0, text, "")).unwrap();
    let view = |id: &str| &jobs[&JobId(id.into())];
    assert_eq!(jobs.len(), 6);
    assert_eq!(view("1").state, JobState::Ended(End::Done));
    assert_eq!(view("1").used.mem, Some(2 << 20));
    assert_eq!(view("2").state, JobState::Ended(End::Failed { code: Some(3), signal: None }));
    assert_eq!(view("3").state, JobState::Ended(End::NeverRan));
    assert_eq!(view("5").state, JobState::Ended(End::Cancelled));
    assert_eq!(view("5").word, "CANCELLED by 1002");
    assert_eq!(view("8").state, JobState::Ended(End::Failed { code: None, signal: Some(9) }));
    assert_eq!(view("9").state, JobState::Ended(End::OutOfMemory));
    let off = reply(1, "", "Slurm accounting storage is disabled\n");
    assert_eq!(Slurm.past_states(&off), Err(Unanswered::Refused("Slurm accounting storage is disabled".into())));
    for bad in ["1|COMPLETED|0:0", "x|y|z|a|b|c|d", "|||||||"] {
        assert!(matches!(Slurm.past_states(&reply(0, bad, "")), Err(Unanswered::Odd(_))), "{bad}");
    }
}

#[test]
fn orders_and_finding() {
    assert_eq!(Slurm.found(&reply(0, "28\n", "")), Ok(ids(&["28"])));
    assert_eq!(Slurm.found(&reply(0, "", "")), Ok(vec![]));
    assert!(matches!(Slurm.found(&reply(0, "28_[1-3]\n", "")), Err(Unanswered::Odd(_))));
    assert_eq!(Slurm.settled(&reply(0, "", "")), Ok(()));
    let done = "Job has already finished for job 46\nslurm_suspend error: Job has already finished\n";
    assert_eq!(Slurm.settled(&reply(1, "", done)), Ok(()));
    let gone = "scancel: error: Kill job error on job id 48: Invalid job id specified\n";
    assert_eq!(Slurm.settled(&reply(1, "", gone)), Ok(()));
    let no = "scancel: error: Kill job error on job id 47: Access/permission denied\n";
    assert!(matches!(Slurm.settled(&reply(210, "", no)), Err(Unanswered::Refused(_))));
    let down = "scancel: error: Kill job error on job id 1: Unable to contact slurm controller (connect failure)\n";
    assert!(matches!(Slurm.settled(&reply(8, "", down)), Err(Unanswered::Uncertain(_))));
}

#[test]
fn inside_a_job() {
    let env = |pairs: &[(&str, &str)]| -> Env {
        pairs.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect()
    };
    let job = env(&[("SLURM_JOB_ID", "7"), ("SLURM_CPUS_ON_NODE", "4"), ("SLURM_MEM_PER_CPU", "100")]);
    assert_eq!(Slurm.inside(&job), Some(JobId("7".into())));
    let granted = Slurm.granted(&job);
    assert_eq!((granted.cpus, granted.mem), (Some(4), Some(400 << 20)));
    let granted = Slurm.granted(&env(&[("SLURM_JOB_CPUS_PER_NODE", "8(x1)"), ("SLURM_MEM_PER_NODE", "0")]));
    assert_eq!((granted.cpus, granted.mem), (Some(8), None));
    assert_eq!(Slurm.inside(&env(&[("SLURM_JOB_ID", "")])), None);
    for (name, poison) in [("SLURM_CONF", false), ("SLURM_JOB_ID", true), ("SBATCH_PARTITION", true), ("HOME", false)] {
        assert_eq!(Slurm.poisons(name), poison, "{name}");
    }
    assert_eq!(Slurm.job_name("ovl samtools/1.21 (k3)"), "ovl-samtools-1.21-k3-");
    assert_eq!(Slurm.job_name(&"x".repeat(100)).len(), 60);
}

#[test]
fn what_partitions_allow() {
    let reply = crate::sched::Reply {
        code: Some(0),
        stdout: "short*|1:00:00|4|4000\nlong|1-00:00:00|4+|4000+\nlong|1-00:00:00|64|256000\nopen|infinite|2|n/a\n?\n"
            .into(),
        stderr: String::new(),
    };
    let all = Slurm.allowed(&reply);
    let hours = |one: &crate::sched::limits::Allowed| one.time.map(|time| time.as_secs() / 3600);
    let told: Vec<_> = all.iter().map(|one| (one.name.as_str(), one.is_default, hours(one), one.cpus)).collect();
    assert_eq!(
        told,
        [("short", true, Some(1), Some(4)), ("long", false, Some(24), Some(64)), ("open", false, None, Some(2))]
    );
    assert_eq!(all.iter().map(|one| one.mem).collect::<Vec<_>>(), [Some(4000 << 20), Some(256_000 << 20), None]);
    assert!(Slurm.allowed(&crate::sched::Reply { stderr: "sinfo: fatal".into(), ..Default::default() }).is_empty());
}
