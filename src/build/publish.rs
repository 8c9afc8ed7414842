//! Phase 5: the image is flushed, read back and verified, and becomes the overlay by one rename.

use super::check::{Checked, digest_of_new};
use super::error::BuildError;
use super::request::{Done, Outcome};
use crate::model::event::{Event, Phase};
use crate::model::meta::Why;
use crate::store::publish::sidecar_text;
use crate::store::{overlays, publish};

impl Checked<'_> {
    /// Publishes it; `why` is what made the build necessary.
    pub fn publish(self, why: &Why) -> Result<Done, BuildError> {
        let Checked(packed) = self;
        let job = &packed.staged.job;
        job.enter(Phase::Publish, &job.target.display().to_string())?;
        packed.image.flush()?;
        let bad = |source| BuildError::Verify { name: job.name.clone(), source };
        let image = overlays::open(packed.image.path())?;
        image.verify().map_err(bad)?;
        if overlays::read_meta(&image).map_err(bad)?.as_ref() != Some(&packed.meta) {
            return Err(bad(crate::image::ImageError::corrupt("its metadata is not what was written")));
        }
        let digest = digest_of_new(&packed)?;
        let sidecar = sidecar_text(&packed.meta.key, &digest, &packed.meta.env);
        // The last moment at which an interrupt leaves nothing; the rename itself is not torn.
        job.alive(Phase::Publish)?;
        let (staged, report) = (packed.staged, packed.report);
        let (path, warnings) = packed.image.publish(&sidecar, staged.job.config.keep_previous())?;
        staged.work.finish();
        for text in warnings {
            staged.job.listener.hear(&Event::Warning { name: Some(staged.job.name.clone()), text });
        }
        let mut log = staged.log;
        log.note(&format!("published {} ({} bytes, {digest})", path.display(), report.bytes_out));
        Ok(Done {
            name: staged.job.name.clone(),
            outcome: Outcome::Built,
            reason: Some(why.to_string()),
            path,
            digest: Some(digest),
            bytes: Some(report.bytes_out),
            seconds: staged.job.began.elapsed().as_secs_f64(),
            log: Some(log.path().to_owned()),
        })
    }
}

/// Writes a missing or foreign sidecar anew, which a kill between two renames can leave.
pub fn heal_sidecar(path: &std::path::Path) -> Result<(), BuildError> {
    let image = overlays::open(path)?;
    let Some(meta) = overlays::read_meta(&image)
        .map_err(|source| overlays::OverlayError::Image { path: path.to_owned(), source })?
    else {
        return Ok(());
    };
    let facts = overlays::facts(path, &image)?;
    let missing = crate::sys::fs::metadata_if_exists(&publish::sidecar_of(path))?.is_none();
    let writable = path.parent().is_some_and(crate::sys::fs::is_writable_dir);
    if (missing || facts.foreign_sidecar) && writable {
        let digest = overlays::digest_of(path)?;
        publish::write_sidecar(path, &sidecar_text(&meta.key, &digest, &meta.env))?;
    }
    Ok(())
}
