//! A conda channel made by a test: packages described in a chain, written as real archives with their metadata and the
//! `repodata.json` of `linux-64` and `noarch`. Calls after `package` are about that package.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::{Path, PathBuf};

use rattler_conda_types::compression_level::CompressionLevel;
use rattler_package_streaming::write::{write_conda_package, write_tar_bz2_package};
use serde_json::{Value, json};
use sha2::{Digest, Sha256};

/// What stands for the prefix in files: as long as conda-build makes it, so that any prefix fits.
pub fn placeholder() -> String {
    let mut text = String::from("/home/builder/conda-bld/package_1700000000000/_h_env");
    while text.len() < 255 {
        text.push_str("_placehold");
    }
    text.truncate(255);
    text
}

/// A channel being described.
pub struct Channel {
    dir: PathBuf,
    packages: Vec<Package>,
}

#[derive(Clone)]
struct Package {
    name: String,
    version: String,
    build: String,
    subdir: &'static str,
    noarch: Option<&'static str>,
    tar_bz2: bool,
    depends: Vec<String>,
    constrains: Vec<String>,
    timestamp: Option<i64>,
    size: Option<u64>,
    entry_points: Vec<String>,
    entries: BTreeMap<String, Entry>,
}

#[derive(Clone)]
enum Entry {
    File { bytes: Vec<u8>, mode: u32, prefix: Option<&'static str>, no_link: bool },
    Link(String),
    Dir,
}

impl Channel {
    /// An empty channel, to be written to a directory.
    pub fn new(dir: impl Into<PathBuf>) -> Channel {
        Channel { dir: dir.into(), packages: Vec::new() }
    }

    /// Another package for linux-64, as a `.conda` archive. A number at the build's end (`h1_2`) is its build number.
    pub fn package(mut self, name: &str, version: &str, build: &str) -> Channel {
        self.packages.push(Package {
            name: name.into(),
            version: version.into(),
            build: build.into(),
            subdir: "linux-64",
            noarch: None,
            tar_bz2: false,
            depends: Vec::new(),
            constrains: Vec::new(),
            timestamp: None,
            size: None,
            entry_points: Vec::new(),
            entries: BTreeMap::new(),
        });
        self
    }

    fn with(mut self, change: impl FnOnce(&mut Package)) -> Channel {
        change(self.packages.last_mut().expect("package() comes first"));
        self
    }

    fn entry(self, path: &str, entry: Entry) -> Channel {
        self.with(|package| drop(package.entries.insert(path.into(), entry)))
    }

    /// A dependency, as in `zlib >=1.2`.
    pub fn depends(self, spec: &str) -> Channel {
        self.with(|package| package.depends.push(spec.into()))
    }

    /// What other packages must be if they are there.
    pub fn constrains(self, spec: &str) -> Channel {
        self.with(|package| package.constrains.push(spec.into()))
    }

    /// A file that anybody can read.
    pub fn file(self, path: &str, bytes: impl AsRef<[u8]>) -> Channel {
        let bytes = bytes.as_ref().to_vec();
        self.entry(path, Entry::File { bytes, mode: 0o644, prefix: None, no_link: false })
    }

    /// A file that can be run.
    pub fn program(self, path: &str, bytes: impl AsRef<[u8]>) -> Channel {
        let bytes = bytes.as_ref().to_vec();
        self.entry(path, Entry::File { bytes, mode: 0o755, prefix: None, no_link: false })
    }

    /// A program with the prefix in its text: `{prefix}` stands for it.
    pub fn prefix_text(self, path: &str, text: &str) -> Channel {
        let bytes = text.replace("{prefix}", &placeholder()).into_bytes();
        self.entry(path, Entry::File { bytes, mode: 0o755, prefix: Some("text"), no_link: false })
    }

    /// A binary with the prefix in it, each time up to a NUL: `{prefix}` stands for it.
    pub fn prefix_binary(self, path: &str, bytes: &[u8]) -> Channel {
        let (mut out, mut rest) = (Vec::new(), bytes);
        while let Some(at) = rest.windows(8).position(|window| window == b"{prefix}") {
            out.extend_from_slice(&rest[..at]);
            out.extend_from_slice(placeholder().as_bytes());
            rest = &rest[at + 8..];
        }
        out.extend_from_slice(rest);
        self.entry(path, Entry::File { bytes: out, mode: 0o755, prefix: Some("binary"), no_link: false })
    }

    /// A file that is to be copied, not linked.
    pub fn no_link(self, path: &str, bytes: impl AsRef<[u8]>) -> Channel {
        let bytes = bytes.as_ref().to_vec();
        self.entry(path, Entry::File { bytes, mode: 0o644, prefix: None, no_link: true })
    }

    /// A symbolic link.
    pub fn link(self, path: &str, target: &str) -> Channel {
        self.entry(path, Entry::Link(target.into()))
    }

    /// An empty directory.
    pub fn directory(self, path: &str) -> Channel {
        self.entry(path, Entry::Dir)
    }

    /// A script of the package: `post-link`, `pre-unlink`, `pre-link`.
    pub fn script(self, when: &str, text: &str) -> Channel {
        let name = self.packages.last().expect("package() comes first").name.clone();
        self.program(&format!("bin/.{name}-{when}.sh"), text)
    }

    /// Python for any machine: files belong below `site-packages/` or `python-scripts/`.
    pub fn noarch_python(self) -> Channel {
        self.with(|package| (package.subdir, package.noarch) = ("noarch", Some("python")))
    }

    /// Files for any machine.
    pub fn noarch_generic(self) -> Channel {
        self.with(|package| (package.subdir, package.noarch) = ("noarch", Some("generic")))
    }

    /// A command of a package for Python: `tool = module:function`.
    pub fn entry_point(self, text: &str) -> Channel {
        self.with(|package| package.entry_points.push(text.into()))
    }

    /// As an archive of the old kind.
    pub fn tar_bz2(self) -> Channel {
        self.with(|package| package.tar_bz2 = true)
    }

    /// For another platform.
    pub fn subdir(self, subdir: &'static str) -> Channel {
        self.with(|package| package.subdir = subdir)
    }

    /// When it was made, in milliseconds since 1970.
    pub fn timestamp(self, milliseconds: i64) -> Channel {
        self.with(|package| package.timestamp = Some(milliseconds))
    }

    /// The size that the list of packages claims, instead of the true one.
    pub fn claimed_size(self, bytes: u64) -> Channel {
        self.with(|package| package.size = Some(bytes))
    }

    /// Writes everything; gives the channel's `file:` address.
    pub fn write(self) -> String {
        /// Packages by the name of their archive.
        type Listed = BTreeMap<String, Value>;
        let mut subdirs: BTreeMap<&str, (Listed, Listed)> = BTreeMap::new();
        let own = ["linux-64", "noarch"].into_iter().chain(self.packages.iter().map(|package| package.subdir));
        for subdir in own {
            fs::create_dir_all(self.dir.join(subdir)).unwrap();
            subdirs.entry(subdir).or_default();
        }
        for package in &self.packages {
            let (file, record) = package.write(&self.dir);
            let (old, new) = subdirs.get_mut(package.subdir).unwrap();
            if package.tar_bz2 { old } else { new }.insert(file, record);
        }
        for (subdir, (old, new)) in subdirs {
            let text = json!({
                "info": { "subdir": subdir },
                "packages": old,
                "packages.conda": new,
                "removed": [],
                "repodata_version": 1,
            });
            fs::write(self.dir.join(subdir).join("repodata.json"), serde_json::to_vec(&text).unwrap()).unwrap();
        }
        let dir = fs::canonicalize(&self.dir).unwrap();
        readable(&dir);
        format!("file://{}", dir.display())
    }
}

/// The user that tests run as is another one than the one who writes.
fn readable(dir: &Path) {
    fs::set_permissions(dir, fs::Permissions::from_mode(0o755)).unwrap();
    for entry in fs::read_dir(dir).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            readable(&path);
        } else {
            fs::set_permissions(&path, fs::Permissions::from_mode(0o644)).unwrap();
        }
    }
}

impl Package {
    fn index(&self) -> Value {
        let digits = self.build.len() - self.build.trim_end_matches(|c: char| c.is_ascii_digit()).len();
        let number: u64 = self.build[self.build.len() - digits..].parse().unwrap_or(0);
        let mut index = json!({
            "name": self.name,
            "version": self.version,
            "build": self.build,
            "build_number": number,
            "depends": self.depends,
            "constrains": self.constrains,
            "subdir": self.subdir,
            "license": "MIT",
        });
        let (platform, arch) = if self.subdir == "noarch" { (None, None) } else { (Some("linux"), Some("x86_64")) };
        index["platform"] = json!(platform);
        index["arch"] = json!(arch);
        if let Some(noarch) = self.noarch {
            index["noarch"] = json!(noarch);
        }
        if let Some(timestamp) = self.timestamp {
            index["timestamp"] = json!(timestamp);
        }
        index
    }

    /// Writes the archive; gives its name and its record.
    fn write(&self, channel: &Path) -> (String, Value) {
        let stem = format!("{}-{}-{}", self.name, self.version, self.build);
        let stage = channel.join(format!(".stage-{stem}"));
        let mut paths = Vec::new();
        let mut listed = Vec::new();
        for (path, entry) in &self.entries {
            let full = stage.join(path);
            fs::create_dir_all(full.parent().unwrap()).unwrap();
            let listing = match entry {
                Entry::File { bytes, mode, prefix, no_link } => {
                    fs::write(&full, bytes).unwrap();
                    fs::set_permissions(&full, fs::Permissions::from_mode(*mode)).unwrap();
                    let mut listing = json!({
                        "_path": path, "path_type": "hardlink", "sha256": sha256(bytes), "size_in_bytes": bytes.len(),
                    });
                    if let Some(mode) = prefix {
                        listing["file_mode"] = json!(mode);
                        listing["prefix_placeholder"] = json!(placeholder());
                    }
                    if *no_link {
                        listing["no_link"] = json!(true);
                    }
                    listing
                }
                Entry::Link(target) => {
                    symlink(target, &full).unwrap();
                    json!({ "_path": path, "path_type": "softlink", "sha256": sha256(b""), "size_in_bytes": 0 })
                }
                Entry::Dir => {
                    fs::create_dir_all(&full).unwrap();
                    json!({ "_path": path, "path_type": "directory" })
                }
            };
            listed.push(listing);
            paths.push(full);
        }
        let index = self.index();
        let files: String = self.entries.keys().map(|path| format!("{path}\n")).collect();
        let mut info = vec![
            ("index.json", serde_json::to_string_pretty(&index).unwrap()),
            ("paths.json", json!({ "paths": listed, "paths_version": 1 }).to_string()),
            ("files", files),
            ("about.json", json!({ "summary": format!("{} of a test", self.name) }).to_string()),
        ];
        if self.noarch == Some("python") {
            let link = json!({ "noarch": { "type": "python", "entry_points": self.entry_points },
                "package_metadata_version": 1 });
            info.push(("link.json", link.to_string()));
        }
        let prefixed = |entry: &Entry| match entry {
            Entry::File { prefix: Some(mode), .. } => Some(*mode),
            _ => None,
        };
        let has_prefix: String = self
            .entries
            .iter()
            .filter_map(|(path, entry)| Some(format!("{} {} {path}\n", placeholder(), prefixed(entry)?)))
            .collect();
        if !has_prefix.is_empty() {
            info.push(("has_prefix", has_prefix));
        }
        fs::create_dir_all(stage.join("info")).unwrap();
        for (name, text) in info {
            let path = stage.join("info").join(name);
            fs::write(&path, text).unwrap();
            paths.push(path);
        }
        let file = format!("{stem}{}", if self.tar_bz2 { ".tar.bz2" } else { ".conda" });
        let archive = channel.join(self.subdir).join(&file);
        let mut writer = fs::File::create(&archive).unwrap();
        let level = CompressionLevel::Numeric(1);
        let time: jiff::Timestamp = "2024-01-02T03:04:06Z".parse().unwrap();
        if self.tar_bz2 {
            write_tar_bz2_package(&mut writer, &stage, &paths, level, Some(&time), None).unwrap();
        } else {
            write_conda_package(&mut writer, &stage, &paths, level, Some(1), &stem, Some(&time), None).unwrap();
        }
        fs::remove_dir_all(&stage).unwrap();
        let bytes = fs::read(&archive).unwrap();
        let mut record = index;
        record["sha256"] = json!(sha256(&bytes));
        record["size"] = json!(self.size.unwrap_or(bytes.len() as u64));
        (file, record)
    }
}

fn sha256(bytes: &[u8]) -> String {
    Sha256::digest(bytes).iter().map(|byte| format!("{byte:02x}")).collect()
}

/// The members of an archive, for looking at what was written: every path in it, `info/` included.
pub fn members(archive: &Path) -> BTreeSet<String> {
    let out = archive.with_extension("unpacked");
    let file = fs::File::open(archive).unwrap();
    if archive.extension().is_some_and(|ending| ending == "conda") {
        rattler_package_streaming::read::extract_conda_via_streaming(file, &out).unwrap();
    } else {
        rattler_package_streaming::read::extract_tar_bz2(file, &out).unwrap();
    }
    let mut found = BTreeSet::new();
    let mut open = vec![out.clone()];
    while let Some(dir) = open.pop() {
        for entry in fs::read_dir(&dir).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() && !path.is_symlink() {
                open.push(path);
            } else {
                found.insert(path.strip_prefix(&out).unwrap().to_string_lossy().into_owned());
            }
        }
    }
    fs::remove_dir_all(&out).unwrap();
    found
}
