//! Any source behind one type, so that sources of different kinds can lie above each other.

use std::any::Any;
use std::ops::Range;
use std::sync::Arc;

use super::super::error::{ImageError, Result};
use super::{Entry, Source};

/// A source whose type is not told. Later packing does not depend on what it is.
pub struct AnySource(Box<dyn Erased>);

/// The handle of an [`AnySource`].
#[derive(Clone)]
pub struct Ticket(Arc<dyn Any + Send + Sync>);

impl AnySource {
    /// Takes a source over.
    pub fn new<S: Source + Send + 'static>(source: S) -> AnySource
    where
        S::Handle: 'static,
    {
        AnySource(Box::new(source))
    }
}

trait Erased: Sync + Send {
    fn root(&self) -> Result<Entry<Ticket>>;
    fn list(&self, dir: &Entry<Ticket>) -> Result<Vec<Entry<Ticket>>>;
    fn read(&self, file: &Entry<Ticket>, offset: u64, buf: &mut [u8]) -> Result<()>;
    fn next_data(&self, file: &Entry<Ticket>, offset: u64) -> Result<Option<Range<u64>>>;
    fn is_made_up(&self, entry: &Entry<Ticket>) -> Result<bool>;
    fn xattrs(&self, entry: &Entry<Ticket>) -> Result<Vec<(Vec<u8>, Vec<u8>)>>;
}

fn hide<H: Send + Sync + 'static>(entry: Entry<H>) -> Entry<Ticket> {
    let Entry { name, kind, meta, handle } = entry;
    Entry { name, kind, meta, handle: Ticket(Arc::new(handle)) }
}

fn show<H: Clone + 'static>(entry: &Entry<Ticket>) -> Result<Entry<H>> {
    let handle = entry.handle.0.downcast_ref::<H>().ok_or_else(|| ImageError::corrupt("an entry of another source"))?;
    Ok(Entry { name: entry.name.clone(), kind: entry.kind.clone(), meta: entry.meta, handle: handle.clone() })
}

impl<S: Source + Send> Erased for S
where
    S::Handle: 'static,
{
    fn root(&self) -> Result<Entry<Ticket>> {
        Source::root(self).map(hide)
    }

    fn list(&self, dir: &Entry<Ticket>) -> Result<Vec<Entry<Ticket>>> {
        Ok(Source::list(self, &show(dir)?)?.into_iter().map(hide).collect())
    }

    fn read(&self, file: &Entry<Ticket>, offset: u64, buf: &mut [u8]) -> Result<()> {
        Source::read(self, &show(file)?, offset, buf)
    }

    fn next_data(&self, file: &Entry<Ticket>, offset: u64) -> Result<Option<Range<u64>>> {
        Source::next_data(self, &show(file)?, offset)
    }

    fn is_made_up(&self, entry: &Entry<Ticket>) -> Result<bool> {
        Source::is_made_up(self, &show(entry)?)
    }

    fn xattrs(&self, entry: &Entry<Ticket>) -> Result<Vec<(Vec<u8>, Vec<u8>)>> {
        Source::xattrs(self, &show(entry)?)
    }
}

impl Source for AnySource {
    type Handle = Ticket;

    fn root(&self) -> Result<Entry<Ticket>> {
        self.0.root()
    }

    fn list(&self, dir: &Entry<Ticket>) -> Result<Vec<Entry<Ticket>>> {
        self.0.list(dir)
    }

    fn read(&self, file: &Entry<Ticket>, offset: u64, buf: &mut [u8]) -> Result<()> {
        self.0.read(file, offset, buf)
    }

    fn next_data(&self, file: &Entry<Ticket>, offset: u64) -> Result<Option<Range<u64>>> {
        self.0.next_data(file, offset)
    }

    fn is_made_up(&self, entry: &Entry<Ticket>) -> Result<bool> {
        self.0.is_made_up(entry)
    }

    fn xattrs(&self, entry: &Entry<Ticket>) -> Result<Vec<(Vec<u8>, Vec<u8>)>> {
        self.0.xattrs(entry)
    }
}
