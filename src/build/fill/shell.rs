//! Shell recipes: fetch() and install() run in the sandbox, each line into the log.

use super::{Material, Script, run};
use crate::build::error::BuildError;
use crate::build::sandbox::Sandbox;
use crate::build::stage::Staged;
use crate::exec::Network;
use crate::model::event::Phase;

/// Runs the recipe's functions.
pub fn fill(staged: &mut Staged) -> Result<Material, BuildError> {
    if staged.job.spec.functions.fetch {
        staged.job.enter(Phase::Fetch, "network: host")?;
        let mut sandbox = staged.sandbox();
        sandbox.network = Network::Host;
        sandbox.sources = Some((staged.sources.clone(), true));
        script(staged, Phase::Fetch, &sandbox, false)?;
    }
    let network = staged.job.network();
    let shown = if network == Network::Host { "network: host" } else { "" };
    staged.job.enter(Phase::Install, shown)?;
    let mut sandbox = staged.sandbox();
    sandbox.network = network;
    sandbox.sources = Some((staged.sources.clone(), false));
    sandbox.target = Some(staged.tree.bind(&staged.job));
    script(staged, Phase::Install, &sandbox, true)?;
    Ok(Material::tree())
}

/// Runs one phase of the driver; `writes` says that it needs the tree.
fn script(staged: &mut Staged, phase: Phase, sandbox: &Sandbox, writes: bool) -> Result<(), BuildError> {
    staged.log.new_phase(phase.as_str());
    let script =
        Script { argv: Staged::driver(phase.as_str()), tree: writes.then_some(&staged.tree), limit: staged.job.left() };
    let ended = run(&staged.job, &mut staged.log, sandbox, script, &mut |_| {})?;
    staged.succeeded(ended, phase)
}
