//! What several topics' tests share.

pub mod house;
pub mod queue;
pub mod sif;
pub mod slurm;
pub mod tree;
