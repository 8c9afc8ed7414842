//! Conda: from what was asked for to a locked list of packages (`setup`, `solve`, `locked`), from those to archives
//! (`cache`) and to a tree (`link`).
//! Environments that are written to are read by `installed` and changed by `apply`.

pub mod apply;
mod auth;
pub mod cache;
mod error;
pub mod installed;
pub mod link;
pub mod locked;
pub mod micromamba;
mod setup;
mod solve;
mod virtuals;

pub use auth::client;
pub use error::CondaError;
pub use locked::Locked;
pub use setup::{Wishes, inputs, shown};
pub use solve::Conda;
