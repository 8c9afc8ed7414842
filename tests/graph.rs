//! Many overlays at once on this machine: plans, parallel builds, failures and what they cost, runs and their records.

use std::time::{Duration, Instant};

use serde_json::Value;

use crate::support::house::{House, script};
use crate::support::queue::executable;

fn put(text: &str) -> String {
    format!("mkdir -p $target_dir; {text}")
}

fn texts<'a>(rows: &'a Value, key: &str) -> Vec<&'a str> {
    rows.as_array().unwrap().iter().map(|row| row[key].as_str().unwrap_or("")).collect()
}

/// a → b, c → d.
fn diamond(house: &House) {
    house.recipe("a/1", script("", &put("echo a > $target_dir/a")));
    for name in ["b", "c"] {
        let own = put(&format!("cat /cnt/a/1/a > $target_dir/{name}; echo {name} >> $target_dir/{name}"));
        house.recipe(&format!("{name}/1"), script("#DEP:a/1", &own));
    }
    house.recipe("d/1", script("#DEP:b/1\n#DEP:c/1", &put("cat /cnt/b/1/b /cnt/c/1/c > $target_dir/d")));
}

fn names(house: &House) -> Vec<String> {
    house.names("home/.local/share/ovl/images").into_iter().filter(|name| name.ends_with(".sqf")).collect()
}

#[test]
fn a_diamond_is_built_once_each() {
    let house = House::new();
    diamond(&house);
    let rows = house.ovl(&["build", "--json", "d/1", "b/1"]).ok().json();
    assert_eq!(texts(&rows, "name"), ["a/1", "b/1", "c/1", "d/1"]);
    assert_eq!(texts(&rows, "outcome"), ["built"; 4]);
    house.ovl(&["exec", "-o", "d/1", "cat", "/cnt/d/1/d"]).ok().prints("a\nb\na\nc\n");
    let again = house.ovl(&["build", "--json", "d/1", "b/1"]).ok().json();
    assert_eq!(texts(&again, "outcome"), ["up_to_date"; 2]);
    house.settle();
}

#[test]
fn independent_builds_run_side_by_side_and_one_after_another_when_asked() {
    let house = House::new();
    for name in ["x", "y", "z"] {
        house.recipe(&format!("{name}/1"), script("", &put("sleep 2; touch $target_dir/x")));
    }
    let began = Instant::now();
    house.ovl(&["build", "x/1", "y/1", "z/1"]).ok();
    assert!(began.elapsed() < Duration::from_secs(5), "three sleeps of 2 s took {:?}", began.elapsed());
    house.ovl(&["rm", "-y", "x/1", "y/1"]).ok();
    let began = Instant::now();
    house.ovl(&["build", "-j", "1", "x/1", "y/1"]).ok();
    assert!(began.elapsed() >= Duration::from_secs(4), "two builds ran at once: {:?}", began.elapsed());
}

#[test]
fn a_memory_budget_keeps_large_builds_apart() {
    let house = House::new();
    house.set("OVL_SCHED_KIND", "none");
    for name in ["x", "y"] {
        let lock = "mkdir /var/tmp/../tmp/x 2>/dev/null; echo $MEM_GB > $target_dir/mem; sleep 1";
        house.recipe(&format!("{name}/1"), script("#SBATCH --mem=8G", &put(lock)));
    }
    let began = Instant::now();
    house.ovl(&["build", "--mem-budget", "10G", "x/1", "y/1"]).ok();
    assert!(began.elapsed() >= Duration::from_secs(2), "two times 8G ran at once on 10G: {:?}", began.elapsed());
    house.ovl(&["exec", "-o", "x/1", "cat", "/cnt/x/1/mem"]).ok().prints("8");
}

#[test]
fn a_failure_costs_its_descendants_only() {
    let house = House::new();
    diamond(&house);
    house.recipe("b/1", script("#DEP:a/1", "echo sorry >&2; exit 9"));
    house.recipe("e/1", script("", &put("sleep 1; touch $target_dir/e")));
    let run = house.ovl(&["build", "--json", "d/1", "e/1"]).code(2);
    run.json();
    let rows = run.json();
    let row = |name: &str| rows.as_array().unwrap().iter().find(|row| row["name"] == name).unwrap().clone();
    assert_eq!(texts(&rows, "name").len(), 5);
    assert_eq!((row("b/1")["outcome"].as_str(), row("d/1")["outcome"].as_str()), (Some("failed"), Some("skipped")));
    assert_eq!(row("d/1")["reason"], "it needs b/1, which failed");
    assert_eq!((row("c/1")["outcome"].as_str(), row("e/1")["outcome"].as_str()), (Some("built"), Some("built")));
    run.says("d/1: skipped: it needs b/1, which failed").says("  | sorry").says("the whole log is in ");
    assert_eq!(names(&house), ["a--1.sqf", "c--1.sqf", "e--1.sqf"]);
    // The same command converges once the recipe is mended.
    diamond(&house);
    let rows = house.ovl(&["build", "--json", "d/1", "e/1"]).ok().json();
    assert_eq!(texts(&rows, "outcome"), ["up to date".replace(' ', "_").as_str(), "built", "built"]);
    house.settle();
}

#[test]
fn fail_fast_starts_nothing_new() {
    let house = House::new();
    house.recipe("bad/1", script("", "exit 3"));
    for number in 0..4 {
        house.recipe(&format!("n{number}/1"), script("", &put("touch $target_dir/x")));
    }
    let run = house.ovl(&["build", "-j", "1", "--fail-fast", "--json", "bad/1", "n0/1", "n1/1", "n2/1"]).code(2);
    assert_eq!(texts(&run.json(), "outcome"), ["failed", "stopped", "stopped", "stopped"]);
    let run = house.ovl(&["build", "-j", "1", "--json", "bad/1", "n0/1"]).code(2);
    assert_eq!(texts(&run.json(), "outcome"), ["failed", "built"]);
}

#[test]
fn a_plan_says_where_why_and_who_said_every_figure() {
    let house = House::new();
    diamond(&house);
    house.recipe(
        "c/1",
        script("#SBATCH -c 3 --mem-per-cpu=2G\n#SBATCH -t 1:30:00\n#DEP:a/1", &put("touch $target_dir/c")),
    );
    house.set("OVL_SCHED_KIND", "slurm");
    // A plan needs the commands to be there, not to answer.
    for program in ["sbatch", "squeue", "scancel", "scontrol"] {
        executable(&house, &format!("bin/{program}"), "#!/bin/sh\nexit 1\n");
    }
    house.put_on_path(&house.path("bin"));
    let text = house.ovl(&["build", "--dry-run", "d/1", "--cpus", "2"]).ok();
    let recipe = house.layer().join("build-scripts/c/1").display().to_string();
    for line in [
        "where      here: its recipe has no directives".to_owned(),
        format!("where      Slurm job: its recipe has directives ({recipe}:3:1)"),
        "where      Slurm job: its dependency c/1 is queued".to_owned(),
        format!("memory 2.0 GiB per CPU  ({recipe}:3:14 --mem-per-cpu=2G)"),
        format!("time 1h30m  ({recipe}:4:9 -t 1:30:00)"),
        "asks for   cpus 2  (--cpus)".to_owned(),
        "memory 8.0 GiB  (build.defaults.mem)".to_owned(),
        "critical path: a/1 → c/1 → d/1 (time limits together 3h30m)".to_owned(),
    ] {
        assert!(text.stdout.contains(&line), "no {line:?} in {}", text.stdout);
    }
    let json = house.ovl(&["build", "--dry-run", "--json", "d/1"]).ok().json();
    assert_eq!(json["steps"][2]["place"]["queue"], "slurm");
    assert_eq!(json["steps"][2]["resources"]["cpus"]["value"], 3);
    assert_eq!(json["steps"][3]["after"], serde_json::json!([1, 2]));
    assert_eq!(json["critical_path"], serde_json::json!(["a/1", "c/1", "d/1"]));
    let dot = house.ovl(&["build", "--dry-run", "--format", "dot", "d/1"]).ok();
    dot.prints("digraph ovl {").prints("s2 [label=\"c/1\\nSlurm job\", shape=box];").prints("s2 -> s3;");
    let never = house.ovl(&["build", "--dry-run", "--no-submit", "--json", "d/1"]).ok().json();
    assert!(never["steps"].as_array().unwrap().iter().all(|step| step["place"] == "here"));
    let always = house.ovl(&["build", "--dry-run", "--always-submit", "--json", "d/1"]).ok().json();
    assert!(always["steps"].as_array().unwrap().iter().all(|step| step["place"]["queue"] == "slurm"));
    // Inside a job everything is built there.
    let inside = house.ovl_with(&[("SLURM_JOB_ID", "77")], &["build", "--dry-run", "--json", "d/1"]).ok().json();
    assert_eq!(inside["steps"][2]["because"], "this process is in job 77");
    assert!(names(&house).is_empty());
    assert!(house.names("home/.local/state/ovl").iter().all(|name| name != "runs"), "a dry run left a record");
}

#[test]
fn directives_that_cannot_be_carried_out_are_refused_with_their_line() {
    let house = House::new();
    for (directives, line, why) in [
        ("#SBATCH --mem=lots", 3, "--mem=lots"),
        ("#SBATCH --frobnicate=1", 3, "--frobnicate"),
        ("#SBATCH -c 2\n#SBATCH --ntasks=8", 4, "--ntasks=8"),
        ("#SBATCH --nodes=2", 3, "--nodes=2"),
        ("#SBATCH --array=1-10", 3, "--array=1-10"),
        ("#PBS -l select=2:ncpus=4", 3, "select=2"),
        ("#PBS -l walltime=soon", 3, "walltime=soon"),
        ("#BSUB -W 1h", 3, "1h"),
        ("#BSUB -n 8 -R \"span[ptile=2]\"", 3, "ptile=2"),
    ] {
        house.recipe("bad/1", script(directives, &put("touch $target_dir/x")));
        let run = house.ovl(&["build", "bad/1"]).code(4);
        assert!(run.stderr.contains(&format!("bad/1:{line}:")) && run.stderr.contains(why), "{directives}: {run:#?}");
        house.ovl(&["build", "--dry-run", "bad/1"]).code(4);
    }
    assert!(names(&house).is_empty());
    // The user may insist.
    house.recipe("odd/1", script("#SBATCH --frobnicate=1", &put("touch $target_dir/x")));
    house.ovl(&["build", "--passthrough", "--no-submit", "odd/1"]).ok();
}

#[test]
fn without_a_scheduler_submitting_is_an_error_only_when_asked_for() {
    let house = House::new();
    house.set("OVL_SCHED_KIND", "none");
    house.recipe("x/1", script("#SBATCH --mem=100M", &put("echo $NCPUS > $target_dir/n")));
    house.ovl(&["build", "--submit", "x/1"]).code(7).says("there is no scheduler here").says("--no-submit");
    house.ovl(&["build", "--always-submit", "x/1"]).code(7);
    house.ovl(&["build", "x/1"]).ok();
    house.ovl_with(&[("OVL_SCHED_KIND", "lsf")], &["build", "x/1"]).code(7).says("bsub is not on PATH");
}

#[test]
fn runs_are_recorded_and_told() {
    let house = House::new();
    diamond(&house);
    house.recipe("b/1", script("#DEP:a/1", "echo out of luck; exit 9"));
    house.ovl(&["status"]).ok().says("nothing was built yet");
    house.ovl(&["explain", "b/1"]).code(4).says("no record of a build of b/1");
    house.ovl(&["build", "-q", "d/1"]).code(2);
    let status = house.ovl(&["status", "--json"]).ok().json();
    assert_eq!(texts(&status[0]["steps"], "state"), ["done", "failed", "done", "skipped"]);
    assert_eq!(status[0]["steps"][1]["class"], "build");
    let explained = house.ovl(&["explain", "b/1"]).ok();
    explained.prints("b/1 is needed by d/1 in run 20").prints("It failed: b/1: failed in phase install: exit code 9");
    house.ovl(&["explain", "d/1"]).ok().prints("It was skipped: it needs b/1, which failed.");
    house.ovl(&["logs", "b/1"]).ok().prints("out of luck\n");
    house.ovl(&["logs", "-n", "1", "-f", "b/1"]).ok().prints("ovl: failed: ");
    let log = house.ovl(&["logs", "--path", "a/1"]).ok().stdout;
    assert!(std::path::Path::new(log.trim()).is_file(), "{log}");
    house.ovl(&["logs", "d/1"]).code(1).says("d/1 has no log yet");
    house.ovl(&["wait"]).code(2).says("out of luck");
    house.ovl(&["history"]).ok().prints("d/1 and 3 more").prints("2 done, 1 failed, 1 skipped");
    let history = house.ovl(&["history", "--name", "b/1", "--json"]).ok().json();
    assert_eq!((texts(&history, "state"), texts(&history, "place")), (vec!["failed"], vec!["here"]));
    house.ovl(&["cancel", "d/1"]).ok().says("there is nothing left to cancel");
    // Retry uses the frozen recipe, which has not changed its mind.
    house.ovl(&["retry", "-n"]).ok().says("would try b/1 again (failed)").says("would try d/1 again (skipped)");
    house.ovl(&["retry", "-q"]).code(2);
    assert_eq!(house.ovl(&["status", "--json", "b/1"]).ok().json()[0]["steps"][0]["attempt"], 2);
    house.ovl(&["status", "nosuch"]).code(4);
    house.ovl(&["status", "20"]).ok();
    house.ovl(&["cancel", "2"]).code(4).says("'2' is too short");
    house.settle();
}

#[test]
fn a_retry_builds_what_a_passing_trouble_kept_from_being_built() {
    let house = House::new();
    diamond(&house);
    let missing = house.dir.join("elsewhere");
    house.ovl(&["build", "-q", "a/1"]).ok();
    house.ovl(&["build", "-q", "--scratch", missing.to_str().unwrap(), "d/1"]).code(7).says("elsewhere");
    house.make("elsewhere");
    let rows = house.ovl(&["retry", "--json"]).ok().json();
    assert_eq!((texts(&rows, "name"), texts(&rows, "outcome")), (vec!["b/1", "c/1", "d/1"], vec!["built"; 3]));
    house.ovl(&["retry"]).ok().says("there is nothing to try again");
}

#[test]
fn a_detached_run_goes_on_by_itself_and_can_be_waited_for_and_cancelled() {
    let house = House::new();
    house.recipe("slow/1", script("", &put("sleep 1; touch $target_dir/x")));
    let run = house.ovl(&["build", "--detach", "slow/1"]).code(3);
    let id = run.stdout.trim().to_owned();
    let waited = house.ovl(&["wait", &id]).ok();
    assert_eq!(waited.stdout.trim(), house.image("slow/1").to_string_lossy());
    house.recipe("slow/2", script("", &put("sleep 60; touch $target_dir/x")));
    let id = house.ovl(&["build", "--detach", "slow/2"]).code(3).stdout.trim().to_owned();
    let began = Instant::now();
    while house.ovl(&["status", "--json", &id]).ok().json()[0]["steps"][0]["state"] != "running" {
        assert!(began.elapsed() < Duration::from_secs(20), "it never began");
        std::thread::sleep(Duration::from_millis(100));
    }
    house.ovl(&["cancel", "-n", &id]).ok().prints("would cancel slow/2");
    house.ovl(&["cancel", &id]).ok().prints("cancelled slow/2");
    assert_eq!(house.ovl(&["status", "--json", &id]).ok().json()[0]["steps"][0]["state"], "cancelled");
    house.settle();
    assert!(house.names("scratch").is_empty(), "the scratch directory is not empty");
    house.ovl(&["wait", &id]).code(130);
}

#[test]
fn two_builds_of_overlapping_targets_build_everything_once() {
    let house = House::new();
    diamond(&house);
    house.recipe("a/1", script("", &put("sleep 1; echo a > $target_dir/a")));
    let (mut first, mut second) = (house.start(&["build", "-q", "b/1"]), house.start(&["build", "-q", "d/1"]));
    assert!(first.wait().unwrap().success() && second.wait().unwrap().success());
    let history = house.ovl(&["status", "--all", "--json"]).ok().json();
    let steps = history.as_array().unwrap().iter().flat_map(|run| run["steps"].as_array().unwrap());
    let built = steps.filter(|step| step["status"]["result"]["outcome"] == "built").count();
    assert_eq!(built, 4, "{history:#}");
    house.settle();
}

#[test]
fn resources_given_by_flags_are_understood_or_refused() {
    let house = House::new();
    house.recipe("x/1", script("", &put("echo $NCPUS $MEM > $target_dir/x")));
    for args in [["--cpus", "0"], ["--mem", "much"], ["--time", "25:61:00"], ["--gpus", "a b"], ["--partition", "a\nb"]]
    {
        house.ovl(&[&["build", "x/1"][..], &args].concat()).code(4);
    }
    house.ovl(&["build", "x/1", "--cpus", "1", "--mem", "3G"]).ok();
    house.ovl(&["exec", "-o", "x/1", "cat", "/cnt/x/1/x"]).ok().prints("1 3072");
}
