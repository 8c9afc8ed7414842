//! The directory of a frozen run: the script's copy, the request, the job script. Only its user can read it.

use std::path::{Path, PathBuf};

use super::{Planned, scripts};
use crate::cli::Context;
use crate::cli::failure::{Failure, code};
use crate::config::Config;
use crate::model::resources::JobId;
use crate::sched::{Env, pattern};
use crate::script::request::Request;
use crate::store::layers::Layers;
use crate::sys::{clock, fs};
use crate::ui::Ui;

/// The frozen request in its directory.
const REQUEST: &str = "request.json";

/// Where this run will be.
pub fn dir(planned: &Planned) -> PathBuf {
    scripts(planned.context).join(&planned.request.id)
}

/// Where the script's copy will be: its own name is kept for messages.
pub fn copy_of(planned: &Planned) -> PathBuf {
    dir(planned).join("script").join(&planned.file)
}

/// Writes the directory; the request then names the copy.
pub fn freeze(planned: &Planned) -> Result<(PathBuf, Request), Failure> {
    let (dir, copy) = (dir(planned), copy_of(planned));
    let no_state = |error: fs::PathError| {
        Failure::new(code::UNFIT, format!("no job can be prepared: {error}"))
            .hint("jobs are kept below dirs.state: choose another place with OVL_DIRS_STATE or config.yaml")
    };
    fs::create_dirs(&scripts(planned.context)).map_err(no_state)?;
    let dir = match dir.parent().map(fs::canonicalize) {
        Some(parent) => parent.map_err(no_state)?.join(&planned.request.id),
        None => dir,
    };
    fs::create_private_dir(&dir).map_err(no_state)?;
    fs::create_private_dir(&dir.join("script")).map_err(no_state)?;
    let copy = dir.join("script").join(copy.file_name().unwrap_or_default());
    fs::write_quick(&copy, &planned.bytes, 0o700).map_err(no_state)?;
    let request = Request { script: copy, ..planned.request.clone() };
    let bytes = serde_json::to_vec(&request)
        .map_err(|error| Failure::new(code::ERROR, format!("the request cannot be written: {error}")))?;
    fs::write_quick(&dir.join(REQUEST), &bytes, 0o600).map_err(no_state)?;
    Ok((dir, request))
}

/// The whole pattern of an output that is asked for, seen from `dir`: a directory (named with a slash at its end, or
/// there already) takes a file with the job's name and number in it.
pub fn in_directory(dir: &Path, asked: &str, name: &str, array: bool, ending: &str) -> PathBuf {
    let path = dir.join(asked);
    let is_dir = || fs::metadata_if_exists(&path).ok().flatten().is_some_and(|meta| meta.is_dir());
    if !asked.ends_with('/') && !is_dir() {
        return path;
    }
    let marks = if array { "%A_%a" } else { "%j" };
    path.join(format!("{}-{marks}.{ending}", pattern::escape(name)))
}

/// Reads a frozen request.
pub fn thaw(dir: &Path) -> Result<Request, Failure> {
    let path = dir.join(REQUEST);
    let bytes = fs::read(&path)?;
    serde_json::from_slice(&bytes)
        .map_err(|error| Failure::new(code::ERROR, format!("{}: not understood: {error}", path.display())))
}

/// What a frozen request works with.
pub fn context(request: &Request) -> Result<Context, Failure> {
    let config = Config::thaw(&request.settings)?;
    Ok(Context { layers: Layers::new(&config), ui: Ui::new("never", 0), config })
}

/// Removes directories of runs that were made long ago.
pub fn sweep(context: &Context) {
    let Some(keep) = context.config.history_keep() else { return };
    let before = clock::now().saturating_sub(i64::try_from(keep.as_secs()).unwrap_or(i64::MAX));
    let oldest = clock::compact(before).to_ascii_lowercase();
    let dir = scripts(context);
    for id in fs::list_if_exists(&dir).unwrap_or_default() {
        // Ids begin with the time.
        if id.to_string_lossy().as_ref() < oldest.as_str() {
            let _ = fs::remove_tree(&dir.join(id));
        }
    }
}

/// The text of a small file that the environment names.
pub fn small_file(path: &str) -> Option<String> {
    let bytes = fs::read_start(Path::new(path), 4 << 20).ok()?;
    Some(String::from_utf8_lossy(&bytes).into_owned())
}

/// Whether this process is one of several that a launcher started.
pub fn is_rank(env: &Env) -> bool {
    let several = |name: &str| env.get(name).and_then(|text| text.trim().parse::<u32>().ok()).is_some_and(|n| n > 1);
    ["OMPI_COMM_WORLD_RANK", "PMI_RANK", "PMIX_RANK", "MPI_LOCALRANKID"].iter().any(|name| env.contains_key(*name))
        || (env.contains_key("SLURM_PROCID") && several("SLURM_STEP_NUM_TASKS"))
}

/// An id as people write it: HTCondor's has a colon behind it only here.
pub fn shown_id(job: &JobId) -> &str {
    job.0.trim_end_matches(':')
}
