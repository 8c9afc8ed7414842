//! Refusals and odd variables; whole lines of each version are in `tests/golden/runtimes`.

use super::*;
use crate::exec::{Gpus, Isolation};

const NEW: &str =
    "  --no-eval  x\n  --no-mount strings 'bind-paths'\n  --nv x\n  --rocm x\n -f, --fakeroot x\n $ apptainer exec";
const QUOTED: &str = "  --env-file strings x\n $ singularity exec";
const OLDEST: &str = "  --no-home  x\n $ singularity exec";

fn invocation() -> Invocation {
    Invocation {
        layers: vec!["/l/a--1.sqf".into(), "/l/b--1.sqf".into()],
        cwd: "/work/x y".into(),
        env: [("A", "1"), ("HOME", "/home/u"), ("PATH", "/bin")]
            .map(|(name, value)| (name.into(), value.into()))
            .into(),
        argv: ["tool".into()].into(),
        ..Invocation::default()
    }
}

fn made(help: &str, invocation: &Invocation) -> Result<(String, String), String> {
    let host = [("PATH", "/usr/bin"), ("APPTAINER_BIND", "/evil"), ("NVIDIA_VISIBLE_DEVICES", "0")];
    let host = host.map(|(name, value)| (name.into(), value.into())).into();
    let root = Root { path: Path::new("/b"), host: &[], skeleton: false };
    let line = line(Dialect::of_help(help), invocation, root, &host)?;
    let text = |text: &OsStr| text.to_str().unwrap().to_owned();
    let args: Vec<String> = line.args.iter().map(|arg| text(arg)).collect();
    let env: Vec<String> = line.env.iter().map(|(name, value)| format!("{}={}", text(name), text(value))).collect();
    Ok((args.join("|"), env.join("|")))
}

fn with(change: impl FnOnce(&mut Invocation)) -> Invocation {
    let mut invocation = invocation();
    change(&mut invocation);
    invocation
}

fn set(name: &str, value: &str) -> Invocation {
    with(|invocation| invocation.env.push((name.into(), value.into())))
}

#[test]
fn names_that_are_none_for_a_shell_pass_as_they_are() {
    for (name, value) in [("BASH_FUNC_m%%", "() { echo $1; }"), ("EUID", "7"), ("PREPEND_PATH", "/x")] {
        let (args, env) = made(NEW, &set(name, value)).unwrap();
        assert!(!args.contains("--cleanenv"), "{args}");
        let plain = format!("{name}={value}");
        assert!(env.split('|').any(|line| line == plain) && env.contains("APPTAINERENV_A=1"), "{env}");
    }
}

#[test]
fn what_a_version_would_evaluate_passes_as_it_is_or_is_refused() {
    let (args, env) = made(QUOTED, &set("B", "$HOME")).unwrap();
    assert!(!args.contains("--cleanenv") && env.contains("|B=$HOME|") || env.starts_with("B=$HOME"), "{args} {env}");
    let refused = made(QUOTED, &set("LD_LIBRARY_PATH", "/a$b")).unwrap_err();
    assert!(refused.starts_with("LD_LIBRARY_PATH: this version of singularity cannot"), "{refused}");
    let (args, env) = made(OLDEST, &set("B", "$HOME")).unwrap();
    assert!(args.ends_with("|/b|/usr/bin/env|PATH=/bin|tool"), "{args}");
    assert!(env.contains("SINGULARITYENV_B=$HOME") && !env.contains("SINGULARITYENV_PATH"), "{env}");
    assert!(args.contains("--cleanenv") && env.contains("SINGULARITY_NO_OCI=1"), "{args} {env}");
}

#[test]
fn processors_and_the_off_switch() {
    let args = |help, gpus| made(help, &with(|invocation| invocation.gpus = gpus)).map(|(args, _)| args);
    let none = Gpus::default();
    assert!(args(NEW, Gpus { nvidia: true, ..none.clone() }).unwrap().contains("|--nv|--home|"));
    assert!(args(NEW, Gpus { rocm: true, nvidia: true, ..none.clone() }).unwrap().contains("|--nv|--rocm|"));
    assert!(args(NEW, Gpus { off: true, ..none.clone() }).unwrap().contains("|--no-nv|--no-rocm|"));
    assert!(!args(OLDEST, Gpus { off: true, ..none.clone() }).unwrap().contains("--no-nv"));
    assert!(!args(NEW, none.clone()).unwrap().contains("--nv|"));
    assert!(args(OLDEST, Gpus { rocm: true, ..none.clone() }).unwrap_err().contains("no --rocm"));
    assert!(made(NEW, &invocation()).unwrap().1.contains("|NVIDIA_VISIBLE_DEVICES=0|"));
}

#[test]
fn flags_of_its_own_stand_behind_ours_and_before_the_container() {
    let (args, _) = made(NEW, &with(|i| i.flags = vec!["--nvccli".into(), "--dns=1.1.1.1".into()])).unwrap();
    assert!(args.contains("b--1.sqf:ro|--nvccli|--dns=1.1.1.1|--pwd|/work/x y|/b|tool"), "{args}");
    for bad in ["", "-", "--", "uid:0", "image.sif"] {
        assert!(made(NEW, &with(|i| i.flags = vec![bad.into()])).unwrap_err().contains("is no flag"), "{bad}");
    }
}

#[test]
fn what_cannot_be_said_is_refused_with_its_name() {
    let refused = |change: &dyn Fn(&mut Invocation)| made(NEW, &with(change)).unwrap_err();
    assert!(refused(&|i| i.layers.push("/l/a:b.sqf".into())).starts_with("/l/a:b.sqf: a path with ':'"));
    assert!(refused(&|i| i.layers.push("/l/a,b.sqf".into())).contains("','"));
    assert!(refused(&|i| i.writable = Some("/l/a,b.img".into())).contains("','"));
    let bind = |target: &str| Mount::Bind { source: "/a".into(), target: target.into(), writable: true };
    assert!(refused(&|i| i.mounts.push(bind("/x\ny"))).contains("\\n"));
    let memory = Mount::Tmpfs { target: "/m".into(), mode: 0o755, writable: true };
    assert!(refused(&|i| i.mounts.push(memory.clone())).contains("memory"));
    assert!(refused(&|i| i.isolation = Isolation { read_only: true, ..i.isolation }).contains("read-only"));
    assert!(refused(&|i| i.layers = vec!["/l/a.sqf".into(); 81]).contains("80 overlays"));
    let full = |i: &mut Invocation| {
        i.layers = vec!["/l/a.sqf".into(); 80];
        i.writable = Some("/l/w.img".into());
    };
    assert!(refused(&full).contains("not 81"));
    assert!(made(OLDEST, &with(|i| i.fakeroot = true)).unwrap_err().contains("--fakeroot"));
}
