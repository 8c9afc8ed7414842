//! Scripts of packages. They need real files: the environment is written into the staged tree on node-local scratch, and
//! they run there without network, as installers run them.

use std::ffi::OsString;

use super::told::Told;
use super::{Ready, bad, runs_here, staged_root, workers};
use crate::build::error::BuildError;
use crate::build::fill::{Script, run as run_script};
use crate::build::sandbox::{SOURCES, Sandbox};
use crate::build::stage::Staged;
use crate::conda::link::{LinkError, LinkScript};
use crate::image::source::AnySource;
use crate::image::source::extract::{Options, extract};
use crate::image::source::tar::write;
use crate::model::event::{Event, Phase};
use crate::sys::fs;

/// Where scripts leave what they want to say, below the prefix.
const MESSAGES: &str = ".messages.txt";
/// Marks what they say in their output.
const SAYS: &str = "message: ";

/// Writes the environment into the staged tree.
pub fn write_out(staged: &mut Staged, source: AnySource) -> Result<(), BuildError> {
    let told = Told::new(&staged.job);
    let image_error = |error| bad(&staged.job, LinkError::Image(error));
    if staged.tree.image.is_none() {
        let top = staged_root(staged);
        fs::create_dirs(&top)?;
        let options = Options { keep_owner: false, replace: false, threads: workers(&staged.job) };
        extract(&source, &top, options, &told).map_err(image_error)?;
        return Ok(());
    }
    // The tree is inside of an image that only the sandbox mounts: one archive, unpacked there.
    let archive = staged.sources.join("tree.tar");
    let out = fs::create_new(&archive, 0o600)?;
    write::write(&source, std::io::BufWriter::with_capacity(1 << 20, out), &told).map_err(image_error)?;
    let mut sandbox = staged.sandbox();
    sandbox.target = Some(staged.tree.bind(&staged.job));
    sandbox.sources = Some((staged.sources.clone(), false));
    let words = ["tar", "-xf", &format!("{SOURCES}/tree.tar"), "--no-same-owner", "-p", "-C", &staged.job.name.root()];
    let argv = words.map(OsString::from).to_vec();
    command(staged, &sandbox, argv, Phase::Install)?;
    Ok(fs::remove_file(&archive)?)
}

/// Runs the scripts of packages, in order.
pub fn run(staged: &mut Staged, ready: &Ready, scripts: &[LinkScript]) -> Result<(), BuildError> {
    if !scripts.is_empty() && !runs_here(ready.locked) {
        return Err(BuildError::Unfit {
            what: format!(
                "{}: the script of {} is for {} and cannot be run here",
                staged.job.name,
                scripts.first().map(|script| script.package.as_str()).unwrap_or_default(),
                ready.locked.platform
            ),
            hint: "build it on a machine of that platform".into(),
        });
    }
    for script in scripts {
        let root = staged.job.name.root();
        staged.log.note(&format!("the script of {} {}", script.package, script.version));
        let mut sandbox = ready.sandbox(staged);
        sandbox.vars = vec![
            ("PREFIX".into(), root.clone()),
            ("ROOT_PREFIX".into(), root.clone()),
            ("PKG_NAME".into(), script.package.clone()),
            ("PKG_VERSION".into(), script.version.clone()),
            ("PKG_BUILDNUM".into(), script.build_number.to_string()),
        ];
        // What it has to say goes to the user, and not into the overlay.
        let line = format!(
            "status=0; bash '{root}/{}' || status=$?; if [ -f '{root}/{MESSAGES}' ]; then \
             sed 's/^/{SAYS}/' '{root}/{MESSAGES}'; rm -f '{root}/{MESSAGES}'; fi; exit $status",
            script.path
        );
        let mut said = Vec::new();
        let heard = &mut |line: &[u8]| {
            if let Some(text) = line.strip_prefix(SAYS.as_bytes()) {
                said.push(String::from_utf8_lossy(text).trim_end().to_owned());
            }
        };
        followed(staged, &sandbox, vec!["bash".into(), "-c".into(), line.into()], Phase::Install, heard)?;
        if !said.is_empty() {
            let text = format!("{} says: {}", script.package, said.join(" "));
            staged.job.listener.hear(&Event::Warning { name: Some(staged.job.name.clone()), text });
        }
    }
    Ok(())
}

/// Runs something in a sandbox with the staged tree.
pub fn command(staged: &mut Staged, sandbox: &Sandbox, argv: Vec<OsString>, phase: Phase) -> Result<(), BuildError> {
    followed(staged, sandbox, argv, phase, &mut |_| {})
}

fn followed(
    staged: &mut Staged,
    sandbox: &Sandbox,
    argv: Vec<OsString>,
    phase: Phase,
    each: &mut dyn FnMut(&[u8]),
) -> Result<(), BuildError> {
    let script = Script { argv, tree: Some(&staged.tree), limit: staged.job.left() };
    let ended = run_script(&staged.job, &mut staged.log, sandbox, script, each)?;
    staged.succeeded(ended, phase)
}
