//! An archive of a package, decompressed once: contents go into one file on scratch that a thread's packages share, what
//! is where stays in memory. Both formats: `.conda` (a zip of two compressed tars) and `.tar.bz2`.

use std::fs::File;
use std::io::{BufReader, Read};
use std::path::Path;
use std::sync::Arc;

use rattler_package_streaming::seek;

use super::error::LinkError;
use crate::image::source::tar::{self, TarSource};
use crate::image::source::{Entry, Kind, Source};
use crate::image::squashfs::write::Watch;
use crate::image::{ImageError, error};
use crate::sys::fs;

/// Bytes read at once from an archive.
const PIECE: usize = 256 << 10;
/// Most bytes of one of the files that describe a package.
const MOST_INFO: u64 = 256 << 20;

/// A file on scratch that grows by what is in archives.
pub struct Store {
    file: Arc<File>,
    end: u64,
}

impl Store {
    /// An empty one, without a name, in a directory.
    pub fn create(scratch: &Path) -> Result<Store, LinkError> {
        let made = fs::unnamed_file(scratch).map_err(|error| ImageError::Io {
            op: "make",
            what: format!("a temporary file in {}", scratch.display()),
            source: error.source,
        })?;
        Ok(Store { file: Arc::new(made), end: 0 })
    }

    fn add(&mut self, input: impl Read, watch: &dyn Watch) -> Result<TarSource, ImageError> {
        let (source, end) = tar::shared(input, self.file.clone(), self.end, watch)?;
        self.end = end;
        Ok(source)
    }
}

/// What is in a package's archive.
pub struct Payload {
    /// One tar, or the content and what describes it.
    parts: Vec<TarSource>,
}

/// Where something is in a [`Payload`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct At {
    part: u8,
    handle: u32,
}

impl Payload {
    /// Decompresses an archive; its name tells the format.
    pub fn read(path: &Path, store: &mut Store, watch: &dyn Watch) -> Result<Payload, LinkError> {
        let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
        let bad = |why: &dyn std::fmt::Display| LinkError::of(&name, why);
        let open = || fs::open(path).map_err(|error| bad(&error));
        let told = |error: ImageError| match error {
            ImageError::Interrupted => LinkError::Image(ImageError::Interrupted),
            full @ ImageError::Io { op: "write", .. } => LinkError::Image(full),
            other => bad(&other),
        };
        let quiet = Quiet(watch);
        let parts = if name.ends_with(".tar.bz2") {
            let input = bzip2::read::MultiBzDecoder::new(BufReader::with_capacity(PIECE, open()?));
            vec![store.add(input, &quiet).map_err(told)?]
        } else {
            // The zip is only looked at through its directory; what is in it is stored, not compressed again.
            let content = seek::stream_conda_content(open()?).map_err(|error| bad(&error))?.into_inner();
            let info = seek::stream_conda_info(open()?).map_err(|error| bad(&error))?.into_inner();
            vec![store.add(content, &quiet).map_err(told)?, store.add(info, &quiet).map_err(told)?]
        };
        Ok(Payload { parts })
    }

    /// What is at a path, and where that is.
    pub fn find(&self, path: &[u8]) -> Option<(At, Entry<u32>)> {
        self.parts.iter().enumerate().find_map(|(part, source)| {
            let entry = source.find(path)?;
            Some((At { part: u8::try_from(part).ok()?, handle: entry.handle }, entry))
        })
    }

    fn part(&self, at: At) -> error::Result<&TarSource> {
        self.parts.get(usize::from(at.part)).ok_or_else(|| ImageError::corrupt("an entry of another package"))
    }

    /// Fills `buf` from a regular file.
    pub fn read_at(&self, at: At, offset: u64, buf: &mut [u8]) -> error::Result<()> {
        let part = self.part(at)?;
        part.read(&part.get(at.handle)?, offset, buf)
    }

    /// All of a regular file.
    pub fn all(&self, at: At, most: u64) -> error::Result<Vec<u8>> {
        let part = self.part(at)?;
        let entry = part.get(at.handle)?;
        let size = usize::try_from(entry.meta.size).ok().filter(|_| entry.meta.size <= most);
        let size = size.ok_or_else(|| ImageError::Unsupported(format!("a file of {} bytes", entry.meta.size)))?;
        let mut bytes = vec![0; size];
        part.read(&entry, 0, &mut bytes)?;
        Ok(bytes)
    }

    /// One of the files that describe the package; None when there is none.
    pub fn info(&self, name: &str) -> error::Result<Option<Vec<u8>>> {
        match self.find(format!("info/{name}").as_bytes()) {
            Some((at, entry)) if entry.kind == Kind::File => self.all(at, MOST_INFO).map(Some),
            _ => Ok(None),
        }
    }
}

/// Passes on whether to stop; how far one of many archives is, nobody wants to know.
struct Quiet<'a>(&'a dyn Watch);

impl Watch for Quiet<'_> {
    fn cancelled(&self) -> bool {
        self.0.cancelled()
    }
}
