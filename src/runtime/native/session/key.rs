//! What two commands must have in common to share a root: the files and places they want, and where they come from.

use std::os::unix::fs::MetadataExt;
use std::path::Path;

use crate::exec::{Base, Invocation, Mount, Network};
use crate::sys::{digest, env, fs, host};

/// Variables that say which job, and which step of it, this is: what belongs to another one may be killed with it.
const JOBS: [&str; 8] = [
    "SLURM_JOB_ID",
    "SLURM_STEP_ID",
    "PBS_JOBID",
    "PBS_ARRAY_INDEX",
    "LSB_JOBID",
    "LSB_JOBINDEX",
    "_CONDOR_JOB_AD",
    "JOB_ID",
];

/// The key of the session that fits an invocation; None when it has to be by itself, or cannot be described.
pub fn key(invocation: &Invocation) -> Option<String> {
    let isolation = invocation.isolation;
    // Who is root inside may mount things there, which is nothing for others.
    if isolation.processes || isolation.network != Network::Host || invocation.fakeroot {
        return None;
    }
    let mut text = format!("ovl {} {:?}\n", env!("CARGO_PKG_VERSION"), host::ids());
    for kind in ["user", "mnt", "pid"] {
        text.push_str(&fs::read_link(&Path::new("/proc/self/ns").join(kind)).ok()?.to_string_lossy());
        text.push('\n');
    }
    let group = fs::read(Path::new("/proc/self/cgroup")).unwrap_or_default();
    text.push_str(&scope(&String::from_utf8_lossy(&group)));
    for name in JOBS {
        text.push_str(&format!("{name}={:?}\n", env::var(name)));
    }
    let here = env::current_dir();
    let mut add = |path: &Path, content: bool| {
        let meta = fs::metadata(&here.join(path)).ok()?;
        // A file that was written again, or replaced by another one, is another file.
        let version = if content { (meta.size(), meta.mtime(), meta.mtime_nsec()) } else { (0, 0, 0) };
        text.push_str(&format!("{} {} {} {version:?}\n", here.join(path).display(), meta.dev(), meta.ino()));
        Some(())
    };
    add(Path::new("/"), true)?;
    match &invocation.base {
        Base::Dir(path) | Base::Image(path) => add(path, true)?,
    }
    for layer in &invocation.layers {
        add(layer, true)?;
    }
    for mount in &invocation.mounts {
        if let Mount::Bind { source, .. } = mount {
            add(source, false)?;
        }
    }
    // The command itself, its environment and its directory are each one's own.
    let shared = Invocation { env: Vec::new(), system: None, argv: Vec::new(), cwd: "/".into(), ..invocation.clone() };
    text.push_str(&serde_json::to_string(&shared).ok()?);
    let digest = digest::of(text.as_bytes());
    Some(digest.rsplit(':').next()?.chars().take(40).collect())
}

/// Control groups in which processes end together: all of a step's tasks do (Slurm gives each a group of its own below
/// the step's).
fn scope(text: &str) -> String {
    let mut kept = String::new();
    for line in text.lines() {
        let end = line.find("/task_").unwrap_or(line.len());
        kept.push_str(line.get(..end).unwrap_or(line));
        kept.push('\n');
    }
    kept
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::exec::Isolation;

    #[test]
    fn what_is_each_ones_own_does_not_count() {
        let one = Invocation { layers: vec!["/etc/passwd".into()], ..Invocation::default() };
        let other = Invocation { argv: vec!["x".into()], env: vec![("A".into(), "b".into())], ..one.clone() };
        let found = key(&one).unwrap();
        assert_eq!(key(&other), Some(found.clone()));
        let bound = |source: &str| Mount::Bind { source: source.into(), target: "/x".into(), writable: true };
        let different = [
            Invocation { layers: vec!["/etc/group".into()], ..one.clone() },
            Invocation { mounts: vec![bound("/etc")], ..one.clone() },
            Invocation { base: Base::Dir("/etc".into()), ..one.clone() },
            Invocation { writable: Some("/etc/group".into()), ..one.clone() },
        ];
        for other in different {
            assert_ne!(key(&other), Some(found.clone()), "{other:?}");
        }
    }

    #[test]
    fn what_must_be_alone_has_no_key() {
        let alone = [
            Isolation { processes: true, ..Isolation::default() },
            Isolation { network: Network::None, ..Isolation::default() },
        ];
        for isolation in alone {
            assert_eq!(key(&Invocation { isolation, ..Invocation::default() }), None);
        }
        assert_eq!(key(&Invocation { fakeroot: true, ..Invocation::default() }), None);
        assert_eq!(key(&Invocation { layers: vec!["/no/such/file".into()], ..Invocation::default() }), None);
    }

    #[test]
    fn a_replaced_file_is_another_one() {
        let path = std::env::temp_dir().join(format!("ovl-key-{}", host::token()));
        let invocation = Invocation { layers: vec![path.clone()], ..Invocation::default() };
        fs::write_atomic(&path, b"a", 0o600).unwrap();
        let before = key(&invocation).unwrap();
        assert_eq!(key(&invocation), Some(before.clone()));
        fs::write_atomic(&path, b"b", 0o600).unwrap();
        assert_ne!(key(&invocation), Some(before));
        fs::remove_file(&path).unwrap();
    }

    #[test]
    fn tasks_of_a_step_are_one_scope() {
        let of = |task: &str| scope(&format!("0::/system.slice/slurmstepd.scope/job_7/step_0/user/{task}\n"));
        assert_eq!(of("task_0"), of("task_13"));
        assert_ne!(scope("0::/job_7/step_0/user/task_0\n"), scope("0::/job_7/step_1/user/task_0\n"));
        assert_eq!(scope("0::/user.slice/session-2.scope\n"), "0::/user.slice/session-2.scope\n");
    }
}
