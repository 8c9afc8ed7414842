//! Staging in a temporary ext3 image: made by mke2fs, mounted by fuse2fs in a namespace of its own while a script
//! runs, read by ovl itself when it is packed.

use std::path::PathBuf;
use std::time::Duration;

use super::error::BuildError;
use super::job::Job;
use super::tree::{inside, shown_at};
use super::work::Work;
use crate::image::ext::make;
use crate::sys::{fs, host, process};

/// Makes the image with the target's directories in it.
pub fn create(job: &Job, work: &Work) -> Result<PathBuf, BuildError> {
    for tool in ["mke2fs", "fuse2fs"] {
        if process::find(tool).is_none() {
            return Err(BuildError::Unfit {
                what: format!("an ext3 stage needs {tool}, which is not on PATH"),
                hint: "ask for e2fsprogs and fuse2fs, or stage in a directory: ovl build --stage dir …".into(),
            });
        }
    }
    let seed = work.make("seed")?;
    fs::create_dirs(&seed.join(inside(&shown_at(job))))?;
    let image = work.path().join("stage.img");
    let (uid, gid) = host::ids();
    let size = job.config.stage_size();
    let cmd = make::staging_image(&image, size >> 20, size / 16384, uid, gid).arg("-d").arg(&seed);
    let output =
        process::capture(&cmd, Duration::from_secs(300)).map_err(fs::PathError::new("run mke2fs for", &image))?;
    if !output.ended.ok() {
        let text = String::from_utf8_lossy(&output.stderr);
        if text.contains("No space left on device") {
            let what = text.split_whitespace().collect::<Vec<_>>().join(" ");
            return Err(BuildError::Full { name: job.name.clone(), what });
        }
        return Err(BuildError::Unfit {
            what: format!("mke2fs failed ({}): {}", output.ended, text.trim()),
            hint: "stage in a directory: ovl build --stage dir …".into(),
        });
    }
    fs::remove_tree(&seed)?;
    Ok(image)
}
