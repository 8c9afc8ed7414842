//! The stand-ins for PBS, LSF and HTCondor do what was recorded of the real ones: each quirk with the plain commands.

use std::time::{Duration, Instant};

use crate::support::house::{House, Run};
use crate::support::queue::{Kind, Queue, executable, shell};
use crate::support::slurm::Slurm;

fn with(kind: Kind) -> (Queue, House) {
    let house = House::new();
    let queue = Queue::new(kind, &house);
    (queue, house)
}

/// A job script: `$1` seconds of sleep, then this exit code.
fn job(house: &House, name: &str, seconds: &str, code: i32) {
    executable(
        house,
        &format!("work/{name}.sh"),
        &format!("#!/bin/bash\necho in the job\nsleep {seconds}\nexit {code}\n"),
    );
}

/// The last line that a shell line prints.
fn last(run: Run) -> String {
    run.ok().stdout.lines().last().unwrap_or_default().to_owned()
}

fn state(queue: &Queue, name: &str) -> String {
    queue.job(name)["state"].as_str().unwrap().to_owned()
}

// ---------------------------------------------------------------- PBS

#[test]
fn pbs_runs_a_held_chain_in_order_with_its_environment_and_output() {
    let (queue, house) = with(Kind::Pbs);
    house.write(
        "work/a.sh",
        "#!/bin/bash\n#PBS -N first\n#PBS -j oe\n#PBS -l select=1:ncpus=2:mem=500mb\n#PBS -l walltime=00:01:00\n\
         echo \"$PBS_JOBID $NCPUS $PBS_JOBNAME $(pwd) $(umask)\"; cd $PBS_O_WORKDIR; pwd; ls -d $TMPDIR; echo oops >&2\n",
    );
    house.write("work/b.sh", "cat $PBS_O_WORKDIR/first.o1 >/dev/null && echo parent was here\n");
    shell(&house, "qsub -h a.sh && qsub -N second -j oe -W depend=afterok:1.vm b.sh").ok().prints("1.vm\n2.vm\n");
    let shown = shell(&house, "qstat -f -F json").ok().json();
    assert_eq!(shown["Jobs"]["1.vm"]["job_state"], "H");
    assert_eq!(shown["Jobs"]["1.vm"]["Hold_Types"], "u");
    assert_eq!(shown["Jobs"]["2.vm"]["Hold_Types"], "s");
    assert_eq!(shown["Jobs"]["2.vm"]["depend"], "afterok:1.vm@vm");
    shell(&house, "qrls 1.vm").ok();
    queue.wait("second", "ended");
    let out = std::fs::read_to_string(house.path("work/first.o1")).unwrap();
    let home = house.path("home").display().to_string();
    assert!(out.starts_with(&format!("1.vm 2 first {home} 0077\n{}\n", house.path("work").display())), "{out}");
    assert!(out.ends_with("oops\n"), "{out}");
    assert_eq!(std::fs::read_to_string(house.path("work/second.o2")).unwrap(), "parent was here\n");
    shell(&house, "qstat -f -F json 1").code(35).says("qstat: 1.vm Job has finished, use -x or -H");
    let shown = shell(&house, "qstat -xf -F json").ok().json();
    assert_eq!(shown["Jobs"]["1.vm"]["job_state"], "F");
    assert_eq!(shown["Jobs"]["1.vm"]["Exit_status"], 0);
    assert_eq!(shown["Jobs"]["1.vm"]["substate"], 92);
    let none = shell(&house, "qstat -f -F json 77").code(153).says("qstat: Unknown Job Id 77.vm").json();
    assert!(none.get("Jobs").is_none());
    shell(&house, "qselect -x -N second").ok().prints("2.vm\n");
}

#[test]
fn pbs_children_of_a_failed_parent_are_deleted_with_what_waits_for_them() {
    let (queue, house) = with(Kind::Pbs);
    job(&house, "bad", "0.1", 3);
    job(&house, "ok", "0", 0);
    shell(
        &house,
        "qsub -h -N bad bad.sh; qsub -N child -W depend=afterok:1 ok.sh; qsub -N grand -W depend=afterany:2 ok.sh; \
         qsub -N other -W depend=afternotok:1 ok.sh; qsub -N any -W depend=afterany:1 ok.sh; qrls 1",
    )
    .ok();
    for name in ["other", "any", "child", "grand"] {
        queue.wait(name, "ended");
    }
    let shown = shell(&house, "qstat -xf -F json").ok().json();
    assert_eq!(shown["Jobs"]["1.vm"]["Exit_status"], 3);
    assert_eq!(shown["Jobs"]["1.vm"]["substate"], 93);
    for id in ["2.vm", "3.vm"] {
        let job = &shown["Jobs"][id];
        assert!(job["job_state"] == "F" && job.get("Exit_status").is_none() && job.get("stime").is_none(), "{job:#}");
    }
    assert_eq!(shown["Jobs"]["4.vm"]["Exit_status"], 0);
    assert_eq!(shown["Jobs"]["5.vm"]["Exit_status"], 0);
}

#[test]
fn pbs_a_dependency_on_an_unknown_job_vanishes_with_an_id_and_exit_0() {
    let (queue, house) = with(Kind::Pbs);
    job(&house, "ok", "0", 0);
    for kind in ["afterok", "afternotok", "afterany"] {
        shell(&house, &format!("qsub -N lost -W depend={kind}:999 ok.sh")).ok();
        assert_eq!(state(&queue, "lost"), "ended");
    }
    // Without history not even that is left, and finished parents are unknown too.
    queue.inject("forget", "");
    shell(&house, "qsub -N one ok.sh").ok().prints("4.vm");
    queue.wait("one", "ended");
    shell(&house, "qsub -N two -W depend=afterok:4 ok.sh").ok().prints("5.vm");
    shell(&house, "qstat 5").code(153);
    let shown = shell(&house, "qstat -xf -F json 4").ok().says("PBS is not configured to maintain job history 4.vm");
    assert!(shown.json().get("Jobs").is_none());
    // And one that is dropped although its parent is there.
    queue.relent("forget");
    queue.inject("vanish", "");
    shell(&house, "qsub -h -N parent ok.sh; qsub -N dropped -W depend=afterok:6 ok.sh").ok().prints("7.vm");
    shell(&house, "qstat -x 7").code(153);
}

#[test]
fn pbs_children_of_a_parent_deleted_while_held_stay_held_for_ever() {
    let (queue, house) = with(Kind::Pbs);
    job(&house, "ok", "0", 0);
    shell(
        &house,
        "qsub -h ok.sh; qsub -N child -W depend=afterok:1 ok.sh; qsub -N any -W depend=afterany:1 ok.sh; qdel 1",
    )
    .ok();
    std::thread::sleep(Duration::from_millis(400));
    assert_eq!(state(&queue, "child"), "pending");
    assert_eq!(state(&queue, "any"), "pending");
    shell(&house, "qrls 2; qstat 2").ok().prints(" H workq");
    // The same parent twice in one list: held for ever too.
    shell(&house, "qsub -N p ok.sh -h 2>&1 | tail -1; qsub -h -N q ok.sh; qsub -N twice -W depend=afterok:4:4 ok.sh")
        .ok();
    let parent = queue.job("q")["id"].as_str().unwrap().to_owned();
    shell(&house, &format!("qsub -N twice -W depend=afterok:{parent}:{parent} ok.sh; qrls {parent}")).ok();
    queue.wait("q", "ended");
    std::thread::sleep(Duration::from_millis(300));
    assert_eq!(state(&queue, "twice"), "pending");
}

#[test]
fn pbs_limits_cancellation_and_node_failure_have_their_exit_statuses() {
    let (queue, house) = with(Kind::Pbs);
    job(&house, "long", "60", 0);
    job(&house, "ok", "0", 0);
    queue.inject("grace", "0.2");
    shell(
        &house,
        "qsub -N slow -j oe -l walltime=1 long.sh; qsub -N fat long.sh; qsub -N gone long.sh; qsub -N child -W depend=afterany:3 ok.sh; \
         qsub -N again long.sh; qsub -N lost -r n long.sh",
    )
    .ok();
    for name in ["slow", "fat", "gone", "again", "lost"] {
        queue.wait(name, "running");
    }
    queue.inject("kill", "2 memory\n5 requeue\n6 node-fail\n");
    shell(&house, "qdel 3").ok();
    for name in ["slow", "fat", "gone", "child", "lost"] {
        queue.wait(name, "ended");
    }
    queue.until("run twice", |queue| queue.job("again")["runs"] == 2);
    let shown = shell(&house, "qstat -xf -F json").ok().json();
    for (id, code) in [("1.vm", -29), ("2.vm", -27), ("3.vm", 271), ("4.vm", 0), ("6.vm", -4)] {
        assert_eq!(shown["Jobs"][id]["Exit_status"], code, "{id}: {shown:#}");
    }
    assert_eq!(shown["Jobs"]["3.vm"]["substate"], 91);
    assert_eq!(shown["Jobs"]["5.vm"]["run_count"], 2);
    let out = std::fs::read_to_string(house.path("work/slow.o1")).unwrap();
    assert!(out.contains("=>> PBS: job killed: walltime"), "{out}");
}

#[test]
fn pbs_refuses_in_the_recorded_words() {
    let (queue, house) = with(Kind::Pbs);
    job(&house, "ok", "0", 0);
    house.write("work/cr.sh", "#!/bin/bash\r\necho\r\n");
    for (args, code, words) in [
        ("-l walltime=90m ok.sh", 166, "Illegal attribute or resource value Resource_List.walltime"),
        ("-l mem=1.5gb ok.sh", 166, "Illegal attribute or resource value Resource_List.mem"),
        ("-l select=1 -l mem=1gb ok.sh", 5, "cannot be used with \"select\" or \"place\""),
        ("-l ngpus=1 ok.sh", 187, "Unknown resource Resource_List.ngpus"),
        ("-q nosuch ok.sh", 170, "Unknown queue"),
        ("-q closed ok.sh", 173, "Queue is not enabled"),
        ("-q short -l walltime=1:00:00 ok.sh", 188, "Job violates queue and/or server resource limits"),
        ("-N a=b ok.sh", 2, "qsub: illegal -N value\nusage: qsub"),
        ("-W depend=afterok:abc ok.sh", 2, "qsub: illegal -W value"),
        ("cr.sh", 1, "qsub: script contains cr, lf"),
        ("nosuch.sh", 1, "qsub: script file:: No such file or directory"),
        ("-Z ok.sh", 2, "qsub: invalid option -- 'Z'"),
    ] {
        shell(&house, &format!("qsub {args}")).code(code).says(words);
    }
    assert!(queue.jobs().is_empty());
    shell(&house, "qsub -l select=1:ncpus=99 -N huge ok.sh").ok();
    queue.until("commented", |queue| queue.job("huge")["reason"].is_string());
    shell(&house, "qstat -f 1")
        .ok()
        .prints("comment = Can Never Run: Insufficient amount of resource: ncpus (R: 99 A: 8");
    queue.inject("refuse", "38\nqsub: would exceed complex's per-user limit");
    shell(&house, "qsub ok.sh").code(38).says("would exceed complex's per-user limit");
}

#[test]
fn pbs_trouble_with_the_server() {
    let (queue, house) = with(Kind::Pbs);
    job(&house, "ok", "0", 0);
    queue.inject("lose-reply", "");
    shell(&house, "qsub -h -N lost ok.sh").code(255).says("Failed to recv data from background qsub");
    shell(&house, "qselect -N lost").ok().prints("1.vm\n");
    queue.inject("hang", "0.5 qstat");
    let begun = Instant::now();
    shell(&house, "qstat").ok();
    assert!(begun.elapsed() > Duration::from_millis(500));
    queue.relent("hang");
    queue.inject("down", "");
    shell(&house, "qsub ok.sh").code(162).says("Connection refused\nqsub: cannot connect to server vm (errno=15010)");
    assert!(shell(&house, "qstat -f -F json").code(255).json().get("Jobs").is_none());
    shell(&house, "qdel 1").code(162).says("Couldn't connect to cluster: vm");
    queue.relent("down");
    // A live id followed by an unknown one ends the real server.
    shell(&house, "qdel 1 999; qstat").code(255);
}

// ---------------------------------------------------------------- LSF

#[test]
fn lsf_runs_a_held_chain_and_reports_in_the_output_file() {
    let (queue, house) = with(Kind::Lsf);
    house.write(
        "work/a.sh",
        "#!/bin/bash\necho \"$LSB_JOBID $LSB_MCPU_HOSTS $(pwd) $MINE\"; exit 0\n#BSUB -J first # and so on\n#BSUB -n 2\n#BSUB -o out.%J\n#BSUB -W 5\n",
    );
    shell(&house, "MINE=yes bsub -H < a.sh").ok().prints("Job <1> is submitted to default queue <normal>.\n");
    shell(&house, "bsub -q normal -J second -o /dev/null -w 'done(1)' true")
        .ok()
        .prints("Job <2> is submitted to queue <normal>.\n");
    shell(&house, "bjobs -o 'jobid stat'").ok().prints("JOBID STAT\n1 PSUSP\n2 PEND\n");
    shell(&house, "bresume 1").ok().prints("Job <1> is being resumed\n");
    queue.wait("second", "ended");
    let out = std::fs::read_to_string(house.path("work/out.1")).unwrap();
    assert!(out.contains("Subject: Job 1: <first> Done\n") && out.contains("\nSuccessfully completed.\n"), "{out}");
    assert!(out.ends_with(&format!("follows:\n\n1 vm 2  {} yes\n", house.path("work").display())), "{out}");
    shell(&house, "bjobs").code(254).says("No unfinished job found\n");
    let shown = shell(&house, "bjobs -a -o 'jobid stat job_name' -json 1 2 77").ok().json();
    assert_eq!(shown["RECORDS"][0]["STAT"], "DONE");
    assert_eq!(shown["RECORDS"][2]["ERROR"], "Job <77> is not found");
    shell(&house, "bjobs -l 1").ok().prints(": Done successfully. The CPU time used is");
    let unbroken = shell(&house, "bjobs -u all -a -UF 1 2").ok();
    let unbroken =
        unbroken.prints(": Started 2 Task(s) on Host(s) <vm> <vm>, Allocated 2 Slot(s) on Host(s) <vm> <vm>,");
    assert_eq!(unbroken.stdout.matches(&"-".repeat(78)).count(), 1);
    // The event log is cut at 80 characters.
    shell(&house, "bhist -n 0 -l 1").ok().prints(": Done successfully. The CPU time used is 0.0 seconds;\n");
    shell(&house, "bjobs 1 77").code(255).says("Job <77> is not found\n");
    shell(&house, "bjobs -noheader 1").code(255).says("bjobs: invalid option -- 'n'\nUsage: bjobs");
    shell(&house, "bjobs -o 'jobid exit_code' 1")
        .code(99)
        .says("<EXIT_CODE> in the format string is not a valid field name.");
}

#[test]
fn lsf_children_of_a_failed_parent_wait_for_ever() {
    let (queue, house) = with(Kind::Lsf);
    job(&house, "bad", "0", 3);
    shell(&house, "bsub -J bad < bad.sh; bsub -J child -w 'done(1)' true; bsub -J grand -w 'done(2)' true; bsub -J any -w 'ended(1)' true")
        .ok();
    queue.wait("any", "ended");
    std::thread::sleep(Duration::from_millis(200));
    shell(&house, "bjobs -l 1").ok().prints("Status <EXIT>").prints(": Exited with exit code 3. The CPU");
    shell(&house, "bjobs -p 2").ok().prints(" Dependency condition invalid or never satisfied: 1 host;");
    shell(&house, "bjobs -p 3").ok().prints(" Job dependency condition not satisfied: 1 host;");
    shell(&house, "bkill 2 3").ok().prints("Job <3> is being terminated\n");
    shell(&house, "bkill 1").code(255).says("Job <1>: Job has already finished\n");
    shell(&house, "bkill 0").code(255);
    assert_eq!(state(&queue, "grand"), "ended");
    shell(&house, "bjobs -l 2").ok().prints("Status <EXIT>").prints(": Exited\n");
}

#[test]
fn lsf_refuses_in_the_recorded_words() {
    let (queue, house) = with(Kind::Lsf);
    for (args, words) in [
        ("-w 'done(99)' true", "99: No matching job found. Job not submitted."),
        ("-w 'done(' true", "done(: Dependency condition syntax error. Job not submitted."),
        ("-n 100 true", "Too many processors requested. Job not submitted."),
        ("-R 'rusage[mem=1GB]' true", "Bad resource requirement syntax. Job not submitted."),
        ("-R a -R b true", "Invalid syntax; the -R option was used more than once."),
        ("-q nosuch true", "nosuch: No such queue. Job not submitted."),
        ("-q short -W 60 true", "RUNLIMIT: Cannot exceed queue's hard limit(s). Job not submitted."),
        ("-gpu - true", "illegal option"),
    ] {
        shell(&house, &format!("bsub {args}")).code(255).says(words);
    }
    assert!(queue.jobs().is_empty());
    // An unknown name is taken and never met; IBM's `-oo` is read as `-o o`.
    shell(&house, "bsub -J odd -w 'done(nosuch)' true; bsub -oo file true").ok();
    assert_eq!(queue.jobs()[1]["out"], "o");
    assert_eq!(queue.jobs()[1]["line"], "file true");
    queue.inject("refuse", "");
    shell(&house, "bsub true").code(255).says("Job not submitted.");
}

#[test]
fn lsf_signals_limits_and_what_is_forgotten() {
    let (queue, house) = with(Kind::Lsf);
    queue.inject("grace", "0.2");
    job(&house, "long", "60", 0);
    shell(
        &house,
        "for n in killed late fat dead; do bsub -J $n < long.sh; done; bsub -J next -w 'done(1)||exit(1)' true",
    )
    .ok();
    for name in ["killed", "late", "fat", "dead"] {
        queue.wait(name, "running");
    }
    queue.inject("kill", "2 time-limit\n3 memory\n4 node-fail\n");
    shell(&house, "bkill 1").ok().prints("Job <1> is being terminated\n");
    for name in ["killed", "late", "fat", "dead", "next"] {
        queue.wait(name, "ended");
    }
    shell(&house, "bjobs -l 1").ok().prints("Exited with exit code 130.");
    shell(&house, "bjobs -l 2").ok().prints("Exited with exit code 140.");
    shell(&house, "bjobs -l 3").ok().prints("Exited with exit code 130.");
    shell(&house, "bjobs -l 4").ok().prints("Exited by signal 9.");
    queue.inject("forget", "");
    shell(&house, "bsub -J tick true").ok();
    queue.wait("tick", "ended");
    queue.until("forgotten", |queue| queue.job("killed")["gone"] == true);
    shell(&house, "bjobs -o 'jobid stat' 1").code(255).says("Job <1> is not found");
    shell(&house, "bsub -w 'done(1)' true").code(255).says("1: No matching job found.");
    shell(&house, "bhist -l 1").ok().prints("Exited with exit code 130.");
}

#[test]
fn lsf_trouble_with_the_daemon_and_the_early_start() {
    let (queue, house) = with(Kind::Lsf);
    job(&house, "long", "60", 0);
    queue.inject("lose-reply", "");
    shell(&house, "bsub -J lost < long.sh").code(255);
    shell(&house, "bjobs -J lost -o jobid").ok().prints("JOBID\n1\n");
    queue.inject("start-early", "");
    shell(&house, "bsub -J early -w 'done(1)' true").ok();
    queue.wait("early", "ended");
    assert_eq!(state(&queue, "lost"), "running");
    queue.inject("down", "");
    shell(&house, "timeout 1 bjobs").code(124).says("batch system daemon not responding ... still trying");
    shell(&house, "LSB_NTRIES=1 bsub true").code(255).says("Connection refused by server. Job not submitted.");
}

// ---------------------------------------------------------------- HTCondor

const NODE: &str = "executable=node.sh\narguments=$(code)\noutput=out.$(JOB)\nerror=err.$(JOB)\n\
    environment=\"WORDS='two words' DAG=$(DAGManJobId)\"\nrequest_memory=10\nqueue\n";

fn diamond(house: &House) {
    executable(house, "work/node.sh", "#!/bin/bash\n/usr/bin/env; exit $1\n");
    house.write("work/node.sub", NODE);
    house.write(
        "work/f.dag",
        "JOB A node.sub\nVARS A code=\"0\"\nJOB B node.sub\nVARS B code=\"3\"\nJOB C node.sub\nJOB D {\n executable=/bin/true\n}\n\
         PARENT A B CHILD C\nPARENT A CHILD D\n",
    );
}

#[test]
fn condor_dagman_a_failed_node_makes_its_descendants_futile_and_leaves_a_rescue_file() {
    let (queue, house) = with(Kind::HtCondor);
    diamond(&house);
    queue.inject("stall", "");
    shell(&house, "condor_submit_dag f.dag")
        .ok()
        .prints("1 job(s) submitted to cluster 1.\n")
        .prints(": f.dag.condor.sub\n");
    let shown = shell(&house, "condor_q -json -attributes ClusterId,JobStatus,JobUniverse 1").ok().json();
    assert_eq!(shown, serde_json::json!([{"ClusterId": 1, "JobStatus": 1, "JobUniverse": 7}]));
    queue.relent("stall");
    shell(&house, "condor_q >/dev/null").ok();
    queue.until("ended", |queue| queue.jobs()[0]["state"] == "ended");
    // None: no bytes at all from condor_q, an empty list from condor_history.
    assert_eq!(shell(&house, "condor_q -json").ok().stdout, "");
    assert_eq!(shell(&house, "condor_history -json 77").ok().stdout, "[\n]\n");
    let past = shell(&house, "condor_history -json -constraint 'ClusterId == 1 || DAGManJobId =?= 1'").ok().json();
    let find = |key: &str, value: serde_json::Value| past.as_array().unwrap().iter().find(|job| job[key] == value);
    let dag = find("ClusterId", 1.into()).unwrap();
    for (key, value) in
        [("DAG_Status", 2), ("DAG_NodesFailed", 1), ("DAG_NodesFutile", 1), ("DAG_NodesDone", 2), ("ExitCode", 1)]
    {
        assert_eq!(dag[key], value, "{key}");
    }
    assert_eq!(find("DAGNodeName", "B".into()).unwrap()["ExitCode"], 3);
    assert!(find("DAGNodeName", "C".into()).is_none());
    let rescue = std::fs::read_to_string(house.path("work/f.dag.rescue001")).unwrap();
    assert!(rescue.ends_with("\n\nDONE A\nDONE D\n"), "{rescue}");
    let env = std::fs::read_to_string(house.path("work/out.A")).unwrap();
    assert!(
        env.contains("BATCH_SYSTEM=HTCondor\n")
            && env.contains("_CONDOR_SCRATCH_DIR=")
            && env.contains("WORDS=two words\n"),
        "{env}"
    );
    assert!(!env.contains("\nPATH=") && !env.contains("\nHOME=") && !env.starts_with("HOME="), "{env}");
    // The same file again goes on from there.
    house.write("work/node.sh", "#!/bin/bash\nexit 0\n");
    shell(&house, "chmod 755 node.sh; condor_submit_dag f.dag").ok().prints("\nRunning rescue DAG 1\n");
    queue.until("all over", |queue| queue.jobs().iter().all(|job| job["state"] == "ended"));
    shell(&house, "condor_history -limit 1 -af DAG_Status DAG_NodesDone").ok().prints("0 4\n");
    shell(&house, "rm f.dag.rescue001; condor_submit_dag f.dag")
        .code(1)
        .says("ERROR: \"f.dag.condor.sub\" already exists.");
}

#[test]
fn condor_removal_holds_limits_and_a_node_that_cannot_start() {
    let (queue, house) = with(Kind::HtCondor);
    queue.inject("grace", "0.2");
    house.write("work/long.sub", "executable=/bin/sleep\narguments=60\nqueue\n");
    house.write("work/bad.sub", "executable=/bin/true\noutput=/nonexistent/o\nqueue\n");
    house.write("work/l.dag", "JOB L long.sub\nJOB N long.sub\nPARENT L CHILD N\n");
    house.write("work/b.dag", "JOB X bad.sub\n");
    shell(&house, "condor_submit_dag l.dag && condor_submit_dag b.dag").ok();
    queue.wait("L", "running");
    queue.until("held", |queue| queue.find("X").is_some_and(|job| job["held"] == true));
    let held = last(shell(
        &house,
        "condor_q -constraint 'DAGNodeName == \"X\"' -af JobStatus HoldReasonCode HoldReasonSubCode HoldReason",
    ));
    assert!(
        held.starts_with("5 7 2 Error from slot1_1@vm: Failed to open '/nonexistent/o' as standard output:"),
        "{held}"
    );
    shell(&house, "condor_rm 1").ok().prints("All jobs in cluster 1 have been marked for removal\n");
    queue.until("removed", |queue| queue.jobs()[0]["state"] == "ended");
    let dag = last(shell(&house, "condor_history 1 -af JobStatus ExitCode DAG_Status RemoveReason"));
    assert_eq!(dag, format!("3 undefined 4 via condor_rm (by user {})", queue.jobs()[0]["user"].as_str().unwrap()));
    assert_eq!(queue.job("L")["state"], "ended");
    assert!(queue.jobs().iter().all(|job| job["node"] != "N"));
    // Time limit, lost node, and a wrong submission.
    shell(&house, "condor_submit -terse long.sub -append allowed_job_duration=1 && condor_submit long.sub").ok();
    let (timed, lost) = (queue.jobs()[4]["id"].clone(), queue.jobs()[5]["id"].clone());
    queue.until("running", |queue| queue.jobs()[5]["state"] == "running");
    queue.inject("kill", &format!("{} node-fail\n", lost.as_str().unwrap()));
    queue.until("started again", |queue| queue.jobs()[5]["runs"] == 2);
    queue.until("over its time", |queue| queue.jobs()[4]["held"] == true);
    let id = timed.as_str().unwrap();
    assert_eq!(last(shell(&house, &format!("condor_q {id} -af JobStatus HoldReasonCode"))), "5 46");
    shell(&house, &format!("condor_release {id}"))
        .ok()
        .prints(&format!("All jobs in cluster {id} have been released\n"));
    shell(&house, "condor_rm 99").code(1).says("Couldn't find/remove all jobs in cluster 99");
    // A projection with ProcId and without ClusterId cannot tell two jobs apart.
    let two =
        shell(&house, "condor_q -json -attributes JobStatus,ProcId").ok().says("Error: Two results with the same ID.");
    assert_eq!(two.json().as_array().unwrap().len(), 1);
    // DAGMan submits inline descriptions itself and cannot say arguments with blanks.
    house.write("work/i.dag", "JOB I {\n executable=/bin/sh\n arguments=\"-c 'exit 0'\"\n}\n");
    shell(&house, "condor_submit_dag i.dag").ok();
    queue.until("failed", |queue| queue.jobs().iter().any(|job| job["code"] == 1 && job["universe"] == 7));
    let told = std::fs::read_to_string(house.path("work/i.dag.dagman.out")).unwrap();
    assert!(told.contains("Cannot represent 'exit 0' in V1 arguments syntax."), "{told}");
    house.write("work/none.sub", "executable=/bin/true\n");
    shell(&house, "condor_submit none.sub").code(1).says("no queue statement");
    shell(&house, "condor_submit_dag missing.dag").code(1).says("failed with errno 2 (No such file or directory)");
}

#[test]
fn condor_a_dag_on_hold_and_what_runs_before_a_node() {
    let (queue, house) = with(Kind::HtCondor);
    executable(&house, "work/pre.sh", "#!/bin/sh\necho \"$2 in $PWD\" > pre.$2\nexit $1\n");
    let node = |name: &str| format!("JOB {name} {{\n executable=/bin/true\n}}\n");
    house.write(
        "work/p.dag",
        format!(
            "{}{}{}SCRIPT PRE A pre.sh 0 $JOB\nSCRIPT PRE B pre.sh 1 $JOB\nPARENT B CHILD C\n",
            node("A"),
            node("B"),
            node("C")
        ),
    );
    shell(&house, "condor_submit_dag -batch-name mine -append 'hold = true' p.dag").ok();
    let ask = "condor_q -allusers -json -attributes ClusterId,ProcId,JobStatus,HoldReasonCode,DAG_Status \
               -constraint 'JobUniverse == 7 && JobBatchName == \"mine\"'";
    let held = shell(&house, ask).ok().json();
    assert_eq!(held, serde_json::json!([{"ClusterId": 1, "HoldReasonCode": 15, "JobStatus": 5, "ProcId": 0}]));
    shell(&house, "condor_release 1").ok().prints("All jobs in cluster 1 have been released\n");
    queue.until("over", |queue| queue.jobs()[0]["state"] == "ended");
    shell(&house, "condor_history 1 -af ExitCode DAG_Status DAG_NodesDone DAG_NodesFailed DAG_NodesFutile")
        .ok()
        .prints("1 2 1 1 1\n");
    let told = std::fs::read_to_string(house.path("work/pre.A")).unwrap();
    assert_eq!(told, format!("A in {}\n", house.path("work").display()));
    assert_eq!(queue.jobs().len(), 2);
}

#[test]
fn condor_schedd_down_and_a_dag_that_is_none() {
    let (queue, house) = with(Kind::HtCondor);
    diamond(&house);
    house.write("work/bad.dag", "JOB A node.sub\nFROB x\n");
    house.write("work/cyc.dag", "JOB A node.sub\nJOB B node.sub\nPARENT A CHILD B\nPARENT B CHILD A\n");
    shell(&house, "condor_submit_dag bad.dag && condor_submit_dag cyc.dag").ok();
    queue.until("both over", |queue| queue.jobs().iter().all(|job| job["state"] == "ended"));
    shell(&house, "condor_history 1 -af ExitCode DAG_Status").ok().prints("1 undefined\n");
    shell(&house, "condor_history 2 -af ExitCode DAG_Status").ok().prints("1 5\n");
    queue.inject("down", "");
    shell(&house, "condor_q -json").code(1).says("Error: Can't find address for schedd vm");
    shell(&house, "condor_submit_dag f.dag")
        .code(1)
        .says("ERROR: Can't find address of local schedd\nERROR: condor_submit failed; aborting.");
    shell(&house, "condor_history 2 -af ExitCode").ok();
}

// ---------------------------------------------------------------- all of them

#[test]
fn no_process_is_left_and_calls_are_counted() {
    for kind in Kind::ALL {
        let (queue, house) = with(kind);
        // A child in a session of its own survives a cancellation, but not the test.
        executable(&house, "work/s.sh", "#!/bin/bash\n/usr/bin/setsid /bin/sleep 60 &\n/bin/sleep 60\n");
        house.write("work/s.sub", "executable=s.sh\nqueue\n");
        let line = match kind {
            Kind::Pbs => "qsub -N s s.sh",
            Kind::Lsf => "bsub -J s < s.sh",
            Kind::HtCondor => "condor_submit s.sub",
        };
        shell(&house, line).ok();
        queue.until("running", |queue| queue.jobs()[0]["state"] == "running");
        assert_eq!(queue.calls().len(), 1);
        assert!(!house.processes().is_empty());
        drop(queue);
        assert!(house.processes().is_empty(), "{kind:?}: {:#?}", house.processes());
    }
}

#[test]
fn the_daemon_ends_by_itself_when_there_is_nothing_to_do() {
    let (queue, house) = with(Kind::Pbs);
    job(&house, "ok", "0", 0);
    shell(&house, "qsub -N a ok.sh; qsub -h -N b ok.sh").ok();
    queue.wait("a", "ended");
    house.settle();
    shell(&house, "qrls 2").ok();
    queue.wait("b", "ended");
}

// ---------------------------------------------------------------- Slurm

#[test]
fn slurm_of_all_tests_runs_jobs_of_the_user() {
    let house = House::new();
    let Some(_slurm) = Slurm::shared(&house) else { return };
    shell(&house, "sbatch --wait -o out -c 2 --wrap 'id -un; echo $SLURM_CPUS_ON_NODE'").ok();
    let out = std::fs::read_to_string(house.path("work/out")).unwrap();
    assert_eq!(out, "ovltest\n2\n");
}

#[test]
fn slurm_of_a_test_can_be_stopped() {
    let house = House::new();
    let Some(slurm) = Slurm::own(&house, &["MinJobAge=2"]) else { return };
    shell(&house, "sbatch --parsable -o /dev/null --wrap 'sleep 60'").ok().prints("1\n");
    slurm.ctl("stop-ctld", &[]).ok();
    shell(&house, "timeout 3 squeue").code(124);
    slurm.ctl("start-ctld", &[]).ok();
    shell(&house, "squeue -h -o %A").ok().prints("1\n");
}
