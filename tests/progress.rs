//! Several builds at once, as they are shown on a terminal, in a log and as JSON.

use crate::support::house::House;

const GOOD: &str =
    "install() {\n  echo working\n  sleep 0.5\n  mkdir -p \"$target_dir/bin\"\n  echo x > \"$target_dir/bin/x\"\n}\n";

fn house() -> House {
    let house = House::new();
    house.recipe("a/1", GOOD);
    house.recipe("b/1", "install() {\n  exit 3\n}\n");
    house.recipe("c/1", format!("#DEP:b/1\n{GOOD}"));
    house
}

#[test]
fn a_terminal_shows_one_line_for_all() {
    let house = house();
    let run = house.on_terminal("$OVL build a/1 c/1", &[]);
    assert_ne!(run.code, 0);
    run.prints("a/1: built").prints("1 failed").prints("c/1: ").prints("skipped");
}

#[test]
fn json_tells_what_is_to_come_and_how_each_ended() {
    let house = house();
    let run = house.ovl(&["build", "--progress", "json", "a/1", "c/1"]);
    let events: Vec<serde_json::Value> =
        run.stderr.lines().filter_map(|line| serde_json::from_str(line).ok()).collect();
    let about =
        |event: &str, name: &str| events.iter().filter(|told| told["event"] == event && told["name"] == name).count();
    assert!(events.iter().any(|told| told["event"] == "plan" && told["total"] == 3), "{}", run.stderr);
    let ended = (about("finished", "a/1"), about("failed", "b/1"), about("skipped", "c/1"));
    assert_eq!(ended, (1, 1, 1), "{}", run.stderr);
}
