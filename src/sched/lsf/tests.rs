//! Directives, scripts, commands and replies of LSF; the replies are those recorded on volclava 2.2, and IBM's from its
//! documentation.

use std::path::Path;

use super::Lsf;
use crate::model::resources::{Extra, JobId, Limit, Mem, Resources, Scheduler};
use crate::sched::tests::{asks, full, ids, job, refused, reply, said, silence, values};
use crate::sched::{Dialect, End, Env, JobState, Unanswered};

#[test]
fn every_form_of_a_directive_is_read() {
    const M: u64 = 1 << 20;
    for (lines, expected) in [
        ("#BSUB -n 4 -R \"span[hosts=1] rusage[mem=4000]\" -W 1:30", format!("cpus=4 mem={} time=5400", 4000 * M)),
        ("#BSUB -n4 -W90 -qshort", "cpus=4 time=5400 partition=short".into()),
        ("# BSUB -n 2,8 # comment", "cpus=2".into()),
        ("#BSUB -R \"rusage[mem=4GB]\"", format!("mem={}", 4096 * M)),
        ("#BSUB -R 'rusage[mem=1.5G:duration=10]'", format!("mem={}", 1536 * M)),
        ("#BSUB -n 4 -R rusage[mem=500/task]", format!("cpus=4 mem/cpu={}", 500 * M)),
        ("#BSUB -M 2000", format!("mem={}", 2000 * M)),
        ("#BSUB -M 2000\n#BSUB -R rusage[mem=1000]", format!("mem={} extra[-M 2000]", 1000 * M)),
        (
            "#BSUB -R \"select[ncpus>=1 && type==any]\"\n#BSUB -R \"rusage[mem=10,lic=1] order[ut]\"",
            format!(
                "mem={} extra[-R select[ncpus>=1 && type==any]] extra[-R rusage[lic=1]] extra[-R order[ut]]",
                10 * M
            ),
        ),
        ("#BSUB -R \"bigmem rusage[tmp=100]\"", format!("scratch={} extra[-R bigmem]", 100 * M)),
        (
            "#BSUB -R rusage[mem=10:tmp=20:swp=5:duration=3,lic=1:lib=2]",
            format!("mem={} scratch={} extra[-R rusage[swp=5:duration=3,lic=1:lib=2]]", 10 * M, 20 * M),
        ),
        ("#BSUB -n 4 -R span[ptile=4]", "cpus=4".into()),
        ("#BSUB -R span[ptile=4]\n#BSUB -n 2", "cpus=2".into()),
        ("#BSUB -gpu \"num=2:gmodel=A100:mode=shared\"", "gpus=2A100 extra[-gpu mode=shared]".into()),
        ("#BSUB -gpu -", "gpus=1".into()),
        (
            "#BSUB -P proj -G group -U resv -x -app dev",
            "account=proj reservation=resv exclusive=true extra[-G group] extra[-app dev]".into(),
        ),
        ("#BSUB -J \"a name\" -o o.%J -e e -oo x -eo y -u a@b -N -B -cwd /x -env none -L /bin/sh", String::new()),
        ("#BSUB -W 60/hostA", "time=3600".into()),
        ("#BSUB -n 4 \\\n#BSUB -q long", "cpus=4 partition=long".into()),
    ] {
        assert_eq!(asks(&format!("{lines}\n")).map(|read| values(&read)), Ok(expected), "{lines}");
    }
}

#[test]
fn what_cannot_be_carried_out_is_refused_with_place_and_reason() {
    for (line, expected) in [
        ("--mem 3", "recipe:1:7: directive not understood: bsub knows no flag '--mem'"),
        ("-zork 3", "recipe:1:7: directive not understood: bsub knows no flag '-zork'"),
        ("-frobnicate 3", "recipe:1:19: directive not understood: '3' belongs to no flag"),
        ("-n", "recipe:1:7: -n: a value is missing"),
        ("-n x", "recipe:1:7: -n x: 'x' is no whole number"),
        ("-W 1h", "recipe:1:7: -W 1h: '1h' is no time for LSF; write minutes or hours:minutes"),
        ("-W 1:2:3", "recipe:1:7: -W 1:2:3: '1:2:3' is no time for LSF; write minutes or hours:minutes"),
        (
            "-R rusage[mem=lots]",
            "recipe:1:7: -R rusage[mem=lots]: 'lots' is no memory for LSF; write a number of MB, or one with KB, MB, GB or TB",
        ),
        ("-R rusage[mem=1", "recipe:1:7: -R rusage[mem=1: a resource requirement is section[...] section[...]"),
        (
            "-n 8 -R span[ptile=2]",
            "recipe:1:12: -R span[ptile=2]: 8 slots with 2 on each host are several hosts, but a build is one process tree \
             | write -R \"span[hosts=1]\"",
        ),
        (
            "-R span[hosts=2]",
            "recipe:1:7: -R span[hosts=2]: it asks for 2 hosts, but a build is one process tree on one host | write -R \
             \"span[hosts=1]\"",
        ),
        (
            "-J arr[1-9]",
            "recipe:1:7: -J arr[1-9]: a build recipe is no job array: it makes one overlay | remove the [...]; ovl builds \
             many at once by itself",
        ),
        ("-w done(1)", "recipe:1:7: -w done(1): ovl orders builds by what they need | write #DEP:name/version instead"),
        ("-Is", "recipe:1:7: -Is: a build runs without a terminal | remove it"),
    ] {
        assert_eq!(refused(&format!("#BSUB {line}\n")), expected, "{line}");
    }
}

#[test]
fn a_script() {
    let mut resources = full();
    let mine = |words: &[&str]| Extra {
        scheduler: Scheduler::Lsf,
        at: "recipe:3:7".into(),
        words: words.iter().map(|word| (*word).to_owned()).collect(),
    };
    resources.extra = vec![
        mine(&["-R", "select[a]"]),
        mine(&["-R", "select[b] rusage[lic=1]"]),
        mine(&["-gpu", "mode=shared"]),
        mine(&["-G", "it's \"q\""]),
    ];
    resources.scratch = said(5 << 20);
    let written = Lsf.write(&job(resources));
    assert_eq!(
        written.text,
        r#"#!/bin/bash
#BSUB -J ovl-samtools-1.21-k3
#BSUB -o /dev/null
#BSUB -r
#BSUB -n 8
#BSUB -R "select[(a) && (b)] span[hosts=1] rusage[mem=16384:tmp=5:lic=1]"
#BSUB -W 1:30
#BSUB -gpu num=2:gmodel=a100:mode=shared
#BSUB -q long
#BSUB -P lab

# samtools/1.21 for u
# . BSUB -q evil
export OVL_STEP='a b'
exec >>'/home/u/logs/samtools.'"${LSB_JOBID}"'.log' 2>&1
cd '/home/u/state/run 1' || exit 1
exec '/opt/ovl/bin/ovl' 'internal' 'it'\''s'
"#
    );
    assert_eq!(written.notes, ["a flag with characters that bsub cannot take is left out (recipe:3:7)"]);
    let none =
        Resources { mem: said(Mem::Node), time: said(Limit::Unlimited), qos: said("x".into()), ..Resources::default() };
    let written = Lsf.write(&job(none));
    assert!(written.text.contains("#BSUB -n 1\n#BSUB -R \"span[hosts=1]\"\n\n"), "{}", written.text);
    assert_eq!(written.notes.len(), 3);
}

#[test]
fn no_line_of_the_script_is_a_directive_that_was_not_meant() {
    let mut job = job(Resources { partition: said("a\n#BSUB -P x".into()), ..Resources::default() });
    job.argv.push("x\n#BSUB -P evil\n_USER_SCRIPT_\n".into());
    job.comments.push("#BSUB -P evil\r\n BSUB -P evil".into());
    let text = Lsf.write(&job).text;
    let own: Vec<&str> = text.lines().filter(|line| line.trim_start_matches(['#', ' ']).starts_with("BSUB")).collect();
    assert_eq!(own.len(), 5, "{text}");
    assert!(
        !own.iter().any(|line| line.contains("evil")) && !text.lines().any(|line| line == "_USER_SCRIPT_"),
        "{text}"
    );
}

#[test]
fn commands() {
    let cmd = Lsf.submit(Path::new("/s/job.sh"), "#!/bin/bash\n", &ids(&["1", "2"]), false);
    assert_eq!(cmd.to_string(), "bsub -w 'done(1) && done(2)'");
    assert_eq!(cmd.stdin.as_deref(), Some(&b"#!/bin/bash\n"[..]));
    assert_eq!(Lsf.submit(Path::new("/s/job.sh"), "", &[], true).to_string(), "bsub -H");
    assert_eq!(Lsf.status(&ids(&["1", "2"]), "u").to_string(), "bjobs -u all -a -UF 1 2");
    assert_eq!(Lsf.past(&ids(&["1"])).unwrap().to_string(), "bhist -n 0 -l 1");
    assert_eq!(Lsf.find("n-1").to_string(), "bjobs -u all -a -o jobid -J n-1");
    assert_eq!(Lsf.cancel(&ids(&["1", "2"]))[0].to_string(), "bkill 1 2");
    assert_eq!(Lsf.release(&ids(&["1", "2"]))[0].to_string(), "bresume 1 2");
}

#[test]
fn the_id_of_a_submission() {
    let id = |id: &str| Ok(JobId(id.into()));
    assert_eq!(Lsf.job_id(&reply(0, "Job <297> is submitted to default queue <normal>.\n", "")), id("297"));
    assert_eq!(Lsf.job_id(&reply(0, "a word of the site\nJob <8> is submitted to queue <short>.\n", "")), id("8"));
    for (answer, refused) in [
        (reply(0, "", ""), false),
        (silence(), false),
        (reply(255, "", "batch system daemon not responding ... still trying\n"), false),
        (reply(255, "", "Connection refused by server. Job not submitted.\n"), true),
        (reply(255, "", "248: No matching job found. Job not submitted.\n"), true),
        (reply(255, "", "Bad resource requirement syntax. Job not submitted.\n"), true),
    ] {
        match Lsf.job_id(&answer) {
            Err(Unanswered::Refused(_) | Unanswered::Away(_)) => assert!(refused, "{answer:?}"),
            Err(Unanswered::Uncertain(_)) => assert!(!refused, "{answer:?}"),
            other => panic!("{answer:?}: {other:?}"),
        }
    }
}

const RECORDED: &str = "
Job <298>, Job Name <two>, User <ovltest>, Project <proj1>, Status <RUN>, Queue <normal>, Command <echo Status <DONE>>
Fri Nov 20 23:43:11: Submitted from host <vm>, CWD <$HOME/work>, Output File </dev/null>, 3 Task(s);
Fri Nov 20 23:43:15: Started 3 Task(s) on Host(s) <vm> <vm> <vm>, Allocated 3 Slot(s) on Host(s) <vm> <vm> <vm>;

 RUNLIMIT                
 5.0 min                 

 SCHEDULING PARAMETERS:
           r15s   r1m  r15m   ut      pg    io   ls    it    tmp    swp    mem
 loadSched   -     -     -     -       -     -    -     -     -      -      -  

------------------------------------------------------------------------------

Job <226>, Job Name <CF>, User <ovltest>, Project <default>, Status <PEND>, Queue <normal>, Command <true>
Fri Nov 20 23:37:36: Submitted from host <vm>, CWD <$HOME/work>, Dependency Condition <done(225)>;
 PENDING REASONS:
 Dependency condition invalid or never satisfied: 1 host;

Job <300>, Job Name <held>, User <ovltest>, Project <default>, Status <PSUSP>, Queue <normal>, Command <true>
Fri Nov 20 23:37:36: Submitted from host <vm>, CWD <$HOME/work>;
 PENDING REASONS:
 The job was suspended by the user while pending: 1 host;

Job <327>, Job Name <sigs>, User <ovltest>, Project <default>, Status <DONE>, Queue <normal>, Command <x>
Fri Nov 20 23:48:07: Started on <vm>, Execution Home </home/ovltest>, Execution CWD </home/ovltest/work>;
Fri Nov 20 23:49:57: Done successfully. The CPU time used is 0.2 seconds.

 MEMORY USAGE:
 MAX MEM: 26 Mbytes;  AVG MEM: 26 Mbytes

Job <297>, Job Name <a>, User <ovltest>, Project <default>, Status <EXIT>, Queue <normal>, Command <exit 3>
Fri Nov 20 23:43:15: Started on <vm>, Execution Home </home/ovltest>;
Fri Nov 20 23:43:40: Exited with exit code 3. The CPU time used is 0.0 seconds.

Job <319>, Job Name <a>, User <ovltest>, Project <default>, Status <EXIT>, Queue <normal>, Command <x>
Fri Nov 20 23:43:15: Started on <vm>, Execution Home </home/ovltest>;
Fri Nov 20 23:45:50: Exited by signal 9. The CPU time used is 0.0 seconds.

Job <328>, Job Name <a>, User <ovltest>, Project <default>, Status <EXIT>, Queue <normal>, Command <x>
Fri Nov 20 23:43:15: Started on <vm>, Execution Home </home/ovltest>;
Fri Nov 20 23:51:05: Exited with exit code 140. The CPU time used is 0.0 seconds.

Job <400>, Job Name <a>, User <u>, Project <default>, Status <EXIT>, Queue <normal>, Command <x>
Fri Nov 20 23:43:15: Started 1 Task(s) on Host(s) <4*hostA>, Allocated 4 Slot(s) on Host(s) <4*hostA>;
Fri Nov 20 23:51:05: Exited with exit code 130. The CPU time used is 0.0 seconds.
Fri Nov 20 23:51:05: Completed <exit>; TERM_MEMLIMIT: job killed after reaching LSF memory usage limit.

Job <401>, Job Name <a>, User <u>, Project <default>, Status <EXIT>, Queue <normal>, Command <x>
Fri Nov 20 23:51:05: Exited; TERM_OWNER: job killed by owner.

Job <402>, Job Name <a>, User <u>, Project <default>, Status <UNKWN>, Queue <normal>, Command <x>
";

#[test]
fn states() {
    let jobs = Lsf.states(&reply(255, RECORDED, "Job <424242> is not found\n")).unwrap();
    let state = |id: &str| jobs[&JobId(id.into())].state.clone();
    assert_eq!(jobs.len(), 10);
    assert_eq!(state("298"), JobState::Running);
    assert_eq!(jobs[&JobId("298".into())].node.as_deref(), Some("vm"));
    assert_eq!(state("226"), JobState::Pending);
    let reason = jobs[&JobId("226".into())].reason.as_deref();
    assert_eq!(reason, Some("Dependency condition invalid or never satisfied: 1 host"));
    assert_eq!(state("300"), JobState::Held);
    assert_eq!(state("327"), JobState::Ended(End::Done));
    assert_eq!(jobs[&JobId("327".into())].used.mem, Some(26 << 20));
    assert_eq!(state("297"), JobState::Ended(End::Failed { code: Some(3), signal: None }));
    assert_eq!(state("319"), JobState::Ended(End::Failed { code: None, signal: Some(9) }));
    assert_eq!(state("328"), JobState::Ended(End::TimedOut));
    assert_eq!(state("400"), JobState::Ended(End::OutOfMemory));
    assert_eq!(jobs[&JobId("400".into())].node.as_deref(), Some("hostA"));
    assert_eq!(state("401"), JobState::Ended(End::Cancelled));
    assert_eq!(state("402"), JobState::Other("UNKWN".into()));
}

#[test]
fn finished_jobs() {
    let text = "\nJob <248>, Job Name <PA>, User <ovltest>, Project <default>, Command <true>\n\
        Fri Nov 20 23:38:58: Submitted from host <vm>, to Queue <normal>, CWD <$HOME/work>;\n\
        Fri Nov 20 23:39:02: Dispatched to <vm>;\n\
        Fri Nov 20 23:39:02: Running with execution home </home/ovltest>, Execution CWD\n                     </home/ovltest/work>, Execution Pid <24188>;\n\
        Fri Nov 20 23:39:02: Done successfully. The CPU time used is 0.0 seconds;\n\
        Fri Nov 20 23:39:02: Post job process failed;\n\nSummary of time in seconds\n\
        ------\n\nJob <319>, Job Name <sigs>, User <ovltest>, Project <default>, Command <x>\n\
        Fri Nov 20 23:45:27: Dispatched to <vm>;\n\
        Fri Nov 20 23:45:28: Signal <KILL> requested by user or administrator <ovltest>\n\
        Fri Nov 20 23:45:50: Exited by signal 9. The CPU time used is 0.0 seconds;\n";
    let jobs = Lsf.past_states(&reply(0, text, "")).unwrap();
    assert_eq!(jobs[&JobId("248".into())].state, JobState::Ended(End::Done));
    assert_eq!(jobs[&JobId("248".into())].word, "DONE");
    assert_eq!(jobs[&JobId("319".into())].state, JobState::Ended(End::Cancelled));
    assert_eq!(Lsf.past_states(&reply(255, "No matching job found\n", "")), Ok([].into()));
}

#[test]
fn replies_that_are_none() {
    assert_eq!(Lsf.states(&reply(255, "", "Job <424242> is not found\n")), Ok([].into()));
    assert_eq!(Lsf.states(&reply(254, "", "No unfinished job found\n")), Ok([].into()));
    assert_eq!(Lsf.states(&reply(0, "", "")), Ok([].into()));
    let down = "batch system daemon not responding ... still trying\n";
    assert!(matches!(Lsf.states(&reply(255, "", down)), Err(Unanswered::Uncertain(_))));
    assert!(matches!(Lsf.states(&silence()), Err(Unanswered::Uncertain(_))));
    assert!(matches!(Lsf.states(&reply(0, "JOBID USER\n1 x\n", "")), Err(Unanswered::Odd(_))));
    assert_eq!(Lsf.found(&reply(0, "JOBID\n297\n", "")), Ok(ids(&["297"])));
    assert_eq!(Lsf.found(&reply(254, "", "Job <nosuch> is not found\n")), Ok(vec![]));
    assert!(matches!(Lsf.found(&reply(0, "JOBID\nx y\n", "")), Err(Unanswered::Odd(_))));
    assert_eq!(Lsf.settled(&reply(0, "Job <299> is being terminated\n", "")), Ok(()));
    assert_eq!(Lsf.settled(&reply(255, "Job <1> is being terminated\n", "Job <9>: No matching job found\n")), Ok(()));
    assert!(matches!(Lsf.settled(&reply(255, "", "Job <9>: User permission denied\n")), Err(Unanswered::Refused(_))));
    assert!(matches!(Lsf.settled(&reply(255, "", down)), Err(Unanswered::Uncertain(_))));
}

#[test]
fn inside_a_job() {
    let env = |pairs: &[(&str, &str)]| -> Env {
        pairs.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect()
    };
    let job = env(&[("LSB_JOBID", "7"), ("LSB_MCPU_HOSTS", "vm 4 "), ("LSB_HOSTS", "vm vm vm vm")]);
    assert_eq!(Lsf.inside(&job), Some(JobId("7".into())));
    assert_eq!(Lsf.granted(&job).cpus, Some(4));
    assert_eq!(Lsf.granted(&env(&[("LSB_DJOB_NUMPROC", "8")])).cpus, Some(8));
    assert_eq!(Lsf.granted(&env(&[("LSB_MCPU_HOSTS", "vm x")])).cpus, None);
    for (name, poison) in
        [("LSF_ENVDIR", false), ("LSB_JOBID", true), ("BSUB_QUIET", true), ("LS_JOBPID", true), ("LESS", false)]
    {
        assert_eq!(Lsf.poisons(name), poison, "{name}");
    }
}
