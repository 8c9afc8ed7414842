//! What concerns conda, as it is typed.

use clap::Args;

/// Where packages come from, and what they are for.
#[derive(Debug, Clone, Default, Args)]
#[command(next_help_heading = "Conda")]
pub struct CondaFlags {
    /// A channel to ask before all others: a name, an address or a directory (repeatable)
    #[arg(short, long, value_name = "CHANNEL")]
    pub channel: Vec<String>,
    /// Ask only the channels given with -c
    #[arg(long, requires = "channel")]
    pub override_channels: bool,
    /// What the packages are for, as in linux-64 or linux-aarch64
    #[arg(long, value_name = "PLATFORM")]
    pub platform: Option<String>,
    /// Use nothing but what is in the caches
    #[arg(long)]
    pub offline: bool,
}

/// `ovl search`
#[derive(Debug, Args)]
pub struct Search {
    /// A package, as in samtools, samtools>=1.20, bioconda::samtools=1.22 or '*tools'
    pub spec: String,
    /// Only the newest so many
    #[arg(long, value_name = "N")]
    pub limit: Option<usize>,
    /// Print as JSON
    #[arg(long)]
    pub json: bool,
    /// Where from, and what for
    #[command(flatten)]
    pub conda: CondaFlags,
}
