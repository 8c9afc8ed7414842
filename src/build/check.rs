//! Phase 4: `#VERIFY`, check() and each `#TEST` against the finished image, before anybody else can see it (row G08).

use std::ffi::OsString;

use super::error::BuildError;
use super::fill::{self, Script};
use super::pack::Packed;
use super::stage::Staged;
use crate::exec::environ::LayerEnv;
use crate::image::squashfs::read::{Image, InodeKind};
use crate::model::event::Phase;
use crate::model::name::Name;
use crate::store::overlays;
use crate::sys::fs::{self, PathError};
use crate::sys::{digest, process::Ended};

/// A build whose image has passed.
pub struct Checked<'a>(pub(super) Packed<'a>);

impl<'a> Packed<'a> {
    /// Runs all checks; the first failure ends the build, and nothing is published.
    pub fn check(mut self) -> Result<Checked<'a>, BuildError> {
        self.verify_files()?;
        let spec = self.staged.job.spec.clone();
        let mut checks: Vec<(String, Vec<OsString>)> = Vec::new();
        if spec.functions.check {
            checks.push(("check()".into(), Staged::driver("check")));
        }
        for test in &spec.tests {
            let argv = ["bash", "-eo", "pipefail", "-c", &test.value].map(OsString::from);
            checks.push((format!("#TEST:{}", test.value), argv.into()));
        }
        let definition = spec.definition();
        if definition.and_then(|definition| definition.stages.last()?.script("test")).is_some() {
            checks.push(("%test".into(), vec!["/.singularity.d/actions/test".into()]));
        }
        if !checks.is_empty() {
            self.staged.job.enter(Phase::Check, &format!("{} to run", checks.len()))?;
        }
        for (what, argv) in checks {
            let ended = self.run(&what, argv)?;
            if let Some(error) = self.staged.job.ended(ended, Phase::Check) {
                return Err(error);
            }
            if !ended.ok() {
                let log = &self.staged.log;
                return Err(BuildError::Check {
                    name: self.staged.job.name.clone(),
                    what,
                    ended,
                    tail: log.tail(),
                    log: log.path().to_owned(),
                });
            }
        }
        Ok(Checked(self))
    }

    fn run(&mut self, what: &str, argv: Vec<OsString>) -> Result<Ended, BuildError> {
        self.staged.log.new_phase(what);
        let job = &self.staged.job;
        if job.spec.definition().is_some() {
            let invocation = fill::def::test(&self.staged, self.image.path(), argv);
            let script = Script { argv: Vec::new(), tree: None, limit: job.left() };
            return fill::invoke(job, &mut self.staged.log, &invocation, script, &mut |_| {});
        }
        let image = overlays::open(self.image.path())?;
        let facts = overlays::facts(self.image.path(), &image)?;
        let mut sandbox = job.sandbox(self.staged.control.clone(), self.staged.tmp.clone(), false);
        sandbox.layers.push(self.image.path().to_owned());
        let root = job.name.root();
        let own = facts.layer_env().into_iter().find(|layer| layer.root == root);
        sandbox.layer_env.push(own.unwrap_or(LayerEnv { root, programs: Vec::new(), vars: Vec::new() }));
        let script = Script { argv, tree: None, limit: job.left() };
        fill::run(job, &mut self.staged.log, &sandbox, script, &mut |_| {})
    }

    fn verify_files(&self) -> Result<(), BuildError> {
        let job = &self.staged.job;
        if job.spec.verify.is_empty() {
            return Ok(());
        }
        let image = overlays::open(self.image.path())?;
        let mut wrong = Vec::new();
        for at in &job.spec.verify {
            let wanted = &at.value;
            if let Err(why) = verify(&image, &job.name, &wanted.path, wanted.sha256.as_deref())? {
                wrong.push(format!("{}: {} {why}", at.loc, wanted.path));
            }
        }
        if wrong.is_empty() {
            return Ok(());
        }
        Err(BuildError::Unfulfilled { name: job.name.clone(), what: wrong.join("\n") })
    }
}

/// Whether the file is in the image with the digest wanted; the inner error says what is wrong with it.
fn verify(image: &Image, name: &Name, path: &str, sha256: Option<&str>) -> Result<Result<(), String>, BuildError> {
    let bad = |source| BuildError::Verify { name: name.clone(), source };
    let full = format!("{}/{}", name.root(), path.trim_start_matches('/'));
    let Some(inode) = image.find(full.as_bytes()).map_err(bad)? else { return Ok(Err("is missing".into())) };
    match inode.kind {
        InodeKind::File if inode.size == 0 => return Ok(Err("is empty".into())),
        InodeKind::File => {}
        _ if sha256.is_some() => return Ok(Err("has no digest: it is no regular file".into())),
        _ => {}
    }
    let Some(wanted) = sha256 else { return Ok(Ok(())) };
    let mut hash = digest::Running::new();
    let mut buffer = vec![0; 1 << 20];
    let mut offset = 0;
    loop {
        match image.read(&inode, offset, &mut buffer).map_err(bad)? {
            0 => break,
            got => {
                hash.add(&buffer[..got]);
                offset += got as u64;
            }
        }
    }
    let found = hash.finish();
    Ok(if found.strip_prefix("sha256:") == Some(wanted) {
        Ok(())
    } else {
        Err(format!("is {found}, not sha256:{wanted}"))
    })
}

/// Reads a file's digest for the record of what is published.
pub fn digest_of_new(packed: &Packed) -> Result<String, BuildError> {
    let path = packed.image.path();
    Ok(digest::of_file(&fs::open(path)?).map_err(PathError::new("read", path))?)
}
