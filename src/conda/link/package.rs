//! One package, understood: what its archive lists, where each of those files goes, and what is replaced in it.

use std::os::unix::ffi::OsStrExt;
use std::path::Path;
use std::sync::{Mutex, PoisonError};

use rattler::install::PythonInfo;
use rattler_conda_types::package::{
    EntryPoint, Files, HasPrefix, IndexJson, LinkJson, NoArchLinks, NoLink, NoSoftlink, PackageFile, PathType,
    PathsEntry, PathsJson,
};
use rattler_conda_types::{PackageRecord, RepoDataRecord};
use sha2::{Digest, Sha256};

use super::archive::{At, Payload, Store};
use super::error::LinkError;
use super::splice::Splice;
use crate::image::source::{Kind, Meta};
use crate::image::squashfs::write::Watch;

/// Bytes of a file that are looked through at once.
const PIECE: usize = 1 << 20;
/// Largest file in which a prefix is replaced.
const MOST_PATCHED: u64 = 4 << 30;
/// Of files larger than this only one at a time is looked through: they are in memory meanwhile.
const LARGE: u64 = 32 << 20;

/// A package whose archive has been read.
pub struct Package {
    /// What is known about it.
    pub record: RepoDataRecord,
    /// Its archive's name, for messages.
    pub archive: String,
    /// Its content.
    pub payload: Payload,
    /// Its files, as they are listed.
    pub files: Vec<Listed>,
    /// Commands that are to be made.
    pub entry_points: Vec<EntryPoint>,
    /// Files of which a part was replaced get this time.
    patched: i64,
}

/// A file of a package.
pub struct Listed {
    /// What the package says of it.
    pub entry: PathsEntry,
    /// Where it goes, relative to the prefix.
    pub target: Vec<u8>,
    /// Its content before anything is replaced; None of a directory that the archive has no member for.
    pub at: Option<At>,
    /// What it is in the archive.
    pub kind: Kind,
    /// Its facts, with the size it will have.
    pub meta: Meta,
    /// What is replaced in it.
    pub splice: Option<Box<Splice>>,
    /// SHA-256 of what it will be, when that is not what the package says or the package does not say it.
    pub sum: Option<[u8; 32]>,
}

impl Package {
    /// Reads an archive.
    pub fn read(
        path: &Path,
        mut record: RepoDataRecord,
        store: &mut Store,
        watch: &dyn Watch,
    ) -> Result<Package, LinkError> {
        let archive = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
        let payload = Payload::read(path, store, watch)?;
        let bad = |why: &dyn std::fmt::Display| LinkError::of(&archive, why);
        let index =
            payload.info("index.json").map_err(|error| bad(&error))?.ok_or_else(|| bad(&"no info/index.json"))?;
        let index = IndexJson::from_slice(&index).map_err(|error| bad(&format!("info/index.json: {error}")))?;
        let known = &record.package_record;
        // Where a digest tells that it is the one meant, what it says of its build and platform may be older than the list.
        let unsure = known.sha256.is_none() && known.md5.is_none();
        let subdir = index.subdir.as_ref().is_some_and(|subdir| *subdir != known.subdir);
        let other = unsure && (index.build != known.build || subdir);
        if index.name != known.name || index.version != known.version || other {
            let subdir = index.subdir.as_deref().unwrap_or("?");
            let found =
                format!("it holds {} {} {} for {subdir}", index.name.as_normalized(), index.version, index.build);
            return Err(bad(&found));
        }
        complete(&mut record, index);
        let listed = listing(&payload).map_err(|why| bad(&why))?;
        let mut entry_points = Vec::new();
        if record.package_record.noarch.is_python()
            && let Some(link) = payload.info("link.json").map_err(|error| bad(&error))?
        {
            let link = LinkJson::from_slice(&link).map_err(|error| bad(&format!("info/link.json: {error}")))?;
            if let NoArchLinks::Python(python) = link.noarch {
                entry_points = python.entry_points;
            }
        }
        let files = listed.paths.into_iter().map(|entry| locate(&payload, entry)).collect::<Result<Vec<_>, _>>();
        let files = files.map_err(|why| bad(&why))?;
        // Replaced files are newer than anything in the archive, so that nothing compiled from them is taken for current.
        let about = payload.find(b"info/about.json").or_else(|| payload.find(b"info/index.json"));
        let patched = about.map_or(0, |(_, entry)| entry.meta.mtime).saturating_add(1);
        Ok(Package { record, archive, payload, files, entry_points, patched })
    }

    /// Finds where every file goes and what is replaced in it.
    pub fn settle(&mut self, prefix: &str, python: Option<&PythonInfo>, watch: &dyn Watch) -> Result<(), LinkError> {
        let noarch = self.record.package_record.noarch.is_python();
        if noarch && python.is_none() {
            let why = "it is for Python, and there is no python in the environment".to_owned();
            return Err(LinkError::of(&self.archive, why));
        }
        for file in &mut self.files {
            if watch.cancelled() {
                return Err(crate::image::ImageError::Interrupted.into());
            }
            let path = &file.entry.relative_path;
            let bad = |why: &dyn std::fmt::Display| LinkError::of(&self.archive, format!("{}: {why}", path.display()));
            let target = match python.filter(|_| noarch) {
                Some(python) => python.get_python_noarch_target_path(path).as_os_str().as_bytes().to_vec(),
                None => path.as_os_str().as_bytes().to_vec(),
            };
            file.target = inside(&target).ok_or_else(|| bad(&"it leads out of the environment"))?;
            if file.kind != Kind::File {
                continue;
            }
            let Some(at) = file.at else { continue };
            if let Some(placeholder) = &file.entry.prefix_placeholder {
                static LARGE_ONES: Mutex<()> = Mutex::new(());
                let large = file.meta.size > LARGE;
                let _one = large.then(|| LARGE_ONES.lock().unwrap_or_else(PoisonError::into_inner));
                let source = self.payload.all(at, MOST_PATCHED).map_err(|error| bad(&error))?;
                let splice = Splice::find(&source, placeholder, prefix).map_err(|why| bad(&why))?;
                let sum = sum(splice.size(), |offset, buf| {
                    splice.read(offset, buf, |at, out| {
                        let found = usize::try_from(at).ok().and_then(|at| source.get(at..at.checked_add(out.len())?));
                        out.copy_from_slice(found.unwrap_or_default());
                        Ok(())
                    })
                });
                file.sum = Some(sum.map_err(|error| bad(&error))?);
                file.meta.size = splice.size();
                file.meta.mtime = self.patched;
                file.splice = Some(Box::new(splice));
            } else if file.entry.sha256.is_none() {
                let sum = sum(file.meta.size, |offset, buf| self.payload.read_at(at, offset, buf));
                file.sum = Some(sum.map_err(|error| bad(&error))?);
            }
        }
        Ok(())
    }

    /// The package's name.
    pub fn name(&self) -> &str {
        self.record.package_record.name.as_normalized()
    }
}

/// Fills in what an explicit list does not tell. What a channel says of a package may be newer than what the package
/// says itself, and stays.
fn complete(record: &mut RepoDataRecord, index: IndexJson) {
    let known = &record.package_record;
    let bare = known.depends.is_empty() && known.license.is_none() && known.timestamp.is_none() && known.size.is_none();
    if bare && let Ok(found) = PackageRecord::from_index_json(index.clone(), known.size, known.sha256, known.md5) {
        record.package_record = found;
    } else if record.package_record.noarch.is_none() {
        record.package_record.noarch = index.noarch;
    }
}

fn text(bytes: Vec<u8>, name: &str) -> Result<String, String> {
    String::from_utf8(bytes).map_err(|_| format!("info/{name} is no text"))
}

/// What the package lists: `paths.json`, or the files that came before it.
fn listing(payload: &Payload) -> Result<PathsJson, String> {
    let info = |name: &str| payload.info(name).map_err(|error| error.to_string());
    let named = |name: &'static str| move |error: std::io::Error| format!("info/{name}: {error}");
    if let Some(bytes) = info("paths.json")? {
        return PathsJson::from_slice(&bytes).map_err(named("paths.json"));
    }
    let files = text(info("files")?.ok_or("neither info/paths.json nor info/files")?, "files")?;
    let files = Files::from_str(&files).map_err(named("files"))?;
    let old = |name: &'static str| info(name)?.map(|bytes| text(bytes, name)).transpose();
    let prefixes =
        old("has_prefix")?.map(|text| HasPrefix::from_str(&text)).transpose().map_err(named("has_prefix"))?;
    let no_link = old("no_link")?.map(|text| NoLink::from_str(&text)).transpose().map_err(named("no_link"))?;
    let no_soft = old("no_softlink")?.map(|text| NoSoftlink::from_str(&text)).transpose();
    PathsJson::from_deprecated(files, prefixes, no_link, no_soft.map_err(named("no_softlink"))?, |path| {
        match payload.find(path.as_os_str().as_bytes()).map(|(_, entry)| entry.kind) {
            Some(Kind::Symlink(_)) => Ok(PathType::SoftLink),
            Some(Kind::Dir) => Ok(PathType::Directory),
            Some(_) => Ok(PathType::HardLink),
            None => Err(format!("it lists {}, which it does not hold", path.display())),
        }
    })
}

fn locate(payload: &Payload, entry: PathsEntry) -> Result<Listed, String> {
    let path = entry.relative_path.as_os_str().as_bytes();
    let found = payload.find(path);
    let shown = entry.relative_path.display();
    let Some((at, found)) = found else {
        if entry.path_type != PathType::Directory {
            return Err(format!("it lists {shown}, which it does not hold"));
        }
        let meta = Meta { mode: 0o755, uid: 0, gid: 0, mtime: 0, size: 0, links: 1, inode: (0, 0) };
        return Ok(Listed { entry, target: Vec::new(), at: None, kind: Kind::Dir, meta, splice: None, sum: None });
    };
    if !matches!(found.kind, Kind::File | Kind::Symlink(_) | Kind::Dir) {
        return Err(format!("{shown} is neither a file nor a link nor a directory"));
    }
    // As installers unpack: nothing runs as somebody else, and everything belongs to whoever installs.
    let meta = Meta { mode: found.meta.mode & 0o777, uid: 0, gid: 0, ..found.meta };
    Ok(Listed { entry, target: Vec::new(), at: Some(at), kind: found.kind, meta, splice: None, sum: None })
}

/// A path as it is below the prefix; None when it is not.
pub fn inside(path: &[u8]) -> Option<Vec<u8>> {
    let names: Vec<&[u8]> = path.split(|byte| *byte == b'/').filter(|name| !matches!(*name, b"" | b".")).collect();
    let odd = |name: &&[u8]| *name == b".." || name.len() > 255 || name.contains(&0);
    let whole = path.len() <= 4000 && !path.starts_with(b"/") && !names.is_empty() && !names.iter().any(odd);
    whole.then(|| names.join(&b'/'))
}

/// SHA-256 of something that is read by range.
fn sum(
    size: u64,
    mut read: impl FnMut(u64, &mut [u8]) -> crate::image::error::Result<()>,
) -> crate::image::error::Result<[u8; 32]> {
    let mut hash = Sha256::new();
    let mut buffer = vec![0; usize::try_from(size).unwrap_or(PIECE).min(PIECE)];
    let mut at = 0;
    while at < size {
        let length = usize::try_from(size - at).unwrap_or(PIECE).min(PIECE);
        let piece = buffer.get_mut(..length).unwrap_or_default();
        read(at, piece)?;
        hash.update(&*piece);
        at += length as u64;
    }
    Ok(hash.finalize().into())
}

#[cfg(test)]
mod tests {
    use super::inside;

    #[test]
    fn paths_stay_inside() {
        assert_eq!(inside(b"bin/x").unwrap(), b"bin/x");
        assert_eq!(inside(b"./bin//x/").unwrap(), b"bin/x");
        for path in [&b"/etc/x"[..], b"../x", b"a/../../x", b"", b".", b"a\0b"] {
            assert!(inside(path).is_none(), "{}", path.escape_ascii());
        }
    }
}
