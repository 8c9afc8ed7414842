//! Who and where this process is: user, host, boot, and tokens nobody else makes.

use std::ffi::OsString;
use std::path::Path;
use std::sync::atomic::{AtomicU64, Ordering};

use super::fs;

/// The host's name without its domain part removed, as `uname -n` gives it.
pub fn hostname() -> String {
    nix::unistd::gethostname().map_or_else(|_| "localhost".into(), |name: OsString| name.to_string_lossy().into_owned())
}

/// The name of the current user, or `uid` as text when no database knows it.
pub fn user() -> String {
    let uid = nix::unistd::geteuid();
    match nix::unistd::User::from_uid(uid) {
        Ok(Some(user)) => user.name,
        _ => uid.to_string(),
    }
}

/// This process' umask in octal digits (proc(5), `Umask`); None where the kernel does not tell.
pub fn umask() -> Option<String> {
    let status = fs::read(Path::new("/proc/self/status")).ok()?;
    let text = String::from_utf8_lossy(&status);
    let umask = text.lines().find_map(|line| line.strip_prefix("Umask:"))?.trim().to_owned();
    umask.bytes().all(|byte| byte.is_ascii_digit()).then_some(umask)
}

/// Sets it, from octal digits; what is no such number changes nothing.
pub fn set_umask(digits: &str) {
    if let Ok(bits) = u32::from_str_radix(digits, 8) {
        nix::sys::stat::umask(nix::sys::stat::Mode::from_bits_truncate(bits & 0o777));
    }
}

/// Effective user and group id.
pub fn ids() -> (u32, u32) {
    (nix::unistd::geteuid().as_raw(), nix::unistd::getegid().as_raw())
}

/// Identifies this boot of this host; empty where the kernel does not tell.
pub fn boot_id() -> String {
    match fs::read(Path::new("/proc/sys/kernel/random/boot_id")) {
        Ok(bytes) => String::from_utf8_lossy(&bytes).trim().to_owned(),
        Err(_) => String::new(),
    }
}

/// Names the process table (PID namespace) in which this process' numbers mean something; empty where unknown.
pub fn process_table() -> String {
    fs::read_link(Path::new("/proc/self/ns/pid"))
        .map_or_else(|_| String::new(), |link| link.to_string_lossy().into_owned())
}

/// The kernel's start time of a process (clock ticks since boot): with the pid it names one process for ever.
/// None when there is no such process or it is a zombie.
pub fn start_time(pid: u32) -> Option<u64> {
    let stat = fs::read(Path::new(&format!("/proc/{pid}/stat"))).ok()?;
    let text = String::from_utf8_lossy(&stat);
    // The command name may hold blanks and brackets; fields are counted after its last `)`.
    let mut fields = text.rsplit_once(')')?.1.split_ascii_whitespace();
    if fields.next()? == "Z" {
        return None;
    }
    fields.nth(18)?.parse().ok()
}

/// A short name part that no other process on any host makes: time, pid, counter and host mixed by SHA-256.
pub fn token() -> String {
    use sha2::{Digest, Sha256};
    static COUNT: AtomicU64 = AtomicU64::new(0);
    let clock = nix::time::clock_gettime(nix::time::ClockId::CLOCK_REALTIME);
    let nanos = clock.map_or((0, 0), |time| (time.tv_sec(), time.tv_nsec()));
    let text = format!(
        "{} {} {nanos:?} {} {}",
        hostname(),
        boot_id(),
        std::process::id(),
        COUNT.fetch_add(1, Ordering::Relaxed)
    );
    Sha256::digest(text.as_bytes()).iter().take(6).map(|byte| format!("{byte:02x}")).collect()
}

/// The user's home directory as the user database has it.
pub fn home_dir() -> Option<std::path::PathBuf> {
    nix::unistd::User::from_uid(nix::unistd::geteuid()).ok().flatten().map(|user| user.dir)
}

/// This machine's platform as OCI names it, as in `linux/amd64`.
pub fn platform() -> String {
    let arch = match std::env::consts::ARCH {
        "x86_64" => "amd64",
        "aarch64" => "arm64",
        "arm" => "arm/v7",
        "powerpc64" => "ppc64le",
        other => other,
    };
    format!("linux/{arch}")
}

/// The kernel's name and release, as `uname -sr` prints them.
pub fn kernel() -> (String, String) {
    nix::sys::utsname::uname().map_or_else(
        |_| ("Linux".into(), "unknown".into()),
        |name| (name.sysname().to_string_lossy().into_owned(), name.release().to_string_lossy().into_owned()),
    )
}

/// Bytes of a memory page.
pub fn page_size() -> usize {
    let size = nix::unistd::sysconf(nix::unistd::SysconfVar::PAGE_SIZE).ok().flatten();
    size.and_then(|size| usize::try_from(size).ok()).filter(|size| *size >= 4096).unwrap_or(4096)
}

/// A number below `below`, by chance: for spreading what many do at once.
pub fn chance(below: u32) -> u32 {
    use std::hash::{BuildHasher, Hasher};
    let hash = std::collections::hash_map::RandomState::new().build_hasher().finish();
    u32::try_from(hash % u64::from(below.max(1))).unwrap_or(0)
}
