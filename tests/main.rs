//! The one integration binary.

#![allow(clippy::disallowed_methods, clippy::disallowed_macros)]

mod apptainer;
mod bad_input;
mod build;
mod config;
mod crash;
mod docs;
mod driver;
mod everyday;
mod ext;
mod hardening;
mod law;
#[cfg(feature = "squashfs-ng")]
mod libsquashfs;
mod locks;
mod packing;
mod reading;
mod recipes;
mod running;
mod runtime;
mod shipped;
mod support;
mod unpacked;
