//! SIF, the image files of Singularity and Apptainer: a header, a table of descriptors, and the objects they describe.
//! Only read, and nothing believed that does not lie within the file. Format: sylabs/sif and apptainer/sif, version 1.

mod object;
#[cfg(test)]
mod tests;

use std::fs::File;
use std::ops::Range;
use std::sync::Arc;

pub use object::{Arch, FileSystem, Kind, Link, Object, Partition, Role};

use super::bytes::{Region, array, le64};
use super::error::{ImageError, Result};
use super::ext::ExtImage;
use super::squashfs::read::{Caches, Image};

/// Bytes of the header.
const HEADER: usize = 128;
/// Most descriptors that are looked at; the tools make 48.
const MOST: u64 = 4096;
/// An object that is read whole (labels, a definition file) has at most this many bytes.
const TEXT: u64 = 1 << 20;

/// An open SIF file.
#[derive(Debug)]
pub struct Sif {
    file: Arc<File>,
    region: Region,
    /// The file's architecture as the header says; an empty file has none.
    arch: Arch,
    /// A UUID, as it is written.
    id: String,
    /// When it was made, seconds since 1970.
    created: i64,
    objects: Vec<Object>,
    warnings: Vec<String>,
}

impl Sif {
    /// Opens the file; header and descriptors are read.
    ///
    /// # Errors
    /// When it is no SIF file of version 1, or its table of descriptors does not lie within it. Single descriptors that
    /// make no sense are passed over and told by [`Sif::warnings`].
    pub fn open(file: impl Into<Arc<File>>) -> Result<Sif> {
        let file = file.into();
        let region = Region::new(file.clone(), 0)?;
        let mut raw = [0; HEADER];
        if region.read_some(0, &mut raw, "the header")? < HEADER {
            return Err(ImageError::corrupt("too short for a SIF file"));
        }
        if array::<10>(&raw, 32)? != *b"SIF_MAGIC\0" {
            return Err(ImageError::corrupt("no SIF file (its magic text is missing)"));
        }
        let version = array::<3>(&raw, 42)?;
        if &version != b"01\0" {
            let version = version.escape_ascii();
            return Err(ImageError::Unsupported(format!("SIF version '{version}'; ovl reads 01")));
        }
        let (total, table) = (le64(&raw, 88)?, le64(&raw, 96)?);
        if total > MOST {
            return Err(ImageError::corrupt(format!("a SIF file with {} descriptors", total as i64)));
        }
        let table_end = table
            .checked_add(total * object::SIZE as u64)
            .filter(|end| table >= HEADER as u64 && *end <= region.length())
            .ok_or_else(|| {
                ImageError::corrupt(format!("{total} descriptors at {table}, beyond the end of the file"))
            })?;
        let mut bytes = vec![0; total as usize * object::SIZE];
        region.read_exact(table, &mut bytes, "the table of descriptors")?;
        let mut sif = Sif {
            file,
            arch: Arch(array(&raw, 45)?),
            id: uuid(array(&raw, 48)?),
            created: le64(&raw, 64)? as i64,
            objects: Vec::new(),
            warnings: Vec::new(),
            region,
        };
        sif.take(&bytes, &[0..HEADER as u64, table..table_end])?;
        Ok(sif)
    }

    /// Takes the descriptors over that are in use and sound.
    fn take(&mut self, table: &[u8], reserved: &[Range<u64>]) -> Result<()> {
        let overlap = |one: &Range<u64>, other: &Range<u64>| one.start < other.end && other.start < one.end;
        for (slot, raw) in table.chunks_exact(object::SIZE).enumerate() {
            let object = match Object::parse(raw) {
                Ok(Some(object)) => object,
                Ok(None) => continue,
                Err(error) => {
                    self.warnings.push(format!("descriptor {slot} is passed over: {error}"));
                    continue;
                }
            };
            // No overflow: both are non-negative signed numbers.
            let range = object.offset..object.offset.saturating_add(object.size);
            let taken = || self.objects.iter().map(|other| other.offset..other.offset + other.size);
            let why = if range.end > self.region.length() {
                "lies beyond the end of the file"
            } else if object.size > 0 && reserved.iter().cloned().chain(taken()).any(|other| overlap(&other, &range)) {
                "overlaps something else"
            } else if object.id == 0 || self.objects.iter().any(|other| other.id == object.id) {
                "has no number of its own"
            } else {
                self.objects.push(object);
                continue;
            };
            let (id, kind) = (object.id, object.kind.name());
            self.warnings.push(format!("object {id} ({kind}) is passed over: it {why}"));
        }
        Ok(())
    }

    /// Every object in use, in the order of their descriptors.
    pub fn objects(&self) -> &[Object] {
        &self.objects
    }

    /// What was passed over, and why: sentences.
    pub fn warnings(&self) -> &[String] {
        &self.warnings
    }

    /// The file's UUID.
    pub fn id(&self) -> &str {
        &self.id
    }

    /// When the file was made, seconds since 1970.
    pub fn created(&self) -> i64 {
        self.created
    }

    /// The architecture it is for: the primary partition's, else the header's.
    pub fn arch(&self) -> Arch {
        self.find_primary().map_or(self.arch, |(_, partition)| partition.arch)
    }

    fn find_primary(&self) -> Option<(&Object, Partition)> {
        let mut partitions = self.objects.iter().filter_map(|object| Some((object, object.partition()?)));
        partitions.find(|(_, partition)| partition.role == Role::Primary)
    }

    /// The primary system partition.
    ///
    /// # Errors
    /// When there is none, it is encrypted or holds no file system that is read here. The sentences say what to do. What
    /// it is for does not matter to who only reads it; who runs it asks [`Sif::check_arch`].
    pub fn primary(&self) -> Result<&Object> {
        let (object, partition) = self.find_primary().ok_or_else(|| {
            ImageError::Unsupported("the SIF file has no primary system partition: nothing in it can be run".into())
        })?;
        readable(partition.fs, "system partition")?;
        Ok(object)
    }

    /// Says no when the system in it is for another kind of machine.
    ///
    /// # Errors
    /// [`ImageError::Unsupported`] with both architectures' names.
    pub fn check_arch(&self) -> Result<()> {
        match self.find_primary().map(|(_, partition)| partition.arch) {
            Some(arch) if arch.is_foreign() => Err(ImageError::Unsupported(format!(
                "the system in it is for {arch}, this machine is {}; get the image that was built for this architecture",
                std::env::consts::ARCH
            ))),
            _ => Ok(()),
        }
    }

    /// The overlay partitions that belong to the primary partition (they are in its group), lowest first.
    ///
    /// # Errors
    /// When one of them cannot be read here (encrypted ones).
    pub fn overlays(&self) -> Result<Vec<&Object>> {
        let Some((primary, _)) = self.find_primary() else { return Ok(Vec::new()) };
        let mut found = Vec::new();
        for object in &self.objects {
            if let Some(partition) = object.partition()
                && partition.role == Role::Overlay
                && object.group == primary.group
            {
                readable(partition.fs, "overlay partition")?;
                found.push(object);
            }
        }
        Ok(found)
    }

    /// Whether there is a signature over anything. Whether it is good, and whose, is not looked at.
    pub fn is_signed(&self) -> bool {
        self.objects.iter().any(|object| object.kind == Kind::Signature)
    }

    /// The file itself, for locks.
    pub fn file(&self) -> &File {
        &self.file
    }

    /// Opens a SquashFS partition, never read beyond its end.
    ///
    /// # Errors
    /// When there is none at its place.
    pub fn squashfs(&self, object: &Object, caches: Arc<Caches>) -> Result<Image> {
        Image::open_within(self.file.clone(), object.offset, object.size, caches)
    }

    /// Opens an ext3 partition, never read beyond its end.
    ///
    /// # Errors
    /// When there is none at its place.
    pub fn ext(&self, object: &Object) -> Result<ExtImage> {
        ExtImage::open_within(self.file.clone(), object.offset, object.size)
    }

    /// The content of a small object: labels, a definition file.
    ///
    /// # Errors
    /// When it is larger than a mebibyte or cannot be read.
    pub fn content(&self, object: &Object) -> Result<Vec<u8>> {
        if object.size > TEXT {
            return Err(ImageError::corrupt(format!("object {} has {} bytes", object.id, object.size)));
        }
        let mut bytes = vec![0; object.size as usize];
        self.region.read_exact(object.offset, &mut bytes, "an object")?;
        Ok(bytes)
    }
}

fn readable(fs: FileSystem, what: &str) -> Result<()> {
    match fs {
        FileSystem::Squashfs | FileSystem::Ext3 => Ok(()),
        FileSystem::EncryptedSquashfs | FileSystem::GocryptfsSquashfs => Err(ImageError::Unsupported(format!(
            "its {what} is encrypted, which ovl does not read; unpack it with apptainer and pack that: \
             apptainer build --sandbox DIR FILE.sif && ovl pack DIR"
        ))),
        other => Err(ImageError::Unsupported(format!("its {what} holds {other}; ovl reads squashfs and ext3"))),
    }
}

fn uuid(bytes: [u8; 16]) -> String {
    let mut text = String::with_capacity(36);
    for (place, byte) in bytes.iter().enumerate() {
        if matches!(place, 4 | 6 | 8 | 10) {
            text.push('-');
        }
        text.push_str(&format!("{byte:02x}"));
    }
    text
}
