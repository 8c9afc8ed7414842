//! Recipes that ship with ovl, run by the driver in plain directories: no network, no overlay.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};

use ovl::recipe::{DRIVER, HELPERS};

struct Bench {
    dir: PathBuf,
    name: &'static str,
    version: &'static str,
}

impl Bench {
    fn new(name: &'static str, version: &'static str) -> Bench {
        let dir = std::env::temp_dir().join(format!(
            "ovl-shipped-{}-{version}-{}",
            name.replace('/', "-"),
            std::process::id()
        ));
        let _ = fs::remove_dir_all(&dir);
        for sub in ["src", "tmp", "bin"] {
            fs::create_dir_all(dir.join(sub)).unwrap();
        }
        fs::write(dir.join("driver.sh"), DRIVER).unwrap();
        fs::write(dir.join("helpers.sh"), HELPERS).unwrap();
        Bench { dir, name, version }
    }

    fn tool(&self, name: &str, script: &str) {
        let path = self.dir.join("bin").join(name);
        fs::write(&path, format!("#!/bin/sh\n{script}\n")).unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).unwrap();
    }

    fn run(&self, phase: &str, answers: &str) -> Output {
        let recipe = Path::new(env!("CARGO_MANIFEST_DIR")).join("scripts").join(self.name).join(self.version);
        fs::write(self.dir.join("answers"), answers).unwrap();
        Command::new("bash")
            .arg(self.dir.join("driver.sh"))
            .args([phase.as_ref(), recipe.as_os_str()])
            .current_dir(self.dir.join("tmp"))
            .env("PATH", format!("{}:{}", self.dir.join("bin").display(), std::env::var("PATH").unwrap()))
            .env("TMPDIR", self.dir.join("tmp"))
            .env("tmp_dir", self.dir.join("tmp"))
            .env("src_dir", self.dir.join("src"))
            .env("target_dir", self.target())
            .env("app_name", self.name)
            .env("version", self.version)
            .env("app_name_version", format!("{}/{}", self.name, self.version))
            .env("NCPUS", "2")
            .stdin(Stdio::from(fs::File::open(self.dir.join("answers")).unwrap()))
            .output()
            .unwrap()
    }

    #[track_caller]
    fn ok(&self, phase: &str, answers: &str) {
        let out = self.run(phase, answers);
        assert!(out.status.success(), "{phase}: {}", String::from_utf8_lossy(&out.stderr));
    }

    fn target(&self) -> PathBuf {
        self.dir.join("target dir")
    }
}

impl Drop for Bench {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.dir);
    }
}

#[test]
fn hello_installs_checks_and_greets() {
    let bench = Bench::new("hello", "1.0");
    bench.ok("install", "");
    bench.ok("check", "");
    let greet = |args: &[&str]| {
        let out = Command::new(bench.target().join("bin/hello")).args(args).env_remove("HELLO_ROOT").output().unwrap();
        String::from_utf8(out.stdout).unwrap()
    };
    assert_eq!(greet(&["--version"]), "hello 1.0\n");
    assert_eq!(greet(&["ja", "Ada"]), "こんにちは, Ada!\n");
    fs::write(bench.target().join("share/greetings.tsv"), "en\tHi\n").unwrap();
    assert!(!bench.run("check", "").status.success(), "a damaged hello must not pass its check");
}

#[test]
fn the_toy_genome_is_the_same_everywhere() {
    let bench = Bench::new("toy/genome", "1");
    // Stands in for samtools faidx: name and length.
    bench.tool("samtools", r#"awk '/^>/ { name = substr($1, 2); next } { n[name] += length($0) } END { print "chr1\t" n["chr1"]; print "chr2\t" n["chr2"] }' "$2" >"$2.fai""#);
    bench.ok("install", "");
    bench.ok("check", "");
    let genome = fs::read(bench.target().join("genome.fa")).unwrap();
    assert_eq!(genome.len(), 12 + 200_000 + 2000 + 1334);
    for letter in b"ACGT" {
        let share = genome.iter().filter(|b| *b == letter).count();
        assert!((45_000..55_000).contains(&share), "{letter}: {share}");
    }
}

#[test]
fn cellranger_asks_for_the_link_and_keeps_it_out_of_sight() {
    for version in ["9.0.1", "8.0.1"] {
        let bench = Bench::new("cellranger", version);
        // Stands in for the network: packs an archive where curl would put it, and notes its arguments.
        bench.tool(
            "curl",
            &format!(
                "echo \"$@\" >{dir}/argv; cat >{dir}/config; while [ $# -gt 1 ]; do [ \"$1\" = --output ] && out=$2; shift; done\n\
                 mkdir -p x/cellranger-{version}; printf '#!/bin/sh\\necho cellranger cellranger-{version}\\n' >x/cellranger-{version}/cellranger\n\
                 chmod 755 x/cellranger-{version}/cellranger; tar -czf \"$out\" -C x cellranger-{version}",
                dir = bench.dir.display()
            ),
        );
        let wrong = bench.run("fetch", "https://example.org/other.tar.gz?Signature=abc\n");
        let said = String::from_utf8_lossy(&wrong.stderr).into_owned();
        assert!(!wrong.status.success() && said.contains("no https link") && !said.contains("Signature"), "{said}");
        let link = format!("https://example.org/cellranger-{version}.tar.gz?Expires=1&Signature=abc");
        bench.ok("fetch", &format!("{link}\n"));
        assert!(!fs::read_to_string(bench.dir.join("argv")).unwrap().contains("Signature"));
        assert_eq!(fs::read_to_string(bench.dir.join("config")).unwrap(), format!("url = \"{link}\"\n"));
        bench.ok("install", "");
        bench.ok("check", "");
    }
}

#[test]
fn the_template_builds_as_it_stands() {
    let bench = Bench::new("template", "1.0");
    bench.ok("fetch", "");
    assert!(!bench.target().exists(), "fetch must not install");
    bench.ok("install", "");
    bench.ok("check", "");
}
