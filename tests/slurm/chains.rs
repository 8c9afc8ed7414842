//! Diamonds with steps here and in the queue, failing middles, and the same command again at any time.

use super::{Site, end, rows};

/// A diamond top/1 ← left/1, right/1 ← end/1 below a prefix; bit n of `queued`: step n has directives.
fn diamond(site: &Site, prefix: &str, queued: usize) -> [String; 4] {
    let names = ["top", "left", "right", "end"].map(|part| format!("{prefix}{part}/1"));
    let [top, left, right, _] = &names;
    let deps: [&[&str]; 4] = [&[], &[top], &[top], &[left, right]];
    for (at, (name, deps)) in names.iter().zip(deps).enumerate() {
        site.quick(name, deps, queued & (1 << at) != 0);
    }
    names
}

/// What the end of a diamond holds when everything before it was there.
fn whole(names: &[String; 4]) -> String {
    let [top, left, right, end] = names;
    format!("{top}\n{left}\n{top}\n{right}\n{end}\n")
}

/// Which steps of a diamond are queued: those with directives, and those below them.
fn expected(queued: usize) -> [bool; 4] {
    let has = |at: usize| queued & (1 << at) != 0;
    let top = has(0);
    let (left, right) = (has(1) || top, has(2) || top);
    [top, left, right, has(3) || left || right]
}

#[test]
fn diamonds_of_every_mixture_come_out_whole() {
    let Some(site) = Site::shared() else { return };
    let all: Vec<[String; 4]> = (0..16).map(|queued| diamond(&site, &format!("d{queued}"), queued)).collect();
    let next = std::sync::atomic::AtomicUsize::new(0);
    std::thread::scope(|scope| {
        for _ in 0..4 {
            scope.spawn(|| {
                loop {
                    let queued = next.fetch_add(1, std::sync::atomic::Ordering::SeqCst);
                    let Some(names) = all.get(queued) else { break };
                    let end = names[3].as_str();
                    // One half is waited for at once, the other half later.
                    if queued == 0 || queued % 2 == 1 {
                        let run = site.ovl(&["build", "--wait", "--json", end]).ok();
                        let built: Vec<String> = names.iter().map(|name| format!("{name}=built")).collect();
                        assert_eq!(rows(&run), built, "mixture {queued}");
                    } else {
                        let run = site.ovl(&["build", "--json", end]).code(3);
                        let count = run.json().as_array().unwrap().iter().filter(|row| row["job"].is_string()).count();
                        assert_eq!(count, expected(queued).iter().filter(|queued| **queued).count(), "{run:#?}");
                        let run = site.ovl(&["wait", end]).ok();
                        assert_eq!(run.stdout, format!("{}\n", site.house.image(end).display()));
                    }
                    assert_eq!(site.content(end), whole(names), "mixture {queued}");
                    for (name, queued) in names.iter().zip(expected(queued)) {
                        assert_eq!(site.status(name)["job"].is_string(), queued, "{name}");
                        assert_eq!(site.builds(name), 1, "{name}");
                    }
                }
            });
        }
    });
    site.is_clean();
}

#[test]
fn job_ids_are_printed_and_the_plan_says_where_and_why() {
    let Some(site) = Site::shared() else { return };
    diamond(&site, "", 0b0010);
    let dry = site.ovl(&["build", "--dry-run", "end/1"]).ok().prints("its recipe has directives (").stdout;
    assert!(dry.contains("its dependency left/1 is queued"), "{dry}");
    assert!(site.house.names("home/.local/state/ovl/runs").is_empty(), "a dry run leaves no record");
    let run = site.ovl(&["build", "end/1"]).code(3);
    let ids: Vec<&str> = run.stdout.lines().collect();
    assert_eq!(ids, [site.job("left/1"), site.job("end/1")]);
    // What is built here is there already; the rest is waited for by the name of the run.
    assert!(site.is_built("top/1") && site.is_built("right/1"));
    let runs = site.house.names("home/.local/state/ovl/runs");
    site.ovl(&["wait", &runs[0]]).ok();
    site.ovl(&["wait"]).ok().prints("end--1.sqf");
    assert_eq!(
        site.ovl(&["build", "--wait", "end/1"]).ok().stdout,
        format!("{}\n", site.house.image("end/1").display())
    );
    site.is_clean();
}

#[test]
fn a_failing_middle_costs_its_descendants_only_and_mending_it_builds_the_rest() {
    let Some(site) = Site::shared() else { return };
    site.quick("top/1", &[], true);
    site.recipe("bad/1", &["top/1"], true, "echo the middle is broken >&2; exit 9");
    site.quick("good/1", &["top/1"], true);
    site.quick("below/1", &["bad/1"], true);
    site.quick("end/1", &["below/1", "good/1"], false);
    site.quick("other/1", &[], false);
    let run = site.ovl(&["build", "--json", "end/1", "other/1"]).code(3);
    assert!(rows(&run).contains(&"other/1=built".to_owned()), "{run:#?}");
    let run = site.ovl(&["wait", "--json"]).code(2).says("bad/1").says("the middle is broken");
    assert_eq!(
        rows(&run),
        ["top/1=built", "bad/1=failed", "below/1=skipped", "good/1=built", "end/1=skipped", "other/1=built"]
    );
    let states = ["top/1", "bad/1", "good/1", "below/1", "end/1", "other/1"].map(|name| site.state(name));
    assert_eq!(states, ["done", "failed", "done", "skipped", "skipped", "done"]);
    assert_eq!(site.status("bad/1")["class"], "build");
    assert!(site.explain("bad/1").contains("It failed"), "{}", site.explain("bad/1"));
    let why = site.explain("end/1");
    assert!(
        why.contains("It was skipped: it needs below/1, which was skipped.") || why.contains("which failed."),
        "{why}"
    );
    site.is_clean();
    // The recipe is mended: only what is missing is built.
    site.quick("bad/1", &["top/1"], true);
    let run = site.ovl(&["build", "--wait", "--json", "end/1", "other/1"]).ok();
    assert_eq!(rows(&run), ["other/1=up_to_date", "bad/1=built", "below/1=built", "end/1=built"]);
    assert_eq!(site.content("end/1"), "top/1\nbad/1\nbelow/1\ntop/1\ngood/1\nend/1\n");
    assert_eq!([site.builds("top/1"), site.builds("good/1"), site.builds("bad/1")], [1, 1, 2]);
    site.is_clean();
}

#[test]
fn a_failure_here_keeps_what_needs_it_out_of_the_queue() {
    let Some(site) = Site::shared() else { return };
    site.recipe("bad/1", &[], false, "exit 9");
    site.quick("below/1", &["bad/1"], true);
    site.quick("end/1", &["below/1"], true);
    site.quick("alone/1", &[], true);
    let run = site.ovl(&["build", "--json", "end/1", "alone/1"]).code(2);
    assert_eq!(rows(&run), ["bad/1=failed", "below/1=skipped", "end/1=skipped", "alone/1=submitted"]);
    site.ovl(&["wait"]).code(2);
    assert!(site.is_built("alone/1") && site.status("below/1")["job"].is_null());
    site.is_clean();
    // The first failure keeps anything new from starting, here and in the queue.
    site.recipe("first/1", &[], false, "exit 9");
    site.quick("here/1", &[], false);
    site.quick("next/1", &["here/1"], true);
    let run = site.ovl(&["build", "--fail-fast", "-j", "1", "--json", "first/1", "next/1"]).code(2);
    assert_eq!(rows(&run), ["first/1=failed", "here/1=stopped", "next/1=stopped"]);
    assert!(!site.is_built("here/1"));
    site.is_clean();
}

#[test]
fn the_same_command_at_any_time_converges() {
    let Some(site) = Site::shared() else { return };
    site.quick("top/1", &[], true);
    site.gated("left/1", &["top/1"], true);
    site.recipe("right/1", &["top/1"], true, "exit 9");
    site.quick("end/1", &["left/1"], true);
    let command = ["build", "--json", "end/1", "right/1"];
    site.ovl(&command).code(3);
    // Before, while and after: never a second job for what is queued or runs.
    for _ in 0..3 {
        let run = site.ovl(&command);
        assert!(rows(&run).contains(&"left/1=joined".to_owned()), "{run:#?}");
        assert!(rows(&run).contains(&"end/1=joined".to_owned()), "{run:#?}");
    }
    site.wait_for_gate(1);
    site.until("failed", || site.state("right/1") == "failed" || !site.explain("right/1").contains("wait"));
    // The failed one is mended, and only that is submitted anew.
    site.quick("right/1", &["top/1"], true);
    let again = site.ovl(&command).code(3);
    assert!(rows(&again).contains(&"left/1=joined".to_owned()), "{again:#?}");
    assert!(rows(&again).contains(&"right/1=submitted".to_owned()), "{again:#?}");
    let waiting = site.house.start(&["build", "--wait", "--json", "end/1", "right/1"]);
    site.until("built", || site.is_built("right/1"));
    site.open_gate();
    let run = end(waiting).ok();
    assert_eq!(rows(&run).len(), 3, "{run:#?}");
    assert_eq!(rows(&site.ovl(&command).ok()), ["end/1=up_to_date", "right/1=up_to_date"]);
    assert_eq!(["top/1", "left/1", "end/1"].map(|name| site.builds(name)), [1, 1, 1]);
    site.is_clean();
}
