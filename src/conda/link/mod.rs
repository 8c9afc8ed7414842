//! From archives to an installed environment without a small file written: every archive is decompressed once into a
//! file on scratch (`archive`), understood (`package`, `splice`), merged with the others (`tree`), and described as
//! installers describe it (`record`). What comes out is a source for the packer. `python` compiles what is for any
//! machine, `active` gathers what the environment wants set.

pub mod active;
mod archive;
mod error;
mod package;
pub mod python;
mod record;
mod splice;
mod tree;

use std::collections::{BTreeSet, HashMap, HashSet};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Mutex, PoisonError};

use rattler::install::{PythonInfo, python_entry_point_template};
use rattler_conda_types::{PackageRecord, RepoDataRecord, Subdir};

use crate::image::ImageError;
use crate::image::source::tar::TarSource;
use crate::image::source::{AnySource, Kind};
use crate::image::squashfs::write::Watch;
pub use active::literal;
use archive::Store;
pub use error::LinkError;
use package::Package;
use tree::{Data, Thing, Tree, Wish};

/// What is to be put together.
pub struct Wanted<'a> {
    /// The packages, each with its archive.
    pub packages: Vec<(RepoDataRecord, PathBuf)>,
    /// What they are for.
    pub platform: Subdir,
    /// Where the environment will be: `/cnt/NAME/VERSION`.
    pub prefix: &'a str,
    /// A node-local directory.
    pub scratch: &'a Path,
    /// Packages that are worked on at a time.
    pub threads: usize,
    /// The time of directories and of what is made here, seconds since 1970.
    pub time: i64,
    /// What was asked for, as match specs.
    pub requested: Vec<String>,
    /// The python that is there already, where packages are added to an environment.
    pub python: Option<PackageRecord>,
}

/// A script that a package wants run once its files are there.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LinkScript {
    /// The package.
    pub package: String,
    /// Its version.
    pub version: String,
    /// Its build number.
    pub build_number: u64,
    /// The script, below the prefix.
    pub path: String,
}

/// An environment put together.
pub struct Environment {
    tree: Tree,
    python: Option<PythonInfo>,
    /// Files by package and number that another package has won over.
    lost: HashSet<(u32, usize)>,
    /// Compiled files of each package.
    compiled: HashMap<u32, Vec<record::Compiled>>,
    requested: Vec<String>,
    time: i64,
}

/// Puts an environment together.
///
/// # Errors
/// When an archive is damaged or says something impossible, or the packages do not fit each other.
pub fn compose(wanted: Wanted, watch: &dyn Watch) -> Result<Environment, LinkError> {
    let Wanted { packages, platform, prefix, scratch, threads, time, requested, python } = wanted;
    let mut names = HashSet::new();
    if let Some((twice, _)) = packages.iter().find(|(record, _)| !names.insert(record.package_record.name.clone())) {
        let name = twice.package_record.name.as_normalized();
        return Err(LinkError::Together(format!("the environment has the package {name} twice")));
    }
    let total: u64 = packages.iter().filter_map(|(record, _)| record.package_record.size).sum();
    let done = AtomicU64::new(0);
    let mut packages = packages;
    // The largest first: nobody waits for it in the end.
    packages.sort_by_key(|(record, _)| std::cmp::Reverse(record.package_record.size));
    let read = each(
        threads,
        packages,
        || Store::create(scratch),
        |store, (record, path)| {
            let bytes = record.package_record.size.unwrap_or(0);
            let package = Package::read(&path, record, store, watch)?;
            watch.progress(done.fetch_add(bytes, Ordering::Relaxed) + bytes, Some(total));
            Ok(package)
        },
    )?;
    let read = in_order(read);
    let python = python_of(&read, python.as_ref(), platform)?;
    let settled = each(
        threads,
        read,
        || Ok(()),
        |(), mut package| {
            package.settle(prefix, python.as_ref(), watch)?;
            Ok(package)
        },
    )?;
    let mut tree = Tree::new(settled, time);
    let wishes = wishes(&mut tree, prefix, python.as_ref())?;
    for wish in wishes {
        tree.wish(wish);
    }
    let lost = tree.settle().into_iter().map(|lost| (lost.rank, lost.number)).collect();
    Ok(Environment { tree, python, lost, compiled: HashMap::new(), requested, time })
}

/// Packages, each after what it depends on: of several that bring a file the last one wins.
fn in_order(packages: Vec<Package>) -> Vec<Package> {
    let records: Vec<PackageRecord> = packages.iter().map(|one| one.record.package_record.clone()).collect();
    let order = PackageRecord::sort_topologically(records);
    let mut by_name: HashMap<String, Package> =
        packages.into_iter().map(|package| (package.name().to_owned(), package)).collect();
    order.iter().filter_map(|record| by_name.remove(record.name.as_normalized())).collect()
}

fn python_of(
    packages: &[Package],
    there: Option<&PackageRecord>,
    platform: Subdir,
) -> Result<Option<PythonInfo>, LinkError> {
    let own = packages.iter().find(|package| package.name() == "python");
    let Some(python) = own.map(|package| &package.record.package_record).or(there) else { return Ok(None) };
    let info = PythonInfo::from_python_record(python, platform);
    info.map(Some).map_err(|error| LinkError::of("python", error))
}

/// Everything that wants a place in the tree.
fn wishes(tree: &mut Tree, prefix: &str, python: Option<&PythonInfo>) -> Result<Vec<Wish>, LinkError> {
    let mut wishes = Vec::new();
    let mut commands = Vec::new();
    for (rank, package) in tree.packages.iter_mut().enumerate() {
        let rank = rank as u32;
        for (number, file) in package.files.iter_mut().enumerate() {
            let data = match (file.at, file.splice.take()) {
                (Some(at), Some(splice)) => Data::Spliced(rank, at, splice),
                (Some(at), None) if file.kind == Kind::File => Data::Package(rank, at),
                _ => Data::None(rank),
            };
            let thing = Thing { kind: file.kind.clone(), meta: file.meta, data };
            wishes.push(Wish { path: file.target.clone(), rank, number, thing, made: false });
        }
        let Some(python) = python.filter(|_| !package.entry_points.is_empty()) else { continue };
        for (index, point) in package.entry_points.iter().enumerate() {
            let path = python.bin_dir.join(&point.command);
            let path = package::inside(path.as_os_str().as_encoded_bytes());
            let path = path.ok_or_else(|| LinkError::of(&package.archive, format!("the command {}", point.command)))?;
            let text = python_entry_point_template(prefix, false, point, python);
            commands.push((path, rank, package.files.len() + index, text.into_bytes()));
        }
    }
    for (path, rank, number, text) in commands {
        wishes.push(Wish { path, rank, number, thing: tree.file(text, 0o775), made: true });
    }
    Ok(wishes)
}

impl Environment {
    /// Scripts that are to be run with the files in place, in order.
    pub fn scripts(&self) -> Vec<LinkScript> {
        let script = |package: &Package| {
            let path = format!("bin/.{}-post-link.sh", package.name());
            let record = &package.record.package_record;
            self.tree.at(path.as_bytes())?;
            Some(LinkScript {
                package: package.name().to_owned(),
                version: record.version.to_string(),
                build_number: record.build_number,
                path,
            })
        };
        self.tree.packages.iter().filter_map(script).collect()
    }

    /// What using the environment sets, as its files say it.
    pub fn active(&self) -> active::Active {
        active::of(&self.tree)
    }

    /// The packages in the order of linking, as `name version build`.
    pub fn packages(&self) -> Vec<String> {
        let shown = |package: &Package| {
            let record = &package.record.package_record;
            format!("{} {} {}", package.name(), record.version, record.build)
        };
        self.tree.packages.iter().map(shown).collect()
    }

    /// Paths of files that a package has won over others, for telling.
    pub fn clobbered(&self) -> BTreeSet<String> {
        let path = |(rank, number): &(u32, usize)| {
            let file = self.tree.packages.get(*rank as usize)?.files.get(*number)?;
            Some(String::from_utf8_lossy(&file.target).into_owned())
        };
        self.lost.iter().filter_map(path).collect()
    }

    /// Where python is, below the prefix, if there is one.
    pub fn python(&self) -> Option<&PythonInfo> {
        self.python.as_ref()
    }

    /// Takes over what [`python::SCRIPT`] has compiled.
    pub fn add_compiled(&mut self, compiled: TarSource) -> Result<u64, LinkError> {
        self.compiled = python::take(&mut self.tree, compiled)?;
        Ok(self.compiled.values().map(|files| files.len() as u64).sum())
    }

    /// Writes down what is installed, in `conda-meta`, and gives the finished tree.
    pub fn finish(mut self) -> Result<AnySource, LinkError> {
        record::write(&mut self)?;
        Ok(AnySource::new(self.tree))
    }
}

/// Works on things by several threads, each with something of its own; the first error ends it. The results are in the
/// order of the things: that of packages decides who wins over whom, and whose script runs first.
fn each<T: Send, S, R: Send>(
    threads: usize,
    things: Vec<T>,
    own: impl Fn() -> Result<S, LinkError> + Sync,
    work: impl Fn(&mut S, T) -> Result<R, LinkError> + Sync,
) -> Result<Vec<R>, LinkError> {
    let things: Vec<Mutex<Option<T>>> = things.into_iter().map(|thing| Mutex::new(Some(thing))).collect();
    let (next, results, failed) = (AtomicUsize::new(0), Mutex::new(Vec::new()), Mutex::new(None));
    let one = || -> Result<(), LinkError> {
        let mut state = own()?;
        while failed.lock().is_ok_and(|failed| failed.is_none()) {
            let number = next.fetch_add(1, Ordering::Relaxed);
            let Some(cell) = things.get(number) else { break };
            let Some(thing) = cell.lock().unwrap_or_else(PoisonError::into_inner).take() else { continue };
            let result = work(&mut state, thing)?;
            results.lock().unwrap_or_else(PoisonError::into_inner).push((number, result));
        }
        Ok(())
    };
    std::thread::scope(|scope| {
        for _ in 0..threads.clamp(1, things.len().max(1)) {
            scope.spawn(|| {
                if let Err(error) = one() {
                    failed.lock().unwrap_or_else(PoisonError::into_inner).get_or_insert(error);
                }
            });
        }
    });
    if let Some(error) = failed.into_inner().unwrap_or_else(PoisonError::into_inner) {
        return Err(error);
    }
    let mut results = results.into_inner().unwrap_or_else(PoisonError::into_inner);
    if results.len() != things.len() {
        return Err(ImageError::Interrupted.into());
    }
    results.sort_unstable_by_key(|(number, _)| *number);
    Ok(results.into_iter().map(|(_, result)| result).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn work_by_many_keeps_its_order() {
        let slow = |(): &mut (), number: u64| {
            std::thread::sleep(std::time::Duration::from_millis((number * 7) % 5));
            Ok(number)
        };
        assert_eq!(each(8, (0..64).collect(), || Ok(()), slow).unwrap(), (0..64).collect::<Vec<u64>>());
    }
}
