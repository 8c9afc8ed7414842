//! What jobs ask for and what they get: figures, flags, environment, answers; and what is refused before anything begins.

use std::os::unix::fs::PermissionsExt;

use super::{CONFIG, Site, rows};
use crate::support::house::script;
use crate::support::queue::{executable, shell};

/// A recipe that writes down what a build sees.
const SEEN: &str = "echo $NCPUS $MEM > $target_dir/f; env | grep -c '^S\\(BATCH\\|LURM\\)_' >> $target_dir/f || true";

#[test]
fn a_build_gets_what_slurm_has_granted() {
    let Some(site) = Site::shared() else { return };
    site.house.recipe("big/1", script("#SBATCH --time=5 --mem=300M -c 3", SEEN));
    site.house.recipe("per/1", script("#SBATCH --time=5 --mem-per-cpu=120M -c 2", SEEN));
    site.house.recipe("flags/1", script("#SBATCH --time=5 --mem=300M -c 1", SEEN));
    // What the user's shell says to sbatch is not for these jobs.
    let nonsense = [("SBATCH_PARTITION", "nonsense"), ("SLURM_MEM_PER_CPU", "7"), ("SBATCH_TIMELIMIT", "nonsense")];
    let run = site.house.ovl_with(&nonsense, &["build", "--wait", "--json", "big/1", "per/1"]).ok();
    assert_eq!(rows(&run), ["big/1=built", "per/1=built"]);
    assert_eq!(site.content("big/1"), "3 300\n0\n");
    assert_eq!(site.content("per/1"), "2 240\n0\n");
    let flags = ["--cpus", "2", "--mem", "222M", "--time", "7m", "--partition", "long", "--account", "proj"];
    let more = ["--sbatch-arg=--nice=5", "--sbatch-arg=--comment=mine and yours", "flags/1"];
    site.ovl(&[&["build", "--wait"][..], &flags, &more].concat()).ok();
    assert_eq!(site.content("flags/1"), "2 222\n0\n");
    let job = site.job("flags/1");
    let shown = shell(&site.house, &format!("timeout 20 scontrol show job {job}")).ok().stdout;
    for word in [
        "Partition=long",
        "TimeLimit=00:07:00",
        "Account=proj",
        "Nice=5",
        "Comment=mine and yours",
        "NumCPUs=2",
        "JobState=COMPLETED",
    ] {
        assert!(shown.contains(word), "no {word} in {shown}");
    }
    assert!(site.explain("flags/1").contains("--cpus"), "{}", site.explain("flags/1"));
    site.is_clean();
}

#[test]
fn answers_reach_the_job_and_nobody_else() {
    let Some(site) = Site::shared() else { return };
    let headers = "#INTERACTIVE:Which licence?\n#SBATCH --time=5 --mem=100M";
    let install = "read -r word; touch $tmp_dir/begun; until [ -e $tmp_dir/go ]; do sleep 0.05; done; echo \"got $word\" > $target_dir/f";
    site.house.recipe("ask/1", script(headers, install));
    site.ovl(&["build", "ask/1", "--answer", "hush hush"]).code(3);
    site.wait_for_gate(1);
    let runs = site.house.names("home/.local/state/ovl/runs");
    let step = site.house.path(&format!("home/.local/state/ovl/runs/{}/steps/0000", runs[0]));
    let mode = |name: &str| std::fs::metadata(step.join(name)).map(|meta| meta.permissions().mode() & 0o777);
    assert_eq!(mode("answers.json").unwrap(), 0o600);
    for name in ["step.json", "job.sh", "status.json"] {
        assert!(!std::fs::read_to_string(step.join(name)).unwrap().contains("hush"), "{name}");
    }
    site.open_gate();
    site.ovl(&["wait"]).ok();
    assert_eq!(site.content("ask/1"), "got hush hush\n");
    assert!(mode("answers.json").is_err(), "the answers are gone when they are used");
    site.is_clean();
}

#[test]
fn what_can_never_run_is_refused_before_anything_begins() {
    let Some(site) = Site::shared() else { return };
    for (number, (directive, why)) in [
        ("--mem=900G", "it could never run: 900 GiB of memory"),
        ("--cpus-per-task=99", "it could never run: 99 CPUs"),
        ("--partition=nosuch", "invalid partition specified"),
        ("--constraint=nosuch", "Invalid feature specification"),
    ]
    .into_iter()
    .enumerate()
    {
        let (here, good, bad) = (format!("here{number}/1"), format!("good{number}/1"), format!("bad{number}/1"));
        site.quick(&here, &[], false);
        site.quick(&good, &[], true);
        site.house.recipe(
            &bad,
            script(&format!("#DEP:{here}\n#DEP:{good}\n#SBATCH --time=5 {directive}"), "touch $target_dir/f"),
        );
        let run = site.ovl(&["build", &bad]).code(7).says(&bad).says(why).says("--partition");
        assert_eq!(run.stdout, "", "{directive}");
        assert!(!site.is_built(&here) && site.jobs().is_empty(), "{directive}: {:?}", site.jobs());
        assert_eq!(site.builds(&here), 0);
        site.ovl(&["wait"]).code(7);
    }
    // Asking for less is one way out.
    site.ovl(&["build", "--wait", "--mem", "100M", "bad0/1"]).ok();
    // A directive that cannot be understood names its line.
    site.house.recipe("odd/1", script("#SBATCH --mem=lots", "touch $target_dir/f"));
    site.ovl(&["build", "odd/1"]).code(4).says("--mem=lots").says("odd/1:3");
    site.is_clean();
}

#[test]
fn inside_a_job_everything_is_built_there() {
    let Some(site) = Site::shared() else { return };
    site.quick("top/1", &[], true);
    site.quick("end/1", &["top/1"], true);
    let ovl = crate::support::house::program().display().to_string();
    executable(
        &site.house,
        "work/batch.sh",
        &format!(
            "#!/bin/bash\n#SBATCH --time=5 --mem=200M\n#SBATCH -o batch.out\n{ovl} build --json end/1 || exit $?\n{ovl} build --dry-run --always-submit -u end/1\n"
        ),
    );
    shell(&site.house, "timeout 100 sbatch --wait batch.sh").ok();
    let out = std::fs::read_to_string(site.house.path("work/batch.out")).unwrap();
    assert!(out.contains("this process is in job ") && out.contains("\"outcome\": \"built\""), "{out}");
    assert!(!out.contains("\"job\""), "{out}");
    assert_eq!(site.content("end/1"), "top/1\nend/1\n");
    assert_eq!(site.all_jobs().len(), 1, "only the batch job: {:?}", site.all_jobs());
    site.is_clean();
}

#[test]
fn a_submission_whose_reply_is_lost_is_found_by_its_name() {
    let Some(site) = Site::shared() else { return };
    site.quick("top/1", &[], true);
    site.quick("end/1", &["top/1"], true);
    let dir = site.house.make("bin");
    let lost = "sbatch: error: Batch job submission failed: Socket timed out on send/recv operation";
    executable(
        &site.house,
        "bin/sbatch",
        &format!(
            "#!/bin/bash\ncase \"$*\" in *--test-only*) exec /usr/bin/sbatch \"$@\" ;; esac\n\
             /usr/bin/sbatch \"$@\" >/dev/null || exit\necho '{lost}' >&2\nexit 1\n"
        ),
    );
    site.house.put_on_path(&dir);
    let run = site.ovl(&["build", "--json", "end/1"]).code(3);
    assert_eq!(rows(&run), ["top/1=submitted", "end/1=submitted"]);
    assert_eq!(site.all_jobs().len(), 2, "{:?}", site.all_jobs());
    site.ovl(&["wait"]).ok();
    assert_eq!(site.content("end/1"), "top/1\nend/1\n");
    site.is_clean();
}

#[test]
fn a_submission_that_fails_halfway_is_taken_back() {
    let Some(site) = Site::shared() else { return };
    site.house.write("home/.config/ovl/config.yaml", format!("{CONFIG}sched:\n  submitters: 1\n"));
    let names: Vec<String> = (0..5).map(|number| format!("n{number}/1")).collect();
    for (number, name) in names.iter().enumerate() {
        let dep: Vec<&str> = number.checked_sub(1).map(|before| names[before].as_str()).into_iter().collect();
        site.quick(name, &dep, true);
    }
    let dir = site.house.make("bin");
    executable(
        &site.house,
        "bin/sbatch",
        "#!/bin/bash\ncase \"$*\" in *--test-only*) exec /usr/bin/sbatch \"$@\" ;; esac\n\
         echo x >> $TMPDIR/../work/calls\n[ $(wc -l < $TMPDIR/../work/calls) = 4 ] || exec /usr/bin/sbatch \"$@\"\n\
         echo 'sbatch: error: Batch job submission failed: Job violates accounting/QOS policy' >&2\nexit 1\n",
    );
    site.house.put_on_path(&dir);
    let run = site.ovl(&["build", "n4/1"]).code(7).says("n3/1").says("Job violates accounting/QOS policy");
    assert_eq!(run.stdout, "");
    site.is_clean();
    assert_eq!(names.iter().map(|name| site.builds(name)).sum::<usize>(), 0);
    site.ovl(&["wait"]).code(7);
    // The next call succeeds.
    site.ovl(&["build", "--wait", "n4/1"]).ok();
    site.is_clean();
}
