//! SquashFS 4.0, written and read by ovl itself.
//! Format: the kernel's Documentation/filesystems/squashfs.rst and squashfs-tools' format description.

pub mod codec;
pub mod format;
pub mod read;
pub mod source;
pub mod write;
