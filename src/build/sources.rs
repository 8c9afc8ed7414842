//! What recipes fetch (`#SRC`): brought here before anything of the recipe runs, several at a time, and shown read-only
//! in `$src_dir`, without being copied. Also done for queued builds before they are submitted (row P01).

use std::path::{Path, PathBuf};
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use super::error::BuildError;
use super::stage::Staged;
use super::step::{Step, Stop};
use crate::config::Config;
use crate::model::event::{Event, Listener, Phase};
use crate::model::loc::Loc;
use crate::model::meta::SourcePin;
use crate::model::name::Name;
use crate::model::units::show_size;
use crate::net::{self, NetError, Trouble, Watch};
use crate::recipe::spec::{At, Kind, Source};
use crate::store::sources::{Input, Sources};
use crate::sys::fs;

/// Files that are fetched at the same time.
const AT_ONCE: usize = 4;

/// Where fetched files are kept: those for reference data beside the overlays, where there is room for such; others in
/// the user's cache. What is in either is used.
pub fn store(config: &Config, kind: Kind, target: &Path) -> Sources {
    let cache = config.cache_dir().join("sources");
    let images = target.parent().filter(|dir| dir.file_name().is_some_and(|name| name == "images"));
    match images.and_then(Path::parent) {
        Some(layer) if kind == Kind::Data => Sources::new(layer.join("sources"), vec![cache]),
        Some(layer) => Sources::new(cache, vec![layer.join("sources")]),
        None => Sources::new(cache, Vec::new()),
    }
}

impl Staged<'_> {
    /// Brings what the recipe names; leaves a place for each in `$src_dir`.
    pub(super) fn fetch_sources(&mut self) -> Result<(), BuildError> {
        let job = &self.job;
        let wanted = &job.spec.sources;
        if wanted.is_empty() {
            return Ok(());
        }
        let store = store(job.config, job.kind(), &job.target);
        let left = || job.left().is_some_and(|left| left.is_zero());
        let (got, notes) =
            get_all(&job.name, wanted, &store, job.config, job.listener, &|| job.step.stop.is_set() || left());
        notes.iter().for_each(|note| self.log.note(note));
        let interrupted = got.iter().any(|one| matches!(one, Err(error) if is_interrupt(error)));
        if interrupted {
            return Err(job.alive(Phase::Fetch).err().unwrap_or(BuildError::Interrupted { name: job.name.clone() }));
        }
        let inputs = all_or_nothing(&job.name, wanted, got)?;
        for (at, input) in wanted.iter().zip(inputs) {
            let source = &at.value;
            let how = if input.fetched { "fetched" } else { "here already" };
            let line =
                format!("{} sha256:{} ({}, {how})", net::redacted(&source.url), input.sha256, show_size(input.bytes));
            self.log.note(&line);
            if source.sha256.is_none() {
                let text = format!("{}: #SRC has no digest; what came has sha256={}", at.loc, input.sha256);
                job.listener.hear(&Event::Warning { name: Some(job.name.clone()), text });
            }
            fs::create_new(&self.sources.join(&source.name), 0o444)?;
            let pin = SourcePin {
                url: net::redacted(&source.url),
                digest: format!("sha256:{}", input.sha256),
                bytes: input.bytes,
                name: source.name.clone(),
            };
            self.inputs.push((input.path, pin));
        }
        Ok(())
    }
}

fn is_interrupt(error: &NetError) -> bool {
    matches!(error.trouble, Trouble::Interrupted)
}

/// All of them, or what is wrong with those that did not come.
fn all_or_nothing(
    name: &Name,
    wanted: &[At<Source>],
    got: Vec<Result<Input, NetError>>,
) -> Result<Vec<Input>, BuildError> {
    let mut inputs = Vec::new();
    let mut failed: Vec<(Loc, NetError)> = Vec::new();
    for (at, one) in wanted.iter().zip(got) {
        match one {
            Ok(input) => inputs.push(input),
            Err(error) => failed.push((at.loc.clone(), error)),
        }
    }
    if failed.is_empty() { Ok(inputs) } else { Err(BuildError::Sources { name: name.clone(), failed }) }
}

/// Brings files, in the order wanted, and what is worth a line of the log.
fn get_all(
    name: &Name,
    wanted: &[At<Source>],
    store: &Sources,
    config: &Config,
    listener: &dyn Listener,
    cancelled: &(dyn Fn() -> bool + Sync),
) -> (Vec<Result<Input, NetError>>, Vec<String>) {
    net::be_patient(config.patience());
    let follow = Follow {
        name,
        listener,
        cancelled,
        amounts: Mutex::new(vec![(0, None); wanted.len()]),
        last: Mutex::new(Instant::now()),
        notes: Mutex::default(),
    };
    let next = AtomicUsize::new(0);
    let done: Mutex<Vec<(usize, Result<Input, NetError>)>> = Mutex::default();
    std::thread::scope(|scope| {
        for _ in 0..AT_ONCE.min(wanted.len()) {
            scope.spawn(|| {
                loop {
                    let index = next.fetch_add(1, Ordering::Relaxed);
                    let Some(at) = wanted.get(index) else { return };
                    let one = store.get(&at.value, config.offline(), &One { follow: &follow, index });
                    if let Ok(mut done) = done.lock() {
                        done.push((index, one));
                    }
                }
            });
        }
    });
    let mut done = done.into_inner().unwrap_or_default();
    done.sort_by_key(|(index, _)| *index);
    (done.into_iter().map(|(_, one)| one).collect(), follow.notes.into_inner().unwrap_or_default())
}

/// Adds up what several transfers tell.
struct Follow<'a> {
    name: &'a Name,
    listener: &'a dyn Listener,
    cancelled: &'a (dyn Fn() -> bool + Sync),
    amounts: Mutex<Vec<(u64, Option<u64>)>>,
    last: Mutex<Instant>,
    notes: Mutex<Vec<String>>,
}

struct One<'a> {
    follow: &'a Follow<'a>,
    index: usize,
}

impl Watch for One<'_> {
    fn progress(&self, done: u64, total: Option<u64>) {
        let follow = self.follow;
        let (Ok(mut amounts), Ok(mut last)) = (follow.amounts.lock(), follow.last.lock()) else { return };
        if let Some(amount) = amounts.get_mut(self.index) {
            *amount = (done, total);
        }
        if last.elapsed() > Duration::from_millis(200) {
            *last = Instant::now();
            let done = amounts.iter().map(|(done, _)| done).sum();
            // What has not begun yet has no size: then there is no total either.
            let total = amounts.iter().map(|(_, total)| *total).sum();
            follow.listener.hear(&Event::Amount { name: follow.name.clone(), done, total });
        }
    }

    fn cancelled(&self) -> bool {
        (self.follow.cancelled)()
    }

    fn note(&self, text: &str) {
        self.follow.listener.hear(&Event::Output { name: self.follow.name.clone(), line: text.to_owned() });
        if let Ok(mut notes) = self.follow.notes.lock() {
            notes.push(text.to_owned());
        }
    }
}

/// Fails at once for all that the steps need and that is not here, when nothing may be fetched (row P03).
pub fn demand(steps: &[Step], config: &Config) -> Result<(), BuildError> {
    if !config.offline() {
        return Ok(());
    }
    let mut missing = Vec::new();
    for step in steps {
        let spec = step.spec()?;
        let store = store(config, spec.kind(step.name()), &step.plan.target);
        for at in &spec.sources {
            if !store.has(&at.value)? {
                missing.push(format!("{}: {} for {}", at.loc, net::redacted(&at.value.url), step.name()));
            }
        }
    }
    if missing.is_empty() { Ok(()) } else { Err(BuildError::Offline { missing }) }
}

/// Brings what steps need that will be built elsewhere, where there may be no network.
pub fn prefetch(steps: &[&Step], config: &Config, listener: &dyn Listener) -> Result<(), BuildError> {
    for step in steps {
        super::fill::def::prefetch(step, config, listener)?;
        let (name, spec) = (step.name(), step.spec()?);
        if spec.sources.is_empty() {
            continue;
        }
        let store = store(config, spec.kind(name), &step.plan.target);
        let stop: &Stop = &step.stop;
        let waits = format!("its {} to be fetched before it is submitted", files(spec.sources.len()));
        listener.hear(&Event::Waiting { name: name.clone(), reason: waits });
        let (got, _) = get_all(name, &spec.sources, &store, config, listener, &|| stop.is_set());
        if got.iter().any(|one| matches!(one, Err(error) if is_interrupt(error))) {
            return Err(BuildError::Interrupted { name: name.clone() });
        }
        all_or_nothing(name, &spec.sources, got)?;
    }
    Ok(())
}

fn files(count: usize) -> String {
    if count == 1 { "source".into() } else { format!("{count} sources") }
}

/// Where the places of fetched files are inside, and what lies there.
pub fn shown(inputs: &[(PathBuf, SourcePin)]) -> Vec<(PathBuf, String)> {
    inputs.iter().map(|(path, pin)| (path.clone(), format!("{}/{}", super::sandbox::SOURCES, pin.name))).collect()
}
