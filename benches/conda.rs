//! A conda environment from archives to an image: ovl's way (decompressed once, packed from there) beside the usual one
//! (archives unpacked into a package cache, linked into a prefix by rattler's installer, packed by mksquashfs), with the
//! same compressor and block size. `cargo bench --bench conda -- [--files N] [--packages N] [--runs N] [COMPRESSION]`
//! Contents are those of this system's own files, a twentieth of them with a prefix to be replaced.

#![allow(clippy::disallowed_methods, clippy::disallowed_macros)]

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Instant;

use ovl::conda::link::{self, Wanted};
use ovl::image::source::graft::Graft;
use ovl::image::squashfs::codec::Compression;
use ovl::image::squashfs::write::{PackOptions, pack};
use rattler_conda_types::compression_level::CompressionLevel;
use rattler_conda_types::{RepoDataRecord, Subdir};
use rattler_package_streaming::write::write_conda_package;
use serde_json::{Value, json};

const PREFIX: &str = "/cnt/bench/env";
const PLACEHOLDER: &str =
    "/home/builder/conda-bld/bench_1700000000000/_h_env_placehold_placehold_placehold_placehold_placehold";

fn main() {
    let mut rest = std::env::args().skip(1).filter(|arg| arg != "--bench");
    let (mut files, mut packages, mut runs, mut how) = (30_000, 200, 3, "zstd:3".parse::<Compression>().unwrap());
    while let Some(arg) = rest.next() {
        let mut number = |was: usize| rest.next().and_then(|text| text.parse().ok()).unwrap_or(was);
        match arg.as_str() {
            "--files" => files = number(files),
            "--packages" => packages = number(packages),
            "--runs" => runs = number(runs),
            _ => how = arg.parse().unwrap(),
        }
    }
    let work = PathBuf::from(env!("CARGO_TARGET_TMPDIR")).join(format!("conda-{}", std::process::id()));
    fs::create_dir_all(&work).unwrap();
    let records = channel(&work.join("channel"), files, packages);
    let bytes: u64 = records.iter().filter_map(|record| record.package_record.size).sum();
    println!("{files} files in {packages} packages, archives of {} MiB, {how}, median of {runs}", bytes >> 20);
    let (mut ours, mut theirs) = (Vec::new(), Vec::new());
    for run in 0..runs {
        // Side by side, so that what else the machine does meets both.
        theirs.push(usual(&records, &work.join(format!("usual-{run}")), how));
        ours.push(ovl(&records, &work.join(format!("ovl-{run}")), how));
    }
    let ((unpack, pack, their_bytes), (compose, write, our_bytes)) = (median(theirs), median(ours));
    let mib = |bytes: f64| bytes / f64::from(1 << 20);
    println!("unpack and link, mksquashfs  {unpack:6.2} s + {pack:6.2} s  {:7.1} MiB", mib(their_bytes));
    println!("ovl: put together, pack      {compose:6.2} s + {write:6.2} s  {:7.1} MiB", mib(our_bytes));
    println!("ratio {:.2}", (unpack + pack) / (compose + write));
    fs::remove_dir_all(&work).unwrap();
}

type Run = (f64, f64, f64);

fn median(mut runs: Vec<Run>) -> Run {
    runs.sort_by(|one, other| (one.0 + one.1).total_cmp(&(other.0 + other.1)));
    runs[runs.len() / 2]
}

fn ovl(records: &[RepoDataRecord], work: &Path, how: Compression) -> Run {
    fs::create_dir_all(work).unwrap();
    let began = Instant::now();
    let packages = records.iter().map(|record| (record.clone(), record.url.to_file_path().unwrap())).collect();
    let threads = std::thread::available_parallelism().map_or(1, usize::from);
    let wanted = Wanted {
        packages,
        platform: Subdir::Linux64,
        prefix: PREFIX,
        scratch: work,
        threads,
        time: 1_700_000_000,
        requested: Vec::new(),
        python: None,
    };
    let source = link::compose(wanted, &()).unwrap().finish().unwrap();
    let composed = began.elapsed().as_secs_f64();
    let out = work.join("out.sqf");
    let file = fs::OpenOptions::new().read(true).write(true).create_new(true).open(&out).unwrap();
    let source = Graft::new(source, PREFIX.trim_start_matches('/').as_bytes(), 0, Vec::new()).unwrap();
    let options = PackOptions { compression: how, ..PackOptions::default() };
    let report = pack(&source, &file, &options, &()).unwrap();
    let all = began.elapsed().as_secs_f64();
    drop((source, file));
    fs::remove_dir_all(work).unwrap();
    (composed, all - composed, report.bytes_out as f64)
}

fn usual(records: &[RepoDataRecord], work: &Path, how: Compression) -> Run {
    let prefix = work.join("root").join(PREFIX.trim_start_matches('/'));
    fs::create_dir_all(&prefix).unwrap();
    let began = Instant::now();
    let installer = rattler::install::Installer::new()
        .with_package_cache(rattler::package_cache::PackageCache::new(work.join("pkgs")))
        .with_download_client(ovl::conda::client().unwrap())
        .with_target_platform(Subdir::Linux64)
        .with_alternative_target_prefix(PREFIX);
    ovl::net::block_on(installer.install(&prefix, records.to_vec())).unwrap().unwrap();
    let linked = began.elapsed().as_secs_f64();
    let out = work.join("out.sqf");
    let mut command = Command::new("mksquashfs");
    command.arg(work.join("root")).arg(&out).args(["-quiet", "-no-progress", "-noappend", "-all-root", "-b", "128k"]);
    command.args(["-comp", how.codec.name()]);
    if how.codec.name() != "lz4" {
        command.args(["-Xcompression-level", &how.level.to_string()]);
    }
    assert!(command.stdout(Stdio::null()).status().unwrap().success());
    let all = began.elapsed().as_secs_f64();
    let bytes = fs::metadata(&out).unwrap().len();
    fs::remove_dir_all(work).unwrap();
    (linked, all - linked, bytes as f64)
}

/// Files of this system, of sizes that packages have.
fn contents(count: usize) -> Vec<Vec<u8>> {
    let mut found = Vec::new();
    let mut open: Vec<PathBuf> =
        ["/usr/lib/python3", "/usr/include", "/usr/share", "/usr/lib"].map(PathBuf::from).into();
    open.reverse();
    while let (Some(dir), true) = (open.pop(), found.len() < count) {
        let Ok(entries) = fs::read_dir(&dir) else { continue };
        for entry in entries.flatten() {
            let Ok(meta) = entry.metadata() else { continue };
            if meta.is_dir() {
                open.push(entry.path());
            } else if meta.is_file() && meta.len() <= 1 << 20 {
                found.extend(fs::read(entry.path()));
            }
        }
    }
    // Too few: again, each a little different.
    let mut number = 0;
    while found.len() < count {
        let mut again = found[number].clone();
        again.extend(format!("# {number}\n").into_bytes());
        found.push(again);
        number += 1;
    }
    found.truncate(count);
    found
}

/// Makes archives; gives their records.
fn channel(dir: &Path, files: usize, packages: usize) -> Vec<RepoDataRecord> {
    let contents = contents(files);
    let mut records = Vec::new();
    for (number, part) in contents.chunks(files.div_ceil(packages.max(1)).max(1)).enumerate() {
        let stem = format!("part{number}-1.0-0");
        let stage = dir.join("stage");
        let mut paths: Vec<PathBuf> = Vec::new();
        let mut listed: Vec<Value> = Vec::new();
        for (index, bytes) in part.iter().enumerate() {
            let path = format!("lib/part{number}/dir{}/file{index}", index % 12);
            let full = stage.join(&path);
            fs::create_dir_all(full.parent().unwrap()).unwrap();
            let mut entry = json!({ "_path": path, "path_type": "hardlink" });
            let mut bytes = bytes.clone();
            if index % 20 == 0 {
                bytes.extend(format!("\n{PLACEHOLDER}/lib\0").into_bytes());
                entry["file_mode"] = json!(if bytes.contains(&0) { "binary" } else { "text" });
                entry["prefix_placeholder"] = json!(PLACEHOLDER);
            }
            use sha2::Digest;
            let sum: String = sha2::Sha256::digest(&bytes).iter().map(|byte| format!("{byte:02x}")).collect();
            entry["sha256"] = json!(sum);
            entry["size_in_bytes"] = json!(bytes.len());
            fs::write(&full, bytes).unwrap();
            fs::set_permissions(&full, fs::Permissions::from_mode(0o644)).unwrap();
            listed.push(entry);
            paths.push(full);
        }
        fs::create_dir_all(stage.join("info")).unwrap();
        let index = json!({ "name": format!("part{number}"), "version": "1.0", "build": "0", "build_number": 0,
            "depends": [], "subdir": "linux-64" });
        let paths_json = json!({ "paths": listed, "paths_version": 1 });
        for (name, text) in [("index.json", &index), ("paths.json", &paths_json), ("about.json", &json!({}))] {
            let path = stage.join("info").join(name);
            fs::write(&path, text.to_string()).unwrap();
            paths.push(path);
        }
        let archive = dir.join(format!("{stem}.conda"));
        let mut out = fs::File::create(&archive).unwrap();
        let level = CompressionLevel::Numeric(9);
        write_conda_package(&mut out, &stage, &paths, level, None, &stem, None, None).unwrap();
        fs::remove_dir_all(&stage).unwrap();
        let mut record = index;
        record["fn"] = json!(format!("{stem}.conda"));
        record["url"] = json!(url::Url::from_file_path(&archive).unwrap());
        record["size"] = json!(fs::metadata(&archive).unwrap().len());
        records.push(serde_json::from_value(record).unwrap());
    }
    records
}
