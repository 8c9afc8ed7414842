//! Memory of this process and what it starts, from its control group (versions 1 and 2) and from wait4(2)'s sums.

use std::path::PathBuf;

use super::fs;

/// The memory of this process' control group, watched from some moment on.
#[derive(Debug, Default)]
pub struct Memory {
    dir: Option<PathBuf>,
    second: bool,
    kills: u64,
}

impl Memory {
    /// Begins to watch. Without a readable control group only the children's own peak is known.
    pub fn watch() -> Memory {
        let mut memory = find().unwrap_or_default();
        memory.kills = memory.killed();
        memory
    }

    fn number(&self, file: &str) -> Option<u64> {
        let text = fs::read(&self.dir.as_ref()?.join(file)).ok()?;
        String::from_utf8_lossy(&text).trim().parse().ok()
    }

    /// The limit in bytes, if there is one.
    pub fn limit(&self) -> Option<u64> {
        let limit = self.number(if self.second { "memory.max" } else { "memory.limit_in_bytes" });
        // Version 1 writes "no limit" as a number near 2^63.
        limit.filter(|limit| *limit < 1 << 60)
    }

    /// The highest memory so far in bytes: the group's where that is this job's own, else the largest child's.
    pub fn peak(&self) -> Option<u64> {
        let group = self.number(if self.second { "memory.peak" } else { "memory.max_usage_in_bytes" });
        // A group without a limit is not this job's own: its peak is the whole machine's.
        group.filter(|_| self.limit().is_some()).or_else(children)
    }

    /// Processes of the group killed for memory since the watch began.
    pub fn kills(&self) -> u64 {
        self.killed().saturating_sub(self.kills)
    }

    /// Whether the group has come to within a twentieth of its limit.
    pub fn is_near_limit(&self) -> bool {
        let (Some(limit), Some(peak)) = (self.limit(), self.peak()) else { return false };
        peak >= limit - limit / 20
    }

    fn killed(&self) -> u64 {
        let file = if self.second { "memory.events" } else { "memory.oom_control" };
        let Some(dir) = &self.dir else { return 0 };
        let text = fs::read(&dir.join(file)).unwrap_or_default();
        let text = String::from_utf8_lossy(&text).into_owned();
        let count = text.lines().find_map(|line| line.strip_prefix("oom_kill "));
        count.and_then(|count| count.trim().parse().ok()).unwrap_or(0)
    }
}

/// The control group of this process: the line `0::/path` (version 2) or `N:memory:/path` (version 1), cgroups(7).
fn find() -> Option<Memory> {
    let text = fs::read(std::path::Path::new("/proc/self/cgroup")).ok()?;
    let text = String::from_utf8_lossy(&text).into_owned();
    let mut second = None;
    for line in text.lines() {
        let mut parts = line.splitn(3, ':');
        let (Some(_), Some(controllers), Some(path)) = (parts.next(), parts.next(), parts.next()) else { continue };
        let path = path.trim_start_matches('/');
        if controllers.split(',').any(|name| name == "memory") {
            let dir = PathBuf::from("/sys/fs/cgroup/memory").join(path);
            return Some(Memory { dir: Some(dir), second: false, kills: 0 });
        }
        if controllers.is_empty() {
            second = Some(PathBuf::from("/sys/fs/cgroup").join(path));
        }
    }
    Some(Memory { dir: Some(second?), second: true, kills: 0 })
}

/// Peak of the largest child that has been waited for, in bytes (getrusage(2) counts in KiB).
fn children() -> Option<u64> {
    let usage = nix::sys::resource::getrusage(nix::sys::resource::UsageWho::RUSAGE_CHILDREN).ok()?;
    u64::try_from(usage.max_rss()).ok().map(|kib| kib.saturating_mul(1024)).filter(|bytes| *bytes > 0)
}

/// Memory that this process may use: the machine's, or its control group's limit when that is less.
pub fn usable() -> Option<u64> {
    let text = fs::read(std::path::Path::new("/proc/meminfo")).ok()?;
    let text = String::from_utf8_lossy(&text).into_owned();
    let total = text.lines().find_map(|line| line.strip_prefix("MemTotal:"))?;
    let total: u64 = total.trim().trim_end_matches("kB").trim().parse().ok()?;
    let total = total.saturating_mul(1024);
    Some(find().and_then(|memory| memory.limit()).map_or(total, |limit| limit.min(total)))
}

#[cfg(test)]
mod tests {
    #[test]
    fn this_machine_has_memory() {
        let usable = super::usable().unwrap();
        assert!((64 << 20..1 << 50).contains(&usable), "{usable}");
    }
}
