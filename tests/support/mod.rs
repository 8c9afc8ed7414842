//! What several topics' tests share.

#[allow(dead_code)]
pub mod channel;
pub mod house;
pub mod queue;
pub mod registry;
pub mod server;
pub mod sif;
pub mod slurm;
pub mod tree;
#[allow(dead_code)]
pub mod web;
