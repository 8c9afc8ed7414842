//! Several shells and several users who want the same things at once: each is built once, and everybody gets it.

use std::os::unix::fs::{PermissionsExt, chown};
use std::os::unix::process::CommandExt;
use std::process::{Command, Stdio};

use super::{CONFIG, Site, end, rows};
use crate::support::house::{Run, finish, script};

#[test]
fn two_shells_share_what_both_want() {
    let Some(site) = Site::shared() else { return };
    site.quick("top/1", &[], true);
    for name in ["left/1", "right/1"] {
        site.quick(name, &["top/1"], true);
    }
    site.quick("local/1", &[], false);
    site.quick("one/1", &["left/1", "right/1", "local/1"], true);
    site.quick("two/1", &["left/1", "right/1", "local/1"], true);
    let shells: Vec<_> = ["one/1", "two/1", "one/1", "two/1"]
        .into_iter()
        .map(|target| (target, site.house.start(&["build", "--wait", "--json", target])))
        .collect();
    for (target, shell) in shells {
        let run = end(shell).ok();
        assert!(rows(&run).iter().any(|row| row.starts_with(&format!("{target}="))), "{run:#?}");
    }
    for name in ["top/1", "left/1", "right/1", "one/1", "two/1", "local/1"] {
        assert_eq!(site.builds(name), 1, "{name}");
    }
    assert_eq!(site.content("two/1"), "top/1\nleft/1\ntop/1\nright/1\nlocal/1\ntwo/1\n");
    site.is_clean();
}

/// A command of the other user, with a home of his own.
fn other(site: &Site, args: &[&str]) -> Command {
    let user = nix::unistd::User::from_name("ovlother").unwrap().expect("there is no user ovlother; run tests/run");
    let home = site.house.path("other");
    for below in ["", ".config", ".config/ovl", "tmp"] {
        let path = home.join(below);
        if !path.exists() {
            std::fs::create_dir(&path).unwrap();
            chown(&path, Some(user.uid.as_raw()), Some(user.gid.as_raw())).unwrap();
        }
    }
    std::fs::copy(site.house.path("home/.config/ovl/config.yaml"), home.join(".config/ovl/config.yaml")).unwrap();
    let mut command = site.house.ovl_command(args);
    command.uid(user.uid.as_raw()).gid(user.gid.as_raw());
    command.env("HOME", &home).env("USER", "ovlother").env("TMPDIR", home.join("tmp")).current_dir(&home);
    command.stdout(Stdio::piped()).stderr(Stdio::piped());
    command
}

#[test]
fn two_users_share_a_layer() {
    if !nix::unistd::geteuid().is_root() {
        println!("skipped: only root can be two users");
        return;
    }
    let Some(site) = Site::shared() else { return };
    let group = site.house.path("group");
    let config = format!("{CONFIG}layers:\n  group: {}\n", group.display());
    site.house.write("home/.config/ovl/config.yaml", config);
    for below in ["group", "group/images", "group/build-scripts"] {
        site.house.make(below);
        std::fs::set_permissions(site.house.path(below), std::fs::Permissions::from_mode(0o777)).unwrap();
    }
    let gate = "touch $tmp_dir/begun; until [ -e $tmp_dir/go ]; do sleep 0.05; done; touch $target_dir/f";
    let recipe = |name: &str, deps: &str, install: &str| {
        let text = script(&format!("{deps}#SBATCH --time=5 --mem=100M"), install);
        site.house.write(&format!("group/build-scripts/{name}"), text);
    };
    for private in [false, true] {
        let [base, mine, his] = ["base", "mine", "his"].map(|stem| format!("{stem}/{}", u8::from(private)));
        recipe(&base, "", gate);
        recipe(&mine, &format!("#DEP:{base}\n"), "touch $target_dir/f");
        recipe(&his, &format!("#DEP:{base}\n"), "touch $target_dir/f");
        // What the other one may not read he learns from claims and overlays.
        let mode = if private { 0o700 } else { 0o755 };
        std::fs::set_permissions(site.house.path("home"), std::fs::Permissions::from_mode(mode)).unwrap();
        site.ovl(&["build", "--layer", "group", &mine]).code(3);
        site.wait_for_gate(1);
        let waiting = other(&site, &["build", "--layer", "group", "--wait", "--json", &his, &mine]).spawn().unwrap();
        site.until("joined", || {
            let status = finish(other(&site, &["status", "--json"]));
            status.stdout.contains("\"waiting\"") || status.stdout.contains("\"running\"")
        });
        let status = finish(other(&site, &["status"])).ok().stdout;
        assert!(status.contains(&base), "{status}");
        site.open_gate();
        let run = Run::of(waiting.wait_with_output().unwrap()).ok();
        assert_eq!(rows(&run), [format!("{base}=built"), format!("{his}=built"), format!("{mine}=built")]);
        site.ovl(&["wait"]).ok();
        let jobs = site.admin("timeout 20 squeue -h -t all -O JobID:12,UserName:12,Name:100").stdout;
        let of = |name: &str| {
            let stem = name.replace('/', "--");
            let lines = jobs.lines().filter(|line| line.trim_end().ends_with(&stem));
            lines.filter_map(|line| line.split_whitespace().nth(1)).map(str::to_owned).collect::<Vec<_>>()
        };
        assert!(of(&base).contains(&"ovltest".to_owned()) && !of(&base).contains(&"ovlother".to_owned()), "{jobs}");
        assert!(!of(&mine).contains(&"ovlother".to_owned()), "{jobs}");
        assert!(of(&his).contains(&"ovlother".to_owned()), "{jobs}");
        finish(other(&site, &["exec", "-o", &his, "true"])).ok();
        let left = site.house.names("group/images").into_iter().find(|file| file.contains("claim"));
        assert_eq!(left, None);
    }
    // Nobody touches the other's runs.
    std::fs::set_permissions(site.house.path("home"), std::fs::Permissions::from_mode(0o755)).unwrap();
    let state = site.house.path("home/.local/state/ovl").display().to_string();
    let runs = site.house.names("home/.local/state/ovl/runs");
    for command in ["cancel", "retry"] {
        let mut command = other(&site, &[command, &runs[0]]);
        command.env("OVL_DIRS_STATE", &state);
        finish(command).code(4).says("ovltest's");
    }
    let mut command = other(&site, &["status", "--all"]);
    command.env("OVL_DIRS_STATE", &state);
    finish(command).ok().prints("by ovltest");
    site.is_clean();
}
