//! Cancelling and taking up again; looking on while it goes.

use super::{Site, end, rows};

#[test]
fn cancelling_a_pending_one_takes_its_descendants_and_leaves_the_rest() {
    let Some(site) = Site::shared() else { return };
    site.gated("top/1", &[], true);
    site.quick("left/1", &["top/1"], true);
    site.quick("below/1", &["left/1"], true);
    site.quick("right/1", &["top/1"], true);
    site.ovl(&["build", "below/1", "right/1"]).code(3);
    site.wait_for_gate(1);
    let why = site.explain("below/1");
    assert!(why.contains("It waits: job") && why.contains("It comes after left/1."), "{why}");
    let dry = site.ovl(&["cancel", "--dry-run", "left/1"]).ok();
    assert_eq!(dry.stdout, "would cancel left/1\nwould cancel below/1\n");
    assert_eq!(site.jobs().len(), 4);
    site.ovl(&["cancel", "left/1"]).ok().prints("cancelled left/1\ncancelled below/1\n");
    site.until("cancelled", || site.jobs().len() == 2);
    assert_eq!(site.state("top/1"), "running");
    site.open_gate();
    site.ovl(&["wait"]).code(130).says("cancelled by ovltest");
    assert_eq!(["left/1", "below/1", "right/1"].map(|name| site.state(name)), ["cancelled", "cancelled", "done"]);
    site.is_clean();
    site.ovl(&["cancel", "left/1"]).ok().says("there is nothing left to cancel");
    let run = site.ovl(&["retry", "--wait", "--json"]).ok();
    assert_eq!(rows(&run), ["left/1=built", "below/1=built"]);
    assert_eq!(site.builds("top/1"), 1);
    site.is_clean();
}

#[test]
fn cancelling_a_running_one_leaves_nothing_behind() {
    let Some(site) = Site::shared() else { return };
    // A process that does not listen, and one in a session of its own.
    let install = "trap '' TERM INT; setsid sleep 98 & touch $tmp_dir/begun; sleep 99";
    site.recipe("slow/1", &[], true, install);
    site.quick("below/1", &["slow/1"], true);
    site.ovl(&["build", "below/1"]).code(3);
    site.wait_for_gate(1);
    assert!(site.explain("slow/1").contains("It is being built on "), "{}", site.explain("slow/1"));
    site.ovl(&["cancel", "slow/1"]).ok().prints("cancelled slow/1\ncancelled below/1\n");
    site.is_clean();
    assert_eq!(["slow/1", "below/1"].map(|name| site.state(name)), ["cancelled", "cancelled"]);
    site.ovl(&["wait"]).code(130);
    site.quick("slow/1", &[], true);
    // `retry` builds what was frozen, `build` what the recipe says now.
    site.ovl(&["build", "--wait", "below/1"]).ok();
    site.is_clean();
}

#[test]
fn cancelling_a_run_or_all_of_them() {
    let Some(site) = Site::shared() else { return };
    for name in ["a/1", "b/1", "c/1"] {
        site.gated(name, &[], true);
        site.quick(&name.replace('1', "2"), &[name], true);
    }
    for name in ["a/2", "b/2", "c/2"] {
        site.ovl(&["build", name]).code(3);
    }
    site.wait_for_gate(3);
    let runs = site.house.names("home/.local/state/ovl/runs");
    let shown = site.ovl(&["cancel", "--json", &runs[0]]).ok().json();
    assert_eq!(shown[0]["cancelled"]["jobs"].as_array().unwrap().len(), 2);
    assert_eq!(site.jobs().len(), 4);
    let dry = site.ovl(&["cancel", "--all", "-n"]).ok();
    assert_eq!(dry.stdout.lines().count(), 4, "{dry:#?}");
    site.ovl(&["cancel", "--all"]).ok();
    site.is_clean();
    site.ovl(&["cancel", "--all"]).ok();
    for name in ["a/1", "a/2", "b/1", "b/2", "c/1", "c/2"] {
        assert_eq!(site.state(name), "cancelled", "{name}: {:#}", site.status(name));
    }
    let retry = site.house.start(&["retry", "--wait", &runs[1]]);
    site.wait_for_gate(1);
    site.open_gate();
    end(retry).ok().prints("2.sqf");
    site.is_clean();
}

#[test]
fn one_can_look_on() {
    let Some(site) = Site::shared() else { return };
    site.gated("slow/1", &[], true);
    site.quick("end/1", &["slow/1"], true);
    let id = site.ovl(&["build", "--detach", "end/1"]).code(3).stdout.trim().to_owned();
    let watch = site.house.start(&["status", "--watch", &id]);
    let logs = site.house.start(&["logs", "-f", "slow/1"]);
    site.wait_for_gate(1);
    site.until("shown as running", || site.state("slow/1") == "running");
    // The one who watches looks every two seconds.
    std::thread::sleep(std::time::Duration::from_millis(2500));
    let now = site.ovl(&["status"]).ok().prints("slow/1").prints("running").prints("end/1").prints("waiting");
    assert!(now.stdout.contains(&format!("job {}", site.job("slow/1"))), "{now:#?}");
    site.ovl(&["logs", "slow/1"]).ok().prints("at the gate");
    site.ovl(&["logs", "end/1"]).code(1).says("has no log yet").says("ovl explain end/1");
    site.open_gate();
    assert!(end(logs).ok().stdout.contains("at the gate"));
    site.ovl(&["wait", &id]).ok();
    let watched = end(watch).ok();
    assert!(watched.stdout.contains("running") && watched.stdout.contains("done"), "{watched:#?}");
    // Afterwards too.
    for _ in 0..2 {
        site.ovl(&["wait", "end/1"]).ok();
    }
    site.ovl(&["logs", "-f", "end/1"]).ok();
    site.ovl(&["logs", "--job", "end/1"]).ok();
    site.ovl(&["history"]).ok().prints(&id).prints("2 done");
    let history = site.ovl(&["history", "--json", "--name", "slow/1"]).ok().json();
    assert_eq!((&history[0]["state"], &history[0]["run"]), (&"done".into(), &id.as_str().into()));
    assert!(site.explain("end/1").contains("It was built in "), "{}", site.explain("end/1"));
    site.is_clean();
}
