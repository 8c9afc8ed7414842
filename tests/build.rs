//! From a recipe to an overlay and a command run from it, as an unprivileged user.

use crate::support::house::{House, script};

#[test]
fn hello_is_built_and_run() {
    let house = House::new();
    let built = house.ovl(&["build", "hello/1.0"]).ok();
    assert_eq!(built.stdout.trim(), house.image("hello/1.0").to_string_lossy());
    house.ovl(&["exec", "-o", "hello/1.0", "hello"]).ok().prints("Hello, world!");
    house.ovl(&["e", "hello", "--", "hello", "--version"]).ok().prints("hello 1.0");
    house.ovl(&["build", "hello=1.0"]).ok().says("hello/1.0: up to date");
    assert!(house.names("scratch").is_empty(), "the scratch directory is not empty");
    house.settle();
}

#[test]
fn a_second_build_makes_the_same_bits() {
    let house = House::new();
    house.ovl(&["build", "hello/1.0"]).ok();
    let first = std::fs::read(house.image("hello/1.0")).unwrap();
    house.ovl(&["build", "--update", "hello/1.0", "-j", "1"]).ok().says("hello/1.0: built");
    assert!(first == std::fs::read(house.image("hello/1.0")).unwrap(), "the second image differs");
}

#[test]
fn a_dependency_is_built_and_mounted_while_its_dependent_is_built() {
    let house = House::new();
    house.recipe("tool/1.0", script("#ENV:TOOL_HOME=$app_root", "mkdir -p $target_dir/bin; printf '#!/bin/sh\\necho tool in $TOOL_HOME\\n' > $target_dir/bin/tool; chmod +x $target_dir/bin/tool"));
    house.recipe("user/2.0", script("#DEP:tool/1.0", "tool > $target_dir/said; ! touch /cnt/tool/1.0/x 2>/dev/null"));
    let run = house.ovl(&["build", "user/2.0", "--json"]).ok();
    let done: serde_json::Value = serde_json::from_str(&run.stdout).unwrap();
    let names: Vec<&str> = done.as_array().unwrap().iter().map(|one| one["name"].as_str().unwrap()).collect();
    assert_eq!(names, ["tool/1.0", "user/2.0"]);
    house.ovl(&["exec", "-o", "user/2.0", "cat", "/cnt/user/2.0/said"]).ok().prints("tool in /cnt/tool/1.0");
    // What it needs is mounted below it without being named.
    house.ovl(&["exec", "-o", "user/2.0", "tool"]).ok().prints("tool in /cnt/tool/1.0");
    house.ovl(&["exec", "--no-deps", "-o", "user/2.0", "tool"]).code(127);
    let info = house.ovl(&["info", "user/2.0", "--json"]).ok();
    let info: serde_json::Value = serde_json::from_str(&info.stdout).unwrap();
    let tool = house.ovl(&["info", "tool/1.0", "--json"]).ok();
    let tool: serde_json::Value = serde_json::from_str(&tool.stdout).unwrap();
    assert_eq!(info["meta"]["inputs"]["dependencies"][0]["digest"], tool["digest"]);
    let sum = house.command("sha256sum").arg(house.image("tool/1.0")).output().unwrap();
    let sum = String::from_utf8(sum.stdout).unwrap();
    assert_eq!(tool["digest"].as_str().unwrap(), format!("sha256:{}", &sum[..64]));
}

#[test]
fn a_build_dependency_is_gone_at_run_time() {
    let house = House::new();
    house.recipe("cc/1.0", script("", "mkdir $target_dir/bin; printf '#!/bin/sh\\necho compiled\\n' > $target_dir/bin/mycc; chmod +x $target_dir/bin/mycc"));
    house.recipe("app/1.0", script("#BUILDDEP:cc/1.0", "mycc > $target_dir/out"));
    house.ovl(&["build", "app/1.0"]).ok();
    house.ovl(&["exec", "-o", "app/1.0", "mycc"]).code(127);
    house.ovl(&["exec", "-o", "app/1.0", "cat", "/cnt/app/1.0/out"]).ok().prints("compiled");
}

#[test]
fn the_sandbox_lets_nothing_else_be_written_or_seen() {
    let house = House::new();
    house.write("home/secret", "mine");
    let install = format!(
        r#"
        cd $tmp_dir && touch here && touch $target_dir/made && touch "$TMPDIR/there"
        for place in /usr/x /etc/x {home}/x {work}/x /x /cnt/x {layer}/images/x; do
            if touch "$place" 2>/dev/null; then echo "could write $place"; exit 1; fi
        done
        for home in {home} "$(getent passwd "$(id -u)" | cut -d: -f6)"; do
            case $home in /tmp/*) ;; *) [ -d "$home" ] || {{ echo "$home is gone"; exit 1; }} ;; esac
            [ -e "$home" ] && ls -A "$home"
        done > $target_dir/home
        cat /proc/self/net/dev | grep -c : > $target_dir/interfaces
        ps ax 2>/dev/null | wc -l > $target_dir/processes
        env | cut -d= -f1 | grep -v '^BASH_FUNC\|^_$\|^ovl_\|^SHLVL$\|^PWD$\|^OLDPWD$' | sort | tr '\n' ' ' > $target_dir/env
        if bash -c 'echo > /dev/tcp/127.0.0.1/9' 2>/dev/null; then exit 1; fi"#,
        home = house.path("home").display(),
        work = house.path("work").display(),
        layer = house.layer().display()
    );
    house.recipe("s/1.0", script("", &install));
    house.ovl(&["build", "s/1.0"]).ok();
    let cat = |file: &str| house.ovl(&["exec", "-o", "s/1.0", "cat", &format!("/cnt/s/1.0/{file}")]).ok().stdout;
    assert_eq!(cat("home"), "", "$HOME is not hidden");
    assert_eq!(cat("interfaces").trim(), "1", "there is more than lo");
    assert!(cat("processes").trim().parse::<u32>().unwrap() < 12, "the host's processes are visible");
    let expected = "HOME IN_CONDATAINER IN_OVL LANG LC_ALL LOGNAME MEM MEM_GB NCPUS OMP_NUM_THREADS PATH SHELL SOURCE_DATE_EPOCH TERM TMPDIR USER app_name app_name_version src_dir target_dir tmp_dir version ";
    assert_eq!(cat("env"), expected);
}

#[test]
fn network_is_given_as_asked() {
    let house = House::new();
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    std::thread::spawn(move || listener.incoming().for_each(drop));
    let reach = format!("{{ (echo > /dev/tcp/127.0.0.1/{port}) 2>$tmp_dir/err && echo reached || cat $tmp_dir/err; }}");
    let recipe = |header: &str| {
        format!(
            "#WHATIS:t\n{header}\nfetch() {{\n{reach} > $src_dir/fetched\n}}\ninstall() {{\ncp $src_dir/fetched $target_dir/; {reach} > $target_dir/installed\n}}\n"
        )
    };
    house.recipe("default/1.0", recipe(""));
    house.recipe("host/1.0", recipe("#NET:host"));
    house.ovl(&["build", "default/1.0", "host/1.0"]).ok();
    let said =
        |name: &str, file: &str| house.ovl(&["exec", "-o", name, "cat", &format!("/cnt/{name}/{file}")]).ok().stdout;
    assert_eq!(said("default/1.0", "fetched").trim(), "reached");
    assert!(
        said("default/1.0", "installed").contains("refused"),
        "install() reached the host: {}",
        said("default/1.0", "installed")
    );
    assert_eq!(said("host/1.0", "installed").trim(), "reached");
    house.ovl(&["build", "--update", "--network", "none", "host/1.0"]).ok();
    assert!(said("host/1.0", "installed").contains("refused"));
}

#[test]
fn checks_run_inside_the_finished_overlay_and_gate_it() {
    let house = House::new();
    let body = |check: &str| {
        format!(
            "#WHATIS:t\n#TEST:prog | grep -q one\ninstall() {{\nmkdir $target_dir/bin; printf '#!/bin/sh\\necho one\\n' > $target_dir/bin/prog; chmod +x $target_dir/bin/prog\n}}\ncheck() {{\n{check}\n}}\n"
        )
    };
    house.recipe("c/1.0", body("test \"$(prog)\" = one && ! touch $target_dir/x 2>/dev/null"));
    house.ovl(&["build", "c/1.0"]).ok();
    let before = std::fs::read(house.image("c/1.0")).unwrap();
    house.recipe("c/1.0", body("prog; echo about to fail; false"));
    house
        .ovl(&["build", "--update", "c/1.0"])
        .code(5)
        .says("c/1.0: check() failed (exit code 1); nothing was published")
        .says("about to fail");
    assert!(before == std::fs::read(house.image("c/1.0")).unwrap(), "a failed check changed the overlay");
    assert_eq!(house.names("home/.local/share/ovl/images"), ["c--1.0.sqf", "c--1.0.sqf.env"]);
    assert!(house.names("scratch").is_empty());
}

#[test]
fn both_shapes_of_recipes_build() {
    let house = House::new();
    house.recipe("calls/1.0", "#WHATIS:t\ninstall_app() {\n  [ -e \"$target_dir\" ] && exit 1\n  mkdir -p $target_dir; echo $app_name $version > $target_dir/f\n}\nif [ -d \"$target_dir\" ]; then echo exists; exit 1; fi\ninstall_app \"$@\"\n");
    house.recipe("defines/1.0", script("", "echo x > $target_dir/f; print_stderr done"));
    house.ovl(&["build", "calls/1.0", "defines/1.0"]).ok();
    house.ovl(&["exec", "-o", "calls/1.0", "cat", "/cnt/calls/1.0/f"]).ok().prints("calls 1.0");
    house.recipe("neither/1.0", "#WHATIS:t\necho nothing\n");
    house.ovl(&["build", "neither/1.0"]).code(4).says("install");
    house.recipe("empty/1.0", script("", "mkdir $target_dir/bin"));
    house.ovl(&["build", "empty/1.0"]).code(2).says("install() left $target_dir (/cnt/empty/1.0) empty");
}

#[test]
fn answers_come_from_flags_file_and_standard_input() {
    let house = House::new();
    house.recipe("q/1.0", "#WHATIS:t\n#INTERACTIVE:first\\nline two?\n#INTERACTIVE:second?\ninstall() {\nread -r a; read -r b; echo \"$a|$b\" > $target_dir/f\n}\n");
    let said = || house.ovl(&["exec", "-o", "q/1.0", "cat", "/cnt/q/1.0/f"]).ok().stdout;
    house.ovl(&["build", "q/1.0"]).code(4).says("no answer to: first\nline two?").says("ovl build q/1.0 --answer TEXT");
    house.ovl(&["build", "q/1.0", "--answer", "one $(x)", "--answer", "two"]).ok();
    assert_eq!(said().trim(), "one $(x)|two");
    house.ovl(&["build", "-u", "q/1.0", "--answer", "2=B", "--answer", "A"]).ok();
    assert_eq!(said().trim(), "A|B");
    house.ovl_fed(&["build", "-u", "q/1.0"], "x\ny\n").ok();
    assert_eq!(said().trim(), "x|y");
    let file = house.write("answers", "p\nq\n");
    house.ovl(&["build", "-u", "q/1.0", "--answers-file", file.to_str().unwrap()]).ok();
    assert_eq!(said().trim(), "p|q");
}

#[test]
fn a_changed_recipe_is_stale_and_a_rollback_brings_the_old_one_back() {
    let house = House::new();
    let said = || house.ovl(&["exec", "-o", "v/1.0", "cat", "/cnt/v/1.0/f"]).ok().stdout;
    house.recipe("v/1.0", script("", "echo old > $target_dir/f"));
    house.ovl(&["build", "v/1.0"]).ok();
    house.recipe("v/1.0", script("", "echo new > $target_dir/f"));
    house.ovl(&["build", "v/1.0"]).ok().says("stale").says("the recipe has changed").says("ovl build --update v/1.0");
    assert_eq!(said().trim(), "old");
    house.ovl(&["build", "--update", "v/1.0"]).ok();
    assert_eq!(said().trim(), "new");
    house.ovl(&["rollback", "v/1.0"]).ok();
    assert_eq!(said().trim(), "old");
    house.ovl(&["rollback", "v/1.0"]).ok();
    assert_eq!(said().trim(), "new");
}

#[test]
fn a_rebuilt_dependency_makes_its_dependent_stale() {
    let house = House::new();
    house.recipe("d/1.0", script("", "echo 1 > $target_dir/f"));
    house.recipe("u/1.0", script("#DEP:d/1.0", "cp /cnt/d/1.0/f $target_dir/"));
    house.ovl(&["build", "u/1.0"]).ok();
    house.ovl(&["build", "-u", "d/1.0"]).ok();
    house.ovl(&["build", "u/1.0"]).ok().says("up to date");
    house.recipe("d/1.0", script("", "echo 2 > $target_dir/f"));
    house.ovl(&["build", "-u", "d/1.0"]).ok();
    house.ovl(&["build", "u/1.0"]).ok().says("stale").says("its dependency d/1.0 was rebuilt");
}

#[test]
fn an_overlay_in_use_is_not_updated() {
    let house = House::new();
    house.ovl(&["build", "hello/1.0"]).ok();
    let mut user = house.start(&["exec", "-o", "hello/1.0", "--", "sleep", "60"]);
    let inside = format!("/proc/{}/comm", user.id());
    for _ in 0..200 {
        if std::fs::read_to_string(&inside).is_ok_and(|comm| comm == "sleep\n") {
            break;
        }
        std::thread::sleep(std::time::Duration::from_millis(10));
    }
    house.ovl(&["build", "--update", "hello/1.0"]).code(6).says("cannot update hello/1.0: it is in use by");
    house.ovl(&["rm", "-y", "hello/1.0"]).code(6).says("cannot remove hello/1.0: it is in use by");
    let waiting = house.start(&["build", "--update", "--when-free", "hello/1.0"]);
    std::thread::sleep(std::time::Duration::from_millis(400));
    user.kill().unwrap();
    user.wait().unwrap();
    let waited = crate::support::house::Run::of(waiting.wait_with_output().unwrap()).ok();
    waited.says("waiting for").says("hello/1.0: built");
    house.settle();
}

#[test]
fn verify_and_needs_are_gates() {
    let house = House::new();
    let sum = "5891b5b522d5df086d0ff0b110fbd9d21bb4fc7163af34d08286a2e846f6be03"; // of "hello\n"
    house.recipe("a/1.0", script(&format!("#VERIFY:f {sum}\n#NEEDS:bash>=3.0"), "echo hello > $target_dir/f"));
    house.ovl(&["build", "a/1.0"]).ok();
    house.recipe("b/1.0", script(&format!("#VERIFY:f {sum}\n#VERIFY:nope"), "echo other > $target_dir/f"));
    house.ovl(&["build", "b/1.0"]).code(5).says("3:1: f is sha256:").says("4:1: nope is missing");
    house.recipe("c/1.0", script("#NEEDS:no-such-command\n#NEEDS:bash>=99", "touch $target_dir/f"));
    house
        .ovl(&["build", "c/1.0"])
        .code(5)
        .says("3:1: 'no-such-command' is not in the build environment")
        .says("4:1: 'bash' is 5.");
    assert_eq!(house.names("home/.local/share/ovl/images"), ["a--1.0.sqf", "a--1.0.sqf.env"]);
}

#[test]
fn a_failing_build_shows_its_last_lines_and_a_hint() {
    let house = House::new();
    house.recipe("f/1.0", script("", "for i in $(seq 1 50); do echo line $i; done; frobnicate"));
    let run = house
        .ovl(&["build", "f/1.0"])
        .code(2)
        .says("f/1.0: failed in phase install: exit code 127")
        .says("| line 50")
        .says("hint: name what provides the command");
    assert!(!run.stderr.contains("line 20\n"), "only the last lines are shown");
    let log = run.stderr.lines().find_map(|line| line.split("the whole log is in ").nth(1)).unwrap().to_owned();
    assert!(std::fs::read_to_string(log).unwrap().contains("line 1\n"));
    house.recipe("n/1.0", script("", "echo 'curl: (6) Could not resolve host: example.org'; exit 6"));
    house
        .ovl(&["build", "n/1.0"])
        .code(2)
        .says("install() runs without network: download in fetch(), or allow it with #NET:host");
}

#[test]
fn an_ext3_stage_gives_the_same_overlay() {
    let house = House::new();
    let body = "mkdir -p $target_dir/bin $target_dir/empty; cp /bin/ls $target_dir/bin/; ln -s ls $target_dir/bin/dir; ln $target_dir/bin/ls $target_dir/bin/hard; for i in $(seq 1 50); do echo $i > $target_dir/f$i; done; chmod 750 $target_dir/empty; truncate -s 10M $target_dir/sparse; chmod 4755 $target_dir/f1";
    house.recipe("x/1.0", script("", body));
    house.ovl(&["build", "x/1.0", "--stage", "dir"]).ok();
    let from_dir = std::fs::read(house.image("x/1.0")).unwrap();
    house.ovl(&["build", "-u", "x/1.0", "--stage", "ext3"]).ok();
    let from_ext3 = std::fs::read(house.image("x/1.0")).unwrap();
    assert!(from_dir == from_ext3, "the images differ");
    assert!(house.names("scratch").is_empty());
    house.settle();
}
