//! Writes a source's tree into a directory, its files by several threads. Everything is made anew through open directories:
//! no name and no symbolic link, in the source or in the directory, leads anywhere else.

use std::collections::HashMap;
use std::io;
use std::os::fd::OwnedFd;
use std::path::Path;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError, mpsc};

use super::super::error::{ImageError, Result};
use super::super::squashfs::write::Watch;
use super::{Entry, Kind, Source};
use crate::sys::making::{self, Node};
use crate::sys::{dirfd, fs, host};

/// Bytes read and written at once.
const PIECE: usize = 1 << 20;
/// Deeper trees would need more open directories than a process may have.
const DEEPEST: usize = 400;
/// Files that wait for a thread: each keeps its directory open.
const WAITING: usize = 128;

/// How to write.
#[derive(Debug, Clone, Copy)]
pub struct Options {
    /// Files get the owners they have in the source, not the caller; only root may.
    pub keep_owner: bool,
    /// What is in the way is replaced, directories excepted.
    pub replace: bool,
    /// Writing threads.
    pub threads: usize,
}

/// What came of it.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Report {
    /// Everything written but directories and further names.
    pub files: u64,
    /// Bytes of regular files.
    pub bytes: u64,
    /// Device nodes that only root may make.
    pub devices: u64,
    /// Whiteouts that could only be written in the form of fuse-overlayfs.
    pub marks: u64,
    /// Attributes that could not be set here.
    pub attributes: u64,
    /// Files that are no longer setuid or setgid, as they would have run as somebody else than their owner.
    pub harmless: u64,
}

type Path1 = Vec<u8>;

struct Work<'a, S: Source> {
    source: &'a S,
    options: Options,
    watch: &'a dyn Watch,
    root: Arc<OwnedFd>,
    /// The caller's user and group.
    ids: (u32, u32),
    harmless: AtomicU64,
    bytes: AtomicU64,
    lost: AtomicU64,
    failed: Mutex<Option<ImageError>>,
    stop: AtomicBool,
}

/// A file to be written, the directory it goes into, and its path for messages.
type Job<H> = (Arc<OwnedFd>, Entry<H>, Path1);

/// What the walk leaves for later.
struct Later<H> {
    /// Directories, parents before children.
    dirs: Vec<(Path1, Entry<H>)>,
    /// The first path of an inode with several.
    firsts: HashMap<(u64, u64), Path1>,
    links: Vec<(Path1, Path1)>,
}

/// Writes all of `source` into the directory `top`.
///
/// # Errors
/// The first thing that could not be read or written; what has been written stays.
pub fn extract<S: Source>(source: &S, top: &Path, options: Options, watch: &dyn Watch) -> Result<Report> {
    let root = dirfd::open_root(top).map_err(ImageError::io("open", format!("directory {}", top.display())))?;
    let work = Work {
        source,
        options,
        watch,
        root: Arc::new(root),
        ids: host::ids(),
        harmless: AtomicU64::new(0),
        bytes: AtomicU64::new(0),
        lost: AtomicU64::new(0),
        failed: Mutex::new(None),
        stop: AtomicBool::new(false),
    };
    let mut report = Report::default();
    let mut later = Later { dirs: Vec::new(), firsts: HashMap::new(), links: Vec::new() };
    let walked = std::thread::scope(|scope| {
        let (sender, jobs) = mpsc::sync_channel::<Job<S::Handle>>(WAITING);
        let jobs = Arc::new(Mutex::new(jobs));
        for _ in 0..options.threads.max(1) {
            let (jobs, work) = (jobs.clone(), &work);
            scope.spawn(move || work.write_files(&jobs));
        }
        // The threads hold the only other ends: when all have failed, sending does.
        drop(jobs);
        work.walk(&sender, &mut later, &mut report)
    });
    if let Some(error) = work.failed.lock().unwrap_or_else(PoisonError::into_inner).take() {
        return Err(error);
    }
    walked?;
    for (first, path) in &later.links {
        work.link(first, path)?;
    }
    for (path, entry) in later.dirs.iter().rev() {
        let dir = work.open(path)?;
        work.attributes(&*dir, entry, path)?;
        let failed = named("finish", path);
        making::finish(&*dir, work.owner(entry), work.mode(entry), entry.meta.mtime).map_err(failed)?;
    }
    report.bytes = work.bytes.into_inner();
    report.attributes = work.lost.into_inner();
    report.harmless = work.harmless.into_inner();
    Ok(report)
}

fn named(op: &'static str, path: &[u8]) -> impl FnOnce(io::Error) -> ImageError {
    ImageError::io(op, format!("'{}'", path.escape_ascii()))
}

/// A name that can only be that of something in the directory that lists it.
fn check(name: &[u8]) -> Result<()> {
    if matches!(name, b"" | b"." | b"..") || name.iter().any(|byte| matches!(byte, b'/' | 0)) {
        return Err(ImageError::corrupt(format!("'{}' is no name for a file", name.escape_ascii())));
    }
    Ok(())
}

impl<S: Source> Work<'_, S> {
    fn owner(&self, entry: &Entry<S::Handle>) -> Option<(u32, u32)> {
        self.options.keep_owner.then_some((entry.meta.uid, entry.meta.gid))
    }

    /// The permission bits; without its owner a file is nobody's program but the caller's.
    fn mode(&self, entry: &Entry<S::Handle>) -> u32 {
        let (uid, gid) = self.owner(entry).unwrap_or(self.ids);
        let mode = entry.mode_for(uid, gid);
        if mode != entry.meta.mode {
            self.harmless.fetch_add(1, Ordering::Relaxed);
        }
        mode.into()
    }

    fn stopped(&self) -> Result<()> {
        let stop = self.watch.cancelled() || self.stop.load(Ordering::Relaxed);
        if stop { Err(ImageError::Interrupted) } else { Ok(()) }
    }

    /// The directory at a path below the root, every part of it a real directory.
    fn open(&self, path: &[u8]) -> Result<Arc<OwnedFd>> {
        let mut dir = self.root.clone();
        for name in path.split(|byte| *byte == b'/').filter(|name| !name.is_empty()) {
            dir = Arc::new(dirfd::open_dir(&dir, name).map_err(named("open", path))?);
        }
        Ok(dir)
    }

    /// Makes directories, links and nodes, and hands files out.
    fn walk(
        &self,
        jobs: &mpsc::SyncSender<Job<S::Handle>>,
        later: &mut Later<S::Handle>,
        report: &mut Report,
    ) -> Result<()> {
        let root = self.source.root()?;
        let mut open = vec![(self.root.clone(), Path1::new(), self.source.list(&root)?.into_iter())];
        later.dirs.push((Path1::new(), root));
        while let Some((dir, path, entries)) = open.last_mut() {
            self.stopped()?;
            let Some(entry) = entries.next() else {
                open.pop();
                continue;
            };
            check(&entry.name)?;
            let full = if path.is_empty() { entry.name.clone() } else { [path, &b"/"[..], &entry.name].concat() };
            if entry.kind == Kind::Dir {
                let child = self.enter(dir, &entry.name, &full)?;
                if open.len() >= DEEPEST {
                    return Err(ImageError::Unsupported(format!("directories nested more than {DEEPEST} deep")));
                }
                let entries = self.source.list(&entry)?.into_iter();
                open.push((child, full.clone(), entries));
                later.dirs.push((full, entry));
                continue;
            }
            // Whiteouts have nothing to share, and where they can only be told by a mark each needs its own.
            if entry.meta.links > 1 && entry.kind != Kind::CharDev(0, 0) {
                if let Some(first) = later.firsts.get(&entry.meta.inode) {
                    later.links.push((first.clone(), full));
                    continue;
                }
                later.firsts.insert(entry.meta.inode, full.clone());
            }
            if self.options.replace {
                making::remove(dir, &entry.name).map_err(named("replace", &full))?;
            }
            if entry.kind != Kind::File {
                self.small(dir, &entry, &full, report)?;
            } else if jobs.send((dir.clone(), entry, full)).is_err() {
                // Its reason is told by the thread that failed.
                return Err(ImageError::Interrupted);
            } else {
                report.files += 1;
            }
        }
        Ok(())
    }

    fn enter(&self, dir: &OwnedFd, name: &[u8], full: &[u8]) -> Result<Arc<OwnedFd>> {
        match making::dir(dir, name) {
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists && self.options.replace => {}
            other => other.map_err(named("make directory", full))?,
        }
        Ok(Arc::new(dirfd::open_dir(dir, name).map_err(named("open directory", full))?))
    }

    /// What is neither a directory nor a file.
    fn small(&self, dir: &OwnedFd, entry: &Entry<S::Handle>, full: &[u8], report: &mut Report) -> Result<()> {
        let name = &entry.name;
        let node = match &entry.kind {
            Kind::Symlink(target) => {
                making::symlink(dir, name, target).map_err(named("make", full))?;
                report.files += 1;
                let done = making::finish_at(dir, name, self.owner(entry), None, entry.meta.mtime);
                return done.map_err(named("finish", full));
            }
            Kind::CharDev(major, minor) => Node::Char(*major, *minor),
            Kind::BlockDev(major, minor) => Node::Block(*major, *minor),
            Kind::Fifo => Node::Fifo,
            Kind::Socket => Node::Socket,
            Kind::Dir | Kind::File => return Ok(()),
        };
        match making::node(dir, name, node) {
            // A whiteout can be told in another way.
            Err(error) if error.kind() == io::ErrorKind::PermissionDenied && node == Node::Char(0, 0) => {
                making::file(dir, &[b".wh.", name.as_slice()].concat()).map_err(named("make", full))?;
                report.marks += 1;
                return Ok(());
            }
            Err(error)
                if error.kind() == io::ErrorKind::PermissionDenied
                    && matches!(node, Node::Char(..) | Node::Block(..)) =>
            {
                report.devices += 1;
                return Ok(());
            }
            other => other.map_err(named("make", full))?,
        }
        report.files += 1;
        let done = making::finish_at(dir, name, self.owner(entry), Some(self.mode(entry)), entry.meta.mtime);
        done.map_err(named("finish", full))
    }

    fn link(&self, first: &[u8], path: &[u8]) -> Result<()> {
        let split = |path: &[u8]| match path.iter().rposition(|byte| *byte == b'/') {
            Some(slash) => {
                (path.get(..slash).unwrap_or_default().to_vec(), path.get(slash + 1..).unwrap_or_default().to_vec())
            }
            None => (Path1::new(), path.to_vec()),
        };
        let ((from, name), (to, other)) = (split(first), split(path));
        let (from, to) = (self.open(&from)?, self.open(&to)?);
        if self.options.replace {
            making::remove(&to, &other).map_err(named("replace", path))?;
        }
        match making::link((&from, &name), (&to, &other)) {
            // A device that could not be made has no second name either.
            Err(error) if error.kind() == io::ErrorKind::NotFound && self.ids.0 != 0 => Ok(()),
            other => other.map_err(named("link", path)),
        }
    }

    /// A thread's life.
    fn write_files(&self, jobs: &Mutex<mpsc::Receiver<Job<S::Handle>>>) {
        let mut buffer = vec![0; PIECE];
        loop {
            let job = jobs.lock().unwrap_or_else(PoisonError::into_inner).recv();
            let Ok((dir, entry, path)) = job else { return };
            if let Err(error) = self.write_file(&dir, &entry, &path, &mut buffer) {
                self.stop.store(true, Ordering::Relaxed);
                self.failed.lock().unwrap_or_else(PoisonError::into_inner).get_or_insert(error);
                return;
            }
        }
    }

    fn write_file(&self, dir: &OwnedFd, entry: &Entry<S::Handle>, path: &[u8], buffer: &mut [u8]) -> Result<()> {
        let file = making::file(dir, &entry.name).map_err(named("make", path))?;
        let size = entry.meta.size;
        file.set_len(size).map_err(named("write", path))?;
        let mut at = 0;
        while let Some(range) = self.source.next_data(entry, at)? {
            at = range.start;
            while at < range.end {
                self.stopped()?;
                let length = (range.end - at).min(buffer.len() as u64) as usize;
                let piece = buffer.get_mut(..length).unwrap_or_default();
                self.source.read(entry, at, piece)?;
                fs::write_sparse(&file, piece, at).map_err(named("write", path))?;
                at += length as u64;
                let done = self.bytes.fetch_add(length as u64, Ordering::Relaxed) + length as u64;
                self.watch.progress(done, None);
            }
        }
        self.attributes(&file, entry, path)?;
        making::finish(&file, self.owner(entry), self.mode(entry), entry.meta.mtime).map_err(named("finish", path))
    }

    fn attributes(&self, fd: &impl std::os::fd::AsRawFd, entry: &Entry<S::Handle>, path: &[u8]) -> Result<()> {
        for (name, value) in self.source.xattrs(entry)? {
            match making::set_xattr(fd, &name, &value) {
                Ok(()) => {}
                // The other of its two names does for a user.
                Err(_) if name == b"trusted.overlay.opaque" => {}
                Err(error)
                    if matches!(error.kind(), io::ErrorKind::PermissionDenied | io::ErrorKind::Unsupported)
                        || error.raw_os_error() == Some(nix::libc::EOPNOTSUPP) =>
                {
                    self.lost.fetch_add(1, Ordering::Relaxed);
                }
                Err(error) => return Err(named("set an attribute of", path)(error)),
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::super::Meta;
    use super::*;
    use crate::sys::fs;

    /// A top directory with whatever entries; a directory among them holds `inside`.
    struct Hostile(Vec<(&'static [u8], Kind)>);

    impl Source for Hostile {
        type Handle = bool;

        fn root(&self) -> Result<Entry<bool>> {
            Ok(entry(b"", Kind::Dir, true))
        }

        fn list(&self, dir: &Entry<bool>) -> Result<Vec<Entry<bool>>> {
            Ok(if dir.handle {
                self.0.iter().map(|(name, kind)| entry(name, kind.clone(), false)).collect()
            } else {
                vec![entry(b"inside", Kind::File, false)]
            })
        }

        fn read(&self, _: &Entry<bool>, _: u64, buf: &mut [u8]) -> Result<()> {
            buf.fill(b'x');
            Ok(())
        }

        fn xattrs(&self, _: &Entry<bool>) -> Result<Vec<(Vec<u8>, Vec<u8>)>> {
            Ok(Vec::new())
        }
    }

    fn entry(name: &[u8], kind: Kind, handle: bool) -> Entry<bool> {
        let meta = Meta { mode: 0o755, uid: 0, gid: 0, mtime: 7, size: 3, links: 1, inode: (0, 0) };
        Entry { name: name.to_vec(), kind, meta, handle }
    }

    fn run(entries: Vec<(&'static [u8], Kind)>, replace: bool, before: impl FnOnce(&Path)) -> (String, Vec<String>) {
        let top = std::env::temp_dir().join(format!("ovl-extract-{}", host::token()));
        fs::create_dirs(&top.join("to")).unwrap();
        fs::create_dirs(&top.join("outside")).unwrap();
        before(&top);
        let options = Options { keep_owner: false, replace, threads: 2 };
        let result = extract(&Hostile(entries), &top.join("to"), options, &());
        let outside = fs::list(&top.join("outside")).unwrap();
        assert!(outside.is_empty(), "something was written outside: {outside:?}");
        let names = fs::list(&top.join("to")).unwrap().into_iter().map(|name| name.into_string().unwrap()).collect();
        fs::remove_tree(&top).unwrap();
        (result.err().map(|error| error.to_string()).unwrap_or_default(), names)
    }

    #[test]
    fn no_name_and_no_link_leads_out() {
        for bad in [&b".."[..], b".", b"", b"a/b", b"/etc/x", b"a\0b"] {
            let (error, names) = run(vec![(bad, Kind::File)], false, |_| {});
            assert!(error.contains("is no name") && names.is_empty(), "{error}");
        }
        let link = || Kind::Symlink(b"../outside".to_vec());
        for replace in [false, true] {
            // The same name twice: a link first, then a directory with a file in it.
            let (error, _) = run(vec![(b"a", link()), (b"a", Kind::Dir)], replace, |_| {});
            assert!(error.contains("'a'"), "{error}");
            // A link that was there before.
            let there = |top: &Path| fs::symlink(Path::new("../outside"), &top.join("to/a")).unwrap();
            let (error, _) = run(vec![(b"a", Kind::Dir)], replace, there);
            assert!(error.contains("'a'"), "{error}");
        }
        let there = |top: &Path| fs::symlink(Path::new("../outside/x"), &top.join("to/a")).unwrap();
        let (error, names) = run(vec![(b"a", Kind::File)], true, there);
        assert_eq!((error.as_str(), names), ("", vec!["a".to_owned()]), "replaced, not followed");
    }

    #[test]
    fn nobody_elses_programs_run_as_the_caller() {
        let file = |uid: u32, gid: u32, mode: u16| {
            let mut file = entry(b"x", Kind::File, false);
            (file.meta.uid, file.meta.gid, file.meta.mode) = (uid, gid, mode);
            file
        };
        assert_eq!(file(0, 0, 0o6755).mode_for(0, 0), 0o6755);
        assert_eq!(file(7, 0, 0o6755).mode_for(0, 0), 0o755);
        assert_eq!(file(0, 7, 0o6755).mode_for(0, 0), 0o4755);
        assert_eq!(file(0, 7, 0o2755).mode_for(0, 7), 0o2755);
        let mut dir = file(7, 7, 0o3777);
        dir.kind = Kind::Dir;
        assert_eq!(dir.mode_for(0, 0), 0o3777);
    }

    #[test]
    fn whiteouts_with_several_names_are_all_written() {
        let top = std::env::temp_dir().join(format!("ovl-whiteouts-{}", host::token()));
        fs::create_dirs(&top).unwrap();
        struct Two(u16);
        impl Source for Two {
            type Handle = ();

            fn root(&self) -> Result<Entry<()>> {
                Ok(Entry { handle: (), name: Vec::new(), kind: Kind::Dir, meta: entry(b"", Kind::Dir, true).meta })
            }

            fn list(&self, _: &Entry<()>) -> Result<Vec<Entry<()>>> {
                let mut meta = entry(b"", Kind::CharDev(0, 0), false).meta;
                (meta.links, meta.size, meta.mode) = (2, 0, self.0);
                let one = |name: &[u8]| Entry { name: name.to_vec(), kind: Kind::CharDev(0, 0), meta, handle: () };
                Ok(vec![one(b"a"), one(b"b")])
            }

            fn read(&self, _: &Entry<()>, _: u64, _: &mut [u8]) -> Result<()> {
                Ok(())
            }

            fn xattrs(&self, _: &Entry<()>) -> Result<Vec<(Vec<u8>, Vec<u8>)>> {
                Ok(Vec::new())
            }
        }
        let options = Options { keep_owner: false, replace: false, threads: 1 };
        let report = extract(&Two(0), &top, options, &()).unwrap();
        assert_eq!(report.files + report.marks, 2, "none of them is only another name");
        assert_eq!(fs::list(&top).unwrap().len(), 2);
        fs::remove_tree(&top).unwrap();
    }

    #[test]
    fn the_first_failure_stops_all() {
        let occupied = |top: &Path| fs::create_dirs(&top.join("to/b")).unwrap();
        let names: Vec<(&'static [u8], Kind)> = [&b"a"[..], b"b", b"c"].map(|name| (name, Kind::File)).into();
        let (error, _) = run(names, false, occupied);
        assert!(error.contains("cannot make 'b'"), "{error}");
    }
}
