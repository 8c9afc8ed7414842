//! Phase 3: the tree, the recipe and the metadata become one image under a temporary name beside the target.

use std::sync::Mutex;
use std::time::{Duration, Instant};

use super::error::BuildError;
use super::fill::{Files, Filled, Material};
use super::job::Job;
use super::stage::Staged;
use super::tree::{inside, shown_at};
use crate::exec::Network;
use crate::image::ImageError;
use crate::image::ext::{ExtImage, ExtSource};
use crate::image::source::dir::DirSource;
use crate::image::source::graft::{Extra, Graft};
use crate::image::source::{Kind as EntryKind, Source};
use crate::image::squashfs::write::{Owners, PackOptions, PackReport, Watch, pack};
use crate::model::event::{Event, Phase};
use crate::model::meta::{self, Meta};
use crate::recipe::spec::{Content, Kind};
use crate::store::publish::NewImage;
use crate::sys::{clock, fs, host};

/// A build whose image is written but not public.
pub struct Packed<'a> {
    pub(super) staged: Staged<'a>,
    pub(super) image: NewImage,
    pub(super) meta: Meta,
    pub(super) report: PackReport,
}

impl<'a> Filled<'a> {
    /// Writes the image.
    pub fn pack(self) -> Result<Packed<'a>, BuildError> {
        let Filled { staged, material } = self;
        let options = options(&staged.job);
        staged.job.enter(Phase::Pack, &options.compression.to_string())?;
        let mut meta = metadata(&staged.job, &options, &material);
        meta.sources = staged.inputs.iter().map(|(_, pin)| pin.clone()).chain(staged.pulled.iter().cloned()).collect();
        let image = NewImage::create(&staged.job.target)?;
        let Material { files, extras, .. } = material;
        let packing = Packing { job: &staged.job, meta: &meta, image: &image, options: &options, extras };
        let packed = match files {
            Files::App(source) => packing.write(source, inside(&staged.job.name.root())),
            Files::System(source) => packing.write(source, ""),
            Files::Tree => match &staged.tree.image {
                None => {
                    warn_of_strays(&staged);
                    let content = staged.tree.top.join(inside(&staged.job.name.root()));
                    DirSource::new(&content).and_then(|source| packing.write(source, inside(&staged.job.name.root())))
                }
                Some(file) => fs::open(file).map_err(BuildError::from).map(|file| {
                    let ext = ExtImage::open(file, 0)?;
                    let source = ExtSource::new(&ext, staged.job.name.root().as_bytes())?;
                    packing.write(source, inside(&staged.job.name.root()))
                })?,
            },
        };
        let report = packed.map_err(|error| told(&staged.job, error))?;
        Ok(Packed { staged, image, meta, report })
    }
}

fn told(job: &Job, error: ImageError) -> BuildError {
    let name = job.name.clone();
    match error {
        ImageError::Interrupted => job.alive(Phase::Pack).err().unwrap_or(BuildError::Interrupted { name }),
        // The recipe tested for its target and then did not make it, or removed it.
        ImageError::Io { ref source, ref what, .. }
            if source.kind() == std::io::ErrorKind::NotFound && what.contains(inside(&job.name.root())) =>
        {
            BuildError::Empty { root: job.name.root(), name }
        }
        ImageError::Unsupported(text) if text == EMPTY => BuildError::Empty { root: job.name.root(), name },
        source => BuildError::Pack { name, source },
    }
}

const EMPTY: &str = "nothing to pack";

struct Packing<'a> {
    job: &'a Job<'a>,
    meta: &'a Meta,
    image: &'a NewImage,
    options: &'a PackOptions,
    extras: Vec<Extra>,
}

impl Packing<'_> {
    /// Writes the files below `prefix`, with ovl's own beside them.
    fn write<S: Source>(self, content: S, prefix: &str) -> Result<PackReport, ImageError> {
        if !holds_anything(&content)? {
            return Err(ImageError::Unsupported(EMPTY.into()));
        }
        let Packing { job, meta, image, options, extras } = self;
        let own = format!("{}/{}/", inside(&job.name.root()), meta::DIR).into_bytes();
        let below = |file: &[u8]| [own.as_slice(), file].concat();
        let mut text = serde_json::to_vec_pretty(meta).unwrap_or_default();
        text.push(b'\n');
        let mut all: Vec<Extra> = vec![
            (below(meta::META.as_bytes()), text, 0o644),
            (below(meta::RECIPE.as_bytes()), job.step.recipe.text.clone().into_bytes(), 0o644),
        ];
        all.extend(extras.into_iter().map(|(file, bytes, mode)| (below(&file), bytes, mode)));
        let tree = Graft::new(content, prefix.as_bytes(), job.step.recipe.origin.epoch, all)?;
        let watch = Progress { job, last: Mutex::new(Instant::now()) };
        pack(&tree, image.file(), options, &watch)
    }
}

/// Directories alone are no software: something else must lie somewhere.
fn holds_anything<S: Source>(source: &S) -> Result<bool, ImageError> {
    let mut open = vec![source.root()?];
    while let Some(dir) = open.pop() {
        for entry in source.list(&dir)? {
            match entry.kind {
                EntryKind::Dir => open.push(entry),
                _ => return Ok(true),
            }
        }
    }
    Ok(false)
}

/// A recipe that made its target itself had the directory above; what it left beside the target is not packed.
fn warn_of_strays(staged: &Staged) {
    let (top, at) = (&staged.tree.top, shown_at(&staged.job));
    if at == staged.job.name.root() {
        return;
    }
    let beside = fs::list_if_exists(&top.join(inside(&at))).unwrap_or_default();
    for name in beside.iter().filter(|name| name.to_string_lossy() != staged.job.name.version()) {
        let text = format!("{at}/{} lies beside $target_dir and is not part of the overlay", name.to_string_lossy());
        staged.job.listener.hear(&Event::Warning { name: Some(staged.job.name.clone()), text });
    }
}

struct Progress<'a> {
    job: &'a Job<'a>,
    last: Mutex<Instant>,
}

impl Watch for Progress<'_> {
    fn progress(&self, done: u64, total: Option<u64>) {
        let Ok(mut last) = self.last.try_lock() else { return };
        if last.elapsed() > Duration::from_millis(200) {
            *last = Instant::now();
            self.job.listener.hear(&Event::Amount { name: self.job.name.clone(), done, total });
        }
    }

    fn cancelled(&self) -> bool {
        self.job.step.stop.is_set() || self.job.left().is_some_and(|left| left.is_zero())
    }
}

fn options(job: &Job) -> PackOptions {
    PackOptions {
        compression: job.step.options.compression,
        block_size: job.step.options.block_size.unwrap_or_else(|| job.config.block_size(job.kind() == Kind::Data)),
        threads: job.config.pack_threads(job.step.cpus(job.config)),
        owners: if job.step.options.keep_owners { Owners::Keep } else { Owners::AllRoot },
        // Python takes what was compiled from a file for current by the file's time: times of packages stay.
        epoch: (!matches!(job.spec.content, Content::Conda(_))).then_some(job.step.recipe.origin.epoch),
        budget: job.config.pack_memory(),
        dedup: true,
    }
}

/// What the overlay is for: an environment's platform may be another than this machine's.
fn platform(job: &Job) -> String {
    let frozen = &job.step.recipe;
    let of_lock = frozen.locked.as_ref().map(|locked| locked.platform.as_str());
    let subdir = of_lock.or_else(|| frozen.conda.as_ref().map(|conda| conda.platform.as_str()));
    subdir.and_then(of_subdir).unwrap_or_else(host::platform)
}

/// A platform of conda as registries write it; None for what is for any.
fn of_subdir(subdir: &str) -> Option<String> {
    let (system, arch) = subdir.split_once('-')?;
    let system = match system {
        "osx" => "darwin",
        "win" => "windows",
        other => other,
    };
    let arch = match arch {
        "64" => "amd64",
        "32" => "386",
        "aarch64" => "arm64",
        "armv6l" | "armv7l" => "arm",
        other => other,
    };
    Some(format!("{system}/{arch}"))
}

fn metadata(job: &Job, options: &PackOptions, material: &Material) -> Meta {
    let spec = &job.spec;
    let note = |name: &str| {
        let notes: Vec<&str> = spec
            .notes
            .iter()
            .filter(|note| note.name.as_deref() == Some(name))
            .map(|note| note.text.as_str())
            .collect();
        (!notes.is_empty()).then(|| notes.join(" "))
    };
    let env = spec.env.iter().map(|var| crate::model::env::EnvVar {
        name: var.name.clone(),
        value: var.value.clone(),
        note: note(&var.name),
    });
    Meta {
        version: job.name.version().to_owned(),
        build_date: clock::rfc3339(job.step.recipe.origin.epoch),
        git_commit: job.step.recipe.origin.commit.clone(),
        git_branch: job.step.recipe.origin.branch.clone(),
        release_name: job.name.to_string(),
        git_dirty: job.step.recipe.origin.dirty,
        format: 1,
        name: job.name.clone(),
        kind: match (&material.files, job.kind()) {
            (Files::System(_), _) => meta::SYSTEM,
            (_, Kind::Data) => "data",
            (_, Kind::App) => "app",
        }
        .into(),
        whatis: spec.whatis.as_ref().map(|at| at.value.clone()),
        url: spec.url.as_ref().map(|at| at.value.clone()),
        inputs: job.inputs.clone(),
        key: job.key.clone(),
        sources: Vec::new(),
        env: material.env.iter().cloned().chain(env).collect(),
        labels: spec.labels.iter().map(|at| at.value.clone()).collect(),
        recipe_source: job.step.recipe.label.clone(),
        host: host::hostname(),
        platform: platform(job),
        ovl: env!("CARGO_PKG_VERSION").into(),
        compression: options.compression.to_string(),
        block_size: options.block_size,
        network: if job.network() == Network::Host { "host" } else { "none" }.into(),
    }
}
