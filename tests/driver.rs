//! The driver calls the function of its phase exactly once, whatever the recipe does itself.

use std::fs;
use std::io::Write;
use std::path::PathBuf;
use std::process::{Command, Stdio};

use ovl::recipe::{DRIVER, HELPERS};

struct Room(PathBuf);

impl Room {
    fn new(name: &str) -> Room {
        let dir = std::env::temp_dir().join(format!("ovl-driver-{name}-{}", std::process::id()));
        let _ = fs::remove_dir_all(&dir);
        fs::create_dir_all(&dir).unwrap();
        fs::write(dir.join("driver.sh"), DRIVER).unwrap();
        fs::write(dir.join("helpers.sh"), HELPERS).unwrap();
        Room(dir)
    }

    /// Output (standard output, then errors) and status of one phase.
    fn run(&self, phase: &str, recipe: &str) -> (String, i32) {
        fs::write(self.0.join("recipe"), recipe).unwrap();
        let mut child = Command::new("bash")
            .args(["driver.sh", phase, "recipe"])
            .current_dir(&self.0)
            .env("TMPDIR", &self.0)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        // A driver that refuses ends without reading.
        let _ = child.stdin.take().unwrap().write_all(b"one\ntwo\n");
        let out = child.wait_with_output().unwrap();
        let left =
            fs::read_dir(&self.0).unwrap().filter(|e| e.as_ref().unwrap().path().to_string_lossy().contains("mark"));
        assert_eq!(left.count(), 0, "a mark was left behind");
        let text = String::from_utf8_lossy(&out.stdout).into_owned() + &String::from_utf8_lossy(&out.stderr);
        (text.trim_end().replace('\n', "|"), out.status.code().unwrap())
    }
}

impl Drop for Room {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

const THREE: &str = "install() { read -r x; echo \"I:$x\"; false || true; }\n\
                     fetch() { read -r x; echo \"F:$x\"; }\ncheck() { echo C; }\n";

#[test]
fn each_phase_runs_its_function_once_however_the_recipe_ends() {
    let room = Room::new("once");
    for (tail, extra) in [
        ("", ""),
        ("install", ""),
        ("install \"$@\"\nexit 0", ""),
        ("main() { install; }\nmain || exit 1", ""),
        ("main() { install; exit 0; }\nmain", ""),
        ("install || exit 1", ""),
        ("install | cat", ""),
        ("( install )", ""),
        ("if install; then :; fi", ""),
        ("trap 'echo bye' EXIT\nX=1 install\nexit $?", "|bye"),
    ] {
        for (phase, says) in [("install", "I:one"), ("fetch", "F:one"), ("check", "C")] {
            let expected = (format!("{says}{extra}"), 0);
            assert_eq!(room.run(phase, &format!("{THREE}{tail}\n")), expected, "{phase}: {tail}");
        }
    }
}

#[test]
fn failures_keep_their_status_and_early_ends_are_named() {
    let room = Room::new("ends");
    let early = "the recipe ended with exit 0 before install was called";
    for (phase, recipe, says, status) in [
        ("install", "install() { echo a; return 3; }\ninstall\necho no", "a", 3),
        ("install", "install_app() { echo a; false; echo no; }", "a", 1),
        ("install", "install() { false | true; echo no; }", "", 1),
        ("install", "install() { :; }\nexit 0", early, 86),
        ("install", "install() { :; }\ntrap 'true' EXIT\nexit 0", early, 86),
        ("install", "install() { :; }\nexec true", early, 86),
        ("install", "install() { echo no; }\nexit 9", "", 9),
        ("fetch", "install() { :; }", "the recipe has no function fetch", 87),
        ("fetch", "fetch() { echo a; false; echo no; }\nexit 0", "a", 1),
        ("fetch", "fetch() { echo no; }\nexit 9", "", 9),
        ("check", "check() { echo c; }\n[ ! -d . ] || exit 1\n", "c", 0),
        ("check", "check() { return 4; }\ninstall() { :; }\ninstall", "", 4),
        ("install", "x=${unset?no such variable}\ninstall() { :; }", "./recipe: line 1: unset: no such variable", 1),
    ] {
        assert_eq!(room.run(phase, recipe), (says.to_owned(), status), "{phase}: {recipe}");
    }
    assert_eq!(room.run("pack", "").1, 64);
}

#[test]
fn answers_arrive_in_order_also_at_the_top_of_the_recipe() {
    let room = Room::new("answers");
    let recipe = "read -r a\ninstall() { read -r b; echo \"$a $b\"; }\ninstall\n";
    assert_eq!(room.run("install", recipe), ("one two".into(), 0));
    assert_eq!(
        room.run("install", "install() { echo $# \"$0\" | sed 's/.*driver/driver/'; }"),
        ("driver.sh".into(), 0)
    );
}

#[test]
fn helpers_unpack_with_and_without_pigz_and_yield_to_the_recipe() {
    let room = Room::new("helpers");
    let body = "install() {\n mkdir a; echo hi >a/f; tar -czf a.tgz a; rm -r a; tar_xf_pigz a.tgz -C .; cat a/f\n \
                gzip a/f; pigz_or_gunzip a/f.gz; cat a/f; gzip -c a/f >g.gz; pigz_or_gunzip_pipe g.gz\n \
                pigz_or_gunzip_pipe <g.gz; rm -r a a.tgz g.gz\n}\n";
    assert_eq!(room.run("install", body), ("hi|hi|hi|hi".into(), 0));
    // Only what is in this directory is found: no pigz.
    let bin = room.0.join("bin");
    fs::create_dir(&bin).unwrap();
    for tool in ["tar", "gzip", "mkdir", "rm", "cat", "date", "mktemp", "bash", "sh"] {
        let found = Command::new("sh").args(["-c", &format!("command -v {tool}")]).output().unwrap();
        std::os::unix::fs::symlink(String::from_utf8(found.stdout).unwrap().trim(), bin.join(tool)).unwrap();
    }
    let without = format!("PATH=$PWD/bin\ncommand -v pigz && exit 5\n{body}");
    assert_eq!(room.run("install", &without), ("hi|hi|hi|hi".into(), 0));
    let own = "tar_xf_pigz() { echo own; }\ninstall() { tar_xf_pigz x; }\n";
    assert_eq!(room.run("install", own), ("own".into(), 0));
    let (line, status) = room.run("install", "install() { print_stderr 'a\\nb' c; }");
    assert!(line.starts_with('[') && line.ends_with("] a|b c") && status == 0, "{line}");
}
