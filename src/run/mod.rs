//! Carrying out a plan. A run is a directory ([`dir`]) with frozen steps; [`drive`] builds some here ([`ready`] says what
//! may start next, [`local`] starts it) and submits the others ([`submit`], through [`queue`]); a job comes back in
//! through [`inside`]. [`survey`] looks at a run from outside, [`view`] judges; [`cancel`] and [`retry`] change it.

pub mod cancel;
pub mod dir;
pub mod drive;
mod evidence;
pub mod explain;
pub mod follow;
pub mod inside;
pub mod join;
pub mod journal;
pub mod local;
mod probe;
pub mod queue;
pub mod ready;
mod record;
pub mod retry;
mod script;
pub mod status;
pub mod submit;
pub mod survey;
pub mod sweep;
pub mod view;

pub use dir::{Dir, RunError};
pub use drive::{Drive, Local, Report};
