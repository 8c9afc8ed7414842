//! Real registries for tests (Debian's docker-registry) on loopback, and a proxy that cuts and counts what goes through.

use std::io::{Read, Write};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

/// A user that a registry with passwords knows.
pub const USER: &str = "tester";
/// Its password.
pub const PASSWORD: &str = "s3cret-pw";
/// The same as htpasswd writes it (bcrypt).
const HASH: &str = "$2b$05$DHFC67Wu0q7Yyi47pEh3BOzgdjHak2Q8Q16FP1vl8gN9Seh4FMLs.";

/// A running registry; it ends when this is dropped.
pub struct Registry {
    child: Child,
    pub port: u16,
    pub store: PathBuf,
}

fn free_port() -> u16 {
    TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port()
}

impl Registry {
    /// Starts one that keeps its content in a directory; None, with a word why, where there is no docker-registry.
    pub fn start(dir: &Path, locked: bool) -> Option<Registry> {
        if !Path::new("/usr/bin/docker-registry").exists() {
            super::missing("there is no docker-registry; tests/run installs it");
            return None;
        }
        let (port, store) = (free_port(), dir.join("store"));
        std::fs::create_dir_all(&store).unwrap();
        let mut config = format!(
            "version: 0.1\nlog: {{level: error}}\nstorage: {{filesystem: {{rootdirectory: {}}}}}\nhttp: {{addr: \"127.0.0.1:{port}\"}}\n",
            store.display()
        );
        if locked {
            let file = dir.join("htpasswd");
            std::fs::write(&file, format!("{USER}:{HASH}\n")).unwrap();
            config += &format!("auth: {{htpasswd: {{realm: here, path: {}}}}}\n", file.display());
        }
        let file = dir.join("registry.yml");
        std::fs::write(&file, config).unwrap();
        let mut command = Command::new("docker-registry");
        command
            .arg("serve")
            .arg(&file)
            .stdout(Stdio::null())
            .stderr(std::fs::File::create(dir.join("registry.log")).unwrap());
        let registry = Registry { child: command.spawn().unwrap(), port, store };
        for _ in 0..400 {
            if TcpStream::connect(("127.0.0.1", port)).is_ok() {
                return Some(registry);
            }
            std::thread::sleep(Duration::from_millis(25));
        }
        panic!("the registry does not come up: {}", std::fs::read_to_string(dir.join("registry.log")).unwrap());
    }

    /// Its host.
    pub fn host(&self) -> String {
        format!("127.0.0.1:{}", self.port)
    }

    /// The file that holds a blob.
    pub fn blob(&self, digest: &str) -> PathBuf {
        let hex = digest.trim_start_matches("sha256:");
        self.store.join("docker/registry/v2/blobs/sha256").join(&hex[..2]).join(hex).join("data")
    }

    /// Repositories that it has.
    pub fn repositories(&self) -> Vec<String> {
        let top = self.store.join("docker/registry/v2/repositories");
        let mut found = Vec::new();
        let mut open = vec![top.clone()];
        while let Some(dir) = open.pop() {
            for entry in std::fs::read_dir(&dir).into_iter().flatten().flatten() {
                if entry.file_name() == "_manifests" {
                    found.push(dir.strip_prefix(&top).unwrap().to_string_lossy().into_owned());
                } else if !entry.file_name().to_string_lossy().starts_with('_') {
                    open.push(entry.path());
                }
            }
        }
        found.sort();
        found
    }
}

impl Drop for Registry {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// A way to a registry on which connections break.
#[derive(Clone)]
pub struct Cutter {
    pub port: u16,
    passed: Arc<AtomicU64>,
    allowed: u64,
    cuts: Arc<AtomicU64>,
    drip: Arc<AtomicU64>,
}

impl Cutter {
    /// One whose connections end after `allowed` bytes (both ways together), so many times.
    pub fn start(to: u16, allowed: u64, cuts: u64) -> Cutter {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let cutter = Cutter {
            port: listener.local_addr().unwrap().port(),
            passed: Arc::default(),
            allowed,
            cuts: Arc::new(AtomicU64::new(cuts)),
            drip: Arc::default(),
        };
        let own = cutter.clone();
        std::thread::spawn(move || {
            for client in listener.incoming().flatten() {
                let Ok(server) = TcpStream::connect(("127.0.0.1", to)) else { continue };
                let here = Arc::new(AtomicU64::new(0));
                for (from, into) in [(client.try_clone().unwrap(), server.try_clone().unwrap()), (server, client)] {
                    let (own, here) = (own.clone(), here.clone());
                    std::thread::spawn(move || own.pass(from, into, &here));
                }
            }
        });
        cutter
    }

    fn pass(&self, mut from: TcpStream, mut into: TcpStream, here: &AtomicU64) {
        let mut buffer = vec![0; 32 << 10];
        loop {
            let got = from.read(&mut buffer).unwrap_or(0);
            let before = here.fetch_add(got as u64, Ordering::SeqCst);
            let less = |cuts: u64| cuts.checked_sub(1);
            let cut = before + got as u64 > self.allowed
                && self.cuts.fetch_update(Ordering::SeqCst, Ordering::SeqCst, less).is_ok();
            let left = if cut { self.allowed.saturating_sub(before) as usize } else { got };
            self.passed.fetch_add(left as u64, Ordering::SeqCst);
            let written = into.write_all(&buffer[..left]).is_ok();
            std::thread::sleep(Duration::from_millis(self.drip.load(Ordering::SeqCst)));
            if got == 0 || cut || !written {
                let _ = from.shutdown(Shutdown::Both);
                let _ = into.shutdown(Shutdown::Both);
                return;
            }
        }
    }

    pub fn host(&self) -> String {
        format!("127.0.0.1:{}", self.port)
    }

    /// Bytes that went through, and counting anew.
    pub fn passed(&self) -> u64 {
        self.passed.swap(0, Ordering::SeqCst)
    }

    /// Cuts no more than so many connections from now on.
    pub fn cut(&self, times: u64) {
        self.cuts.store(times, Ordering::SeqCst);
    }

    /// How long each 32 KiB take from now on, in milliseconds.
    pub fn drip(&self, milliseconds: u64) {
        self.drip.store(milliseconds, Ordering::SeqCst);
    }
}
