//! `ovl push`, `ovl pull`, `ovl tag`, `ovl login` and `ovl logout` as they are typed.

use clap::{Args, ValueHint};

use crate::cli::complete;

/// How registries are spoken to.
#[derive(Debug, Clone, Args)]
pub struct Speaking {
    /// Speak to registries without encryption (those on this machine, and in registry.insecure, always may be)
    #[arg(long)]
    pub plain_http: bool,
    /// How progress is told: auto, bars, plain, json, none
    #[arg(long, value_name = "HOW")]
    pub progress: Option<String>,
    /// Print the result as JSON
    #[arg(long)]
    pub json: bool,
}

/// `ovl push`
#[derive(Debug, Args)]
pub struct Push {
    /// An overlay by name or file
    #[arg(value_name = "OVERLAY", add = complete::overlay())]
    pub overlay: String,
    /// Where to, as in host/group/samtools:1.22; several get the same content (default: the overlay's name below the
    /// registry, its version as the tag)
    #[arg(value_name = "REF", value_hint = ValueHint::Other)]
    pub references: Vec<String>,
    /// The registry of references that name none, as host[/namespace] (default: registry.default)
    #[arg(short, long, value_name = "URL")]
    pub registry: Option<String>,
    /// A further note for the manifest
    #[arg(long = "annotation", value_name = "KEY=VALUE")]
    pub annotations: Vec<String>,
    /// Also tag it by the key of its build, where build.prebuilt looks for it
    #[arg(long)]
    pub by_key: bool,
    /// Say what would be pushed, transfer nothing
    #[arg(long)]
    pub dry_run: bool,
    /// How registries are spoken to.
    #[command(flatten)]
    pub speaking: Speaking,
}

/// `ovl pull`
#[derive(Debug, Args)]
pub struct Pull {
    /// What, as in host/group/samtools:1.22, oras://host/name:tag or docker://alpine:3.20
    #[arg(value_name = "REF", value_hint = ValueHint::Other)]
    pub reference: String,
    /// What to call it (default: what it calls itself, else as REF looks)
    #[arg(value_name = "NAME", conflicts_with = "name")]
    pub named: Option<String>,
    /// What to call it
    #[arg(short, long, value_name = "NAME")]
    pub name: Option<String>,
    /// The layer to put it into, by kind or path (default: the first that can be written to)
    #[arg(long, value_name = "LAYER")]
    pub layer: Option<String>,
    /// Take what is there for this platform (default: this machine's)
    #[arg(long, value_name = "OS/ARCH")]
    pub platform: Option<String>,
    /// The registry of a REF that names none, as host[/namespace] (default: registry.default)
    #[arg(short, long, value_name = "URL")]
    pub registry: Option<String>,
    /// Say what would be pulled, transfer nothing but descriptions
    #[arg(long)]
    pub dry_run: bool,
    /// How registries are spoken to.
    #[command(flatten)]
    pub speaking: Speaking,
}

/// `ovl tag`
#[derive(Debug, Args)]
pub struct Tag {
    /// What is there, as in host/group/samtools:1.22
    #[arg(value_name = "SRC", value_hint = ValueHint::Other)]
    pub source: String,
    /// Further names: a tag alone, or a reference in the same registry
    #[arg(value_name = "DST", required = true, value_hint = ValueHint::Other)]
    pub targets: Vec<String>,
    /// The registry of references that name none, as host[/namespace] (default: registry.default)
    #[arg(short, long, value_name = "URL")]
    pub registry: Option<String>,
    /// How registries are spoken to.
    #[command(flatten)]
    pub speaking: Speaking,
}

/// `ovl login`
#[derive(Debug, Args)]
pub struct Login {
    /// The registry, as in registry.example.org
    #[arg(value_name = "REGISTRY", value_hint = ValueHint::Hostname)]
    pub registry: String,
    /// The user (default: asked for)
    #[arg(short, long, value_name = "USER")]
    pub user: Option<String>,
    /// Read the password, or an access token, from standard input
    #[arg(long)]
    pub password_stdin: bool,
    /// Speak to it without encryption
    #[arg(long)]
    pub plain_http: bool,
}

/// `ovl logout`
#[derive(Debug, Args)]
pub struct Logout {
    /// The registry
    #[arg(value_name = "REGISTRY", value_hint = ValueHint::Hostname)]
    pub registry: String,
}
