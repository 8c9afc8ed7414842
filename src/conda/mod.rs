//! Conda: from what was asked for to a locked list of packages (`locked`), and from those to a tree.

pub mod locked;

pub use locked::Locked;
