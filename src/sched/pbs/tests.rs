//! Directives, scripts, commands and replies of PBS; the replies are those recorded on OpenPBS 23.06.

use std::path::Path;
use std::time::Duration;

use super::Pbs;
use crate::model::resources::{Extra, JobId, Limit, Mem, Resources, Scheduler};
use crate::sched::tests::{asks, full, ids, job, refused, reply, said, silence, values};
use crate::sched::{Dialect, End, Env, JobState, Unanswered};

#[test]
fn every_form_of_a_directive_is_read() {
    const G: u64 = 1 << 30;
    for (lines, expected) in [
        ("#PBS -l select=1:ncpus=4:mem=8gb:ngpus=2:gpu_model=a100", format!("cpus=4 mem={} gpus=2a100", 8 * G)),
        ("#PBS -l select=ncpus=4", "cpus=4".into()),
        ("#PBS -lncpus=4,mem=8gb,walltime=1:00:00", format!("cpus=4 mem={} time=3600", 8 * G)),
        ("#PBS -l nodes=1:ppn=8,walltime=90", "cpus=8 time=90".into()),
        ("#PBS -l nodes=1:ppn=8:gpus=1 -q short -A lab", "cpus=8 gpus=1 partition=short account=lab".into()),
        ("#PBS -P proj", "account=proj".into()),
        ("#PBS -l walltime=1:00", "time=60".into()),
        ("#PBS -l walltime=48:00:00", "time=172800".into()),
        ("#PBS -l mem=8192", "mem=8192".into()),
        ("#PBS -l mem=8G", format!("mem={}", 8 * G)),
        ("#PBS -l mem=8gw", format!("mem={}", 64 * G)),
        ("  #PBS -l ncpus=2\n#PBS-l mem=1mb", "cpus=2 mem=1048576".into()),
        ("#PBS -l select=1:ncpus=2:mem=1gb \\\n#PBS -l walltime=60", format!("cpus=2 mem={G} time=60")),
        ("#PBS -l place=scatter:excl:group=rack", "exclusive=true extra[-l place=group=rack]".into()),
        (
            "#PBS -l select=1:ncpus=2:mpiprocs=2:bigmem=true",
            "cpus=2 extra[-l select=1:mpiprocs=2] extra[-l select=1:bigmem=true]".into(),
        ),
        (
            "#PBS -l software=gcc -W umask=022,group_list=a,b -p 7",
            "extra[-l software=gcc] extra[-W umask=022] extra[-W group_list=a,b] extra[-p 7]".into(),
        ),
        ("#PBS -N name -o out -e err -j oe -m abe -M a@b -V -v X=1 -k doe -S /bin/sh -W block=true", String::new()),
        ("#PBS -r n", "extra[-r n]".into()),
    ] {
        assert_eq!(asks(&format!("{lines}\n")).map(|read| values(&read)), Ok(expected), "{lines}");
    }
}

#[test]
fn what_cannot_be_carried_out_is_refused_with_place_and_reason() {
    for (line, expected) in [
        (
            "-l select=2:ncpus=4",
            "recipe:1:6: -l select=2:ncpus=4: it asks for 2 chunks, but a build is one process tree on one node | write -l \
             select=1:ncpus=…:mem=…",
        ),
        (
            "-l select=1:ncpus=1+1:ncpus=2",
            "recipe:1:6: -l select=1:ncpus=1+1:ncpus=2: it asks for 2 chunks, but a build is one process tree on one node | \
             write -l select=1:ncpus=…:mem=…",
        ),
        (
            "-l nodes=4:ppn=2",
            "recipe:1:6: -l nodes=4:ppn=2: it asks for 4 chunks, but a build is one process tree on one node | write -l \
             select=1:ncpus=…:mem=…",
        ),
        (
            "-l nodes=node07:ppn=2",
            "recipe:1:6: -l nodes=node07:ppn=2: 'node07' is a host or a property, which only the old form knows | write -l \
             select=1:ncpus=…:name=value",
        ),
        ("-Z x", "recipe:1:6: directive not understood: qsub knows no flag '-Z' (in '-Z')"),
        ("--mem=4", "recipe:1:6: directive not understood: qsub knows no flag '--' (in '--mem=4')"),
        ("walltime=1", "recipe:1:6: directive not understood: 'walltime=1' belongs to no flag"),
        ("-l ncpus", "recipe:1:6: -l ncpus: 'ncpus' is no resource=value"),
        ("-l", "recipe:1:6: -l: a value is missing"),
        (
            "-l walltime=90m",
            "recipe:1:6: -l walltime=90m: '90m' is no time for PBS; write seconds, min:sec or h:min:sec",
        ),
        (
            "-l mem=1.5gb",
            "recipe:1:6: -l mem=1.5gb: '1.5gb' is no size for PBS; write a whole number with b, kb, mb, gb or tb",
        ),
        (
            "-J 1-9",
            "recipe:1:6: -J 1-9: a build recipe is no job array: it makes one overlay | remove it; ovl builds many at once \
             by itself",
        ),
        (
            "-W depend=afterok:1",
            "recipe:1:6: -W depend=afterok:1: ovl orders builds by what they need | write #DEP:name/version instead",
        ),
        ("-I", "recipe:1:6: -I: a build runs without a terminal | remove it"),
    ] {
        assert_eq!(refused(&format!("#PBS {line}\n")), expected, "{line}");
    }
}

#[test]
fn a_script() {
    let mut resources = full();
    let mine = |words: &[&str]| Extra {
        scheduler: Scheduler::Pbs,
        at: "recipe:3:6".into(),
        words: words.iter().map(|word| (*word).to_owned()).collect(),
    };
    resources.extra = vec![
        mine(&["-l", "select=1:bigmem=true"]),
        mine(&["-l", "place=group=rack"]),
        mine(&["-p", "7"]),
        mine(&["a\nb"]),
    ];
    resources.exclusive = said(true);
    resources.qos = said("high".into());
    let written = Pbs.write(&job(resources));
    assert_eq!(
        written.text,
        r#"#!/bin/bash
#PBS -N ovl-samtools-1.21-k3
#PBS -j oe
#PBS -o /dev/null
#PBS -S /bin/bash
#PBS -W umask=022
#PBS -r y
#PBS -l select=1:ncpus=8:mem=16384mb:ngpus=2:gpu_model=a100:bigmem=true
#PBS -l place=excl:group=rack
#PBS -l walltime=01:30:00
#PBS -q long
#PBS -A lab
#PBS -p 7

# samtools/1.21 for u
# . BSUB -q evil
export OVL_STEP='a b'
exec >>'/home/u/logs/samtools.'"${PBS_JOBID}"'.log' 2>&1
cd '/home/u/state/run 1' || exit 1
exec '/opt/ovl/bin/ovl' 'internal' 'it'\''s'
"#
    );
    assert_eq!(
        written.notes,
        [
            "a flag with control characters is left out (recipe:3:6)",
            "the quality of service cannot be said to PBS and is left out (--x)"
        ]
    );
}

#[test]
fn what_cannot_be_said_is_noted() {
    let resources = Resources {
        cpus: said(4),
        mem: said(Mem::PerCpu(1 << 30)),
        time: said(Limit::Unlimited),
        scratch: said(1),
        partition: said("q\n#PBS -l x".into()),
        ..Resources::default()
    };
    let written = Pbs.write(&job(resources));
    assert!(written.text.contains("select=1:ncpus=4:mem=4096mb\n"), "{}", written.text);
    assert_eq!(
        written.notes,
        [
            "no time limit cannot be said to PBS and is left out (--x)",
            "the queue cannot be said to PBS and is left out (--x)",
            "node-local scratch cannot be said to PBS and is left out (--x)"
        ]
    );
    let project = asks("#PBS -P proj\n").unwrap();
    assert!(Pbs.write(&job(project)).text.contains("#PBS -P proj\n"));
}

#[test]
fn commands() {
    let script = Path::new("/s/job.sh");
    assert_eq!(Pbs.submit(script, "", &[], true).to_string(), "qsub -f -h /s/job.sh");
    assert_eq!(
        Pbs.submit(script, "", &ids(&["1.vm", "2.vm", "1.vm"]), false).to_string(),
        "qsub -f -W depend=afterok:1.vm:2.vm /s/job.sh"
    );
    assert_eq!(Pbs.status(&ids(&["1.vm", "2.vm"]), "u").to_string(), "qstat -f -F dsv -D ';' 1.vm 2.vm");
    assert_eq!(Pbs.past(&ids(&["1.vm"])).unwrap().to_string(), "qstat -x -f -F dsv -D ';' 1.vm");
    assert_eq!(Pbs.find("n-1").to_string(), "qselect -N n-1");
    let lines = |cmds: Vec<crate::model::cmd::Cmd>| cmds.iter().map(ToString::to_string).collect::<Vec<_>>();
    assert_eq!(lines(Pbs.cancel(&ids(&["1.vm", "2.vm"]))), ["qdel 1.vm", "qdel 2.vm"]);
    assert_eq!(lines(Pbs.release(&ids(&["1.vm", "2.vm"]))), ["qrls 1.vm", "qrls 2.vm"]);
    assert!(Pbs.test(script).is_none());
}

#[test]
fn the_id_of_a_submission() {
    assert_eq!(Pbs.job_id(&reply(0, "3141.vm\n", "")), Ok(JobId("3141.vm".into())));
    for (answer, refused) in [
        (reply(0, "", ""), false),
        (silence(), false),
        (reply(255, "", "qsub: Failed to recv data from background qsub\n"), false),
        (reply(183, "", "qsub: End of File\n"), false),
        (reply(162, "", "Connection refused\nqsub: cannot connect to server vm (errno=15010)\n"), true),
        (reply(170, "", "qsub: Unknown queue\n"), true),
        (reply(166, "", "qsub: Illegal attribute or resource value Resource_List.walltime\n"), true),
        (reply(2, "", "qsub: illegal -N value\nusage: qsub [-a date_time]\n"), true),
    ] {
        match Pbs.job_id(&answer) {
            Err(Unanswered::Refused(_) | Unanswered::Away(_)) => assert!(refused, "{answer:?}"),
            Err(Unanswered::Uncertain(_)) => assert!(!refused, "{answer:?}"),
            other => panic!("{answer:?}: {other:?}"),
        }
    }
}

const RECORDED: &str = r#"{
	"timestamp":	1795218015,
	"pbs_version":	"23.06.06",
	"pbs_server":	"vm",
	"Jobs":	{
		"3141.vm":	{
			"Job_Name":	"q1",
			"resources_used":	{ "cput":	"00:00:00", "mem":	"7052kb", "ncpus":	2, "walltime":	"00:01:02" },
			"job_state":	"R",
			"exec_host":	"vm/0*2",
			"Hold_Types":	"n",
			"stime":	"Fri Nov 20 23:40:13 2026",
			"substate":	42,
			"comment":	"Job run at Fri Nov 20 at 23:40 on (vm:ncpus=2:mem=512000kb)"
		},
		"1.vm":	{ "job_state":	"H", "Hold_Types":	"u", "depend":	"beforeok:2.vm@vm" },
		"2.vm":	{ "job_state":	"H", "Hold_Types":	"s", "depend":	"afterok:1.vm@vm" },
		"3.vm":	{ "job_state":	"Q", "substate": 10, "comment":	"Can Never Run: Insufficient amount of resource: ncpus" },
		"4.vm":	{ "job_state":	"F", "substate": 92, "stime": "x", "Exit_status": 0 },
		"5.vm":	{ "job_state":	"F", "substate": 92 },
		"6.vm":	{ "job_state":	"F", "stime": "x", "Exit_status": 3 },
		"7.vm":	{ "job_state":	"F", "stime": "x", "Exit_status": 271 },
		"8.vm":	{ "job_state":	"F", "stime": "x", "Exit_status": -29 },
		"9.vm":	{ "job_state":	"F", "stime": "x", "Exit_status": -27 },
		"10.vm":	{ "job_state":	"F", "stime": "x", "Exit_status": 265 },
		"11.vm":	{ "job_state":	"F", "stime": "x", "Exit_status": -3, "comment": "post job file processing error" },
		"12.vm":	{ "job_state":	"N" }
	}
}"#;

#[test]
fn states() {
    let jobs = Pbs.states(&reply(153, RECORDED, "qstat: Unknown Job Id 99999.vm\n")).unwrap();
    let state = |id: &str| jobs[&JobId(id.into())].state.clone();
    assert_eq!(state("3141.vm"), JobState::Running);
    let running = &jobs[&JobId("3141.vm".into())];
    assert_eq!(running.node.as_deref(), Some("vm"));
    assert_eq!((running.used.mem, running.used.time), (Some(7052 << 10), Some(Duration::from_secs(62))));
    assert_eq!(state("1.vm"), JobState::Held);
    assert_eq!(state("2.vm"), JobState::Pending);
    assert_eq!(state("3.vm"), JobState::Pending);
    assert!(jobs[&JobId("3.vm".into())].reason.as_deref().unwrap().starts_with("Can Never Run"));
    assert_eq!(state("4.vm"), JobState::Ended(End::Done));
    assert_eq!(state("5.vm"), JobState::Ended(End::NeverRan));
    assert_eq!(state("6.vm"), JobState::Ended(End::Failed { code: Some(3), signal: None }));
    assert_eq!(state("7.vm"), JobState::Ended(End::Cancelled));
    assert_eq!(state("8.vm"), JobState::Ended(End::TimedOut));
    assert_eq!(state("9.vm"), JobState::Ended(End::OutOfMemory));
    assert_eq!(state("10.vm"), JobState::Ended(End::Failed { code: None, signal: Some(9) }));
    assert_eq!(state("11.vm"), JobState::Ended(End::NotStarted("post job file processing error".into())));
    assert_eq!(state("12.vm"), JobState::Other("N".into()));
}

#[test]
fn states_of_several_jobs() {
    let text = "Job Id: 24.vm;Job_Name=n;job_state=H;Hold_Types=u;depend=beforeok:25.vm@vm;Variable_List=PBS_O_HOME=/h,T_X=a|b\\;c\\nd\\;job_state=F,PBS_O_HOST=vm;umask=22\n\
        Job Id: 25.vm;resources_used.mem=7052kb;resources_used.walltime=00:00:03;job_state=F;exec_host=vm/0;\
        stime=Fri Nov 20;substate=93;comment=Job run at x and failed;Exit_status=3;Submit_Host=vm\n\
        Job Id: 26.vm;job_state=H;Hold_Types=s;depend=afterok:24.vm@vm\n";
    let jobs = Pbs.states(&reply(153, text, "qstat: Unknown Job Id 9999.vm\n")).unwrap();
    assert_eq!(jobs.len(), 3);
    assert_eq!(jobs[&JobId("24.vm".into())].state, JobState::Held);
    assert_eq!(jobs[&JobId("26.vm".into())].state, JobState::Pending);
    let over = &jobs[&JobId("25.vm".into())];
    assert_eq!(over.state, JobState::Ended(End::Failed { code: Some(3), signal: None }));
    assert_eq!((over.used.mem, over.used.time), (Some(7052 << 10), Some(Duration::from_secs(3))));
    for odd in ["Job Id: x;job_state=R", "Job Id: 1.vm;queue=workq", "Job Id: 1.vm"] {
        assert!(matches!(Pbs.past_states(&reply(0, odd, "")), Err(Unanswered::Odd(_))), "{odd}");
    }
}

#[test]
fn replies_that_are_none() {
    let bare = "{\n\t\"timestamp\":\t1795219343,\n\t\"pbs_version\":\t\"23.06.06\",\n\t\"pbs_server\":\t\"vm\"\n}\n";
    assert_eq!(Pbs.states(&reply(0, bare, "")), Ok([].into()));
    assert_eq!(Pbs.states(&reply(153, bare, "qstat: Unknown Job Id 99999.vm\n")), Ok([].into()));
    assert_eq!(Pbs.states(&reply(35, bare, "qstat: 3140.vm Job has finished, use -x or -H\n")), Ok([].into()));
    assert_eq!(Pbs.states(&reply(0, "", "qstat: PBS is not configured to maintain job history\n")), Ok([].into()));
    let down = "Connection refused\nqstat: cannot connect to server vm (errno=15010)\n";
    assert!(matches!(Pbs.states(&reply(255, bare, down)), Err(Unanswered::Uncertain(_))));
    assert!(matches!(Pbs.states(&silence()), Err(Unanswered::Uncertain(_))));
    for odd in ["{", "garbage", &RECORDED[..400], "{\"Jobs\": 3}"] {
        assert!(matches!(Pbs.states(&reply(0, odd, "")), Err(Unanswered::Odd(_))), "{odd}");
    }
    let latin = "{\"Jobs\":{\"1.vm\":{\"job_state\":\"Q\",\"Variable_List\":{\"T_X\":\"caf\u{fffd}\"}}}}";
    assert_eq!(Pbs.states(&reply(0, latin, "")).unwrap().len(), 1);
    assert_eq!(Pbs.found(&reply(0, "11049.vm\n", "")), Ok(ids(&["11049.vm"])));
    assert!(matches!(Pbs.found(&reply(0, "<html>\n", "")), Err(Unanswered::Odd(_))));
    assert!(matches!(Pbs.found(&reply(162, "", down)), Err(Unanswered::Uncertain(_))));
    assert_eq!(Pbs.settled(&reply(153, "", "qdel: Unknown Job Id 1.vm\n")), Ok(()));
    assert_eq!(Pbs.settled(&reply(35, "", "qdel: Job has finished 11063.vm\n")), Ok(()));
    assert!(matches!(Pbs.settled(&reply(159, "", "qdel: Unauthorized Request 3.vm\n")), Err(Unanswered::Refused(_))));
    assert!(matches!(Pbs.settled(&reply(162, "", down)), Err(Unanswered::Uncertain(_))));
}

#[test]
fn inside_a_job() {
    let env: Env =
        [("PBS_JOBID", "7.vm"), ("NCPUS", "2")].map(|(name, value)| (name.to_owned(), value.to_owned())).into();
    assert_eq!(Pbs.inside(&env), Some(JobId("7.vm".into())));
    assert_eq!((Pbs.granted(&env).cpus, Pbs.granted(&env).mem), (Some(2), None));
    for (name, poison) in [("PBS_CONF_FILE", false), ("PBS_JOBID", true), ("PBS_DPREFIX", true), ("PATH", false)] {
        assert_eq!(Pbs.poisons(name), poison, "{name}");
    }
}
