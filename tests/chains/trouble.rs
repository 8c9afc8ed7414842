//! What a chain does when the scheduler misbehaves: lost answers, refusals, silence, killed jobs, forgotten ones.

use super::site::{Site, for_each_scheduler};
use crate::support::queue::Kind;

for_each_scheduler!(
    a_submission_without_an_answer_is_found_by_its_name,
    a_refusal_takes_everything_back,
    a_late_refusal_takes_everything_back,
    nothing_is_concluded_from_silence,
    a_scheduler_that_is_down_takes_nothing,
    what_the_steps_said_counts_when_the_scheduler_forgets,
    killed_by_the_time_limit,
    killed_for_memory,
    lost_with_its_node,
    requeued,
    an_ovl_that_is_killed_before_it_has_released_its_jobs,
);

fn a_submission_without_an_answer_is_found_by_its_name(site: &Site) {
    site.diamond("abcd", |_| "");
    site.queue.inject("lose-reply", "");
    site.house.ovl(&["build", "--wait", "d/1"]).ok();
    site.built("abcd");
    assert_eq!(site.count(), 4, "nothing was submitted twice");
    site.settled();
}

fn refused(site: &Site) {
    let status = site.status();
    assert!(status.contains("=failed") && status.matches("=cancelled").count() == 3, "{status}");
    taken_back(site);
}

fn taken_back(site: &Site) {
    site.settled();
    site.built("");
    let steps = |job: &&serde_json::Value| job.get("dag").is_none_or(serde_json::Value::is_null);
    assert!(site.queue.jobs().iter().filter(steps).all(|job| job["start"].is_null()), "{:#?}", site.queue.jobs());
    // And again, when it takes them.
    site.house.ovl(&["retry", "--wait"]).ok();
    site.built("abcd");
    site.settled();
}

fn a_refusal_takes_everything_back(site: &Site) {
    site.diamond("abcd", |_| "");
    site.queue.inject("refuse", "");
    let run = site.submit(&["d"]).code(7).says("refuses the job").says("job.sh");
    assert!(run.stdout.is_empty(), "{run:#?}");
    refused(site);
}

fn a_late_refusal_takes_everything_back(site: &Site) {
    // HTCondor takes a chain whole or not at all.
    if site.kind == Kind::HtCondor {
        return;
    }
    site.diamond("abcd", |_| "");
    site.queue.inject("refuse-after", "3");
    site.queue.inject("refuse", "");
    site.submit(&["d"]).code(7).says("d/1: ").says("refuses the job");
    refused(site);
}

fn nothing_is_concluded_from_silence(site: &Site) {
    site.house.set("OVL_SCHED_TIMEOUT", "2s");
    site.queue.inject("stall", "");
    site.diamond("abcd", |_| "");
    site.submit(&["d"]).code(3);
    site.queue.inject("down", "");
    assert_eq!(site.status(), "a=unknown b=unknown c=unknown d=unknown");
    site.queue.relent("down");
    site.queue.inject("hang", "30");
    let began = std::time::Instant::now();
    assert_eq!(site.status(), "a=unknown b=unknown c=unknown d=unknown");
    assert!(began.elapsed().as_secs() < 10);
    site.house.ovl(&["status"]).ok().prints("the scheduler cannot be asked").prints("no answer within 2s");
    let told = site.house.ovl(&["cancel", "d/1"]).code(1).says("not all jobs could be cancelled");
    told.prints("cancelled d/1");
    site.queue.relent("hang");
    site.queue.relent("stall");
    site.house.ovl(&["wait"]).code(130);
    site.built("abc");
    site.settled();
}

fn a_scheduler_that_is_down_takes_nothing(site: &Site) {
    site.house.set("OVL_SCHED_TIMEOUT", "2s");
    site.diamond("abcd", |_| "");
    site.queue.inject("down", "");
    site.submit(&["d"]).code(7);
    site.queue.relent("down");
    assert_eq!(site.count(), 0);
    // LSF's words do not tell whether the daemon took the job before it fell silent: that is looked up before a retry.
    let first = if site.kind == Kind::Lsf { "lost" } else { "cancelled" };
    assert_eq!(site.status(), format!("a={first} b=cancelled c=cancelled d=cancelled"));
    taken_back(site);
}

fn what_the_steps_said_counts_when_the_scheduler_forgets(site: &Site) {
    site.queue.inject("forget", "");
    site.diamond("abcd", |name| if name == "b" { "sleep 0.3; false" } else { "" });
    site.submit(&["d"]).code(3);
    site.house.ovl(&["wait"]).code(2).says("b/1: failed in phase install").keeps_quiet_about("lost");
    assert_eq!(site.status(), "a=done b=failed c=done d=skipped");
    site.built("ac");
    site.settled();
}

fn slow(site: &Site) {
    site.recipe("s", "#SBATCH --cpus-per-task=1 --mem=100M --time=20", &[], "sleep ${STEP:-60}");
    site.recipe("t", "", &["s"], "");
    site.queue.inject("grace", "0.3");
    site.house.ovl(&["build", "t/1"]).code(3);
    site.says("s", "running");
}

fn killed_by_the_time_limit(site: &Site) {
    slow(site);
    site.kill("s", "time-limit");
    site.house.ovl(&["wait"]).code(124).says("was ended by its time limit").says("again with more time");
    assert_eq!(site.status(), "s=failed t=skipped");
    site.settled();
    site.house.ovl(&["retry", "-n"]).ok().says("s/1 gets 40m00s of time: 20m00s were not enough");
    site.house.ovl(&["retry", "-n", "--same"]).ok().keeps_quiet_about("gets");
    site.house.ovl(&["retry", "-n", "--time", "2h"]).ok().keeps_quiet_about("gets");
}

fn killed_for_memory(site: &Site) {
    slow(site);
    site.kill("s", "memory");
    if site.kind == Kind::HtCondor {
        // It is held first; the job's own rule removes it minutes later.
        site.queue.until("held", |_| site.job("s").is_some_and(|job| job["held"] == true));
        site.house.ovl(&["status"]).ok().prints("is held: ").prints("over cgroup memory limit");
        site.house.ovl(&["cancel", "--all"]).ok();
        site.settled();
        return;
    }
    let run = site.house.ovl(&["wait"]);
    if site.kind == Kind::Lsf {
        // volclava does not say why it killed a job.
        run.code(1).says("s/1: ");
    } else {
        run.code(2).says("was killed for its memory").says("again with more memory");
        site.house.ovl(&["retry", "-n"]).ok().says("s/1 gets 200 MiB of memory: it was killed with 100 MiB");
    }
    site.settled();
}

fn lost_with_its_node(site: &Site) {
    // PBS and HTCondor start it again on another node, as ovl asks; volclava says that it failed.
    slow(site);
    site.kill("s", "node-fail");
    match site.kind {
        Kind::Lsf => drop(site.house.ovl(&["wait"]).code(1).says("s/1: ")),
        _ => {
            site.queue.until("run twice", |_| site.job("s").is_some_and(|job| job["runs"] == 2));
            assert_eq!(site.status(), "s=running t=waiting");
            site.house.ovl(&["cancel", "--all"]).ok();
        }
    }
    site.settled();
}

fn requeued(site: &Site) {
    // The second time around it finds what the first left behind, and ends well.
    site.recipe("s", "#SBATCH -c 1", &[], "sleep 1.5");
    site.recipe("t", "", &["s"], "");
    site.queue.inject("grace", "0.3");
    site.house.ovl(&["build", "t/1"]).code(3);
    site.says("s", "running");
    site.kill("s", "requeue");
    site.queue.until("run twice", |_| site.job("s").is_some_and(|job| job["runs"] == 2));
    site.house.ovl(&["wait"]).ok();
    site.built("st");
    site.settled();
}

#[test]
fn volclava_may_start_a_step_too_early() {
    let site = Site::new(Kind::Lsf);
    site.queue.inject("start-early", "");
    site.diamond("abcd", |name| if name == "d" { "" } else { "sleep 0.7" });
    site.submit(&["d"]).code(3);
    site.says("d", "running");
    assert!(!site.is_built("b"), "d did start early");
    site.house.ovl(&["wait"]).ok();
    site.built("abcd");
    site.settled();
    // And where what it needs fails, it ends.
    site.recipe("f", "", &[], "sleep 1; false");
    site.recipe("g", "", &["f"], "");
    site.submit(&["g"]).code(3);
    site.house.ovl(&["wait"]).code(2).says("g/1: skipped: it needs f/1, which failed");
    site.settled();
}

#[test]
fn openpbs_may_drop_a_step_silently() {
    let site = Site::new(Kind::Pbs);
    site.diamond("abcd", |name| if name == "a" { "sleep 1" } else { "" });
    site.queue.inject("vanish", "");
    site.submit(&["d"]).code(3);
    let run = site.house.ovl(&["wait"]);
    assert_ne!(run.code, 0, "{run:#?}");
    let run = run.says(": lost: job").says("is no longer known to the scheduler");
    run.says("d/1: skipped: it needs");
    site.settled();
    site.house.ovl(&["retry", "--wait"]).ok();
    site.built("abcd");
    site.settled();
}

#[test]
fn children_that_wait_for_ever_are_taken_away_by_whoever_looks_next() {
    let site = Site::new(Kind::Lsf);
    site.house.set("OVL_SCHED_TIMEOUT", "1s");
    site.diamond("abcd", |name| if name == "b" { "sleep 1; false" } else { "" });
    site.submit(&["d"]).code(3);
    site.says("b", "running");
    // The node cannot reach the scheduler.
    site.queue.inject("down", "");
    site.says("d", "skipped");
    site.queue.until("b over", |_| site.house.processes().iter().all(|line| !line.contains("steps/0001")));
    assert_eq!(site.status(), "a=done b=failed c=done d=skipped");
    site.queue.relent("down");
    assert_eq!(site.job("d").unwrap()["state"], "pending");
    site.house.ovl(&["status"]).ok().says("cancelled jobs that could never start: 4").prints("d/1  skipped");
    site.settled();
    let before = site.queue.calls().len();
    site.house.ovl(&["status"]).ok();
    assert_eq!(site.queue.calls().len(), before);
}

fn an_ovl_that_is_killed_before_it_has_released_its_jobs(site: &Site) {
    let release = match site.kind {
        Kind::Pbs => "qrls",
        Kind::Lsf => "bresume",
        Kind::HtCondor => "condor_release",
    };
    site.diamond("abcd", |_| "");
    site.queue.inject("hang", &format!("60 {release}"));
    let mut ovl = site.house.start(&["build", "--always-submit", "d/1"]);
    site.queue.until("called", |queue| queue.calls().iter().any(|call| call[0] == release));
    ovl.kill().unwrap();
    ovl.wait().unwrap();
    site.queue.relent("hang");
    // What it has submitted is held, and nobody else would ever release it.
    let calls = |site: &Site| site.queue.calls().iter().filter(|call| call[0] != release).count();
    let before = calls(site);
    let told = site.house.ovl(&["wait"]);
    assert_ne!(told.code, 0, "{told:#?}");
    assert!(calls(site) > before);
    site.settled();
    site.built("");
    let status = site.status();
    assert!(!status.contains("waiting") && !status.contains("planned"), "{status}");
    site.house.ovl(&["retry", "--wait"]).ok();
    site.built("abcd");
    site.settled();
}
