//! The kernel's FUSE protocol as bytes (native byte order). Source: include/uapi/linux/fuse.h; structure names below
//! are those of that file.

/// Protocol version spoken here: major, minor.
pub const VERSION: (u32, u32) = (7, 31);
/// Length of `fuse_in_header`.
pub const IN_HEADER: usize = 40;
/// Length of `fuse_out_header`.
pub const OUT_HEADER: usize = 16;

/// Request codes (`enum fuse_opcode`).
pub mod op {
    #![allow(missing_docs)]
    pub const LOOKUP: u32 = 1;
    pub const FORGET: u32 = 2;
    pub const GETATTR: u32 = 3;
    pub const SETATTR: u32 = 4;
    pub const READLINK: u32 = 5;
    pub const SYMLINK: u32 = 6;
    pub const MKNOD: u32 = 8;
    pub const MKDIR: u32 = 9;
    pub const UNLINK: u32 = 10;
    pub const RMDIR: u32 = 11;
    pub const RENAME: u32 = 12;
    pub const LINK: u32 = 13;
    pub const OPEN: u32 = 14;
    pub const READ: u32 = 15;
    pub const WRITE: u32 = 16;
    pub const STATFS: u32 = 17;
    pub const RELEASE: u32 = 18;
    pub const SETXATTR: u32 = 21;
    pub const GETXATTR: u32 = 22;
    pub const LISTXATTR: u32 = 23;
    pub const REMOVEXATTR: u32 = 24;
    pub const INIT: u32 = 26;
    pub const OPENDIR: u32 = 27;
    pub const READDIR: u32 = 28;
    pub const RELEASEDIR: u32 = 29;
    pub const CREATE: u32 = 35;
    pub const DESTROY: u32 = 38;
    pub const BATCH_FORGET: u32 = 42;
    pub const FALLOCATE: u32 = 43;
    pub const READDIRPLUS: u32 = 44;
    pub const RENAME2: u32 = 45;
}

/// Flags of `fuse_init_in` and `fuse_init_out`.
pub mod init {
    #![allow(missing_docs)]
    pub const ASYNC_READ: u32 = 1;
    pub const DO_READDIRPLUS: u32 = 1 << 13;
    pub const READDIRPLUS_AUTO: u32 = 1 << 14;
    pub const NO_OPEN_SUPPORT: u32 = 1 << 17;
    pub const PARALLEL_DIROPS: u32 = 1 << 18;
    pub const MAX_PAGES: u32 = 1 << 22;
    pub const CACHE_SYMLINKS: u32 = 1 << 23;
    pub const NO_OPENDIR_SUPPORT: u32 = 1 << 24;
}

/// Flags of `fuse_open_out`.
pub mod open {
    #![allow(missing_docs)]
    pub const KEEP_CACHE: u32 = 1 << 1;
    pub const CACHE_DIR: u32 = 1 << 3;
}

/// A request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Request<'a> {
    /// What is asked, one of [`op`].
    pub opcode: u32,
    /// Names the request in its reply.
    pub unique: u64,
    /// The inode it is about.
    pub node: u64,
    /// What follows the header.
    pub body: &'a [u8],
}

impl<'a> Request<'a> {
    /// Reads a request; None when it is shorter than it says.
    pub fn parse(bytes: &'a [u8]) -> Option<Request<'a>> {
        let header = Fields(bytes);
        let length = header.u32(0)? as usize;
        Some(Request {
            opcode: header.u32(4)?,
            unique: header.u64(8)?,
            node: header.u64(16)?,
            body: bytes.get(IN_HEADER..length)?,
        })
    }

    /// The body's fields.
    pub fn fields(&self) -> Fields<'a> {
        Fields(self.body)
    }

    /// The NUL-terminated name that starts `at` bytes into the body.
    pub fn name(&self, at: usize) -> Option<&'a [u8]> {
        let rest = self.body.get(at..)?;
        rest.get(..rest.iter().position(|&byte| byte == 0)?)
    }
}

/// Numbers at given places.
#[derive(Debug, Clone, Copy)]
pub struct Fields<'a>(pub &'a [u8]);

impl Fields<'_> {
    /// 32 bits.
    pub fn u32(&self, at: usize) -> Option<u32> {
        Some(u32::from_ne_bytes(*self.0.get(at..)?.first_chunk()?))
    }

    /// 64 bits.
    pub fn u64(&self, at: usize) -> Option<u64> {
        Some(u64::from_ne_bytes(*self.0.get(at..)?.first_chunk()?))
    }
}

/// `fuse_attr`, in the order of its fields.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
#[allow(missing_docs)]
pub struct Attr {
    pub ino: u64,
    pub size: u64,
    pub mtime: i64,
    pub mode: u32,
    pub nlink: u32,
    pub uid: u32,
    pub gid: u32,
    pub rdev: u32,
}

/// A reply under construction; its buffer is used again and again.
#[derive(Debug, Default)]
pub struct Reply {
    /// Never shortened: what lies behind `length` is left from before.
    bytes: Vec<u8>,
    length: usize,
}

/// How long the kernel may believe an answer: the tree never changes.
const VALID: u64 = 24 * 60 * 60;

impl Reply {
    /// Empties it.
    pub fn start(&mut self) {
        self.length = 0;
        self.space(OUT_HEADER).fill(0);
    }

    /// Writes the header (`fuse_out_header`); `error` is 0 or an error number. Gives the finished reply.
    pub fn finish(&mut self, unique: u64, error: i32) -> &[u8] {
        if error != 0 {
            self.start();
        }
        let length = self.length as u32;
        if let Some(header) = self.bytes.first_chunk_mut::<OUT_HEADER>() {
            header[..4].copy_from_slice(&length.to_ne_bytes());
            header[4..8].copy_from_slice(&(-error).to_ne_bytes());
            header[8..].copy_from_slice(&unique.to_ne_bytes());
        }
        self.bytes.get(..self.length).unwrap_or_default()
    }

    /// Bytes of the body so far.
    pub fn body_len(&self) -> usize {
        self.length.saturating_sub(OUT_HEADER)
    }

    /// Bytes as they are.
    pub fn bytes(&mut self, bytes: &[u8]) {
        self.space(bytes.len()).copy_from_slice(bytes);
    }

    /// 32-bit numbers.
    pub fn u32s(&mut self, numbers: &[u32]) {
        numbers.iter().for_each(|number| self.bytes(&number.to_ne_bytes()));
    }

    /// 64-bit numbers.
    pub fn u64s(&mut self, numbers: &[u64]) {
        numbers.iter().for_each(|number| self.bytes(&number.to_ne_bytes()));
    }

    /// `length` bytes to be filled in place; anything may be in them.
    pub fn space(&mut self, length: usize) -> &mut [u8] {
        let start = self.length;
        self.length += length;
        if self.bytes.len() < self.length {
            self.bytes.resize(self.length, 0);
        }
        &mut self.bytes[start..self.length]
    }

    /// Cuts the body to `length` bytes.
    pub fn cut(&mut self, length: usize) {
        self.length = self.length.min(OUT_HEADER + length);
    }

    /// `fuse_attr`.
    fn attr(&mut self, attr: &Attr) {
        let time = attr.mtime.cast_unsigned();
        self.u64s(&[attr.ino, attr.size, attr.size.div_ceil(512), time, time, time]);
        self.u32s(&[0, 0, 0, attr.mode, attr.nlink, attr.uid, attr.gid, attr.rdev, 4096, 0]);
    }

    /// `fuse_attr_out`.
    pub fn attr_out(&mut self, attr: &Attr) {
        self.u64s(&[VALID, 0]);
        self.attr(attr);
    }

    /// `fuse_entry_out`. Node 0 means "there is no such name", which the kernel remembers too.
    pub fn entry_out(&mut self, node: u64, attr: &Attr) {
        self.u64s(&[node, 0, VALID, VALID, 0]);
        self.attr(attr);
    }

    /// `fuse_init_out`. `max_pages` (of this machine's size) limits one read; nothing is ever written.
    pub fn init_out(&mut self, minor: u32, max_readahead: u32, flags: u32, max_pages: u16) {
        self.u32s(&[VERSION.0, minor, max_readahead, flags]);
        // max_background and congestion_threshold, 16 bits each.
        self.bytes(&64u16.to_ne_bytes());
        self.bytes(&48u16.to_ne_bytes());
        // max_write, time_gran (nanoseconds).
        self.u32s(&[4096, 1_000_000_000]);
        // max_pages, map_alignment.
        self.bytes(&max_pages.to_ne_bytes());
        self.bytes(&0u16.to_ne_bytes());
        self.u32s(&[0; 8]);
    }

    /// `fuse_dirent`, or `fuse_direntplus` when `entry` is given (node 0: not to be remembered). Answers whether it
    /// fitted into `most` bytes of body.
    pub fn dirent(
        &mut self,
        most: usize,
        entry: Option<(u64, &Attr)>,
        ino: u64,
        next: u64,
        kind: u32,
        name: &[u8],
    ) -> bool {
        let head = if entry.is_some() { 128 } else { 0 };
        let length = (head + 24 + name.len()).next_multiple_of(8);
        if self.body_len() + length > most {
            return false;
        }
        let end = self.body_len() + length;
        if let Some((node, attr)) = entry {
            self.entry_out(node, attr);
        }
        self.u64s(&[ino, next]);
        self.u32s(&[name.len() as u32, kind >> 12]);
        self.bytes(name);
        let padding = end.saturating_sub(self.body_len());
        self.space(padding).fill(0);
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn request(opcode: u32, node: u64, body: &[u8]) -> Vec<u8> {
        let mut bytes = ((IN_HEADER + body.len()) as u32).to_ne_bytes().to_vec();
        bytes.extend(opcode.to_ne_bytes());
        bytes.extend(77u64.to_ne_bytes());
        bytes.extend(node.to_ne_bytes());
        bytes.extend([0; 16]);
        bytes.extend(body);
        bytes
    }

    #[test]
    fn requests_are_read() {
        let bytes = request(op::LOOKUP, 5, b"name\0rest\0");
        let parsed = Request::parse(&bytes).unwrap();
        assert_eq!((parsed.opcode, parsed.unique, parsed.node), (op::LOOKUP, 77, 5));
        assert_eq!(parsed.name(0), Some(&b"name"[..]));
        assert_eq!(parsed.name(5), Some(&b"rest"[..]));
        assert_eq!(parsed.name(99), None);
    }

    #[test]
    fn requests_that_lie_about_their_length_are_refused() {
        let good = request(op::READ, 1, &[1; 40]);
        for length in 0..good.len() {
            assert_eq!(Request::parse(&good[..length]), None, "cut to {length}");
        }
        let mut short = good.clone();
        short[..4].copy_from_slice(&10u32.to_ne_bytes());
        assert_eq!(Request::parse(&short), None, "shorter than its header");
        assert_eq!(Request { opcode: 1, unique: 1, node: 1, body: b"no end" }.name(0), None);
    }

    #[test]
    fn replies_have_the_lengths_the_kernel_expects() {
        let mut reply = Reply::default();
        let mut length = |build: &dyn Fn(&mut Reply)| {
            reply.start();
            build(&mut reply);
            reply.finish(1, 0).len() - OUT_HEADER
        };
        assert_eq!(length(&|reply| reply.attr_out(&Attr::default())), 104);
        assert_eq!(length(&|reply| reply.entry_out(2, &Attr::default())), 128);
        assert_eq!(length(&|reply| reply.init_out(31, 0, 0, 256)), 64);
        assert_eq!(length(&|reply| assert!(reply.dirent(100, None, 1, 1, 0o040_000, b"a"))), 32);
        assert_eq!(length(&|reply| assert!(!reply.dirent(31, None, 1, 1, 0o040_000, b"a"))), 0);
        let plus = |reply: &mut Reply| assert!(reply.dirent(160, Some((1, &Attr::default())), 1, 1, 0, b"12345678"));
        assert_eq!(length(&plus), 160);
    }

    #[test]
    fn an_error_carries_no_body() {
        let mut reply = Reply::default();
        reply.start();
        reply.bytes(b"half an answer");
        let bytes = reply.finish(9, 5);
        assert_eq!(bytes.len(), OUT_HEADER);
        assert_eq!(Fields(bytes).u32(4), Some((-5i32).cast_unsigned()));
        assert_eq!(Fields(bytes).u64(8), Some(9));
    }
}
