//! Whole command lines and environments for each version that differs, against files in `tests/golden/runtimes`; made
//! anew with `OVL_TEST_BLESS=1`. Which version has which flag is from the sources of their releases; the help of
//! Apptainer 1.4.5 is what it printed.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::path::{Path, PathBuf};

use ovl::exec::apptainer::{Dialect, Root, line};
use ovl::exec::{Gpus, Invocation, Isolation, Mount, Network};

/// Versions with the flags that matter here; a version that is not named is as the one before it.
const VERSIONS: [(&str, &str); 9] = [
    ("singularity-3.5", "nv rocm fakeroot"),
    ("singularity-3.6", "nv rocm fakeroot env-file"),
    ("singularity-3.7", "nv rocm fakeroot env-file no-mount"),
    ("singularity-3.9", "nv rocm fakeroot env-file no-mount mount"),
    ("singularity-3.10", "nv rocm fakeroot env-file no-mount mount no-eval"),
    ("singularity-3.11", "nv rocm fakeroot env-file no-mount mount no-eval bind-paths"),
    ("apptainer-1.0", "nv rocm fakeroot env-file no-mount mount"),
    ("apptainer-1.1", "nv rocm fakeroot env-file no-mount mount no-eval"),
    ("apptainer-1.2", "nv rocm fakeroot env-file no-mount mount no-eval bind-paths"),
];

fn golden(file: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden/runtimes").join(file)
}

/// The help of a version, as far as it matters.
fn help(version: &str, flags: &str) -> String {
    let mut text: String = flags.split(' ').map(|flag| format!("      --{flag}   what it does\n")).collect();
    if flags.contains("bind-paths") {
        text = text.replace("      --bind-paths   what it does", "                  'bind-paths' to disable all");
    }
    text + &format!("  $ {} exec /tmp/debian.sif cat\n", version.split('-').next().unwrap())
}

fn pairs(pairs: &[(&str, &str)]) -> Vec<(OsString, OsString)> {
    pairs.iter().map(|(name, value)| (name.into(), value.into())).collect()
}

fn plain() -> Invocation {
    Invocation {
        layers: vec!["/l/a--1.sqf".into(), "/l/b--1.sqf".into()],
        cwd: "/work/x y".into(),
        env: pairs(&[("A", "1"), ("HOME", "/home/u"), ("PATH", "/cnt/a/1/bin:/bin")]),
        argv: ["tool", "-x", "$(id)", ""].map(Into::into).into(),
        ..Invocation::default()
    }
}

fn everything() -> Invocation {
    let bind =
        |source: &str, target: &str, writable| Mount::Bind { source: source.into(), target: target.into(), writable };
    let odd = [("A", "$(x) `y` \\ \"q\",z\nn"), ("BASH_FUNC_m%%", "() { :; }"), ("PREPEND_PATH", "/p")];
    let mut all = plain();
    all.layers.push("/l/env.img".into());
    all.writable = Some("/w/env.img".into());
    all.gpus = Gpus { nvidia: true, rocm: true, ..Gpus::default() };
    all.fakeroot = true;
    all.flags = ["--nvccli", "--dns=10.0.0.1"].map(Into::into).into();
    all.mounts = vec![bind("/data/in put", "/in", false), bind("/w", "/opt", true)];
    all.isolation = Isolation { read_only: false, processes: true, network: Network::None };
    all.env.retain(|(name, _)| name != "A");
    all.env.extend(pairs(&odd));
    all
}

fn shown(help: &str, invocation: &Invocation, root: Root<'_>) -> String {
    let host: BTreeMap<OsString, OsString> = pairs(&[
        ("PATH", "/usr/bin"),
        ("APPTAINER_BIND", "/evil"),
        ("SINGULARITYENV_B", "1"),
        ("TMPDIR", "/t"),
        ("LD_PRELOAD", "/evil.so"),
    ])
    .into_iter()
    .collect();
    match line(Dialect::of_help(help), invocation, root, &host) {
        Err(why) => format!("refused: {why}\n"),
        Ok(line) => {
            let args: String = line.args.iter().map(|arg| format!("{arg:?}\n")).collect();
            let env: String = line.env.iter().map(|(name, value)| format!("{}={value:?}\n", name.display())).collect();
            format!("{args}-- environment\n{env}")
        }
    }
}

#[test]
fn command_lines_of_each_version() {
    let host = ["/etc", "/opt", "/usr"].map(PathBuf::from);
    let over_host = Root { path: Path::new("/s/root"), host: &host, skeleton: true };
    let tmp = [PathBuf::from("/tmp")];
    let over_image = Root { path: Path::new("/b/ase.sif"), host: &tmp, skeleton: false };
    for (version, flags) in VERSIONS {
        let help = help(version, flags);
        let mut off = plain();
        off.gpus.off = true;
        let mut text = format!("==== over the host\n{}", shown(&help, &plain(), over_host));
        text += &format!("==== everything, over an image\n{}", shown(&help, &everything(), over_image));
        text += &format!("==== no processors\n{}", shown(&help, &off, over_image));
        let path = golden(&format!("{version}.txt"));
        if std::env::var_os("OVL_TEST_BLESS").is_some() {
            std::fs::write(&path, &text).unwrap();
        }
        let wanted = std::fs::read_to_string(&path).unwrap_or_default();
        assert!(text == wanted, "{} differs:\n{text}", path.display());
    }
}

#[test]
fn a_real_help_is_read() {
    let real = std::fs::read_to_string(golden("apptainer-1.4.5.help")).unwrap();
    let (version, flags) = VERSIONS[8];
    assert_eq!(Dialect::of_help(&real), Dialect::of_help(&help(version, flags)));
}
