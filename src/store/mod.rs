//! What is on disk: layers, recipes, overlays, claims, publishing.

pub mod bases;
pub mod claim;
pub mod index;
pub mod layers;
pub mod overlays;
pub mod programs;
pub mod publish;
pub mod recipes;
pub mod remotes;
pub mod sources;
pub mod sweep;
pub mod system;
pub mod templates;
pub mod usage;
