//! Environments made by the program micromamba, where a site has chosen it: it fetches, solves and installs into the
//! staged tree by itself, with a network and a cache of its own on scratch.

use std::ffi::OsString;
use std::path::Path;

use super::scripts::command;
use crate::build::error::BuildError;
use crate::build::fill::Material;
use crate::build::sandbox::{CONTROL, TMP};
use crate::build::stage::Staged;
use crate::conda::link::literal;
use crate::conda::micromamba::{Create, create, file};
use crate::exec::Network;
use crate::model::env::EnvVar;
use crate::model::event::Phase;
use crate::recipe::conda::Environment;
use crate::sys::{fs, process};

/// What it is called beside ovl's own files.
const PROGRAM: &str = "micromamba";

/// Has micromamba make the environment.
pub fn fill(staged: &mut Staged, wanted: &Environment) -> Result<Material, BuildError> {
    let name = staged.job.name.clone();
    let Some(program) = process::find("micromamba") else {
        return Err(BuildError::Unfit {
            what: format!("{name}: conda.backend is micromamba, and there is no such program"),
            hint: "install it, or unset conda.backend: ovl makes environments itself".into(),
        });
    };
    let (listed, text) = file(wanted, &staged.job.step.recipe.text, staged.job.step.recipe.locked.as_ref());
    fs::write_quick(&staged.control.join(listed), text.as_bytes(), 0o644)?;
    staged.job.enter(Phase::Install, "network: host")?;
    staged.log.new_phase(Phase::Install.as_str());
    let root = name.root();
    // It may lie where the sandbox has nothing: in a home, or below /tmp.
    fs::write_quick(&staged.control.join(PROGRAM), b"", 0o755)?;
    let inside = Path::new(CONTROL).join(PROGRAM);
    let what = Create {
        program: &inside,
        prefix: Path::new(&root),
        file: &Path::new(CONTROL).join(listed),
        cache: &Path::new(TMP).join("micromamba"),
    };
    let wishes = staged.job.step.recipe.wishes.clone();
    let cmd = create(&what, wanted, staged.job.config, &wishes)
        .map_err(|source| BuildError::Conda { name, source: Box::new(source) })?;
    let mut sandbox = staged.sandbox();
    sandbox.programs.push((fs::canonicalize(&program)?, inside.to_string_lossy().into_owned()));
    sandbox.network = Network::Host;
    sandbox.target = Some(staged.tree.bind(&staged.job));
    let text = |text: &OsString| text.to_string_lossy().into_owned();
    sandbox.vars = cmd.env.iter().map(|(name, value)| (text(name), text(value))).collect();
    let argv = [vec![cmd.program], cmd.args].concat();
    command(staged, &sandbox, argv, Phase::Install)?;
    let prefix = EnvVar { name: "CONDA_PREFIX".into(), value: "$app_root".into(), note: None };
    let var = |(name, value): &(String, String)| EnvVar { name: name.clone(), value: literal(value), note: None };
    let env = [prefix].into_iter().chain(wanted.variables.iter().map(var)).collect();
    Ok(Material { env, ..Material::tree() })
}
