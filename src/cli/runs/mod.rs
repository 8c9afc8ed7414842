//! The commands about runs: what became of what was asked for.

pub mod cancel;
pub mod explain;
mod find;
pub mod history;
pub mod logs;
pub mod outcome;
pub mod retry;
pub mod status;
pub mod wait;
