//! What several topics' tests share.

pub mod house;
pub mod tree;
