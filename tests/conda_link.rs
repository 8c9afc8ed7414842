//! Conda, the doing half: archives put together without being unpacked must come out as a reference client installs them.

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::process::Command;

use ovl::conda::link::{self, Environment, Wanted};
use ovl::image::source::extract::{Options, extract};
use rattler_conda_types::{RepoData, RepoDataRecord, Subdir};
use serde_json::{Value, json};

use crate::support::channel::{Channel, placeholder};
use crate::support::house::House;
use crate::support::missing;

const PREFIX: &str = "/cnt/env/1";

/// All packages of a channel.
fn records(channel: &Path) -> Vec<RepoDataRecord> {
    let mut all = Vec::new();
    for subdir in ["linux-64", "noarch"] {
        let Ok(text) = fs::read_to_string(channel.join(subdir).join("repodata.json")) else { continue };
        let data: RepoData = serde_json::from_str(&text).unwrap();
        for (identifier, record) in data.packages.into_iter().chain(data.conda_packages) {
            let path = channel.join(subdir).join(identifier.to_file_name());
            all.push(RepoDataRecord {
                package_record: record,
                url: url::Url::from_file_path(fs::canonicalize(path).unwrap()).unwrap(),
                identifier,
                channel: Some(format!("file://{}", channel.display())),
            });
        }
    }
    all
}

fn compose(records: &[RepoDataRecord], scratch: &Path) -> Environment {
    composed(records, scratch, PREFIX).unwrap()
}

fn composed(records: &[RepoDataRecord], scratch: &Path, prefix: &str) -> Result<Environment, link::LinkError> {
    let packages = records.iter().map(|record| (record.clone(), record.url.to_file_path().unwrap())).collect();
    let wanted = Wanted {
        packages,
        platform: Subdir::Linux64,
        prefix,
        scratch,
        threads: 3,
        time: 1_700_000_000,
        requested: vec!["tool".into()],
        python: None,
    };
    link::compose(wanted, &())
}

/// Puts packages together and writes the tree out.
fn ours(records: &[RepoDataRecord], dir: &Path) -> PathBuf {
    ours_for(records, dir, PREFIX)
}

fn ours_for(records: &[RepoDataRecord], dir: &Path, prefix: &str) -> PathBuf {
    let source = composed(records, dir, prefix).unwrap().finish().unwrap();
    let top = dir.join("ours");
    fs::create_dir(&top).unwrap();
    let options = Options { keep_owner: false, replace: false, threads: 2 };
    extract(&source, &top, options, &()).unwrap();
    top
}

/// Has rattler's own installer install them.
fn theirs(records: &[RepoDataRecord], dir: &Path) -> PathBuf {
    let top = dir.join("theirs");
    let cache = rattler::package_cache::PackageCache::new(dir.join("cache"));
    let installer = rattler::install::Installer::new()
        .with_package_cache(cache)
        .with_download_client(ovl::conda::client().unwrap())
        .with_target_platform(Subdir::Linux64)
        .with_alternative_target_prefix(PREFIX);
    ovl::net::block_on(installer.install(&top, records.to_vec())).unwrap().unwrap();
    top
}

/// Everything below a directory but what installers write down for themselves: kind, mode and content by path.
fn tree(top: &Path) -> BTreeMap<String, String> {
    let mut found = BTreeMap::new();
    let mut open = vec![top.to_owned()];
    while let Some(dir) = open.pop() {
        for entry in fs::read_dir(&dir).unwrap() {
            let path = entry.unwrap().path();
            let name = path.strip_prefix(top).unwrap().to_string_lossy().into_owned();
            if name == "CACHEDIR.TAG" || name == "conda-meta" || name == ".trash" {
                continue;
            }
            let meta = fs::symlink_metadata(&path).unwrap();
            let what = if meta.is_dir() {
                open.push(path);
                "dir".into()
            } else if meta.is_symlink() {
                format!("-> {}", fs::read_link(&path).unwrap().as_os_str().as_bytes().escape_ascii())
            } else {
                format!("{:o} {}", meta.permissions().mode() & 0o7777, fs::read(&path).unwrap().escape_ascii())
            };
            found.insert(name, what);
        }
    }
    found
}

/// The records of what is installed, without where it came from on this machine.
fn meta(top: &Path) -> BTreeMap<String, Value> {
    let mut found = BTreeMap::new();
    for entry in fs::read_dir(top.join("conda-meta")).unwrap() {
        let path = entry.unwrap().path();
        if path.extension().is_none_or(|ending| ending != "json") {
            continue;
        }
        let mut value: Value = serde_json::from_str(&fs::read_to_string(&path).unwrap()).unwrap();
        for key in ["extracted_package_dir", "package_tarball_full_path", "link", "requested_specs"] {
            value.as_object_mut().unwrap().remove(key);
        }
        // Rattler's order of files that others have won over depends on which package was linked first.
        let path_of = |path: &Value| path.get("original_path").unwrap_or(&path["_path"]).to_string();
        value["paths_data"]["paths"].as_array_mut().unwrap().sort_by_key(path_of);
        value["files"].as_array_mut().unwrap().sort_by_key(Value::to_string);
        found.insert(path.file_name().unwrap().to_string_lossy().into_owned(), value);
    }
    found
}

fn both(records: &[RepoDataRecord], dir: &Path) -> (PathBuf, PathBuf) {
    (ours(records, dir), theirs(records, dir))
}

fn same(records: &[RepoDataRecord], dir: &Path) {
    let (ours, theirs) = both(records, dir);
    let (one, mut other) = (tree(&ours), tree(&theirs));
    // Directories from which rattler has moved everything out again.
    other.retain(|path, what| what != "dir" || one.contains_key(path) || !path.starts_with("__clobbers__/"));
    for path in one.keys().chain(other.keys()) {
        assert_eq!(one.get(path), other.get(path), "{path}: ours, then theirs");
    }
    let (one, other) = (meta(&ours), meta(&theirs));
    assert_eq!(one.keys().collect::<Vec<_>>(), other.keys().collect::<Vec<_>>());
    for (name, record) in &one {
        assert_eq!(record, &other[name], "{name}: ours, then theirs");
    }
}

/// The channel that shows everything.
fn everything(dir: PathBuf) -> Channel {
    let long = "x".repeat(90);
    let binary = b"\x7fELF\0\0{prefix}/lib:{prefix}/lib64\0other\0{prefix}\0\xff\0tail {prefix}/share";
    Channel::new(dir)
        .package("base", "1.0", "h0_0")
        .file("lib/libbase.so.1", [0, 1, 2, 255])
        .link("lib/libbase.so", "libbase.so.1")
        .link("share/there", "nowhere/at-all")
        .no_link("etc/base.conf", "copy = me\n")
        .file("share/empty", "")
        .package("tool", "2.1", "h1_3")
        .depends("base >=1")
        .prefix_text("bin/tool", "#!{prefix}/bin/sh -e\necho {prefix}/lib {prefix}{prefix}\n")
        .prefix_text("bin/long", &format!("#!{{prefix}}/{long}/bin/interpreter -x\nbody {{prefix}}\n"))
        .prefix_text("bin/env", "#!/usr/bin/env bash\nP={prefix}")
        .prefix_binary("lib/libtool.so", binary)
        .program("bin/plain", "#!/bin/sh\n")
        .package("old", "0.9", "0")
        .tar_bz2()
        .prefix_text("bin/old", "#!{prefix}/bin/python\n")
        .file("share/doc/old.txt", "old\n")
        .package("python", "3.11.4", "h0_0_cpython")
        .program("bin/python3.11", "not really\n")
        .link("bin/python", "python3.11")
        .file("lib/python3.11/os.py", "pass\n")
        .package("nap", "1.5", "pyh0_0")
        .noarch_python()
        .depends("python >=3.8")
        .entry_point("nap = nap.cli:main")
        .entry_point("nap-more = nap.cli:Class.method")
        .file("site-packages/nap/__init__.py", "")
        .file("site-packages/nap/cli.py", "def main(): pass\n")
        .file("site-packages/nap-1.5.dist-info/METADATA", "Name: nap\n")
        .prefix_text("python-scripts/nap-script", "#!{prefix}/bin/python\nprint(1)\n")
        .package("gen", "1", "0")
        .noarch_generic()
        .file("share/gen/data", "data\n")
}

#[test]
fn what_is_put_together_is_what_rattler_installs() {
    let house = House::new();
    everything(house.path("channel")).write();
    same(&records(&house.path("channel")), &house.make("work"));
}

/// `OVL_TEST_CONDA=PROGRAM`: the same with a real conda, which nothing here can install.
#[test]
fn what_is_put_together_is_what_conda_installs() {
    let Some(conda) = std::env::var_os("OVL_TEST_CONDA") else {
        return println!("skipped: OVL_TEST_CONDA does not name a conda");
    };
    let house = House::new();
    everything(house.path("channel")).write();
    let records = records(&house.path("channel"));
    let prefix = house.path("conda-env");
    let mut list = String::from("@EXPLICIT\n");
    for record in &records {
        list.push_str(&format!("{}\n", record.url));
    }
    let list = house.write("work/explicit.txt", list);
    let mut command = Command::new(conda);
    command.args(["create", "-y", "-q", "--offline", "--prefix"]).arg(&prefix).arg("--file").arg(list);
    command.env("CONDA_PKGS_DIRS", house.path("pkgs")).env("HOME", house.path("home"));
    let output = command.output().unwrap();
    println!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    assert!(output.status.success());
    let ours = ours_for(&records, &house.path("work"), prefix.to_str().unwrap());
    let (one, mut other) = (tree(&ours), tree(&prefix));
    // The python of the channel is none, so that conda compiles nothing either; it leaves directories for it. Commands
    // of entry points differ in blanks and in the group's permissions, and strings that end with the file conda leaves.
    let known = |path: &String| path.contains("__pycache__") || path.starts_with("bin/nap") || path == "lib/libtool.so";
    other.retain(|path, _| !known(path));
    let one: BTreeMap<_, _> = one.into_iter().filter(|(path, _)| !known(path)).collect();
    let mut differing = Vec::new();
    for path in one.keys().chain(other.keys()).collect::<std::collections::BTreeSet<_>>() {
        if one.get(path) != other.get(path) {
            differing.push(format!("{path}\n  ours  {:?}\n  conda {:?}", one.get(path), other.get(path)));
        }
    }
    assert!(differing.is_empty(), "{}", differing.join("\n"));
}

#[test]
fn of_packages_with_the_same_files_the_same_one_wins() {
    let house = House::new();
    // Several orders of dependence between three packages with the same file, and who is last in each.
    let cases: [(&[(&str, &str)], &str); 5] = [
        (&[], "a"),
        (&[("a", "b")], "a"),
        (&[("b", "a")], "b"),
        (&[("c", "a"), ("a", "b")], "c"),
        (&[("a", "c"), ("b", "c")], "a"),
    ];
    for (number, (depends, winner)) in cases.into_iter().enumerate() {
        let mut channel = Channel::new(house.path(&format!("channel{number}")));
        for name in ["a", "b", "c"] {
            channel = channel
                .package(name, "1.0", "0")
                .file("share/same.txt", format!("of {name}"))
                .file(&format!("share/{name}.txt"), name);
            for (_, needs) in depends.iter().filter(|(who, _)| *who == name) {
                channel = channel.depends(needs);
            }
        }
        channel.write();
        let work = house.make(&format!("work{number}"));
        let (ours, theirs) = both(&records(&house.path(&format!("channel{number}"))), &work);
        for top in [&ours, &theirs] {
            let tree = tree(top);
            assert_eq!(tree["share/same.txt"], format!("644 of {winner}"), "{number}: {}", top.display());
            for name in ["a", "b", "c"] {
                let aside = tree.get(&format!("__clobbers__/{name}/share/same.txt")).cloned();
                let wanted = (name != winner).then(|| format!("644 of {name}"));
                assert_eq!(aside, wanted, "{number}: {}", top.display());
                assert_eq!(tree[&format!("share/{name}.txt")], format!("644 {name}"));
            }
        }
    }
}

/// Rattler leaves the empty directory in place of the file here.
#[test]
fn of_a_file_and_a_directory_of_one_name_the_later_wins() {
    let house = House::new();
    Channel::new(house.path("channel"))
        .package("d", "1.0", "0")
        .file("share/x", "a file")
        .package("e", "1.0", "0")
        .file("share/x/y", "in a directory")
        .file("share/x/z/deep", "in a directory")
        .package("f", "1.0", "0")
        .depends("e")
        .file("share/y", "a file")
        .package("g", "1.0", "0")
        .depends("f")
        .file("share/y/in", "in a directory")
        .write();
    let tree = tree(&ours(&records(&house.path("channel")), &house.path("work")));
    let of = |path: &str| tree.get(path).map(String::as_str);
    // d depends on nothing, and comes after those that others depend on.
    assert_eq!(of("share/x"), Some("644 a file"));
    assert_eq!(of("__clobbers__/e/share/x/y"), Some("644 in a directory"));
    assert_eq!(of("__clobbers__/e/share/x/z/deep"), Some("644 in a directory"));
    assert_eq!(of("share/y/in"), Some("644 in a directory"));
    assert_eq!(of("__clobbers__/f/share/y"), Some("644 a file"));
}

/// A package with hard links, as conda-build makes none and some others do.
fn linked(channel: &Path) -> RepoDataRecord {
    let stage = channel.join("stage");
    fs::create_dir_all(stage.join("bin")).unwrap();
    fs::create_dir_all(stage.join("info")).unwrap();
    fs::write(stage.join("bin/one"), "many names").unwrap();
    fs::set_permissions(stage.join("bin/one"), fs::Permissions::from_mode(0o755)).unwrap();
    fs::hard_link(stage.join("bin/one"), stage.join("bin/two")).unwrap();
    fs::write(stage.join("bin/patched"), format!("#!{}/bin/sh\n", placeholder())).unwrap();
    fs::hard_link(stage.join("bin/patched"), stage.join("bin/patched2")).unwrap();
    let paths: Vec<Value> = ["bin/one", "bin/two", "bin/patched", "bin/patched2"]
        .iter()
        .map(|path| {
            let mut entry = json!({ "_path": path, "path_type": "hardlink" });
            if path.contains("patched") {
                entry["file_mode"] = json!("text");
                entry["prefix_placeholder"] = json!(placeholder());
            }
            entry
        })
        .collect();
    fs::write(stage.join("info/paths.json"), json!({ "paths": paths, "paths_version": 1 }).to_string()).unwrap();
    let index = json!({ "name": "linked", "version": "1", "build": "0", "build_number": 0, "subdir": "linux-64" });
    fs::write(stage.join("info/index.json"), index.to_string()).unwrap();
    let archive = channel.join("linked-1-0.tar.bz2");
    let made = Command::new("tar").arg("-cjf").arg(&archive).arg("-C").arg(&stage).args(["bin", "info"]).status();
    assert!(made.unwrap().success());
    let text = json!({
        "name": "linked", "version": "1", "build": "0", "build_number": 0, "subdir": "linux-64", "depends": [],
        "fn": "linked-1-0.tar.bz2", "url": url::Url::from_file_path(&archive).unwrap(),
    });
    serde_json::from_value(text).unwrap()
}

#[test]
fn hard_links_stay_hard_links_unless_their_content_changes() {
    let house = House::new();
    let record = linked(&house.make("channel"));
    let work = house.make("work");
    same(std::slice::from_ref(&record), &work);
    let inode = |path: &str| fs::metadata(work.join("ours").join(path)).unwrap().ino();
    assert_eq!(inode("bin/one"), inode("bin/two"));
    assert_eq!(fs::metadata(work.join("ours/bin/one")).unwrap().nlink(), 2);
    assert_eq!(fs::metadata(work.join("ours/bin/patched")).unwrap().nlink(), 1);
}

#[test]
fn an_empty_directory_is_there() {
    let house = House::new();
    Channel::new(house.path("channel")).package("a", "1", "0").directory("var/empty").file("share/a", "").write();
    let top = ours(&records(&house.path("channel")), &house.make("work"));
    assert!(top.join("var/empty").is_dir());
}

#[test]
fn what_the_environment_wants_set_is_found() {
    let house = House::new();
    Channel::new(house.path("channel"))
        .package("a", "1", "0")
        .file("etc/conda/env_vars.d/a.json", r#"{"GDAL_DATA": "/x/$HOME", "1BAD": "no", "N": 7}"#)
        .file("etc/conda/activate.d/a.sh", "export X=1\n")
        .package("b", "1", "0")
        .file("etc/conda/env_vars.d/b.json", r#"{"N": "later"}"#)
        .script("post-link", "#!/bin/sh\n")
        .write();
    let environment = compose(&records(&house.path("channel")), &house.make("work"));
    let active = environment.active();
    let wanted =
        BTreeMap::from([("GDAL_DATA".to_owned(), "/x/$HOME".to_owned()), ("N".to_owned(), "later".to_owned())]);
    assert_eq!(active.variables, wanted);
    assert_eq!(active.scripts, ["etc/conda/activate.d/a.sh"]);
    let scripts = environment.scripts();
    assert_eq!(scripts.iter().map(|script| script.path.as_str()).collect::<Vec<_>>(), ["bin/.b-post-link.sh"]);
}

#[test]
fn bad_packages_are_named() {
    let house = House::new();
    Channel::new(house.path("channel"))
        .package("nap", "1", "pyh_0")
        .noarch_python()
        .file("site-packages/nap.py", "")
        .package("tight", "1", "0")
        .prefix_binary("lib/x", b"{prefix}\0")
        .write();
    let all = records(&house.path("channel"));
    let work = house.make("work");
    let one = |name: &str| all.iter().find(|one| one.package_record.name.as_normalized() == name).unwrap().clone();
    let error = |records: &[RepoDataRecord]| composed(records, &work, PREFIX).err().unwrap().to_string();
    let lonely = error(&[one("nap")]);
    assert!(lonely.contains("nap-1-pyh_0.conda") && lonely.contains("no python"), "{lonely}");
    let twice = error(&[one("tight"), one("tight")]);
    assert!(twice.contains("tight twice"), "{twice}");
    let archive = one("tight").url.to_file_path().unwrap();
    let bytes = fs::read(&archive).unwrap();
    for cut in [0, 10, bytes.len() / 2, bytes.len() - 30] {
        fs::write(&archive, &bytes[..cut]).unwrap();
        let error = error(&[one("tight")]);
        assert!(error.contains("tight-1-0.conda"), "{error}");
    }
}

/// A channel whose python is the system's: bin/python3.X of the environment runs it.
fn with_python(dir: PathBuf, version: &str) -> Channel {
    let short = version.rsplit_once('.').unwrap().0;
    Channel::new(dir)
        .package("python", version, "h0_0")
        .link(&format!("bin/python{short}"), &format!("/usr/bin/python{short}"))
        .file("pyvenv.cfg", "home = /usr/bin\ninclude-system-site-packages = true\n")
        .link("bin/python", &format!("python{short}"))
        .package("pip", "1", "0")
        .package("nap", "1.5", "pyh0_0")
        .noarch_python()
        .depends("python >=3")
        .entry_point("nap = nap:main")
        .file("site-packages/nap.py", "def main():\n    print('napping')\n")
        .file("site-packages/broken.py", "def (:\n")
        .package("tool", "2.1", "h1_3")
        .depends("nap")
        .prefix_text("bin/tool", "#!/bin/sh\necho tool in {prefix} $CONDA_PREFIX \"$GDAL\"\n")
        .file("etc/conda/env_vars.d/tool.json", r#"{"GDAL": "$HOME is not expanded"}"#)
        .file("etc/conda/activate.d/tool.sh", "export NEVER=1\n")
}

/// The version of the system's python; None where there is none.
fn python() -> Option<String> {
    let output = Command::new("/usr/bin/python3").arg("--version").output().ok()?;
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    text.strip_prefix("Python ").map(|version| version.trim().to_owned())
}

fn environment(house: &House, channel: &str, rest: &str) {
    house.write("work/environment.yml", format!("channels: [{channel}]\ndependencies:\n{rest}"));
}

#[test]
fn an_environment_is_built_used_and_compiled() {
    let house = House::new();
    let Some(version) = python() else { return missing("no /usr/bin/python3") };
    let short = version.rsplit_once('.').unwrap().0.to_owned();
    let url = with_python(house.path("channel"), &version).write();
    environment(&house, &url, "  - tool\n");
    let file = house.path("work/environment.yml");
    let built = house.ovl(&["build", "-n", "sci", "-f", file.to_str().unwrap()]).ok();
    assert!(built.stderr.contains("etc/conda/activate.d/tool.sh"), "{}", built.stderr);
    let run = |words: &[&str]| house.ovl(&[&["exec", "-o", "sci/env", "--"], words].concat()).ok().stdout;
    assert_eq!(run(&["tool"]).trim(), "tool in /cnt/sci/env /cnt/sci/env $HOME is not expanded");
    let lib = format!("/cnt/sci/env/lib/python{short}/site-packages");
    let check = format!(
        "import importlib.util as u, struct, os\n\
         source = '{lib}/nap.py'\n\
         head = open(u.cache_from_source(source), 'rb').read(16)\n\
         print(struct.unpack('<III', head[4:])[1] == int(os.stat(source).st_mtime), head[:4] == u.MAGIC_NUMBER)\n\
         print(os.path.exists(u.cache_from_source('{lib}/broken.py')))"
    );
    assert_eq!(run(&["/usr/bin/python3", "-c", &check]).trim(), "True True\nFalse");
    assert!(run(&["cat", "/cnt/sci/env/bin/nap"]).starts_with(&format!("#!/cnt/sci/env/bin/python{short}\n")));
    assert!(run(&["cat", "/cnt/sci/env/.ovl/conda.lock"]).contains("tool-2.1-h1_3.conda"));
    let record = run(&["sh", "-c", "cat /cnt/sci/env/conda-meta/nap-*.json"]);
    let record: Value = serde_json::from_str(&record).unwrap();
    let kinds: Vec<&str> = record["paths_data"]["paths"]
        .as_array()
        .unwrap()
        .iter()
        .map(|path| path["path_type"].as_str().unwrap())
        .collect();
    assert!(kinds.contains(&"pyc_file") && kinds.contains(&"unix_python_entry_point"), "{kinds:?}");
    // The same packages make the same bytes.
    let first = fs::read(house.image("sci/env")).unwrap();
    house.ovl(&["build", "--update", "-n", "sci", "-f", file.to_str().unwrap()]).ok();
    fs::remove_file(house.image("sci/env")).unwrap();
    house.ovl(&["build", "-n", "sci", "-f", file.to_str().unwrap()]).ok();
    assert!(first == fs::read(house.image("sci/env")).unwrap(), "the second image differs");
}

#[test]
fn scripts_of_packages_run_where_the_environment_will_be() {
    let house = House::new();
    let url = Channel::new(house.path("channel"))
        .package("base", "1.0", "0")
        .prefix_text("share/conf", "{prefix}\n")
        .script("post-link", "echo base > $PREFIX/share/order\n")
        .package("tool", "2.1", "h1_3")
        .depends("base")
        .script(
            "post-link",
            "echo tool >> $PREFIX/share/order\n\
             echo $PREFIX $PKG_NAME $PKG_VERSION $PKG_BUILDNUM > $PREFIX/share/facts\n\
             echo 'please register' > $PREFIX/.messages.txt\n",
        )
        .package("bad", "1.0", "0")
        .script("post-link", "echo it went wrong; exit 3\n")
        .write();
    for stage in ["dir", "ext3"] {
        environment(&house, &url, "  - tool\n");
        let file = house.path("work/environment.yml");
        let built = house
            .ovl_with(&[("OVL_BUILD_STAGE", stage)], &["build", "--update", "-n", "sci", "-f", file.to_str().unwrap()]);
        assert!(built.ok().stderr.contains("please register"));
        let run = |words: &[&str]| house.ovl(&[&["exec", "-o", "sci/env", "--"], words].concat()).ok().stdout;
        let text = run(&["sh", "-c", "cd /cnt/sci/env && cat share/order share/facts share/conf && ls -a"]);
        assert!(text.starts_with("base\ntool\n/cnt/sci/env tool 2.1 3\n/cnt/sci/env\n"), "{text}");
        assert!(!text.contains(".messages.txt"), "{text}");
        fs::remove_file(house.image("sci/env")).unwrap();
    }
    environment(&house, &url, "  - bad\n");
    let file = house.path("work/environment.yml");
    let failed = house.ovl(&["build", "-n", "sci", "-f", file.to_str().unwrap()]);
    assert!(failed.code != 0 && failed.stderr.contains("it went wrong"), "{failed:?}");
    assert!(!house.image("sci/env").exists());
}

#[test]
fn nothing_but_the_overlay_is_made_where_overlays_are() {
    let house = House::new();
    if Command::new("strace").arg("-V").output().is_err() {
        return missing("no strace");
    }
    let mut channel = Channel::new(house.path("channel")).package("many", "1.0", "0");
    for number in 0..500 {
        channel = channel.file(&format!("share/d{}/f{number}", number % 9), format!("file {number}\n"));
    }
    let url = channel.write();
    environment(&house, &url, "  - many\n");
    let trace = house.path("home/trace");
    let mut command = house.command("strace");
    let calls = "trace=open,openat,openat2,creat,mkdir,mkdirat,link,linkat,symlink,symlinkat,mknod,mknodat,rename,renameat,renameat2";
    command.args(["-f", "-qq", "-s", "300", "-e", calls, "-e", "status=successful", "-o"]).arg(&trace);
    command.arg(crate::support::house::program());
    command.args(["build", "-n", "sci", "-f"]).arg(house.path("work/environment.yml"));
    crate::support::house::finish(command).ok();
    let trace = fs::read_to_string(&trace).unwrap();
    let making = |line: &&str| {
        !line.contains("open") && !line.contains("creat(") || line.contains("O_CREAT") || line.contains("creat(")
    };
    let made: Vec<&str> = trace.lines().filter(making).collect();
    assert!(made.len() > 3, "{trace}");
    // Of the five hundred files none was ever made anywhere.
    assert!(!made.iter().any(|line| line.contains("share/d")), "{made:#?}");
    let images = house.layer().join("images");
    let there: Vec<&&str> = made.iter().filter(|line| line.contains(images.to_str().unwrap())).collect();
    assert!(!there.is_empty() && there.len() < 20, "{there:#?}");
    let odd = there.iter().find(|line| !line.contains("sci--env") && !line.contains("/images\""));
    assert!(odd.is_none(), "{odd:?}");
    assert!(made.len() < 100, "{} things were made", made.len());
}

#[test]
fn a_cache_is_filled_checked_mended_and_does_without_network() {
    use ovl::conda::cache::{Cache, FetchError, How};
    let house = House::new();
    Channel::new(house.path("channel"))
        .package("a", "1", "0")
        .file("share/a", "a")
        .package("b", "1", "0")
        .file("share/b", "b")
        .write();
    let web = crate::support::web::Web::serve(&house.path("channel"));
    let mut all = records(&house.path("channel"));
    for record in &mut all {
        let name = record.identifier.to_file_name();
        record.url = format!("{}/linux-64/{name}", web.url).parse().unwrap();
    }
    let first = house.path("work/pkgs");
    let lease = std::time::Duration::from_secs(60);
    let cache = Cache::new(vec![first.clone()], lease);
    let how = |offline| How { threads: 3, offline };
    let missing = cache.fetch(&all, how(true), &Never).unwrap_err();
    assert!(matches!(&missing, FetchError::Missing { missing, total: 2 } if missing.len() == 2), "{missing}");
    let paths = cache.fetch(&all, how(false), &Never).unwrap();
    assert_eq!(paths.len(), 2);
    let asked = web.asked().len();
    assert_eq!(cache.fetch(&all, how(true), &Never).unwrap(), paths);
    assert_eq!(web.asked().len(), asked, "what is there is not asked for");
    // Nothing else lies there.
    assert_eq!(fs::read_dir(&first).unwrap().count(), 2);
    fs::write(&paths[0], "rubbish").unwrap();
    assert!(matches!(cache.fetch(&all, how(true), &Never), Err(FetchError::Missing { .. })));
    cache.fetch(&all, how(false), &Never).unwrap();
    assert_eq!(web.asked().len(), asked + 1, "only the damaged one is fetched again");
    // A second cache that nobody may write to, with the names that conda gives.
    let second = house.make("work/conda");
    for (record, path) in all.iter().zip(&paths) {
        fs::copy(path, second.join(record.identifier.to_file_name())).unwrap();
    }
    let both = Cache::new(vec![house.path("work/none"), second], lease);
    assert_eq!(both.fetch(&all, how(true), &Never).unwrap().len(), 2);
    // Several at once, and each archive once.
    let empty = Cache::new(vec![house.path("work/at-once")], lease);
    let asked = web.asked().len();
    std::thread::scope(|scope| {
        for _ in 0..4 {
            scope.spawn(|| assert_eq!(empty.fetch(&all, how(false), &Never).unwrap().len(), 2));
        }
    });
    assert_eq!(web.asked().len(), asked + 2);
}

/// Nobody follows the transfer.
struct Never;

impl ovl::net::Watch for Never {
    fn progress(&self, _done: u64, _total: Option<u64>) {}

    fn cancelled(&self) -> bool {
        false
    }
}

#[test]
fn a_pip_section_is_installed_without_network() {
    let house = House::new();
    let Some(version) = python() else { return missing("no /usr/bin/python3") };
    let pip = Command::new("/usr/bin/python3").args(["-m", "pip", "--version"]).output();
    if !pip.is_ok_and(|output| output.status.success()) {
        return println!("skipped: /usr/bin/python3 has no pip");
    }
    let url = with_python(house.path("channel"), &version).write();
    let wheels = house.make("work/wheels");
    let make = "import zipfile, sys\n\
                z = zipfile.ZipFile(sys.argv[1] + '/tiny-1.0-py3-none-any.whl', 'w')\n\
                z.writestr('tiny.py', 'x = 1\\n')\n\
                z.writestr('tiny-1.0.dist-info/METADATA', 'Metadata-Version: 2.1\\nName: tiny\\nVersion: 1.0\\n')\n\
                z.writestr('tiny-1.0.dist-info/WHEEL', 'Wheel-Version: 1.0\\nGenerator: x\\nRoot-Is-Purelib: true\\nTag: py3-none-any\\n')\n\
                z.writestr('tiny-1.0.dist-info/RECORD', 'tiny.py,,\\n')\n\
                z.close()\n";
    assert!(Command::new("/usr/bin/python3").args(["-c", make]).arg(&wheels).status().unwrap().success());
    fs::set_permissions(wheels.join("tiny-1.0-py3-none-any.whl"), fs::Permissions::from_mode(0o644)).unwrap();
    let web = crate::support::web::Web::serve(&wheels);
    let wish = format!("  - tool\n  - pip:\n    - tiny @ {}/tiny-1.0-py3-none-any.whl\n", web.url);
    environment(&house, &url, &wish);
    let file = house.path("work/environment.yml");
    house.ovl(&["build", "-n", "sci", "-f", file.to_str().unwrap()]).ok();
    assert!(web.asked().iter().any(|line| line.contains("tiny-1.0")));
    let find = "find /cnt/sci/env -name tiny.py; cat /cnt/sci/env/share/nowhere 2>/dev/null; tool";
    let found = house.ovl(&["exec", "-o", "sci/env", "--", "sh", "-c", find]).ok().stdout;
    println!("{found}");
    assert!(found.contains("tiny.py"), "{found}");
}
