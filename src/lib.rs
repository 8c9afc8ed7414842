//! ovl builds software into single-file SquashFS overlays and runs commands with them.
//!
//! The rooms, from the ground up; a room imports only from rooms above it in this list
//! (`tests/law.rs` holds that, `docs/architecture.md` explains it).

// words: plain values, no I/O
pub mod model;

// thinking: text and values in, text and values out
pub mod graph;
pub mod plan;
pub mod recipe;
pub mod sched;
pub mod script;

pub mod exec;

// doing
pub mod config;
pub mod image;
pub mod net;
pub mod sys;

pub mod build;
pub mod conda;
pub mod container;
pub mod registry;
pub mod run;
pub mod runtime;
pub mod store;

// speaking
pub mod cli;
pub mod ui;
