//! Before a build: whether somebody has done it already. An overlay with this very key in one of the registries of
//! `build.prebuilt` is taken; whatever goes wrong with that is told, and then it is built (row C36).

use std::sync::Mutex;
use std::time::{Duration, Instant};

use super::error::BuildError;
use super::job::Job;
use super::request::{Done, Outcome};
use crate::model::event::{Event, Phase};
use crate::model::meta::Why;
use crate::model::name::Name;
use crate::net;
use crate::recipe::Content;
use crate::registry::pull::Found;
use crate::registry::{Options, RegistryError, prebuilt};

/// Publishes the overlay of this build from a registry, if one has it. The claim is held by the caller.
pub fn take(job: &Job, why: &Why) -> Result<Option<Done>, BuildError> {
    let bases = job.config.prebuilt();
    // What micromamba would take is not known beforehand.
    if matches!(job.spec.content, Content::Conda(_)) && job.step.recipe.locked.is_none() {
        return Ok(None);
    }
    // Who asks for a build although nothing has changed wants one made here.
    if bases.is_empty() || job.step.options.no_prebuilt || *why == Why::Forced || job.config.offline() {
        return Ok(None);
    }
    let options = Options::new(job.config);
    let watch = Watching { job, last: Mutex::new(Instant::now()) };
    let warn = |text: String| job.listener.hear(&Event::Warning { name: Some(job.name.clone()), text });
    let interrupted = || BuildError::Interrupted { name: job.name.clone() };
    let found = prebuilt::find(bases, &job.name, &job.key, &options, &watch, &mut |text| warn(text));
    let Some(found) = found.map_err(|_| interrupted())? else { return Ok(None) };
    job.enter(Phase::Stage, &format!("prebuilt: {}", found.reference))?;
    match publish(job, &found, &watch) {
        Ok(done) => Ok(Some(done)),
        Err(RegistryError::Interrupted) => Err(interrupted()),
        Err(error) => {
            warn(format!("prebuilt: {error}"));
            Ok(None)
        }
    }
}

fn publish(job: &Job, found: &Found, watch: &Watching) -> Result<Done, RegistryError> {
    let pulled = found.overlay_to(&job.target, job.config.keep_previous(), watch)?;
    let tell = |text: &String| {
        job.listener.hear(&Event::Warning { name: Some(job.name.clone()), text: text.clone() });
    };
    pulled.warnings.iter().for_each(tell);
    Ok(Done {
        name: job.name.clone(),
        outcome: Outcome::Built,
        reason: Some(format!("prebuilt, from {}", found.pinned)),
        path: pulled.path,
        digest: Some(pulled.digest.to_string()),
        bytes: Some(pulled.size),
        seconds: job.began.elapsed().as_secs_f64(),
        log: None,
    })
}

struct Watching<'a> {
    job: &'a Job<'a>,
    last: Mutex<Instant>,
}

impl net::Watch for Watching<'_> {
    fn progress(&self, done: u64, total: Option<u64>) {
        let Ok(mut last) = self.last.try_lock() else { return };
        if last.elapsed() > Duration::from_millis(200) {
            *last = Instant::now();
            let name: Name = self.job.name.clone();
            self.job.listener.hear(&Event::Amount { name, done, total });
        }
    }

    fn cancelled(&self) -> bool {
        self.job.step.stop.is_set() || self.job.left().is_some_and(|left| left.is_zero())
    }
}
