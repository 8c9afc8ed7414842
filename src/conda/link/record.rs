//! `conda-meta`: a record for every package, as installers write it (what came from where, every file with its digest),
//! and the history, from which conda knows what was asked for.

use std::collections::HashMap;
use std::path::PathBuf;

use rattler_conda_types::package::PathType as PackagePathType;
use rattler_conda_types::prefix_record::{PathType, PathsEntry};
use rattler_conda_types::{MatchSpec, ParseStrictness, PrefixRecord};

use sha2::{Digest, Sha256};

use super::Environment;
use super::error::LinkError;
use super::package::Listed;
use crate::image::source::Kind;
use crate::sys::clock;

/// A compiled file.
pub struct Compiled {
    /// Below the prefix.
    pub path: Vec<u8>,
    /// Bytes.
    pub size: u64,
}

/// Writes them into the environment's tree.
pub(super) fn write(environment: &mut Environment) -> Result<(), LinkError> {
    let asked = asked_for(&environment.requested);
    let mut files = Vec::new();
    for rank in 0..environment.tree.packages.len() as u32 {
        let Some(record) = record(environment, rank, &asked) else { continue };
        let mut text = serde_json::to_vec_pretty(&record)
            .map_err(|error| LinkError::Together(format!("{}: its record: {error}", record.file_name())))?;
        text.push(b'\n');
        files.push((format!("conda-meta/{}", record.file_name()), text));
    }
    files.push(("conda-meta/history".into(), history(environment).into_bytes()));
    for (path, text) in files {
        let file = environment.tree.file(text, 0o644);
        if !environment.tree.put(path.as_bytes(), file) {
            return Err(LinkError::Together(format!("a package has put something in the way of {path}")));
        }
    }
    Ok(())
}

/// What was asked for, by package.
fn asked_for(requested: &[String]) -> HashMap<String, Vec<String>> {
    let mut asked: HashMap<String, Vec<String>> = HashMap::new();
    for spec in requested {
        let Ok(parsed) = MatchSpec::from_str(spec, ParseStrictness::Lenient) else { continue };
        let Some(name) = parsed.name.as_exact().map(|name| name.as_normalized().to_owned()) else { continue };
        asked.entry(name).or_default().push(spec.clone());
    }
    asked
}

fn record(environment: &Environment, rank: u32, asked: &HashMap<String, Vec<String>>) -> Option<PrefixRecord> {
    let package = environment.tree.packages.get(rank as usize)?;
    let listed = package.files.iter().enumerate();
    let mut paths: Vec<(PathsEntry, bool)> =
        listed.map(|(number, file)| (entry(file), environment.lost.contains(&(rank, number)))).collect();
    for (index, point) in package.entry_points.iter().enumerate() {
        if environment.lost.contains(&(rank, package.files.len() + index)) {
            continue;
        }
        let path = environment.python.as_ref()?.bin_dir.join(&point.command);
        let bytes = environment.tree.bytes(path.as_os_str().as_encoded_bytes(), 1 << 20).unwrap_or_default();
        let made = PathsEntry {
            sha256: Some(<[u8; 32]>::from(Sha256::digest(&bytes)).into()),
            size_in_bytes: Some(bytes.len() as u64),
            ..plain(path, PathType::UnixPythonEntryPoint)
        };
        paths.push((made, false));
    }
    for file in environment.compiled.get(&rank).into_iter().flatten() {
        let made = PathsEntry { size_in_bytes: Some(file.size), ..plain(path_of(&file.path), PathType::PycFile) };
        paths.push((made, false));
    }
    paths.sort_by(|one, other| one.0.relative_path.cmp(&other.0.relative_path));
    let paths = paths.into_iter().map(|(mut entry, lost)| {
        if lost && let Some(aside) = environment.tree.aside(rank, entry.relative_path.as_os_str().as_encoded_bytes()) {
            entry.original_path = Some(std::mem::replace(&mut entry.relative_path, path_of(&aside)));
        }
        entry
    });
    let requested_specs = asked.get(package.name()).cloned().unwrap_or_default();
    Some(PrefixRecord {
        requested_specs,
        ..PrefixRecord::from_repodata_record(package.record.clone(), paths.collect())
    })
}

fn path_of(bytes: &[u8]) -> PathBuf {
    use std::os::unix::ffi::OsStrExt;
    std::ffi::OsStr::from_bytes(bytes).into()
}

fn plain(relative_path: PathBuf, path_type: PathType) -> PathsEntry {
    PathsEntry {
        relative_path,
        original_path: None,
        path_type,
        no_link: false,
        sha256: None,
        sha256_in_prefix: None,
        size_in_bytes: None,
        file_mode: None,
        prefix_placeholder: None,
    }
}

fn entry(file: &Listed) -> PathsEntry {
    let listed = &file.entry;
    let patched = file.kind == Kind::File && listed.prefix_placeholder.is_some();
    let size = match &file.kind {
        Kind::File if patched => Some(file.meta.size),
        Kind::Symlink(target) => listed.size_in_bytes.or(Some(target.len() as u64)),
        Kind::File => listed.size_in_bytes.or(Some(file.meta.size)),
        _ => listed.size_in_bytes,
    };
    let differs = listed.path_type == PackagePathType::HardLink;
    let in_prefix = file.sum.map(Into::into).filter(|sum| differs && Some(*sum) != listed.sha256);
    PathsEntry {
        no_link: listed.no_link,
        sha256: listed.sha256,
        sha256_in_prefix: in_prefix,
        size_in_bytes: size,
        file_mode: listed.prefix_placeholder.as_ref().filter(|_| patched).map(|found| found.file_mode),
        prefix_placeholder: listed.prefix_placeholder.as_ref().map(|found| found.placeholder.clone()),
        ..plain(path_of(&file.target), listed.path_type.into())
    }
}

/// In conda's own form.
fn history(environment: &Environment) -> String {
    let time = clock::rfc3339(environment.time).replace('T', " ");
    let time = time.get(..19).unwrap_or("1970-01-01 00:00:00").to_owned();
    let mut text = format!("==> {time} <==\n# cmd: ovl build\n# conda version: 24.1.0\n");
    for package in &environment.tree.packages {
        let record = &package.record.package_record;
        let channel = package.record.channel.as_deref().unwrap_or("unknown").trim_end_matches('/');
        let channel = crate::net::redacted(channel);
        let (name, version, build) = (package.name(), &record.version, &record.build);
        text.push_str(&format!("+{channel}/{}::{name}-{version}-{build}\n", record.subdir));
    }
    if !environment.requested.is_empty() {
        let specs: Vec<String> = environment.requested.iter().map(|spec| format!("{spec:?}")).collect();
        text.push_str(&format!("# update specs: [{}]\n", specs.join(", ")));
    }
    text
}
