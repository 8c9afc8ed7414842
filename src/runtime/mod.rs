//! Carries an [`Invocation`](crate::exec::Invocation) out. The native runtime: `tree` merges images into one tree,
//! `fuse` serves it to the kernel (or `unpack` writes it out), `native` builds the root, isolates and becomes the
//! command. `writable` mounts an ext3 image for writing. `apptainer` hands it to another program where that cannot work;
//! `choice` chooses.

pub mod apptainer;
mod choice;
pub mod error;
pub mod fuse;
pub mod gpu;
pub mod native;
mod staging;
pub mod survey;
pub mod tree;
mod unpack;
pub mod writable;

pub use choice::{Choice, run};
pub use error::RuntimeError;
pub use native::{Hidden, command_for, exec, hidden, probe, sandbox_main};
pub use staging::stage_main;
