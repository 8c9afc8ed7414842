//! Building overlays: a request becomes frozen steps (`prepare`); each step goes claim → stage → fill → pack → check →
//! publish (`one`). Each phase consumes the one before, so "publish before check" does not compile, and dropping any of
//! them removes what it made.

pub mod base;
pub mod check;
pub mod error;
mod ext3;
mod fallback;
mod fill;
mod job;
mod log;
mod needs;
mod one;
mod origin;
pub mod pack;
pub mod plan;
mod prebuilt;
mod prepare;
pub mod publish;
mod request;
mod sandbox;
pub mod sources;
mod stage;
mod starts;
mod step;
mod tree;
pub mod work;

pub use error::BuildError;
pub use fill::conda::prefetch;
pub use one::build;
pub use prepare::{Ask, Prepared, heal, prepare, stale_now};
pub use request::{Done, Options, Outcome, Request};
pub use step::{LookUp, Stamp, Step, StepDep, Stop};
