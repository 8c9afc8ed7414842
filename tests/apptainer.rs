//! `ovl exec` through Apptainer. A stand-in on PATH writes down how it was started, so these tests hold what ovl asks
//! for; `real` holds that Apptainer does it, where there is one, and `lines` what older ones are told.

mod lines;
mod real;

use std::os::unix::fs::PermissionsExt;

use crate::support::house::{House, Run, finish, program, script};

/// Answers what it is asked about itself; otherwise writes its arguments, environment and files down and ends with 41.
const STAND_IN: &str = r#"#!/bin/sh
here=$(dirname "$0")
case $* in
"exec --help") cat "$here/help"; exit 0 ;;
buildcfg) echo "LIBEXECDIR=$here/libexec"; exit 0 ;;
esac
printf '%s\n' "$@" > "$TMPDIR/args"
tr '\0' '\n' < /proc/$$/environ > "$TMPDIR/env"
ls -l /proc/self/fd > "$TMPDIR/files"
exit 41
"#;
const NEW: &str =
    "  --no-eval x\n  --no-mount strings 'bind-paths'\n  --nv x\n  --rocm x\n -f, --fakeroot x\n $ apptainer exec\n";
const OLD: &str = "  --no-home x\n  --env-file x\n  --mount x\n $ singularity exec /tmp/debian.sif\n";
/// Runs the rest where nobody can make a user namespace.
const WITHOUT: &str = "echo 0 > /proc/sys/user/max_user_namespaces && exec \"$@\"";

/// A house with a stand-in of this name and two overlays.
fn house(name: &str, help: &str) -> House {
    let house = House::new();
    let tool = house.write(&format!("bin/{name}"), STAND_IN);
    std::fs::set_permissions(tool, std::fs::Permissions::from_mode(0o755)).unwrap();
    house.write("bin/help", help);
    for name in ["a/1.0", "b/1.0"] {
        house.recipe(name, script("#ENV:ROOT=$app_root", "mkdir -p $target_dir/bin; echo x > $target_dir/bin/x"));
    }
    house.ovl(&["build", "a/1.0", "b/1.0"]).ok();
    house
}

fn ovl(house: &House, args: &[&str]) -> Run {
    let mut command = house.ovl_command(args);
    command.env("PATH", format!("{}:/usr/bin:/bin", house.path("bin").display()));
    command.env("ODD", "$(id) `id`").env("BASH_FUNC_odd%%", "() { :; }").env("APPTAINER_BIND", "/x");
    finish(command)
}

fn without_namespaces(house: &House, args: &[&str]) -> Option<Run> {
    let start = |args: &[&str]| {
        let mut command = house.command("unshare");
        command.args(["--user", "--map-current-user", "--keep-caps", "sh", "-c", WITHOUT, "sh"]).args(args);
        command.env("PATH", format!("{}:/usr/bin:/bin", house.path("bin").display()));
        finish(command)
    };
    let tried = start(&["true"]);
    if tried.code != 0 {
        println!("skipped: user namespaces cannot be switched off here: {}", tried.stderr);
        return None;
    }
    let program = program().to_str().unwrap();
    Some(start(&[&[program], args].concat()))
}

fn recorded(house: &House, what: &str) -> String {
    std::fs::read_to_string(house.path(&format!("scratch/{what}"))).unwrap()
}

#[test]
fn apptainer_gets_overlays_binds_and_the_environment() {
    let house = house("apptainer", NEW);
    let data = house.make("work/da ta");
    let bind = format!("{}:/in:ro", data.display());
    let args = ["exec", "--runtime", "apptainer", "-o", "b/1.0", "-o", "a/1.0", "--bind", &bind, "x", "-y", "$(z)"];
    ovl(&house, &args).code(41);
    let args = recorded(&house, "args");
    let (a, b) = (house.image("a/1.0"), house.image("b/1.0"));
    let overlays = format!("--overlay\n{}:ro\n--overlay\n{}:ro\n--bind\n{bind}\n", b.display(), a.display());
    assert!(args.contains(&overlays), "later ones win, for ovl as for apptainer: {args}");
    assert!(args.contains("\n--bind\n/usr:/usr\n") && !args.contains("--cleanenv"), "{args}");
    assert!(args.ends_with("\nx\n-y\n$(z)\n"), "{args}");
    let words: Vec<&str> = args.lines().collect();
    let root = words.iter().rposition(|word| word.contains("/host-root/")).unwrap();
    assert_eq!(words[root - 2..root], ["--pwd", house.path("work").to_str().unwrap()]);
    assert!(std::path::Path::new(words[root]).join("usr").is_dir());
    let env = recorded(&house, "env");
    for line in [
        "APPTAINERENV_ODD=$(id) `id`",
        "APPTAINERENV_ROOT=/cnt/a/1.0",
        "APPTAINERENV_APPTAINER_BIND=/x",
        "BASH_FUNC_odd%%=() { :; }",
    ] {
        assert!(env.lines().any(|have| have == line), "no {line} in {env}");
    }
    assert!(env.contains("\nAPPTAINERENV_PATH=/cnt/a/1.0/bin:/cnt/b/1.0/bin:"), "{env}");
    assert!(!env.lines().any(|line| line.starts_with("APPTAINER_BIND=")), "{env}");
    let files = recorded(&house, "files");
    assert!(files.contains(a.to_str().unwrap()) && files.contains(b.to_str().unwrap()), "marked as in use: {files}");
}

#[test]
fn an_old_singularity_gets_escaped_values() {
    let house = house("singularity", OLD);
    house.write("home/.config/ovl/config.yaml", "exec:\n  runtime: singularity\n");
    ovl(&house, &["exec", "-o", "a/1.0", "--cleanenv", "--env", "ODD=$(id) `id`", "x"]).code(41);
    let env = recorded(&house, "env");
    assert!(env.lines().any(|line| line == "SINGULARITYENV_ODD=\\$(id) \\`id\\`"), "{env}");
    let args = recorded(&house, "args");
    assert!(args.contains("--cleanenv") && !args.contains("--no-eval") && !args.contains("--no-mount"), "{args}");
}

#[test]
fn what_apptainer_cannot_do_is_said_before() {
    let house = house("apptainer", NEW);
    let run = |args: &[&str]| ovl(&house, &[&["exec", "--runtime", "apptainer"], args].concat());
    std::fs::copy(house.image("a/1.0"), house.path("work/a:b.sqf")).unwrap();
    run(&["-o", "./a:b.sqf", "x"]).code(1).says("a:b.sqf: a path with ':' in it cannot be passed to apptainer");
    run(&["--bind", "/etc:/usr/no/such", "x"]).code(1).says("there is no /usr/no/such on this host");
    run(&["--bind", "/no/such:/etc", "x"]).code(4).says("/no/such");
    let tree = house.make("work/tree/usr/x");
    let image = house.path("work/usr.sqf");
    let made = std::process::Command::new("mksquashfs").arg(tree.ancestors().nth(2).unwrap()).arg(&image).output();
    match made {
        Ok(made) => {
            assert!(made.status.success());
            run(&["-o", image.to_str().unwrap(), "x"]).code(7).says("have /usr").says("--base IMAGE, or exec.base");
        }
        Err(error) => println!("skipped in part: no mksquashfs: {error}"),
    }
    std::fs::remove_file(house.path("bin/apptainer")).unwrap();
    run(&["-o", "a/1.0", "x"]).code(7).says("there is no apptainer on PATH").says("module load apptainer");
    std::fs::copy("/bin/true", house.path("bin/singularity")).unwrap();
    run(&["-o", "a/1.0", "x"]).code(7).says("singularity is there: --runtime singularity");
}

#[test]
fn without_user_namespaces_apptainer_is_chosen_when_it_can_help() {
    let house = house("apptainer", NEW);
    let off = "user namespaces are switched off";
    house.write("bin/libexec/apptainer/bin/starter", "");
    let args = ["exec", "-o", "a/1.0", "x"];
    let Some(run) = without_namespaces(&house, &args) else { return };
    run.code(7).says(&format!("error: {off}")).says("without set-user-ID and needs them too");
    house.write("bin/libexec/apptainer/bin/starter-suid", "");
    let run = without_namespaces(&house, &args).unwrap().code(41);
    assert_eq!(run.stderr.lines().count(), 1, "{run:#?}");
    run.says(&format!("note: {off} (user.max_user_namespaces = 0): running through"));
    let run = without_namespaces(&house, &["exec", "--runtime", "native", "-o", "a/1.0", "x"]).unwrap();
    run.code(7).says(&format!("error: {off}"));
    std::fs::remove_file(house.path("bin/apptainer")).unwrap();
    without_namespaces(&house, &args).unwrap().code(7).says(&format!("error: {off}"));
    house.settle();
}

#[test]
fn its_flags_processors_and_writable_images_are_passed_on() {
    let house = house("apptainer", NEW);
    let args = ["exec", "--runtime", "apptainer", "-o", "a/1.0", "--nv", "--fakeroot", "--apptainer-arg=--nvccli"];
    ovl(&house, &[&args[..], &["--apptainer-arg", "--dns=1.1.1.1", "x"]].concat()).code(41);
    let args = recorded(&house, "args");
    assert!(args.contains("\n--nv\n--fakeroot\n") && args.contains("\n--nvccli\n--dns=1.1.1.1\n--pwd\n"), "{args}");
    ovl(&house, &["exec", "--runtime", "apptainer", "--no-gpu", "x"]).code(41);
    assert!(recorded(&house, "args").contains("\n--no-nv\n--no-rocm\n"));
    house.write("home/.config/ovl/config.yaml", "exec:\n  gpu: rocm\n  runtime: apptainer\n");
    ovl(&house, &["exec", "x"]).code(41);
    assert!(recorded(&house, "args").contains("\n--rocm\n"));
    ovl(&house, &["exec", "--apptainer-arg=uid:0", "x"]).code(4).says("has to begin with -");
    let run = ovl(&house, &["exec", "--runtime", "native", "--apptainer-arg=--nvccli", "x"]).code(4);
    run.says("the native runtime knows no --nvccli").says("--runtime apptainer");
}

#[test]
fn doctor_says_which_runtime_is_taken_and_why() {
    let house = house("apptainer", NEW);
    let text = |run: Run| run.stdout.lines().filter(|line| line.contains("runtime ")).collect::<Vec<_>>().join("\n");
    let said = text(ovl(&house, &["doctor"]));
    assert!(said.contains("auto takes the native one"), "{said}");
    house.write("home/.config/ovl/config.yaml", "exec:\n  runtime: singularity\n");
    let said = text(ovl(&house, &["doctor"]).code(7));
    assert!(said.contains("exec.runtime is singularity, which is not on PATH"), "{said}");
}
