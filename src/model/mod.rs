//! Words: the plain values every room speaks in. No I/O, no process, no clock, no print.

pub mod batch;
pub mod cmd;
pub mod env;
pub mod event;
pub mod loc;
pub mod meta;
pub mod name;
pub mod need;
pub mod resources;
pub mod units;
pub mod version;
