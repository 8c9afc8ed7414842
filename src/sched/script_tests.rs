//! Users' scripts as jobs: written and read back, what is submitted, what is granted.

use super::tests::{asks, directives, full, ids, job, values};
use super::*;
use crate::model::batch::When;

/// What a script with these lines asks for.
fn of_script(text: &str) -> (Resources, Asks) {
    read_script(&directives(text), None).unwrap()
}

fn shown(text: &str) -> String {
    let (resources, asks) = of_script(text);
    let shape = asks.shape().unwrap();
    let text = |name: &str, figure: &Option<crate::model::resources::Figure<String>>| {
        figure.as_ref().map(|figure| format!(" {name}={}", figure.value)).unwrap_or_default()
    };
    format!(
        "{}x{} {}{}{}{}{}{}",
        shape.nodes,
        shape.tasks,
        values(&resources),
        text("name", &asks.name),
        text("output", &asks.output),
        text("error", &asks.error),
        text("array", &asks.array),
        text("cwd", &asks.cwd)
    )
}

fn script_job(shape: Shape, array: Option<Array>) -> Job {
    let batch = Batch {
        shape,
        array,
        error: Some("/logs/e-%x".into()),
        umask: Some("0027".into()),
        dag: false,
        own_array: false,
        own_chunks: false,
    };
    Job { output: "/logs/100%% o-%A_%a-%j".into(), batch: Some(batch), ..job(full()) }
}

#[test]
fn scripts_may_ask_for_what_builds_must_not() {
    assert_eq!(
        shown("#SBATCH -N 2 -n 4 -c 3 -J x -o o-%j -e e --mail-type=END -D /w\n#SBATCH --array=1-3\n"),
        "2x4 cpus=3 extra[--mail-type=END] extra[--array=1-3] name=x output=o-%j error=e array=1-3 cwd=/w"
    );
    assert_eq!(shown("#SBATCH --ntasks-per-node=2 -N 2 --hold\n"), "2x4 extra[--hold]");
    assert_eq!(
        shown("#PBS -l select=2:ncpus=8:mpiprocs=4:mem=1gb -N x -o h:/o.^array_index^ -J 1-9 -j oe -m abe\n"),
        format!("2x8 cpus=2 mem={} extra[-J 1-9] extra[-m abe] name=x output=/o.%a array=1-9", 1 << 30)
    );
    assert_eq!(shown("#PBS -l nodes=3:ppn=4\n"), "3x12 ");
    assert_eq!(shown("#PBS -l nodes=1:ppn=4\n"), "1x1 cpus=4");
    // Slots of LSF: tasks, or the CPUs of one where all are on one host.
    assert_eq!(
        shown("#BSUB -n 8 -J x[1-5]%2 -o o.%J.%I -R \"span[ptile=4]\"\n"),
        "2x8 extra[-J x[1-5]%2] name=x output=o.%A.%a array=x[1-5]%2"
    );
    assert_eq!(shown("#BSUB -n 8 -R \"span[hosts=1]\"\n"), "1x1 cpus=8");
    assert_eq!(shown("#BSUB -n 4 -R \"affinity[core(2)]\"\n"), "1x4 cpus=2");
    assert_eq!(shown("#BSUB -w done(1) -u me -Ne\n"), "1x1 extra[-w done(1)] extra[-u me] extra[-Ne]");
    for refused in ["#SBATCH --wrap=x\n", "#SBATCH -N 0\n", "#PBS -l select=1:ncpus=1+2:ncpus=2\n", "#BSUB -pack f\n"] {
        assert!(read_script(&directives(refused), None).is_err(), "{refused}");
    }
    // To builds they still are refused.
    for refused in ["#SBATCH -n 4\n", "#PBS -l select=2:ncpus=1\n", "#BSUB -J x[1-2]\n"] {
        assert!(asks(refused).is_err(), "{refused}");
    }
}

#[test]
fn gpus_of_jobs_and_tasks_are_not_those_of_a_node() {
    // Of one task on one node they are.
    assert_eq!(shown("#SBATCH --gpus=2 --cpus-per-gpu=4\n"), "1x1 cpus=8 gpus=2");
    assert_eq!(shown("#SBATCH --gpus-per-task=a100:2\n"), "1x1 gpus=2a100");
    assert_eq!(shown("#SBATCH -N 2 -G 4 --mem-per-gpu=1G\n"), "2x2 extra[-G 4] extra[--mem-per-gpu=1G]");
    assert_eq!(shown("#SBATCH -n 4 --gpus-per-task=1\n"), "1x4 extra[--gpus-per-task=1]");
    let (resources, asks) = of_script("#SBATCH -N 2 -n 4 --gpus=4\n");
    let text = dialect(Scheduler::Slurm).write(&Job { resources, ..script_job(asks.shape().unwrap(), None) }).text;
    assert!(text.contains("#SBATCH --gpus=4\n") && !text.contains("--gres"), "{text}");
    // Those of a node stay so; CPUs are counted for each task.
    assert_eq!(shown("#SBATCH -N 2 -n 4 --gpus-per-node=2 --cpus-per-gpu=3\n"), "2x4 cpus=3 gpus=2");
    assert_eq!(shown("#SBATCH -N 2 -n 4 --gres=gpu:1 --cpus-per-gpu=4\n"), "2x4 cpus=2 gpus=1");
    for refused in ["#SBATCH -n 4 --gres=gpu:2 --cpus-per-gpu=2\n", "#SBATCH -N 2 -n 4 --gres=gpu:1 --cpus-per-gpu=3\n"]
    {
        assert!(read_script(&directives(refused), None).is_err(), "{refused}");
    }
}

#[test]
fn what_is_written_reads_the_same() {
    let shapes = [
        Shape::default(),
        Shape { nodes: 2, tasks: 4, per_node: None, spread: false },
        Shape { nodes: 2, tasks: 8, per_node: Some(4), spread: false },
    ];
    for shape in shapes {
        for scheduler in [Scheduler::Slurm, Scheduler::Pbs, Scheduler::Lsf] {
            let written = dialect(scheduler).write(&script_job(shape, None));
            assert_eq!(written.notes, Vec::<String>::new());
            let (resources, asks) = of_script(&written.text);
            let read = asks.shape().unwrap();
            // A slot of LSF is a CPU: tasks and their CPUs become one number.
            if scheduler != Scheduler::Lsf {
                assert_eq!(
                    (read.nodes, read.tasks),
                    (shape.nodes, shape.tasks),
                    "{scheduler} {shape:?}\n{}",
                    written.text
                );
                assert_eq!(resources.cpus.unwrap().value, 8, "{scheduler} {shape:?}");
            } else if shape.tasks > 1 {
                assert_eq!((read.nodes, read.tasks), (shape.nodes, shape.tasks * 8), "{}", written.text);
            }
            assert_eq!(asks.name.unwrap().value, "ovl-samtools-1.21-k3");
        }
    }
}

#[test]
fn lines_of_each_scheduler() {
    let array = Some(Array { count: 7, limit: Some(2) });
    let four = Shape { nodes: 2, tasks: 4, per_node: None, spread: false };
    let spread = Shape { nodes: 1, tasks: 3, per_node: None, spread: true };
    let odd = Shape { nodes: 2, tasks: 3, per_node: None, spread: false };
    for (scheduler, shape, lines) in [
        (
            Scheduler::Slurm,
            four,
            &[
                "#SBATCH --nodes=2",
                "#SBATCH --ntasks=4",
                "#SBATCH --array=1-7%2",
                "#SBATCH --output=\"/logs/100%% o-%A_%a-%j\"",
                "#SBATCH --error=/logs/e-%x",
                "umask 0027",
            ][..],
        ),
        (Scheduler::Slurm, spread, &["#SBATCH --ntasks=3"]),
        (
            Scheduler::Pbs,
            four,
            &[
                "#PBS -J 1-7%2",
                "#PBS -l select=2:ncpus=16:mpiprocs=2:mem=16384mb:ngpus=2:gpu_model=a100",
                "#PBS -l place=scatter",
                "exec >'/logs/100% o-'\"${PBS_JOBID%%[.[]*}\"'_'\"${PBS_ARRAY_INDEX:-${PBS_ARRAYID:-1}}\"'-'\"${PBS_JOBID%%.*}\" 2>>'/logs/e-''ovl-samtools-1.21-k3'",
            ],
        ),
        (Scheduler::Pbs, spread, &["#PBS -l select=3:ncpus=8:mpiprocs=1:mem=5462mb:ngpus=2:gpu_model=a100"]),
        (
            Scheduler::Pbs,
            odd,
            &[
                "#PBS -l select=1:ncpus=16:mpiprocs=2:mem=16384mb:ngpus=2:gpu_model=a100+1:ncpus=8:mem=16384mb:ngpus=2:gpu_model=a100",
            ],
        ),
        (
            Scheduler::Lsf,
            four,
            &[
                "#BSUB -J \"ovl-samtools-1.21-k3[1-7]%2\"",
                "#BSUB -n 32",
                "#BSUB -R \"span[ptile=16] rusage[mem=16384]\"",
                "exec >'/logs/100% o-'\"${LSB_JOBID}\"'_'\"${LSB_JOBINDEX}\"'-'\"${LSB_JOBID}_${LSB_JOBINDEX}\" 2>>'/logs/e-''ovl-samtools-1.21-k3'",
            ],
        ),
        (
            Scheduler::HtCondor,
            Shape { nodes: 1, ..four },
            &[
                "request_cpus = 32",
                "request_memory = 16384",
                "max_materialize = 2",
                "output = /logs/100% o-$(Cluster)_$(ovl_index)-$(Cluster)_$(ovl_index)",
                "queue ovl_index from (",
                "7",
            ],
        ),
    ] {
        let text = dialect(scheduler).write(&script_job(shape, array)).text;
        for line in lines {
            assert!(text.lines().any(|known| known == *line), "no {line:?} in\n{text}");
        }
        assert_eq!(text.contains("#SBATCH --nodes="), scheduler == Scheduler::Slurm && !shape.spread);
    }
    let notes = dialect(Scheduler::Lsf).write(&script_job(spread, None)).notes;
    assert_eq!(notes, ["all 3 tasks of 8 CPUs go to one host; for several, say how many: -N"]);
    // PBS knows no array of one.
    let one = dialect(Scheduler::Pbs).write(&script_job(four, Some(Array { count: 1, limit: None }))).text;
    assert!(!one.contains("-J "), "{one}");
}

#[test]
fn tasks_of_an_array_do_not_truncate_each_others_output() {
    let array = |output: &str, own_array: bool| {
        let array = (!own_array).then_some(Array { count: 3, limit: None });
        let mut job = Job { output: output.into(), ..script_job(Shape::default(), array) };
        job.batch = job.batch.map(|batch| Batch { error: None, own_array, ..batch });
        job
    };
    let line = |scheduler, job: &Job, start: &str| {
        let text = dialect(scheduler).write(job).text;
        text.lines().filter(|line| line.starts_with(start)).map(str::to_owned).collect::<Vec<_>>().join("; ")
    };
    for own in [false, true] {
        let lsf = |output| line(Scheduler::Lsf, &array(output, own), "exec >");
        assert_eq!(lsf("/o-%j"), "exec >'/o-'\"${LSB_JOBID}_${LSB_JOBINDEX}\" 2>&1");
        assert_eq!(lsf("/o-%A"), "exec >>'/o-'\"${LSB_JOBID}\" 2>&1");
        assert_eq!(line(Scheduler::Pbs, &array("/o", own), "exec >"), "exec >>'/o' 2>&1");
        let slurm = |output| line(Scheduler::Slurm, &array(output, own), "#SBATCH --open-mode");
        assert_eq!((slurm("/o").as_str(), slurm("/o-%j").as_str()), ("#SBATCH --open-mode=append", ""));
    }
    let condor = |output| line(Scheduler::HtCondor, &array(output, false), "output =");
    assert_eq!(condor("/o-%j"), "output = /o-$(Cluster)_$(ovl_index)");
    assert!(dialect(Scheduler::HtCondor).write(&array("/o", false)).notes[0].contains("put %a into its name"));
    let alone = Job { output: "/o-%j".into(), ..script_job(Shape::default(), None) };
    assert!(line(Scheduler::Lsf, &alone, "exec >").starts_with("exec >'/o-'\"${LSB_JOBID}\" 2>"));
}

#[test]
fn chunks_lie_as_the_script_says() {
    let two = Shape { nodes: 2, tasks: 4, per_node: None, spread: false };
    let place = |text: &str, own_chunks| {
        let (resources, _) = of_script(text);
        let mut job = Job { resources, ..script_job(two, None) };
        job.batch = job.batch.map(|batch| Batch { own_chunks, ..batch });
        let text = dialect(Scheduler::Pbs).write(&job).text;
        text.lines().find(|line| line.contains("place=")).map(str::to_owned)
    };
    let select = "#PBS -l select=2:ncpus=2";
    assert_eq!(place(&format!("{select}\n"), true), None);
    assert_eq!(place(&format!("{select} -l place=pack:excl\n"), true).as_deref(), Some("#PBS -l place=pack:excl"));
    assert_eq!(place(&format!("{select},place=free:group=sw\n"), true).as_deref(), Some("#PBS -l place=free:group=sw"));
    assert_eq!(place("#SBATCH -N 2\n", false).as_deref(), Some("#PBS -l place=scatter"));
}

#[test]
fn conditions_of_each_scheduler() {
    let after = |when, job: &str| After { when, job: ids(&[job]).remove(0) };
    let all = [
        after(When::Ok, "1"),
        after(When::NotOk, "3"),
        after(When::Ok, "2"),
        after(When::Any, "4"),
        after(When::Ok, "1"),
    ];
    let line = |scheduler| dialect(scheduler).submit_after(Path::new("/j.sh"), "text", &all).to_string();
    assert_eq!(
        line(Scheduler::Slurm),
        "sbatch --parsable --dependency=afterok:1:2,afternotok:3,afterany:4 --kill-on-invalid-dep=yes /j.sh"
    );
    assert_eq!(line(Scheduler::Pbs), "qsub -f -W depend=afterok:1:2,afternotok:3,afterany:4 /j.sh");
    assert_eq!(line(Scheduler::Lsf), "bsub -w 'done(1) && done(2) && ended(4) && exit(3)'");
    let none = |scheduler| dialect(scheduler).submit_after(Path::new("/j.sh"), "text", &[]).to_string();
    assert_eq!(none(Scheduler::HtCondor), "condor_submit /j.sh");
    assert_eq!(none(Scheduler::Pbs), "qsub -f /j.sh");
}

#[test]
fn tasks_and_what_they_have() {
    let env =
        |vars: &[(&str, &str)]| -> Env { vars.iter().map(|(name, value)| ((*name).into(), (*value).into())).collect() };
    let index = |scheduler, vars: &[(&str, &str)]| dialect(scheduler).index(&env(vars));
    assert_eq!(index(Scheduler::Slurm, &[("SLURM_ARRAY_TASK_ID", "3")]), Some(3));
    assert_eq!(index(Scheduler::Pbs, &[("PBS_ARRAY_INDEX", "3")]), Some(3));
    assert_eq!(index(Scheduler::Pbs, &[("PBS_ARRAYID", "4")]), Some(4));
    assert_eq!(index(Scheduler::Lsf, &[("LSB_JOBINDEX", "3")]), Some(3));
    assert_eq!(index(Scheduler::Lsf, &[("LSB_JOBINDEX", "0")]), None);
    assert_eq!(index(Scheduler::HtCondor, &[("OVL_ARRAY_INDEX", "2")]), Some(2));
    let granted = |scheduler, vars: &[(&str, &str)], cpus, file: &str| {
        let text = file.to_owned();
        let granted =
            dialect(scheduler).granted_tasks(&env(vars), cpus, &|path| (path == "/file").then(|| text.clone()));
        (granted.nodes, granted.tasks, granted.per_node, granted.cpus, granted.mem)
    };
    assert_eq!(
        granted(Scheduler::Pbs, &[("PBS_NODEFILE", "/file"), ("NCPUS", "4")], 2, "n1\nn1\nn2\nn2\n"),
        (Some(2), Some(4), Some(2), Some(2), None)
    );
    // Chunks of 4 CPUs for one task each, two of them on a node.
    let chunk = [("PBS_NODEFILE", "/file"), ("NCPUS", "4")];
    assert_eq!(granted(Scheduler::Pbs, &chunk, 4, "n1\nn1\n").3, Some(4));
    assert_eq!(granted(Scheduler::Pbs, &chunk, 8, "n1\nn1\n").3, Some(4));
    assert_eq!(granted(Scheduler::Pbs, &[("PBS_NODEFILE", "/gone")], 1, ""), (None, None, None, None, None));
    assert_eq!(
        granted(Scheduler::Lsf, &[("LSB_MCPU_HOSTS", "a 4 b 4 ")], 2, ""),
        (Some(2), Some(4), Some(2), Some(2), None)
    );
    assert_eq!(granted(Scheduler::Lsf, &[("LSB_MCPU_HOSTS", "odd text")], 2, ""), (None, None, None, None, None));
    assert_eq!(
        granted(Scheduler::HtCondor, &[("_CONDOR_MACHINE_AD", "/file")], 2, "Cpus = 8\nMemory = 512\n"),
        (Some(1), Some(4), Some(4), Some(2), Some(512 << 20))
    );
}

#[test]
fn arrays_in_replies() {
    let whole = "Job Id: 3018[].vm;Job_Name=arrf;job_state=F;substate=93;Exit_status=0;array=True;stime=x\n";
    let states = dialect(Scheduler::Pbs).states(&super::tests::reply(0, whole, "")).unwrap();
    assert_eq!(states[&ids(&["3018[].vm"])[0]].state, JobState::Ended(End::Failed { code: None, signal: None }));
    assert_eq!(
        dialect(Scheduler::Pbs).job_id(&super::tests::reply(0, "3018[].vm\n", "")),
        Ok(ids(&["3018[].vm"]).remove(0))
    );
    let procs = |codes: [&str; 3]| {
        let ads: Vec<String> = codes
            .iter()
            .enumerate()
            .map(|(proc, more)| format!("{{ \"ClusterId\": 47, \"ProcId\": {proc}, {more} }}"))
            .collect();
        let reply = super::tests::reply(0, &format!("[\n{}\n]\n", ads.join(",\n")), "");
        dialect(Scheduler::HtCondor).past_states(&reply).unwrap()[&ids(&["47:"])[0]].state.clone()
    };
    let good = "\"JobStatus\": 4, \"ExitCode\": 0";
    let bad = "\"JobStatus\": 4, \"ExitCode\": 3";
    assert_eq!(procs([good, good, good]), JobState::Ended(End::Done));
    assert_eq!(procs([bad, good, good]), JobState::Ended(End::Failed { code: Some(3), signal: None }));
    assert_eq!(procs(["\"JobStatus\": 2", bad, good]), JobState::Running);
    let elements = "Job <301[1]>, Job Name <arr[1]>, User <u>, Project <default>, Status <DONE>, Queue <normal>, Command <x>\n\
                    Job <301[2]>, Job Name <arr[2]>, User <u>, Project <default>, Status <PEND>, Queue <normal>, Command <x>\n";
    let states = dialect(Scheduler::Lsf).states(&super::tests::reply(0, elements, "")).unwrap();
    assert_eq!(states.len(), 2);
    assert_eq!(states[&ids(&["301[2]"])[0]].state, JobState::Pending);
}
