//! The programs that serve images and united directories: found on PATH, else where an installed Apptainer has its own.

use std::path::{Path, PathBuf};

use crate::runtime::error::{Result, RuntimeError};
use crate::sys::{lend, process};

/// Serves an ext image.
pub const FUSE2FS: &str = "fuse2fs";
/// Unites directories with a writable one on top.
pub const OVERLAY: &str = "fuse-overlayfs";
/// Repairs ext images.
pub const E2FSCK: &str = "e2fsck";

/// One of them.
///
/// # Errors
/// [`RuntimeError::Missing`] with what to ask for.
pub fn find(name: &str) -> Result<PathBuf> {
    if let Some(path) = process::find(name) {
        return Ok(path);
    }
    for program in ["apptainer", "singularity"] {
        let Some(path) = process::find(program) else { continue };
        let Ok((Some(0), said)) = lend::run(&path, &["buildcfg".as_ref()], None) else { continue };
        for dir in libexec(&String::from_utf8_lossy(&said), program) {
            let path = dir.join(name);
            if path.is_file() {
                return Ok(path);
            }
        }
    }
    Err(RuntimeError::Missing {
        what: format!("{name} is neither on PATH nor with apptainer; it is needed to write to an image"),
        hint: match name {
            FUSE2FS => "ask for fuse2fs (it comes with e2fsprogs)".into(),
            E2FSCK => "ask for e2fsprogs".into(),
            _ => format!("ask for {name}"),
        },
    })
}

/// Where Apptainer keeps its helpers, by what `apptainer buildcfg` prints.
fn libexec(text: &str, program: &str) -> Vec<PathBuf> {
    let dir = text.lines().find_map(|line| line.strip_prefix("LIBEXECDIR=")).map(Path::new);
    dir.map(|dir| vec![dir.join(program).join("bin"), dir.join(program).join("libexec")]).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn helpers_of_apptainer_are_found_by_what_it_says() {
        let text = "PREFIX=/opt/a\nLIBEXECDIR=/opt/a/libexec\nSYSCONFDIR=/etc\n";
        assert_eq!(libexec(text, "apptainer")[0], Path::new("/opt/a/libexec/apptainer/bin"));
        assert!(libexec("", "apptainer").is_empty());
    }
}
