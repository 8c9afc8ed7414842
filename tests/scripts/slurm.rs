//! Jobs of a real Slurm, as an unprivileged user.

use std::time::{Duration, Instant};

use super::{ARGUMENTS, GRANTED, LOGS, house, log};
use crate::support::house::{House, Run};
use crate::support::queue::shell;
use crate::support::slurm::Slurm;

/// What the tests' jobs ask for: small, so that many fit.
const SMALL: &str = "#SBATCH --mem=100M --time=5 -c 1\n";

struct Site {
    house: House,
    _slurm: Slurm,
}

impl Site {
    fn new() -> Option<Site> {
        let house = house(&["a/1"]);
        let slurm = Slurm::shared(&house)?;
        Some(Site { house, _slurm: slurm })
    }

    /// Submits, and gives the id, which is all that is printed.
    #[track_caller]
    fn submit(&self, args: &[&str]) -> String {
        let run = self.house.ovl(&[&["run"], args].concat()).ok();
        let id = run.stdout.trim_end().to_owned();
        assert!(!id.is_empty() && id.bytes().all(|b| b.is_ascii_digit()), "{run:#?}");
        assert_eq!(run.stdout, format!("{id}\n"));
        id
    }

    fn squeue(&self, id: &str, format: &str) -> Run {
        shell(&self.house, &format!("timeout 20 squeue -h -t all -j {id} {format}"))
    }

    fn states(&self, id: &str) -> Vec<String> {
        let mut states: Vec<String> = self.squeue(id, "-o '%i %T'").stdout.lines().map(str::to_owned).collect();
        states.sort();
        states
    }

    /// Waits until a job is over: its state, one for each task.
    #[track_caller]
    fn over(&self, id: &str) -> Vec<String> {
        let began = Instant::now();
        loop {
            let states = self.states(id);
            let alive = ["PENDING", "RUNNING", "COMPLETING", "CONFIGURING"];
            if !states.is_empty() && !states.iter().any(|state| alive.iter().any(|word| state.ends_with(word))) {
                return states.iter().map(|state| state.split(' ').nth(1).unwrap_or("").to_owned()).collect();
            }
            assert!(
                began.elapsed() < Duration::from_secs(60),
                "job {id} is not over: {states:?} {:?}",
                self.squeue(id, "-o %r")
            );
            std::thread::sleep(Duration::from_millis(100));
        }
    }

    fn log(&self, start: &str) -> String {
        log(&self.house, LOGS, start)
    }
}

#[test]
fn a_job_is_the_script_as_it_was() {
    let Some(site) = Site::new() else { return };
    let path = site.house.write(
        "work/s.sh",
        format!("#!/bin/bash\n{SMALL}#DEP:a/1\nprog; {ARGUMENTS}pwd; echo $OVL_SCRIPT; echo oops >&2; exit 3\n"),
    );
    let arguments = ["a b", "", "it's \"x\" $HOME `id` \\", "l1\nl2"];
    let id = site.submit(&[&["s.sh"], &arguments[..]].concat());
    // What becomes of the file does not matter any more.
    std::fs::write(&path, "echo changed\n").unwrap();
    assert_eq!(site.over(&id), ["FAILED"]);
    assert_eq!(site.squeue(&id, "-O exit_code").stdout.trim(), "768", "exit code 3, as a wait status");
    let (work, script) = (site.house.path("work"), path.display());
    let expected = format!("a/1\n[a b][][it's \"x\" $HOME `id` \\][l1\nl2]\n{}\n{script}\noops\n", work.display());
    assert_eq!(site.log(&format!("s.sh-{id}.out")), expected);
    site.house.settle();
}

#[test]
fn what_is_granted_is_what_was_asked_for() {
    let Some(site) = Site::new() else { return };
    site.house.write("work/s.sh", format!("{SMALL}#DEP:a/1\n{GRANTED}"));
    let own = site.submit(&["--name", "own", "s.sh"]);
    let more = site.submit(&["--name", "more", "-c", "2", "-m", "1300M", "-t", "10m", "s.sh"]);
    let tasks = site.submit(&["--name", "tasks", "-n", "2", "-c", "2", "-N", "1", "-m", "500M", "s.sh"]);
    for id in [&own, &more, &tasks] {
        assert_eq!(site.over(id), ["COMPLETED"]);
    }
    assert_eq!(site.log("own"), "1 1 1 1 100 1\n");
    assert_eq!(site.log("more"), "1 1 1 2 1300 1\n");
    assert_eq!(site.log("tasks"), "1 2 2 2 500 1\n1 2 2 2 500 1\n");
    assert_eq!(site.squeue(&more, "-o '%l %C %m'").stdout.trim(), "10:00 2 1300M");
}

#[test]
fn an_array_has_a_task_for_each_line() {
    let Some(site) = Site::new() else { return };
    site.house.write("work/s.sh", format!("{SMALL}#DEP:a/1\nprog; echo $SLURM_ARRAY_TASK_ID $OVL_ARRAY_INDEX; {ARGUMENTS}sleep 1; [ \"$3\" != bad ] || exit 4\n"));
    site.house.write("work/list", "'a b' one\n\"it's\" two\n\\$x three\n'' bad\n");
    let id = site.submit(&["--array", "list", "--array-limit", "2", "s.sh", "common"]);
    let mut most = 0;
    let began = Instant::now();
    while site.states(&id).iter().any(|state| !state.ends_with("COMPLETED") && !state.ends_with("FAILED")) {
        most = most.max(site.states(&id).iter().filter(|state| state.ends_with("RUNNING")).count());
        assert!(began.elapsed() < Duration::from_secs(60));
        std::thread::sleep(Duration::from_millis(50));
    }
    assert_eq!(most, 2, "--array-limit");
    assert_eq!(site.over(&id), ["COMPLETED", "COMPLETED", "COMPLETED", "FAILED"]);
    for (task, out) in
        [(1, "[common][a b][one]"), (2, "[common][it's][two]"), (3, "[common][$x][three]"), (4, "[common][][bad]")]
    {
        assert_eq!(site.log(&format!("s.sh-{id}_{task}.out")), format!("a/1\n{task} {task}\n{out}\n"));
    }
    // One line is an array too.
    site.house.write("work/list", "only one\n");
    let id = site.submit(&["--array", "list", "s.sh"]);
    assert_eq!(site.over(&id), ["COMPLETED"]);
    assert_eq!(site.log(&format!("s.sh-{id}_1.out")), "a/1\n1 1\n[only][one]\n");
}

#[test]
fn jobs_wait_for_others() {
    let Some(site) = Site::new() else { return };
    let gate = "until [ -e go ]; do sleep 0.05; done\n";
    site.house.write("work/good.sh", format!("{SMALL}{gate}"));
    site.house.write("work/bad.sh", format!("{SMALL}{gate}exit 5\n"));
    site.house.write("work/then.sh", format!("{SMALL}echo then $1\n"));
    let (good, bad) = (site.submit(&["good.sh"]), site.submit(&["bad.sh"]));
    let then = |flags: &[&str]| site.submit(&[&["--name", "then"], flags, &["then.sh"]].concat());
    let runs =
        [then(&["--afterok", &good]), then(&["--afternotok", &bad]), then(&["--afterany", &format!("{good},{bad}")])];
    let never = [then(&["--afterok", &bad]), then(&["--afterok", &good, "--afternotok", &good])];
    site.house.write("work/go", "");
    for id in &runs {
        assert_eq!(site.over(id), ["COMPLETED"]);
    }
    for id in &never {
        assert_eq!(site.over(id), ["CANCELLED"], "what can never start does not wait for ever");
    }
    // What is over already is judged before anything is submitted.
    let told = |flags: &[&str]| site.house.ovl(&[&["run"], flags, &["then.sh"]].concat());
    told(&["--afterok", &bad]).code(4).says("could never start");
    told(&["--afternotok", &good]).code(4).says("could never start");
    told(&["--afterok", "99999"]).code(4).says("does not know this job");
    told(&["--afterok", "1;id"]).code(4).says("is no job id");
    let late = then(&["--afterok", &good]);
    assert_eq!(site.over(&late), ["COMPLETED"]);
    // Of an array, all tasks count.
    site.house.write("work/list", "0\n1\n");
    site.house.write("work/each.sh", format!("{SMALL}until [ -e on ]; do sleep 0.05; done; exit $1\n"));
    let array = site.submit(&["--array", "list", "each.sh"]);
    let (ok, notok) = (then(&["--afterok", &array]), then(&["--afternotok", &array]));
    site.house.write("work/on", "");
    assert_eq!(site.over(&ok), ["CANCELLED"]);
    assert_eq!(site.over(&array), ["COMPLETED", "FAILED"]);
    let _ = site.over(&notok);
    told(&["--afterok", &array]).code(4).says("could never start");
}

#[test]
fn several_tasks_on_several_nodes() {
    let Some(site) = Site::new() else { return };
    site.house.write(
        "work/mpi.sh",
        "#!/bin/bash\n#SBATCH -N 2 -n 4 --mem=200M -t 5\n#DEP:a/1\necho $SLURM_PROCID/$NTASKS $SLURMD_NODENAME $NNODES $NTASKS_PER_NODE $NCPUS $MEM $(prog) \"$1\"\n",
    );
    let id = site.submit(&["mpi.sh", "x  y"]);
    assert_eq!(site.over(&id), ["COMPLETED"]);
    let log = site.log(&format!("mpi.sh-{id}.out"));
    let mut lines: Vec<&str> = log.lines().collect();
    lines.sort_unstable();
    assert_eq!(lines.len(), 4, "{log}");
    let mut nodes = std::collections::BTreeSet::new();
    for (rank, line) in lines.iter().enumerate() {
        let words: Vec<&str> = line.split(' ').collect();
        assert_eq!(words[0], format!("{rank}/4"), "{log}");
        nodes.insert(words[1].to_owned());
        assert_eq!(words[2..].join(" "), "2 2 1 200 a/1 x  y", "{log}");
    }
    assert_eq!(nodes.len(), 2, "{log}");
    // A failing rank is the job's end.
    site.house.write("work/bad.sh", format!("{SMALL}#SBATCH -n 2\n[ $SLURM_PROCID != 1 ] || exit 6\n"));
    let id = site.submit(&["bad.sh"]);
    assert_eq!(site.over(&id), ["FAILED"]);
    assert_eq!(site.squeue(&id, "-O exit_code").stdout.trim(), (6 * 256).to_string());
    site.house.settle();
}

#[test]
fn names_and_outputs_of_directives_and_flags() {
    let Some(site) = Site::new() else { return };
    site.house.write(
        "work/s.sh",
        format!("#!/bin/bash\n{SMALL}#SBATCH -J named --output=out/%x-%j.txt\n#SBATCH --error err-100%%-%u\n#SBATCH --comment='a b'\necho out; echo err >&2\n"),
    );
    let run = site.house.ovl(&["run", "s.sh"]).ok();
    let id = run.stdout.trim().to_owned();
    run.says(&format!("its output goes to {}/out/named-{id}.txt", site.house.path("work").display()))
        .says("its errors go to");
    assert_eq!(site.over(&id), ["COMPLETED"]);
    assert_eq!(log(&site.house, "work/out", &format!("named-{id}.txt")), "out\n");
    assert_eq!(log(&site.house, "work", "err-100%-ovltest"), "err\n");
    let id = site.submit(&["--name", "other", "--output", "o-%j", "--error", "e %j", "s.sh"]);
    assert_eq!(site.over(&id), ["COMPLETED"]);
    assert_eq!(site.squeue(&id, "-o '%j'").stdout.trim(), "other");
    assert_eq!(
        (log(&site.house, "work", &format!("o-{id}")), log(&site.house, "work", &format!("e {id}"))),
        ("out\n".into(), "err\n".into())
    );
}

#[test]
fn nothing_secret_is_written_where_others_can_read_it() {
    let Some(site) = Site::new() else { return };
    site.house.write("work/s.sh", format!("{SMALL}echo ${{#TOKEN}}\n"));
    let secret = "s3cr3t-0123456789";
    let id = site.submit(&["--env", &format!("TOKEN={secret}"), "s.sh"]);
    assert_eq!(site.over(&id), ["COMPLETED"]);
    assert_eq!(site.log(&format!("s.sh-{id}.out")), "17\n");
    let dirs = site.house.names("home/.local/state/ovl/scripts");
    let dir = site.house.path("home/.local/state/ovl/scripts").join(&dirs[0]);
    use std::os::unix::fs::PermissionsExt;
    assert_eq!(dir.metadata().unwrap().permissions().mode() & 0o777, 0o700);
    let job = std::fs::read_to_string(dir.join("job.sh")).unwrap();
    assert!(!job.contains(secret) && !job.contains("TOKEN"), "{job}");
    let shown = shell(&site.house, &format!("scontrol show job {id}; scontrol write batch_script {id} -"));
    assert!(shown.stdout.contains("internal") && !shown.stdout.contains(secret), "{shown:#?}");
}

#[test]
fn cancelled_refused_and_shown() {
    let Some(site) = Site::new() else { return };
    site.house.write("work/s.sh", format!("{SMALL}#DEP:a/1\nprog\nsleep 60\n"));
    let dry = site.house.ovl(&["run", "--dry-run", "--afterok", "1", "s.sh"]);
    // Job 1 may or may not be known; what matters is that nothing was submitted.
    drop(dry);
    let dry = site.house.ovl(&["run", "--dry-run", "s.sh"]).ok();
    assert!(dry.stdout.starts_with("#!/bin/bash\n#SBATCH --job-name=s.sh\n"), "{dry:#?}");
    dry.prints("\n# submitted with:\nsbatch --parsable /");
    assert!(site.house.names("home/.local/state/ovl/scripts").is_empty());
    let id = site.submit(&["s.sh"]);
    let began = Instant::now();
    while !site.house.names(LOGS).iter().any(|name| name.contains(&id)) || site.log(&format!("s.sh-{id}")).is_empty() {
        assert!(began.elapsed() < Duration::from_secs(30));
        std::thread::sleep(Duration::from_millis(50));
    }
    shell(&site.house, &format!("scancel {id}")).ok();
    assert_eq!(site.over(&id), ["CANCELLED"]);
    site.house.settle();
    site.house.ovl(&["run", "-c", "99", "s.sh"]).code(7).says("it could never run: 99 CPUs");
    site.house.ovl(&["run", "-p", "nowhere", "s.sh"]).code(7).says("Slurm refuses the job");
    assert_eq!(site.house.ovl(&["run", "--no-submit", "-t", "1h", "-"]).code(4).stdout, "");
}

#[test]
fn an_interrupted_submission_tells_what_was_submitted() {
    let Some(site) = Site::new() else { return };
    site.house.write("work/s.sh", format!("{SMALL}true\n"));
    // A submission that takes a while: the real sbatch behind a slow one.
    let slow = "#!/bin/bash\ncase \"$*\" in *test-only*) ;; *) touch submitting; sleep 2 ;; esac\nexec /usr/bin/sbatch \"$@\"\n";
    crate::support::queue::executable(&site.house, "slow/sbatch", slow);
    site.house.put_on_path(&site.house.path("slow"));
    let child = site.house.start(&["run", "s.sh"]);
    let began = Instant::now();
    while !site.house.path("work/submitting").exists() {
        assert!(began.elapsed() < Duration::from_secs(30));
        std::thread::sleep(Duration::from_millis(20));
    }
    let pid = nix::unistd::Pid::from_raw(child.id().try_into().unwrap());
    nix::sys::signal::kill(pid, nix::sys::signal::Signal::SIGINT).unwrap();
    let run = Run::of(child.wait_with_output().unwrap()).code(130);
    let id = run.stdout.trim().to_owned();
    run.says(&format!("interrupted, but job {id} was submitted")).says(&format!("cancel it with: scancel {id}"));
    let _ = site.over(&id);
}
