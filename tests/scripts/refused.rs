//! What is judged before anything is submitted, in front of commands of Slurm that say only what a test wants.

use super::house;
use crate::support::house::House;
use crate::support::queue::executable;

/// A house whose sbatch takes everything. `squeue` and `sinfo` are what these commands do.
fn site(squeue: &str, sinfo: &str) -> House {
    let house = house(&[]);
    for (name, text) in [
        ("sbatch", "case \"$*\" in *test-only*) exit 0 ;; esac; echo 17"),
        ("squeue", squeue),
        ("sacct", "exit 1"),
        ("scancel", "true"),
        ("scontrol", "true"),
        ("sinfo", sinfo),
    ] {
        executable(&house, &format!("slurm/{name}"), &format!("#!/bin/bash\n{text}\n"));
    }
    house.put_on_path(&house.path("slurm"));
    house
}

#[test]
fn limits_are_those_of_the_partition_that_the_site_names() {
    let house = site("true", "echo 'short*|1:00:00|4|4000'; echo 'long|10-00:00:00|64|256000'");
    house.write("work/s.sh", "#SBATCH -c 8 --time=2:00:00 --mem=1G\ntrue\n");
    house.ovl(&["run", "s.sh"]).code(7).says("it could never run: 2h00m");
    house.set("OVL_SCHED_PARTITION", "long");
    assert_eq!(house.ovl(&["run", "s.sh"]).ok().stdout, "17\n");
    house.ovl(&["run", "-c", "65", "s.sh"]).code(7).says("more than a node of long has: 64");
    house.ovl(&["run", "-p", "short", "s.sh"]).code(7).says("more time than short allows");
}

#[test]
fn tasks_of_directives_have_logs_of_their_own() {
    let house = site("true", "true");
    house.write("work/s.sh", "#SBATCH --array=1-3 --mem=1G\ntrue\n");
    house.ovl(&["run", "--dry-run", "s.sh"]).ok().prints("/s.sh-%A_%a.out\n");
    house.ovl(&["run", "s.sh"]).ok().says("/s.sh-17_*.out");
}

#[test]
fn conditions_of_directives_are_not_replaced_by_those_of_flags() {
    let house = site("true", "true");
    for (line, place) in [
        ("#SBATCH -d afterok:7", "s.sh:1:9 -d afterok:7"),
        ("#PBS -W depend=afterok:7", "s.sh:1:6 -W depend=afterok:7"),
        ("#BSUB -w done(7)", "s.sh:1:7 -w done(7)"),
    ] {
        house.write("work/s.sh", format!("{line}\ntrue\n"));
        house.ovl(&["run", "--afterany", "5", "s.sh"]).code(4).says(&format!("--after…, and {place}"));
    }
    house.write("work/s.sh", "#SBATCH -d afterok:7\ntrue\n");
    house.ovl(&["run", "--dry-run", "s.sh"]).ok().prints("#SBATCH -d afterok:7\n");
}

#[test]
fn an_array_of_directives_is_not_lost_without_a_word() {
    let house = site("true", "true");
    house.write("work/s.sh", "#SBATCH --array=1-3 --mail-type=END\necho ran\n");
    let run = house.ovl(&["run", "--no-submit", "s.sh"]).code(4);
    run.says("s.sh:1:9 --array=1-3: the array of Slurm would be lost: it runs here").says("--array FILE");
    house.write("work/p.sh", "#PBS -J 1-3\necho ran\n");
    house.ovl(&["run", "s.sh"]).ok();
    house.ovl(&["run", "p.sh"]).code(4).says("the array of PBS would be lost: the job is another scheduler's");
    // A task of it already.
    let inside = [("SLURM_JOB_ID", "3"), ("SLURM_ARRAY_TASK_ID", "2")];
    let run = house.ovl_with(&inside, &["run", "s.sh"]).ok();
    assert_eq!(run.says("without effect here: --array=1-3 (s.sh:1:9), --mail-type=END (s.sh:1:21)").stdout, "ran\n");
}

#[test]
fn a_directory_as_output_takes_a_file_of_the_jobs_name() {
    let house = site("true", "true");
    std::fs::create_dir(house.path("work/there")).unwrap();
    let work = house.path("work").display().to_string();
    house.write("work/s.sh", "#BSUB -o logs/ -e there\ntrue\n");
    let run = house.ovl(&["run", "--dry-run", "s.sh"]).ok();
    run.prints(&format!("--output={work}/logs/s.sh-%j.out\n")).prints(&format!("--error={work}/there/s.sh-%j.err\n"));
    house.write("work/list", "1\n2\n");
    house.write("work/here.sh", "echo out $1\n");
    house.ovl(&["run", "--dry-run", "--array", "list", "s.sh"]).ok().prints("/logs/s.sh-%A_%a.out\n");
    house.ovl(&["run", "--no-submit", "--array", "list", "--output", "new/", "here.sh"]).ok();
    assert_eq!(house.names("work/new").len(), 2);
}

#[test]
fn options_are_judged_before_a_job_is_submitted() {
    let house = site("true", "true");
    let told = |line: &str, flags: &[&str]| {
        house.write("work/s.sh", format!("#!/bin/bash\n#SBATCH --mem=1G\n{line}\ntrue\n"));
        house.ovl(&[&["run", "--dry-run", "--json"], flags, &["s.sh"]].concat())
    };
    told("#OVL:--env odd", &[]).code(4).says("error: s.sh:3:1: #OVL: --env: 'odd' is not NAME=VALUE");
    told("#OVL:--base gone", &[]).code(4).says("error: s.sh:3:1: #OVL: --base: ").says("no overlay 'gone'");
    told("#OVL:--bind a:b", &[]).code(4).says("the place inside must be absolute");
    told("", &["--env", "=x"]).code(4).says("error: --env: '=x' is not NAME=VALUE");
    let exec = |run: crate::support::house::Run| run.ok().json()["exec"].clone();
    let work = house.path("work").display().to_string();
    std::fs::create_dir(house.path("work/root")).unwrap();
    let words = exec(told("#OVL:--base root --bind data:/in:ro", &["--bind", "more"]));
    let expected = [format!("--base={work}/root"), format!("--bind={work}/data:/in:ro"), format!("--bind={work}/more")];
    assert_eq!(words, serde_json::json!(expected));
    // Flags win over what contradicts them.
    assert_eq!(exec(told("#OVL:--nv", &["--no-gpu"])), serde_json::json!(["--no-gpu"]));
    assert_eq!(exec(told("#OVL:--no-gpu\n#OVL:--rocm", &["--nv"])), serde_json::json!(["--nv"]));
}

#[test]
fn gpus_of_directives_and_flags() {
    let house = site("true", "true");
    house.write("work/s.sh", "#SBATCH -N 2 --gpus=4\ntrue\n");
    house.ovl(&["run", "--dry-run", "s.sh"]).ok().prints("#SBATCH --gpus=4\n");
    let run = house.ovl(&["run", "--dry-run", "-g", "1", "s.sh"]).ok().prints("#SBATCH --gres=gpu:1\n");
    assert!(!run.stdout.contains("--gpus=4"), "{run:#?}");
    house.write("work/s.sh", "#SBATCH --gpus=4\ntrue\n");
    house.ovl(&["run", "--dry-run", "-N", "2", "s.sh"]).code(4).says("s.sh:1:9: --gpus=4").says("-g");
}
