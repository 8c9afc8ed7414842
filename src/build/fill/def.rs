//! Definition files: a whole system, by Apptainer or by the native engine.

use super::Material;
use crate::build::error::BuildError;
use crate::build::stage::Staged;
use crate::recipe::def::Definition;

/// Builds the system.
pub fn fill(staged: &mut Staged, _definition: &Definition) -> Result<Material, BuildError> {
    Err(BuildError::Unfit {
        what: format!("{}: definition files cannot be built yet", staged.job.name),
        hint: "write a build script".into(),
    })
}
