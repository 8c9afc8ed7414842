//! The one integration binary.

#![allow(clippy::disallowed_methods, clippy::disallowed_macros)]

mod apptainer;
mod bad_input;
mod base;
mod build;
mod bytes;
mod chains;
mod conda_link;
mod conda_solve;
mod config;
mod crash;
mod defs;
mod docs;
mod driver;
mod drivers;
mod everyday;
mod ext;
mod fakes;
mod fetch;
mod graph;
mod hardening;
mod law;
#[cfg(feature = "squashfs-ng")]
mod libsquashfs;
mod locks;
mod overlay;
mod pack;
mod packing;
mod progress;
mod reading;
mod recipes;
mod registry;
mod remotes;
mod running;
mod runtime;
mod scripts;
mod sessions;
mod shipped;
mod sif;
mod slurm;
mod sources;
mod support;
mod templates;
mod unpacked;
mod wrapping;
