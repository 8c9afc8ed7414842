//! Job scripts, DAGs and commands as they come out of the real pipeline, against files in `tests/golden/`; made anew
//! with `OVL_TEST_BLESS=1`.

use std::path::Path;

use super::site::{Site, for_each_scheduler};
use crate::support::house::program;
use crate::support::queue::Kind;

for_each_scheduler!(plain_jobs, jobs_that_ask_for_everything, jobs_that_depend_on_each_other);

/// Without what differs from run to run and from machine to machine.
fn normalised(site: &Site, text: &str) -> String {
    let mut text = text.replace(&*program().to_string_lossy(), "{ovl}").replace(&site.id(), "{run}");
    text = text.replace(&*site.house.dir.to_string_lossy(), "{house}");
    text.replace(&*Path::new(env!("CARGO_MANIFEST_DIR")).to_string_lossy(), "{checkout}")
}

/// All scripts of the newest run, its DAG, and the commands that submitted it.
fn shown(site: &Site) -> String {
    let mut text = String::new();
    let mut add = |title: &str, body: &str| text.push_str(&format!("==== {title}\n{}", normalised(site, body)));
    for step in site.house.names(&site.run().join("steps").strip_prefix(&site.house.dir).unwrap().to_string_lossy()) {
        let path = site.run().join("steps").join(&step).join("job.sh");
        add(&format!("steps/{step}/job.sh"), &std::fs::read_to_string(path).unwrap());
    }
    for file in site.house.names(&site.run().strip_prefix(&site.house.dir).unwrap().to_string_lossy()) {
        if file.ends_with(".dag") {
            add(&normalised(site, &file), &std::fs::read_to_string(site.run().join(&file)).unwrap());
        }
    }
    let calls: String = site.queue.calls().iter().map(|call| format!("{}\n", call.join(" "))).collect();
    add("calls", &calls);
    text
}

#[track_caller]
fn golden(site: &Site, case: &str) {
    let kind = match site.kind {
        Kind::Pbs => "pbs",
        Kind::Lsf => "lsf",
        Kind::HtCondor => "htcondor",
    };
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join(format!("tests/golden/{kind}-{case}.txt"));
    let text = shown(site);
    if std::env::var_os("OVL_TEST_BLESS").is_some() {
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(&path, &text).unwrap();
    }
    let wanted = std::fs::read_to_string(&path).unwrap_or_default();
    assert!(text == wanted, "{} differs:\n{text}", path.display());
}

/// One job at a time: otherwise ids would differ from run to run.
fn submit(site: &Site, args: &[&str]) {
    site.queue.inject("stall", "");
    site.house.set("OVL_SCHED_SUBMITTERS", "1");
    let args: Vec<&str> = ["build", "--always-submit"].iter().chain(args).copied().collect();
    site.house.ovl(&args).code(3);
}

fn plain_jobs(site: &Site) {
    site.recipe("a", "", &[], "");
    submit(site, &["a/1"]);
    golden(site, "plain");
}

fn jobs_that_ask_for_everything(site: &Site) {
    site.recipe(
        "a",
        "#SBATCH --cpus-per-task=2 --mem=1500M --time=1-02:03:04\n#SBATCH --gres=gpu:a100:1 --tmp=2G\n\
         #SBATCH -p normal -A lab -C fast --exclusive",
        &[],
        "",
    );
    let arg = match site.kind {
        Kind::Pbs => "--qsub-arg=-p 5",
        Kind::Lsf => "--bsub-arg=-sp 5",
        Kind::HtCondor => "--condor-arg=rank = Memory",
    };
    if site.kind == Kind::HtCondor {
        submit(site, &[arg, "a/1"]);
    } else {
        // The queue of the stand-in may not know all of that: the script is written before it is asked.
        site.queue.inject("refuse", "");
        site.house.ovl(&["build", "--always-submit", arg, "a/1"]).code(7);
    }
    golden(site, "everything");
}

fn jobs_that_depend_on_each_other(site: &Site) {
    site.diamond("", |_| "");
    submit(site, &["d/1", "--cpus", "3"]);
    golden(site, "diamond");
}
