//! Subordinate ids: those that /etc/subuid and /etc/subgid give a user beside their own (subuid(5)), mapped into a user
//! namespace by newuidmap(1) and newgidmap(1), which may do what the user may not.

#![allow(clippy::disallowed_methods)]

use std::fs;
use std::io::{self, PipeReader, PipeWriter, Read};
use std::path::PathBuf;
use std::process::{Command, Stdio};

use nix::unistd::Pid;

use super::fork::{self, Ended, Side};
use super::{host, process};

/// Ids from this one on, and how many.
type Range = (u32, u32);

/// A process outside of the namespace that will have the ids mapped.
pub struct Mapper {
    child: Pid,
    go: PipeWriter,
}

/// What became of the ids.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Mapped {
    /// All are mapped.
    All,
    /// None is: the caller may still map its own.
    None,
    /// Only the groups are: nothing more can be done.
    Half,
}

/// As [`start`], but for root itself: all ids of this namespace are mapped to themselves.
pub fn start_same() -> Option<Mapper> {
    let same = |path: &str| -> Option<String> {
        let text = fs::read_to_string(path).ok()?;
        let lines = text.lines().filter_map(|line| {
            let mut numbers = line.split_ascii_whitespace();
            let (first, count) = (numbers.next()?, numbers.nth(1)?);
            Some(format!("{first} {first} {count}\n"))
        });
        Some(lines.collect())
    };
    let (users, groups) = (same("/proc/self/uid_map")?, same("/proc/self/gid_map")?);
    let target = std::process::id();
    let (wait, go) = io::pipe().ok()?;
    match fork::fork().ok()? {
        Side::Parent(child) => Some(Mapper { child, go }),
        Side::Child => {
            drop(go);
            let write = |file: &str, text: &str| fs::write(format!("/proc/{target}/{file}"), text).is_ok();
            let ended = match told(wait) && write("gid_map", &groups) {
                false => 1,
                true if write("uid_map", &users) => 0,
                true => 2,
            };
            fork::end_now(ended)
        }
    }
}

/// Starts the process, before the namespace is entered. None: the user has no such ids, or nobody can map them.
pub fn start() -> Option<Mapper> {
    let (uid, gid) = host::ids();
    let user = host::user();
    let range = |path: &str, id: u32| parse(&fs::read_to_string(path).ok()?, &user, id);
    let (users, groups) = (range("/etc/subuid", uid)?, range("/etc/subgid", uid)?);
    let (newuidmap, newgidmap) = (process::find("newuidmap")?, process::find("newgidmap")?);
    let target = std::process::id();
    let (wait, go) = io::pipe().ok()?;
    match fork::fork().ok()? {
        Side::Parent(child) => Some(Mapper { child, go }),
        Side::Child => {
            drop(go);
            // Groups first: they are mapped with or without setgroups(2), users always.
            let ended = if !told(wait) || !map(&newgidmap, target, gid, groups) {
                1
            } else if map(&newuidmap, target, uid, users) {
                0
            } else {
                2
            };
            fork::end_now(ended)
        }
    }
}

impl Mapper {
    /// Has the ids mapped: the caller's own to 0, the others from 1 on. The caller is in its new namespace, or (not
    /// `entered`) could not get there: then the process is only ended.
    pub fn finish(self, entered: bool) -> Mapped {
        use std::io::Write;
        let Mapper { child, mut go } = self;
        let _ = entered.then(|| go.write_all(b"g"));
        drop(go);
        match fork::wait(child) {
            Ok(Ended::Code(0)) => Mapped::All,
            Ok(Ended::Code(1)) => Mapped::None,
            _ => Mapped::Half,
        }
    }
}

/// Waits for the word; none comes from a caller that has given up.
fn told(mut wait: PipeReader) -> bool {
    wait.read_exact(&mut [0]).is_ok()
}

fn map(program: &PathBuf, target: u32, own: u32, (first, count): Range) -> bool {
    let numbers = [target, 0, own, 1, 1, first, count].map(|number| number.to_string());
    let mut command = Command::new(program);
    command.args(numbers).stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
    command.status().is_ok_and(|status| status.success())
}

/// The first range of a user, who is named or numbered: `USER:FIRST:COUNT`.
fn parse(text: &str, user: &str, id: u32) -> Option<Range> {
    text.lines().find_map(|line| {
        let mut parts = line.split(':');
        let (who, first, count) = (parts.next()?, parts.next()?, parts.next()?);
        if who != user && who != id.to_string() {
            return None;
        }
        let (first, count) = (first.parse::<u32>().ok()?, count.trim().parse::<u32>().ok()?);
        (count > 0 && first.checked_add(count).is_some()).then_some((first, count))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ranges_are_found_by_name_and_number() {
        let text = "root:1:2\n# odd\nova:x:1\nova:100000:65536\n1001:200000:10\nmax:4294967295:9\nnone:5:0\n";
        assert_eq!(parse(text, "ova", 7), Some((100_000, 65536)));
        assert_eq!(parse(text, "other", 1001), Some((200_000, 10)));
        for none in ["nobody", "max", "none", "ov"] {
            assert_eq!(parse(text, none, 7), None, "{none}");
        }
    }
}
