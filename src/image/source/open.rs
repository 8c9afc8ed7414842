//! What a user means to pack, told by content: a directory, an ext3 image, SquashFS, SIF, a tar archive of files or of a
//! container image. All become one source with whiteouts that the kernel knows.

use std::fs::File;
use std::io::Read;
use std::path::Path;
use std::sync::Arc;

use super::super::error::Result;
use super::super::ext::{ExtImage, ExtSource};
use super::super::kind::{self, Kind};
use super::super::sif::{FileSystem, Object, Sif};
use super::super::squashfs::read::{Caches, DATA_CACHE, Image};
use super::super::squashfs::source::SquashSource;
use super::super::squashfs::write::Watch;
use super::dir::Skip;
use super::{AnySource, DirSource, Source, Union, Whiteouts, oci, tar};

/// Something that can be packed.
pub struct Found {
    /// Its content.
    pub source: AnySource,
    /// What it is, for people: "an ext3 image (its upper directory)".
    pub what: String,
    /// What the user should know about it, sentences.
    pub notes: Vec<String>,
    /// The configuration of a container image.
    pub config: Option<serde_json::Value>,
}

/// How sources that cannot be read twice are read.
pub struct Way<'a> {
    /// Where streams are kept meanwhile: a node-local directory.
    pub scratch: &'a Path,
    /// Who is told, and may stop it.
    pub watch: &'a dyn Watch,
    /// What is written meanwhile, which is no part of a directory that is read.
    pub skip: Arc<Skip>,
}

/// Passes on whether to stop, and keeps amounts to itself: for work within work that tells its own.
pub(super) struct Quiet<'a>(pub &'a dyn Watch);

impl Watch for Quiet<'_> {
    fn cancelled(&self) -> bool {
        self.0.cancelled()
    }
}

fn plain<S: Source + Send + 'static>(source: S, what: impl Into<String>) -> Found
where
    S::Handle: 'static,
{
    Found { source: AnySource::new(Whiteouts::new(source)), what: what.into(), notes: Vec::new(), config: None }
}

/// A directory: what is in it, or the container image whose OCI layout it is.
///
/// # Errors
/// When it cannot be read.
pub fn directory(path: &Path, way: &Way) -> Result<Found> {
    if oci::is_layout(path) {
        return oci::layout(path, way);
    }
    Ok(plain(DirSource::without(path, way.skip.clone())?, "a directory"))
}

/// A file of whatever kind.
///
/// # Errors
/// When it is of no kind that can be packed, damaged, or encrypted.
pub fn file(file: File, way: &Way) -> Result<Found> {
    Ok(match kind::of(&file)? {
        Kind::Squashfs => {
            let image = Arc::new(Image::open(file, 0)?);
            plain(SquashSource::new(image, b"")?, "a SquashFS image")
        }
        Kind::Ext => {
            let (source, upper) = content(ExtImage::open(file, 0)?)?;
            plain(source, if upper { "an ext3 image (its upper directory)" } else { "an ext image" })
        }
        Kind::Sif => sif(&Sif::open(file)?)?,
        Kind::Other => {
            let archive = tar::file(file, way)?;
            if oci::is_archive(&archive) {
                return oci::archive(archive, way);
            }
            tarred(archive)
        }
    })
}

/// A tar archive, perhaps compressed, of which every byte comes once.
///
/// # Errors
/// When it is none, or damaged.
pub fn stream(input: impl Read, way: &Way) -> Result<Found> {
    let archive = tar::stream(input, way)?;
    if oci::is_archive(&archive) { oci::archive(archive, way) } else { Ok(tarred(archive)) }
}

fn tarred(archive: tar::TarSource) -> Found {
    let (what, notes) = (archive.what(), archive.notes().to_vec());
    Found { notes, ..plain(archive, what) }
}

/// What counts in an ext image: `upper` of a writable overlay (it has `work` too), else everything.
fn content(image: ExtImage) -> Result<(ExtSource<Arc<ExtImage>>, bool)> {
    let image = Arc::new(image);
    let part = |name: &[u8]| ExtSource::new(image.clone(), name);
    match (part(b"upper"), part(b"work")) {
        (Ok(upper), Ok(_)) => Ok((upper, true)),
        _ => Ok((part(b"")?, false)),
    }
}

fn sif(sif: &Sif) -> Result<Found> {
    let open = |object: &Object| -> Result<AnySource> {
        Ok(match object.partition().map(|partition| partition.fs) {
            Some(FileSystem::Ext3) => AnySource::new(content(sif.ext(object)?)?.0),
            _ => {
                let image = Arc::new(sif.squashfs(object, Caches::new(DATA_CACHE))?);
                AnySource::new(SquashSource::new(image, b"")?)
            }
        })
    };
    let mut layers = vec![open(sif.primary()?)?];
    for object in sif.overlays()? {
        layers.push(open(object)?);
    }
    let what = match layers.len() {
        1 => "a SIF file (its system)".into(),
        count => format!("a SIF file (its system with {} merged)", plural(count - 1, "overlay")),
    };
    let mut notes = sif.warnings().to_vec();
    let arch = sif.arch();
    if arch.is_foreign() {
        notes.push(format!("the system in it is for {arch}, this machine is {}", std::env::consts::ARCH));
    }
    Ok(Found { source: AnySource::new(Union::new(layers)?), what, notes, config: None })
}

/// "1 layer", "3 layers".
pub(super) fn plural(count: usize, word: &str) -> String {
    format!("{count} {word}{}", if count == 1 { "" } else { "s" })
}
