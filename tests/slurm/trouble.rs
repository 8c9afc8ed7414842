//! What goes wrong on clusters: requeued jobs, lost nodes, time limits, a controller that is away, forgotten parents.

use super::{CONFIG, Site, end, rows};
use crate::support::house::script;
use crate::support::queue::shell;

/// A requeued job waits two minutes; an administrator may have it start at once.
fn start_now(site: &Site, job: &str) {
    site.until("requeued", || site.jobs().iter().any(|line| line.starts_with(&format!("{job} PENDING"))));
    // Its old credentials are revoked by the second: a node refuses it within the same one.
    std::thread::sleep(std::time::Duration::from_millis(1500));
    site.admin(&format!("timeout 20 scontrol update jobid={job} StartTime=now")).ok();
}

#[test]
fn a_requeued_build_takes_up_its_own_step() {
    let Some(site) = Site::shared() else { return };
    site.gated("slow/1", &[], true);
    site.quick("end/1", &["slow/1"], true);
    site.ovl(&["build", "end/1"]).code(3);
    site.wait_for_gate(1);
    let job = site.job("slow/1");
    let first = site.at_the_gate();
    let waiting = site.house.start(&["wait", "--json"]);
    site.admin(&format!("timeout 20 scontrol requeue {job}")).ok();
    site.until("cleared away", || site.at_the_gate().is_empty());
    site.until("requeued", || site.jobs().iter().any(|line| line.starts_with(&format!("{job} PENDING"))));
    assert_eq!([site.state("slow/1"), site.state("end/1")], ["waiting", "waiting"]);
    let why = site.explain("slow/1");
    assert!(why.contains("It was requeued, and starts again after a pause."), "{why}");
    // Whoever builds the same now waits for that job.
    let run = site.ovl(&["build", "--json", "slow/1"]).code(3);
    assert_eq!(rows(&run), ["slow/1=joined"]);
    start_now(&site, &job);
    site.wait_for_gate(1);
    assert_ne!(site.at_the_gate(), first);
    assert_eq!(site.state("slow/1"), "running");
    site.open_gate();
    assert_eq!(rows(&end(waiting).ok()), ["slow/1=built", "end/1=built"]);
    assert_eq!((site.job("slow/1"), site.status("slow/1")["attempt"].clone()), (job, 1.into()));
    site.is_clean();
}

#[test]
fn a_build_that_is_lost_with_its_node_begins_again() {
    let Some(site) = Site::own(&[]) else { return };
    site.gated("slow/1", &[], true);
    site.quick("end/1", &["slow/1"], true);
    site.ovl(&["build", "end/1"]).code(3);
    site.wait_for_gate(1);
    let first = site.at_the_gate();
    let job = site.job("slow/1");
    let node = shell(&site.house, &format!("timeout 20 squeue -h -j {job} -o %N")).ok().stdout.trim().to_owned();
    site.slurm.ctl("node-crash", &[&node]).ok();
    for line in site.house.processes() {
        let pid = line.split(':').next().and_then(|pid| pid.parse().ok()).unwrap();
        let _ = nix::sys::signal::kill(nix::unistd::Pid::from_raw(pid), nix::sys::signal::Signal::SIGKILL);
    }
    site.admin(&format!("timeout 20 scontrol update nodename={node} state=down reason=gone")).ok();
    site.until("requeued", || site.jobs().iter().any(|line| line.starts_with(&format!("{job} PENDING"))));
    // Its claim is a dead process', but its job will begin again: nobody is to begin a second one.
    assert_eq!(rows(&site.ovl(&["build", "--json", "slow/1"]).code(3)), ["slow/1=joined"]);
    start_now(&site, &job);
    site.until("begun again", || {
        shell(&site.house, &format!("timeout 20 squeue -h -j {job} -o '%T %N'")).stdout.starts_with("RUNNING")
    });
    // The second one clears away what the first one left.
    site.until("at the gate again", || !site.at_the_gate().is_empty() && site.at_the_gate() != first);
    assert_eq!((site.at_the_gate().len(), site.builds("slow/1")), (1, 2));
    site.open_gate();
    site.ovl(&["wait", "end/1"]).ok().prints("end--1.sqf");
    site.is_clean();
}

#[test]
fn a_build_that_runs_out_of_time_is_offered_more() {
    let Some(site) = Site::shared() else { return };
    site.house.recipe("slow/1", script("#SBATCH --time=1 --mem=100M", "sleep ${long:-200}; touch $target_dir/f"));
    site.quick("end/1", &["slow/1"], true);
    site.ovl(&["build", "end/1"]).code(3);
    site.until("running", || site.state("slow/1") == "running");
    // Its minute ends early; limits are looked at twice a minute.
    site.admin(&format!("timeout 20 scontrol update jobid={} EndTime=now+1", site.job("slow/1"))).ok();
    site.ovl(&["wait"]).code(124).says("slow/1").says("time limit").says("ovl retry");
    assert_eq!(site.status("slow/1")["class"], "time");
    assert_eq!([site.state("slow/1"), site.state("end/1")], ["failed", "skipped"]);
    let why = site.explain("slow/1");
    assert!(
        why.contains("was ended by its time limit") && why.contains("Try it again with more time: ovl retry"),
        "{why}"
    );
    site.is_clean();
    site.ovl(&["retry", "-n"])
        .ok()
        .says("slow/1 gets 2m00s of time: 1m00s were not enough")
        .says("would try end/1 again");
    site.ovl(&["retry", "slow/1"]).code(3);
    let job = site.job("slow/1");
    shell(&site.house, &format!("timeout 20 scontrol show job {job}")).ok().prints("TimeLimit=00:02:00");
    site.ovl(&["cancel", "--all"]).ok();
    site.is_clean();
}

#[test]
fn a_build_that_is_killed_for_its_memory_is_offered_more() {
    let watch =
        ["JobAcctGatherType=jobacct_gather/linux", "JobAcctGatherParams=OverMemoryKill", "JobAcctGatherFrequency=1"];
    let Some(site) = Site::own(&watch) else { return };
    site.recipe("fat/1", &[], true, "[ $MEM -gt 100 ] || { x=$(head -c 300000000 /dev/zero | tr '\\0' x); sleep 30; }");
    site.quick("end/1", &["fat/1"], true);
    site.ovl(&["build", "end/1"]).code(3);
    site.ovl(&["wait"]).code(2).says("fat/1").says("was killed for its memory").says("try again with more memory");
    assert_eq!(site.status("fat/1")["class"], "memory");
    assert_eq!([site.state("fat/1"), site.state("end/1")], ["failed", "skipped"]);
    assert!(site.explain("fat/1").contains("Try it again with more memory: ovl retry "), "{}", site.explain("fat/1"));
    let retry =
        site.ovl(&["retry", "--wait", "--json"]).ok().says("fat/1 gets 200 MiB of memory: it was killed with 100 MiB");
    assert_eq!(rows(&retry), ["fat/1=built", "end/1=built"]);
    assert_eq!(site.status("fat/1")["attempt"], 2);
    site.is_clean();
}

#[test]
fn a_controller_that_is_away_proves_nothing() {
    let Some(site) = Site::own(&[]) else { return };
    site.house.write("home/.config/ovl/config.yaml", format!("{CONFIG}sched:\n  timeout: 1s\n"));
    site.gated("slow/1", &[], true);
    site.quick("end/1", &["slow/1"], true);
    site.quick("new/1", &[], true);
    site.quick("here/1", &[], false);
    site.ovl(&["build", "end/1"]).code(3);
    site.wait_for_gate(1);
    let waiting = site.house.start(&["wait", "end/1", "--json"]);
    site.slurm.ctl("stop-ctld", &[]).ok();
    let status = site.ovl(&["status", "--json"]).ok().json();
    assert!(status[0]["trouble"].is_string(), "{status:#}");
    let states: Vec<&str> =
        status[0]["steps"].as_array().unwrap().iter().map(|step| step["state"].as_str().unwrap()).collect();
    assert_eq!(states, ["running", "unknown"]);
    let why = site.explain("end/1");
    assert!(why.contains("How it is cannot be told: the scheduler cannot be asked"), "{why}");
    // A build meanwhile: what needs no scheduler is built, what needs it is refused whole.
    site.ovl(&["build", "here/1"]).ok();
    let run = site.ovl(&["build", "new/1"]).code(7).says("cannot be reached");
    assert_eq!(run.stdout, "");
    let claims = site.house.names("home/.local/share/ovl/images");
    assert!(!claims.iter().any(|file| file.contains("new--1")), "{claims:?}");
    site.open_gate();
    site.until("built", || site.is_built("slow/1"));
    site.slurm.ctl("start-ctld", &[]).ok();
    assert_eq!(rows(&end(waiting).ok()), ["slow/1=built", "end/1=built"]);
    assert_eq!(site.content("end/1"), "slow/1\nend/1\n");
    let run = site.ovl(&["build", "--wait", "--json", "new/1"]).ok();
    assert_eq!((rows(&run), site.builds("new/1")), (vec!["new/1=built".to_owned()], 1));
    site.is_clean();
}

#[test]
fn a_child_of_a_forgotten_parent_does_not_begin() {
    let Some(site) = Site::own(&["MinJobAge=2"]) else { return };
    // One parent says that it has failed, the other is killed without a word.
    site.recipe("told/1", &[], true, "touch $tmp_dir/begun; until [ -e $tmp_dir/go ]; do sleep 0.05; done; exit 9");
    site.gated("mute/1", &[], true);
    for parent in ["told", "mute"] {
        site.quick(&format!("{parent}/2"), &[&format!("{parent}/1")], true);
        site.ovl(&["build", &format!("{parent}/2")]).code(3);
    }
    site.wait_for_gate(2);
    let jobs = ["told/1", "told/2", "mute/1", "mute/2"].map(|name| site.job(name));
    // Somebody takes the children's dependencies away: to a forgetful Slurm a forgotten parent is the same.
    for child in [&jobs[1], &jobs[3]] {
        site.admin(&format!(
            "timeout 20 scontrol hold {child} && timeout 20 scontrol update jobid={child} Dependency="
        ))
        .ok();
    }
    site.admin(&format!("timeout 20 scancel --full -s KILL {}", jobs[2])).ok();
    site.open_gate();
    site.until("forgotten", || {
        site.admin("timeout 20 scontrol ping >/dev/null; timeout 20 squeue -h -t all -o %i").stdout.lines().count() == 2
    });
    site.admin(&format!("timeout 20 scontrol release {} {}", jobs[1], jobs[3])).ok();
    site.until("over", || site.jobs().len() <= 1);
    let run = site.ovl(&["wait", "told/2"]).code(2);
    assert!(run.stderr.contains("told/2: skipped: it needs told/1, which failed"), "{run:#?}");
    site.ovl(&["wait", "mute/2"]).code(1).says("mute/2: skipped");
    site.until("over", || site.jobs().is_empty());
    assert_eq!([site.state("told/2"), site.state("mute/2")], ["skipped", "skipped"]);
    assert_eq!([site.builds("told/2"), site.builds("mute/2")], [0, 0]);
    // Both can be built when there is nothing in their way.
    site.quick("told/1", &[], true);
    site.quick("mute/1", &[], true);
    site.ovl(&["build", "--wait", "told/2", "mute/2"]).ok();
    site.is_clean();
}
