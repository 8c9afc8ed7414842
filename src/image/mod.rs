//! Disk images: SquashFS (written and read), ext2/3/4 (read without mounting), SIF (read), and what can be packed.

pub mod bytes;
pub mod cache;
pub mod error;
pub mod ext;
pub mod kind;
pub mod nesting;
pub mod sif;
pub mod source;
pub mod squashfs;

pub use error::ImageError;
