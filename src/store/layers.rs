//! Layers: directories with `images/` and `build-scripts/`. Read from all, written to the first that can be written.

use std::path::{Path, PathBuf};
use std::sync::{Arc, OnceLock};

use super::remotes::{self, RemoteLayer};
use super::templates::Memo;
use crate::config::{Config, LayerDir};
use crate::sys::fs::{self, PathError};

/// All layers of this user, first looked at first.
#[derive(Debug, Clone)]
pub struct Layers {
    dirs: Vec<LayerDir>,
    /// The templates of each.
    memos: Vec<Memo>,
    warnings: Vec<String>,
    /// The remotes that the layers name, once they were looked for.
    remotes: Arc<OnceLock<Vec<RemoteLayer>>>,
    /// Where the bytes of their recipes are.
    cache: PathBuf,
    /// Nothing may be fetched.
    offline: bool,
}

/// No layer can be written to, or not the one asked for.
#[derive(Debug, thiserror::Error)]
pub enum LayerError {
    /// Nothing is writable.
    #[error("no layer can be written to: {0}")]
    NoneWritable(String),
    /// `--layer` names none.
    #[error("there is no layer '{asked}'; known: {known}")]
    Unknown {
        /// What was asked for.
        asked: String,
        /// What there is.
        known: String,
    },
    /// The user's configuration says that nothing in it is to be changed.
    #[error("{} is not changed: its layer {} is marked :ro", file.display(), layer.display())]
    ReadOnly {
        /// What was to be changed.
        file: PathBuf,
        /// The layer.
        layer: PathBuf,
    },
    /// Making its directories failed.
    #[error(transparent)]
    Io(#[from] PathError),
}

impl Layers {
    /// From the configuration. Layers that this user may not look into are left out (membership of a group ends, its
    /// layer stays in the configuration); `warnings` says so.
    pub fn new(config: &Config) -> Layers {
        let mut layers = Layers {
            dirs: config.layers(),
            memos: Vec::new(),
            warnings: Vec::new(),
            remotes: Arc::default(),
            cache: config.cache_dir(),
            offline: config.offline(),
        };
        layers.dirs.retain(|dir| match fs::may_look_into(&images(dir)) {
            Ok(()) => true,
            Err(error) => {
                layers.warnings.push(format!("the {} layer is left out: {error}", dir.kind));
                false
            }
        });
        layers.memos = layers.dirs.iter().map(|_| Memo::default()).collect();
        layers
    }

    /// What is worth telling about them.
    pub fn warnings(&self) -> &[String] {
        &self.warnings
    }

    /// The layers in order.
    pub fn dirs(&self) -> &[LayerDir] {
        &self.dirs
    }

    /// The layers with what is known about their templates.
    pub(super) fn with_memos(&self) -> impl Iterator<Item = (&LayerDir, &Memo)> {
        self.dirs.iter().zip(&self.memos)
    }

    /// The recipe remotes that the layers name, in the order of the layers and by name; of two of the same name the first.
    pub fn remotes(&self) -> &[RemoteLayer] {
        self.remotes.get_or_init(|| remotes::of_layers(&self.dirs, &self.cache, self.offline))
    }

    /// Where what can be fetched again is kept.
    pub fn cache(&self) -> &Path {
        &self.cache
    }

    /// Fails for a file of a layer that is marked `:ro`.
    pub fn may_change(&self, file: &Path) -> Result<(), LayerError> {
        match self.dirs.iter().find(|dir| dir.read_only && file.starts_with(&dir.path)) {
            Some(dir) => Err(LayerError::ReadOnly { file: file.to_owned(), layer: dir.path.clone() }),
            None => Ok(()),
        }
    }

    /// Only the layers that `--layer` means, by kind or path.
    pub fn only(&self, asked: &str) -> Result<Layers, LayerError> {
        let means = |dir: &&LayerDir| dir.kind == asked || dir.path == Path::new(asked);
        let chosen = self.with_memos().filter(|(dir, _)| means(dir));
        let (dirs, memos): (Vec<_>, Vec<_>) = chosen.map(|(dir, memo)| (dir.clone(), memo.clone())).unzip();
        if dirs.is_empty() {
            let known = self.dirs.iter().map(|dir| format!("{} ({})", dir.kind, dir.path.display()));
            return Err(LayerError::Unknown { asked: asked.to_owned(), known: known.collect::<Vec<_>>().join(", ") });
        }
        Ok(Layers { dirs, memos, warnings: Vec::new(), ..self.clone() })
    }

    /// Where new overlays go: the layer asked for by kind or path, else the first that can be written to.
    /// Its `images` directory exists afterwards.
    pub fn writable(&self, asked: Option<&str>) -> Result<LayerDir, LayerError> {
        let candidates = match asked {
            Some(asked) => self.only(asked)?.dirs,
            None => self.dirs.clone(),
        };
        let mut reasons = Vec::new();
        for dir in candidates {
            if dir.read_only {
                reasons.push(format!("{} is marked :ro", dir.path.display()));
                continue;
            }
            match prepare(&images(&dir)) {
                Ok(()) => return Ok(dir),
                Err(error) => reasons.push(error.to_string()),
            }
        }
        Err(LayerError::NoneWritable(if reasons.is_empty() { "none is configured".into() } else { reasons.join("; ") }))
    }
}

fn prepare(images: &Path) -> Result<(), PathError> {
    make_shared(images)?;
    if fs::is_writable_dir(images) {
        return Ok(());
    }
    Err(PathError::new("write to", images)(std::io::Error::from_raw_os_error(nix::libc::EACCES)))
}

/// A layer's directory of overlays.
pub fn images(layer: &LayerDir) -> PathBuf {
    layer.path.join("images")
}

/// A layer's directory of recipes.
pub fn build_scripts(layer: &LayerDir) -> PathBuf {
    layer.path.join("build-scripts")
}

/// Permission bits for a new file in `dir`: a directory its group may write to makes files its group may write to,
/// whatever the umask (row C29).
pub fn shared_mode(dir: &Path, mode: u32) -> u32 {
    use std::os::unix::fs::MetadataExt;
    match fs::metadata(dir) {
        Ok(meta) if meta.mode() & 0o020 != 0 => mode | 0o060,
        _ => mode,
    }
}

/// Makes a directory and its parents; below a directory its group may write to, the group may write to them as well,
/// and they hand the group on (setgid) as it does.
pub fn make_shared(dir: &Path) -> Result<(), PathError> {
    use std::os::unix::fs::MetadataExt;
    match fs::metadata_if_exists(dir)? {
        Some(meta) if meta.is_dir() => return Ok(()),
        Some(_) => return Err(PathError::new("use", dir)(std::io::ErrorKind::NotADirectory.into())),
        None => {}
    }
    let parent = dir.parent().unwrap_or(Path::new("/"));
    make_shared(parent)?;
    fs::create_dirs(dir)?;
    let (own, above) = (fs::metadata(dir)?.mode(), fs::metadata(parent)?.mode());
    if above & 0o020 != 0 && above & 0o1000 == 0 {
        fs::set_mode(dir, own & 0o7777 | 0o070 | above & 0o2000)?;
    }
    Ok(())
}
