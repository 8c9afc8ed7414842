//! Bind mounts as users write them: `SRC`, `SRC:DEST`, `SRC:DEST:ro`.

use std::path::{Component, Path, PathBuf};

use super::Mount;

/// Reads one `--bind` value. Relative sources are taken from `cwd`; the target must be absolute.
pub fn parse(text: &str, cwd: &Path) -> Result<Mount, String> {
    let mut parts = text.split(':');
    let (source, target, option) = (parts.next().unwrap_or(""), parts.next(), parts.next());
    if parts.next().is_some() {
        return Err(format!("'{text}' has more than three parts; write SRC[:DEST[:ro]]"));
    }
    if source.is_empty() {
        return Err(format!("'{text}' names no source; write SRC[:DEST[:ro]]"));
    }
    let source = normal(&cwd.join(source));
    let target = match target.filter(|target| !target.is_empty()) {
        Some(target) if !target.starts_with('/') => {
            return Err(format!("'{text}': the place inside must be absolute, not '{target}'"));
        }
        Some(target) => normal(Path::new(target)),
        None => source.clone(),
    };
    let writable = match option {
        None | Some("rw") => true,
        Some("ro") => false,
        Some(other) => return Err(format!("'{text}': '{other}' is neither ro nor rw")),
    };
    Ok(Mount::Bind { source, target, writable })
}

/// The path without `.` and `..`, judged by its text.
fn normal(path: &Path) -> PathBuf {
    let mut out = PathBuf::from("/");
    for part in path.components() {
        match part {
            Component::Normal(name) => out.push(name),
            Component::ParentDir => drop(out.pop()),
            _ => {}
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn binds_as_users_write_them() {
        let bind = |text| parse(text, Path::new("/work/x"));
        let mount = |source: &str, target: &str, writable| {
            Ok(Mount::Bind { source: source.into(), target: target.into(), writable })
        };
        assert_eq!(bind("/data"), mount("/data", "/data", true));
        assert_eq!(bind("../y/./z:/in:ro"), mount("/work/y/z", "/in", false));
        for bad in ["", ":/x", "/a:b", "/a:/b:rx", "/a:/b:ro:x"] {
            assert!(bind(bad).is_err(), "{bad}");
        }
    }
}
