//! Running an invocation through Apptainer or Singularity, where the native runtime cannot. Apptainer refuses `/` as
//! a container, so the host's root is given as a skeleton: a directory of the user's with empty directories named as
//! the host's are, over which the host's are bound.

use std::collections::BTreeMap;
use std::convert::Infallible;
use std::ffi::{CString, OsStr, OsString};
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::path::{Path, PathBuf};
use std::time::Duration;

use super::error::{Result, RuntimeError};
use super::tree::ImageLayer;
use super::tree::layer::Layer;
use crate::exec::apptainer::{self, Dialect, Root};
use crate::exec::{Base, Invocation, Mount};
use crate::image::ImageError;
use crate::image::ext::{ExtImage, ExtSource};
use crate::image::kind::{self, Kind};
use crate::image::source::Source;
use crate::image::squashfs::read::{Caches, DATA_CACHE, Image};
use crate::model::cmd::Cmd;
use crate::sys::mount::{self, What};
use crate::sys::userns::Refusal;
use crate::sys::{digest, env, fork, fs, host, pass, process};

/// The programs, the preferred one first.
pub const PROGRAMS: [&str; 2] = ["apptainer", "singularity"];
/// Directories that it provides by itself.
const ITS_OWN: [&str; 3] = ["proc", "sys", "dev"];
/// Longest time that asking it what it understands may take.
const PATIENCE: Duration = Duration::from_secs(30);

/// One of the programs, found on PATH.
pub fn find(name: &str) -> Option<PathBuf> {
    process::find(name)
}

/// A line of what it says of how it was built, without its key (`LIBEXECDIR=`).
pub fn buildcfg(program: &Path, key: &str) -> Option<String> {
    let output = process::capture(&Cmd::new(program).arg("buildcfg"), PATIENCE).ok()?;
    let text = String::from_utf8_lossy(&output.stdout);
    text.lines().find_map(|line| line.strip_prefix(key)).map(str::to_owned)
}

/// Whether it may work where users cannot have user namespaces: installed with set-user-ID, or started by root.
/// When it does not tell, it is believed to.
pub fn works_without_namespaces(program: &Path) -> bool {
    if host::ids().0 == 0 {
        return true;
    }
    let Ok(output) = process::capture(&Cmd::new(program).arg("buildcfg"), PATIENCE) else { return true };
    let text = String::from_utf8_lossy(&output.stdout);
    // Built without support for it: it would not look at a starter with set-user-ID.
    if text.lines().any(|line| line.ends_with("_SUID_INSTALL=0")) {
        return false;
    }
    let Some(dir) = text.lines().find_map(|line| line.strip_prefix("LIBEXECDIR=")) else { return true };
    let starters = PROGRAMS.map(|name| Path::new(dir).join(name).join("bin"));
    let plain = starters.iter().any(|dir| dir.join("starter").exists());
    !plain || starters.iter().any(|dir| dir.join("starter-suid").exists())
}

/// Carries an invocation out; this process becomes the program. `state` is a directory of the user's own, in which
/// the skeleton of the host's root is kept.
///
/// # Errors
/// Only when it could not be started or cannot do what is asked; what it says itself afterwards ends with code 255.
pub fn exec(program: &Path, invocation: &Invocation, state: &Path) -> Result<Infallible> {
    let host_env = env::all();
    let dialect = Dialect::of_help(&help(program)?);
    let mut invocation = invocation.clone();
    let cwd = env::current_dir();
    for layer in &mut invocation.layers {
        *layer = cwd.join(&layer);
    }
    if let Some(image) = &mut invocation.writable {
        *image = cwd.join(&image);
        // No mark on it: even a read lock of ours would keep it from writing.
        fs::metadata(image)?;
    }
    refuse_sif(&invocation.layers)?;
    let (path, places, skeleton) = match &invocation.base {
        Base::Dir(path) if path == Path::new("/") => {
            let entries = host_entries()?;
            let places = entries.iter().filter(|(_, what)| **what != What::Link);
            let places: Vec<PathBuf> = places.map(|(name, _)| Path::new("/").join(name)).collect();
            refuse_shared(&invocation.layers, &entries)?;
            refuse_points(&invocation, &entries)?;
            (host_root(state, &entries)?, places, true)
        }
        Base::Dir(path) | Base::Image(path) => (cwd.join(path), vec!["/tmp".into()], false),
    };
    for bound in &invocation.mounts {
        if let Mount::Bind { source, .. } = bound {
            fs::metadata(source)?;
        }
    }
    if let Base::Image(path) = &invocation.base {
        mark(path)?;
    }
    invocation.layers.iter().try_for_each(|layer| mark(layer))?;
    let root = Root { path: &path, host: &places, skeleton };
    let line = apptainer::line(dialect, &invocation, root, &host_env).map_err(RuntimeError::Impossible)?;
    let mut argv = vec![c_string(program.as_os_str())?];
    for arg in &line.args {
        argv.push(c_string(arg)?);
    }
    let mut env = Vec::with_capacity(line.env.len());
    for (name, value) in &line.env {
        let mut both = name.clone();
        both.push("=");
        both.push(value);
        env.push(c_string(&both)?);
    }
    let error = fork::become_program(program, &argv, &env);
    Err(RuntimeError::NotRunnable { program: program.display().to_string(), why: error.to_string() })
}

/// What the program says that it understands.
fn help(program: &Path) -> Result<String> {
    let output = process::capture(&Cmd::new(program).args(["exec", "--help"]), PATIENCE)
        .map_err(Refusal::new(format!("run {}", program.display())))?;
    if !output.ended.ok() {
        let said = String::from_utf8_lossy(&output.stderr);
        let said = said.lines().next().unwrap_or_default();
        return Err(RuntimeError::Impossible(format!("{} exec --help: {}: {said}", program.display(), output.ended)));
    }
    Ok(String::from_utf8_lossy(&output.stdout).into_owned())
}

/// Leaves an image open and marked as in use for as long as the command runs.
fn mark(path: &Path) -> Result<()> {
    let file = fs::open(path)?;
    pass::mark_used(&file);
    Ok(pass::leave_open(file).map_err(Refusal::new(format!("keep {} open", path.display())))?)
}

type Entries = BTreeMap<OsString, What>;

/// The host's top directory, without what Apptainer provides.
fn host_entries() -> Result<Entries> {
    let entries = mount::entries(Path::new("/"))?.into_iter();
    Ok(entries.filter(|(name, _)| !ITS_OWN.iter().any(|own| name == own)).collect())
}

/// What is bound over an overlay's directory hides it: refuses overlays that share a directory with the host.
fn refuse_shared(layers: &[PathBuf], host: &Entries) -> Result<()> {
    for path in layers {
        let names = top(path).map_err(|source| RuntimeError::Image { path: path.clone(), source })?;
        for name in names.into_iter().map(OsString::from_vec) {
            if host.get(&name).is_some_and(|what| *what != What::Link) {
                return Err(RuntimeError::Missing {
                    what: format!(
                        "both the host and {} have /{}, and apptainer cannot unite them",
                        path.display(),
                        name.display()
                    ),
                    hint: "put an image with a system in it under the overlays: --base IMAGE, or exec.base in \
                           config.yaml"
                        .into(),
                });
            }
        }
    }
    Ok(())
}

/// Names in the top directory of what an image adds.
fn top(path: &Path) -> Result<Vec<Vec<u8>>, ImageError> {
    let file = fs::open(path).map_err(|error| ImageError::io("open", "the image")(error.source))?;
    match kind::of(&file)? {
        Kind::Ext => {
            let image = ExtImage::open(file, 0)?;
            // An ext3 overlay has the layer in a directory beside overlayfs's own.
            let source = ExtSource::new(&image, b"upper")?;
            Ok(source.list(&source.root()?)?.into_iter().map(|entry| entry.name).collect())
        }
        _ => {
            let layer = ImageLayer(Image::open_sharing(file, 0, Caches::new(DATA_CACHE))?);
            Ok(layer.list(layer.root())?.into_iter().map(|(name, _)| name).collect())
        }
    }
}

/// Refuses images that it would take for something else: of a SIF only overlays in it are used, not its system.
fn refuse_sif(layers: &[PathBuf]) -> Result<()> {
    for path in layers {
        let failed = |source| RuntimeError::Image { path: path.clone(), source };
        if kind::of(&fs::open(path)?).map_err(failed)? == Kind::Sif {
            return Err(RuntimeError::Impossible(format!(
                "{}: a SIF can be the base of a command run through apptainer (--base), but not an overlay",
                path.display()
            )));
        }
    }
    Ok(())
}

/// Refuses binds to where neither the host has anything nor Apptainer can make a place.
fn refuse_points(invocation: &Invocation, host: &Entries) -> Result<()> {
    let mut earlier: Vec<&Path> = Vec::new();
    for mount in &invocation.mounts {
        let (Mount::Bind { target, .. } | Mount::Tmpfs { target, .. }) = mount;
        let top = target.components().nth(1).map(|part| part.as_os_str());
        let of_host = top.is_some_and(|top| host.contains_key(top)) && !earlier.iter().any(|at| target.starts_with(at));
        if of_host && fs::metadata_if_exists(target)?.is_none() {
            return Err(RuntimeError::Impossible(format!(
                "there is no {} on this host, and apptainer cannot make it there to bind something to it",
                target.display()
            )));
        }
        earlier.push(target);
    }
    Ok(())
}

/// A skeleton of these entries below `state`, named by what is in it so that nodes can share the directory.
fn host_root(state: &Path, entries: &Entries) -> Result<PathBuf> {
    let mut text = Vec::new();
    for (name, what) in entries {
        text.extend_from_slice(format!("{what:?} ").as_bytes());
        text.extend_from_slice(name.as_bytes());
        if *what == What::Link {
            text.push(0);
            text.extend_from_slice(fs::read_link(&Path::new("/").join(name))?.as_os_str().as_bytes());
        }
        text.push(0);
    }
    let dir = state.join("host-root");
    let digest = digest::of(&text);
    let digest = digest.rsplit(':').next().unwrap_or_default();
    let target = dir.join(digest.get(..16).unwrap_or(digest));
    if is_complete(&target, entries) {
        return Ok(target);
    }
    let fresh = dir.join(format!(".{}.tmp", host::token()));
    fs::create_dirs(&fresh)?;
    for (name, what) in entries {
        let place = fresh.join(name);
        match what {
            What::Dir => fs::create_dirs(&place)?,
            What::Link => mount::copy_link(&Path::new("/").join(name), &place)?,
            What::File => drop(fs::append(&place)?),
        }
    }
    for own in ITS_OWN {
        fs::create_dirs(&fresh.join(own))?;
    }
    // Left by somebody who cleaned up by age, say.
    if fs::metadata_if_exists(&target)?.is_some() && !is_complete(&target, entries) {
        fs::remove_tree(&target)?;
    }
    match fs::rename(&fresh, &target) {
        Ok(()) => Ok(target),
        // Somebody else was faster.
        Err(_) if is_complete(&target, entries) => {
            fs::remove_tree(&fresh)?;
            Ok(target)
        }
        Err(error) => Err(error.into()),
    }
}

fn is_complete(dir: &Path, entries: &Entries) -> bool {
    let Ok(found) = mount::entries(dir) else { return false };
    let found: Entries = found.into_iter().collect();
    entries.iter().all(|(name, what)| found.get(name) == Some(what))
        && ITS_OWN.iter().all(|own| found.get(OsStr::new(own)) == Some(&What::Dir))
}

fn c_string(text: &OsStr) -> Result<CString> {
    CString::new(text.as_bytes()).map_err(|_| RuntimeError::Impossible(format!("{text:?} has a NUL byte in it")))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_skeleton_is_made_once_and_mended() {
        let state = std::env::temp_dir().join(format!("ovl-skeleton-{}", std::process::id()));
        let entries = host_entries().unwrap();
        assert!(entries.contains_key(OsStr::new("usr")) && !entries.contains_key(OsStr::new("proc")));
        let root = host_root(&state, &entries).unwrap();
        assert!(is_complete(&root, &entries));
        fs::remove_tree(&root.join("usr")).unwrap();
        assert!(!is_complete(&root, &entries));
        assert_eq!(host_root(&state, &entries).unwrap(), root);
        assert!(is_complete(&root, &entries));
        let other: Entries = [("only".into(), What::File)].into();
        assert_ne!(host_root(&state, &other).unwrap(), root);
        assert_eq!(fs::list(&state.join("host-root")).unwrap().len(), 2, "nothing temporary is left");
        fs::remove_tree(&state).unwrap();
    }
}
