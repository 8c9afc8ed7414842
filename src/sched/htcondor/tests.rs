//! Submit descriptions, DAGs, commands and replies of HTCondor; the replies are those recorded on 23.9.

use std::path::Path;
use std::time::Duration;

use super::{DagNode, HtCondor, Submit, dag};
use crate::model::cmd::Cmd;
use crate::model::resources::{Extra, JobId, Mem, Resources, Scheduler};
use crate::sched::tests::{full, ids, job, reply, said, silence};
use crate::sched::{Dialect, End, Env, JobState, Unanswered};

#[test]
fn a_submit_description() {
    let mut resources = full();
    let mine = |words: &[&str]| Extra {
        scheduler: Scheduler::HtCondor,
        at: "--htcondor-arg".into(),
        words: words.iter().map(|word| (*word).to_owned()).collect(),
    };
    resources.extra =
        vec![mine(&["+Site = \"x\""]), mine(&["rank = Memory"]), mine(&["queue 100"]), mine(&["a = b\nqueue 9"])];
    resources.scratch = said(5 << 20);
    resources.account = said("lab$(x)".into());
    let mut job = job(resources);
    job.argv.extend(["".into(), "a b".into(), "say \"x\"".into(), "$(Cluster)".into()]);
    let written = HtCondor.write(&job);
    assert_eq!(
        written.text,
        r#"# samtools/1.21 for u
# . BSUB -q evil
universe = vanilla
description = ovl-samtools-1.21-k3
executable = /opt/ovl/bin/ovl
transfer_executable = false
arguments = "internal 'it''s' '' 'a b' 'say ""x""' $(DOLLAR)(Cluster)"
environment = "OVL_JOB=$(DAGManJobId):$(JOB) OVL_STEP='a b'"
getenv = false
initialdir = /home/u/state/run 1
output = /home/u/logs/samtools.$(Cluster).log
error = /home/u/logs/samtools.$(Cluster).log
should_transfer_files = NO
notification = never
job_max_vacate_time = 60
periodic_remove = (JobStatus == 2 && time() - EnteredCurrentStatus > 5400) || (JobStatus == 5 && HoldReasonCode =!= 1 && HoldReasonCode =!= 15 && time() - EnteredCurrentStatus > 300)
request_cpus = 8
request_memory = 16384
request_disk = 5120
request_gpus = 2
require_gpus = regexp("a100", DeviceName, "i")
accounting_group = lab$(DOLLAR)(x)
+Site = "x"
rank = Memory
queue
"#
    );
    assert_eq!(
        written.notes,
        [
            "the partition cannot be said to HTCondor and is left out (--x)",
            "\"queue 100\" is no line of a submit description and is left out (--htcondor-arg)",
            "\"a = b\\nqueue 9\" is no line of a submit description and is left out (--htcondor-arg)"
        ]
    );
}

#[test]
fn nothing_said_and_hostile_values() {
    let mut job = job(Resources { mem: said(Mem::Node), ..Resources::default() });
    job.comments = vec!["ends in a backslash \\".into(), "two\nqueue 100".into()];
    job.env.insert("X".into(), "1\nqueue".into());
    job.argv.push("1\nqueue 5".into());
    let written = HtCondor.write(&job);
    assert_eq!(written.notes.len(), 3, "{:?}", written.notes);
    assert!(!written.text.lines().any(|line| line.ends_with('\\')));
    assert_eq!(written.text.lines().filter(|line| line.starts_with("queue")).count(), 1, "{}", written.text);
    assert!(!written.text.contains("request_"));
}

#[test]
fn a_dag() {
    let node = |name: &str, parents: &[&str]| DagNode {
        name: name.into(),
        submit: Submit::File(format!("{name}.sub").into()),
        parents: parents.iter().map(|parent| (*parent).to_owned()).collect(),
        pre: None,
    };
    let mut nodes = vec![node("A", &[]), node("B", &["A"]), node("C", &["A"]), node("D", &["B", "C", "B"])];
    nodes[1].pre = Some(Cmd::new("/opt/ovl/bin/ovl").args(["internal", "ready"]));
    nodes[2].submit = Submit::Inline("executable = /bin/true\nqueue\n".into());
    assert_eq!(
        dag(&nodes).unwrap(),
        "JOB A A.sub\nJOB B B.sub\nSCRIPT PRE B /opt/ovl/bin/ovl internal ready\nJOB C {\n  executable = /bin/true\n}\n\
         JOB D D.sub\nPARENT A CHILD B\nPARENT A CHILD C\nPARENT B C CHILD D\n"
    );
    let broken = |node: DagNode| dag(&[node]).unwrap_err();
    assert_eq!(broken(node("a b", &[])), "'a b' cannot be the name of a DAG node");
    assert_eq!(broken(node("parent", &[])), "'parent' cannot be the name of a DAG node");
    assert_eq!(broken(node("A", &["Z"])), "'A' waits for 'Z', which is not in the DAG");
    assert_eq!(dag(&[node("A", &[]), node("A", &[])]), Err("there are two DAG nodes 'A'".into()));
    let path = DagNode { submit: Submit::File("a b.sub".into()), ..node("A", &[]) };
    assert_eq!(broken(path), "the path 'a b.sub' cannot stand in a DAG");
    let pre = DagNode { pre: Some(Cmd::new("/x").arg("a\"b")), ..node("A", &[]) };
    assert_eq!(broken(pre), "the word 'a\\\"b' cannot stand in a DAG");
    let brace = DagNode { submit: Submit::Inline("a = b\n }\nJOB X y".into()), ..node("A", &[]) };
    assert_eq!(broken(brace), "the description of 'A' holds a lone brace");
    assert_eq!(HtCondor.job_name("ovl samtools/1.21"), "ovl-samtools-1_21");
}

#[test]
fn commands() {
    let cmd = HtCondor.submit(Path::new("/s/run-7.dag"), "", &[], false);
    assert_eq!(cmd.to_string(), "condor_submit_dag -batch-name run-7 run-7.dag");
    assert_eq!(cmd.cwd.as_deref(), Some(Path::new("/s")));
    let status = HtCondor.status(&ids(&["180:A", "180:", "190:B"]), "u").to_string();
    assert!(status.starts_with("condor_q -allusers -json -attributes ClusterId,"), "{status}");
    let constraint = "'ClusterId == 180 || DAGManJobId == 180 || ClusterId == 190 || DAGManJobId == 190'";
    assert!(status.ends_with(constraint), "{status}");
    let past = HtCondor.past(&ids(&["180:A"])).unwrap().to_string();
    assert!(
        past.starts_with("condor_history -json") && past.ends_with("'ClusterId == 180 || DAGManJobId == 180'"),
        "{past}"
    );
    assert_eq!(
        HtCondor.find("run-7\" || true").to_string(),
        "condor_q -json -attributes ClusterId,ProcId,JobStatus -constraint 'JobUniverse == 7 && JobBatchName == \
         \"run-7true\"'"
    );
    let lines = |cmds: Vec<Cmd>| cmds.iter().map(ToString::to_string).collect::<Vec<_>>();
    assert_eq!(
        lines(HtCondor.cancel(&ids(&["5:", "5:A", "6:B", "6:C"]))),
        ["condor_rm 5", "condor_rm -constraint 'DAGManJobId == 6 && (DAGNodeName == \"B\" || DAGNodeName == \"C\")'"]
    );
    assert_eq!(lines(HtCondor.release(&ids(&["5:A", "5:"]))), ["condor_release 5"]);
}

#[test]
fn the_id_of_a_submission() {
    let text = "Submitting job(s).\n1 job(s) submitted to cluster 47.\n\n-----\nFile for submitting this DAG to HTCondor : x\n";
    assert_eq!(HtCondor.job_id(&reply(0, text, "Renaming rescue DAGs newer than number 0\n")), Ok(JobId("47:".into())));
    for (answer, refused) in [
        (reply(0, "", ""), false),
        (reply(0, "Submitting job(s)", ""), false),
        (silence(), false),
        (reply(1, "", "ERROR: Can't find address of local schedd\n"), true),
        (reply(1, "", "ERROR: \"ok.dag.condor.sub\" already exists.\n"), true),
    ] {
        match HtCondor.job_id(&answer) {
            Err(Unanswered::Refused(_) | Unanswered::Away(_)) => assert!(refused, "{answer:?}"),
            Err(Unanswered::Uncertain(_)) => assert!(!refused, "{answer:?}"),
            other => panic!("{answer:?}: {other:?}"),
        }
    }
}

#[test]
fn states() {
    let text = r#"[
{ "ClusterId": 180, "DAG_NodesTotal": 2, "DAG_Status": 0, "JobBatchName": "long.dag+180", "JobStatus": 2, "JobUniverse": 7, "ProcId": 0 }
,
{ "ClusterId": 181, "DAGManJobId": 180, "DAGNodeName": "A", "JobStatus": 2, "JobUniverse": 5, "ProcId": 0, "RemoteHost": "slot1_1@vm", "ResidentSetSize": 4488 }
,
{ "ClusterId": 182, "DAGManJobId": 180, "DAGNodeName": "B", "JobStatus": 1 }
,
{ "ClusterId": 183, "DAGManJobId": 180, "DAGNodeName": "C", "JobStatus": 5, "HoldReasonCode": 7, "HoldReason": "Failed to open '/nonexistent/dir/o'" }
,
{ "ClusterId": 184, "DAGManJobId": 180, "DAGNodeName": "D", "JobStatus": 3, "RemoveReason": "via condor_rm (by user u)" }
,
{ "ClusterId": 185, "DAGManJobId": 180, "DAGNodeName": "E", "JobStatus": 42, "MemoryUsage": "\/Expr(( ( ResidentSetSize + 1023 ) / 1024 ))\/" }
]
"#;
    let jobs = HtCondor.states(&reply(0, text, "")).unwrap();
    let view = |id: &str| &jobs[&JobId(id.into())];
    assert_eq!(jobs.len(), 6);
    assert_eq!(view("180:").state, JobState::Running);
    assert_eq!(view("180:A").state, JobState::Running);
    assert_eq!((view("180:A").node.as_deref(), view("180:A").used.mem), (Some("vm"), Some(4488 << 10)));
    assert_eq!(view("180:B").state, JobState::Pending);
    assert_eq!(view("180:C").state, JobState::Held);
    assert_eq!(view("180:C").reason.as_deref(), Some("Failed to open '/nonexistent/dir/o'"));
    assert_eq!(view("180:D").state, JobState::Running);
    assert_eq!(view("180:E").state, JobState::Other("JobStatus 42".into()));
}

#[test]
fn finished_jobs() {
    let text = r#"[
{ "ClusterId": 47, "DAG_Status": 0, "ExitBySignal": false, "ExitCode": 0, "JobStatus": 4, "JobUniverse": 7 }
,
{ "ClusterId": 60, "DAG_Status": 2, "ExitBySignal": false, "ExitCode": 0, "JobStatus": 4, "JobUniverse": 7 }
,
{ "ClusterId": 61, "DAGManJobId": 60, "DAGNodeName": "A", "ExitBySignal": false, "ExitCode": 3, "JobStatus": 4, "RemoteWallClockTime": 2.0 }
,
{ "ClusterId": 66, "DAGManJobId": 60, "DAGNodeName": "A", "ExitBySignal": false, "ExitCode": 0, "JobStatus": 4, "RemoteWallClockTime": 3.0 }
,
{ "ClusterId": 62, "DAGManJobId": 60, "DAGNodeName": "B", "ExitBySignal": true, "ExitSignal": 9, "JobStatus": 4 }
,
{ "ClusterId": 63, "DAGManJobId": 60, "DAGNodeName": "C", "JobStatus": 3, "LastJobStatus": 2, "RemoveReason": "The job attribute PeriodicRemove expression '(JobStatus == 2)' evaluated to TRUE" }
,
{ "ClusterId": 64, "DAGManJobId": 60, "DAGNodeName": "D", "JobStatus": 3, "LastJobStatus": 5, "LastHoldReason": "no output", "RemoveReason": "The job attribute PeriodicRemove expression 'x' evaluated to TRUE" }
,
{ "ClusterId": 65, "DAGManJobId": 60, "DAGNodeName": "E", "JobStatus": 3, "RemoveReason": "via condor_rm (by user ovltest)" }
,
{ "ClusterId": 67, "DAGManJobId": 60, "DAGNodeName": "F", "JobStatus": 3, "LastJobStatus": 5, "LastHoldReasonCode": 34, "RemoveReason": "The job attribute PeriodicRemove expression 'x' evaluated to TRUE" }
]"#;
    let jobs = HtCondor.past_states(&reply(0, text, "")).unwrap();
    let state = |id: &str| jobs[&JobId(id.into())].state.clone();
    assert_eq!(state("47:"), JobState::Ended(End::Done));
    assert_eq!(state("60:"), JobState::Ended(End::Failed { code: Some(0), signal: None }));
    assert_eq!(state("60:A"), JobState::Ended(End::Done));
    assert_eq!(jobs[&JobId("60:A".into())].used.time, Some(Duration::from_secs(3)));
    assert_eq!(state("60:B"), JobState::Ended(End::Failed { code: None, signal: Some(9) }));
    assert_eq!(state("60:C"), JobState::Ended(End::TimedOut));
    assert_eq!(state("60:D"), JobState::Ended(End::NotStarted("no output".into())));
    assert_eq!(state("60:E"), JobState::Ended(End::Cancelled));
    assert_eq!(state("60:F"), JobState::Ended(End::OutOfMemory));
}

#[test]
fn replies_that_are_none() {
    assert_eq!(HtCondor.states(&reply(0, "", "")), Ok([].into()));
    assert_eq!(HtCondor.past_states(&reply(0, "[\n]\n", "")), Ok([].into()));
    let down = reply(1, "", "Error: Can't find address for schedd vm\n");
    assert!(matches!(HtCondor.states(&down), Err(Unanswered::Uncertain(_))));
    assert!(matches!(HtCondor.found(&down), Err(Unanswered::Uncertain(_))));
    assert!(matches!(HtCondor.settled(&down), Err(Unanswered::Uncertain(_))));
    assert!(matches!(HtCondor.states(&silence()), Err(Unanswered::Uncertain(_))));
    for odd in ["{", "garbage", "[{}]", "[{\"ClusterId\": -1}]", "{\"ClusterId\": 1}"] {
        assert!(matches!(HtCondor.states(&reply(0, odd, "")), Err(Unanswered::Odd(_))), "{odd}");
    }
    assert_eq!(HtCondor.found(&reply(0, "[{\"ClusterId\": 47, \"JobStatus\": 2}]", "")), Ok(ids(&["47:"])));
    let gone = reply(1, "", "Couldn't find/remove all jobs in cluster 36\n");
    assert_eq!(HtCondor.settled(&gone), Ok(()));
}

#[test]
fn inside_a_job() {
    let env = |pairs: &[(&str, &str)]| -> Env {
        pairs.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect()
    };
    let job = env(&[("OVL_JOB", "47:A"), ("BATCH_SYSTEM", "HTCondor"), ("OMP_NUM_THREADS", "3")]);
    assert_eq!(HtCondor.inside(&job), Some(JobId("47:A".into())));
    assert_eq!(HtCondor.granted(&job).cpus, Some(3));
    assert_eq!(HtCondor.inside(&env(&[("OVL_JOB", "47:A")])), None);
    for (name, poison) in [("_CONDOR_SLOT", true), ("CONDOR_CONFIG", false), ("PATH", false)] {
        assert_eq!(HtCondor.poisons(name), poison, "{name}");
    }
}
