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

/// Says why a test, or a part of one, is skipped: a tool is missing. Where `tests/run` has installed all of them
/// (`OVL_TEST_ALL`) that is a failure.
#[track_caller]
pub fn missing(why: &str) {
    assert!(std::env::var_os("OVL_TEST_ALL").is_none(), "{why}");
    println!("skipped: {why}");
}
