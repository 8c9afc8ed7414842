//! Where the files of a build gather: a directory, or an ext3 image that is one file to a network file system.

use std::path::{Path, PathBuf};

use super::error::BuildError;
use super::job::Job;
use super::work::Work;
use crate::model::event::Event;
use crate::recipe::spec::Kind;
use crate::sys::fs;

/// The place behind `/cnt/<name>/<version>` while a recipe runs.
#[derive(Debug)]
pub struct Tree {
    /// Its top on the host; `cnt/<name>/<version>` below it becomes the overlay. For an image: where it is mounted
    /// while a script runs, empty otherwise.
    pub top: PathBuf,
    /// The image, when the tree lives in one.
    pub image: Option<PathBuf>,
}

impl Tree {
    /// Makes it, as `--stage` or the scratch's file system asks.
    pub fn create(job: &Job, work: &Work, scratch: &Path) -> Result<Tree, BuildError> {
        let top = work.make("top")?;
        let asked = job.config.stage();
        let wants_image = match asked.as_str() {
            "ext3" => true,
            "dir" => false,
            // A few large files cost a file server nothing that an image would spare it.
            _ => job.kind() == Kind::App && fs::network_fs(scratch).is_some(),
        };
        if wants_image {
            match super::ext3::create(job, work) {
                Ok(image) => return Ok(Tree { top, image: Some(image) }),
                Err(error) if asked == "ext3" => return Err(error),
                Err(error) => job.listener.hear(&Event::Warning {
                    name: Some(job.name.clone()),
                    text: format!(
                        "building in a directory on {}, which is slow on a network file system: {error}",
                        scratch.display()
                    ),
                }),
            }
        }
        fs::create_dirs(&top.join(inside(&shown_at(job))))?;
        Ok(Tree { top, image: None })
    }

    /// The directory to bind, and where it is to be seen.
    pub fn bind(&self, job: &Job) -> (PathBuf, String) {
        let at = shown_at(job);
        (self.top.join(inside(&at)), at)
    }
}

/// What the recipe gets writable: its target, made before it runs; or, when it tests whether that is there, the
/// directory above it.
pub fn shown_at(job: &Job) -> String {
    let root = job.name.root();
    let shares = job.deps.iter().any(|dep| dep.overlay.name.stem() == job.name.stem());
    match root.rsplit_once('/') {
        // A dependency that lives in the same directory must stay visible beside the target.
        Some((parent, _)) if job.spec.tests_target_dir && !shares => parent.to_owned(),
        _ => root,
    }
}

/// An absolute path inside as a relative one.
pub fn inside(path: &str) -> &str {
    path.trim_start_matches('/')
}
