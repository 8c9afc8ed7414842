//! Namespaces of one's own, without root: a user namespace in which the caller keeps its ids, and giving up every
//! privilege that came with it.

#![allow(unsafe_code, clippy::disallowed_methods)]

use std::fs;
use std::io;
use std::os::fd::AsRawFd;

use nix::libc;
use nix::sched::{CloneFlags, setns, unshare};
use nix::sys::socket::{AddressFamily, SockFlag, SockType, socket};

use super::subids::{self, Mapped};

/// Something the kernel refused.
#[derive(Debug, thiserror::Error)]
#[error("cannot {what}: {source}")]
pub struct Refusal {
    /// What was tried, as words that fit "cannot …".
    pub what: String,
    /// What the kernel said.
    pub source: io::Error,
}

impl Refusal {
    /// For `map_err`: says what was tried.
    pub fn new<E: Into<io::Error>>(what: impl Into<String>) -> impl FnOnce(E) -> Refusal {
        let what = what.into();
        move |source| Refusal { what, source: source.into() }
    }

    /// The error number, 0 when there is none.
    pub fn errno(&self) -> i32 {
        self.source.raw_os_error().unwrap_or(0)
    }
}

/// Namespaces wanted besides the user and the mount namespace.
#[derive(Debug, Clone, Copy, Default)]
pub struct Kinds {
    /// A process table and System V/POSIX message queues of its own, for children forked from now on.
    pub processes: bool,
    /// A network of its own.
    pub network: bool,
}

/// Moves this single-threaded process into a new user namespace with the same ids and a new mount namespace
/// (which is a copy of the present one that still receives the host's mounts, but sends none).
pub fn enter(kinds: Kinds) -> Result<(), Refusal> {
    enter_as(kinds, super::host::ids())
}

/// As [`enter`], but the user and group are seen inside by these ids: `(0, 0)` makes them look like root. Who has
/// subordinate ids sees them then, too, as the ids from 1 on.
pub fn enter_as(kinds: Kinds, seen: (u32, u32)) -> Result<(), Refusal> {
    let (uid, gid) = super::host::ids();
    let mapper = if seen == (0, 0) && uid != 0 { subids::start() } else { None };
    enter_with(kinds, seen, mapper, (uid, gid))
}

/// Moves this single-threaded process into namespaces of its own in which it is root: of all ids there are for it, which
/// are those of /etc/subuid, for root itself all of them, else only its own. True: it has more than its own.
pub fn enter_as_root(kinds: Kinds) -> Result<bool, Refusal> {
    let own = super::host::ids();
    let mapper = if own.0 == 0 { subids::start_same() } else { subids::start() };
    enter_with(kinds, (0, 0), mapper, own)?;
    let map = fs::read_to_string("/proc/self/uid_map").unwrap_or_default();
    Ok(map.lines().count() > 1 || map.split_ascii_whitespace().nth(2).is_some_and(|count| count != "1"))
}

fn enter_with(
    kinds: Kinds,
    seen: (u32, u32),
    mapper: Option<subids::Mapper>,
    (uid, gid): (u32, u32),
) -> Result<(), Refusal> {
    let mut flags = CloneFlags::CLONE_NEWUSER | CloneFlags::CLONE_NEWNS;
    if kinds.processes {
        flags |= CloneFlags::CLONE_NEWPID | CloneFlags::CLONE_NEWIPC;
    }
    if kinds.network {
        flags |= CloneFlags::CLONE_NEWNET;
    }
    let entered = unshare(flags);
    let mapped = mapper.map_or(Mapped::None, |mapper| mapper.finish(entered.is_ok()));
    entered.map_err(Refusal::new("create a user namespace"))?;
    match mapped {
        Mapped::None => map_own((uid, gid), seen)?,
        Mapped::All => {}
        Mapped::Half => {
            let source = io::Error::other("newgidmap did, newuidmap did not");
            return Err(Refusal { what: "map subordinate ids into the user namespace".into(), source });
        }
    }
    if kinds.network {
        loopback_up().map_err(Refusal::new("bring the loopback interface up"))?;
    }
    Ok(())
}

/// Maps the caller's own ids, which needs no privilege.
fn map_own((uid, gid): (u32, u32), seen: (u32, u32)) -> Result<(), Refusal> {
    // Without "deny" an unprivileged process may not map its group (user_namespaces(7)).
    match fs::write("/proc/self/setgroups", "deny") {
        Err(error) if error.kind() != io::ErrorKind::NotFound => {
            return Err(Refusal::new("give up setgroups in the user namespace")(error));
        }
        _ => {}
    }
    fs::write("/proc/self/uid_map", format!("{} {uid} 1\n", seen.0))
        .map_err(Refusal::new("map the user id into the user namespace"))?;
    fs::write("/proc/self/gid_map", format!("{} {gid} 1\n", seen.1))
        .map_err(Refusal::new("map the group id into the user namespace"))
}

/// Moves this single-threaded process into the user and the mount namespace that these files (of `/proc/PID/ns`) stand
/// for. Only whoever made the user namespace may do that. The working directory is the root afterwards. False: it may
/// not, and nothing has happened.
pub fn try_join(user: &fs::File, mounts: &fs::File) -> Result<bool, Refusal> {
    if setns(user, CloneFlags::CLONE_NEWUSER).is_err() {
        return Ok(false);
    }
    join_mounts(mounts).map(|()| true)
}

/// [`try_join`] where nothing else will do.
pub fn join(user: &fs::File, mounts: &fs::File) -> Result<(), Refusal> {
    setns(user, CloneFlags::CLONE_NEWUSER).map_err(Refusal::new("join the user namespace of a running session"))?;
    join_mounts(mounts)
}

/// Gives this process a copy of its mount namespace; the working directory stays the same place in the copy.
pub fn own_mounts() -> Result<(), Refusal> {
    unshare(CloneFlags::CLONE_NEWNS).map_err(Refusal::new("create a mount namespace"))
}

/// Moves this process into the mount namespace that this file (`/proc/PID/ns/mnt`) stands for; only root may.
pub fn join_mounts(mounts: &fs::File) -> Result<(), Refusal> {
    setns(mounts, CloneFlags::CLONE_NEWNS).map_err(Refusal::new("join a mount namespace"))
}

/// Whether a namespace (a file of `/proc/PID/ns`) belongs to this user namespace (another one), by ioctl_ns(2).
pub fn is_owner(user: &fs::File, other: &fs::File) -> bool {
    use std::os::fd::FromRawFd;
    use std::os::unix::fs::MetadataExt;
    /// `_IO(0xb7, 1)`, Linux 4.9.
    const NS_GET_USERNS: libc::c_ulong = 0xb701;
    // SAFETY: takes no argument; the descriptor is open.
    let number = unsafe { libc::ioctl(other.as_raw_fd(), NS_GET_USERNS as _) };
    if number < 0 {
        return false;
    }
    // SAFETY: the kernel has just made this descriptor for us; nobody else owns it.
    let owner = unsafe { fs::File::from_raw_fd(number) };
    match (user.metadata(), owner.metadata()) {
        (Ok(user), Ok(owner)) => (user.dev(), user.ino()) == (owner.dev(), owner.ino()),
        _ => false,
    }
}

/// Brings `lo` up; the kernel then gives it 127.0.0.1 by itself.
fn loopback_up() -> io::Result<()> {
    let socket = socket(AddressFamily::Inet, SockType::Datagram, SockFlag::SOCK_CLOEXEC, None)?;
    // SAFETY: ifreq is plain data for which all zeroes is a valid value.
    let mut request: libc::ifreq = unsafe { std::mem::zeroed() };
    for (to, from) in request.ifr_name.iter_mut().zip(b"lo") {
        *to = *from as libc::c_char;
    }
    request.ifr_ifru.ifru_flags = (libc::IFF_UP | libc::IFF_RUNNING) as libc::c_short;
    // SAFETY: SIOCSIFFLAGS reads one ifreq, which lives until the call returns; the descriptor is open.
    let result = unsafe { libc::ioctl(socket.as_raw_fd(), libc::SIOCSIFFLAGS as _, &raw const request) };
    if result < 0 { Err(io::Error::last_os_error()) } else { Ok(()) }
}

/// Other processes of the same user neither look into this one nor take its open files, its root or its program through
/// `/proc`, until it becomes another program: only CAP_SYS_PTRACE lets them (ptrace(2)).
pub fn keep_to_oneself() -> Result<(), Refusal> {
    nix::sys::prctl::set_dumpable(false).map_err(Refusal::new("close a process to others"))
}

/// Programs that this process becomes, and all they start, never get CAP_SYS_PTRACE here: they look into nothing that
/// keeps to itself.
pub fn never_look_into_others() -> Result<(), Refusal> {
    const CAP_SYS_PTRACE: libc::c_ulong = 19;
    // SAFETY: changes one bit of this process's bounding set and takes no memory.
    if unsafe { libc::prctl(libc::PR_CAPBSET_DROP, CAP_SYS_PTRACE, 0, 0, 0) } < 0 {
        return Err(Refusal::new("give up looking into processes")(io::Error::last_os_error()));
    }
    Ok(())
}

/// The children of this process get a process table of their own, the first of them rules it.
pub fn own_processes() -> Result<(), Refusal> {
    unshare(CloneFlags::CLONE_NEWPID).map_err(Refusal::new("create a process table"))
}

/// No program started from now on gains privileges, whatever its set-user-id bits or file capabilities say.
pub fn no_new_privileges() -> Result<(), Refusal> {
    nix::sys::prctl::set_no_new_privs().map_err(Refusal::new("give up new privileges"))
}

/// Gives up every capability for good: bounding, ambient, effective, permitted and inheritable set.
/// The bounding set stays as it is when the caller may not change it (it has no capability to begin with then).
pub fn drop_capabilities() -> Result<(), Refusal> {
    for capability in 0..64 {
        // SAFETY: PR_CAPBSET_DROP takes one number and touches no memory.
        if unsafe { libc::prctl(libc::PR_CAPBSET_DROP, capability as libc::c_ulong, 0, 0, 0) } < 0 {
            break;
        }
    }
    // SAFETY: takes numbers only. Fails before Linux 4.3, where there are no ambient capabilities.
    unsafe { libc::prctl(libc::PR_CAP_AMBIENT, libc::PR_CAP_AMBIENT_CLEAR_ALL as libc::c_ulong, 0, 0, 0) };

    // Effective, permitted and inheritable: none.
    set_capabilities([0; 6]).map_err(Refusal::new("drop capabilities"))
}

/// capset(2) with version 3 of its structures: a header and two words for each of the three sets, interleaved
/// (effective, permitted, inheritable of the lower 32, then of the upper).
fn set_capabilities(sets: [u32; 6]) -> io::Result<()> {
    #[repr(C)]
    struct Header {
        version: u32,
        pid: libc::c_int,
    }
    let header = Header { version: 0x2008_0522, pid: 0 };
    // SAFETY: both pointers are to live memory of the sizes version 3 prescribes; the kernel only reads the sets.
    let result = unsafe { libc::syscall(libc::SYS_capset, &raw const header, sets.as_ptr()) };
    if result < 0 { Err(io::Error::last_os_error()) } else { Ok(()) }
}

/// Keeps CAP_SYS_ADMIN (of this user namespace) across execve, for a file system server that mounts by itself.
/// Makes only async-signal-safe system calls, so that it can run between fork and exec.
pub fn keep_mounting() -> io::Result<()> {
    const SYS_ADMIN: u32 = 21;
    let bit = 1 << SYS_ADMIN;
    set_capabilities([bit, bit, bit, 0, 0, 0])?;
    let (raise, capability) = (libc::PR_CAP_AMBIENT_RAISE as libc::c_ulong, libc::c_ulong::from(SYS_ADMIN));
    // SAFETY: takes numbers only.
    let result = unsafe { libc::prctl(libc::PR_CAP_AMBIENT, raise, capability, 0, 0) };
    if result < 0 { Err(io::Error::last_os_error()) } else { Ok(()) }
}

/// How many threads this process has; 0 when the kernel does not tell.
pub fn threads() -> usize {
    let Ok(stat) = fs::read_to_string("/proc/self/stat") else { return 0 };
    // Field 20, counted after the program's name in brackets (which may hold anything).
    stat.rsplit_once(')').and_then(|(_, rest)| rest.split_ascii_whitespace().nth(17)?.parse().ok()).unwrap_or(0)
}
