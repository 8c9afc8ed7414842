//! Every configuration key: its kind, default and meaning. Files, variables, flags, `config show` and
//! `config.yaml.example` all follow this table.

/// One key.
#[derive(Debug, Clone, Copy)]
pub struct Key {
    /// Dotted name, as in `build.comp`.
    pub name: &'static str,
    /// What its value must look like.
    pub kind: Kind,
    /// The value when nobody sets it, as it would be written in the file; empty: unset.
    pub default: &'static str,
    /// One or two sentences for the example file and the manual.
    pub doc: &'static str,
    /// CondaTainer's name for it (row C48), read as well; empty: none.
    pub alias: &'static str,
}

/// What a value must look like.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// A path; `~` and `$VAR` are expanded.
    Path,
    /// A list of paths.
    Paths,
    /// true or false.
    Bool,
    /// A whole number.
    Number,
    /// A size such as 128k.
    Size,
    /// A SquashFS block size: a power of two from 4k to 1M.
    BlockSize,
    /// A time such as 30m.
    Time,
    /// A compressor with a level such as zstd:3.
    Compression,
    /// One of these words.
    Choice(&'static [&'static str]),
    /// A word or sentence on one line.
    Text,
    /// Words for other programs, one per list item.
    Texts,
}

impl Key {
    /// The environment variable that sets it: `OVL_BUILD_COMP`.
    pub fn variable(&self) -> String {
        format!("OVL_{}", self.name.replace('.', "_").to_ascii_uppercase())
    }
}

const fn key(name: &'static str, kind: Kind, default: &'static str, alias: &'static str, doc: &'static str) -> Key {
    Key { name, kind, default, doc, alias }
}

/// All keys, in the order in which the example file shows them.
pub const KEYS: &[Key] = &[
    key(
        "layers.user",
        Kind::Path,
        "~/.local/share/ovl",
        "",
        "Your own layer: a directory with images/ and build-scripts/ in it.",
    ),
    key("layers.group", Kind::Path, "", "", "Your group's layer, shared by its members; its config.yaml is read too."),
    key(
        "layers.site",
        Kind::Path,
        "",
        "",
        "The site's layer, usually read-only for users; its config.yaml is read too.",
    ),
    key(
        "layers.extra",
        Kind::Paths,
        "",
        "extra_base_dirs",
        "Further layers, searched last. A path that ends in :ro is never written to.",
    ),
    key(
        "dirs.state",
        Kind::Path,
        "~/.local/state/ovl",
        "",
        "Logs and history of builds. Put it on the shared file system.",
    ),
    key("dirs.logs", Kind::Path, "", "logs_dir", "Where build logs go; unset: logs/ in dirs.state."),
    key(
        "dirs.cache",
        Kind::Path,
        "~/.cache/ovl",
        "",
        "What was downloaded: conda packages, container layers, sources, recipes of remotes. Members of a group may share it.",
    ),
    key(
        "dirs.scratch",
        Kind::Path,
        "",
        "",
        "Fast node-local disk for building; unset: the job's own directory, $TMPDIR or /tmp.",
    ),
    key(
        "dirs.data_scratch",
        Kind::Path,
        "",
        "",
        "Where reference data is built; unset: work/ beside the images/ it goes to, because it is large.",
    ),
    key(
        "net.offline",
        Kind::Bool,
        "false",
        "",
        "Fetch nothing: what is not in the caches is an error that names it (--offline).",
    ),
    key("net.timeout", Kind::Time, "1m", "", "How long a server may be silent before it is asked again."),
    key("net.tries", Kind::Number, "5", "", "How often a transfer that brings nothing is tried before it is given up."),
    key(
        "build.def_engine",
        Kind::Choice(&["auto", "native", "apptainer"]),
        "auto",
        "",
        "What builds definition files: ovl itself, or Apptainer or Singularity (auto: those where they are installed).",
    ),
    key(
        "build.stage",
        Kind::Choice(&["auto", "dir", "ext3"]),
        "auto",
        "",
        "Where a build collects its files: a directory, or one ext3 image (auto: an image when scratch is a network file system).",
    ),
    key(
        "build.stage_size",
        Kind::Size,
        "20G",
        "build.tmp_overlay_size_mb",
        "Largest content of an ext3 stage; the image is sparse.",
    ),
    key(
        "build.comp",
        Kind::Compression,
        "zstd:3",
        "build.compress_args",
        "Compressor and level: zstd:1-22, lz4, lz4:3-12 (lz4hc), gzip:1-12, xz:0-9.",
    ),
    key("build.block_size", Kind::BlockSize, "128k", "", "SquashFS block size of applications."),
    key("build.data_block_size", Kind::BlockSize, "512k", "", "SquashFS block size of reference data."),
    key(
        "build.network",
        Kind::Choice(&["none", "host"]),
        "none",
        "",
        "The network install() sees when neither --network nor #NET says; fetch() has the host's.",
    ),
    key("build.timeout", Kind::Time, "0", "", "Longest time one build may take; 0: no limit."),
    key(
        "build.lease",
        Kind::Time,
        "2m",
        "",
        "How long a claim outlives its last heartbeat before others may take over from another host.",
    ),
    key(
        "build.prefetch",
        Kind::Bool,
        "true",
        "",
        "Fetch the #SRC of builds here before they are submitted: nodes often have no network.",
    ),
    key("build.jobs", Kind::Number, "4", "", "Builds that run here at once, if CPUs and memory allow."),
    key(
        "build.mem",
        Kind::Size,
        "",
        "",
        "Memory that builds here may use together; unset: four fifths of what this process may use.",
    ),
    key(
        "build.submit",
        Kind::Choice(&["auto", "never", "always"]),
        "auto",
        "",
        "What goes to the scheduler; auto: recipes with directives, and what depends on them.",
    ),
    key("build.pack_threads", Kind::Number, "0", "", "Threads for packing; 0: as many as the build has CPUs."),
    key("build.pack_memory", Kind::Size, "64M", "", "Data in flight while packing."),
    key("build.keep_previous", Kind::Bool, "true", "", "Keep the replaced overlay for `ovl rollback`."),
    key(
        "build.defaults.cpus",
        Kind::Number,
        "4",
        "build.ncpus",
        "NCPUS of a build whose recipe asks for nothing; never more than this process may use.",
    ),
    key("build.defaults.mem", Kind::Size, "8G", "build.mem_mb", "MEM of a build whose recipe asks for nothing."),
    key("build.defaults.time", Kind::Time, "2h", "build.time", "Time limit of a job whose recipe asks for nothing."),
    key(
        "build.prebuilt",
        Kind::Texts,
        "",
        "",
        "Registries (host[/namespace]) that are asked for a build's result by its key before it is built; see also --no-prebuilt.",
    ),
    key(
        "registry.default",
        Kind::Text,
        "",
        "",
        "Registry (host[/namespace]) of references that name none, and where `ovl push NAME` puts overlays.",
    ),
    key(
        "registry.insecure",
        Kind::Texts,
        "",
        "",
        "Registries (host[:port]) that may be spoken to without encryption; those on this machine always may.",
    ),
    key(
        "sched.kind",
        Kind::Choice(&["auto", "slurm", "pbs", "lsf", "htcondor", "none"]),
        "auto",
        "",
        "The scheduler; auto: the first of these whose commands are found.",
    ),
    key("sched.partition", Kind::Text, "", "", "Partition or queue of jobs whose recipe names none."),
    key("sched.account", Kind::Text, "", "", "Account or project of jobs whose recipe names none."),
    key("sched.qos", Kind::Text, "", "", "Quality of service of jobs whose recipe names none."),
    key("sched.args", Kind::Texts, "", "", "Further flags for every job, in the words of the scheduler at hand."),
    key("sched.timeout", Kind::Time, "1m", "", "How long ovl waits for an answer of the scheduler's commands."),
    key("sched.submitters", Kind::Number, "4", "", "Jobs that are submitted at the same time."),
    key("history.keep", Kind::Time, "90d", "", "How long the records of finished runs are kept; 0: for ever."),
    key(
        "conda.channels",
        Kind::Texts,
        "conda-forge",
        "channels",
        "Channels asked when nothing names others; none: no channel is asked unless somebody names it.",
    ),
    key(
        "conda.channel_alias",
        Kind::Text,
        "https://conda.anaconda.org",
        "",
        "Where channels lie that are given by name; a site's mirror, for example.",
    ),
    key(
        "conda.priority",
        Kind::Choice(&["strict", "disabled"]),
        "strict",
        "",
        "strict: a package comes from the first channel that has it; disabled: the newest of all channels.",
    ),
    key("conda.platform", Kind::Text, "", "", "What packages are for, as in linux-64; unset: this machine."),
    key(
        "conda.overrides",
        Kind::Texts,
        "",
        "",
        "What the machines that run the packages have: cuda=12.4, glibc=2.28; `cuda=` for none. CONDA_OVERRIDE_CUDA and the like are read, too.",
    ),
    key(
        "conda.pkgs_dirs",
        Kind::Paths,
        "",
        "",
        "Directories with archives of conda packages; the first is written to, the others may belong to somebody else. Unset: pkgs/ in dirs.cache.",
    ),
    key(
        "conda.backend",
        Kind::Choice(&["embedded", "micromamba"]),
        "embedded",
        "",
        "What makes environments: ovl itself, or the program micromamba.",
    ),
    key(
        "base.prebuilt",
        Kind::Texts,
        "",
        "",
        "Where `ovl base ensure` gets systems: NAME URL [sha256=…] for each, with http, https, file or oras addresses.",
    ),
    key(
        "exec.base",
        Kind::Path,
        "/",
        "",
        "What lies under the overlays: / is the host itself, else a directory or a SquashFS image with a system in it.",
    ),
    key("exec.bind", Kind::Texts, "", "", "Binds for every `ovl exec`: SRC[:DEST[:ro]]."),
    key(
        "exec.runtime",
        Kind::Choice(&["auto", "native", "apptainer", "singularity"]),
        "auto",
        "",
        "What runs commands; auto: ovl itself, and apptainer or singularity where it cannot.",
    ),
    key(
        "exec.gpu",
        Kind::Choice(&["auto", "nvidia", "rocm", "none"]),
        "auto",
        "",
        "Graphics processors whose drivers commands see; auto: those of this machine.",
    ),
    key(
        "exec.nvliblist",
        Kind::Path,
        "",
        "",
        "What NVIDIA's driver consists of, in the form of Apptainer's nvliblist.conf; unset: Apptainer's, the driver's or ovl's own list.",
    ),
    key(
        "wrap.dir",
        Kind::Path,
        "~/.local/share/ovl/bin",
        "",
        "Where `ovl wrap` puts wrappers; `ovl shell-init` puts it on PATH.",
    ),
    key(
        "run.launcher",
        Kind::Text,
        "auto",
        "",
        "What starts the tasks of a script that asks for several: auto (srun in jobs of Slurm, else mpiexec or mpirun), none, or a program with its arguments.",
    ),
    key("ui.progress", Kind::Choice(&["auto", "bars", "plain", "json", "none"]), "auto", "", "How progress is told."),
    key(
        "ui.color",
        Kind::Choice(&["auto", "always", "never"]),
        "auto",
        "",
        "Colours; auto: only on a terminal, and never with NO_COLOR.",
    ),
];

/// Keys of CondaTainer's configuration that mean nothing here; they are passed over with a warning.
pub const FOREIGN: &[&str] = &[
    "apptainer_bin",
    "scheduler_bin",
    "scripts_link",
    "prebuilt_link",
    "prefer_remote",
    "submit_job",
    "parse_module_load",
    "scheduler_timeout",
    "metadata_cache_ttl",
    "default_distro",
    "build.overlay_type",
    "build.use_tmp_overlay",
];

/// The key of this name or alias.
pub fn find(name: &str) -> Option<&'static Key> {
    KEYS.iter().find(|key| key.name == name || (!key.alias.is_empty() && key.alias == name))
}

/// Whether some key lies below `prefix` (`build` and `build.defaults` are such).
pub fn is_section(prefix: &str) -> bool {
    let dotted = format!("{prefix}.");
    KEYS.iter().any(|key| key.name.starts_with(&dotted) || key.alias.starts_with(&dotted))
}

/// The known name nearest to a misspelt one, if any is near enough to be meant.
pub fn nearest(name: &str) -> Option<&'static str> {
    KEYS.iter()
        .map(|key| (strsim::damerau_levenshtein(name, key.name), key.name))
        .min()
        .filter(|(distance, _)| *distance <= 2 + name.len() / 4)
        .map(|(_, name)| name)
}
