//! What is answered to each request: a read-only tree that never changes, so the kernel may cache everything.

use super::abi::{Attr, Reply, Request, VERSION, init, op, open};
use super::ahead::Ahead;
use crate::image::ImageError;
use crate::runtime::tree::Tree;
use crate::runtime::tree::layer::DIR;

/// Error numbers of Linux.
mod errno {
    pub const NOENT: i32 = 2;
    pub const IO: i32 = 5;
    pub const INVAL: i32 = 22;
    pub const ROFS: i32 = 30;
    pub const RANGE: i32 = 34;
    pub const NOSYS: i32 = 38;
    pub const NODATA: i32 = 61;
}

/// Most bytes of one read; told to the kernel as a number of its pages.
const MOST: usize = 1 << 20;

/// The answering side of a mounted tree.
pub struct Answers {
    pub(super) tree: Tree,
    /// Owner shown for everything: ids other than the caller's mean nothing in its user namespace.
    owner: (u32, u32),
    xattrs: bool,
    no_open: std::sync::atomic::AtomicBool,
    no_opendir: std::sync::atomic::AtomicBool,
    /// What will be asked next.
    pub(super) ahead: Ahead,
}

/// What to do with a reply.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verdict {
    /// Send it with this error number (0: none).
    Send(i32),
    /// The kernel expects none.
    Silent,
    /// The file system is gone.
    End,
}

type Outcome = Result<(), i32>;

impl Answers {
    /// Serves `tree` with everything owned by `owner` (uid, gid).
    pub fn new(tree: Tree, owner: (u32, u32)) -> Answers {
        let xattrs = tree.has_xattrs();
        Answers { tree, owner, xattrs, no_open: false.into(), no_opendir: false.into(), ahead: Ahead::default() }
    }

    /// Whether answering may take long enough for another thread to be useful meanwhile.
    pub fn is_slow(request: &Request) -> bool {
        matches!(request.opcode, op::READ | op::READDIR | op::READDIRPLUS)
    }

    /// Thinks about what follows a request, once it is answered. True asks the caller for a thread that does
    /// [`Answers::look_ahead`].
    pub fn afterwards(&self, request: &Request) -> bool {
        request.opcode == op::READ && request.fields().u64(8) == Some(0) && self.ahead.note(request.node)
    }

    /// Unpacks what will be asked for, until there is nothing more to be asked.
    pub fn look_ahead(&self) {
        self.ahead.prepare(&self.tree);
    }

    /// Prepares all that waits for it, in this thread.
    #[cfg(test)]
    pub(super) fn prepare_all(&self) {
        self.ahead.prepare_all(&self.tree);
    }

    /// Puts the answer to a request into `reply`.
    pub fn answer(&self, request: &Request, reply: &mut Reply) -> Verdict {
        let outcome = match request.opcode {
            op::FORGET | op::BATCH_FORGET => return Verdict::Silent,
            op::DESTROY => return Verdict::End,
            op::INIT => self.init(request, reply),
            op::LOOKUP => self.lookup(request, reply),
            op::GETATTR => self.attr(request.node).map(|attr| reply.attr_out(&attr)),
            op::READLINK => self.tree.readlink(request.node).map(|target| reply.bytes(&target)).map_err(failed),
            op::OPEN => opened(&self.no_open, open::KEEP_CACHE, reply),
            op::OPENDIR => opened(&self.no_opendir, open::KEEP_CACHE | open::CACHE_DIR, reply),
            op::RELEASE | op::RELEASEDIR => Ok(()),
            op::READ => self.read(request, reply),
            op::READDIR => self.readdir(request, reply, false),
            op::READDIRPLUS => self.readdir(request, reply, true),
            op::STATFS => self.statfs(reply),
            op::GETXATTR if self.xattrs => self.getxattr(request, reply),
            op::LISTXATTR if self.xattrs => self.listxattr(request, reply),
            op::SETATTR
            | op::SYMLINK
            | op::MKNOD
            | op::MKDIR
            | op::UNLINK
            | op::RMDIR
            | op::RENAME
            | op::LINK
            | op::WRITE
            | op::SETXATTR
            | op::REMOVEXATTR
            | op::CREATE
            | op::FALLOCATE
            | op::RENAME2 => Err(errno::ROFS),
            // ACCESS too: the kernel checks permissions itself. INTERRUPT too: no answer takes long. Once told, it
            // does not ask again.
            _ => Err(errno::NOSYS),
        };
        Verdict::Send(outcome.err().unwrap_or(0))
    }

    fn init(&self, request: &Request, reply: &mut Reply) -> Outcome {
        use std::sync::atomic::Ordering::Relaxed;
        let fields = request.fields();
        let number = |at| fields.u32(at).ok_or(errno::INVAL);
        let (major, minor, readahead, offered) = (number(0)?, number(4)?, number(8)?, number(12)?);
        if major > VERSION.0 {
            // The kernel then asks again in our version.
            reply.init_out(VERSION.1, 0, 0, 1);
            return Ok(());
        }
        let wanted = init::ASYNC_READ
            | init::DO_READDIRPLUS
            | init::READDIRPLUS_AUTO
            | init::NO_OPEN_SUPPORT
            | init::PARALLEL_DIROPS
            | init::MAX_PAGES
            | init::CACHE_SYMLINKS
            | init::NO_OPENDIR_SUPPORT;
        self.no_open.store(offered & init::NO_OPEN_SUPPORT != 0, Relaxed);
        self.no_opendir.store(offered & init::NO_OPENDIR_SUPPORT != 0, Relaxed);
        let pages = u16::try_from(MOST / crate::sys::host::page_size()).unwrap_or(1).max(1);
        reply.init_out(minor.min(VERSION.1), readahead, offered & wanted, pages);
        Ok(())
    }

    fn attr(&self, node: u64) -> Result<Attr, i32> {
        let attr = self.tree.attr(node).map_err(failed)?;
        let (uid, gid) = self.owner;
        let (ino, mode, rdev) = (self.tree.number(node), attr.mode, attr.rdev);
        Ok(Attr { ino, size: attr.size, mtime: attr.mtime, mode, nlink: attr.nlink, uid, gid, rdev })
    }

    fn lookup(&self, request: &Request, reply: &mut Reply) -> Outcome {
        let name = request.name(0).ok_or(errno::INVAL)?;
        match self.tree.lookup(request.node, name).map_err(failed)? {
            Some(node) => reply.entry_out(node, &self.attr(node)?),
            None => reply.entry_out(0, &Attr::default()),
        }
        Ok(())
    }

    fn read(&self, request: &Request, reply: &mut Reply) -> Outcome {
        let fields = request.fields();
        let (Some(offset), Some(size)) = (fields.u64(8), fields.u32(16)) else { return Err(errno::INVAL) };
        let space = reply.space((size as usize).min(MOST));
        let length = self.tree.read(request.node, offset, space).map_err(failed)?;
        reply.cut(length);
        Ok(())
    }

    fn readdir(&self, request: &Request, reply: &mut Reply, plus: bool) -> Outcome {
        let fields = request.fields();
        let (Some(offset), Some(size)) = (fields.u64(8), fields.u32(16)) else { return Err(errno::INVAL) };
        let most = (size as usize).min(MOST);
        let listing = self.tree.list(request.node).map_err(failed)?;
        let nothing = Attr::default();
        let own = self.tree.number(request.node);
        for (place, name) in [(0, &b"."[..]), (1, b"..")] {
            let entry = plus.then_some((0, &nothing));
            if offset <= place && !reply.dirent(most, entry, own, place + 1, DIR, name) {
                return Ok(());
            }
        }
        let from = usize::try_from(offset.saturating_sub(2)).unwrap_or(usize::MAX);
        for (place, entry) in listing.iter().enumerate().skip(from) {
            // A damaged inode must not hide its neighbours: node 0 makes the kernel ask again when it is used.
            let attr = if plus { self.attr(entry.node).ok() } else { None };
            let more = plus.then_some(attr.as_ref().map_or((0, &nothing), |attr| (entry.node, attr)));
            let number = attr.map_or_else(|| self.tree.number(entry.node), |attr| attr.ino);
            if !reply.dirent(most, more, number, place as u64 + 3, entry.kind, &entry.name) {
                break;
            }
        }
        Ok(())
    }

    fn statfs(&self, reply: &mut Reply) -> Outcome {
        const BLOCK: u32 = 4096;
        let (bytes, inodes) = self.tree.size();
        // fuse_kstatfs: blocks, bfree, bavail, files, ffree; bsize, namelen, frsize, padding, spare[6].
        reply.u64s(&[bytes.div_ceil(u64::from(BLOCK)), 0, 0, inodes, 0]);
        reply.u32s(&[BLOCK, 255, BLOCK, 0, 0, 0, 0, 0, 0, 0]);
        Ok(())
    }

    fn getxattr(&self, request: &Request, reply: &mut Reply) -> Outcome {
        let name = request.name(8).ok_or(errno::INVAL)?;
        let found = self.tree.xattrs(request.node).map_err(failed)?;
        let (_, value) = found.iter().find(|(other, _)| other == name).ok_or(errno::NODATA)?;
        sized(request, reply, value)
    }

    fn listxattr(&self, request: &Request, reply: &mut Reply) -> Outcome {
        let mut names = Vec::new();
        for (name, _) in self.tree.xattrs(request.node).map_err(failed)? {
            names.extend_from_slice(&name);
            names.push(0);
        }
        sized(request, reply, &names)
    }
}

/// With the flag set, ENOSYS tells the kernel never to ask again: it keeps caches and opens by itself.
fn opened(never_again: &std::sync::atomic::AtomicBool, flags: u32, reply: &mut Reply) -> Outcome {
    if never_again.load(std::sync::atomic::Ordering::Relaxed) {
        return Err(errno::NOSYS);
    }
    reply.u64s(&[0]);
    reply.u32s(&[flags, 0]);
    Ok(())
}

/// Xattr answers: the length when the caller offers no room, else the bytes.
fn sized(request: &Request, reply: &mut Reply, bytes: &[u8]) -> Outcome {
    match request.fields().u32(0).ok_or(errno::INVAL)? as usize {
        0 => reply.u32s(&[bytes.len() as u32, 0]),
        room if room < bytes.len() => return Err(errno::RANGE),
        _ => reply.bytes(bytes),
    }
    Ok(())
}

/// A damaged image is an input/output error for whoever reads it, nothing more.
fn failed(error: ImageError) -> i32 {
    match error {
        ImageError::Io { source, .. } if source.kind() == std::io::ErrorKind::NotFound => errno::NOENT,
        _ => errno::IO,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::runtime::tree::ROOT;
    use crate::runtime::tree::memory::Memory;

    fn answers() -> Answers {
        let mut memory = Memory::default();
        memory.file(b"/a", b"content").dir(b"/d").symlink(b"/l", b"a").xattr(b"/x", b"user.k", b"v");
        Answers::new(Tree::new(vec![Box::new(memory)]).unwrap(), (7, 8))
    }

    fn ask(answers: &Answers, opcode: u32, node: u64, body: &[u8]) -> Result<Vec<u8>, i32> {
        let mut reply = Reply::default();
        reply.start();
        match answers.answer(&Request { opcode, unique: 1, node, body }, &mut reply) {
            Verdict::Send(0) => Ok(reply.finish(1, 0)[super::super::abi::OUT_HEADER..].to_vec()),
            Verdict::Send(error) => Err(error),
            other => panic!("{other:?}"),
        }
    }

    fn node(answers: &Answers, name: &[u8]) -> u64 {
        let bytes = ask(answers, op::LOOKUP, ROOT, &[name, b"\0"].concat()).unwrap();
        u64::from_ne_bytes(bytes[..8].try_into().unwrap())
    }

    fn range(offset: u64, size: u32) -> Vec<u8> {
        [&0u64.to_ne_bytes()[..], &offset.to_ne_bytes(), &size.to_ne_bytes(), &[0; 20]].concat()
    }

    #[test]
    fn files_are_read_in_pieces() {
        let answers = answers();
        let file = node(&answers, b"a");
        assert_eq!(ask(&answers, op::READ, file, &range(2, 3)).unwrap(), b"nte");
        assert_eq!(ask(&answers, op::READ, file, &range(5, 4096)).unwrap(), b"nt");
        assert_eq!(ask(&answers, op::READ, file, &range(u64::MAX, 4096)).unwrap(), b"");
        assert_eq!(ask(&answers, op::READLINK, node(&answers, b"l"), b"").unwrap(), b"a");
    }

    #[test]
    fn a_missing_name_is_an_entry_without_a_node() {
        assert_eq!(node(&answers(), b"missing"), 0);
    }

    #[test]
    fn directories_are_listed_from_any_offset() {
        let answers = answers();
        let all = ask(&answers, op::READDIR, ROOT, &range(0, 4096)).unwrap();
        assert_eq!(all.len(), 6 * 32);
        assert_eq!(ask(&answers, op::READDIR, ROOT, &range(4, 4096)).unwrap(), &all[4 * 32..]);
        assert_eq!(ask(&answers, op::READDIR, ROOT, &range(0, 100)).unwrap(), &all[..96]);
        assert_eq!(ask(&answers, op::READDIR, ROOT, &range(6, 4096)).unwrap(), b"");
        assert_eq!(ask(&answers, op::READDIRPLUS, ROOT, &range(0, 4096)).unwrap().len(), 6 * 160);
    }

    #[test]
    fn xattrs_tell_their_size_first() {
        let answers = answers();
        let file = node(&answers, b"x");
        let get = |size: u32, name: &[u8]| {
            let body = [&size.to_ne_bytes()[..], &[0; 4], name, b"\0"].concat();
            ask(&answers, op::GETXATTR, file, &body)
        };
        assert_eq!(get(0, b"user.k").unwrap()[0], 1);
        assert_eq!(get(10, b"user.k").unwrap(), b"v");
        assert_eq!(get(10, b"user.none"), Err(61));
        assert_eq!(ask(&answers, op::LISTXATTR, file, &[99, 0, 0, 0, 0, 0, 0, 0]).unwrap(), b"user.k\0");
        assert_eq!(ask(&answers, op::LISTXATTR, file, &[3, 0, 0, 0, 0, 0, 0, 0]), Err(34));
    }

    #[test]
    fn nothing_can_be_changed_and_nonsense_is_refused() {
        let answers = answers();
        assert_eq!(ask(&answers, op::WRITE, ROOT, b""), Err(30));
        assert_eq!(ask(&answers, op::UNLINK, ROOT, b"a\0"), Err(30));
        assert_eq!(ask(&answers, 4711, ROOT, b""), Err(38));
        assert_eq!(ask(&answers, op::LOOKUP, ROOT, b"no end"), Err(22));
        assert_eq!(ask(&answers, op::READ, ROOT, b"short"), Err(22));
        assert_eq!(ask(&answers, op::GETATTR, 12345, b""), Err(5));
    }

    #[test]
    fn only_offered_features_are_switched_on() {
        let answers = answers();
        assert!(ask(&answers, op::OPEN, ROOT, b"").is_ok(), "before the kernel offers more, open is answered");
        let hello = |flags: u32| [7u32, 40, 131_072, flags].map(u32::to_ne_bytes).concat();
        let bytes = ask(&answers, op::INIT, 0, &hello(init::ASYNC_READ | 1 << 31)).unwrap();
        assert_eq!(bytes[4..16], [31u32, 131_072, init::ASYNC_READ].map(u32::to_ne_bytes).concat());
        ask(&answers, op::INIT, 0, &hello(init::NO_OPEN_SUPPORT)).unwrap();
        assert_eq!(ask(&answers, op::OPEN, ROOT, b""), Err(38));
        assert!(ask(&answers, op::OPENDIR, ROOT, b"").is_ok());
    }
}
