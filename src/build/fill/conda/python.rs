//! Compiles the Python files of packages for any machine: python and they are packed into one image on scratch, which is
//! mounted in the sandbox under the final path, and what python makes of them comes back as one archive.

use std::ffi::OsString;
use std::sync::Arc;

use super::told::Told;
use super::{bad, workers};
use crate::build::error::BuildError;
use crate::build::fill::{Script, run};
use crate::build::sandbox::{CONTROL, TMP};
use crate::build::stage::Staged;
use crate::build::tree::inside;
use crate::conda::link::{Environment, python};
use crate::image::source::dir::Skip;
use crate::image::source::graft::Graft;
use crate::image::source::open::Way;
use crate::image::source::tar;
use crate::image::squashfs::codec::{Codec, Compression};
use crate::image::squashfs::write::{PackOptions, pack};
use crate::model::event::{Event, Phase};
use crate::sys::fs;

/// Compiles them, if there is anything to compile and python runs here. A python that does not is no reason to fail: the
/// files are compiled when they are imported, then.
pub fn compile(staged: &mut Staged, environment: &mut Environment) -> Result<(), BuildError> {
    let list = environment.to_compile();
    let Some(info) = environment.python().filter(|_| !list.is_empty()) else { return Ok(()) };
    let root = staged.job.name.root();
    let program = format!("{root}/{}", info.path().display());
    if rattler_conda_types::Subdir::current() != Some(info.platform) {
        staged.log.note("Python files are not compiled: the environment is for another platform");
        return Ok(());
    }
    let work = staged.tmp.with_file_name("python");
    fs::create_dirs(&work)?;
    let image = work.join("python.sqf");
    let told = Told::new(&staged.job);
    let source = Graft::new(environment.for_compiling(), inside(&root).as_bytes(), 0, Vec::new());
    let options = PackOptions {
        compression: Compression { codec: Codec::Lz4, level: 1 },
        threads: workers(&staged.job),
        dedup: false,
        ..PackOptions::default()
    };
    let packed =
        source.and_then(|source| pack(&source, &fs::create_new(&image, 0o600).map_err(told_as)?, &options, &told));
    packed.map_err(|error| bad(&staged.job, error.into()))?;
    fs::write_quick(&staged.control.join("compile.py"), python::SCRIPT.as_bytes(), 0o644)?;
    fs::write_quick(&staged.control.join("compile.list"), list.as_bytes(), 0o644)?;
    let mut sandbox = staged.sandbox();
    sandbox.layers.push(image.clone());
    let out = "compiled.tar";
    // With a date to go by, Python would have compiled files checked by their digests, at every import.
    let words = ["env", "-u", "SOURCE_DATE_EPOCH", "PYTHONHASHSEED=0", &program, "-E", "-s"].map(OsString::from);
    let mut argv = Vec::from(words);
    argv.extend([
        format!("{CONTROL}/compile.py").into(),
        root.into(),
        format!("{CONTROL}/compile.list").into(),
        format!("{TMP}/{out}").into(),
        workers(&staged.job).to_string().into(),
    ]);
    let script = Script { argv, tree: None, limit: staged.job.left() };
    let ended = run(&staged.job, &mut staged.log, &sandbox, script, &mut |_| {})?;
    if let Some(error) = staged.job.ended(ended, Phase::Install) {
        return Err(error);
    }
    let archive = staged.tmp.join(out);
    if !ended.ok() || !archive.is_file() {
        let text = format!("Python files of packages are not compiled, which python did not do ({ended})");
        staged.job.listener.hear(&Event::Warning { name: Some(staged.job.name.clone()), text });
        return Ok(());
    }
    let told = Told::new(&staged.job);
    let way = Way { scratch: &staged.tmp, watch: &told, skip: Arc::new(Skip::default()) };
    let taken = tar::file(fs::open(&archive)?, &way).map_err(Into::into).and_then(|tar| environment.add_compiled(tar));
    let count = taken.map_err(|error| bad(&staged.job, error))?;
    staged.log.note(&format!("{count} Python files are compiled"));
    // The archive stays open until it is packed; neither needs its name any longer.
    fs::remove_file(&archive)?;
    fs::remove_file(&image)?;
    Ok(())
}

fn told_as(error: fs::PathError) -> crate::image::ImageError {
    crate::image::ImageError::Io { op: error.op, what: error.path.display().to_string(), source: error.source }
}
