//! What is to be run with which overlays: environment, binds and mounts as one plain value, the [`Invocation`].

pub mod apptainer;
pub mod binds;
pub mod environ;
pub mod gpu;
mod invocation;
pub mod modulefile;
pub mod wrapper;

pub use invocation::{Base, Gpus, Invocation, Isolation, Mount, Network, System};
