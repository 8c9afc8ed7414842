//! A house of its own for a test: a home, layers, scratch and a cleared environment; `ovl` runs in it as an unprivileged
//! user. A test reads like a session: make recipes, run commands, look at what came out.

use std::os::unix::fs::{PermissionsExt, chown};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::OnceLock;

/// The unprivileged user that root's test runs switch to; `tests/run` makes it.
const USER: &str = "ovltest";

const PATH: &str = "/usr/local/bin:/usr/bin:/bin:/usr/sbin:/sbin";

/// A directory tree that is removed in the end.
pub struct House {
    pub dir: PathBuf,
    /// Variables that its commands get on top of the usual ones.
    vars: std::sync::Mutex<std::collections::BTreeMap<String, String>>,
}

/// What a command left behind.
#[derive(Debug)]
pub struct Run {
    pub code: i32,
    pub stdout: String,
    pub stderr: String,
}

/// (uid, gid) to run as; None: as whoever runs the tests.
fn user() -> Option<(u32, u32)> {
    if !nix::unistd::geteuid().is_root() {
        return None;
    }
    let user =
        nix::unistd::User::from_name(USER).unwrap().unwrap_or_else(|| panic!("there is no user {USER}; run tests/run"));
    Some((user.uid.as_raw(), user.gid.as_raw()))
}

/// The program where any user can execute it: the checkout may lie in a private home.
pub fn program() -> &'static Path {
    static PATH: OnceLock<PathBuf> = OnceLock::new();
    PATH.get_or_init(|| {
        let built = Path::new(env!("CARGO_BIN_EXE_ovl"));
        let stamp = built.metadata().unwrap().modified().unwrap().duration_since(std::time::UNIX_EPOCH).unwrap();
        // Under its own name: messages about processes tell it.
        let dir = std::env::temp_dir().join(format!("ovl-tests-{}/{}", nix::unistd::geteuid(), stamp.as_nanos()));
        std::fs::create_dir_all(&dir).unwrap();
        let path = dir.join("ovl");
        if !path.exists() {
            let temp = dir.join(format!("copy-{}", std::process::id()));
            std::fs::copy(built, &temp).unwrap();
            std::fs::set_permissions(&temp, std::fs::Permissions::from_mode(0o755)).unwrap();
            // Another test process may be faster: its copy is not replaced, as it may be running.
            let _ = std::fs::hard_link(&temp, &path);
            std::fs::remove_file(&temp).unwrap();
        }
        path
    })
}

impl House {
    pub fn new() -> House {
        use std::sync::atomic::{AtomicU32, Ordering};
        static COUNT: AtomicU32 = AtomicU32::new(0);
        let number = COUNT.fetch_add(1, Ordering::Relaxed);
        let dir = std::env::temp_dir().join(format!("ovl-house-{}-{number}", std::process::id()));
        let house = House { dir, vars: std::sync::Mutex::default() };
        for part in ["", "home", "scratch", "group", "site", "work"] {
            house.make(part);
        }
        house
    }

    /// A path in the house.
    pub fn path(&self, below: &str) -> PathBuf {
        self.dir.join(below)
    }

    fn own(&self, path: &Path) {
        if let Some((uid, gid)) = user() {
            chown(path, Some(uid), Some(gid)).unwrap();
        }
    }

    /// Makes a directory with its parents, the user's.
    pub fn make(&self, below: &str) -> PathBuf {
        let mut path = self.dir.clone();
        if !path.exists() {
            std::fs::create_dir(&path).unwrap();
            self.own(&path);
        }
        for part in Path::new(below) {
            path.push(part);
            if !path.exists() {
                std::fs::create_dir(&path).unwrap();
                self.own(&path);
            }
        }
        path
    }

    /// Writes a file, the user's.
    pub fn write(&self, below: &str, content: impl AsRef<[u8]>) -> PathBuf {
        let path = self.dir.join(below);
        let parent = Path::new(below).parent().unwrap_or(Path::new("")).to_string_lossy().into_owned();
        self.make(&parent);
        std::fs::write(&path, content).unwrap();
        self.own(&path);
        path
    }

    /// Where the user's layer is.
    pub fn layer(&self) -> PathBuf {
        self.path("home/.local/share/ovl")
    }

    /// Writes a recipe into the user's layer.
    pub fn recipe(&self, name: &str, text: impl AsRef<[u8]>) -> PathBuf {
        self.write(&format!("home/.local/share/ovl/build-scripts/{name}"), text)
    }

    /// The image of an overlay in the user's layer.
    pub fn image(&self, name: &str) -> PathBuf {
        self.layer().join("images").join(format!("{}.sqf", name.replace('/', "--")))
    }

    /// Makes an image with mksquashfs, as others make them: files (programs, 0755) with their content.
    pub fn foreign(&self, file: &str, files: &[(&str, &str)]) -> PathBuf {
        for (path, content) in files {
            let path = self.write(&format!("foreign/{file}.tree/{path}"), content);
            std::fs::set_permissions(path, std::fs::Permissions::from_mode(0o755)).unwrap();
        }
        let image = self.path(file);
        self.make(&Path::new(file).parent().unwrap().to_string_lossy());
        let mut command = self.command("mksquashfs");
        command.arg(self.path(&format!("foreign/{file}.tree"))).arg(&image).args([
            "-quiet",
            "-no-progress",
            "-noappend",
        ]);
        finish(command).ok();
        image
    }

    /// Runs a line of shell on a terminal of its own, fed with keys, each after a pause; what the terminal shows comes
    /// back as standard output.
    pub fn on_terminal(&self, line: &str, keys: &[&str]) -> Run {
        use std::io::Write;
        let mut command = self.command("script");
        command.args(["-qec", line, "/dev/null"]).env("TERM", "xterm").env("OVL", program());
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = command.spawn().unwrap();
        let mut stdin = child.stdin.take().unwrap();
        for key in keys {
            std::thread::sleep(std::time::Duration::from_millis(600));
            stdin.write_all(key.as_bytes()).unwrap();
        }
        let output = child.wait_with_output().unwrap();
        drop(stdin);
        Run::of(output)
    }

    /// Sets a variable for all commands of the house from now on.
    pub fn set(&self, name: &str, value: impl Into<String>) {
        self.vars.lock().unwrap().insert(name.to_owned(), value.into());
    }

    /// Puts a directory first on PATH for all commands of the house from now on.
    pub fn put_on_path(&self, dir: &Path) {
        let mut vars = self.vars.lock().unwrap();
        let path = vars.get("PATH").map_or(PATH, String::as_str);
        let path = format!("{}:{path}", dir.display());
        vars.insert("PATH".to_owned(), path);
    }

    /// A command in the house's environment, as the user.
    pub fn command(&self, program: impl AsRef<Path>) -> Command {
        let mut command = Command::new(program.as_ref());
        command.env_clear().current_dir(self.path("work")).stdin(Stdio::null());
        command.env("PATH", PATH).env("HOME", self.path("home"));
        command.env("USER", USER).env("LANG", "C.UTF-8").env("TMPDIR", self.path("scratch"));
        command.env("OVL_SYSTEM_CONFIG", self.path("etc.yaml"));
        // No test asks channels that it has not made.
        command.env("OVL_CONDA_CHANNELS", "none");
        command.envs(self.vars.lock().unwrap().iter());
        if let Some((uid, gid)) = user() {
            command.uid(uid).gid(gid);
        }
        command
    }

    /// `ovl` with arguments, not started yet.
    pub fn ovl_command(&self, args: &[&str]) -> Command {
        let mut command = self.command(program());
        command.args(args);
        command
    }

    /// Runs `ovl` to its end.
    pub fn ovl(&self, args: &[&str]) -> Run {
        finish(self.ovl_command(args))
    }

    /// Runs `ovl` with variables set.
    pub fn ovl_with(&self, vars: &[(&str, &str)], args: &[&str]) -> Run {
        let mut command = self.ovl_command(args);
        command.envs(vars.iter().copied());
        finish(command)
    }

    /// Runs `ovl` with a standard input.
    pub fn ovl_fed(&self, args: &[&str], stdin: &str) -> Run {
        use std::io::Write;
        let mut command = self.ovl_command(args);
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = command.spawn().unwrap();
        // Beside the reading: both pipes may fill up.
        let mut pipe = child.stdin.take().unwrap();
        let text = stdin.to_owned();
        let writer = std::thread::spawn(move || drop(pipe.write_all(text.as_bytes())));
        let run = Run::of(child.wait_with_output().unwrap());
        writer.join().unwrap();
        run
    }

    /// Starts `ovl` in the background.
    pub fn start(&self, args: &[&str]) -> Child {
        let mut command = self.ovl_command(args);
        command.stdout(Stdio::piped()).stderr(Stdio::piped()).process_group(0);
        command.spawn().unwrap()
    }

    /// Processes whose command line or environment names this house.
    pub fn processes(&self) -> Vec<String> {
        let needle = self.dir.to_string_lossy().into_owned();
        let mut found = Vec::new();
        for entry in std::fs::read_dir("/proc").unwrap().flatten() {
            let pid = entry.file_name().to_string_lossy().into_owned();
            if !pid.chars().all(|c| c.is_ascii_digit()) || pid == std::process::id().to_string() {
                continue;
            }
            let text = |file: &str| {
                String::from_utf8_lossy(&std::fs::read(entry.path().join(file)).unwrap_or_default()).into_owned()
            };
            if text("cmdline").contains(&needle) || text("environ").contains(&needle) {
                found.push(format!("{pid}: {}", text("cmdline").replace('\0', " ")));
            }
        }
        found
    }

    /// Waits until no process of the house is left.
    pub fn settle(&self) {
        for _ in 0..200 {
            if self.processes().is_empty() {
                return;
            }
            std::thread::sleep(std::time::Duration::from_millis(25));
        }
        panic!("processes are left behind: {:#?}", self.processes());
    }

    /// Names in a directory of the house, sorted; none when it is not there.
    pub fn names(&self, below: &str) -> Vec<String> {
        let Ok(entries) = std::fs::read_dir(self.path(below)) else { return Vec::new() };
        let mut names: Vec<String> =
            entries.map(|entry| entry.unwrap().file_name().to_string_lossy().into_owned()).collect();
        names.sort();
        names
    }
}

impl Drop for House {
    fn drop(&mut self) {
        let _ = Command::new("chmod").args(["-R", "u+rwX"]).arg(&self.dir).stderr(Stdio::null()).status();
        let _ = std::fs::remove_dir_all(&self.dir);
    }
}

/// Runs a command to its end.
pub fn finish(mut command: Command) -> Run {
    Run::of(command.output().unwrap())
}

impl Run {
    pub fn of(output: std::process::Output) -> Run {
        use std::os::unix::process::ExitStatusExt;
        Run {
            code: output.status.code().unwrap_or_else(|| 1000 + output.status.signal().unwrap_or(0)),
            stdout: String::from_utf8_lossy(&output.stdout).into_owned(),
            stderr: String::from_utf8_lossy(&output.stderr).into_owned(),
        }
    }

    /// Asserts the exit code and that nothing panicked.
    #[track_caller]
    pub fn code(self, code: i32) -> Run {
        assert!(!self.stderr.contains("panicked at"), "{self:#?}");
        assert_eq!(self.code, code, "{self:#?}");
        self
    }

    /// Asserts success.
    #[track_caller]
    pub fn ok(self) -> Run {
        self.code(0)
    }

    /// Asserts that standard error holds a text.
    #[track_caller]
    pub fn says(self, text: &str) -> Run {
        assert!(self.stderr.contains(text), "no {text:?} in {self:#?}");
        self
    }

    /// Asserts that standard error lacks a text.
    #[track_caller]
    pub fn keeps_quiet_about(self, text: &str) -> Run {
        assert!(!self.stderr.contains(text), "{text:?} in {self:#?}");
        self
    }

    /// Standard output as JSON.
    #[track_caller]
    pub fn json(&self) -> serde_json::Value {
        serde_json::from_str(&self.stdout).unwrap_or_else(|error| panic!("{error} in {self:#?}"))
    }

    /// Asserts that standard output holds a text.
    #[track_caller]
    pub fn prints(self, text: &str) -> Run {
        assert!(self.stdout.contains(text), "no {text:?} in {self:#?}");
        self
    }
}

/// A recipe whose install() is these lines.
pub fn script(headers: &str, install: &str) -> String {
    format!("#!/usr/bin/bash\n#WHATIS:made by a test\n{headers}\n\ninstall() {{\n{install}\n}}\n")
}
