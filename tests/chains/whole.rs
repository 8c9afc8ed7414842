//! What a chain does when nothing but recipes and users interfere: order, failure, cancellation, retry, joining.

use super::site::{Site, for_each_scheduler};
use crate::support::queue::Kind;

for_each_scheduler!(
    a_diamond_of_local_and_queued_steps,
    a_failing_middle_is_told_at_once_and_leaves_nothing_in_the_queue,
    a_failing_middle_without_anybody_watching,
    cancelling_what_waits_and_what_runs,
    cancelling_one_of_several,
    a_retry_with_more_of_what_was_lacking,
    the_end_code_of_a_wait,
    a_second_run_joins_the_first,
    directives_of_slurm_are_translated,
    a_build_inside_of_a_job_builds_there,
    one_query_for_a_status,
    a_job_taken_away_by_hand,
    waiting_for_a_job_that_goes_away,
);

fn a_diamond_of_local_and_queued_steps(site: &Site) {
    // Which steps have directives; what needs a queued one is queued too.
    for (queued, jobs) in [("a", 4), ("b", 2), ("bc", 3), ("d", 1), ("ad", 4)] {
        let before = site.count();
        let _ = std::fs::remove_dir_all(site.house.layer());
        site.diamond(queued, |_| "");
        let run = site.house.ovl(&["build", "--wait", "d/1"]).ok();
        assert_eq!(run.stdout.trim(), site.house.image("d/1").to_string_lossy(), "{queued}: {run:#?}");
        site.built("abcd");
        assert_eq!(site.count() - before, jobs, "{queued}: {:#?}", run.stderr);
        assert_eq!(site.status(), "a=done b=done c=done d=done");
        site.settled();
    }
    site.house.ovl(&["exec", "-o", "d/1", "cat", "/cnt/a/1/a", "/cnt/d/1/d"]).ok().prints("a\nd\n");
}

fn failing_middle(site: &Site) {
    site.diamond("abcd", |name| match name {
        "b" => "echo the middle >&2; sleep 0.3; false",
        "c" => "sleep 0.6",
        _ => "",
    });
    site.recipe("e", "", &["d"], "");
}

fn a_failing_middle_is_told_at_once_and_leaves_nothing_in_the_queue(site: &Site) {
    failing_middle(site);
    let run = site.house.ovl(&["build", "--wait", "e/1"]).code(2);
    let run = run.says("b/1: failed").says("the middle").says("d/1: skipped: it needs b/1, which failed");
    run.says("e/1: skipped: it needs").says("ovl retry").keeps_quiet_about("lost");
    site.built("ac");
    assert_eq!(site.status(), "a=done b=failed c=done d=skipped e=skipped");
    site.settled();
    site.house.ovl(&["wait"]).code(2).says("b/1: failed in phase install");
    site.house.ovl(&["explain", "d/1"]).ok().prints("it needs b/1, which failed");
}

fn a_failing_middle_without_anybody_watching(site: &Site) {
    failing_middle(site);
    site.house.ovl(&["build", "e/1"]).code(3).says("5 jobs");
    // Nobody but the jobs themselves sees to it that nothing waits for ever.
    site.says("c", "done");
    site.says("e", "skipped");
    site.settled();
    site.built("ac");
    assert_eq!(site.status(), "a=done b=failed c=done d=skipped e=skipped");
}

fn cancelling_what_waits_and_what_runs(site: &Site) {
    site.queue.inject("stall", "");
    site.diamond("abcd", |name| if name == "a" { "sleep 60" } else { "" });
    site.submit(&["d"]).code(3);
    let told = site.house.ovl(&["cancel", "-n", &site.id()]).ok().prints("would cancel a/1\n");
    told.prints("would cancel d/1\n");
    site.house.ovl(&["cancel", &site.id()]).ok().prints("cancelled a/1\n").prints("cancelled d/1\n");
    assert_eq!(site.status(), "a=cancelled b=cancelled c=cancelled d=cancelled");
    site.queue.relent("stall");
    site.settled();
    site.house.ovl(&["cancel", &site.id()]).ok().says("there is nothing left to cancel");
    // Taken up again, and cancelled while it runs.
    let id = site.id();
    site.house.ovl(&["retry", &id]).code(3).says("trying a/1 again (cancelled)");
    site.says("a", "running");
    site.house.ovl(&["cancel", "--all"]).ok().prints("cancelled a/1\n").prints("cancelled d/1\n");
    assert_eq!(site.status(), "a=cancelled b=cancelled c=cancelled d=cancelled");
    site.settled();
    site.built("");
    site.house.ovl(&["wait", &id]).code(130);
    if site.kind == Kind::Pbs {
        let calls = site.queue.calls();
        let qdels: Vec<_> = calls.iter().filter(|call| call[0] == "qdel").collect();
        assert!(qdels.len() >= 8 && qdels.iter().all(|call| call.len() == 2), "{qdels:?}");
    }
}

fn cancelling_one_of_several(site: &Site) {
    site.diamond("abcd", |name| if name == "b" { "sleep 60" } else { "" });
    site.submit(&["d"]).code(3);
    site.says("b", "running");
    site.says("c", "done");
    let told = site.house.ovl(&["cancel", "b/1"]).ok().prints("cancelled b/1\n").prints("cancelled d/1\n");
    assert!(!told.stdout.contains("c/1"), "{told:#?}");
    assert_eq!(site.status(), "a=done b=cancelled c=done d=cancelled");
    site.settled();
    site.built("ac");
}

fn a_retry_with_more_of_what_was_lacking(site: &Site) {
    site.diamond("abcd", |name| if name == "b" { "test $NCPUS -ge 2" } else { "" });
    site.house.ovl(&["build", "--wait", "d/1"]).code(2).says("b/1: failed");
    let run = site.house.ovl(&["retry", "--wait", "--cpus", "2"]).ok();
    run.says("trying b/1 again (failed)").says("trying d/1 again (skipped)").keeps_quiet_about("a/1 again");
    site.built("abcd");
    assert_eq!(site.status(), "a=done b=done c=done d=done");
    site.settled();
    site.house.ovl(&["retry"]).ok().says("there is nothing to try again");
}

fn the_end_code_of_a_wait(site: &Site) {
    site.recipe("good", "", &[], "");
    site.recipe("bad", "", &[], "sleep 0.5; false");
    site.recipe("gate", "#VERIFY:false", &[], "");
    site.submit(&["good"]).code(3);
    site.house.ovl(&["wait"]).ok().prints("good--1.sqf");
    let json = site.house.ovl(&["wait", "--json"]).ok().json();
    assert_eq!(json[0]["outcome"], "built");
    site.submit(&["bad"]).code(3);
    site.house.ovl(&["wait", "bad/1"]).code(2).says("bad/1: failed in phase install");
    site.house.ovl(&["build", "--always-submit", "--wait", "gate/1"]).code(5);
    // An interrupt ends the waiting, not the jobs.
    site.recipe("slow", "", &[], "sleep 2");
    site.submit(&["slow"]).code(3);
    let waiting = site.house.start(&["wait"]);
    std::thread::sleep(std::time::Duration::from_millis(700));
    let pid = nix::unistd::Pid::from_raw(waiting.id().try_into().unwrap());
    nix::sys::signal::kill(pid, nix::sys::signal::Signal::SIGINT).unwrap();
    let run = crate::support::house::Run::of(waiting.wait_with_output().unwrap());
    run.code(130).says("the run goes on");
    site.house.ovl(&["wait"]).ok();
    site.built("goodslow");
}

fn a_second_run_joins_the_first(site: &Site) {
    site.diamond("abcd", |name| if name == "a" { "sleep 2" } else { "" });
    site.recipe("x", "#SBATCH -c 1", &["a"], "cat /cnt/a/1/a");
    site.submit(&["d"]).code(3);
    let first = site.id();
    site.says("a", "running");
    let dry = site.house.ovl(&["build", "--dry-run", "x/1"]).ok();
    assert!(dry.stdout.contains("already being built by"), "{dry:#?}");
    site.house.ovl(&["build", "--wait", "x/1"]).ok().says("a/1: joined as job");
    assert_ne!(site.id(), first);
    site.house.ovl(&["wait", &first]).ok();
    site.built("abcdx");
    assert_eq!(site.count(), 5, "a was built once");
    site.settled();
    // And one whose joined parent fails.
    site.recipe("f", "", &[], "sleep 1; false");
    site.recipe("g", "#SBATCH -c 1", &["f"], "");
    site.submit(&["f"]).code(3);
    site.says("f", "running");
    site.house.ovl(&["build", "--wait", "g/1"]).code(2).says("g/1: skipped: it needs f/1, which failed");
    site.settled();
}

fn directives_of_slurm_are_translated(site: &Site) {
    let headers = "#SBATCH --cpus-per-task=2 --mem=300M\n#SBATCH -t 0:30:00 --nice=5";
    site.recipe("t", headers, &[], "echo cpus $NCPUS mem $MEM > $target_dir/had");
    let run = site.house.ovl(&["build", "--wait", "t/1"]).ok().says("--nice");
    assert!(run.stderr.contains("left out") || run.stderr.contains("cannot be said"), "{run:#?}");
    site.house.ovl(&["exec", "-o", "t/1", "cat", "/cnt/t/1/had"]).ok().prints("cpus 2 mem 300");
    let text = std::fs::read_to_string(site.run().join("steps/0000/job.sh")).unwrap();
    for line in match site.kind {
        Kind::Pbs => ["#PBS -l select=1:ncpus=2:mem=300mb", "#PBS -l walltime=00:30:00"],
        Kind::Lsf => ["#BSUB -n 2", "#BSUB -W 0:30"],
        Kind::HtCondor => ["request_cpus = 2", "request_memory = 300"],
    } {
        assert!(text.contains(line), "no {line:?} in {text}");
    }
    assert!(!text.contains("nice"), "{text}");
}

fn a_build_inside_of_a_job_builds_there(site: &Site) {
    site.recipe("n", "#SBATCH -c 1", &[], "");
    let vars: &[(&str, &str)] = match site.kind {
        Kind::Pbs => &[("PBS_JOBID", "7.vm"), ("NCPUS", "2")],
        Kind::Lsf => &[("LSB_JOBID", "7"), ("LSB_MCPU_HOSTS", "vm 2")],
        Kind::HtCondor => &[("OVL_JOB", "7:S0001"), ("BATCH_SYSTEM", "HTCondor")],
    };
    site.house.ovl_with(vars, &["build", "--always-submit", "n/1"]).ok().says("n/1: built");
    assert_eq!(site.count(), 0);
    site.built("n");
}

fn one_query_for_a_status(site: &Site) {
    site.queue.inject("stall", "");
    site.diamond("abcd", |_| "");
    site.recipe("e", "", &[], "");
    site.submit(&["d"]).code(3);
    site.submit(&["e"]).code(3);
    let before = site.queue.calls().len();
    let shown = site.house.ovl(&["status"]).ok();
    assert_eq!(shown.stdout.matches("/1  waiting  ").count(), 5, "{shown:#?}");
    let calls = site.queue.calls().split_off(before);
    // What the scheduler does not show among the living is looked for once more among the dead.
    let queries = if site.kind == Kind::HtCondor { 2 } else { 1 };
    assert!(calls.len() <= queries, "{calls:#?}");
    site.queue.relent("stall");
    for run in site.house.names("home/.local/state/ovl/runs") {
        site.house.ovl(&["wait", &run]).ok();
    }
    let before = site.queue.calls().len();
    site.house.ovl(&["status", "--all"]).ok();
    assert_eq!(site.queue.calls().len(), before, "nobody is asked about what is over");
    site.settled();
}

fn a_job_taken_away_by_hand(site: &Site) {
    site.queue.inject("stall", "");
    site.diamond("abcd", |_| "");
    site.submit(&["d"]).code(3);
    let command = match site.kind {
        Kind::Pbs => "qdel 1",
        Kind::Lsf => "bkill 1",
        Kind::HtCondor => "condor_rm 1",
    };
    crate::support::queue::shell(&site.house, command).ok();
    // OpenPBS holds the children of a deleted parent for ever, LSF lets them wait; ovl takes them away.
    let run = site.house.ovl(&["wait"]);
    assert_ne!(run.code, 0, "{run:#?}");
    site.queue.relent("stall");
    site.settled();
    site.built("");
    let status = site.status();
    assert!(!status.contains("waiting") && !status.contains("unknown") && !status.contains("done"), "{status}");
    site.house.ovl(&["retry", "--wait"]).ok();
    site.built("abcd");
    site.settled();
}

fn waiting_for_a_job_that_goes_away(site: &Site) {
    site.house.set("OVL_BUILD_LEASE", "5s");
    site.queue.inject("stall", "");
    site.recipe("a", "#SBATCH -c 1", &[], "");
    site.submit(&["a"]).code(3);
    let mut waiting = site.house.start(&["build", "--no-submit", "a/1"]);
    std::thread::sleep(std::time::Duration::from_millis(500));
    assert!(waiting.try_wait().unwrap().is_none(), "it waits for the job");
    // Out of the queue, and nobody tells ovl.
    let command = match site.kind {
        Kind::Pbs => "qdel 1",
        Kind::Lsf => "bkill 1",
        Kind::HtCondor => "condor_rm 1",
    };
    crate::support::queue::shell(&site.house, command).ok();
    let run = crate::support::house::Run::of(waiting.wait_with_output().unwrap()).ok();
    assert!(run.stderr.contains("the build of"), "{run:#?}");
    site.built("a");
    site.queue.relent("stall");
    site.settled();
}
