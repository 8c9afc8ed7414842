//! Conda environments: archives into the cache, then packed from where they are.

use super::Material;
use crate::build::error::BuildError;
use crate::build::stage::Staged;
use crate::recipe::conda::Environment;

/// Fetches and composes the environment.
pub fn fill(staged: &mut Staged, _environment: &Environment) -> Result<Material, BuildError> {
    Err(BuildError::Unfit {
        what: format!("{}: conda environments cannot be built yet", staged.job.name),
        hint: "write a build script".into(),
    })
}
