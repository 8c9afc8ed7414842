//! exec: environment, binds, bases, exit codes, signals and streams, as an unprivileged user.

use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use crate::support::house::{House, program, script};

/// A house with an overlay `name` that brings `bin/prog`, which prints the overlay's name.
pub fn with_overlays(names: &[(&str, &str)]) -> House {
    let house = House::new();
    for (name, headers) in names {
        let install = format!(
            "mkdir $target_dir/bin; printf '#!/bin/sh\\necho {name}\\n' > $target_dir/bin/prog; chmod +x $target_dir/bin/prog"
        );
        house.recipe(name, script(headers, &install));
        house.ovl(&["build", "-q", name]).ok();
    }
    house
}

#[test]
fn later_overlays_come_first_on_the_path_and_see_earlier_variables() {
    let house = with_overlays(&[
        ("a/1", "#ENV:A=$app_root\n#ENV:BOTH=a"),
        ("b/1", "#ENV:B=$A:$app_root\n#ENV:BOTH=$BOTH-b\n#ENV:PATH=$app_root/bin:$PATH"),
    ]);
    let sh =
        |first: &str, second: &str, line: &str| house.ovl(&["e", first, second, "--", "sh", "-c", line]).ok().stdout;
    assert_eq!(sh("a", "b", "prog; echo $B $BOTH"), "b/1\n/cnt/a/1:/cnt/b/1 a-b\n");
    assert_eq!(sh("b", "a", "prog; echo $B $BOTH"), "a/1\n:/cnt/b/1 a\n");
    let path = sh("a", "b", "echo $PATH");
    assert!(path.starts_with("/cnt/b/1/bin:/cnt/a/1/bin:/usr/local/bin:"), "{path}");
    assert_eq!(path.matches("/cnt/b/1/bin").count(), 1);
    // Naming one twice changes nothing.
    assert_eq!(house.ovl(&["e", "a", "a/1", "a=1", "--", "prog"]).ok().stdout, "a/1\n");
}

#[test]
fn values_are_text_that_no_shell_ever_sees() {
    let house = House::new();
    let value = "$(touch made)`touch made`;touch made|$HOME ${NOPE:-d} \\n \"'";
    house.recipe("t/1", script(&format!("#ENV:T={value}"), "touch $target_dir/f"));
    house.ovl(&["build", "-q", "t/1"]).ok();
    let home = house.path("home").display().to_string();
    let expected = value.replace("$HOME", &home).replace("${NOPE:-d}", "d");
    assert_eq!(house.ovl(&["exec", "-o", "t", "printenv", "T"]).ok().stdout, format!("{expected}\n"));
    assert!(house.names("work").is_empty());
}

#[test]
fn the_hosts_environment_passes_unless_a_clean_one_is_asked_for() {
    let house = with_overlays(&[("a/1", "#ENV:A=in")]);
    let vars = [("LD_PRELOAD_X", "host"), ("A", "host"), ("PATH", "/odd:/usr/bin:/bin")];
    let run = |args: &[&str]| house.ovl_with(&vars, &[&["exec", "-o", "a"], args, &["env"]].concat()).ok().stdout;
    let all = run(&[]);
    for line in ["LD_PRELOAD_X=host", "A=in", "PATH=/cnt/a/1/bin:/odd:/usr/bin:/bin", "IN_OVL=1", "IN_CONDATAINER=1"] {
        assert!(all.lines().any(|known| known == line), "{line} in {all}");
    }
    let clean = run(&["--cleanenv"]);
    let names: Vec<&str> = clean.lines().filter_map(|line| Some(line.split_once('=')?.0)).collect();
    assert_eq!(names, ["A", "HOME", "IN_CONDATAINER", "IN_OVL", "LANG", "PATH", "USER"]);
    assert!(!clean.contains("/odd"));
    let set = run(&["--env", "A=flag=x", "--env", "EMPTY="]);
    assert!(set.contains("\nEMPTY=\n") && set.starts_with("A=flag=x\n"), "{set}");
    for bad in ["A", "1A=x", "=x", "A B=x"] {
        house.ovl(&["exec", "--env", bad, "true"]).code(4).says(&format!("--env: '{bad}' is not NAME=VALUE"));
    }
}

#[test]
fn exit_codes_and_signals_are_the_commands_own() {
    let house = with_overlays(&[("a/1", "")]);
    for (line, code) in [("exit 0", 0), ("exit 1", 1), ("exit 255", 255), ("kill -TERM $$", 1015), ("kill -9 $$", 1009)]
    {
        house.ovl(&["exec", "-o", "a", "--", "sh", "-c", line]).code(code);
    }
    house.ovl(&["exec", "-o", "a", "nosuch"]).code(127).says("command not found: nosuch");
    house.ovl(&["exec", "-o", "a", "/etc/passwd"]).code(126).says("cannot run /etc/passwd");
    house.ovl(&["exec", "-o", "a", "/tmp"]).code(126).says("it is a directory");
    house.ovl(&["exec", "--bogus", "true"]).code(4).says("unexpected argument '--bogus'");
    // After the command everything is the command's, dashes or not.
    assert_eq!(house.ovl(&["exec", "-o", "a", "echo", "-n", "--bind", "-o", "x"]).ok().stdout, "--bind -o x");
    assert_eq!(house.ovl(&["exec", "-o", "a", "--", "echo", "--", "-x"]).ok().stdout, "-- -x\n");
    house.settle();
}

#[test]
fn streams_pass_through() {
    let house = with_overlays(&[("a/1", "")]);
    let big = "0123456789abcde\n".repeat(100_000);
    assert!(house.ovl_fed(&["exec", "-o", "a", "cat"], &big).ok().stdout == big);
    assert_eq!(house.ovl_fed(&["exec", "-o", "a"], "prog; exit 7\n").code(7).stdout, "a/1\n");
    let mut pipe = house.command("bash");
    let line = "set -o pipefail; $OVL exec -o a seq 1000000 | head -1; echo ${PIPESTATUS[0]}";
    let output = pipe.args(["-c", line]).env("OVL", program()).output().unwrap();
    assert_eq!(String::from_utf8(output.stdout).unwrap(), "1\n141\n");
    // On a terminal a shell is a shell, and Ctrl-C is the command's.
    let shell = house.on_terminal("$OVL exec -o a", &["prog; exit 5\r"]);
    shell.code(5).prints("a/1\r\n");
    house
        .on_terminal("exec $OVL exec -o a -- sh -c 'trap \"echo caught; exit 3\" INT; sleep 5 & wait'", &["\x03"])
        .code(3);
    house.settle();
}

#[test]
fn host_paths_are_bound_as_asked() {
    let house = with_overlays(&[("a/1", "")]);
    house.write("work/data/file", "content\n");
    let exec = |bind: &str, line: &str| house.ovl(&["exec", "-o", "a", "--bind", bind, "--", "sh", "-c", line]);
    let source = house.path("work/data").display().to_string();
    assert_eq!(exec(&format!("{source}:/made/here"), "cat /made/here/file").ok().stdout, "content\n");
    assert_eq!(exec("data:/mnt", "cat /mnt/file; echo new > /mnt/new").ok().stdout, "content\n");
    assert_eq!(house.names("work/data"), ["file", "new"]);
    exec("data:/mnt:ro", "echo x > /mnt/file").code(2).says("Read-only file system");
    assert_eq!(exec("data/file:/etc/hostname:ro", "cat /etc/hostname").ok().stdout, "content\n");
    assert_eq!(exec("data:/cnt/a/1/bin", "ls /cnt/a/1/bin").ok().stdout, "file\nnew\n");
    exec("nope:/mnt", "true").code(4).says("--bind: cannot look at ").says("/work/nope: No such file");
    exec(":/mnt", "true").code(4).says("names no source");
    exec("data:mnt", "true").code(4).says("must be absolute");
    exec("data:/mnt:rx", "true").code(4).says("neither ro nor rw");
    let configured = house.ovl_with(&[("OVL_EXEC_BIND", &format!("{source}:/mnt"))], &["exec", "cat", "/mnt/file"]);
    assert_eq!(configured.ok().stdout, "content\n");
    house.ovl_with(&[("OVL_EXEC_BIND", "/nope")], &["exec", "true"]).code(4).says("exec.bind: cannot look at /nope");
    house.ovl(&["exec", "-o", "a", "sh", "-c", "echo > /cnt/a/1/x"]).code(2).says("Read-only file system");
}

#[test]
fn working_directories() {
    let house = with_overlays(&[("a/1", "")]);
    let work = house.path("work").display().to_string();
    assert_eq!(house.ovl(&["exec", "-o", "a", "pwd"]).ok().stdout, format!("{work}\n"));
    assert_eq!(house.ovl(&["exec", "-o", "a", "--pwd", "/cnt/a/1", "pwd"]).ok().stdout, "/cnt/a/1\n");
    assert_eq!(house.ovl(&["exec", "-o", "a", "--pwd", "../home", "pwd"]).ok().stdout, work.replace("work", "home\n"));
    house.ovl(&["exec", "-o", "a", "--pwd", "/nope", "pwd"]).code(1).says("/nope");
}

/// A small system: bash and a few programs with their libraries.
pub fn system(house: &House) -> std::path::PathBuf {
    let base = house.make("system");
    for dir in ["bin", "etc", "tmp", "proc", "dev"] {
        house.make(&format!("system/{dir}"));
    }
    for tool in ["bash", "cat", "ls"] {
        let path = Path::new("/bin").join(tool);
        let libraries = house.command("ldd").arg(&path).output().unwrap().stdout;
        let libraries = String::from_utf8(libraries).unwrap();
        let libraries = libraries.split_whitespace().filter(|word| word.starts_with('/')).map(Path::new);
        for file in libraries.chain([path.as_path()]) {
            let copy = house.write(&format!("system{}", file.display()), std::fs::read(file).unwrap());
            std::fs::set_permissions(copy, std::fs::Permissions::from_mode(0o755)).unwrap();
        }
    }
    std::os::unix::fs::symlink("bash", base.join("bin/sh")).unwrap();
    house.write("system/etc/which", "the base\n");
    base
}

#[test]
fn another_system_lies_below_from_a_directory_or_an_image() {
    let house = with_overlays(&[("a/1", "")]);
    let directory = system(&house);
    let image = house.path("system.sqf");
    let mut pack = house.command("mksquashfs");
    pack.arg(&directory).arg(&image).args(["-quiet", "-no-progress", "-all-root"]);
    crate::support::house::finish(pack).ok();
    house.write("work/file", "bound\n");
    for base in [directory.to_str().unwrap(), image.to_str().unwrap(), "../system"] {
        let exec = |args: &[&str]| house.ovl(&[&["exec", "--base", base, "-o", "a"], args].concat());
        assert_eq!(exec(&["cat", "/etc/which"]).ok().stdout, "the base\n");
        assert_eq!(exec(&["prog"]).ok().stdout, "a/1\n");
        let work = house.path("work").display().to_string();
        assert_eq!(
            exec(&["sh", "-c", "pwd; [ -e /etc/passwd ] || echo apart"]).ok().stdout,
            format!("{work}\napart\n")
        );
        assert_eq!(exec(&["-B", "file:/etc/file", "cat", "/etc/file"]).ok().stdout, "bound\n");
        assert_eq!(exec(&["sh", "-c", "echo x > file2; cat /proc/self/comm"]).ok().stdout, "cat\n");
        exec(&["python3"]).code(127).says("command not found: python3");
    }
    assert_eq!(house.names("work"), ["file", "file2"]);
    assert_eq!(house.names("system/etc"), ["which"], "nothing is made in the base");
    let run = house.ovl_with(&[("OVL_EXEC_BASE", directory.to_str().unwrap())], &["exec", "cat", "/etc/which"]);
    assert_eq!(run.ok().stdout, "the base\n");
    house.ovl(&["exec", "--base", "/nope", "true"]).code(4).says("base: cannot look at /nope");
    house.ovl(&["exec", "--base", "/etc/passwd", "true"]).code(1).says("/etc/passwd").says("no squashfs");
}

#[test]
fn network_of_a_command() {
    let house = House::new();
    let interfaces = |args: &[&str]| {
        let run = house.ovl(&[&["exec"], args, &["grep", "-c", ":", "/proc/self/net/dev"]].concat()).ok();
        run.stdout.trim().parse::<u32>().unwrap()
    };
    let host = std::fs::read_to_string("/proc/self/net/dev").unwrap().matches(':').count();
    assert_eq!((interfaces(&["--network", "none"]), interfaces(&[]) as usize), (1, host));
}

#[test]
fn what_overlays_hide_of_each_other_is_told_when_asked() {
    let house = House::new();
    let [a, b] = ["a", "b"].map(|name| {
        let files = [("cnt/both/1/f", name), ("cnt/both/1/g", name)];
        let own = format!("cnt/{name}/1/f");
        let image = house.foreign(&format!("{name}.sqf"), &[files[0], files[1], (&own, name)]);
        image.display().to_string()
    });
    let run = house.ovl(&["exec", "-v", "-o", &a, "-o", &b, "cat", "/cnt/both/1/f"]).ok();
    assert_eq!(run.stdout, "b");
    for file in ["f", "g"] {
        assert!(run.stderr.contains(&format!("/cnt/both/1/{file} of {a} is hidden by {b}\n")), "{}", run.stderr);
    }
    assert_eq!(run.stderr.matches("hidden").count(), 2, "{}", run.stderr);
    assert_eq!(house.ovl(&["exec", "-o", &a, "-o", &b, "true"]).ok().stderr, "");
}

#[test]
fn a_parent_that_ignores_its_children_is_no_obstacle() {
    let house = House::new();
    let image = house.foreign("a.sqf", &[("cnt/a/1/f", "x")]).display().to_string();
    let line =
        "import os, signal, sys; signal.signal(signal.SIGCHLD, signal.SIG_IGN); os.execv(sys.argv[1], sys.argv[1:])";
    for flags in [&["--network", "host"][..], &["--network", "none"]] {
        let mut command = house.command("python3");
        command.args(["-c", line]).arg(program()).args(["exec", "-o", &image]).args(flags).args(["sh", "-c", "exit 3"]);
        crate::support::house::finish(command).code(3);
    }
}

#[test]
fn a_top_directory_may_hold_very_many_names() {
    let house = House::new();
    let names: Vec<String> = (0..6000).map(|number| format!("sample_{number}_R1.fastq")).collect();
    let files: Vec<(&str, &str)> = names.iter().map(|name| (name.as_str(), "")).collect();
    let image = house.foreign("many.sqf", &files).display().to_string();
    let run = house.ovl(&["exec", "-o", &image, "sh", "-c", "ls / | grep -c sample_"]).ok();
    assert_eq!(run.stdout, "6000\n");
}

#[test]
fn a_system_as_overlay_leaves_the_host_its_own() {
    let house = House::new();
    let files = [("dev/odd", "x"), ("tmp/odd", "x"), ("home/odd", "x"), ("proc/odd", "x"), ("cnt/a/1/f", "a")];
    let image = house.foreign("system.sqf", &files).display().to_string();
    let line = "test -c /dev/null && ! ls /dev/odd /tmp/odd /home/odd /proc/odd 2>/dev/null && cat /cnt/a/1/f && pwd";
    let run = house.ovl(&["exec", "-o", &image, "sh", "-c", line]).ok();
    assert_eq!(run.stdout, format!("a{}\n", house.path("work").display()));
}
