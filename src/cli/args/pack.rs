//! `ovl pack` and `ovl unpack` as they are typed.

use std::path::PathBuf;

use clap::{Args, ValueHint};

/// `ovl pack`
#[derive(Debug, Args)]
pub struct Pack {
    /// A directory, an ext3 image, a SIF or SquashFS file, a tar archive (- for standard input), an OCI or docker archive
    #[arg(value_name = "SOURCE", value_hint = ValueHint::AnyPath)]
    pub source: PathBuf,
    /// The image to write (default: SOURCE's name with .sqf, here)
    #[arg(short, long, value_name = "FILE", value_hint = ValueHint::FilePath)]
    pub output: Option<PathBuf>,
    /// Put the content below this path, as in /cnt/samtools/1.22
    #[arg(long, value_name = "PATH")]
    pub prefix: Option<String>,
    /// Compressor and level: zstd:3, lz4, gzip:9, xz
    #[arg(long, value_name = "COMP[:LEVEL]")]
    pub comp: Option<String>,
    /// Level of the compressor
    #[arg(long, value_name = "N")]
    pub level: Option<u32>,
    /// SquashFS block size, 4k to 1M
    #[arg(long, value_name = "SIZE")]
    pub block_size: Option<String>,
    /// Keep the owners of files instead of making everything root's
    #[arg(long, alias = "keep-owners")]
    pub keep_owner: bool,
    /// Compressing threads (default: as many as there are processors)
    #[arg(short, long, value_name = "N")]
    pub threads: Option<u32>,
    /// Replace FILE
    #[arg(short, long)]
    pub force: bool,
    /// Say what would be packed, write nothing
    #[arg(short = 'n', long)]
    pub dry_run: bool,
    /// How progress is told: auto, bars, plain, json, none
    #[arg(long, value_name = "HOW")]
    pub progress: Option<String>,
    /// Print the result as JSON
    #[arg(long)]
    pub json: bool,
}

/// `ovl unpack`
#[derive(Debug, Args)]
pub struct Unpack {
    /// A SquashFS, SIF or ext3 image, or an archive (- for standard input)
    #[arg(value_name = "SOURCE", value_hint = ValueHint::AnyPath)]
    pub source: PathBuf,
    /// A directory, FILE.tar, FILE.img, or - for an archive on standard output (default: SOURCE's name as a directory, here)
    #[arg(short, long, value_name = "OUT", value_hint = ValueHint::AnyPath)]
    pub output: Option<PathBuf>,
    /// What to write: dir, tar, or img for an ext3 image that can be written to (default: told by OUT)
    #[arg(long, value_name = "FORMAT", value_parser = ["dir", "tar", "img"])]
    pub format: Option<String>,
    /// Size of an ext3 image, as in 10G (default: what its content needs and a tenth)
    #[arg(long, value_name = "SIZE")]
    pub size: Option<String>,
    /// Give files in a directory the owners they have in SOURCE (only root can)
    #[arg(long, alias = "keep-owners")]
    pub keep_owner: bool,
    /// Writing threads (default: as many as there are processors)
    #[arg(short, long, value_name = "N")]
    pub threads: Option<u32>,
    /// Write into a directory that is not empty, replacing files; replace a file
    #[arg(short, long)]
    pub force: bool,
    /// Say what would be unpacked, write nothing
    #[arg(short = 'n', long)]
    pub dry_run: bool,
    /// How progress is told: auto, bars, plain, json, none
    #[arg(long, value_name = "HOW")]
    pub progress: Option<String>,
}
