//! Compiling Python files of packages that are for any machine, as conda does it: the environment's own python does, with
//! its files and theirs in one image, under their final paths, and hands the results back as one archive.

use std::collections::{HashMap, HashSet};

use rattler_conda_types::PackageName;

use super::Environment;
use super::error::LinkError;
use super::record::Compiled;
use super::tree::{Data, Thing, Tree};
use crate::image::error::Result;
use crate::image::source::tar::TarSource;
use crate::image::source::{Entry, Kind, Meta, Source};

/// What the environment's python runs: `python compile.py PREFIX LIST OUT WORKERS`. The list has a line for every file, `RANK PATH`; the
/// archive written has the compiled ones at `RANK/PATH`, with the times of their sources. What cannot be compiled is left
/// out, as conda leaves it out: templates and files for other versions.
pub const SCRIPT: &str = include_str!("compile.py");

impl Environment {
    /// The list for [`SCRIPT`]; empty when there is nothing to compile.
    pub fn to_compile(&self) -> String {
        if self.python.is_none() {
            return String::new();
        }
        let mut list = String::new();
        for (rank, package) in self.tree.packages.iter().enumerate() {
            if !package.record.package_record.noarch.is_python() {
                continue;
            }
            for (number, file) in package.files.iter().enumerate() {
                let Ok(path) = std::str::from_utf8(&file.target) else { continue };
                let compiles = path.ends_with(".py") && !path.contains('\n') && file.kind == Kind::File;
                if compiles && !path.starts_with("bin/") && !self.lost.contains(&(rank as u32, number)) {
                    list.push_str(&format!("{rank} {path}\n"));
                }
            }
        }
        list
    }

    /// What python needs to compile them: itself with what it depends on, and the packages with files to be compiled.
    pub fn for_compiling(&self) -> Part<'_> {
        let mut wanted: HashSet<String> = HashSet::new();
        let mut open = vec!["python".to_owned()];
        while let Some(name) = open.pop() {
            let package = self.tree.packages.iter().find(|package| package.name() == name);
            if let Some(package) = package.filter(|_| wanted.insert(name)) {
                let depends = package.record.package_record.depends.iter();
                open.extend(depends.map(|spec| PackageName::normalized_name_from_matchspec_str(spec).into_owned()));
            }
        }
        let keep = |package: &super::Package| {
            package.record.package_record.noarch.is_python() || wanted.contains(package.name())
        };
        Part { tree: &self.tree, keep: self.tree.packages.iter().map(keep).collect() }
    }
}

/// The files of some packages.
pub struct Part<'a> {
    tree: &'a Tree,
    keep: Vec<bool>,
}

impl Source for Part<'_> {
    type Handle = u32;

    fn root(&self) -> Result<Entry<u32>> {
        self.tree.root()
    }

    fn list(&self, dir: &Entry<u32>) -> Result<Vec<Entry<u32>>> {
        let mut entries = self.tree.list(dir)?;
        entries.retain(|entry| {
            entry.kind == Kind::Dir
                || self.tree.owner(entry.handle).is_some_and(|rank| self.keep.get(rank as usize) == Some(&true))
        });
        Ok(entries)
    }

    fn read(&self, file: &Entry<u32>, offset: u64, buf: &mut [u8]) -> Result<()> {
        self.tree.read(file, offset, buf)
    }

    fn xattrs(&self, entry: &Entry<u32>) -> Result<Vec<(Vec<u8>, Vec<u8>)>> {
        self.tree.xattrs(entry)
    }
}

/// Puts compiled files into the tree; gives those of each package. What a package brings itself is kept.
pub(super) fn take(tree: &mut Tree, compiled: TarSource) -> Result<HashMap<u32, Vec<Compiled>>, LinkError> {
    let mut found: HashMap<u32, Vec<Compiled>> = HashMap::new();
    let mut open: Vec<(Option<u32>, Vec<u8>, Entry<u32>)> = vec![(None, Vec::new(), compiled.root()?)];
    while let Some((rank, path, dir)) = open.pop() {
        for entry in compiled.list(&dir)? {
            let Some(rank) = rank else {
                let rank = std::str::from_utf8(&entry.name).ok().and_then(|name| name.parse().ok());
                if rank.is_some() && entry.kind == Kind::Dir {
                    open.push((rank, Vec::new(), entry));
                }
                continue;
            };
            let full = if path.is_empty() { entry.name.clone() } else { [&path[..], b"/", &entry.name].concat() };
            match entry.kind {
                Kind::Dir => open.push((Some(rank), full, entry)),
                Kind::File if tree.at(&full).is_none() && full.ends_with(b".pyc") => {
                    let meta = Meta { mode: 0o644, uid: 0, gid: 0, ..entry.meta };
                    let thing = Thing { kind: Kind::File, meta, data: Data::Compiled(entry.handle) };
                    if tree.put(&full, thing) {
                        found.entry(rank).or_default().push(Compiled { path: full, size: entry.meta.size });
                    }
                }
                _ => {}
            }
        }
    }
    tree.compiled = Some(compiled);
    Ok(found)
}
