//! On this machine.

use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;

use super::{ARGUMENTS, GRANTED, LOGS, house, launcher, log, overlay};
use crate::support::house::{House, finish, program};

#[test]
fn lines_and_flags_choose_the_overlays() {
    let house = house(&["a/1", "b/1", "b/2", "c/1", "d/1"]);
    let image = house.image("d/1");
    std::fs::rename(image, house.path("work/d.sqf")).unwrap();
    let paths = "echo $PATH | tr : '\\n' | grep ^/cnt\n";
    house.write("work/s.sh", format!("#!/bin/bash\n#DEP:a/1\n#DEP:b/3>=1\n#DEP:./d.sqf\n#OVL:-o c/1 --env 'X=1 2'\n#CNT --env Y=3\necho $X $Y\n{paths}"));
    let first = house.ovl(&["run", "s.sh"]).ok();
    assert_eq!(first.stdout, "1 2 3\n/cnt/c/1/bin\n/cnt/d/1/bin\n/cnt/b/2/bin\n/cnt/a/1/bin\n");
    // Flags come last, and win.
    let second = house.ovl(&["run", "-o", "b/1", "--env", "Y=4", "s.sh"]).ok();
    assert!(second.stdout.starts_with("1 2 4\n/cnt/b/1/bin\n/cnt/c/1/bin\n"), "{second:#?}");
    // A name without a version is the newest.
    house.write("work/t.sh", "#OVL:-o b\nprog\n");
    assert_eq!(house.ovl(&["run", "t.sh"]).ok().stdout, "b/2\n");
    house.settle();
}

#[test]
fn what_is_missing_is_told_at_once_and_can_be_installed() {
    let house = House::new();
    overlay(&house, "a/1");
    overlay(&house, "b/1");
    house.write("work/s.sh", "#DEP:a/1\n#CNT -o b/1\nprog\n");
    let run = house
        .ovl(&["run", "s.sh"])
        .code(4)
        .says("2 overlays are missing")
        .says("hint: install them with: ovl check -a s.sh");
    let run = run.says("a/1  can be built  s.sh:1:6").says("b/1  can be built  s.sh:2:9");
    assert_eq!(run.stdout, "");
    // Tasks and nodes are no recipe's business, but a script's.
    house.write("work/wide.sh", "#DEP:a/1\n#CNT -o b/1\n#SBATCH -N 2 -n 2\n");
    house.ovl(&["check", "-a", "wide.sh"]).ok();
    assert_eq!(house.ovl(&["run", "s.sh"]).ok().stdout, "b/1\n");
    // Building prints to standard error only.
    overlay(&house, "c/1");
    assert_eq!(house.ovl(&["run", "-a", "-o", "c/1", "s.sh"]).ok().says("c/1: built").stdout, "c/1\n");
    house.write("work/t.sh", "#DEP:nobody/1\n#DEP:./no.sqf\n#DEP:a/1\n");
    let run = house.ovl(&["run", "-a", "t.sh"]).code(4).says("nobody/1  no recipe  t.sh:1:6").says("./no.sqf");
    run.keeps_quiet_about("a/1");
    house.recipe("f/1", crate::support::house::script("", "false"));
    house.write("work/f.sh", "#DEP:f/1\necho never\n");
    assert_eq!(house.ovl(&["run", "-a", "f.sh"]).code(2).stdout, "");
}

#[test]
fn the_scripts_end_and_its_arguments_are_its_own() {
    let house = house(&["a/1"]);
    house.write("work/s.sh", format!("#!/bin/sh\n#DEP:a/1\n{ARGUMENTS}"));
    let run = house.ovl(&["run", "s.sh", "a b", "", "it's \"x\" $HOME `id` \\", "l1\nl2\n", "-n", "--", "*"]).ok();
    assert_eq!(run.stdout, "[a b][][it's \"x\" $HOME `id` \\][l1\nl2\n][-n][--][*]\n");
    let mut raw = house.ovl_command(&["run", "s.sh"]);
    raw.arg(OsStr::from_bytes(b"\xff\xfe"));
    let output = raw.output().unwrap();
    assert_eq!(output.stdout, b"[\xff\xfe]\n");
    for (line, code) in [("exit 0", 0), ("exit 3", 3), ("exit 255", 255), ("kill -TERM $$", 1015)] {
        house.write("work/e.sh", format!("#!/bin/bash\n{line}\n"));
        house.ovl(&["run", "e.sh"]).code(code);
    }
    assert_eq!(house.ovl_fed(&["run", "-o", "a/1", "-", "x y"], ARGUMENTS).ok().stdout, "[x y]\n");
    house.write("work/in.sh", "cat\n");
    assert_eq!(house.ovl_fed(&["run", "in.sh"], "fed").ok().stdout, "fed");
    house.settle();
}

#[test]
fn scripts_run_by_their_own_interpreters() {
    let house = house(&["a/1"]);
    for (text, out) in [
        (
            "#!/usr/bin/python3\n#DEP:a/1\nimport sys, subprocess\nprint(sys.argv[1:], subprocess.getoutput('prog'))\n",
            "['x y'] a/1\n",
        ),
        ("#!/usr/bin/env python3\nimport sys\nprint(sys.argv[1])\n", "x y\n"),
        ("#!/usr/bin/env -S bash -eu\necho $-\n", "ehuB\n"),
        ("#! /bin/bash  -x -e \necho x\n", ""),
        ("echo ${BASH_VERSION:0:1}${1}\n", "5x y\n"),
        ("#!/usr/bin/awk -f\nBEGIN { print ARGV[1] }\n", "x y\n"),
    ] {
        // Nobody made it executable.
        house.write("work/s", text);
        let run = house.ovl(&["run", "s", "x y"]);
        if out.is_empty() {
            // One argument, as the kernel takes it: bash refuses `-x -e ` just so.
            assert_ne!(run.code, 0, "{run:#?}");
        } else {
            assert_eq!(run.ok().stdout, out, "{text}");
        }
    }
    house.write("work/s", "#!/no/such/thing\n");
    house.ovl(&["run", "s"]).code(127).says("/no/such/thing");
}

#[test]
fn what_is_no_such_script_is_refused_with_its_place() {
    let house = house(&["a/1"]);
    for (text, told) in [
        ("#!/bin/sh\n#OVL:-o a/1 --bogus x\n", "s.sh:2:13: #OVL: '--bogus' is no option here"),
        ("#!/bin/sh\n#CNT -o a/1 extra\n", "s.sh:2:13: #CNT: 'extra' is no option here"),
        ("#OVL:--network moon\n", "s.sh:1:16: #OVL: invalid value 'moon'"),
        ("#OVL:--env \"A=1\n", "s.sh:1:12: the quote opened here is not closed"),
        ("#OVL:--env\n", "s.sh:1:6: #OVL: a value is required"),
        ("#DEP:one\n", "s.sh:1:6: #DEP: "),
        ("#SBATCH --mem=lots\n", "s.sh:1:9: --mem=lots: "),
        ("#SBATCH --bogus=1\n", "s.sh:1:9: directive not understood"),
        ("#!/bin/bash\r\necho\r\n", "s.sh:1:12: 2 lines end in CRLF"),
        ("", "the script is empty"),
        ("\u{7f}ELF", "s.sh:1:1: it is a program"),
    ] {
        let file = house.write("work/s.sh", text);
        if text.ends_with("ELF") {
            std::fs::write(file, b"\x7fELF\x02").unwrap();
        }
        house.ovl(&["run", "s.sh"]).code(4).says(told);
    }
    house.ovl(&["run", "nope.sh"]).code(4).says("nope.sh");
    house.ovl(&["run", "."]).code(4).says("a directory");
    house.ovl(&["run"]).code(4);
    house.ovl(&["run", "--afterok", "1", "--no-submit", "s.sh"]).code(4);
    house.write("work/odd.sh", "#DEP a/1\necho x\n");
    assert_eq!(house.ovl(&["run", "odd.sh"]).ok().says("#DEP has no colon").stdout, "x\n");
}

#[test]
fn module_lines_are_overlays_when_asked() {
    let house = house(&["gcc/12", "r/4.3"]);
    house.write("work/s.sh", "module load gcc/12 $X\nif true; then ml r; fi\nprog\n");
    let run = house.ovl(&["run", "--module", "s.sh"]);
    assert!(run.stdout.ends_with("r/4.3\n"), "{run:#?}");
    let without = house.ovl(&["run", "s.sh"]);
    assert!(!without.stdout.contains("r/4.3"), "{without:#?}");
    house.write("work/t.sh", "module load python/3.11\n");
    house.ovl(&["run", "--module", "t.sh"]).code(4).says("python/3.11  no recipe  t.sh:1:13");
}

#[test]
fn arrays_run_one_after_another_with_logs_of_their_own() {
    let house = house(&["a/1"]);
    house.write("work/s.sh", format!("#DEP:a/1\nprog; {ARGUMENTS}[ \"$3\" != bad ] || exit 9\n"));
    house.write("work/list", "'a b' one\n\"it's\" two\n\\$x bad\n");
    let run = house
        .ovl(&["run", "--no-submit", "--array", "list", "s.sh", "common"])
        .code(9)
        .says("task 3 of 3: its output goes to");
    assert_eq!(run.stdout, "");
    for (task, out) in
        [("_1.out", "[common][a b][one]"), ("_2.out", "[common][it's][two]"), ("_3.out", "[common][$x][bad]")]
    {
        let name = house.names(LOGS).into_iter().find(|name| name.ends_with(task)).unwrap();
        assert_eq!(log(&house, LOGS, &name), format!("a/1\n{out}\n"));
    }
    let run = house.ovl(&[
        "run",
        "--no-submit",
        "--array",
        "list",
        "--array-limit",
        "3",
        "--output",
        "o/%x-%a",
        "--error",
        "o/e-%a",
        "s.sh",
        "common",
    ]);
    run.code(9).says("1 of 3 tasks failed").says("task 3: exit code 9");
    assert_eq!(house.names("work/o"), ["e-1", "e-2", "e-3", "s.sh-1", "s.sh-2", "s.sh-3"]);
    house.write("work/list", "a b\n\nc\n'd\n");
    let run = house.ovl(&["run", "--array", "list", "s.sh"]).code(4).says("list:2:1: the line is blank");
    run.says("list:3:1: 1 arguments, but line 1 has 2").says("list:4:1: what is opened here is not closed");
    house.settle();
}

#[test]
fn variables_follow_what_there_is() {
    let house = house(&["a/1"]);
    house.write("work/s.sh", format!("#DEP:a/1\n#SBATCH -c 1 --mem=1500M\n{GRANTED}"));
    assert_eq!(house.ovl(&["run", "--no-submit", "s.sh"]).ok().stdout, "1 1 1 1 1500 1\n");
    assert_eq!(house.ovl(&["run", "--no-submit", "-m", "3G", "s.sh"]).ok().stdout, "1 1 1 1 3072 3\n");
    assert_eq!(house.ovl(&["run", "--no-submit", "--env", "NCPUS=7", "s.sh"]).ok().stdout, "1 1 1 7 1500 1\n");
    // Never more than there is.
    let run = house.ovl(&["run", "--no-submit", "-c", "4000", "s.sh"]).ok();
    let cpus: u32 = run.stdout.split(' ').nth(3).unwrap().parse().unwrap();
    assert!(cpus < 4000 && cpus > 0, "{run:#?}");
    // In a job of one's own: what that has.
    let vars = [("SLURM_JOB_ID", "7"), ("SLURM_CPUS_ON_NODE", "3"), ("SLURM_MEM_PER_NODE", "2000")];
    let run = house.ovl_with(&vars, &["run", "--always-submit", "s.sh"]).ok();
    assert_eq!(run.stdout, "1 1 1 3 2000 1\n");
}

#[test]
fn several_tasks_are_started_by_the_hosts_launcher() {
    let house = house(&["a/1"]);
    house.write("work/s.sh", "#DEP:a/1\necho $PMI_RANK/$NTASKS $(prog) $1\n");
    let ranks = |run: crate::support::house::Run| {
        let mut lines: Vec<String> = run.ok().stdout.lines().map(str::to_owned).collect();
        lines.sort();
        lines
    };
    let clean = [("PATH", "/usr/bin:/bin")];
    if finish(house.command("sh")).code == 0 && which("mpiexec").is_none() && which("mpirun").is_none() {
        house.ovl_with(&clean, &["run", "-n", "3", "s.sh"]).code(7).says("neither srun").says("--launcher none");
    }
    launcher(&house, "mpiexec");
    assert_eq!(ranks(house.ovl(&["run", "-n", "3", "s.sh", "x y"])), ["0/3 a/1 x y", "1/3 a/1 x y", "2/3 a/1 x y"]);
    assert_eq!(house.ovl(&["run", "-n", "3", "--launcher", "none", "s.sh"]).ok().stdout, "/3 a/1\n");
    // What was launched already is not launched again.
    assert_eq!(house.ovl_with(&[("PMI_RANK", "1")], &["run", "-n", "3", "s.sh"]).ok().stdout, "1/3 a/1\n");
    house.write("work/own.sh", "#DEP:a/1\nmpiexec -n 2 echo x\n");
    assert_eq!(
        house.ovl(&["run", "-n", "2", "own.sh"]).ok().says("own.sh:2:1: the script calls mpiexec itself").stdout,
        "x\nx\n"
    );
    house.write("work/bad.sh", "[ $PMI_RANK != 1 ] || exit 5\n");
    house.ovl(&["run", "-n", "3", "bad.sh"]).code(5);
    house.ovl(&["run", "-n", "2", "-N", "3", "bad.sh"]).code(4).says("3 nodes are more than the 2 tasks");
    house.settle();
}

fn which(name: &str) -> Option<std::path::PathBuf> {
    ["/usr/bin", "/bin", "/usr/local/bin"]
        .iter()
        .map(|dir| std::path::Path::new(dir).join(name))
        .find(|path| path.exists())
}

#[test]
fn a_dry_run_shows_the_command_and_does_nothing() {
    let house = house(&["a/1"]);
    house.write("work/s.sh", "#DEP:a/1\ntouch made\n");
    let run = house.ovl(&["run", "--dry-run", "-c", "1", "-m", "1G", "--bind", "/etc:/x:ro", "s.sh", "a b"]).ok();
    let image = house.image("a/1");
    let expected = format!(
        "ovl exec --env=NNODES=1 --env=NTASKS=1 --env=NTASKS_PER_NODE=1 --env=NCPUS=1 --env=MEM=1024 --env=MEM_GB=1 --overlay={} --bind=/etc:/x:ro -- bash {} 'a b'\n",
        image.display(),
        house.path("work/s.sh").display()
    );
    assert_eq!(run.stdout, expected);
    run.says("here: the script has no directives");
    let json = house.ovl(&["run", "--dry-run", "--json", "s.sh"]).ok().json();
    assert_eq!((json["place"].as_str(), json["commands"][0][0].as_str()), (Some("here"), Some("ovl")));
    assert_eq!(house.names("work"), ["s.sh"]);
    // The printed line is one that can be pasted.
    let line = expected.replacen("ovl ", &format!("{} ", program().display()), 1);
    crate::support::queue::shell(&house, &line).ok();
    assert_eq!(house.names("work"), ["made", "s.sh"]);
}

#[test]
fn tasks_that_share_a_log_do_not_truncate_it() {
    let house = house(&[]);
    house.write("work/s.sh", "echo out $1; echo err $1 >&2\n");
    house.write("work/list", "1\n2\n3\n");
    for _ in 0..2 {
        house.ovl(&["run", "--no-submit", "--array", "list", "--output", "o", "--error", "e-%a", "s.sh"]).ok();
        assert_eq!(log(&house, "work", "o"), "out 1\nout 2\nout 3\n");
        assert_eq!(log(&house, "work", "e-2"), "err 2\n");
    }
}

#[test]
fn a_dry_run_shows_the_launcher() {
    let house = house(&[]);
    launcher(&house, "mpiexec");
    house.write("work/s.sh", "#SBATCH -n 3 -c 1\ntrue\n");
    let run = house.ovl(&["run", "--dry-run", "--no-submit", "s.sh"]).ok();
    assert!(run.stdout.starts_with("mpiexec -n 3 ovl exec --env=NNODES=1 --env=NTASKS=3 "), "{run:#?}");
    let run = house.ovl(&["run", "--dry-run", "--no-submit", "--launcher", "none", "s.sh"]).ok();
    assert!(run.stdout.starts_with("ovl exec "), "{run:#?}");
}
