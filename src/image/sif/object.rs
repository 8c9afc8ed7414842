//! A descriptor of a SIF file: 585 packed little-endian bytes that say what an object is and where it lies.

use std::fmt;

use super::super::bytes::{array, le32, le64};
use super::super::error::{ImageError, Result};

/// Bytes of a descriptor.
pub(super) const SIZE: usize = 585;

/// Something in a SIF file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Object {
    /// Its number, from 1.
    pub id: u32,
    /// The group of objects it belongs to; None: to none.
    pub group: Option<u32>,
    /// What it is about (a signature's object).
    pub link: Link,
    /// What it is.
    pub kind: Kind,
    /// Its name, mostly that of the file it was made from.
    pub name: String,
    /// Where it begins, in bytes from the file's start.
    pub offset: u64,
    /// Its bytes.
    pub size: u64,
    /// Last change, seconds since 1970.
    pub modified: i64,
}

/// What an object is about.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Link {
    /// Nothing else.
    None,
    /// The object of this number.
    Object(u32),
    /// All objects of this group.
    Group(u32),
}

/// Kinds of objects.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// The definition file it was built from.
    Definition,
    /// Environment variables.
    Environment,
    /// Labels, JSON.
    Labels,
    /// A file system.
    Partition(Partition),
    /// A signature over others.
    Signature,
    /// Other metadata, JSON.
    Json,
    /// Anything.
    Generic,
    /// A cryptographic message.
    Message,
    /// A bill of materials.
    Sbom,
    /// Index of an OCI image.
    OciIndex,
    /// Blob of an OCI image.
    OciBlob,
    /// A number that is not known here.
    Other(u32),
}

impl Kind {
    /// Its name for people.
    pub fn name(self) -> &'static str {
        match self {
            Kind::Definition => "definition file",
            Kind::Environment => "environment",
            Kind::Labels => "labels",
            Kind::Partition(_) => "partition",
            Kind::Signature => "signature",
            Kind::Json => "JSON",
            Kind::Generic => "data",
            Kind::Message => "cryptographic message",
            Kind::Sbom => "bill of materials",
            Kind::OciIndex => "OCI index",
            Kind::OciBlob => "OCI blob",
            Kind::Other(_) => "unknown",
        }
    }
}

/// A file system in a SIF file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Partition {
    /// Which.
    pub fs: FileSystem,
    /// What for.
    pub role: Role,
    /// For which machines.
    pub arch: Arch,
}

/// File systems.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum FileSystem {
    /// SquashFS.
    Squashfs,
    /// ext3.
    Ext3,
    /// An archive.
    Archive,
    /// Raw data.
    Raw,
    /// SquashFS in a LUKS container.
    EncryptedSquashfs,
    /// SquashFS encrypted by gocryptfs.
    GocryptfsSquashfs,
    /// A number that is not known here.
    Other(u32),
}

impl fmt::Display for FileSystem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            FileSystem::Squashfs => "squashfs",
            FileSystem::Ext3 => "ext3",
            FileSystem::Archive => "an archive",
            FileSystem::Raw => "raw data",
            FileSystem::EncryptedSquashfs => "encrypted squashfs",
            FileSystem::GocryptfsSquashfs => "encrypted squashfs (gocryptfs)",
            FileSystem::Other(number) => return write!(f, "file system number {number}"),
        })
    }
}

/// What a partition is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Role {
    /// A system that is not the one to start.
    System,
    /// The system to start.
    Primary,
    /// Data.
    Data,
    /// An overlay over the system of its group.
    Overlay,
    /// A number that is not known here.
    Other(u32),
}

impl fmt::Display for Role {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Role::System => "system",
            Role::Primary => "primary system",
            Role::Data => "data",
            Role::Overlay => "overlay",
            Role::Other(number) => return write!(f, "role number {number}"),
        })
    }
}

/// An architecture as SIF writes it: two digits and a NUL.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Arch(pub [u8; 3]);

impl Arch {
    /// (digits, name in SIF, name in Rust's `std::env::consts::ARCH`)
    const KNOWN: [(&[u8; 3], &str, &str); 12] = [
        (b"01\0", "386", "x86"),
        (b"02\0", "amd64", "x86_64"),
        (b"03\0", "arm", "arm"),
        (b"04\0", "arm64", "aarch64"),
        (b"05\0", "ppc64", "powerpc64"),
        (b"06\0", "ppc64le", "powerpc64"),
        (b"07\0", "mips", "mips"),
        (b"08\0", "mipsle", "mips"),
        (b"09\0", "mips64", "mips64"),
        (b"10\0", "mips64le", "mips64"),
        (b"11\0", "s390x", "s390x"),
        (b"12\0", "riscv64", "riscv64"),
    ];

    /// Whether it is known to be another one than this machine's. 386 programs run on amd64.
    pub fn is_foreign(self) -> bool {
        let here = std::env::consts::ARCH;
        let known = Arch::KNOWN.iter().find(|(digits, ..)| **digits == self.0);
        known.is_some_and(|(_, _, name)| *name != here && !(*name == "x86" && here == "x86_64"))
    }
}

impl fmt::Display for Arch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match Arch::KNOWN.iter().find(|(digits, ..)| **digits == self.0) {
            Some((_, name, _)) => f.write_str(name),
            None => f.write_str("unknown"),
        }
    }
}

/// Marks a group's number.
const GROUP: u32 = 0xF000_0000;

impl Object {
    /// Reads a descriptor; None: the slot is not in use.
    ///
    /// # Errors
    /// When its place or size is negative, or together too large for any file.
    pub(super) fn parse(raw: &[u8]) -> Result<Option<Object>> {
        let [used] = array::<1>(raw, 4)?;
        if used == 0 {
            return Ok(None);
        }
        let (offset, size) = (le64(raw, 17)?, le64(raw, 25)?);
        let most = i64::MAX as u64;
        if offset > most || size > most || offset.checked_add(size).is_none_or(|end| end > most) {
            return Err(ImageError::corrupt(format!("{} bytes at {}", size as i64, offset as i64)));
        }
        let number = |value: u32| value & !GROUP;
        let (group, link) = (le32(raw, 9)?, le32(raw, 13)?);
        let name = array::<128>(raw, 73)?;
        let name = name.split(|byte| *byte == 0).next().unwrap_or_default();
        Ok(Some(Object {
            id: le32(raw, 5)?,
            group: (number(group) != 0).then_some(number(group)),
            link: match number(link) {
                0 => Link::None,
                group if link & GROUP == GROUP => Link::Group(group),
                object => Link::Object(object),
            },
            kind: kind(raw)?,
            name: String::from_utf8_lossy(name).chars().filter(|c| !c.is_control()).collect(),
            offset,
            size,
            modified: le64(raw, 49)? as i64,
        }))
    }

    /// What kind of partition it is, if one.
    pub fn partition(&self) -> Option<Partition> {
        match self.kind {
            Kind::Partition(partition) => Some(partition),
            _ => None,
        }
    }
}

/// Numbers: pkg/sif/descriptor.go, from 0x4001 on.
fn kind(raw: &[u8]) -> Result<Kind> {
    Ok(match le32(raw, 0)? {
        0x4001 => Kind::Definition,
        0x4002 => Kind::Environment,
        0x4003 => Kind::Labels,
        0x4004 => Kind::Partition(Partition {
            fs: match le32(raw, 201)? {
                1 => FileSystem::Squashfs,
                2 => FileSystem::Ext3,
                3 => FileSystem::Archive,
                4 => FileSystem::Raw,
                5 => FileSystem::EncryptedSquashfs,
                6 => FileSystem::GocryptfsSquashfs,
                other => FileSystem::Other(other),
            },
            role: match le32(raw, 205)? {
                1 => Role::System,
                2 => Role::Primary,
                3 => Role::Data,
                4 => Role::Overlay,
                other => Role::Other(other),
            },
            arch: Arch(array(raw, 209)?),
        }),
        0x4005 => Kind::Signature,
        0x4006 => Kind::Json,
        0x4007 => Kind::Generic,
        0x4008 => Kind::Message,
        0x4009 => Kind::Sbom,
        0x400A => Kind::OciIndex,
        0x400B => Kind::OciBlob,
        other => Kind::Other(other),
    })
}
