//! Disk images: SquashFS (written and read), ext2/3/4 (read without mounting), and whether one is in use.

pub mod bytes;
pub mod cache;
pub mod error;
pub mod ext;
pub mod kind;
pub mod nesting;
pub mod source;
pub mod squashfs;

pub use error::ImageError;
