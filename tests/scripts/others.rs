//! Jobs of PBS, LSF and HTCondor, by their stand-ins, which really run them.

use std::path::Path;
use std::time::{Duration, Instant};

use super::{ARGUMENTS, GRANTED, LOGS, house, launcher, log};
use crate::support::house::{House, program};
use crate::support::queue::{Kind, Queue};

/// What a job asks for, in Slurm's words, which are translated.
const SMALL: &str = "#SBATCH --cpus-per-task=1 --mem=100M --time=5\n";

struct Site {
    queue: Queue,
    house: House,
    kind: Kind,
}

impl Site {
    fn new(kind: Kind) -> Site {
        let house = house(&["a/1"]);
        let queue = Queue::new(kind, &house);
        Site { queue, house, kind }
    }

    /// Submits, and gives the id, which is all that is printed.
    #[track_caller]
    fn submit(&self, args: &[&str]) -> String {
        let run = self.house.ovl(&[&["run"], args].concat()).ok();
        let id = run.stdout.trim_end().to_owned();
        assert_eq!(run.stdout, format!("{id}\n"), "{run:#?}");
        assert!(id.starts_with(|c: char| c.is_ascii_digit()), "{run:#?}");
        id
    }

    /// The id as logs have it.
    fn number(id: &str) -> &str {
        id.split(['.', '[']).next().unwrap()
    }

    #[track_caller]
    fn over(&self) {
        self.queue.until("over", |queue| queue.jobs().iter().all(|job| job["state"] == "ended"));
    }

    /// A log that says something.
    #[track_caller]
    fn log(&self, start: &str) -> String {
        let began = Instant::now();
        loop {
            if self.house.names(LOGS).iter().any(|name| name.starts_with(start))
                || began.elapsed() > Duration::from_secs(5)
            {
                return log(&self.house, LOGS, start);
            }
            std::thread::sleep(Duration::from_millis(20));
        }
    }

    fn logs(&self) -> Vec<String> {
        self.house.names(LOGS)
    }
}

macro_rules! for_each_scheduler {
    ($($name:ident),* $(,)?) => {
        mod pbs { $(#[test] fn $name() { super::$name(&super::Site::new(super::Kind::Pbs)); })* }
        mod lsf { $(#[test] fn $name() { super::$name(&super::Site::new(super::Kind::Lsf)); })* }
        mod htcondor { $(#[test] fn $name() { super::$name(&super::Site::new(super::Kind::HtCondor)); })* }
    };
}

for_each_scheduler!(
    a_job,
    the_umask_is_the_submitters,
    an_array,
    jobs_wait_for_others,
    several_tasks,
    outputs,
    what_is_written,
    a_lost_answer
);

fn a_job(site: &Site) {
    let path = site.house.write(
        "work/s.sh",
        format!("#!/bin/bash\n{SMALL}#DEP:a/1\nprog; {ARGUMENTS}{GRANTED}pwd; umask; echo oops >&2; exit 3\n"),
    );
    let id = site.submit(&["-c", "2", "s.sh", "a b", "", "it's \"x\" $HOME `id` \\", "l1\nl2"]);
    std::fs::write(path, "echo changed\n").unwrap();
    site.over();
    let job = site.queue.jobs().pop().unwrap();
    assert_eq!(job["code"], 3, "{job:#}");
    let log = site.log(
        &format!("s.sh-{}.out", Site::number(&id))
            .replace("s.sh", if site.kind == Kind::HtCondor { "s_sh" } else { "s.sh" }),
    );
    let work = site.house.path("work");
    let expected =
        format!("a/1\n[a b][][it's \"x\" $HOME `id` \\][l1\nl2]\n1 1 1 2 100 1\n{}\n0022\noops\n", work.display());
    assert_eq!(log, expected);
}

fn the_umask_is_the_submitters(site: &Site) {
    site.house.write("work/s.sh", format!("{SMALL}umask\n"));
    let line = format!("umask 027; {} run --name masked s.sh", program().display());
    crate::support::queue::shell(&site.house, &line).ok();
    site.over();
    assert_eq!(site.log("masked-"), "0027\n");
}

fn an_array(site: &Site) {
    site.house.write(
        "work/s.sh",
        format!("{SMALL}#DEP:a/1\nprog; echo $OVL_ARRAY_INDEX; {ARGUMENTS}sleep 0.3; [ \"$3\" != bad ] || exit 4\n"),
    );
    site.house.write("work/list", "'a b' one\n\"it's\" two\n\\$x three\n'' bad\n");
    let id = site.submit(&["--name", "arr", "--array", "list", "--array-limit", "2", "s.sh", "common"]);
    let mut most = 0;
    let began = Instant::now();
    loop {
        let jobs = site.queue.jobs();
        let tasks: Vec<_> = jobs.iter().filter(|job| job["array"].is_null()).collect();
        most = most.max(tasks.iter().filter(|job| job["state"] == "running").count());
        if jobs.iter().all(|job| job["state"] == "ended") {
            assert_eq!(tasks.len(), 4);
            assert_eq!(tasks.iter().filter(|job| job["code"] == 0).count(), 3);
            break;
        }
        assert!(began.elapsed() < Duration::from_secs(30), "{jobs:#?}");
        std::thread::sleep(Duration::from_millis(20));
    }
    assert_eq!(most, 2, "--array-limit");
    for (task, out) in
        [(1, "[common][a b][one]"), (2, "[common][it's][two]"), (3, "[common][$x][three]"), (4, "[common][][bad]")]
    {
        assert_eq!(site.log(&format!("arr-{}_{task}.out", Site::number(&id))), format!("a/1\n{task}\n{out}\n"));
    }
    // One line is an array too, though none to PBS.
    site.house.write("work/list", "only one\n");
    site.submit(&["--name", "one", "--array", "list", "s.sh"]);
    site.over();
    assert_eq!(site.log("one-"), "a/1\n1\n[only][one]\n", "{:?}", site.logs());
}

fn jobs_wait_for_others(site: &Site) {
    let gate = "until [ -e go ]; do sleep 0.05; done\n";
    site.house.write("work/good.sh", format!("{SMALL}{gate}"));
    site.house.write("work/bad.sh", format!("{SMALL}{gate}exit 5\n"));
    site.house.write("work/then.sh", format!("{SMALL}echo then\n"));
    let (good, bad) = (site.submit(&["good.sh"]), site.submit(&["bad.sh"]));
    let then = |name: &str, flags: &[&str]| site.submit(&[&["--name", name], flags, &["then.sh"]].concat());
    then("ok", &["--afterok", &good]);
    then("nok", &["--afternotok", &bad]);
    then("any", &["--afterany", &format!("{good},{bad}")]);
    then("never", &["--afterok", &bad, "--afterany", &good]);
    site.house.write("work/go", "");
    let ran = |name: &str| site.logs().iter().any(|log| log.starts_with(&format!("{name}-")));
    site.queue.until("run", |_| ["ok", "nok", "any"].iter().all(|name| ran(name)));
    if site.kind != Kind::Lsf {
        // LSF lets such a job wait for ever.
        site.over();
    }
    std::thread::sleep(Duration::from_millis(300));
    assert!(!ran("never"), "{:?}", site.logs());
    let told = |flags: &[&str]| site.house.ovl(&[&["run"], flags, &["then.sh"]].concat());
    told(&["--afterok", &bad]).code(4).says("could never start");
    told(&["--afternotok", &good]).code(4).says("could never start");
    told(&["--afterok", "99999"]).code(4).says("does not know this job");
    let before = site.logs().len();
    then("late", &["--afterok", &good]);
    site.queue.until("run", |_| ran("late"));
    assert_eq!(site.logs().len(), before + 1);
    // Of an array, all tasks count.
    site.house.write("work/list", "0\n1\n");
    site.house.write("work/each.sh", format!("{SMALL}until [ -e on ]; do sleep 0.05; done; exit $1\n"));
    let array = site.submit(&["--array", "list", "each.sh"]);
    then("after-array", &["--afterany", &array]);
    then("after-failed", &["--afternotok", &array]);
    site.house.write("work/on", "");
    site.queue.until("run", |_| ran("after-array") && ran("after-failed"));
    told(&["--afterok", &array]).code(4).says("could never start");
}

fn several_tasks(site: &Site) {
    launcher(&site.house, "mpiexec");
    let nodes = if site.kind == Kind::HtCondor { 1 } else { 2 };
    site.house.write(
        "work/mpi.sh",
        format!("#SBATCH -N {nodes} -n 4 --mem=200M\n#DEP:a/1\necho $PMI_RANK/$NTASKS $NNODES $NTASKS_PER_NODE $NCPUS $MEM $(prog) \"$1\"\n"),
    );
    site.submit(&["--name", "mpi", "mpi.sh", "x  y"]);
    site.over();
    let log = site.log("mpi-");
    let mut lines: Vec<&str> = log.lines().collect();
    lines.sort_unstable();
    let each = 4 / nodes;
    let expected: Vec<String> = (0..4).map(|rank| format!("{rank}/4 {nodes} {each} 1 200 a/1 x  y")).collect();
    assert_eq!(lines, expected);
    if site.kind == Kind::Pbs {
        site.house.write("work/gpu.sh", "#SBATCH -n 4\ntrue\n");
        site.house.ovl(&["run", "--dry-run", "-g", "1", "gpu.sh"]).code(4).says("GPUs are those of a node").says("-N");
        site.house.ovl(&["run", "--dry-run", "-g", "1", "-N", "2", "gpu.sh"]).ok();
    }
    if site.kind == Kind::HtCondor {
        site.house.ovl(&["run", "-N", "2", "mpi.sh"]).code(4).says("HTCondor runs a job on one machine");
    }
}

fn outputs(site: &Site) {
    site.house.write(
        "work/s.sh",
        format!("{SMALL}#SBATCH -J named -o out/%x-%j.txt --error=err-100%%-%u\necho out; echo err >&2\n"),
    );
    let id = site.submit(&["s.sh"]);
    site.over();
    assert_eq!(log(&site.house, "work/out", &format!("named-{}.txt", Site::number(&id))), "out\n");
    assert_eq!(log(&site.house, "work", "err-100%-ovltest"), "err\n");
    site.house.write("work/list", "1\n2\n");
    let id = site.submit(&["--array", "list", "--output", "a b-%A.%a", "--error", "e %a", "s.sh"]);
    site.over();
    for task in 1..=2 {
        assert_eq!(log(&site.house, "work", &format!("a b-{}.{task}", Site::number(&id))), "out\n");
        assert_eq!(log(&site.house, "work", &format!("e {task}")), "err\n");
    }
}

/// The job script and the command, against files in `tests/golden/`; made anew with `OVL_TEST_BLESS=1`.
fn what_is_written(site: &Site) {
    site.house.write("work/list", "1\n2\n3\n");
    let directives = match site.kind {
        Kind::Pbs => {
            "#PBS -N full -l select=2:ncpus=8:mpiprocs=4:mem=4gb -l walltime=1:00:00 -q workq -m abe\n#PBS -o out.^array_index^ -j oe\n"
        }
        Kind::Lsf => {
            "#BSUB -J full -n 8 -R \"span[ptile=4] rusage[mem=4000]\" -W 1:00 -q normal -u me\n#BSUB -o out.%J.%I -e err.%J.%I\n"
        }
        Kind::HtCondor => "#SBATCH -J full -n 4 -c 2 --mem=4G -t 1:00:00 -A lab\n#SBATCH -o out.%A.%a\n",
    };
    site.house.write("work/full.sh", format!("#!/bin/bash\n{directives}#DEP:a/1\nprog\n"));
    site.queue.inject("stall", "");
    let parent = site.submit(&["--name", "parent", "--always-submit", "full.sh"]);
    let mut args = vec!["run", "--dry-run", "--array", "list", "--array-limit", "2", "full.sh", "a b"];
    args.splice(2..2, ["--afterok", &parent, "--afterany", &parent]);
    let run = site.house.ovl(&args).ok();
    let mut text = run.stdout.clone();
    for line in run.stdout.lines() {
        // The id of a run that was never made.
        if let Some(at) = line.find("/scripts/") {
            let id: String = line[at + 9..].chars().take_while(|c| c.is_ascii_alphanumeric() || *c == '-').collect();
            text = text.replace(&id, "{id}");
        }
    }
    text = text.replace(&*program().to_string_lossy(), "{ovl}").replace(&*site.house.dir.to_string_lossy(), "{house}");
    let kind = match site.kind {
        Kind::Pbs => "pbs",
        Kind::Lsf => "lsf",
        Kind::HtCondor => "htcondor",
    };
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join(format!("tests/golden/{kind}-script.txt"));
    if std::env::var_os("OVL_TEST_BLESS").is_some() {
        std::fs::write(&path, &text).unwrap();
    }
    let wanted = std::fs::read_to_string(&path).unwrap_or_default();
    assert!(text == wanted, "{} differs:\n{text}", path.display());
}

fn a_lost_answer(site: &Site) {
    site.house.write("work/s.sh", format!("{SMALL}true\n"));
    site.queue.inject("lose-reply", "");
    let run = site.house.ovl(&["run", "--name", "lost", "s.sh"]).code(7).says("did not say whether it took the job");
    assert_eq!(run.stdout, "");
    // What HTCondor says of a refusal, it also says when nobody knows.
    if site.kind != Kind::HtCondor {
        site.queue.inject("refuse", "");
        site.house.ovl(&["run", "s.sh"]).code(7).says("refuses the job").says("job.sh");
    }
    site.queue.inject("down", "");
    site.house.ovl(&["run", "s.sh"]).code(7);
    site.queue.relent("down");
}
