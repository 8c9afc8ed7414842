//! File operations whose errors say what was tried and on which path.

#![allow(clippy::disallowed_methods)]

use std::fs::{self, File, Metadata, OpenOptions};
use std::io::{self, Read, Write};
use std::os::unix::fs::{DirBuilderExt, FileExt, MetadataExt, OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};

/// An operation on a path that failed.
#[derive(Debug, thiserror::Error)]
#[error("cannot {op} {}: {source}", path.display())]
pub struct PathError {
    /// What was tried, as a verb that fits "cannot …".
    pub op: &'static str,
    /// On what.
    pub path: PathBuf,
    /// What the kernel said.
    pub source: io::Error,
}

impl PathError {
    /// For `map_err`: names the operation and the path.
    pub fn new(op: &'static str, path: impl Into<PathBuf>) -> impl FnOnce(io::Error) -> PathError {
        let path = path.into();
        move |source| PathError { op, path, source }
    }

    /// Whether the path is simply not there (or a part of it is no directory).
    pub fn is_not_found(&self) -> bool {
        matches!(self.source.kind(), io::ErrorKind::NotFound | io::ErrorKind::NotADirectory)
    }

    /// Whether the permissions do not allow it.
    pub fn is_denied(&self) -> bool {
        self.source.kind() == io::ErrorKind::PermissionDenied
    }

    /// Whether something of this name is there already.
    pub fn is_taken(&self) -> bool {
        self.source.kind() == io::ErrorKind::AlreadyExists
    }

    /// Whether the file system or the quota is full.
    pub fn is_full(&self) -> bool {
        is_full(&self.source)
    }
}

/// Whether an I/O error says that a file system or a quota is full.
pub fn is_full(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded)
}

/// Result of a file operation.
pub type Result<T, E = PathError> = std::result::Result<T, E>;

/// Opens for reading.
pub fn open(path: &Path) -> Result<File> {
    File::open(path).map_err(PathError::new("open", path))
}

/// Opens for reading and writing.
pub fn open_rw(path: &Path) -> Result<File> {
    OpenOptions::new().read(true).write(true).open(path).map_err(PathError::new("open for writing", path))
}

/// Creates a file that must not exist yet, readable and writable here, with these permission bits (before the umask).
pub fn create_new(path: &Path, mode: u32) -> Result<File> {
    OpenOptions::new()
        .read(true)
        .write(true)
        .create_new(true)
        .mode(mode)
        .open(path)
        .map_err(PathError::new("create", path))
}

/// A new file without a name, readable and writable by this process only, which goes when it is closed.
pub fn unnamed_file(dir: &Path) -> Result<File> {
    let open = OpenOptions::new().read(true).write(true).custom_flags(nix::libc::O_TMPFILE).mode(0o600).open(dir);
    // Not every file system makes one without a name.
    open.or_else(|_| {
        let path = dir.join(format!(".ovl-{}.tmp", super::host::token()));
        let file = create_new(&path, 0o600)?;
        fs::remove_file(&path).map_err(PathError::new("remove", &path))?;
        Ok(file)
    })
}

/// Opens for appending, created when missing.
pub fn append(path: &Path) -> Result<File> {
    OpenOptions::new().append(true).create(true).open(path).map_err(PathError::new("append to", path))
}

/// The whole content.
pub fn read(path: &Path) -> Result<Vec<u8>> {
    fs::read(path).map_err(PathError::new("read", path))
}

/// What a file holds from `offset` on.
pub fn read_from(path: &Path, offset: u64) -> Result<Vec<u8>> {
    use std::io::{Seek, SeekFrom};
    let mut file = open(path)?;
    let mut bytes = Vec::new();
    let read = file.seek(SeekFrom::Start(offset)).and_then(|_| file.read_to_end(&mut bytes));
    read.map_err(PathError::new("read", path))?;
    Ok(bytes)
}

/// The first bytes, at most so many.
pub fn read_start(path: &Path, most: usize) -> Result<Vec<u8>> {
    let mut bytes = Vec::new();
    let file = open(path)?;
    file.take(most as u64).read_to_end(&mut bytes).map_err(PathError::new("read", path))?;
    Ok(bytes)
}

/// The whole content, or nothing when there is no such file.
pub fn read_if_exists(path: &Path) -> Result<Option<Vec<u8>>> {
    match read(path) {
        Ok(bytes) => Ok(Some(bytes)),
        Err(error) if error.is_not_found() => Ok(None),
        Err(error) => Err(error),
    }
}

/// Writes a whole file: a new file beside it, flushed to disk, renamed over.
pub fn write_atomic(path: &Path, bytes: &[u8], mode: u32) -> Result<()> {
    put(path, bytes, mode, true)
}

/// Writes a whole file as [`write_atomic`] does, but does not wait for the disk: for files that a power cut may take.
pub fn write_quick(path: &Path, bytes: &[u8], mode: u32) -> Result<()> {
    put(path, bytes, mode, false)
}

fn put(path: &Path, bytes: &[u8], mode: u32, flush: bool) -> Result<()> {
    let temp = sibling(path, &format!(".{}.tmp", super::host::token()));
    let written = create_new(&temp, mode).and_then(|mut file| {
        file.write_all(bytes)
            .and_then(|()| if flush { file.sync_all() } else { Ok(()) })
            .map_err(PathError::new("write", &temp))?;
        rename(&temp, path)
    });
    // The passing name means nothing to whoever reads the message.
    written.map_err(|error| {
        let _ = fs::remove_file(&temp);
        PathError { path: path.to_owned(), ..error }
    })
}

/// `path` with `suffix` appended to a hidden form of its file name, in the same directory.
pub fn sibling(path: &Path, suffix: &str) -> PathBuf {
    let name = path.file_name().unwrap_or_default().to_string_lossy();
    path.with_file_name(format!(".{name}{suffix}"))
}

/// Renames, replacing what is there.
pub fn rename(from: &Path, to: &Path) -> Result<()> {
    fs::rename(from, to).map_err(PathError::new("rename to", to))
}

/// A second name for a file; fails when `to` exists.
pub fn hard_link(from: &Path, to: &Path) -> Result<()> {
    fs::hard_link(from, to).map_err(PathError::new("link to", to))
}

/// Removes a file; a missing one is fine.
pub fn remove_file(path: &Path) -> Result<()> {
    missing_is_fine(fs::remove_file(path).map_err(PathError::new("remove", path)))
}

/// Removes a tree that may hold directories without write permission; a missing one is fine.
pub fn remove_tree(path: &Path) -> Result<()> {
    if fs::remove_dir_all(path).is_ok() {
        return Ok(());
    }
    unlock_directories(path);
    missing_is_fine(fs::remove_dir_all(path).map_err(PathError::new("remove", path)))
}

fn missing_is_fine(result: Result<()>) -> Result<()> {
    match result {
        Err(error) if error.is_not_found() => Ok(()),
        other => other,
    }
}

/// Programs leave read-only directories behind (Go's module cache does); their owner may open them up again.
fn unlock_directories(path: &Path) {
    let Ok(meta) = fs::symlink_metadata(path) else { return };
    if !meta.is_dir() {
        return;
    }
    let _ = fs::set_permissions(path, fs::Permissions::from_mode(meta.mode() | 0o700));
    if let Ok(entries) = fs::read_dir(path) {
        for entry in entries.flatten() {
            if entry.file_type().is_ok_and(|kind| kind.is_dir()) {
                unlock_directories(&entry.path());
            }
        }
    }
}

/// Makes a directory and its parents.
pub fn create_dirs(path: &Path) -> Result<()> {
    fs::create_dir_all(path).map_err(PathError::new("create directory", path))
}

/// Makes one directory that must not exist, for its owner alone.
pub fn create_private_dir(path: &Path) -> Result<()> {
    fs::DirBuilder::new().mode(0o700).create(path).map_err(PathError::new("create directory", path))
}

/// Makes a symbolic link where nothing is yet.
pub fn symlink(target: &Path, path: &Path) -> Result<()> {
    std::os::unix::fs::symlink(target, path).map_err(PathError::new("make the symbolic link", path))
}

/// Facts of what the path leads to.
pub fn metadata(path: &Path) -> Result<Metadata> {
    fs::metadata(path).map_err(PathError::new("look at", path))
}

/// Facts of the path itself, symbolic links not followed.
pub fn symlink_metadata(path: &Path) -> Result<Metadata> {
    fs::symlink_metadata(path).map_err(PathError::new("look at", path))
}

/// Facts of what the path leads to, or nothing when it is not there.
pub fn metadata_if_exists(path: &Path) -> Result<Option<Metadata>> {
    match metadata(path) {
        Ok(meta) => Ok(Some(meta)),
        Err(error) if error.is_not_found() => Ok(None),
        Err(error) => Err(error),
    }
}

/// Where a symbolic link points.
pub fn read_link(path: &Path) -> Result<PathBuf> {
    fs::read_link(path).map_err(PathError::new("read link", path))
}

/// The names in a directory, sorted by their bytes.
pub fn list(path: &Path) -> Result<Vec<std::ffi::OsString>> {
    let mut names = Vec::new();
    for entry in fs::read_dir(path).map_err(PathError::new("list", path))? {
        names.push(entry.map_err(PathError::new("list", path))?.file_name());
    }
    names.sort();
    Ok(names)
}

/// Like [`list`], but a directory that is not there holds nothing.
pub fn list_if_exists(path: &Path) -> Result<Vec<std::ffi::OsString>> {
    match list(path) {
        Err(error) if error.is_not_found() => Ok(Vec::new()),
        other => other,
    }
}

/// The absolute path without symbolic links; the path must exist.
pub fn canonicalize(path: &Path) -> Result<PathBuf> {
    fs::canonicalize(path).map_err(PathError::new("resolve", path))
}

/// Sets the permission bits.
pub fn set_mode(path: &Path, mode: u32) -> Result<()> {
    fs::set_permissions(path, fs::Permissions::from_mode(mode)).map_err(PathError::new("set permissions of", path))
}

/// Flushes a directory, so that renames and links in it survive a crash.
pub fn sync_dir(path: &Path) -> Result<()> {
    let dir = File::open(path).map_err(PathError::new("open", path))?;
    match dir.sync_all() {
        // Some network and FUSE file systems cannot flush directories; the rename itself stands.
        Err(error)
            if matches!(error.raw_os_error(), Some(nix::libc::EINVAL | nix::libc::EBADF | nix::libc::ENOSYS)) =>
        {
            Ok(())
        }
        result => result.map_err(PathError::new("flush", path)),
    }
}

/// Whether this process may create files in the directory.
pub fn is_writable_dir(path: &Path) -> bool {
    use nix::unistd::{AccessFlags, access};
    path.is_dir() && access(path, AccessFlags::W_OK | AccessFlags::X_OK).is_ok()
}

/// Fails when the directory is there but this user may not list it or go into it.
pub fn may_look_into(path: &Path) -> Result<()> {
    use nix::unistd::{AccessFlags, access};
    match access(path, AccessFlags::R_OK | AccessFlags::X_OK) {
        Err(errno @ nix::errno::Errno::EACCES) => Err(PathError::new("look into", path)(errno.into())),
        _ => Ok(()),
    }
}

/// Bytes that an unprivileged user may still write on the path's file system.
pub fn free_bytes(path: &Path) -> Result<u64> {
    fs2::available_space(path).map_err(PathError::new("measure", path))
}

/// Free and total inodes of the path's file system; total 0 means that it has no fixed number.
pub fn inodes(path: &Path) -> Result<(u64, u64)> {
    let stat = nix::sys::statvfs::statvfs(path).map_err(|errno| PathError::new("measure", path)(errno.into()))?;
    Ok((stat.files_available(), stat.files()))
}

/// Takes room on disk for so many bytes of a file.
pub fn allocate(file: &File, bytes: u64) -> io::Result<()> {
    let length = i64::try_from(bytes).map_err(|_| io::Error::from_raw_os_error(nix::libc::EFBIG))?;
    Ok(nix::fcntl::posix_fallocate(file, 0, length)?)
}

/// Whether programs on the path's file system cannot be run (mounted `noexec`).
pub fn is_noexec(path: &Path) -> bool {
    use nix::sys::statvfs::{FsFlags, statvfs};
    statvfs(path).is_ok_and(|stat| stat.flags().contains(FsFlags::ST_NOEXEC))
}

/// Sets the modification time (and that of the last access) in seconds since 1970; a symbolic link's own.
pub fn set_mtime(path: &Path, seconds: i64) -> Result<()> {
    use nix::sys::stat::{UtimensatFlags, utimensat};
    let time = nix::sys::time::TimeSpec::new(seconds, 0);
    utimensat(nix::fcntl::AT_FDCWD, path, &time, &time, UtimensatFlags::NoFollowSymlink)
        .map_err(|errno| PathError::new("set the time of", path)(errno.into()))
}

/// Sets a file's modification time to the file server's now.
pub fn touch(path: &Path) -> Result<()> {
    use nix::sys::stat::{UtimensatFlags, utimensat};
    use nix::sys::time::TimeSpec;
    let now = TimeSpec::UTIME_NOW;
    utimensat(nix::fcntl::AT_FDCWD, path, &now, &now, UtimensatFlags::FollowSymlink)
        .map_err(|errno| PathError::new("touch", path)(errno.into()))
}

/// The name of a network or cluster file system, when `path` lies on one. Numbers: statfs(2) and the file systems'
/// own headers.
pub fn network_fs(path: &Path) -> Option<&'static str> {
    const KNOWN: [(i64, &str); 11] = [
        (0x6969, "NFS"),
        (0x0BD0_0BD0, "Lustre"),
        (0x4750_4653, "GPFS"),
        (0x1983_0326, "BeeGFS"),
        (0x00C3_6400, "Ceph"),
        (0xAAD7_AAEA, "PanFS"),
        (0xFF53_4D42, "CIFS"),
        (0xFE53_4D42, "SMB2"),
        (0x5346_414F, "AFS"),
        (0x0102_1997, "9P"),
        (0x2003_0528, "OrangeFS"),
    ];
    let kind = nix::sys::statfs::statfs(path).ok()?.filesystem_type().0 as i64 & 0xFFFF_FFFF;
    KNOWN.iter().find(|(number, _)| *number == kind).map(|(_, name)| *name)
}

/// The file server's idea of now, told by a file made in `dir` for the purpose; this host's where none can be made.
pub fn server_now(dir: &Path) -> std::time::SystemTime {
    use nix::libc::O_TMPFILE;
    let made = |file: File| file.metadata().ok()?.modified().ok();
    // A file without a name leaves nothing behind, whenever this process is killed; not every file system makes one.
    if let Ok(file) = OpenOptions::new().write(true).custom_flags(O_TMPFILE).mode(0o600).open(dir) {
        return made(file).unwrap_or_else(std::time::SystemTime::now);
    }
    let probe = dir.join(format!(".clock.{}.tmp", super::host::token()));
    let time = create_new(&probe, 0o600).ok().and_then(made);
    let _ = fs::remove_file(&probe);
    time.unwrap_or_else(std::time::SystemTime::now)
}

/// Tells the kernel that this part of a file will be read soon. It may do nothing about it.
pub fn will_read(file: &File, at: u64, length: u64) {
    use nix::fcntl::{PosixFadviseAdvice, posix_fadvise};
    if let (Ok(at), Ok(length)) = (at.try_into(), length.try_into()) {
        let _ = posix_fadvise(file, at, length, PosixFadviseAdvice::POSIX_FADV_WILLNEED);
    }
}
/// What file systems give out space in, usually; zeroes of this length and alignment become holes.
pub const BLOCK: usize = 4096;

/// Writes what is not zero of a piece that belongs at `at`, a multiple of [`BLOCK`], into a file that is empty there.
pub fn write_sparse(file: &File, piece: &[u8], at: u64) -> io::Result<()> {
    let (mut place, mut run) = (0, 0..0);
    for block in piece.chunks(BLOCK) {
        let end = place + block.len();
        if block.iter().any(|&byte| byte != 0) {
            run = if run.end == place { run.start..end } else { place..end };
        } else {
            file.write_all_at(piece.get(run.clone()).unwrap_or_default(), at + run.start as u64)?;
            run = end..end;
        }
        place = end;
    }
    file.write_all_at(piece.get(run.clone()).unwrap_or_default(), at + run.start as u64)
}
