//! Numbers of the SquashFS 4.0 format (all little-endian), shared by the writer and the reader.
//! Source: the kernel's fs/squashfs/squashfs_fs.h and Documentation/filesystems/squashfs.rst.

/// First four bytes of an image, "hsqs".
pub const MAGIC: u32 = 0x7371_7368;
/// Size of the superblock.
pub const SUPERBLOCK: usize = 96;
/// Uncompressed size of a full metadata block.
pub const METADATA: usize = 8192;
/// Set in a metadata block's 16-bit header when it is stored uncompressed.
pub const META_RAW: u16 = 1 << 15;
/// Set in a data block's 32-bit size when it is stored uncompressed.
pub const DATA_RAW: u32 = 1 << 24;
/// "No fragment", "no xattr".
pub const NONE32: u32 = 0xffff_ffff;
/// "No such table".
pub const NONE64: u64 = u64::MAX;
/// Smallest and largest block size.
pub const BLOCK_RANGE: std::ops::RangeInclusive<u32> = 4096..=1 << 20;

/// Superblock flags.
pub mod flag {
    /// Every file may share fragments (mksquashfs' default sets no such bit; listed for readers).
    pub const DUPLICATES: u16 = 0x40;
    /// An export (NFS) table is present.
    pub const EXPORTABLE: u16 = 0x80;
    /// Xattrs are stored uncompressed.
    pub const UNCOMPRESSED_XATTRS: u16 = 0x100;
    /// No xattrs anywhere.
    pub const NO_XATTRS: u16 = 0x200;
    /// A block with compressor options follows the superblock.
    pub const COMPRESSOR_OPTIONS: u16 = 0x400;
}

/// Inode types.
pub mod inode {
    /// Basic kinds 1–7.
    pub const DIR: u16 = 1;
    /// A regular file.
    pub const FILE: u16 = 2;
    /// A symbolic link.
    pub const SYMLINK: u16 = 3;
    /// A block device.
    pub const BLKDEV: u16 = 4;
    /// A character device.
    pub const CHRDEV: u16 = 5;
    /// A named pipe.
    pub const FIFO: u16 = 6;
    /// A socket.
    pub const SOCKET: u16 = 7;
    /// Added to a basic kind for its extended form.
    pub const EXTENDED: u16 = 7;
}

/// Xattr name prefixes by their number in the format; bit 8 marks a value stored out of line.
pub const XATTR_PREFIXES: [&[u8]; 3] = [b"user.", b"trusted.", b"security."];
/// Set in an xattr's type when the value is a reference to another place.
pub const XATTR_OOL: u16 = 0x100;
